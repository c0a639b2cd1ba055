"""AWS CodeArtifact as a package index: where a repository lies, and until when the token beside it is good.

https://docs.aws.amazon.com/codeartifact/latest/ug/python-configure-pip.html has the form of the URL,
https://docs.aws.amazon.com/codeartifact/latest/ug/tokens-authentication.html the life of a token.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec

from nbprovision.machine.platform import region_of, resource_name
from nbprovision.model.errors import TaskFailed
from nbprovision.model.task import Duration, seconds
from nbprovision.system.reading import read_json

LONGEST, SHORTEST = "12h", "15m"
USER = "aws"
RECORD_SUFFIX = ".nbprovision-token"


class CodeArtifact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A repository, as a playbook names it.

    Attributes:
        domain: Its domain.
        repository: Its name.
        owner: The account that owns the domain; default the one that this instance belongs to.
        region: Default that of AWS_REGION, AWS_DEFAULT_REGION, or of this instance.
        duration: How long a token is good, ``15m`` to ``12h``.
        endpoint: The URL before ``/pypi/``, where it is not the usual one: that of a VPC endpoint.

    """

    domain: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,48}[a-z0-9]$")]
    repository: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,99}$")]
    owner: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{12}$")] | None = None
    region: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2}[a-z-]*-[0-9]{1,2}$")] | None = None
    duration: Duration = LONGEST
    endpoint: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s@?#]+$")] | None = None

    @property
    def wrong_duration(self) -> bool:
        """Whether AWS would not take the duration."""
        return not seconds(SHORTEST) <= seconds(self.duration) <= seconds(LONGEST)


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository with all that has to be known of it to ask for a token."""

    domain: str
    owner: str
    region: str
    url: str
    duration: float

    def with_token(self, token: str) -> str:
        """The index's URL for pip and uv."""
        return self.url.replace("://", f"://{USER}:{quote(token, safe='')}@", 1)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded of a token, without the token itself.

    Attributes:
        url: The index.
        digest: SHA-256 of the token, which tells whether it is the one that stands in the file.
        issued, expires: Seconds since the epoch.

    """

    url: str
    digest: str
    issued: float
    expires: float

    @property
    def half_life(self) -> float:
        """The moment from which on it is to be renewed."""
        return (self.issued + self.expires) / 2


def repository(asked: CodeArtifact, env: Mapping[str, str], root: Path = Path("/")) -> Repository:
    """Complete what a playbook says by what this machine tells.

    Raises:
        TaskFailed: the region or the owner is neither given nor told by anything here.

    """
    arn = resource_name(root)
    region = asked.region or region_of(env, root)
    owner = asked.owner or arn.get("account", "")
    for name, value in (("region", region), ("owner", owner)):
        if not value:
            raise TaskFailed(
                f"the {name} of CodeArtifact's domain '{asked.domain}' is not known",
                cause="it is not in the playbook, and this is no SageMaker instance that would tell it",
                cure=f"give `codeartifact: {{..., {name}: ...}}`",
            )
    endpoint = asked.endpoint or f"https://{asked.domain}-{owner}.d.codeartifact.{region}.amazonaws.com"
    return Repository(
        domain=asked.domain,
        owner=owner,
        region=region,
        url=f"{endpoint.rstrip('/')}/pypi/{asked.repository}/simple/",
        duration=seconds(asked.duration),
    )


def token_record(pip_conf: Path) -> Path:
    """Where the record of the token in ``pip_conf`` is kept."""
    return pip_conf.with_name(pip_conf.name + RECORD_SUFFIX)


def digest(token: str) -> str:
    """What a record keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def held(pip_conf: Path) -> Held | None:
    """The record beside ``pip_conf``; one that is damaged is none."""
    try:
        return read_json(token_record(pip_conf), Held)
    except (OSError, msgspec.DecodeError):
        return None


def left(pip_conf: Path) -> float:
    """Seconds until the token is to be renewed; 0 where that is due, or where nothing is known of it."""
    record = held(pip_conf)
    now = time.time()
    if record is None or now < record.issued:  # a clock that was set back tells nothing of its age
        return 0.0
    return max(0.0, record.half_life - now)

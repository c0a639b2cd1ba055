"""AWS CodeArtifact as a package index: the URL of a repository, and the token that gives access to it.

https://docs.aws.amazon.com/codeartifact/latest/ug/python-configure-pip.html describes the URL,
https://docs.aws.amazon.com/codeartifact/latest/ug/tokens-authentication.html the lifetime of a token. The machine's
``aws`` command requests tokens with the credentials of the notebook's role.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote

import msgspec

from nbprovision.files import config_file
from nbprovision.files.config_file import SECRET_MODE, Write
from nbprovision.indexes import index_settings, index_url
from nbprovision.machine import aws
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import region_of, resource_name
from nbprovision.model.errors import TaskFailed
from nbprovision.model.task import Duration, seconds
from nbprovision.system import secrets
from nbprovision.system.files import read_text, write_atomically
from nbprovision.system.reading import read_json

_LONGEST, _SHORTEST = "12h", "15m"
_RECORD_SUFFIX = ".nbprovision-token"
# Placeholder for a future token in a plan; too short to be taken for a secret.
_TO_COME = "--"
_CURES: aws.Cures = (
    (
        aws.NOT_ALLOWED,
        (
            "allow the notebook's role codeartifact:GetAuthorizationToken on the domain, "
            "sts:GetServiceBearerToken, and codeartifact:ReadFromRepository on the repository"
        ),
    ),
    aws.NO_CREDENTIALS,
    (("resourcenotfound", "does not exist"), "correct `domain`, `owner` (the account of the domain) or `region`"),
    (("invalid choice",), "this `aws` is too old for CodeArtifact: upgrade it"),
    (
        aws.NO_CONNECTION,
        (
            "check the connection to codeartifact.REGION.amazonaws.com: the proxy (https_proxy), or in a VPC without "
            "internet the interface endpoints com.amazonaws.REGION.codeartifact.api and .codeartifact.repositories"
        ),
    ),
    (("region",), "correct `region`"),
)


class CodeArtifact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The repository of a playbook.

    Attributes:
        domain: Its domain.
        repository: Its name.
        owner: The account that owns the domain; default the account of this instance.
        region: Default AWS_REGION, AWS_DEFAULT_REGION, or the region of this instance.
        duration: The lifetime of a token, ``15m`` to ``12h``.
        endpoint: The URL before ``/pypi/`` of a VPC endpoint, instead of the usual one.

    """

    domain: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,48}[a-z0-9]$")]
    repository: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,99}$")]
    owner: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{12}$")] | None = None
    region: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2}[a-z-]*-[0-9]{1,2}$")] | None = None
    duration: Duration = _LONGEST
    endpoint: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s@?#]+$")] | None = None

    @property
    def wrong_duration(self) -> bool:
        """Whether AWS would refuse the duration."""
        return not seconds(_SHORTEST) <= seconds(self.duration) <= seconds(_LONGEST)


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository with everything that a request for a token needs."""

    domain: str
    owner: str
    region: str
    url: str
    duration: float

    def with_token(self, token: str) -> str:
        """The index's URL for pip and uv."""
        return self.url.replace("://", f"://aws:{quote(token, safe='')}@", 1)


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a token, which does not contain the token.

    Attributes:
        url: The index.
        digest: SHA-256 of the token, to recognise the one in pip.conf.
        issued, expires: Seconds since the epoch.

    """

    url: str
    digest: str
    issued: float
    expires: float

    @property
    def half_life(self) -> float:
        """The time from which the token is renewed."""
        return (self.issued + self.expires) / 2


class TokenState(msgspec.Struct, frozen=True, kw_only=True):
    """The index's repository, and the token in pip.conf.

    Attributes:
        repository: The repository.
        token: The token in pip.conf; None if it is missing, expired, or of another index.
        renew: Whether to request a new token.
        warnings: The failure of such a request.

    """

    repository: Repository
    token: str | None
    renew: bool
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without the token, as tracebacks print this."""
        return f"TokenState({self.repository.url}, renew={self.renew})"

    @property
    def url(self) -> str:
        """The index's URL with the present token, or with a placeholder for the future one."""
        return self.repository.with_token(self.token or _TO_COME)


class _Answer(msgspec.Struct):
    authorizationToken: str  # noqa: N815 - the command's name for it
    expiration: float | str


def repository(parameter: CodeArtifact, env: Mapping[str, str], root: Path = Path("/")) -> Repository:
    """Complete the parameter of a playbook by the region and the account of this machine.

    Raises:
        TaskFailed: the region or the owner is neither in the playbook nor known on this machine.

    """
    arn = resource_name(root)
    region = parameter.region or region_of(env, root)
    owner = parameter.owner or arn.get("account", "")
    for name, value in (("region", region), ("owner", owner)):
        if not value:
            raise TaskFailed(
                f"the {name} of CodeArtifact's domain '{parameter.domain}' is not known",
                cause="it is not in the playbook, and only a SageMaker instance knows its own",
                cure=f"give `codeartifact: {{..., {name}: ...}}`",
            )
    endpoint = parameter.endpoint or f"https://{parameter.domain}-{owner}.d.codeartifact.{region}.amazonaws.com"
    return Repository(
        domain=parameter.domain,
        owner=owner,
        region=region,
        url=f"{endpoint.rstrip('/')}/pypi/{parameter.repository}/simple/",
        duration=seconds(parameter.duration),
    )


def token_record(pip_conf: Path) -> Path:
    """The file with the record of the token in ``pip_conf``."""
    return pip_conf.with_name(pip_conf.name + _RECORD_SUFFIX)


def seconds_left(pip_conf: Path) -> float:
    """Seconds until the token is renewed; 0 if that is due, or if the token's age is not known."""
    record = _read_record(pip_conf)
    now = time.time()
    if record is None or now < record.issued:  # the clock was set back
        return 0.0
    return max(0.0, record.half_life - now)


def read_token(parameter: CodeArtifact, machine: Machine, pip_conf: Path) -> TokenState:
    """The token in ``pip_conf``, and whether to renew it: after half its lifetime, or if its age is not known.

    Raises:
        TaskFailed: pip.conf is not valid, the repository's region or owner is not known, or a token is needed and no
            command can request it.

    """
    source = repository(parameter, machine.env, machine.root)
    token = _token_in(pip_conf, source)
    record = _read_record(pip_conf)
    if record is not None and token is not None and record.digest != _digest(token):
        record = None
    now = time.time()
    if record is not None and now >= record.expires:
        token = None
    renew = token is None or record is None or not record.issued <= now < record.half_life
    if token is None:
        aws.find_command(machine, _failure(source))  # so that a check fails where the run would
    warnings = machine.notes.get(("codeartifact", str(pip_conf)), ())
    return TokenState(repository=source, token=token, renew=renew and not (warnings and token), warnings=warnings)


def put_token(
    state: TokenState, machine: Machine, pip_conf: Path, writes_with: Callable[[str], Iterable[Write]]
) -> None:
    """Write the index into the files, with a new token if that is due.

    If the request fails, a token that has not expired is kept, and the result has a note; the next run retries.

    Args:
        state: From `read_token`.
        machine: The machine.
        pip_conf: pip's file.
        writes_with: Returns the new content of the files, for a URL with its token.

    Raises:
        TaskFailed: the request fails, and there is no valid token.

    """
    token = record = None
    if state.renew:
        try:
            token, record = _fetch_token(state.repository, machine)
        except TaskFailed as error:
            if state.token is None:
                raise
            machine.notes["codeartifact", str(pip_conf)] = (f"the present token is kept: {error.text}",)
    for write in writes_with(state.url if token is None else state.repository.with_token(token)):
        config_file.put(write)
    if record is not None:
        write_atomically(token_record(pip_conf), msgspec.json.encode(record), mode=SECRET_MODE)


def _fetch_token(repository: Repository, machine: Machine) -> tuple[str, TokenRecord]:
    words = [
        "codeartifact", "get-authorization-token",
        "--domain", repository.domain, "--domain-owner", repository.owner, "--region", repository.region,
        "--duration-seconds", f"{repository.duration:.0f}",
    ]  # fmt: skip
    issued = time.time()
    machine.progress("a token from CodeArtifact")
    text = aws.ask(machine, words, failure=_failure(repository), cures=_CURES)
    try:
        answer = msgspec.json.decode(text, type=_Answer)
        expires = _moment(answer.expiration)
    except (msgspec.DecodeError, ValueError):  # not shown, as the token may be in the answer
        command = aws.find_command(machine, _failure(repository))
        raise TaskFailed(
            _failure(repository),
            cause=f"{command} printed an unknown answer",
            cure=f"check whether it is AWS's own command, by {command} --version",
        ) from None
    token = answer.authorizationToken
    secrets.remember(token)
    return token, TokenRecord(url=repository.url, digest=_digest(token), issued=issued, expires=expires)


def _failure(repository: Repository) -> str:
    return f"cannot get a token for CodeArtifact's domain '{repository.domain}' ({repository.region})"


def _moment(expiration: float | str) -> float:
    """Version 1 of the command prints seconds since the epoch, version 2 a date."""
    if isinstance(expiration, str):
        return dt.datetime.fromisoformat(expiration.replace("Z", "+00:00")).timestamp()
    return expiration


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _read_record(pip_conf: Path) -> TokenRecord | None:
    """The record beside ``pip_conf``; None for a damaged one."""
    try:
        return read_json(token_record(pip_conf), TokenRecord)
    except (OSError, msgspec.DecodeError):
        return None


def _token_in(pip_conf: Path, source: Repository) -> str | None:
    text = read_text(pip_conf)
    url = index_settings.parse_pip_conf(pip_conf, text).get("global", {}).get("index-url", "") if text else ""
    if not url or index_settings.place(url) != source.url:
        return None
    token = unquote(index_url.secret_of(url)) or None
    if token is not None:
        index_url.remember(url)
        secrets.remember(token)
    return None if token == _TO_COME else token

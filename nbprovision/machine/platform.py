"""Which kind of notebook machine this is, told by what is there and never assumed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from nbprovision.system.places import INSTANCE_CONFIG, METADATA
from nbprovision.system.reading import read_json

PlatformKind = Literal["notebook-instance", "studio", "studio-lab", "other"]

# The variable that a lifecycle script sets for all that it starts: on-start or on-create.
PHASE = "NBPROVISION_PHASE"
# The path of the user's own playbook, which a lifecycle script carries out after the team's.
USER_PLAYBOOK = "NBPROVISION_USER_PLAYBOOK"
_INSTANCE_CONFIG = INSTANCE_CONFIG.lstrip("/")
_METADATA = METADATA.lstrip("/")


class Platform(msgspec.Struct, frozen=True):
    """The platform and how it was told.

    Attributes:
        kind: What it is.
        because: The file or folder that told it.
        volume: What survives a restart, None where everything does.
        provided: Folder of the conda installation that the image brings, None where there is none.

    """

    kind: PlatformKind
    because: str
    volume: Path | None = None
    provided: Path | None = None


def marks(root: Path = Path("/")) -> tuple[Path, ...]:
    """The files that tell one platform from another."""
    return root / _INSTANCE_CONFIG, root / _METADATA


def detect(root: Path = Path("/")) -> Platform:
    """Look at the marks that each platform leaves (AWS documentation of notebook instances and of Studio).

    Args:
        root: The file system's root; another folder in tests.

    """
    instance_home = root / "home/ec2-user"
    volume = instance_home / "SageMaker"
    anaconda = instance_home / "anaconda3"
    metadata = root / _METADATA
    if os.path.exists(root / _INSTANCE_CONFIG):  # unlike pathlib's it is no error that a home is another user's
        return Platform("notebook-instance", str(root / _INSTANCE_CONFIG), volume, _folder(anaconda))
    if os.path.exists(metadata):
        try:
            resource = read_json(metadata)
        except (OSError, msgspec.DecodeError):
            resource = {}
        if isinstance(resource, dict) and ("DomainId" in resource or "SpaceName" in resource):
            return Platform("studio", str(metadata), root / "home/sagemaker-user", _folder(root / "opt/conda"))
        if os.path.isdir(volume):
            return Platform("notebook-instance", str(metadata), volume, _folder(anaconda))
    if os.path.isdir(root / "var/log/studio"):
        return Platform(
            "studio", str(root / "var/log/studio"), root / "home/sagemaker-user", _folder(root / "opt/conda")
        )
    lab = root / "home/studio-lab-user"
    if os.path.isdir(lab):
        return Platform("studio-lab", str(lab), lab, None)
    if os.path.isdir(volume) and os.path.isdir(anaconda):
        return Platform("notebook-instance", str(volume), volume, anaconda)
    return Platform("other", "no mark of a known platform")


def _folder(path: Path) -> Path | None:
    return path if os.path.isdir(path) else None


def region_of(env: Mapping[str, str], root: Path = Path("/")) -> str:
    """The region that the user's variables name, else that of this instance; empty where nothing tells it."""
    return env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or resource_name(root).get("region", "")


def resource_name(root: Path) -> dict[str, str]:
    """Region and account of the instance, from ``arn:aws:sagemaker:REGION:ACCOUNT:notebook-instance/NAME``."""
    _, metadata = marks(root)
    try:
        content = read_json(metadata)
        parts = str(content["ResourceArn"]).split(":")
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return {}
    return {"region": parts[3], "account": parts[4]} if len(parts) > 5 else {}

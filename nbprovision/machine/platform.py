"""The kind of notebook machine, by marks on the machine itself: platform, region, GPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from nbprovision.system.places import INSTANCE_CONFIG, METADATA
from nbprovision.system.reading import read_json

PlatformKind = Literal["notebook-instance", "studio", "studio-lab", "other"]

# The variable that a lifecycle script sets for its processes: on-start or on-create.
PHASE = "NBPROVISION_PHASE"
# The variable with the path of the user's own playbook, which a lifecycle script runs after the team's.
USER_PLAYBOOK = "NBPROVISION_USER_PLAYBOOK"
CUDA_OVERRIDE = "CONDA_OVERRIDE_CUDA"
# conda's names of platforms (CEP 26) by those of the kernel.
_SUBDIRS = {"x86_64": "linux-64", "i686": "linux-32", "armv7l": "linux-armv7l"}
_INSTANCE_CONFIG = INSTANCE_CONFIG.lstrip("/")
_METADATA = METADATA.lstrip("/")


class Platform(msgspec.Struct, frozen=True):
    """The platform and its mark.

    Attributes:
        kind: Its name.
        because: The file or folder that marks it.
        volume: The folder that survives a restart; None if everything does.
        provided: The folder of the image's conda installation; None without one.

    """

    kind: PlatformKind
    because: str
    volume: Path | None = None
    provided: Path | None = None


def marks(root: Path = Path("/")) -> tuple[Path, ...]:
    """The files that distinguish one platform from another."""
    return root / _INSTANCE_CONFIG, root / _METADATA


def detect(root: Path = Path("/")) -> Platform:
    """The platform, by the files and folders that mark it (AWS documentation of notebook instances and of Studio).

    Args:
        root: The file system's root; another folder in tests.

    """
    volume = root / "home/ec2-user/SageMaker"
    anaconda = root / "home/ec2-user/anaconda3"
    config, metadata = marks(root)

    def instance(because: Path) -> Platform:
        return Platform("notebook-instance", str(because), volume, _folder(anaconda))

    def studio(because: Path) -> Platform:
        return Platform("studio", str(because), root / "home/sagemaker-user", _folder(root / "opt/conda"))

    if os.path.exists(config):  # unlike pathlib's it accepts a home that this user cannot read
        return instance(config)
    if os.path.exists(metadata):
        resource = _resource(metadata)
        if "DomainId" in resource or "SpaceName" in resource:
            return studio(metadata)
        if os.path.isdir(volume):
            return instance(metadata)
    if os.path.isdir(root / "var/log/studio"):
        return studio(root / "var/log/studio")
    lab = root / "home/studio-lab-user"
    if os.path.isdir(lab):
        return Platform("studio-lab", str(lab), lab)
    if os.path.isdir(volume) and os.path.isdir(anaconda):
        return instance(volume)
    return Platform("other", "no mark of a known platform")


def _folder(path: Path) -> Path | None:
    return path if os.path.isdir(path) else None


def _resource(metadata: Path) -> dict[str, Any]:
    try:
        resource = read_json(metadata)
    except (OSError, msgspec.DecodeError):
        return {}
    return resource if isinstance(resource, dict) else {}


def region_of(env: Mapping[str, str], root: Path = Path("/")) -> str:
    """The region in the user's variables, else that of this instance; empty if neither is known."""
    return env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or resource_name(root).get("region", "")


def resource_name(root: Path) -> dict[str, str]:
    """Region and account of the instance, from ``arn:aws:sagemaker:REGION:ACCOUNT:notebook-instance/NAME``."""
    parts = str(_resource(marks(root)[1]).get("ResourceArn", "")).split(":")
    return {"region": parts[3], "account": parts[4]} if len(parts) > 5 else {}


def instance(root: Path = Path("/")) -> dict[str, str]:
    """The names by which AWS knows this machine; each is empty where the platform does not say it.

    The file is the same on notebook instances and in Studio
    (https://docs.aws.amazon.com/sagemaker/latest/dg/nbi-metadata.html).
    """
    resource = {key: value for key, value in _resource(marks(root)[1]).items() if isinstance(value, str)}
    arn = resource.get("ResourceArn", "")
    return {
        "name": resource.get("ResourceName") or arn.rpartition("/")[2],
        "arn": arn,
        "region": "",
        "account": "",
        **resource_name(root),
        "domain": resource.get("DomainId", ""),
        "space": resource.get("SpaceName", ""),
        "user_profile": resource.get("UserProfileName", ""),
        "app_type": resource.get("AppType", ""),
    }


def conda_subdir() -> str:
    """The platform of this machine as conda names it, such as ``linux-64``."""
    architecture = os.uname().machine
    return _SUBDIRS.get(architecture, f"linux-{architecture}")


def gpu_marks(root: Path = Path("/")) -> tuple[Path, ...]:
    """The devices that the driver creates for a GPU; images of machines without one have the driver's library too."""
    return root / "dev/nvidiactl", root / "dev/nvidia0"


def cuda_version(requested: str | None, env: Mapping[str, str], root: Path = Path("/")) -> str:
    """The CUDA to solve for: a version, ``none``, or ``detected`` for the version of the machine's driver.

    conda passes it to the solver as the virtual package ``__cuda``. ``CONDA_OVERRIDE_CUDA`` sets that package or, if
    empty, removes it (https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-virtual.html).

    Args:
        requested: The playbook's value: a version or ``none``; None for the machine's own.
        env: The environment variables.
        root: The file system's root.

    """
    if requested is None and CUDA_OVERRIDE in env:
        requested = env[CUDA_OVERRIDE].strip() or "none"
    if requested is not None:
        return requested
    return "detected" if any(mark.exists() for mark in gpu_marks(root)) else "none"


def cuda_override(requested: str | None, env: Mapping[str, str]) -> dict[str, str]:
    """The variable for the solver's process; empty if the solver's own detection is right."""
    if requested is None:
        return {CUDA_OVERRIDE: env[CUDA_OVERRIDE]} if CUDA_OVERRIDE in env else {}
    return {CUDA_OVERRIDE: "" if requested == "none" else requested}

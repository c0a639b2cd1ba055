"""The packages that are installed in the environments of this machine. No process is started."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from nbprovision.conda.records import details_of
from nbprovision.lock.contents import Contents, Package, merged
from nbprovision.machine import distributions
from nbprovision.machine.distributions import Distribution, normalized
from nbprovision.machine.environments import installed, is_environment, is_virtual, virtual_on_volume
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.system import secrets

_SUBDIRS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}


def platform() -> str:
    """The subdir of this machine's packages, as conda names it."""
    return _SUBDIRS.get(os.uname().machine, f"linux-{os.uname().machine}")


def prefixes(machine: Machine) -> dict[str, Path]:
    """The environments of this machine by name, or by path where another one has the name."""
    places = [(environment.name, environment.prefix) for environment in machine.conda.environments()]
    places += machine.conda.virtual_environments().items()
    if machine.platform.volume is not None:
        places += [(prefix.name, prefix) for prefix in virtual_on_volume(machine.platform.volume)]
    named: dict[str, Path] = {}
    for name, prefix in places:
        if prefix not in named.values():
            named[name if name not in named else str(prefix)] = prefix
    return named


def everything(machine: Machine, names: Collection[str] | None = None) -> list[Contents]:
    """The contents of this machine's environments.

    Args:
        machine: The machine.
        names: Those to read; None for all that this user can read.

    Raises:
        InvalidPlaybook: one of ``names`` cannot be read.
    """
    result = []
    for name, prefix in prefixes(machine).items():
        if names is None or name in names:
            try:
                result.append(contents(machine, name, prefix))
            except InvalidPlaybook:
                if names is not None:
                    raise
    return result


def is_one(prefix: Path) -> bool:
    """Whether a folder is an environment."""
    return is_environment(prefix) or is_virtual(prefix)


def contents(machine: Machine, name: str, prefix: Path) -> Contents:
    """The packages of an environment, from conda's records and the distributions' folders.

    Args:
        machine: The machine.
        name: The name to give it.
        prefix: Its folder.

    Raises:
        InvalidPlaybook: it cannot be read.
    """
    try:
        conda = _conda_packages(machine, prefix)
        listed = distributions.installed(prefix)
    except OSError as error:
        raise InvalidPlaybook(
            f"cannot read the environment {prefix}", cause=str(error.strerror), cure="check its owner: ls -l"
        ) from None
    by_name = {normalized(package.name): package for package in conda}
    pip: list[Package] = []
    provided = {}
    for distribution, copies in listed.items():
        copy, record = copies[0], by_name.get(distribution)
        if copy.installer == "conda" or (record is not None and record.version == copy.version):
            if record is None:
                provided[distribution] = copy.version
        else:
            pip.append(_pip_package(copy))
    return Contents(
        name=name,
        packages=merged(conda, pip),
        platform=platform(),
        provided=provided,
        own_python=distributions.python_version(prefix),
    )


def _conda_packages(machine: Machine, prefix: Path) -> list[Package]:
    packages = []
    for record in installed(prefix):
        details = details_of(record)
        packages.append(
            Package(
                name=record.name,
                kind="conda",
                version=record.version,
                build=record.build,
                channel=machine.conda.condarc.name_of(details.home) if details and details.channel else None,
                sha256=details.sha256 if details else None,
            )
        )
    return packages


def _pip_package(copy: Distribution) -> Package:
    origin = copy.direct_url
    return Package(
        name=copy.name,
        kind="pip",
        version=copy.version,
        build=str((origin.vcs_info or {}).get("commit_id") or "") or None if origin else None,
        channel=secrets.without_password(origin.url) if origin else None,
    )

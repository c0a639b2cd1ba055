"""The packages that a bundle has for a lock: for each environment and platform the archives that an install takes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from nbprovision.conda.exact_packages import LockedPackage as CondaPackage
from nbprovision.lifecycle import wheels
from nbprovision.lock.folder import Lock
from nbprovision.lock.pylock import MACHINES
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.pip import pylock
from nbprovision.pip.pylock import LockedPackage
from nbprovision.system.files import read_text

# A file that has no URL in the lock gets one in the bundle's copy of it: SHA-256 and name follow.
OWN_URL = "https://bundle.invalid"
_MINOR = re.compile(r"""python_version == ['"]3\.(\d+)['"]""")


class Archive(NamedTuple):
    """The file of a package.

    Attributes:
        url: Its URL in the bundle's lock.
        name: The file's name.
        sha256: Its digest.
        kind: A conda package, a wheel, or a source distribution, which has to be built.
        conda: The conda package.
        distribution: The name of the distribution.
        minor: The version of CPython 3 that a source distribution is for.
        local: The file, if the lock has a path for it.

    """

    url: str
    name: str
    sha256: str
    kind: Literal["conda", "wheel", "source"]
    conda: CondaPackage | None = None
    distribution: str = ""
    minor: int = 0
    local: Path | None = None


def refuse_built(lock: Lock) -> None:
    """Refuse packages that are built at each install, for which a machine would need a network.

    Raises:
        InvalidPlaybook: naming each.

    """
    for name, environment in lock.environments.items():
        if environment.pylock is not None:
            _refuse(name, {entry.name: _built_from(entry) for entry in _read(environment.pylock).packages})


def of_environment(lock: Lock, name: str, platform: str, packed: Collection[Path]) -> list[Archive]:
    """The archives of an environment on a platform.

    Args:
        lock: The lock, of which `refuse_built` has refused nothing.
        name: The environment's name.
        platform: conda's name of the platform.
        packed: The files that go with the playbook.

    Raises:
        InvalidPlaybook: a package has no archive that can go into a bundle.
        TaskFailed: the lock has no file of a package for the platform.

    """
    environment = lock.environments[name]
    archives = [
        Archive(package.url, package.file_name, package.sha256, "conda", conda=package)
        for package in environment.conda.get(platform, ())
    ]
    if environment.pylock is None or platform not in environment.origin.platforms:
        return archives
    locked = _read(environment.pylock)
    minor = _minor(locked, platform)
    values = wheels.marker_environment(MACHINES[platform], minor)
    tags = list(wheels.wheel_tags(MACHINES[platform], minor))
    chosen = pylock.fitting(locked.select(values), tags, ())
    _refuse(name, {entry.name: _fault(entry, packed) for entry in chosen})
    return [*archives, *(archive for entry in chosen for archive in _archives(entry, minor, packed))]


def _read(path: Path) -> pylock.Lock:
    return pylock.read(path, read_text(path) or "")


def _refuse(environment: str, faults: Mapping[str, str]) -> None:
    unfit = [f"{name}: {fault}" for name, fault in faults.items() if fault]
    if unfit:
        raise InvalidPlaybook(
            f"'{environment}' has packages that cannot go into a bundle",
            cause="\n".join(unfit),
            cure="build a wheel of each (pip wheel --no-deps) beside the playbook, request that, and lock again",
        )


def _minor(lock: pylock.Lock, platform: str) -> int:
    """The version of CPython 3 that a lock of nbprovision is for on a platform.

    Raises:
        InvalidPlaybook: somebody has edited it.

    """
    for marker in map(str, lock.pylock.environments or ()):
        match = _MINOR.search(marker)
        if match is not None and MACHINES[platform] in marker:
            return int(match[1])
    raise InvalidPlaybook(
        f"the lock {lock.path} does not name its Python for {platform}",
        cause="`environments` has the version for each platform",
        cure="restore the file, or lock again",
    )


def _fault(entry: LockedPackage, packed: Collection[Path]) -> str:
    """The reason why a package cannot go into a bundle; empty if it can."""
    if any(not file.hashes.get("sha256") for file in entry.files):
        return "the lock has no SHA-256 of its file"
    archive = entry.package.archive
    local = entry.local(archive) if archive is not None else None
    return f"{local} does not go with the playbook" if local is not None and local not in packed else ""


def _built_from(entry: LockedPackage) -> str:
    if entry.package.vcs is not None:
        return f"it is built from a {entry.package.vcs.type} repository at each install"
    return "it is built from a folder at each install" if entry.package.directory is not None else ""


def _archives(entry: LockedPackage, minor: int, packed: Collection[Path]) -> Iterator[Archive]:
    for file in entry.files:
        local, sha256 = entry.local(file), file.hashes["sha256"]
        if local in packed:
            continue
        name = local.name if local is not None else unquote(urlsplit(file.url or "").path.rpartition("/")[2])
        url = file.url if local is None and file.url else own_url(name, sha256)
        kind: Literal["wheel", "source"] = "wheel" if name.endswith(".whl") else "source"
        yield Archive(url, name, sha256, kind, distribution=entry.name, minor=minor, local=local)


def own_url(name: str, sha256: str) -> str:
    """The URL of a file that only the bundle has."""
    return f"{OWN_URL}/{sha256}/{name}"

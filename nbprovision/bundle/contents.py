"""The packages that a bundle has for a lock: for each environment and platform the archives that an install takes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
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

_MINOR = re.compile(r"""python_version == ['"]3\.(\d+)['"]""")


class Archive(NamedTuple):
    """The file of a package.

    Attributes:
        url: Its URL in the lock.
        name: The file's name.
        sha256: Its digest.
        kind: A conda package, a wheel, or a source distribution, which has to be built.
        conda: The conda package.
        distribution: The name of the distribution.
        minor: The version of CPython 3 that a source distribution is for.

    """

    url: str
    name: str
    sha256: str
    kind: Literal["conda", "wheel", "source"]
    conda: CondaPackage | None = None
    distribution: str = ""
    minor: int = 0


def of_environment(lock: Lock, name: str, platform: str, packed: Collection[Path]) -> list[Archive]:
    """The archives of an environment on a platform.

    Args:
        lock: The lock.
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
    locked = pylock.read(environment.pylock, read_text(environment.pylock) or "")
    minor = _minor(locked, platform)
    values = wheels.marker_environment(MACHINES[platform], minor)
    tags = list(wheels.wheel_tags(MACHINES[platform], minor))
    chosen = pylock.fitting(locked.select(values), tags, ())
    unfit = [f"{entry.name}: {reason}" for entry in chosen if (reason := _fault(entry, packed))]
    if unfit:
        raise InvalidPlaybook(
            f"'{name}' has packages that cannot go into a bundle",
            cause="\n".join(unfit),
            cure="build a wheel of each (pip wheel --no-deps) beside the playbook, request that, and lock again",
        )
    return [*archives, *(archive for entry in chosen for archive in _archives(entry, minor))]


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
    package = entry.package
    if package.vcs is not None:
        return f"it is built from a {package.vcs.type} repository at each install"
    if package.directory is not None:
        return "it is built from a folder at each install"
    for file in entry.files:
        local = entry.local(file)
        if local is not None and local not in packed:
            return f"{local} is not beside the playbook, and no task names it"
        if local is None and not file.hashes.get("sha256"):
            return "the lock has no SHA-256 of its file"
    return ""


def _archives(entry: LockedPackage, minor: int) -> Iterator[Archive]:
    for file in entry.files:
        if file.url and entry.local(file) is None:
            name = unquote(urlsplit(file.url).path.rpartition("/")[2])
            kind: Literal["wheel", "source"] = "wheel" if name.endswith(".whl") else "source"
            yield Archive(file.url, name, file.hashes["sha256"], kind, distribution=entry.name, minor=minor)

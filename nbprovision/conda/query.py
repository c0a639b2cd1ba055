"""Queries to a conda solver, its answers, and the requests to py-rattler's child process.

The child process imports only this light module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

import msgspec

from nbprovision.conda.exact_packages import LockedPackage

# A file in an unpacked package with the SHA-256 of its archive, or with the MD5 if only that is known.
MARK = "info/nbprovision-sha256"
UNSOLVABLE = "the requested packages are incompatible"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One way to put a query to the solver.

    Attributes:
        specs: Match specs to satisfy.
        keep: Earlier match specs to satisfy, left out if they are invalid.
        constraints: Match specs for packages that need not be installed.
        pinned: Names of installed packages that must not change.

    """

    specs: list[str]
    keep: list[str] = []
    constraints: list[str] = []
    pinned: list[str] = []


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """The request for a solution: the packages that an environment will contain.

    Attributes:
        attempts: Ways to put the query; the first that has a solution counts.
        channels: URLs, the preferred one first (strictly: a package comes from the first channel that has its name).
        installed: Records in conda-meta; their packages stay as they are if possible.
        unlocked: Names of installed packages that may change freely.
        other_builds: Installed packages with builds for CUDA may get another build of their version.
        unmet: Specs that installed packages lack and may continue to lack, by the package's name.
        variables: Environment variables for the solver, in addition to the machine's.

    """

    attempts: list[Attempt]
    channels: tuple[str, ...] = ()
    installed: tuple[Path, ...] = ()
    unlocked: tuple[str, ...] = ()
    other_builds: bool = False
    unmet: dict[str, list[str]] = {}
    variables: dict[str, str] = {}


class ExactQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The request for exact packages, which needs no solver.

    Attributes:
        locked: The packages.
        kept: Names of installed packages that stay beside them.
        installed: Records in conda-meta; those of unchanged packages are used again.
        channels: URLs of the packages' channels.
        credentials: URLs of channels that may have the credentials for them.
        variables: As in `Query`.

    """

    locked: tuple[LockedPackage, ...]
    kept: tuple[str, ...] = ()
    installed: tuple[Path, ...] = ()
    channels: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    variables: dict[str, str] = {}


class Package(msgspec.Struct, frozen=True):
    """A solved package.

    Attributes:
        url: The URL of its archive; empty if the engine does not report it.
        order: Positive if it is newer than the installed version, negative if older.
        depends: Its dependencies, unless this version is installed.

    """

    name: str
    version: str
    build: str
    channel: str = ""
    size: int = 0
    sha256: str = ""
    md5: str = ""
    order: int = 0
    depends: list[str] = []
    url: str = ""


class _Fetching(msgspec.Struct, frozen=True, kw_only=True):
    """A request that fetches.

    Attributes:
        verify: Check certificates.
        silence: Seconds without a byte after which the request fails, None for no limit.
        retries: Number of quick retries for each file.

    """

    verify: bool
    silence: float | None = None
    retries: int = 3


class SolveRequest(_Fetching, frozen=True, kw_only=True, tag_field="do", tag="solve"):
    """A `Query`, with the settings that the process needs.

    Attributes:
        platform: conda's name of the platform to solve for; empty for this machine's.

    """

    attempts: list[Attempt]
    channels: list[str]
    shown: list[str]
    installed: list[str]
    unlocked: list[str]
    repodata: str
    offline: bool
    credentials: dict[str, Any]
    other_builds: bool = False
    unmet: dict[str, list[str]] = {}
    platform: str = ""


class ExactRequest(_Fetching, frozen=True, kw_only=True, tag_field="do", tag="exact"):
    """An `ExactQuery`: the answer is a numbered solution, as that of a `SolveRequest`."""

    locked: list[LockedPackage]
    kept: list[str]
    installed: list[str]
    credentials: dict[str, Any]


class FetchRequest(_Fetching, frozen=True, kw_only=True, tag_field="do", tag="fetch"):
    """Fetch packages of a numbered solution into the cache, each after a check of its digest.

    Attributes:
        archives: The packages that must be in the cache, by name: each with the path of its archive on this machine, or
            nothing if it is fetched from its URL.
        offline: Fetch nothing from a server.

    """

    solution: int
    prefix: str
    cache: str
    archives: dict[str, str]
    offline: bool = False


class ArchiveRequest(_Fetching, frozen=True, kw_only=True, tag_field="do", tag="archives"):
    """Put the archives of packages into a folder, each under its SHA-256, after a check of it.

    Attributes:
        packages: The packages, with URLs that can be reached from here.
        credentials: Credentials by host.

    """

    packages: list[LockedPackage]
    folder: str
    credentials: dict[str, Any]


class RehearseRequest(_Fetching, frozen=True, kw_only=True, tag_field="do", tag="rehearse"):
    """Fetch a numbered solution, and link its new packages into ``scratch`` instead of ``prefix``."""

    solution: int
    prefix: str
    installed: list[str]
    scratch: str
    cache: str


class InstallRequest(_Fetching, frozen=True, kw_only=True, tag_field="do", tag="install"):
    """Install a numbered solution into ``prefix``."""

    solution: int
    prefix: str
    cache: str
    reinstall: list[str]
    requested: list[str]


# A `Union`, as msgspec.convert needs it at run time.
Request = Union[SolveRequest, ExactRequest, ArchiveRequest, FetchRequest, RehearseRequest, InstallRequest]  # noqa: UP007


class PlatformSolve(msgspec.Struct, frozen=True, kw_only=True):
    """The packages of one environment for one platform of a lock.

    Attributes:
        environment: Its name in the lock.
        platform: The platform's name in the lock.
        virtual_packages: The properties of the platform, as a lock has them: ``__glibc=2.34``.
        request: The query. Its installed packages are those that the platform's image brings: they stay as they are,
            and the lock leaves them out.

    """

    environment: str
    platform: str
    virtual_packages: list[str]
    request: SolveRequest


class LockQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Solve environments for their platforms from the start, and write the result as a lock file.

    Attributes:
        solves: One for each environment and platform.
        output: The file to write.
        present: The existing lock file, whose packages stay if possible.
        upgraded: Names of packages for which the existing file does not count.
        places: The channels in the file, each by its URL on this machine.

    """

    solves: list[PlatformSolve]
    output: str
    present: str | None = None
    upgraded: list[str] = []
    places: dict[str, str] = {}


class LockedRecord(msgspec.Struct, frozen=True):
    """A package of a solution in a lock; ``python`` for one that contains Python distributions."""

    name: str
    version: str
    python: bool = False

"""The interface of the conda engines: queries, answers, and the choice of the engine.

The requests to py-rattler's child process are here too, because that process imports only this light module.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Union

import msgspec

from nbprovision.model.errors import TaskFailed

if TYPE_CHECKING:
    from nbprovision.conda.solution import Solution
    from nbprovision.machine.machine import Machine


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
    """A `Query`, with the settings that the process needs."""

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


Request = Union[SolveRequest, RehearseRequest, InstallRequest]  # noqa: UP007 - msgspec.convert needs it at run time


class Engine(Protocol):
    """Solves, and drops packages from its cache: see the functions of `rattler`."""

    def solve(self, machine: Machine, query: Query) -> Solution:
        """Work out the packages that an environment will contain."""

    def evict(self, machine: Machine, source: Path) -> None:
        """Remove a damaged package from the engine's cache."""


def choose(engine: str, machine: Machine) -> Engine:
    """The engine of a task's parameter ``engine``.

    Args:
        engine: ``rattler``, ``conda``, or ``auto``: the built-in engine, or the machine's own if the built-in one
            cannot run on this machine.
        machine: The machine, for the path of conda.

    Raises:
        TaskFailed: this machine has no conda.

    """
    if engine == "conda":
        from nbprovision.conda.conda_command import CondaCommand

        return CondaCommand.found(machine)
    from nbprovision.conda import rattler

    return rattler if engine == "rattler" else _BuiltInFirst()


class _BuiltInFirst:
    """py-rattler, or conda if py-rattler cannot be loaded."""

    def solve(self, machine: Machine, query: Query) -> Solution:
        from nbprovision.conda import rattler
        from nbprovision.machine.network import NetworkFailed

        try:
            return rattler.solve(machine, query)
        except NetworkFailed:
            raise
        except TaskFailed as error:
            if rattler.usable(machine):
                raise
            from nbprovision.conda.conda_command import CondaCommand

            try:
                conda = CondaCommand.found(machine)
            except TaskFailed:
                raise error from None
        return conda.solve(machine, query)

    def evict(self, machine: Machine, source: Path) -> None:
        from nbprovision.conda import rattler

        rattler.evict(machine, source)

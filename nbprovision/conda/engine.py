"""The conda engines: what they are asked, what they answer, and which of them does the work.

The requests to the process in which py-rattler works are here too. It imports this module, which loads little.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Union

import msgspec

from nbprovision.model.errors import TaskFailed

if TYPE_CHECKING:
    from nbprovision.conda.incoming import Solution
    from nbprovision.machine.machine import Machine


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One question to the solver.

    Attributes:
        specs: What must be there.
        keep: Specs of old, left out where they cannot be read.
        constraints: What must hold of a package if it is there.
        pinned: Names of installed packages that must not move.

    """

    specs: list[str]
    keep: list[str] = []
    constraints: list[str] = []
    pinned: list[str] = []


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is to work out: what an environment will hold.

    Attributes:
        attempts: Questions, the first that has an answer counts.
        channels: URLs, the first preferred (strictly: a package comes from the first channel that has its name).
        installed: Records in conda-meta; what they name stays as it is where it can.
        unlocked: Names of those that shall not stay as they are.
        other_builds: Installed packages of which there are builds for CUDA may get another build of their version.
        unmet: What installed packages lack (name to specs) and may go on to lack.
        variables: Environment variables for the solver, beside the machine's.

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
        url: Where its archive comes from; empty where the engine does not tell.
        order: Positive where it is newer than the installed one, negative where older.
        depends: What it needs, of a package that is not installed in this version by now.

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
        verify: Certificates are checked.
        silence: Seconds without a byte that are too many, None for no limit.
        retries: Quick ones, for each file.

    """

    verify: bool
    silence: float | None = None
    retries: int = 3


class SolveRequest(_Fetching, frozen=True, kw_only=True, tag_field="do", tag="solve"):
    """A `Query`, with what the process needs to answer it."""

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
    """Fetch what was solved under a number, and link what of it is not yet in ``prefix`` into ``scratch`` instead."""

    solution: int
    prefix: str
    installed: list[str]
    scratch: str
    cache: str


class InstallRequest(_Fetching, frozen=True, kw_only=True, tag_field="do", tag="install"):
    """Bring ``prefix`` to what was solved under a number."""

    solution: int
    prefix: str
    cache: str
    reinstall: list[str]
    requested: list[str]


Request = Union[SolveRequest, RehearseRequest, InstallRequest]  # noqa: UP007 - msgspec.convert wants it at run time


class Engine(Protocol):
    """Solves, and forgets what it has cached: see the functions of `rattler`."""

    def solve(self, machine: Machine, query: Query) -> Solution:
        """Work out what an environment will hold."""

    def evict(self, machine: Machine, source: Path) -> None:
        """Take a harmed package from the engine's cache."""


def choose(engine: str, machine: Machine) -> Engine:
    """The engine that a task's ``engine`` asks for.

    Args:
        engine: ``rattler``, ``conda``, or ``auto``: the built-in one, and where that cannot run on this machine the
            machine's own.
        machine: Knows where conda is.

    Raises:
        TaskFailed: there is no conda on this machine.

    """
    if engine == "conda":
        from nbprovision.conda.conda_command import CondaCommand

        return CondaCommand.found(machine)
    from nbprovision.conda import rattler

    return rattler if engine == "rattler" else _BuiltInFirst()


class _BuiltInFirst:
    """py-rattler; conda where py-rattler cannot even be loaded."""

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

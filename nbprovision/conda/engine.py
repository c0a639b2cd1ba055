"""Which of the conda engines does the work, and what they have in common."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nbprovision.conda import rattler
from nbprovision.conda.rattler_messages import Package, Query
from nbprovision.machine.network import NetworkFailed
from nbprovision.model.errors import TaskFailed

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine


class Solution(Protocol):
    """What an environment will hold, and what can bring it about: see `rattler.Solution`."""

    attempt: int
    packages: tuple[Package, ...]

    def room(self, machine: Machine, prefix: Path) -> tuple[str, ...]:
        """What is to be fetched, in words, where that is worth a word."""

    def check(self, machine: Machine, prefix: Path, *, reinstall: Collection[str] = ()) -> None:
        """Make sure that the packages are what their channels' indexes tell of; may raise `TaskFailed`."""

    def prepare(self, machine: Machine, prefix: Path, *, reinstall: Collection[str] = ()) -> None:
        """Make sure, before anything changes, that there is room, as far as can be known; may raise `NotBegun`."""

    def install(
        self, machine: Machine, prefix: Path, *, requested: Iterable[str], reinstall: Iterable[str] = ()
    ) -> None:
        """Fetch and link; what is installed and not in the solution goes. The history is the caller's to tell."""

    def close(self) -> None:
        """It is not needed any more."""


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
    if engine == "rattler":
        return rattler
    if engine == "auto":
        return _BuiltInFirst()
    from nbprovision.conda.conda_command import CondaCommand

    return CondaCommand.found(machine)


class _BuiltInFirst:
    """py-rattler; conda where py-rattler cannot even be loaded."""

    def solve(self, machine: Machine, query: Query) -> Solution:
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
        rattler.evict(machine, source)

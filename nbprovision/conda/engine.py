"""The interface of the conda engines, and the choice of the engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nbprovision.conda.query import ExactQuery, Query
from nbprovision.model.errors import TaskFailed

if TYPE_CHECKING:
    from nbprovision.conda.solution import Solution
    from nbprovision.machine.machine import Machine


class Engine(Protocol):
    """Solves, prepares exact packages, and drops packages from its cache: see the functions of `rattler`."""

    def solve(self, machine: Machine, query: Query) -> Solution:
        """Work out the packages that an environment will contain."""

    def exact(self, machine: Machine, query: ExactQuery) -> Solution:
        """Prepare the installation of exact packages."""

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

    def exact(self, machine: Machine, query: ExactQuery) -> Solution:
        from nbprovision.conda import rattler

        return rattler.exact(machine, query)

    def evict(self, machine: Machine, source: Path) -> None:
        from nbprovision.conda import rattler

        rattler.evict(machine, source)

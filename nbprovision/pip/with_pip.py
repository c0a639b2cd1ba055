"""What tasks share that install distributions beside other work: a pip task, which answers for the distributions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from nbprovision.machine.machine import Machine
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Claim, Input, Resource, State, Task
from nbprovision.pip.packages import PipPackages
from nbprovision.pip.state import PipPlan, PipState

Answer = TypeVar("Answer")


class WithPip(Task[State], Generic[State], frozen=True, kw_only=True):
    """A task that makes a pip task for the packages among its parameters, if there are any."""

    @property
    def has_packages(self) -> bool:
        """Whether there is something to install."""
        raise NotImplementedError

    def packages_in(self, env: str) -> PipPackages:
        """The pip task for an environment.

        Raises:
            ParameterError: the packages cannot be understood.

        """
        raise NotImplementedError

    def prefix(self, machine: Machine) -> Path:
        """The environment that gets the packages.

        Raises:
            UnknownEnvironment: there is none.

        """
        raise NotImplementedError

    def pip(self, machine: Machine) -> PipPackages | None:
        """The pip task; the same object throughout a run, by which it knows its own notes."""
        if not self.has_packages:
            return None
        notes = machine.notes_of(self)
        if "pip" not in notes:
            notes["pip"] = self.packages_in(str(self.prefix(machine)))
        task: PipPackages = notes["pip"]
        return task

    def _answers(self, machine: Machine, question: Callable[[PipPackages], Iterable[Answer]]) -> list[Answer]:
        pip = self.pip(machine)
        return [] if pip is None else list(question(pip))

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The packages."""
        return frozenset(self._answers(machine, lambda pip: pip.provides(machine)))

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """What the pip task requires: the environment, and where packages come from."""
        return frozenset(self._answers(machine, lambda pip: pip.requires(machine)))

    def claims(self, machine: Machine) -> Iterable[Claim]:
        """The packages."""
        return self._answers(machine, lambda pip: pip.claims(machine))

    def objection(self, claim: Claim, machine: Machine) -> str | None:
        """The objection of the pip task."""
        pip = self.pip(machine)
        return None if pip is None else pip.objection(claim, machine)

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment, if something is installed."""
        return self._answers(machine, lambda pip: pip.guarded(machine))

    def inputs(self, machine: Machine) -> Iterable[Input]:
        """Requirements files, wheels and projects given by path."""
        return self._answers(machine, lambda pip: pip.inputs(machine))

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The witnesses of the packages."""
        return self._answers(machine, lambda pip: pip.witnesses(machine))

    def ages(self, machine: Machine) -> float | None:
        """Seconds for which the packages count as the newest."""
        pip = self.pip(machine)
        return None if pip is None else pip.ages(machine)

    def read_packages(self, machine: Machine) -> PipState | None:
        """What there is of the packages; None if there are none to install."""
        pip = self.pip(machine)
        return None if pip is None else pip.read(machine)

    def plan_packages(self, state: PipState | None) -> Plan:
        """What to do about the packages."""
        return Plan() if state is None else self.packages_in("/").plan(state)

    def apply_packages(self, plan: Plan, machine: Machine) -> list[Change]:
        """Install or uninstall what `plan_packages` said; what was done."""
        pip = self.pip(machine)
        return list(pip.apply(plan, machine)) if pip is not None and isinstance(plan, PipPlan) and plan else []

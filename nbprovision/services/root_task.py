"""The base of the tasks that root's part of a lifecycle script does, and that a run only compares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import msgspec

from nbprovision.machine.machine import Machine
from nbprovision.machine.root_differences import root_differences
from nbprovision.model.errors import TaskFailed
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Task, seconds

REPORT = Path("/run/nbprovision/root.json")  # what root's part did at this start


class State(msgspec.Struct, frozen=True):
    """In what the machine differs, in words."""

    differences: tuple[str, ...] = ()


Compared = TypeVar("Compared", bound=State)


class RootTask(Task[Compared], frozen=True, kw_only=True):
    """A task of ``root_tasks``. A subclass says what root's program gets, and what shows that it was done.

    Attributes:
        module: The module of `nbprovision.root` that compares and does the work.

    """

    in_root: ClassVar[Literal["always", "may", "never"]] = "always"
    module: ClassVar[str]

    @property
    def subject(self) -> str:
        """What it is about, in a message: ``the mount data``."""
        raise NotImplementedError

    @property
    def limit(self) -> float:
        """Seconds for its work, as root."""
        return seconds(getattr(self, "timeout", "60s"))

    def wanted(self) -> Mapping[str, Any]:
        """What root's program gets: plain data."""
        raise NotImplementedError

    def wanted_of(self, machine: Machine) -> Mapping[str, Any]:
        """The same on a machine, where it depends on what root learns from the lifecycle script."""
        return self.wanted()

    def of_users(self, machine: Machine) -> bool:
        """Whether the user's own run does the work on this machine, such as in Studio."""
        return False

    def left_to_root(self, machine: Machine) -> bool:
        """Whether a run only compares."""
        return self.of_root() and not self.of_users(machine)

    def root_order(self) -> Mapping[str, Any]:
        """The entry for root's program."""
        return {"module": self.module, "kind": self.kind(), "seconds": self.limit, "wanted": self.wanted()}

    def compared(self, machine: Machine) -> tuple[str, ...]:
        """Return the differences, as root's program sees them.

        Raises:
            TaskFailed: something that should be readable is not.

        """
        return root_differences(self.subject, self.module, self.wanted_of(machine), machine)

    def read(self, machine: Machine) -> Any:
        """Compare; a subclass with a state of its own overrides it."""
        return State(self.compared(machine))

    def plan(self, state: Compared) -> Plan:
        """One change for each difference."""
        return Plan(changes=tuple(Change(action=what, target=self.subject) for what in state.differences))

    def apply(self, plan: Any, machine: Machine) -> None:
        """Refuse: the engine leaves it to root's part.

        Raises:
            TaskFailed: always.

        """
        raise TaskFailed(
            f"{self.subject} is left to root's part of the lifecycle script",
            cause="a run never applies root_tasks",
            cure="render the script again",
        )


def plain(task: Task[Any], *names: str) -> dict[str, Any]:
    """Some parameters of a task as plain data."""
    return {name: msgspec.to_builtins(getattr(task, name)) for name in names}

"""A task on several environments as the engine carries it out: one task for each, side by side."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import msgspec

from nbprovision.machine.env_selection import EnvSelection, Member
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Claim, Foretold, Input, LockRequest, Resource, Setting, Task
from nbprovision.system.context import in_parallel

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine


Answer = TypeVar("Answer")


def expanded(task: Task[Any]) -> Task[Any]:
    """The task, or with ``envs`` an `Expansion` of it."""
    if isinstance(task, EnvSelection) and task.is_several:
        return Expansion(task=task, deep=task.deep, refresh_every=task.refresh_every)
    return task


class MemberPlan(NamedTuple):
    """The plan for one environment; ``suffix`` names it in changes if there are several."""

    task: Task[Any]
    plan: Plan
    suffix: str

    def named(self, changes: Iterable[Change]) -> list[Change]:
        """The changes with the environment that they are in, unless they are changes of files."""
        return [
            change
            if change.target.startswith("/") and change.kind != "package"
            else msgspec.structs.replace(change, target=change.target + self.suffix)
            for change in changes
        ]


class ExpandedPlan(Plan, frozen=True, kw_only=True):
    """The changes in all environments, and the plans of those that have any."""

    members: tuple[MemberPlan, ...] = ()


class Expansion(Task[tuple[tuple[Member, Any], ...]], frozen=True, kw_only=True):
    """Answers for all members of a task together; if they share the answer, the task itself gives it."""

    task: EnvSelection[Any]

    def kind(self) -> str:  # type: ignore[override]
        """The kind of the task that is expanded."""
        return self.task.kind()

    def _all(self, machine: Machine, answers: Callable[[Task[Any]], Iterable[Answer]]) -> list[Answer]:
        return [answer for member in self.task.members(machine) for answer in answers(member.task)]

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The resources that the members provide."""
        return frozenset(self._all(machine, lambda task: task.provides(machine)))

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The resources that the members require."""
        return frozenset(self._all(machine, lambda task: task.requires(machine)))

    def claims(self, machine: Machine) -> list[Claim]:
        """The claims of all members."""
        return self._all(machine, lambda task: task.claims(machine))

    def conda_wishes(self, machine: Machine) -> list[tuple[Path, str]]:
        """The conda packages that all members want."""
        return self._all(machine, lambda task: task.conda_wishes(machine))

    def shared_values(self, machine: Machine) -> list[Setting]:
        """The values that all members want in shared files."""
        return self._all(machine, lambda task: task.shared_values(machine))

    def objection(self, claim: Claim, machine: Machine) -> str | None:
        """The first objection of a member."""
        objections = (member.task.objection(claim, machine) for member in self.task.members(machine))
        return next(filter(None, objections), None)

    def lock_requests(self, machine: Machine) -> list[LockRequest]:
        """The requests of all members."""
        return self._all(machine, lambda task: task.lock_requests(machine))

    def inputs(self, machine: Machine) -> Iterable[Input]:
        """The author's files, which are the same for all members."""
        return self.task.inputs(machine)

    def guarded(self, machine: Machine) -> list[Path]:
        """The prefixes of all members."""
        return self._all(machine, lambda task: task.guarded(machine))

    def declares(self, machine: Machine) -> dict[str, Path]:
        """The environments that the task makes."""
        return self.task.declares(machine)

    def configures(self, machine: Machine) -> dict[Path, str | None]:
        """The configuration that the task writes."""
        return self.task.configures(machine)

    def barrier(self, machine: Machine) -> bool:
        """Whether the task keeps its place in the order of the playbook."""
        return self.task.barrier(machine)

    def proves(self, machine: Machine) -> bool:
        """Whether the result of the task can be verified."""
        return self.task.proves(machine)

    def judged(self, machine: Machine, *, good: bool) -> None:
        """Let each member know of the judgement."""
        for member in self.task.members(machine):
            member.task.judged(machine, good=good)

    def weight(self, machine: Machine) -> Literal[0, 1, 2]:
        """The weight of the task."""
        return self.task.weight(machine)

    def load(self, machine: Machine) -> None:
        """Load what the task needs."""
        self.task.load(machine)

    def ages(self, machine: Machine) -> float | None:
        """The age of the task."""
        return self.task.ages(machine)

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """Witnesses of the selection, and those of the members."""
        of_members = self._all(machine, lambda task: task.witnesses(machine))
        return dict.fromkeys([*self.task.sources(machine), *of_members])

    def read(self, machine: Machine) -> tuple[tuple[Member, Any], ...]:
        """The members, each with its present state."""
        members = self.task.members(machine)
        states = in_parallel(lambda member: member.task.read(machine), members)
        return tuple(zip(members, states, strict=True))

    def plan(self, state: tuple[tuple[Member, Any], ...]) -> ExpandedPlan:
        """The plans of all members."""
        every = [
            MemberPlan(member.task, member.task.plan(present), f" in {member.name}" if len(state) > 1 else "")
            for member, present in state
        ]
        work = tuple(member for member in every if member.plan)
        return ExpandedPlan(
            changes=tuple(change for member in work for change in member.named(member.plan.changes)),
            warnings=tuple(dict.fromkeys(warning for member in every for warning in member.plan.warnings)),
            beside=all(member.plan.beside for member in work),
            upkeep=any(member.plan.upkeep for member in work),
            members=work,
        )

    def apply(self, plan: ExpandedPlan, machine: Machine) -> list[Change]:
        """Carry out the plans of the members side by side."""

        def apply(member: MemberPlan) -> list[Change]:
            changed = member.task.apply(member.plan, machine)
            return member.named(member.plan.changes if changed is None else changed)

        return list(itertools.chain.from_iterable(in_parallel(apply, plan.members)))

    def foretells(self, plan: ExpandedPlan, machine: Machine) -> dict[Path, Foretold]:
        """The content of environments after the plans of the members."""
        return {
            prefix: foretold
            for member in plan.members
            for prefix, foretold in member.task.foretells(member.plan, machine).items()
        }

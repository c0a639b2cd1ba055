"""A task on several environments: one task for each, which answer together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.machine.env_selection import EnvSelection
from nbprovision.machine.expansion import Expansion, expanded
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Claim, Foretold, Resource, Task
from tests.support.provided import conda_environment


class EnsureSpot(EnvSelection[tuple[str, bool]], frozen=True, kw_only=True):
    """A file and a package `spot` in an environment; `bad` has neither."""

    beside: bool = False

    def provides(self, machine: Machine) -> frozenset[Resource]:
        return frozenset({Resource("spot", str(self.selected(machine).prefix))})

    def claims(self, machine: Machine) -> Iterator[Claim]:
        yield Claim(self.selected(machine).prefix, "spot")

    def objection(self, claim: Claim, machine: Machine) -> str | None:
        return f"not in {claim.prefix.name}" if claim.prefix == self.selected(machine).prefix else None

    def guarded(self, machine: Machine) -> list[Path]:
        return [self.selected(machine).prefix]

    def witnesses(self, machine: Machine) -> list[Path]:
        return [machine.home, self.selected(machine).prefix / "spot"]

    def read(self, machine: Machine) -> tuple[str, bool]:
        prefix = self.selected(machine).prefix
        if prefix.name == "bad":
            raise TaskFailed("bad")
        return str(prefix / "spot"), (prefix / "spot").exists()

    def plan(self, state: tuple[str, bool]) -> Plan:
        path, is_there = state
        if is_there:
            return Plan(warnings=("a spot is there",))
        return Plan(changes=(Change("write", path), Change("install", "spot", kind="package")), beside=self.beside)

    def apply(self, plan: Plan, machine: Machine) -> None:
        Path(plan.changes[0].target).touch()

    def foretells(self, plan: Plan, machine: Machine) -> dict[Path, Foretold]:
        return {self.selected(machine).prefix: Foretold(None, {"spot": ""})}


@pytest.fixture
def envs(machine: Machine) -> Path:
    folder = machine.home / "envs"
    for name in ("a", "b"):
        conda_environment(folder / name)
    return folder


def test_one_environment_is_no_expansion(machine: Machine, envs: Path) -> None:
    task = EnsureSpot(env="a")
    assert expanded(task) is task
    assert task.selected(machine) == ("a", envs / "a", False)


def test_members_answer_together(machine: Machine, envs: Path) -> None:
    task = expanded(EnsureSpot(envs="all", deep=True, refresh_every="90s"))
    assert expanded(task) is task
    assert task.kind() == "ensure_spot"
    assert (task.deep, task.holds_for(machine)) == (True, 90)
    assert task.provides(machine) == {Resource("spot", str(envs / name)) for name in "ab"}
    assert [claim.prefix.name for claim in task.claims(machine)] == ["a", "b"]
    assert task.objection(Claim(envs / "b", "spot"), machine) == "not in b"
    assert task.objection(Claim(envs / "c", "spot"), machine) is None
    assert list(task.guarded(machine)) == [envs / "a", envs / "b"]
    witnesses = list(task.witnesses(machine))
    assert {envs, envs / "a/spot", envs / "b/spot"} <= set(witnesses)
    assert len(witnesses) == len(set(witnesses))


def test_every_question_to_a_task_is_answered() -> None:
    """By the members or by the task itself; `holds_for` is worked out of `ages` and the parameters.

    A step asks a task for `as_locked` before it is expanded.

    No task of root's is about environments.
    """
    questions = {name for name, asked in vars(Task).items() if callable(asked) and not name.startswith("_")}
    assert questions - vars(Expansion).keys() == {
        "check",
        "holds_for",
        "as_locked",
        "of_root",
        "left_to_root",
        "root_order",
    }


def test_packages_are_named_with_their_environment_and_files_are_not(machine: Machine, envs: Path) -> None:
    task = expanded(EnsureSpot(envs="all"))
    plan = task.plan(task.read(machine))
    targets = [str(envs / "a/spot"), "spot in a", str(envs / "b/spot"), "spot in b"]
    assert [change.target for change in plan.changes] == targets
    assert set(task.foretells(plan, machine)) == {envs / "a", envs / "b"}
    assert [change.target for change in task.apply(plan, machine) or ()] == targets
    left = task.plan(task.read(machine))
    assert (left.changes, left.warnings) == ((), ("a spot is there",))
    (envs / "b/spot").unlink()
    left = task.plan(task.read(machine))
    assert [change.target for change in left.changes] == targets[2:], "with its name, though the other needs nothing"
    (only,) = expanded(EnsureSpot(envs=["a", "b"], except_="a")).task.members(machine)  # type: ignore[attr-defined]
    assert only.name == "b"


def test_a_member_is_one_object_throughout_a_run_and_knows_how_it_was_meant(machine: Machine, envs: Path) -> None:
    task = EnsureSpot(envs=["a", "all"])
    first = [member.task for member in task.members(machine)]
    assert [one.selected(machine) for one in first] == [("a", envs / "a", False), ("b", envs / "b", True)]
    assert all(one is other.task for one, other in zip(first, task.members(machine), strict=True))


def test_what_is_declared_later_is_not_meant(machine: Machine, envs: Path) -> None:
    task = EnsureSpot(envs="*")
    assert [member.name for member in task.members(machine)] == ["a", "b"]
    machine.declared["c"] = envs / "c"
    assert [member.name for member in task.members(machine)] == ["a", "b"]
    assert [member.name for member in EnsureSpot(envs="*").members(machine)] == ["c", "a", "b"]


def test_the_failure_of_one_is_that_of_the_task(machine: Machine, envs: Path) -> None:
    conda_environment(envs / "bad")
    with pytest.raises(TaskFailed, match="bad"):
        expanded(EnsureSpot(envs="all")).read(machine)


@pytest.mark.parametrize("parameters", [{"env": "a", "except_": "b"}, {"env": "a", "allow_empty": True}])
def test_words_that_need_several(parameters: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="needs `envs`"):
        EnsureSpot(**parameters)


@pytest.mark.parametrize(
    ("beside", "together"), [((True, True), True), ((True, False), False), ((False, False), False)]
)
def test_what_lies_beside_the_environments(
    machine: Machine, envs: Path, beside: tuple[bool, bool], together: bool
) -> None:
    """What is only written beside the environments is no reason to mark one of them as unfinished."""
    task = EnsureSpot(envs="all")
    members = [
        member._replace(task=msgspec.structs.replace(member.task, beside=each))
        for member, each in zip(task.members(machine), beside, strict=True)
    ]
    state = tuple((member, (str(envs / member.name / "spot"), False)) for member in members)
    assert Expansion(task=task).plan(state).beside is together
    nothing = tuple((member, (found, True)) for member, (found, _) in state)
    assert not Expansion(task=task).plan(nothing)
    assert Expansion(task=task).plan((nothing[0], state[1])).beside is beside[1]


def test_an_empty_list_of_environments_means_none_unless_another_parameter_names_one(machine: Machine) -> None:
    """As a template makes one, with `allow_empty` or without."""
    for none in (EnsureSpot(envs=[]), EnsureSpot(envs=[], allow_empty=True)):
        assert isinstance(expanded(none), Expansion)
        assert expanded(none).read(machine) == ()
    for kind, one in (
        ("ensure_pip_pkg", {"packages": ["six"], "env": "a"}),
        ("ensure_pip_pkg", {"packages": ["six"], "system": True}),
        ("ensure_pip_pkg", {"packages": ["six"], "python": "/p"}),
        ("ensure_conda_pkg", {"packages": ["six"], "env": "a"}),
        ("ensure_kernel", {"prefix": "/p"}),
        ("ensure_kernel", {"argv": ["x", "{connection_file}"], "name": "x"}),
    ):
        task = Catalogue()[kind](**one, envs=[])
        assert expanded(task) is task

"""What a task works out once for a run, and when it is worked out again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from nbprovision.machine.machine import Machine, once
from nbprovision.system import inputs
from nbprovision.system.reading import read_bytes


class Reader(msgspec.Struct, frozen=True):
    """Stands in for a task: two with one path are equal."""

    path: str
    count: list[str] = []

    @once
    def content(self, machine: Machine) -> str:
        self.count.append(machine.env.get("SUFFIX", ""))
        return read_bytes(self.path).decode() + machine.env.get("SUFFIX", "")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine({"HOME": str(tmp_path)}, home=tmp_path / "home")


@pytest.fixture
def task(tmp_path: Path) -> Reader:
    (tmp_path / "file").write_text("first")
    return Reader(str(tmp_path / "file"), [])


def test_fact_is_worked_out_once_until_something_changes(task: Reader, machine: Machine) -> None:
    assert [task.content(machine), task.content(machine)] == ["first"] * 2
    Path(task.path).write_text("second")
    assert task.content(machine) == "first"
    machine.forget()
    assert task.content(machine) == "second"
    assert len(task.count) == 2


def test_each_use_counts_as_a_read_of_the_sources(task: Reader, machine: Machine) -> None:
    task.content(machine)
    with inputs.recorded() as sources:
        task.content(machine)
    assert list(sources.files) == [task.path]
    assert sources.variables == {"SUFFIX": None}


def test_equal_tasks_have_a_fact_each(task: Reader, machine: Machine) -> None:
    twin = Reader(task.path, [])
    assert twin.content(machine) == task.content(machine)
    assert len(task.count) == len(twin.count) == 1


def test_error_is_not_kept(task: Reader, machine: Machine) -> None:
    Path(task.path).unlink()
    with pytest.raises(FileNotFoundError):
        task.content(machine)
    Path(task.path).write_text("made")
    assert task.content(machine) == "made"


def test_task_with_other_variables_sees_them(task: Reader, machine: Machine) -> None:
    assert task.content(machine) == "first"
    view = machine.seen_with({"SUFFIX": "!"}, applies=False)
    assert [task.content(view), task.content(machine)] == ["first!", "first"]
    Path(task.path).write_text("second")
    machine.forget()
    assert [task.content(view), task.content(machine)] == ["second!", "second"]

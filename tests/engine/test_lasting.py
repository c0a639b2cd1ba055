"""Which changes outlast a stop of the machine: they are drift if nobody wanted them, the others are what a stop takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.engine.attempts import merged
from nbprovision.engine.run import Run
from nbprovision.engine.step import Outcome, Step
from nbprovision.files.ensure_command import EnsureCommand
from nbprovision.files.ensure_file import EnsureFile
from nbprovision.indexes.ensure_pip_index import EnsurePipIndex
from nbprovision.jupyter.ensure_kernel import EnsureKernel
from nbprovision.machine.machine import Machine
from nbprovision.model.result import Result
from nbprovision.model.task import Task
from nbprovision.pip.ensure_venv import EnsureVenv
from nbprovision.report.document import Silent


@pytest.fixture
def instance(env: dict[str, str], tmp_path: Path) -> Machine:
    """A notebook instance below another root folder."""
    home = tmp_path / "home/ec2-user"
    (home / "SageMaker").mkdir(parents=True)
    (tmp_path / "etc/opt/ml").mkdir(parents=True)
    (tmp_path / "etc/opt/ml/sagemaker-notebook-instance-config.json").write_text("{}")
    variables = {**env, "HOME": str(home)}
    return Machine(variables, home=home / "SageMaker/.nbprovision", root=tmp_path)


def carried_out(task: Task[Any], machine: Machine) -> Result:
    (result,) = Run([Step(name="a", kind=type(task).kind(), task=task)], machine, Silent()).execute()
    return result


KERNEL = ("true", "{connection_file}")
TAKEN: list[Task[Any]] = [
    EnsureFile(path="~/notes", content="x"),
    EnsureKernel(name="team", argv=KERNEL, display_name="Team"),
    EnsurePipIndex(url="https://pypi.example.com/simple"),
    EnsureCommand(argv=("touch", "here"), chdir="~", creates="~/here"),
    EnsureCommand(argv=("true",)),
]
LASTING: list[Task[Any]] = [
    EnsureFile(path="~/SageMaker/notes", content="x"),
    EnsureCommand(argv=("touch", "here"), chdir="~/SageMaker", creates="~/SageMaker/here"),
    EnsureVenv(path="~/SageMaker/envs/team"),
]


def shown(task: Task[Any]) -> str:
    return f"{type(task).__name__}-{getattr(task, 'path', '') or getattr(task, 'creates', '')}"


@pytest.mark.parametrize("task", TAKEN, ids=shown)
def test_a_stop_takes_what_is_in_the_home(instance: Machine, task: Task[Any]) -> None:
    result = carried_out(task, instance)
    assert (result.status, result.lasting) == ("changed", False), result.error


@pytest.mark.parametrize("task", LASTING, ids=shown)
def test_the_volume_stays(instance: Machine, task: Task[Any]) -> None:
    result = carried_out(task, instance)
    assert (result.status, result.lasting) == ("changed", True), result.error
    again = carried_out(task, instance)
    assert (again.status, again.lasting) == ("ok", False)


def test_a_loop_lasts_if_a_turn_does() -> None:
    step = Step(name="a", kind="ensure_file", task=None)
    turns = [Outcome(step.result("changed", lasting=lasting)) for lasting in (False, True)]
    assert merged(step, turns).result.lasting
    assert not merged(step, turns[:1]).result.lasting

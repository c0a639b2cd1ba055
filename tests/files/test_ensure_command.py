"""`ensure_command`: when it runs, with what, and what is said when it fails. The commands are the system's own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.engine.run import Run
from nbprovision.engine.step import Step
from nbprovision.files.ensure_command import EnsureCommand
from nbprovision.files.ensure_file import EnsureFile
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, ParameterError, TaskFailed
from nbprovision.model.result import Result
from nbprovision.model.task import Task
from nbprovision.playbook.read import read_playbook
from nbprovision.report.document import Silent
from nbprovision.state.store import Store
from nbprovision.system import secrets
from tests.support.driver import converge, planned


def run(tasks: list[Task[Any]], machine: Machine, **options: Any) -> list[Result]:
    steps = [Step(name=f"task {number}", kind=task.kind(), task=task) for number, task in enumerate(tasks)]
    return Run(steps, machine, Silent(), **options).execute()


def test_what_it_creates_keeps_it_from_running_again(machine: Machine, home: Path) -> None:
    task = EnsureCommand(argv=["/bin/sh", "-c", 'echo "$0 $1" > made', "$(date)", "`x` ; y"], creates="made")
    (change,) = converge(task, machine)
    assert change.action == "run"
    assert change.after == f"there is no {home}/made"
    assert (home / "made").read_text() == "$(date) `x` ; y\n"
    assert planned(task, machine) == ()


def test_what_it_removes_keeps_it_from_running_again(machine: Machine, home: Path) -> None:
    (home / "old").write_text("")
    task = EnsureCommand(shell="rm -f ~/old && echo $HOME", removes="~/old")
    with machine.reporting() as values:
        converge(task, machine)
    assert values == {
        "rc": 0,
        "stdout": str(home),
        "stderr": "",
        "stdout_lines": [str(home)],
        "stderr_lines": [],
    }
    assert planned(task, machine) == ()


def test_unless_and_onlyif_are_asked(machine: Machine, home: Path) -> None:
    task = EnsureCommand(shell="echo 1 >> log", unless="test -s log", onlyif=["test", "-e", "wanted"])
    assert planned(task, machine) == ()
    (home / "wanted").write_text("")
    (change,) = converge(task, machine)
    assert change.after == "unless: test -s log fails, onlyif: test -e wanted succeeds"
    assert task.ages(machine) == 0.0
    assert EnsureCommand(shell="x", unless="y", refresh_every="12h").holds_for(machine) == 43200


def test_paths_are_looked_at_before_a_command_is_asked(machine: Machine, home: Path) -> None:
    (home / "made").write_text("")
    task = EnsureCommand(shell="false", creates="made", unless="touch ~/asked; false")
    assert planned(task, machine) == ()
    assert not (home / "asked").exists()


def test_without_a_condition_it_runs_each_time_and_proves_nothing(machine: Machine, home: Path) -> None:
    task = EnsureCommand(shell="echo 1 >> log")
    steps: list[Task[Any]] = [task]
    store = Store(machine.home / "state")
    for _ in range(2):
        (result,) = run(steps, machine, store=store)
        assert result.status == "changed"
    assert (home / "log").read_text() == "1\n1\n"
    (result,) = run(steps, machine, check=True)
    assert result.status == "changed"
    assert (home / "log").read_text() == "1\n1\n"


def test_its_folder_variables_and_input(machine: Machine, home: Path) -> None:
    (home / "work").mkdir()
    task = EnsureCommand(
        shell='{ pwd; echo "$DEPTH $HOME"; cat; } > out',
        chdir="~/work",
        environment={"DEPTH": 3},
        stdin="said",
        creates="out",
    )
    converge(task, machine)
    assert (home / "work/out").read_text() == f"{home}/work\n3 {home}\nsaid"


def test_it_runs_in_an_activated_environment(machine: Machine, home: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "envs/fraud"
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "etc/conda/activate.d").mkdir(parents=True)
    (prefix / "etc/conda/activate.d/a.sh").write_text("export FROM_PACKAGE=yes OWN=package\n")
    (prefix / "bin").mkdir()
    (prefix / "bin/tool").write_text('#!/bin/sh\necho "$FROM_PACKAGE $OWN $CONDA_PREFIX" > ~/out\n')
    (prefix / "bin/tool").chmod(0o755)
    task = EnsureCommand(argv=["tool"], env=str(prefix), environment={"OWN": "mine"}, creates="~/out")
    converge(task, machine)
    assert (home / "out").read_text() == f"yes mine {prefix}\n"
    assert {resource.identity for resource in task.requires(machine)} >= {str(prefix)}
    with pytest.raises(TaskFailed, match="there is no environment"):
        task.__class__(argv=["tool"], env="/no/such").apply(None, machine)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parameters", "message", "cause"),
    [
        ({"shell": "echo a; echo b >&2; exit 3"}, "the command failed", "exit status 3: b"),
        ({"shell": "kill -9 $$"}, "the command failed", "killed by signal 9"),
        ({"argv": ["no-such-program"]}, "cannot run no-such-program", "the program does not exist"),
        ({"shell": "true", "creates": "made"}, "without the expected result", "is still missing"),
        ({"shell": "true", "removes": "."}, "without the expected result", "still exists"),
        ({"shell": "true", "chdir": "/no/such"}, "cannot run a command in /no/such", "no such folder"),
    ],
)
def test_a_failure_says_what_and_why(machine: Machine, parameters: dict[str, Any], message: str, cause: str) -> None:
    task = EnsureCommand(**parameters)
    with pytest.raises(TaskFailed, match=message) as caught:
        task.apply(task.plan(task.read(machine)), machine)
    assert cause in caught.value.cause


def test_a_failure_still_tells_its_status_to_later_tasks(machine: Machine) -> None:
    (result,) = run([EnsureCommand(shell="echo no >&2; exit 3")], machine)
    assert (result.status, result.values["rc"], result.values["stderr"]) == ("failed", 3, "no")


def test_secrets_in_its_variables_are_masked(machine: Machine) -> None:
    task = EnsureCommand(shell="echo hunter2-x >&2; exit 1", environment={"API_TOKEN": "hunter2-x"})
    with pytest.raises(TaskFailed) as caught:
        task.apply(task.plan(task.read(machine)), machine)
    assert secrets.MASK in caught.value.cause
    assert "hunter2-x" not in str(caught.value)


def test_after_its_time_all_that_it_started_is_killed(machine: Machine, home: Path) -> None:
    task = EnsureCommand(shell="sleep 300 & echo $! > pid; wait", timeout="1s")
    with pytest.raises(TaskFailed, match="did not end"):
        task.apply(task.plan(task.read(machine)), machine)
    pid = int((home / "pid").read_text())
    for _ in range(2000):
        if not alive(pid):
            break
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_it_leaves_running_keeps_nobody_waiting(machine: Machine, home: Path) -> None:
    task = EnsureCommand(shell="sleep 300 & echo $! > pid; echo done")
    try:
        with machine.reporting() as values:
            task.apply(task.plan(task.read(machine)), machine)
        assert values["stdout"] == "done"
        assert alive(int((home / "pid").read_text()))
    finally:
        os.kill(int((home / "pid").read_text()), 9)


def test_it_keeps_its_place_in_the_playbook(machine: Machine, home: Path) -> None:
    tasks = [
        EnsureFile(path="~/one", content="1"),
        EnsureCommand(shell="cat one > two; cat three", creates="two"),
        EnsureFile(path="~/three", content="3"),
    ]
    results = run(tasks, machine)
    assert [result.status for result in results] == ["changed", "failed", "changed"]
    assert (home / "two").read_text() == "1"


def test_it_does_not_run_where_something_before_it_failed(machine: Machine, home: Path) -> None:
    (home / "one").mkdir()
    after = EnsureCommand(shell="echo ran > two", creates="two")
    results = run([EnsureFile(path="~/one", content="1"), after], machine)
    assert [result.status for result in results] == ["failed", "skipped"]
    beside = EnsureCommand(shell="echo ran > two", creates="two", any_order=True)
    assert run([EnsureFile(path="~/one", content="1"), beside], machine)[1].status == "changed"


def test_the_order_of_files_is_that_of_their_folders(machine: Machine, home: Path) -> None:
    tasks: list[Task[Any]] = [
        EnsureFile(path="~/d", state="directory", mode="0700"),
        EnsureFile(path="~/d/e/f", content="x"),
        EnsureFile(path="~/d/e", state="absent"),
    ]
    for _ in range(3):
        run(tasks, machine)
        assert (home / "d").stat().st_mode & 0o777 == 0o700
        assert not (home / "d/e").exists()


@pytest.mark.parametrize(
    ("parameters", "key", "said"),
    [
        ({}, "argv", "neither `argv` nor `shell`"),
        ({"argv": ["x"], "shell": "x"}, "shell", "cannot be given together"),
        ({"argv": []}, "argv", "neither `argv` nor `shell`"),
        ({"argv": [""]}, "argv", "names no program"),
        ({"shell": " "}, "shell", "is empty"),
        ({"argv": ["x", "a\0b"]}, "argv", "NUL"),
        ({"shell": "\ud800"}, "shell", "not UTF-8"),
        ({"shell": "x", "creates": "a\nb"}, "creates", "line break"),
        ({"shell": "x", "environment": {"A=B": "c"}}, "environment", "cannot be a variable"),
        ({"shell": "x", "unless": ""}, "unless", "names no program"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said) as caught:
        EnsureCommand(**parameters)
    assert caught.value.key == key


def test_what_ansibles_users_write_gets_an_error_that_teaches(tmp_path: Path) -> None:
    playbook = tmp_path / "p.yml"
    playbook.write_text("- tasks:\n    - ensure_command:\n        cmd: pip list\n")
    with pytest.raises(InvalidPlaybook, match="has no parameter 'cmd'\n  fix: write argv:"):
        read_playbook(playbook, Catalogue(), env={})

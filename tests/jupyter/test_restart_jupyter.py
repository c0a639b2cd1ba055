"""`restart_jupyter`: when it restarts, and when it says why not.

No test restarts a service: a script on the PATH stands in for systemctl and initctl, and notes what it is called with.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
import yaml

from nbprovision.catalogue import Catalogue
from nbprovision.jupyter.restart_jupyter import RestartJupyter
from nbprovision.lifecycle.render import ScriptRequest, render
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import PHASE
from nbprovision.model.errors import InvalidPlaybook, ParameterError, TaskFailed
from nbprovision.playbook.read import read_playbook


@pytest.fixture
def called(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in systemctl on the PATH; the file that it notes its words in. The run takes itself for root's."""
    programs = tmp_path / "programs"
    programs.mkdir()
    stand_in(programs / "systemctl", tmp_path / "called")
    machine.env["PATH"] = str(programs)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path / "called"


def stand_in(program: Path, notes: Path) -> None:
    """A program that notes its words, and does not answer the question when a unit was started."""
    program.write_text(f'#!/bin/sh\ncase "$*" in *show*) ;; *) echo "$@" >> {notes} ;; esac\n')
    program.chmod(0o755)


def restart(task: RestartJupyter, machine: Machine) -> tuple[str, ...]:
    """Carry it out as the engine does; the warnings."""
    plan = task.plan(task.read(machine))
    if plan:
        task.apply(plan, machine)
    return plan.warnings


def test_the_service_is_restarted_without_waiting(machine: Machine, called: Path) -> None:
    assert restart(RestartJupyter(), machine) == ()
    assert called.read_text() == "--no-block try-restart jupyter-server.service\n"
    assert not RestartJupyter().proves(machine)


def test_with_upstart_it_is_the_job(machine: Machine, called: Path, tmp_path: Path) -> None:
    (tmp_path / "programs/systemctl").unlink()
    stand_in(tmp_path / "programs/initctl", called)
    restart(RestartJupyter(), machine)
    assert called.read_text() == "restart jupyter-server --no-wait\n"


def test_never_while_a_lifecycle_script_is_at_work_unless_asked(machine: Machine, called: Path) -> None:
    machine.env[PHASE] = "on-start"
    (note,) = restart(RestartJupyter(), machine)
    assert note.startswith("Jupyter is not restarted by the on-start script")
    assert not called.exists()
    restart(RestartJupyter(at_boot=True), machine)
    assert called.exists()


@pytest.mark.parametrize("on_create", [True, False])
def test_the_rendered_script_says_that_it_is_at_work(on_create: bool) -> None:
    script = render(ScriptRequest(playbook="/p.yml", tool="s3://team/wheels", on_create=on_create))
    assert f" {PHASE}={'on-create' if on_create else 'on-start'} " in script.replace("\n", " ")


def test_who_is_not_root_is_told_what_to_do(machine: Machine, called: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TaskFailed, match="needs root") as caught:
        restart(RestartJupyter(), machine)
    assert "sudo systemctl restart jupyter-server.service" in caught.value.cure
    assert not called.exists()
    restart(RestartJupyter(scope="user", unit="lab.service"), machine)
    assert called.read_text() == "--user --no-block try-restart lab.service\n"


def test_where_nothing_manages_services_that_is_said(machine: Machine, called: Path, tmp_path: Path) -> None:
    (tmp_path / "programs/systemctl").unlink()
    with pytest.raises(TaskFailed, match="cannot be restarted from here"):
        restart(RestartJupyter(), machine)


def test_a_refusal_of_the_manager_is_a_failure(machine: Machine, called: Path, tmp_path: Path) -> None:
    (tmp_path / "programs/systemctl").write_text("#!/bin/sh\necho 'Access denied' >&2; exit 4\n")
    assert RestartJupyter().read(machine).absent == ""
    with pytest.raises(TaskFailed, match="could not be restarted") as caught:
        restart(RestartJupyter(), machine)
    assert "Access denied" in caught.value.cause


@pytest.mark.parametrize("unit", ["", "-x", "a b", "a;b", "$(x)", "a\nb"])
def test_a_name_that_is_none_is_refused(unit: str) -> None:
    with pytest.raises(ParameterError, match="is not a valid name of a unit"):
        RestartJupyter(unit=unit)


def test_it_is_a_handler_and_needs_not_be_written(tmp_path: Path) -> None:
    playbook = tmp_path / "p.yml"
    playbook.write_text("- tasks:\n    - ensure_file: {path: /f}\n      notify: restart_jupyter\n")
    (handler,) = read_playbook(playbook, Catalogue(), env={}).plays[0].handlers
    assert handler.kind == "restart_jupyter"
    playbook.write_text("- tasks:\n    - restart_jupyter:\n")
    with pytest.raises(InvalidPlaybook, match="handler"):
        read_playbook(playbook, Catalogue(), env={})


def test_every_example_is_run(machine: Machine, called: Path) -> None:
    """By the stand-in, with what the example says."""
    examples = yaml.safe_load(RestartJupyter.examples)
    for example in examples:
        assert restart(msgspec.convert(example["restart_jupyter"], RestartJupyter), machine) == ()
        assert example["restart_jupyter"]["unit"] in called.read_text()
    assert examples

"""`nbprovision-status.json`: written by runs beside the text file, for the extension of JupyterLab."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nbprovision.machine import image
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import Platform
from nbprovision.model.result import Change
from nbprovision.reference.status_schema import status_schema
from nbprovision.report import history, status_file
from nbprovision.report.activity import Activity
from nbprovision.report.history import KeptRun, KeptTask
from nbprovision.report.lost import lost
from nbprovision.report.progress import TEXT_FILE
from nbprovision.report.status_file import FILE, Fault, Lost, StatusFile
from tests.support import on_volume
from tests.support.at_work import until

VALIDATOR = jsonschema.Draft7Validator(status_schema())
WAITS = "until [ -e {folder}/gate ]; do sleep 0.02; done; touch {folder}/made"


class Volume:
    """A notebook instance with a playbook."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.home = folder / ".nbprovision"
        self.playbook = folder / "team.yml"
        self.env = env

    def write(self, tasks: str) -> None:
        self.playbook.write_text("- tasks:\n" + "".join(f"    {line}\n" for line in tasks.splitlines()))

    def call(self, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
        return on_volume.nbprovision({**self.env, **more}, self.folder, *words)

    def run(self, *words: object, status: int = 0, **more: str) -> dict[str, Any]:
        done = self.call("run", self.playbook, *words, **more)
        assert done.returncode == status, done.stdout + done.stderr
        return self.content()

    def start(self) -> subprocess.Popen[str]:
        variables = {**self.env, "NBPROVISION_HOME": str(self.home), "PYTHONPATH": str(on_volume.ROOT)}
        argv = on_volume.argv(self.folder, "run", self.playbook)
        return subprocess.Popen(argv, env=variables, stdout=subprocess.DEVNULL, text=True, start_new_session=True)

    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / FILE).read_text())
        VALIDATOR.validate(content)
        return content


@pytest.fixture
def volume(env: dict[str, str], tmp_path: Path) -> Volume:
    folder = tmp_path / "SageMaker"
    folder.mkdir()
    return Volume(folder, env)


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(status_schema())
    assert VALIDATOR.is_valid({"format": 1, "state": "never", "more": 1})
    assert not VALIDATOR.is_valid({"format": 2, "state": "never"})
    assert not VALIDATOR.is_valid({"format": 1, "state": "excellent"})


def test_the_first_run_leaves_it_and_no_text(volume: Volume) -> None:
    volume.write(f"- ensure_file: {{path: '{volume.folder}/made', content: x}}")
    content = volume.run()
    assert (content["state"], content["counts"], content["error"]) == ("ready", {"changed": 1}, None)
    assert content["playbook"] == str(volume.playbook)
    assert [(task["task"], task["status"]) for task in content["tasks"]] == [("ensure_file", "changed")]
    assert content["ended"] >= content["started"] > 0
    assert stat.S_IMODE((volume.folder / FILE).stat().st_mode) == 0o644
    assert not (volume.folder / TEXT_FILE).exists()
    written = (volume.folder / FILE).stat()
    assert volume.call("run", volume.playbook).returncode == 0
    assert (volume.folder / FILE).stat() == written, "a run with nothing to do writes nothing"


def test_a_failure_has_its_reason_and_fix(volume: Volume) -> None:
    volume.write(f"- name: Line\n  ensure_line: {{path: '{volume.folder}', line: x}}")
    content = volume.run(status=2)
    error = content["error"]
    assert content["state"] == "failed"
    assert (error["task"], error["place"]) == ("Line", f"{volume.playbook}:3:7")
    assert error["message"]
    assert error["why"]
    assert error["fix"]
    assert content["tasks"][0]["error"] == error


def test_a_failure_that_the_playbook_forgives_is_not_the_error(volume: Volume) -> None:
    volume.write("- name: Forgiven\n  ignore_errors: true\n  ensure_command: {argv: ['false']}")
    content = volume.run()
    assert (content["state"], content["error"]) == ("ready", None)
    assert content["tasks"][0]["error"]["task"] == "Forgiven"
    volume.write(
        "- name: Forgiven\n  ignore_errors: true\n  ensure_command: {argv: ['false']}\n"
        "- name: Real\n  ensure_command: {argv: ['false']}"
    )
    assert volume.run(status=2)["error"]["task"] == "Real"


def test_an_invalid_playbook_at_a_start_is_shown(volume: Volume) -> None:
    volume.write("- ensure_filee: {path: x}")
    content = volume.run(status=4, NBPROVISION_PHASE="on-start")
    assert (content["state"], content["hook"]) == ("failed", "on-start")
    assert "ensure_filee" in content["error"]["message"]
    assert content["error"]["place"] == f"{volume.playbook}:2:7"


def test_a_page_is_named_when_it_is_written(volume: Volume) -> None:
    volume.write(f"- ensure_file: {{path: '{volume.folder}/made', content: x}}")
    content = volume.run()
    assert content["report"] == ""
    assert volume.call("report").returncode == 0
    content = volume.content()
    assert content["report"] == f"nbprovision-report/{content['run']}.html"
    assert (volume.folder / content["report"]).is_file()
    volume.write(f"- ensure_file: {{path: '{volume.folder}/made', content: y}}")
    assert volume.run(NBPROVISION_PHASE="on-start")["report"].startswith("nbprovision-report/")


def test_secrets_are_masked(volume: Volume) -> None:
    volume.write("- ensure_command: {shell: 'echo {{ password }} >&2; exit 3'}")
    content = volume.run("-e", "password=s3cretword", "--mask-vars", status=2)
    assert "s3cretword" not in json.dumps(content)
    assert "***" in content["error"]["why"] + content["error"]["message"]


def test_a_run_is_followed_and_a_killed_one_is_corrected_by_status(volume: Volume) -> None:
    volume.write(
        f"- name: Slow\n  ensure_command:\n    shell: {WAITS.format(folder=volume.folder)}\n    creates: {volume.folder}/made"
    )
    run = volume.start()
    until(lambda: volume.content()["tasks"][0]["seconds"] > 0)
    first = volume.content()
    assert (first["state"], first["counts"], first["ended"]) == ("working", {"running": 1}, 0)
    until(lambda: volume.content()["updated"] > first["updated"])
    volume.call("status")
    assert volume.content()["state"] == "working"
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert volume.content()["state"] == "working"
    volume.call("status")
    content = volume.content()
    assert content["state"] == "failed"
    assert content["error"]["message"] == "the run ended before its work was done"
    assert content["tasks"][0]["status"] == "waiting"
    (volume.folder / "gate").touch()
    assert volume.run()["state"] == "ready"
    (volume.home / "status.json").unlink()
    (volume.home / "last-run.json").unlink()
    (volume.home / "log/nbprovision.log").unlink()
    volume.call("status")
    assert volume.content()["state"] == "never"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"state": "ready"}', '{"format": 1, "state": "working", "log": "/x"}']
)
def test_status_leaves_what_is_not_ours(volume: Volume, content: str) -> None:
    volume.call("status")
    assert not (volume.folder / FILE).exists()
    (volume.folder / FILE).write_text(content)
    volume.call("status")
    assert (volume.folder / FILE).read_text() == content


@pytest.mark.parametrize(
    ("record", "state"),
    [
        (Activity(state="running"), "working"),
        (Activity(state="background"), "background"),
        (Activity(state="ok"), "ready"),
        (Activity(state="failed", message="m", why="w"), "failed"),
        (Activity(state="ok", user_playbook=Activity(state="failed", message="m", why="w")), "failed"),
        (Activity(state="running", team=Activity(state="failed")), "working"),
    ],
)
def test_the_state_of_a_record(record: Activity, state: str) -> None:
    status = status_file.of_activity(record, Path("/home"))
    assert status.state == state
    assert status.error == (Fault(message="m", why="w") if state == "failed" else None)


@pytest.fixture
def instance(machine: Machine, tmp_path: Path) -> Machine:
    """A notebook instance whose image has one environment, as it was at the start."""
    anaconda = tmp_path / "anaconda3"
    machine.__dict__["platform"] = Platform("notebook-instance", "a test", tmp_path / "SageMaker", anaconda)
    for prefix in (anaconda, anaconda / "envs/python3"):
        (prefix / "conda-meta").mkdir(parents=True)
        (prefix / "conda-meta/history").touch()
        (prefix / "bin").mkdir()
        (prefix / "bin/python").touch(mode=0o755)
        (prefix / "lib/python3.11/site-packages").mkdir(parents=True)
        (prefix / "conda-meta/python-3.11.0-0.json").write_text('{"name": "python", "version": "3.11.0"}')
    image.record_baselines(machine)
    return machine


def installed(machine: Machine, name: str, *, requested: bool = True) -> None:
    assert machine.platform.provided is not None
    folder = machine.platform.provided / f"envs/python3/lib/python3.11/site-packages/{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    if requested:
        (folder / "REQUESTED").touch()


def test_packages_that_the_next_stop_loses(instance: Machine) -> None:
    assert lost(instance) == []
    installed(instance, "lightgbm")
    installed(instance, "its_dependency", requested=False)
    installed(instance, "of_a_task")
    assert instance.platform.provided is not None
    meta = instance.platform.provided / "envs/python3/conda-meta"
    (meta / "gdal-3.9-0.json").write_text('{"requested_spec": "gdal"}')
    (meta / "proj-9.4-0.json").write_text("{}")
    change = Change("install", "of-a-task", before=None, after="1.0", kind="package")
    task = KeptTask(name="Pip", task="ensure_pip_pkg", status="changed", seconds=1, changes=(change,))
    now = int(time.time())
    run = KeptRun(
        playbook="/p", digest="", started=now, seconds=1, status="changed", check=False, counts={}, tasks=(task,)
    )
    history.keep(instance.home, run)
    packages = ("gdal 3.9", "lightgbm 1.0")
    assert lost(instance) == [Lost("python3", packages, "nbprovision export python3")]


def test_an_environment_that_cannot_be_read_fails_no_run(instance: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(instance, "lightgbm")

    def unreadable(prefix: Path) -> image.Content:
        raise PermissionError(prefix)

    monkeypatch.setattr(image, "content", unreadable)
    assert lost(instance) == []


def test_a_restart_that_was_put_right_loses_nothing(tmp_path: Path) -> None:
    home = tmp_path / ".nbprovision"
    status = StatusFile(state="failed", log=status_file.log_of(home), lost=(Lost("a", ("b 1",), "c"),))
    status_file.restarted(home)
    assert not (tmp_path / FILE).exists()
    status_file.write(tmp_path, status)
    status_file.restarted(home)
    read = status_file.read(tmp_path, home)
    assert read is not None
    assert (read.state, read.lost) == ("ready", ())


def test_a_link_in_its_place_is_replaced(volume: Volume, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (volume.folder / FILE).symlink_to(victim)
    volume.write(f"- ensure_file: {{path: '{volume.folder}/made', content: x}}")
    volume.run()
    assert victim.read_text() == "mine"
    assert not (volume.folder / FILE).is_symlink()

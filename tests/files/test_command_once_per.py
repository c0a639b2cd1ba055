"""`ensure_command: once_per`: what counts as a repetition, and that only a success is recorded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbprovision.files.command_record import Files
from nbprovision.files.ensure_command import EnsureCommand
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.state import store, witness
from nbprovision.system import inputs, places
from tests.support.at_work import until
from tests.support.driver import converge, planned

ROOT = Path(__file__).parents[2]


class Runs:
    """Runs a playbook of one command by the command line."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.env = {**env, "PYTHONPATH": str(ROOT)}
        self.folder = folder
        self.home = Path(env["NBPROVISION_HOME"])
        self.playbook = folder / "p.yml"

    def write(self, task: str) -> None:
        self.playbook.write_text(f"- tasks:\n    - {task}\n")

    def __call__(self, *words: str) -> tuple[str, str, str]:
        """Status, proof, and the first change's reason or the error."""
        argv = [sys.executable, "-m", "nbprovision", "run", str(self.playbook), "--format", "json", *words]
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False, cwd="/", timeout=300)
        assert "Traceback" not in done.stderr
        (task,) = json.loads(done.stdout)["tasks"]
        reason = task["error"]["message"] if task["error"] else next((c["after"] for c in task["changes"]), "")
        return task["status"], task["proof"], reason

    @property
    def log(self) -> list[str]:
        path = Path(self.env["HOME"]) / "log"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def runs(env: dict[str, str], tmp_path: Path) -> Runs:
    return Runs(env, tmp_path)


@pytest.mark.parametrize("once_per", ["boot", "content", "ever"])
def test_it_runs_once_and_the_second_run_is_witnessed(runs: Runs, once_per: str) -> None:
    runs.write(f"ensure_command: {{shell: echo x >> log, once_per: {once_per}}}")
    assert runs("--check") == ("changed", "check", "it has not succeeded yet")
    assert runs.log == []
    assert runs() == ("changed", "check", "it has not succeeded yet")
    assert runs() == ("ok", "witness", "")
    assert runs("--no-witness")[0] == "ok"
    assert runs("--check")[0] == "ok"
    assert runs.log == ["x"]


def test_the_record_is_on_the_volume_and_its_loss_is_another_first_time(runs: Runs) -> None:
    runs.write("ensure_command: {shell: echo x >> log, once_per: ever}")
    runs()
    (Path(runs.env["HOME"]) / "log").unlink()  # the user's home is new after a restart; the tool's is not
    assert runs() == ("ok", "witness", "")
    (record,) = (runs.home / "commands").glob("*.json")
    assert record.stat().st_mode & 0o777 == 0o600
    record.unlink()
    assert runs()[0] == "changed"


@pytest.mark.parametrize("damage", [b"", b"garbage", b'{"command": 1}', b"[" * 100_000])
def test_a_damaged_record_is_another_first_time(runs: Runs, damage: bytes) -> None:
    runs.write("ensure_command: {shell: echo x >> log, once_per: ever}")
    runs()
    (record,) = (runs.home / "commands").glob("*.json")
    record.write_bytes(damage)
    assert runs()[0] == "changed"
    assert runs() == ("ok", "witness", "")


def start_again(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let the machine have started again."""
    for module in (inputs, store, witness):
        monkeypatch.setattr(module, "this_start", lambda: text)


def test_a_start_of_the_machine_is_another_time_for_boot_alone(
    machine: Machine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = {word: EnsureCommand(shell=f"echo {word} >> log", once_per=word) for word in ("boot", "content", "ever")}  # type: ignore[arg-type]
    for task in tasks.values():
        converge(task, machine)
    start_again(monkeypatch, "another")
    assert [word for word, task in tasks.items() if planned(task, machine)] == ["boot"]
    (change,) = converge(tasks["boot"], machine)
    assert change.after == "the machine has started again"
    assert (home / "log").read_text().split() == ["boot", "content", "ever", "boot"]


def test_the_start_of_the_machine_is_a_witness(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.write("ensure_command: {shell: echo x >> log, once_per: boot}")
    runs()
    (state,) = (runs.home / "state").glob("*.state")
    lines = witness.read_lines(str(state))
    assert [line for line in lines if line.startswith("env\t\t")] == [f"env\t\t{witness.digest(places.this_start())}"]
    monkeypatch.setattr(os, "environ", runs.env)
    assert witness.still_stands(lines)
    proofs = store.Store(state, runs.env)
    digest = next(line for line in lines if line.startswith("task\t")).split("\t")[1]
    assert proofs.proof_of(digest) is not None
    start_again(monkeypatch, "another")
    assert not witness.still_stands(lines)
    assert proofs.proof_of(digest) is None


def test_each_container_has_its_own_start() -> None:
    script = "from nbprovision.system.places import this_start; print(this_start())"
    argv = ["unshare", "--fork", "--pid", "--mount-proc", sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        pytest.skip("this machine allows no new namespace of processes")
    boot = places.boot_id()
    assert boot
    assert done.stdout.startswith(boot)
    assert done.stdout.strip() != places.this_start().strip()


CHANGES: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({}, False),
    "a variable": ({"environment": {"A": "2"}}, True),
    "the input": ({"stdin": "other"}, True),
    "another file": ({"reads": ["other"]}, True),
    "the time limit": ({"timeout": "5m"}, False),
    "the text": ({"shell": "true; true"}, True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_content_is_what_the_command_is_given(machine: Machine, home: Path, name: str) -> None:
    base: dict[str, Any] = {"shell": "true", "once_per": "content", "environment": {"A": "1"}, "stdin": "x"}
    (home / "data").write_text("1")
    base["reads"] = ["data"]
    converge(EnsureCommand(**base), machine)
    changed, again = CHANGES[name]
    assert bool(planned(EnsureCommand(**{**base, **changed}), machine)) is again
    if "shell" not in changed:  # a text that is known has run; only its content differs
        assert planned(EnsureCommand(**{**base, **changed, "once_per": "ever", "reads": None}), machine) == ()


def test_the_content_of_files_counts_and_not_their_times(runs: Runs) -> None:
    data = Path(runs.env["HOME"]) / "data"
    runs.write("ensure_command: {shell: echo x >> log, once_per: content, reads: [data]}")
    assert runs()[0] == "changed"  # a missing file is content, too
    data.write_text("1")
    assert runs() == ("changed", "check", "its content has changed")
    assert runs() == ("ok", "witness", "")
    os.utime(data, (1, 1))
    assert runs()[:2] == ("ok", "check")
    data.write_text("2")
    assert runs()[0] == "changed"
    data.unlink()
    assert runs()[0] == "changed"
    assert runs() == ("ok", "witness", "")


def test_a_command_that_changes_what_it_reads_fails(machine: Machine, home: Path) -> None:
    (home / "data").write_text("1")
    task = EnsureCommand(shell="date +%N >> data", once_per="content", reads="data")
    with pytest.raises(TaskFailed, match="has changed what it reads") as caught:
        converge(task, machine)
    assert "other files" in caught.value.cure
    assert planned(task, machine)


def test_a_folder_is_not_a_file_to_read(machine: Machine, home: Path) -> None:
    (home / "data").mkdir()
    with pytest.raises(TaskFailed, match="is not a file"):
        planned(EnsureCommand(shell="true", once_per="content", reads="data"), machine)


def test_a_failure_is_repeated(runs: Runs) -> None:
    runs.write("ensure_command: {shell: echo x >> log; test -e ~/ready, once_per: ever}")
    assert runs()[0] == "failed"
    assert runs()[0] == "failed"
    (Path(runs.env["HOME"]) / "ready").touch()
    assert runs()[0] == "changed"
    assert runs()[0] == "ok"
    assert runs.log == ["x"] * 3


def test_a_killed_run_is_repeated_even_for_the_content_before(runs: Runs) -> None:
    task = "ensure_command: {shell: 'echo x >> log; while [ \"$N\" = 2 ]; do sleep 0.1; done', once_per: content, environment: {N: NUMBER}}"
    runs.write(task.replace("NUMBER", "'1'"))
    assert runs()[0] == "changed"
    runs.write(task.replace("NUMBER", "'2'"))
    argv = [sys.executable, "-m", "nbprovision", "run", str(runs.playbook)]
    process = subprocess.Popen(argv, env=runs.env, cwd="/", stdout=subprocess.DEVNULL, start_new_session=True)
    until(lambda: len(runs.log) == 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    runs.write(task.replace("NUMBER", "'1'"))
    assert runs()[0] == "changed"
    assert runs()[0] == "ok"


def test_a_failure_by_judgement_is_repeated(runs: Runs) -> None:
    runs.write("{ensure_command: {shell: echo x >> log, once_per: ever}, register: out, failed_when: out.rc == 0}")
    assert runs()[0] == "failed"
    assert runs()[0] == "failed"
    assert runs.log == ["x", "x"]


def test_a_condition_that_cannot_be_judged_is_a_failure(runs: Runs) -> None:
    runs.write(
        "{ensure_command: {shell: echo x >> log, once_per: ever}, register: out, until: out.nope == 1, retries: 1}"
    )
    assert runs()[0] == "failed"
    runs.write("ensure_command: {shell: echo x >> log, once_per: ever}")
    assert runs()[0] == "changed"


def test_a_success_by_judgement_is_recorded(runs: Runs) -> None:
    runs.write(
        "{ensure_command: {shell: echo x >> log; exit 1, once_per: ever}, register: out, failed_when: out.rc > 1}"
    )
    assert runs()[0] == "ok"
    runs.write("{ensure_command: {shell: echo x >> log; exit 1, once_per: ever}}")
    assert runs()[0] == "ok"
    assert runs.log == ["x"]


def test_until_repeats_it(runs: Runs) -> None:
    runs.write(
        "{ensure_command: {shell: echo x >> log; cat log, once_per: ever}, register: out, delay: 0, retries: 5, "
        "until: \"'x\\nx\\nx' in out.stdout\"}"
    )
    assert runs()[0] == "changed"
    assert runs.log == ["x"] * 3


def test_changed_when_changes_the_report_alone(runs: Runs) -> None:
    runs.write("{ensure_command: {shell: echo x >> log, once_per: ever}, changed_when: false}")
    assert runs()[0] == "ok"
    assert runs()[0] == "ok"
    assert runs.log == ["x"]


def test_no_secret_is_in_the_record(machine: Machine) -> None:
    task = EnsureCommand(shell="echo hunter2-xyz", once_per="ever", environment={"API_TOKEN": "hunter2-xyz"})
    converge(task, machine)
    texts = [path.read_text() for path in (machine.home / "commands").iterdir()]
    assert texts
    assert not any("hunter2" in text for text in texts)


def test_a_full_disk_is_a_failure_and_not_a_success(machine: Machine) -> None:
    task = EnsureCommand(shell="true", once_per="ever")
    (machine.home / "commands").write_text("in the way")
    with pytest.raises(TaskFailed):
        converge(task, machine)
    assert Files.of(machine.home, "x").read() is None


@pytest.mark.parametrize(
    ("parameters", "key", "text"),
    [
        ({"once_per": "boot", "creates": "x"}, "creates", "cannot be given together"),
        ({"once_per": "boot", "removes": "x"}, "removes", "cannot be given together"),
        ({"once_per": "ever", "unless": "x"}, "unless", "cannot be given together"),
        ({"reads": "x"}, "reads", "`reads` needs `once_per: content`"),
        ({"reads": "x", "once_per": "boot"}, "reads", "`reads` needs `once_per: content`"),
        ({"reads": "a\nb", "once_per": "content"}, "reads", "line break"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(parameters: dict[str, Any], key: str, text: str) -> None:
    with pytest.raises(ParameterError, match=text) as caught:
        EnsureCommand(shell="true", **parameters)
    assert caught.value.key == key

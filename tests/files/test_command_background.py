"""`ensure_command: background`: the command outlives the run, alone, in bounds, in sight; and it ends as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.files.command_record import in_background
from nbprovision.files.ensure_command import EnsureCommand
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.system import log, secrets
from tests.support.at_work import until

pytestmark = pytest.mark.sampled(2)

ROOT = Path(__file__).parents[2]
# It starts a grandchild, and waits for a file.
WORK = (
    "echo started >> log; sleep 600 & echo $! > grandchild; until [ -e gate ]; do sleep 0.05; done; echo ended >> log"
)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class User:
    """A user whose playbook has one command in the background."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.env = {**env, "PYTHONPATH": str(ROOT)}
        self.home = Path(env["HOME"])
        self.tool = Path(env["NBPROVISION_HOME"])
        self.playbook = folder / "p.yml"

    def write(self, task: str) -> None:
        self.playbook.write_text(f"- tasks:\n    - {task}\n")

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "nbprovision", *words]
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False, cwd="/", timeout=300)

    def run(self, *words: str) -> dict[str, Any]:
        done = self.call("run", str(self.playbook), "--format", "json", *words)
        assert "Traceback" not in done.stderr
        (task,) = json.loads(done.stdout)["tasks"]
        return {"returned": done.returncode, **task}

    def state(self) -> str:
        """The state of the only command."""
        (command,) = json.loads(self.call("status", "--format", "json").stdout)["commands"]
        return str(command["state"])

    def pid(self) -> int:
        (command,) = in_background(self.tool)
        return command.record.pid

    def log(self) -> list[str]:
        path = self.home / "log"
        return path.read_text().split() if path.exists() else []

    def grandchild(self) -> int:
        until((self.home / "grandchild").read_text)
        return int((self.home / "grandchild").read_text())

    def open(self) -> None:
        (self.home / "gate").touch()


@pytest.fixture
def user(env: dict[str, str], tmp_path: Path) -> Iterator[User]:
    made = User(env, tmp_path)
    yield made
    made.open()
    until(lambda: all(command.state != "running" for command in in_background(made.tool)))


@pytest.mark.parametrize("condition", ["once_per: boot", "creates: made"])
def test_the_run_ends_before_the_command_and_starts_it_once(user: User, condition: str) -> None:
    user.write(f"ensure_command: {{shell: '{WORK}; touch made', {condition}, background: true}}")
    task = user.run("--check")
    assert (task["status"], task["changes"][0]["action"]) == ("changed", "start")
    assert user.log() == []
    assert user.run()["status"] == "changed"
    grandchild = user.grandchild()
    assert user.state() == "running"
    for _ in range(2):
        task = user.run()
        assert (task["status"], task["proof"]) == ("ok", "check")  # it may be killed at any time
    text = user.call("status").stdout
    assert "command in the background: running: echo started >> log; " in text
    assert f"stop it with: kill {user.pid()}" in text
    user.open()
    until(lambda: user.state() == "ok")
    until(lambda: not is_alive(grandchild))
    assert user.log() == ["started", "ended"]
    assert user.run()["status"] == "ok"
    assert user.run()["proof"] == "witness"
    assert user.log() == ["started", "ended"]
    assert "command in the background: ok: " in user.call("status").stdout
    events = [json.loads(line) for line in (user.tool / "log/nbprovision.log").read_text().splitlines()]
    (event,) = [event for event in events if event["event"] == "background command"]
    assert event["status"] == 0


def test_its_output_is_in_a_log_that_status_names(user: User) -> None:
    user.write("ensure_command: {shell: 'echo one; echo two >&2; cat', stdin: three, once_per: ever, background: true}")
    user.run()
    until(lambda: user.state() == "ok")
    (path,) = (user.tool / "commands").glob("*.log")
    assert path.read_text() == "one\ntwo\nthree"
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(path) in user.call("status").stdout


def test_a_failure_is_shown_and_started_again(user: User) -> None:
    user.write("ensure_command: {shell: echo started >> log; exit 3, once_per: ever, background: true}")
    assert user.run()["status"] == "changed"
    until(lambda: user.state() == "failed")
    assert "exit status 3" in user.call("status").stdout
    task = user.run()
    assert task["status"] == "changed"
    assert task["changes"][0]["after"] == "it failed: exit status 3"
    until(lambda: user.log() == ["started"] * 2)


def test_after_its_time_everything_ends(user: User) -> None:
    user.write(f"ensure_command: {{shell: '{WORK}', once_per: ever, background: true, timeout: 1s}}")
    user.run()
    grandchild = user.grandchild()
    until(lambda: user.state() == "failed")
    assert not is_alive(grandchild)
    assert "ended after 1 seconds" in user.call("status").stdout


def test_it_ends_as_one_when_it_is_asked_to(user: User) -> None:
    user.write(f"ensure_command: {{shell: 'trap \"\" TERM; {WORK}', once_per: ever, background: true}}")
    user.run()
    grandchild = user.grandchild()
    os.kill(user.pid(), signal.SIGTERM)
    until(lambda: user.state() == "failed")
    assert not is_alive(grandchild)
    assert "stopped" in user.call("status").stdout
    user.open()
    assert user.run()["changes"][0]["after"] == "it failed: stopped"
    until(lambda: user.state() == "ok")


def test_a_killed_one_is_started_again(user: User) -> None:
    user.write("ensure_command: {shell: 'echo started >> log; exec sleep 600', once_per: ever, background: true}")
    user.run()
    until(lambda: user.log() == ["started"])
    os.kill(user.pid(), signal.SIGKILL)  # the command dies with its keeper
    until(lambda: user.state() == "interrupted")
    assert "killed before its end; the next run starts it again" in user.call("status").stdout
    assert user.run()["changes"][0]["after"] == "it was killed before its end"
    until(lambda: user.log() == ["started"] * 2)
    os.kill(user.pid(), signal.SIGTERM)
    until(lambda: user.state() == "failed")


def test_nothing_is_started_beside_what_a_killed_keeper_left(user: User) -> None:
    user.write(f"ensure_command: {{shell: '{WORK}', background: true}}")
    user.run()
    grandchild = user.grandchild()
    os.kill(user.pid(), signal.SIGKILL)
    time.sleep(0.2)
    assert is_alive(grandchild)
    assert user.run()["status"] == "ok"
    assert user.log() == ["started"]
    os.kill(grandchild, signal.SIGKILL)
    until(lambda: user.state() == "interrupted")
    user.open()
    assert user.run()["status"] == "changed"
    until(lambda: user.log() == ["started", "started", "ended"])


def test_two_starts_at_once_are_one(machine: Machine, home: Path) -> None:
    task = EnsureCommand(shell="echo x >> log; until [ -e gate ]; do sleep 0.05; done", background=True)
    plan = task.plan(task.read(machine))
    with machine.reporting() as first:
        task.apply(plan, machine)
    with machine.reporting() as second:
        task.apply(plan, machine)
    assert first["pid"]
    assert second["pid"] is None
    (home / "gate").touch()
    until(lambda: [command.state for command in in_background(machine.home)] == ["ok"])
    assert (home / "log").read_text() == "x\n"


@pytest.mark.parametrize(
    ("parameters", "message", "cause"),
    [
        ({"argv": ["no-such-program"]}, "cannot run no-such-program", "the program does not exist"),
        ({"argv": ["./data"]}, "cannot run ./data", "Permission denied"),
        ({"argv": ["true"], "chdir": "/no/such"}, "cannot run a command in /no/such", "no such folder"),
    ],
)
def test_what_cannot_start_fails_at_once(
    machine: Machine, home: Path, parameters: dict[str, Any], message: str, cause: str
) -> None:
    (home / "data").write_text("")
    task = EnsureCommand(background=True, **parameters)
    with pytest.raises(TaskFailed, match=message) as caught:
        task.apply(task.plan(task.read(machine)), machine)
    assert cause in caught.value.cause
    assert in_background(machine.home) == []


def test_secrets_in_its_output_are_masked(machine: Machine) -> None:
    key = "first line of it\nsecond line of it"
    task = EnsureCommand(
        shell='echo "a $API_TOKEN b $PRIVATE_KEY"; head -c 70000 /dev/zero | tr "\\0" x; printf %s "$API_TOKEN"',
        environment={"API_TOKEN": "hunter2-xyz", "PRIVATE_KEY": key},
        background=True,
    )
    task.apply(task.plan(task.read(machine)), machine)
    until(lambda: [command.state for command in in_background(machine.home)] == ["ok"])
    (command,) = in_background(machine.home)
    text = Path(command.log).read_text()
    assert text.startswith(f"a {secrets.MASK} b {secrets.MASK}\n")
    assert text.endswith(secrets.MASK)
    texts = [path.read_text() for path in machine.home.rglob("*") if path.is_file()]
    assert not any("hunter2" in text or "line of it" in text for text in texts)


def test_a_long_output_is_bounded(machine: Machine) -> None:
    task = EnsureCommand(shell="yes 'a line of the output' | head -n 80000", background=True)
    task.apply(task.plan(task.read(machine)), machine)
    until(lambda: [command.state for command in in_background(machine.home)] == ["ok"])
    sizes = [path.stat().st_size for path in (machine.home / "commands").glob("*.log*")]
    assert len(sizes) == 2
    assert max(sizes) < 1_200_000


def test_no_log_keeps_its_text_and_its_output_out_of_everything(machine: Machine) -> None:
    task = EnsureCommand(shell="echo much to hide", background=True)
    with log.withholding(hidden=True):
        task.apply(task.plan(task.read(machine)), machine)
    until(lambda: [command.state for command in in_background(machine.home)] == ["ok"])
    (command,) = in_background(machine.home)
    assert command.record.command == "withheld by no_log"
    assert command.log == ""
    assert not any(b"hide" in path.read_bytes() for path in machine.home.rglob("*") if path.is_file())


def test_it_gives_way_and_leads_a_session_of_its_own(machine: Machine, home: Path) -> None:
    task = EnsureCommand(shell="nice > niceness; ps -o sid= -p $$ > session; echo $$ > pid", background=True)
    task.apply(task.plan(task.read(machine)), machine)
    until(lambda: [command.state for command in in_background(machine.home)] == ["ok"])
    assert int((home / "niceness").read_text()) == min(19, os.nice(0) + 10)
    assert (home / "session").read_text().strip() == (home / "pid").read_text().strip()

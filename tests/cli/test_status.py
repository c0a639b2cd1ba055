"""`nbprovision status` shows what is so: who is at work, who waits, who was interrupted, and how the last run ended."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from nbprovision.cli.status import Status
from nbprovision.report import activity
from nbprovision.report.progress import TEXT_FILE, correct_text
from tests.support.at_work import World, until

pytestmark = pytest.mark.sampled(2)


def test_nothing_ran_yet(world: World) -> None:
    assert world.status()["state"] == "never"
    assert world.text().startswith("never: no run has ended yet\n")


def test_a_run_at_work_and_its_end(world: World) -> None:
    run = world.begin(NBPROVISION_PHASE="on-create")
    until(lambda: world.status()["running"])
    status = world.status()
    assert status["state"] == "running"
    assert status["record"]["pid"] == run.pid
    assert status["record"]["hook"] == "on-create"
    assert "running: " in world.text()
    assert "1 of 2 tasks done" in world.text()
    world.open()
    run.communicate()
    text = world.text()
    assert text.startswith(f"ok: {world.playbook} (on-create, ")
    assert world.record()["status"] == 0


def test_a_failed_run_says_why(world: World) -> None:
    world.open()
    assert world.run("-e", "then=false", NBPROVISION_FALLBACK="playbook").returncode == 2
    text = world.text()
    assert text.startswith("failed: ")
    assert "status 2, with the last good playbook): ensure_command: Slow" in text
    assert world.record()["state"] == "failed"


def test_a_failed_bootstrap_is_not_hidden_by_the_last_success(world: World) -> None:
    world.open()
    assert world.run().returncode == 0
    world.write()
    assert world.status()["state"] == "failed"
    assert "failed: nbprovision 0.1.0 (on-start, " in world.text()
    assert "could not install nbprovision" in world.text()


def test_an_install_is_at_work_for_as_long_as_it_holds_its_lock(world: World) -> None:
    world.write(state="installing", status=None)
    with (world.home / "bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert world.status()["state"] == "installing"
    assert world.status()["state"] == "interrupted"


def test_a_process_id_that_another_program_has_now_is_no_run(world: World) -> None:
    run = world.begin()
    until(lambda: world.status()["running"])
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    for name in ("progress.json", "status.json"):
        path = world.home / name
        path.write_text(path.read_text().replace(f'"pid":{run.pid}', f'"pid":{os.getpid()}'))
    assert world.status()["state"] == "interrupted"
    assert world.status()["running"] is None
    assert "running: " not in world.text()


def test_a_killed_run_is_interrupted_until_the_next_one(world: World) -> None:
    world.open()
    assert world.run().returncode == 0
    (world.folder / "gate").unlink()
    (world.folder / "made").unlink()
    run = world.begin()
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert world.text().startswith(f"interrupted: {world.playbook}, since ")
    world.open()
    assert world.run().returncode == 0
    assert world.status()["state"] == "ok"


def test_a_lock_that_another_holds_by_now_does_not_revive_a_killed_run(world: World) -> None:
    run = world.begin()
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    killed = world.record()
    waiting = world.begin()
    world.write(**killed)
    assert world.status()["state"] == "interrupted"
    assert f"the lock is held by process {waiting.pid} (nbprovision run" in world.text()


def test_a_run_of_an_earlier_boot_is_interrupted_even_if_the_lock_is_held(world: World) -> None:
    world.write(state="running", status=None, boot="an earlier one")
    with (world.home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert world.status()["state"] == "interrupted"


def test_a_run_on_another_instance_with_the_same_home(world: World) -> None:
    """Its boot is another and its process id means nothing here; its lock is what counts."""
    world.write(state="running", status=None, boot="its own", host="ip-10-0-0-7", pid=1, playbook="/team.yml")
    with (world.home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert world.status()["state"] == "running"
        assert "process 1 on ip-10-0-0-7, on-start" in world.text()
        held = {"pid": 2**22 + 1, "command": "nbprovision run x", "since": 1.0, "host": "ip-10-0-0-7"}
        (world.home / "lock.holder").write_text(json.dumps(held))
        done = world.run("--lock-timeout", "0")
        assert done.returncode == 6
        assert f"held by process {2**22 + 1} on ip-10-0-0-7" in done.stderr
    assert world.status()["state"] == "interrupted"


def test_a_run_that_waits_for_the_lock_is_shown_beside_the_one_at_work(world: World) -> None:
    first = world.begin()
    second = world.start("run", str(world.playbook), "--no-witness")
    until(lambda: world.status()["waiting"])
    status = world.status()
    assert (status["state"], status["record"]["pid"]) == ("running", first.pid)
    assert [run["pid"] for run in status["waiting"]] == [second.pid]
    assert f"waiting: {world.playbook}, since " in world.text()
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
    assert world.status()["waiting"] == []
    world.open()
    first.communicate()
    world.run("--no-witness")
    assert list((world.home / "waiting").iterdir()) == []


def test_a_run_that_waits_for_other_work_than_a_run(world: World) -> None:
    world.home.mkdir()
    with (world.home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = world.start("run", str(world.playbook))
        until(lambda: world.status()["state"] == "waiting")
        assert world.text().startswith(f"waiting: {world.playbook}, since ")
        assert f"process {run.pid}" in world.text()


def test_a_failure_is_over_when_a_witnessed_run_has_ended_well(world: World) -> None:
    world.open()
    assert world.run().returncode == 0
    world.write()
    time.sleep(0.01)  # the log knows milliseconds
    assert "witnessed" in world.run("--check").stdout
    assert world.status()["state"] == "failed", "a check is not a run"
    before = (world.home / "status.json").read_bytes()
    assert "witnessed" in world.run().stdout
    assert (world.home / "status.json").read_bytes() == before, "the start-up path has nothing to do with it"
    assert world.text().startswith(f"ok: {world.playbook} (")
    world.write()
    assert world.status()["state"] == "failed"


def test_an_invalid_playbook_of_a_lifecycle_script_is_recorded_and_that_of_a_terminal_is_not(world: World) -> None:
    world.open()
    assert world.run().returncode == 0
    world.playbook.write_text("- tasks: [{ensure_kernle: {}}]\n")
    assert world.run().returncode == 4
    assert world.status()["state"] == "ok"
    assert world.run(NBPROVISION_PHASE="on-start", NBPROVISION_HOME=str(world.folder / "new")).returncode == 4
    assert world.run("--deadline", "60", NBPROVISION_PHASE="on-start").returncode == 4
    assert world.record()["state"] == "failed"
    assert "did you mean 'ensure_kernel'" in world.text()
    assert Status.of(world.folder / "new").state == "failed"


def test_what_tags_leave_out_is_shown_and_how_long_it_took(world: World) -> None:
    assert world.run("--skip-tags", "slow").returncode == 0
    text = world.text()
    assert "left out by --tags, --skip-tags or --start-at-task: Slow\n" in text
    assert f", {world.status()['last']['seconds']:.2f} s) " in text


def test_follow_prints_each_thing_once_until_all_has_ended(world: World) -> None:
    world.write(state="installing", status=None)
    lines: list[str] = []

    def wait_for(start: str) -> None:
        until(lambda: any(line.startswith(start) for line in lines))

    with (world.home / "bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        follow = world.start("status", "--follow")
        assert follow.stdout is not None
        reader = threading.Thread(target=lines.extend, args=(map(str.rstrip, follow.stdout),))
        reader.start()
        wait_for("installing: ")
        run = world.begin()
        wait_for("  running:  ensure_command: Slow")
    waiting = world.start("run", str(world.playbook))
    wait_for(f"waiting: {world.playbook}, ")
    world.open()
    reader.join(timeout=300)
    run.communicate()
    waiting.communicate()
    end = next(number for number, line in enumerate(lines) if line.startswith("ok: "))
    followed = lines[:end]
    assert len(set(followed)) == len(followed), lines
    assert followed[0].startswith("installing: nbprovision 0.1.0, since ")
    assert followed[1].startswith(f"running: {world.playbook}, since ")
    for line in ("  changed:  ensure_kernel: Quick", "  running:  ensure_command: Slow"):
        assert line in followed
    assert any(line.startswith(f"waiting: {world.playbook}, ") and str(waiting.pid) in line for line in followed)
    assert lines[-1].startswith("log: ")


@pytest.mark.parametrize("state", ["interrupted", "ok"])
def test_the_text_file_does_not_say_for_ever_that_a_killed_run_is_running(world: World, state: str) -> None:
    world.write(state="running" if state == "interrupted" else "ok", status=None)
    text = world.folder / TEXT_FILE
    text.write_text(f"running: {world.playbook}, 1 of 2 tasks done\nlog: {world.home}/log/nbprovision.log\n")
    status = Status.of(world.home)
    assert status.state == state
    correct_text(world.folder, world.folder / "another home", status.state, status.text())
    assert text.read_text().startswith("running: "), "another home's is left alone"
    correct_text(world.folder, world.home, status.state, status.text())
    assert text.read_text() == status.text() + "\n"
    assert text.read_text().startswith(f"{state}: ")


@pytest.fixture
def root_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    if os.getuid():
        pytest.skip("only root can write root's files")
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr(activity, "ROOT_FOLDER", folder)
    return folder


LINE = "nbprovision: {} changed=- failed=- version=0.1.0 hook=on-start\n"


def test_what_root_said_last_is_shown_where_it_is_more_than_the_record(world: World, root_folder: Path) -> None:
    world.write(state="ok", status=0)
    word = root_folder / "on-start"
    word.write_text(LINE.format("done status=0 seconds=3.2"))
    assert Status.of(world.home).word is None, "the record says as much"
    word.write_text(LINE.format("failed status=124 seconds=240.1"))
    status = Status.of(world.home)
    assert status.state == "failed"
    assert "the on-start script said (" in status.text()
    assert "failed status=124 seconds=240.1" in status.text()
    os.utime(word, (1, 1))
    assert Status.of(world.home).state == "ok", "the record is newer"
    os.utime(word)
    os.chown(word, 12345, 12345)
    assert Status.of(world.home).state == "ok", "it is not root's"


@pytest.mark.parametrize(
    ("record", "word", "state"),
    [
        ("running", "failed status=124", "interrupted"),
        ("failed", "done status=0", "ok"),
        ("ok", "skipped status=0", "skipped"),
        ("running", "background status=7", "interrupted"),
    ],
)
def test_the_record_and_the_word_of_root(world: World, root_folder: Path, record: str, word: str, state: str) -> None:
    world.write(state=record, status=None)
    (root_folder / "on-start").write_text(LINE.format(f"{word} seconds=1.0"))
    assert Status.of(world.home).state == state


DAMAGES = {
    "empty": lambda path: path.write_text(""),
    "cut": lambda path: path.write_text(path.read_text()[:40]),
    "nested without end": lambda path: path.write_bytes(b"[" * 60_000),
    "another state": lambda path: path.write_text(path.read_text().replace('"failed"', '"fine"')),
    "a moment without a calendar": lambda path: path.write_text(path.read_text().replace('"started": ', '"started": 9999')),
    "huge": lambda path: os.truncate(path, 16 << 30),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link": lambda path: (path.rename(path.with_name("x")), path.symlink_to("x")),
    "for all to write": lambda path: path.chmod(0o666),
    "another user's": lambda path: os.chown(path, 12345, 12345),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_record_that_cannot_be_believed_is_none_and_the_next_run_replaces_it(world: World, damage: str) -> None:
    if damage == "another user's" and os.getuid():
        pytest.skip("only root can give a file away")
    world.write()
    path = world.home / "status.json"
    DAMAGES[damage](path)
    assert world.status()["state"] == "never"
    world.open()
    assert world.run().returncode == 0
    if damage != "a folder":
        assert world.status()["record"]["state"] == "ok"
        assert path.stat().st_mode & 0o777 == 0o600


def test_schedules_are_shown(world: World) -> None:
    """Those of a keeper of the user's, as in Studio: here one that has ended."""
    folder = world.home / "schedules"
    folder.mkdir(parents=True)
    described = {"name": "report", "command": "make report", "every": 0, "at": "daily", "missed": False}
    (folder / "report.sh").write_text(f"#!/bin/sh\n# nbprovision schedule: {json.dumps(described)}\n")
    (folder / "report.json").write_text('{"started": 1700000000, "ended": 1700000060, "status": 2, "reason": ""}\n')
    (folder / "report.log").write_text("no rule to make target\n")
    (schedule,) = world.status()["schedules"]
    assert (schedule["name"], schedule["state"], schedule["last"]["status"]) == ("report", "failed", 2)
    assert schedule["keeper"] == 0
    text = world.text()
    assert "schedule report, daily: failed (2023-11-1" in text
    assert "exit status 2): make report\n" in text
    assert f"  {folder}/report.log\n" in text
    assert "nothing keeps it" in text

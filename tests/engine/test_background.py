"""Work that goes on when nobody waits any more: what it leaves to others, and where its end is reported."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from nbprovision.engine import background
from nbprovision.report.relay import Relay
from tests.support.at_work import World, until

pytestmark = pytest.mark.sampled(2)

LINE = re.compile(
    r"nbprovision: (done|failed) status=\d+ seconds=\d+\.\d changed=(\d+|-) failed=(\d+|-) version=\S+ hook=\S+ background=1"
)


def into_background(world: World, *words: str, **more: str) -> None:
    """Start a run, and come back when its caller has left."""
    caller = world.begin("--deadline", "2", *words, **more)
    output, _ = caller.communicate(timeout=300)
    assert caller.returncode == 7, output


def test_a_run_is_running_while_its_caller_waits_and_in_the_background_when_it_has_left(world: World) -> None:
    caller = world.begin("--deadline", "600")
    until(lambda: world.status()["running"])
    assert world.status()["state"] == "running"
    os.killpg(caller.pid, signal.SIGKILL)
    caller.wait()
    until(lambda: world.status()["state"] == "background")
    assert world.record()["pid"] != caller.pid
    assert "background: " in world.text()
    world.open()
    until(lambda: world.status()["state"] == "ok")
    assert "done status=0" in world.background_log()


def test_a_worker_that_is_killed_in_the_background_was_no_success(world: World) -> None:
    world.open()
    assert world.run().returncode == 0
    for name in ("gate", "made"):
        (world.folder / name).unlink()
    into_background(world)
    os.kill(world.record()["pid"], signal.SIGKILL)
    until(lambda: world.status()["state"] == "interrupted")
    assert world.text().startswith("interrupted: ")


def test_it_gives_way_to_others_and_dies_before_them(world: World) -> None:
    mine = int(Path("/proc/self/oom_score_adj").read_text())
    own = os.nice(0)
    caller = world.begin("--deadline", "600")
    assert int((world.folder / "niceness.before").read_text()) == own, "its caller waits"
    os.killpg(caller.pid, signal.SIGKILL)
    caller.wait()
    until(lambda: world.record()["state"] == "background")
    world.open()
    until((world.folder / "niceness.after").read_text)
    assert int((world.folder / "niceness.after").read_text()) == max(10, own), "a process that was at work already"
    assert int((world.folder / "score").read_text()) == max(500, mine)


def test_its_end_is_reported_to_the_log_and_to_the_command_of_the_administrator(world: World) -> None:
    command = 'printf "%s\\n" "$NBPROVISION_STATUS" "$NBPROVISION_RESULT" "$HOME" >"$HOME/finished"; echo told; exit 3'
    into_background(world, NBPROVISION_PHASE="on-start", NBPROVISION_ON_FINISH=command)
    assert "nbprovision: " not in world.background_log()
    world.open()
    finished = Path(world.env["HOME"]) / "finished"
    until(lambda: finished.read_text().count("\n") == 3)
    status, line, home = finished.read_text().splitlines()
    assert (status, home) == ("0", world.env["HOME"])
    assert LINE.fullmatch(line)
    assert line.startswith("nbprovision: done status=0 seconds=")
    assert " changed=2 failed=0 " in line
    assert line.endswith(" hook=on-start background=1")
    until(lambda: "told\n" in world.background_log())
    assert line in world.background_log().splitlines()
    assert world.status()["state"] == "ok", "what the command ends with changes nothing"


def test_the_seconds_count_from_the_start_of_the_lifecycle_script(world: World) -> None:
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    into_background(world, NBPROVISION_PHASE="on-start", NBPROVISION_STARTED=f"{uptime - 3:.2f}")
    world.open()
    until(lambda: LINE.search(world.background_log()))
    (seconds,) = re.findall(r"seconds=(\d+\.\d)", world.background_log())
    assert float(seconds) >= 3.0


def test_a_failure_in_the_background_is_reported_as_one(world: World) -> None:
    into_background(world, "-e", "then=false")
    world.open()
    until(lambda: LINE.search(world.background_log()))
    assert "nbprovision: failed status=2 " in world.background_log()
    assert " changed=1 failed=1 " in world.background_log()


def test_the_end_of_a_run_that_somebody_waits_for_is_theirs_to_report(world: World) -> None:
    world.open()
    done = world.run("--deadline", "600", NBPROVISION_ON_FINISH=f"touch {world.folder}/finished")
    assert done.returncode == 0
    assert world.background_log() == ""
    assert not (world.folder / "finished").exists()


def test_a_run_that_nobody_waits_for_from_the_start(world: World) -> None:
    """bootstrap.sh has used the time up; a deadline means nothing then."""
    world.open()
    done = world.run("--deadline", "1", NBPROVISION_BACKGROUND="1", NBPROVISION_PHASE="on-start")
    assert done.returncode == 0, done.stderr
    assert world.background_log().startswith("nbprovision: done status=0 ")
    assert int((world.folder / "niceness.before").read_text()) >= 10
    assert world.record()["state"] == "ok"
    assert "witnessed" in world.run(NBPROVISION_PHASE="on-start").stdout, "the next start is the same run"


def test_in_the_background_from_the_start_is_what_status_shows(world: World) -> None:
    world.begin(NBPROVISION_BACKGROUND="1")
    assert world.status()["state"] == "background"


def test_a_playbook_that_is_invalid_is_reported_when_nobody_waits(world: World) -> None:
    world.playbook.write_text("- tasks: [{ensure_kernle: {}}]\n")
    assert world.run(NBPROVISION_BACKGROUND="1").returncode == 4
    assert world.background_log().startswith("nbprovision: failed status=4 ")
    assert " changed=- failed=- " in world.background_log()


def test_a_command_of_the_administrator_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_PATIENCE", 0.5)
    monkeypatch.setenv("NBPROVISION_ON_FINISH", f"sleep 600 & echo $! >{tmp_path}/pid; wait")
    background.report_end(tmp_path, 0, 1.0)
    assert "ended after" in (tmp_path / "log/background.log").read_text()
    until(lambda: not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists())


@pytest.mark.skipif(
    not background._LOGGER.exists() or os.getuid() != 0 or os.path.lexists("/dev/log"),
    reason="needs the program logger, and the place of the system's log to be free",
)
def test_the_journal_hears_of_the_end(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind("/dev/log")
        try:
            journal.settimeout(30)
            background.report_end(tmp_path, 2, 12.34, {"counts": {"changed": 5, "failed": 1}})
            heard = journal.recv(4096).decode()
        finally:
            Path("/dev/log").unlink()
    assert "nbprovision: nbprovision: failed status=2 seconds=12.3 changed=5 failed=1 version=" in heard.replace(
        f"nbprovision[{os.getpid()}]", "nbprovision"
    )


def test_the_log_of_the_run_before_is_kept_and_has_an_end(world: World) -> None:
    into_background(world)
    world.open()
    until(lambda: LINE.search(world.background_log()))
    first = world.background_log()
    (world.folder / "made").unlink()
    assert world.run("--deadline", "600").returncode == 0
    assert first in world.background_log()
    with (world.home / "log/background.log").open("a") as log:
        log.write("x" * 3_000_000 + "\nthe last words\n")
    assert world.run("--deadline", "600", "--no-witness").returncode == 0
    older = world.home / "log/background.log.1"
    assert older.read_text().endswith("\nthe last words\n")
    assert older.stat().st_size == 1_000_000
    assert world.background_log() == ""


def test_a_full_pipe_and_a_reader_that_leaves_lose_no_end() -> None:
    reading, writing = os.pipe()
    relay = Relay(writing, ())
    relay.said("heard")
    os.read(reading, 4096)
    assert relay.delivered()
    relay.said("in the pipe when its reader leaves")
    os.close(reading)
    assert not relay.delivered()
    os.close(writing)


def test_a_lifecycle_script_does_not_wait_for_the_work_of_another(world: World) -> None:
    into_background(world, NBPROVISION_PHASE="on-create")
    first = world.record()["pid"]
    began = time.monotonic()
    second = world.run("--deadline", "600", "--no-witness", NBPROVISION_PHASE="on-start")
    assert second.returncode == 7, second.stderr
    assert time.monotonic() - began < 300, "half of what it may take"
    assert f"waiting for process {first}" in second.stderr
    status = world.status()
    assert (status["state"], status["record"]["pid"], status["record"]["hook"]) == ("background", first, "on-create")
    (waiting,) = status["waiting"]
    assert waiting["hook"] == "on-start"
    assert f"waiting: {world.playbook}, " in world.text()
    world.open()
    until(lambda: world.record()["pid"] == waiting["pid"] and world.record()["state"] == "ok")
    until(lambda: world.background_log().count("background=1") == 2)
    assert re.findall("hook=(\\S+)", world.background_log()) == ["on-create", "on-start"]


@pytest.mark.parametrize("who", ["a person waits", "a person works"])
def test_at_a_terminal_nothing_changes(world: World, who: str) -> None:
    """A person waits for lifecycle work, and a lifecycle script for a person's."""
    mine, others = {"NBPROVISION_PHASE": "on-start"}, {}
    if who == "a person waits":
        mine, others = others, mine
    world.begin(**others)
    done = world.run("--deadline", "600", "--no-witness", "--lock-timeout", "1", **mine)
    assert done.returncode == 6
    assert "held by process" in done.stderr


def test_a_check_neither_waits_for_a_run_nor_disturbs_it(world: World) -> None:
    run = world.begin(NBPROVISION_PHASE="on-start")
    until(lambda: world.status()["running"])
    log = world.home / "log/nbprovision.log"
    with log.open("a") as stream:
        stream.write("\n" * 3_000_000)
    before = {path: path.read_bytes() for path in world.home.rglob("*") if path.is_file()}
    for words in ((), ("--lock-timeout", "0"), ("--no-witness",), ("--deadline", "600")):
        done = world.run("--check", *words, NBPROVISION_PHASE="on-start")
        assert done.returncode == 0, done.stderr
        assert "ok=1 changed=1" in done.stdout
        assert done.stderr == ""
    after = {path: path.read_bytes() for path in world.home.rglob("*") if path.is_file()}
    journal = world.home / "journal"  # in which the run at work notes what it makes
    ignored = {log, journal, world.home / "progress.json", world.home / "log/background.log"}
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} <= ignored
    assert log.read_bytes().startswith(before[log])
    assert after[journal].startswith(before[journal])
    assert world.record()["pid"] == run.pid
    world.open()
    assert run.wait() == 0
    assert world.status()["state"] == "ok"


def test_a_check_leaves_the_record_alone(world: World) -> None:
    assert world.run("--check").returncode == 0
    assert world.status()["state"] == "never"
    assert re.search(r"last full run \d{8}-\d{6} \(--check\): changed", world.text())


def test_a_check_that_does_some_work_all_the_same_waits_as_any_run(world: World) -> None:
    world.begin()
    text = world.playbook.read_text().replace("name: Quick", "name: Quick\n      check_mode: false")
    other = world.folder / "other.yml"
    other.write_text(text)
    assert world.call("run", str(other), "--check", "--lock-timeout", "0").returncode == 6

"""``ensure_schedule`` in Studio: the user's own process keeps the schedule, alone, past the run, until it is removed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.engine.guard import Guard
from nbprovision.engine.step import Step, carry_out
from nbprovision.machine.machine import Machine
from nbprovision.model.result import Result
from nbprovision.services.ensure_schedule import EnsureSchedule
from nbprovision.services.schedule_record import Schedule, schedules
from tests.services.test_ensure_schedule import is_alive
from tests.support.at_work import until


class Space:
    """A space of Studio, by the folder that marks it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "root/var/log/studio").mkdir(parents=True)
        (folder / "user").mkdir()
        self.home = folder / "home"

    @property
    def machine(self) -> Machine:
        """The machine as a new run sees it."""
        env = {
            "HOME": str(self.folder / "user"), "PATH": "/usr/bin:/bin", "NBPROVISION_HOME": str(self.home),
            "NBPROVISION_PHASE": "on-start", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/of-the-space",
        }  # fmt: skip
        return Machine(env, root=self.folder / "root")

    def run(self, *, check: bool = False, **parameters: Any) -> Result:
        task = EnsureSchedule(name="report", **parameters)
        machine = self.machine
        return carry_out(
            Step(name="x", kind=task.kind(), task=task), machine, Guard([task], machine), check=check
        ).result

    def actions(self, **parameters: Any) -> list[str]:
        result = self.run(**parameters)
        assert result.error is None, result.error
        return [change.action for change in result.changes]

    @property
    def shown(self) -> Schedule:
        (entry,) = schedules(self.home, self.folder / "root")
        return entry

    def lines(self) -> list[str]:
        path = self.folder / "user/out"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Space]:
    space = Space(tmp_path)
    yield space
    space.run(state="absent")


def test_it_is_kept_past_the_run_and_by_one_process(space: Space) -> None:
    wanted = {
        "every": "1h",
        "shell": "echo $AWS_CONTAINER_CREDENTIALS_RELATIVE_URI $NBPROVISION_PHASE >> out",
        "missed": True,
    }
    assert space.run(check=True, **wanted).changes
    assert not space.home.joinpath("schedules").exists()
    assert space.actions(**wanted) == ["write", "start"]
    first = space.shown.keeper
    assert first
    assert os.getsid(first) != os.getsid(0)
    assert space.actions(**wanted) == []
    until(lambda: space.lines() == ["/of-the-space"])
    assert space.shown.keeper == first
    until(lambda: space.shown.state == "ok")
    last = space.shown.last
    assert last is not None
    assert space.shown.next == last.started + 3600
    below = space.shown.lines(str)[1:]
    assert any(f"kept by process {first}, which ends with the space and can be killed" in line for line in below)


def test_one_that_was_killed_is_started_again(space: Space) -> None:
    """It does not repeat what it has done."""
    wanted = {"every": "1h", "shell": "echo ran >> out", "missed": True}
    space.run(**wanted)
    until(lambda: space.shown.state == "ok")
    os.kill(space.shown.keeper or 0, signal.SIGKILL)
    until(lambda: space.shown.keeper == 0)
    assert "nothing keeps it" in space.shown.lines(str)[-1]
    assert space.shown.next is None
    assert space.actions(**wanted) == ["start"]
    time.sleep(6)
    assert space.lines() == ["ran"]


def test_a_change_reaches_the_keeper(space: Space) -> None:
    space.run(every="1h", shell="echo first >> out")
    keeper = space.shown.keeper
    assert space.actions(every="1h", shell="echo second >> out", missed=True) == ["write"]
    until(lambda: space.lines() == ["second"])
    assert space.shown.keeper == keeper


def test_removal_ends_the_keeper_and_its_command(space: Space) -> None:
    space.run(every="1h", shell="echo $$ >> out; setsid -f sleep 600; sleep 601", missed=True)
    until(space.lines)
    keeper, command = space.shown.keeper or 0, int(space.lines()[0])
    assert space.shown.state == "running"
    assert space.actions(state="absent") == ["remove"]
    assert not is_alive(keeper)
    assert not is_alive(command)
    assert schedules(space.home, space.folder / "root") == []
    assert space.actions(state="absent") == []


def test_a_signal_ends_the_keeper_and_its_command(space: Space) -> None:
    space.run(every="1h", shell="echo $$ >> out; sleep 601", missed=True)
    until(space.lines)
    os.kill(space.shown.keeper or 0, signal.SIGTERM)
    until(lambda: not is_alive(int(space.lines()[0])))
    until(lambda: space.shown.keeper == 0)
    assert space.shown.state == "failed"
    assert space.shown.last is not None
    assert space.shown.last.reason == "stopped"


def test_a_record_that_cannot_be_written_does_not_make_it_run_all_the_time(space: Space) -> None:
    (space.home / "schedules/report.json").mkdir(parents=True)
    space.run(every="1h", shell="echo ran >> out", missed=True)
    time.sleep(9)
    assert len(space.lines()) <= 1
    assert space.shown.keeper


def test_a_planted_link_is_not_followed(space: Space, tmp_path: Path) -> None:
    (space.home / "schedules").mkdir(parents=True)
    (space.home / "schedules/report.keeper").symlink_to(tmp_path / "elsewhere")
    result = space.run(every="1h", shell="true")
    assert result.status == "failed"
    assert not (tmp_path / "elsewhere").exists()
    (space.home / "schedules/report.keeper").unlink()

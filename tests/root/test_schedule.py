"""The schedules of root's program: what it writes and in which order it tells systemd, in a private folder of root's.

systemd itself is in tests/container/test_root_schedule.py; here its commands are only recorded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.root import schedule, tools
from nbprovision.services.ensure_schedule import EnsureSchedule

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that nobody else can change")


class Root:
    """A folder of root's in the place of /etc, and the commands that systemd was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: list[tuple[str, ...]] = []

    def systemctl(self, *words: str, seconds: float = 30) -> None:
        self.commands.append(words)
        wants = self.folder / "units/timers.target.wants"
        if words[0] == "enable":
            wants.mkdir(exist_ok=True)
            (wants / words[1]).symlink_to(f"../{words[1]}")
        if words[0] == "disable":
            (wants / words[2]).unlink(missing_ok=True)

    def is_enabled(self, unit: str, target: str, root: str) -> bool:
        return (self.folder / f"units/{target}.wants" / unit).is_symlink()

    def differences(self, task: EnsureSchedule) -> list[str]:
        return schedule.differences(dict(task.wanted()), "/")

    def bring_about(self, task: EnsureSchedule) -> list[str]:
        """The differences that are left."""
        schedule.bring_about(dict(task.wanted()))
        return self.differences(task)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Root]:
    folder = Path("/var/lib", f"nbprovision-test-{os.getpid()}-{time.monotonic_ns()}")
    folder.mkdir(mode=0o755)
    root = Root(folder)
    monkeypatch.setattr(schedule, "SCRIPTS", f"{folder}/schedules/")
    monkeypatch.setattr(schedule, "_UNITS", f"{folder}/units/")
    for name in ("systemctl", "is_enabled"):
        monkeypatch.setattr(tools, name, getattr(root, name))
    monkeypatch.setattr(tools, "need_systemd", lambda: None)
    yield root
    import shutil

    shutil.rmtree(folder)


def task(**parameters: Any) -> EnsureSchedule:
    return EnsureSchedule(**{"name": "report", "every": "1h", "argv": ["x"], **parameters})


def test_it_is_written_and_then_started(root: Root) -> None:
    assert len(root.differences(task())) == 3
    assert root.bring_about(task()) == []
    assert [words[0] for words in root.commands] == ["daemon-reload", "restart", "enable"]
    assert {
        path.stat().st_mode & 0o777 for path in root.folder.rglob("*") if path.is_file() and not path.is_symlink()
    } == {0o644}
    assert root.differences(task(every="2h")) == [
        f"write {root.folder}/schedules/report",
        f"write {root.folder}/units/nbprovision-schedule-report.timer",
    ]


def test_one_that_was_killed_before_the_timer_started(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*words: str, seconds: float = 30) -> None:
        raise tools.Trouble("killed")

    with monkeypatch.context() as patch:
        patch.setattr(tools, "systemctl", killed)
        with pytest.raises(tools.Trouble):
            root.bring_about(task())
    assert root.differences(task()) == ["start the timer"]
    assert root.bring_about(task()) == []


def test_absent(root: Root) -> None:
    absent = EnsureSchedule(name="report", state="absent")
    assert root.differences(absent) == []
    root.bring_about(task())
    root.commands.clear()
    assert len(root.differences(absent)) == 3
    assert root.bring_about(absent) == []
    assert root.commands == [
        ("disable", "--now", "nbprovision-schedule-report.timer"),
        ("stop", "nbprovision-schedule-report.service"),
        ("daemon-reload",),
    ]


def test_the_tools_home_is_that_of_the_script(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's program learns it from the lifecycle script, and a run of the user's from the machine."""
    monkeypatch.setenv("NBPROVISION_HOME", "/home/ec2-user/SageMaker/own home")
    root.bring_about(task())
    assert "\nhome='/home/ec2-user/SageMaker/own home'\n" in (root.folder / "schedules/report").read_text()
    monkeypatch.delenv("NBPROVISION_HOME")
    wanted = {**task().wanted(), "home": "/home/ec2-user/SageMaker/own home"}
    assert schedule.differences(wanted, "/") == []
    assert root.differences(task()) == [f"write {root.folder}/schedules/report"]


@pytest.mark.parametrize("place", ["schedules", "units"])
def test_a_planted_link_is_not_followed(root: Root, place: str) -> None:
    (root.folder / "theirs").mkdir()
    (root.folder / place).symlink_to(root.folder / "theirs")
    with pytest.raises(tools.Trouble):
        root.bring_about(task())
    assert not any((root.folder / "theirs").iterdir())


@pytest.mark.parametrize("name", ["script", "service", "timer"])
def test_a_link_in_the_place_of_a_file(root: Root, name: str) -> None:
    """It is a reason to do nothing, and what it names stays as it is."""
    root.bring_about(task())
    path = next(
        path
        for path in root.folder.rglob("*")
        if path.is_file() and path.name.endswith(name.replace("script", "report"))
    )
    target = root.folder / "target"
    target.write_text("kept")
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(tools.Trouble, match="is a link"):
        root.differences(task())
    assert target.read_text() == "kept"

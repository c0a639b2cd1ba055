"""The lock of a run in homes of every kind, and the marks of environments that several tasks change."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbprovision.engine import guard
from nbprovision.engine.guard import Guard, holder, run_lock
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import LockTimeout, NotBegun, TaskFailed
from nbprovision.model.result import Plan
from nbprovision.system import unfinished
from tests.engine.test_engine import EnsureNote


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a home folder one of a volume that is mounted read-only, as far as the lock has to do with it."""

    def make(home: Path) -> None:
        def refuse(folder: Path, *, mode: int = 0o755) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))

        monkeypatch.setattr(guard, "make_folder", refuse)

    return make


def test_a_read_only_home_in_which_nobody_ever_worked_needs_no_lock(
    read_only: Callable[[Path], None], tmp_path: Path
) -> None:
    read_only(tmp_path)
    with run_lock(tmp_path / "home", "a test", 0, print):
        assert not (tmp_path / "home").exists()


def test_a_lock_that_is_there_is_had_even_on_a_read_only_volume(
    read_only: Callable[[Path], None], tmp_path: Path
) -> None:
    """Who mounted it so may have another run at work on another mount of it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "lock").touch()
    read_only(home)
    with run_lock(home, "a test", 0, print), (home / "lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_another_fault_of_the_home_is_no_read_only_volume(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file\n")
    with (
        pytest.raises(TaskFailed, match="as the home of state, lock and log"),
        run_lock(tmp_path / "home", "a test", 0, print),
    ):
        pass


def test_who_has_the_lock_is_told_and_who_waits_gives_up_in_time(tmp_path: Path) -> None:
    told: list[str] = []
    with run_lock(tmp_path, "the first", None, print):
        with pytest.raises(LockTimeout) as caught, run_lock(tmp_path, "the second", 0.1, told.append):
            pass
        assert holder(tmp_path) is not None
    assert f"process {os.getpid()} (the first" in told[0]
    assert "(the first" in caught.value.cause
    assert holder(tmp_path) is None


def test_a_question_about_the_lock_keeps_no_run_from_it(tmp_path: Path) -> None:
    """`nbprovision status` and the start-up path share it for a moment."""
    told: list[str] = []
    with (tmp_path / "lock").open("w") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        answered = threading.Timer(0.1, fcntl.flock, (asking, fcntl.LOCK_UN))
        answered.start()
        with run_lock(tmp_path, "a test", 0, told.append) as alone:
            assert alone
        answered.join()
    assert told == []


def test_the_lock_of_a_run_and_that_of_the_start_up_path_exclude_each_other(tmp_path: Path) -> None:
    """One takes it by filelock, the other by flock(2): `state.witness.try_witnesses`."""
    with (
        run_lock(tmp_path, "a run", None, print),
        (tmp_path / "lock").open() as asking,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(asking, fcntl.LOCK_SH | fcntl.LOCK_NB)
    with (tmp_path / "lock").open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        with pytest.raises(LockTimeout), run_lock(tmp_path, "a run", 0.1, print):
            pass


def test_who_only_reads_goes_without_a_lock_that_is_held(tmp_path: Path) -> None:
    with run_lock(tmp_path, "a run", None, print):
        before = sorted(tmp_path.iterdir())
        with run_lock(tmp_path, "a check", None, print, reads=True) as alone:
            assert not alone
        assert sorted(tmp_path.iterdir()) == before
    with run_lock(tmp_path, "a check", None, print, reads=True) as alone:
        assert alone


def test_marks_of_another_run_stay_where_this_one_only_reads(prefix: Path, machine: Machine, tmp_path: Path) -> None:
    unfinished.mark(prefix, "ensure_note")
    machine.beside_a_run = True
    first, second = notes(prefix, tmp_path)
    kept = Guard([first, second], machine)
    kept.proven(first, machine)
    kept.proven(second, machine)
    assert unfinished.is_marked(prefix)


def test_what_a_killed_install_of_the_tool_left_is_tidied_up(tmp_path: Path) -> None:
    for slot in ("venv.1", "venv.2"):
        (tmp_path / slot / "bin").mkdir(parents=True)
    (tmp_path / "venv").symlink_to("venv.2")
    with run_lock(tmp_path, "a test", None, print, tidy=False):
        assert (tmp_path / "venv.1").exists()
    with run_lock(tmp_path, "a test", None, print):
        assert not (tmp_path / "venv.1").exists()
        assert (tmp_path / "venv.2/bin").exists()


@pytest.mark.parametrize("place", ["state", "cache/uv"])
def test_a_folder_of_the_home_that_is_a_link_elsewhere_is_refused(place: str, tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    (home / "cache").mkdir(parents=True)
    outside.mkdir()
    (home / place).symlink_to(outside)
    with (
        pytest.raises(TaskFailed, match="is a link that leads out of the home folder") as caught,
        run_lock(home, "a test", None, print),
    ):
        pass
    assert str(outside) in caught.value.cause


def test_a_link_in_the_place_of_a_file_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """Files are replaced, and links within the home are its own."""
    home, outside = tmp_path / "home", tmp_path / "a file of the user's"
    (home / "cache").mkdir(parents=True)
    outside.write_text("mine\n")
    (home / "lock.holder").symlink_to(outside)
    (home / "inner").symlink_to("cache")
    with run_lock(home, "a test", None, print):
        assert not (home / "lock.holder").is_symlink()
    assert outside.read_text() == "mine\n"


@pytest.fixture
def prefix(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "prefix"
    (folder / "conda-meta").mkdir(parents=True)
    yield folder
    assert (folder / "conda-meta").is_dir()


def notes(prefix: Path, folder: Path) -> tuple[EnsureNote, EnsureNote]:
    first, second = (EnsureNote(path=str(folder / name), prefix=str(prefix)) for name in ("a", "b"))
    return first, second


def test_a_suspect_environment_is_finished_when_the_last_task_has_proven_its_part(
    prefix: Path, machine: Machine, tmp_path: Path
) -> None:
    unfinished.mark(prefix, "ensure_note")
    first, second = notes(prefix, tmp_path)
    kept = Guard([first, second], machine)
    with kept.unfinished(first, Plan(), machine, lambda: True, print):
        pass
    assert unfinished.is_marked(prefix)
    kept.proven(second, machine)
    assert not unfinished.is_marked(prefix)


def test_the_second_task_looks_as_deep_as_the_first(prefix: Path, machine: Machine, tmp_path: Path) -> None:
    """That one has proven its own part only. What a killed py-rattler tried the file system with goes with the mark."""
    (prefix / ".refprobe-4ZsAvh").mkdir()
    unfinished.mark(prefix, "ensure_conda_env")
    first, second = notes(prefix, tmp_path)
    kept = Guard([first, second], machine)
    kept.proven(first, machine)
    assert prefix in machine.suspect
    assert (prefix / ".refprobe-4ZsAvh").exists()
    kept.proven(second, machine)
    assert not (prefix / ".refprobe-4ZsAvh").exists()
    assert not unfinished.is_marked(prefix)


def test_work_that_was_not_begun_leaves_an_environment_as_it_was(
    prefix: Path, machine: Machine, tmp_path: Path
) -> None:
    def refused(task: EnsureNote) -> None:
        with Guard([task], machine).unfinished(task, Plan(), machine, lambda: True, print):
            assert unfinished.is_marked(Path(str(task.prefix)))
            raise NotBegun("there is no room")

    there, _ = notes(prefix, tmp_path)
    new, _ = notes(tmp_path / "new", tmp_path)
    for task in (there, new):
        with pytest.raises(NotBegun):
            refused(task)
    assert not unfinished.is_marked(prefix)
    assert not (tmp_path / "new").exists()

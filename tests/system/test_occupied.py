"""The lock on an environment's folder: another run is another open folder, here as there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision.model.errors import LockTimeout
from nbprovision.system import occupied, unfinished


@contextlib.contextmanager
def another_run(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        os.close(handle)


def is_free(folder: Path) -> bool:
    try:
        with another_run(folder):
            return True
    except BlockingIOError:
        return False


@pytest.fixture
def told() -> list[str]:
    return []


def test_a_folder_is_kept_and_given_back_with_nothing_left_in_it(tmp_path: Path, told: list[str]) -> None:
    with occupied.alone([tmp_path], told.append):
        assert not is_free(tmp_path)
    assert is_free(tmp_path)
    assert list(tmp_path.iterdir()) == told == []


def test_tasks_of_one_run_share_it(tmp_path: Path, told: list[str]) -> None:
    with occupied.alone([tmp_path], told.append, 0), occupied.alone([tmp_path / ".", tmp_path], told.append, 0):
        assert not is_free(tmp_path)
    assert is_free(tmp_path)


def test_another_run_is_waited_for_and_told_of_once(tmp_path: Path, told: list[str]) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(another_run(tmp_path))
        threading.Timer(0.5, stack.pop_all().close).start()
        with occupied.alone([tmp_path], told.append, 60):
            assert told == [f"waiting for another run, which is working on {tmp_path}"]


def test_it_is_not_waited_for_longer_than_is_said(tmp_path: Path, told: list[str]) -> None:
    with (
        another_run(tmp_path),
        pytest.raises(LockTimeout, match="could not acquire the lock of") as raised,
        occupied.alone([tmp_path], told.append, 0.2),
    ):
        pass
    assert raised.value.exit_status == 6
    assert "--lock-timeout" in raised.value.cure


def test_of_several_folders_none_is_kept_where_one_cannot_be_had(tmp_path: Path, told: list[str]) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    with another_run(second), pytest.raises(LockTimeout), occupied.alone([second, first], told.append, 0):
        pass
    assert is_free(first)


def test_two_runs_do_not_make_the_same_folder(tmp_path: Path, told: list[str]) -> None:
    prefix = tmp_path / "envs/demo"
    with occupied.alone([prefix], told.append) as keep:
        assert not is_free(tmp_path)  # the nearest that is there
        unfinished.mark(prefix, "test", keep)
        assert not is_free(prefix)  # from its first moment
    assert is_free(tmp_path)
    assert is_free(prefix)


def test_what_another_run_made_meanwhile_is_kept_instead(tmp_path: Path, told: list[str]) -> None:
    prefix = tmp_path / "demo"
    with contextlib.ExitStack() as stack:
        stack.enter_context(another_run(tmp_path))
        held = stack.pop_all()

        def go_on() -> None:
            prefix.mkdir()
            held.close()

        other = threading.Timer(0.3, go_on)
        other.start()
        with occupied.alone([prefix], told.append, 60):
            assert not is_free(prefix)
            other.join()  # the folder is there before the other run has ended
            assert is_free(tmp_path)


def test_what_another_run_removed_meanwhile_is_not_kept(tmp_path: Path, told: list[str]) -> None:
    prefix = tmp_path / "demo"
    prefix.mkdir()
    with contextlib.ExitStack() as stack:
        stack.enter_context(another_run(prefix))
        held = stack.pop_all()

        def go_on() -> None:
            prefix.rmdir()
            held.close()

        threading.Timer(0.3, go_on).start()
        with occupied.alone([prefix], told.append, 60):
            assert not is_free(tmp_path)


def test_a_file_system_without_locks_is_no_obstacle(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(9, "Bad file descriptor")  # what NFS says of a folder

    monkeypatch.setattr(fcntl, "flock", flock)
    with occupied.alone([tmp_path], told.append, 0):
        pass

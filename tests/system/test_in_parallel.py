"""Work for several things at once."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nbprovision.system.context import in_parallel
from nbprovision.system.files import write_atomically

NOTE: contextvars.ContextVar[str] = contextvars.ContextVar("note", default="")


def test_they_are_at_work_at_once_and_keep_their_order() -> None:
    together = threading.Barrier(3, timeout=300)

    def work(number: int) -> int:
        together.wait()  # nobody gets past it alone
        return number * 2

    assert in_parallel(work, [1, 2, 3]) == [2, 4, 6]


def test_one_alone_needs_no_thread() -> None:
    here = threading.get_ident()
    assert in_parallel(lambda _: threading.get_ident(), ["one"]) == [here]
    assert in_parallel(str, []) == []


def test_the_first_failure_is_told_when_all_have_ended() -> None:
    ended = []

    def work(number: int) -> None:
        try:
            if number:
                raise ValueError(number)
        finally:
            ended.append(number)

    with pytest.raises(ValueError, match="1"):
        in_parallel(work, [1, 2, 0])
    assert sorted(ended) == [0, 1, 2]


def test_it_is_known_for_whom_they_work() -> None:
    NOTE.set("the caller")
    assert in_parallel(lambda _: NOTE.get(), [1, 2]) == ["the caller"] * 2


def test_uv_is_found_by_several_at_once() -> None:
    """Python's own sysconfig is not ready for two threads that ask it first; a slow start shows it every time."""
    code = """
import sysconfig, time
slow = sysconfig._init_posix
sysconfig._init_posix = lambda found: (time.sleep(0.2), slow(found))
from nbprovision.pip import uv_command
from nbprovision.system.context import in_parallel
from nbprovision.system.files import write_atomically
print(len(set(in_parallel(lambda _: uv_command._own(), range(4)))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_one_file_written_by_several_at_once(tmp_path: Path) -> None:
    """As tasks do that make the same file of constraints: each writes beside it, and the last one's stays."""
    path = tmp_path / "file"
    for _ in range(50):
        in_parallel(lambda number: write_atomically(path, f"{number}\n" * 1000, durable=False), range(4))
        assert path.read_text() in {f"{number}\n" * 1000 for number in range(4)}
    assert os.listdir(tmp_path) == ["file"]

"""Files of any size and kind are read whole and within bounds, without reserving memory for the largest one."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from nbprovision.system.reading import read_bytes


@pytest.mark.parametrize("size", [0, 1, 100, 1 << 14, (1 << 14) + 1, 100_000])
@pytest.mark.parametrize("most", [0, 99, 100, 1 << 14, 99_999, 100_000, 1 << 20])
def test_file_up_to_the_largest_size_is_read_and_no_larger_one(tmp_path: Path, size: int, most: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    if size <= most:
        assert read_bytes(path, most=most) == path.read_bytes()
    else:
        with pytest.raises(OSError, match="it has more than"):
            read_bytes(path, most=most)


@pytest.mark.parametrize("most", [3, 200, 50_000])
def test_growing_file_is_read_as_far_as_the_largest_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A file cannot be made to grow between the two calls, so the status of the file is taken before."""
    path = tmp_path / "file"
    path.write_bytes(b"ab")
    before = os.stat(path)
    monkeypatch.setattr("nbprovision.system.reading.os.fstat", lambda handle: before)
    path.write_bytes(b"ab" * 20_000)
    if most > 40_000:
        assert read_bytes(path, most=most) == b"ab" * 20_000
    else:
        with pytest.raises(OSError, match="it has more than"):
            read_bytes(path, most=most)


def test_kernel_file_without_a_size_is_read() -> None:
    """The kernel gives the value of this one only to the first read."""
    assert read_bytes("/proc/sys/kernel/pid_max") == Path("/proc/sys/kernel/pid_max").read_bytes()


def test_memory_is_reserved_for_the_file_only(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    read_bytes(path)
    tracemalloc.start()
    try:
        read_bytes(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()

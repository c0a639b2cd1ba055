"""Room: what engines say of a full disk, what a solve surely takes, marks that no work followed, a history cut off."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from nbprovision.conda import bookkeeping, health, solution
from nbprovision.conda.query import Package
from nbprovision.conda.records import all_details
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import NotBegun, TaskFailed
from nbprovision.system import disk_space, unfinished
from nbprovision.system.context import in_parallel


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("failed to unpack `x`: No space left on device (os error 28)", errno.ENOSPC),
        ("OSError: [Errno 28] No space left on device", errno.ENOSPC),
        ("NoSpaceLeftError: No space left on devices.", errno.ENOSPC),
        ("error: Disk quota exceeded (os error 122)", errno.EDQUOT),
        ("error: failed to create: Read-only file system (os error 30)", errno.EROFS),
        ("error: os error 13, permission denied", None),
        ("os error 280", None),
        ("", None),
    ],
)
def test_engines_words_are_understood(words: str, number: int | None) -> None:
    assert disk_space.write_error(words) == number


def test_an_explanation_stands_before_the_engines_words_and_spares_a_traceback(tmp_path: Path) -> None:
    said = (
        "ERROR: Exception:\nTraceback (most recent call last):\n  File x\nOSError: [Errno 28] No space left on device"
    )
    explained = disk_space.explain_output(said, tmp_path / "not/there")
    assert explained is not None
    cause, cure = explained
    assert cause.startswith("the disk is full: ")
    assert f"free at {tmp_path}" in cause
    assert cause.endswith("\nOSError: [Errno 28] No space left on device")
    assert "clean --dry-run" in cure
    assert disk_space.explain_output("all is well", tmp_path) is None


@pytest.mark.parametrize(("size", "text"), [(0, "0.0 MB"), (340_000, "0.3 MB"), (12e6, "12 MB"), (1.24e9, "1.2 GB")])
def test_sizes_are_told_for_a_person(size: float, text: str) -> None:
    assert disk_space.megabytes(size) == text


def record(prefix: Path, name: str, version: str) -> None:
    path = prefix / "conda-meta" / f"{name}-{version}-0.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"name": name, "version": version, "build": "0", "channel": "c", "subdir": "noarch", "files": []}
    path.write_text(json.dumps({**content, "url": f"https://c.example/c/noarch/{name}-{version}-0.conda"}))


def test_what_is_installed_or_in_a_cache_is_not_fetched(tmp_path: Path) -> None:
    prefix, cache = tmp_path / "env", tmp_path / "pkgs"
    record(prefix, "there", "1.0")
    (cache / "cached-1.0-0").mkdir(parents=True)
    packages = [Package(name, version, "0", size=10) for name, version in
                (("there", "1.0"), ("cached", "1.0"), ("cached", "2.0"), ("new", "1.0"))]  # fmt: skip
    assert solution.download(prefix, packages, [cache]) == 20
    solution.require_room(prefix, packages, [cache])


def test_what_surely_does_not_fit_is_refused_with_need_and_room(tmp_path: Path) -> None:
    with pytest.raises(NotBegun) as caught:
        solution.require_room(tmp_path / "env", [Package("vast", "1.0", "0", size=10**18)], [tmp_path / "pkgs"])
    assert caught.value.cause.startswith("the packages need at least 1000000000.0 GB")
    assert f"free at {tmp_path}" in caught.value.cause
    assert "clean --dry-run" in caught.value.cure
    assert list(tmp_path.iterdir()) == []


def test_a_check_tells_what_would_be_fetched(tmp_path: Path) -> None:
    packages = [Package("small", "1.0", "0", size=900_000)]
    assert solution.room_note(tmp_path / "env", packages, [tmp_path]) == ()
    [told] = solution.room_note(
        tmp_path / "env", [*packages, Package("large", "1.0", "0", size=30_100_000)], [tmp_path]
    )
    assert told.startswith("downloads 31 MB and takes more unpacked; ")
    assert told.endswith(f"are free at {tmp_path}")
    [told] = solution.room_note(tmp_path / "env", [Package("vast", "1.0", "0", size=10**18)], [tmp_path])
    assert told.endswith(": not enough space")


def test_a_mark_that_no_work_followed_goes_with_its_folder(tmp_path: Path) -> None:
    empty, begun = tmp_path / "empty", tmp_path / "begun"
    for prefix in (empty, begun):
        unfinished.mark(prefix, "a_task")
    (begun / "conda-meta").mkdir()
    for prefix in (empty, begun, tmp_path / "absent"):
        unfinished.withdraw(prefix)
    assert not empty.exists()
    assert unfinished.is_marked(begun)


def test_of_several_failures_one_that_began_is_told(tmp_path: Path) -> None:
    def work(error: Exception) -> None:
        raise error

    with pytest.raises(TaskFailed, match="half"):
        in_parallel(work, [NotBegun("no room"), TaskFailed("half done")])
    with pytest.raises(NotBegun):
        in_parallel(work, [NotBegun("no room"), NotBegun("no room")])


def test_the_history_tells_all_that_changed_since_it_was_told(machine: Machine, tmp_path: Path) -> None:
    """An update that was cut off has changed packages without a word; the next revision tells of these too."""
    prefix = tmp_path / "env"
    record(prefix, "apple", "1.0")
    record(prefix, "pear", "1.0")

    def tell() -> None:
        details = all_details(installed(prefix))
        bookkeeping.append_history(machine.conda, prefix, details.values())

    tell()
    (prefix / "conda-meta/apple-1.0-0.json").unlink()
    record(prefix, "apple", "2.0")
    assert health.history_lacks(prefix, installed(prefix))
    tell()
    assert not health.history_lacks(prefix, installed(prefix))
    last = (prefix / "conda-meta/history").read_text().rpartition("==>")[2].splitlines()
    assert [line.rpartition("::")[2] for line in last if line.startswith("-")] == ["apple-1.0-0"]
    assert [line.rpartition("::")[2] for line in last if line.startswith("+")] == ["apple-2.0-0"]

"""Two folders change their names in one step, on any file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbprovision.model.errors import TaskFailed
from nbprovision.system import files


@pytest.fixture
def old(tmp_path: Path) -> Path:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/file").write_text("old")
    return tmp_path / "old"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/file").write_text("new")
    return tmp_path / "new"


@pytest.mark.parametrize("supported", [True, False])
def test_both_folders_are_kept(old: Path, new: Path, monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    if not supported:
        monkeypatch.setattr(files, "_exchanged", lambda first, second: False)
    files.exchange(new, old)
    assert (old / "file").read_text() == "new"
    assert (new / "file").read_text() == "old"
    assert sorted(path.name for path in old.parent.iterdir()) == ["new", "old"]


def test_the_path_may_be_missing(new: Path, tmp_path: Path) -> None:
    files.exchange(new, tmp_path / "place")
    assert (tmp_path / "place/file").read_text() == "new"
    assert not new.exists()


@pytest.mark.parametrize("supported", [True, False])
def test_a_missing_folder_is_a_failure_that_changes_nothing(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    if not supported:
        monkeypatch.setattr(files, "_exchanged", lambda first, second: False)
    with pytest.raises(TaskFailed, match="cannot replace"):
        files.exchange(tmp_path / "none", old)
    assert (old / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]

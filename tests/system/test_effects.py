"""Every function that changes a path says so before: what a run wrote to the home is repeated after a restart."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nbprovision.system import effects, files


def _replace(path: Path) -> None:
    with files.replacing(path) as stream:
        stream.write(b"y")


# What each function is given in a folder with a file, a folder and a link, and the paths that it changes.
CHANGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "write_atomically": (lambda at: files.write_atomically(at / "new/a", "x"), {"new", "new/a"}),
    "copy_atomically": (lambda at: files.copy_atomically(at / "file", at / "copy"), {"copy"}),
    "copy_entries": (
        lambda at: files.copy_entries(at, at / "folder", without=re.compile("folder|second").fullmatch),
        {"folder/file", "folder/link"},
    ),
    "replacing": (lambda at: _replace(at / "file"), {"file"}),
    "link_atomically": (lambda at: files.link_atomically(at / "to", "file"), {"to"}),
    "make_folder": (lambda at: files.make_folder(at / "a/b"), {"a", "a/b"}),
    "move_into_place": (lambda at: files.move_into_place(at / "folder", at / "moved"), {"folder", "moved"}),
    "exchange": (lambda at: files.exchange(at / "folder", at / "second"), {"folder", "second"}),
    "remove": (lambda at: files.remove(at / "link"), {"link"}),
    "remove_at_once": (lambda at: files.remove_at_once(at / "folder"), {"folder"}),
    "remove_if_empty": (lambda at: files.remove_if_empty(at / "folder"), {"folder"}),
    "set_mode": (lambda at: files.set_mode(at / "file", 0o600), {"file"}),
}
# These create temporary files only, whose names the journal has, or hand on to the others.
TEMPORARY = {"make_temporary_folder", "nameless_file", "own_temporary_files", "temporary_folder", "temporary_beside"}
LOOKS = {"explained", "path_state", "read_text", "refused", "shown", "tree"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "second").mkdir()
    (tmp_path / "link").symlink_to("file")
    return tmp_path


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_noted(folder: Path, name: str) -> None:
    change, paths = CHANGES[name]
    with effects.recorded() as outer, effects.recorded() as inner:
        change(folder)
    noted = {path for path in inner.before if "nbprovision-tmp" not in path}
    assert noted == {str(folder / path) for path in paths}
    assert inner.before == outer.before


def test_every_function_that_changes_something_is_tried() -> None:
    functions = {
        name for name, member in inspect.getmembers(files, inspect.isfunction)
        if member.__module__ == files.__name__ and not name.startswith("_")
    }  # fmt: skip
    assert functions == CHANGES.keys() | TEMPORARY | LOOKS


def test_the_state_before_the_first_change_counts(folder: Path) -> None:
    with effects.recorded() as made:
        files.write_atomically(folder / "file", "y")
        files.write_atomically(folder / "file", "z")
        files.write_atomically(folder / "new", "a")
        files.remove(folder / "new")
    states = {Path(path).name: state for path, state in made.before.items()}
    assert states["new"] == effects.MISSING
    (folder / "file").write_text("x")
    assert states["file"] == effects.state_of(str(folder / "file"))


def test_only_concerned_paths_are_recorded(folder: Path) -> None:
    with effects.recorded(lambda path: path.endswith("/a")) as made:
        files.write_atomically(folder / "a", "")
        files.write_atomically(folder / "b", "")
    assert list(made.before) == [str(folder / "a")]


def test_states_tell_kind_mode_owner_and_content_apart(folder: Path) -> None:
    (folder / "other").write_text("y")
    (folder / "mode").write_text("x")
    (folder / "mode").chmod(0o600)
    (folder / "link2").symlink_to("other")
    (folder / "large").write_bytes(b"\0" * (effects.LARGEST + 1))
    names = ("file", "other", "mode", "folder", "link", "link2", "missing", "file/below")
    states = {name: effects.state_of(str(folder / name)) for name in names}
    assert states.pop("missing") == states.pop("file/below") == effects.MISSING
    assert len(set(states.values())) == len(states)
    assert effects.state_of(str(folder / "large")) == effects.UNKNOWN

"""What of an environment is copied, and what the copy's records say, where packages are unlike most."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from nbprovision.conda.clone import clone
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.system import unfinished

PLACEHOLDER = "/placeholder" * 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    prefix = tmp_path / "old"
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "lib").mkdir()
    return prefix


def record(prefix: Path, name: str, files: dict[str, bytes], paths: list[dict[str, Any]] | None) -> None:
    for path, content in files.items():
        (prefix / path).write_bytes(content)
    said: dict[str, Any] = {"name": name, "version": "1.0", "build": "0", "files": list(files)}
    if paths is not None:
        said["paths_data"] = {"paths_version": 1, "paths": paths}
    (prefix / f"conda-meta/{name}-1.0-0.json").write_text(json.dumps(said))


def records(prefix: Path) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in (prefix / "conda-meta").glob("*.json")}


def test_a_prefix_is_renamed_in_text_only_where_a_package_says_so(
    source: Path, machine: Machine, tmp_path: Path
) -> None:
    """A binary that is said to name it as text is copied as it is: nobody knows how long a string there may be."""
    old, new = os.fsencode(source), os.fsencode(tmp_path / "new")
    files = {"lib/text": b"at " + old + b"/lib\n", "lib/odd": b"\0" + old + b"/lib\0", "lib/plain": b"no prefix\n"}
    paths = [
        {"_path": name, "path_type": "hardlink", "prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
        for name in files
    ]
    record(source, "a", files, [*paths, {"path_type": "softlink"}])  # an entry that names no file is of no use
    clone(machine, source, tmp_path / "new")
    target = tmp_path / "new"
    assert (target / "lib/text").read_bytes() == b"at " + new + b"/lib\n"
    assert (target / "lib/odd").read_bytes() == files["lib/odd"]
    (text, odd, plain) = records(target)["a-1.0-0.json"]["paths_data"]["paths"]
    assert text["sha256_in_prefix"] == hashlib.sha256((target / "lib/text").read_bytes()).hexdigest()
    assert "sha256_in_prefix" not in odd | plain


def test_records_of_old_conda_and_other_files_beside_them_are_copied(
    source: Path, machine: Machine, tmp_path: Path
) -> None:
    record(source, "old", {"lib/a": b"a"}, None)
    for name in ("pinned", "state", "history", "a-folder/x"):
        (source / "conda-meta" / name).parent.mkdir(exist_ok=True)
        (source / "conda-meta" / name).write_text(f"{name}\n")
    clone(machine, source, tmp_path / "new")
    target = tmp_path / "new"
    assert records(target)["old-1.0-0.json"] == records(source)["old-1.0-0.json"]
    assert sorted(path.name for path in (target / "conda-meta").iterdir()) == ["old-1.0-0.json", "pinned", "state"]


def test_what_is_no_file_of_an_environment_is_left_behind(
    source: Path, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe, a socket, the mark of work on the original; links stay links."""
    record(source, "a", {"lib/a": b"a"}, [{"_path": "lib/a", "path_type": "hardlink"}])
    unfinished.mark(source, "ensure_pip_pkg")
    os.mkfifo(source / "lib/pipe")
    (source / "folder").symlink_to("lib")
    (source / "absolute").symlink_to(source / "lib/a")
    (source / f"lib/{unfinished.MARK}").touch()
    monkeypatch.chdir(source / "lib")  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        clone(machine, source, tmp_path / "new")
    target = tmp_path / "new"
    assert sorted(path.name for path in (target / "lib").iterdir()) == ["a"]
    assert not unfinished.is_marked(target)
    assert os.readlink(target / "folder") == "lib"
    assert os.readlink(target / "absolute") == str(target / "lib/a")


def test_a_damaged_record_is_mended_first(source: Path, machine: Machine, tmp_path: Path) -> None:
    (source / "conda-meta/a-1.0-0.json").write_text('{"name": ')
    with pytest.raises(TaskFailed, match=f"cannot copy {source}") as caught:
        clone(machine, source, tmp_path / "new")
    assert "a-1.0-0.json is damaged" in caught.value.cause
    assert not (tmp_path / "new").exists()

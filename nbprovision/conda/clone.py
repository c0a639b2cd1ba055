"""Copies a conda environment to another prefix from its own records and files, without a cache, channel or index.

Images have no package cache, and the volume is another file system, which cannot share files by hard links. Therefore
files are copied. If they contain the old prefix (conda's records list those files, as text or binary), it is replaced
by the new one. pip's packages are copied too, as by ``conda create --clone``.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.conda.health import placing
from nbprovision.machine.caches import PROBE
from nbprovision.machine.distributions import DIST_INFO
from nbprovision.machine.environments import MADE_BY_US, META
from nbprovision.model.errors import NotBegun, TaskFailed
from nbprovision.system.disk_space import FREE_SOME, free_space, megabytes
from nbprovision.system.files import explained, make_folder, make_temporary_folder, remove, write_atomically
from nbprovision.system.reading import read_json
from nbprovision.system.unfinished import MARK

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

# The other environments and the caches of an installation that is an environment itself.
_NOT_ITS_OWN = ("envs", "pkgs", "conda-bld", META, MARK)
# The copy gets its own history, and its own mark of who made it.
_NOT_COPIED = ("history", MADE_BY_US)
_TEXT_LIMIT = 1_000_000  # bytes; scripts and configuration files with their prefix are small
_RESERVE = 50_000_000  # bytes


def clone(machine: Machine, source: Path, target: Path) -> None:
    """Copy the environment at ``source`` to ``target``. Its records come last, and make it an environment.

    Args:
        machine: The machine, which reports the progress.
        source: The environment; nothing in it changes.
        target: The folder, which may contain the files of an interrupted copy.

    Raises:
        TaskFailed: the disk is full, or a file cannot be read or written.

    """
    with explained(f"cannot copy {source} to {target}", target):
        _Copy(machine, source, target).perform()


class _Copy:
    def __init__(self, machine: Machine, source: Path, target: Path) -> None:
        self._machine = machine
        self._source = source
        self._target = target
        self._old = os.fsencode(source)
        self._new = os.fsencode(target)
        self._records = {path.name: _read(path) for path in sorted((source / META).glob("*.json"))}
        self._tracked = {
            entry["_path"]: entry for record in self._records.values() for entry in _entries(record) if "_path" in entry
        }

    def perform(self) -> None:
        files = list(_files(self._source))
        self._check_room(files)
        make_folder(self._target)
        changed: set[str] = set()
        done, size = 0, sum(status.st_size for _, status in files)
        for name, status in files:
            if self._put(name, status):
                changed.add(name)
            done += status.st_size
            self._machine.progress(f"copying {self._source.name} to {self._target.name}", done, size)
        self._correct_lists(name for name, _ in files)
        self._put_records(changed, {name for name, _ in files})

    def _check_room(self, files: list[tuple[str, os.stat_result]]) -> None:
        need = sum(status.st_size for name, status in files if not os.path.lexists(self._target / name))
        space = free_space(self._target)
        if need + _RESERVE > space.free:
            raise NotBegun(
                f"not enough space for a copy of {self._source.name} in {space.folder}",
                cause=f"it takes {megabytes(need)}, and {megabytes(space.free)} are free",
                cure=FREE_SOME,
            )

    def _put(self, name: str, status: os.stat_result) -> bool:
        """Copy one file, and return whether it contains the new prefix now."""
        source, target = self._source / name, self._target / name
        make_folder(target.parent)
        remove(target)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(self._renamed(os.fsencode(os.readlink(source))), os.fsencode(target))
            return False
        entry = self._tracked.get(name)
        binary = entry is not None and entry.get("file_mode") == "binary"
        if (entry is None and status.st_size <= _TEXT_LIMIT) or (entry is not None and entry.get("prefix_placeholder")):
            content = source.read_bytes()
            if self._old in content and not name.endswith(".pyc"):  # Python corrects paths in these by itself
                text = b"\0" not in content
                if text or binary:
                    write_atomically(
                        target,
                        self._renamed(content) if text else self._renamed_in_binary(content, name, entry or {}),
                        mode=stat.S_IMODE(status.st_mode),
                        durable=False,
                    )
                    return True
        shutil.copy2(source, target)
        return False

    def _renamed(self, text: bytes) -> bytes:
        return re.sub(re.escape(self._old) + rb"(?![A-Za-z0-9_.-])", lambda match: self._new, text)

    def _renamed_in_binary(self, content: bytes, name: str, entry: dict[str, Any]) -> bytes:
        """The content with the new prefix; each string keeps its position and length, and zeros fill it up.

        The zeros come from the placeholder that the package was built with, which is longer than usual prefixes.
        """
        longest = len(entry.get("prefix_placeholder") or "")

        def replaced(match: re.Match[bytes]) -> bytes:
            text = self._renamed(match[1])
            if len(self._new) > longest or len(text) >= len(match[0]):
                raise TaskFailed(
                    f"{self._target} is too long for a copy of {self._source}",
                    cause=f"{name} has space for {longest} bytes",
                    cure="give a shorter prefix or name",
                )
            return text.ljust(len(match[0]), b"\0")

        return re.sub(rb"(" + re.escape(self._old) + rb"[^\0]*)\0+", replaced, content)

    def _correct_lists(self, names: Iterator[str]) -> None:
        """Correct size and digest in pip's RECORD for files that contain the new prefix now."""
        for name in names:
            if not name.endswith(f"{DIST_INFO}/RECORD") or name in self._tracked:
                continue
            path = self._target / name
            rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
            corrected = [self._corrected(row, path.parent.parent) for row in rows]
            if corrected != rows:
                text = io.StringIO(newline="")
                csv.writer(text, lineterminator="\n").writerows(corrected)
                write_atomically(path, text.getvalue(), durable=False)

    def _corrected(self, row: list[str], folder: Path) -> list[str]:
        if len(row) != 3 or not row[1].startswith("sha256=") or not row[2]:
            return row
        path = folder / row[0]
        try:
            same = path.stat().st_size == int(row[2])
            if same and not (row[0].startswith("..") or row[0].endswith(DIST_INFO + "/direct_url.json")):
                return row
            content = path.read_bytes()
        except (OSError, ValueError):
            return row
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        return [row[0], f"sha256={digest}", str(len(content))]

    def _put_records(self, changed: set[str], copied: set[str]) -> None:
        """Write the records of the copy, without files that the original lacks."""
        folder = make_temporary_folder(self._target / META)
        os.chmod(folder, 0o755)
        for path in (self._source / META).iterdir():
            if path.is_file() and path.name not in _NOT_COPIED and path.name not in self._records:
                shutil.copy2(path, folder / path.name)
        for name, record in self._records.items():
            record["files"] = [path for path in record.get("files", []) if path in copied]
            entries = [entry for entry in _entries(record) if entry.get("_path") in copied]
            for entry in entries:
                if entry["_path"] in changed:
                    content = (self._target / entry["_path"]).read_bytes()
                    entry["sha256_in_prefix"] = hashlib.sha256(content).hexdigest()
            if "paths_data" in record:
                record["paths_data"]["paths"] = entries
            write_atomically(folder / name, msgspec.json.format(msgspec.json.encode(record), indent=2), durable=False)
        os.rename(folder, self._target / META)


def _files(prefix: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file and link in an environment, by its relative path."""
    for place, folders, names in os.walk(prefix):
        if place == os.fspath(prefix):
            folders[:] = [name for name in folders if name not in _NOT_ITS_OWN and not name.startswith(PROBE)]
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in (*names, *links):
            if name == MARK:
                continue
            path = os.path.join(place, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                yield os.path.relpath(path, prefix), status


def _read(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path, dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise TaskFailed(
            f"cannot copy {path.parents[1]}",
            cause=f"its record {path.name} is damaged: {error}",
            cure="repair it first",
        ) from error
    placed = placing(record.get("files", []))
    for entry in _entries(record):
        if "_path" in entry:
            entry["_path"] = placed(entry["_path"])
    return record


def _entries(record: dict[str, Any]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = (record.get("paths_data") or {}).get("paths") or []
    return entries

"""Keeps a conda package out whose files would not lie in the environment that it is linked into.

The engine takes a package's own list of files by its word: ``share/../../x`` is written beside the environment, and
a package may bring a link to elsewhere and another one a file below it. It asks nobody before it links; so what is
refused is taken from the cache, where the engine then finds nothing to link.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from nbprovision.facts.conda_files import placing
from nbprovision.facts.inside import leading_out
from nbprovision.model.errors import TaskFailed
from nbprovision.system.files import read_text, remove, write_atomically
from nbprovision.system.reading import read_bytes, read_json

# In an unpacked package: the SHA-256 of the archive that it was unpacked from.
MARK = "info/nbprovision-sha256"
_DEEPEST = 40  # links that lead to links, as the kernel counts them


class _Entry(msgspec.Struct, frozen=True):
    path: str = msgspec.field(name="_path")


class _Paths(msgspec.Struct, frozen=True):
    paths: list[_Entry]


class _Content(NamedTuple):
    """What a package brings, by places in an environment.

    Attributes:
        refused: The file of its list that is outside of any environment; empty for none.
        files: Of each folder that gets files one of them.
        ways: These folders, and those that they lie in.
        links: What each link says.

    """

    refused: str
    files: Mapping[str, str]
    ways: frozenset[str]
    links: Mapping[str, str]


class Gate:
    """Looks at each package before it is linked.

    Args:
        prefixes: The folders that must hold all files.
        cache: Where the engine unpacks packages.
        stems: ``NAME-VERSION-BUILD`` of what may come, by name.
        python: Version of the environment's Python, which tells where pure Python packages go; empty without one.
        marks: SHA-256 of the archives that were looked at, by name: what was unpacked from them is marked.

    Raises:
        TaskFailed: a version or build of the channel's index is a path; the engine would unpack the package there.

    """

    def __init__(
        self,
        prefixes: Iterable[Path],
        cache: Path,
        stems: dict[str, str],
        python: str,
        marks: Mapping[str, str] | None = None,
    ) -> None:
        for stem in stems.values():
            if "/" in stem or "\0" in stem:
                raise TaskFailed(
                    f"the package {stem[:200]!r} is not installed",
                    cause="its version or build in the channel's index is a path",
                    cure="do not trust the channel, and name another one",
                )
        self._prefixes = tuple(prefixes)
        self._cache = cache
        self._stems = stems
        self._marks = marks or {}
        self._libraries = f"lib/python{'.'.join(python.split('.')[:2])}/site-packages/" if python else ""
        self._links: dict[str, str] = {}
        self._files: dict[str, str] = {}  # the package, by a folder that files of it lie in
        self._ways: set[str] = set()  # these folders, and those that they lie in
        self._lock = threading.Lock()  # the engine links side by side
        self._refused: TaskFailed | None = None

    def check(self, name: str) -> None:
        """Look at the package ``name``, which is in the cache by now, and take it from there where it must not pass."""
        stem = self._stems.get(name)
        if stem is None:
            return
        folder = self._cache / stem
        with self._lock:
            fault = self._fault(name, folder) if folder.is_dir() else f"it is not in {folder}, where it should be"
            if fault:
                self._refused = self._refused or TaskFailed(
                    f"the package {stem} is not installed",
                    cause=fault,
                    cure="put a folder in the place of a link; where it is the package's own list that leads out, do "
                    "not trust its channel, and name another one",
                )
                remove(folder)
            elif name in self._marks:
                _mark(folder, self._marks[name])

    def require(self) -> None:
        """Tell of what was refused.

        Raises:
            TaskFailed: a package was.

        """
        if self._refused is not None:
            raise self._refused

    def _fault(self, name: str, folder: Path) -> str:
        try:
            content = _content(folder, self._libraries, _identity(folder))
        except (OSError, ValueError, msgspec.DecodeError) as error:
            return f"its list of files cannot be read: {error}"
        if content.refused:
            return f"it lists the file {content.refused[:200]!r}, which is outside of the environment"
        for prefix in self._prefixes:
            for place in leading_out(prefix, prefix, content.files.values()):
                return f"a folder in {prefix} is a link: a file of the package would be written to {place}"
        for directory in content.files:
            self._files.setdefault(directory, name)
        self._ways |= content.ways
        self._links |= content.links
        if not self._ways.isdisjoint(self._links):  # else nothing lies where a link leads
            for directory, owner in self._files.items():
                if self._leads_out(directory):
                    return (
                        f"a file of {owner} would be written to {directory[:200]}, which is a link out of the "
                        "environment"
                    )
        return ""

    def _leads_out(self, directory: str) -> bool:
        """Whether the links that packages bring lead from a folder of the environment to elsewhere."""
        ahead = directory.split("/")[::-1]
        behind: list[str] = []
        followed = 0
        while ahead:
            part = ahead.pop()
            if part == "..":
                if not behind:
                    return True
                behind.pop()
            elif part not in ("", "."):
                behind.append(part)
                target = self._links.get("/".join(behind))
                if target is not None:
                    followed += 1
                    if target.startswith("/") or followed > _DEEPEST:
                        return True
                    behind.pop()
                    ahead += target.split("/")[::-1]
        return False


def _mark(folder: Path, digest: str) -> None:
    with contextlib.suppress(TaskFailed, OSError):  # no room: it is unpacked again the next time
        if (read_text(folder / MARK) or "").strip() != digest:
            write_atomically(folder / MARK, digest + "\n", durable=False)


@functools.cache  # environments that are made side by side are often made of the same packages
def _content(folder: Path, libraries: str, identity: tuple[int, ...]) -> _Content:  # noqa: ARG001 - see _identity
    """Read what a package in the cache brings, for a Python whose packages are in ``libraries``."""
    placed = placing([libraries] if libraries else [])
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    for path in _listed(folder):
        if "\0" in path or path.startswith("/") or ".." in path.split("/"):
            return _Content(path, {}, frozenset(), {})
        target = placed(path)
        files.setdefault(os.path.dirname(target), target)
        source = os.path.join(folder, path)
        if os.path.islink(source):
            links[os.path.normpath(target)] = os.readlink(source)
    ways = {way for directory in files for way in _ways(os.path.normpath(directory))}
    return _Content("", files, frozenset(ways), links)


def _identity(folder: Path) -> tuple[int, ...]:
    """What tells that a package was unpacked anew, or its list written anew."""
    found: list[int] = []
    for path in (folder, folder / "info/paths.json", folder / "info/files"):
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(path)
            found += (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
    return tuple(found)


def _ways(directory: str) -> Iterator[str]:
    """A folder, and those that it lies in."""
    while directory not in ("", "."):
        yield directory
        directory = os.path.dirname(directory)


def _listed(folder: Path) -> Iterator[str]:
    """The files of an unpacked package; old ones have a plain list."""
    paths = folder / "info/paths.json"
    if os.path.lexists(paths):
        yield from (entry.path for entry in read_json(paths, _Paths).paths)
    else:
        yield from filter(None, read_bytes(folder / "info/files").decode().splitlines())

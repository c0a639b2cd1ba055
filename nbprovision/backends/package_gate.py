"""Keeps a conda package out whose files would not lie in the environment that it is linked into.

The engine takes a package's own list of files by its word: ``share/../../x`` is written beside the environment, and
a package may bring a link to elsewhere and another one a file below it. It asks nobody before it links; so what is
refused is taken from the cache, where the engine then finds nothing to link.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from nbprovision.facts.conda_files import in_package, placing
from nbprovision.facts.inside import leading_out
from nbprovision.model.errors import TaskFailed
from nbprovision.system.files import remove
from nbprovision.system.reading import read_bytes, read_json

_DEEPEST = 40  # links that lead to links, as the kernel counts them


class _Entry(msgspec.Struct, frozen=True):
    path: str = msgspec.field(name="_path")


class _Paths(msgspec.Struct, frozen=True):
    paths: list[_Entry]


class Gate:
    """Looks at each package before it is linked.

    Args:
        prefixes: The folders that must hold all files.
        cache: Where the engine unpacks packages.
        stems: ``NAME-VERSION-BUILD`` of what may come, by name.
        python: Version of the environment's Python, which tells where pure Python packages go; empty without one.

    Raises:
        TaskFailed: a version or build of the channel's index is a path; the engine would unpack the package there.

    """

    def __init__(self, prefixes: Iterable[Path], cache: Path, stems: dict[str, str], python: str) -> None:
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
        self._placed = placing([f"lib/python{'.'.join(python.split('.')[:2])}/site-packages/"] if python else [])
        self._links: dict[str, str] = {}
        self._files: dict[str, str] = {}  # the package, by a folder that files of it lie in
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

    def require(self) -> None:
        """Tell of what was refused.

        Raises:
            TaskFailed: a package was.

        """
        if self._refused is not None:
            raise self._refused

    def _fault(self, name: str, folder: Path) -> str:
        try:
            paths = list(_listed(folder))
        except (OSError, ValueError, msgspec.DecodeError) as error:
            return f"its list of files cannot be read: {error}"
        for path in paths:
            if "\0" in path or path.startswith("/") or ".." in path.split("/"):
                return f"it lists the file {path[:200]!r}, which is outside of the environment"
        placed = {path: self._placed(path) if in_package(path) else path for path in paths}
        for prefix in self._prefixes:
            for place in leading_out(prefix, prefix, placed.values()):
                return f"a folder in {prefix} is a link: a file of the package would be written to {place}"
        for path, target in placed.items():
            self._files.setdefault(os.path.dirname(target), name)
            source = folder / path
            if source.is_symlink():
                self._links[os.path.normpath(target)] = os.readlink(source)
        for directory, owner in self._files.items():
            if self._leads_out(directory):
                return (
                    f"a file of {owner} would be written to {directory[:200]}, which is a link out of the environment"
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


def _listed(folder: Path) -> Iterator[str]:
    """The files of an unpacked package; old ones have a plain list."""
    paths = folder / "info/paths.json"
    if os.path.lexists(paths):
        yield from (entry.path for entry in read_json(paths, _Paths).paths)
    else:
        yield from filter(None, read_bytes(folder / "info/files").decode().splitlines())

"""What a removed distribution leaves behind that Python would still import.

Installers remove the files that a RECORD lists. What Python compiled since then keeps a package's folder in place, and
a folder without ``__init__.py`` is a namespace package (PEP 420): its import succeeds, which misleads an application
that tries an import to learn whether it has a package.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from nbprovision.machine import distributions
from nbprovision.model.errors import TaskFailed
from nbprovision.system.files import remove, remove_if_empty

_CACHE = "__pycache__"


class Traces(NamedTuple):
    """Where distributions have their files, noted before they go.

    Attributes:
        top: The folder that they are installed into.
        entries: Its entries that they have a part in.
        folders: Folders of their files, in it.

    """

    top: Path
    entries: frozenset[str]
    folders: frozenset[Path]


def traces(folder: Path, dist_infos: Iterable[Path]) -> Traces:
    """Where distributions have their files, by their RECORDs.

    Args:
        folder: The folder that they are installed into.
        dist_infos: Their own folders in it.

    """
    recorded = (os.path.normpath(name) for path in dist_infos for name in distributions.recorded(path))
    names = [name for name in recorded if not name.startswith(("..", os.sep))]
    entries = (name.split(os.sep)[0] if os.sep in name else _CACHE for name in names)
    top = Path(os.path.realpath(folder))
    return Traces(top, frozenset(entries), frozenset(top / os.path.dirname(name) for name in names if os.sep in name))


def tidy(folder: Path | None) -> None:
    """Remove compiled files below a folder for distributions whose source is gone, and folders that this empties."""
    if folder is not None:
        _tidy(Path(os.path.realpath(folder)), [Path(os.path.realpath(folder))])


def tidy_traces(places: Traces) -> None:
    """The same where the folder may hold more than distributions; folders that were theirs and are empty go as well."""
    _tidy(places.top, [places.top / name for name in places.entries])
    for folder in sorted(places.folders, key=lambda place: len(place.parts), reverse=True):
        remove_empty(folder, places.top)


def _tidy(top: Path, starts: Iterable[Path]) -> None:
    """What this user may not remove stays, such as files that root's Python has compiled."""
    caches = [place for start in starts for place, _, _ in os.walk(start) if os.path.basename(place) == _CACHE]
    for cache in sorted(caches, key=len, reverse=True):
        with contextlib.suppress(OSError, TaskFailed):
            sources = set(os.listdir(os.path.dirname(cache)))
            for name in os.listdir(cache):
                if not _has_source(name, sources):
                    remove(Path(cache, name))
        remove_empty(Path(cache), top)


def remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder if it is empty, and then those above it that are; never ``top`` nor what lies outside of it."""
    while top in folder.parents:
        if os.path.lexists(folder):
            if folder.is_symlink() or not folder.is_dir():
                return
            remove_if_empty(folder)
            if folder.is_dir():
                return
        folder = folder.parent


def _has_source(name: str, sources: set[str]) -> bool:
    """Whether a file of a cache is of one of the sources: ``NAME.TAG.pyc`` (PEP 3147), and what others keep there."""
    words = name.split(".")
    return any(".".join(words[:number]) + ".py" in sources for number in range(1, len(words)))


def remove_distribution(prefix: Path, dist_info: Path) -> None:
    """Remove a distribution that pip installed, by its RECORD, and folders that this empties.

    Nothing outside ``prefix`` is touched. What Python has compiled is left to `tidy`.

    The format: https://packaging.python.org/specifications/recording-installed-packages/
    """
    inside = os.path.realpath(prefix) + os.sep
    folder = os.path.realpath(dist_info.parent)
    parents: set[Path] = set()
    for name in distributions.recorded(dist_info):
        if os.path.isabs(name):
            continue
        path = os.path.normpath(os.path.join(folder, name))
        parent = os.path.realpath(os.path.dirname(path)) + os.sep
        # A RECORD lists files: a folder in it is no reason to remove what others have there.
        if parent.startswith(inside) and (os.path.islink(path) or not os.path.isdir(path)):
            remove(Path(path))
            parents.add(Path(parent))
    remove(dist_info)
    for parent_folder in sorted(parents, key=lambda place: len(place.parts), reverse=True):
        remove_empty(parent_folder, Path(folder if Path(folder) in parent_folder.parents else inside))

"""Changes to the files of installed packages: removal of distributions and of their remains, repair of shared files.

Installers remove the files that a RECORD lists. The files that Python compiled meanwhile keep a package's folder in
place, and a folder without ``__init__.py`` is a namespace package (PEP 420). Its import succeeds, which misleads an
application that imports a package to test whether it is installed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from nbprovision.machine import distributions
from nbprovision.machine.distributions import SharedFile
from nbprovision.model.errors import TaskFailed
from nbprovision.system.files import explained, read_text, remove, remove_if_empty, temporary_beside, write_atomically
from nbprovision.system.log import event

_CACHE = "__pycache__"


class Traces(NamedTuple):
    """The places of distributions' files, collected before their removal.

    Attributes:
        top: The folder that they are installed into.
        entries: The entries of it that hold files of theirs.
        folders: The folders in it that hold files of theirs.

    """

    top: Path
    entries: frozenset[str]
    folders: frozenset[Path]


def traces(folder: Path, dist_infos: Iterable[Path]) -> Traces:
    """The places of distributions' files, by their RECORDs.

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
    """Remove compiled files without a source below a folder of distributions, and folders that this empties."""
    if folder is not None:
        top = Path(os.path.realpath(folder))
        _tidy(top, [top])


def tidy_traces(places: Traces) -> None:
    """The same for a folder that may hold more than distributions; their own empty folders are removed as well."""
    _tidy(places.top, [places.top / name for name in places.entries])
    _remove_all_empty(places.folders, places.top)


def _tidy(top: Path, starts: Iterable[Path]) -> None:
    """Files that this user may not remove stay, such as those that root's Python has compiled."""
    caches = [place for start in starts for place, _, _ in os.walk(start) if os.path.basename(place) == _CACHE]
    for cache in sorted(caches, key=len, reverse=True):
        with contextlib.suppress(OSError, TaskFailed):
            sources = set(os.listdir(os.path.dirname(cache)))
            for name in os.listdir(cache):
                if not _has_source(name, sources):
                    remove(Path(cache, name))
        remove_empty(Path(cache), top)


def remove_compiled(prefix: Path, files: Iterable[str]) -> None:
    """Remove what Python has compiled from sources that are about to be replaced or removed.

    Python takes a compiled file for that of the new source if both sources have the same size and time (PEP 552). In
    packages that are built reproducibly, all files have one time.

    Args:
        prefix: The environment.
        files: Paths of a package's files below it; compiled files among them stay.

    """
    listed = set(files)
    sources: dict[str, set[str]] = {}
    for file in listed:
        if file.endswith(".py"):
            folder, name = os.path.split(file)
            sources.setdefault(folder, set()).add(name)
    for folder, names in sources.items():
        cache = prefix / folder / _CACHE
        # Files that this user may not remove stay.
        with contextlib.suppress(OSError, TaskFailed):
            for name in os.listdir(cache):
                if f"{folder}/{_CACHE}/{name}" not in listed and _has_source(name, names):
                    remove(cache / name)
            remove_if_empty(cache)  # an engine keeps a folder that is not empty


def _has_source(name: str, sources: set[str]) -> bool:
    """Whether a cached file belongs to one of the sources: ``NAME.TAG.pyc`` (PEP 3147), and files of other tools."""
    words = name.split(".")
    return any(".".join(words[:number]) + ".py" in sources for number in range(1, len(words)))


def remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder if it is empty, and then the empty ones above it; never ``top``, nor any folder outside it."""
    while top in folder.parents:
        if os.path.lexists(folder):
            if folder.is_symlink() or not folder.is_dir():
                return
            remove_if_empty(folder)
            if folder.is_dir():
                return
        folder = folder.parent


def _remove_all_empty(folders: Iterable[Path], top: Path) -> None:
    for folder in sorted(folders, key=lambda place: len(place.parts), reverse=True):
        remove_empty(folder, top)


def remove_distribution(prefix: Path, dist_info: Path) -> None:
    """Remove a distribution that pip installed, by its RECORD, and folders that this empties.

    Files outside ``prefix`` stay. `tidy` removes compiled files.

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
        # A RECORD lists files: a folder in it may hold files of other packages, and stays.
        if parent.startswith(inside) and (os.path.islink(path) or not os.path.isdir(path)):
            remove(Path(path))
            parents.add(Path(parent))
    remove(dist_info)
    top = Path(folder)
    _remove_all_empty((parent for parent in parents if top in parent.parents), top)
    _remove_all_empty((parent for parent in parents if top not in parent.parents), Path(inside))


def set_record(dist_info: Path, name: str, content: bytes | None) -> None:
    """Replace a file of a distribution's ``.dist-info`` folder, and its row in RECORD.

    Args:
        dist_info: The folder.
        name: The file's name; if the distribution does not have it, nothing happens.
        content: The new content; None to remove the file.

    """
    import base64
    import csv
    import hashlib
    import io

    path, listed = dist_info / name, f"{dist_info.name}/{name}"
    if not path.exists():
        return
    rows = [row for row in csv.reader((read_text(dist_info / "RECORD") or "").splitlines()) if row]
    if content is None:
        rows = [row for row in rows if row[0] != listed]
    else:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows = [[listed, f"sha256={digest}", str(len(content))] if row[0] == listed else row for row in rows]
        write_atomically(path, content, mode=0o644, durable=False)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(dist_info / "RECORD", text.getvalue(), mode=0o644)
    if content is None:
        path.unlink()


def mend(shared: Iterable[SharedFile]) -> None:
    """Put the repaired file in the place of the harmed one in every environment that shares it.

    A file is replaced, in one step, only if it still is the harmed inode.

    Raises:
        TaskFailed: a file cannot be written.

    """
    for file, elsewhere in shared:
        with explained(f"cannot mend {elsewhere}"):
            if not file.is_file() or not elsewhere.parent.is_dir():
                continue
            temporary = temporary_beside(elsewhere)
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            try:
                os.link(file, temporary)
            except OSError:  # another file system, or too many links
                shutil.copy2(file, temporary)
            os.replace(temporary, elsewhere)
        event("mended", path=str(elsewhere), reason="shared by hard link with a file that was harmed")

"""The engines' caches: their content, their limit, and temporary files of killed engines.

The limit keeps the caches from filling a volume of 5 GB. If an environment shares a package's files by hard links, its
removal from the cache frees nothing. A killed engine never removes its temporary files itself.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from nbprovision.machine.environments import names_in
from nbprovision.machine.machine import CACHE_BESIDE
from nbprovision.model.errors import TaskFailed, UsageError
from nbprovision.system import inputs
from nbprovision.system.disk_space import files_below, space_taken, space_used
from nbprovision.system.files import remove
from nbprovision.system.log import event
from nbprovision.system.reading import read_json

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

Kind = Literal["conda package", "Python package", "wheel", "index"]

LIMIT = "NBPROVISION_CACHE_LIMIT"
_SHARE = 5  # the caches may take a fifth of the volume
_MOST = 5_000_000_000  # bytes
_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>[KMGT]?)(?P<binary>i?)B?", re.IGNORECASE)
# Folders of uv's cache: unpacked wheels; sources and their builds; answers of indexes. The other files are small and
# point to these (https://docs.astral.sh/uv/concepts/cache/).
_UNPACKED = "archive-v"
_SOURCES = ("sdists-v", "builds-v", "git-v", "environments-v")
_ANSWERS = "simple-v"
_POINTING = ("wheels-v", "sdists-v")
_POINTER_LIMIT = 16_384  # bytes
_WORD = re.compile(rb"[A-Za-z0-9_-]{16,}")


_BLOCKS = 4096  # bytes: a file of a package takes whole blocks of a file system


class _File(msgspec.Struct, frozen=True):
    """An entry of a conda package's list of files."""

    path_type: str = "hardlink"
    size_in_bytes: Annotated[int, msgspec.Meta(ge=0)] | None = None

    @property
    def blocks(self) -> int:
        """The blocks that it takes; raises ValueError if the list leaves its size out."""
        if self.size_in_bytes is None and self.path_type == "hardlink":
            raise ValueError("a file without a size")
        return -(-(self.size_in_bytes or 0) // _BLOCKS)


class _Files(msgspec.Struct, frozen=True):
    """The file ``info/paths.json`` of a conda package."""

    paths: list[_File]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A package in a cache, or an answer of an index.

    Attributes:
        kind: The kind of content.
        path: Its file or folder.
        beside: Files to remove with it, and before it: the lock of a conda package; uv's pointers to it, because uv
            follows them without a check.
        own: Bytes that its removal frees.
        shared: Bytes of it that environments share, which its removal does not free.
        used: The time of its last link into an environment or unlink from one, else of its writing, in seconds since
            the epoch. The kernel records each as a change of the file.

    """

    kind: Kind
    path: Path
    beside: tuple[Path, ...] = ()
    own: int
    shared: int
    used: float


def folders(machine: Machine) -> list[Path]:
    """The existing caches of this tool: in its home, and beside environments on other file systems."""
    beside = {environment.prefix.parent / CACHE_BESIDE for environment in machine.conda.environments()}
    return [folder for folder in (machine.cache, *sorted(beside)) if os.path.isdir(folder)]


def names(machine: Machine) -> set[str]:
    """The names of the packages in the caches: a package that a run adds has a new one."""
    return {
        name
        for cache in folders(machine)
        for part in [cache / "pkgs", *_children(cache / "wheels"), *_children(cache / "uv")]
        for name in names_in(part)
    }


def entries(cache: Path) -> list[Entry]:
    """Everything in one of the tool's caches that can be fetched again.

    A file with several names in the cache counts for the first entry that has one. Files that vanish meanwhile do not
    count.
    """
    listed = [(kind, path, beside, list(files_below(os.fspath(path)))) for kind, path, beside in _places(cache)]
    names_inside = collections.Counter(
        _inode(status) for *_, statuses in listed for status in filter(_is_linked, statuses)
    )
    result = []
    for kind, path, beside, statuses in listed:
        own = shared = 0
        used = 0.0
        for status in statuses:
            if not _is_linked(status):
                own += space_taken(status)
            elif names := names_inside.pop(_inode(status), 0):  # counted with the first of its names
                taken = space_taken(status)
                own, shared = (own, shared + taken) if status.st_nlink > names else (own + taken, shared)
            if not stat.S_ISDIR(status.st_mode):
                used = max(used, status.st_ctime)
        result.append(Entry(kind=kind, path=path, beside=beside, own=own, shared=shared, used=used))
    return result


def _is_linked(status: os.stat_result) -> bool:
    """Whether it is a file with several names."""
    return status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode)


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def limit(env: Mapping[str, str], cache: Path) -> int:
    """The bytes that a cache may hold, without files that environments share.

    ``NBPROVISION_CACHE_LIMIT`` (``800MB``, ``2 GB``, ``1.5GiB``, bytes), else a fifth of the file system, 5 GB at most.

    Raises:
        UsageError: the variable is not a size.

    """
    text = env.get(LIMIT, "").strip()
    if not text:
        volume = os.statvfs(cache)
        return min(volume.f_blocks * volume.f_frsize // _SHARE, _MOST)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"{LIMIT} is not a size: '{text[:40]}'", cure="write for example 800MB, 2GB, or 0")
    thousand = 1024 if match["binary"] else 1000
    return int(float(match["number"]) * thousand ** " KMGT".index(match["unit"].upper() or " "))


_Place = tuple[Kind, Path, tuple[Path, ...]]


def _places(cache: Path) -> Iterator[_Place]:
    for path in _children(cache / "pkgs"):
        if not path.name.startswith(".") and not path.name.endswith(".lock"):
            lock = path.with_name(f"{path.name}.lock")
            yield "conda package", path, (lock,) if lock.exists() else ()
    yield from _places_of_uv(cache / "uv")
    for folder in _children(cache / "wheels"):
        yield from (("wheel", path, ()) for path in _children(folder) if path.suffix == ".whl")
    yield from (("index", path, ()) for path in _children(cache / "repodata") if not path.name.startswith("."))


def _places_of_uv(cache: Path) -> Iterator[_Place]:
    folders = _children(cache)
    unpacked = [path for folder in folders if folder.name.startswith(_UNPACKED) for path in _children(folder)]
    pointers = _pointers(folders, {path.name.encode() for path in unpacked})
    yield from (("Python package", path, tuple(pointers[path.name.encode()])) for path in unpacked)
    for folder in folders:
        if folder.name.startswith(_SOURCES):
            yield from (("Python package", path, ()) for path in _children(folder) if not path.name.startswith("."))
        elif folder.name.startswith(_ANSWERS):
            yield from (("index", path, ()) for index in _children(folder) for path in _children(index))


def _pointers(folders: list[Path], names: set[bytes]) -> dict[bytes, list[Path]]:
    """The small files and links of uv's cache that point to an unpacked wheel, by the name of its folder."""
    pointers: dict[bytes, list[Path]] = {name: [] for name in names}
    for folder in folders:
        for place, subfolders, files in os.walk(folder) if folder.name.startswith(_POINTING) else ():
            for name in [*files, *subfolders]:
                path = Path(place, name)
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    if stat.S_ISLNK(status.st_mode):
                        content = os.fsencode(os.path.basename(os.readlink(path)))
                    elif stat.S_ISREG(status.st_mode) and 0 < status.st_size <= _POINTER_LIMIT:
                        content = path.read_bytes()
                    else:
                        continue
                    for target in names & set(_WORD.findall(content)):
                        pointers[target].append(path)
    return pointers


def _children(folder: Path) -> list[Path]:
    return [folder / name for name in names_in(folder)]


def trim(machine: Machine) -> int:
    """Remove entries until each cache is within its limit: unshared ones first, then by their last use.

    Files that environments share take no space of their own, and do not count.

    Returns:
        The freed bytes.

    """
    freed = 0
    for cache in folders(machine):
        most = limit(machine.env, cache)
        # Simpler to know than its unshared files are all that the file system holds, and all files of the cache.
        if space_used(cache) <= most or _size(cache) <= most:
            continue
        kept = entries(cache)
        excess = sum(entry.own for entry in kept) - most
        for entry in sorted(kept, key=lambda entry: (entry.shared > 0, entry.used)):
            if excess <= 0:
                break
            with contextlib.suppress(TaskFailed):  # the next run tries again
                for path in (*entry.beside, entry.path):
                    remove(path)
                event("trimmed", kind=entry.kind, path=str(entry.path), bytes=entry.own)
                excess -= entry.own
                freed += entry.own
    return freed


def _size(cache: Path) -> int:
    """The bytes that the files in a cache take, shared ones too."""
    size = 0
    for kind, path, _ in _places(cache):
        listed = _listed_size(path) if kind == "conda package" else None
        size += listed or 0
        # A package's list leaves its folder `info` out.
        size += sum(map(space_taken, files_below(os.fspath(path if listed is None else path / "info"))))
    return size


def _listed_size(package: Path) -> int | None:
    """The bytes that the files of an unpacked conda package take by its own list; None without a complete one.

    To read the lists takes a twentieth of the time of a look at each file.
    """
    try:
        with inputs.unrecorded():
            return sum(entry.blocks for entry in read_json(package / "info/paths.json", _Files).paths) * _BLOCKS
    except (OSError, ValueError):  # msgspec's errors are of this kind, too
        return None


# The temporary names of both engines (Rust's tempfile crate: `.tmp` and random letters). They lie at the top of a cache
# or of a part of it, so the folders of packages need no search.
_PATTERNS = ("uv/.tmp*", "uv/*/.tmp*", "pkgs/.tmp*", "repodata/.tmp*")
PROBE = ".refprobe-"  # py-rattler's test file for reflinks


def remove_probes(prefix: Path) -> None:
    """Remove test files of a killed py-rattler from an environment; the caller holds the lock of the environment.

    Raises:
        TaskFailed: a file cannot be removed.

    """
    for path in prefix.glob(f"{PROBE}*"):
        remove(path)


def remove_leftovers(cache: Path) -> None:
    """Remove temporary files of killed engines; the caller holds the lock of the tool's home.

    Args:
        cache: The tool's own caches. One that the user configured belongs to other programs too, and is not touched.

    Raises:
        TaskFailed: a file cannot be removed.

    """
    for pattern in _PATTERNS:
        for path in cache.glob(pattern):
            remove(path)

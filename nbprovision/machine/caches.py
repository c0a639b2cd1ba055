"""What lies in the engines' caches, how they are kept within their limit, and what killed engines leave in them.

Removing a package whose files an environment shares by hard links frees nothing: both take the space once. The
limit keeps the caches from filling a volume of 5 GB. A killed engine never removes its temporary files itself.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from nbprovision.machine.machine import CACHE_BESIDE
from nbprovision.model.errors import TaskFailed, UsageError
from nbprovision.system.disk_space import files_below, space_taken
from nbprovision.system.files import remove
from nbprovision.system.log import event

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

Kind = Literal["conda package", "Python package", "wheel", "index"]

LIMIT = "NBPROVISION_CACHE_LIMIT"
_SHARE = 5  # the caches may hold this part of the volume
_MOST = 5_000_000_000  # bytes
_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>[KMGT]?)(?P<binary>i?)B?", re.IGNORECASE)
# Of uv's cache: unpacked wheels; sources and what was built of them; answers of indexes. The rest is small, and
# leads to these (https://docs.astral.sh/uv/concepts/cache/).
_UNPACKED = "archive-v"
_SOURCES = ("sdists-v", "builds-v", "git-v", "environments-v")
_ANSWERS = "simple-v"
_POINTING = ("wheels-v", "sdists-v")
_POINTER_LIMIT = 16_384  # bytes
_WORD = re.compile(rb"[A-Za-z0-9_-]{16,}")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A package in a cache, or an answer of an index.

    Attributes:
        kind: What it is.
        path: Its file or folder.
        beside: What goes with it, and before it: the lock of a conda package; what makes uv look for it, as uv does not
            ask whether it is there.
        own: Bytes that removing it frees.
        shared: Bytes of it that environments share, which removing it does not free.
        used: When it was last linked into an environment or unlinked from one (or else was written), in seconds since
            the epoch: the kernel notes either as a change of the file.

    """

    kind: Kind
    path: Path
    beside: tuple[Path, ...] = ()
    own: int
    shared: int
    used: float


def folders(machine: Machine) -> list[Path]:
    """The caches of this tool that are there: in its home, and beside environments on other file systems."""
    beside = {one.prefix.parent / CACHE_BESIDE for one in machine.conda.environments()}
    return [folder for folder in (machine.cache, *sorted(beside)) if os.path.isdir(folder)]


def entries(cache: Path) -> list[Entry]:
    """All that is in one of the tool's caches and can be fetched again.

    A file with several names in the cache counts for the first entry that has one. What vanishes meanwhile counts for
    nothing.
    """
    looks = [(kind, path, beside, _look(path)) for kind, path, beside in _places(cache)]
    inside: collections.Counter[tuple[int, int]] = collections.Counter()
    for *_, files in looks:
        inside.update(file.inode for file in files)
    counted: set[tuple[int, int]] = set()
    found = []
    for kind, path, beside, files in looks:
        own = shared = 0
        for file in files:
            if file.names > inside[file.inode]:
                shared += file.taken if file.inode not in counted else 0
            elif file.inode not in counted:
                own += file.taken
            counted.add(file.inode)
        used = max((file.changed for file in files if not file.folder), default=0.0)
        found.append(Entry(kind=kind, path=path, beside=beside, own=own, shared=shared, used=used))
    return found


def limit(env: Mapping[str, str], cache: Path) -> int:
    """How many bytes a cache may hold that no environment shares.

    ``NBPROVISION_CACHE_LIMIT`` (``800MB``, ``2 GB``, ``1.5GiB``, bytes), else a fifth of the file system, 5 GB at most.

    Raises:
        UsageError: the variable is not a size.

    """
    text = env.get(LIMIT, "").strip()
    if not text:
        found = os.statvfs(cache)
        return min(found.f_blocks * found.f_frsize // _SHARE, _MOST)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"{LIMIT} is not a size: '{text[:40]}'", cure="write for example 800MB, 2GB, or 0")
    thousand = 1024 if match["binary"] else 1000
    return int(float(match["number"]) * thousand ** " KMGT".index(match["unit"].upper() or " "))


class _File(NamedTuple):
    inode: tuple[int, int]
    names: int
    taken: int
    changed: float
    folder: bool


def _places(cache: Path) -> Iterator[tuple[Kind, Path, tuple[Path, ...]]]:
    for path in _children(cache / "pkgs"):
        if not path.name.startswith(".") and not path.name.endswith(".lock"):
            lock = path.with_name(f"{path.name}.lock")
            yield "conda package", path, (lock,) if lock.exists() else ()
    yield from _places_of_uv(cache / "uv")
    for folder in _children(cache / "wheels"):
        yield from (("wheel", path, ()) for path in _children(folder) if path.suffix == ".whl")
    for path in _children(cache / "repodata"):
        if not path.name.startswith("."):
            yield "index", path, ()


def _places_of_uv(cache: Path) -> Iterator[tuple[Kind, Path, tuple[Path, ...]]]:
    unpacked = [one for path in _children(cache) if path.name.startswith(_UNPACKED) for one in _children(path)]
    pointers = _pointers(cache, {path.name.encode() for path in unpacked})
    yield from (("Python package", path, tuple(pointers[path.name.encode()])) for path in unpacked)
    for path in _children(cache):
        if path.name.startswith(_SOURCES):
            yield from (("Python package", one, ()) for one in _children(path) if not one.name.startswith("."))
        elif path.name.startswith(_ANSWERS):
            yield from (("index", one, ()) for index in _children(path) for one in _children(index))


def _pointers(cache: Path, names: set[bytes]) -> dict[bytes, list[Path]]:
    """The small files and links of uv's cache that lead to an unpacked wheel, by the name of its folder."""
    found: dict[bytes, list[Path]] = {name: [] for name in names}
    for bucket in _children(cache):
        for place, folders, files in os.walk(bucket) if bucket.name.startswith(_POINTING) else ():
            for name in [*files, *folders]:
                path = Path(place, name)
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    if stat.S_ISLNK(status.st_mode):
                        told = os.fsencode(os.path.basename(os.readlink(path)))
                    elif stat.S_ISREG(status.st_mode) and 0 < status.st_size <= _POINTER_LIMIT:
                        told = path.read_bytes()
                    else:
                        continue
                    for one in names & set(_WORD.findall(told)):
                        found[one].append(path)
    return found


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _look(path: Path) -> list[_File]:
    found = []
    for status in files_below(os.fspath(path)):
        folder = stat.S_ISDIR(status.st_mode)
        names = 1 if folder else status.st_nlink
        found.append(_File((status.st_dev, status.st_ino), names, space_taken(status), status.st_ctime, folder))
    return found


def trim(machine: Machine) -> int:
    """Remove what was not used for longest, what no environment shares first, until each cache is within its limit.

    What environments share takes no room of its own, and is not counted.

    Returns:
        The bytes that were freed.

    """
    freed = 0
    for cache in folders(machine):
        kept = entries(cache)
        excess = sum(entry.own for entry in kept) - limit(machine.env, cache)
        for entry in sorted(kept, key=lambda entry: (entry.shared > 0, entry.used)):
            if excess <= 0:
                break
            with contextlib.suppress(TaskFailed):  # another time
                for path in (*entry.beside, entry.path):
                    remove(path)
                event("trimmed", kind=entry.kind, path=str(entry.path), bytes=entry.own)
                excess -= entry.own
                freed += entry.own
    return freed


# By the names that both give to what is in the making (Rust's tempfile crate: `.tmp` and random letters). They are made
# at the top of a cache or of a part of it, so no folder of packages is looked into.
_PATTERNS = ("uv/.tmp*", "uv/*/.tmp*", "pkgs/.tmp*", "repodata/.tmp*")
PROBE = ".refprobe-"  # by which py-rattler tries whether the file system can share what files hold


def remove_probes(prefix: Path) -> None:
    """Remove what a killed py-rattler left in an environment; to be called when nobody is at work in it.

    Raises:
        TaskFailed: one cannot be removed.

    """
    for path in prefix.glob(f"{PROBE}*"):
        remove(path)


def remove_leftovers(cache: Path) -> None:
    """Remove them; to be called with the lock of the tool's home held, when no engine of ours is at work.

    Args:
        cache: The tool's own caches. One that the user has named is other programs' too, and is left alone.

    Raises:
        TaskFailed: one cannot be removed.

    """
    for pattern in _PATTERNS:
        for path in cache.glob(pattern):
            remove(path)

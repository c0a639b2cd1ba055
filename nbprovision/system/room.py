"""Room on a file system: what is left, whether something fits, and what an error says that came of too little."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import NamedTuple

from nbprovision.model.errors import NotBegun
from nbprovision.system.places import existing

# What no run can do anything about, and no repetition either.
TROUBLES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_WORDS = re.compile(
    r"(?:os error |errno )(?P<number>28|30|122)\b"
    r"|(?P<full>no space left on device|NoSpaceLeftError)"
    r"|(?P<quota>disk quota exceeded)|(?P<fixed>read-only file system)",
    re.IGNORECASE,
)


# What is left to write once all packages are linked: the history, the registry, our state.
_REST = 1_000_000  # bytes
_REST_FILES = 32


class Room(NamedTuple):
    """What this user may still fill: bytes and names of files; ``inodes`` is None if these are not counted."""

    place: Path
    free: int
    inodes: int | None


def left(path: Path) -> Room:
    """The free space on the file system of ``path``, or of the folder where it would be created."""
    path = existing(path)
    status = os.statvfs(path)
    return Room(path, status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None)


def trouble(text: str) -> int | None:
    """Find an error number of `TROUBLES` in an engine's output: full, quota used up, read-only."""
    match = _WORDS.search(text)
    if match is None:
        return None
    if match["number"]:
        return int(match["number"])
    return errno.ENOSPC if match["full"] else errno.EDQUOT if match["quota"] else errno.EROFS


def explain(number: int, path: Path) -> tuple[str, str]:
    """Why nothing more can be written at ``path``, and what to do.

    Args:
        number: One of `TROUBLES`.
        path: The path of the failure.

    """
    room = left(path)
    if number == errno.EROFS:
        return (
            f"the file system of {room.place} is mounted read-only",
            "mount it for writing (after errors of the disk the kernel mounts it so: dmesg), or give another --home",
        )
    if number == errno.EDQUOT:
        return f"the quota of this user at {room.place} is used up", FREE_SOME
    if room.inodes is not None and room.inodes < 16:
        return (
            f"no inodes are left at {room.place}, and each file takes one (bytes: {megabytes(room.free)} are free)",
            "remove folders with many small files: `nbprovision clean --dry-run` lists caches and leftovers",
        )
    return f"the disk is full: {megabytes(room.free)} are free at {room.place}", FREE_SOME


def explained(words: str, path: Path) -> tuple[str, str] | None:
    """Why an engine could not write, its own words after that, and what to do; None if it is not for one of these.

    Args:
        words: What it said.
        path: The path that it tried to write.

    """
    number = trouble(words)
    if number is None:
        return None
    why, cure = explain(number, path)
    if "Traceback (most recent call last)" in words:  # pip's, whose last line is what happened
        words = words.strip().splitlines()[-1]
    return f"{why}\n{words}", cure


def unwritable(path: Path) -> tuple[str, str]:
    """Why this user cannot write at ``path``, and what to do."""
    place = left(path).place
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return explain(errno.EROFS, path)
    return f"this user may not write in {place}", "check who owns it (ls -ld) and run as that user"


FREE_SOME = (
    "free some space (`nbprovision clean --dry-run` shows the size of caches and leftovers), or enlarge the volume"
)


def megabytes(size: float) -> str:
    """A size for a person: ``0.3 MB``, ``120 MB``, ``1.2 GB`` (millions of bytes)."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 10e6 else f"{size / 1e6:.1f} MB"


def require_bytes(prefix: Path, need: int, place: Path) -> None:
    """Refuse what surely does not fit.

    Args:
        prefix: The environment.
        need: Bytes that are to be fetched.
        place: Where they go.

    Raises:
        NotBegun: with the need, the room, and what to do.

    """
    room = left(place)
    if need > room.free:
        raise NotBegun(
            f"not enough space to install into {prefix}",
            cause=f"the packages need at least {megabytes(need)}, and {megabytes(room.free)} are free at {room.place}",
            cure=FREE_SOME,
        )


def require_rest(scratch: Path) -> None:
    """With all packages linked into ``scratch`` there must be room for what is written after them.

    Raises:
        NotBegun: there is none.

    """
    room = left(scratch)
    if room.free < _REST or (room.inodes is not None and room.inodes < _REST_FILES):
        inodes = "" if room.inodes is None else f" and {room.inodes} inodes"
        raise NotBegun(
            f"not enough space to install into {scratch.parent}",
            cause=f"with all packages in place {megabytes(room.free)}{inodes} would be free; {megabytes(_REST)} and "
            f"{_REST_FILES} inodes are needed for the rest",
            cure=FREE_SOME,
        )


def beside(prefix: Path) -> Path:
    """A name for a folder on the file system of an environment, outside of it where this user can write there."""
    parent = prefix.parent
    outside = os.access(parent, os.W_OK | os.X_OK) and parent.stat().st_dev == existing(prefix).stat().st_dev
    return prefix if outside else prefix / prefix.name

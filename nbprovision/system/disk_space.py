"""Disk space: what is free, what folders take, and the errors of a full, exhausted or read-only file system."""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nbprovision.model.errors import NotBegun
from nbprovision.system.places import existing
from nbprovision.system.scanning import scanned

# No run can change these, and repeating does not help.
WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
FREE_SOME = (
    "free some space (`nbprovision clean --dry-run` shows the size of caches and leftovers), or enlarge the volume"
)
_ERROR_TEXTS = re.compile(
    r"(?:os error |errno )(?P<number>28|30|122)\b"
    r"|(?P<full>no space left on device|NoSpaceLeftError)"
    r"|(?P<quota>disk quota exceeded)|(?P<fixed>read-only file system)",
    re.IGNORECASE,
)
_BLOCK = 512  # bytes of st_blocks (https://man7.org/linux/man-pages/man3/stat.3type.html)
# For the files that follow the linked packages: the history, the registry, our state.
_REST = 1_000_000  # bytes
_REST_FILES = 32


class FreeSpace(NamedTuple):
    """The space of a file system for this user, in bytes; ``inodes`` is None where they are not counted."""

    folder: Path
    total: int
    free: int
    inodes: int | None


def free_space(path: Path) -> FreeSpace:
    """Measure the file system of ``path``, or of the folder in which it would be created."""
    folder = existing(path)
    status = os.statvfs(folder)
    size = status.f_frsize
    return FreeSpace(
        folder, status.f_blocks * size, status.f_bavail * size, status.f_favail if status.f_files else None
    )


def space_used(path: Path) -> int:
    """The bytes that are taken on the file system of a folder."""
    status = os.statvfs(path)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def megabytes(size: float) -> str:
    """A size for a person: ``0.3 MB``, ``120 MB``, ``1.2 GB`` (millions of bytes)."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 10e6 else f"{size / 1e6:.1f} MB"


def write_error(text: str) -> int | None:
    """Find an error number of `WRITE_ERRORS` in an engine's output."""
    match = _ERROR_TEXTS.search(text)
    if match is None:
        return None
    if match["number"]:
        return int(match["number"])
    return errno.ENOSPC if match["full"] else errno.EDQUOT if match["quota"] else errno.EROFS


def explain_error(number: int, path: Path) -> tuple[str, str]:
    """Why nothing more can be written at ``path``, and what to do.

    Args:
        number: One of `WRITE_ERRORS`.
        path: The path of the failure.

    """
    space = free_space(path)
    if number == errno.EROFS:
        return (
            f"the file system of {space.folder} is mounted read-only",
            "mount it for writing (after errors of the disk the kernel mounts it so: dmesg), or give another --home",
        )
    if number == errno.EDQUOT:
        return f"the quota of this user at {space.folder} is used up", FREE_SOME
    if space.inodes is not None and space.inodes < 16:
        return (
            f"no inodes are left at {space.folder}, and each file takes one (bytes: {megabytes(space.free)} are free)",
            "remove folders with many small files: `nbprovision clean --dry-run` lists caches and leftovers",
        )
    return f"the disk is full: {megabytes(space.free)} are free at {space.folder}", FREE_SOME


def explain_output(output: str, path: Path) -> tuple[str, str] | None:
    """Explain an engine's failure to write: the cause with its output below, and what to do.

    Args:
        output: The engine's output.
        path: The path that it tried to write.

    Returns:
        The explanation, or None if the output names none of `WRITE_ERRORS`.

    """
    number = write_error(output)
    if number is None:
        return None
    why, cure = explain_error(number, path)
    if "Traceback (most recent call last)" in output:  # of pip, which ends with the error itself
        output = output.strip().splitlines()[-1]
    return f"{why}\n{output}", cure


def unwritable(path: Path) -> tuple[str, str]:
    """Why this user cannot write at ``path``, and what to do."""
    folder = existing(path)
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return explain_error(errno.EROFS, path)
    return f"this user may not write in {folder}", "check who owns it (ls -ld) and run as that user"


def require_bytes(prefix: Path, need: int, folder: Path) -> None:
    """Refuse an install whose downloads cannot fit.

    Args:
        prefix: The environment.
        need: Bytes to fetch.
        folder: The folder that they go into.

    Raises:
        NotBegun: there is less free space.

    """
    space = free_space(folder)
    if need > space.free:
        raise NotBegun(
            f"not enough space to install into {prefix}",
            cause=f"the packages need at least {megabytes(need)}, and {megabytes(space.free)} are free at "
            f"{space.folder}",
            cure=FREE_SOME,
        )


def require_rest(scratch: Path) -> None:
    """Require space for the files that are written after all packages are linked into ``scratch``.

    Raises:
        NotBegun: there is too little.

    """
    space = free_space(scratch)
    if space.free < _REST or (space.inodes is not None and space.inodes < _REST_FILES):
        inodes = "" if space.inodes is None else f" and {space.inodes} inodes"
        raise NotBegun(
            f"not enough space to install into {scratch.parent}",
            cause=f"with all packages in place {megabytes(space.free)}{inodes} would be free; {megabytes(_REST)} and "
            f"{_REST_FILES} inodes are needed for the rest",
            cure=FREE_SOME,
        )


def beside(prefix: Path) -> Path:
    """Name a folder on an environment's file system; outside the environment if this user can write there."""
    parent = prefix.parent
    outside = os.access(parent, os.W_OK | os.X_OK) and parent.stat().st_dev == existing(prefix).stat().st_dev
    return prefix if outside else prefix / prefix.name


class Usage(NamedTuple):
    """The space that a folder takes, in bytes.

    Attributes:
        size: All its files, a file with several names once.
        shared: The files that have names elsewhere too: removing the folder does not free them.

    """

    size: int
    shared: int


class Meter:
    """Measures folders as ``du`` does; ``together`` counts a file that several of them share once."""

    def __init__(self) -> None:
        self.together = 0
        self._counted: set[tuple[int, int]] = set()

    def usage(self, folder: Path, apart_from: Collection[str] = ()) -> Usage:
        """Measure a folder. No link is followed, and unreadable entries count as nothing.

        Args:
            folder: The folder.
            apart_from: Folders in it that are measured by themselves.

        """
        size = 0
        shared: dict[tuple[int, int], list[int]] = {}  # names elsewhere and size of each file with several names
        for status in files_below(os.fspath(folder), apart_from):
            key = _shared_identity(status)
            if key is not None and key in shared:
                shared[key][0] -= 1
                continue
            taken = space_taken(status)
            size += taken
            if key is not None:
                shared[key] = [status.st_nlink - 1, taken]
            if key is None or key not in self._counted:
                self.together += taken
        self._counted.update(shared)
        return Usage(size, sum(taken for names_elsewhere, taken in shared.values() if names_elsewhere > 0))


def freed(groups: Sequence[Sequence[Path]]) -> list[int]:
    """The bytes that removing each group of paths frees, if all groups are removed.

    A file with a name outside them frees nothing; one with several names in them counts for the last.
    """
    names_left: dict[tuple[int, int], int] = {}
    sizes = []
    for paths in groups:
        size = 0
        for status in itertools.chain.from_iterable(files_below(os.fspath(path)) for path in paths):
            key = _shared_identity(status)
            if key is not None:
                names_left[key] = names_left.get(key, status.st_nlink) - 1
            if key is None or names_left[key] == 0:
                size += space_taken(status)
        sizes.append(size)
    return sizes


def space_taken(status: os.stat_result) -> int:
    """The bytes that a file or folder takes on disk."""
    return status.st_blocks * _BLOCK


def _shared_identity(status: os.stat_result) -> tuple[int, int] | None:
    """Identify a file that has several names; None for all else."""
    return None if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode) else (status.st_dev, status.st_ino)


def files_below(folder: str, apart_from: Collection[str] = ()) -> Iterator[os.stat_result]:
    """The status of a folder (or file) and of all in it but the folders ``apart_from``; no link is followed."""
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        try:
            status = os.lstat(path)
            yield status
            if not stat.S_ISDIR(status.st_mode):
                continue
            with scanned(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        inner = f"{path}/{entry.name}"
                        if inner not in apart_from:
                            waiting.append(inner)
                    else:
                        yield entry.stat(follow_symlinks=False)
        except OSError:
            continue

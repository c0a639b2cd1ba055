"""Room on disk: what is left, and what folders take, as ``du`` and ``df`` count."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

BLOCK = 512  # bytes of st_blocks (https://man7.org/linux/man-pages/man3/stat.3type.html)


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """A file system, in bytes.

    Attributes:
        path: The path that was asked about.
        total: All of it.
        free: What this user may still fill.

    """

    path: str
    total: int
    free: int


class Usage(msgspec.Struct, frozen=True):
    """What a folder takes, in bytes.

    Attributes:
        size: All in it, a file with several names in it once.
        shared: What of that has names elsewhere too, so that removing the folder frees nothing of it.

    """

    size: int
    shared: int


class Meter:
    """Measures folders, and all of them together, a file that several of them share counted once."""

    def __init__(self) -> None:
        self.together = 0
        self._known: set[tuple[int, int]] = set()

    def usage(self, folder: Path, apart_from: Collection[str] = ()) -> Usage:
        """Measure a folder; no link is followed, and what cannot be read counts for nothing.

        Args:
            folder: The folder.
            apart_from: Folders in it that are not its own.

        """
        size = shared = 0
        several: dict[tuple[int, int], list[int]] = {}
        for status in files_below(os.fspath(folder), apart_from):
            taken = status.st_blocks * BLOCK
            if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode):
                size += taken
                self.together += taken
                continue
            key = (status.st_dev, status.st_ino)
            seen = several.get(key)
            if seen is not None:
                seen[0] -= 1
                continue
            several[key] = [status.st_nlink - 1, taken]
            size += taken
            if key not in self._known:
                self._known.add(key)
                self.together += taken
        shared = sum(taken for names_elsewhere, taken in several.values() if names_elsewhere > 0)
        return Usage(size, shared)


def room(path: Path) -> Room | None:
    """The file system at ``path``; None if the path does not exist."""
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    return Room(path=str(path), total=status.f_blocks * status.f_frsize, free=status.f_bavail * status.f_frsize)


def files_below(folder: str, apart_from: Collection[str] = ()) -> Iterator[os.stat_result]:
    """The status of a folder (or file) and of all in it but the folders ``apart_from``; no link is followed."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            status = os.lstat(here)
            yield status
            if not stat.S_ISDIR(status.st_mode):
                continue
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.path not in apart_from:
                            waiting.append(entry.path)
                    else:
                        yield entry.stat(follow_symlinks=False)
        except OSError:
            continue


def freed(groups: Sequence[Sequence[Path]]) -> list[int]:
    """The bytes that removing each group of paths frees, where all of them go: a file with a name elsewhere stays.

    A file with several names in them counts for the last.
    """
    names: dict[tuple[int, int], int] = {}
    sizes = []
    for paths in groups:
        size = 0
        for status in itertools.chain.from_iterable(files_below(os.fspath(path)) for path in paths):
            taken = status.st_blocks * BLOCK
            if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode):
                size += taken
                continue
            key = (status.st_dev, status.st_ino)
            names[key] = names.get(key, status.st_nlink) - 1
            size += taken if names[key] == 0 else 0
        sizes.append(size)
    return sizes

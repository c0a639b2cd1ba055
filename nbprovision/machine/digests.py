"""Digests of files, each computed once until the file changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

import msgspec

from nbprovision.model.errors import TaskFailed
from nbprovision.system import inputs
from nbprovision.system.files import write_atomically
from nbprovision.system.reading import read_bytes

# The times do not show a change within one tick of a file system's clock, which may take 2 seconds.
_SETTLED_NS = 2_000_000_000
# A larger file (about 12 MB) is reduced to the digests that the last run used.
_MOST = 200_000


class _Digest(msgspec.Struct, frozen=True, array_like=True):
    """A digest with the size and the times of its file."""

    size: int
    mtime: int
    ctime: int
    digest: str


class Digests:
    """SHA-256 digests, kept by device, inode, size and times.

    A file that several environments share by hard links is read once for all of them. Nobody can set back the time of
    the inode (ctime), so it shows an edit even if size and mtime are kept.

    Args:
        path: The file that keeps them between runs; if it is missing or damaged, all files are read again.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, _Digest] = {}
        self._used: set[str] = set()
        self._changed = False
        with inputs.unrecorded(), contextlib.suppress(OSError, msgspec.DecodeError):
            self._kept = msgspec.msgpack.decode(read_bytes(path), type=dict[str, _Digest])

    def of(self, path: str | Path, status: os.stat_result) -> str:
        """The SHA-256 of a regular file, as lower-case hexadecimal digits.

        Args:
            path: The file.
            status: Its status, taken before.

        Raises:
            OSError: it cannot be read.

        """
        key = f"{status.st_dev}:{status.st_ino}"
        self._used.add(key)
        kept = self._kept.get(key)
        if kept is not None and (kept.size, kept.mtime, kept.ctime) == _times(status):
            return kept.digest
        settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS
        digest = digest_of(path)
        if settled:
            self._kept[key] = _Digest(*_times(status), digest)
            self._changed = True
        return digest

    def save(self) -> None:
        """Keep them for the next run, if the disk has space."""
        if not self._changed:
            return
        if len(self._kept) > _MOST:
            self._kept = {key: kept for key, kept in self._kept.items() if key in self._used}
        with contextlib.suppress(TaskFailed):
            write_atomically(self._path, msgspec.msgpack.encode(self._kept), mode=0o600, durable=False)
        self._changed = False


def _times(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def digest_of(path: str | Path, algorithm: str = "sha256") -> str:
    """The digest of a file, as lower-case hexadecimal digits, computed piece by piece."""
    digest = hashlib.new(algorithm)
    with open(path, "rb", buffering=0) as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()

"""Digests of files, each worked out once for as long as the file stays the one that it was."""

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

# A change within the same tick of a file system's clock would not show in the times; some count in steps of 2 seconds.
_SETTLED_NS = 2_000_000_000
# Beyond this the file is written again from what the last run asked for: about 12 MB.
_MOST = 200_000


class _Known(msgspec.Struct, frozen=True, array_like=True):
    """A digest, and the file that it was worked out of: size, time of the content, time of anything."""

    size: int
    mtime: int
    ctime: int
    digest: str


class Digests:
    """SHA-256 digests, remembered by device, inode, size and times.

    A file that several environments share by hard links is read once for all of them. The time of the inode (ctime)
    cannot be set back by hand, so an edit shows even where size and mtime are kept.

    Args:
        path: Where they are kept between runs; what is no such file costs the reading of everything.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, _Known] = {}
        self._asked: set[str] = set()
        self._changed = False
        with inputs.unrecorded(), contextlib.suppress(OSError, msgspec.DecodeError):
            self._known = msgspec.msgpack.decode(read_bytes(path), type=dict[str, _Known])

    def of(self, path: str | Path, status: os.stat_result) -> str:
        """The SHA-256 of a regular file, as lower-case hexadecimal digits.

        Args:
            path: The file.
            status: Its status, taken before.

        Raises:
            OSError: it cannot be read.

        """
        key = f"{status.st_dev}:{status.st_ino}"
        self._asked.add(key)
        known = self._known.get(key)
        now = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if known is not None and (known.size, known.mtime, known.ctime) == now:
            return known.digest
        settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS
        digest = digest_of(path)
        if settled:
            self._known[key] = _Known(*now, digest)
            self._changed = True
        return digest

    def save(self) -> None:
        """Keep them for the next run, where there is room for it."""
        if not self._changed:
            return
        if len(self._known) > _MOST:
            self._known = {key: known for key, known in self._known.items() if key in self._asked}
        with contextlib.suppress(TaskFailed):
            write_atomically(self._path, msgspec.msgpack.encode(self._known), mode=0o600, durable=False)
        self._changed = False


def digest_of(path: str | Path, algorithm: str = "sha256") -> str:
    """The digest of a file, as lower-case hexadecimal digits; it is read piece by piece."""
    found = hashlib.new(algorithm)
    with open(path, "rb", buffering=0) as stream:
        while piece := stream.read(1 << 20):
            found.update(piece)
    return found.hexdigest()

"""The entries of a folder, without those that patterns exclude; no link is followed."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from nbprovision.system.files import explained


class Scanned(NamedTuple):
    """An entry.

    Attributes:
        name: Its path, relative to the folder.
        kind: ``other`` is a device, a pipe or a socket.
        mode: Its mode.
        size: Its bytes.
        modified: The time of its last change, in seconds since the epoch.
        created: The time at which it got its name or its mode, in seconds since the epoch.

    """

    name: str
    kind: Literal["file", "folder", "link", "other"]
    mode: int
    size: int
    modified: float
    created: float

    @property
    def is_text(self) -> bool:
        """Whether the name is UTF-8, as a key of S3 must be."""
        return not any("\udc80" <= letter <= "\udcff" for letter in self.name)


def excluding(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a path matches one of the patterns, as `aws s3 sync --exclude` matches: ``*`` matches slashes too."""
    if not patterns:
        return lambda _name: False
    matcher = re.compile("|".join(map(fnmatch.translate, patterns)))
    return lambda name: matcher.match(name) is not None


def scan(folder: Path, patterns: Sequence[str]) -> Iterator[Scanned]:
    """The entries below a folder, each folder before its own entries.

    A folder is not opened if a pattern that ends with ``*`` excludes all that is in it.

    Args:
        folder: The folder.
        patterns: What is left out.

    Raises:
        TaskFailed: a folder cannot be read.

    """
    excluded = excluding(patterns)
    all_below = excluding([pattern for pattern in patterns if pattern.endswith("*")])
    waiting = [""]
    while waiting:
        current = waiting.pop()
        with explained(f"cannot read {folder / current}"), os.scandir(folder / current) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            path = os.path.join(current, name)
            if all_below(f"{path}/"):
                continue
            with explained(f"cannot read {folder / path}"):
                try:
                    status = os.lstat(folder / path)
                except FileNotFoundError:
                    continue  # removed meanwhile
            kind = _kind(status.st_mode)
            if kind == "folder":
                waiting.append(path)
            if not excluded(path):
                yield Scanned(path, kind, status.st_mode, status.st_size, status.st_mtime, status.st_ctime)


def leads_out(folder: Path, link: str) -> bool:
    """Whether a link in a folder leads out of it, as it is written or by other links; `archive.unpack` refuses it."""
    target = os.readlink(folder / link)
    inside = os.path.normpath(os.path.join(os.path.dirname(link), target))
    base = os.path.realpath(folder)
    real = os.path.realpath(folder / link)
    return target.startswith("/") or inside.split("/")[0] == ".." or not (real == base or real.startswith(f"{base}/"))


def _kind(mode: int) -> Literal["file", "folder", "link", "other"]:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"

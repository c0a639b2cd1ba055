"""Reads folders with many files quickly."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def scanned(folder: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """The entries of a folder; the ``path`` of each is only its name.

    `os.DirEntry.stat` asks the open folder here. By the path, the kernel would walk through all folders above for each
    entry, which takes half as long again.

    Args:
        folder: The folder.

    Raises:
        OSError: it is missing, unreadable or not a folder.

    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(handle) as entries:
            yield entries
    finally:
        os.close(handle)

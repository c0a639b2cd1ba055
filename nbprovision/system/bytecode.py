"""Compiled files that a full disk has cut short.

CPython before 3.12.8 and 3.13.1 writes what fits of a ``.pyc`` and takes it for whole (python/cpython issue 126606);
the import of it then fails with `EOFError` for ever after.
"""

from __future__ import annotations

import contextlib
import marshal
import os
from pathlib import Path

_HEADER = 16  # bytes before the code (PEP 552)


def remove_cut(folder: Path) -> int:
    """Remove incomplete compiled files below ``folder``; Python compiles them again.

    Returns:
        How many there were.

    """
    removed = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if os.path.basename(place) != "__pycache__":
            continue
        for name in names:
            path = os.path.join(place, name)
            if name.endswith(".pyc") and _is_cut(path):
                with contextlib.suppress(OSError):  # the user's Python of somebody else
                    os.unlink(path)
                    removed += 1
    return removed


def _is_cut(path: str) -> bool:
    try:
        with open(path, "rb") as stream:
            marshal.loads(stream.read()[_HEADER:])  # noqa: S302 - what Python itself is about to load
    except (EOFError, ValueError, TypeError):
        return True
    except OSError:
        return False
    return False

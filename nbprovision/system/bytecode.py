"""Removes compiled files that a full disk has truncated.

CPython before 3.12.8 and 3.13.1 writes a part of a ``.pyc`` and takes it for complete (python/cpython issue 126606).
Every later import of it fails with `EOFError`. This module imports none of ours, as their files may be truncated.
"""

from __future__ import annotations

import contextlib
import marshal
import os
from pathlib import Path

_HEADER = 16  # bytes before the code (PEP 552)


def remove_truncated(folder: Path) -> int:
    """Remove truncated compiled files below ``folder``, which Python compiles again; return their number."""
    removed = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if os.path.basename(place) != "__pycache__":
            continue
        for name in names:
            path = os.path.join(place, name)
            if name.endswith(".pyc") and _is_truncated(path):
                with contextlib.suppress(OSError):  # another user's Python
                    os.unlink(path)
                    removed += 1
    return removed


def _is_truncated(path: str) -> bool:
    try:
        with open(path, "rb") as stream:
            marshal.loads(stream.read()[_HEADER:])  # noqa: S302 - Python itself loads it too
    except (EOFError, ValueError, TypeError):
        return True
    except OSError:
        return False
    return False

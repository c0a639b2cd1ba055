"""Events as JSON lines in the home folder's log; secrets masked before they are written.

Events are kept until `flush` (or until something long is about to start), so that a short run writes once. The standard
library renders them: an import of structlog takes as long as a third of a whole run after a restart.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from nbprovision.system.secrets import mask

LOG_LIMIT = 2_000_000  # bytes; one older file is kept

_lock = threading.Lock()
_pending: list[tuple[float, str, dict[str, Any]]] = []
_path: Path | None = None


def open_log(path: Path) -> None:
    """Send the events from now on to ``path``; the folder must exist."""
    global _path  # noqa: PLW0603 - one log a process
    _path = path


def event(name: str, /, **fields: Any) -> None:
    """Note that something happened, with whatever tells it apart."""
    with _lock:
        _pending.append((time.time(), name, fields))


def flush() -> None:
    """Write the events that are waiting; without an open log they are dropped."""
    with _lock:
        waiting, _pending[:] = list(_pending), []
    if _path is None or not waiting:
        return
    lines = []
    for when, name, fields in waiting:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when)) + f".{int(when % 1 * 1000):03d}Z"
        entry = {"event": name, **fields, "timestamp": stamp}
        lines.append(mask(json.dumps(entry, default=str)) + "\n")
    _rotate(_path)
    handle = os.open(_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, "".join(lines).encode("utf-8", "replace"))
    finally:
        os.close(handle)


def _rotate(path: Path) -> None:
    try:
        if path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_suffix(path.suffix + ".1"))
    except FileNotFoundError:
        pass

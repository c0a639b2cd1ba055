"""Events as JSON lines in the home folder's log; secrets masked before they are written.

Events are kept until `flush` (or until something long is about to start), so that a short run writes once. The standard
library renders them: an import of structlog takes as long as a third of a whole run after a restart.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nbprovision.system.files import make_folder
from nbprovision.system.secrets import mask, masked

LOG_LIMIT = 2_000_000  # bytes; one older file is kept

Hearer = Callable[[str, dict[str, Any]], None]
_HARMLESS = ("task", "name", "status", "seconds", "check")  # of an event, where the rest may be secret

_lock = threading.Lock()
# Who is told of each event as it happens; and whether what is done now is nobody's business (a task with `no_log`).
_hearer: Hearer | None = None
_withheld: contextvars.ContextVar[bool] = contextvars.ContextVar("withheld", default=False)
_pending: list[tuple[float, str, dict[str, Any]]] = []
_path: Path | None = None
_rotates = True


def open_log(path: Path, *, rotates: bool = True) -> None:
    """Send the events from now on to ``path``; the folder must exist.

    Args:
        path: The log.
        rotates: Put a log aside that has become too long; not beside another run, whose log it is.

    """
    global _path, _rotates  # one log a process
    _path, _rotates = path, rotates


@contextlib.contextmanager
def kept_in(home: Path) -> Iterator[None]:
    """Send the events of the body to the log in the tool's home, as far as it can be written."""
    with contextlib.suppress(OSError):
        make_folder(home / "log", mode=0o700)
    open_log(home / "log" / "nbprovision.log")
    try:
        yield
    finally:
        flush()


def hear(hearer: Hearer | None) -> None:
    """Have ``hearer`` told of each event and detail from now on, by whichever thread they happen in; None ends it."""
    global _hearer  # noqa: PLW0603 - one run a process
    _hearer = hearer


@contextlib.contextmanager
def withholding(hidden: bool) -> Iterator[None]:
    """While what is done is not to be shown, commands are noted without their words, and no detail is told."""
    before = _withheld.set(hidden or _withheld.get())
    try:
        yield
    finally:
        _withheld.reset(before)


def event(name: str, /, **fields: Any) -> None:
    """Note that something happened, with whatever tells it apart."""
    if _withheld.get():
        fields = {key: value if key in _HARMLESS else "withheld by no_log" for key, value in fields.items()}
    with _lock:
        _pending.append((time.time(), name, fields))
    if _hearer is not None:
        _hearer(name, fields)


def detail(name: str, /, **fields: Any) -> None:
    """Tell whoever hears of something that is too much for the log."""
    if _hearer is not None and not _withheld.get():
        _hearer(name, fields)


def flush() -> None:
    """Write the events that are waiting; without a log that can be written they are dropped."""
    with _lock:
        waiting, _pending[:] = list(_pending), []
    if _path is None or not waiting:
        return
    lines = []
    for when, name, fields in waiting:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when)) + f".{int(when % 1 * 1000):03d}Z"
        entry = {"event": name, **fields, "timestamp": stamp}
        lines.append(json.dumps(masked(entry), default=lambda value: mask(str(value))) + "\n")
    with contextlib.suppress(OSError):  # a volume that is full or read-only: the work counts, not the word of it
        if _rotates:
            _rotate(_path)
        handle = os.open(
            _path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600
        )
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

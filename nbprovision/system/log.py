"""The log of a run: JSON lines in the home folder, written by structlog with the run's secrets masked.

Events are kept until `flush`, so that a short run writes once. structlog is imported when the log is opened or at the
first event; a run that ends at its witnesses needs neither.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbprovision.system.context import current
from nbprovision.system.files import make_folder
from nbprovision.system.secrets import mask, masked

if TYPE_CHECKING:
    from structlog import BoundLogger

LOG_LIMIT = 2_000_000  # bytes; one older file is kept

Listener = Callable[[str, dict[str, Any]], None]
_HARMLESS = ("event", "task", "name", "status", "seconds", "check")  # fields that `withholding` shows
_DETAIL = "debug"  # the level of events for the listener only
_withheld: contextvars.ContextVar[bool] = contextvars.ContextVar("withheld", default=False)


class _Log:
    """The log of a run."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.rotates = True
        self.listener: Listener | None = None
        self._lines: list[str] = []
        self._lock = threading.Lock()

    @functools.cached_property
    def logger(self) -> BoundLogger:
        """Passes an event through the processors to `info`."""
        structlog = _structlog()
        logger: BoundLogger = structlog.wrap_logger(
            self,
            processors=[
                _withhold,
                self._pass_to_listener,
                _date,
                lambda _logger, _level, event: masked(event),
                structlog.processors.JSONRenderer(default=lambda value: mask(str(value))),
            ],
            wrapper_class=structlog.BoundLogger,
            context_class=dict,
        )
        return logger

    def info(self, line: str) -> None:
        """Keep a line; structlog calls the method with the name of the event's level."""
        with self._lock:
            self._lines.append(f"{line}\n")

    def take(self) -> str:
        """Return the kept lines, and forget them."""
        with self._lock:
            lines, self._lines = self._lines, []
        return "".join(lines)

    def _pass_to_listener(self, _logger: object, level: str, event: dict[str, Any]) -> dict[str, Any]:
        if self.listener is not None:
            self.listener(event["event"], {key: value for key, value in event.items() if key != "event"})
        if level == _DETAIL:
            raise _structlog().DropEvent
        return event


def open_log(path: Path, *, rotates: bool = True) -> None:
    """Write the events of this run to ``path``; the folder must exist.

    Args:
        path: The log.
        rotates: Rename a log that is too long; not while another run writes it.

    """
    log = current(_Log)
    log.path, log.rotates = path, rotates
    _structlog()


@contextlib.contextmanager
def kept_in(home: Path) -> Iterator[None]:
    """Write the events of the body to the log in the tool's home, if that is writable."""
    with contextlib.suppress(OSError):
        make_folder(home / "log", mode=0o700)
    open_log(home / "log" / "nbprovision.log")
    try:
        yield
    finally:
        flush()


def listen(listener: Listener | None) -> None:
    """Pass each event and detail of this run to ``listener``, in the event's thread; None stops that."""
    current(_Log).listener = listener


@contextlib.contextmanager
def withholding(hidden: bool) -> Iterator[None]:
    """If ``hidden``, hide most fields of the body's events, and pass on no details."""
    before = _withheld.set(hidden or _withheld.get())
    try:
        yield
    finally:
        _withheld.reset(before)


def is_withheld() -> bool:
    """Whether `withholding` hides what this thread logs."""
    return _withheld.get()


def event(name: str, /, **fields: Any) -> None:
    """Log an event with the fields that describe it."""
    current(_Log).logger.info(name, **fields)


def detail(name: str, /, **fields: Any) -> None:
    """Pass an event to the listener only, if there is one."""
    log = current(_Log)
    if log.listener is not None and not _withheld.get():
        log.logger.debug(name, **fields)


def flush() -> None:
    """Write the kept events; they are dropped if the log cannot be written."""
    log = current(_Log)
    text = log.take()
    if log.path is None or not text:
        return
    with contextlib.suppress(OSError):  # a full or read-only volume must not stop the work
        if log.rotates:
            _rotate(log.path)
        handle = os.open(
            log.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(handle, text.encode("utf-8", "replace"))
        finally:
            os.close(handle)


def _withhold(_logger: object, _level: str, event: dict[str, Any]) -> dict[str, Any]:
    if not _withheld.get():
        return event
    return {key: value if key in _HARMLESS else "withheld by no_log" for key, value in event.items()}


def _date(_logger: object, _level: str, event: dict[str, Any]) -> dict[str, Any]:
    """Add the time in UTC with milliseconds, as the start-up path does; the event's name comes first."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    return {"event": event.pop("event"), **event, "timestamp": stamp}


class _Later(types.ModuleType):
    """Stands for a module during the import of another one, and imports it at its first use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)

    def __bool__(self) -> bool:
        """Return false: since Python 3.12, `logging` asks an asyncio that is loaded for the current task."""
        return False


@functools.cache
def _structlog() -> Any:
    """Import structlog without the modules of its console renderer and coroutines (rich, asyncio: 60 ms)."""
    # Not while other threads run, which may need these modules.
    hidden = [name for name in ("rich", "asyncio") if name not in sys.modules and threading.active_count() == 1]
    # structlog works without rich; its coroutines alone use asyncio.
    instead = {name: None if name == "rich" else _Later(name) for name in hidden}
    sys.modules.update(instead)  # type: ignore[arg-type]
    try:
        import structlog
    finally:
        for name in hidden:
            if sys.modules[name] is instead[name]:  # else the module itself, which something has used
                del sys.modules[name]
    return structlog


def _rotate(path: Path) -> None:
    try:
        if path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_suffix(path.suffix + ".1"))
    except FileNotFoundError:
        pass

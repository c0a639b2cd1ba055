"""The context of a run: its log, secrets, processes and locks. Every run in a process has its own."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

Part = TypeVar("Part")


class RunContext:
    """Holds one object of each type that a run needs, made when it is first asked for."""

    def __init__(self) -> None:
        self._parts: dict[type, Any] = {}
        self._lock = threading.Lock()

    def part(self, kind: type[Part]) -> Part:
        """The object of type ``kind``."""
        with self._lock:
            if kind not in self._parts:
                self._parts[kind] = kind()
            part: Part = self._parts[kind]
            return part


_PROCESS = RunContext()  # of the command line, which is one run
_current = contextvars.ContextVar("run_context", default=_PROCESS)


def current(kind: type[Part]) -> Part:
    """Return the object of type ``kind`` of this thread's run."""
    return _current.get().part(kind)


@contextlib.contextmanager
def separate_run() -> Iterator[None]:
    """Give the body a context of its own, as each call of the Python API has."""
    before = _current.set(RunContext())
    try:
        yield
    finally:
        _current.reset(before)


def thread(work: Callable[..., object], *arguments: object) -> threading.Thread:
    """Return an unstarted thread that belongs to this thread's run and does not keep the process alive."""
    return threading.Thread(target=contextvars.copy_context().run, args=(work, *arguments), daemon=True)

"""The context of a run: its log, secrets, processes and locks; and the threads that share it.

Every run in a process has its own context.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # it loads the logging of the standard library, which a restart does not need
    from concurrent.futures import ThreadPoolExecutor

Part = TypeVar("Part")
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

# Threads of `in_parallel`. They mostly wait for engines, the disk or the network; engines have threads of their own.
MOST_THREADS = max(3, min(8, 2 * (os.cpu_count() or 1)))


class RunContext:
    """Holds one object of each type that a run needs, created at its first use."""

    def __init__(self) -> None:
        self._parts: dict[type, Any] = {}
        self._lock = threading.Lock()

    def part(self, kind: type[Part]) -> Part:
        """Return the object of type ``kind``."""
        with self._lock:
            if kind not in self._parts:
                self._parts[kind] = kind()
            part: Part = self._parts[kind]
            return part


_current = contextvars.ContextVar("run_context", default=RunContext())  # noqa: B039 - a command line is one run


def current(kind: type[Part]) -> Part:
    """Return the object of type ``kind`` of this thread's run."""
    return _current.get().part(kind)


@contextlib.contextmanager
def separate_run() -> Iterator[None]:
    """Give the body its own context, as each call of the Python API has."""
    before = _current.set(RunContext())
    try:
        yield
    finally:
        _current.reset(before)


def thread(work: Callable[..., object], *arguments: object) -> threading.Thread:
    """Return an unstarted daemon thread that belongs to this thread's run."""
    return threading.Thread(target=contextvars.copy_context().run, args=(work, *arguments), daemon=True)


def in_parallel(work: Callable[[Item], Outcome], items: Sequence[Item]) -> list[Outcome]:
    """Call ``work(item)`` for all items, in threads if there are several; return the outcomes in the items' order.

    Raises:
        Exception: the first that any call raised, after all have ended; another one goes before `NotBegun`.

    """
    from nbprovision.model.errors import NotBegun  # here, because an early child starts before it is loaded

    if len(items) < 2:
        return [work(item) for item in items]
    futures = [_threads().submit(contextvars.copy_context().run, work, item) for item in items]
    failures = [failure for failure in (future.exception() for future in futures) if failure is not None]
    if failures:
        raise next((failure for failure in failures if not isinstance(failure, NotBegun)), failures[0])
    return [future.result() for future in futures]


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """The threads live as long as the process: an engine's child process ends with the thread that started it."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="nbprovision")

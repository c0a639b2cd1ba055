"""One kind of work for several things at once: it mostly waits for engines' processes, the disk or the network."""

from __future__ import annotations

import contextvars
import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from nbprovision.model.errors import NotBegun

if TYPE_CHECKING:  # it brings the logging of the standard library along, which a restart has no use for
    from concurrent.futures import ThreadPoolExecutor

# Engines work in several threads themselves.
MOST = max(3, min(8, 2 * (os.cpu_count() or 1)))

Thing = TypeVar("Thing")
Outcome = TypeVar("Outcome")


def each(work: Callable[[Thing], Outcome], things: Sequence[Thing]) -> list[Outcome]:
    """``work(thing)`` for all things, in threads where there are several; the outcomes in the order of the things.

    Raises:
        Exception: the first that any of them raised, after all have ended; `NotBegun` only where no other was.

    """
    if len(things) < 2:
        return [work(thing) for thing in things]
    begun = [_threads().submit(contextvars.copy_context().run, work, thing) for thing in things]
    failures = [failure for failure in (future.exception() for future in begun) if failure is not None]
    if failures:
        raise next((failure for failure in failures if not isinstance(failure, NotBegun)), failures[0])
    return [future.result() for future in begun]


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """They stay until the process ends: an engine's child process ends with the thread that made it."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(MOST, thread_name_prefix="side-by-side")

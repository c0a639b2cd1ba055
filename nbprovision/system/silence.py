"""Ends an engine's process that waits for a network and makes no progress.

py-rattler has a limit for a whole answer, which a large package on a slow line exceeds, and none for silence; nor can a
wait of its be given up without its threads going on. So the process ends, and the caller starts another one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator

SILENT = 75  # exit status: EX_TEMPFAIL of sysexits.h
_LOOK_EVERY = 0.5  # seconds

_watched: dict[object, tuple[float, Callable[[], Collection[str]], Callable[[], object]]] = {}
_lock = threading.Lock()
_thread: threading.Thread | None = None


@contextlib.contextmanager
def watched(
    limit: float | None, awaited: Callable[[], Collection[str]], progress: Callable[[], object]
) -> Iterator[None]:
    """While the body runs, end this process after ``limit`` seconds of silence.

    Silence is: something is awaited, nothing watched makes progress, and no work is done. The process says on standard
    error what was awaited, and leaves with the status `SILENT`.

    Args:
        limit: Seconds; None for no limit.
        awaited: Names of what is awaited from the network just now; called often.
        progress: A value that changes whenever something has come; called often.

    """
    global _thread  # noqa: PLW0603 - one thread watches for all
    if limit is None:
        yield
        return
    token = object()
    with _lock:
        _watched[token] = limit, awaited, progress
        if _thread is None:
            _thread = threading.Thread(target=_watch, daemon=True)
            _thread.start()
    try:
        yield
    finally:
        with _lock:
            del _watched[token]


def _watch() -> None:
    since, work = time.monotonic(), time.process_time()
    before: object = None
    while True:
        time.sleep(_LOOK_EVERY)
        with _lock:
            watches = list(_watched.values())
        names = sorted({name for _, awaited, _ in watches for name in awaited()})
        state = names, [progress() for _, _, progress in watches]
        now, busy = time.monotonic(), time.process_time()
        # The looking itself takes some, too.
        if not names or state != before or busy - work > 0.05 + 0.02 * (now - since):
            since, work, before = now, busy, state
        elif now - since >= min(limit for limit, _, _ in watches):
            sys.stderr.write(f"gave no answer in time: {now - since:.0f} s without a byte of {', '.join(names)}\n")
            sys.stderr.flush()
            os._exit(SILENT)

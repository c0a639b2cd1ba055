"""Ends an engine's process that waits for a network and hears nothing.

py-rattler has a limit for a whole answer, which a large package on a slow line exceeds, and none for silence; nor can a
wait of its be given up without its threads going on. So the process ends, and who asked begins anew with another.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator

SILENT = 75  # exit status: EX_TEMPFAIL of sysexits.h
_LOOK_EVERY = 0.5  # seconds
_BYTES_RECEIVED = 128  # where tcpi_bytes_received, 8 bytes long, is in the kernel's struct tcp_info (linux/tcp.h)

_watched: dict[object, tuple[float, Callable[[], Collection[str]]]] = {}
_lock = threading.Lock()
_thread: threading.Thread | None = None


@contextlib.contextmanager
def watched(limit: float | None, awaited: Callable[[], Collection[str]]) -> Iterator[None]:
    """While the body runs, end this process after ``limit`` seconds of silence.

    Silence is: something is awaited, no byte comes, and no work is done. The process says on standard error what was
    awaited, and leaves with the status `SILENT`.

    Args:
        limit: Seconds; None for no limit.
        awaited: Names of what is awaited from the network just now; asked often.

    """
    global _thread  # noqa: PLW0603 - one thread watches for all
    if limit is None:
        yield
        return
    token = object()
    with _lock:
        _watched[token] = limit, awaited
        if _thread is None:
            _thread = threading.Thread(target=_watch, daemon=True)
            _thread.start()
    try:
        yield
    finally:
        with _lock:
            del _watched[token]


def _watch() -> None:
    since, work, received, before = time.monotonic(), time.process_time(), -1, frozenset[str]()
    while True:
        time.sleep(_LOOK_EVERY)
        with _lock:
            asked = list(_watched.values())
        awaited = frozenset(name for _, names in asked for name in names())
        now, busy, bytes_now = time.monotonic(), time.process_time(), _received()
        # The looking itself takes some, too.
        at_work = busy - work > 0.05 + 0.02 * (now - since)
        if not awaited or awaited != before or at_work or bytes_now != received:
            since, work, received, before = now, busy, bytes_now, awaited
        elif now - since >= min(limit for limit, _ in asked):
            names = ", ".join(sorted(awaited))
            sys.stderr.write(f"gave no answer in time: {now - since:.0f} s without a byte of {names}\n")
            sys.stderr.flush()
            os._exit(SILENT)


def _received() -> int:
    """The bytes that all TCP connections of this process have received."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError, ValueError, struct.error):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as connection:
                if connection.type == socket.SOCK_STREAM and connection.family != socket.AF_UNIX:
                    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED + 8)
                    total += struct.unpack_from("=Q", told, _BYTES_RECEIVED)[0]
    return total

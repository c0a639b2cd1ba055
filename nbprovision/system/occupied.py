"""Keeps runs with different home folders apart: a lock on each environment's folder.

The lock of a home keeps runs with that home apart. Root and the user have different homes, as have runs with different
``NBPROVISION_HOME``, and both may describe one environment. ``flock`` locks a folder as well as a file: it leaves no
file behind, and the kernel releases it however the process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from nbprovision.model.errors import LockTimeout
from nbprovision.system.context import current
from nbprovision.system.log import event

_RETRY_EVERY = 0.1  # seconds


class _Held:
    """The folders that a run holds. The order of the tasks keeps its own threads apart."""

    def __init__(self) -> None:
        self.folders: dict[tuple[int, int], list[int]] = {}  # identity to [descriptor, number of holders]
        self.lock = threading.Lock()


@contextlib.contextmanager
def alone(
    folders: Iterable[Path], announce: Callable[[str], None], timeout: float | None = None
) -> Iterator[Callable[[Path], None]]:
    """Keep other runs out of ``folders`` while the body runs.

    For a missing folder the nearest existing one above it is locked, so that two runs do not both create it.

    Args:
        folders: Environments.
        announce: Called once for each folder that another run has locked.
        timeout: Seconds to wait; None for no limit.

    Yields:
        A function that also locks a new folder, before other runs can find it.

    Raises:
        LockTimeout: another run held the lock for too long.

    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with contextlib.ExitStack() as stack:

        def lock_too(folder: Path) -> None:
            _lock(folder, stack)

        for folder in sorted(set(folders)):  # always in one order, so that two runs cannot wait for each other
            _wait(folder, stack, announce, deadline)
        yield lock_too


def _wait(folder: Path, stack: contextlib.ExitStack, announce: Callable[[str], None], deadline: float | None) -> None:
    announced = False
    while True:
        place = next(existing for existing in (folder, *folder.parents) if existing.is_dir())
        with contextlib.ExitStack() as taken:
            if _lock(place, taken):
                if place == folder or not folder.is_dir():  # else another run has created it meanwhile
                    stack.push(taken.pop_all())
                    return
                continue
        if not announced:
            announce(f"waiting for another run, which is working on {folder}")
            event("waiting", folder=str(folder))
            announced = True
        if deadline is not None and time.monotonic() >= deadline:
            raise LockTimeout(
                f"could not acquire the lock of {folder} in time",
                cause="a run with another home folder is working there",
                cure="wait for it, or increase --lock-timeout",
            )
        time.sleep(_RETRY_EVERY)


def _lock(place: Path, stack: contextlib.ExitStack) -> bool:
    """Lock a folder and return whether that succeeded; without a lock if its file system has none (NFS: flock(2))."""
    try:
        handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return True  # a user who may not read it cannot change it
    status = os.fstat(handle)
    identity = status.st_dev, status.st_ino
    held = current(_Held)
    with held.lock:
        depth = held.folders.get(identity)
        if depth is not None:
            os.close(handle)
            depth[1] += 1
        else:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return False
            except OSError:
                os.close(handle)
                return True
            held.folders[identity] = [handle, 1]
    stack.callback(_unlock, held, identity)
    try:
        now = os.stat(place)
    except OSError:
        return False
    return (now.st_dev, now.st_ino) == identity  # otherwise the previous holder removed or replaced it


def _unlock(held: _Held, identity: tuple[int, int]) -> None:
    with held.lock:
        held.folders[identity][1] -= 1
        if not held.folders[identity][1]:
            os.close(held.folders.pop(identity)[0])

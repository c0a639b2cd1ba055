"""One run at a time in an environment, whatever home each run has: a lock on the environment's folder itself.

The lock of a home keeps runs with that home apart. Root's home and the user's are two, as are those that
``NBPROVISION_HOME`` names, and both may describe one environment. ``flock`` takes a folder as well as a file: nothing
is left behind, and the kernel lets go of it whatever ends the process.
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

_ASK_EVERY = 0.1  # seconds


class _Held:
    """The folders that a run holds: its threads are kept apart by the order of the tasks."""

    def __init__(self) -> None:
        self.folders: dict[tuple[int, int], list[int]] = {}  # identity to [descriptor, how many hold it]
        self.lock = threading.Lock()


@contextlib.contextmanager
def alone(
    folders: Iterable[Path], announce: Callable[[str], None], timeout: float | None = None
) -> Iterator[Callable[[Path], None]]:
    """Keep other runs out of ``folders`` while the body runs.

    Where a folder is not there yet, the nearest above it is kept, so that two runs do not both make it.

    Args:
        folders: Environments.
        announce: Called once for each folder that must be waited for.
        timeout: Seconds to wait, None for ever.

    Yields:
        A function to keep a folder as well that was made just now, and that nobody else knows of yet.

    Raises:
        LockTimeout: another run held the lock for too long.

    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with contextlib.ExitStack() as stack:

        def also(folder: Path) -> None:
            _take(folder, stack)

        for folder in sorted(set(folders)):  # always in one order, so that no two wait for one another
            _wait(folder, stack, announce, deadline)
        yield also


def _wait(folder: Path, stack: contextlib.ExitStack, announce: Callable[[str], None], deadline: float | None) -> None:
    announced = False
    while True:
        place = next(existing for existing in (folder, *folder.parents) if existing.is_dir())
        with contextlib.ExitStack() as taken:
            if _take(place, taken):
                if place == folder or not folder.is_dir():  # else another run has made it while this one waited
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
        time.sleep(_ASK_EVERY)


def _take(place: Path, stack: contextlib.ExitStack) -> bool:
    """Whether ``place`` is ours; without a lock where its file system has none (NFS: flock(2))."""
    try:
        handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return True  # a user who may not read it changes nothing there
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
    stack.callback(_let_go, held, identity)
    try:
        now = os.stat(place)
    except OSError:
        return False
    return (now.st_dev, now.st_ino) == identity  # otherwise the previous holder removed or replaced it


def _let_go(held: _Held, identity: tuple[int, int]) -> None:
    with held.lock:
        held.folders[identity][1] -= 1
        if not held.folders[identity][1]:
            os.close(held.folders.pop(identity)[0])

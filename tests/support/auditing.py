"""What this process does to files, told by Python's audit events (PEP 578)."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

Listener = Callable[[str, tuple[Any, ...]], None]
READS_AND_WRITES = "open"
STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system")
CHANGES = (
    "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.chown", "os.truncate", "os.rename", "os.link", "os.symlink",
)  # fmt: skip
_listeners: list[Listener] = []


class _Event:
    """Passes an event on to whoever listens."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, instance: object, arguments: tuple[Any, ...]) -> None:
        for listener in _listeners:
            listener(self.name, arguments)


# A hook stays for the life of its process, and is asked at `sys.settrace` too. If it were a Python function, another
# thread could get its turn in the middle of it, and CPython 3.11 refuses two at once ("Cannot install a trace function
# while another trace function is being installed"): coverage traces each thread, and one in a thousand test runs of
# threads failed. So it is `setattr` of an object, which runs Python code for the events above alone. And garbage is
# collected between tests from then on, no longer in the middle of one: to ask a hook allocates an object, which starts
# a collection once in a while, and that runs the Python code of finalizers.
_heard = type("_Heard", (), {name: _Event() for name in (READS_AND_WRITES, *CHANGES, *STARTS)})()


@functools.cache
def _listening() -> None:
    sys.addaudithook(functools.partial(setattr, _heard))
    gc.disable()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Collect the garbage of a test, and after its file all of it, in a process that has a hook."""
    if not gc.isenabled():
        gc.collect(1 if nextitem and nextitem.path == item.path else 2)


@contextlib.contextmanager
def heard_by(hear: Listener) -> Iterator[None]:
    """Have a function told of the events of all threads, meanwhile."""
    _listening()
    _listeners.append(hear)
    try:
        yield
    finally:
        _listeners.remove(hear)


@contextlib.contextmanager
def started_processes() -> Iterator[list[str]]:
    """What this process starts, meanwhile: event, program and arguments."""
    started: list[str] = []
    with heard_by(lambda event, arguments: started.append(f"{event} {arguments[:2]}") if event in STARTS else None):
        yield started


def is_write(arguments: tuple[Any, ...]) -> bool:
    """Whether an ``open`` is for writing."""
    return isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

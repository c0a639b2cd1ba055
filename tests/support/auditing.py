"""What this process does to files, told by Python's audit events (PEP 578)."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

Listener = Callable[[str, tuple[Any, ...]], None]
READS_AND_WRITES = "open"
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
# threads failed. So it is `setattr` of an object, which runs Python code for the events above alone.
_heard = type("_Heard", (), {name: _Event() for name in (READS_AND_WRITES, *CHANGES)})()


@functools.cache
def _listening() -> None:
    sys.addaudithook(functools.partial(setattr, _heard))


@contextlib.contextmanager
def heard_by(hear: Listener) -> Iterator[None]:
    """Have a function told of the events of all threads, meanwhile."""
    _listening()
    _listeners.append(hear)
    try:
        yield
    finally:
        _listeners.remove(hear)


def is_write(arguments: tuple[Any, ...]) -> bool:
    """Whether an ``open`` is for writing."""
    return isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

"""The inputs of a result: the files and environment variables that were read for it, recorded where they are read.

`system.reading` and `Environment` record each file and each variable, so that no task has to name its inputs, and none
can forget one. A fact that several tasks share is read once: `remembered` keeps its inputs, and records them again for
each of these tasks.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, overload

from nbprovision.system.places import this_start

Value = TypeVar("Value")

START = ""  # the name under which the start of the machine is recorded; no variable can have it
# The times of these files always change, and the files end with the process or the machine.
_OF_THE_KERNEL = ("/proc/", "/sys/", "/dev/")


class Look(NamedTuple):
    """The state of a path, by `os.lstat` and by `os.stat` (None if it was missing), and the time of the look."""

    own: os.stat_result | None
    followed: os.stat_result | None
    at: int  # nanoseconds since the epoch


class Inputs:
    """Files, each in its state at the first read, and environment variables (None for an unset one).

    Under the name `START` stands the start of the machine.
    """

    def __init__(self) -> None:
        self.files: dict[str, Look] = {}
        self.variables: dict[str, str | None] = {}

    def add(self, other: Inputs) -> None:
        """Add the inputs of another result; the first of two reads of a file counts."""
        self.files = {**other.files, **self.files}
        self.variables = {**other.variables, **self.variables}


_NOTHING = Inputs()
_RECORDING: contextvars.ContextVar[Inputs | None] = contextvars.ContextVar("inputs", default=None)


@contextlib.contextmanager
def recorded() -> Iterator[Inputs]:
    """Record the reads of the body; an outer recording gets them too."""
    inputs = Inputs()
    token = _RECORDING.set(inputs)
    try:
        yield inputs
    finally:
        _RECORDING.reset(token)
        take(inputs)


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """Do not record the reads of the body as inputs.

    The tool's own caches save work and decide nothing. The records of installed packages are too many to check at each
    start. Installers replace them, which changes their folders, and these folders are witnesses of the task.
    """
    token = _RECORDING.set(None)
    try:
        yield
    finally:
        _RECORDING.reset(token)


def file(path: str | Path) -> None:
    """Record a file, link or folder as an input; it need not exist."""
    inputs = _RECORDING.get()
    name = os.path.abspath(path)
    if inputs is None or name in inputs.files or name.startswith(_OF_THE_KERNEL):
        return
    inputs.files[name] = look(name)


def start_of_machine() -> str:
    """Return the text of `places.this_start`, and record it as an input."""
    text = this_start()
    inputs = _RECORDING.get()
    if inputs is not None:
        inputs.variables.setdefault(START, text)
    return text


def look(path: str) -> Look:
    """Return the current state of a path."""
    at = time.time_ns()
    own = status(os.lstat, path)
    return Look(own, own if own is None or not stat.S_ISLNK(own.st_mode) else status(os.stat, path), at)


def status(look_at: Callable[[str], os.stat_result], path: str) -> os.stat_result | None:
    """The status of a path by a function of `os`; None if it is missing."""
    try:
        return look_at(path)
    except (OSError, ValueError):  # a NUL in it
        return None


def take(other: Inputs) -> None:
    """Record the inputs of a result that is used again."""
    inputs = _RECORDING.get()
    if inputs is not None:
        inputs.add(other)


class Environment(dict[str, str]):
    """Environment variables, each recorded when it is read by name.

    Args:
        values: The variables.
        given: The variables that the playbook sets: they are not inputs, as the playbook is one.

    """

    def __init__(self, values: Mapping[str, str], given: Iterable[str] = ()) -> None:
        super().__init__(values)
        self._given = frozenset(given)

    def __getitem__(self, name: str) -> str:
        self._record(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str):
            self._record(name)
        return super().__contains__(name)

    @overload
    def get(self, name: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, name: str, default: str, /) -> str: ...
    @overload
    def get(self, name: str, default: Value, /) -> str | Value: ...
    def get(self, name: str, default: Any = None, /) -> Any:
        """Return the variable, or ``default`` if it is not set."""
        self._record(name)
        return super().get(name, default)

    def _record(self, name: str) -> None:
        inputs = _RECORDING.get()
        if inputs is not None and name not in self._given:
            inputs.variables.setdefault(name, super().get(name))


class remembered(Generic[Value]):  # noqa: N801 - used in place of functools.cached_property
    """A property that is computed once; each later use counts as a read of its sources."""

    def __init__(self, work: Callable[[Any], Value]) -> None:
        self._work = work
        self._name = work.__name__
        self._inputs = f"inputs of {work.__name__}"
        self.__doc__ = work.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> remembered[Value]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Value: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> remembered[Value] | Value:
        if instance is None:
            return self
        values = instance.__dict__
        if self._name in values:
            take(values.get(self._inputs, _NOTHING))
            return values[self._name]  # type: ignore[no-any-return]
        with recorded() as inputs:
            value = self._work(instance)
        values[self._inputs], values[self._name] = inputs, value
        return value

    def __set__(self, instance: object, value: Value) -> None:
        """Set the value without computing it."""
        instance.__dict__[self._name] = value

"""What a result rests on: the files and environment variables that were read for it, recorded where they are read.

A task decides by what it reads. `system.reading` and `Environment` record each file and each variable for whoever
listens, so that no task has to name them, and none can forget one. A fact that several tasks share is read once:
`remembered` keeps with it what it was read from, and records that again for each of them.
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

Value = TypeVar("Value")

# These files have other times at each look, and end with the process or with the machine.
_OF_THE_KERNEL = ("/proc/", "/sys/", "/dev/")


class Look(NamedTuple):
    """What stood at a path: by `os.lstat`, and by `os.stat`; None if nothing was; and when that was seen."""

    own: os.stat_result | None
    followed: os.stat_result | None
    at: int  # nanoseconds since the epoch


class Inputs:
    """Files, each as it was when it was first read, and environment variables (None for one that was not set)."""

    def __init__(self) -> None:
        self.files: dict[str, Look] = {}
        self.variables: dict[str, str | None] = {}

    def add(self, other: Inputs) -> None:
        """Add the inputs of another result; of two reads of a file the first counts."""
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
    """Nothing that the body reads is an input.

    The tool's own notes spare it work and decide nothing. The records of installed packages are many, and a start would
    pay for each: installers replace them, which their folders show, and these are witnesses of the task.
    """
    token = _RECORDING.set(None)
    try:
        yield
    finally:
        _RECORDING.reset(token)


def file(path: str | Path) -> None:
    """Record a file, link or folder that is about to be read, whether it exists or not."""
    inputs = _RECORDING.get()
    name = os.path.abspath(path)
    if inputs is None or name in inputs.files or name.startswith(_OF_THE_KERNEL):
        return
    inputs.files[name] = look(name)


def look(path: str) -> Look:
    """Return the current state of a path."""
    at = time.time_ns()
    own = status(os.lstat, path)
    return Look(own, own if own is None or not stat.S_ISLNK(own.st_mode) else status(os.stat, path), at)


def status(look_at: Callable[[str], os.stat_result], path: str) -> os.stat_result | None:
    """What a function of `os` says of a path, None if nothing is there."""
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
    """Environment variables, each recorded when somebody asks for it by name.

    Args:
        values: The variables.
        given: Those among them that a playbook sets: they are known from it, wherever it runs.

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
        """Take a value that somebody else has computed."""
        instance.__dict__[self._name] = value

"""One family of errors: each says what failed, why as far as is known, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar, NamedTuple


class Position(NamedTuple):
    """A place in a file; line and column count from 1, as editors do."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class ProvisionError(Exception):
    """Base of every error that a user can meet.

    Args:
        message: What failed, in one sentence without a full stop.
        cause: Why, as far as is known.
        cure: What to do, or to write instead.
        position: Where in the playbook (or a file that it names) the matter stands.

    """

    exit_status: ClassVar[int] = 2

    def __init__(self, message: str, *, cause: str = "", cure: str = "", position: Position | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.cure = cure
        self.position = position

    def at(self, position: Position | None) -> ProvisionError:
        """The same error with a position, unless it has a nearer one already."""
        if self.position is None:
            self.position = position
        return self

    @property
    def text(self) -> str:
        """Message, cause and cure without the position, on one line each."""
        return "\n".join(part for part in (self.message, self.cause, self.cure) if part)

    def __str__(self) -> str:
        return f"{self.position}: {self.text}" if self.position else self.text


class TaskFailed(ProvisionError):
    """A task could not bring about what it describes."""


class NotBegun(TaskFailed):
    """A task failed before it changed anything: there is no room, or something could not be fetched."""


class ParameterError(ProvisionError):
    """A task's parameters do not make sense; ``key`` names the one at fault (or is empty)."""

    exit_status = 4

    def __init__(self, key: str, message: str, *, cause: str = "", cure: str = "") -> None:
        super().__init__(message, cause=cause, cure=cure)
        self.key = key


class InvalidPlaybook(ProvisionError):
    """The playbook cannot mean anything, or names what is not there.

    Attributes:
        rule: The rule of ``nbprovision lint`` that tells of it.

    """

    exit_status = 4
    rule: str = "invalid-playbook"


class UnknownParameter(InvalidPlaybook):
    """A task is given what it does not take."""

    rule = "unknown-parameter"


class UnknownEnvironment(InvalidPlaybook):
    """An environment is named that neither the machine nor an earlier task of the playbook has."""

    rule = "unknown-environment"


class UsageError(ProvisionError):
    """An option on the command line is wrong."""

    exit_status = 5


class LockTimeout(ProvisionError):
    """Another run held the lock for too long."""

    exit_status = 6


# What is said where only the tool itself can be at fault.
DEFECT = "that should not happen: a defect of nbprovision"
REPORT = "run with -vvv, which writes a report to attach to an issue"


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the valid name that is nearest to ``wrong``, or nothing."""
    close = difflib.get_close_matches(wrong, sorted(valid), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""

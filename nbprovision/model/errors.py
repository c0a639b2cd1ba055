"""One family of errors: each says what failed, why if that is known, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class Position(NamedTuple):
    """A place in a file; line and column count from 1, as editors do."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


def explained(message: str, cause: str = "", cure: str = "", position: Position | None = None) -> str:
    """The layout of everything that is said of a fault, wherever it is shown.

    Args:
        message: What is wrong, behind its place.
        cause: Behind ``why:``; further lines are indented below it.
        cure: Behind ``fix:``, likewise; lines of YAML can be copied as written.
        position: The place.

    """
    parts = [f"{position}: {message}" if position else message]
    for word, text in (("why", cause), ("fix", cure)):
        if text:
            first, *more = text.splitlines()
            parts += [f"  {word}: {first}", *(f"    {line}".rstrip() for line in more)]
    return "\n".join(parts)


class ProvisionError(Exception):
    """Base of every error that a user can meet.

    Args:
        message: What failed, in one sentence without a full stop.
        cause: Why, if that is known.
        cure: What to do, or to write instead.
        position: The position in the playbook (or a file that it names).

    """

    exit_status: ClassVar[int] = 2
    remote: ClassVar[bool] = False  # from the network: only a planned task that changes the source repairs it

    def __init__(self, message: str, *, cause: str = "", cure: str = "", position: Position | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.cure = cure
        self.position = position

    def __reduce__(self) -> tuple[object, ...]:
        """Errors travel between processes whatever their own constructors take."""
        return _restored, (type(self), self.args, self.__dict__)

    def at(self, position: Position | None) -> ProvisionError:
        """The same error with a position, unless it has a nearer one already."""
        if self.position is None:
            self.position = position
        return self

    @property
    def text(self) -> str:
        """Message, cause and cure without the position, on one line each."""
        return "\n".join(part for part in (self.message, self.cause, self.cure) if part)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The texts that are shown; several if the error consists of several faults."""
        return (explained(self.message, self.cause, self.cure, self.position),)

    def __str__(self) -> str:
        return "\n".join(self.blocks)


def _restored(kind: type[ProvisionError], args: tuple[object, ...], state: dict[str, object]) -> ProvisionError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class TaskFailed(ProvisionError):
    """A task could not bring about what it describes."""


class Blocked(TaskFailed):
    """A path is missing or cannot be written; with ``--check`` an earlier task may be about to make it.

    Attributes:
        path: The path.

    """

    def __init__(self, path: Path, message: str, *, cause: str = "", cure: str = "") -> None:
        super().__init__(message, cause=cause, cure=cure)
        self.path = path


class Inevitable(TaskFailed):
    """With ``--check``: a task will fail in what the tasks before it are known to make."""


class NotBegun(TaskFailed):
    """A task failed before it changed anything: there is too little space, or something could not be fetched."""


class ParameterError(ProvisionError):
    """A task's parameters do not make sense; ``key`` names the one at fault (or is empty)."""

    exit_status = 4

    def __init__(self, key: str, message: str, *, cause: str = "", cure: str = "") -> None:
        super().__init__(message, cause=cause, cure=cure)
        self.key = key


class InvalidPlaybook(ProvisionError):
    """The playbook cannot mean anything, or names what is not there.

    Attributes:
        rule: The rule of ``nbprovision lint`` that finds it.

    """

    exit_status = 4
    rule: str = "invalid-playbook"


class MissingFile(InvalidPlaybook):
    """A file that the playbook is made of is missing, or the playbook itself."""


class MissingInput(InvalidPlaybook):
    """A file that a task reads is missing; an earlier task may have to make it."""


class UnsetVariable(InvalidPlaybook):
    """A file that a task reads, or a value of the task, names an environment variable that is not set."""


class SecretUnavailable(InvalidPlaybook):
    """A secret that a template looks up cannot be read; the playbook itself may be right."""

    exit_status = 2
    rule = "secret-unavailable"


class FactUnavailable(InvalidPlaybook):
    """A fact that a template uses is known to others only, and they do not answer; the playbook itself may be right."""

    exit_status = 2


class UnknownParameter(InvalidPlaybook):
    """A task is given what it does not take."""

    rule = "unknown-parameter"


class UnknownEnvironment(InvalidPlaybook):
    """An environment is named that neither the machine nor an earlier task of the playbook has."""

    rule = "unknown-environment"


class NotTrusted(ProvisionError):
    """Root would run, obey or write to what somebody else can change.

    No failure that a task may get around: code that tries another way after a `TaskFailed` lets it pass.
    """


class UsageError(ProvisionError):
    """An option on the command line is wrong."""

    exit_status = 5


class LockTimeout(ProvisionError):
    """Another run held the lock for too long."""

    exit_status = 6


# Why a URL cannot replace a path, and what to do: in a parameter, and in a file that a parameter names.
URL_FOR_PATH = "it is a URL, but a path on this machine is needed"
FETCH_FIRST = "fetch it first, and name the file"
# What is said where only the tool itself can be at fault.
DEFECT = "that should not happen: a defect of nbprovision"
REPORT = "run with -vvv, which writes a report to attach to an issue"


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the valid name that is nearest to ``wrong``, or nothing."""
    close = difflib.get_close_matches(wrong, sorted(valid), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""

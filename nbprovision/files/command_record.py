"""What the tool remembers of commands: when each last succeeded, and the process of one in the background.

A command has one record in the tool's home, under a digest of what identifies it. While it runs in the background, its
processes hold the lock beside the record, so a record whose lock is free describes no running process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from nbprovision.report.activity import is_held
from nbprovision.system import inputs
from nbprovision.system.reading import read_json

FOLDER = "commands"
_IN_CALENDAR = msgspec.Meta(ge=0, lt=253_402_300_800)
_ENDED_SHOWN = 5


class Record(msgspec.Struct, kw_only=True):
    """The record of one command.

    Attributes:
        command: Its text, with secrets masked.
        done: When it last succeeded, in seconds since the epoch; 0 for never.
        boot: The start of the machine in which it last succeeded.
        content: A digest of all that it was given when it last succeeded.
        pid: The process that keeps it in the background; 0 if none ever did.
        started: When it was last started in the background.
        ended: When that ended; 0 while it runs, or if it was killed.
        status: The exit status of that, negative for a signal; None while it runs, or if it was killed.
        reason: Why it was ended before its own end; empty otherwise.

    """

    command: str
    done: Annotated[float, _IN_CALENDAR] = 0.0
    boot: str = ""
    content: str = ""
    pid: int = 0
    started: Annotated[float, _IN_CALENDAR] = 0.0
    ended: Annotated[float, _IN_CALENDAR] = 0.0
    status: int | None = None
    reason: str = ""


class Files(msgspec.Struct, frozen=True):
    """The files of one command: its record, its lock, and the log of its output in the background."""

    record: Path
    lock: Path
    log: Path

    @classmethod
    def of(cls, home: Path, key: str) -> Files:
        """The files of the command with a key, in the tool's home."""
        folder = home / FOLDER
        return cls(folder / f"{key}.json", folder / f"{key}.lock", folder / f"{key}.log")

    def read(self) -> Record | None:
        """The record; None if it is missing, damaged, or another user's."""
        inputs.file(self.record)
        try:
            owners = os.geteuid(), os.stat(self.record.parent.parent).st_uid
            return read_json(self.record, Record, follow=False) if os.lstat(self.record).st_uid in owners else None
        except (OSError, msgspec.DecodeError):
            return None

    @property
    def running(self) -> bool:
        """Whether a process of the command is alive in the background."""
        return is_held(self.lock)


class InBackground(msgspec.Struct, frozen=True):
    """A command of the background as `nbprovision status` shows it.

    Attributes:
        state: ``running``, ``ok``, ``failed``, or ``interrupted`` for one that was killed without a word.
        record: Its record.
        log: The path of its output; empty if a task with `no_log` started it.

    """

    state: str
    record: Record
    log: str

    def text(self, moment: str) -> str:
        """One line for a person; ``moment`` is the time of its last change."""
        record = self.record
        if self.state == "running":
            end = f"since {moment}, stop it with: kill {record.pid}"
        elif self.state == "interrupted":
            end = f"started {moment}, killed before its end; the next run starts it again"
        elif record.reason:
            end = f"{moment}, {record.reason}"
        else:
            end = f"{moment}, " + outcome(record.status)
        return f"command in the background: {self.state}: {record.command} ({end})" + (self.log and f" {self.log}")


def outcome(status: int | None) -> str:
    """An exit status in words."""
    return f"killed by signal {-status}" if status is not None and status < 0 else f"exit status {status}"


def in_background(home: Path) -> list[InBackground]:
    """The commands that run in the background, and those that ended last; oldest first."""
    entries = sorted(_in_background(home), key=lambda entry: entry.record.started)
    ended = [entry for entry in entries if entry.state != "running"][-_ENDED_SHOWN:]
    return [entry for entry in entries if entry.state == "running" or entry in ended]


def _in_background(home: Path) -> Iterator[InBackground]:
    names: list[Path] = []
    with contextlib.suppress(OSError):
        names = sorted((home / FOLDER).glob("[!.]*.json"))
    for path in names:
        files = Files.of(home, path.stem)
        running = files.running  # before the record, which changes once more at the end
        record = files.read()
        if record is None or not record.started:
            continue
        ended = "interrupted" if record.status is None and not record.reason else "failed"
        state = "running" if running else "ok" if record.status == 0 and not record.reason else ended
        log = str(files.log) if os.path.lexists(files.log) else ""
        yield InBackground(state, record, log)

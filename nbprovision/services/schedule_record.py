"""The schedules of a machine: what each runs and when, its last run, and its next one.

The script of a schedule (`nbprovision.root.schedule`) describes it in its second line, and writes the record of its
last run. While it runs, its processes hold the lock beside the record.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nbprovision.files.command_record import outcome
from nbprovision.report.activity import is_held
from nbprovision.root.schedule import HEAD, SCRIPTS
from nbprovision.services.calendar_event import CalendarEvent
from nbprovision.system.reading import read_bytes, read_json

FOLDER = "schedules"
_IN_CALENDAR = msgspec.Meta(ge=0, lt=253_402_300_800)
_MOST = 100  # schedules that are shown
_REASONS = {
    "timeout": "ended at its time limit",
    "stopped": "stopped before its end",
    "environment": "its environment is missing",
    "tool": "nbprovision is missing in its home folder: the lifecycle script installs it",
}


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What a schedule runs, and when.

    Attributes:
        name: Its name.
        command: The beginning of its command.
        every: Seconds between two runs; 0 with ``at``.
        at: A calendar event; empty with ``every``.
        missed: Whether a run that was missed is made up for.

    """

    name: str
    command: str
    every: int
    at: str
    missed: bool

    def next_after(self, moment: float) -> float | None:
        """When it runs next after a run; None if that is unknown."""
        if self.every:
            return moment + self.every
        try:
            return CalendarEvent.parse(self.at).after(moment)
        except (ValueError, OverflowError, OSError):
            return None


class LastRun(msgspec.Struct, frozen=True, kw_only=True):
    """The record of the last run.

    Attributes:
        started: Seconds since the epoch.
        ended: When it ended; None while it runs, or if it was killed.
        status: The exit status.
        reason: Why it was ended, or did not begin; a word of the script's.

    """

    started: Annotated[int, _IN_CALENDAR]
    ended: Annotated[int, _IN_CALENDAR] | None
    status: int | None
    reason: str


class Files(msgspec.Struct, frozen=True):
    """The files of a schedule in the tool's home; ``script`` and ``keeper`` are those of Studio."""

    script: Path
    record: Path
    lock: Path
    log: Path
    keeper: Path

    @classmethod
    def of(cls, home: Path, name: str) -> Files:
        """The files of the schedule with a name."""
        folder = home / FOLDER
        return cls(*(folder / f"{name}.{ending}" for ending in ("sh", "json", "lock", "log", "keeper")))

    def last_run(self) -> LastRun | None:
        """The record; None if it is missing or damaged."""
        try:
            return read_json(self.record, LastRun, follow=False)
        except (OSError, msgspec.DecodeError):
            return None


def description(script: Path) -> Description | None:
    """Read the description in a script; None if there is none."""
    try:
        lines = read_bytes(script, follow=False).split(b"\n", 2)
        return msgspec.json.decode(lines[1].removeprefix(HEAD.encode()), type=Description)
    except (OSError, IndexError, msgspec.DecodeError):
        return None


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as `nbprovision status` shows it.

    Attributes:
        name, command, every, at: As in `Description`.
        state: Of its last run.
        last: The record of that.
        next: When it runs next, in seconds since the epoch; None if nothing starts it, or that is unknown.
        keeper: In Studio, the id of the process that keeps it; 0 if it has ended. None where systemd keeps it.
        log: The path of its output; empty before the first run.

    """

    name: str
    command: str
    every: int
    at: str
    state: Literal["never", "running", "ok", "failed", "interrupted"]
    last: LastRun | None
    next: float | None
    keeper: int | None
    log: str

    def lines(self, shown: Callable[[float], str]) -> list[str]:
        """Some lines for a person; ``shown`` makes a text of a moment."""
        when = f"every {_duration(self.every)}" if self.every else self.at
        last = self.last
        end = ""
        if self.state == "running" and last is not None:
            end = f" (since {shown(last.started)})"
        elif self.state == "interrupted" and last is not None:
            end = f" (started {shown(last.started)}, killed before its end)"
        elif last is not None:
            end = f" ({shown(last.ended or last.started)}, {_REASONS.get(last.reason) or outcome(last.status)})"
        head = f"schedule {self.name}, {when}: {self.state}{end}: {self.command}"
        below = [] if self.next is None else [f"next: {shown(self.next)}"]
        below += [self.log] if self.log else []
        if self.keeper:
            below.append(f"kept by process {self.keeper}, which ends with the space and can be killed")
        elif self.keeper is not None:
            below.append("nothing keeps it: its process has ended, and the next run of the playbook starts it again")
        return [head, *(f"  {line}" for line in below)]


def schedules(home: Path, root: Path = Path("/")) -> list[Schedule]:
    """The schedules of this machine: those of root's timers, and those of keepers, by name."""
    of_root: list[Path] = []
    kept: list[Path] = []
    with contextlib.suppress(OSError):
        of_root = sorted((root / SCRIPTS[1:]).glob("[a-z0-9]*"))[:_MOST]
    with contextlib.suppress(OSError):
        kept = sorted((home / FOLDER).glob("[a-z0-9]*.sh"))[:_MOST]
    shown = [_shown(home, path, keeper=None) for path in of_root if not path.name.startswith(".")]
    shown += [_shown(home, path, keeper=_keeper(path.with_suffix(".keeper"))) for path in kept]
    return sorted((schedule for schedule in shown if schedule is not None), key=lambda schedule: schedule.name)


def _shown(home: Path, script: Path, *, keeper: int | None) -> Schedule | None:
    described = description(script)
    if described is None or described.name != script.stem:
        return None
    files = Files.of(home, described.name)
    running = is_held(files.lock)  # before the record, which changes once more at the end
    last = files.last_run()
    now = time.time()
    upcoming = None
    if keeper != 0:
        upcoming = described.next_after(last.started if described.every and last is not None else now)
        if described.every and (last is None or upcoming is None or upcoming < now):
            upcoming = None  # it counts from the start of the machine
    state: Literal["never", "running", "ok", "failed", "interrupted"] = "never"
    if running:
        state = "running"
    elif last is not None:
        state = "interrupted" if last.ended is None else "ok" if last.status == 0 and not last.reason else "failed"
    return Schedule(
        name=described.name,
        command=described.command,
        every=described.every,
        at=described.at,
        state=state,
        last=last,
        next=upcoming,
        keeper=keeper,
        log=str(files.log) if os.path.lexists(files.log) else "",
    )


def _keeper(lock: Path) -> int:
    if not is_held(lock):
        return 0
    try:
        return int(read_bytes(lock, follow=False)[:20])
    except (OSError, ValueError):
        return 0


def _duration(seconds: int) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"

"""The idle stop of this machine as its user sees it: the last look of the watcher, and until when it is held."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec

from nbprovision.files.command_record import in_background
from nbprovision.root import idle_stop
from nbprovision.system.files import make_folder, remove, write_atomically
from nbprovision.system.reading import read_json

FOLDER = "idle"  # in the tool's home, for Studio
COMMAND = "the idle stop (ensure_idle_stop)"  # by which the keeper's record is known
_IN_CALENDAR = msgspec.Meta(ge=0, lt=253_402_300_800)
_Moment = Annotated[float, _IN_CALENDAR]
_LATE = 300.0  # seconds by which a look may be late
_MOST_REASONS = 10
_ATTEMPTS, _MOMENT = 3, 0.02  # how often a report is read that cannot be understood, and seconds between


class Report(msgspec.Struct, frozen=True):
    """What the watcher last said; see `nbprovision.root.idle_watch`.

    Attributes:
        time: When it looked.
        decision: ``keep``, ``stop``, ``would stop`` (`dry_run`), ``cannot stop``.
        why: The reasons.
        unknown: What it could not read.
        idle: Seconds since the last use.
        held: Until when the user holds the machine; 0 for not.
        after: Seconds without use after which the machine is stopped.
        every: Seconds between two looks.
        limit: Seconds for which the user may hold it.
        dry_run: It only says what it would do.
        platform: ``notebook-instance`` or ``studio``.

    """

    time: _Moment
    decision: str
    why: list[str]
    unknown: list[str]
    idle: float
    held: _Moment
    after: _Moment
    every: _Moment
    limit: _Moment
    dry_run: bool
    platform: str


class Idle(msgspec.Struct, frozen=True):
    """The idle stop of this machine.

    Attributes:
        report: Of the watcher's last look; None if it has left none.
        hold_file: Where the user writes until when he holds the machine.
        runs: Whether the watcher is at work; on a notebook instance by the age of its last look.

    """

    report: Report | None
    hold_file: Path
    runs: bool

    @classmethod
    def of(cls, home: Path, root: Path = Path("/")) -> Idle | None:
        """Look for root's on a notebook instance, else for the user's own in Studio; None without one."""
        hold_file = root / idle_stop.HOLD[1:]
        if os.path.isdir(hold_file.parent):
            report = _report(root / idle_stop.REPORT[1:])
            late = report is None or time.time() - report.time > 3 * report.every + _LATE
            return cls(report, hold_file, runs=not late)
        folder = home / FOLDER
        if os.path.lexists(folder / "settings.json"):
            states = [entry.state for entry in in_background(home) if entry.record.command == COMMAND]
            return cls(_report(folder / "report.json"), folder / "until", runs="running" in states)
        return None

    @property
    def limit(self) -> float:
        """Seconds for which the user may hold the machine."""
        return 0.0 if self.report is None else self.report.limit

    @property
    def held(self) -> float:
        """Until when the user holds the machine, as far as is known; 0 for not."""
        try:
            until = float(read_json(self.hold_file, float, follow=False))
        except (OSError, msgspec.DecodeError):
            return 0.0
        now = time.time()
        return min(until, now + self.limit) if until > now else 0.0

    def hold(self, seconds: float) -> float:
        """Hold the machine for some time, but not past the limit; 0 ends it. Return until when."""
        if not seconds:
            remove(self.hold_file)
            return 0.0
        until = int(time.time() + min(seconds, self.limit))
        make_folder(self.hold_file.parent)
        write_atomically(self.hold_file, f"{until}\n", mode=0o644, durable=False)
        return until

    def lines(self, moment: Any) -> list[str]:
        """Some lines for a person; ``moment`` makes text of a time."""
        report = self.report
        if report is None:
            return ["idle stop: it has not looked yet" if self.runs else "idle stop: it does not run"]
        reasons = "; ".join([*report.why, *(f"unknown: {text}" for text in report.unknown)][:_MOST_REASONS])
        lines = [f"idle stop: {report.decision}: {reasons} ({moment(report.time)}; stops after {span(report.after)})"]
        if not self.runs:
            lines.append("  it has not looked since then, and does not run")
        if report.dry_run:
            lines.append("  dry_run: it only says what it would do")
        if held := self.held:
            lines.append(f"  kept awake until {moment(held)}; `nbprovision keep-awake off` ends that")
        if report.platform == "studio":
            lines.append("  in Studio it is a process of the user's, who can end it")
        return lines

    def document(self) -> dict[str, Any]:
        """The same as plain data."""
        report = None if self.report is None else msgspec.to_builtins(self.report)
        return {"runs": self.runs, "held_until": self.held, "last_look": report}


def _report(path: Path) -> Report | None:
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return read_json(path, Report, follow=False)
        time.sleep(_MOMENT)  # it may just be written
    return None


def span(seconds: float) -> str:
    """A length of time as the playbook writes it, to the minute: ``2h``, ``90m``, ``45s``."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s" if seconds < 60 else f"{seconds // 60:.0f}m"

"""``nbprovision status``: the current activity, its progress, and the result of the last run."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.engine.guard import Holder, holder
from nbprovision.files.command_record import InBackground, in_background
from nbprovision.machine import platform
from nbprovision.machine.machine import Machine
from nbprovision.machine.ownership import refuse_foreign_code
from nbprovision.report import activity, ring, status_file
from nbprovision.report.activity import IN_PROGRESS, Activity, Moment, State, Witnessed, Word, witnessed_since
from nbprovision.report.colour import shown
from nbprovision.report.document import render_plain
from nbprovision.report.instance_report import InstanceReport
from nbprovision.report.lost import lost
from nbprovision.report.progress import (
    ENDED,
    RunProgress,
    TaskProgress,
    called,
    correct_text,
    line_of_end,
    line_of_waiting,
    lines_below,
    log_line,
    moment,
    origin,
    read,
)
from nbprovision.report.status_file import Fault
from nbprovision.services.idle import Idle
from nbprovision.services.root_report import RootReport
from nbprovision.services.schedule_record import Schedule, schedules
from nbprovision.system.places import boot_id, tool_home
from nbprovision.system.reading import read_json

_DIGITS = 12  # of a release's digest
_EVERY = 0.5  # seconds between two looks with --follow
_TASK_LINES_EVERY = 5.0  # seconds between two lines about one running task
_STATES: dict[State, status_file.State] = {
    "never": "never", "ok": "ready", "failed": "failed", "interrupted": "failed",
}  # fmt: skip
_WORDS: dict[str, State] = {"done": "ok", "failed": "failed", "skipped": "skipped"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``status``."""
    parser.add_argument("--follow", action="store_true", help="print news until the work has ended")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one document")
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Print active and waiting runs, and the result of the last run.

    Returns:
        0, even if nothing ran yet.

    Raises:
        UsageError: this is root's, and somebody else can change the tool.

    """
    refuse_foreign_code()  # root may read a user's state, but not run a user's program
    home = options.home.absolute() if options.home else Path(tool_home(os.environ))
    if options.follow:
        _follow(home, json=options.format == "json")
    status = Status.of(home)
    text = shown(status.text())
    place = platform.detect()
    if place.kind == "notebook-instance" and place.volume is not None and not status.busy:
        correct_text(place.volume, home, status.state, text)
        status.correct_file(place.volume)
    if options.format == "json":
        sys.stdout.write(render_plain(status.document()))
    else:
        print(text)
    return 0


class Status(msgspec.Struct, frozen=True):
    """The status at one moment.

    Attributes:
        home: The tool's home folder.
        state: The current activity, or how the last one ended.
        record: The record of the current or last activity.
        ended: When that record was last written, seconds since the epoch.
        progress: The progress of the active run.
        waiting: The runs that wait for the lock.
        holder: The holder of the lock, if the record does not name it.
        word: The last line of root's part of the lifecycle script, if it differs from the record.
        last: The document of the last run that did not end at its witnesses.
        witnessed: The run after that record that ended at its witnesses.
        commands: The commands that tasks have started in the background.
        root: What root's part of the script did at this start.
        schedules: The commands that run by timers.
        idle: The idle stop of this machine.
        ring: The report of this instance of a ring.

    """

    home: Path
    state: State
    record: Activity | None
    ended: float
    progress: RunProgress | None
    waiting: list[Activity]
    holder: Holder | None
    word: Word | None
    last: dict[str, Any] | None
    witnessed: Witnessed | None
    commands: list[InBackground]
    root: RootReport | None = None
    schedules: list[Schedule] = []
    idle: Idle | None = None
    ring: InstanceReport | None = None

    @classmethod
    def of(cls, home: Path) -> Status:
        """Read the state of a home folder."""
        record, written = activity.read(home) or (None, 0.0)
        locked = activity.is_held(home / "lock")
        lock_holder = holder(home) if locked else None
        state: State = "never" if record is None else _state_now(home, record, lock_holder, locked=locked)
        progress = read(home, record) if record is not None and state in ("running", "background") else None
        waiting, last = activity.in_line(home), _last(home)
        witnessed = word = None
        if state not in IN_PROGRESS:
            if record is None and last is not None and not last["check"]:
                state, written = ("failed" if last["status"] == "failed" else "ok"), last["started"]
            failed = record.playbook or "?" if record is not None and record.state == "failed" else ""
            witnessed = witnessed_since(home, written, failed)
            if witnessed is not None:
                state, written = "ok", witnessed.when
            word = _newer_word(activity.root_word(), state, written, record)
            if word is not None and (word.word != "failed" or state != "interrupted"):
                state = _WORDS[word.word]
            if waiting:
                state = "waiting"
        return cls(
            home=home,
            state=state,
            record=record,
            ended=written,
            progress=progress,
            waiting=waiting,
            holder=None if state in ("running", "background") else lock_holder,
            word=word,
            last=last,
            witnessed=witnessed,
            commands=in_background(home),
            root=RootReport.read(),
            schedules=schedules(home),
            idle=Idle.of(home),
            ring=ring.read(home),
        )

    @property
    def busy(self) -> bool:
        """Whether a run is active or waiting."""
        return self.state in IN_PROGRESS

    def text(self) -> str:
        """Return some lines for a person."""
        lines = [self._head()]
        if self.record is not None and self.witnessed is None:
            lines += lines_below(self.record)
        lines += map(line_of_waiting, self.waiting[1:] if self.state == "waiting" else self.waiting)
        if self.holder is not None:
            lines.append(f"the lock is held by {self.holder}")
        if self.word is not None:
            lines.append(f"the {self.word.fields['hook']} script said ({moment(self.word.when)}): {self.word.line}")
        if self.ring is not None:
            lines += _lines_of_ring(self.ring)
        if self.last is not None:
            lines += _lines_of_last(self.last)
        if self.root is not None:
            lines += self.root.lines()
        for command in self.commands:
            lines.append(command.text(moment(command.record.ended or command.record.started)))
        for schedule in self.schedules:
            lines += schedule.lines(moment)
        lines += self.idle.lines(moment) if self.idle is not None else []
        return "\n".join([*lines, log_line(self.home)])

    def _head(self) -> str:
        run = self.record
        if self.state == "waiting" and self.waiting:
            return line_of_waiting(self.waiting[0])
        if self.progress is not None and run is not None:
            return self.progress.text(msgspec.structs.replace(run, state=self.state))
        if self.witnessed is not None and self.state == "ok":
            return f"ok: {self.witnessed.playbook} ({moment(self.ended)}, witnessed)"
        if run is None or (self.state in ("ok", "failed", "skipped") and run.state != self.state):
            return f"{self.state}: " + ("no run has ended yet" if self.state == "never" else "see below")
        if self.busy:
            return f"{self.state}: {called(run)}, {origin(run)}"
        if self.state == "interrupted":
            end = "it ended before its work was done, and the next run continues"
            return f"interrupted: {called(run)}, {origin(run)}; {end}"
        return line_of_end(run, self.ended)

    def correct_file(self, volume: Path) -> None:
        """Correct the JSON file of the volume; the packages that the next stop loses are looked for again."""
        state = _STATES.get(self.state)
        if self.busy or state is None or status_file.read(volume, self.home) is None:
            return
        error = None
        if self.state == "interrupted":
            error = Fault(
                message="the run ended before its work was done",
                why="its process was killed, or the machine was stopped",
                fix="run the playbook again; it continues from there",
            )
        elif state == "failed":
            of_record = None if self.record is None else status_file.of_activity(self.record, self.home).error
            error = of_record or Fault(message=self.word.line if self.word is not None else "the run failed")
        by_hand = lost(Machine(home=self.home))
        status_file.correct(volume, self.home, state, error=error, ended=self.ended, lost=by_hand)

    def document(self) -> dict[str, Any]:
        """The same as plain data."""
        content: dict[str, Any] = msgspec.to_builtins(
            {
                "state": self.state,
                "record": self.record,
                "waiting": self.waiting,
                "holder": self.holder,
                "script": self.word,
                "running": self.progress,
                "last": self.last,
                "commands": self.commands,
                "root": self.root,
                "schedules": self.schedules,
                "idle": None if self.idle is None else self.idle.document(),
                "ring": self.ring,
            }
        )
        return content


def _state_now(home: Path, record: Activity, lock_holder: Holder | None, *, locked: bool) -> State:
    """Return the current state of a record: the locks show whether its process is still active."""
    if record.state not in IN_PROGRESS:
        return record.state
    here = record.host in ("", os.uname().nodename)
    if here and record.boot and record.boot != boot_id():
        return "interrupted"
    installing = activity.is_held(home / "bootstrap.lock")
    if record.state == "installing":
        return "installing" if installing else "interrupted"
    if record.state == "waiting" and installing:
        return "waiting"
    process = record.pid, record.host
    another = lock_holder is not None and (lock_holder.pid, lock_holder.host or record.host) != process
    return "interrupted" if not locked or (another and record.state != "waiting") else record.state


def _newer_word(word: Word | None, state: State, written: float, record: Activity | None) -> Word | None:
    """Return root's line if it is newer than the record and differs from it."""
    if word is None or word.when < written or word.word not in _WORDS:
        return None
    is_result = record is not None and word.fields.get("status", "") == str(record.status or 0)
    return None if is_result and _WORDS[word.word] == state else word


def _lines_of_ring(report: InstanceReport) -> list[str]:
    release, wanted = (digest[:_DIGITS] if digest else "none" for digest in (report.release, report.wanted))
    lines = [f"ring {report.ring}: release {release} ({moment(report.time)}), instance {report.instance}"]
    if report.fallback:
        pointer = f"the ring points to {wanted}" if report.wanted else "it is unknown to which release the ring points"
        lines.append(f"  {pointer}: {report.fallback}")
    if report.drift:
        lines.append(f"  drift, mended: {', '.join(report.drift)}")
    return lines


def _lines_of_last(last: dict[str, Any]) -> list[str]:
    when, checked = moment(last["started"]), " (--check)" if last["check"] else ""
    counts = " ".join(f"{status}={count}" for status, count in last["counts"].items())
    run = f" {last['run']}" if last.get("run") else ""
    lines = [f"last full run{run}{checked}: {last['status']} ({when}, {last['seconds']:.2f} s) {last['playbook']}"]
    lines.append(f"  {counts}")
    if last.get("left_out"):
        lines.append(f"  left out by --tags, --skip-tags or --start-at-task: {', '.join(last['left_out'])}")
    for task in last["tasks"]:
        if task["error"]:
            fate = next((f"failed, {how}" for how in ("rescued", "ignored") if task.get(how)), "failed")
            message = task["error"]["message"].replace("\n", "\n    ")
            lines.append(f"  {fate}: {task['task']}: {task['name']}: {message}")
    return lines


def _follow(home: Path, *, json: bool) -> None:
    """Print news for as long as a run is active or waiting; with ``json`` as messages."""
    stream = sys.stderr if json else sys.stdout
    follower = Follower(lambda line: print(shown(line), file=stream, flush=True))
    while (status := Status.of(home)).busy or activity.is_held(home / "lock"):
        if getattr(stream, "failure", None) is not None:  # nobody reads it any more
            return
        follower.look(status)
        time.sleep(_EVERY)
    follower.end(status.last)


class Follower:
    """Prints each event of ``--follow`` once: compares each state with the lines printed so far."""

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self._print_line = print_line
        self._head: tuple[Any, ...] = ()
        self._run: tuple[int, int] = (0, 0)
        self._waiting: set[tuple[str, int, int]] = set()
        self._seen: dict[int, str] = {}
        self._texts: dict[int, tuple[str, float]] = {}
        self._finished: Counter[tuple[str, str]] = Counter()

    def look(self, status: Status) -> None:
        """Print the news."""
        state, record, progress = status.state, status.record, status.progress
        if record is not None and state != "waiting" and (state, record.pid, record.started) != self._head:
            self._head = (state, record.pid, record.started)
            if (record.pid, record.started) != self._run:
                self._run = (record.pid, record.started)
                self._seen, self._texts, self._finished = {}, {}, Counter()
            self._print_line(f"{state}: {record.playbook or f'nbprovision {record.version}'}, {origin(record)}")
        for run in status.waiting:
            if (run.host, run.pid, run.started) not in self._waiting:
                self._waiting.add((run.host, run.pid, run.started))
                self._print_line(line_of_waiting(run))
        for number, task in enumerate(progress.tasks if progress is not None else ()):
            self._look_at(number, task)

    def end(self, last: dict[str, Any] | None) -> None:
        """Print the tasks that finished since the last look; ``last`` is the document of the last run of all."""
        if last is None or last.get("pid") != self._run[0]:
            return
        for task in last["tasks"]:
            key = (task["task"], task["name"])
            if self._finished[key]:
                self._finished[key] -= 1
            else:
                self._print_line(f"  {task['status'] + ':':<9} {task['task']}: {task['name']}")

    def _look_at(self, number: int, task: TaskProgress) -> None:
        before = self._seen.get(number, "waiting")
        if task.status != before:
            self._seen[number] = task.status
            if task.status in ENDED:
                self._finished[task.task, task.name] += 1
            self._print_line(f"  {task.status + ':':<9} {task.task}: {task.name}")
        if task.status == "running" and task.text:
            text, when = self._texts.get(number, ("", 0.0))
            if task.text != text and time.monotonic() - when >= _TASK_LINES_EVERY:
                self._texts[number] = (task.text, time.monotonic())
                self._print_line(f"  {task.line()}")


def _last(home: Path) -> dict[str, Any] | None:
    try:
        last: dict[str, Any] = read_json(home / "last-run.json", follow=False)
        msgspec.convert(last, _Last)
    except (OSError, msgspec.DecodeError):
        return None
    return last | {"check": last.get("check", False)}


class _Message(msgspec.Struct):
    message: str


class _Task(msgspec.Struct):
    name: str
    task: str
    status: str
    error: _Message | None


class _Last(msgspec.Struct):
    """The used parts of a run's document; a file of another form counts as missing."""

    playbook: str
    status: str
    started: Moment
    seconds: float
    counts: dict[str, int]
    tasks: list[_Task]
    pid: int = 0
    check: bool = False
    left_out: list[str] = []
    run: str = ""

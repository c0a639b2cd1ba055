"""The progress of a run, in files that others read meanwhile.

``nbprovision status`` reads ``progress.json`` in the tool's home. On a notebook instance, a text file at the top of the
volume shows the same in JupyterLab's file browser, and a JSON file in the extension of JupyterLab (`status_file`).
"""

from __future__ import annotations

import contextlib
import os
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.model.errors import NotTrusted, TaskFailed
from nbprovision.model.result import Result
from nbprovision.report import activity, status_file
from nbprovision.report.activity import Activity, Moment
from nbprovision.report.status_file import RunEnd, TaskState, TaskStatus
from nbprovision.system import trust
from nbprovision.system.context import thread
from nbprovision.system.files import write_atomically
from nbprovision.system.reading import read_bytes, read_json
from nbprovision.system.secrets import mask, masked

FILE = "progress.json"
TEXT_FILE = "nbprovision-status.txt"
_PATIENCE = 1.0  # seconds; a run that ends sooner leaves no file behind
_INTERVAL = 0.5  # seconds between two writes
ENDED = ("ok", "changed", "skipped", "failed")


class TaskProgress(msgspec.Struct):
    """A task of an active run; ``done`` and ``total`` are in the unit of ``text``, and 0 if unknown."""

    name: str
    task: str
    status: TaskStatus = "waiting"
    text: str = ""
    done: float = 0.0
    total: float = 0.0
    since: Moment | None = None
    error: str = ""

    def state(self) -> TaskState:
        """The same for the JSON file of the volume."""
        seconds = max(0.0, time.time() - self.since) if self.status == "running" and self.since else 0.0
        return TaskState(
            name=self.name, task=self.task, status=self.status, text=self.text, done=max(0.0, self.done),
            total=max(0.0, self.total), seconds=round(seconds, 1),
        )  # fmt: skip

    def line(self) -> str:
        """Return one line for a person."""
        share = f" {100 * self.done / self.total:.0f}%" if self.total else ""
        lasting = f", for {max(0.0, time.time() - self.since):.0f} s" if self.status == "running" and self.since else ""
        return f"{self.status + ':':<9} {self.task}: {self.name}{'  ' + self.text if self.text else ''}{share}{lasting}"


class RunProgress(msgspec.Struct):
    """A run that is active or was killed: its record shows which."""

    playbook: str
    pid: int
    started: Moment
    log: str
    tasks: list[TaskProgress]

    def text(self, run: Activity) -> str:
        """Return some lines for a person.

        Args:
            run: The record of the run.

        """
        done = sum(task.status in ENDED for task in self.tasks)
        head = f"{run.state}: {self.playbook}, {done} of {len(self.tasks)} tasks done, {origin(run)}"
        return "\n".join([head, *(f"  {task.line()}" for task in self.tasks if task.status != "waiting")])


def origin(run: Activity) -> str:
    """Describe a run: its start, process and lifecycle script, and its host if that is not this one."""
    by = f", {run.hook}" if run.hook else ""
    elsewhere = "" if run.host in ("", os.uname().nodename) else f" on {run.host}"
    return f"since {moment(run.started)}, process {run.pid}{elsewhere}{by}"


def moment(seconds: float) -> str:
    """A moment in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


class ProgressFiles:
    """A listener of a run that keeps the files up to date.

    Args:
        home: The tool's home folder.
        volume: The folder of the text file; None for no text file.
        record: The run's record.
        steps: All steps of the run, in order.
    """

    def __init__(self, home: Path, volume: Path | None, record: Activity, steps: Sequence[Any]) -> None:
        self._home = home
        self._path = home / FILE
        self._record = record
        # Root writes no status into a folder of the user's.
        writable = volume is not None and os.access(volume, os.W_OK) and trust.fault(volume) is None
        self._volume = volume if writable else None
        self._text_path = volume / TEXT_FILE if volume is not None and writable else None
        self._results: dict[int, Result] = {}  # by the identity of the task's entry
        self._tasks = {id(step): TaskProgress(masked(step.name), step.kind) for step in steps}
        self._run = RunProgress(
            record.playbook,
            record.pid,
            record.started,
            record.log,
            [self._tasks[id(step)] for step in steps if not step.conditional],
        )
        self._over = threading.Event()
        self._writing = threading.Lock()
        thread(self._write_now_and_then).start()

    def started(self, step: Any) -> None:
        """Record that the work on a step starts."""
        task = self._task(step)
        task.status, task.since = "running", time.time()

    def progressed(self, step: Any, text: str, done: float, total: float) -> None:
        """Record the progress of long work."""
        task = self._task(step)
        task.text, task.done, task.total = mask(text), done, total

    def finished(self, step: Any, result: Result) -> None:
        """Record the result of a step."""
        task = self._task(step)
        task.status, task.text, task.done, task.total = result.status, "", 0.0, 0.0
        task.error = mask(str(result.error)) if result.error else ""
        self._results[id(task)] = result

    def _states(self) -> Iterator[TaskState]:
        for task in list(self._run.tasks):
            result = self._results.get(id(task))
            yield task.state() if result is None else status_file.of_result(result)

    def _task(self, step: Any) -> TaskProgress:
        """Return the entry of a step; a conditional step is listed when it runs."""
        task = self._tasks[id(step)]
        if step.conditional and not any(task is entry for entry in self._run.tasks):
            self._run.tasks.append(task)
        return task

    def ended(self, record: Activity, end: RunEnd | None = None) -> None:
        """Record the end of the run; the text file keeps failures and long runs, the JSON file every run.

        Args:
            record: The current record.
            end: The rest of what is known of the end.

        """
        end = end or RunEnd()
        self._over.set()
        with self._writing, contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        if self._volume is None or self._text_path is None:
            return
        failed = (result for result in self._results.values() if result.failed and result.error is not None)
        failure = next((status_file.of_result(result).error for result in failed), None)
        status_file.write(self._volume, status_file.at_the_end(record, self._home, self._states(), end, failure))
        below = lines_below(record)
        errors = [
            f"{task.line()}\n" + textwrap.indent(f"error: {task.error}", "    ")
            for task in self._tasks.values()
            if task.error
        ]
        if errors or below or self._text_path.exists():
            now = time.time()
            counts = " ".join(f"{status}={count}" for status, count in end.counts.items())
            head = line_of_end(record, now) if below else f"{record.state}: {record.playbook}  {counts}".rstrip()
            text = "\n".join([head if below else f"{head} ({moment(now)})", *below, *errors, log_line(self._home)])
            with contextlib.suppress(TaskFailed):  # the disk is full; the log and the output show the same
                write_atomically(self._text_path, text + "\n", mode=0o644)

    def _write_now_and_then(self) -> None:
        # A thread, so that the file also shows a task without news.
        wait = _PATIENCE
        while not self._over.wait(wait):
            wait = _INTERVAL
            with self._writing, contextlib.suppress(TaskFailed):
                if not self._over.is_set():
                    write_atomically(self._path, msgspec.json.encode(self._run), mode=0o600, durable=False)
                    if self._volume is not None and self._text_path is not None:
                        state = status_file.at_work(self._record, self._home, self._states())
                        status_file.write(self._volume, state)
                        waiting = map(line_of_waiting, activity.in_line(self._home))
                        text = "\n".join([self._run.text(self._record), *waiting, log_line(self._home)])
                        write_atomically(self._text_path, text + "\n", mode=0o644, durable=False)


def called(run: Activity) -> str:
    """The subject of an activity, in one line whatever its record contains."""
    return " ".join((run.playbook or f"nbprovision {run.version}").split())


def line_of_end(run: Activity, when: float) -> str:
    """How an activity ended.

    Args:
        run: Its record.
        when: When it ended, in seconds since the epoch.

    """
    parts = [*([run.hook] if run.hook else []), moment(when)]
    parts += [f"status {run.status}"] if run.status else []
    parts += [f"with the last good {_FALLBACKS.get(run.fallback, run.fallback)}"] if run.fallback else []
    return f"{run.state}: {called(run)} ({', '.join(parts)})" + (f": {run.message}" if run.message else "")


def lines_below(run: Activity) -> list[str]:
    """Why an earlier playbook was used, and how the other playbook of the same lifecycle script ended."""
    lines = [f"  why: {run.why}"] if run.why else []
    for whose, other in (("the team's playbook", run.team), ("the user's own playbook", run.user_playbook)):
        if other is not None:
            lines += [f"  {whose}: {line_of_end(other, other.started)}", *(f"  {line}" for line in lines_below(other))]
    return lines


_FALLBACKS = {"both": "tool and playbook"}


def line_of_waiting(run: Activity) -> str:
    """One line of a run that waits for the lock."""
    return f"waiting: {run.playbook}, {origin(run)}"


def log_line(home: Path) -> str:
    """Name the sources of more information; the last line of every status."""
    return f"log: {home / 'log' / 'nbprovision.log'}"


def read(home: Path, run: Activity) -> RunProgress | None:
    """Return the progress of a run; None if it has not recorded any yet."""
    try:
        progress = read_json(home / FILE, RunProgress, follow=False)
    except (OSError, msgspec.DecodeError):
        return None
    return progress if (progress.pid, progress.started) == (run.pid, run.started) else None


def correct_text(volume: Path, home: Path, state: str, text: str) -> None:
    """Correct an outdated text file, such as that of a killed run.

    Args:
        volume: The folder of the text file.
        home: The tool's home folder; a text about another home's runs is not changed.
        state: The state that the text file should begin with.
        text: The new text.

    """
    path = volume / TEXT_FILE
    with contextlib.suppress(OSError, TaskFailed, NotTrusted):
        lines = read_bytes(path, most=1 << 20).decode("utf-8", "replace").splitlines()
        if lines and lines[-1] == log_line(home) and not lines[0].startswith(f"{state}:"):
            write_atomically(path, text + "\n", mode=0o644)

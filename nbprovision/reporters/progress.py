"""How far a run is, in files that others read while it goes on.

``progress.json`` in the tool's home serves ``nbprovision status``; on a notebook instance a plain text file at the top
of the volume says the same where JupyterLab's file browser shows it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from nbprovision.model.errors import TaskFailed
from nbprovision.model.result import Result
from nbprovision.system.files import write_atomically
from nbprovision.system.reading import read_json
from nbprovision.system.secrets import mask, masked

FILE = "progress.json"
TEXT_FILE = "nbprovision-status.txt"
# Seconds since the epoch that a calendar has a day for.
Moment = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)]
_PATIENCE = 1.0  # seconds; a run that ends sooner leaves no file behind
_INTERVAL = 0.5  # seconds between two writes


class TaskProgress(msgspec.Struct):
    """One task of a run that goes on; ``done`` of ``total`` is in whatever unit ``text`` speaks of, 0 where unknown."""

    name: str
    task: str
    status: str = "waiting"
    text: str = ""
    done: float = 0.0
    total: float = 0.0
    since: Moment | None = None
    error: str = ""

    def line(self) -> str:
        """One line for a person."""
        share = f" {100 * self.done / self.total:.0f}%" if self.total else ""
        lasting = f", for {max(0.0, time.time() - self.since):.0f} s" if self.status == "running" and self.since else ""
        return f"{self.status + ':':<9} {self.task}: {self.name}{'  ' + self.text if self.text else ''}{share}{lasting}"


class RunProgress(msgspec.Struct):
    """A run that goes on (``pid`` is alive) or was killed (it is not)."""

    playbook: str
    pid: int
    started: Moment
    log: str
    tasks: list[TaskProgress]

    def text(self) -> str:
        """Some lines for a person."""
        done = sum(task.status in ("ok", "changed", "skipped", "failed") for task in self.tasks)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        head = f"running: {self.playbook}, {done} of {len(self.tasks)} tasks done, since {since}, process {self.pid}"
        rest = [f"  {task.line()}" for task in self.tasks if task.status != "waiting"]
        return "\n".join([head, *rest, f"log: {self.log}"])


class ProgressFiles:
    """Hears a run and keeps the files.

    Args:
        home: The tool's home folder.
        volume: The folder for the text file, None for no such file.
        playbook: Its path.
        steps: All of the run, in order.
    """

    def __init__(self, home: Path, volume: Path | None, playbook: str, steps: Sequence[Any]) -> None:
        self._path = home / FILE
        self._text_path = volume / TEXT_FILE if volume is not None and os.access(volume, os.W_OK) else None
        self._tasks = {id(step): TaskProgress(masked(step.name), step.kind) for step in steps}
        self._run = RunProgress(
            playbook,
            os.getpid(),
            time.time(),
            str(home / "log" / "nbprovision.log"),
            [self._tasks[id(step)] for step in steps if not step.conditional],
        )
        self._over = threading.Event()
        self._writing = threading.Lock()
        threading.Thread(target=self._write_now_and_then, daemon=True).start()

    def started(self, step: Any) -> None:
        """A step takes the full path."""
        task = self._told(step)
        task.status, task.since = "running", time.time()

    def progressed(self, step: Any, text: str, done: float, total: float) -> None:
        """Long work goes on."""
        task = self._told(step)
        task.text, task.done, task.total = mask(text), done, total

    def finished(self, step: Any, result: Result) -> None:
        """A step has its result."""
        task = self._told(step)
        task.status, task.text, task.done, task.total = result.status, "", 0.0, 0.0
        task.error = mask(str(result.error)) if result.error else ""

    def _told(self, step: Any) -> TaskProgress:
        """The entry of a step; one that may never be carried out is told of when it is."""
        task = self._tasks[id(step)]
        if step.conditional and not any(task is one for one in self._run.tasks):
            self._run.tasks.append(task)
        return task

    def ended(self, summary: str) -> None:
        """The run is over; ``summary`` is the last word, of which the text file keeps failures and long runs."""
        self._over.set()
        with self._writing, contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        if self._text_path is None:
            return
        errors = [f"{task.line()}\n    {task.error}" for task in self._tasks.values() if task.error]
        if errors or self._text_path.exists():
            when = time.strftime("%Y-%m-%d %H:%M:%S")
            text = "\n".join([f"{summary} ({when})", *errors, f"log: {self._run.log}"])
            with contextlib.suppress(TaskFailed):  # no room for it; the log and the output say the same
                write_atomically(self._text_path, text + "\n", mode=0o644)

    def _write_now_and_then(self) -> None:
        # A thread, so that a task from which nothing is heard for a while is told of too.
        wait = _PATIENCE
        while not self._over.wait(wait):
            wait = _INTERVAL
            with self._writing, contextlib.suppress(TaskFailed):
                if not self._over.is_set():
                    write_atomically(self._path, msgspec.json.encode(self._run), mode=0o600, durable=False)
                    if self._text_path is not None:
                        write_atomically(self._text_path, self._run.text() + "\n", mode=0o644, durable=False)


def read(home: Path) -> RunProgress | None:
    """How far the run that goes on (or was killed) is."""
    try:
        return read_json(home / FILE, RunProgress)
    except (OSError, msgspec.DecodeError):
        return None

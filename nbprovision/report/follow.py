"""``status --follow``: each thing that happens is printed once, as it happens."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from nbprovision.report.activity import Activity
from nbprovision.report.progress import ENDED, RunProgress, TaskProgress, line_of_waiting, origin

_BETWEEN = 5.0  # seconds between two lines of progress of one task


class Follower:
    """Compares what it sees with what it has printed.

    Args:
        print_line: Prints a line.

    """

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self._print_line = print_line
        self._head: tuple[Any, ...] = ()
        self._run: tuple[int, int] = (0, 0)
        self._in_line: set[tuple[str, int, int]] = set()
        self._seen: dict[int, str] = {}
        self._said: dict[int, tuple[str, float]] = {}
        self._finished: Counter[tuple[str, str]] = Counter()

    def look(
        self, state: str, record: Activity | None, progress: RunProgress | None, waiting: Sequence[Activity]
    ) -> None:
        """Print what is new.

        Args:
            state: What the tool does.
            record: The record of the activity.
            progress: The progress of the active run.
            waiting: The runs that wait for the lock.

        """
        if record is not None and state != "waiting" and (state, record.pid, record.started) != self._head:
            self._head = (state, record.pid, record.started)
            if (record.pid, record.started) != self._run:
                self._run = (record.pid, record.started)
                self._seen, self._said, self._finished = {}, {}, Counter()
            self._print_line(f"{state}: {record.playbook or f'nbprovision {record.version}'}, {origin(record)}")
        for run in waiting:
            if (run.host, run.pid, run.started) not in self._in_line:
                self._in_line.add((run.host, run.pid, run.started))
                self._print_line(line_of_waiting(run))
        for number, task in enumerate(progress.tasks if progress is not None else ()):
            self._look_at(number, task)

    def end(self, last: dict[str, Any] | None) -> None:
        """Print what the run finished since the last look.

        Args:
            last: The document of the last run, which may be another.

        """
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
            text, when = self._said.get(number, ("", 0.0))
            if task.text != text and time.monotonic() - when >= _BETWEEN:
                self._said[number] = (task.text, time.monotonic())
                self._print_line(f"  {task.line()}")

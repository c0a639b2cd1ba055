"""A run as text: a line a task, bars for long work on a terminal, and a recap as Ansible prints it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from nbprovision.model.result import Change, Result
from nbprovision.report import diff as differences
from nbprovision.report import verbose
from nbprovision.report.colour import CYAN, GREEN, MAGENTA, RED, YELLOW, painted, shown, wants_colour
from nbprovision.report.document import counts

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_COLOURS = {"ok": GREEN, "changed": YELLOW, "skipped": CYAN, "failed": RED, "deferred": MAGENTA}
_PROOFS = {"witness": "witnessed", "check": "looked at"}
_QUIET_SECONDS = 10.0  # between two plain lines about the same long work


class Terminal:
    """Tells a run as it goes.

    Args:
        out: Where the lines go.
        diff: Show each change in full.
        verbosity: 0 for a line a task; 1 for each change too; 2 for each command with its time, and why a task is
            checked; 3 for the engines' output and all reports of long work.
        env: Environment variables that rule colour.
        check: Nothing is changed; the first line and the last one say so.

    """

    def __init__(
        self,
        out: TextIO,
        *,
        diff: bool = False,
        verbosity: int = 0,
        env: Mapping[str, str] = os.environ,
        check: bool = False,
    ) -> None:
        self._out = out
        self._check = check
        self._diff = diff
        self._verbose = verbosity
        self._colour = wants_colour(out, env)
        self._bars = _Bars(out) if out.isatty() and env.get("TERM") != "dumb" else None
        self._told: dict[int, float] = {}
        self._play: object = None
        if check:
            self._line("CHECK: nothing is changed; this is what a run would do")

    def started(self, step: Any) -> None:
        """A step takes the full path."""
        self._told[id(step)] = time.monotonic()
        if self._verbose >= 2:
            self._line(f"  begins  {_called(step.kind, step.name)}")

    def progressed(self, step: Any, text: str, done: float, total: float) -> None:
        """Move the step's bar, or print a plain line now and then."""
        if self._bars is not None:
            self._bars.show(id(step), shown(f"{step.name}: {text}"), done, total)
        elif self._verbose >= 3 or time.monotonic() - self._told.get(id(step), 0.0) >= _QUIET_SECONDS:
            self._told[id(step)] = time.monotonic()
            share = f" {100 * done / total:.0f}%" if total else ""
            self._line(f"  ...     {step.name}: {text}{share}")

    def finished(self, step: Any, result: Result) -> None:
        """Print the step's line, its diff or its error."""
        if self._bars is not None:
            self._bars.drop(id(step))
        if step.play != self._play and step.play[1]:
            self._line(f"PLAY [{step.play[1]}]")
        self._play = step.play
        summary = summarised(result.changes)
        took = f"  ({result.seconds:.1f} s)" if result.seconds >= 0.5 else ""
        if self._verbose >= 2 and result.status in ("ok", "changed"):
            took = f"  ({result.seconds:.3f} s, {_PROOFS[result.proof]})"
        detail = f"  {summary}" if summary else ""
        word = "would change" if self._check and result.status == "changed" else result.status
        status = self._painted(f"{word + ':':<9}", _COLOURS[result.status])
        self._line(f"{status} {_called(result.task, result.name)}{detail}{took}")
        diff = self._diff if step.diff is None else step.diff
        if diff or (self._verbose and step.diff is not False):
            shown = differences.in_full if diff else differences.in_brief
            for text, colour in shown(result.changes):
                self._line(f"    {self._painted(text, colour)}")
        for warning in result.warnings:
            self._line(f"    note: {warning}" if result.status != "skipped" else f"    {warning}")
        if result.error is not None:
            for text in result.error.blocks:
                self._line("\n".join(f"    {line}" for line in f"error: {text}".splitlines()))
        if result.forgiven:
            self._line(f"    ...{result.forgiven}")

    def heard(self, event: str, fields: Mapping[str, Any]) -> None:
        """Show an event of the log; called by the thread in which it happened."""
        for line in verbose.lines(event, fields, self._verbose):
            self._line(f"    {line}")

    def recap(self, results: Sequence[Result], seconds: float) -> None:
        """The last lines, for a person and for grep."""
        self.close()
        totals = " ".join(f"{status}={count}" for status, count in counts(results).items())
        self._line("PLAY RECAP")
        self._line(f"localhost : {totals} ({seconds:.3f} s)")
        if self._check:
            self._line("nothing was changed: this was a check")

    def close(self) -> None:
        """Take the bars away; lines may follow."""
        if self._bars is not None:
            self._bars.close()

    def _line(self, text: str) -> None:
        text = shown(text)
        if self._bars is None or not self._bars.print(text):
            self._out.write(text + "\n")
            self._out.flush()

    def _painted(self, text: str, colour: str) -> str:
        return painted(text, colour) if self._colour and colour else text


def _called(kind: str, name: str) -> str:
    return f"{kind}: {name}" if name != kind else name


def summarised(changes: Sequence[Change]) -> str:
    """``+31 -2 ~1 packages`` or what else changed, in a few words."""
    packages = [change for change in changes if change.kind == "package"]
    words = []
    if packages:
        added = sum(change.before is None for change in packages)
        removed = sum(change.after is None and change.before is not None for change in packages)
        rest = len(packages) - added - removed
        signs = [f"{sign}{count}" for sign, count in (("+", added), ("-", removed), ("~", rest)) if count]
        words.append(f"{' '.join(signs)} package{'s' if len(packages) > 1 else ''}")
    others = [change for change in changes if change.kind != "package"]
    words += [f"{change.action} {change.target}" for change in others[:2]]
    if len(others) > 2:
        words.append(f"and {len(others) - 2} more")
    return ", ".join(words)


class _Bars:
    """Bars below the lines, by rich, which is imported when the first long work begins."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._progress: Progress | None = None
        self._tasks: dict[int, TaskID] = {}

    def show(self, key: int, text: str, done: float, total: float) -> None:
        if self._progress is None:
            from rich.console import Console
            from rich.markup import escape
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._escape = escape
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, console=Console(file=self._out), transient=True)
            self._progress.start()
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task("", total=None)
        self._progress.update(self._tasks[key], description=self._escape(text), completed=done, total=total or None)

    def print(self, text: str) -> bool:
        """Print a line above the bars; False if there are none."""
        if self._progress is None:
            return False
        from rich.text import Text

        self._progress.console.print(Text.from_ansi(text), soft_wrap=True, highlight=False)
        return True

    def drop(self, key: int) -> None:
        if self._progress is not None and key in self._tasks:
            self._progress.remove_task(self._tasks.pop(key))

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

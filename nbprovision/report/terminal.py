"""A run as text: a line for each task, its changes, bars for long work, and a recap as Ansible prints it."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from nbprovision.model.result import Change, Result
from nbprovision.report.colour import BOLD, CYAN, GREEN, MAGENTA, RED, YELLOW, painted, shown
from nbprovision.report.document import counts
from nbprovision.system.secrets import mask

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_COLOURS = {"ok": GREEN, "changed": YELLOW, "skipped": CYAN, "failed": RED, "deferred": MAGENTA}
_PROOFS = {"witness": "witnessed", "check": "looked at"}
_QUIET_SECONDS = 10.0  # between two plain lines about the same long work
_SHOWN_BY_STEPS = ("task", "task failed", "run")  # events that a step's line or the recap shows


class Terminal:
    """Prints a run as it proceeds.

    Args:
        out: The stream.
        diff: Show each change in full.
        verbosity: 0 for a line per task; 1 for each change too; 2 for each command with its time, and why a task is
            checked; 3 for the engines' output and all reports of long work.
        env: Environment variables, for the terminal's type and colours.
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
        self._env = env
        self._bars = _Bars(out) if out.isatty() and env.get("TERM") != "dumb" else None
        self._printed: dict[int, float] = {}  # when the last line about a step was printed
        self._play: object = None
        if check:
            self._line("CHECK: nothing is changed; this is what a run would do")

    def started(self, step: Any) -> None:
        """A step takes the full path."""
        self._printed[id(step)] = time.monotonic()
        if self._verbose >= 2:
            self._line(f"  begins  {called(step.kind, step.name)}")

    def progressed(self, step: Any, text: str, done: float, total: float) -> None:
        """Move the step's bar, or print a plain line now and then."""
        if self._bars is not None:
            self._bars.show(id(step), shown(f"{step.name}: {text}"), done, total)
        elif self._verbose >= 3 or time.monotonic() - self._printed.get(id(step), 0.0) >= _QUIET_SECONDS:
            self._printed[id(step)] = time.monotonic()
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
        self._line(f"{status} {called(result.task, result.name)}{detail}{took}")
        diff = self._diff if step.diff is None else step.diff
        if diff or (self._verbose and step.diff is not False):
            for text, colour in change_lines(result.changes, in_full=diff):
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
        for line in event_lines(event, fields, self._verbose):
            self._line(f"    {line}")

    def recap(self, results: Sequence[Result], seconds: float) -> None:
        """Print the last lines, for a person and for grep."""
        self.close()
        totals = " ".join(f"{status}={count}" for status, count in counts(results).items())
        self._line("PLAY RECAP")
        self._line(f"localhost : {totals} ({seconds:.3f} s)")
        if self._check:
            self._line("nothing was changed: this was a check")

    def close(self) -> None:
        """Remove the bars; lines may follow."""
        if self._bars is not None:
            self._bars.close()

    def _line(self, text: str) -> None:
        text = shown(text)
        if self._bars is None or not self._bars.print(text):
            self._out.write(text + "\n")
            self._out.flush()

    def _painted(self, text: str, colour: str) -> str:
        return painted(text, colour, self._out, self._env)


def called(kind: str, name: str) -> str:
    """The title of a task: its kind, and its name if it has one."""
    return f"{kind}: {name}" if name != kind else name


def summarised(changes: Sequence[Change]) -> str:
    """Summarise changes in a few words: ``+31 -2 ~1 packages``, ``write pip.conf and 3 more``."""
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


class Line(NamedTuple):
    """A line and its colour, if it has one."""

    text: str
    colour: str = ""


def change_lines(changes: Iterable[Change], *, in_full: bool) -> Iterator[Line]:
    """Show changes, secrets masked: packages as a table, files as a diff (or its size, unless ``in_full``)."""
    packages = [change for change in changes if change.kind == "package"]
    if packages:
        yield from _table(packages)
    for change in changes:
        if change.kind == "file":
            yield from _unified(change) if in_full else _counted(change)
        elif change.kind == "other":
            yield Line(mask(f"{change.action} {change.target}{from_to(change)}"))


def _table(packages: list[Change]) -> Iterator[Line]:
    rows = [("name", "from", "to", "channel")]
    rows += [(change.target, change.before or "-", change.after or "-", change.channel or "") for change in packages]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    colours = [
        "",
        *(GREEN if package.before is None else RED if package.after is None else YELLOW for package in packages),
    ]
    for row, colour in zip(rows, colours, strict=True):
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield Line(mask(text), colour)


def _unified(change: Change) -> Iterator[Line]:
    yield Line(mask(f"{change.action} {change.target}"))
    for number, text in enumerate(difference(change)):
        is_head = number < 2  # it names the file
        yield Line(text, BOLD if is_head else {"+": GREEN, "-": RED, "@": CYAN}.get(text[:1], ""))


def _counted(change: Change) -> Iterator[Line]:
    lines = list(difference(change))[2:]  # without the head, which names the file
    added, removed = (sum(text.startswith(sign) for text in lines) for sign in "+-")
    yield Line(mask(f"{change.action} {change.target}: +{added} -{removed} lines"))


def difference(change: Change) -> Iterator[str]:
    """The lines of a file's change as a unified diff, secrets masked; the first two name the file."""
    before, after = (mask(text or "").splitlines() for text in (change.before, change.after))
    name = mask(change.target)
    return difflib.unified_diff(before, after, f"{name} (is)", f"{name} (wanted)", lineterm="")


def from_to(change: Change) -> str:
    """The values before and after a change, if it has any, as ``: 1 -> 2``."""
    if change.before is None and change.after is None:
        return ""
    if change.before is None:
        return f": {change.after}"
    return f": {change.before} -> {change.after or 'nothing'}"


def event_lines(event: str, fields: Mapping[str, Any], verbosity: int) -> Iterator[str]:
    """The lines that show an event of `system.log`; secrets not masked yet.

    Args:
        event: Its name.
        fields: Its fields.
        verbosity: The number of ``v``: 2 shows commands and decisions, 3 the engines' output.

    """
    if verbosity < 2 or event in _SHOWN_BY_STEPS:
        return
    if event == "command":
        status = "killed" if fields["status"] is None else f"status {fields['status']}"
        yield f"$ {fields['command']}  ({status}, {fields['seconds']:.3f} s)"
    elif event == "output":
        if verbosity >= 3:
            yield from (f"| {line}" for line in fields["text"].splitlines())
    elif event == "doubted":
        yield f"{fields['task']}: is checked again, because {fields['reason']}"
    else:
        yield f"{event}: {', '.join(f'{name} {value}' for name, value in fields.items())}"


class _Bars:
    """Bars below the lines; rich is imported when the first long work begins."""

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

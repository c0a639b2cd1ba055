"""``run --step``: asks before each task whether to run it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from nbprovision.model.errors import UsageError
from nbprovision.system.secrets import mask

_HELP = "y: carry it out, n: leave it out, c: carry out this and all that follow, q: leave out this and all that follow"


class Asking:
    """Asks the person at the terminal whether to run a task.

    Args:
        source: The stream of answers.
        out: The stream of questions.
        before: Called before each question, to remove the bars.

    """

    def __init__(self, source: TextIO, out: TextIO, before: Callable[[], None] | None = None) -> None:
        self._source = source
        self._out = out
        self._before = before or (lambda: None)
        self._rest: bool | None = None

    def __call__(self, step: Any) -> bool:
        """Ask about a step; the end of the input is a no for all that follow."""
        while self._rest is None:
            self._before()
            self._out.write(mask(f"Carry out '{step.name}' ({step.kind})? y/n/c/q "))
            self._out.flush()
            answer = self._source.readline()
            word = answer.strip().lower()[:1]
            if word in ("y", "n"):
                return word == "y"
            if word in ("c", "q") or not answer:
                self._rest = word == "c"
            else:
                self._out.write(f"{_HELP}\n")
        return self._rest


def at_terminal(before: Callable[[], None] | None = None) -> Asking:
    """Ask at the terminal of the process, even if its output is redirected.

    Raises:
        UsageError: the process has no terminal.

    """
    with contextlib.suppress(OSError):
        handle = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        terminal = io.TextIOWrapper(io.FileIO(handle, "r+"), write_through=True)
        return Asking(terminal, terminal, before)
    if sys.stdin.isatty():
        return Asking(sys.stdin, sys.stderr, before)
    raise UsageError(
        "--step needs a terminal to ask at",
        cure="leave --step out; --check --diff shows what would be done, --tags and --start-at-task choose tasks",
    )

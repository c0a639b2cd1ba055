"""A child process that loads its modules while this one still loads its own; part of the start-up path.

`process.hire` takes it over, if it is the child that a run needs.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import IO, NamedTuple

JOURNAL = "NBPROVISION_JOURNAL"  # the variable with the path of the run's journal


class Started(NamedTuple):
    """A started process, and what it writes on standard error."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]


class EarlyChild:
    """The early child of a run, if there is one."""

    def __init__(self) -> None:
        self._started: Started | None = None
        self._module = ""
        self._env: dict[str, str] = {}

    def start(self, module: str, env: dict[str, str], journal: str) -> None:
        """Start it.

        Args:
            module: The module, which calls `process.answer`.
            env: Its environment variables.
            journal: The path of the journal that the run is going to have.

        Raises:
            OSError: it cannot be started.

        """
        words, variables = command(module), {**env, **variables_of_ours(journal)}
        if not _is_trusted(words, variables):
            return
        errors = os.fdopen(os.memfd_create("nbprovision", os.MFD_CLOEXEC), "w+b")
        process = subprocess.Popen(  # noqa: S603 - no shell sees it
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=variables, cwd="/"
        )
        self._started, self._module, self._env = Started(process, errors), module, env

    def take(self, module: str, env: dict[str, str]) -> Started | None:
        """Hand it over, if it has these arguments; else end it."""
        if (module, env) == (self._module, self._env):
            started, self._started = self._started, None
            return started
        self.close()
        return None

    def close(self) -> None:
        """End it, unless it was taken."""
        started, self._started = self._started, None
        if started is not None:
            end(*started)
            if started.process.stdout is not None:
                started.process.stdout.close()


def _is_trusted(words: list[str], env: dict[str, str]) -> bool:
    """Whether root may start it; what is wrong is for the run itself to report."""
    if os.geteuid() != 0:
        return True
    from nbprovision.model.errors import NotTrusted
    from nbprovision.system import trust

    try:
        trust.command(words, env=env, cwd="/")
    except NotTrusted:
        return False
    return True


def command(module: str) -> list[str]:
    """The words that start a child."""
    return [sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-m", module]


def variables_of_ours(journal: str | None) -> dict[str, str]:
    """The environment variables by which a child finds our code and, if there is one, the run's journal."""
    folder = os.path.abspath(__file__)
    for _ in range(3):
        folder = os.path.dirname(folder)
    return {"PYTHONPATH": folder, **({JOURNAL: journal} if journal is not None else {})}


def end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    """Kill it: its answers are complete, and a library may crash or hang at an ordinary exit."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, errors):  # whoever reads standard output closes it
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was to be written cannot arrive any more
                pipe.close()

"""``nbprovision keep-awake``: holds the idle stop of this machine for some time, or shows how it is."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from nbprovision.machine.ownership import refuse_foreign_code
from nbprovision.model.errors import TaskFailed, UsageError
from nbprovision.model.task import seconds
from nbprovision.report.colour import print_message, shown
from nbprovision.report.document import render_plain
from nbprovision.report.progress import moment
from nbprovision.services.idle import Idle, span
from nbprovision.system.places import tool_home

_EPILOG = """
nbprovision keep-awake 3h     not stopped for three hours, whatever the watcher sees
nbprovision keep-awake off    as if it had not been held
nbprovision keep-awake        the watcher's last decision, and until when it is held
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``keep-awake``."""
    parser.epilog = _EPILOG
    parser.add_argument("duration", nargs="?", metavar="DURATION", help="90s, 30m, 3h, 1d, or off; without it: show")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one document")
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Hold the machine, or end that, and show how it is.

    Returns:
        0.

    Raises:
        UsageError: the duration is none, or this is root's, and somebody else can change the tool.
        TaskFailed: nothing stops this machine, or the time cannot be written.

    """
    refuse_foreign_code()
    wanted = _length(options.duration)
    home = options.home.absolute() if options.home else Path(tool_home(os.environ))
    idle = Idle.of(home)
    if idle is None:
        raise TaskFailed(
            "nothing stops this machine when it is idle",
            cause="no task `ensure_idle_stop` has been carried out here",
            cure="there is nothing to hold; `nbprovision doc ensure_idle_stop` describes the task",
        )
    if wanted:
        if not idle.limit:
            raise TaskFailed(
                "this machine cannot be held",
                cause="its watcher has not looked yet" if idle.report is None else "the playbook has `keep_awake: 0h`",
                cure="try again in a few minutes"
                if idle.report is None
                else "ask whoever keeps the playbook for a limit",
            )
        if wanted > idle.limit:
            print_message(f"the playbook allows {span(idle.limit)}")
    if wanted is not None:
        idle.hold(wanted)
    if options.format == "json":
        sys.stdout.write(render_plain(idle.document()))
    else:
        print(shown("\n".join(idle.lines(moment))))
    return 0


def _length(text: str | None) -> float | None:
    """Seconds; 0 for ``off``, None for nothing."""
    if text is None or text == "off":
        return None if text is None else 0.0
    if not re.fullmatch(r"[0-9]{1,6}[smhd]", text, re.ASCII) or not seconds(text):
        raise UsageError(
            f"'{text[:40]}' is not a duration", cure="write a number and s, m, h or d, such as 3h, or `off`"
        )
    return seconds(text)

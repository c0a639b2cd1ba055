"""Runs that found everything as it was proven: they write no record, and leave only a line in the log."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec

from nbprovision.system.reading import read_end

_TAIL = 1 << 16  # bytes of the log in which the last run is looked for


class Witnessed(msgspec.Struct, frozen=True):
    """Such a run: its playbook, and when it ended (seconds since the epoch)."""

    playbook: str
    when: float


def witnessed_since(home: Path, since: float, failed: str = "") -> Witnessed | None:
    """The last such run, if it is the last run of all and ended after a moment.

    Args:
        home: The tool's home folder.
        since: The moment, in seconds since the epoch.
        failed: The playbook that had failed by then. A run of the user's own playbook, as a lifecycle script carries it
            out after the team's, says nothing about another one.

    """
    path = home / "log" / "nbprovision.log"
    for log in (path, path.with_name(f"{path.name}.1")):
        try:
            lines = read_end(log, _TAIL).splitlines()
        except OSError:
            continue
        for line in reversed(lines):
            try:
                entry = msgspec.json.decode(line, type=_Entry)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                continue
            if entry.event != "run" or entry.check or (entry.users and failed not in ("", entry.playbook)):
                continue
            when = entry.timestamp.timestamp()
            return Witnessed(entry.playbook, when) if entry.proof == "witness" and when > since else None
    return None


class _Entry(msgspec.Struct):
    """What is read here of an entry of the log."""

    event: str
    timestamp: dt.datetime
    proof: str = ""
    playbook: str = ""
    check: bool = False
    users: bool = False

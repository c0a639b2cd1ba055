"""``nbprovision status``: how far a run is that goes on, and how the last one ended."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.reporters.colour import shown
from nbprovision.reporters.progress import Moment, RunProgress, read
from nbprovision.system.places import tool_home
from nbprovision.system.reading import read_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``status``."""
    parser.add_argument("--follow", action="store_true", help="tell on as the run goes, until it ends")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one document")
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Tell what is known of the last run, and of one that is on its way.

    Returns:
        0; that nothing ran yet is an answer too.

    """
    home = options.home.absolute() if options.home else Path(tool_home(os.environ))
    if options.follow:
        _follow(home)
    last = _last(home)
    running = _running(home)
    if options.format == "json":
        content = {"last": last, "running": None if running is None else msgspec.to_builtins(running)}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(content).decode(), indent=2) + "\n")
        return 0
    if running is not None:
        print(shown(running.text()))
    if last is None:
        print("no run has ended yet")
        return 0
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last["started"]))
    told = " ".join(f"{status}={count}" for status, count in last["counts"].items())
    print(shown(f"last full run: {last['status']} ({when}, {last['seconds']} s) {last['playbook']}\n  {told}"))
    for task in last["tasks"]:
        if task["error"]:
            fate = next((f"failed, {how}" for how in ("rescued", "ignored") if task.get(how)), "failed")
            message = task["error"]["message"].replace("\n", "\n    ")
            print(shown(f"  {fate}: {task['task']}: {task['name']}: {message}"))
    print(f"log: {home / 'log' / 'nbprovision.log'}")
    return 0


def _running(home: Path) -> RunProgress | None:
    progress = read(home)
    if progress is None or not Path(f"/proc/{progress.pid}").exists():
        return None  # it ended, or was killed and the next run puts right what it left
    return progress


def _follow(home: Path) -> None:
    told = ""
    while (running := _running(home)) is not None:
        text = running.text()
        if text != told:
            print(shown(text), flush=True)
            told = text
        time.sleep(0.5)


def _last(home: Path) -> dict[str, Any] | None:
    try:
        last: dict[str, Any] = read_json(home / "last-run.json")
        msgspec.convert(last, _Last)
    except (OSError, msgspec.DecodeError):
        return None
    return last


class _Told(msgspec.Struct):
    message: str


class _Task(msgspec.Struct):
    name: str
    task: str
    error: _Told | None


class _Last(msgspec.Struct):
    """What is told here of the document of a run; a file that is not so is none."""

    playbook: str
    status: str
    started: Moment
    seconds: float
    counts: dict[str, int]
    tasks: list[_Task]

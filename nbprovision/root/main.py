"""Root's program: brings each task of ``root_tasks`` about where it differs, within its time, and reports."""

from __future__ import annotations

import contextlib
import importlib
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

from nbprovision.root import tools

REPORT = "/run/nbprovision/root.json"
_LEAST = 2.0  # seconds with which a task is still begun


class _TimeIsUp(Exception):
    """The task's time limit is reached."""


def main(argv: list[str], tasks: list[dict[str, Any]]) -> int:
    """Carry out the tasks that are packed with this program.

    Args:
        tasks: Their names, kinds, modules, time limits, and what is wanted.
        argv: The seconds for all of them; the rest of the digest by which the script knows the program.

    Returns:
        0 if all is as described, 2 if a task failed.

    """
    until = time.monotonic() + float(argv[1])
    results = [_carry_out(task, until) for task in tasks]
    changed, failed = (sum(result["status"] == word for result in results) for word in ("changed", "failed"))
    report = {"program": argv[2], "time": time.time(), "tasks": results}
    try:
        tools.write(REPORT, json.dumps(report) + "\n")
    except (tools.Trouble, OSError) as trouble:
        print("root: the report cannot be written: %s" % trouble, flush=True)
    print("root's part: tasks=%d changed=%d failed=%d" % (len(results), changed, failed), flush=True)
    return 2 if failed else 0


def _carry_out(task: dict[str, Any], until: float) -> dict[str, Any]:
    """Carry out one task where the machine differs."""
    began = time.monotonic()
    name, status, why = task["name"], "ok", ""
    seconds = min(float(task["seconds"]), until - began)
    try:
        if seconds < _LEAST:
            raise tools.Trouble("no time was left for it")
        kind = importlib.import_module("nbprovision.root." + task["module"])
        with _limited(seconds):
            before = kind.differences(task["wanted"], tools.ROOT)
            if before:
                why = "; ".join(before)
                kind.bring_about(task["wanted"])
                left = kind.differences(task["wanted"], tools.ROOT)
                if left:
                    raise tools.Trouble("it still differs: " + "; ".join(left))
                status = "changed"
    except _TimeIsUp:
        status, why = "failed", "it took more than %d s" % seconds
    except tools.Unreachable as trouble:
        status, why = "warning", tools.printable(str(trouble))
    except (tools.Trouble, OSError) as trouble:
        status, why = "failed", tools.printable(str(trouble))
    except Exception as defect:  # the notebook starts, whatever happened here
        status, why = "failed", tools.printable("%s: %s" % (type(defect).__name__, defect))
    why = why.replace("\n", " ")[:500]
    print("root: %s %s%s" % (status, name, ": " + why if why else ""), flush=True)
    spent = round(time.monotonic() - began, 2)
    return {"name": name, "kind": task["kind"], "status": status, "why": why, "seconds": spent}


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def end(_signal: int, _frame: object) -> None:
        raise _TimeIsUp

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)

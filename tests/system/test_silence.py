"""When a process that waits for a network ends itself, and when not; it is tried with processes made for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nbprovision.system import process as processes
from nbprovision.system.context import current, separate_run

# Waits for what never comes, or for nothing, or for one thing after another; works, or gets something now and then.
WAITING = """
import sys, time
from nbprovision.system.process import ending_when_silent

kind = sys.argv[1]
end = time.monotonic() + 4
awaited = {"idle": lambda: [], "one by one": lambda: [str(time.monotonic())]}.get(kind, lambda: ["six", "apple"])
come = [0]
with (
    ending_when_silent(60.0, lambda: [], lambda: 0),
    ending_when_silent(1.0 if kind == "silent" else 2.0, awaited, lambda: come[0]),
):
    while time.monotonic() < end:
        if kind != "busy":
            time.sleep(0.1)
        if kind == "comes":
            come[0] += 1
print("left alone")
"""


def begin(kind: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WAITING, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_silence_ends_the_process_which_says_what_it_waited_for() -> None:
    process = begin("silent")
    told, complaint = process.communicate(timeout=300)
    assert process.returncode == processes.SILENT
    assert told == ""
    assert complaint.startswith("gave no answer in time: ")
    assert complaint.endswith(" s without a byte of apple, six\n")


def test_what_goes_on_is_not_silent() -> None:
    kinds = ("comes", "busy", "one by one", "idle")
    begun = [begin(kind) for kind in kinds]
    ended = [(*process.communicate(timeout=300), process.returncode) for process in begun]
    assert dict(zip(kinds, ended, strict=True)) == dict.fromkeys(kinds, ("left alone\n", "", 0))


def test_without_a_limit_nobody_watches() -> None:
    with separate_run():
        with processes.ending_when_silent(None, lambda: pytest.fail("it was called"), lambda: 0):
            assert not current(processes._SilenceWatch)._calls
        assert not current(processes._SilenceWatch)._started

"""A command that reads and writes nothing for too long is killed, with the processes that it started."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nbprovision.system import commands

ENV = {"PATH": os.environ["PATH"]}


def test_a_silent_command_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"sh -c 'echo $$ >{tmp_path}/pid; exec sleep 600' & wait"
    with pytest.raises(commands.Silent, match="cannot wait") as caught:
        commands.run(["sh", "-c", script], env=ENV, silence=1.5, failure="cannot wait", foreign=True)
    assert "without any input or output" in caught.value.cause
    child = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    deadline = time.monotonic() + 30
    while child.exists() and child.read_text().split()[2] != "Z":  # until its parent has asked for it
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_command_that_works_is_left_alone() -> None:
    """It takes longer than the limit, and its child writes all the time."""
    script = "sh -c 'for number in 1 2 3 4 5 6 7 8 9; do echo x; sleep 0.3; done'"
    assert commands.run(["sh", "-c", script], env=ENV, silence=1.5).output == "x\n" * 9

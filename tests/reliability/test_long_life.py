"""Hundreds of runs, each with something changed: neither the process nor what it leaves on the disk grows.

The short form is part of every test run. The long form:

    sh tests/campaign.sh tests/reliability/test_long_life.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbprovision.machine.machine import Machine
from nbprovision.pip import request
from nbprovision.state import witness
from nbprovision.state.store import STATES_KEPT
from nbprovision.system import log
from tests.conftest import Channel
from tests.reliability import killing
from tests.reliability.world import ROOT

# What may come and go between two looks: the allocator's arenas, a log that is not yet full.
SLACK = {"descriptors": 0, "threads": 0, "children": 0, "contexts": 0}


def long_life(folder: Path, runs: int) -> dict[str, dict[str, int]]:
    """What a process was like early and late in its life."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder / "home"), "NBPROVISION_HOME": str(folder / "tool")}
    (folder / "home").mkdir()
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("long_life.py"), folder, str(runs)],
        env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, int]] = json.loads(done.stdout)
    return found


def held(found: dict[str, dict[str, int]], runs: int) -> None:
    """Nothing has grown with the number of runs."""
    before, after = found["before"], found["after"]
    for name, slack in SLACK.items():
        assert after[name] <= before[name] + slack, (name, found)
    assert after["objects"] - before["objects"] < 20 * runs, found
    assert after["states"] <= STATES_KEPT, found
    assert after["log"] <= 2 * log.LOG_LIMIT + 100_000, found


def test_a_process_that_provides_again_and_again(tmp_path: Path) -> None:
    held(long_life(tmp_path, 24), 24)


@pytest.mark.campaign
def test_a_process_that_provides_hundreds_of_times(tmp_path: Path) -> None:
    found = long_life(tmp_path, 900)
    print(found)
    held(found, 900)
    before, after = found["before"], found["after"]
    assert after["memory"] < before["memory"] * 1.1 + 2_000_000, found
    assert after["objects"] < before["objects"] * 1.05 + 1000, found
    assert after["files"] <= before["files"] + STATES_KEPT + 2, found


def test_the_log_is_rotated(tmp_path: Path) -> None:
    """By full runs and by those that the start-up path ends alike; one older file is kept."""
    path = tmp_path / "log/nbprovision.log"
    with log.kept_in(tmp_path):
        log.event("a test", text="x" * log.LOG_LIMIT)
    with log.kept_in(tmp_path):
        log.event("the next")
    assert path.stat().st_size < 1000
    path.write_text("x" * witness.LOG_LIMIT)
    invocation = witness.parse(["run", "playbook.yml", "--home", str(tmp_path)])
    assert invocation is not None
    for _ in range(2):
        witness._log(invocation, '"status": "ok"')
    assert path.stat().st_size < 1000
    assert sorted(os.listdir(path.parent)) == ["nbprovision.log", "nbprovision.log.1"]


def test_constraints_do_not_pile_up(machine: Machine) -> None:
    """Engines take them from a file only; each set of pins is another one."""
    for number in range(request.CONSTRAINTS_KEPT + 20):
        path = request.constraints_file(machine, [f"six=={number}"])
        assert path.read_text() == f"six=={number}\n"
    assert len(list(path.parent.iterdir())) <= request.CONSTRAINTS_KEPT


@pytest.mark.campaign
@pytest.mark.engine
def test_updates_back_and_forth(tmp_path: Path, channel: Channel) -> None:
    """Two versions take turns a hundred times; what lies on the disk in the end is what lay there after a few."""
    world = killing.converged(tmp_path, channel)
    sizes = []
    for number in range(100):
        new = ("1.16.0", "1.0") if number % 2 else ("1.17.0", "1.1")
        text = world.playbook.read_text()
        text = text.replace(f'six: "{world.values["six"]}"', f'six: "{new[0]}"')
        world.playbook.write_text(text.replace(f'apple: "{world.values["apple"]}"', f'apple: "{new[1]}"'))
        world.values |= {"six": new[0], "apple": new[1]}
        done = world.run()
        assert done.status == 0, done.document
        files = [path for path in world.tool.rglob("*") if path.is_file() and "log" not in path.parts]
        sizes.append((len(files), sum(path.stat().st_size for path in files)))
    assert world.differences(files=True) == []
    print(sizes[5], sizes[-1])
    assert sizes[-1][0] <= sizes[5][0] + 10
    assert sizes[-1][1] <= sizes[5][1] * 1.02 + 200_000

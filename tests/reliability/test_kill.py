"""Killed at any moment, one more run brings about what is described, leaves nothing lying about, and touches nothing else.

The short form is part of every test run. The long form, with 500 random kills and one at every operation:

    sh tests/campaign.sh tests/reliability/test_kill.py

NBPROVISION_TEST_SEED chooses other moments, NBPROVISION_TEST_KILLS another number.
"""

from __future__ import annotations

import functools
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import Channel
from tests.reliability import killing
from tests.reliability.killing import SCENARIOS, KillWorld

pytestmark = [pytest.mark.engine, pytest.mark.kernel, pytest.mark.proof]

KILLS = int(os.environ.get("NBPROVISION_TEST_KILLS", "500"))
SEED = os.environ.get("NBPROVISION_TEST_SEED", "1")
REAL_EVERY = 10  # of so many random kills of the long form one is of a run whose kernel can start


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, channel: Channel) -> KillWorld:
    return killing.converged(tmp_path_factory.mktemp("kill"), channel)


@pytest.fixture(scope="module")
def real_world(tmp_path_factory: pytest.TempPathFactory, channel: Channel) -> KillWorld:
    """Its kernel can be started."""
    return killing.converged(tmp_path_factory.mktemp("real"), channel, real=True)


def seconds_of(world: KillWorld, scenario: str) -> float:
    """How long the run takes that is to be killed."""
    SCENARIOS[scenario](world)
    began = time.monotonic()
    status = killing.ended(killing.start(world))
    assert status == 0
    assert world.differences() == [], scenario
    return time.monotonic() - began


def test_killed_while_an_engine_is_at_work(tmp_path: Path, channel: Channel) -> None:
    """In a first run, with nothing in the caches; the kernel of the next run starts."""
    world = KillWorld(tmp_path, channel, real=True)
    landed = engine = False
    chance = random.Random(SEED)
    while not (landed and engine):
        world.bare()
        landed, engine = killing.killed_at_random(world, None, chance)
    assert killing.recovers(world) == []


@pytest.mark.parametrize(
    ("scenario", "mode", "most"),
    [
        ("first_run", "before", 60),
        ("locked_first_run", "before", 60),
        ("update", "in", 12),
        ("removal", "before", 25),
        ("index_change", "in", 10),
    ],
)
def test_killed_at_an_operation(world: KillWorld, scenario: str, mode: str, most: int) -> None:
    """At any of those that there are for sure."""
    number = random.Random(f"{SEED} {scenario}").randint(1, most)
    SCENARIOS[scenario](world)
    assert killing.killed_at(world, number, mode), number
    assert killing.recovers(world) == [], number


@pytest.mark.campaign
def test_random_kills(world: KillWorld, real_world: KillWorld) -> None:
    worlds = {False: world, True: real_world}
    seconds = functools.cache(lambda real, name: seconds_of(worlds[real], name))
    seen: Counter[str] = Counter()
    wrong = {}
    number = 0
    while seen["landed"] < KILLS:
        number += 1
        chance = random.Random(f"{SEED} {number}")
        name = chance.choices(list(SCENARIOS), (4, 4, 4, 2, 1))[0]
        real = number % REAL_EVERY == 0
        most = seconds(real, name)
        SCENARIOS[name](worlds[real])
        landed, engine = killing.killed_at_random(worlds[real], most, chance)
        if landed:
            seen.update(["landed", name, *["engine alive"] * engine, *["real kernel"] * real])
            found = killing.recovers(worlds[real])
            if found:
                wrong[number] = found
            print(f"{SEED}/{number} {name} engine={engine} real={real} {dict(seen)} {found or ''}", flush=True)
    print(dict(seen), flush=True)
    assert wrong == {}
    assert seen["engine alive"] >= KILLS / 5


@pytest.mark.campaign
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_every_operation(world: KillWorld, scenario: str) -> None:
    SCENARIOS[scenario](world)
    numbers = killing.operations(world)
    wrong = {}
    done: Counter[str] = Counter()
    for mode in numbers:
        number = 0
        while True:  # side by side, tasks do not take equally many each time: until there is none
            number += 1
            SCENARIOS[scenario](world)
            if not killing.killed_at(world, number, mode):
                break
            done[mode] += 1
            found = killing.recovers(world)
            if found:
                wrong[mode, number] = found
            print(f"{scenario} {mode} {number}/{numbers[mode]} {found or ''}", flush=True)
    print(scenario, dict(done), flush=True)
    assert wrong == {}

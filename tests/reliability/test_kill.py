"""Killed at any moment, one more run brings about what is described, leaves nothing lying about, and touches nothing else.

The short form is part of every test run. The long form, with 500 random kills and one at every operation:

    python -m pytest -m long tests/reliability/test_kill.py -s

NBPROVISION_TEST_SEED chooses other moments, NBPROVISION_TEST_KILLS another number.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter

import pytest

from tests.conftest import Channel
from tests.reliability import killing
from tests.reliability.killing import SCENARIOS, KillWorld

pytestmark = [pytest.mark.engine, pytest.mark.kernel]

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


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_in_the_middle(world: KillWorld, scenario: str) -> None:
    """At a random moment, and at a random operation."""
    chance = random.Random(f"{SEED} {scenario}")
    seconds = seconds_of(world, scenario)
    landed = False
    while not landed:
        SCENARIOS[scenario](world)
        landed, _ = killing.killed_at_random(world, seconds, chance)
    assert killing.recovers(world) == []
    SCENARIOS[scenario](world)
    for mode, most in killing.operations(world).items():
        SCENARIOS[scenario](world)
        number = chance.randint(1, most)
        assert killing.killed_at(world, number, mode), (mode, number)
        assert killing.recovers(world) == [], (mode, number)


def test_after_a_kill_the_kernel_starts(real_world: KillWorld) -> None:
    seconds = seconds_of(real_world, "first_run")
    landed = engine = False
    chance = random.Random(SEED)
    while not (landed and engine):
        SCENARIOS["first_run"](real_world)
        landed, engine = killing.killed_at_random(real_world, seconds, chance)
    assert killing.recovers(real_world) == []


@pytest.mark.long
def test_random_kills(world: KillWorld, real_world: KillWorld) -> None:
    worlds = {False: world, True: real_world}
    seconds = {(real, name): seconds_of(worlds[real], name) for real in worlds for name in SCENARIOS}
    seen: Counter[str] = Counter()
    wrong = {}
    number = 0
    while seen["landed"] < KILLS:
        number += 1
        chance = random.Random(f"{SEED} {number}")
        name = chance.choices(list(SCENARIOS), (4, 4, 2, 1))[0]
        real = number % REAL_EVERY == 0
        SCENARIOS[name](worlds[real])
        landed, engine = killing.killed_at_random(worlds[real], seconds[real, name], chance)
        if landed:
            seen.update(["landed", name, *["engine alive"] * engine, *["real kernel"] * real])
            found = killing.recovers(worlds[real])
            if found:
                wrong[number] = found
            print(f"{SEED}/{number} {name} engine={engine} real={real} {dict(seen)} {found or ''}", flush=True)
    print(dict(seen), flush=True)
    assert wrong == {}
    assert seen["engine alive"] >= KILLS / 5


@pytest.mark.long
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

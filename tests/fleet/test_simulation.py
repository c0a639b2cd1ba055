"""Whole fleets of simulated instances, with faults: no instance runs an unknown release, and no report is lost.

The small size runs by default; a thousand instances are a proof. ``benchmarks/fleet.py`` measures the same story.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet_simulation import (
    FAULTS,
    HOUR,
    RINGS,
    Killed,
    Outcome,
    Publisher,
    World,
    rollout,
    simulated,
    throttled,
)

SIZES = [60, pytest.param(1000, marks=pytest.mark.proof)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with simulated(tmp_path) as made:
        yield made


def status(world: World, publisher: Publisher) -> Outcome:
    """The fleet's status, after everything that must always hold."""
    world.check()
    outcome = publisher.run("status")
    assert outcome.status == 0, outcome.text
    world.check_status(outcome.document)
    return outcome


def started(world: World, *rings: str) -> None:
    for ring in rings or RINGS:
        for each in world.of(ring):
            world.start(each)


@pytest.mark.parametrize("count", SIZES)
def test_a_release_reaches_all_and_a_bad_one_the_canaries(world: World, count: int) -> None:
    publisher = world.publisher()
    rollout(world, publisher, count)
    good = world.history["stable"][-1]
    status(world, publisher)
    calm = publisher.run("status")
    assert calm.calls.total() <= 15
    assert calm.calls["GetObject"] == len(RINGS)  # the pointers; no report

    publisher.write("fails: on every instance")
    assert publisher.run("publish").status == 0
    started(world)
    bad = world.history["canary"][-1]
    world.clock.pass_by(3 * HOUR)
    refused = publisher.run("promote")
    assert refused.status == 2
    assert f"{len(world.of('canary'))} of canary failed" in refused.text
    assert {each.ring for each in world.instances.values() if each.runs == bad} == {"canary"}
    counts = {row["ring"]: row["failed"] for row in status(world, publisher).document["rings"]}
    assert counts == {"canary": len(world.of("canary")), "early": 0, "stable": 0}

    back = publisher.run("back")
    assert back.calls["PutObject"] == 1
    started(world, "canary")
    assert {each.runs for each in world.instances.values()} == {good}
    assert all(row["ok"] == row["instances"] for row in status(world, publisher).document["rings"])


@pytest.mark.parametrize("count", SIZES)
def test_no_report_is_lost_to_throttling(world: World, count: int) -> None:
    """AWS takes 10 requests a second, for which boto3's time runs 20 times as fast."""
    publisher = world.publisher()
    assert publisher.run("publish").status == 0
    world.add(count)
    started(world)
    with throttled(world, 10, factor=20) as refused:
        world.check_status(publisher.run("status").document)
        assert refused["s3"] > 0
    calm = publisher.run("status")
    assert calm.calls["GetObject"] == 1
    world.check_status(calm.document)
    publisher.file.write_text(publisher.file.read_text() + "match: {tags: {team: fraud}}\n")
    with throttled(world, 10, factor=20) as refused:
        planned = publisher.run("plan")
        assert planned.calls["ListTags"] == len(planned.document["instances"]) == count
        assert refused["sagemaker"] > 0


def test_broken_reports_are_counted_and_hide_no_other(world: World) -> None:
    publisher = world.publisher()
    assert publisher.run("publish").status == 0
    world.add(60)
    for number, each in enumerate(world.instances.values()):
        world.start(each, upload=FAULTS[number % 10] if number % 10 < len(FAULTS) else "whole")
    document = status(world, publisher).document
    assert sum(row["broken"] for row in document["rings"]) == 6 * 5
    world.clock.pass_by(HOUR)
    silent = {each["name"] for each in status(world, publisher).document["instances"] if each["state"] == "silent"}
    assert silent == {each.name for each in world.instances.values() if each.uploaded != "whole"}
    for each in world.instances.values():  # each tries again by itself
        if each.waiting:
            world.upload(each)
    rows = status(world, publisher).document["rings"]
    assert all(row["broken"] == row["silent"] == 0 for row in rows)


def test_without_a_way_to_the_bucket_the_last_good_release_runs(world: World) -> None:
    publisher = world.publisher()
    rollout(world, publisher, 60)
    good = world.history["canary"][-1]
    publisher.write("good: the second one")
    assert publisher.run("publish").status == 0
    world.network = False
    started(world)
    world.network = True
    assert {each.runs for each in world.instances.values()} == {good}
    for each in world.instances.values():
        world.upload(each)
    rows = status(world, publisher).document["rings"]
    assert all(row["failed"] == 0 for row in rows)
    world.clock.pass_by(3 * HOUR)
    refused = publisher.run("promote")
    assert (refused.status, "0 good reports" in refused.text) == (2, True)


def test_a_run_in_the_background_that_never_ends_keeps_its_release(world: World) -> None:
    publisher = world.publisher()
    rollout(world, publisher, 120)
    publisher.write("good: but slow")
    assert publisher.run("publish").status == 0
    *good, slow = world.of("canary")
    for each in good:
        world.start(each)
    world.start(slow, background=True)
    assert len(good) > 2
    states = {each["name"]: each["state"] for each in status(world, publisher).document["instances"]}
    assert states[slow.name] == "starting"
    world.clock.pass_by(3 * HOUR)
    refused = publisher.run("promote")
    assert refused.status == 2
    assert f"1 of canary silent for more than 30m (stop_when.silent): {slow.name}" in refused.text
    world.upload(slow)
    assert publisher.run("promote").status == 0


@pytest.mark.parametrize("kind", ["invalid: its playbook", "altered"])
def test_a_broken_release_stays_with_the_canaries_which_keep_the_good_one(world: World, kind: str) -> None:
    publisher = world.publisher()
    rollout(world, publisher, 60)
    good = world.history["canary"][-1]
    publisher.write(f"good: but {kind}" if kind == "altered" else kind)
    assert publisher.run("publish").status == 0
    bad = world.history["canary"][-1]
    if kind == "altered":
        world.alter(bad)
    started(world)
    world.clock.pass_by(3 * HOUR)
    assert {each.runs for each in world.instances.values()} == {good}
    refused = publisher.run("promote")
    assert refused.status == 2
    assert f"{len(world.of('canary'))} of canary failed" in refused.text
    assert publisher.run("back").status == 0
    started(world)
    assert all(row["ok"] == row["instances"] for row in publisher.run("status").document["rings"])


def some(calls: range, *chosen: int) -> list[Any]:
    """Every call as a proof, and some of them by default."""
    return [call if call in chosen else pytest.param(call, marks=pytest.mark.proof) for call in calls]


@pytest.mark.parametrize("last", some(range(1, 12), 7, 8))
def test_a_publisher_is_killed_at_each_call(world: World, last: int) -> None:
    """A release is in force whole or not at all, and another publisher completes it, whose clock is days wrong."""
    publisher, other = world.publisher(), world.publisher(skew=-3 * 86_400)
    assert publisher.run("publish").status == 0
    world.add(20)
    started(world)
    publisher.write("good: the second one")
    other.write("good: the second one")

    def kill() -> None:
        raise Killed

    with world.at(last, kill), contextlib.suppress(Killed):
        publisher.run("publish")
    started(world)
    status(world, publisher)
    assert other.run("publish").status == 0
    started(world)
    status(world, publisher)
    assert {each.runs for each in world.of("canary")} == {world.history["canary"][-1]}
    assert len(world.history["canary"]) == 2


@pytest.mark.parametrize("call", some(range(1, 9), 3, 8))
def test_two_publishers_meet_at_each_call(world: World, call: int) -> None:
    """One of them wins; the other learns that, or began after it. No release is overwritten unseen."""
    one, two = world.publisher(), world.publisher(skew=2 * 86_400)
    assert one.run("publish").status == 0
    world.add(20)
    one.write("good: of one")
    two.write("good: of two")
    outcomes: list[Outcome] = []
    with world.at(call, lambda: outcomes.append(two.run("publish"))):
        slow = one.run("publish")
    assert [each.status for each in outcomes] in ([0], [])
    if slow.status == 2:
        assert "has changed meanwhile" in slow.text
    assert len(world.history["canary"]) == 1 + len(outcomes) + (slow.status == 0)
    at = world.pointer("canary")
    assert at is not None
    assert (at.release, *at.before) == tuple(reversed(world.history["canary"]))
    started(world)
    status(world, one)


MARKS = {**dict.fromkeys(range(1, 4), pytest.mark.proof), **dict.fromkeys(range(4, 60), pytest.mark.campaign)}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=mark) for seed, mark in MARKS.items())])
def test_any_order_of_faults(tmp_path: Path, seed: int) -> None:
    """After each step of a random history every promise holds."""
    with simulated(tmp_path, seed) as world:
        publishers = [world.publisher(skew) for skew in (0, -5 * 86_400, 5 * 86_400)]
        assert publishers[0].run("publish").status == 0
        world.add(60)
        for number in range(12 if seed == 0 else 30):
            step(world, publishers, number)
            status(world, world.random.choice(publishers))


def step(world: World, publishers: list[Publisher], number: int) -> None:
    """Let something happen."""
    dice, publisher = world.random, world.random.choice(publishers)
    match dice.choice(
        ("start", "start", "start", "stop", "publish", "promote", "promote", "back", "kill", "race", "wait")
    ):
        case "start":
            world.network = dice.random() < 0.9
            for each in dice.sample(sorted(world.instances), dice.randint(1, len(world.instances))):
                upload = dice.choice(FAULTS) if dice.random() < 0.1 else "whole"
                world.start(world.instances[each], upload, drift=dice.random() < 0.1, background=dice.random() < 0.1)
            world.network = True
        case "stop":
            for each in dice.sample(sorted(world.instances), 10):
                act = world.break_script if dice.random() < 0.1 else world.stop
                act(world.instances[each])
        case "publish":
            publisher.write(f"{dice.choice(('good', 'good', 'good', 'fails', 'invalid'))}: {number}")
            publisher.run("publish")
        case "promote":
            promote(world, publisher)
        case "back":
            back(world, publisher)
        case "kill":
            publisher.write(f"good: {number}")

            def kill() -> None:
                raise Killed

            with world.at(dice.randint(1, 10), kill), contextlib.suppress(Killed):
                publisher.run(dice.choice(("publish", "promote", "back")))
        case "race":
            publisher.write(f"good: {number}")
            other = dice.choice([each for each in publishers if each is not publisher])
            with world.at(dice.randint(1, 10), lambda: other.run(dice.choice(("back", "promote", "publish")))):
                publisher.run(dice.choice(("publish", "promote", "back")))
        case "wait":
            world.clock.pass_by(dice.choice((60, HOUR, 3 * HOUR, 30 * HOUR)))
            for instance in world.instances.values():
                if instance.waiting and dice.random() < 0.5:
                    world.upload(instance)


def promote(world: World, publisher: Publisher) -> None:
    """A release never passes a ring with a failure, or with too few successes."""
    before = {ring: len(world.history[ring]) for ring in RINGS}
    shown = publisher.run("status").document
    outcome = publisher.run("promote")
    assert outcome.status in (0, 2)
    moved = [ring for ring in RINGS if len(world.history[ring]) > before[ring]]
    assert len(moved) <= 1
    for ring in moved:
        source = RINGS[RINGS.index(ring) - 1]
        release = world.history[source][-1]
        assert world.history[ring][-1] == release
        assert next(row["failed"] + row["silent"] for row in shown["rings"] if row["ring"] == source) == 0
        reported = [each for each in world.of(source) if each.uploaded == "whole" and not each.waiting and each.report]
        assert not any(each.report.status and each.report.release == release for each in reported if each.report)
        assert sum(each.report.release == release and not each.report.fallback for each in reported if each.report) >= 2


def back(world: World, publisher: Publisher) -> None:
    """Every ring with the newest release gets the one before it again."""
    before = {ring: world.pointer(ring) for ring in RINGS}
    newest = before["canary"]
    outcome = publisher.run("back")
    for ring, old in before.items():
        new = world.pointer(ring)
        if outcome.status == 0 and old and newest and old.release == newest.release and old.before:
            assert new is not None
            assert (new.release, *new.before) == old.before
        else:
            assert new == old

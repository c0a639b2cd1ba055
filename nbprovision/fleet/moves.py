"""Moves the pointers of rings: a release to the next ring if the ring before is well, or back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from nbprovision.fleet.bucket import Bucket, RingState, short
from nbprovision.fleet.cloud import Cloud
from nbprovision.fleet.definition import Fleet, Ring
from nbprovision.fleet.health import RingHealth, duration
from nbprovision.fleet.steps import Step
from nbprovision.model.errors import TaskFailed, UsageError


def next_ring(states: Sequence[RingState]) -> int | None:
    """Return the number of the first ring whose release differs from that of the ring before it; None without one.

    Raises:
        TaskFailed: a pointer on the way is damaged.
    """
    for number in range(1, len(states)):
        before, state = states[number - 1].sound, states[number].sound
        if before is not None and (state is None or state.release != before.release):
            return number
    return None


def number_of(fleet: Fleet, name: str) -> int:
    """Return the number of the ring that a release is promoted to.

    Raises:
        UsageError: it does not exist, or is the first.
    """
    number = fleet.rings.index(fleet.ring(name))
    if number == 0:
        raise UsageError(
            f"{name} is the first ring, which gets its releases by `publish`",
            cure="write: nbprovision fleet publish",
        )
    return number


def refusals(fleet: Fleet, before: RingHealth) -> Iterator[str]:
    """Return the reasons why the release of a ring may not go to the next one."""
    failed, silent = before.count("failed"), before.count("silent")
    name = before.ring.name
    if failed >= fleet.stop_when.failed:
        yield f"{failed} of {name} failed (stop_when.failed: {fleet.stop_when.failed})" + _named(before, "failed")
    if silent:
        limit = duration(fleet.stop_when.silent)
        yield f"{silent} of {name} silent for more than {limit} (stop_when.silent)" + _named(before, "silent")
    if before.good < before.ring.need:
        broken = f"; {before.broken} broken reports" if before.broken else ""
        needed = f"{before.ring.need} are needed{broken}"
        yield f"{before.good} good reports of {short(before.release)} from {name}, and {needed}"
    # Both by the clock of S3: the clocks of two publishers may differ.
    age = before.state.now - before.state.modified
    if age < before.ring.soak:
        yield f"{name} has it for {duration(age)}, and soak is {duration(before.ring.soak)}"


def release_of(before: RingHealth) -> str:
    """Return the release of a ring, which goes to the next one.

    Raises:
        TaskFailed: it has none.
    """
    if not before.release:
        raise TaskFailed(
            f"{before.ring.name} has no release yet",
            cause="a ring gets the release of the ring before it",
            cure="begin with the first ring: nbprovision fleet publish, then promote",
        )
    return before.release


def refused(before: RingHealth, ring: Ring, reasons: Sequence[str]) -> TaskFailed:
    """Return the error of a release that may not go to the next ring, with all reasons."""
    return TaskFailed(
        f"{short(before.release)} stays in {before.ring.name}, and does not go to {ring.name}",
        cause="\n".join(reasons),
        cure=f"see nbprovision fleet status; nbprovision fleet back {before.ring.name} takes the release back, "
        "--force REASON promotes it all the same",
    )


def _named(health: RingHealth, state: str) -> str:
    names = [each.instance.name for each in health.instances if each.state == state]
    return ": " + ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def of_newest(states: Sequence[RingState]) -> list[RingState]:
    """Return the rings with the newest release, which is that of the first ring.

    Raises:
        TaskFailed: the pointer of the first ring is damaged.
    """
    newest = states[0].sound
    return [state for state in states if newest and state.pointer and state.pointer.release == newest.release]


def back_steps(cloud: Cloud, bucket: Bucket, chosen: Sequence[RingState]) -> list[Step]:
    """Return the steps that take back the releases of rings: one write for each that has an earlier release.

    Raises:
        TaskFailed: no ring has one.
    """
    able = [state for state in chosen if state.pointer is not None and state.pointer.before]
    if not able:
        names = ", ".join(state.ring.name for state in chosen)
        raise TaskFailed(
            f"{names} has no earlier release to go back to" if names else "nothing is published yet",
            cause="a pointer has the earlier releases of its ring in `before`",
            cure="publish a good release: nbprovision fleet publish",
        )
    return [_back(cloud, bucket, state) for state in able]


def _back(cloud: Cloud, bucket: Bucket, state: RingState) -> Step:
    pointer = state.pointer
    assert pointer is not None  # noqa: S101 - chosen so

    def point() -> None:
        bucket.point(state, pointer.moved_back(now=time.time(), by=cloud.caller()))

    detail = f"{short(pointer.release)} -> {short(pointer.before[0])}"
    return Step(action="point", target=f"rings/{state.ring.name}", detail=detail, work=point)

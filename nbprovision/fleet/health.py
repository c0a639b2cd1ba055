"""The state of each instance and each ring: SageMaker's status first, the instance's report second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from nbprovision.fleet.bucket import RingState, short
from nbprovision.fleet.definition import Fleet, Ring
from nbprovision.fleet.instances import Instance, of_ring
from nbprovision.fleet.reports import Received
from nbprovision.report.instance_report import InstanceReport

State = Literal["ok", "failed", "silent", "starting", "stopped"]

# A script reports before its instance is in service: it may take five minutes, and the platform a few more.
_REPORTS_EARLY = 600
_BACKGROUND = 7  # the exit status of a run that goes on in the background
# bootstrap.sh says so of what it gets in the background: then it runs the release, and reports again.
_UNFINISHED = "is still being "


class InstanceHealth(msgspec.Struct, frozen=True, kw_only=True):
    """An instance in its ring.

    Attributes:
        instance: The instance.
        revision: The revision of its script.
        state: ``ok`` and ``failed`` are by the report of its last start, ``failed`` also by SageMaker; ``silent`` is
            in service for long without a report of this start, or of its end; ``starting`` is on its way; ``stopped``
            does not run, and its last start was not a failure.
        why: The reason of a bad state, in one line; empty for a good one.
        cure: What to do; empty for a good one.
        report: The last report; None without one, or if it is broken.
        broken: The reason why its report is broken; empty otherwise.
    """

    instance: Instance
    revision: int
    state: State
    why: str = ""
    cure: str = ""
    report: InstanceReport | None = None
    broken: str = ""

    @property
    def drifted(self) -> bool:
        """Whether its last run found and mended drift."""
        return self.report is not None and bool(self.report.drift)


class RingHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A ring.

    Attributes:
        ring: The ring.
        state: Its pointer.
        instances: Its instances, by name.
    """

    ring: Ring
    state: RingState
    instances: tuple[InstanceHealth, ...]

    @property
    def release(self) -> str:
        """The digest of its release; empty without one."""
        return self.state.pointer.release if self.state.pointer is not None else ""

    def count(self, state: State) -> int:
        """Return the number of its instances in a state."""
        return sum(1 for health in self.instances if health.state == state)

    @property
    def drifted(self) -> int:
        """The number of instances whose last run found drift."""
        return sum(1 for health in self.instances if health.drifted)

    @property
    def broken(self) -> int:
        """The number of broken reports."""
        return sum(1 for health in self.instances if health.broken)

    @property
    def good(self) -> int:
        """The number of instances that report a success of the ring's release."""
        return sum(1 for health in self.instances if is_good(health.report, self.release))


def is_good(report: InstanceReport | None, release: str) -> bool:
    """Whether a report shows that a release works."""
    return report is not None and report.release == release and report.status == 0 and not report.fallback


def of_rings(
    fleet: Fleet,
    states: Mapping[str, RingState],
    every: Iterable[Instance],
    reports: Mapping[str, Received],
    now: float,
) -> list[RingHealth]:
    """Judge all rings.

    Args:
        fleet: The fleet.
        states: The pointers of the rings by name.
        every: The instances.
        reports: Their reports by name.
        now: The time, by the clock of S3.
    """
    every = list(every)
    rings = []
    for ring in fleet.rings:
        state = states[ring.name]
        release = state.pointer.release if state.pointer is not None else ""
        members = sorted(of_ring(fleet, ring, every), key=lambda member: member[0].name)
        judged = (
            _judged(fleet, ring, release, instance, revision, reports.get(instance.name), now)
            for instance, revision in members
        )
        rings.append(RingHealth(ring=ring, state=state, instances=tuple(judged)))
    return rings


def _judged(
    fleet: Fleet, ring: Ring, release: str, instance: Instance, revision: int, received: Received | None, now: float
) -> InstanceHealth:
    """Judge an instance."""
    report = received.report if received is not None else None
    broken = received.fault if received is not None else ""
    if report is not None and report.ring != ring.name:
        # Of the time before it was moved here, or forged.
        report = None
    health = InstanceHealth(instance=instance, revision=revision, state="ok", report=report, broken=broken)
    if instance.status == "Failed":
        return msgspec.structs.replace(
            health,
            state="failed",
            why="SageMaker could not start it",
            cure=f"nbprovision fleet rescue {instance.name}",
        )
    is_current = received is not None and received.modified >= instance.modified - _REPORTS_EARLY
    running = instance.status == "InService"
    if report is not None and received is not None and is_current and running and _goes_on(report):
        since = now - received.modified
        if since <= fleet.stop_when.silent:
            return msgspec.structs.replace(health, state="starting")
        if report.status == _BACKGROUND:
            return msgspec.structs.replace(
                health,
                state="silent",
                why=f"its run goes on in the background for {duration(since)} without an end",
                cure="look at its log; `nbprovision status` on the instance shows the run",
            )
    if report is not None and (is_current or not running) and (why := failure(report, release)):
        return msgspec.structs.replace(health, state="failed", why=why, cure=_cure(report, ring))
    if not running:
        state: State = "stopped" if instance.status in ("Stopped", "Stopping", "Deleting") else "starting"
        return msgspec.structs.replace(health, state=state)
    if report is not None and is_current:
        return health
    silent = now - instance.modified
    if silent <= fleet.stop_when.silent:
        return msgspec.structs.replace(health, state="starting")
    return msgspec.structs.replace(
        health,
        state="silent",
        why=f"in service for {duration(silent)} without a report of this start"
        + (f"; its report is broken: {broken}" if broken else ""),
        cure="look at its log; its role may lack `fleet policy instance`, or it has no way to S3",
    )


def _goes_on(report: InstanceReport) -> bool:
    """Whether a report comes before the end of the work that its start began."""
    return report.status == _BACKGROUND or _UNFINISHED in report.fallback


def failure(report: InstanceReport, release: str) -> str:
    """Return the reason why a report shows a failure; empty if it does not.

    A failure of another release than the ring's is one of the past: the next start takes the ring's. An instance that
    could not ask for the release, and ran the last good one, shows nothing about it.
    """
    if release not in (report.wanted, report.release):
        return ""
    if report.status == _BACKGROUND:
        return ""
    if report.fallback and report.wanted == release:
        return f"{short(release)} could not be run: {report.fallback}"
    if report.status == 0 or (report.fallback and not report.failures):
        return ""
    if report.failures:
        first, more = report.failures[0], len(report.failures) - 1
        return f"{first.task}: {first.why}" + (f" (and {more} more)" if more else "")
    return f"the run ended with status {report.status}"


def _cure(report: InstanceReport, ring: Ring) -> str:
    back = f"nbprovision fleet back {ring.name}"
    cure = next((failure.cure for failure in report.failures if failure.cure), "")
    return f"{cure}; or {back}" if cure else back


def duration(seconds: float) -> str:
    """Write a duration for people: ``45s``, ``12m``, ``3h``, ``2d``."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"

"""The whole fleet at one moment: pointers, instances, reports, and more about those in a bad state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.fleet import health, instances, reports, script
from nbprovision.fleet.bucket import Bucket
from nbprovision.fleet.cloud import Cloud
from nbprovision.fleet.definition import Fleet
from nbprovision.fleet.health import InstanceHealth, RingHealth
from nbprovision.fleet.instances import Instance
from nbprovision.model.errors import TaskFailed
from nbprovision.system.context import in_parallel

# https://docs.aws.amazon.com/sagemaker/latest/dg/notebook-lifecycle-config.html
_LOG_GROUP = "/aws/sagemaker/NotebookInstances"
_LOG_STREAM = "LifecycleConfigOnStart"
_LOG_LINES = 10
_EXAMINED = 20  # instances in a bad state that are asked for reasons and logs


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """More about an instance in a bad state.

    Attributes:
        reason: SageMaker's reason of a failure; empty without one.
        log: The last lines of its log; empty if it cannot be read.
    """

    reason: str = ""
    log: str = ""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet.

    Attributes:
        fleet: Its definition.
        rings: Its rings.
        newest: The newest revision of each ring's script.
        strays: Instances with a configuration of a ring that the fleet file does not have.
        details: More about instances in a bad state, by name.
    """

    fleet: Fleet
    rings: tuple[RingHealth, ...]
    newest: Mapping[str, int]
    strays: tuple[Instance, ...] = ()
    details: Mapping[str, Details] = {}

    @property
    def bad(self) -> list[tuple[RingHealth, InstanceHealth]]:
        """The instances in a bad state with their rings; those that failed first."""
        return [
            (ring, each)
            for state in ("failed", "silent")
            for ring in self.rings
            for each in ring.instances
            if each.state == state
        ]

    def outdated(self, ring: RingHealth) -> list[InstanceHealth]:
        """The instances of a ring that have an older script than the newest."""
        newest = self.newest.get(ring.ring.name, 0)
        return [each for each in ring.instances if each.revision < newest]


def take(cloud: Cloud, bucket: Bucket, fleet: Fleet, cache: Path, *, examine: bool = True) -> Overview:
    """Look at a fleet.

    Args:
        cloud: The clients.
        bucket: The fleet's part of the bucket.
        fleet: The fleet.
        cache: The folder for reports that were read before.
        examine: Ask for reasons and logs of the instances in a bad state.

    Raises:
        TaskFailed: AWS refuses a call.
    """
    listing = bucket.listing()
    states = bucket.states(fleet.rings, listing)
    newest = script.revisions(listing)
    every = instances.members(cloud, fleet)
    received = reports.read(bucket, {instance.name for instance in every}, cache / "reports.json")
    by_name = {state.ring.name: state for state in states}
    rings = health.of_rings(fleet, by_name, every, received, bucket.now)
    overview = Overview(
        fleet=fleet,
        rings=tuple(rings),
        newest=newest,
        strays=tuple(instance for instance in every if _is_stray(fleet, newest, instance)),
    )
    if not examine:
        return overview
    bad = [each for _, each in overview.bad][:_EXAMINED]
    details = in_parallel(lambda each: _examined(cloud, each), bad)
    named = {each.instance.name: more for each, more in zip(bad, details, strict=True)}
    return msgspec.structs.replace(overview, details=named)


def _is_stray(fleet: Fleet, published: Iterable[str], instance: Instance) -> bool:
    """Whether an instance has a configuration of a ring that was removed from the fleet file, by the bucket's scripts.

    Other configurations whose names begin as those of this fleet may be of another one: `fraud`, `fraud-eu`.
    """
    if fleet.membership(instance.configuration) is not None:
        return False
    return any(fleet.revision(ring, instance.configuration) for ring in published)


def _examined(cloud: Cloud, each: InstanceHealth) -> Details:
    """Ask for SageMaker's reason and for the log of an instance; what may not be read is left out."""
    reason = ""
    if each.instance.status == "Failed":
        try:
            name = each.instance.name
            answer = cloud.call("sagemaker", "describe_notebook_instance", NotebookInstanceName=name)
            reason = str(answer.get("FailureReason", ""))
        except TaskFailed as error:
            reason = error.message
    return Details(reason=reason, log=_log(cloud, each))


def _log(cloud: Cloud, each: InstanceHealth) -> str:
    """Return the last lines of an instance's log: those in CloudWatch, or else those of its report."""
    try:
        answer = cloud.call(
            "logs",
            "get_log_events",
            logGroupName=_LOG_GROUP,
            logStreamName=f"{each.instance.name}/{_LOG_STREAM}",
            limit=_LOG_LINES,
            startFromHead=False,
        )
        lines = [str(event.get("message", "")).rstrip("\n") for event in answer.get("events", [])]
    except TaskFailed:  # it may not be read, or does not exist
        lines = []
    if not any(lines) and each.report is not None:
        lines = each.report.log.splitlines()
    return "\n".join(lines[-_LOG_LINES:])


def lines(overview: Overview) -> list[str]:
    """Write an overview for people: a table of the rings, then each instance in a bad state with what to do."""
    text = [f"fleet {overview.fleet.name} in {overview.fleet.url}", *_table(overview)]
    for ring, each in overview.bad:
        more = overview.details.get(each.instance.name, Details())
        text += ["", f"{each.state}: {each.instance.name} ({ring.ring.name}, script r{each.revision}): {each.why}"]
        if more.reason:
            text.append(f"  why: {more.reason}")
        text += [f"  log: {line}" for line in more.log.splitlines()]
        text.append(f"  fix: {each.cure}")
    notes = remarks(overview)
    return [*text, "", *notes] if notes else text


_HEADINGS = (
    "ring", "release", "since", "instances", "ok", "failed", "silent", "starting", "stopped", "behind", "drift",
)  # fmt: skip


def _table(overview: Overview) -> list[str]:
    rows = [_HEADINGS, *(tuple(str(cell) for cell in _row(ring).values()) for ring in overview.rings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    texts = 3  # columns of text, to the left; the others are numbers
    return [
        "  ".join(
            cell.ljust(width) if column < texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(ring: RingHealth) -> dict[str, Any]:
    pointer = ring.state.pointer
    return {
        "ring": ring.ring.name,
        "release": "damaged" if ring.state.damage is not None else ring.release[:12] or "none",
        "since": pointer.since if pointer is not None else "-",
        "instances": len(ring.instances),
        "ok": ring.count("ok"),
        "failed": ring.count("failed"),
        "silent": ring.count("silent"),
        "starting": ring.count("starting"),
        "stopped": ring.count("stopped"),
        "behind": len(_behind(ring)),
        "drift": ring.drifted,
    }


def _behind(ring: RingHealth) -> list[InstanceHealth]:
    """Return the instances that run another release than the ring's, and take it at their next start."""
    return [
        each
        for each in ring.instances
        if each.state == "ok" and each.report is not None and each.report.release != ring.release
    ]


def remarks(overview: Overview) -> list[str]:
    """Return sentences about what the table does not show."""
    notes = []
    for ring in overview.rings:
        name = ring.ring.name
        for each in ring.instances:
            if each.broken:
                notes.append(f"{name}: the report of {each.instance.name} is broken: {each.broken}")
            if each.report is not None and each.drifted:
                notes.append(f"{name}: {each.instance.name} had drift, and mended it: {', '.join(each.report.drift)}")
            if each.state == "ok" and each.report is not None and each.report.fallback:
                notes.append(f"{name}: {each.instance.name} did not get the ring's release: {each.report.fallback}")
        outdated = overview.outdated(ring)
        if outdated:
            names = ", ".join(each.instance.name for each in outdated[:5])
            more = f" and {len(outdated) - 5} more" if len(outdated) > 5 else ""
            notes.append(f"{name}: an older script than r{overview.newest[name]} on {names}{more}")
        if ring.state.damage is not None:
            notes.append(f"{name}: {' '.join(str(ring.state.damage).split())}")
        if ring.state.pointer is not None and ring.state.pointer.reason:
            notes.append(f"{name}: promoted by --force: {ring.state.pointer.reason}")
    notes += [
        f"{stray.name} has {stray.configuration}, of a ring that the fleet file does not have"
        for stray in overview.strays
    ]
    return notes


def document(overview: Overview) -> dict[str, Any]:
    """Return an overview as plain data."""
    return {
        "fleet": overview.fleet.name,
        "bucket": overview.fleet.url,
        "rings": [
            _row(ring)
            | {
                "release": ring.release or None,
                "since": ring.state.pointer.since if ring.state.pointer is not None else None,
                "by": ring.state.pointer.by if ring.state.pointer is not None else None,
                "before": list(ring.state.pointer.before) if ring.state.pointer is not None else [],
                "good": ring.good,
                "broken": ring.broken,
                "damage": "" if ring.state.damage is None else ring.state.damage.text,
                "script": overview.newest.get(ring.ring.name),
            }
            for ring in overview.rings
        ],
        "instances": [
            _instance_document(ring, each, overview.details.get(each.instance.name, Details()))
            for ring in overview.rings
            for each in ring.instances
        ],
        "strays": [{"name": stray.name, "configuration": stray.configuration} for stray in overview.strays],
    }


def _instance_document(ring: RingHealth, each: InstanceHealth, more: Details) -> dict[str, Any]:
    report = each.report
    return {
        "name": each.instance.name,
        "ring": ring.ring.name,
        "script": each.revision,
        "status": each.instance.status,
        "state": each.state,
        "why": each.why,
        "cure": each.cure,
        "reason": more.reason,
        "log": more.log,
        "broken": each.broken,
        "release": report.release if report is not None else None,
        "tool": report.tool if report is not None else None,
        "fallback": report.fallback if report is not None else "",
        "drift": list(report.drift) if report is not None else [],
        "reported": _moment(report.time) if report is not None else None,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")

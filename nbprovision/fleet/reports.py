"""Reads the reports of a fleet's instances: one list, and only the reports that have changed since the last reading.

A report is a hint. Instances that share a role can write each other's reports, and any text: a broken report is counted
and otherwise ignored.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from nbprovision.fleet.bucket import REPORTS, Bucket, Stored
from nbprovision.fleet.pointer import plain
from nbprovision.report import instance_report
from nbprovision.report.instance_report import Failure, InstanceReport
from nbprovision.system.context import in_parallel
from nbprovision.system.files import make_folder, write_atomically
from nbprovision.system.reading import read_json

_AHEAD = 600  # seconds that the clock of an instance may be ahead
_LONGEST_LOG = 20_000  # characters
_LONGEST_TEXT = 2_000
_FORMAT = 1
_SUFFIX = ".json"


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A report as it was read.

    Attributes:
        etag: The mark of its content.
        modified: The time of its upload by the clock of S3: that of the instance may be wrong.
        report: The report; None if it is broken.
        fault: The reason why it is broken; empty otherwise.
    """

    etag: str
    modified: float
    report: InstanceReport | None = None
    fault: str = ""


class _Kept(msgspec.Struct, frozen=True):
    format: int
    reports: dict[str, Received]


def read(bucket: Bucket, wanted: Collection[str] | None, cache: Path) -> dict[str, Received]:
    """Read the reports.

    Args:
        bucket: The fleet's part of the bucket.
        wanted: The names of the instances whose reports are read; None for all.
        cache: The file of the last reading; it may be missing or damaged.

    Returns:
        The reports by the name of the instance.

    Raises:
        TaskFailed: the reports cannot be listed or read.
    """
    listed = {stored.name.removeprefix(REPORTS).removesuffix(_SUFFIX): stored for stored in bucket.listed(REPORTS)}
    kept = _kept(cache)
    chosen = {name: stored for name, stored in listed.items() if wanted is None or name in wanted}
    received = {  # the same content may have been uploaded again, by a start that ended as the last one did
        name: msgspec.structs.replace(kept[name], modified=stored.modified)
        for name, stored in chosen.items()
        if name in kept and kept[name].etag == stored.etag
    }
    news = [(name, stored) for name, stored in chosen.items() if name not in received]
    received |= zip((name for name, _ in news), in_parallel(lambda item: _fetched(bucket, *item), news), strict=True)
    if news or kept.keys() - listed.keys():
        content = _Kept(_FORMAT, {name: each for name, each in (kept | received).items() if name in listed})
        make_folder(cache.parent)
        write_atomically(cache, msgspec.json.encode(content), durable=False, mode=0o600)
    return received


def _kept(cache: Path) -> dict[str, Received]:
    """Return the last reading; empty if it cannot be used."""
    try:
        kept = read_json(cache, _Kept, follow=False)
    except (OSError, msgspec.DecodeError):
        return {}
    return kept.reports if kept.format == _FORMAT else {}


def _fetched(bucket: Bucket, name: str, stored: Stored) -> Received:
    """Read a report."""
    broken = Received(etag=stored.etag, modified=stored.modified)
    if stored.size > instance_report.LARGEST:
        return msgspec.structs.replace(broken, fault=f"it has {stored.size:,} bytes")
    content = bucket.get(stored.name, instance_report.LARGEST + 1)
    if content is None:
        return msgspec.structs.replace(broken, fault="it was removed meanwhile")
    modified = stored.modified if content.etag == stored.etag else content.modified
    report, fault = judged(name, content.data, modified)
    return Received(etag=content.etag, modified=modified, report=report, fault=fault)


def judged(name: str, data: bytes, modified: float) -> tuple[InstanceReport | None, str]:
    """Read the content of a report.

    Args:
        name: The name of the instance by the key of the object.
        data: The content.
        modified: The time of its upload by the clock of S3.

    Returns:
        The report, or None and the reason why it is broken.
    """
    if len(data) > instance_report.LARGEST:
        return None, f"it has more than {instance_report.LARGEST:,} bytes"
    try:
        report = msgspec.json.decode(data, type=InstanceReport)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return None, f"it cannot be read: {error}"[:200]
    if report.format != instance_report.FORMAT:
        return None, f"it has format {report.format}, and this nbprovision reads {instance_report.FORMAT}"
    if report.instance != name:
        return None, f"it names another instance, {report.instance[:80]!r}: somebody else wrote it"
    if not 0 <= report.time <= modified + _AHEAD:
        return None, "its time is in the future: the instance's clock is wrong, or somebody else wrote it"
    return _tamed(report), ""


def _tamed(report: InstanceReport) -> InstanceReport:
    """Return a report whose texts have one line each: a forged one writes no lines of its own into `fleet status`."""
    failures = (
        Failure(task=plain(each.task), why=plain(each.why, _LONGEST_TEXT), cure=plain(each.cure, _LONGEST_TEXT))
        for each in report.failures
    )
    return msgspec.structs.replace(
        report,
        fallback=plain(report.fallback, _LONGEST_TEXT),
        tool=plain(report.tool),
        drift=tuple(map(plain, report.drift)),
        failures=tuple(failures),
        log=report.log[-_LONGEST_LOG:],
    )

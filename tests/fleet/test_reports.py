"""Reports are hints: a broken, forged or late one is counted, and never ends a command."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbprovision.fleet import definition, health
from nbprovision.fleet.bucket import RingState
from nbprovision.fleet.instances import Instance
from nbprovision.fleet.pointer import Pointer
from nbprovision.fleet.reports import Received, judged
from nbprovision.report.instance_report import LARGEST, InstanceReport
from tests.fleet.conftest import FLEET, Team

NOW = 1_800_000_000.0
DIGEST, OLDER = "a" * 64, "b" * 64


def document(**fields: Any) -> dict[str, Any]:
    return {
        "format": 1, "instance": "one", "ring": "canary", "wanted": DIGEST, "release": DIGEST, "tool": "0.1.0",
        "time": NOW - 60, "status": 0, "seconds": 1.5, "counts": {"ok": 1},
    } | fields  # fmt: skip


BROKEN = {
    "empty": b"",
    "no JSON": b"<html>",
    "a number that no JSON has": b'{"seconds": .05}',
    "cut": json.dumps(document()).encode()[:-20],
    "a list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "no UTF-8": json.dumps(document(tool="x")).encode().replace(b'"x"', b'"\xff"'),
    "large": json.dumps(document(log="x" * LARGEST)).encode(),
    "another format": json.dumps(document(format=2)).encode(),
    "another name": json.dumps(document(instance="two")).encode(),
    "the future": json.dumps(document(time=NOW + 3600)).encode(),
    "before all time": json.dumps(document(time=-5)).encode(),
    "an endless number": json.dumps(document(time=float("inf"))).encode(),
    "a digest that leads elsewhere": json.dumps(document(release="../../x")).encode(),
    "a negative count": json.dumps(document(counts={"ok": -1})).encode(),
    "text for a status": json.dumps(document(status="0")).encode(),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_report_has_a_reason(case: str) -> None:
    report, fault = judged("one", BROKEN[case], NOW)
    assert report is None
    assert fault


def test_a_whole_report_is_read() -> None:
    report, fault = judged("one", json.dumps(document(unknown=1)).encode(), NOW)
    assert report is not None
    assert (report.release, fault) == (DIGEST, "")


@given(st.binary(max_size=400))
def test_any_bytes_are_a_report_or_broken(data: bytes) -> None:
    report, fault = judged("one", data, NOW)
    assert (report is None) == bool(fault)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(DIGEST) | st.just("one"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(InstanceReport.__struct_fields__)), VALUES, max_size=13))
def test_any_fields_are_judged_without_a_crash(fields: dict[str, Any]) -> None:
    """Whatever an instance writes, the state of its ring can be said, and shown."""
    report, fault = judged("one", json.dumps(document(**fields)).encode(), NOW)
    ring = whole_ring(Received(etag="x", modified=NOW, report=report, fault=fault))
    assert len(ring.instances) == 1
    assert ring.broken == (report is None)


def whole_ring(
    received: Received | None, *, status: str = "InService", since: float = NOW - 60, now: float = NOW
) -> health.RingHealth:
    fleet = definition.Fleet(
        name="fraud", bucket="b", prefix="", playbook=Path("t"), rings=(definition.Ring(name="canary"),)
    )
    pointer = Pointer(release=DIGEST, since="2026-12-01T10:00:00Z")
    state = RingState(ring=fleet.rings[0], pointer=pointer, modified=NOW - 7200, now=now)
    instance = Instance(name="one", arn="arn", status=status, configuration="fraud-canary-r1", modified=since)
    received_by_name = {} if received is None else {"one": received}
    return health.of_rings(fleet, {"canary": state}, [instance], received_by_name, now)[0]


def received(modified: float = NOW, **fields: Any) -> Received:
    report, fault = judged("one", json.dumps(document(**fields)).encode(), NOW)
    return Received(etag="x", modified=modified, report=report, fault=fault)


FAILED = {"status": 2, "failures": [{"task": "t", "why": "w", "cure": "c"}]}


@pytest.mark.parametrize(
    ("report", "instance", "state", "good"),
    [
        (received(), {}, "ok", 1),
        # It goes on in the background, and reports again at its end.
        (received(status=7), {}, "starting", 0),
        (received(NOW - 7200, status=7), {"since": NOW - 7300}, "silent", 0),
        (received(status=7, fallback="another tool"), {}, "starting", 0),
        (received(status=4, fallback="nbprovision 2 is still being installed"), {}, "starting", 0),
        (received(NOW - 7200, status=4, fallback="x is still being installed"), {"since": NOW - 7300}, "failed", 0),
        (received(**FAILED), {}, "failed", 0),
        (received(**FAILED), {"status": "Stopped"}, "failed", 0),
        # The failure is that of another release, which the next start does not take.
        (received(**FAILED, release=OLDER, wanted=OLDER), {}, "ok", 0),
        (received(release=OLDER, wanted=DIGEST, fallback="its digest differs"), {}, "failed", 0),
        (received(release=DIGEST, wanted=None, fallback="the bucket cannot be reached", status=4), {}, "ok", 0),
        (received(release=DIGEST, wanted=None, fallback="the bucket cannot be reached", **FAILED), {}, "failed", 0),
        (received(release=None, wanted=None, status=4), {}, "ok", 0),
        # A report of the start before this one: the instance came into service an hour later.
        (received(modified=NOW - 3600), {}, "starting", 1),
        (received(modified=NOW - 7200), {"since": NOW - 3600}, "silent", 1),
        # A script reports up to some minutes before its instance is in service.
        (received(modified=NOW - 3700), {"since": NOW - 3600}, "ok", 1),
        (received(ring="stable"), {"since": NOW - 3600}, "silent", 0),
        (received(), {"status": "Failed"}, "failed", 1),
        (received(), {"status": "Stopped"}, "stopped", 1),
        (received(), {"status": "Pending"}, "starting", 1),
        (None, {}, "starting", 0),
        (None, {"since": NOW - 3600}, "silent", 0),
        (None, {"status": "Stopped"}, "stopped", 0),
        (None, {"status": "Updating"}, "starting", 0),
        (None, {"status": "Deleting"}, "stopped", 0),
        (received(instance="two"), {"since": NOW - 3600}, "silent", 0),
        # The clock of the instance is behind: that of S3 counts.
        (received(time=NOW - 90_000), {"since": NOW - 120}, "ok", 1),
    ],
)  # fmt: skip
def test_the_state_of_an_instance(report: Received | None, instance: dict[str, Any], state: str, good: int) -> None:
    ring = whole_ring(report, **instance)
    assert (ring.instances[0].state, ring.good) == (state, good)
    assert bool(ring.instances[0].why) == bool(ring.instances[0].cure) == (state in ("failed", "silent"))


def test_only_news_are_read(team: Team) -> None:
    team.run("publish")
    for name in ("one", "two", "three"):
        team.add(name, "canary")
        team.report(name)
    team.run("status")
    assert keys_read(team) == ["reports/one.json", "reports/three.json", "reports/two.json"]
    team.run("status")
    assert keys_read(team) == []
    team.report("two", status=2, failures=[{"task": "t", "why": "w"}])
    assert "two" in team.run("status")
    assert keys_read(team) == ["reports/two.json"]
    cache = next(team.folder.parent.glob("nbprovision/**/reports.json"))
    assert cache.stat().st_mode & 0o777 == 0o600
    for damage in (b"", b"{}", b"[" * 100_000, cache.read_bytes()[:-5]):
        cache.write_bytes(damage)
        assert "two" in team.run("status")
        assert len(keys_read(team)) == 3


def keys_read(team: Team) -> list[str]:
    keys = [parameters["Key"].partition("/")[2] for _, operation, parameters in team.calls if operation == "GetObject"]
    return sorted(key for key in keys if key.startswith("reports/"))


def test_a_report_that_was_uploaded_again_is_of_this_start(team: Team) -> None:
    """A start that ends as the one before writes the same bytes; the time of the upload shows that it did."""
    team.run("publish")
    team.add("one", "canary")
    team.report("one", time=time.time())
    assert team.json("status")["instances"][0]["state"] == "ok"
    team.age("one", -3600)  # the instance comes into service again in an hour
    assert team.json("status")["instances"][0]["state"] == "starting"


def test_a_large_report_is_not_fetched(team: Team) -> None:
    team.run("publish")
    team.add("one", "canary")
    team.put("reports/one.json", b"x" * (LARGEST + 1))
    out = team.run("status")
    assert "canary: the report of one is broken: it has 262,145 bytes" in out
    assert keys_read(team) == []


def test_reports_of_others_are_not_read(team: Team) -> None:
    team.run("publish")
    team.add("one", "canary")
    team.put("reports/deleted.json", b"x")
    team.put("reports/../../etc/passwd", b"x")
    team.put("reports/one.json/x", b"x")
    team.run("status")
    assert keys_read(team) == []


def test_secrets_and_control_characters_stay_out_of_the_output(team: Team) -> None:
    team.run("publish")
    team.add("one", "canary")
    secret = "ghp_" + "a1B2" * 9
    log = f"\x1b]0;title\x07 token {secret}\n"
    team.report("one", status=2, failures=[{"task": "t\x1b[2J", "why": f"with {secret}"}], log=log)
    for out in (team.run("status"), json.dumps(team.json("status"))):
        assert secret not in out
        assert "\x1b" not in out
        assert "****" in out


def test_the_fleet_file_is_read_before_anything_is_asked(team: Team) -> None:
    team.file.write_text(FLEET + "x: 1\n")
    team.run("status", status=4)
    assert team.operations == []


def test_a_forged_report_writes_no_lines_of_its_own(team: Team) -> None:
    team.run("publish")
    for name in ("one", "two"):
        team.add(name, "canary")
    failure = {"task": "a\nfix: b", "why": "c\r\nerror: d", "cure": "e\n  fix: rm"}
    team.report("one", status=2, failures=[failure], log="f\nfix: g")
    team.report("two", drift=["h\nfix: i"], fallback="", tool="j\nk")
    lines = team.run("status").splitlines()
    assert [line for line in lines if line.lstrip().startswith(("fix:", "error:"))] == [
        "  fix: e   fix: rm; or nbprovision fleet back canary"
    ]
    assert "  log: fix: g" in lines
    assert "canary: two had drift, and mended it: h fix: i" in lines


def test_unfinished_work_has_the_words_of_bootstrap() -> None:
    text = (Path(__file__).parents[2] / "bootstrap.sh").read_text()
    assert f"{health._UNFINISHED}fetched" in text
    assert f"{health._UNFINISHED}installed" in text

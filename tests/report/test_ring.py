"""The report of an instance in a ring: what a run writes into the tool's home."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from nbprovision import __version__
from nbprovision.model.errors import InvalidPlaybook, Position, TaskFailed
from nbprovision.model.result import Change, Result
from nbprovision.report import document, ring
from nbprovision.report.instance_report import LARGEST, InstanceReport
from nbprovision.report.ring import RingReport, RingStart
from nbprovision.system import secrets

WANTED, RELEASE = "a" * 64, "b" * 64
VARIABLES = {
    "NBPROVISION_RING": "s3://team/fraud/rings/stable",
    "NBPROVISION_INSTANCE": "mine",
    "NBPROVISION_WANTED": RELEASE,
    "NBPROVISION_RELEASE": RELEASE,
    "NBPROVISION_WHY": "",
    "NBPROVISION_PROVEN": "1",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of an instance in a ring, with the place of a release."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "lifecycle/release").mkdir(parents=True)
    return tmp_path


def written(home: Path) -> InstanceReport:
    report = ring.read(home)
    assert report is not None
    return report


def of(home: Path) -> RingReport:
    return RingReport(home, home / "lifecycle/release/team.yml")


def result(name: str, status: str = "changed", *, lasting: bool = False, error: TaskFailed | None = None) -> Result:
    changes = (Change("write", "/x"),) if status == "changed" else ()
    return Result(
        name=name,
        task="ensure_file",
        status=status,  # type: ignore[arg-type]
        changes=changes,
        error=error,
        lasting=lasting,
    )


def end(report: RingReport, *results: Result) -> None:
    content = document.document("team.yml", results, check=False, seconds=1.5)
    report.end(document.exit_status(results), content, results)


def test_a_run_goes_on_until_it_ends(home: Path) -> None:
    report = of(home)
    report.begin()
    assert written(home).status == 7
    assert not (home / ring.GOOD).exists()
    end(report, result("a", "ok"), result("b"))
    content = written(home)
    assert (content.instance, content.ring, content.wanted, content.release) == ("mine", "stable", RELEASE, RELEASE)
    assert (content.status, content.seconds, content.tool, content.fallback) == (0, 1.5, __version__, "")
    assert content.counts == {"ok": 1, "changed": 1, "skipped": 0, "failed": 0, "deferred": 0}
    assert (content.drift, content.failures, content.log) == ((), (), "")
    assert (home / ring.GOOD).read_text() == f"{RELEASE}\n"
    assert (home / ring.FILE).stat().st_mode & 0o777 == 0o600


def test_drift_is_a_lasting_change_under_a_proven_release(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end(of(home), result("home"), result("volume", lasting=True), result("left", "ok", lasting=True))
    assert written(home).drift == ("volume",)
    monkeypatch.setenv("NBPROVISION_PROVEN", "")
    end(of(home), result("volume", lasting=True))
    assert written(home).drift == ()


def test_a_fallback_ends_as_the_script_does(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBPROVISION_WANTED", "")
    monkeypatch.setenv("NBPROVISION_WHY", "no network\nat all")
    report = of(home)
    report.begin()
    assert written(home).status == 7
    end(report, result("a", "ok"))
    content = written(home)
    assert (content.wanted, content.release, content.status) == (None, RELEASE, 4)
    assert content.fallback == "no network; at all"
    assert not (home / ring.GOOD).exists()


def test_failures_say_where_why_and_what_to_do(home: Path) -> None:
    error = TaskFailed("no", cause="because\nof that", cure="do this", position=Position("team.yml", 3, 5))
    end(of(home), result("a", "failed", error=error), result("b", "ok"))
    (failure,) = written(home).failures
    assert (failure.task, failure.why, failure.cure) == ("a", "team.yml:3:5: no: because; of that", "do this")
    assert written(home).status == 2


def test_errors_before_the_first_task(home: Path) -> None:
    of(home).fail(4, InvalidPlaybook("bad", cure="mend it", position=Position("team.yml", 1, 1)))
    assert (written(home).status, written(home).failures[0].why) == (4, "team.yml:1:1: bad")
    of(home).fail(1, KeyError("x"))
    assert written(home).failures[0].why == "KeyError: 'x'"


def test_the_log_of_this_run_goes_with_a_failure(home: Path) -> None:
    log = home / "log/nbprovision.log"
    log.parent.mkdir()
    lines = [
        {"event": "old", "timestamp": "2001-01-01T00:00:00Z"},
        {"event": "new", "timestamp": "2999-01-01T00:00:00Z"},
    ]
    log.write_text("cut off\n" + "".join(json.dumps(line) + "\n" for line in lines))
    of(home).fail(1, KeyError("x"))
    assert [json.loads(line)["event"] for line in written(home).log.splitlines()] == ["new"]


def test_secrets_are_masked_and_texts_have_an_end(home: Path) -> None:
    secrets.remember("s3cr3t-W0rd")
    error = TaskFailed("s3cr3t-W0rd " + "x" * 10_000, cause="s3cr3t-W0rd", cure="s3cr3t-W0rd")
    end(of(home), *(result("s3cr3t-W0rd", "failed", error=error) for _ in range(1000)))
    text = (home / ring.FILE).read_text()
    assert "s3cr3t-W0rd" not in text
    assert len(text) <= LARGEST
    assert len(written(home).failures) == 50


def test_other_playbooks_and_machines_write_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end(RingReport(home, home / "own.yml"), result("a"))
    end(RingReport(home, home / "lifecycle/release/team.yml", check=True), result("a"))
    end(RingReport(home, home / "lifecycle/playbook/team.yml"), result("a"))
    for name in ("NBPROVISION_RING", "NBPROVISION_INSTANCE"):
        monkeypatch.setenv(name, "")
        end(of(home), result("a"))
    assert ring.read(home) is None
    assert not (home / ring.GOOD).exists()
    assert ring.upload_command(home) == []


def test_a_full_disk_does_not_end_a_run(home: Path) -> None:
    (home / ring.FILE).mkdir()
    end(of(home), result("a"))
    assert ring.read(home) is None


@pytest.mark.parametrize("content", [b"", b"[", b"{}", b"x" * (LARGEST + 1)])
def test_a_damaged_report_counts_as_missing(home: Path, content: bytes) -> None:
    (home / ring.FILE).write_bytes(content)
    assert ring.read(home) is None


def test_the_upload_goes_beside_the_rings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end(of(home), result("a"))
    (home / "bin").mkdir()
    (home / "bin/aws").touch(0o755)
    monkeypatch.setenv("PATH", f"{home}/bin")
    words = ring.upload_command(home)
    assert words[0] == f"{home}/bin/aws"
    assert words[-2:] == [f"{home}/{ring.FILE}", "s3://team/fraud/reports/mine.json"]
    start = RingStart.of(os.environ)
    assert start is not None
    assert start.url == "s3://team/fraud/reports/mine.json"
    assert msgspec.structs.astuple(start) == (VARIABLES["NBPROVISION_RING"], "mine", RELEASE, RELEASE, "", True)

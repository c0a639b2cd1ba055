"""What `status` says of root's part of the script."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nbprovision.cli import status
from nbprovision.services.root_report import RootReport

REPORT = {
    "program": "abc",
    "time": 1796022728.65,
    "tasks": [
        {"name": "a", "kind": "ensure_mount", "status": "ok", "why": "", "seconds": 0.1},
        {"name": "b", "kind": "ensure_mount", "status": "warning", "why": "h:/x cannot be mounted", "seconds": 5.1},
    ],
}


def test_it_says_what_is_not_as_described(tmp_path: Path) -> None:
    path = tmp_path / "root.json"
    path.write_text(json.dumps(REPORT))
    report = RootReport.read(path)
    assert report is not None
    first, second = report.lines()
    assert first.startswith("root's part of the script (")
    assert first.endswith("): ok=1 changed=0 warning=1 failed=0")
    assert second == "  warning: ensure_mount: b: h:/x cannot be mounted"


@pytest.mark.parametrize("content", ["", "[]", '{"time": "x", "tasks": []}', '{"time": 1, "tasks": [{}]}', "\0"])
def test_another_form_counts_as_missing(tmp_path: Path, content: str) -> None:
    (tmp_path / "root.json").write_text(content)
    assert RootReport.read(tmp_path / "root.json") is None


def test_a_link_a_pipe_and_nothing_count_as_missing(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text(json.dumps(REPORT))
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("link.json", "pipe.json", "missing.json"):
        assert RootReport.read(tmp_path / name) is None


def test_status_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "root.json"
    path.write_text(json.dumps(REPORT))
    report = RootReport.read(path)
    monkeypatch.setattr(RootReport, "read", classmethod(lambda cls: report))
    shown = status.Status.of(tmp_path)
    assert "  warning: ensure_mount: b: h:/x cannot be mounted" in shown.text().splitlines()
    assert [task["status"] for task in shown.document()["root"]["tasks"]] == ["ok", "warning"]

"""`fleet status --html`: the table and what to do, as a page of its own."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from nbprovision.cli import main
from nbprovision.fleet import page
from nbprovision.fleet.overview import Overview
from tests.fleet.conftest import Team
from tests.support.browser import assert_readable, needs_chromium
from tests.support.html_document import Document

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def busy(team: Team) -> Team:
    """A fleet with an instance in each state."""
    team.run("publish")
    for name in ("good", "bad", "quiet", "away"):
        team.add(name, "canary")
    team.report("good", drift=[f"ensure_file: {SCRIPT}"])
    failure = {"task": "ensure_pip_pkg: pandas", "why": f"no {SCRIPT}", "cure": "pin it"}
    team.report("bad", status=2, failures=[failure], log=f"line 1\n{SCRIPT} https://me:hunter22@h/\n")
    team.age("quiet", 7300)
    team.sagemaker.stop_notebook_instance(NotebookInstanceName="away")
    team.settle("away")
    team.add_failed("broken")
    return team


def test_it_says_what_the_table_says_and_what_to_do(busy: Team, tmp_path: Path) -> None:
    table = busy.run("status", "--html", str(tmp_path / "fleet.html"))
    assert "failed: bad (canary" in table, "the table is printed as well"
    html = (tmp_path / "fleet.html").read_text()
    document = Document(html)
    text = " ".join(document.text.split())
    for words in (
        "Fleet fraud", "5 instances", "1 ok", "2 failed", "1 silent", "1 stopped", f"canary {busy.release()[:12]}",
        "failed: bad (canary, script r1) ensure_pip_pkg: pandas: no <script>", "fix: pin it; or nbprovision fleet back canary",
        "failed: broken", "why: Notebook Instance Lifecycle", "fix: nbprovision fleet rescue broken", "silent: quiet",
        "good had drift, and mended it", "InService",
    ):  # fmt: skip
        assert words in text, words
    assert "hunter22" not in html
    assert not {"script", "img", "link", "iframe", "object", "form", "a"} & set(document.tags)
    assert "default-src 'none'" in html
    assert re.search(r"@import|url\(", html) is None


def test_no_file_means_standard_output_for_the_page_alone(busy: Team, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "status", "-f", str(busy.file), "--html"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("<!DOCTYPE html>")
    assert "fleet fraud in" not in out
    refused = busy.run("status", "--html", "--format", "json", status=5)
    assert "name the file" in refused


def test_a_file_and_a_document_go_together(busy: Team, tmp_path: Path) -> None:
    assert busy.json("status", "--html", str(tmp_path / "fleet.html"))["fleet"] == "fraud"
    assert (tmp_path / "fleet.html").is_file()


def test_a_missing_folder_is_refused_before_any_call(team: Team, tmp_path: Path) -> None:
    assert "its folder does not exist" in team.run("status", "--html", str(tmp_path / "no/page.html"), status=5)
    assert team.operations == []


def test_a_fleet_with_nothing_in_it_has_a_page(team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Overview] = []
    write = page.of_fleet
    monkeypatch.setattr("nbprovision.cli.fleet.of_fleet", lambda now, at: (seen.append(now), write(now, at))[1])
    team.run("status", "--html", str(tmp_path / "fleet.html"))
    text = " ".join(Document(page.of_fleet(seen[0], time.time())).text.split())
    assert "0 instances" in text
    assert "Needs attention" not in text


@needs_chromium
@pytest.mark.parametrize(
    ("width", "height", "scheme"), [(1280, 900, "light"), (400, 800, "dark"), (768, 1024, "light")]
)
def test_it_can_be_read(width: int, height: int, scheme: Any, busy: Team, tmp_path: Path) -> None:
    busy.run("status", "--html", str(tmp_path / "fleet.html"))
    assert_readable(tmp_path / "fleet.html", width, height, scheme, tmp_path)

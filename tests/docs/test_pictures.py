"""The pictures of the documentation: small, shown on a page, and made by their script from real runs."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.docs.conftest import ROOT
from tests.support.browser import needs_chromium

FOLDER = ROOT / "docs/pictures"
NAMES = {"terminal": "terminal.svg", "report": "report.png", "panel": "panel.png"}
PNG = b"\x89PNG\r\n\x1a\n"


def make(folder: Path, cache: Path, *names: str) -> None:
    argv = [sys.executable, str(FOLDER / "make.py"), *names, "--folder", str(folder), "--cache", str(cache)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


def look(path: Path) -> None:
    """A picture of its kind, without anything from another host."""
    content = path.read_bytes()
    assert len(content) < 200_000
    if path.suffix == ".png":
        assert content.startswith(PNG)
        return
    words = "".join(ET.fromstring(content).itertext()).replace("\xa0", " ")
    for line in (
        "$ nbprovision run team.yml --check",
        "would change:",
        "changed:",
        "ok=3 changed=0",
        "nothing was changed",
    ):
        assert line in words, words
    assert not re.search(r"url\(['\"]?\w+:|href=['\"]\w+:", content.decode()), "it loads something"


@pytest.mark.parametrize("name", NAMES.values())
def test_the_pictures_in_the_repository(name: str) -> None:
    look(FOLDER / name)
    assert any(f"pictures/{name})" in page.read_text() for page in (ROOT / "docs").glob("*.md"))


def test_no_picture_without_its_script() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.suffix in (".png", ".svg", ".gif", ".jpg")} == set(
        NAMES.values()
    )


@pytest.mark.proof
@pytest.mark.engine
@pytest.mark.kernel
@pytest.mark.network
def test_the_script_makes_the_terminal(tmp_path: Path, shared_cache: Path) -> None:
    make(tmp_path, shared_cache, "terminal")
    look(tmp_path / "terminal.svg")


@pytest.mark.campaign
@pytest.mark.network
@needs_chromium
def test_the_script_makes_all(tmp_path: Path, shared_cache: Path) -> None:
    make(tmp_path, shared_cache)
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES.values())
    for path in tmp_path.iterdir():
        look(path)

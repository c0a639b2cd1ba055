"""The file for JupyterLab that bootstrap.sh writes while it installs the tool: its own function, with a folder as the volume."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nbprovision.reference.status_schema import status_schema
from nbprovision.report import status_file

BOOTSTRAP = (Path(__file__).parents[2] / "bootstrap.sh").read_text()
FUNCTIONS = BOOTSTRAP[BOOTSTRAP.index("\nrecord() {") : BOOTSTRAP.index("# ---- the run\n")]


def recorded(folder: Path, *words: str, user: int = 1000) -> dict[str, Any] | None:
    home = folder / ".nbprovision"
    home.mkdir(exist_ok=True)
    variables = {
        "PATH": os.environ["PATH"], "home": str(home), "volume": str(folder), "user": str(user), "phase": "on-start",
        "version": "1.2", "installed_version": "", "shown_playbook": "/team.yml", "fallback": "",
    }  # fmt: skip
    script = f'set -u\ntrusted() {{ :; }}\n{FUNCTIONS}\nrecord "$@"'
    subprocess.run(["sh", "-c", script, "sh", *words], env=variables, check=True)
    path = folder / status_file.FILE
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text())
    jsonschema.Draft7Validator(status_schema()).validate(content)
    assert status_file.read(folder, home) is not None, "status can correct it"
    assert [entry.name for entry in home.iterdir() if entry.name.endswith(".new")] == []
    return content


def test_an_install_is_shown_as_work(tmp_path: Path) -> None:
    content = recorded(tmp_path, "installing", "null", "")
    assert content is not None
    assert (content["state"], content["error"], content["version"]) == ("working", None, "1.2")
    assert (content["hook"], content["playbook"]) == ("on-start", "/team.yml")


@pytest.mark.parametrize("text", ["no space", 'a "quoted" \\ text\nof two lines\t\x1b[1m', ""])
def test_a_failed_install_has_its_reason(tmp_path: Path, text: str) -> None:
    content = recorded(tmp_path, "failed", "2", text)
    assert content is not None
    assert content["state"] == "failed"
    assert content["error"]["message"].split()[:1] == text.replace('"', " ").split()[:1]


def test_other_records_leave_it_to_the_run(tmp_path: Path) -> None:
    assert recorded(tmp_path, "skipped", "0", "skip exists") is None
    assert recorded(tmp_path, "failed", "2", "x", user=0) is None, "root writes nothing there"

"""Root's tasks in a run: compared, never applied, and remembered like the result of any other task."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PLAYBOOK = """\
- root_tasks:
    - name: The files
      ensure_mount: {name: nbprovision-none, source: "files.example.com:/x", fstype: nfs4}
  tasks:
    - ensure_file: {path: ~/made, content: a}
"""
ABSENT = PLAYBOOK.replace("fstype: nfs4", "state: absent")


def run(env: dict[str, str], playbook: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nbprovision", "run", str(playbook), *options], env=env, capture_output=True, text=True
    )


def document(env: dict[str, str], playbook: Path, *options: str) -> dict[str, Any]:
    done = run(env, playbook, "--format", "json", *options)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    path = tmp_path / "team.yml"
    path.write_text(PLAYBOOK)
    return path


def test_drift_is_skipped_with_its_reason_and_never_changed(env: dict[str, str], playbook: Path) -> None:
    content = document(env, playbook)
    assert content["status"] == "changed"
    mount, file = content["tasks"]
    assert (mount["status"], mount["error"], mount["changes"]) == ("skipped", None, [])
    assert mount["warnings"] == [
        "drift: render the script again", "/mnt/nbprovision-none: mount files.example.com:/x",
    ]  # fmt: skip
    assert file["status"] == "changed"
    assert not Path("/mnt/nbprovision-none").exists()


def test_the_next_run_says_so_by_its_witnesses(env: dict[str, str], playbook: Path) -> None:
    document(env, playbook)
    content = document(env, playbook)
    assert [(task["status"], task["proof"]) for task in content["tasks"]] == [("skipped", "witness"), ("ok", "witness")]
    assert content["tasks"][0]["warnings"][0] == "drift: render the script again"
    shown = run(env, playbook).stdout
    assert shown.startswith("ok: ")
    assert "but 1 of root's tasks: render the script again" in shown


def test_a_run_with_other_work_says_so_again(env: dict[str, str], playbook: Path) -> None:
    """The proof of a difference must not be taken for one of the described state."""
    document(env, playbook)
    (Path(env["HOME"]) / "made").write_text("harm")
    assert [task["status"] for task in document(env, playbook)["tasks"]] == ["skipped", "changed"]


def test_check_changes_nothing_and_counts_it_as_nothing_to_change(env: dict[str, str], playbook: Path) -> None:
    assert run(env, playbook, "--check", "--exit-code").returncode == 3  # the file
    document(env, playbook)
    assert run(env, playbook, "--check", "--exit-code", "--no-witness").returncode == 0
    shown = run(env, playbook, "--check", "--no-witness").stdout
    assert "drift: render the script again" in shown


def test_what_is_as_described_is_ok(env: dict[str, str], playbook: Path) -> None:
    playbook.write_text(ABSENT)
    assert [task["status"] for task in document(env, playbook)["tasks"]] == ["ok", "changed"]
    shown = run(env, playbook).stdout
    assert "root's tasks" not in shown

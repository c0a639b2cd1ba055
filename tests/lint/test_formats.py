"""Findings in the forms of other services."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from nbprovision.lint.finding import all_rules

PROJECT = Path(__file__).parents[2]
BAD = "- tasks:\n    - ensure_fle: {path: /x}\n      name: 50% of it\n    - ensure_file: {path: /x, mode: 0644}\n"


def lint(env: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "nbprovision", "lint", *words]
    return subprocess.run(argv, env={**env, "PYTHONPATH": str(PROJECT)}, cwd=folder, capture_output=True, text=True)


def test_github_shows_each_finding_at_its_line(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a,b: 5%.yml").write_text(BAD)
    done = lint(env, tmp_path, "a,b: 5%.yml", "--format", "github")
    assert done.returncode == 4
    first, *others = done.stdout.splitlines()
    assert first.startswith(
        "::error file=a%2Cb%3A 5%25.yml,line=2,col=7,title=invalid-playbook::unknown task 'ensure_fle'"
    )
    assert others
    for line in (first, *others):
        assert re.fullmatch(r"::(error|warning) file=[^,:]+,line=\d+,col=\d+,title=[a-z-]+::.+", line)
        assert not re.search(r"%(?![0-9A-F]{2})", line)
    assert "%0Awhy: a run would refuse the playbook" in first


def test_sarif_has_the_rules_and_the_places(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "über uns.yml").write_text(BAD)
    document = json.loads(lint(env, tmp_path, "über uns.yml", "--format", "sarif").stdout)
    (run,) = document["runs"]
    assert document["version"] == "2.1.0"
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert rules == {rule.name for rule in all_rules()}
    assert run["results"]
    for result in run["results"]:
        assert result["ruleId"] in rules
        assert result["level"] in ("error", "warning")
        place = result["locations"][0]["physicalLocation"]
        assert unquote(place["artifactLocation"]["uri"]) == "über uns.yml"
        assert place["region"]["startLine"] >= 1
    assert run["results"][0]["locations"][0]["physicalLocation"]["region"] == {"startLine": 2, "startColumn": 7}


def test_a_sound_file_has_no_results(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text("- tasks:\n    - ensure_file: {path: /x, content: x}\n")
    assert lint(env, tmp_path, "x.yml", "--format", "github").stdout == ""
    assert json.loads(lint(env, tmp_path, "x.yml", "--format", "sarif").stdout)["runs"][0]["results"] == []


@pytest.mark.campaign
def test_pre_commit_runs_it_in_a_repository(env: dict[str, str], tmp_path: Path) -> None:
    """pre-commit itself installs the project from a clone of it."""
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "init.defaultBranch=main"]
    hooks, work = tmp_path / "hooks", tmp_path / "work"
    shutil.copytree(
        PROJECT, hooks, ignore=shutil.ignore_patterns(".git", ".venv*", ".test-cache", ".*_cache", ".hypothesis")
    )
    (work / "playbooks").mkdir(parents=True)
    (work / "playbooks/team.yml").write_text(BAD)
    (work / "other.yml").write_text("no: playbook\n")
    for folder in (hooks, work):
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
            subprocess.run([*git, *words], cwd=folder, env=env, check=True)
    uv = Path(sys.executable).with_name("uv")
    argv = [uv, "tool", "run", "pre-commit", "try-repo", hooks, "nbprovision-lint", "--all-files"]
    done = subprocess.run(argv, cwd=work, env=env, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "unknown task 'ensure_fle'" in done.stdout
    assert "other.yml" not in done.stdout

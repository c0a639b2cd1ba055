"""`nbprovision run -e @-`: variables on standard input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nbprovision

PLAYBOOK = '- tasks: [{ensure_file: {path: "~/motd", content: "{{ text }}"}}]\n'


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    path = tmp_path / "team.yml"
    path.write_text(PLAYBOOK)
    return path


def run(env: dict[str, str], given: str, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "nbprovision", "run", *words, "-e", "@-", "--format", "json"]
    env = {**env, "PYTHONPATH": str(Path(nbprovision.__file__).parents[1])}
    return subprocess.run(argv, env=env, input=given, capture_output=True, text=True, check=False)


def status(done: subprocess.CompletedProcess[str]) -> str:
    document: dict[str, Any] = json.loads(done.stdout)
    return str(document["status"])


@pytest.mark.parametrize("form", ['{"text": "%s"}', "text: %s\n"])
def test_other_variables_are_another_run(form: str, env: dict[str, str], playbook: Path, home: Path) -> None:
    for text, expected in (("a", "changed"), ("a", "ok"), ("b", "changed"), ("b", "ok")):
        done = run(env, form % text, str(playbook))
        assert status(done) == expected, done.stderr
        assert (home / "motd").read_text() == text


@pytest.mark.parametrize(("name", "words"), [("password", []), ("text", ["--mask-vars"])])
def test_a_secret_is_nowhere_else(
    name: str, words: list[str], env: dict[str, str], playbook: Path, tmp_path: Path, home: Path
) -> None:
    playbook.write_text(PLAYBOOK.replace("text", name))
    done = run(env, json.dumps({name: "canary-in-a-mine"}), str(playbook), "-vvv", *words)
    assert status(done) == "changed"
    paths = {path for path in tmp_path.rglob("*") if path.is_file() and b"canary-in-a-mine" in path.read_bytes()}
    assert paths == {home / "motd"}
    assert "canary-in-a-mine" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("given", "words", "expected", "text"),
    [
        ("[1]", [], 5, "-e @-: expected a mapping"),
        ("a: 1\n\tb: 2", [], 4, "<stdin>:2:1: there is a tab"),
        ("text: a", ["--deadline", "5"], 5, "-e @- cannot be combined with --deadline"),
    ],
)
def test_what_is_wrong_is_said(
    given: str, words: list[str], expected: int, text: str, env: dict[str, str], playbook: Path
) -> None:
    done = run(env, given, str(playbook), *words)
    assert done.returncode == expected
    assert text in done.stderr
    assert "Traceback" not in done.stderr

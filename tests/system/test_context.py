"""Runs side by side in one process: each has its own log, secrets, processes and locks."""

from __future__ import annotations

import ast
import concurrent.futures
import json
import threading
from pathlib import Path

import pytest

import nbprovision
from nbprovision.system import log, secrets
from nbprovision.system.context import current, separate_run, thread

PACKAGE = Path(nbprovision.__file__).parent
THREADS = 16
# Right for all runs of a process: what root trusts stays trusted, and rules are code. What works in a child process works
# for one run.
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "rattler_child.py")
SHARED = {"trust.py:_trusted", "finding.py:RULES"}


def test_each_of_many_runs_has_its_log_and_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    together = threading.Barrier(THREADS, timeout=300)

    def run(number: int) -> list[dict[str, object]]:
        home = tmp_path / f"home{number}"
        playbook = tmp_path / f"{number}.yml"
        playbook.write_text(
            f"- vars: {{api_token: hidden-of-{number}}}\n"
            "  tasks:\n"
            f"    - ensure_command: {{argv: [touch, {tmp_path}/made{number}, '{{{{ api_token }}}}'], creates: {tmp_path}/made{number}}}\n"
        )
        together.wait()
        nbprovision.run_playbook(playbook, home=home)
        return [json.loads(line) for line in (home / "log/nbprovision.log").read_text().splitlines()]

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        logs = list(pool.map(run, range(THREADS)))
    for lines in logs:
        commands = [str(line["command"]) for line in lines if line["event"] == "command"]
        assert len(commands) == 1
        assert "****" in commands[0]
        assert "hidden" not in commands[0]
        assert sum(line["event"] == "run" for line in lines) == 1


def test_a_separate_run_knows_no_secret_of_another() -> None:
    with separate_run():
        secrets.remember("canary-in-the-mine")
        assert secrets.mask("canary-in-the-mine") == "****"
        with separate_run():
            assert secrets.mask("canary-in-the-mine") == "canary-in-the-mine"
        seen: list[str] = []
        own = thread(lambda: seen.append(secrets.mask("canary-in-the-mine")))
        own.start()
        own.join()
        assert seen == ["****"]
    assert secrets.mask("canary-in-the-mine") == "canary-in-the-mine"


def test_a_part_is_made_once() -> None:
    class Part:
        pass

    with separate_run():
        part = current(Part)
        assert current(Part) is part
        with separate_run():
            assert current(Part) is not part


def test_what_no_log_withholds_is_not_in_the_log(tmp_path: Path) -> None:
    with separate_run():
        log.open_log(tmp_path / "log")
        heard: list[tuple[str, dict[str, object]]] = []
        log.listen(lambda name, fields: heard.append((name, fields)))
        with log.withholding(True):
            log.event("command", command="mysql --password x", status=0)
            log.detail("output", text="x")
        log.event("command", command="ls", status=0)
        log.detail("output", text="y")
        log.flush()
    entries = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [entry["command"] for entry in entries] == ["withheld by no_log", "ls"]
    assert list(entries[0]) == ["event", "command", "status", "timestamp"]
    assert [name for name, _ in heard] == ["command", "command", "output"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_keeps_the_state_of_a_run(path: Path) -> None:
    """A module-level container or a `global` statement is shared by all runs; so is a thread without its run's context."""
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            name = ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])
            empty = ast.unparse(node.value) in ("set()", "{}", "[]", "None", "dict()", "list()")
            assert not empty or f"{path.name}:{name}" in SHARED, f"{path}:{node.lineno}: {name} is shared by all runs"
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Global), f"{path}:{node.lineno}: global"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "threading.Thread":
            assert path.name == "context.py", f"{path}:{node.lineno}: use context.thread"

"""``run --step`` at a real terminal: one that the test holds the other end of."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLAYBOOK = """
- name: Files
  tasks:
    - {name: first, ensure_file: {path: ./first, content: a}}
    - {name: second, ensure_file: {path: ./second, content: b}}
    - {name: third, ensure_file: {path: ./third, content: c}, notify: told}
    - {name: fourth, ensure_file: {path: ./fourth, content: d}}
  handlers:
    - {name: told, ensure_file: {path: ./told, content: e}}
"""


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    path = tmp_path / "files" / "steps.yml"
    path.parent.mkdir()
    path.write_text(PLAYBOOK)
    return path


def there(playbook: Path) -> set[str]:
    return {path.name for path in playbook.parent.iterdir()} - {playbook.name}


def at_terminal(playbook: Path, env: dict[str, str], answers: str, *words: str) -> tuple[int, str]:
    """Run at a terminal of its own, where ``answers`` have been typed ahead; its status and all that it shows."""
    argv = [sys.executable, "-m", "nbprovision", "run", str(playbook), *words]
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, argv, {**env, "PYTHONPATH": str(ROOT), "TERM": "xterm"})
    os.write(terminal, answers.encode())
    shown = b""
    try:
        while block := os.read(terminal, 65536):
            shown += block
    except OSError:  # Linux: the other end is closed
        pass
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode()


def run(playbook: Path, env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nbprovision", "run", str(playbook), *words],
        env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        start_new_session=True, timeout=300,
    )  # fmt: skip


def test_each_task_is_asked_about_in_order(playbook: Path, env: dict[str, str]) -> None:
    status, shown = at_terminal(playbook, env, "y\nn\nc\n", "--step")
    assert status == 0, shown
    questions = [line for line in shown.splitlines() if "Carry out" in line]
    assert ["first" in questions[0], "second" in questions[1], "third" in questions[2]] == [True] * 3, shown
    assert len(questions) == 3
    assert there(playbook) == {"first", "third", "fourth", "told"}
    assert "ok=0 changed=4 skipped=1" in shown
    assert "left out, as the answer was" in shown


def test_what_was_left_out_is_done_by_the_next_run(playbook: Path, env: dict[str, str]) -> None:
    assert at_terminal(playbook, env, "y\nq\n", "--step")[0] == 0
    assert there(playbook) == {"first"}
    done = run(playbook, env)
    assert "ok=1 changed=4 skipped=0" in done.stdout, done.stdout
    assert there(playbook) == {"first", "second", "third", "fourth", "told"}
    again = run(playbook, env)
    assert "witnessed" in again.stdout, again.stdout + again.stderr


def test_where_everything_is_in_place_it_asks_all_the_same(playbook: Path, env: dict[str, str]) -> None:
    assert run(playbook, env).returncode == 0
    status, shown = at_terminal(playbook, env, "y\n" * 4, "--step", "--check")
    assert (status, shown.count("Carry out")) == (0, 4), shown


def test_without_a_terminal_nothing_is_done(playbook: Path, env: dict[str, str]) -> None:
    done = run(playbook, env, "--step")
    assert done.returncode == 5
    assert "--step needs a terminal to ask at" in done.stderr
    assert there(playbook) == set()

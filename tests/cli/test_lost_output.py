"""The output has no reader, no place or no stream: what was to be done is done, and nothing crashes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CLOSED, FULL, UNREAD = ">&-", ">/dev/full", "without a reader"
UNBUFFERED = pytest.mark.parametrize("more", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    path = tmp_path / "p.yml"
    path.write_text(
        "- tasks:\n    - ensure_pip_index: {url: 'https://a.example/simple'}\n    - ensure_kernel: {name: x, argv: [/bin/cat, '{connection_file}'], display_name: X, language: text}\n"
    )
    return path


def called(output: str, env: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    """Call the program with its standard output as in a shell, or into a pipe that nobody reads."""
    argv = ["sh", "-c", f'exec "$@" {"" if output == UNREAD else output}', "sh", sys.executable, "-m", "nbprovision"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*argv, *map(str, words)], env=env, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False
    )
    os.close(writing)
    return done


@UNBUFFERED
@pytest.mark.parametrize("output", [CLOSED, FULL, UNREAD])
def test_a_run_does_its_work(output: str, more: dict[str, str], playbook: Path, env: dict[str, str]) -> None:
    for again in range(2):
        done = called(output, env | more, "run", playbook)
        assert done.returncode == 0, done.stderr
        lost = "warning: the output is incomplete: No space left on device\n"
        assert done.stderr == (lost if output == FULL else ""), again
        assert "a.example" in Path(env["HOME"], ".config/pip/pip.conf").read_text()
        assert list(Path(env["HOME"]).rglob("kernel.json"))


@UNBUFFERED
@pytest.mark.parametrize(("output", "status"), [(CLOSED, 0), (UNREAD, 0), (FULL, 2)])
@pytest.mark.parametrize("command", ["lint", "doc", "status"])
def test_what_only_prints(
    command: str, output: str, status: int, more: dict[str, str], playbook: Path, env: dict[str, str]
) -> None:
    """It says that it failed where the output was wanted."""
    done = called(output, env | more, command, *([playbook] if command == "lint" else []))
    assert done.returncode == status, done.stderr
    assert ("incomplete" in done.stderr) == (output == FULL)
    assert "Traceback" not in done.stderr
    assert "lost sys.stderr" not in done.stderr


def test_no_file_gets_the_number_of_a_closed_stream(playbook: Path, env: dict[str, str]) -> None:
    """Else a child's output would be written into it."""
    code = (
        "import sys, os; from nbprovision import __main__ as program; program.main = lambda argv: {}; program.leave([])"
    )
    look = "os.write(2, repr([os.readlink(f'/proc/self/fd/{n}') for n in (0, 1)]).encode()) and 0"
    words = ["sh", "-c", 'exec "$@" <&- >&-', "sh", sys.executable, "-c", code.format(look)]
    done = subprocess.run(words, env=env, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    assert done.stderr == "['/dev/null', '/dev/null']"

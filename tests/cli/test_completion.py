"""``nbprovision completion``: real shells load the script, and complete what somebody types."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.cli import COMMANDS

ROOT = Path(__file__).parents[2]
# Calls bash's function as readline does. The words of a command line are the arguments, and the last one is completed.
BASH = """\
eval "$(nbprovision completion bash)"
function=$(complete -p nbprovision | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
"$function" nbprovision "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
# Types the lines of the file `typed` into an interactive zsh, each with a tab, and writes what the tab made of them.
ZSH = """\
zmodload zsh/zpty
nbprovision completion zsh >script
zpty terminal zsh -f -i
zpty -w terminal 'autoload -Uz compinit; compinit -u -D; eval "$(<script)"; setopt nobeep
report() { print -r -- "$BUFFER" >>completed; BUFFER=; }; zle -N report; bindkey "^T" report'
while read -r line; do
    zpty -n -w terminal "$line"$'\\t\\x14'
    lines=$((lines + 1))
    repeat 600; do [[ -f completed && $(wc -l <completed) -ge $lines ]] && break; sleep 0.1; done
done <typed
cat completed
"""

Completes = Callable[..., list[str]]


@pytest.fixture
def user(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A user with the command on the PATH, and a folder with some files."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "nbprovision").write_text(f'#!/bin/sh\nexec {sys.executable} -m nbprovision "$@"\n')
    (commands / "nbprovision").chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "team one.yml").touch()
    (folder / "quickstart.yml").touch()
    (folder / "quarters").mkdir()
    return {**env, "PATH": f"{commands}:{env['PATH']}", "PYTHONPATH": str(ROOT), "PWD": str(folder)}


@pytest.fixture
def bash(user: dict[str, str]) -> Completes:
    def completes(*words: str) -> list[str]:
        argv = ["bash", "--norc", "-c", BASH, "bash", "nbprovision", *words]
        done = subprocess.run(argv, env=user, cwd=user["PWD"], capture_output=True, text=True)
        assert done.stderr == ""
        return done.stdout.splitlines()

    return completes


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["li"], ["lint", "lifecycle"]),
        ([""], list(COMMANDS)),
        (["run", "--check", "--di"], ["--diff"]),
        (["run", "quick"], ["quickstart.yml"]),
        (["run", "team"], ["team one.yml"]),
        (["run", "--home", "qua"], ["quarters"]),
        (["run", "--format", "j"], ["json"]),
        (["lint", "team one.yml", "quick"], ["quickstart.yml"]),
        (["lint", "--format", ""], ["text", "json", "github", "sarif"]),
        (["doc", ""], list(Catalogue())),
        (["doc", "ensure_ker"], ["ensure_kernel"]),
        (["task", "restart"], ["restart_jupyter"]),
        (["fleet", "pro"], ["promote"]),
        (["fleet", "promote", "--forc"], ["--force"]),
        (["completion", "z"], ["zsh"]),
        (["keep-awake", "--hom"], ["--home"]),
        (["keep-awake", "3h", "--hom"], ["--home"]),
        (["export", "qua"], ["quarters"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bash(bash: Completes, words: list[str], expected: list[str]) -> None:
    assert sorted(bash(*words)) == sorted(expected)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="NOT TRIED: zsh is not installed")
def test_zsh(user: dict[str, str]) -> None:
    expected = {
        "nbprovision lin": "nbprovision lint ",
        "nbprovision run --lock-ti": "nbprovision run --lock-timeout ",
        "nbprovision run quick": "nbprovision run quickstart.yml ",
        "nbprovision doc ensure_ker": "nbprovision doc ensure_kernel ",
        "nbprovision fleet prom": "nbprovision fleet promote ",
        "nbprovision fleet promote --forc": "nbprovision fleet promote --force ",
        "nbprovision fleet rescue x --che": "nbprovision fleet rescue x --check ",
        "nbprovision export --pin": "nbprovision export --pinned ",
    }
    folder = Path(user["PWD"])
    (folder / "typed").write_text("".join(f"{line}\n" for line in expected))
    argv = ["zsh", "-f", "-c", ZSH]
    done = subprocess.run(argv, env={**user, "TERM": "xterm"}, cwd=folder, capture_output=True, text=True)
    assert done.stdout.splitlines() == list(expected.values()), done.stderr


@pytest.mark.skipif(shutil.which("tcsh") is None, reason="NOT TRIED: tcsh is not installed")
def test_tcsh_loads_the_script(user: dict[str, str]) -> None:
    script = "nbprovision completion tcsh >script && source script && complete nbprovision"
    done = subprocess.run(["tcsh", "-f", "-c", script], env=user, cwd=user["PWD"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ensure_kernel" in done.stdout


def test_other_commands_do_not_load_the_library(user: dict[str, str]) -> None:
    """It is for this command alone."""
    code = "import sys; from nbprovision.__main__ import main; main(['doc']); print('shtab' in sys.modules)"
    env = {**os.environ, **user}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"

"""Compiled files of the tool's own that a full disk has cut short."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nbprovision
from nbprovision.system.bytecode import remove_truncated


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package with all its compiled files, to be harmed."""
    source = Path(nbprovision.__file__).parent
    shutil.copytree(source, tmp_path / "nbprovision", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(tmp_path, quiet=2)
    return tmp_path


def compiled(copy: Path, module: str) -> Path:
    folder, _, name = module.rpartition("/")
    (found,) = (copy / "nbprovision" / folder / "__pycache__").glob(f"{name}.*.pyc")
    return found


def run(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(copy)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.run(
        [sys.executable, "-m", "nbprovision", *words], env=env, cwd="/", capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("module", ["cli/__init__", "state/witness", "cli/run", "engine/session", "playbook/read"])
def test_a_cut_file_is_done_without(copy: Path, module: str) -> None:
    playbook = copy / "playbook.yml"
    playbook.write_text(f"- tasks: [{{ensure_file: {{path: {copy}/made, content: x}}}}]\n")
    cut = compiled(copy, module)
    cut.write_bytes(cut.read_bytes()[:200])
    done = run(copy, "run", str(playbook), "--home", str(copy / "home"))
    assert (done.returncode, done.stderr) == (0, "")
    assert not cut.exists()


def test_only_what_is_cut_goes(copy: Path) -> None:
    cut = compiled(copy, "api")
    whole = compiled(copy, "__main__")
    cut.write_bytes(cut.read_bytes()[:-1])
    assert remove_truncated(copy) == 1
    assert (cut.exists(), whole.exists()) == (False, True)
    assert remove_truncated(copy) == 0

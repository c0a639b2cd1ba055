"""Packages that a user installs by hand, the command line, and what an exported playbook says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uv
import yaml

from tests.support.wheels import make_wheel

ROOT = Path(__file__).parents[2]


@pytest.fixture
def wheels(tmp_path: Path, env: dict[str, str]) -> Path:
    """A folder of wheels, and nothing else, is where pip's packages come from."""
    folder = tmp_path / "wheels"
    for version in ("1.0", "2.0"):
        make_wheel(folder, "apple", version)
    make_wheel(folder, "pear", "1.0", requires=["apple", 'plum; extra == "jam"', 'nut; extra == "cake"'])
    make_wheel(folder, "plum", "1.0")
    make_wheel(folder, "old-tool", "1.0", requires=["apple"])
    make_wheel(folder, "six", "1.17.0")
    for name in [name for name in env if name.startswith(("PIP_", "UV_"))]:
        del env[name]
    env.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(folder), PIP_DISABLE_PIP_VERSION_CHECK="1")
    return folder


def nbprovision(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nbprovision", *words]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)


def by_hand(env: dict[str, str], tool: str, prefix: Path, *packages: str) -> None:
    """Install as a user does, by ``uv pip install`` or ``pip install``."""
    python = str(prefix / "bin/python")
    if tool == "uv":
        links = ["--no-index", "--find-links", env["PIP_FIND_LINKS"]]
        command = [uv.find_uv_bin(), "pip", "install", "--python", python, *links, "--no-build-isolation", *packages]
    else:
        command = [python, "-m", "pip", "install", "-q", "--no-build-isolation", *packages]
    subprocess.run(command, env=env, check=True, capture_output=True)


def tasks(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Kind and parameters of each task."""
    (play,) = yaml.safe_load(text)
    return [next((kind, given) for kind, given in task.items() if kind != "name") for task in play["tasks"]]


def counts(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, int] = json.loads(done.stdout)["counts"]
    return found

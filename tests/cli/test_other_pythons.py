"""The tool on each other Python that it supports and this machine has: the tasks that start processes, and the commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from uv import find_uv_bin

from nbprovision.system import toml_document
from tests.conftest import Channel, registry_settings
from tests.support.pythons import python_of

pytestmark = [pytest.mark.proof, pytest.mark.network]

ROOT = Path(__file__).parents[2]
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
VERSIONS = [version for version in ("3.10", "3.11", "3.12", "3.13", "3.14") if version != OWN]
PLAYBOOK = """\
- vars: {name: plots}
  tasks:
    - ensure_file: {path: ~/motd, content: "{{ name | upper }}"}
    - ensure_conda_env: {name: team, channels: ['CHANNEL'], packages: [python, pip, six]}
    - ensure_pip_pkg: {env: team, packages: [idna]}
    - ensure_venv: {name: "{{ name }}", packages: [idna]}
    - ensure_kernel: {env: team, display_name: Team, validate: false}
    - ensure_command: {shell: 'echo x > ~/made', creates: ~/made}
    - ensure_line: {path: ~/bad, line: x}
      ignore_errors: true
"""


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest, shared_cache: Path) -> str:
    """The interpreter of an environment with the tool as it is in this checkout."""
    base = python_of(request.param)
    if base is None:
        pytest.skip(f"NOT TRIED ON PYTHON {request.param}: it is not here")
    folder = shared_cache / f"python-{request.param}"
    uv = [find_uv_bin(), "--quiet"]
    env = {**os.environ, **registry_settings(), "UV_CACHE_DIR": str(shared_cache / "uv")}
    needs = toml_document.load((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    with FileLock(f"{folder}.lock"):
        if not (folder / "bin/python").exists():
            subprocess.run([*uv, "venv", "--python", base, str(folder)], env=env, check=True)
        words = ["pip", "install", "--only-binary", ":all:", "--python", str(folder / "bin/python"), *needs]
        done = subprocess.run([*uv, *words], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT TRIED ON PYTHON {request.param}: {done.stderr.strip()[-300:]}")
    return str(folder / "bin/python")


@pytest.mark.engine
def test_a_playbook_is_carried_out_once_and_the_commands_work(
    python: str, env: dict[str, str], channel: Channel, tmp_path: Path
) -> None:
    path = tmp_path / "team.yml"
    path.write_text(PLAYBOOK.replace("CHANNEL", channel.url))
    env = {**env, "PYTHONPATH": str(ROOT)}

    def nbprovision(*words: object, status: int = 0) -> str:
        argv = [python, "-m", "nbprovision", *map(str, words)]
        done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def statuses(*words: str) -> list[str]:
        document: Any = json.loads(nbprovision("run", path, "--format", "json", *words))
        return [task["status"] for task in document["tasks"]]

    assert statuses() == [*["changed"] * 6, "failed"]
    assert statuses() == [*["ok"] * 6, "failed"]
    assert statuses("--no-witness") == [*["ok"] * 6, "failed"]
    assert (Path(env["HOME"]) / "motd").read_text().strip() == "PLOTS"
    assert "ensure_conda_env" in nbprovision("doc")
    assert "errors=0" in nbprovision("lint", path)
    assert json.loads(nbprovision("schema"))["type"] == "array"
    assert "ensure_venv" in nbprovision("export", "plots")
    assert nbprovision("report").strip().endswith(".html")
    assert "team" in nbprovision("facts")

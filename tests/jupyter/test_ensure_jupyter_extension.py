"""`ensure_jupyter_extension` installs with the real engine, from a wheel, into the environment of the Jupyter found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbprovision.jupyter.ensure_jupyter_extension import EnsureJupyterExtension
from nbprovision.machine.machine import Machine
from nbprovision.pip import uv_command
from tests.support.driver import converge, planned
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.engine


@pytest.fixture
def prefix(machine: Machine, tmp_path: Path) -> Path:
    """A virtual environment with a program `jupyter`, first on the PATH."""
    uv = uv_command.find(machine)
    assert uv is not None
    prefix = tmp_path / "jupyter"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, prefix], env=machine.env, check=True)
    (prefix / "bin/jupyter").write_text("#!/bin/sh\n")
    (prefix / "bin/jupyter").chmod(0o755)
    machine.env["PATH"] = f"{prefix}/bin{os.pathsep}{machine.env['PATH']}"
    return prefix


def extension(folder: Path, version: str = "1.0") -> Path:
    """A wheel with a prebuilt extension of the lab and one of the server."""
    data = f"team_tool-{version}.data/data"
    return make_wheel(
        folder,
        "team-tool",
        version,
        files={
            f"{data}/share/jupyter/labextensions/@team/tool/package.json": json.dumps({"name": "@team/tool"}),
            f"{data}/etc/jupyter/jupyter_server_config.d/team_tool.json": json.dumps(
                {"ServerApp": {"jpserverextensions": {"team_tool": True}}}
            ),
        },
    )


def test_a_package_is_installed_where_jupyter_runs_and_uninstalled(
    machine: Machine, prefix: Path, tmp_path: Path, home: Path
) -> None:
    wheel = str(extension(tmp_path / "wheels"))
    task = EnsureJupyterExtension(packages=[wheel], server={"team_tool": False})
    changes = converge(task, machine)
    assert [(change.action, change.target) for change in changes] == [
        ("install", "team-tool"),
        ("create", f"{home}/.jupyter/jupyter_server_config.json"),
    ]
    assert (prefix / "share/jupyter/labextensions/@team/tool/package.json").is_file()
    assert task.plan(task.read(machine)).warnings == ()
    (prefix / "share/jupyter/labextensions/@team/tool/package.json").unlink()
    deep = EnsureJupyterExtension(packages=[wheel], deep=True)
    converge(deep, machine)
    assert (prefix / "share/jupyter/labextensions/@team/tool/package.json").is_file()
    converge(EnsureJupyterExtension(packages="team-tool", state="absent"), machine)
    assert not (prefix / "share/jupyter/labextensions/@team/tool/package.json").exists()
    assert planned(EnsureJupyterExtension(packages="team-tool", state="absent"), machine) == ()


def test_a_package_that_extends_nothing_is_told(machine: Machine, prefix: Path, tmp_path: Path) -> None:
    task = EnsureJupyterExtension(packages=[str(make_wheel(tmp_path / "wheels", "plain", "1.0"))])
    converge(task, machine)
    assert task.plan(task.read(machine)).warnings[0].startswith("plain brings no prebuilt extension")

"""A virtual environment, a folder of wheels that is all it can install from, and tasks for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbprovision.engine.guard import Guard
from nbprovision.engine.order import arrange
from nbprovision.engine.step import Step, carry_out
from nbprovision.machine.expansion import expanded
from nbprovision.machine.machine import Machine
from nbprovision.model.result import Result
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from tests.support.wheels import make_wheel

Task = Callable[..., EnsurePipPkg]


@pytest.fixture
def wheels(tmp_path: Path, env: dict[str, str]) -> Path:
    """A folder of wheels, and nothing else, is where packages come from."""
    folder = tmp_path / "wheels"
    for version in ("1.0", "1.1", "2.0", "3.0rc1"):
        make_wheel(folder, "apple", version)
    make_wheel(folder, "pear", "1.0", requires=["apple<2", 'plum>=1; extra == "jam"', 'nut; python_version < "3"'])
    make_wheel(folder, "plum", "1.0")
    for name in list(env):
        if name.startswith(("PIP_INDEX", "PIP_EXTRA", "UV_")):
            del env[name]
    env.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(folder))
    return folder


@pytest.fixture
def prefix(wheels: Path, tmp_path: Path) -> Path:
    """A virtual environment without pip."""
    return venv(tmp_path / "venv")


@pytest.fixture
def task(prefix: Path) -> Task:
    def make(*packages: str, **more: Any) -> EnsurePipPkg:
        return EnsurePipPkg(packages=list(packages) or None, env=str(prefix), **more)

    return make


def venv(prefix: Path) -> Path:
    """A virtual environment without pip, as ``python -m venv --without-pip`` makes it, in no time."""
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    (prefix / f"lib/python3.{sys.version_info.minor}/site-packages").mkdir(parents=True)
    (prefix / "bin").mkdir()
    (prefix / "bin/python").symlink_to(base)
    version = ".".join(map(str, sys.version_info[:3]))
    (prefix / "pyvenv.cfg").write_text(
        f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    )
    return prefix


def asked_of(prefix: Path, code: str) -> str:
    """What the environment's own Python says."""
    return subprocess.run(
        [prefix / "bin/python", "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def carried_out(task: EnsurePipPkg, machine: Machine, *, check: bool = False) -> Result:
    """The result that the engine reports."""
    step = Step(name="it", kind=task.kind(), task=task)
    arrange([step], machine, linear=True)
    return carry_out(step, machine, Guard([expanded(task)], machine), check=check).result


def told(changes: Any) -> list[tuple[str, str, str | None, str | None]]:
    return [(change.action, change.target, change.before, change.after) for change in changes]


ENGINES = pytest.mark.parametrize("engine", ["uv", "pip"])

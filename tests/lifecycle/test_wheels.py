"""A folder of the tool's real wheels, judged as pip judges it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

from nbprovision import __version__
from nbprovision.lifecycle.wheels import MINORS, check_folder, command, coverage_warning
from tests.conftest import registry_settings

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.network


def pip(*words: str) -> int:
    env = {**os.environ, **registry_settings(), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run([sys.executable, "-m", "pip", *words], env=env, capture_output=True, timeout=300).returncode


def test_pip_agrees_and_the_command_adds_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    assert pip("wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)) == 0
    (wheel,) = folder.glob("*.whl")
    assert pip("download", "-q", "--only-binary=:all:", "-d", str(folder), str(wheel)) == 0
    own = sys.version_info.minor
    found = check_folder(folder, Version(__version__))
    assert found.complete(found.machine) == (own,)
    adds = shlex.split(coverage_warning(found).partition("add them: ")[2])
    assert adds[0] == "pip"
    assert pip(*adds[1:]) == 0
    found = check_folder(folder, Version(__version__))
    assert len(found.complete(found.machine)) == 2
    assert coverage_warning(found) == ""
    for minor in MINORS:
        words = shlex.split(command(folder, found.version, found.machine, minor))[1:]
        words[words.index("-d") + 1] = str(tmp_path / f"3.{minor}")
        by_pip = pip(*words, "--no-index", "--no-cache-dir") == 0
        assert by_pip is (minor in found.complete(found.machine)), minor

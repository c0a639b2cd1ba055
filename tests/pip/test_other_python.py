"""The stand-in for the Python of another image reports what it should, refuses what it should, and breaks what it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nbprovision.lifecycle import own_environment
from tests.support import other_python

MINOR = sys.version_info.minor + 1
TAG = f"cpython-3{MINOR}"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    return other_python.make(tmp_path / "image/python3", minor=MINOR)


def said(*words: str | Path, given: str = "") -> str:
    return subprocess.run(list(map(str, words)), input=given, capture_output=True, text=True, check=True).stdout.strip()


def test_it_reports_another_version_by_whichever_way_it_is_asked(python: Path, tmp_path: Path) -> None:
    program = (
        "import sys, platform; print(sys.version_info[:2], platform.python_version(), sys.implementation.cache_tag)"
    )
    (tmp_path / "program.py").write_text(program)
    wanted = f"(3, {MINOR}) 3.{MINOR}.0 {TAG}"
    assert said(python, "-I", "-c", program) == wanted
    assert said(python, "-Ic", program) == wanted
    assert said(python, tmp_path / "program.py") == wanted
    assert said(python, "-", given=program) == wanted
    assert said(python, "-V") == f"Python 3.{MINOR}.0"


def test_an_environment_of_it_is_its_own(python: Path, tmp_path: Path) -> None:
    said(python, "-I", "-m", "venv", "--without-pip", tmp_path / "venv")
    site = tmp_path / f"venv/lib/python3.{MINOR}/site-packages"
    assert site.is_dir()
    (site / "pear.py").write_text("where = 'here'\n")
    program = "import sys, pear, ssl, ctypes; print(pear.where, sys.prefix, sys._base_executable)"
    assert said(tmp_path / "venv/bin/python", "-I", "-c", program) == f"here {tmp_path / 'venv'} {python}"


def test_it_imports_no_module_that_was_compiled_for_the_real_version(python: Path, tmp_path: Path) -> None:
    """Other than those of the standard library, without which it could do nothing."""
    said(python, "-I", "-m", "venv", "--without-pip", tmp_path / "venv")
    site = tmp_path / f"venv/lib/python3.{MINOR}/site-packages"
    (module,) = (Path(path) for path in [said(sys.executable, "-c", "import msgspec._core as m; print(m.__file__)")])
    (site / module.name).write_bytes(module.read_bytes())
    done = subprocess.run([tmp_path / "venv/bin/python", "-c", "import _core"], capture_output=True, text=True)
    assert "No module named '_core'" in done.stderr


def test_an_environment_made_before_the_image_changed_is_of_another_kind(tmp_path: Path) -> None:
    python = tmp_path / "image/python3"
    python.parent.mkdir()
    python.symlink_to(other_python.real())
    slot = tmp_path / "home/venv.1"
    said(python, "-I", "-m", "venv", "--without-pip", slot)
    site = own_environment.site_packages(slot)
    (site / "nbprovision-9.8.dist-info").mkdir()
    (site / "nbprovision-9.8.dist-info/RECORD").write_text("")
    check = ["-I", str(own_environment.__file__), "check", str(slot)]
    own_environment.mark(slot, "nbprovision==9.8", "9.8")
    assert said(slot / "bin/python", *check) == ""
    other_python.make(python, minor=MINOR)
    done = subprocess.run([slot / "bin/python", *check], capture_output=True, text=True)
    was = own_environment.interpreter_kind()
    assert done.returncode == 3
    assert done.stderr == f"  made by {was}, this is {was.replace(sys.implementation.cache_tag or '', TAG)}\n"

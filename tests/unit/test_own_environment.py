"""The tool's own environment: when a slot counts as whole, which one is in use, and what of the other goes when."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from nbprovision.lifecycle import own_environment
from nbprovision.lifecycle.own_environment import MARKER, finish, interpreter_kind, main, site_packages, tidy


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "nbprovision"
    folder.mkdir()
    return folder


def filled(slot: Path) -> Path:
    """A slot as an installer leaves it: one distribution, no marker."""
    (slot / "bin").mkdir(parents=True)
    (slot / "bin/python").symlink_to(sys.executable)
    site = site_packages(slot)
    info = site / "nbprovision-9.8.dist-info"
    info.mkdir(parents=True)
    (site / "nbprovision.py").write_text("x = 1\n")
    (info / "RECORD").write_text("nbprovision.py,,6\nnbprovision-9.8.dist-info/RECORD,,\n")
    (slot / ".lock").touch()
    return slot


def test_a_filled_slot_is_marked_and_the_link_leads_to_it(home: Path) -> None:
    slot = filled(home / "venv.1")
    (home / "venv.2").mkdir()
    (home / "venv.new").symlink_to("of a killed install")
    assert main(["finish", str(slot), str(home), "nbprovision==9.8"]) == 0
    told = (home / "venv" / MARKER).read_text().split("\n")
    assert told[:2] == ["nbprovision==9.8", "9.8"]
    assert told[3:6] == [str(slot), interpreter_kind(), "nbprovision-9.8.dist-info"]
    assert sorted(path.name for path in home.iterdir()) == ["lock", "venv", "venv.1"]
    assert not (slot / ".lock").exists()
    assert main(["check", str(slot)]) == 0


def test_an_environment_from_before_there_were_slots_makes_room(home: Path) -> None:
    (home / "venv").mkdir()
    (home / "venv/pyvenv.cfg").touch()
    finish(filled(home / "venv.2"), home, "x")
    assert (home / "venv").readlink() == Path("venv.2")


def test_a_folder_of_the_users_under_that_name_stays(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "venv").mkdir()
    (home / "venv/thesis.txt").write_text("years of work\n")
    assert main(["finish", str(filled(home / "venv.1")), str(home), "x"]) == 1
    assert "IsADirectoryError" in capsys.readouterr().err
    assert (home / "venv/thesis.txt").read_text() == "years of work\n"


def test_a_run_in_the_background_keeps_the_slot_that_it_may_import_from(home: Path) -> None:
    (home / "venv.2").mkdir()
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        finish(filled(home / "venv.1"), home, "x")
    assert (home / "venv.2").is_dir()
    assert (home / "venv").readlink() == Path("venv.1")


def test_a_slot_without_the_tool_is_not_finished(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "venv.1/bin").mkdir(parents=True)
    assert main(["finish", str(home / "venv.1"), str(home), "x"]) == 1
    assert capsys.readouterr().err.startswith("  StopIteration")
    assert not (home / "venv").exists()


@pytest.fixture
def whole(home: Path) -> Path:
    """A finished slot."""
    slot = filled(home / "venv.1")
    finish(slot, home, "nbprovision==9.8")
    return slot


def test_a_check_marks_what_is_sound_anew(whole: Path) -> None:
    before = (whole / MARKER).read_text()
    inode = (whole / MARKER).stat().st_ino
    own_environment.check(whole)
    assert (whole / MARKER).read_text() == before
    assert (whole / MARKER).stat().st_ino != inode


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("a shorter file", "ValueError: nbprovision.py is not as it was installed"),
        ("no file", "FileNotFoundError: "),
        ("no record", "FileNotFoundError: "),
        ("another interpreter", "ValueError: made by cpython-27 vax, which is now cpython-3"),
        ("half a marker", "ValueError: not enough values to unpack"),
    ],
)
def test_a_check_says_what_is_not_as_it_was(
    harm: str, said: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, marker = site_packages(whole), whole / MARKER
    if harm == "a shorter file":
        (site / "nbprovision.py").write_text("x")
    elif harm == "no file":
        (site / "nbprovision.py").unlink()
    elif harm == "no record":
        (site / "nbprovision-9.8.dist-info/RECORD").unlink()
    elif harm == "another interpreter":
        marker.write_text(marker.read_text().replace(interpreter_kind(), "cpython-27 vax"))
    else:
        marker.write_text("nbprovision==9.8\n9.8\n")
    before = marker.read_text()
    assert main(["check", str(whole)]) == 1
    assert said in capsys.readouterr().err
    assert marker.read_text() == before


def test_the_slot_that_is_not_in_use_goes_with_the_link_of_a_killed_install(whole: Path, home: Path) -> None:
    filled(home / "venv.2")
    (home / "venv.new").symlink_to("venv.2")
    tidy(home)
    assert sorted(path.name for path in home.iterdir()) == ["bootstrap.lock", "lock", "venv", "venv.1"]


def test_the_slot_that_this_process_runs_from_stays(whole: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(filled(home / "venv.2")))
    tidy(home)
    assert (home / "venv.2/bin/python").exists()


def test_a_slot_that_is_being_filled_stays(whole: Path, home: Path) -> None:
    filled(home / "venv.2")
    with (home / "bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tidy(home)
    assert (home / "venv.2/bin/python").exists()


def test_where_there_is_one_slot_nothing_is_touched(whole: Path, home: Path) -> None:
    tidy(home)
    assert sorted(path.name for path in home.iterdir()) == ["lock", "venv", "venv.1"]


def test_it_is_run_as_bootstrap_runs_it(whole: Path) -> None:
    words = [sys.executable, "-I", "-m", "nbprovision.lifecycle.own_environment", "check"]
    assert subprocess.run([*words, whole]).returncode == 0
    done = subprocess.run([*words, whole / "elsewhere"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("  FileNotFoundError: ")

"""The tool's own environment: when a slot counts as whole, which one is in use, and what of the other goes when."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import py_compile
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nbprovision.lifecycle import own_environment
from nbprovision.lifecycle.own_environment import MARKER, SLOTS, finish, interpreter_kind, main, site_packages, tidy
from nbprovision.state import witness


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "nbprovision"
    folder.mkdir()
    return folder


def recorded(site: Path, name: str, content: bytes) -> str:
    """Write a file, and the line of RECORD for it."""
    path = site / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(content)}\n"


def filled(slot: Path) -> Path:
    """A slot as an installer leaves it: the tool's distribution with compiled files, no marker."""
    (slot / "bin").mkdir(parents=True)
    (slot / "bin/python").symlink_to(sys.executable)
    (slot / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).parent}\n")
    site = site_packages(slot)
    lines = [
        recorded(site, "nbprovision/__init__.py", b""),
        recorded(site, "nbprovision/lifecycle/__init__.py", b""),
        recorded(site, "nbprovision/lifecycle/own_environment.py", Path(own_environment.__file__).read_bytes()),
        recorded(site, "nbprovision/engine.so", b"\x7fELF" + bytes(range(256)) * 16),
        recorded(site, "nbprovision.py", b"x = 1\n"),
        "__pycache__/nbprovision.cpython-312.pyc,,\n",
        "nbprovision-9.8.dist-info/RECORD,,\n",
    ]
    (site / "nbprovision-9.8.dist-info").mkdir()
    (site / "nbprovision-9.8.dist-info/RECORD").write_text("".join(lines))
    py_compile.compile(str(site / "nbprovision.py"))
    (slot / ".lock").touch()
    return slot


def test_a_filled_slot_is_marked_and_the_link_leads_to_it(home: Path) -> None:
    slot = filled(home / "venv.1")
    finish(filled(home / "venv.2"), home, "nbprovision==9.7")
    (home / "venv.new").symlink_to("of a killed install")
    assert main(["finish", str(slot), str(home), "nbprovision==9.8"]) == 0
    told = (home / "venv" / MARKER).read_text().split("\n")
    assert told[:2] == ["nbprovision==9.8", "9.8"]
    assert told[3:6] == [str(slot), interpreter_kind(), "nbprovision-9.8.dist-info"]
    assert sorted(path.name for path in home.iterdir()) == ["venv", "venv.1", "venv.2"]
    assert (home / "venv.2" / MARKER).exists(), "the one before stays, whole"
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


def test_a_slot_without_the_tool_is_not_finished(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "venv.1/bin").mkdir(parents=True)
    assert main(["finish", str(home / "venv.1"), str(home), "x"]) == 1
    assert capsys.readouterr().err.startswith("  StopIteration")
    assert not (home / "venv").exists()


def test_the_disk_has_all_of_it_before_it_is_marked_and_used(home: Path) -> None:
    """Told by the interpreter's own audit events, of which there is one for each name that is looked up in the C library."""
    slot = filled(home / "venv.1")
    program = (
        "import sys, os\n"
        "def hook(event, words):\n"
        "    if event == 'ctypes.dlsym': print(words[1])\n"
        "    if event == 'os.rename': print(os.path.basename(words[1]))\n"
        "from nbprovision.lifecycle.own_environment import main\n"
        "sys.addaudithook(hook)\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = [sys.executable, "-c", program, "finish", str(slot), str(home), "x"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.split() if line in ("syncfs", MARKER, "venv")] == ["syncfs", MARKER, "venv"]


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


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def zero(path: Path) -> None:
    """What a power cut leaves of a file of which the disk had the size and not the content."""
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def empty(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


INFO = "nbprovision-9.8.dist-info/RECORD"


@pytest.mark.parametrize(
    ("harm", "name", "said"),
    [
        (cut, "nbprovision.py", "nbprovision.py has another size than the installed file"),
        (Path.unlink, "nbprovision.py", "FileNotFoundError: "),
        (Path.unlink, INFO, "FileNotFoundError: "),
        (cut, INFO, "is not as it was installed"),
        (empty, INFO, "is not as it was installed"),
        (empty, "../../../pyvenv.cfg", "is not as it was installed"),
        (empty, f"../../../{MARKER}", f"{MARKER} is incomplete"),
        (zero, f"../../../{MARKER}", f"{MARKER} is incomplete"),
    ],
)
@pytest.mark.parametrize("depth", [["check"], ["check", "--deep"]], ids=["sizes", "deep"])
def test_a_check_says_what_is_not_as_it_was(
    harm: Callable[[Path], None],
    name: str,
    said: str,
    depth: list[str],
    whole: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    harm(site_packages(whole) / name)
    marker = (whole / MARKER).stat().st_ino
    assert main([*depth, str(whole)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert str(whole) in err, "the file is named"
    assert err.count("\n") == 1
    assert (whole / MARKER).stat().st_ino == marker, "it is not marked again"


def test_another_kind_of_interpreter_is_told_with_both_kinds(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marker = whole / MARKER
    marker.write_text(marker.read_text().replace(interpreter_kind(), "cpython-27 vax"))
    assert main(["check", str(whole)]) == 3
    assert capsys.readouterr().err == f"  made by cpython-27 vax, this is {interpreter_kind()}\n"


def checked_by_its_path(slot: Path) -> subprocess.CompletedProcess[str]:
    """A deep check as bootstrap.sh does it: with the slot's own file, by its path."""
    program = site_packages(slot) / "nbprovision/lifecycle/own_environment.py"
    return subprocess.run([sys.executable, "-I", program, "check", "--deep", slot], capture_output=True, text=True)


def test_a_deep_check_says_that_it_is_sound(whole: Path) -> None:
    done = checked_by_its_path(whole)
    assert (done.returncode, done.stdout, done.stderr) == (0, "sound\n", "")


@pytest.mark.parametrize("harm", [zero, empty])
@pytest.mark.parametrize(
    "name",
    [
        "nbprovision.py",
        "nbprovision/engine.so",
        "nbprovision/lifecycle/own_environment.py",
        "nbprovision-9.8.dist-info/RECORD",
    ],
)
def test_a_deep_check_finds_what_a_power_cut_leaves(harm: Callable[[Path], None], name: str, whole: Path) -> None:
    """Also in the file that does the checking, which ends with 0 where it is empty."""
    harm(site_packages(whole) / name)
    done = checked_by_its_path(whole)
    assert done.stdout != "sound\n"
    if "own_environment" not in name:
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1


def test_a_deep_check_works_where_the_package_cannot_be_imported(whole: Path) -> None:
    damaged = site_packages(whole) / "nbprovision/lifecycle/__init__.py"
    damaged.write_bytes(bytes(10))
    done = checked_by_its_path(whole)
    assert done.returncode == 1
    assert str(damaged) in done.stderr


@pytest.mark.parametrize("harm", [cut, zero, empty])
def test_a_deep_check_leaves_no_compiled_file_of_which_nobody_knows_the_content(
    harm: Callable[[Path], None], whole: Path
) -> None:
    (compiled,) = site_packages(whole).glob("__pycache__/nbprovision.*.pyc")
    harm(compiled)
    assert checked_by_its_path(whole).stdout == "sound\n"
    assert not compiled.exists()


def finished(home: Path, *slots: str) -> None:
    for slot in slots:
        finish(filled(home / slot), home, "x")


def test_the_good_slot_is_the_one_in_use_when_a_run_has_ended_well(home: Path) -> None:
    finished(home, "venv.1")
    assert main(["good", str(home)]) == 0
    assert (home / "venv.good").readlink() == Path("venv.1")
    before = (home / "venv.good").lstat().st_ino
    (home / "venv.good.new").symlink_to("of a killed one")
    assert main(["good", str(home)]) == 0
    assert (home / "venv.good").lstat().st_ino == before, "nothing is written where it is so already"
    finished(home, "venv.2")
    assert (home / "venv.good").readlink() == Path("venv.1"), "an install alone proves nothing"
    assert main(["good", str(home)]) == 0
    assert (home / "venv.good").readlink() == Path("venv.2")
    assert not (home / "venv.good.new").is_symlink()


@pytest.mark.parametrize("target", [None, "/bin"])
def test_where_no_slot_is_in_use_none_is_good(
    target: str | None, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if target:
        (home / "venv").symlink_to(target)
    assert main(["good", str(home)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (home / "venv.good").is_symlink()


@pytest.mark.parametrize(
    ("complete", "in_use", "good", "spare"),
    [
        ([], None, None, "venv.1"),
        (["venv.1"], "venv.1", None, "venv.2"),
        (["venv.2"], "venv.2", None, "venv.1"),
        (["venv.1", "venv.2"], "venv.2", "venv.1", "venv.2"),
        (["venv.1", "venv.2"], "venv.1", "venv.1", "venv.2"),
        (["venv.1", "venv.2"], "venv.1", "venv.2", "venv.1"),
        (["venv.2"], "venv.2", "venv.1", "venv.1"),
        (["venv.1"], "venv.2", "venv.1", "venv.2"),
    ],
)
def test_an_install_never_fills_the_good_slot(
    complete: list[str],
    in_use: str | None,
    good: str | None,
    spare: str,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for slot in SLOTS:
        (home / slot).mkdir()
    for slot in complete:
        (home / slot / MARKER).touch()
    for link, name in (("venv", in_use), ("venv.good", good)):
        if name:
            (home / link).symlink_to(name)
    assert main(["spare", str(home)]) == 0
    assert capsys.readouterr().out == f"{home / spare}\n"


def test_the_slot_in_use_is_not_filled_while_a_run_may_import_from_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(home, "venv.1", "venv.2")
    own_environment.good(home, "venv.1")
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["spare", str(home)]) == 1
        assert capsys.readouterr().err == f"  an active run uses {home / 'venv.2'}, the slot to fill\n"
    assert main(["spare", str(home)]) == 0


def test_a_slot_without_its_marker_goes_with_the_link_of_a_killed_install(whole: Path, home: Path) -> None:
    filled(home / "venv.2")
    (home / "venv.new").symlink_to("venv.2")
    tidy(home)
    assert sorted(path.name for path in home.iterdir()) == ["bootstrap.lock", "venv", "venv.1"]


def test_two_whole_slots_are_no_leftovers(whole: Path, home: Path) -> None:
    assert not witness.leftovers(str(home))
    finished(home, "venv.2")
    assert not witness.leftovers(str(home))
    tidy(home)
    assert all((home / slot / MARKER).exists() for slot in SLOTS)
    (home / "venv.1" / MARKER).unlink()
    assert witness.leftovers(str(home))


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
    assert sorted(path.name for path in home.iterdir()) == ["venv", "venv.1"]


def test_it_is_run_as_bootstrap_runs_it(whole: Path) -> None:
    words = [sys.executable, "-I", "-m", "nbprovision.lifecycle.own_environment", "check"]
    assert subprocess.run([*words, whole]).returncode == 0
    done = subprocess.run([*words, whole / "elsewhere"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("  FileNotFoundError: ")

"""What a killed run had in the making goes at the next one, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nbprovision.engine.guard import run_lock
from nbprovision.system import files, journal
from nbprovision.system.early_child import JOURNAL

DYING = """
import os, signal, sys
from pathlib import Path
from nbprovision.engine.guard import run_lock
from nbprovision.system import files
home, place = map(Path, sys.argv[1:])
with run_lock(home, "a test", None, print):
    files.temporary_beside(place / "never made")
    files.temporary_beside(place / "file").write_text("half of")
    (files.make_temporary_folder(place / "folder") / "inside").write_text("it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(home: Path, place: Path) -> None:
    """A run that is killed with a file and a folder in the making."""
    done = subprocess.run([sys.executable, "-c", DYING, home, place], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(place.iterdir())) == 2


def test_what_a_killed_run_left_goes_and_the_rest_stays(tmp_path: Path) -> None:
    home, place = tmp_path / "home", tmp_path / "a place\nwith a line break"
    place.mkdir()
    killed(home, place)
    (place / f".another's.1{journal.TEMPORARY_SUFFIX}").write_text("being written by somebody else")
    with run_lock(home, "a test", None, print):
        assert [path.name for path in place.iterdir()] == [f".another's.1{journal.TEMPORARY_SUFFIX}"]
    assert sorted(path.name for path in home.iterdir()) == ["lock"]


def test_a_journal_names_nothing_but_temporary_files(tmp_path: Path) -> None:
    """It lies where other programs can write: a line in it is no order to remove what is dear to somebody."""
    dear = tmp_path / "dear"
    dear.write_text("kept")
    (tmp_path / journal.FILE).write_bytes(b"\0".join([os.fsencode(dear), b"relative.nbprovision-tmp", b"", b"torn"]))
    with journal.kept(tmp_path) as was_killed:
        assert was_killed
    assert dear.read_text() == "kept"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_of_another_users_journal_nothing_is_believed(tmp_path: Path) -> None:
    planted = tmp_path / f".somebody's{journal.TEMPORARY_SUFFIX}"
    planted.write_text("kept")
    (tmp_path / journal.FILE).write_bytes(os.fsencode(planted) + b"\0")
    os.chown(tmp_path / journal.FILE, 1000, 1000)
    with journal.kept(tmp_path):
        assert planted.exists()


def test_a_link_in_its_place_is_replaced(tmp_path: Path) -> None:
    dear = tmp_path / "dear"
    dear.write_text("kept")
    (tmp_path / journal.FILE).symlink_to(dear)
    with journal.kept(tmp_path):
        files.temporary_beside(tmp_path / "file")
    assert dear.read_text() == "kept"


def test_a_child_notes_in_the_journal_of_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from nbprovision.system import files, journal; journal.join()\n"
        "files.temporary_beside(Path(sys.argv[1]))"
    )
    with journal.kept(tmp_path):
        env = {**os.environ, JOURNAL: journal.path() or ""}
        subprocess.run([sys.executable, "-c", code, tmp_path / "by the child"], env=env, check=True)
        assert b"/.by the child." in (tmp_path / journal.FILE).read_bytes()
    assert journal.path() is None


def test_after_a_kill_the_leftovers_of_engines_go_from_the_caches(tmp_path: Path) -> None:
    """uv and rattler name what they have in the making alike; what is in use stays."""
    home, place = tmp_path / "home", tmp_path / "place"
    left = ["uv/.tmpAbC123", "uv/builds-v0/.tmpAbC123", "pkgs/.tmpAbC123", "repodata/.tmpAbC123"]
    stays = ["uv/archive-v0/AbC123/.tmp_of_a_package", "pkgs/six-1.0/.tmp_of_a_package", "digests"]
    for name in (*left, *stays):
        (home / "cache" / name).mkdir(parents=True)
    with run_lock(home, "a test", None, print):
        assert all((home / "cache" / name).exists() for name in left), "nobody was killed: they are somebody's work"
    place.mkdir()
    killed(home, place)
    with run_lock(home, "a test", None, print):
        assert not any((home / "cache" / name).exists() for name in left)
        assert all((home / "cache" / name).exists() for name in stays)


def test_what_a_process_says_is_kept_without_a_file_that_a_kill_could_leave() -> None:
    code = (
        "import os, sys\n"
        "sys.addaudithook(lambda event, args: print(args) if event == 'open' and isinstance(args[0], str) and args[2] "
        "& os.O_CREAT else None)\n"
        "from nbprovision.system import commands\n"
        "done = commands.run(['/bin/sh', '-c', 'echo said; echo wrong >&2'], env={}, foreign=True)\n"
        "print(done.output + done.errors, end='')"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "said\nwrong\n"

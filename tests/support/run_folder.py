"""Each test run has a temporary folder of its own, which is removed after a run without failures.

pytest's default is one folder for all runs of a user: every run ends by deleting what the fourth last run left, file by
file and before its own process ends. After a full run those are hundreds of thousands of files, so that a short run
took minutes after its last test. Here a test's folder goes when the test has passed (``tmp_path_retention_policy`` in
pyproject.toml), while its files are still in memory; the rest goes by one ``rm``, which nobody waits for.

A run with a failure keeps its folder, and so does one that was killed. The newest of these stay.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO

import pytest

PREFIX = "nbtests-"  # short: a script's first line may have 127 characters, and tests make deep paths
KEPT = 2  # folders of earlier runs that failed or were killed

# Folders that a test made unreadable need their modes back, unless this is root. Files are left alone: some are hard
# links to what the shared cache holds.
_REMOVE = """\
{
    rm -rf --one-file-system -- "$@" || {
        find "$@" -type d ! -perm -u=rwx -exec chmod u+rwx {} \\;
        rm -rf --one-file-system -- "$@"
    }
} </dev/null >/dev/null 2>&1 &"""

_folder = pytest.StashKey[Path]()
_lock = pytest.StashKey[IO[str]]()
_failed = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the folder, before pytest looks for one; xdist gives its workers folders in it."""
    if config.option.basetemp is not None:  # a worker, or somebody who wants it elsewhere
        return
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    config.stash[_folder] = folder
    config.stash[_lock] = lock = (folder / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    config.option.basetemp = str(folder / "b")  # not "t": /t/WORD/ is a token in the URL of a conda channel


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember how the run ended."""
    failed = exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    session.config.stash[_failed] = failed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say where the files of a failed test are."""
    if config.stash.get(_failed, False) and _folder in config.stash:
        terminalreporter.write_line(f"temporary folders of the failed tests: {config.stash[_folder]}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove this run's folder unless a test failed, and old ones of runs that ended in another way."""
    folder = config.stash.get(_folder, None)
    if folder is None:
        return
    config.stash[_lock].close()
    obsolete = kept_folders(folder.parent, but=folder)[KEPT:]
    if not config.stash.get(_failed, True):
        obsolete.append(folder)
    remove(obsolete)


def kept_folders(parent: Path, but: Path) -> list[Path]:
    """Folders that earlier runs of this user left, the newest first; none of a run that goes on."""
    folders = [
        folder
        for folder in parent.glob(f"{PREFIX}*")
        if folder != but and not folder.is_symlink() and folder.stat().st_uid == os.geteuid() and not _in_use(folder)
    ]
    return sorted(folders, key=lambda folder: folder.stat().st_mtime_ns, reverse=True)


def _in_use(folder: Path) -> bool:
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # another run has just made the folder, or its removal was cut off
        return time.time() - folder.stat().st_mtime < 3600
    return False


def remove(folders: list[Path]) -> None:
    """Delete them in a process of its own, which goes on after this one."""
    if folders:
        subprocess.run(["sh", "-c", _REMOVE, "sh", *folders], check=True, start_new_session=True, cwd="/")

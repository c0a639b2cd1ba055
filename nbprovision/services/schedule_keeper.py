"""Keeps a schedule of `ensure_schedule` where no systemd can: a process of the user's, in Studio.

The keeper holds a lock from before its start, so that each schedule has one at most. It is in a session of its own and
outlives the run. It reads the schedule's script again and again: it follows its changes, and ends when the script is
removed. Anybody who may end processes of the user may end it; the next run starts it again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from nbprovision.files.command_keeper import locked
from nbprovision.services.schedule_record import Description, Files, description
from nbprovision.system.files import explained
from nbprovision.system.process import DEVNULL, dying_with_parent, outlive_starter, start

_MODULE = "nbprovision.services.schedule_keeper"
_SLICE = 1.0  # seconds between two looks at the script
_SETTLE = 5.0  # seconds after the keeper's start, until a missed run is made up for
_GRACE = 10.0  # seconds between asking a command to end and killing it
_NICENESS = 10  # notebooks go first
_OWN = "NBPROVISION_"  # variables of the run that starts the keeper, such as its phase


def start_keeper(home: Path, name: str, env: Mapping[str, str]) -> None:
    """Start the keeper of a schedule, unless it has one.

    Args:
        home: The tool's home folder.
        name: The schedule.
        env: The environment of its commands, without the tool's own variables.

    Raises:
        TaskFailed: it cannot be started.
        NotTrusted: this is root's, and somebody else can change what it would run, obey or write to.

    """
    variables = {key: value for key, value in env.items() if not key.startswith(_OWN)}
    with locked(Files.of(home, name).keeper) as lock, explained("cannot start the keeper of a schedule"):
        if lock is None:
            return
        process = start(
            [sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-m", _MODULE, str(home), name, str(lock)],
            env={**variables, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
            start_new_session=True,
            pass_fds=(lock,),
        )
        process.wait()  # it goes on in a child


def stop_keeper(home: Path, name: str) -> None:
    """Wait until the keeper of a schedule whose script was removed has ended, with its command."""
    end = time.monotonic() + _GRACE + 5
    while time.monotonic() < end:
        with locked(Files.of(home, name).keeper) as lock:
            if lock is not None:
                return


# ------------------------------------------------------------------------------------------------- the keeper's side


class _Stopped(BaseException):
    """Somebody ends the keeper by a signal."""


def main(argv: list[str]) -> None:
    """Keep a schedule until its script is removed."""
    home, name, lock = Path(argv[1]), argv[2], int(argv[3])
    os.ftruncate(lock, 0)
    outlive_starter(lambda keeper: os.pwrite(lock, b"%d\n" % keeper, 0))
    os.environ.pop("PYTHONPATH", None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    with contextlib.suppress(_Stopped, OSError):
        _keep(Files.of(home, name))
    os._exit(0)


def _stop(_number: int, _frame: object) -> None:
    raise _Stopped


def _keep(files: Files) -> None:
    kept, since, ran = None, 0.0, 0.0
    while (described := description(files.script)) is not None:
        if described != kept:
            kept, since = described, time.time()
        due = _due(described, files, since, ran)
        if due is not None and due <= time.time():
            ran = time.time()
            _run(files)
        else:
            time.sleep(_SLICE if due is None else min(_SLICE, max(0.05, due - time.time())))


def _due(described: Description, files: Files, since: float, ran: float) -> float | None:
    """When it has to run next.

    Args:
        described: Its description.
        files: Its files; the record of its last run may be of an earlier keeper.
        since: The moment from which it is kept.
        ran: When this keeper ran it last, whether or not there was space for a record.

    """
    last = files.last_run()
    now = time.time()
    started = max(ran, 0.0 if last is None or last.started > now + 60 else float(last.started))
    if not described.missed:
        return described.next_after(max(since, started))
    due = described.next_after(started) if started else since
    return None if due is None else max(due, since + _SETTLE)


def _run(files: Files) -> None:
    """Run the script to its end, and end what it leaves behind."""
    process = start(
        ["/bin/sh", files.script, "now"],
        env=os.environ,
        foreign=True,
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=DEVNULL,
        start_new_session=True,
        preexec_fn=dying_with_parent(),
    )
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SLICE)
                break
            if not os.path.lexists(files.script):
                break
    finally:
        _end_session(process)


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """End all processes of the script's session: its command has a process group of its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + _GRACE
        for pid in _of_session(process.pid):
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        while _of_session(process.pid) and time.monotonic() < end:
            process.poll()
            time.sleep(0.05)
    process.wait()


def _of_session(session: int) -> list[int]:
    """The living processes of a session (proc_pid_stat(5))."""
    members = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = Path("/proc", entry, "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[3]) == session and fields[0] not in (b"Z", b"X"):
                    members.append(int(entry))
    return members


if __name__ == "__main__":
    main(sys.argv)

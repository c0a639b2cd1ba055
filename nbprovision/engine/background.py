"""Work in the background: it gives way to the user's own work, and reports its end where people look.

The caller of a run with ``--deadline`` holds the other end of a pipe for as long as it waits. bootstrap.sh sets
``NBPROVISION_BACKGROUND=1`` for a run that it starts when its caller has left already. ``NBPROVISION_STARTED`` is the
machine's uptime at the start of the lifecycle script, as /proc/uptime has it.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nbprovision import __version__
from nbprovision.model.errors import NotTrusted, ProvisionError, TaskFailed
from nbprovision.report import ring
from nbprovision.report.activity import hook
from nbprovision.system.context import thread
from nbprovision.system.files import make_folder, write_atomically
from nbprovision.system.process import DEVNULL, start
from nbprovision.system.reading import read_end

VARIABLE = "NBPROVISION_BACKGROUND"
STARTED = "NBPROVISION_STARTED"
ON_FINISH = "NBPROVISION_ON_FINISH"
LOG = "background.log"
_LOGGER = Path("/usr/bin/logger")
_LONGEST_LOG = 1_000_000  # bytes; as much of what was before is kept beside it
_OOM_SCORE = 500  # of 1000 at most (proc(5)); a kernel has 0
_NICENESS = 10
_PATIENCE = 60.0  # seconds that the command of the administrator's may take


def nobody_waits_from_the_start() -> bool:
    """Whether the caller of this process has already left."""
    return os.environ.get(VARIABLE) == "1"


def die_first() -> None:
    """If memory runs out, let Linux end this process and its children before a notebook kernel."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")


def give_way() -> None:
    """Lower the priority of this work for the processor, and with it for the disk (setpriority(2), ioprio_set(2)).

    Linux keeps a priority for each thread: that of the process group reaches all threads and engines at work. A process
    that is not the leader of its group shares it with its caller, so only what it starts from now on follows.
    """
    with contextlib.suppress(OSError):
        alone = os.getpgrp() == os.getpid()
        os.setpriority(os.PRIO_PGRP if alone else os.PRIO_PROCESS, 0, _NICENESS)


def when_nobody_waits(pipe: int, then: Callable[[], None]) -> None:
    """Call ``then`` in a thread of its own as soon as nobody reads from ``pipe`` any more.

    Args:
        pipe: The end to write to.
        then: What to do.

    """
    asking = select.poll()
    asking.register(pipe, 0)  # POLLERR needs no asking for: poll(2)

    def wait() -> None:
        asking.poll()
        then()

    thread(wait).start()


def open_log(home: Path) -> int:
    """A descriptor of the log that background work writes to; earlier work's words are kept, up to a length.

    Returns:
        The descriptor, of ``/dev/null`` where the volume is full or read-only.

    """
    path = home / "log" / LOG
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        make_folder(home / "log", mode=0o700)
        handle = os.open(path, flags, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    with contextlib.suppress(OSError, TaskFailed):
        if os.fstat(handle).st_size > _LONGEST_LOG:
            write_atomically(path.with_name(f"{LOG}.1"), read_end(path, _LONGEST_LOG), mode=0o600, durable=False)
            os.ftruncate(handle, 0)  # not another file: other work may be writing to this one
    return handle


class Report:
    """The known result of work; ``content`` is the document of the run."""

    def __init__(self) -> None:
        self.content: dict[str, Any] | None = None
        self.status = 1


@contextlib.contextmanager
def reported(home: Path, alone: Callable[[], bool]) -> Iterator[Report]:
    """Report the end of what the body does, however it ends.

    Args:
        home: The tool's home folder.
        alone: Called at the end: whether nobody has waited for it; only then the result is written.

    Yields:
        What to fill in: the exit status and the document.

    """
    started = time.monotonic()
    report = Report()
    try:
        yield report
    except ProvisionError as error:
        report.status = error.exit_status
        raise
    except KeyboardInterrupt:
        report.status = 130
        raise
    finally:
        if alone():
            seconds = _since_the_start_of_the_hook() or time.monotonic() - started
            report_end(home, report.status, seconds, report.content)


def _since_the_start_of_the_hook() -> float:
    """Seconds, by the uptime that no change of the clock alters; 0 where nobody has said when that was."""
    try:
        now = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        return max(0.0, now - float(os.environ.get(STARTED, now)))
    except (OSError, ValueError):
        return 0.0


def report_end(home: Path, status: int, seconds: float, content: dict[str, Any] | None = None) -> None:
    """Report the end of work to the journal, the log and the administrator's command (``NBPROVISION_ON_FINISH``).

    The command gets the user's environment, with the exit status in ``NBPROVISION_STATUS`` and the line in
    ``NBPROVISION_RESULT``; it has a minute, and its result changes nothing.

    Args:
        home: The tool's home folder.
        status: The exit status of the work.
        seconds: The duration, from the start of the lifecycle script if that is known.
        content: The document of the run, if there was one.

    """
    counts = content["counts"] if content else {}
    line = (
        f"nbprovision: {'failed' if status else 'done'} status={status} seconds={seconds:.1f} "
        f"changed={counts.get('changed', '-')} failed={counts.get('failed', '-')} version={__version__} "
        f"hook={hook() or '-'} background=1"
    )
    log = open_log(home)
    try:
        with contextlib.suppress(OSError):
            os.write(log, f"{line}\n".encode())
        if _LOGGER.exists():
            _run([str(_LOGGER), "-t", "nbprovision", "--", line], log, 5.0)
        upload = [] if nobody_waits_from_the_start() else ring.upload_command(home)  # else bootstrap.sh does it
        if upload:
            _run(upload, log, _PATIENCE, {"AWS_MAX_ATTEMPTS": "2"})
        command = os.environ.get(ON_FINISH)
        if command:
            variables = {"NBPROVISION_STATUS": str(status), "NBPROVISION_RESULT": line}
            _run(["/bin/sh", "-c", command], log, _PATIENCE, variables)
    finally:
        os.close(log)


def _run(argv: list[str], log: int, patience: float, more: dict[str, str] | None = None) -> None:
    """Run a command to its end or for ``patience`` seconds; what it says goes to the log."""
    with contextlib.suppress(OSError, ValueError, NotTrusted):
        process = start(
            argv,
            env={**os.environ, **(more or {})},
            cwd="/",
            foreign=True,
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.write(log, f"nbprovision: ended after {patience:.0f} s: {argv[-1]}\n".encode())
            os.killpg(process.pid, 9)
            process.wait()

"""A time budget: the work is done by a process of its own, and the caller waits only for so long."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.engine import background
from nbprovision.engine.run import Listener
from nbprovision.engine.session import Session
from nbprovision.model.errors import TaskFailed
from nbprovision.model.result import Result
from nbprovision.report.activity import hook
from nbprovision.report.relay import received, received_error
from nbprovision.system.process import DEVNULL, start

if TYPE_CHECKING:
    import subprocess

# The program without the working folder on its path, which `python -m` would import from.
_PROGRAM = """\
import sys
sys.path = [folder for folder in sys.path if folder]
from nbprovision.__main__ import leave
leave(sys.argv[1:])
"""
# Seconds that ending takes: printing what is known, leaving.
_RESERVE = 0.3
_PIPE = 1 << 20  # bytes; more than a pipe holds (pipe(7))


def perform_within(
    session: Session,
    seconds: float,
    argv: Sequence[str],
    home: Path,
    listener: Listener,
    announce: Callable[[str], None],
) -> tuple[list[Result], dict[str, Any]]:
    """Carry a session out, but come back before ``seconds`` are over, with what is not finished as ``deferred``.

    The work is done from the start by a detached process (its own session, no descriptor of ours but one end of a
    pipe), so that nothing has to be handed over when the time is up: neither the end of this process, a hang-up nor a
    closed output reaches it. Under a lifecycle hook this comes back at once where the work of another hook holds the
    lock: it is the same kind of work, nobody knows how long it takes, and the detached process waits for it.

    Args:
        session: The work; it was read here, so that an invalid playbook is reported at once.
        seconds: The budget, counted from now.
        argv: The command line that the detached process gets, with ``--relay`` added.
        home: The tool's home folder, for the output of the detached process.
        listener: Hears what the other process relays.
        announce: Called with its messages.

    Returns:
        As `Session.perform`; the document's status is ``deferred`` where the work goes on.

    Raises:
        TaskFailed: the detached process ended without having done its work.
        LockTimeout: another run held the lock for too long.
        ProvisionError: what else it met before any task began.
    """
    leaves = hook() != ""
    deadline = time.monotonic() + max(seconds - _RESERVE, 0.0)
    results: dict[int, list[Result]] = {}
    content: dict[str, Any] | None = None
    receiving, sending = os.pipe()
    worker = _detach(argv, sending, home)
    os.close(sending)
    for message in _messages(receiving, deadline):
        if "said" in message:
            announce(message["said"])
        elif "started" in message:
            listener.started(session.steps[message["started"]])
        elif "progressed" in message:
            step = session.steps[message["progressed"]]
            listener.progressed(step, message["text"], message["done"], message["total"])
        elif "finished" in message:
            number = message["finished"]
            result = received(message["result"])
            results.setdefault(number, []).append(result)  # a handler may be run more than once
            listener.finished(session.steps[number], result)
        elif "waits" in message:
            if leaves and message["waits"]:
                deadline = 0.0
                break
        elif "failed" in message:
            raise received_error(message["failed"])
        else:
            content = message["ended"]
    os.close(receiving)  # by which the other process knows that nobody waits any more
    awaited = {number for number, step in enumerate(session.steps) if not step.conditional}
    if content is None and not awaited <= results.keys() and time.monotonic() < deadline:
        raise TaskFailed(
            "the worker process ended before the work was done",
            cause=f"exit status {worker.poll()}; its output is in {home / 'log' / 'background.log'}",
            cure="run again; finished work is kept",
        )
    for number in sorted(awaited if content is None else ()):
        if number not in results:
            step = session.steps[number]
            reason = f"continues in the background, process {worker.pid}; nbprovision status shows the progress"
            result = step.result("deferred", warnings=(reason,))
            results[number] = [result]
            listener.finished(step, result)
    ordered = [result for number in sorted(results) for result in results[number]]
    return ordered, content or session.document_of(ordered)


def _detach(argv: Sequence[str], pipe: int, home: Path) -> subprocess.Popen[bytes]:
    output = background.open_log(home)
    try:
        return start(
            [sys.executable, "-c", _PROGRAM, *argv, "--relay", str(pipe)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=None,  # where the paths in `argv` start
            foreign=True,
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(pipe,),
            start_new_session=True,
        )
    finally:
        os.close(output)


def _messages(pipe: int, deadline: float) -> Iterator[dict[str, Any]]:
    """Read from the pipe until it is closed, the work has ended, or the time is up.

    What has come by then is heard to the end, so that no end of the work is lost between the two processes.
    """
    waiting = b""
    left = 1.0
    while left > 0:
        left = max(deadline - time.monotonic(), 0.0)
        if not select.select([pipe], [], [], left)[0]:
            return
        block = os.read(pipe, _PIPE)
        if not block:
            return
        *lines, waiting = (waiting + block).split(b"\n")
        for line in lines:
            yield msgspec.json.decode(line)

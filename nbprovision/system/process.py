"""Child processes that do heavy work beside the tool: told over a pipe, heard line by line, ended with their parent."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.model.errors import TaskFailed
from nbprovision.system.log import event
from nbprovision.system.secrets import mask

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that made it ends (prctl(2), PR_SET_PDEATHSIG).

    An engine that outlived a killed run would go on writing into a prefix that the next run has in hand.
    """
    import ctypes
    import signal

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def call_module(
    module: str,
    request: Any,
    *,
    env: Mapping[str, str],
    on_event: Callable[[dict[str, Any]], None],
    timeout: float | None = None,
) -> Any:
    """Run ``python -m module`` with this interpreter, hand it ``request``, and return what it answers.

    The child reads one JSON document from standard input and writes JSON lines: any number of events, then one
    ``{"result": ...}`` or ``{"error": {"message", "cause", "cure"}}``. See `answer` for its side.

    Raises:
        TaskFailed: the child reported an error, was killed, crashed, or did not end in time.

    """
    started = time.monotonic()
    reply: dict[str, Any] = {}
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**env, "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd="/",
        )
        timer = _kill_after(child, timeout)
        try:
            assert child.stdin is not None  # noqa: S101
            assert child.stdout is not None  # noqa: S101
            try:
                child.stdin.write(msgspec.json.encode(request))
                child.stdin.close()
            except BrokenPipeError:
                pass  # it died; its exit status says how
            for line in child.stdout:
                message = msgspec.json.decode(line)
                if "result" in message or "error" in message:
                    reply = message
                else:
                    on_event(message)
        except BaseException:
            child.kill()
            raise
        finally:
            if timer is not None:
                timer.cancel()
            child.stdout.close()  # type: ignore[union-attr]
            status = child.wait()
        errors.seek(0)
        complaint = mask(errors.read().decode("utf-8", "replace")[-4000:].strip())
    event("child", module=module, status=status, seconds=round(time.monotonic() - started, 3))
    if "error" in reply:
        error = {key: mask(str(value)) for key, value in reply["error"].items()}
        raise TaskFailed(error["message"], cause=error["cause"], cure=error["cure"])
    if "result" not in reply:
        raise TaskFailed(f"{module} ended before its work was done", cause=_ending(status, complaint))
    return reply["result"]


def answer(work: Callable[[Any, Callable[..., None]], Any]) -> None:
    """The child's side of `call_module`: read the request, do ``work(request, tell)``, reply, and leave at once.

    It leaves by ``os._exit``: py-rattler's runtime may crash the interpreter at its ordinary exit, after the work
    is done and safe (PyO3/pyo3-async-runtimes issue 40).
    """
    die_with_parent()
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints is a complaint, not a message

    def send(message: dict[str, Any]) -> None:
        pipe.write(msgspec.json.encode(message) + b"\n")

    def tell(**fields: Any) -> None:
        send(fields)

    try:
        send({"result": work(msgspec.json.decode(sys.stdin.buffer.read()), tell)})
        status = 0
    except TaskFailed as error:
        send({"error": {"message": error.message, "cause": error.cause, "cure": error.cure}})
        status = 2
    except BaseException:  # noqa: BLE001 - the parent tells the user; the traceback goes to its log
        import traceback

        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


def _kill_after(child: subprocess.Popen[bytes], timeout: float | None) -> Any:
    if timeout is None:
        return None
    import threading

    timer = threading.Timer(timeout, child.kill)
    timer.daemon = True
    timer.start()
    return timer


def _ending(status: int, complaint: str) -> str:
    if status < 0:
        import signal

        how = f"killed by {signal.Signals(-status).name}"
    else:
        how = f"exit status {status}"
    return f"{how}: {complaint}" if complaint else how

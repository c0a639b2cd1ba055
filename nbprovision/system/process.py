"""Child processes that do heavy work beside the tool: told over a pipe, heard line by line, ended with their parent."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from nbprovision.model.errors import TaskFailed
from nbprovision.system.log import event
from nbprovision.system.secrets import mask

_PR_SET_PDEATHSIG = 1


@functools.cache
def dying_with_parent() -> Callable[[], None]:
    """A function that asks the kernel to kill its process when the thread that made it ends (prctl(2)).

    An engine that outlived a killed run would go on writing into a prefix that the next run has in hand. It imports
    nothing: between fork and exec a lock that another thread holds is held for ever.
    """
    import ctypes
    import signal

    return functools.partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


class Child:
    """``python -m module`` with this interpreter, which answers one request after the other; see `answer` for its side.

    It keeps what it has loaded and found between two requests. It ends when it is closed or forgotten, and with the
    thread that made it.

    Args:
        module: The module, which calls `answer`.
        env: Its environment variables.

    """

    def __init__(self, module: str, *, env: Mapping[str, str]) -> None:
        self.module = module
        self._env = dict(env)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**env, "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd="/",
        )
        self._end = weakref.finalize(self, _end, self._process, self._errors)

    def call(self, request: Any, on_event: Callable[[dict[str, Any]], None], timeout: float | None = None) -> Any:
        """Hand the child one request and return what it answers; events on the way go to ``on_event``.

        Raises:
            TaskFailed: the child reported an error, was killed, crashed, or did not answer in time.

        """
        started = time.monotonic()
        timer = _kill_after(self._process, timeout)
        try:
            reply = self._exchange(msgspec.json.encode(request) + b"\n", on_event)
        except BaseException:
            self.close()
            raise
        finally:
            if timer is not None:
                timer.cancel()
        status = None if reply else self._process.wait()
        # A child that answers lives on until it is let go: what it says of its work is its status.
        event(
            "command",
            command=f"{sys.executable} -m {self.module} ({type(request).__name__})",
            status=int("error" in reply) if status is None else status,
            seconds=round(time.monotonic() - started, 3),
        )
        if "error" in reply:
            error = {key: mask(str(value)) for key, value in reply["error"].items()}
            raise TaskFailed(error["message"], cause=error["cause"], cure=error["cure"])
        if status is not None:
            self._errors.seek(0)
            complaint = mask(self._errors.read().decode("utf-8", "replace")[-4000:].strip())
            self.close()
            raise TaskFailed(f"{self.module} ended before its work was done", cause=_ending(status, complaint))
        return reply["result"]

    def close(self) -> None:
        """End the child, whatever it is doing."""
        self._end()

    def rest(self) -> None:
        """The child has done its work: it waits for more where some may come (see `kept_children`), else it ends."""
        with _resting_lock:
            if _resting is not None and len(_resting) < _MOST_RESTING:
                _resting.append(self)
                return
        self.close()

    def serves(self, module: str, env: Mapping[str, str]) -> bool:
        """Whether it is alive and could have been made with these arguments."""
        return self.module == module and self._env == env and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _exchange(self, line: bytes, on_event: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            return {}  # it died; its exit status says how
        for answered in self._process.stdout:
            message: dict[str, Any] = msgspec.json.decode(answered)
            if "result" in message or "error" in message:
                return message
            on_event(message)
        return {}


_resting: list[Child] | None = None
_resting_lock = threading.Lock()
_MOST_RESTING = 8  # as many as work side by side; each takes the memory of what it has loaded


@contextlib.contextmanager
def kept_children() -> Iterator[None]:
    """While the body runs, a child that rests is kept for the next one to `hire`: some take long to load."""
    global _resting
    with _resting_lock:
        outermost, _resting = _resting is None, _resting or []
    try:
        yield
    finally:
        if outermost:
            with _resting_lock:
                children, _resting = _resting or [], None
            for child in children:
                child.close()


def hire(module: str, env: Mapping[str, str]) -> Child:
    """A child that rests, else a new one."""
    with _resting_lock:
        resting = _resting or []
        for child in resting:
            if child.serves(module, env):
                resting.remove(child)
                return child
    return Child(module, env=env)


def _end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    # Not asked but killed: what it has answered is safe, and a library's own end of the process may crash or hang.
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, errors):
        with contextlib.suppress(OSError):
            pipe.close()  # type: ignore[union-attr]


def call_module(
    module: str,
    request: Any,
    *,
    env: Mapping[str, str],
    on_event: Callable[[dict[str, Any]], None],
    timeout: float | None = None,
) -> Any:
    """Ask one thing of a `Child` made for it.

    The child reads one JSON document a line from standard input and writes JSON lines: any number of events, then one
    ``{"result": ...}`` or ``{"error": {"message", "cause", "cure"}}``.

    Raises:
        TaskFailed: the child reported an error, was killed, crashed, or did not end in time.

    """
    child = Child(module, env=env)
    try:
        return child.call(request, on_event, timeout)
    finally:
        child.close()


def answer(work: Callable[[Any, Callable[..., None]], Any]) -> None:
    """The child's side of `Child`: for each request do ``work(request, tell)`` and reply; at the end leave at once.

    It leaves by ``os._exit``: py-rattler's runtime may crash the interpreter at its ordinary exit, after the work
    is done and safe (PyO3/pyo3-async-runtimes issue 40).
    """
    dying_with_parent()()
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints is a complaint, not a message

    def send(message: dict[str, Any]) -> None:
        pipe.write(msgspec.json.encode(message) + b"\n")

    def tell(**fields: Any) -> None:
        send(fields)

    status = 0
    try:
        for line in sys.stdin.buffer:
            try:
                send({"result": work(msgspec.json.decode(line), tell)})
            except TaskFailed as error:  # noqa: PERF203 - one failed request does not end the child
                send({"error": {"message": error.message, "cause": error.cause, "cure": error.cure}})
    except BaseException:  # noqa: BLE001 - the parent tells the user; the traceback goes to its log
        import traceback

        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


def _kill_after(child: subprocess.Popen[bytes], timeout: float | None) -> Any:
    if timeout is None:
        return None
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

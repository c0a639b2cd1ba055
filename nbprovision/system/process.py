"""Starts processes, and drives children of ours that do heavy work: over a pipe, line by line, killed with the tool."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from nbprovision.model.errors import REPORT, ProvisionError, TaskFailed
from nbprovision.system import early_child, journal, trust
from nbprovision.system.context import current, thread
from nbprovision.system.early_child import EarlyChild
from nbprovision.system.files import nameless_file
from nbprovision.system.log import event
from nbprovision.system.secrets import mask

DEVNULL = subprocess.DEVNULL
SILENT = 75  # exit status: EX_TEMPFAIL of sysexits.h
_CHECK_SILENCE_EVERY = 0.5  # seconds
_PR_SET_PDEATHSIG = 1


def start(
    words: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: str | Path | None = "/",
    foreign: bool = False,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start a process without a shell, after `trust.command` has judged it.

    Args:
        words: Program and arguments.
        env: The whole environment.
        cwd: The working folder; None for the caller's own.
        foreign: As for `trust.command`.
        options: Others of `subprocess.Popen`.

    Raises:
        NotTrusted: this is root's, and somebody else can change what it would run, obey or write to.
        OSError: the program is missing or cannot be run.

    """
    argv = [os.fspath(word) for word in words]
    trust.command(argv, env=env, cwd=cwd, foreign=foreign)
    return subprocess.Popen(argv, env=dict(env), cwd=cwd, **options)  # noqa: S603 - no shell sees it


@functools.cache
def dying_with_parent() -> Callable[[], None]:
    """Return a function that makes the kernel kill its process when the creating thread ends (prctl(2)).

    Otherwise an engine that outlived a killed run would write into a prefix on which the next run works. The function
    imports nothing: after a fork, a lock that another thread held is never released.
    """
    import ctypes

    return functools.partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def outlive_starter(announce: Callable[[int], object] | None = None) -> None:
    """Continue in a child of this process, which ends: its starter waits for this process alone.

    Args:
        announce: Called with the child's id before the end, so that it is known when the starter goes on.

    """
    child = os.fork()
    if child:
        if announce is not None:
            announce(child)
        os._exit(0)


@contextlib.contextmanager
def time_limit(seconds: float | None, expire: Callable[[], object]) -> Iterator[None]:
    """Call ``expire`` in a thread if the body takes longer than ``seconds``; None means no limit."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class ChildEnded(TaskFailed):
    """A child ended before its work was done; ``status`` is its exit status, negative for a signal."""

    def __init__(self, message: str, *, cause: str, cure: str, status: int) -> None:
        super().__init__(message, cause=cause, cure=cure)
        self.status = status


class Child:
    """A process ``python -m module`` that answers requests, several at once; see `answer` for its side.

    It keeps its modules and data between requests. It ends when it is closed or garbage-collected, and with the thread
    that created it.

    Args:
        module: The module, which calls `answer`.
        env: Its environment variables.
        started: The process, if it was started early with these arguments.

    """

    def __init__(self, module: str, *, env: Mapping[str, str], started: early_child.Started | None = None) -> None:
        self.module = module
        self._env = dict(env)
        if started is None:
            errors = nameless_file()  # closed by _end
            process = start(
                early_child.command(module),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**env, **early_child.variables_of_ours(journal.path())},
            )
            started = early_child.Started(process, errors)
        self._process, self._errors = started
        assert self._process.stdout is not None  # noqa: S101
        self._replies = _Replies(self._process.stdout)
        self._writing = threading.Lock()
        self._last_output: str | None = None
        self._leftovers: list[Path] = []
        self._end = weakref.finalize(self, _end, self._process, self._errors, self._leftovers)

    def call(self, request: Any, on_event: Callable[[dict[str, Any]], None], timeout: float | None = None) -> Any:
        """Send one request and return the answer; events in between go to ``on_event``.

        Raises:
            TaskFailed: the child reported an error.
            ChildEnded: it was killed, crashed, or did not answer in time.

        """
        started = time.monotonic()
        try:
            with time_limit(timeout, self._process.kill):
                reply = self._exchange(request, on_event)
        except BaseException:
            self.close()
            raise
        status = None if reply else self._process.wait()
        # A child that answers stays alive, so its answer determines the logged status.
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
            complaint = mask(self._read_last_output())
            raise ChildEnded(
                f"{self.module} ended before its work was done",
                cause=_ending(status, complaint),
                cure="free some memory (shut down unused kernels), and run again"
                if status == -signal.SIGKILL
                else f"run again; {REPORT} if it happens again",
                status=status,
            )
        return reply["result"]

    def remove_at_end(self, folder: Path) -> None:
        """Remove a folder after the child has ended, since until then its threads may write to it."""
        self._leftovers.append(folder)

    def close(self) -> None:
        """End the child, even during work."""
        self._end()

    def release(self) -> None:
        """End the child after the work of one caller, unless the run keeps it for others (see `kept_children`)."""
        kept = current(_Kept)
        with kept.lock:
            if self in (kept.children or ()):
                return
        self.close()

    def serves(self, module: str, env: Mapping[str, str]) -> bool:
        """Whether it is alive and was created with these arguments."""
        return self.module == module and self._env == env and self.alive

    @property
    def alive(self) -> bool:
        """Whether it can still take requests."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _read_last_output(self) -> str:
        """Return its last output on standard error, for all waiting callers."""
        with self._writing:
            if self._last_output is None:
                self._errors.seek(0)
                self._last_output = self._errors.read().decode("utf-8", "replace")[-4000:].strip()
                self.close()
            return self._last_output

    def _exchange(self, request: Any, on_event: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Send a request and return the reply; an empty one if the child has died."""
        assert self._process.stdin is not None  # noqa: S101
        number, messages = self._replies.expect()
        try:
            with self._writing:
                self._process.stdin.write(msgspec.json.encode((number, request)) + b"\n")
                self._process.stdin.flush()
        except (BrokenPipeError, ValueError):  # it has died, or was closed
            return {}
        while (message := messages.get()) and "result" not in message and "error" not in message:
            on_event(message)
        return message


class _Replies:
    """Reads a child's messages and passes each to its caller; at the child's end, all callers get an empty one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._numbers = itertools.count()
        self._ended = False
        thread(self._listen, stream).start()

    def expect(self) -> tuple[int, queue.SimpleQueue[dict[str, Any]]]:
        """Return a number for a request, and the queue of its messages."""
        with self._lock:
            number = next(self._numbers)
            messages = self._waiting[number] = queue.SimpleQueue()
            if self._ended:
                messages.put({})
            return number, messages

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                number, message = msgspec.json.decode(line, type=tuple[int, dict[str, Any]])
                self._waiting[number].put(message)
        with self._lock:
            self._ended = True
            for messages in self._waiting.values():
                messages.put({})


class _Kept:
    """The children that a run keeps; None outside of `kept_children`."""

    def __init__(self) -> None:
        self.children: list[Child] | None = None
        self.lock = threading.Lock()


@contextlib.contextmanager
def kept_children() -> Iterator[None]:
    """Share and keep the children of `hire` while the body runs, since they take long to load."""
    kept = current(_Kept)
    with kept.lock:
        outermost, kept.children = kept.children is None, kept.children or []
    try:
        yield
    finally:
        if outermost:
            with kept.lock:
                children, kept.children = kept.children or [], None
            for child in children:
                child.close()
            current(EarlyChild).close()


def hire(module: str, env: Mapping[str, str]) -> Child:
    """Return a kept child, or a new one."""
    kept = current(_Kept)
    with kept.lock:
        if kept.children is None:
            return Child(module, env=env)
        for child in kept.children:
            if child.serves(module, env):
                return child
        kept.children.append(Child(module, env=env, started=current(EarlyChild).take(module, dict(env))))
        return kept.children[-1]


def _end(process: subprocess.Popen[bytes], errors: IO[bytes], leftovers: list[Path]) -> None:
    early_child.end(process, errors)
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)


def call_module(
    module: str, request: Any, *, env: Mapping[str, str], on_event: Callable[[dict[str, Any]], None]
) -> Any:
    """Send one request to a new `Child`.

    The child reads one JSON line ``[number, request]`` for each request from standard input and writes JSON lines
    ``[number, message]``: any number of events, then one ``{"result": ...}`` or
    ``{"error": {"message", "cause", "cure"}}``.

    Raises:
        TaskFailed: the child reported an error, was killed, crashed, or did not end in time.

    """
    child = Child(module, env=env)
    try:
        return child.call(request, on_event)
    finally:
        child.close()


def answer(work: Callable[[Any, Callable[..., None]], Any]) -> None:
    """Run the child's side of `Child`: for each request call ``work(request, report)`` in its own thread, and reply.

    It exits by ``os._exit``, since py-rattler's runtime may crash the interpreter at an ordinary exit
    (PyO3/pyo3-async-runtimes issue 40).
    """
    dying_with_parent()()
    os.umask(0o022)  # all may read an engine's files, but only this user may write them
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a library's output is not a message
    # Not sys.stdin: a forked process closes it, and would wait forever for the lock of the reading thread.
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    writing = threading.Lock()

    def send(number: int, message: dict[str, Any]) -> None:
        with writing:
            pipe.write(msgspec.json.encode((number, message)) + b"\n")

    def serve(number: int, request: Any) -> None:
        try:
            send(number, {"result": work(request, lambda **fields: send(number, fields))})
        except ProvisionError as error:  # a failed request does not end the child
            send(number, {"error": {"message": error.message, "cause": error.cause, "cure": error.cure}})
        except BaseException:  # noqa: BLE001 - the parent reports the end, with the traceback as its cause
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    workers = []
    for line in requests:
        journal.join()  # not before: an early child is older than its run's journal
        workers.append(thread(serve, *msgspec.json.decode(line)))
        workers[-1].start()
    for worker in workers:
        worker.join()
    sys.stderr.flush()
    os._exit(0)


class _SilenceWatch:
    """Ends this process when the network is silent; see `ending_when_silent`."""

    def __init__(self) -> None:
        self._calls: dict[object, tuple[float, Callable[[], Collection[str]], Callable[[], object]]] = {}
        self._lock = threading.Lock()
        self._started = False

    @contextlib.contextmanager
    def watching(
        self, limit: float, awaited: Callable[[], Collection[str]], progress: Callable[[], object]
    ) -> Iterator[None]:
        key = object()
        with self._lock:
            self._calls[key] = limit, awaited, progress
            if not self._started:
                self._started = True
                thread(self._watch).start()
        try:
            yield
        finally:
            with self._lock:
                del self._calls[key]

    def _watch(self) -> None:
        since, work = time.monotonic(), time.process_time()
        before: object = None
        while True:
            time.sleep(_CHECK_SILENCE_EVERY)
            with self._lock:
                calls = list(self._calls.values())
            names = sorted({name for _, awaited, _ in calls for name in awaited()})
            state = names, [progress() for _, _, progress in calls]
            now, busy = time.monotonic(), time.process_time()
            # The checks themselves take some time, too.
            if not names or state != before or busy - work > 0.05 + 0.02 * (now - since):
                since, work, before = now, busy, state
            elif now - since >= min(limit for limit, _, _ in calls):
                sys.stderr.write(f"gave no answer in time: {now - since:.0f} s without a byte of {', '.join(names)}\n")
                sys.stderr.flush()
                os._exit(SILENT)


def ending_when_silent(
    limit: float | None, awaited: Callable[[], Collection[str]], progress: Callable[[], object]
) -> contextlib.AbstractContextManager[None]:
    """While the body runs, end this process after ``limit`` seconds of silence; its caller starts another one.

    py-rattler limits the time of a whole answer, which a large package on a slow line exceeds, but not the silence. Nor
    can its waiting be cancelled without its threads continuing.

    Silence means: something is awaited, no call makes progress, and no work is done. The process then names on standard
    error what it awaited, and exits with the status `SILENT`.

    Args:
        limit: Seconds; None for no limit.
        awaited: Returns the names of what is awaited from the network; called often.
        progress: Returns a value that changes with each arrival; called often.

    """
    if limit is None:
        return contextlib.nullcontext()
    return current(_SilenceWatch).watching(limit, awaited, progress)


def _ending(status: int, complaint: str) -> str:
    how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return f"{how}: {complaint}" if complaint else how

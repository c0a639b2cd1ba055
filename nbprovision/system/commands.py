"""Runs commands of other programs, by the library sh and without a shell; logs their exit status and duration."""

from __future__ import annotations

import contextlib
import contextvars
import errno
import os
import re
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from nbprovision.model.errors import TaskFailed
from nbprovision.system import trust
from nbprovision.system.context import thread
from nbprovision.system.files import nameless_file
from nbprovision.system.log import detail, event
from nbprovision.system.process import dying_with_parent, time_limit
from nbprovision.system.secrets import mask

if TYPE_CHECKING:
    import sh

_MOST_OUTPUT = 16 << 20  # bytes that are kept of a command's output


_CHECK_SILENCE_EVERY = 0.5  # seconds


class Silent(TaskFailed):
    """A command was killed because neither it nor a process that it started read or wrote anything for too long."""


class Completed(NamedTuple):
    """The result of a command."""

    status: int
    output: str
    errors: str
    seconds: float


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    accept: Sequence[int] = (0,),
    failure: str | None = None,
    on_output: Callable[[str], None] | None = None,
    foreign: bool = False,
    silence: float | None = None,
) -> Completed:
    """Run a command to its end.

    Args:
        argv: Program and arguments, without a shell. Secrets belong into ``env``, which ``ps`` does not show.
        env: The whole environment of the command.
        cwd: Working folder; default the file system's root, so that no configuration of a project is picked up.
        stdin: Text for its standard input; default nothing.
        timeout: Seconds after which it is killed.
        accept: Exit statuses that do not count as failure.
        failure: The message for a failure; by default that the command failed.
        on_output: Called with each piece of its output that ends with a NUL, as it arrives.
        foreign: It is the user's command, which may start anything: a kill ends all processes that it started, and
            processes that it leaves running delay nothing.
        silence: Seconds after which it is killed, with the processes that it started, if none of them reads or writes
            anything. So a server that is silent is given up, and a long download is not.

    Raises:
        Silent: it was killed for its silence.
        TaskFailed: it is missing, was killed, or its exit status is not in ``accept``.
        NotTrusted: this is root's, and somebody else can change what it would run, obey or write to.

    """
    words = [os.fspath(word) for word in argv]
    shown = mask(shlex.join(words))
    started = time.monotonic()
    trust.command(words, env=env, cwd=cwd or "/", foreign=foreign)
    with contextlib.ExitStack() as files:
        # A file ends with the command; a pipe ends with the last process that holds it.
        stdin_file, output_file, errors_file = (files.enter_context(nameless_file()) for _ in range(3))
        stdin_file.write((stdin or "").encode("utf-8", "surrogateescape"))
        stdin_file.seek(0)
        options: dict[str, Any] = {"_out": output_file}
        if on_output is not None:
            receive = _Pieces(on_output, output_file).receive
            options = {"_out": receive, "_out_bufsize": 0, "_decode_errors": "surrogateescape"}
        process = _start(
            words,
            failure or f"cannot run {words[0]}",
            _env=dict(env),
            _cwd=str(cwd or "/"),
            _in=stdin_file,
            _err=errors_file,
            _preexec_fn=_prepare(foreign=foreign),
            **options,
        )
        expired = _wait(process, timeout, silence, with_children=foreign or silence is not None)
        output, errors = map(_content, (output_file, errors_file))
    seconds = time.monotonic() - started
    status = None if expired else process.process.exit_code
    event("command", command=shown, status=status, seconds=round(seconds, 3))
    if expired == "silent":
        raise Silent(
            failure or f"{words[0]} did not end",
            cause=f"killed after {silence:.0f} seconds without any input or output: {shown}",
            cure="run again; if it is killed again, run the command by hand to see what it waits for",
        )
    if status is None:
        raise TaskFailed(
            failure or f"{words[0]} did not end",
            cause=f"killed after {timeout:.0f} seconds: {shown}",
            cure="run again; if it is killed again, run the command by hand to see what it waits for",
        )
    detail("output", text=f"{output}\n{errors}".strip())
    if status not in accept:
        cause = mask((errors.strip() or output.strip())[-4000:])
        raise TaskFailed(
            failure or f"{words[0]} failed",
            cause=f"`{shown}` ended with {status}: {cause}",
            cure="fix the cause, and run again",
        )
    return Completed(status, output, errors, seconds)


class _Word(str):
    """An argument of any bytes: sh encodes arguments strictly, but a file name need not be UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("utf-8", "surrogateescape")


def _start(words: Sequence[str], failure: str, **options: Any) -> sh.RunningCommand:
    """Start a program, found on the PATH of its own environment.

    Raises:
        TaskFailed: it is missing or cannot be run.

    """
    import sh

    program = trust.find_program(words[0], options["_env"], options["_cwd"])
    if program is None or not os.path.exists(program):
        reason, cure = "the program does not exist", "install it, or put its folder on the PATH"
    else:
        try:
            command: Callable[..., sh.RunningCommand] = sh.Command(program)
            # In the background, so that it can be killed; in a list, so that sh does not change the arguments.
            return command([_Word(word) for word in words[1:]], _bg=True, _bg_exc=False, **options)
        except (sh.CommandNotFound, sh.ForkException) as error:
            match = re.search(r"\[Errno (\d+)\]", str(error))
            number = int(match[1]) if match else errno.EACCES
            reason, cure = os.strerror(number), "look at its owner and mode: ls -l"
            if number == errno.ENOEXEC:
                cure = "name its interpreter in the first line, such as #!/bin/sh"
    raise TaskFailed(failure, cause=f"{words[0]}: {reason}", cure=cure)


def _prepare(*, foreign: bool) -> Callable[[], None]:
    """Return the function that runs before exec; it takes no lock, as another thread could hold it."""
    die_with_parent = dying_with_parent()
    hang_up = signal.SIG_IGN if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else signal.SIG_DFL

    def prepare() -> None:
        die_with_parent()
        signal.signal(signal.SIGHUP, hang_up)  # sh lets background processes ignore it
        if not foreign:  # a user's command keeps the user's umask; engines create files that all can read
            os.umask(0o022)

    return prepare


def _wait(
    process: sh.RunningCommand, timeout: float | None, silence: float | None, *, with_children: bool
) -> Literal["", "late", "silent"]:
    """Wait for the end of a process; return which limit ended it, if one did."""
    import sh

    expired: list[Literal["late", "silent"]] = []

    def expire(limit: Literal["late", "silent"]) -> None:
        expired.append(limit)
        _kill(process.pid, with_children=with_children)

    try:
        with (
            time_limit(timeout, lambda: expire("late")),
            _silence_limit(process.pid, silence, lambda: expire("silent")),
            contextlib.suppress(sh.ErrorReturnCode),  # the exit status shows it too
        ):
            process.wait()
    except BaseException:
        _kill(process.pid, with_children=with_children)
        raise
    return expired[0] if expired else ""


@contextlib.contextmanager
def _silence_limit(pid: int, seconds: float | None, expire: Callable[[], object]) -> Iterator[None]:
    """Call ``expire`` if a process and its children transfer no byte for ``seconds``; None means no limit."""
    if seconds is None:
        yield
        return
    ended = threading.Event()

    def watch(limit: float) -> None:
        last, since = -1, time.monotonic()
        while not ended.wait(_CHECK_SILENCE_EVERY):
            transferred = sum(map(_transferred, (pid, *_children(pid))))
            if transferred != last:
                last, since = transferred, time.monotonic()
            elif time.monotonic() - since > limit:
                expire()
                return

    watcher = thread(watch, seconds)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _transferred(pid: int) -> int:
    """The bytes that a process has read and written (https://man7.org/linux/man-pages/man5/proc_pid_io.5.html)."""
    with contextlib.suppress(OSError, ValueError):
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        return sum(int(line.partition(":")[2]) for line in lines[:2])  # rchar, wchar
    return 0


class _Pieces:
    """Reports each piece of an output that ends with a NUL, as it arrives, and writes all of it to a file.

    Args:
        report: Called with each piece, in the creator's context: sh calls from its own thread.
        file: Receives the output.

    """

    def __init__(self, report: Callable[[str], None], file: IO[bytes]) -> None:
        self._report, self._file = report, file
        self._context = contextvars.copy_context()
        self._rest = b""

    def receive(self, text: str) -> None:
        """Take the next part of the output, a text with surrogates for bytes that are not UTF-8."""
        part = text.encode("utf-8", "surrogateescape")
        self._file.write(part)
        *pieces, self._rest = (self._rest + part).split(b"\0")
        for piece in pieces:
            self._context.run(self._report, piece.decode("utf-8", "replace"))


def _kill(pid: int, *, with_children: bool) -> None:
    # Not by its own process group, which Ctrl-C at the terminal would not reach.
    for process in [pid, *(_children(pid) if with_children else ())]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _children(pid: int) -> Iterator[int]:
    """The children of a process, and their children (https://man7.org/linux/man-pages/man5/proc_pid_task.5.html)."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _children(int(child))


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_MOST_OUTPUT).decode("utf-8", "replace")

"""Commands, run without a shell, each one logged with its exit status and time."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from nbprovision.model.errors import NotTrusted, TaskFailed
from nbprovision.system import launch
from nbprovision.system.files import nameless_file
from nbprovision.system.log import detail, event
from nbprovision.system.process import dying_with_parent
from nbprovision.system.secrets import mask

_MOST_OUTPUT = 16 << 20  # bytes that are kept of what a foreign command writes


class Completed(NamedTuple):
    """What a command left behind."""

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
) -> Completed:
    """Run a command to its end.

    Args:
        argv: Program and arguments; no shell sees them. Secrets belong into ``env``, where ``ps`` does not show them.
        env: The whole environment of the command.
        cwd: Working folder; default the file system's root, so that no configuration of a project is picked up.
        stdin: Text for its standard input; default nothing.
        timeout: Seconds after which it is killed.
        accept: Exit statuses that are no failure.
        failure: The message where it fails; default that the command failed.
        on_output: Hears each piece of its output that a NUL ends, as it comes.
        foreign: It is a command of the user's, who may have anything run by it: when it is killed, so is all that it
            has started; and what it leaves running keeps nobody waiting for more output.

    Raises:
        TaskFailed: not found, killed, or an exit status outside ``accept``; the cause is the end of its errors.
        NotTrusted: this is root's, and somebody else can change what it would run, obey or write to.

    """
    words = [str(word) for word in argv]
    shown = mask(shlex.join(words))
    started = time.monotonic()
    # A file has an end when the command has ended, a pipe only when all who hold it have.
    files: list[IO[bytes]] = [nameless_file() for _ in range(2)] if foreign else []
    try:
        process = launch.start(
            words,
            env=env,
            cwd=cwd or "/",
            foreign=foreign,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=files[0] if foreign else subprocess.PIPE,
            stderr=files[1] if foreign else subprocess.PIPE,
            # An engine's files are for all to read and for nobody else to write; a user's command has the user's umask.
            umask=-1 if foreign else 0o022,
            preexec_fn=dying_with_parent(),  # it takes no lock
        )
    except NotTrusted:
        _close(files)
        raise
    except OSError as error:
        _close(files)
        absent = isinstance(error, FileNotFoundError)
        there = "there is no such program" if absent else str(error.strerror)
        raise TaskFailed(
            failure or f"cannot run {words[0]}",
            cause=f"{words[0]}: {there}",
            cure="install it, or put its folder on the PATH" if absent else "look at its owner and mode: ls -l",
        ) from error
    with process:
        try:
            if on_output is None:
                output, errors = process.communicate(
                    stdin.encode("utf-8", "surrogateescape") if stdin is not None else None, timeout
                )
            else:
                output, errors = _listen(process, on_output, timeout)
            if foreign:
                output, errors = map(_content, files)
        except subprocess.TimeoutExpired as error:
            _kill(process, all_of_it=foreign)
            event("command", command=shown, status=None, seconds=round(time.monotonic() - started, 3))
            cause = f"killed after {timeout:.0f} seconds: {shown}"
            raise TaskFailed(
                failure or f"{words[0]} did not end",
                cause=cause,
                cure="run once more; if it stays so, run the command by hand and see what it waits for",
            ) from error
        except BaseException:
            _kill(process, all_of_it=foreign)
            raise
        finally:
            _close(files)
    status = process.returncode
    done = Completed(
        status, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace"), time.monotonic() - started
    )
    event("command", command=shown, status=done.status, seconds=round(done.seconds, 3))
    detail("output", text=f"{done.output}\n{done.errors}".strip())
    if done.status not in accept:
        cause = mask((done.errors.strip() or done.output.strip())[-4000:])
        raise TaskFailed(
            failure or f"{words[0]} failed",
            cause=f"`{shown}` ended with {done.status}: {cause}",
            cure="put right what it complains of, and run once more",
        )
    return done


def _kill(process: subprocess.Popen[bytes], *, all_of_it: bool) -> None:
    # Not by a process group of its own, which Ctrl-C at the terminal would not reach.
    started = list(_children(process.pid)) if all_of_it else []
    process.kill()
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> Iterator[int]:
    """Processes that a process has started, and theirs (https://man7.org/linux/man-pages/man5/proc_pid_task.5.html)."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _children(int(child))


def _close(files: list[IO[bytes]]) -> None:
    for file in files:
        file.close()


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(_MOST_OUTPUT)


def _listen(
    process: subprocess.Popen[bytes], on_output: Callable[[str], None], timeout: float | None
) -> tuple[bytes, bytes]:
    """Read both pipes to their end, telling of the one as it comes.

    Raises:
        subprocess.TimeoutExpired: it did not end in time.

    """
    import selectors

    deadline = None if timeout is None else time.monotonic() + timeout
    found: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    told = 0
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stdout, selectors.EVENT_READ, "stdout")  # type: ignore[arg-type]
        waiting.register(process.stderr, selectors.EVENT_READ, "stderr")  # type: ignore[arg-type]
        while waiting.get_map():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(process.args, timeout or 0)
            for key, _ in waiting.select(left):
                piece = os.read(key.fd, 65536)
                if not piece:
                    waiting.unregister(key.fileobj)
                found[key.data] += piece
            while (end := found["stdout"].find(b"\0", told)) >= 0:
                on_output(found["stdout"][told:end].decode("utf-8", "replace"))
                told = end + 1
    process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
    return bytes(found["stdout"]), bytes(found["stderr"])

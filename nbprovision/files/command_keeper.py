"""Keeps a command of ``ensure_command: background: true``: starts it, limits its time, and records its end.

The keeper is a process in a session of its own, so that it outlives the run and the lifecycle script. It leads no
terminal and holds no pipe of its starter. The command has a process group of its own, which ends as one: when the
command itself ends, after `timeout`, and when somebody ends the keeper.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from nbprovision.files.command_record import Files, Record, outcome
from nbprovision.model.errors import NotTrusted, TaskFailed
from nbprovision.system import log, secrets
from nbprovision.system.context import thread
from nbprovision.system.files import explained, make_folder, remove, write_atomically
from nbprovision.system.journal import TEMPORARY_SUFFIX
from nbprovision.system.process import DEVNULL, dying_with_parent, outlive_starter, start, time_limit
from nbprovision.system.secrets import mask

_MODULE = "nbprovision.files.command_keeper"
_LONGEST_LOG = 1_000_000  # bytes; as much of what was before is kept beside it
_LONGEST_LINE = 1 << 16
_SHORTEST_LINE = 8  # characters; shorter lines of a secret may occur in any text
_GRACE = 10.0  # seconds between asking the processes of a command to end and killing them
_MOMENT = 0.5  # seconds; `nbprovision status` holds a free lock for less
_LONGEST_START = 60.0  # seconds until the keeper answers
_NICENESS = 10  # as for other work in the background: notebooks go first


def launch(
    home: Path,
    key: str,
    record: Record,
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdin: str,
    timeout: float | None,
) -> int | None:
    """Start a command that outlives this process, unless it still runs.

    Args:
        home: The tool's home folder.
        key: Identifies the command.
        record: What it becomes when the command succeeds.
        words: Program and arguments.
        env: The whole environment of the command.
        cwd: Its working folder.
        stdin: Text for its standard input.
        timeout: Seconds after which it is ended.

    Returns:
        The keeper's process id; None if the command still runs.

    Raises:
        TaskFailed: it cannot be started.
        NotTrusted: this is root's, and somebody else can change what it would run, obey or write to.

    """
    files = Files.of(home, key)
    with locked(files.lock) as lock:
        if lock is None:
            return None
        for leftover in files.record.parent.glob(f".{files.record.name}.*{TEMPORARY_SUFFIX}"):
            remove(leftover)  # of a keeper that was killed while it wrote
        hidden = log.is_withheld()
        request = {
            "words": list(words),
            "env": dict(env),
            "cwd": str(cwd),
            "stdin": stdin,
            "timeout": timeout,
            "home": str(home),
            "key": key,
            "lock": lock,
            "record": msgspec.to_builtins(record),
            "secrets": secrets.known(),
            "hidden": hidden,
        }
        return _ask(request, env, lock, words[0])


def _ask(request: dict[str, Any], env: Mapping[str, str], lock: int, program: str) -> int:
    keeper = start(
        [sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-m", _MODULE],
        env={**env, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=DEVNULL,
        start_new_session=True,
        pass_fds=(lock,),
    )
    try:
        with time_limit(_LONGEST_START, lambda: os.killpg(keeper.pid, signal.SIGKILL)):
            # The secrets go through a pipe, which no other user can read.
            answer, _ = keeper.communicate(json.dumps(request).encode())
    except BaseException:
        with contextlib.suppress(OSError):
            os.killpg(keeper.pid, signal.SIGKILL)
        keeper.wait()
        raise
    try:
        reply = json.loads(answer)
    except ValueError:
        raise TaskFailed(
            f"cannot start {program} in the background",
            cause=f"its keeper ended with {keeper.returncode}",
            cure="run again; free some memory if it happens again",
        ) from None
    if "error" in reply:
        error = reply["error"]
        raise TaskFailed(error["message"], cause=error["cause"], cure=error["cure"])
    return int(reply["pid"])


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int | None]:
    """Hold a lock while the body runs, None if another does; a child that inherits the descriptor keeps it held."""
    with explained(f"cannot write {path}", path):
        make_folder(path.parent, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        yield handle if _acquired(handle) else None
    finally:
        os.close(handle)


def _acquired(handle: int) -> bool:
    end = time.monotonic() + _MOMENT
    while time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.02)
    return False


# ------------------------------------------------------------------------------------------------- the keeper's side


class _Stopped(BaseException):
    """Somebody ends the keeper by a signal."""


def main() -> None:
    """Start the command, answer, and stay until its end."""
    request = json.loads(sys.stdin.buffer.read())
    for text in request["secrets"]:
        secrets.remember(text)
        for line in text.splitlines() if "\n" in text else ():  # the log is masked line by line
            if len(line.strip()) >= _SHORTEST_LINE:
                secrets.remember(line.strip())
    outlive_starter()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    Keeper(request).keep()
    os._exit(0)


def _stop(_number: int, _frame: object) -> None:
    raise _Stopped


class Keeper:
    """Starts one command and waits for its end."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._files = Files.of(Path(request["home"]), request["key"])
        self._success = msgspec.convert(request["record"], Record)

    def keep(self) -> None:
        """Start the command, answer, and record its end."""
        began = time.time()
        before = self._files.read()
        own = before if before is not None else Record(command="")
        running = msgspec.structs.replace(
            own,
            command=self._success.command,
            pid=os.getpid(),
            done=0.0,  # if it is killed, it has not been done for any content
            started=began,
            ended=0.0,
            status=None,
            reason="",
        )
        try:
            with _input(self._request["stdin"]) as stdin:
                write_atomically(self._files.record, msgspec.json.encode(running), mode=0o600)
                process = self._start(stdin)
        except (OSError, TaskFailed, NotTrusted) as error:
            with contextlib.suppress(TaskFailed, NotTrusted, OSError):
                self._write(before)
            _answer({"error": _error(self._request["words"][0], error)})
            return
        _answer({"pid": os.getpid()})
        reason = self._wait(process)
        status = process.returncode
        good = status == 0 and not reason
        ended = msgspec.structs.replace(running, ended=time.time(), status=status, reason=reason)
        if good:
            kept = {"done": ended.ended, "boot": self._success.boot, "content": self._success.content}
            ended = msgspec.structs.replace(ended, **kept)
        with contextlib.suppress(TaskFailed, OSError):  # a full disk: the next run starts it again
            self._write(ended)
        home = Path(self._request["home"])
        log.open_log(home / "log" / "nbprovision.log", rotates=False)
        log.event(
            "background command",
            command=running.command,
            status=status,
            seconds=round(ended.ended - began, 3),
            result=reason or outcome(status),
        )
        log.flush()

    def _write(self, record: Record | None) -> None:
        if record is None:
            remove(self._files.record)
        else:
            write_atomically(self._files.record, msgspec.json.encode(record), mode=0o600)

    def _start(self, stdin: int) -> subprocess.Popen[bytes]:
        request = self._request
        return start(
            request["words"],
            env=request["env"],
            cwd=request["cwd"],
            foreign=True,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(request["lock"],),  # held until the last process of the command has ended
            preexec_fn=dying_with_parent(),
        )

    def _wait(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for the command's end; return why it was ended, or an empty text."""
        assert process.stdout is not None  # noqa: S101
        reader = thread(self._copy, process.stdout)
        reason = ""
        timeout = self._request["timeout"]
        try:
            reader.start()
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            reason = f"ended after {timeout:.0f} seconds"
        except _Stopped:
            reason = "stopped"
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        _end_group(process)
        reader.join(_GRACE)
        return reason

    def _copy(self, stream: IO[bytes]) -> None:
        """Write the output to the log, masked, line by line."""
        target = _Output(None if self._request["hidden"] else self._files.log)
        rest = b""
        longest = max((len(text.encode("utf-8", "surrogateescape")) for text in self._request["secrets"]), default=0)
        while piece := os.read(stream.fileno(), 1 << 16):
            rest += piece
            end = max(rest.rfind(b"\n"), rest.rfind(b"\r")) + 1
            if not end and len(rest) > _LONGEST_LINE:
                end = len(rest) - longest  # a secret may lie across the end
            if end > 0:
                target.write(rest[:end])
                rest = rest[end:]
        target.write(rest)


class _Output:
    """The log of a command's output; without a path, or on a full disk, the output is dropped."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        if self._path is None or not data:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        text = mask(data.decode("utf-8", "replace")).encode("utf-8", "replace")
        with contextlib.suppress(OSError):
            if os.path.exists(self._path) and os.lstat(self._path).st_size > _LONGEST_LOG:
                os.replace(self._path, self._path.with_name(f"{self._path.name}.1"))
            handle = os.open(self._path, flags, 0o600)
            try:
                os.write(handle, text)
            finally:
                os.close(handle)


@contextlib.contextmanager
def _input(text: str) -> Iterator[int]:
    """A descriptor with a text to read, which is in no file and no pipe that has to be served."""
    handle = os.memfd_create("nbprovision", os.MFD_CLOEXEC)
    try:
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(handle, data) :]
        os.lseek(handle, 0, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)


def _answer(reply: dict[str, Any]) -> None:
    """Send the answer, and let go of the starter's pipes."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(reply).encode())
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)


def _error(program: str, error: OSError | TaskFailed | NotTrusted) -> dict[str, str]:
    if isinstance(error, OSError):
        missing = isinstance(error, FileNotFoundError)
        cause = "the program does not exist" if missing else str(error.strerror)
        cure = "install it, or put its folder on the PATH" if missing else "look at its owner and mode: ls -l"
        return {"message": f"cannot run {program}", "cause": f"{program}: {cause}", "cure": cure}
    return {"message": error.message, "cause": error.cause, "cure": error.cure}


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End all processes of the command that are left: ask them, and kill them if they do not."""
    end = time.monotonic() + _GRACE
    with contextlib.suppress(ProcessLookupError, PermissionError):  # none is left
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < end:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    main()

"""Files and programs for root: nothing that somebody else could have put there is followed, opened or run."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
from collections.abc import Iterator, Sequence
from typing import NamedTuple

ROOT = "/"
_MOST = 4 << 20  # bytes of a file
_SHOWN = 2000  # characters of the end of a program's output
PROGRAMS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
# No variable of root's own shell reaches a program.
ENVIRONMENT = {
    "PATH": ":".join(PROGRAMS),
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "SYSTEMD_COLORS": "0",
}


class Trouble(Exception):
    """What went wrong, in words for the log."""


class Unreachable(Trouble):
    """Something outside this machine does not answer: a warning, which fails nothing."""


class Ended(NamedTuple):
    """The exit status of a program, and the end of its output."""

    status: int
    output: str


def program(name: str, root: str = ROOT) -> str:
    """Return the full path of a program in root's folders; empty if they have none."""
    for folder in PROGRAMS:
        path = folder + "/" + name
        if os.access(below(path, root), os.X_OK):
            return path
    return ""


def run(argv: Sequence[str], seconds: float, *, extra: dict[str, str] | None = None, text: str = "") -> Ended:
    """Run a program by its full path, in a session of its own, and end it with all its children when the time is up.

    Args:
        argv: The program's full path, and its arguments.
        seconds: The time limit.
        extra: Further environment variables.
        text: Its standard input.

    Raises:
        Trouble: it cannot be started, or took too long.

    """
    if not argv[0].startswith("/"):
        raise Trouble("%s is missing here" % (argv[0] or "a program"))
    name = os.path.basename(argv[0])
    try:
        process = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
            env=dict(ENVIRONMENT, **(extra or {})), start_new_session=True, close_fds=True,
        )  # fmt: skip
    except OSError as error:
        raise Trouble("%s cannot be started: %s" % (argv[0], error.strerror)) from None
    try:
        output, _ = process.communicate(text.encode(), timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Trouble("%s took more than %d s" % (name, seconds)) from None
    finally:  # also when the task's own time is up; a child may outlive the program, and hold its output
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel may hold it, such as for a dead file server
            process.wait(2)
        for pipe in filter(None, (process.stdin, process.stdout)):
            with contextlib.suppress(OSError):
                pipe.close()
    return Ended(process.returncode, printable(output.decode(errors="replace")).strip()[-_SHOWN:])


def must_run(argv: Sequence[str], seconds: float, *, extra: dict[str, str] | None = None, text: str = "") -> str:
    """Run a program as `run` does; return its output.

    Raises:
        Trouble: it ended with a failure, too.

    """
    ended = run(argv, seconds, extra=extra, text=text)
    if ended.status != 0:
        last = ended.output.splitlines()[-1:] or ["no output"]
        raise Trouble("%s ended with %d: %s" % (" ".join(argv[:3]), ended.status, last[0]))
    return ended.output


def printable(text: str) -> str:
    """Return the text without control characters, so that it cannot imitate lines of the log."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


# --------------------------------------------------------------------------------------------------------------- files


def below(path: str, root: str) -> str:
    """Return an absolute path as it is below ``root``."""
    return path if root == ROOT else root.rstrip("/") + path


def read(path: str, root: str = ROOT, *, most: int = _MOST) -> str | None:
    """Return the text of an ordinary file; None if it is missing. A link is not followed.

    Raises:
        Trouble: it cannot be read, is something else, or has more than `most` bytes.

    """
    try:
        handle = os.open(below(path, root), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        what = "is a link" if error.errno == errno.ELOOP else "cannot be read: %s" % error.strerror
        raise Trouble("%s %s" % (path, what)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Trouble("%s is not an ordinary file" % path)
    with open(handle, "rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise Trouble("%s is too large" % path)
    return content.decode(errors="replace")


def write(path: str, text: str, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> None:
    """Put a file of root's in place, whole or not at all; its folders are made where they are missing.

    A file that has this text and this mode stays as it is.

    Args:
        path: The file.
        text: Its text.
        mode: Its permissions.
        owner: Its user and group, where it is written.

    Raises:
        Trouble: somebody else can change a folder above it, or it cannot be written.

    """
    folder, name = os.path.split(path)
    with _folder(folder, make=True) as above:
        _refuse_folder(above, name, path)
        if _has(above, name, text, mode):
            return
        new = ".%s.nbprovision-%d" % (name, os.getpid())
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=above)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=above)
        try:
            with open(handle, "w", encoding="utf-8", newline="") as stream:
                os.fchown(handle, *owner)
                os.fchmod(handle, mode)
                stream.write(text)
                stream.flush()
                os.fsync(handle)
            os.rename(new, name, src_dir_fd=above, dst_dir_fd=above)
        except BaseException:
            os.unlink(new, dir_fd=above)
            raise


def remove(path: str) -> None:
    """Remove a file or a link, if it is there.

    Raises:
        Trouble: somebody else can change a folder above it.

    """
    folder, name = os.path.split(path)
    if os.path.isdir(folder):
        with _folder(folder, make=False) as above, contextlib.suppress(FileNotFoundError):
            _refuse_folder(above, name, path)
            os.unlink(name, dir_fd=above)


def make_folder(path: str) -> None:
    """Make a folder of root's with those above it.

    Raises:
        Trouble: something else is there, or somebody else can change a folder above it.

    """
    with _folder(path, make=True):
        pass


@contextlib.contextmanager
def _folder(path: str, *, make: bool) -> Iterator[int]:
    """Open a folder by one step at a time from the root folder: none is a link, none can be changed by anybody else."""
    handle = os.open(ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        so_far = ""
        for name in [part for part in path.split("/") if part]:
            so_far += "/" + name
            _refuse_foreign(handle, os.path.dirname(so_far) or "/")
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=handle)
            try:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
            except OSError as error:
                raise Trouble("%s is not a folder of root's: %s" % (so_far, error.strerror)) from None
            os.close(handle)
            handle = inner
        _refuse_foreign(handle, so_far or "/")
        yield handle
    finally:
        os.close(handle)


def _has(above: int, name: str, text: str, mode: int) -> bool:
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above)
    except OSError:
        return False
    with open(handle, "rb") as stream:
        status = os.fstat(handle)
        same = stat.S_ISREG(status.st_mode) and status.st_uid == 0 and stat.S_IMODE(status.st_mode) == mode
        return same and stream.read(_MOST) == text.encode()


def _refuse_foreign(handle: int, path: str) -> None:
    status = os.fstat(handle)
    if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Trouble("%s can be changed by others than root, and is left alone" % path)


def _refuse_folder(above: int, name: str, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise Trouble("%s is a folder" % path)


# ------------------------------------------------------------------------------------------------------------- systemd


def need_systemd() -> None:
    """Refuse to begin where systemd does not run.

    Raises:
        Trouble: it does not.

    """
    if not os.path.isdir("/run/systemd/system"):
        raise Trouble("systemd does not run here")


def systemctl(*words: str, seconds: float = 30) -> None:
    """Give systemd a command.

    Raises:
        Trouble: it refuses, or does not run.

    """
    need_systemd()
    must_run([program("systemctl"), "--no-ask-password", *words], seconds)


def is_active(unit: str, root: str = ROOT) -> bool:
    """Whether a service runs: systemd gives each one that does a control group (of either version)."""
    slices = ("/sys/fs/cgroup/system.slice/", "/sys/fs/cgroup/systemd/system.slice/")
    return any(os.path.isdir(below(folder + unit, root)) for folder in slices)


def is_enabled(unit: str, target: str, root: str = ROOT) -> bool:
    """Whether a unit is started with a target: the link that ``systemctl enable`` makes."""
    return os.path.lexists(below("/etc/systemd/system/%s.wants/%s" % (target, unit), root))

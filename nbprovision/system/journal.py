"""What a run has in the making, written down before it is begun, so that what a kill leaves goes at the next run.

One file in the tool's home, there for as long as a run is at work and after one that was killed. It names every
temporary file and folder that was begun, wherever that is: nothing has to be searched for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from nbprovision.system import disk_space
from nbprovision.system.context import current

FILE = "journal"
VARIABLE = "NBPROVISION_JOURNAL"  # the journal's path for child processes
_MOST = 1 << 26  # bytes that are read; a run notes some thousand names
TEMPORARY_SUFFIX = ".nbprovision-tmp"


class _Journals(dict[int, str]):
    """The open journals of a run, its descriptors with their paths: none, or one."""


def note(temporary: Path) -> None:
    """Record that ``temporary`` is about to be created; nothing is written outside a run."""
    for journal in list(current(_Journals)):
        with contextlib.suppress(OSError):  # on a full disk what it names is not made either
            os.write(journal, os.fsencode(temporary) + b"\0")


def for_child() -> dict[str, str]:
    """The environment variables by which a child process of ours can `join`."""
    journal = next(iter(current(_Journals).values()), None)
    return {} if journal is None else {VARIABLE: journal}


def join() -> None:
    """In a child process: note in the journal of the run that started it."""
    path = os.environ.pop(VARIABLE, None)
    if path is not None:
        with contextlib.suppress(OSError):
            journal = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
            current(_Journals)[journal] = path


@contextlib.contextmanager
def kept(home: Path) -> Iterator[bool]:
    """Keep the journal of a run during the body; the caller holds the lock.

    Yields:
        Whether the run before was killed; what it noted is gone then.

    Raises:
        OSError: the journal cannot be written, for another reason than that the volume is full or read-only.

    """
    path = home / FILE
    killed = _sweep(path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        path.unlink(missing_ok=True)
        journal = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno not in disk_space.WRITE_ERRORS:
            raise
        yield killed  # all may be in place, and what is not can hardly be begun
        return
    journals = current(_Journals)
    journals[journal] = str(path)
    try:
        yield killed
    finally:
        del journals[journal]
        os.close(journal)
        path.unlink(missing_ok=True)


def _sweep(path: Path) -> bool:
    """Remove what a journal names, if there is one; of another user's nothing is believed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        believed = status.st_uid == os.getuid() and stat.S_ISREG(status.st_mode)
        noted = stream.read(_MOST).split(b"\0")[:-1] if believed else []
    for name in dict.fromkeys(map(os.fsdecode, noted)):
        _remove(name)
    return True


def _remove(name: str) -> None:
    base = os.path.basename(name)
    if not os.path.isabs(name) or not base.startswith(".") or not base.endswith(TEMPORARY_SUFFIX):
        return
    try:
        os.unlink(name)
    except IsADirectoryError:
        shutil.rmtree(name, ignore_errors=True)
    except OSError:  # gone, as most are; or where nobody can write any more
        pass

"""The journal of a run: the names of its temporary files, so that the next run removes those of a killed one.

It is one file in the tool's home, which exists during a run and after a killed one. A run notes every temporary file or
folder before it creates it, so nothing must be searched for.
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
from nbprovision.system.early_child import JOURNAL

FILE = "journal"
_MOST = 1 << 26  # bytes to read; a run notes some thousand names
TEMPORARY_SUFFIX = ".nbprovision-tmp"


class _Journals(dict[int, str]):
    """The open journal of a run, if there is one: its descriptor and path."""


def note(temporary: Path) -> None:
    """Record that ``temporary`` is about to be created; nothing is written outside a run."""
    for journal in list(current(_Journals)):
        with contextlib.suppress(OSError):  # on a full disk the temporary file is not created either
            os.write(journal, os.fsencode(temporary) + b"\0")


def path() -> str | None:
    """The path of this run's journal, by which a child process can `join`; None outside of a run."""
    return next(iter(current(_Journals).values()), None)


def join() -> None:
    """In a child process: use the journal of the run that started it, from its first request on."""
    path = os.environ.pop(JOURNAL, None)
    if path is not None:
        with contextlib.suppress(OSError):
            journal = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
            current(_Journals)[journal] = path


@contextlib.contextmanager
def kept(home: Path) -> Iterator[bool]:
    """Keep the journal of a run during the body; the caller holds the lock.

    Yields:
        Whether the last run was killed; its temporary files are removed then.

    Raises:
        OSError: the journal cannot be written, although the volume is neither full nor read-only.

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
        yield killed  # all may be in place, and if not, hardly anything can be written
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
    """Remove the files that a journal names, and return whether there is one; another user's is not trusted."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        trusted = status.st_uid == os.getuid() and stat.S_ISREG(status.st_mode)
        noted = stream.read(_MOST).split(b"\0")[:-1] if trusted else []
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
    except OSError:  # removed already, as most are, or not removable
        pass

"""Files written whole or not at all, with the owner and mode that they should have, and no link followed.

Every function that changes something raises `NotTrusted` where root would leave its files among somebody else's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from nbprovision.model.errors import TaskFailed
from nbprovision.system import disk_space, journal, trust
from nbprovision.system.journal import TEMPORARY_SUFFIX
from nbprovision.system.reading import read_bytes


def read_text(path: Path) -> str | None:
    """The text of ``path``, or None if the file does not exist. Undecodable bytes are kept as surrogates."""
    try:
        return read_bytes(path).decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_atomically(path: Path, data: str | bytes, *, mode: int | None = None, durable: bool = True) -> None:
    """Put ``data`` at ``path`` by temporary file, fsync, rename; a reader sees the old file or the new one.

    Args:
        path: The file. A link at this place is replaced, never followed.
        data: The whole content.
        mode: Permission bits; None keeps those of an existing file, else 0644.
        durable: Wait until the disk has it. Without, a failure of the power may leave an empty file, which is enough
            where the next run compares the content and writes it again.

    Raises:
        TaskFailed: the folder cannot be written, the disk is full, ...

    """
    if isinstance(data, str):
        data = data.encode("utf-8", errors="surrogateescape")
    with replacing(path, mode=mode, durable=durable) as stream:
        stream.write(data)


def copy_atomically(source: Path, path: Path, *, mode: int | None = None) -> None:
    """Put the content of the file ``source`` at ``path``, however large; otherwise as `write_atomically`."""
    with explained(f"cannot copy {source}"):
        handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as content, replacing(path, mode=mode) as stream:
        shutil.copyfileobj(content, stream, 1 << 20)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int | None = None, durable: bool = True) -> Iterator[IO[bytes]]:
    """A stream whose content takes the place of ``path`` when the body has ended; see `write_atomically`.

    Raises:
        TaskFailed: the folder cannot be written, the disk is full, ...

    """
    if mode is None:
        mode = _mode_of(path)
    temporary = temporary_beside(path)
    with explained(f"cannot write {path}", path):
        make_folder(path.parent)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                if durable:
                    os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        if durable:
            _sync_folder(path.parent)


def temporary_beside(path: Path) -> Path:
    """Where to make what will take the place of ``path``: no other thread or process does so there.

    Should this process be killed before it has, the next run removes it.

    Raises:
        NotTrusted: this is root's, and it would lie among somebody else's files.

    """
    trust.write(path)
    temporary = path.with_name(f".{path.name}.{threading.get_native_id()}{TEMPORARY_SUFFIX}")
    journal.note(temporary)
    return temporary


def make_temporary_folder(path: Path) -> Path:
    """Make an empty folder as `temporary_beside` names it, for this user alone."""
    temporary = temporary_beside(path)
    remove(temporary)
    os.mkdir(temporary, 0o700)
    return temporary


def nameless_file() -> IO[bytes]:
    """A file in memory, for what a process says: no kill can leave it behind, and no full disk is in its way.

    `tempfile.TemporaryFile` has no name either, but tries first by one that has whether its folder can be written.
    """
    return os.fdopen(os.memfd_create("nbprovision", os.MFD_CLOEXEC), "w+b")


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """An empty folder as `temporary_beside` names it, for as long as the body runs.

    Raises:
        TaskFailed: the folder cannot be made, the disk is full, ...
    """
    with explained(f"cannot make a temporary folder in {path.parent}"):
        make_folder(path.parent)
        temporary = make_temporary_folder(path)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def own_temporary_files(env: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """A variable by which a program makes its temporary files in a folder that goes with it, however it ends.

    Args:
        env: The program's other variables: the folder is made where these have temporary files go.

    """
    place = Path(env.get("TMPDIR") or "/tmp")  # noqa: S108 - where the program itself would go
    if not (place.is_absolute() and os.access(place, os.W_OK)):
        yield {}
        return
    # Others can make files there too, so the name is none that they could guess.
    with temporary_folder(place / f"nbprovision-{os.urandom(8).hex()}") as folder:
        yield {"TMPDIR": str(folder)}


def link_atomically(path: Path, target: str) -> None:
    """Make ``path`` a symbolic link to ``target``, in place of whatever file or link is there."""
    temporary = temporary_beside(path)
    with explained(f"cannot link {path}", path):
        make_folder(path.parent)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        os.symlink(target, temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)


def make_folder(path: Path, *, mode: int = 0o755) -> None:
    """Make ``path`` and the folders above it, with ``mode`` (whatever the umask) for those that are new."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        trust.write(folder)
        try:
            os.mkdir(folder, mode)  # never open for others, even for a moment
            os.chmod(folder, mode)
        except FileExistsError:
            trust.place(folder)  # somebody was faster, in a folder that is for everybody


def remove(path: Path) -> None:
    """Remove a file, a link (not what it names), or a folder with everything in it; absent is fine."""
    if not os.path.lexists(path):
        return
    trust.write(path)
    with explained(f"cannot remove {path}", path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remove_at_once(folder: Path) -> None:
    """Remove a folder: out of sight in one step, then piece by piece."""
    with explained(f"cannot remove {folder}", folder):
        hidden = make_temporary_folder(folder)
        os.rename(folder, hidden / folder.name)
    remove(hidden)


def remove_if_empty(folder: Path) -> None:
    """Remove ``folder`` when nothing is in it."""
    trust.write(folder)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def set_mode(path: Path, mode: int) -> None:
    """Give a file or folder its permission bits; a link at this place is an error, never followed."""
    trust.write(path)
    with explained(f"cannot change the mode of {path}", path):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(handle, mode)
        finally:
            os.close(handle)


@contextlib.contextmanager
def explained(what: str, where: Path | None = None) -> Iterator[None]:
    """Turn an `OSError` in the body into a `TaskFailed` that says what to do about it.

    Args:
        what: What fails then.
        where: Its place; the error of a write contains no name.

    """
    try:
        yield
    except OSError as error:
        raise refused(error, what, where) from error


def refused(error: OSError, what: str = "", where: Path | None = None) -> TaskFailed:
    """What the machine refused, as a failure that says what to do about it."""
    cause, cure = f"{error.strerror or error}", _CURES.get(error.errno or 0, _CURE)
    named = error.filename2 or error.filename or where
    if error.errno in disk_space.WRITE_ERRORS and isinstance(named, (str, Path)):
        cause, cure = disk_space.explain_error(error.errno, Path(named))
    failure = TaskFailed(what or f"the machine refuses to use {named or 'a file'}", cause=cause, cure=cure)
    failure.__cause__ = error
    return failure


_CURE = "check that path and the disk: ls -ld, df"
_CURES = {
    1: "check who owns the folder (ls -ld) and run as that user",
    13: "check who owns the folder (ls -ld) and run as that user",
    28: disk_space.FREE_SOME,
}


def _mode_of(path: Path) -> int:
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return 0o644
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else 0o644


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

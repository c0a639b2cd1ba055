"""Looks at files, and changes them: whole or not at all, with the right owner and mode, and through no link.

Every function that changes something raises `NotTrusted` if root would create files in another user's folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Literal

import msgspec

from nbprovision.model.errors import TaskFailed
from nbprovision.system import disk_space, effects, inputs, journal, trust
from nbprovision.system.journal import TEMPORARY_SUFFIX
from nbprovision.system.reading import read_bytes

Kind = Literal["nothing", "file", "folder", "link", "other"]

LARGEST_TEXT = 1 << 20  # bytes; a larger file is compared by its digest and never shown
_BLOCK = 1 << 20
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of the kernel's headers
_KINDS = {"file": "a file", "folder": "a folder", "link": "a link", "other": "a device, pipe or socket"}


def read_text(path: Path) -> str | None:
    """The text of a file, or None if it does not exist; undecodable bytes become surrogates."""
    try:
        return read_bytes(path).decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    except (FileNotFoundError, NotADirectoryError):
        return None


class PathState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a path: an ordinary file with its content, a folder, a link, or nothing.

    Attributes:
        kind: Its kind.
        mode: Its permission bits; 0 for links and missing paths.
        data: The content of a file of at most `LARGEST_TEXT` bytes.
        digest: The digest of a larger file.
        target: The target of a link.

    """

    kind: Kind = "nothing"
    mode: int = 0
    data: bytes | None = None
    digest: str = ""
    target: str = ""

    @property
    def word(self) -> str:
        """The kind, for a message."""
        return f"a link to {self.target}" if self.kind == "link" else _KINDS.get(self.kind, "nothing")

    @property
    def content(self) -> tuple[bytes | None, str]:
        """Equal for two files with the same content."""
        return self.data, self.digest

    @property
    def text(self) -> str | None:
        """The text to show; None if the file does not exist."""
        return shown(self.data) if self.kind == "file" else None


def shown(data: bytes | None) -> str:
    """The content of a file as text for a diff; a note for binary content, and for None (too large)."""
    if data is None:
        return f"(more than {LARGEST_TEXT} bytes)\n"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"({len(data)} bytes that are not text: {hashlib.sha256(data).hexdigest()[:12]})\n"
    return text.replace("\0", "\N{SYMBOL FOR NULL}")


def path_state(path: Path) -> PathState:
    """Return the state of ``path``; no link is followed.

    Raises:
        TaskFailed: it cannot be read.

    """
    inputs.file(path)
    with explained(f"cannot look at {path}"):
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return PathState()
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            return PathState(kind="folder", mode=mode)
        if stat.S_ISLNK(status.st_mode):
            return PathState(kind="link", target=os.readlink(path))
        if not stat.S_ISREG(status.st_mode):
            return PathState(kind="other", mode=mode)
        # Not blocking, and not through a link: the file may have been replaced meanwhile.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            data = stream.read(LARGEST_TEXT + 1)
            if len(data) <= LARGEST_TEXT:
                return PathState(kind="file", mode=mode, data=data)
            return PathState(kind="file", mode=mode, digest=_digest(data, stream))


def tree(folder: Path) -> Iterator[str]:
    """The relative paths of all entries below a folder, each folder before its entries; no link is followed.

    Raises:
        TaskFailed: it cannot be read.

    """
    waiting = [""]
    while waiting:
        current = waiting.pop()
        with explained(f"cannot read {folder / current}"), os.scandir(folder / current) as entries:
            children = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        for name, is_folder in children:
            yield os.path.join(current, name)
            if is_folder:
                waiting.append(os.path.join(current, name))


def _digest(start: bytes, stream: IO[bytes]) -> str:
    digest = hashlib.blake2b(start)
    while block := stream.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def write_atomically(path: Path, data: str | bytes, *, mode: int | None = None, durable: bool = True) -> None:
    """Write ``data`` by temporary file, fsync and rename, so that a reader sees the old file or the new one.

    Args:
        path: The file. A link at this path is replaced, never followed.
        data: The whole content.
        mode: Permission bits; None keeps those of an existing file, else 0644.
        durable: Wait until it is on disk. Otherwise a power failure may leave an empty file, which is enough if the
            next run compares the content and writes it again.

    Raises:
        TaskFailed: the folder cannot be written, the disk is full, ...

    """
    if isinstance(data, str):
        data = data.encode("utf-8", errors="surrogateescape")
    with replacing(path, mode=mode, durable=durable) as stream:
        stream.write(data)


def copy_atomically(source: Path, path: Path, *, mode: int | None = None) -> None:
    """Copy a file of any size; otherwise as `write_atomically`."""
    with explained(f"cannot copy {source}"):
        handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as content, replacing(path, mode=mode) as stream:
        shutil.copyfileobj(content, stream, 1 << 20)


def copy_entries(source: Path, folder: Path, *, without: Callable[[str], object]) -> None:
    """Copy what a folder contains into another one, with modes and times; a link stays a link.

    Args:
        source: The folder.
        folder: An existing folder.
        without: Whether to leave out an entry of a name; entries in folders below are all copied.

    Raises:
        TaskFailed: an entry cannot be read, the disk is full, ...

    """
    with explained(f"cannot copy {source}", folder):
        for name in os.listdir(source):
            if without(name):
                continue
            entry, copy = source / name, folder / name
            trust.write(copy)
            effects.note(copy)
            if entry.is_dir() and not entry.is_symlink():
                shutil.copytree(entry, copy, symlinks=True)
            else:
                shutil.copy2(entry, copy, follow_symlinks=False)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int | None = None, durable: bool = True) -> Iterator[IO[bytes]]:
    """A stream whose content replaces ``path`` at the end of the body; see `write_atomically`.

    Raises:
        TaskFailed: the folder cannot be written, the disk is full, ...

    """
    if mode is None:
        mode = _mode_of(path)
    with _temporary_in_place_of(path, f"cannot write {path}", durable=durable) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            if durable:
                os.fsync(stream.fileno())


@contextlib.contextmanager
def _temporary_in_place_of(path: Path, failure: str, *, durable: bool = True) -> Iterator[Path]:
    """Name a temporary file for the body to create, which then replaces ``path``."""
    temporary = temporary_beside(path)
    with explained(failure, path):
        make_folder(path.parent)
        effects.note(path)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        try:
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        if durable:
            _sync_folder(path.parent)


def temporary_beside(path: Path) -> Path:
    """Name a temporary file or folder that will replace ``path``; no other thread or process uses the name.

    If this process is killed before, the next run removes it.

    Raises:
        NotTrusted: root would create it in another user's folder.

    """
    trust.write(path)
    temporary = path.with_name(f".{path.name}.{threading.get_native_id()}{TEMPORARY_SUFFIX}")
    journal.note(temporary)
    return temporary


def make_temporary_folder(path: Path) -> Path:
    """Create an empty folder for this user alone; its name is from `temporary_beside`."""
    temporary = temporary_beside(path)
    remove(temporary)
    os.mkdir(temporary, 0o700)
    return temporary


def nameless_file() -> IO[bytes]:
    """A file in memory for the output of a process, which no kill leaves behind and no full disk prevents.

    `tempfile.TemporaryFile` has no name either, but first creates a named file to try its folder.
    """
    return os.fdopen(os.memfd_create("nbprovision", os.MFD_CLOEXEC), "w+b")


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """An empty folder for the time of the body; its name is from `temporary_beside`.

    Raises:
        TaskFailed: the folder cannot be created, the disk is full, ...
    """
    with explained(f"cannot create a temporary folder in {path.parent}"):
        make_folder(path.parent)
        temporary = make_temporary_folder(path)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def own_temporary_files(env: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """A variable that makes a program create its temporary files in a folder of its own, removed after the body.

    Args:
        env: The program's other variables; their TMPDIR contains the folder.

    """
    parent = Path(env.get("TMPDIR") or "/tmp")  # noqa: S108 - as the program itself
    if not (parent.is_absolute() and os.access(parent, os.W_OK)):
        yield {}
        return
    # Others can create files there too, so nobody must guess the name.
    with temporary_folder(parent / f"nbprovision-{os.urandom(8).hex()}") as folder:
        yield {"TMPDIR": str(folder)}


def link_atomically(path: Path, target: str) -> None:
    """Make ``path`` a symbolic link to ``target``, in place of an existing file or link."""
    with _temporary_in_place_of(path, f"cannot link {path}") as temporary:
        os.symlink(target, temporary)


def make_folder(path: Path, *, mode: int = 0o755) -> None:
    """Create a folder and its missing parents, with ``mode`` whatever the umask is."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        trust.write(folder)
        effects.note(folder)
        try:
            os.mkdir(folder, mode)  # never open to others, even for a moment
            os.chmod(folder, mode)
        except FileExistsError:
            trust.place(folder)  # another process created it first


def remove(path: Path) -> None:
    """Remove a file, a link (not its target), or a folder with its content, if it exists."""
    if not os.path.lexists(path):
        return
    trust.write(path)
    effects.note(path)
    with explained(f"cannot remove {path}", path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def move_into_place(folder: Path, path: Path) -> None:
    """Rename a complete folder to its own path, where nothing or an empty folder is.

    Raises:
        TaskFailed: something else is at the path.

    """
    trust.write(path)
    effects.note(folder)
    effects.note(path)
    with explained(f"cannot create {path}", path):
        os.rename(folder, path)
        _sync_folder(path.parent)


def exchange(folder: Path, path: Path) -> None:
    """Let a complete folder and the one at ``path`` change their names in one step; ``path`` may be missing.

    A file system that cannot do this (https://man7.org/linux/man-pages/man2/rename.2.html, ``RENAME_EXCHANGE``), such
    as NFS, has no folder at ``path`` for a moment.

    Raises:
        TaskFailed: it cannot be renamed.

    """
    if not os.path.lexists(path):
        move_into_place(folder, path)
        return
    trust.write(path)
    effects.note(folder)
    effects.note(path)
    with explained(f"cannot replace {path}", path):
        if not _exchanged(folder, path):
            hidden = make_temporary_folder(folder)
            os.rename(path, hidden / path.name)
            try:
                os.rename(folder, path)
            except OSError:
                os.rename(hidden / path.name, path)
                raise
            finally:
                if os.path.lexists(hidden / path.name):
                    os.rename(hidden / path.name, folder)
                os.rmdir(hidden)
        _sync_folder(path.parent)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchange two names; False if the file system or the C library cannot do it."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):  # glibc has it since 2.28, musl since 1.2.6
        return False
    names = os.fsencode(first), os.fsencode(second)
    if library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(first))


def remove_at_once(folder: Path) -> None:
    """Rename a folder in one step, so that nobody sees it, then remove it."""
    effects.note(folder)
    with explained(f"cannot remove {folder}", folder):
        hidden = make_temporary_folder(folder)
        os.rename(folder, hidden / folder.name)
    remove(hidden)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    trust.write(folder)
    effects.note(folder)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def set_mode(path: Path, mode: int) -> None:
    """Set the permission bits of a file or folder; a link is an error, never followed."""
    trust.write(path)
    effects.note(path)
    with explained(f"cannot change the mode of {path}", path):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(handle, mode)
        finally:
            os.close(handle)


@contextlib.contextmanager
def explained(message: str, path: Path | None = None) -> Iterator[None]:
    """Turn an `OSError` of the body into a `TaskFailed` with cause and cure.

    Args:
        message: The failure's message.
        path: The path; the error of a write contains none.

    """
    try:
        yield
    except OSError as error:
        raise refused(error, message, path) from error


def refused(error: OSError, message: str = "", path: Path | None = None) -> TaskFailed:
    """Turn an `OSError` into a failure with cause and cure."""
    cause, cure = f"{error.strerror or error}", _CURES.get(error.errno or 0, _CURE)
    named = error.filename2 or error.filename or path
    if error.errno in disk_space.WRITE_ERRORS and isinstance(named, (str, Path)):
        cause, cure = disk_space.explain_error(error.errno, Path(named))
    failure = TaskFailed(message or f"the machine refuses to use {named or 'a file'}", cause=cause, cure=cure)
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

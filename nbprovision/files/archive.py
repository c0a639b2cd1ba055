"""Unpacks archives: nothing outside the folder, no link out of it, no device, and no more than an archive should hold.

`tarfile` and `zipfile` read them. This module decides what may be written, the same for both, as `tarfile`'s own filter
is missing in older releases of Python (PEP 706) and `zipfile` has none.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple

from nbprovision.model.errors import TaskFailed
from nbprovision.system import disk_space
from nbprovision.system.files import explained, tree

FORMATS = "tar, tar.gz, tar.bz2, tar.xz or zip"
_MOST_ENTRIES = 500_000
_MOST_BYTES = 1 << 30  # of a small archive; of a larger one as many times its own size
_MOST_TIMES = 200
_BLOCK = 1 << 20
_UNREADABLE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError,
    UnicodeError, ValueError,
)  # fmt: skip


class Entry(NamedTuple):
    """An entry of an archive.

    Attributes:
        name: Its path, as the archive has it.
        kind: ``copy`` is another name of an earlier file.
        mode: Its permission bits; 0 if the archive has none.
        size: Bytes of a file.
        modified: The time of its last change, in seconds since the epoch, of a tar archive.
        target: Of a link or a copy.
        open: Gives the content of a file.

    """

    name: str
    kind: Literal["file", "folder", "link", "copy", "other"]
    mode: int = 0
    size: int = 0
    modified: float = 0
    target: str = ""
    open: Callable[[], IO[bytes] | None] = lambda: None

    def bits(self, *, faithful: bool) -> int:
        """The permission bits to give: those of a backup are kept, but setuid, setgid, sticky and writing by others."""
        if faithful:
            return self.mode & 0o775 | (0o700 if self.kind == "folder" else 0)
        return 0o755 if self.kind == "folder" or self.mode & stat.S_IXUSR else 0o644


def unpack(
    archive: Path,
    folder: Path,
    failure: str,
    *,
    faithful: bool = False,
    skips: Callable[[str], bool] = lambda _name: False,
) -> None:
    """Unpack an archive into an empty folder.

    Args:
        archive: The archive; its content shows its format.
        folder: The folder.
        failure: The message of an error.
        faithful: It is a backup of a folder of the user's: files and folders get its modes and times, and only the
            free space limits what it may hold.
        skips: Whether an entry, by its path, is left out.

    Raises:
        TaskFailed: it is not an archive or a damaged one, an entry leads out of the folder, or it would be too large.

    """
    most = max(_MOST_BYTES, archive.stat().st_size * _MOST_TIMES)
    if faithful:
        most = disk_space.free_space(folder).free
    total = 0
    folders: dict[Path, Entry] = {}
    with _reading(failure), _entries(archive, failure) as entries, explained(failure, folder):
        for number, entry in enumerate(entries):
            if number >= _MOST_ENTRIES:
                raise _refused(failure, entry.name, f"there are more than {_MOST_ENTRIES} entries")
            path = None if skips(entry.name) else _place(folder, entry, failure)
            if path is None:
                continue
            if entry.kind == "file":
                total += _write(path, entry, most - total, failure, faithful=faithful)
            else:
                _create(folder, path, entry, failure)
            if entry.kind == "folder":
                folders[path] = entry
        _require_inside(folder, failure)
        if faithful:
            # Last, and the innermost first: what is created in a folder changes its time, and may not be allowed.
            for path, entry in sorted(folders.items(), reverse=True):
                path.chmod(entry.bits(faithful=True))
                os.utime(path, (entry.modified, entry.modified))


@contextlib.contextmanager
def _reading(failure: str) -> Iterator[None]:
    """Explain the errors of a damaged archive."""
    try:
        yield
    except _UNREADABLE as error:
        raise TaskFailed(
            failure,
            cause=f"the archive is damaged, or of an unsupported kind: {error}",
            cure=f"compare the file with its publisher's; supported are {FORMATS}, without a password",
        ) from error


@contextlib.contextmanager
def _entries(archive: Path, failure: str) -> Iterator[Iterator[Entry]]:
    with archive.open("rb") as stream:
        is_zip = stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    if is_zip:
        with zipfile.ZipFile(archive) as opened:
            yield _of_zip(opened)
        return
    try:
        tar = tarfile.open(archive, "r:*")  # noqa: SIM115 - closed below
    except (tarfile.ReadError, EOFError) as error:
        raise TaskFailed(
            failure,
            cause=f"the file is not an archive: {error}".splitlines()[0],
            cure=f"name an archive, or leave it packed; supported are {FORMATS}",
        ) from None
    with tar:
        yield _of_tar(tar)


def _of_tar(archive: tarfile.TarFile) -> Iterator[Entry]:
    for member in archive:
        kind: Literal["file", "folder", "link", "copy", "other"] = "other"
        if member.isreg():
            kind = "file"
        elif member.isdir():
            kind = "folder"
        elif member.issym():
            kind = "link"
        elif member.islnk():
            kind = "copy"
        yield Entry(
            member.name,
            kind,
            member.mode,
            member.size,
            float(member.mtime),
            member.linkname,
            lambda member=member: archive.extractfile(member),  # type: ignore[misc]
        )


def _of_zip(archive: zipfile.ZipFile) -> Iterator[Entry]:
    for member in archive.infolist():
        mode = member.external_attr >> 16  # as Unix has it; 0 from other systems
        kind: Literal["file", "folder", "link", "copy", "other"] = "file"
        target = ""
        if member.is_dir():
            kind = "folder"
        elif stat.S_ISLNK(mode):
            kind = "link"
            target = os.fsdecode(archive.read(member)) if member.file_size < os.pathconf("/", "PC_PATH_MAX") else ""
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            kind = "other"
        yield Entry(
            member.filename,
            kind,
            stat.S_IMODE(mode),
            member.file_size,
            0,
            target,
            lambda member=member: archive.open(member),  # type: ignore[misc]
        )


def _place(folder: Path, entry: Entry, failure: str) -> Path | None:
    """The path of an entry; None for the folder itself. Its parents are folders, none of them a link.

    Raises:
        TaskFailed: it is not below the folder.

    """
    names = [name for name in entry.name.split("/") if name not in ("", ".")]
    if entry.name.startswith("/") or ".." in names or "\0" in entry.name:
        raise _refused(failure, entry.name, "it is outside of the folder")
    if entry.kind == "other":
        raise _refused(failure, entry.name, "it is a device, a pipe or another special file")
    path = folder
    for name in names[:-1]:
        path /= name
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise _refused(failure, entry.name, "a link or a file of the archive is on its way")
        if not path.exists():
            path.mkdir(mode=0o755)
            path.chmod(0o755)
    return path / names[-1] if names else None


def _write(path: Path, entry: Entry, most: int, failure: str, *, faithful: bool) -> int:
    """Write a file; return its size."""
    if path.is_dir() and not path.is_symlink():
        raise _refused(failure, entry.name, "it is a folder as well")
    space = disk_space.free_space(path.parent)
    if entry.size > space.free:
        raise TaskFailed(
            failure,
            cause=f"{entry.name} has {disk_space.megabytes(entry.size)}, and {disk_space.megabytes(space.free)} are "
            f"free at {space.folder}",
            cure=disk_space.FREE_SOME,
        )
    path.unlink(missing_ok=True)  # the last of several entries with this name counts
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    written = 0
    content = entry.open()
    with os.fdopen(handle, "wb") as stream, contextlib.ExitStack() as opened:
        if content is not None:
            opened.enter_context(content)
            while block := content.read(_BLOCK):
                written += len(block)
                if written > most:
                    raise _refused(failure, entry.name, "the content is far too large for an archive of this size")
                stream.write(block)
        stream.flush()
        if faithful:
            os.utime(stream.fileno(), (entry.modified, entry.modified))
        os.fchmod(stream.fileno(), entry.bits(faithful=faithful))
    return written


def _create(folder: Path, path: Path, entry: Entry, failure: str) -> None:
    """Create a folder, a link or a copy."""
    if entry.kind == "folder":
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise _refused(failure, entry.name, "it is a file as well")
        path.mkdir(mode=0o755, exist_ok=True)
        path.chmod(0o755)
        return
    base = folder if entry.kind == "copy" else path.parent
    target = os.path.normpath(os.path.join(base, entry.target))
    inside = target == str(folder) or target.startswith(f"{folder}/")
    if not entry.target or entry.target.startswith("/") or not inside:
        raise _refused(failure, entry.name, f"it is a link to {entry.target}, out of the folder")
    if path.is_dir() and not path.is_symlink():
        raise _refused(failure, entry.name, "it is a folder as well")
    if entry.kind == "copy":
        _require_plain(folder, Path(target), entry, failure)
        if target != str(path):
            path.unlink(missing_ok=True)
            shutil.copy(target, path)
        return
    path.unlink(missing_ok=True)
    os.symlink(entry.target, path)


def _require_inside(folder: Path, failure: str) -> None:
    """Require that no link leads out of the folder: it may lead on through others, known only when all are on disk."""
    base = os.path.realpath(folder)
    for name in tree(folder):
        if os.path.islink(folder / name):
            target = os.path.realpath(folder / name)
            if target != base and not target.startswith(f"{base}/"):
                raise _refused(failure, name, "it is a link that leads out of the folder")


def _require_plain(folder: Path, target: Path, entry: Entry, failure: str) -> None:
    """Require a file of the archive that no link leads to."""
    parts = [target, *target.parents]
    linked = any(part.is_symlink() for part in parts[: parts.index(folder)])
    if linked or not target.is_file():
        raise _refused(failure, entry.name, f"it is a copy of {entry.target}, which is not a file of the archive")


def _refused(failure: str, name: str, reason: str) -> TaskFailed:
    return TaskFailed(
        failure,
        cause=f"an entry of the archive is refused: {name[:200]!a}: {reason}",
        cure="use another archive, or unpack it by hand, where you can look at it",
    )

"""A configuration file that is the user's as well as ours: how it stands, and what it was before we wrote to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from nbprovision.model.errors import TaskFailed
from nbprovision.system import inputs
from nbprovision.system.reading import MOST, kind_of, read_bytes

RECORD_SUFFIX = ".nbprovision-before"


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """The record beside a file that we have changed, readable by its owner only: the user's own passwords may be in it.

    It lies beside the file and not in the tool's home, so that both vanish together at a restart, and no password of
    the user's own gets onto the persistent volume.

    Attributes:
        content: The file without us, None for no file: as it was before we wrote to it for the first time, with what
            others have changed in it since then.
        mode: Its permission bits before us.
        link: What it named, where it was a link.
        folders: Folders above it that were missing, the topmost first.
        written: Digests of what we have written, the newest last; two, as a run may have been killed between record and
            file.
        asked: The values that were asked for, for each of ``written``; URLs without user and password.
        given_back: The file is again as it was; what it says is the user's own, even where a task asks for its absence.
    """

    content: bytes | None = None
    mode: int = 0o644
    link: str | None = None
    folders: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    asked: tuple[dict[str, list[str]], ...] = ()
    given_back: bool = False


class ConfigurationFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it stands.

    Attributes:
        path: Where it is, or would be.
        text: Its content, read through a link, line ends as they are; None where there is no file.
        mode: Its permission bits (those of what a link names).
        link: What it names, where it is a link.
        missing: Folders above it that are not there, the topmost first.
        place: Its folder with all links resolved.
        writable: Whether this user may write there.
        before: The record of what was there before us.
    """

    path: Path
    text: str | None = None
    mode: int = 0o644
    link: str | None = None
    missing: tuple[str, ...] = ()
    place: Path = Path("/")
    writable: bool = True
    before: Before | None = None


def record_of(path: Path) -> Path:
    """Where the record of ``path`` is kept."""
    return path.with_name(path.name + RECORD_SUFFIX)


def read_configured(path: Path) -> ConfigurationFile:
    """How the file at ``path`` stands.

    Raises:
        TaskFailed: something is there that is no file, or that cannot be read, and so must not be replaced.
    """
    link = os.readlink(path) if os.path.islink(path) else None
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise TaskFailed(
                f"{path} is not a file",
                cause=f"it is {kind_of(status)}, which must not be replaced",
                cure="move away what is there",
            )
        text, mode = read_bytes(path).decode("utf-8", "surrogateescape"), stat.S_IMODE(status.st_mode)
    except (FileNotFoundError, NotADirectoryError):
        text, mode = None, 0o644
    except OSError as error:
        raise TaskFailed(
            f"cannot read {path}", cause=f"{error.strerror}", cure="look at its owner and mode: ls -lL"
        ) from error
    missing = [folder for folder in path.parents if not folder.is_dir()]
    there = missing[-1].parent if missing else path.parent
    return ConfigurationFile(
        path=path,
        text=text,
        mode=mode,
        link=link,
        missing=tuple(str(folder) for folder in reversed(missing)),
        place=Path(os.path.realpath(path.parent)),
        writable=os.access(there, os.W_OK | os.X_OK),
        before=_read_record(record_of(path)),
    )


def _read_record(path: Path) -> Before | None:
    """The record; one that is damaged, or a link or pipe that someone has put there, is none."""
    inputs.file(path)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        with open(handle, "rb", closefd=False) as stream:
            return msgspec.json.decode(stream.read(MOST), type=Before)
    except (OSError, msgspec.DecodeError):
        return None
    finally:
        os.close(handle)

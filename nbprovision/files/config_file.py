"""A configuration file that is the user's as well as ours: whom it is for, how it stands, and what it was before us."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import Needs, Relation, Requires
from nbprovision.model.result import Change
from nbprovision.model.task import Resource, State, Task, parameter
from nbprovision.system import disk_space, inputs, secrets
from nbprovision.system.files import link_atomically, remove, remove_if_empty, write_atomically
from nbprovision.system.reading import MOST, kind_of, read_bytes

RECORD_SUFFIX = ".nbprovision-before"
SECRET_MODE = 0o600
OTHER_PASSWORD = "change password"  # noqa: S105 - the action for a change of nothing but passwords


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
        TaskFailed: another kind of file is there, or one that cannot be read; neither may be replaced.
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


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """What a file is to become.

    Attributes:
        path: The file.
        text: Its whole content, None for no file.
        mode: Its permission bits.
        link: What it is to name instead of having a content.
        record: The record that is to lie beside it, None for none.
        folders: Folders to remove, where they are empty, the topmost first.
    """

    path: Path
    text: str | None
    mode: int
    link: str | None = None
    record: Before | None = None
    folders: tuple[str, ...] = ()


def put(write: Write) -> None:
    """Carry it out, so that a kill at any moment leaves what the next run can tell apart and finish.

    Raises:
        TaskFailed: the folder cannot be written, the disk is full, ...
    """
    record = record_of(write.path)
    if write.record is not None and not write.record.given_back:
        write_atomically(record, msgspec.json.encode(write.record), mode=SECRET_MODE)
    if write.link is not None:
        link_atomically(write.path, write.link)
    elif write.text is None:
        remove(write.path)
    else:
        write_atomically(write.path, write.text, mode=write.mode)
    if write.record is None:
        remove(record)
    elif write.record.given_back:
        write_atomically(record, msgspec.json.encode(write.record), mode=SECRET_MODE)
    for folder in reversed(write.folders):
        remove_if_empty(Path(folder))


class ConfigScope(Task[State], frozen=True, kw_only=True):
    """Parameters and checks of a task that edits a configuration file of a user, the machine or one environment."""

    relations: ClassVar[tuple[Relation, ...]] = (Needs("env", ("scope",), "env"), Requires("scope", "env", ("env",)))

    scope: Annotated[
        Literal["user", "system", "env"],
        parameter("Whom the file is for: this user, the whole machine, or the environment `env`."),
    ] = "user"
    env: Annotated[str | None, parameter("The environment (name or path) for `scope: env`.")] = None

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment, where the file is for one."""
        prefix = self.prefix(machine)
        return frozenset({Resource("environment", str(prefix))} if prefix is not None else ())

    def weight(self, machine: Machine) -> Literal[0]:
        """Small files."""
        return 0

    def prefix(self, machine: Machine) -> Path | None:
        """The environment, None where the file is not for one."""
        return machine.prefix_of(self.env) if self.env is not None else None

    def file(self, machine: Machine, name: str, *, user: Path, system: Path) -> Path:
        """The file that ``scope`` selects: ``name`` in the environment, ``user`` or ``system``."""
        prefix = self.prefix(machine)
        if prefix is not None:
            return prefix / name
        return system if self.scope == "system" else user

    def missing(self, machine: Machine) -> Path | None:
        """The environment, if it does not exist and no earlier task of the playbook creates it."""
        prefix = self.prefix(machine)
        return prefix if prefix and not prefix.is_dir() and prefix not in machine.declared.values() else None

    def refuse_exposed(self, key: str, what: str) -> None:
        """Refuse a password in a file that others can read.

        Args:
            key: The parameter, for the error.
            what: The value with a password.

        Raises:
            ParameterError: the file is not the user's.

        """
        if self.scope == "user":
            return
        place = "a file that every user of the machine can read"
        if self.scope == "env":
            place = "a file of the environment, which is cloned, packed and shared"
        raise ParameterError(
            key,
            f"{what} cannot be set with `scope: {self.scope}`",
            cause=f"it would have to stand in {place}",
            cure="use `scope: user`, whose file is readable by its owner only",
        )

    def refuse_unwritable(self, file: ConfigurationFile) -> None:
        """Refuse a file that this user cannot write.

        Raises:
            TaskFailed: with the reason.

        """
        if not file.writable:
            cause, cure = disk_space.unwritable(file.path)
            if self.scope == "system":
                cure = "use `scope: user`"
            raise TaskFailed(f"cannot write {file.path}", cause=cause, cure=cure)


def refuse_missing(prefix: Path | None) -> None:
    """Refuse to write into an environment that does not exist.

    Raises:
        TaskFailed: there is a prefix, and no such folder.

    """
    if prefix is not None and not prefix.is_dir():
        raise TaskFailed(
            f"there is no environment at {prefix}",
            cause="the file would lie in the environment",
            cure="make it by ensure_conda_env, or correct the path",
        )


def refuse_persistent(file: ConfigurationFile, place: Path, volume: Path | None, *, what: str, cure: str) -> None:
    """Refuse a password in a file on the volume that survives restarts.

    Args:
        file: The file, for messages.
        place: Where the content goes, all links followed.
        volume: The volume, None for none.
        what: The value with a password.
        cure: Where to give the password instead.

    Raises:
        TaskFailed: the file is on the volume.

    """
    if volume is not None and Path(os.path.realpath(volume)) in place.parents:
        raise TaskFailed(
            f"{what} cannot be written to {file.path}",
            cause=f"{place} is on {volume}, which survives a restart, and a password must not stay there",
            cure=cure,
        )


def changes_of(file: ConfigurationFile, text: str | None, mode: int) -> Iterator[Change]:
    """The changes that give a file a text (None for no file) and a mode."""
    target = str(file.path)
    if text != file.text:
        before, after = _shown(file.text), _shown(text)
        action = "create" if before is None else "remove" if after is None else "change"
        yield Change(action if before != after else OTHER_PASSWORD, target, before, after, kind="file")
    if text is not None and file.text is not None and mode != file.mode:
        yield Change("change mode", target, f"{file.mode:04o}", f"{mode:04o}")


def _shown(text: str | None) -> str | None:
    """A text without passwords, fit for every encoding."""
    return None if text is None else secrets.mask(text).encode("utf-8", "replace").decode()

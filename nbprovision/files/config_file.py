"""A configuration file that the user and nbprovision edit: its scope, its state, and the record of the original."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import Needs, Relation, Requires
from nbprovision.model.result import Change
from nbprovision.model.task import Resource, State, Task, parameter
from nbprovision.system import disk_space, secrets
from nbprovision.system.files import link_atomically, remove, remove_if_empty, write_atomically
from nbprovision.system.reading import kind_of, read_bytes, read_json

if TYPE_CHECKING:
    from nbprovision.files.file_work import ManagedPath

RECORD_SUFFIX = ".nbprovision-before"
SECRET_MODE = 0o600
OTHER_PASSWORD = "change password"  # noqa: S105 - the action of a change that shows only passwords


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """The record beside a changed file. Only its owner can read it, since it may contain the user's own passwords.

    It lies beside the file and not in the tool's home, so that a restart removes both, and no password of the user's
    gets onto the persistent volume.

    Attributes:
        content: The file without our changes, but with later changes of others; None if there was no file.
        mode: The original permission bits.
        link: The target, if the file was a link.
        folders: The folders above it that were missing, from the top.
        written: Digests of the texts that we wrote, the newest last. There may be two, because a run can be killed
            between record and file.
        asked: The requested values, for each of ``written``; URLs without user and password.
        given_back: The original file is restored. Its settings are the user's own, even if a task removes such ones.
    """

    content: bytes | None = None
    mode: int = 0o644
    link: str | None = None
    folders: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    asked: tuple[dict[str, list[str]], ...] = ()
    given_back: bool = False


class ConfigurationFile(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a configuration file.

    Attributes:
        path: The path of the file, which may be missing.
        text: The content, with its line ends; that of the target if the file is a link. None if there is no file.
        mode: The permission bits, of the target if the file is a link.
        link: The target, if the file is a link.
        missing: The missing folders above it, from the top.
        place: Its folder with all links resolved.
        writable: Whether this user can write there.
        before: The record of the original file.
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
    """The path of the record of ``path``."""
    return path.with_name(path.name + RECORD_SUFFIX)


def read_configured(path: Path) -> ConfigurationFile:
    """The state of the file at ``path``.

    Raises:
        TaskFailed: it is not a file, or cannot be read; neither may be replaced.
    """
    link = os.readlink(path) if os.path.islink(path) else None
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise TaskFailed(
                f"{path} is not a file",
                cause=f"it is {kind_of(status)}, which must not be replaced",
                cure="move it away",
            )
        text, mode = read_bytes(path).decode("utf-8", "surrogateescape"), stat.S_IMODE(status.st_mode)
    except (FileNotFoundError, NotADirectoryError):
        text, mode = None, 0o644
    except OSError as error:
        raise TaskFailed(
            f"cannot read {path}", cause=f"{error.strerror}", cure="check its owner and mode: ls -lL"
        ) from error
    missing = [folder for folder in path.parents if not folder.is_dir()]
    existing = missing[-1].parent if missing else path.parent
    return ConfigurationFile(
        path=path,
        text=text,
        mode=mode,
        link=link,
        missing=tuple(str(folder) for folder in reversed(missing)),
        place=Path(os.path.realpath(path.parent)),
        writable=os.access(existing, os.W_OK | os.X_OK),
        before=_read_record(record_of(path)),
    )


def _read_record(path: Path) -> Before | None:
    """The record; None if it is missing, damaged, or a link or pipe that somebody put there."""
    try:
        return read_json(path, Before, follow=False)
    except (OSError, msgspec.DecodeError):
        return None


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """The wanted state of a file.

    Attributes:
        path: The file.
        text: The whole content; None removes the file.
        mode: The permission bits.
        link: The target of a link, which replaces the file.
        record: The record beside the file; None removes it.
        folders: Folders to remove if they are empty, from the top.
    """

    path: Path
    text: str | None
    mode: int
    link: str | None = None
    record: Before | None = None
    folders: tuple[str, ...] = ()


def put(write: Write) -> None:
    """Write the file and its record in an order that lets the next run finish after a kill at any moment.

    Raises:
        TaskFailed: for example, the folder is read-only or the disk is full.
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
    """A task that edits a configuration file of the user, the machine or one environment."""

    relations: ClassVar[tuple[Relation, ...]] = (Needs("env", ("scope",), "env"), Requires("scope", "env", ("env",)))

    scope: Annotated[
        Literal["user", "system", "env"],
        parameter("Scope of the file: this user, the whole machine, or the environment `env`."),
    ] = "user"
    env: Annotated[str | None, parameter("The environment (name or path) for `scope: env`.")] = None

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment, if the file belongs to one."""
        prefix = self.prefix(machine)
        return frozenset({Resource("environment", str(prefix))} if prefix is not None else ())

    def weight(self, machine: Machine) -> Literal[0]:
        """Small files."""
        return 0

    def prefix(self, machine: Machine) -> Path | None:
        """The environment; None if the file does not belong to one."""
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
            ParameterError: the scope is not `user`.

        """
        if self.scope == "user":
            return
        place = "a file that every user of the machine can read"
        if self.scope == "env":
            place = "a file of the environment, which is cloned, packed and shared"
        raise ParameterError(
            key,
            f"{what} cannot be set with `scope: {self.scope}`",
            cause=f"it would be written to {place}",
            cure="use `scope: user`: only its owner can read that file",
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
    """Refuse to write into a missing environment.

    Raises:
        TaskFailed: the environment is missing.

    """
    if prefix is not None and not prefix.is_dir():
        raise TaskFailed(
            f"there is no environment at {prefix}",
            cause="the file belongs to the environment",
            cure="create it with ensure_conda_env, or correct the path",
        )


def refuse_persistent(
    file: ConfigurationFile | ManagedPath,
    place: Path,
    volume: Path | None,
    *,
    what: str = "a secret",
    cure: str = "fetch it where it is used, or keep the file off the volume",
) -> None:
    """Refuse to write a secret to the volume that survives restarts.

    Args:
        file: The file, for messages.
        place: The path of the content, with all links resolved.
        volume: The volume, None for none.
        what: The secret, for messages.
        cure: Another way to give it.

    Raises:
        TaskFailed: the file is on the volume.

    """
    if volume is not None and Path(os.path.realpath(volume)) in place.parents:
        raise TaskFailed(
            f"{what} cannot be written to {file.path}",
            cause=f"{place} is on {volume}, which survives a restart, and a secret must not stay there",
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
    """A text without passwords, in characters that every encoding has."""
    return None if text is None else secrets.mask(text).encode("utf-8", "replace").decode()

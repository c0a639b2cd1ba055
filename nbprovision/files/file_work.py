"""What tasks of files have in common: where a path leads, what it takes to change what is there, and doing it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Resource, State, Task
from nbprovision.system.files import (
    PathState,
    copy_atomically,
    link_atomically,
    make_folder,
    path_state,
    remove,
    set_mode,
    shown,
    write_atomically,
)

# Permission bits as people write them: ``0644`` or ``u=rw,go=r`` (chmod(1),
# https://pubs.opengroup.org/onlinepubs/9699919799/utilities/chmod.html).
_OCTAL = re.compile(r"[0-7]{3,4}")
_CLAUSE = re.compile(r"([ugoa]*)([-+=])([rwxX]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}

FILE_MODE = 0o644
FOLDER_MODE = 0o755

FILE_ACTIONS = {
    "create": "a file is new",
    "write": "a file's content is another",
    "set mode": "permissions are others",
    "remove": "what was there is gone",
}

# What the tasks of files say to parameters of Ansible's copy, file, template, lineinfile and blockinfile.
HABITS = {
    "dest": "write path:",
    "destfile": "write path:",
    "owner": "files belong to the user whom the playbook runs as; remove it",
    "group": "files belong to the user whom the playbook runs as; remove it",
    "remote_src": "everything is on this machine; remove it",
    "validate": "remove it, and check the file by an ensure_command after this task",
    "unsafe_writes": "files are always written whole or not at all; remove it",
    "attributes": "remove it; attributes of the file system are root's to set",
    "recurse": "remove it, or change the modes by an ensure_command",
    "others": "write each parameter by itself",
}


class FileWork(msgspec.Struct, frozen=True, kw_only=True):
    """One step: what is done at a path.

    Attributes:
        path: Where.
        do: What.
        data: The content to write.
        source: The file to copy.
        mode: The permission bits.
        target: What a link is to name.
        backup: Whether a copy of what is there is kept.

    """

    path: Path
    do: Literal["write", "copy", "link", "make folder", "set mode", "remove"]
    data: bytes = b""
    source: Path = Path()
    mode: int = 0
    target: str = ""
    backup: bool = False


class FilePlan(Plan, frozen=True, kw_only=True):
    """The changes, and the steps that bring them about."""

    work: tuple[FileWork, ...] = ()


class TextState(msgspec.Struct, frozen=True, kw_only=True):
    """A file of text as it stands.

    Attributes:
        path: As the task names it.
        place: The file itself, where that is a link.
        entry: What stands there.

    """

    path: Path
    place: Path
    entry: PathState

    @property
    def text(self) -> str | None:
        """Its text, undecodable bytes as surrogates; None where there is no file.

        Raises:
            TaskFailed: another kind of file is there, or one too large to be edited.

        """
        if self.entry.kind == "nothing":
            return None
        if self.entry.kind != "file":
            raise TaskFailed(
                f"{self.path} is {self.entry.word}, not a file",
                cause="only the lines of a file can be edited",
                cure="move it away, or correct the path",
            )
        if self.entry.data is None:
            raise TaskFailed(
                f"{self.path} is too large to be edited",
                cause="it has more than 1 MiB",
                cure="edit it by an ensure_command",
            )
        return self.entry.data.decode("utf-8", "surrogateescape")


class FileTask(Task[State], frozen=True, kw_only=True):
    """A task on one file: its place among other tasks, and its last step."""

    def target(self, machine: Machine) -> Path:
        """The path of the file."""
        raise NotImplementedError

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The file, by its path."""
        return frozenset({Resource("file", str(self.target(machine)))})

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The folders above the file, and an environment that it lies in."""
        return resources_above(self.target(machine), machine)

    def weight(self, machine: Machine) -> Literal[0]:
        """A small file, mostly."""
        return 0

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The file; a link to it is looked at as well."""
        yield self.target(machine)

    def apply(self, plan: FilePlan, machine: Machine) -> None:
        """Write the file.

        Raises:
            TaskFailed: it cannot be written.

        """
        carry_out(plan, machine)


def check_path(key: str, path: str | None) -> None:
    """Refuse a text that cannot be a path, or not one that witnesses can vouch for.

    Raises:
        ParameterError: naming ``key``.

    """
    if path is None:
        return
    if not path:
        raise ParameterError(key, f"'{key}' is empty", cure="name a file")
    if not all(letter.isprintable() or "\udc80" <= letter <= "\udcff" for letter in path):
        raise ParameterError(key, f"'{key}' has a line break or another control character in it")


def check_text(key: str, text: str | None) -> None:
    """Refuse text that no file can hold as UTF-8.

    Raises:
        ParameterError: naming ``key``.

    """
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise ParameterError(key, f"'{key}' has a lone surrogate in it, which is not a character") from None


def place_of(path: Path, *, follow: bool) -> Path:
    """The file that is meant by ``path``: a link is followed within its own folder, and out of it only if asked to.

    Raises:
        TaskFailed: the link leads elsewhere.

    """
    if not os.path.islink(path):
        return path
    place = Path(os.path.realpath(path))
    if follow or Path(os.path.realpath(path.parent)) in place.parents:
        return place
    raise TaskFailed(
        f"{path} is a link to {place}, out of its folder",
        cause="who made the link would choose what is changed, so it is not followed unasked",
        cure=f"name {place} itself, or write follow: true",
    )


def read_text(path: Path, *, follow: bool) -> TextState:
    """The file of text at ``path``.

    Raises:
        TaskFailed: it is a link out of its folder and ``follow`` is not asked for, or cannot be looked at.

    """
    place = place_of(path, follow=follow)
    return TextState(path=path, place=place, entry=path_state(place))


def edited(state: TextState, text: str | None, *, mode: str | None = None, backup: bool = False) -> FilePlan:
    """What it takes to have ``text`` in a file (None: to have no such file)."""
    if text is None:
        if state.entry.kind == "nothing":
            return FilePlan()
        change = Change("remove", str(state.path), state.entry.text, kind="file")
        return FilePlan(changes=(change,), work=(FileWork(path=state.place, do="remove", backup=backup),))
    data = text.encode("utf-8", "surrogateescape")
    return written(state.path, state.place, state.entry, data=data, mode=mode, backup=backup)


def written(
    path: Path,
    place: Path,
    found: PathState,
    *,
    data: bytes | None,
    source: Path | None = None,
    same: bool | None = None,
    mode: str | None = None,
    fresh: int = FILE_MODE,
    backup: bool = False,
) -> FilePlan:
    """What it takes to have a content and a mode in a file.

    Args:
        path: The file, for messages.
        place: Where it is.
        found: What stands there.
        data: The content; None for one that is too large to be held.
        source: The file that such a content is copied from.
        same: Whether the content is there already; default: as ``data`` says.
        mode: The mode asked for, None for any.
        fresh: Permission bits of a file that is new.
        backup: Whether what is there is kept beside it.

    Raises:
        TaskFailed: what stands there is no file.

    """
    if found.kind in ("folder", "other"):
        raise TaskFailed(
            f"{path} is {found.word}, not a file",
            cause="what is there is kept until a task says that it may go",
            cure="correct the path, or remove what is there (state: absent)",
        )
    there = found.kind == "file"
    bits = found.mode if there else fresh
    if mode is not None:
        bits = resolved(mode, bits, folder=False)
    if not there or not (found.data == data if same is None else same):
        change = Change("write" if there else "create", str(path), found.text, shown(data), kind="file")
        do: Literal["write", "copy"] = "write" if data is not None else "copy"
        work = FileWork(
            path=place, do=do, data=data or b"", source=source or Path(), mode=bits, backup=backup and there
        )
        return FilePlan(changes=(change, *mode_change(path, found, bits)), work=(work,))
    changes = tuple(mode_change(path, found, bits))
    work = FileWork(path=place, do="set mode", mode=bits)
    return FilePlan(changes=changes, work=(work,) if changes else ())


def mode_change(path: Path, found: PathState, bits: int) -> Iterator[Change]:
    """The change of a mode, for an existing file or folder."""
    if found.kind in ("file", "folder") and found.mode != bits:
        yield Change("set mode", str(path), f"{found.mode:04o}", f"{bits:04o}")


def joined(plans: Iterable[FilePlan]) -> FilePlan:
    """Several plans as one."""
    plans = list(plans)
    return FilePlan(
        changes=tuple(change for plan in plans for change in plan.changes),
        warnings=tuple(dict.fromkeys(warning for plan in plans for warning in plan.warnings)),
        work=tuple(work for plan in plans for work in plan.work),
    )


def carry_out(plan: FilePlan, machine: Machine) -> None:
    """Do it.

    Raises:
        TaskFailed: something cannot be written.

    """
    for work in plan.work:
        if work.backup:
            stamp = time.strftime("%Y-%m-%d@%H:%M:%S")
            kept = work.path.with_name(f"{work.path.name}.{os.getpid()}.{stamp}~")
            copy_atomically(work.path, kept, mode=path_state(work.path).mode)
            machine.report(backup_file=str(kept))
        if work.do == "write":
            write_atomically(work.path, work.data, mode=work.mode)
        elif work.do == "copy":
            copy_atomically(work.source, work.path, mode=work.mode)
        elif work.do == "link":
            link_atomically(work.path, work.target)
        elif work.do == "remove":
            remove(work.path)
        else:
            if work.do == "make folder":
                make_folder(work.path)
            set_mode(work.path, work.mode)


def resources_above(path: Path, machine: Machine) -> frozenset[Resource]:
    """What has to be there before something at ``path``: folders above it, and an environment that it lies in."""
    above = frozenset(path.parents)
    environments = {Resource("environment", str(prefix)) for prefix in machine.declared.values() if prefix in above}
    return frozenset({Resource("file", str(folder)) for folder in above} | environments)


def check_mode(key: str, mode: str | None) -> None:
    """Refuse a text that is not a mode.

    Raises:
        ParameterError: with what to write.

    """
    if mode is None or _OCTAL.fullmatch(mode) or all(map(_CLAUSE.fullmatch, mode.split(","))):
        return
    raise ParameterError(key, f"'{mode[:40]}' is not a mode", cure="write it in quotes as '0644', or as 'u=rw,go=r'")


def resolved(mode: str, current: int, *, folder: bool) -> int:
    """The permission bits that a checked ``mode`` makes of ``current``.

    Args:
        mode: One that `check_mode` lets through.
        current: The bits before; only what a symbolic mode does not name stays of them.
        folder: Whether it is a folder's, which ``X`` makes searchable.

    """
    if _OCTAL.fullmatch(mode):
        return int(mode, 8)
    for clause in mode.split(","):
        match = _CLAUSE.fullmatch(clause)
        assert match is not None  # noqa: S101 - see check_mode
        who, how, what = match.groups()
        bits = 4 * ("r" in what) + 2 * ("w" in what) + ("x" in what)
        if "X" in what and (folder or current & 0o111):
            bits |= 1
        for letter in "ugo" if not who or "a" in who else who:
            shifted = bits << _SHIFT[letter]
            if how == "=":
                current = current & ~(7 << _SHIFT[letter]) | shifted
            else:
                current = current | shifted if how == "+" else current & ~shifted
    return current

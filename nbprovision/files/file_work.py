"""The common parts of tasks on files: checks of parameters, states of paths, plans of changes, and their execution."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Resource, State, Task, parameter, unfit
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
    "create": "a new file",
    "write": "the content of a file",
    "set mode": "the permissions",
    "remove": "a file, folder or link",
}

EDIT_ACTIONS = {key: FILE_ACTIONS[key] for key in ("create", "write", "set mode")}

# Advice on parameters of Ansible's copy, file, template, lineinfile and blockinfile.
HABITS = {
    **dict.fromkeys(("dest", "destfile"), "write path:"),
    **dict.fromkeys(("owner", "group"), "remove it; files belong to the user who runs the playbook"),
    "remote_src": "remove it; all files are on this machine",
    "validate": "remove it, and check the file with an ensure_command after this task",
    "unsafe_writes": "remove it; files are always replaced as a whole",
    "attributes": "remove it; only root can set attributes of the file system",
    "recurse": "remove it, or change the modes with an ensure_command",
    "others": "write each parameter by itself",
}


# Parameters of several tasks.
Backup = Annotated[bool, parameter("Keep a copy of the old file beside it; the result's `backup_file` is its path.")]
Follow = Annotated[
    bool, parameter("If the file is a link that leads out of its folder, change the file that it names.")
]


class FileStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a plan.

    Attributes:
        path: The path to change.
        do: The change.
        data: The content to write.
        source: The file to copy.
        mode: The permission bits.
        target: The target of a link.
        backup: Whether to keep a copy of the old file.

    """

    path: Path
    do: Literal["write", "copy", "link", "make folder", "set mode", "remove"]
    data: bytes = b""
    source: Path = Path()
    mode: int = 0
    target: str = ""
    backup: bool = False


class FilePlan(Plan, frozen=True, kw_only=True):
    """The changes of files, and the steps that make them."""

    steps: tuple[FileStep, ...] = ()


class ManagedPath(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a path.

    Attributes:
        path: The path that the task names.
        place: The path to change: that of the file itself if ``path`` is a followed link.
        entry: The file, folder or link at ``place``.

    """

    path: Path
    place: Path
    entry: PathState

    @property
    def text(self) -> str | None:
        """The text, with undecodable bytes as surrogates; None if there is no file.

        Raises:
            TaskFailed: it is not a file, or too large to be edited.

        """
        if self.entry.kind == "nothing":
            return None
        if self.entry.kind != "file":
            raise TaskFailed(
                f"{self.path} is {self.entry.word}, not a file",
                cause="only a file can be edited",
                cure="move it away, or correct the path",
            )
        if self.entry.data is None:
            raise TaskFailed(
                f"{self.path} is too large to be edited",
                cause="it has more than 1 MiB",
                cure="edit it with an ensure_command",
            )
        return self.entry.data.decode("utf-8", "surrogateescape")


class FileTask(Task[State], frozen=True, kw_only=True):
    """A task on one file: its relations to other tasks, and its last step."""

    def target(self, machine: Machine) -> Path:
        """The path of the file."""
        raise NotImplementedError

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The file, by its path."""
        return frozenset({Resource("file", str(self.target(machine)))})

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The folders above the file, and the environment that contains it."""
        return resources_above(self.target(machine), machine)

    def weight(self, machine: Machine) -> Literal[0, 1, 2]:
        """Usually a small file."""
        return 0

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The file; the witness of a link includes its target."""
        yield self.target(machine)

    def apply(self, plan: Any, machine: Machine) -> Sequence[Change] | None:
        """Carry out a `FilePlan`.

        Raises:
            TaskFailed: a file cannot be written.

        """
        carry_out(plan, machine)
        return None


def check_path(key: str, path: str | None) -> None:
    """Refuse a text that cannot be a path, or not one that a witness can name.

    Raises:
        ParameterError: naming ``key``.

    """
    if path == "":
        raise ParameterError(key, f"'{key}' is empty", cure="name a file")
    if path and not all(letter.isprintable() or "\udc80" <= letter <= "\udcff" for letter in path):
        raise ParameterError(key, f"'{key}' contains a line break or another control character")


def check_text(task: Task[Any], *keys: str) -> None:
    """Refuse parameters with characters that no file or command can contain.

    Raises:
        ParameterError: naming the parameter.

    """
    for key in keys:
        problem = unfit(getattr(task, key))
        if problem:
            raise ParameterError(key, f"'{key}' holds {problem}")


def resolve_link(path: Path, *, follow: bool) -> Path:
    """The file that ``path`` names. A link is followed within its own folder, and out of it only with ``follow``.

    Raises:
        TaskFailed: the link leads out of its folder.

    """
    if not os.path.islink(path):
        return path
    place = Path(os.path.realpath(path))
    if follow or Path(os.path.realpath(path.parent)) in place.parents:
        return place
    raise TaskFailed(
        f"{path} is a link to {place}, out of its folder",
        cause="whoever created the link would decide which file is changed",
        cure=f"name {place} itself, or write follow: true",
    )


def read_state(path: Path, *, follow: bool) -> ManagedPath:
    """The state of a text file.

    Raises:
        TaskFailed: it cannot be read, or is a link that `resolve_link` does not follow.

    """
    place = resolve_link(path, follow=follow)
    return ManagedPath(path=path, place=place, entry=path_state(place))


def plan_text(state: ManagedPath, text: str, *, mode: str | None = None, backup: bool = False) -> FilePlan:
    """Plan a file with a text."""
    return plan_file(state, data=text.encode("utf-8", "surrogateescape"), mode=mode, backup=backup)


def plan_file(
    state: ManagedPath,
    *,
    data: bytes | None,
    source: Path | None = None,
    same: bool | None = None,
    mode: str | None = None,
    new_mode: int = FILE_MODE,
    backup: bool = False,
) -> FilePlan:
    """Plan a file with a content and a mode.

    Args:
        state: The current state.
        data: The content; None for a content that is too large to be held.
        source: The file with such a content.
        same: Whether the current content is right; by default ``data`` is compared.
        mode: The wanted mode; None for any.
        new_mode: The permission bits of a new file without ``mode``.
        backup: Whether to keep a copy of the old file beside it.

    Raises:
        TaskFailed: something other than a file is in the way.

    """
    entry = state.entry
    if entry.kind in ("folder", "other"):
        raise in_the_way(state, "a file", "correct the path, or remove it (state: absent)")
    exists = entry.kind == "file"
    bits = entry.mode if exists else new_mode
    if mode is not None:
        bits = resolve_mode(mode, bits, folder=False)
    mode_only = plan_mode(state, bits)
    if exists and (entry.data == data if same is None else same):
        return mode_only
    change = Change("write" if exists else "create", str(state.path), entry.text, shown(data), kind="file")
    do: Literal["write", "copy"] = "write" if data is not None else "copy"
    step = FileStep(
        path=state.place, do=do, data=data or b"", source=source or Path(), mode=bits, backup=backup and exists
    )
    return FilePlan(changes=(change, *mode_only.changes), steps=(step,))


def plan_mode(state: ManagedPath, bits: int) -> FilePlan:
    """Plan the mode of an existing file or folder."""
    entry = state.entry
    if entry.kind not in ("file", "folder") or entry.mode == bits:
        return FilePlan()
    change = Change("set mode", str(state.path), f"{entry.mode:04o}", f"{bits:04o}")
    return FilePlan(changes=(change,), steps=(FileStep(path=state.place, do="set mode", mode=bits),))


def in_the_way(state: ManagedPath, wanted: str, cure: str) -> TaskFailed:
    """The error for a path that holds something of another kind."""
    return TaskFailed(
        f"{state.path} is {state.entry.word}, not {wanted}", cause="it is kept until a task removes it", cure=cure
    )


def join_plans(plans: Iterable[FilePlan]) -> FilePlan:
    """Several plans as one."""
    plans = list(plans)
    return FilePlan(
        changes=tuple(change for plan in plans for change in plan.changes),
        warnings=tuple(dict.fromkeys(warning for plan in plans for warning in plan.warnings)),
        steps=tuple(step for plan in plans for step in plan.steps),
    )


def carry_out(plan: FilePlan, machine: Machine) -> None:
    """Carry out the steps of a plan.

    Raises:
        TaskFailed: a file cannot be written.

    """
    for step in plan.steps:
        if step.backup:
            stamp = time.strftime("%Y-%m-%d@%H:%M:%S")
            backup = step.path.with_name(f"{step.path.name}.{os.getpid()}.{stamp}~")
            copy_atomically(step.path, backup, mode=path_state(step.path).mode)
            machine.report(backup_file=str(backup))
        if step.do == "write":
            write_atomically(step.path, step.data, mode=step.mode)
        elif step.do == "copy":
            copy_atomically(step.source, step.path, mode=step.mode)
        elif step.do == "link":
            link_atomically(step.path, step.target)
        elif step.do == "remove":
            remove(step.path)
        else:
            if step.do == "make folder":
                make_folder(step.path)
            set_mode(step.path, step.mode)


def resources_above(path: Path, machine: Machine) -> frozenset[Resource]:
    """The requirements of a file at ``path``: the folders above it, and the environment that contains it."""
    above = frozenset(path.parents)
    environments = {Resource("environment", str(prefix)) for prefix in machine.declared.values() if prefix in above}
    return frozenset({Resource("file", str(folder)) for folder in above} | environments)


def check_mode(key: str, mode: str | None) -> None:
    """Refuse a text that is not a mode.

    Raises:
        ParameterError: naming ``key``.

    """
    if mode is None or _OCTAL.fullmatch(mode) or all(map(_CLAUSE.fullmatch, mode.split(","))):
        return
    raise ParameterError(key, f"'{mode[:40]}' is not a mode", cure="write it in quotes as '0644', or as 'u=rw,go=r'")


def resolve_mode(mode: str, current: int, *, folder: bool) -> int:
    """The permission bits that a checked ``mode`` makes of ``current``.

    Args:
        mode: A mode that `check_mode` accepts.
        current: The current bits; a symbolic mode keeps the bits that it does not name.
        folder: Whether the mode is a folder's, which ``X`` makes searchable.

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

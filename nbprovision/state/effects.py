"""What tasks wrote to the user's home, kept so that the start after a restart repeats it without planning it again.

At each stop a notebook instance loses the home apart from its volume: kernels, pip's configuration, conda's list of
environments. The tasks that wrote them would read, plan, write and verify the same once more. A path whose state is
again what it was before the task's work gets the state after it; any other state is left to a run that plans.
Secrets are not kept: the file is on the volume.

The file beside the state file has the same name with the suffix ``.effects``. It is written whole or not at all:

    nbprovision-effects 2 DIGEST
    `_Kept` in MessagePack, with this digest

The effects belong to one list of tasks. Other tasks, or the same in another order, may write something else to the
same paths, so the first start after such a change is left to a run that plans.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from nbprovision.state import sealed
from nbprovision.state.witness import identity
from nbprovision.system import effects
from nbprovision.system.effects import MISSING, UNKNOWN, state_of
from nbprovision.system.files import link_atomically, make_folder, remove, set_mode, write_atomically
from nbprovision.system.secrets import mask

_HEADER = b"nbprovision-effects 2 "
_LARGEST = 8 << 20  # bytes of a file


class Effect(msgspec.Struct, frozen=True):
    """One changed path.

    Attributes:
        name: The absolute path, as the bytes of the file system.
        before: Its state before the run that changed it; see `effects.state_of`.
        after: Its state after that run.
        data: The content of a file, the target of a link, the sorted names in a folder, parted by NUL.
        identity: The identity (`witness.identity`) after that run; ``-`` for a removed path.
        tasks: The digests of the tasks that changed it.

    """

    name: bytes
    before: str
    after: str
    data: bytes
    identity: str
    tasks: tuple[str, ...]

    @property
    def path(self) -> str:
        """`name` as a path."""
        return os.fsdecode(self.name)

    @property
    def kind(self) -> str:
        """``file``, ``folder``, ``link``, or `MISSING` for a removed path."""
        return self.after.partition(" ")[0]

    @property
    def mode(self) -> int:
        """The permission bits after the run."""
        return int(self.after.split(" ")[1], 8)

    def looked_at_again(self) -> Effect | None:
        """The effect with the present identity of its path, and names in its folder; None if its state is another."""
        seen = _identity(self.path)  # first, so that a later change shows
        data = _data(self.path, self.kind)
        if data is None or state_of(self.path) != self.after:
            return None
        return msgspec.structs.replace(self, data=data, identity=seen)

    def repeat(self) -> bool:
        """Give the path its state after the run, if it is as it was before.

        Returns:
            Whether it has that state now. It has another one if it lies behind a link that has just been put back.

        Raises:
            ProvisionError: the machine refuses, or root would write to another user's folder.

        """
        path, state = Path(self.path), state_of(self.path)
        if state != self.before:
            return state == self.after
        if self.kind == "folder" and state == MISSING:
            make_folder(path, mode=self.mode)
        elif self.kind == "folder":
            set_mode(path, self.mode)
        elif self.kind == "file":
            write_atomically(path, self.data, mode=self.mode, durable=False)
        elif self.kind == "link":
            link_atomically(path, os.fsdecode(self.data))
        else:
            remove(path)
        return state_of(self.path) == self.after


class _Kept(msgspec.Struct, frozen=True):
    """The effects, and the digests of all tasks of the run in their order."""

    tasks: list[str]
    effects: list[Effect]


def path_of(state_file: Path) -> Path:
    """The file of the effects that belongs to a state file."""
    return state_file.with_suffix(".effects")


def read(path: Path, tasks: Sequence[str]) -> list[Effect]:
    """The kept effects of these tasks, in the order in which they must be repeated.

    Returns:
        They; none if the file is missing, cannot be used, or is of other tasks.

    """
    try:
        kept = msgspec.msgpack.decode(sealed.read(path, _HEADER, most=_LARGEST), type=_Kept)
    except (OSError, msgspec.DecodeError):
        return []
    return kept.effects if kept.tasks == list(tasks) else []


def keep(
    path: Path,
    changed: Mapping[str, str],
    writers: Mapping[str, tuple[str, ...]],
    *,
    tasks: Sequence[str],
    repeatable: Collection[str],
    inputs: Collection[str],
) -> None:
    """Keep the effects of a run, and those of earlier runs of the same tasks.

    If one of them cannot be kept, none is: it is too large, has a secret in it, has changed since, is read by the
    playbook itself, or its task does not stand alone.

    Args:
        path: The file.
        changed: The paths that the run changed, each with its state before.
        writers: By path, the digests of the tasks that changed it.
        tasks: The digests of all tasks whose results are proven, in the order of the playbook.
        repeatable: The digests of the tasks whose work may be repeated without them.
        inputs: The paths that decide what the playbook does: a condition on one of them holds only before the work.

    Raises:
        TaskFailed: the disk is full, the folder cannot be written, ...

    """
    proven = set(tasks).intersection(repeatable)
    now = {name: state_of(name) for name in changed}
    changed = {
        name: before for name, before in changed.items() if UNKNOWN in (before, now[name]) or now[name] != before
    }
    kept = [effect.looked_at_again() for effect in read(path, tasks) if effect.path not in changed]
    kept += [_effect(name, before, now[name], writers.get(name, ())) for name, before in changed.items()]
    stand = [effect for effect in kept if effect is not None and proven.issuperset(effect.tasks)]
    alone = not any(effect.path in inputs or _is_secret(effect.data) for effect in stand)
    write(path, stand if alone and len(stand) == len(kept) else [], tasks)


def write(path: Path, kept: list[Effect], tasks: Sequence[str]) -> None:
    """Write the file; without effects, or with more than 8 MiB of them, there is none.

    Raises:
        TaskFailed: the disk is full, the folder cannot be written, ...

    """
    body = msgspec.msgpack.encode(_Kept(list(tasks), kept))
    if kept and len(body) < _LARGEST:
        sealed.write(path, _HEADER, body)
    else:
        remove(path)


def _effect(name: str, before: str, after: str, tasks: tuple[str, ...]) -> Effect | None:
    kind = after.partition(" ")[0]
    replaces_folder = before.startswith("folder") and kind != "folder"
    if not tasks or UNKNOWN in (before, after) or replaces_folder or "\t" in name or "\n" in name:
        return None
    return Effect(os.fsencode(name), before, after, b"", "", tasks).looked_at_again()


def _is_secret(data: bytes) -> bool:
    from nbprovision.system.plain_secrets import secrets_in_lines  # not needed at a start

    text = data.decode("utf-8", "surrogateescape")
    return mask(text) != text or any(secrets_in_lines(text))


def _data(path: str, kind: str) -> bytes | None:
    try:
        if kind == "folder":
            return b"\0".join(sorted(map(os.fsencode, os.listdir(path))))
        if kind == "link":
            return os.fsencode(os.readlink(path))
        return b"" if kind == MISSING else effects.content(path)
    except OSError:  # it has just changed
        return None


def _identity(path: str) -> str:
    try:
        return identity(os.lstat(path))
    except OSError:
        return MISSING

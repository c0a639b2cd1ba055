"""The playbook that last succeeded at a start, kept as a fallback for a start at which the playbook is invalid.

An earlier version of the playbook replaces it. If none is kept (it was renamed, or the script names another one), the
team's playbook that last succeeded under the same hook takes its place. Only an earlier version replaces a user's own.

The folder ``last-good`` of the tool's home has one file for each playbook, written whole or not at all. It holds every
file of the playbook, with the secrets in files of variables, so only this user may read it.

    nbprovision-last-good 1 DIGEST
    a `Kept` in MessagePack, with this digest
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from nbprovision.machine.platform import PHASE, USER_PLAYBOOK
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.state import sealed
from nbprovision.system.files import explained

FOLDER = "last-good"
LARGEST = 16 << 20  # bytes of a file here; that of one playbook file is held to 1 MiB
MOST = 20  # playbooks
_HEADER = b"nbprovision-last-good 1 "


class Kept(msgspec.Struct, frozen=True):
    """The kept content of a playbook.

    Attributes:
        playbook: Its absolute path, as the bytes of the file system.
        since: When this content first succeeded, in seconds since the epoch.
        files: Path and content of each file; the paths are absolute.
        hooks: The lifecycle hooks under which this content succeeded as the team's playbook. Empty for a user's own,
            and for what a version before this field kept, of which nobody knows: it replaces no other playbook.
    """

    playbook: bytes
    since: int
    files: tuple[tuple[bytes, bytes], ...]
    hooks: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """`playbook` as a path."""
        return Path(os.fsdecode(self.playbook))

    @property
    def content(self) -> dict[Path, bytes]:
        """The content of each file by its absolute path."""
        return {Path(os.fsdecode(path)): data for path, data in self.files}

    @property
    def date(self) -> str:
        """`since` by the local clock: ``2026-01-02 10:00``."""
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))


class Start(msgspec.Struct, frozen=True):
    """A run as its lifecycle script describes it.

    Attributes:
        hook: ``on-start`` or ``on-create``; empty outside hooks.
        user_playbook: The user's own playbook; None if the script names none.
    """

    hook: str
    user_playbook: Path | None = None

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Start:
        """Read it from the variables that a lifecycle script sets."""
        own = env.get(USER_PLAYBOOK)
        return cls(env.get(PHASE, ""), Path(own) if own else None)

    def is_users(self, playbook: Path) -> bool:
        """Whether it is the user's own playbook, not the team's."""
        return self.user_playbook is not None and _name(self.user_playbook) == _name(playbook)

    def hooks(self, playbook: Path) -> tuple[str, ...]:
        """The hook for which it is the team's, if there is one."""
        return () if self.is_users(playbook) or not self.hook else (self.hook,)


def keep(home: Path, playbook: Path, content: Mapping[Path, bytes], start: Start) -> None:
    """Keep the content of a playbook, in place of its earlier content.

    If the same content is kept, only the time of the file is set: the last successful playbook has the newest file.

    Args:
        home: The tool's home folder.
        playbook: Its file.
        content: Every file that it is made of, by absolute path.
        start: The run that succeeded.

    Raises:
        TaskFailed: the disk is full, or it is more than 16 MiB; what was kept before is whole then.
    """
    path = path_of(home, playbook)
    before = _kept(home, playbook, content)
    hooks = start.hooks(playbook)
    with explained(f"cannot keep {playbook}", path):
        if before is not None and _covers(before, hooks):
            os.utime(path)
            return
        since = int(time.time()) if before is None else before.since
        files = tuple((os.fsencode(file), data) for file, data in content.items())
        also = before.hooks if before is not None and hooks else ()
        body = msgspec.msgpack.encode(Kept(_name(playbook), since, files, tuple(sorted({*also, *hooks}))))
        if len(body) > LARGEST:
            raise OSError(0, f"it is made of more than {LARGEST >> 20} MiB")
        sealed.write(path, _HEADER, body)
        for other in _newest_first(path.parent)[MOST:]:
            other.unlink(missing_ok=True)


def is_kept(home: Path, playbook: Path, content: Mapping[Path, bytes], start: Start) -> bool:
    """Whether this content of a playbook is kept; see `keep`."""
    kept = _kept(home, playbook, content)
    return kept is not None and _covers(kept, start.hooks(playbook))


def read(home: Path, playbook: Path, start: Start) -> Kept:
    """Find the replacement for an invalid or missing playbook.

    Args:
        home: The tool's home folder.
        playbook: Its file, which need not exist.
        start: The run that looks for it.

    Raises:
        InvalidPlaybook: nothing is kept, it is damaged, or somebody else may have written it.
    """
    path = path_of(home, playbook)
    hooks = start.hooks(playbook)
    try:
        return _read(path)
    except FileNotFoundError:
        cause = "no run of it under a lifecycle hook has ended with 0"
        if hooks:
            cause += f", nor has one of another playbook of the team's under {start.hook}"
    except (OSError, msgspec.DecodeError) as error:
        cause = f"{path} is not used: {error.strerror if isinstance(error, OSError) else error}"
    for other in _newest_first(path.parent) if hooks else ():
        with contextlib.suppress(OSError, msgspec.DecodeError):
            kept = _read(other)
            if start.hook in kept.hooks and not start.is_users(kept.path):
                return kept
    raise InvalidPlaybook(
        f"no earlier {playbook} can be used in its place",
        cause=cause,
        cure=f"correct the playbook: nbprovision lint {playbook}",
    )


def path_of(home: Path, playbook: Path) -> Path:
    """The file that keeps a playbook."""
    return home / FOLDER / _file_name(_name(playbook))


def _kept(home: Path, playbook: Path, content: Mapping[Path, bytes]) -> Kept | None:
    """The kept playbook if it has this content."""
    try:
        kept = _read(path_of(home, playbook))
    except (OSError, msgspec.DecodeError):
        return None
    return kept if kept.content == content else None


def _covers(kept: Kept, hooks: tuple[str, ...]) -> bool:
    return set(hooks) <= set(kept.hooks) if hooks else not kept.hooks


def _newest_first(folder: Path) -> list[Path]:
    """The files of all playbooks, the one that succeeded last at the front."""
    return sorted(folder.glob("*.kept"), key=lambda path: path.lstat().st_mtime, reverse=True)


def _read(path: Path) -> Kept:
    kept = msgspec.msgpack.decode(sealed.read(path, _HEADER, most=2 * LARGEST), type=Kept)
    if path.name != _file_name(kept.playbook):
        raise OSError(0, f"it is of another playbook, {os.fsdecode(kept.playbook)}")
    return kept


def _file_name(playbook: bytes) -> str:
    return f"{sealed.digest(playbook).decode()}.kept"


def _name(playbook: Path) -> bytes:
    return os.fsencode(os.path.abspath(playbook))

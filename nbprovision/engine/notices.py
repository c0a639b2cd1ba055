"""Notifications of handlers that have not run yet, kept in a file so that no end of a run can lose one.

If a run is killed after a task's change, the next run finds nothing to do and would never run the handler. So a
notification is written before the work begins, and removed if the task changed nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from nbprovision.state.witness import digest
from nbprovision.system.files import make_folder, write_atomically
from nbprovision.system.reading import read_json


class Notice(msgspec.Struct, frozen=True, eq=False):
    """One notification; two of the same task for the same handler are equal, whatever their times.

    Attributes:
        play: The play's name.
        handler: The name of the handler, or what it listens to.
        task: The task that gave it.
        when: When the task last changed something, in seconds since the epoch; 0 if unknown.

    """

    play: str
    handler: str
    task: str
    when: float = 0.0

    def __eq__(self, other: object) -> bool:
        """Compare without the times."""
        return isinstance(other, Notice) and self._key == other._key

    def __hash__(self) -> int:
        """A hash without the time."""
        return hash(self._key)

    @property
    def _key(self) -> tuple[str, str, str]:
        return self.play, self.handler, self.task


class Notices:
    """The notifications of one playbook.

    Args:
        path: The file that keeps them; None keeps them in memory for this run.
        lasting: Whether this run may forget what others have kept; not with ``check``.

    """

    def __init__(self, path: Path | None = None, *, lasting: bool = True) -> None:
        self.path = path
        self._lasting = lasting and path is not None
        self._planned: set[Notice] = set()
        self._lock = threading.Lock()
        self._waiting: list[Notice] = []
        self.left_over: frozenset[Notice] = frozenset()
        if path is not None:
            with contextlib.suppress(OSError):
                self._waiting = self._read(path)
                self.left_over = frozenset(self._waiting)

    def waiting(self, play: str) -> list[Notice]:
        """The notifications of a play whose handlers have not run yet, oldest first."""
        with self._lock:
            return [notice for notice in self._waiting if notice.play == play]

    def add(self, notices: Iterable[Notice], *, planned: bool = False) -> list[Notice]:
        """Write down notifications, or the new time of those that were there already.

        Args:
            notices: The notifications.
            planned: The change is none yet; nothing is written.

        Returns:
            Those that were not there already.

        Raises:
            TaskFailed: they cannot be written; nothing has been changed yet.

        """
        with self._lock:
            before = self._waiting
            now = time.time()
            given = [msgspec.structs.replace(notice, when=now) for notice in dict.fromkeys(notices)]
            fresh = [notice for notice in given if notice not in before]
            if planned:
                self._planned.update(fresh)
                self._waiting = before + fresh
            elif given:
                new = {notice: notice for notice in given}
                self._waiting = [new.get(notice, notice) for notice in before] + fresh
                try:
                    self._keep()
                except Exception:
                    self._waiting = before
                    raise
            return fresh

    def remove(self, notices: Collection[Notice]) -> None:
        """Take notifications back: nothing was changed, or their handlers have been run."""
        with self._lock:
            if any(notice in self._waiting for notice in notices):
                self._waiting = [notice for notice in self._waiting if notice not in notices]
                self._keep()

    def drop_unknown(self, heard: Iterable[tuple[str, str]]) -> None:
        """Take back those of earlier runs that no handler of the playbook hears any longer."""
        if not self._lasting:
            return
        heard_names = set(heard)
        self.remove([notice for notice in self.left_over if (notice.play, notice.handler) not in heard_names])

    def _read(self, path: Path) -> list[Notice]:
        try:
            written = os.stat(path).st_mtime
            notices = read_json(path, list[Notice])
            return [notice if notice.when else msgspec.structs.replace(notice, when=written) for notice in notices]
        except msgspec.DecodeError:  # none of ours: they are written whole or not at all
            if self._lasting:
                path.unlink()
            return []

    def _keep(self) -> None:
        if self.path is None:
            return
        kept = [notice for notice in self._waiting if notice not in self._planned]
        if kept:
            make_folder(self.path.parent, mode=0o700)
            write_atomically(self.path, msgspec.json.encode(kept), mode=0o600)
        else:
            self.path.unlink(missing_ok=True)


def path_of(home: Path, playbook: str) -> Path:
    """Return the file that keeps the notifications of a playbook.

    Args:
        home: The tool's home folder.
        playbook: The absolute path of the playbook.

    """
    return home / "pending" / f"{digest(playbook)}.json"

"""The lock of a run, the marks of unfinished environments, and the right to change what a plan changes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.machine import caches
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import Blocked, LockTimeout, NotBegun, ProvisionError, TaskFailed
from nbprovision.model.result import Plan
from nbprovision.model.task import Task
from nbprovision.report import activity
from nbprovision.system import disk_space, journal, occupied, trust, unfinished
from nbprovision.system.files import explained, make_folder, write_atomically
from nbprovision.system.places import existing
from nbprovision.system.reading import read_json

# A query whether the lock is held takes it shared for a moment: it is waited for so often, and so long (seconds).
_QUESTIONS = 100
_QUESTION = 0.005
_COMMAND = "run"  # the action whose target is a command line


class Holder(msgspec.Struct, frozen=True):
    """The holder of the lock: process, command, start (seconds since the epoch), lifecycle hook and host."""

    pid: int
    command: str
    since: activity.Moment
    hook: str = ""
    host: str = ""

    def __str__(self) -> str:
        since = time.strftime("%H:%M:%S", time.localtime(self.since))
        elsewhere = f" on {self.host}" if self.is_elsewhere else ""
        return f"process {self.pid}{elsewhere} ({self.command}, since {since})"

    @property
    def is_elsewhere(self) -> bool:
        """Whether it works on another machine, which shares the home folder."""
        return self.host not in ("", os.uname().nodename)


@contextlib.contextmanager
def run_lock(
    home: Path,
    command: str,
    timeout: float | None,
    announce: Callable[[str], None],
    *,
    tidy: bool = True,
    reads: bool = False,
    on_wait: Callable[[Holder | None], contextlib.AbstractContextManager[None]] = lambda _: contextlib.nullcontext(),
) -> Iterator[bool]:
    """Hold the one lock that guards a run.

    Args:
        home: The tool's home folder; made if it is not there.
        command: The text for others who wait.
        timeout: Seconds to wait, None for ever.
        announce: Called once with the holder of the lock, if the lock must be waited for.
        tidy: Remove what a killed install of the tool itself left.
        reads: The body changes nothing and does not wait: beside another run it goes without the lock.
        on_wait: Called with the holder if the lock must be waited for; the context is kept meanwhile.

    Yields:
        Whether the lock is held; False only with ``reads``.

    Raises:
        LockTimeout: it could not be acquired in time.
        TaskFailed: the home folder cannot be used.

    """
    with contextlib.ExitStack() as held:
        with explained(f"cannot use {home} as the home of state, lock and log", home):
            alone = _enter(home, command, timeout, announce, held, None if reads else on_wait)
            if alone and tidy and (home / "venv").is_symlink():
                from nbprovision.lifecycle import own_environment

                own_environment.tidy(home)
        yield alone


def _enter(
    home: Path,
    command: str,
    timeout: float | None,
    announce: Callable[[str], None],
    held: contextlib.ExitStack,
    on_wait: Callable[[Holder | None], contextlib.AbstractContextManager[None]] | None,
) -> bool:
    lock = home / "lock"
    trust.write(lock)
    try:
        make_folder(home, mode=0o700)
        at_once = _had_at_once(lock, held)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        if not lock.exists():  # nobody can work here, and so nobody does
            return True
        at_once = _acquired_read_only(lock, held)
    _refuse_links(home)
    if not at_once:
        if on_wait is None:
            return False
        other = holder(home)
        announce(f"waiting for {other or 'another run'}, which has the lock {lock}")
        with on_wait(other):
            _wait(lock, held, timeout)
    if held.enter_context(journal.kept(home)):  # the run before was killed
        caches.remove_leftovers(home / "cache")
    holder_path = home / "lock.holder"
    said = msgspec.json.encode(Holder(os.getpid(), command, time.time(), activity.hook(), os.uname().nodename))
    with contextlib.suppress(TaskFailed):  # no room; those who wait then read "another run"
        write_atomically(holder_path, said, mode=0o600, durable=False)
        held.callback(holder_path.unlink, missing_ok=True)
    activity.tidy(home)
    return True


def _refuse_links(home: Path) -> None:
    """Refuse a home folder, whose files the tool writes and removes as its own, in which a folder is elsewhere.

    Raises:
        TaskFailed: a link at the top of it, or of its caches, leads to a folder outside.

    """
    inside = os.path.realpath(home) + os.sep
    for folder in (home, home / "cache"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink() and not (os.path.realpath(entry.path) + os.sep).startswith(inside):
                    if not os.path.isdir(entry.path) and os.path.lexists(os.path.realpath(entry.path)):
                        continue  # a link in the place of a file is replaced, never followed
                    raise TaskFailed(
                        f"{entry.path} is a link that leads out of the home folder",
                        cause=f"it leads to {os.readlink(entry.path)}, where the tool would write and remove its files",
                        cure="remove the link; --home or NBPROVISION_HOME puts the whole folder elsewhere, and "
                        "UV_CACHE_DIR or conda's pkgs_dirs the caches",
                    )


def holder(home: Path) -> Holder | None:
    """The holder of the lock; None if it is unknown, or if the recorded holder was killed and another has the lock."""
    try:
        record = read_json(home / "lock.holder", Holder, follow=False)
    except (OSError, msgspec.DecodeError):
        return None
    if record.is_elsewhere:
        return record
    try:
        os.kill(record.pid, 0)
    except PermissionError:  # another user's
        return record
    except (OSError, OverflowError):
        return None
    return record


def _had_at_once(lock: Path, held: contextlib.ExitStack) -> bool:
    """Whether no other run has the lock; a query whether it is held only takes it shared for a moment."""
    for _ in range(_QUESTIONS):
        if _acquired(lock, held, 0):
            return True
        if activity.is_held(lock):
            return False
        time.sleep(_QUESTION)
    return False


def _acquired(lock: Path, held: contextlib.ExitStack, timeout: float | None) -> bool:
    import filelock

    try:
        held.enter_context(filelock.FileLock(lock, mode=0o600).acquire(timeout=-1 if timeout is None else timeout))
    except filelock.Timeout:
        return False
    return True


def _acquired_read_only(lock: Path, held: contextlib.ExitStack) -> bool:
    """The same on a volume that is read-only, where filelock, which opens a lock to write, cannot open it."""
    handle = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    held.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(lock: Path, held: contextlib.ExitStack, timeout: float | None) -> None:
    if not _acquired(lock, held, timeout):
        raise LockTimeout(
            f"could not acquire the lock within {timeout:.0f} seconds",
            cause=f"held by {holder(lock.parent) or 'another run'}",
            cure="wait for it (nbprovision status), or increase --lock-timeout",
        )


def refuse_unwritable(task: Task[Any], plan: Plan, machine: Machine) -> None:
    """Check the folders in which the plan creates, replaces or removes something.

    Raises:
        Blocked: one of them is not this user's to write.

    """
    for path in _written(task, plan, machine):
        folder = existing(path if path.is_dir() and not path.is_symlink() else path.parent)
        if not os.access(folder, os.W_OK | os.X_OK):
            cause, cure = disk_space.unwritable(folder)
            raise Blocked(path, f"cannot write {path}", cause=cause, cure=cure)


def _written(task: Task[Any], plan: Plan, machine: Machine) -> Iterator[Path]:
    for change in plan.changes:
        if change.target.startswith("/") and change.action != _COMMAND and "\0" not in change.target:
            yield Path(change.target)
    if not plan.beside:
        yield from task.guarded(machine)


class Guard:
    """Keeps the marks of unfinished environments right.

    A prefix that is found marked when the run begins is suspect: every task that changes it looks deeper, and the mark
    goes when the last of them has proven its part. A prefix that was whole is marked only while a task works on it.

    Args:
        tasks: All tasks of the run that may change a prefix.
        machine: The facts.

    """

    def __init__(self, tasks: Iterable[Task[Any]], machine: Machine) -> None:
        self._waiting: dict[Path, int] = {}
        self._reads = machine.beside_a_run
        for task in tasks:
            for prefix in task.guarded(machine):
                if unfinished.is_marked(prefix):
                    self._waiting[prefix] = self._waiting.get(prefix, 0) + 1
        machine.suspect = set(self._waiting)

    def alone(self, task: Task[Any], machine: Machine) -> contextlib.AbstractContextManager[Callable[[Path], None]]:
        """Keep other runs out of the environments that ``task`` makes, changes or builds on; see `occupied.alone`."""
        resources = (*task.provides(machine), *task.requires(machine))
        folders = {Path(resource.identity) for resource in resources if resource.kind == "environment"}
        return occupied.alone(folders.union(task.guarded(machine)), machine.progress, machine.lock_timeout)

    def judge(self, task: Task[Any], plan: Plan, machine: Machine) -> None:
        """Judge the prefixes that ``task`` would change, with ``--check`` as well, which says what a run would do.

        Raises:
            NotTrusted: this is root's, and somebody else can change one of them.

        """
        for prefix in [] if plan.beside else task.guarded(machine):
            trust.environment(prefix, "change")

    @contextlib.contextmanager
    def unfinished(
        self,
        task: Task[Any],
        plan: Plan,
        machine: Machine,
        untouched: Callable[[], bool],
        keep: Callable[[Path], None],
    ) -> Iterator[Callable[[], None]]:
        """Mark the prefixes that ``task`` changes while the body works on them.

        After a failure the mark stays, unless ``untouched`` says that all is as it was before: an install that never
        began does not justify taking an environment's kernel away.

        Yields:
            A function to call when the engine has reported success: what it has done is then verified as any other
            state is, and need not be looked at file by file as after a kill.

        """
        prefixes = [] if plan.beside else list(task.guarded(machine))
        existed = {prefix: prefix.is_dir() for prefix in prefixes}
        trusted = set(prefixes) - set(self._waiting)
        try:
            for prefix in prefixes:
                unfinished.mark(prefix, task.kind(), keep)
        except ProvisionError:
            _take_back(trusted, existed)
            raise
        try:
            yield lambda: machine.sound.update(trusted)
        except NotBegun:
            _take_back(trusted, existed)
            raise
        except Exception:
            machine.sound.difference_update(trusted)
            with contextlib.suppress(Exception):
                machine.forget()
                if all(existed.values()) and untouched():
                    for prefix in trusted:
                        unfinished.clear(prefix)
            raise
        self.proven(task, machine)
        for prefix in prefixes:
            if prefix not in self._waiting:
                unfinished.clear(prefix)

    def proven(self, task: Task[Any], machine: Machine) -> None:
        """``task`` holds: its part of its prefixes is whole."""
        for prefix in task.guarded(machine):
            if prefix in self._waiting:
                self._waiting[prefix] -= 1
                machine.sound.add(prefix)
                if self._waiting[prefix] > 0 or self._reads:
                    continue
                del self._waiting[prefix]
                caches.remove_probes(prefix)
                unfinished.clear(prefix)


def _take_back(prefixes: Iterable[Path], existed: Mapping[Path, bool]) -> None:
    for prefix in prefixes:
        with contextlib.suppress(ProvisionError):
            if existed[prefix]:
                unfinished.clear(prefix)
            else:
                unfinished.withdraw(prefix)

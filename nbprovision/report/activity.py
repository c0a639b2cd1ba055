"""The record of the current or last activity, which ``nbprovision status`` reads: ``status.json``.

bootstrap.sh writes it while it installs the tool, then the holder of the run lock. A run that waits for the lock writes
its own record into the folder ``waiting``. Locks show whether a record is still true, since a process id may belong to
another program, another machine or another boot.

A lifecycle script runs the team's playbook and then, if the team allows it, the user's own. The second run keeps the
record of the first, since the script's exit status is that of the team's playbook.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nbprovision import __version__
from nbprovision.model.errors import InvalidPlaybook, TaskFailed
from nbprovision.system.files import make_folder, write_atomically
from nbprovision.system.places import boot_id
from nbprovision.system.reading import decode, read_end
from nbprovision.system.secrets import mask

FILE = "status.json"
WAITING = "waiting"  # the folder of the records of waiting runs
USER_PLAYBOOK = "NBPROVISION_USER_PLAYBOOK"  # variable of a lifecycle script: the user's own playbook
ROOT_FOLDER = Path("/run/nbprovision")  # root's part of a lifecycle script writes its last line here
HOOKS = ("on-start", "on-create")
_MOST = 1 << 16  # bytes of a record, and of the end of the log
_WORD = re.compile(r"nbprovision: (?P<word>done|background|failed|skipped)\b(?P<rest>[^\n]*)")

State = Literal["never", "installing", "waiting", "running", "background", "interrupted", "failed", "ok", "skipped"]
IN_PROGRESS = ("installing", "waiting", "running", "background")
# Seconds since the epoch within the years of a calendar.
_IN_CALENDAR = msgspec.Meta(ge=0, lt=253_402_300_800)
Moment = Annotated[float, _IN_CALENDAR]


class Activity(msgspec.Struct, kw_only=True):
    """One activity.

    Attributes:
        state: What it does, or how it ended.
        hook: ``on-start`` or ``on-create`` where a lifecycle script began it.
        pid: The active process, on the machine ``host``.
        boot: The machine's boot id.
        started: Seconds since the epoch.
        status: The exit status; None while it is in progress.
        version: The tool's.
        playbook: Its path.
        fallback: The part of an earlier start that was used instead of the script's: a playbook, the tool, or both.
        message: One line, such as the reason of a failure.
        why: One line: the fault of the playbook that a fallback replaced.
        log: The path of the log.
        team: While the user's own playbook runs: the record of the team's, which ended before.
        user_playbook: After the team's playbook: the record of the user's own.

    """

    state: State
    hook: str = ""
    pid: int = 0
    boot: str = ""
    host: str = ""
    started: Annotated[int, _IN_CALENDAR] = 0
    status: int | None = None
    version: str = ""
    playbook: str = ""
    fallback: str = ""
    message: str = ""
    why: str = ""
    log: str = ""
    team: Activity | None = None
    user_playbook: Activity | None = None


class Replaced(msgspec.Struct, frozen=True):
    """An invalid playbook that the last successful one replaces.

    Attributes:
        date: The date since which the successful one has been kept, for a person.
        why: The fault of the invalid one.

    """

    date: str
    why: str


class Word(msgspec.Struct, frozen=True):
    """The last line of a lifecycle script, written by root's part, and its time (seconds since the epoch)."""

    line: str
    word: str
    fields: dict[str, str]
    when: float


def hook() -> str:
    """The lifecycle hook that this process works for; empty at a terminal."""
    phase = os.environ.get("NBPROVISION_PHASE", "")
    return phase if phase in HOOKS else ""


def begin(home: Path, playbook: str, state: State) -> Activity:
    """Return the record of an activity of this process that begins now."""
    fallback = os.environ.get("NBPROVISION_FALLBACK", "")
    if is_users(playbook):  # a replaced team's playbook is not the user's
        fallback = "tool" if fallback in ("tool", "both") else ""
    return Activity(
        state=state,
        hook=hook(),
        pid=os.getpid(),
        boot=boot_id(),
        host=os.uname().nodename,
        started=int(time.time()),
        version=__version__,
        playbook=os.path.abspath(playbook),
        fallback=fallback,
        log=str(home / "log" / "nbprovision.log"),
    )


class Recorder:
    """Keeps the record of a run that holds the run lock; its threads may report at the same time.

    Args:
        home: The tool's home folder.
        playbook: The run's.
        replaced: The invalid playbook that this run's replaces, if it does.

    """

    def __init__(self, home: Path, playbook: str, replaced: Replaced | None = None) -> None:
        self._path = home / FILE
        self._writing = threading.Lock()
        self._ended = False
        self._replaced = replaced
        self.activity = begin(home, playbook, "running")
        self.activity.team = _team_of(home, self.activity)
        if replaced is not None:
            self.activity.fallback = "playbook" if self.activity.fallback in ("", "playbook") else "both"
            self.activity.why = one_line(replaced.why)
        _write(self._path, self.activity)

    def nobody_waits(self) -> None:
        """Record that the caller has left, and the run continues in the background."""
        with self._writing:
            if not self._ended:
                self.activity.state = "background"
                _write(self._path, self.activity)

    def end(self, status: int, message: str = "") -> None:
        """Record the end of the run. The replacement of an invalid playbook is always a failure: see bootstrap.sh.

        Args:
            status: The exit status.
            message: Why it failed.

        """
        if self._replaced is not None:
            used = f"used the last good playbook, of {self._replaced.date}"
            status, message = InvalidPlaybook.exit_status, f"{used}; {message}" if message else used
        with self._writing:
            self._ended = True
            self.activity = _ended(self.activity, status, message)
            _write(self._path, self.activity)


def _ended(activity: Activity, status: int, message: str) -> Activity:
    """Return the record of an ended activity, within the record of the team's playbook if that ran before."""
    team, activity.team = activity.team, None
    activity.state = "failed" if status else "ok"
    activity.status = status
    activity.message = one_line(message)
    if team is None:
        return activity
    team.user_playbook = activity
    return team


def _team_of(home: Path, activity: Activity) -> Activity | None:
    """The record of the team's playbook at this start, if ``activity`` is of the user's own; None if unknown."""
    content = read(home)
    if not activity.hook or not is_users(activity.playbook) or content is None:
        return None
    team, written = content
    if team.team is not None:  # an earlier run of the user's own was killed
        team = team.team
    this_start = (team.hook, team.boot) == (activity.hook, activity.boot)
    outdated = team.state in IN_PROGRESS or witnessed_since(home, written) is not None
    return team if this_start and not outdated and team.playbook != activity.playbook else None


def is_users(playbook: str) -> bool:
    """Whether a playbook is the user's own, which a lifecycle script runs after the team's."""
    named = os.environ.get(USER_PLAYBOOK, "")
    return named != "" and os.path.abspath(named) == os.path.abspath(playbook)


def one_line(text: str, longest: int = 500) -> str:
    """The first characters of a text in one line, secrets masked."""
    return "; ".join(" ".join(line.split()) for line in mask(text).splitlines())[:longest]


def record_failure(home: Path, playbook: str, status: int, message: str) -> None:
    """Record a run that failed before it had the lock, unless the record belongs to another active run."""
    with contextlib.suppress(OSError):
        make_folder(home, mode=0o700)
    with contextlib.suppress(OSError), _held_for_a_moment(home / "lock", fcntl.LOCK_EX) as free:
        if free:
            activity = begin(home, playbook, "failed")
            activity.team = _team_of(home, activity)
            _write(home / FILE, _ended(activity, status, message))


def last_failure(home: Path, playbook: str, status: int) -> str:
    """Why the last run of a playbook ended with ``status``; empty if the record is of another run."""
    content = read(home)
    record = content[0] if content is not None else None
    if record is not None and is_users(playbook) and record.user_playbook is not None:
        record = record.user_playbook
    if record is None or (record.playbook, record.status) != (os.path.abspath(playbook), status):
        return ""
    return record.message


def read(home: Path) -> tuple[Activity, float] | None:
    """The record and when it was written (seconds since the epoch); None if it is missing, damaged or foreign."""
    return _read(home / FILE, _owners(home))


@contextlib.contextmanager
def waiting(home: Path, playbook: str) -> Iterator[None]:
    """Keep a record of this process among the runs that wait for the lock while the body runs.

    The file is locked before it gets its name: if a record is not locked, its process has ended.
    """
    path = home / WAITING / f"{os.uname().nodename}.{os.getpid()}.json"
    temporary = path.with_name(f".{path.name}")
    with contextlib.ExitStack() as kept:
        with contextlib.suppress(OSError):  # a full or read-only disk does not stop the waiting
            make_folder(path.parent, mode=0o700)
            temporary.unlink(missing_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            kept.callback(os.close, handle)
            kept.callback(_remove, path)
            kept.callback(_remove, temporary)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(handle, msgspec.json.encode(begin(home, playbook, "waiting")) + b"\n")
            os.replace(temporary, path)
        yield


def in_line(home: Path) -> list[Activity]:
    """The runs that wait for the lock, in the order of their start."""
    waiting = []
    with contextlib.suppress(OSError):
        for path in (home / WAITING).glob("[!.]*.json"):
            content = _read(path, _owners(home))
            if content is not None and is_held(path):
                waiting.append(content[0])
    return sorted(waiting, key=lambda activity: (activity.started, activity.pid))


def tidy(home: Path) -> None:
    """Remove the records of waiting runs that were killed."""
    with contextlib.suppress(OSError):
        for path in (home / WAITING).glob("[!.]*.json"):
            if not is_held(path):
                _remove(path)


def is_held(lock: Path) -> bool:
    """Whether a process holds a lock file; an unreadable one counts as free."""
    try:
        with _held_for_a_moment(lock, fcntl.LOCK_SH) as free:
            return not free
    except OSError:
        return False


def root_word() -> Word | None:
    """The newest last line of root's part of a lifecycle script, of the hooks since the machine's start."""
    words = []
    for name in HOOKS:
        content = _content(ROOT_FOLDER / name, {0})
        match = _WORD.match(content[0].decode("utf-8", "replace").strip()) if content else None
        if content and match:
            fields = dict(part.split("=", 1) for part in match["rest"].split() if "=" in part)
            words.append(Word(match[0], match["word"], {"hook": name, **fields}, content[1]))
    return max(words, key=lambda word: word.when, default=None)


@contextlib.contextmanager
def _held_for_a_moment(lock: Path, how: int) -> Iterator[bool]:
    """Acquire a lock file if it is free, for the time of the body; yield whether it was.

    Only an exclusive lock creates the file.
    """
    flags = os.O_RDONLY if how == fcntl.LOCK_SH else os.O_RDWR | os.O_CREAT
    handle = os.open(lock, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
        free = True
    except BlockingIOError:
        free = False
    try:
        yield free
    finally:
        os.close(handle)


def _write(path: Path, activity: Activity) -> None:
    with contextlib.suppress(TaskFailed):  # a full or read-only disk does not stop the work
        write_atomically(path, msgspec.json.encode(activity) + b"\n", mode=0o600, durable=False)


def _read(path: Path, owners: set[int]) -> tuple[Activity, float] | None:
    content = _content(path, owners)
    if content is None:
        return None
    try:
        return decode(msgspec.json.Decoder(Activity), content[0]), content[1]
    except msgspec.DecodeError:
        return None


def _content(path: Path, owners: set[int]) -> tuple[bytes, float] | None:
    """A small regular file that only one of ``owners`` can write, and when it was written."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(handle, "rb", buffering=0) as stream:
            status = os.fstat(handle)
            trusted = stat.S_ISREG(status.st_mode) and status.st_uid in owners and not status.st_mode & 0o022
            return (stream.read(_MOST), status.st_mtime) if trusted and status.st_size <= _MOST else None
    except OSError:
        return None


def _owners(home: Path) -> set[int]:
    """The owners of trusted records: this user and the owner of the home folder."""
    try:
        return {os.geteuid(), os.stat(home).st_uid}
    except OSError:
        return {os.geteuid()}


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


class Witnessed(msgspec.Struct, frozen=True):
    """A run that ended at its witnesses: its playbook, and when it ended (seconds since the epoch)."""

    playbook: str
    when: float


def witnessed_since(home: Path, since: float, failed: str = "") -> Witnessed | None:
    """The last run, if it ended at its witnesses after a moment; such a run leaves only a line in the log.

    Args:
        home: The tool's home folder.
        since: The moment, in seconds since the epoch.
        failed: The playbook that had failed by then. A later run of the user's own playbook proves nothing about it.

    """
    path = home / "log" / "nbprovision.log"
    for log in (path, path.with_name(f"{path.name}.1")):
        try:
            lines = read_end(log, _MOST).splitlines()
        except OSError:
            continue
        for line in reversed(lines):
            try:
                entry = msgspec.json.decode(line, type=_LogEntry)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                continue
            if entry.event != "run" or entry.check or (entry.users and failed not in ("", entry.playbook)):
                continue
            when = entry.timestamp.timestamp()
            return Witnessed(entry.playbook, when) if entry.proof == "witness" and when > since else None
    return None


class _LogEntry(msgspec.Struct):
    """The used fields of a log entry."""

    event: str
    timestamp: dt.datetime
    proof: str = ""
    playbook: str = ""
    check: bool = False
    users: bool = False

"""What the tool does now or did last, as one small record that ``nbprovision status`` reads: ``status.json``.

bootstrap.sh writes it while it installs the tool, then the holder of the run lock. A run that waits for the lock leaves
that record alone and puts one of its own into the folder ``waiting``. Locks say whether a record still holds, since a
process id may belong to another program, another machine or another boot.

A lifecycle script runs the team's playbook and then, where the team allows it, the user's own. The second run
keeps the record of the first: how the team's ended is what the script's exit status says.
"""

from __future__ import annotations

import contextlib
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
from nbprovision.report.witnessed import witnessed_since
from nbprovision.system.files import make_folder, write_atomically
from nbprovision.system.reading import decode
from nbprovision.system.secrets import mask

FILE = "status.json"
WAITING = "waiting"  # the folder of those that wait for the lock
USER_PLAYBOOK = "NBPROVISION_USER_PLAYBOOK"  # the variable by which a lifecycle script names the user's own playbook
ROOT_FOLDER = Path("/run/nbprovision")  # where root's part of a lifecycle script leaves its last line
HOOKS = ("on-start", "on-create")
_MOST = 1 << 16  # bytes of a record
_WORD = re.compile(r"nbprovision: (?P<word>done|background|failed|skipped)\b(?P<rest>[^\n]*)")

State = Literal["never", "installing", "waiting", "running", "background", "interrupted", "failed", "ok", "skipped"]
IN_PROGRESS = ("installing", "waiting", "running", "background")
# Seconds since the epoch that a calendar has a day for.
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
        fallback: What of an earlier start was used in place of what the script asks for.
        message: One line, of a failure the reason.
        why: One line, of a fallback what was wrong with the playbook that is not used.
        log: Where more is.
        team: Of the user's own playbook while it is run, how the team's ended before it.
        user_playbook: Of the team's, how the user's own ended after it.

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
    """A playbook in whose place the one that last succeeded is run.

    Attributes:
        date: Since when that one has been kept, for a person.
        why: What is wrong with the one that is not used.

    """

    date: str
    why: str


class Word(msgspec.Struct, frozen=True):
    """The last line of a lifecycle script, as root's part left it, and when (seconds since the epoch)."""

    line: str
    word: str
    fields: dict[str, str]
    when: float


def hook() -> str:
    """Which lifecycle script this process works for; empty at a terminal."""
    phase = os.environ.get("NBPROVISION_PHASE", "")
    return phase if phase in HOOKS else ""


def boot() -> str:
    """This boot of the machine (proc(5), ``random/boot_id``); empty if the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def begin(home: Path, playbook: str, state: State) -> Activity:
    """An activity of this process that begins now."""
    fallback = os.environ.get("NBPROVISION_FALLBACK", "")
    if is_users(playbook):  # what the team's was replaced by is not said of the user's own
        fallback = "tool" if fallback in ("tool", "both") else ""
    return Activity(
        state=state,
        hook=hook(),
        pid=os.getpid(),
        boot=boot(),
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
        replaced: What is known of the playbook in whose place this run runs an earlier one.

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
            self.activity.why = _one_line(replaced.why)
        _write(self._path, self.activity)

    def nobody_waits(self) -> None:
        """Record that the caller has left, and the run continues in the background."""
        with self._writing:
            if not self._ended:
                self.activity.state = "background"
                _write(self._path, self.activity)

    def end(self, status: int, message: str = "") -> None:
        """The run is over. One in the place of an invalid playbook is a failure, however well it did: see bootstrap.sh.

        Args:
            status: Its exit status.
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
    """The record of an activity that has ended: its own, or the team's with it."""
    team, activity.team = activity.team, None
    activity.state = "failed" if status else "ok"
    activity.status = status
    activity.message = _one_line(message)
    if team is None:
        return activity
    team.user_playbook = activity
    return team


def _team_of(home: Path, activity: Activity) -> Activity | None:
    """How the team's playbook ended at this start, if ``activity`` is of the user's own; None if nobody knows."""
    record_found = read(home)
    if not activity.hook or not is_users(activity.playbook) or record_found is None:
        return None
    team, written = record_found
    if team.team is not None:  # the user's own was run before, and killed
        team = team.team
    this_start = (team.hook, team.boot) == (activity.hook, activity.boot)
    over = team.state in IN_PROGRESS or witnessed_since(home, written) is not None
    return team if this_start and not over and team.playbook != activity.playbook else None


def is_users(playbook: str) -> bool:
    """Whether a playbook is the user's own, that a lifecycle script runs after the team's."""
    named = os.environ.get(USER_PLAYBOOK, "")
    return named != "" and os.path.abspath(named) == os.path.abspath(playbook)


def _one_line(text: str) -> str:
    return "; ".join(" ".join(line.split()) for line in mask(text).splitlines())[:500]


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
    """Why the last run of a playbook ended with ``status``; empty if the record is of something else."""
    activity = read(home)
    record = activity[0] if activity is not None else None
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
    """Leave a record of this process among those that wait for the lock while the body runs.

    It is locked before it has its name, so that a record without a lock is one whose process is gone.
    """
    path = home / WAITING / f"{os.uname().nodename}.{os.getpid()}.json"
    temporary = path.with_name(f".{path.name}")
    with contextlib.ExitStack() as kept:
        with contextlib.suppress(OSError):  # full or read-only: it waits all the same
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
    """The runs that wait for the lock, in the order in which they came."""
    waiting = []
    with contextlib.suppress(OSError):
        for path in (home / WAITING).glob("[!.]*.json"):
            content = _read(path, _owners(home))
            if content is not None and is_held(path):
                waiting.append(content[0])
    return sorted(waiting, key=lambda activity: (activity.started, activity.pid))


def tidy(home: Path) -> None:
    """Remove what killed runs left among those that wait."""
    with contextlib.suppress(OSError):
        for path in (home / WAITING).glob("[!.]*.json"):
            if not is_held(path):
                _remove(path)


def is_held(lock: Path) -> bool:
    """Whether a process holds a lock file, asked of the lock itself; one that cannot be asked is free."""
    try:
        with _held_for_a_moment(lock, fcntl.LOCK_SH) as free:
            return not free
    except OSError:
        return False


def root_word() -> Word | None:
    """What root's part of a lifecycle script said last, of the hooks that ran since the machine started."""
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
    """Whether a lock file was free; it is ours while the body runs then. It is made only to be held exclusively."""
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
    with contextlib.suppress(TaskFailed):  # full or read-only: the work counts, not the record of it
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
    """A small regular file that nobody but one of ``owners`` can write, and when it was written."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(handle, "rb", buffering=0) as stream:
            status = os.fstat(handle)
            believed = stat.S_ISREG(status.st_mode) and status.st_uid in owners and not status.st_mode & 0o022
            return (stream.read(_MOST), status.st_mtime) if believed and status.st_size <= _MOST else None
    except OSError:
        return None


def _owners(home: Path) -> set[int]:
    """Whose records are believed: this user's and those of the home folder's owner."""
    try:
        return {os.geteuid(), os.stat(home).st_uid}
    except OSError:
        return {os.geteuid()}


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)

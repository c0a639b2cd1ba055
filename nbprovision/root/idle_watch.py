"""Looks whether a notebook machine is in use, and stops it when it has been idle for too long.

A program of its own, with the standard library of Python 3.9 alone: ``python3 -I -S idle_watch.py SETTINGS``. On a
notebook instance a timer of root's starts it as a user of its own, who is neither root nor the notebook's user, and it
looks once. In Studio it is a process of the user's, and looks until it is ended.

All that it reads is data that others may have made: an answer that it does not understand is "unknown", never an end.

Sources: https://jupyter-server.readthedocs.io/en/latest/developers/rest-api.html (a request counts as activity of the
server, unless it has ``no_track_activity``); proc_pid_stat(5);
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopNotebookInstance.html and API_DeleteApp.html
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import os
import pwd
import re
import signal
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

_MOST = 4 << 20  # bytes of an answer or a file
_MOST_FILES = 50000  # that a look at the state files of an editor takes
_LONGEST_LOOK = 60.0  # seconds
_PATIENCE = 10.0  # seconds for one answer
_SKEW = 60.0  # seconds by which another clock may be ahead
_TICKS = float(os.sysconf("SC_CLK_TCK"))
_NAME = r"[A-Za-z0-9](?:-*[A-Za-z0-9]){0,62}"
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(?:([Zz])|([+-])(\d\d):?(\d\d))", re.ASCII
)


class Unreadable(Exception):
    """Something does not say whether the machine is in use: in words."""


class NoServer(Exception):
    """Nothing listens there."""


class Process(NamedTuple):
    """A process of the notebook's user, by proc_pid_stat(5)."""

    identity: str  # its id with its start, so that a later process with the same id is another
    name: str
    ticks: int  # of processor time, with that of its ended children
    in_front: bool  # a terminal waits for its end, and it is not the shell


class Look:
    """What was seen at one moment.

    Attributes:
        now: The time.
        at_work: Why the machine is in use now.
        last: When what was last used.
        unknown: What could not be read.
        notes: Further lines of the report, which decide nothing.
        first: It is the first look, and processor time cannot be compared yet.

    """

    def __init__(self, now: float) -> None:
        self.now = now
        self.at_work: list[str] = []
        self.last: list[tuple[float, str]] = []
        self.unknown: list[str] = []
        self.notes: list[str] = []
        self.first = False

    def used(self, when: float, what: str) -> None:
        """Take the time at which something was last used."""
        if when > self.now + _SKEW:
            self.unknown.append("%s was last used in the future" % what)
        else:
            self.last.append((min(when, self.now), what))


def main(argv: list[str]) -> int:
    """Look once, or with ``loop`` again and again; ``argv`` names the file of the settings."""
    while True:
        settings = json.loads(_text(argv[1]) or "null")
        if not isinstance(settings, dict) or (len(argv) > 2 and settings["program"] != argv[2]):
            return 0  # the task has gone, or has started another version of this program
        report = look_once(settings)
        print(line_of(report), file=sys.stderr, flush=True)
        text = json.dumps(report) + "\n"
        if settings["report"]:
            _write(settings["report"], text)
        else:
            os.ftruncate(1, 0)  # systemd has opened the file, which is root's; the last report stays in it until now
            os.write(1, text.encode())
        if not settings["loop"]:
            return 0
        time.sleep(settings["every"])


def look_once(settings: dict[str, Any]) -> dict[str, Any]:
    """Look, decide, and stop the machine if that is the decision; return the report."""
    path = settings["memory"] or os.environ.get("RUNTIME_DIRECTORY", "/nonexistent") + "/memory.json"
    memory = _remembered(path)
    look = Look(time.time())
    try:
        with _limited(_LONGEST_LOOK):
            observe(settings, look, memory)
    except _TooLong:
        look.unknown.append("the look took more than %d s" % _LONGEST_LOOK)
    held = held_until(settings, look, memory)
    report = decide(settings, look, memory, held)
    if report["decision"] == "stop" and settings["dry_run"]:
        report["decision"] = "would stop"
    with contextlib.suppress(OSError):
        _write(path, json.dumps(memory))
    if report["decision"] == "stop":
        try:
            stop(settings)
        except (Unreadable, OSError, subprocess.SubprocessError) as error:
            report["decision"] = "cannot stop"
            report["why"].append(_printable(str(error)))
    return report


def line_of(report: dict[str, Any]) -> str:
    """Return the decision and its reasons in one line."""
    unknown = ["unknown: " + text for text in report["unknown"]]
    return "%s: %s" % (report["decision"], "; ".join(report["why"] + unknown))


# -------------------------------------------------------------------------------------------------------- the decision


def decide(settings: dict[str, Any], look: Look, memory: dict[str, Any], held: float) -> dict[str, Any]:
    """Decide by what was seen.

    Args:
        settings: Those of the task.
        look: What was seen.
        memory: What the last look left; ``used`` in it is brought up to date.
        held: Until when the user holds the machine; 0 for not.

    """
    started = started_at(look.now)
    seen = [*look.last, (started, "the start of the machine")]
    earlier = memory.get("used")
    if isinstance(earlier, list) and [type(part) for part in earlier] == [float, str] and earlier[0] <= look.now:
        seen.append((earlier[0], earlier[1]))
    if look.at_work:
        seen.append((look.now, look.at_work[0]))
    used, what = memory["used"] = max(seen)
    idle = look.now - used
    decision, why = "keep", "the last use, %s, was %s ago" % (what, _span(idle))
    if look.at_work:
        why = "; ".join(look.at_work[:5])
    elif held > look.now:
        why = "the user keeps it awake for another %s" % _span(held - look.now)
    elif look.now - started < settings["grace"]:
        why = "the machine started %s ago" % _span(look.now - started)
    elif look.unknown and settings["unknown"] == "keep":
        why = "whether it is in use is unknown"
    elif look.first:
        why = "this is the first look, with nothing to compare with"
    elif idle >= settings["after"]:
        decision = "stop"
    return {
        "time": look.now,
        "decision": decision,
        "why": [_printable(why)],
        "unknown": [_printable(text) for text in (look.unknown + look.notes)[:5]],
        "idle": round(idle, 1),
        "held": held if held > look.now else 0,
        **{key: settings[key] for key in ("after", "every", "limit", "dry_run", "platform")},
    }


def held_until(settings: dict[str, Any], look: Look, memory: dict[str, Any]) -> float:
    """Return until when the user holds the machine: as he wrote, but not past the limit since that was first seen."""
    try:
        text = (_text(settings["held"]) or "").strip()
    except Unreadable as error:
        look.notes.append("keep-awake: %s" % error)
        return 0.0
    if not text:
        memory.pop("held", None)
        return 0.0
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text, re.ASCII):
        look.notes.append("keep-awake: %s holds no time" % settings["held"])
        return 0.0
    held = memory.get("held")
    if not (isinstance(held, list) and len(held) == 2 and held[0] == text and isinstance(held[1], (int, float))):
        held = memory["held"] = [text, look.now]
    return float(min(float(text), held[1] + settings["limit"]))


def started_at(now: float) -> float:
    """Return when this machine started: its first process, which in a container is the container's."""
    with open("/proc/uptime", "rb") as stream:
        up = float(stream.read().split()[0])
    try:
        with open("/proc/1/stat", "rb") as stream:
            up -= int(stream.read().rpartition(b")")[2].split()[19]) / _TICKS
    except (OSError, IndexError, ValueError):  # hidden from this user
        pass
    return now - up


# --------------------------------------------------------------------------------------------------------- what is seen


def observe(settings: dict[str, Any], look: Look, memory: dict[str, Any]) -> None:
    """Look at the processes of the user, and at Jupyter or at the files of the editor."""
    with _caught(look):
        look_at_processes(settings, look, memory)
    with _caught(look):
        if settings["signal"] == "files":
            look_at_files(settings["files"], look)
        else:
            look_at_servers(settings, look)


def look_at_processes(settings: dict[str, Any], look: Look, memory: dict[str, Any]) -> None:
    """Find work that Jupyter does not know: a program that a terminal waits for, and processor time."""
    uid = pwd.getpwnam(settings["user"]).pw_uid if settings["user"] else os.getuid()
    processes = list(processes_of(uid))
    if settings["terminals"]:
        names = sorted({process.name for process in processes if process.in_front})
        look.at_work += ["%s runs in a terminal" % name for name in names[:3]]
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    before, ticks = memory.get("at"), memory.get("ticks")
    memory["at"], memory["ticks"] = now, {process.identity: process.ticks for process in processes}
    if not isinstance(before, float) or not isinstance(ticks, dict) or before >= now:
        look.first = True
        return
    if not settings["busy_cpu"]:
        return
    spent = sum(max(process.ticks - ticks.get(process.identity, 0), 0) for process in processes)
    share = 100 * spent / _TICKS / (now - before)
    if share > settings["busy_cpu"]:
        look.at_work.append("the user's processes took %d%% of a processor" % share)


def processes_of(uid: int) -> Iterator[Process]:
    """Return the processes of a user."""
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        try:
            if os.stat("/proc/" + pid).st_uid != uid:
                continue
            with open("/proc/%s/stat" % pid, "rb") as stream:
                head, _, tail = stream.read().decode(errors="replace").rpartition(")")
            fields = tail.split()
            group, session, terminal, front = (int(field) for field in fields[2:6])
            ticks = sum(int(field) for field in fields[11:15])
        except (OSError, ValueError):  # it has ended
            continue
        in_front = terminal != 0 and group == front and group != session
        yield Process("%s %s" % (pid, fields[19]), head.partition("(")[2], ticks, in_front)


def look_at_files(folders: list[str], look: Look) -> None:
    """Find the newest change below folders. No link is followed."""
    newest, seen = 0.0, 0
    for folder in folders:
        for path, _, names in os.walk(folder):
            for name in [".", *names]:
                seen += 1
                with contextlib.suppress(OSError):
                    newest = max(newest, os.lstat(os.path.join(path, name)).st_mtime)
                if seen > _MOST_FILES:
                    raise Unreadable("more than %d files below %s" % (_MOST_FILES, ", ".join(folders)))
    if not seen:
        raise Unreadable("there is none of %s" % ", ".join(folders))
    look.used(newest, "a change of the editor's files")


def look_at_servers(settings: dict[str, Any], look: Look) -> None:
    """Ask the Jupyter servers of this machine."""
    answers = 0
    for server in servers_of(settings):
        with contextlib.suppress(NoServer), _caught(look):
            look_at_server(server, settings, look)
            answers += 1
            if not server.admission:
                break
    if not answers and not look.unknown:
        raise Unreadable("no Jupyter server answers")


class Server:
    """A Jupyter server of this machine: its address, and what lets requests in, by the user's own files."""

    def __init__(self, secure: bool, port: int, base: str, admission: str = "") -> None:
        self.secure, self.port, self.base, self.admission = secure, port, base, admission

    def ask(self, path: str, *, kind: type = list) -> Any:
        """Ask for a document; a request that does not count as use of the server.

        Raises:
            NoServer: nothing listens there.
            Unreadable: the answer is not one.

        """
        where = "%sapi/%s" % (self.base, path)
        try:
            status, content = self._get(where + "?no_track_activity=1")
        except ConnectionRefusedError:
            raise NoServer from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unreadable("%s: %s" % (where, error or type(error).__name__)) from None
        if status == 404:
            raise NoServer
        try:
            answer = json.loads(content) if status == 200 else None
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, kind):
            raise Unreadable("%s: status %d%s" % (where, status, "" if status != 200 else ", and no answer in JSON"))
        return answer

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE)
        if self.secure:
            # The platform's certificate is signed by itself, and this is the machine itself.
            context = ssl._create_unverified_context()  # noqa: S323, SLF001
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=_PATIENCE, context=context)
        with contextlib.closing(connection):
            connection.request(
                "GET", path, headers={"Authorization": "token " + self.admission} if self.admission else {}
            )
            answer = connection.getresponse()
            content = answer.read(_MOST + 1)
        if len(content) > _MOST:
            raise ValueError("an answer of more than %d bytes" % _MOST)
        return answer.status, content


def servers_of(settings: dict[str, Any]) -> Iterator[Server]:
    """Return the servers that the user's own files name, and those of the usual places, of which the first counts."""
    folder = settings["runtime"]
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)) if folder else []:
            if re.fullmatch(r"jpserver-[0-9]+\.json", name):
                with contextlib.suppress(Unreadable, ValueError, KeyError, TypeError, RecursionError):
                    record = json.loads(_text(os.path.join(folder, name)) or "")
                    port, base, admission = int(record["port"]), str(record["base_url"]), str(record["token"])
                    if re.fullmatch(r"/[!-~]*", base) and re.fullmatch(r"[!-~]+", admission) and base.endswith("/"):
                        yield Server(bool(record["secure"]), port, base, admission)
    for secure, port, base in settings["servers"]:
        yield Server(secure, port, base)


def look_at_server(server: Server, settings: dict[str, Any], look: Look) -> None:
    """Ask a server for its kernels and terminals."""
    kernels = server.ask("kernels")
    names: dict[str, str] = {}
    with _caught(look), contextlib.suppress(NoServer):
        for session in server.ask("sessions"):
            names[str(_part(_part(session, "kernel"), "id"))] = str(session.get("path") or session.get("name"))
    for kernel in kernels:
        with _caught(look):
            name = names.get(str(_part(kernel, "id")))
            what = "the kernel of %s" % name if name else "a kernel %s" % kernel.get("name")
            if _part(kernel, "execution_state") == "busy":
                look.at_work.append("%s is at work" % what)
            elif settings["connections"] and _number(_part(kernel, "connections")):
                look.at_work.append("%s is open in a browser" % what)
            look.used(moment(_part(kernel, "last_activity"), what), what)
    if settings["terminals"]:
        with _caught(look), contextlib.suppress(NoServer):  # a server without terminals
            for terminal in server.ask("terminals"):
                with _caught(look):
                    what = "the terminal %s" % _part(terminal, "name")
                    look.used(moment(_part(terminal, "last_activity"), what), what)
    if settings["connections"] and settings["terminals"]:  # this time is that of terminals, too
        with _caught(look), contextlib.suppress(NoServer):
            status = server.ask("status", kind=dict)
            look.used(moment(_part(status, "last_activity"), "the server"), "a page of Jupyter")


def moment(text: object, what: str) -> float:
    """Return a time of ISO 8601 with its time zone, in seconds since the epoch.

    Raises:
        Unreadable: it is none.

    """
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    try:
        if match is None:
            raise ValueError
        numbers = [int(number) for number in match.groups()[:6]]
        fraction = float("0." + (match[7] or "0"))
        offset = 0 if match[8] else (int(match[10]) * 60 + int(match[11])) * (-60 if match[9] == "-" else 60)
        utc = dt.datetime(*numbers, tzinfo=dt.timezone.utc)  # type: ignore[arg-type,misc]
        return utc.timestamp() + fraction - offset
    except (ValueError, OverflowError):
        raise Unreadable("the last use of %s is not a time: %s" % (what, str(text)[:40])) from None


def _part(entry: object, key: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise Unreadable("an answer of Jupyter without '%s'" % key)
    return entry[key]


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise Unreadable("a number of connections that is none")
    return value


# ------------------------------------------------------------------------------------------------------------- the stop


def stop(settings: dict[str, Any]) -> None:
    """Ask AWS to stop this machine.

    Raises:
        Unreadable: it cannot be asked, or refuses.

    """
    program = next((path for path in settings["aws"] if os.access(path, os.X_OK)), None)
    if program is None:
        raise Unreadable("the aws command is missing: %s" % ", ".join(settings["aws"]))
    limits = ["--cli-connect-timeout", "10", "--cli-read-timeout", "20"]
    done = subprocess.run(
        [program, *call_of(settings["platform"], settings["metadata"]), *limits],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90, check=False, cwd="/",
        env=dict(os.environ, AWS_PAGER="", AWS_MAX_ATTEMPTS="3"),
    )  # fmt: skip
    if done.returncode != 0:
        output = done.stdout[-2000:].decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        raise Unreadable("aws ended with %d: %s" % (done.returncode, output[0][:300]))


def call_of(platform: str, metadata: str) -> list[str]:
    """Return the words of AWS's call, with the names that the platform has written into a file for this machine.

    The file is data: whoever changed it could stop another notebook with the same role, as he can without this program.

    Raises:
        Unreadable: a name is missing, or is none.

    """
    try:
        names = json.loads(_text(metadata) or "{}")
        arn = str(names.get("ResourceArn"))
    except (ValueError, AttributeError, RecursionError):
        raise Unreadable("%s is not what the platform writes" % metadata) from None

    def name(key: str) -> str:
        text = names.get(key)
        if not isinstance(text, str) or not re.fullmatch(_NAME, text, re.ASCII):
            raise Unreadable("%s: %s does not say it" % (key, metadata))
        return text

    region = re.match(r"arn:[a-z0-9-]{1,20}:sagemaker:([a-z]{2}[a-z0-9-]{1,28}):", arn, re.ASCII)
    if region is None:
        raise Unreadable("the region: %s does not say it" % metadata)
    where = ["--region", region[1]]
    if platform != "studio":
        return ["sagemaker", "stop-notebook-instance", "--notebook-instance-name", name("ResourceName"), *where]
    key, option = ("SpaceName", "--space-name") if "SpaceName" in names else ("UserProfileName", "--user-profile-name")
    app = ["--domain-id", name("DomainId"), "--app-type", name("AppType"), "--app-name", name("ResourceName")]
    return ["sagemaker", "delete-app", *app, option, name(key), *where]


# ---------------------------------------------------------------------------------------------------------------- files


def _text(path: str) -> str | None:
    """Return the text of an ordinary file, which is data of somebody's; None if it is missing. No link is followed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable("%s: %s" % (path, error.strerror)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Unreadable("%s is not an ordinary file" % path)
    with open(handle, "rb") as stream:
        return stream.read(_MOST).decode(errors="replace")


def _write(path: str, text: str) -> None:
    """Put a file in place, whole or not at all."""
    new = "%s.%d" % (path, os.getpid())
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with open(handle, "w") as stream:
        stream.write(text)
    os.replace(new, path)


def _remembered(path: str) -> dict[str, Any]:
    try:
        memory = json.loads(_text(path) or "{}")
    except (Unreadable, ValueError, RecursionError):
        memory = {}
    return memory if isinstance(memory, dict) else {}


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:400]


def _span(seconds: float) -> str:
    minutes = int(seconds) // 60
    return "%d h %d min" % divmod(minutes, 60) if minutes >= 60 else "%d min" % minutes if minutes else "%d s" % seconds


class _TooLong(Exception):
    """The time for a look is over."""


@contextlib.contextmanager
def _caught(look: Look) -> Iterator[None]:
    """Make what cannot be read "unknown": nothing that others can write ends this program."""
    try:
        yield
    except (NoServer, _TooLong):
        raise
    except Unreadable as error:
        look.unknown.append(str(error))
    except Exception as error:  # a defect must not stop a machine, nor keep it for ever without a word
        look.unknown.append("%s: %s" % (type(error).__name__, error))


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def end(_signal: int, _frame: object) -> None:
        raise _TooLong

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv))

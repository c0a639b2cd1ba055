"""The start-up path: whether everything that the last run proved still stands.

This module runs before any other of ours, at every start of a notebook. It imports what the interpreter has loaded
anyway and three small modules more, and a test holds it to that. `state.store` writes what is read here.

A state file is lines of text, fields parted by tabs:

    nbprovision-state 5
    until   END BEGIN, or -           when the results stop holding, and when they began to; seconds since the epoch
    env     NAME  DIGEST              a variable that the playbook's templates, or a task, read; the empty name stands
                                      for the start of the machine
    stat    PATH  IDENTITY            os.stat, links followed; IDENTITY is "-" for a missing path
    lstat   PATH  IDENTITY            os.lstat, where PATH is a link or missing
    content PATH  DIGEST              what was in PATH, a small file of the user's home: a restart takes it away, a task
                                      writes it again; compared only where the identity differs
    task    DIGEST  UNTIL  1,2,3,A=DIGEST  JSON    what the task was, its witnesses: paths by number, variables by name;
                                      what to report
    end     DIGEST                of all that stands before this line
"""

from __future__ import annotations

import fcntl
import os
import sys
import time

try:
    from _blake2 import blake2b  # hashlib would load OpenSSL for the same function
except ImportError:
    from hashlib import blake2b

from nbprovision import __version__
from nbprovision.system.places import this_start, tool_home

HEADER = "nbprovision-state 5"
_MOST = 1 << 26  # bytes of a state file; of a thousand tasks it has some hundred thousand
LOG_LIMIT = 2_000_000  # bytes, as in system.log

# Options that change neither what is described nor what is done about it, with the number of their values.
_NEUTRAL = {
    "--format": 1,
    "--lock-timeout": 1,
    "--deadline": 1,
    "--diff": 0,
    "-D": 0,
    "--exit-code": 0,
    "--check": 0,
    "-C": 0,
    "--home": 1,
}
# Options that change only what is checked or shown: they take the full path, but belong to the same state.
_ANEW = ("-v", "-vv", "-vvv", "--verbose", "--no-witness", "--list-tasks", "--list-tags", "--step")
# Options that are part of what is described: another value has another state file.
_SELECTING = {
    "--tags": 1,
    "-t": 1,
    "--skip-tags": 1,
    "-e": 1,
    "--extra-vars": 1,
    "--locked": 0,
    "--frozen": 0,
    "--bundle": 1,
}
# Options that need the plans of the tasks.
_PLANNED = ("--diff", "-D", "--tags", "-t", "--skip-tags")
# Variables that facts are read from, by the beginnings of their names.
_FACT_VARIABLES = (
    "HOME", "XDG_", "JUPYTER_", "CONDA_", "MAMBA_", "PIP_", "UV_", "NBPROVISION_", "SSL_CERT", "REQUESTS_CA",
    "CURL_CA", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "USER", "PATH",
)  # fmt: skip
# Of these, what no fact is read from: what a terminal sets, and what a lifecycle script says of its run.
_OTHER_VARIABLES = (
    "CONDA_PROMPT_MODIFIER", "CONDA_SHLVL", "CONDA_DEFAULT_ENV", "PIP_DISABLE_PIP_VERSION_CHECK",
    "NBPROVISION_BACKGROUND", "NBPROVISION_FALLBACK", "NBPROVISION_INSTANCE", "NBPROVISION_ON_FINISH",
    "NBPROVISION_PROVEN", "NBPROVISION_RELEASE", "NBPROVISION_RING", "NBPROVISION_SOURCE", "NBPROVISION_STARTED",
    "NBPROVISION_USER_PLAYBOOK", "NBPROVISION_VERSION", "NBPROVISION_WANTED", "NBPROVISION_WHY",
)  # fmt: skip


class Invocation:
    """A command line that the start-up path understands: a run of a playbook, and the form of its report.

    ``again`` means that witnesses are not enough for the request.
    """

    def __init__(self, playbook: str, home: str, selection: list[str], json: bool, check: bool, again: bool) -> None:
        self.playbook = playbook
        self.home = home
        self.selection = selection
        self.json = json
        self.check = check
        self.again = again

    @property
    def state_path(self) -> str:
        """The state file of this playbook with these options, variables, user and interpreter."""
        return state_path(self.home, self.playbook, self.selection, dict(os.environ))


def state_path(home: str, playbook: str, selection: list[str], env: dict[str, str]) -> str:
    """Name the state file; equal arguments give equal names.

    Args:
        home: The tool's home folder.
        playbook: The absolute path of the playbook.
        selection: The options that select tasks or set variables, as written on the command line.
        env: The environment variables.

    """
    key = [playbook, str(os.getuid()), sys.executable, sys.version, *selection]
    if any("@" in word for word in selection):
        key.append(os.getcwd())  # -e @FILE is relative to it
    key += [
        f"{name}={env[name]}"
        for name in sorted(env)
        if name.startswith(_FACT_VARIABLES) and name not in _OTHER_VARIABLES
    ]
    return f"{home}/state/{digest(chr(0).join(key))}.state"


def digest(text: str) -> str:
    """A short digest that identifies ``text``; secrets in it cannot be recovered."""
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def identity(status: os.stat_result) -> str:
    """The identity of a file or folder: what differs in any other state of it."""
    return (
        f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_size} {status.st_ino} {status.st_mode} {status.st_uid}"
    )


def parse(argv: list[str]) -> Invocation | None:
    """Understand ``argv`` if it is a plain run; None leaves it to the real command line."""
    if not argv or argv[0] != "run":
        return None
    playbook = home = bundle = ""
    selection: list[str] = []
    json = check = again = False
    words = iter(argv[1:])
    for word in words:
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if not word.startswith("-"):
            if playbook:
                return None
            playbook = word
            continue
        if word in _ANEW:
            again = True
            continue
        takes = _NEUTRAL.get(name, _SELECTING.get(name))
        if takes is None or (equals and not takes):
            return None
        if takes and not equals:
            value = next(words, "")
        if name == "--bundle":
            bundle = value
        if value == "@-":  # variables on standard input, which this path does not read
            return None
        if name in _SELECTING:
            selection += [name, value]
        elif name == "--format":
            json = value == "json"
            if value not in ("json", "text"):
                return None
        elif name == "--home":
            home = value
        elif name in ("--check", "-C"):
            check = True
        elif name in ("--lock-timeout", "--deadline") and not value.isdigit():
            return None
    home = os.path.abspath(home) if home else tool_home(os.environ)
    if bundle:
        folder = bundle_folder(home, os.path.abspath(bundle))
        try:
            playbook = f"{folder}/{os.readlink(folder + '/main')}" if not playbook else ""
        except OSError:
            return None
    if not playbook.isprintable() or not playbook:  # its name would reach the terminal as written
        return None
    return Invocation(os.path.abspath(playbook), home, selection, json, check, again)


def bundle_folder(home: str, bundle: str) -> str:
    """The folder in the tool's home for the playbook of a bundle, which ``main`` in it is a link to."""
    return f"{home}/bundles/{digest(bundle)}"


def read_lines(path: str) -> list[str]:
    """The lines of a state file.

    Raises:
        OSError: it is missing, not a file, another user's (who may have written anything), of another version,
            or damaged.

    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(handle, "rb") as stream:
        status = os.fstat(handle)
        if status.st_mode & 0o170000 != 0o100000:
            raise OSError(0, "it is not a file")
        if status.st_uid != os.getuid():
            raise OSError(0, f"it is user {status.st_uid}'s")
        if status.st_size > _MOST:
            raise OSError(0, "it is too large")
        content, _, digest = stream.read(status.st_size).rpartition(b"\nend\t")
    if not content.startswith(HEADER.encode() + b"\n"):
        raise OSError(0, "it is of another version, or cut short")
    if blake2b(content, digest_size=16).hexdigest().encode() != digest:
        raise OSError(0, "it is damaged")
    return content.decode("utf-8", "surrogateescape").split("\n")


def still_stands(lines: list[str]) -> bool:
    """Whether every line of a state file holds now."""
    stat, lstat, env = os.stat, os.lstat, os.environ
    for line in lines:
        kind, _, rest = line.partition("\t")
        if kind in ("stat", "lstat"):
            path, _, recorded = rest.partition("\t")
            try:
                status = stat(path) if kind == "stat" else lstat(path)
                now = identity(status)
            except OSError:
                now = "-"
            if now != recorded:
                return False
        elif kind == "until":
            end, _, begin = rest.partition("\t")
            if rest != "-" and not float(begin) <= time.time() < float(end):  # a clock that was set back proves nothing
                return False
        elif kind == "env":
            name, _, recorded = rest.partition("\t")
            value = env.get(name) if name else this_start()
            if ("-" if value is None else digest(value)) != recorded:
                return False
    return True


def try_witnesses(argv: list[str], started: float) -> int | None:
    """End a run here if all that it would prove is proven already.

    Args:
        argv: The command line without the program.
        started: ``time.perf_counter()`` at the start of the program.

    Returns:
        The exit status, or None when the full path must be taken.

    """
    invocation = parse(argv)
    if invocation is None or invocation.again:
        return None
    try:
        lines = read_lines(invocation.state_path)
        lock = os.open(invocation.home + "/lock", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        # The same lock that a full run takes by filelock; during a full run the state is changing.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if leftovers(invocation.home) or not still_stands(lines):
            return None
        _report(invocation, [line for line in lines if line.startswith("task\t")], time.perf_counter() - started)
    except (OSError, ValueError):
        return None
    finally:
        os.close(lock)
    return 0


def to_put_back(argv: list[str]) -> Invocation | None:
    """The command line, if `engine.after_restart` may carry it out; else None.

    Args:
        argv: The command line without the program.

    """
    invocation = parse(argv)
    if invocation is None or invocation.check or invocation.again or "NBPROVISION_BACKGROUND" in os.environ:
        return None
    if any(word.partition("=")[0] in _PLANNED for word in argv):
        return None
    return invocation if os.access(invocation.state_path[: -len("state")] + "effects", os.F_OK) else None


def leftovers(home: str) -> bool:
    """Whether something was killed, so that a full run has to clear up.

    A run leaves its journal then; an install of the tool itself, a slot without its marker.
    """
    access = os.access
    return access(home + "/journal", os.F_OK) or any(
        not access(home + slot + "/.complete", os.F_OK) and access(home + slot, os.F_OK)
        for slot in ("/venv.1", "/venv.2")
    )


def _report(invocation: Invocation, tasks: list[str], seconds: float) -> None:
    # The JSON of each task was made when it was recorded, so nothing has to be made (or json imported) now.
    entries = [line.split("\t", 4)[4] for line in tasks]
    skipped = sum('"status":"skipped"' in entry for entry in entries)
    ok = len(entries) - skipped
    counts = f'"ok": {ok}, "changed": 0, "skipped": {skipped}, "failed": 0, "deferred": 0'
    checked = '"check": true, ' if invocation.check else ""
    if os.environ.get("NBPROVISION_USER_PLAYBOOK") == invocation.playbook:  # the user's own: see report/activity.py
        checked += '"users": true, '
    _log(invocation, f'"status": "ok", {checked}"proof": "witness", "tasks": {len(entries)}, "seconds": {seconds:.4f}')
    if not invocation.check:
        _report_of_ring(invocation, f'{{"ok": {ok}, "skipped": {skipped}}}', seconds)
    if invocation.json:
        text = (
            f'{{"playbook": {_quoted(invocation.playbook)}, "status": "ok", '
            f'"check": {"true" if invocation.check else "false"}, "seconds": {seconds:.4f}, '
            f'"counts": {{{counts}}}, "tasks": [{", ".join(entries)}]}}\n'
        )
    else:
        # A run only compares root's tasks: engine.step.
        differing = sum('"drift: ' in entry for entry in entries)
        drift = f" but {differing} of root's tasks: render the script again" if differing else ""
        text = (
            f"ok: everything is as {invocation.playbook} describes it{drift} (witnessed; --no-witness looks again)\n"
            f"localhost : ok={ok} changed=0 skipped={skipped} failed=0 deferred=0 ({seconds:.3f} s)\n"
        )
    sys.stdout.write(text)
    sys.stdout.flush()


def _report_of_ring(invocation: Invocation, counts: str, seconds: float) -> None:
    """Write the report of an instance in a ring, as `report.ring` does."""
    ring, instance, wanted, release, why = (
        os.environ.get(f"NBPROVISION_{name}", "") for name in ("RING", "INSTANCE", "WANTED", "RELEASE", "WHY")
    )
    if not ring or not instance or not invocation.playbook.startswith(f"{invocation.home}/lifecycle/release"):
        return
    fields = [
        '"format": 1',
        f'"instance": {_quoted(instance)}',
        f'"ring": {_quoted(ring.rpartition("/")[2])}',
        f'"wanted": {_quoted(wanted) if wanted else "null"}',
        f'"release": {_quoted(release) if release else "null"}',
        f'"fallback": {_quoted(why)}',
        f'"tool": "{__version__}"',
        f'"time": {time.time():.3f}',
        f'"status": {4 if why else 0}',  # as bootstrap.sh ends
        f'"seconds": {seconds:.4f}',
        f'"counts": {counts}',
    ]
    path = invocation.home + "/instance-report.json"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        report = os.open(f"{path}.new", flags, 0o600)
        try:
            text = ("{" + ", ".join(fields) + "}\n").encode("utf-8", "replace")
            whole = os.write(report, text) == len(text)
        finally:
            os.close(report)
        if whole:
            os.replace(f"{path}.new", path)
    except OSError:  # the volume is full or read-only, which keeps no notebook from starting
        return


def _log(invocation: Invocation, fields: str) -> None:
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    line = f'{{"event": "run", "playbook": {_quoted(invocation.playbook)}, {fields}, "timestamp": "{stamp}"}}\n'
    path = invocation.home + "/log/nbprovision.log"
    try:
        log = os.open(
            path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600
        )
    except OSError:  # the volume is full or read-only, which keeps no notebook from starting
        return
    try:
        os.write(log, line.encode("utf-8", "replace"))
        if os.fstat(log).st_size > LOG_LIMIT:
            os.replace(path, path + ".1")
    except OSError:
        return
    finally:
        os.close(log)


def _quoted(text: str) -> str:
    """Return ``text`` as a JSON string; it only handles characters that are possible in a path."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and not "\ud800" <= c <= "\udfff" else f"\\u{ord(c):04x}" for c in text) + '"'

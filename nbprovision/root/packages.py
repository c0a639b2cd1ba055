"""Packages of the system by dnf or apt; which of them are installed, the package database says without a process.

Sources: dpkg(1), "package states"; apt-get(8); dnf(8), "install-n"; the table Name of rpm's SQLite database
(https://github.com/rpm-software-management/rpm/blob/master/lib/backend/sqlite.c).
"""

from __future__ import annotations

import functools
import os
import re
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from nbprovision.root import tools

_DPKG = "/var/lib/dpkg/status"
_UPDATES = "/var/lib/dpkg/updates"
_RPM = "/var/lib/rpm/rpmdb.sqlite"
_MOST = 64 << 20  # bytes of dpkg's database; that of a machine with 5,000 packages has 8 MiB
_HALF = re.compile(r"\nStatus: \S+ \S+ (?:half-|unpacked|triggers-)")
# A server that does not answer leaves time for the others; a changed file of settings stays without a question.
_APT = ("-y", "-o", "Dpkg::Use-Pty=0", "-o", "Dpkg::Options::=--force-confold", "-o", "Acquire::http::Timeout=15")
_DNF = ("-y", "-q", "--setopt=install_weak_deps=False", "--setopt=timeout=15")


def differences(wanted: dict[str, Any], root: str) -> list[str]:
    """Say which packages are missing, or are there and should not be.

    Args:
        wanted: ``packages``, ``state``, ``seconds``.
        root: The folder to take for ``/``.

    """
    word, right = ("install", "installed") if wanted["state"] == "present" else ("remove", "")
    return ["%s %s" % (word, name) for name in wanted["packages"] if state(name, root) != right]


def bring_about(wanted: dict[str, Any]) -> None:
    """Install or remove them; the scripts of a package that is removed stop its service first.

    Raises:
        Unreachable: no source of packages answers.

    """
    until = time.monotonic() + wanted["seconds"]
    names = [difference.split(" ")[1] for difference in differences(wanted, tools.ROOT)]
    present = wanted["state"] == "present"
    if _has_dpkg(tools.ROOT):
        _repair(until)
        _install(names, until) if present else _remove(names, until)
    elif present:  # exact names, no patterns
        _succeeded(_run(until, "dnf", *_DNF, "install-n", *names))
    else:  # refuses what other packages need
        _succeeded(_run(until, "rpm", "-e", "--", *names))


# --------------------------------------------------------------------------------------------------- the two databases


def state(name: str, root: str) -> str:
    """Return ``installed``, ``broken`` (its installation or removal was cut off), or nothing.

    Raises:
        Trouble: the machine has no package database that can be read.

    """
    if _has_dpkg(root):
        return _dpkg_state(name, root)
    installed = _in_rpm_database(name, root)
    return "installed" if (_asked_rpm(name, root) if installed is None else installed) else ""


def _has_dpkg(root: str) -> bool:
    return os.path.exists(tools.below(_DPKG, root)) and not os.path.exists(tools.below(_RPM, root))


def _dpkg_state(name: str, root: str) -> str:
    """Return the best state of a package: of several architectures, one that is installed counts."""
    states, text = [], _dpkg_database(root)
    head = "\nPackage: %s\n" % name
    at = text.find(head)
    while at >= 0:
        status = re.search(r"\nStatus: \S+ (\S+) (\S+)\n", text[at : text.find("\n\n", at) + 1])
        states.append(status.groups() if status else ("", ""))
        at = text.find(head, at + 1)
    if ("ok", "installed") in states:
        return "installed"
    return "broken" if any(word not in ("not-installed", "config-files", "") for _, word in states) else ""


def _dpkg_database(root: str) -> str:
    status = os.stat(tools.below(_DPKG, root))
    return _read_once(root, (status.st_ino, status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=1)
def _read_once(root: str, _identity: tuple[int, ...]) -> str:
    return "\n%s\n\n" % (tools.read(_DPKG, root, most=_MOST) or "")


def _in_rpm_database(name: str, root: str) -> bool | None:
    """Look into rpm's database; None where it cannot be read, or rpm has written it only in part."""
    path = tools.below(_RPM, root)
    try:
        if os.path.exists(path + "-wal") and os.path.getsize(path + "-wal"):
            return None
        database = sqlite3.connect(
            "file:%s?mode=ro&immutable=1" % path.replace("%", "%25").replace("?", "%3f"), uri=True
        )
        try:
            query = "SELECT 1 FROM Name WHERE key IN (?, ?) LIMIT 1"
            return database.execute(query, (name, name.encode())).fetchone() is not None
        finally:
            database.close()
    except (OSError, sqlite3.Error):
        return None


def _asked_rpm(name: str, root: str) -> bool:
    if root != tools.ROOT:
        raise tools.Trouble("the package database cannot be read")
    return tools.run([tools.program("rpm"), "-q", "--", name], 20).status == 0


# ----------------------------------------------------------------------------------------------------------------- apt


def _repair(until: float) -> None:
    """Complete what a dpkg that was killed has left, once no other one is at work."""
    journal = os.path.isdir(_UPDATES) and os.listdir(_UPDATES)
    while journal or _HALF.search(_dpkg_database(tools.ROOT)):
        ended = _run(until, "dpkg", "--force-confold", "--configure", "-a")
        if ended.status == 0 or "lock" not in ended.output:
            return  # what it could not complete, apt reports
        time.sleep(1)


def _install(names: Sequence[str], until: float) -> None:
    """Install packages; the lists of packages are fetched where they do not lead to them, as those of yesterday."""
    fetched = None
    if not all(_is_available(name, until) for name in names):
        fetched = _apt(until, "update")
        for name in names:
            if not _is_available(name, until):
                _succeeded(fetched)
                raise tools.Trouble("no source has the package %s" % name)
    argv = ("--no-install-recommends", "install", "--", *names)
    ended = _apt(until, *argv)
    if ended.status and fetched is None:
        _apt(until, "update")
        ended = _apt(until, *argv)
    _succeeded(ended)


def _remove(names: Sequence[str], until: float) -> None:
    """Remove packages and nothing else."""
    planned = _apt(until, "-s", "remove", "--", *names).output
    others = set(re.findall(r"^Remv (\S+)", planned, re.MULTILINE)) - set(names)
    if others:
        raise tools.Trouble("%s would go as well, and nothing is removed" % ", ".join(sorted(others)[:5]))
    _succeeded(_apt(until, "remove", "--", *names))


def _is_available(name: str, until: float) -> bool:
    """Whether a source has a package of exactly this name; apt takes others for patterns."""
    policy = _run(until, "apt-cache", "policy", "--", name).output
    others = set(re.findall(r"^(\S+):$", policy, re.MULTILINE)) - {name}
    return bool(policy) and not others and "Candidate: (none)" not in policy


def _apt(until: float, *words: str) -> tools.Ended:
    wait = max(1, until - time.monotonic() - 5)
    return _run(until, "apt-get", *_APT, "-o", "DPkg::Lock::Timeout=%d" % wait, *words)


def _run(until: float, name: str, *words: str) -> tools.Ended:
    left = until - time.monotonic()
    if left < 1:
        raise tools.Trouble("no time was left")
    return tools.run([tools.program(name), *words], left)


def _succeeded(ended: tools.Ended) -> None:
    """Raise what a program said last, if it failed; or that it reached no server."""
    output = ended.output
    unreachable = re.search(r"resolv|onnect|timed out|Failed to (?:fetch|download)|annot download", output)
    if ended.status or (unreachable and "Err:" in output):
        lines = [line for line in output.splitlines() if line[:2] in ("E:", "W:", "Er", "er")]
        text = " ".join((lines or output.splitlines() or ["it failed"])[-2:])
        raise tools.Unreachable(text) if unreachable else tools.Trouble(text)

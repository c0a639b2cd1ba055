"""What conda answers with ``--json``: their plan, their progress, their errors in words that help."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.machine import package_names
from nbprovision.model.errors import TaskFailed
from nbprovision.system.commands import Completed
from nbprovision.system.secrets import mask

_LONGEST = 3000  # characters of conda's own words


class Moved(msgspec.Struct, frozen=True):
    """A package that is fetched, linked or unlinked; conda tells less of one to link than of one to fetch."""

    name: str
    version: str = ""
    build_string: str = ""
    build: str = ""
    base_url: str | None = None
    channel: str | None = None
    dist_name: str = ""
    url: str = ""
    size: int = 0
    sha256: str = ""
    md5: str = ""
    depends: list[str] = []

    @property
    def home(self) -> str:
        """The URL of its channel."""
        return self.base_url or self.url.rpartition("/")[0].rpartition("/")[0] or self.channel or ""

    @property
    def file(self) -> str:
        """The name of its folder in a package cache."""
        return self.dist_name or f"{self.name}-{self.version}-{self.build_string or self.build}"


class Actions(msgspec.Struct, frozen=True):
    """What would be done, or was."""

    fetch: list[Moved] = msgspec.field(default_factory=list, name="FETCH")
    link: list[Moved] = msgspec.field(default_factory=list, name="LINK")
    unlink: list[Moved] = msgspec.field(default_factory=list, name="UNLINK")


class Reply(msgspec.Struct, frozen=True):
    """The last document that a command prints."""

    success: bool = False
    message: str = ""
    error: str = ""
    exception_name: str = ""
    caused_by: str = ""
    errors: list[Reply] = []  # of several the whole answer says no more than that there are several
    packages: Any = None
    actions: Actions = Actions()


class _Progress(msgspec.Struct, frozen=True):
    fetch: str
    progress: float
    maxval: float = 1


class Unsolvable(TaskFailed):
    """No set of packages is what was asked for; a question that asks for less may have an answer."""


def reply_of(output: str) -> Reply | None:
    """The last document in the output, None where there is none; documents are parted by a NUL."""
    for part in reversed(output.split("\0")):
        begin = part.find("{")
        if begin >= 0:
            try:
                reply = msgspec.json.decode(part[begin:].strip(), type=Reply)
            except msgspec.DecodeError:
                continue
            return reply.errors[0] if reply.errors else reply
    return None


def progress_of(text: str) -> tuple[str, float] | None:
    """Package and part done, of a document that tells how far a download is."""
    try:
        found = msgspec.json.decode(text.strip(), type=_Progress)
    except msgspec.DecodeError:
        return None
    return found.fetch, found.progress / (found.maxval or 1)


_UNSOLVABLE = re.compile(r"Unsatisfiable|SpecsConfigurationConflict")
_NOT_FOUND = re.compile(r"PackagesNotFound|ResolvePackageNotFound")
# libmamba's words for a name that no channel has.
_NOTHING_PROVIDES = re.compile(
    r"nothing provides (?:requested )?([A-Za-z0-9_.-]+)|(?:─ |package )([A-Za-z0-9_.-]+)\b[^\n]* does not exist"
)
_UNREACHABLE = re.compile(r"HTTPError|InvalidChannel|ChannelError|ChannelNotAllowed|SSLError|ProxyError|Offline|Conn")
_DENIED = re.compile(r"NotWritable|NoWritable")


def failure(doing: str, done: Completed, reply: Reply | None, prefix: Path) -> TaskFailed:
    """A failed command as an error with a cause and a cure.

    Args:
        doing: What failed, where nothing better can be said.
        done: The command.
        reply: What it answered.
        prefix: The environment.

    """
    if reply is not None:
        kind, said = reply.exception_name, (reply.message or reply.error).strip()
    else:
        kind, said = _last_words(done.errors)
    said = said or done.output.strip() or f"conda ended with {done.status}"
    cause = mask(said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ...")
    if "tos" in kind.lower() or "Terms of Service" in said:
        return TaskFailed(
            "a channel has terms of service that nobody on this machine has accepted",
            cause=cause,
            cure="read them; then accept them by `conda tos accept --override-channels --channel URL`, or name another "
            "channel, such as conda-forge",
        )
    if _UNSOLVABLE.search(kind):
        missing = (match[1] or match[2] for match in _NOTHING_PROVIDES.finditer(said))
        cure = package_names.first_advice(missing, "conda") or "loosen a spec"
        return Unsolvable("no set of packages satisfies all that is asked for", cause=cause, cure=cure)
    if _NOT_FOUND.search(kind):
        names = [str(one) for one in reply.packages] if reply and isinstance(reply.packages, list) else []
        plain = all(re.fullmatch(r"[A-Za-z0-9_.-]+", one) for one in names)
        which = ", ".join(f"'{one}'" if plain else one for one in names)
        return TaskFailed(
            f"no channel has {'a package ' if plain else ''}{which or 'that is asked for'}",
            cause=cause,
            cure=package_names.first_advice(map(_name_in, names), "conda")
            or "correct the name or the version, or name the channel that has it",
        )
    if "InvalidMatchSpec" in kind or "InvalidSpec" in kind or "InvalidVersionSpec" in kind:
        return TaskFailed(
            "a spec is no match spec", cause=cause, cure="write it as conda does: name, name=1.2, name>=1"
        )
    if kind == "NoSpaceLeftError" or "No space left" in said or "Errno 28" in said:
        cure = "the disk is full: `nbprovision clean --dry-run` says what caches and leftovers take"
        return TaskFailed(doing, cause=cause, cure=cure)
    if _UNREACHABLE.search(kind):
        return TaskFailed("cannot read a channel", cause=cause, cure=_reach(said))
    return TaskFailed(doing, cause=f"conda says {kind}: {cause}" if kind else cause, cure=_cure(kind, said, prefix))


def _name_in(spec: str) -> str:
    found = re.match(r"(?:[^:\[\]]+::)?([A-Za-z0-9_.-]+)", spec)
    return found[1] if found else spec


def _last_words(errors: str) -> tuple[str, str]:
    """Name and words of what conda did not see coming, from its traceback; else all that it complained of.

    Of several the last one of conda's own counts: of a spec that is none it cannot tell in JSON (26.7.1), and dies of
    that.
    """
    found = re.findall(r"^conda\.[a-z_.]+\.([A-Za-z]+): (.*)$", errors, re.MULTILINE)
    return found[-1] if found else ("", errors.strip())


def _reach(said: str) -> str:
    if "401" in said or "403" in said:
        return "the channel asks for credentials: the built-in engine takes them in its URL"
    if "file://" in said or "404" in said:
        return "correct the channel's name, URL or path, or build it first by ensure_conda_channel"
    return "look at the network and the proxy (https_proxy), and at ssl_verify where the certificate is the matter"


def _cure(kind: str, said: str, prefix: Path) -> str:
    if _DENIED.search(kind) or "Permission denied" in said:
        return f"look at who may write to {prefix} and to conda's package cache (pkgs_dirs)"
    if kind == "LockError":
        return "another conda is at work here: let it end, and run again"
    if kind == "EnvironmentIsFrozenError":
        return "the environment is marked as frozen (conda-meta/frozen): leave it alone, or remove the mark"
    if kind in ("DirectoryNotACondaEnvironmentError", "EnvironmentLocationNotFound"):
        return f"remove {prefix}, or give another prefix"
    if kind == "CorruptedEnvironmentError":
        return "run it once with the built-in engine, which mends torn records (leave `engine` out)"
    return "run again: what is done stays done; or leave `engine` out, for the built-in one"

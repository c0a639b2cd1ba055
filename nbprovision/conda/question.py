"""A question to the machine's own conda: what it is told to install and to keep, and its answer with ``--json``."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.conda import bookkeeping
from nbprovision.conda.engine import UNSOLVABLE, Attempt, Package, Query
from nbprovision.conda.health import Details
from nbprovision.conda.requested import unneeded_packages
from nbprovision.conda.specs import parse, satisfied
from nbprovision.machine import network, package_names
from nbprovision.machine.environments import META, CondaRecord
from nbprovision.model.errors import TaskFailed
from nbprovision.system.commands import Completed
from nbprovision.system.files import make_folder, read_text, temporary_folder
from nbprovision.system.secrets import mask

if TYPE_CHECKING:
    from nbprovision.conda.conda_command import CondaCommand
    from nbprovision.machine.machine import Machine


class Question:
    """One attempt, as conda understands it: what it is told to install, to keep to, and what it finds."""

    def __init__(
        self,
        conda: CondaCommand,
        machine: Machine,
        query: Query,
        attempt: Attempt,
        records: list[CondaRecord],
        details: dict[str, Details],
        unlocked: set[str],
    ) -> None:
        self.conda = conda
        self.machine = machine
        self.attempt = attempt
        self.records = records
        self.details = details
        self.variables = query.variables
        self.channels = query.channels
        current: set[str] = set()
        missing: set[str] = set()
        self.named: list[str] = []
        self.held: list[str] = list(attempt.keep)
        for text in attempt.specs:
            spec = parse(text)
            if spec is None:
                raise TaskFailed(
                    f"'{text}' is not a match spec",
                    cause="conda's form has a name, then a version and a build",
                    cure="write it as conda does: name, name=1.2",
                )
            there = satisfied(spec, records, machine.conda.condarc)
            (current if there else missing).add(spec.name)
            (self.held if there and spec.name not in unlocked else self.named).append(text)
        self.newest = bool(current & unlocked - missing)
        told = {spec.name for text in self.named for spec in [parse(text)] if spec is not None and spec.rest}
        self.named = [text for text in dict.fromkeys(self.named) if text not in told]

    def answer(self) -> tuple[Package, ...]:
        """All packages that there will be.

        Raises:
            Unsolvable: there is no answer.
            NetworkFailed: a channel cannot be reached, nor has it been kept.
            TaskFailed: the channels cannot be read, ...

        """
        moved = Reply(success=True)
        if self.named:
            moved = network.persistently(self.machine, lambda cached_only: self._ask(offline_words(cached_only)))
        coming = {one.name: one for one in moved.actions.link}
        leaving = {one.name for one in moved.actions.unlink} - coming.keys()
        packages = {
            name: _as_installed(one) for name, one in self.details.items() if name not in coming and name not in leaving
        }
        fetched = {one.name: one for one in moved.actions.fetch}
        for name, one in coming.items():
            packages[name] = self._package(one, fetched.get(name))
        return tuple(packages[name] for name in sorted(self._needed(packages)))

    def _ask(self, offline: Sequence[str]) -> Reply:
        with self.shadow(self.records) as shadow:
            return self.conda.run(
                self.machine,
                [*self.install_words(shadow), "--dry-run", "--quiet", *offline, *self.words()],
                self.environment([*self.attempt.constraints, *self._pinned()]),
                doing="no set of packages was found",
                prefix=shadow,
                channels=self.channels,
            )

    @contextlib.contextmanager
    def shadow(self, records: Iterable[CondaRecord]) -> Iterator[Path]:
        """A folder that conda takes for an environment with these packages, and in which nothing can be harmed."""
        with temporary_folder(self.machine.cache / "shadow") as shadow:
            make_folder(shadow / META)
            for record in records:
                os.symlink(record.path, shadow / META / record.path.name)
            bookkeeping.append_history(
                self.machine.conda, shadow, self.details.values(), specs=list(dict.fromkeys(self.held))
            )
            yield shadow

    def _pinned(self) -> list[str]:
        return [exactly(self.details[name]) for name in self.attempt.pinned if name in self.details]

    def install_words(self, prefix: Path) -> list[str]:
        """The command, up to its options."""
        channels = [word for url in self.channels for word in ("-c", url)]
        return [
            *("install", "--json", "--yes", "--prefix", str(prefix)),
            *("--override-channels", *channels, *self._priority()),
            *(["--update-specs"] if self.newest else []),  # what is installed must not keep an older one in place
        ]

    def _priority(self) -> list[str]:
        """A channel that a spec names need not be the preferred one, and strictly conda would not look there."""
        named = any(spec is not None and spec.channel for spec in map(parse, [*self.named, *self.held]))
        return [] if named else ["--strict-channel-priority"]

    def words(self) -> list[str]:
        """The specs; one that ends with `conda` last: `%conda` takes what stands before a blank after it for a path."""
        return sorted(self.named, key=lambda text: text.endswith("conda"))

    def environment(self, pins: Iterable[str]) -> dict[str, str]:
        """Environment variables that hold packages to specs."""
        own = self.machine.env.get("CONDA_PINNED_PACKAGES", "")
        texts = list(dict.fromkeys([*filter(None, own.split("&")), *pins]))
        variables = {**self.variables, "CONDA_CHANNEL_PRIORITY": "strict" if self._priority() else "flexible"}
        return {**variables, "CONDA_PINNED_PACKAGES": "&".join(texts)} if texts else variables

    def _package(self, one: Moved, fetched: Moved | None) -> Package:
        before = self.details.get(one.name)
        order = 0
        if before is not None and before.version != one.version:
            order = _order(before.version, one.version)
        return Package(
            name=one.name,
            version=one.version,
            build=one.build_string or one.build,
            channel=one.home,
            size=(fetched or one).size,
            sha256=(fetched or one).sha256,
            md5=(fetched or one).md5,
            order=order,
            depends=(fetched or one).depends or self._cached_depends(one),
            url=(fetched or one).url,
        )

    def _cached_depends(self, one: Moved) -> list[str]:
        """What a package needs that conda has in its cache: its answer does not tell."""
        for folder in self.machine.conda.pkgs_dirs:
            text = read_text(folder / one.file / "info/index.json")
            if text is not None:
                return msgspec.json.decode(text, type=_Index).depends
        return []

    def _needed(self, packages: Mapping[str, Package]) -> set[str]:
        """Names without those that are neither asked for nor needed by what is: the built-in engine leaves them out."""
        texts = [*self.attempt.specs, *self.attempt.keep]
        asked = [spec.name for spec in map(parse, texts) if spec is not None]
        graph = {
            name: Details(name, one.version, one.build, depends=one.depends or self._installed_depends(name))
            for name, one in packages.items()
        }
        return set(packages) - set(unneeded_packages(graph, [*asked, *self.attempt.pinned]))

    def _installed_depends(self, name: str) -> list[str]:
        return self.details[name].depends if name in self.details else []


class _Index(msgspec.Struct):
    depends: list[str] = []


def _as_installed(one: Details) -> Package:
    return Package(
        one.name, one.version, one.build, one.channel, sha256=one.sha256 or "", md5=one.md5 or "", depends=one.depends
    )


def exactly(one: Details | Package) -> str:
    """A spec that only this build of a package meets."""
    return f"{one.name}=={one.version}={one.build}"


def offline_words(cached_only: bool) -> list[str]:
    """The option by which conda asks no server."""
    return ["--offline"] if cached_only else []


def _order(before: str, after: str) -> int:
    try:
        from rattler import Version
        from rattler.exceptions import InvalidVersionError
    except ImportError:
        return 1  # most changes lead upwards
    try:
        return 1 if Version(after) > Version(before) else -1
    except InvalidVersionError:
        return 1


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
        return Unsolvable(UNSOLVABLE, cause=cause, cure=cure)
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
            "one of the specs is not a match spec", cause=cause, cure="write it as conda does: name, name=1.2, name>=1"
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

"""One attempt of a query by the machine's own conda: the arguments, and the answer with ``--json``."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.conda import bookkeeping
from nbprovision.conda.query import UNSOLVABLE, Attempt, Package, Query
from nbprovision.conda.records import Details
from nbprovision.conda.requested import unneeded_packages
from nbprovision.conda.specs import Spec, parse, satisfied
from nbprovision.machine import network, package_names
from nbprovision.machine.environments import META, CondaRecord
from nbprovision.model.errors import TaskFailed
from nbprovision.system.commands import Completed
from nbprovision.system.files import make_folder, read_text, temporary_folder
from nbprovision.system.secrets import mask

if TYPE_CHECKING:
    from nbprovision.conda.conda_command import CondaCommand
    from nbprovision.machine.machine import Machine


class CommandAttempt:
    """One attempt of a query, as arguments of conda.

    Args:
        conda: The command.
        machine: The machine.
        query: The query.
        attempt: The attempt.
        records: The installed packages.
        details: The contents of their records.
        unlocked: Names of packages that may change freely.

    Raises:
        TaskFailed: a spec is invalid.

    """

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
        named: list[Spec] = []
        self.held: list[str] = list(attempt.keep)
        for text in attempt.specs:
            spec = parse(text)
            if spec is None:
                raise TaskFailed(
                    f"'{text}' is not a match spec",
                    cause="conda's form has a name, then a version and a build",
                    cure="write it as conda does: name, name=1.2",
                )
            is_current = satisfied(spec, records, machine.conda.condarc)
            (current if is_current else missing).add(spec.name)
            if is_current and spec.name not in unlocked:
                self.held.append(text)
            else:
                named.append(spec)
        self.newest = bool(current & unlocked - missing)
        limited = {spec.name for spec in named if spec.rest}
        self.named = list(dict.fromkeys(spec.text for spec in named if spec.text not in limited))

    def answer(self) -> tuple[Package, ...]:
        """All packages that the environment will contain.

        Raises:
            Unsolvable: there is no solution.
            NetworkFailed: a channel cannot be reached and is not cached.
            TaskFailed: another failure, such as an invalid channel.

        """
        actions = Actions()
        if self.named:
            actions = network.retry(self.machine, lambda cached_only: self._solve(offline_words(cached_only)))
        coming = {moved.name: moved for moved in actions.link}
        changed = {moved.name for moved in actions.unlink} | coming.keys()
        packages = {name: _as_installed(details) for name, details in self.details.items() if name not in changed}
        fetched = {moved.name: moved for moved in actions.fetch}
        for name, moved in coming.items():
            packages[name] = self._package(moved, fetched.get(name, moved))
        return tuple(packages[name] for name in sorted(self._needed(packages)))

    def _solve(self, offline: Sequence[str]) -> Actions:
        with self.shadow(self.records) as shadow:
            return self.conda.run(
                self.machine,
                [*self.install_words(shadow), "--dry-run", "--quiet", *offline, *self.words()],
                self.environment([*self.attempt.constraints, *self._pinned()]),
                doing="conda found no solution",
                prefix=shadow,
                channels=self.channels,
            ).actions

    @contextlib.contextmanager
    def shadow(self, records: Iterable[CondaRecord]) -> Iterator[Path]:
        """A folder that conda takes for an environment with these packages, without their files."""
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
        """The arguments without the specs."""
        channels = [word for url in self.channels for word in ("-c", url)]
        return [
            *("install", "--json", "--yes", "--prefix", str(prefix)),
            *("--override-channels", *channels, *self._priority()),
            *(["--update-specs"] if self.newest else []),  # else an installed package stays at an older version
        ]

    def _priority(self) -> list[str]:
        """A spec may name a channel that is not the preferred one, which conda would ignore with strict priority."""
        named = any(spec is not None and spec.channel for spec in map(parse, [*self.named, *self.held]))
        return [] if named else ["--strict-channel-priority"]

    def words(self) -> list[str]:
        """The specs; one that ends with `conda` comes last, because `%conda` takes text before `conda ` for a path."""
        return sorted(self.named, key=lambda text: text.endswith("conda"))

    def environment(self, pins: Iterable[str]) -> dict[str, str]:
        """Environment variables that pin packages."""
        own = self.machine.env.get("CONDA_PINNED_PACKAGES", "")
        texts = list(dict.fromkeys([*filter(None, own.split("&")), *pins]))
        variables = {**self.variables, "CONDA_CHANNEL_PRIORITY": "strict" if self._priority() else "flexible"}
        return {**variables, "CONDA_PINNED_PACKAGES": "&".join(texts)} if texts else variables

    def _package(self, linked: Moved, fetched: Moved) -> Package:
        before = self.details.get(linked.name)
        order = 0
        if before is not None and before.version != linked.version:
            order = _order(before.version, linked.version)
        return Package(
            name=linked.name,
            version=linked.version,
            build=linked.build_string or linked.build,
            channel=linked.home,
            size=fetched.size,
            sha256=fetched.sha256,
            md5=fetched.md5,
            order=order,
            depends=fetched.depends or self._cached_depends(linked),
            url=fetched.url,
        )

    def _cached_depends(self, linked: Moved) -> list[str]:
        """The dependencies of a package in conda's cache: its answer lacks them."""
        for folder in self.machine.conda.pkgs_dirs:
            text = read_text(folder / linked.file / "info/index.json")
            if text is not None:
                return msgspec.json.decode(text, type=_Index).depends
        return []

    def _needed(self, packages: Mapping[str, Package]) -> set[str]:
        """The requested packages and their dependencies: the built-in engine leaves out all others too."""
        specs = map(parse, [*self.attempt.specs, *self.attempt.keep])
        requested = [*(spec.name for spec in specs if spec is not None), *self.attempt.pinned]
        graph = {}
        for name, package in packages.items():
            installed = self.details[name].depends if name in self.details else []
            graph[name] = Details(name, package.version, package.build, depends=package.depends or installed)
        return packages.keys() - unneeded_packages(graph, requested)


class _Index(msgspec.Struct):
    depends: list[str] = []


def _as_installed(details: Details) -> Package:
    return Package(
        details.name,
        details.version,
        details.build,
        details.channel,
        sha256=details.sha256 or "",
        md5=details.md5 or "",
        depends=details.depends,
    )


def exactly(package: Details | Package) -> str:
    """A spec that only this build of a package satisfies."""
    return f"{package.name}=={package.version}={package.build}"


def offline_words(cached_only: bool) -> list[str]:
    """The option with which conda uses no network."""
    return ["--offline"] if cached_only else []


def _order(before: str, after: str) -> int:
    try:
        from rattler import Version
        from rattler.exceptions import InvalidVersionError
    except ImportError:
        return 1  # most changes are upgrades
    try:
        return 1 if Version(after) > Version(before) else -1
    except InvalidVersionError:
        return 1


_MAX_MESSAGE = 3000  # characters of conda's own message


class Moved(msgspec.Struct, frozen=True):
    """A package that is fetched, linked or unlinked; conda reports fewer fields of one to link than of one to fetch."""

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
    """The actions of a command."""

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
    errors: list[Reply] = []  # with several errors the outer fields only report that there are several
    packages: Any = None
    actions: Actions = Actions()


class _Progress(msgspec.Struct, frozen=True):
    fetch: str
    progress: float
    maxval: float = 1


class Unsolvable(TaskFailed):
    """The requested packages are incompatible; another attempt may have a solution."""


def reply_of(output: str) -> Reply | None:
    """The last document in the output, None without one; a NUL separates documents."""
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
    """Package and fraction of a document about the progress of a download; None for another document."""
    try:
        download = msgspec.json.decode(text.strip(), type=_Progress)
    except msgspec.DecodeError:
        return None
    return download.fetch, download.progress / (download.maxval or 1)


_UNSOLVABLE = re.compile(r"Unsatisfiable|SpecsConfigurationConflict")
_NOT_FOUND = re.compile(r"PackagesNotFound|ResolvePackageNotFound")
# libmamba's messages for a name that no channel has.
_NOTHING_PROVIDES = re.compile(
    r"nothing provides (?:requested )?([A-Za-z0-9_.-]+)|(?:─ |package )([A-Za-z0-9_.-]+)\b[^\n]* does not exist"
)
_UNREACHABLE = re.compile(r"HTTPError|InvalidChannel|ChannelError|ChannelNotAllowed|SSLError|ProxyError|Offline|Conn")
_DENIED = re.compile(r"NotWritable|NoWritable")


def failure(doing: str, done: Completed, reply: Reply | None, prefix: Path) -> TaskFailed:
    """The error for a failed command, with a cause and a cure.

    Args:
        doing: The message, unless the failure has a more precise one.
        done: The command.
        reply: Its answer.
        prefix: The environment.

    """
    if reply is not None:
        kind, said = reply.exception_name, (reply.message or reply.error).strip()
    else:
        kind, said = _last_words(done.errors)
    said = said or done.output.strip() or f"conda ended with {done.status}"
    cause = mask(said if len(said) <= _MAX_MESSAGE else f"{said[:_MAX_MESSAGE]} ...")
    if "tos" in kind.lower() or "Terms of Service" in said:
        return TaskFailed(
            "a channel's terms of service have not been accepted on this machine",
            cause=cause,
            cure="read them; then accept them by `conda tos accept --override-channels --channel URL`, or name another "
            "channel, such as conda-forge",
        )
    if _UNSOLVABLE.search(kind):
        missing = (match[1] or match[2] for match in _NOTHING_PROVIDES.finditer(said))
        cure = package_names.first_advice(missing, "conda") or "loosen a spec"
        return Unsolvable(UNSOLVABLE, cause=cause, cure=cure)
    if _NOT_FOUND.search(kind):
        names = [str(name) for name in reply.packages] if reply and isinstance(reply.packages, list) else []
        plain = all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in names)
        listed = ", ".join(f"'{name}'" if plain else name for name in names)
        return TaskFailed(
            f"no channel has {'a package ' if plain else ''}{listed or 'the requested packages'}",
            cause=cause,
            cure=package_names.first_advice(map(_name_in, names), "conda")
            or "correct the name or the version, or name the channel that has it",
        )
    if "InvalidMatchSpec" in kind or "InvalidSpec" in kind or "InvalidVersionSpec" in kind:
        return TaskFailed(
            "a spec is not a match spec", cause=cause, cure="write it as conda does: name, name=1.2, name>=1"
        )
    if kind == "NoSpaceLeftError" or "No space left" in said or "Errno 28" in said:
        cure = "the disk is full: `nbprovision clean --dry-run` shows the size of caches and leftovers"
        return TaskFailed(doing, cause=cause, cure=cure)
    if _UNREACHABLE.search(kind):
        return TaskFailed("cannot read a channel", cause=cause, cure=_reach(said))
    return TaskFailed(doing, cause=f"conda says {kind}: {cause}" if kind else cause, cure=_cure(kind, said, prefix))


def _name_in(spec: str) -> str:
    match = re.match(r"(?:[^:\[\]]+::)?([A-Za-z0-9_.-]+)", spec)
    return match[1] if match else spec


def _last_words(errors: str) -> tuple[str, str]:
    """Name and message of conda's last exception in a traceback; without one, no name and the whole text.

    conda (26.7.1) cannot report an invalid spec in JSON, and fails with a second exception.
    """
    exceptions = re.findall(r"^conda\.[a-z_.]+\.([A-Za-z]+): (.*)$", errors, re.MULTILINE)
    return exceptions[-1] if exceptions else ("", errors.strip())


def _reach(said: str) -> str:
    if "401" in said or "403" in said:
        return "the channel needs credentials: the built-in engine takes them in its URL"
    if "file://" in said or "404" in said:
        return "correct the channel's name, URL or path, or build it first by ensure_conda_channel"
    return "check the network and the proxy (https_proxy), and ssl_verify for a problem of the certificate"


def _cure(kind: str, said: str, prefix: Path) -> str:
    if _DENIED.search(kind) or "Permission denied" in said:
        return f"check who may write to {prefix} and to conda's package cache (pkgs_dirs)"
    if kind == "LockError":
        return "another conda is running: wait for its end, then run again"
    if kind == "EnvironmentIsFrozenError":
        return "the environment is marked as frozen (conda-meta/frozen): use another one, or remove the mark"
    if kind in ("DirectoryNotACondaEnvironmentError", "EnvironmentLocationNotFound"):
        return f"remove {prefix}, or give another prefix"
    if kind == "CorruptedEnvironmentError":
        return "run it once with the built-in engine, which repairs torn records (leave `engine` out)"
    return "run again: completed work is kept; or leave `engine` out to use the built-in one"

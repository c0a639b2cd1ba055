"""A question to the machine's own conda: what it is told to install, what to keep, and what it answers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from nbprovision.conda import prefix as conda_prefix
from nbprovision.conda import unasked
from nbprovision.conda.health import Details
from nbprovision.conda.rattler_messages import Attempt, Package, Query
from nbprovision.conda.reply import Moved, Reply
from nbprovision.conda.specs import parse, satisfied
from nbprovision.machine import network
from nbprovision.machine.environments import META, CondaRecord
from nbprovision.model.errors import TaskFailed
from nbprovision.system.files import make_folder, read_text, temporary_folder

if TYPE_CHECKING:
    from pathlib import Path

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
                    f"'{text}' is no match spec",
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
            conda_prefix.append_history(
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
        return set(packages) - set(unasked.packages(graph, [*asked, *self.attempt.pinned]))

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

"""The machine's own conda or mamba, by command: the other conda engine.

It answers the questions that are put to the built-in engine. A question is put to a shadow of the environment, a folder
that holds nothing but the records of what is to stay and a history that says what was asked for: so a look changes
nothing, and what is broken or torn in the environment itself stops nobody. The command and its output:
https://docs.conda.io/projects/conda/en/stable/commands/install.html
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.backends import conda_prefix, conda_room, rattler
from nbprovision.backends.conda_reply import Moved, Reply, Unsolvable, failure, progress_of, reply_of
from nbprovision.backends.rattler_messages import Attempt, Package, Query
from nbprovision.facts import conda_health, unasked
from nbprovision.facts.conda import META, CondaRecord, installed
from nbprovision.facts.conda_health import Details
from nbprovision.facts.conda_specs import compare, parse, satisfied
from nbprovision.model.errors import DEFECT, REPORT, TaskFailed
from nbprovision.system import commands
from nbprovision.system.files import make_folder, read_text, remove, temporary_folder, write_atomically
from nbprovision.system.reading import read_json

if TYPE_CHECKING:
    from nbprovision.facts.machine import Machine

# What would lead conda's own Python astray, and what made older ones give new folders to another user.
_NOT_INHERITED = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONINSPECT", "SUDO_UID", "SUDO_GID", "SUDO_USER")
# Nobody is there to answer, and nothing but what is asked for shall happen. Terms of service are not among it: to
# accept them is the user's own affair.
_QUIET = {
    "CONDA_ADD_PIP_AS_PYTHON_DEPENDENCY": "false",
    "CONDA_AUTO_UPDATE_CONDA": "false",
    "CONDA_NOTIFY_OUTDATED_CONDA": "false",
    "CONDA_NUMBER_CHANNEL_NOTICES": "0",
    "CONDA_REPORT_ERRORS": "false",
}


class CondaCommand:
    """conda, or mamba, of this machine.

    Args:
        name: ``conda`` or ``mamba``.
        executable: The command.

    """

    def __init__(self, name: str, executable: Path) -> None:
        self.name = name
        self.executable = executable

    @classmethod
    def found(cls, machine: Machine, name: str) -> CondaCommand:
        """The command of that name: of the installation in use, else on the PATH.

        Raises:
            TaskFailed: there is none.

        """
        conda = machine.conda.executable
        places = [conda.with_name(name)] if conda is not None else []
        named = machine.env.get("MAMBA_EXE", "") if name == "mamba" else ""
        places += [Path(named)] if os.path.isabs(named) else []
        places += [base / "bin" / name for base in machine.conda.installations]
        places += [Path(folder) / name for folder in machine.env.get("PATH", "").split(":") if os.path.isabs(folder)]
        for place in places:
            if place.is_file() and os.access(place, os.X_OK):
                return cls(name, place)
        looked = ", ".join(dict.fromkeys(str(place.parent) for place in places)) or "no folder: PATH is empty"
        raise TaskFailed(
            f"there is no {name} on this machine",
            cause=f"looked in {looked}",
            cure="leave `engine` out: the built-in one needs no conda; or say where conda is by CONDA_EXE",
        )

    def solve(self, machine: Machine, query: Query) -> CommandSolution:
        """Work out what an environment will hold; what is inconsistent conda works around by itself.

        Raises:
            TaskFailed: no answer, a channel that cannot be read, a spec that cannot be.

        """
        self._refuse(query)
        records = [_record(path) for path in query.installed]
        details = conda_health.all_details(records)
        failed = TaskFailed("nothing was asked of the solver", cause=DEFECT, cure=REPORT)
        free = set(query.unlocked)
        for number, attempt in enumerate(query.attempts):
            for names in (free, free | {"python"}) if _lets_python_go(attempt, details, free) else (free,):
                question = _Question(self, machine, query, attempt, records, details, names)
                try:
                    return CommandSolution(question, number, question.answer())
                except Unsolvable as error:
                    failed = error
        raise failed

    def evict(self, machine: Machine, source: Path) -> None:
        """Take a harmed package from the cache, so that it is unpacked anew; a folder elsewhere is left alone."""
        if source.parent in machine.conda.pkgs_dirs:
            remove(source)
        else:
            rattler.evict(machine, source)

    def run(
        self, machine: Machine, words: Sequence[str], variables: Mapping[str, str], *, doing: str, prefix: Path
    ) -> Reply:
        """Run a command that answers in JSON.

        Raises:
            TaskFailed: with conda's own reason, and what to do about it.

        """

        def heard(text: str) -> None:
            found = progress_of(text)
            if found is not None:
                machine.progress(f"{prefix.name}: fetching {found[0]}", found[1], 1)

        env = {key: value for key, value in machine.env.items() if key not in _NOT_INHERITED}
        done = commands.run(
            [self.executable, *words],
            env={**env, **_QUIET, **variables},
            timeout=machine.timeout,
            accept=range(-64, 256),
            on_output=heard,
            failure=doing,
        )
        reply = reply_of(done.output)
        # What it says counts, not how it ended: a solver's library may crash an interpreter that has done its work.
        if reply is not None and reply.success:
            return reply
        raise failure(self.name, doing, done, reply, prefix)

    def _refuse(self, query: Query) -> None:
        if any(rattler.take_credentials(url)[1] for url in query.channels):
            raise TaskFailed(
                f"a channel with a password or a token is not for {self.name}",
                cause="it would have to be told on the command line, where everybody on this machine can read it",
                cure="leave `engine` out: the built-in one is told in secret",
            )
        if query.other_builds:
            raise TaskFailed(
                f"{self.name} does not exchange builds for another CUDA",
                cause="only the built-in engine looks for such builds by itself",
                cure="leave `engine` out, or name the builds",
            )


class _Question:
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
            TaskFailed: the channels cannot be read, ...

        """
        moved = self._ask() if self.named else Reply(success=True)
        coming = {one.name: one for one in moved.actions.link}
        leaving = {one.name for one in moved.actions.unlink} - coming.keys()
        packages = {
            name: _as_installed(one) for name, one in self.details.items() if name not in coming and name not in leaving
        }
        fetched = {one.name: one for one in moved.actions.fetch}
        for name, one in coming.items():
            packages[name] = self._package(one, fetched.get(name))
        return tuple(packages[name] for name in sorted(self._needed(packages)))

    def _ask(self) -> Reply:
        with temporary_folder(self.machine.cache / "shadow") as shadow:
            make_folder(shadow / META)
            for record in self.records:
                os.symlink(record.path, shadow / META / record.path.name)
            conda_prefix.append_history(
                self.machine.conda, shadow, self.details.values(), specs=list(dict.fromkeys(self.held))
            )
            return self.conda.run(
                self.machine,
                [*self.install_words(shadow), "--dry-run", "--quiet", *self.words()],
                self.environment([*self.attempt.constraints, *self._pinned()]),
                doing="no set of packages was found",
                prefix=shadow,
            )

    def _pinned(self) -> list[str]:
        return [_exactly(self.details[name]) for name in self.attempt.pinned if name in self.details]

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
        """Environment variables that hold packages to specs; conda and mamba read them from different ones."""
        own = self.machine.env.get("CONDA_PINNED_PACKAGES", "")
        texts = list(dict.fromkeys([*filter(None, own.split("&")), *pins]))
        variables = {**self.variables, "CONDA_CHANNEL_PRIORITY": "strict" if self._priority() else "flexible"}
        if not texts:
            return variables
        return {
            **variables,
            "CONDA_PINNED_PACKAGES": "&".join(texts),
            "MAMBA_PINNED_PACKAGES": ",".join(text for text in texts if "," not in text),
        }

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


class CommandSolution:
    """What an environment will hold, and the commands that bring it about.

    Attributes:
        attempt: Number of the attempt that had an answer.
        packages: All packages of the environment.

    """

    def __init__(self, question: _Question, attempt: int, packages: tuple[Package, ...]) -> None:
        self.attempt = attempt
        self.packages = packages
        self._question = question

    def install(
        self, machine: Machine, prefix: Path, *, requested: Iterable[str], reinstall: Iterable[str] = ()
    ) -> None:
        """Fetch and link; what is installed and not in the solution goes.

        conda's own revisions of the history are taken back at the end: the caller tells in one what was asked for.

        Args:
            machine: Hears the progress.
            prefix: The environment.
            requested: What users asked for, now and before: the records of the others lose the mention.
            reinstall: Names of packages to put in place anew.

        Raises:
            TaskFailed: what went wrong, with its cause and cure.

        """
        prefix = Path(os.path.abspath(prefix))
        history = prefix / META / "history"
        before = read_text(history)
        listed = prefix in machine.conda.registered
        self._tell_what_is_there(machine, prefix)
        there = {record.name: (record.version, record.build) for record in installed(prefix)}
        wanted = {one.name: (one.version, one.build) for one in self.packages}
        gone = sorted(there.keys() - wanted.keys())
        new = [name for name in wanted if there.get(name) != wanted[name]]
        again = sorted(name for name in reinstall if name in wanted and name not in new)
        if gone:
            self._remove(machine, prefix, gone)
        if new:
            machine.progress(f"{prefix.name}: linking", 0, len(new))
            self._install(machine, prefix, self._question.words())
        if again:
            self._install(machine, prefix, ["--force-reinstall", *again])
        machine.progress(f"{prefix.name}: linking", len(new), len(new))
        _note_requests(prefix, requested, {*new, *again})
        write_atomically(history, before or "")
        if not listed and not machine.conda.condarc.register_envs:
            conda_prefix.unregister(machine.conda, prefix)  # conda lists it whatever its configuration says

    def room(self, machine: Machine, prefix: Path) -> tuple[str, ...]:
        """What is to be fetched, in words, where that is worth a word."""
        return conda_room.note(prefix, self.packages, machine.conda.pkgs_dirs)

    def prepare(self, machine: Machine, prefix: Path) -> None:
        """Make sure that there is room; conda itself takes back what it cannot carry out to the end.

        Raises:
            NotBegun: there is none. Nothing was changed.

        """
        conda_room.require(prefix, self.packages, machine.conda.pkgs_dirs)

    def close(self) -> None:
        """Nothing waits."""

    def _tell_what_is_there(self, machine: Machine, prefix: Path) -> None:
        """Where the history is silent conda takes nothing for asked for, and might remove it."""
        records = installed(prefix)
        if conda_health.history_lacks(prefix, records):
            details = conda_health.all_details(records)
            specs = list(conda_health.requested(details).values()) or list(details)
            conda_prefix.append_history(machine.conda, prefix, details.values(), specs=specs)

    def _remove(self, machine: Machine, prefix: Path, names: list[str]) -> None:
        question = self._question
        force = "--force" if question.conda.name == "mamba" else "--force-remove"
        question.conda.run(
            machine,
            ["remove", "--json", "--yes", "--prefix", str(prefix), force, *names],
            question.variables,
            doing=f"packages could not be removed from {prefix}",
            prefix=prefix,
        )

    def _install(self, machine: Machine, prefix: Path, words: Sequence[str]) -> None:
        question = self._question
        question.conda.run(
            machine,
            [*question.install_words(prefix), *words],
            question.environment([*question.attempt.constraints, *map(_exactly, self.packages)]),
            doing=f"the packages could not be installed into {prefix}",
            prefix=prefix,
        )


class _Index(msgspec.Struct):
    depends: list[str] = []


def _lets_python_go(attempt: Attempt, details: dict[str, Details], unlocked: set[str]) -> bool:
    """Whether Python may get another minor version; conda gives it one only where it is told its name."""
    held = any(text.split()[0] == "python" for text in attempt.constraints) or "python" in attempt.pinned
    return "python" in details and "python" not in unlocked and not held


def _record(path: Path) -> CondaRecord:
    name, version, build = path.name.removesuffix(".json").rsplit("-", 2)
    return CondaRecord(name, version, build, path)


def _as_installed(one: Details) -> Package:
    return Package(
        one.name, one.version, one.build, one.channel, sha256=one.sha256 or "", md5=one.md5 or "", depends=one.depends
    )


def _exactly(one: Details | Package) -> str:
    return f"{one.name}=={one.version}={one.build}"


def _order(before: str, after: str) -> int:
    found = compare(after, before)
    if found is not None:
        return found
    from packaging.version import InvalidVersion, Version

    try:
        return 1 if Version(after) > Version(before) else -1
    except InvalidVersion:
        return 1  # conda's own order of such versions is not for us to repeat; most changes lead upwards


def _note_requests(prefix: Path, requested: Iterable[str], touched: set[str]) -> None:
    """Let the records say what users asked for: conda wrote down what it was told on the command line."""
    texts = {spec.name: spec.text for spec in map(parse, requested) if spec is not None}
    for record in installed(prefix):
        if record.name not in touched:
            continue
        document: dict[str, Any] = read_json(record.path)
        text = texts.get(record.name)
        if document.get("requested_spec", "None") != (text or "None"):
            document["requested_spec"] = text or "None"
            document["requested_specs"] = [text] if text else []
            write_atomically(record.path, msgspec.json.format(msgspec.json.encode(document), indent=2))

"""The other conda engine: the machine's own conda, by command.

It answers the same queries as the built-in engine. It solves in a shadow of the environment: a folder with only the
records of the packages that stay, and a history with the requests. Therefore a query changes nothing, and broken
packages or torn records do not stop it. The command and its output:
https://docs.conda.io/projects/conda/en/stable/commands/install.html
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.conda import bookkeeping, health, rattler
from nbprovision.conda.command_attempt import (
    CommandAttempt,
    Reply,
    Unsolvable,
    exactly,
    failure,
    offline_words,
    progress_of,
    reply_of,
)
from nbprovision.conda.package_urls import take_credentials
from nbprovision.conda.query import Attempt, ExactQuery, Package, Query
from nbprovision.conda.records import Details, all_details
from nbprovision.conda.solution import Solution
from nbprovision.conda.specs import parse
from nbprovision.machine import network
from nbprovision.machine.environments import META, CondaRecord, installed
from nbprovision.model.errors import DEFECT, REPORT, TaskFailed
from nbprovision.system import commands, trust
from nbprovision.system.files import own_temporary_files, read_text, remove, write_atomically
from nbprovision.system.reading import read_json
from nbprovision.system.secrets import mask

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

# Variables that mislead conda's own Python, or made older versions give new folders to another user.
_NOT_INHERITED = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONINSPECT", "SUDO_UID", "SUDO_GID", "SUDO_USER")
# conda asks no question and does only the requested work. The terms of service are not set here, because only the user
# may accept them.
_QUIET = {
    "CONDA_ADD_PIP_AS_PYTHON_DEPENDENCY": "false",
    "CONDA_AUTO_UPDATE_CONDA": "false",
    "CONDA_NOTIFY_OUTDATED_CONDA": "false",
    "CONDA_NUMBER_CHANNEL_NOTICES": "0",
    "CONDA_REPORT_ERRORS": "false",
}


class CondaCommand:
    """The conda of this machine.

    Args:
        executable: The command.

    """

    def __init__(self, executable: Path) -> None:
        self.executable = executable

    @classmethod
    def found(cls, machine: Machine) -> CondaCommand:
        """The command of the installation in use, else the one on the PATH.

        Raises:
            TaskFailed: this machine has no conda.

        """
        conda = machine.conda.executable
        places = [conda.with_name("conda")] if conda is not None else []
        places += [base / "bin/conda" for base in machine.conda.installations]
        places += [Path(folder) / "conda" for folder in machine.env.get("PATH", "").split(":") if os.path.isabs(folder)]
        for place in places:
            if place.is_file() and os.access(place, os.X_OK):
                return cls(place)
        looked = ", ".join(dict.fromkeys(str(place.parent) for place in places)) or "no folder, because PATH is empty"
        raise TaskFailed(
            "this machine has no conda",
            cause=f"looked in {looked}",
            cure="leave `engine` out to use the built-in one, or set CONDA_EXE to the path of conda",
        )

    def solve(self, machine: Machine, query: Query) -> CommandSolution:
        """Work out the packages that an environment will contain; conda ignores inconsistencies by itself.

        Raises:
            TaskFailed: there is no solution, a channel cannot be read, or a spec is invalid.

        """
        self._refuse(query)
        records = [_record(path) for path in query.installed]
        details = all_details(records)
        failed = TaskFailed("the solver got no query", cause=DEFECT, cure=REPORT)
        free = set(query.unlocked)
        for attempt in query.attempts:
            for names in (free, free | {"python"}) if _lets_python_go(attempt, details, free) else (free,):
                command = CommandAttempt(self, machine, query, attempt, records, details, names)
                try:
                    return CommandSolution(command, command.answer())
                except Unsolvable as error:
                    failed = error
        raise failed

    def exact(self, machine: Machine, query: ExactQuery) -> Solution:
        """Exact packages are not installed by conda.

        conda verifies them as well, but removes no other packages, and writes each of them into the history as
        requested in exactly this build.

        Raises:
            TaskFailed: always.

        """
        raise TaskFailed(
            "conda does not install from a lock",
            cause="only the built-in engine checks every package before it links the first one",
            cure="leave `engine` out",
        )

    def evict(self, machine: Machine, source: Path) -> None:
        """Remove a damaged package from the cache, so that it is unpacked again; a folder elsewhere stays."""
        if source.parent in machine.conda.pkgs_dirs:
            remove(source)
        else:
            rattler.evict(machine, source)

    def run(
        self,
        machine: Machine,
        words: Sequence[str],
        variables: Mapping[str, str],
        *,
        doing: str,
        prefix: Path,
        channels: Sequence[str] = (),
    ) -> Reply:
        """Run a command that answers in JSON.

        Args:
            machine: The machine, for environment variables and the progress.
            words: The command's arguments.
            variables: Additional environment variables.
            doing: The message of the error, unless the failure has a more precise one.
            prefix: The environment.
            channels: URLs that it may fetch from.

        Raises:
            NetworkFailed: a channel could not be reached.
            TaskFailed: with conda's own reason and a cure.

        """

        def report(text: str) -> None:
            download = progress_of(text)
            if download is not None:
                machine.progress(f"{prefix.name}: fetching {download[0]}", download[1], 1)

        for path in (*machine.conda.condarc_places, *machine.conda.pkgs_dirs):
            trust.obey(path, "run conda, which obeys")
        env = {key: value for key, value in machine.env.items() if key not in _NOT_INHERITED}
        env = {**_limits(machine), **env, **_QUIET, **variables}
        with own_temporary_files(env) as temporary:
            done = commands.run(
                [self.executable, *words],
                env={**env, **temporary},
                timeout=machine.timeout,
                accept=range(-64, 256),
                on_output=report,
                failure=doing,
            )
        reply = reply_of(done.output)
        # The answer counts, not the exit status: a solver's library may crash the interpreter after the work is done.
        if reply is not None and reply.success:
            return reply
        if reply is None and done.status == 0 and "--download-only" in words:  # for which conda (26.7.1) has no answer
            return Reply(success=True)
        failed = failure(doing, done, reply, prefix)
        what = doing if doing.startswith("the packages") else "cannot read a channel"
        said = "\n".join(filter(None, (failed.cause, reply.caused_by if reply is not None else "")))
        raise rattler.by_network(what, mask(said), machine, channels) or failed

    def _refuse(self, query: Query) -> None:
        if any(take_credentials(url)[1] for url in query.channels):
            raise TaskFailed(
                "conda cannot use a channel with a password or a token",
                cause="it would be on the command line, where everybody on this machine can read it",
                cure="leave `engine` out: the built-in one gets it in secret",
            )
        if query.other_builds:
            raise TaskFailed(
                "conda does not exchange builds for another CUDA",
                cause="only the built-in engine finds such builds by itself",
                cure="leave `engine` out, or name the builds",
            )


class CommandSolution(Solution):
    """The packages that an environment will contain, and the commands that install them."""

    def __init__(self, command: CommandAttempt, packages: tuple[Package, ...]) -> None:
        super().__init__(packages)
        self._command = command

    def caches(self, machine: Machine, prefix: Path) -> list[Path]:
        """Conda's caches."""
        return machine.conda.pkgs_dirs

    def install(
        self, machine: Machine, prefix: Path, *, requested: Iterable[str], reinstall: Iterable[str] = ()
    ) -> None:
        """See `Solution`; conda's own revisions of the history are removed at the end."""
        prefix = Path(os.path.abspath(prefix))
        history = prefix / META / "history"
        before = read_text(history)
        listed = prefix in machine.conda.registered
        self._complete_history(machine, prefix)
        wanted, gone, new = self._moves(prefix)
        again = sorted(name for name in reinstall if name in wanted and name not in new)
        if gone:
            self._remove(machine, prefix, gone)
        if new:
            machine.progress(f"{prefix.name}: linking", 0, len(new))
            self._install(machine, prefix, self._command.words())
        if again:
            self._install(machine, prefix, ["--force-reinstall", *again])
        machine.progress(f"{prefix.name}: linking", len(new), len(new))
        _note_requests(prefix, requested, {*new, *again})
        write_atomically(history, before or "")
        if not listed and not machine.conda.condarc.register_envs:
            bookkeeping.unregister(machine.conda, prefix)  # conda registers it regardless of its configuration

    def rehearse(self, machine: Machine, prefix: Path, *, reinstall: Collection[str] = ()) -> None:
        """Fetch new packages before others are removed, which conda does by a command of its own."""
        _, gone, new = self._moves(prefix)
        if gone and new:
            staying = [record for record in installed(prefix) if record.name not in gone]
            with self._command.shadow(staying) as shadow:
                self._install(machine, shadow, ["--download-only", *self._command.words()], into=prefix)

    def _moves(self, prefix: Path) -> tuple[dict[str, tuple[str, str]], list[str], list[str]]:
        """Version and build of each package of the solution; the names of removed packages, and of new ones."""
        before = {record.name: (record.version, record.build) for record in installed(prefix)}
        wanted = {package.name: (package.version, package.build) for package in self.packages}
        new = [name for name, build in wanted.items() if before.get(name) != build]
        return wanted, sorted(before.keys() - wanted.keys()), new

    def _complete_history(self, machine: Machine, prefix: Path) -> None:
        """Add packages that the history lacks: conda takes them for unneeded, and might remove them."""
        records = installed(prefix)
        if health.history_lacks(prefix, records):
            details = all_details(records)
            specs = list(health.requested(details).values()) or list(details)
            bookkeeping.append_history(machine.conda, prefix, details.values(), specs=specs)

    def _remove(self, machine: Machine, prefix: Path, names: list[str]) -> None:
        command = self._command
        command.conda.run(
            machine,
            ["remove", "--json", "--yes", "--prefix", str(prefix), "--force-remove", *names],
            command.variables,
            doing=f"packages could not be removed from {prefix}",
            prefix=prefix,
        )

    def _install(self, machine: Machine, prefix: Path, words: Sequence[str], *, into: Path | None = None) -> None:
        """Let conda fetch and link; after a failure its downloads stay in its cache."""
        command = self._command
        network.retry(
            machine,
            lambda cached_only: command.conda.run(
                machine,
                [*command.install_words(prefix), *offline_words(cached_only), *words],
                command.environment([*command.attempt.constraints, *map(exactly, self.packages)]),
                doing=f"the packages could not be installed into {into or prefix}",
                prefix=into or prefix,
                channels=command.channels,
            ),
        )


def _limits(machine: Machine) -> dict[str, str]:
    """The limits of conda's own network access: seconds without a byte, and retries."""
    silence, retries = f"{network.timeout(machine.env):.0f}", str(network.quick_retries(machine))
    return {
        "CONDA_REMOTE_CONNECT_TIMEOUT_SECS": silence,
        "CONDA_REMOTE_READ_TIMEOUT_SECS": silence,
        "CONDA_REMOTE_MAX_RETRIES": retries,
    }


def _lets_python_go(attempt: Attempt, details: dict[str, Details], unlocked: set[str]) -> bool:
    """Whether Python may get another minor version; for conda its name must then be among the arguments."""
    held = any(text.split()[0] == "python" for text in attempt.constraints) or "python" in attempt.pinned
    return "python" in details and "python" not in unlocked and not held


def _record(path: Path) -> CondaRecord:
    name, version, build = path.name.removesuffix(".json").rsplit("-", 2)
    return CondaRecord(name, version, build, path)


def _note_requests(prefix: Path, requested: Iterable[str], touched: set[str]) -> None:
    """Correct the requests in the records: conda noted the specs of its command line."""
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

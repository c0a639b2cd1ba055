"""The machine's own conda, by command: the other conda engine.

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

from nbprovision.conda import bookkeeping, health, rattler
from nbprovision.conda.engine import Attempt, Package, Query
from nbprovision.conda.health import Details
from nbprovision.conda.incoming import Solution
from nbprovision.conda.question import (
    Question,
    Reply,
    Unsolvable,
    exactly,
    failure,
    offline_words,
    progress_of,
    reply_of,
)
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
    """conda of this machine.

    Args:
        executable: The command.

    """

    def __init__(self, executable: Path) -> None:
        self.executable = executable

    @classmethod
    def found(cls, machine: Machine) -> CondaCommand:
        """The command: of the installation in use, else on the PATH.

        Raises:
            TaskFailed: there is none.

        """
        conda = machine.conda.executable
        places = [conda.with_name("conda")] if conda is not None else []
        places += [base / "bin/conda" for base in machine.conda.installations]
        places += [Path(folder) / "conda" for folder in machine.env.get("PATH", "").split(":") if os.path.isabs(folder)]
        for place in places:
            if place.is_file() and os.access(place, os.X_OK):
                return cls(place)
        looked = ", ".join(dict.fromkeys(str(place.parent) for place in places)) or "no folder: PATH is empty"
        raise TaskFailed(
            "there is no conda on this machine",
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
        details = health.all_details(records)
        failed = TaskFailed("nothing was asked of the solver", cause=DEFECT, cure=REPORT)
        free = set(query.unlocked)
        for attempt in query.attempts:
            for names in (free, free | {"python"}) if _lets_python_go(attempt, details, free) else (free,):
                question = Question(self, machine, query, attempt, records, details, names)
                try:
                    return CommandSolution(question, question.answer())
                except Unsolvable as error:
                    failed = error
        raise failed

    def evict(self, machine: Machine, source: Path) -> None:
        """Take a harmed package from the cache, so that it is unpacked again; a folder elsewhere is left alone."""
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
            machine: Environment variables; hears the progress.
            words: The command's arguments.
            variables: Environment variables besides.
            doing: What fails, where nothing better can be said.
            prefix: The environment.
            channels: URLs that it may fetch from.

        Raises:
            NetworkFailed: a channel could not be had.
            TaskFailed: with conda's own reason, and what to do about it.

        """

        def heard(text: str) -> None:
            found = progress_of(text)
            if found is not None:
                machine.progress(f"{prefix.name}: fetching {found[0]}", found[1], 1)

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
                on_output=heard,
                failure=doing,
            )
        reply = reply_of(done.output)
        # What it says counts, not how it ended: a solver's library may crash an interpreter that has done its work.
        if reply is not None and reply.success:
            return reply
        if reply is None and done.status == 0 and "--download-only" in words:  # of that conda (26.7.1) says nothing
            return Reply(success=True)
        failed = failure(doing, done, reply, prefix)
        what = doing if doing.startswith("the packages") else "cannot read a channel"
        said = "\n".join(filter(None, (failed.cause, reply.caused_by if reply is not None else "")))
        raise rattler.by_network(what, mask(said), machine, channels) or failed

    def _refuse(self, query: Query) -> None:
        if any(rattler.take_credentials(url)[1] for url in query.channels):
            raise TaskFailed(
                "a channel with a password or a token is not for conda",
                cause="it would have to be told on the command line, where everybody on this machine can read it",
                cure="leave `engine` out: the built-in one is told in secret",
            )
        if query.other_builds:
            raise TaskFailed(
                "conda does not exchange builds for another CUDA",
                cause="only the built-in engine looks for such builds by itself",
                cure="leave `engine` out, or name the builds",
            )


class CommandSolution(Solution):
    """What an environment will hold, and the commands that bring it about."""

    def __init__(self, question: Question, packages: tuple[Package, ...]) -> None:
        super().__init__(packages)
        self._question = question

    def caches(self, machine: Machine, prefix: Path) -> list[Path]:
        """Those of conda."""
        return machine.conda.pkgs_dirs

    def install(
        self, machine: Machine, prefix: Path, *, requested: Iterable[str], reinstall: Iterable[str] = ()
    ) -> None:
        """See `Solution`; conda's own revisions of the history are taken back at the end."""
        prefix = Path(os.path.abspath(prefix))
        history = prefix / META / "history"
        before = read_text(history)
        listed = prefix in machine.conda.registered
        self._tell_what_is_there(machine, prefix)
        wanted, gone, new = self._moves(prefix)
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
            bookkeeping.unregister(machine.conda, prefix)  # conda lists it whatever its configuration says

    def rehearse(self, machine: Machine, prefix: Path) -> None:
        """Fetch the new packages where others go: conda removes these by a command of its own, before it installs."""
        _, gone, new = self._moves(prefix)
        if gone and new:
            staying = [record for record in installed(prefix) if record.name not in gone]
            with self._question.shadow(staying) as shadow:
                self._install(machine, shadow, ["--download-only", *self._question.words()], into=prefix)

    def _moves(self, prefix: Path) -> tuple[dict[str, tuple[str, str]], list[str], list[str]]:
        """Version and build of each package that there will be; names of those that go, and that come."""
        there = {record.name: (record.version, record.build) for record in installed(prefix)}
        wanted = {one.name: (one.version, one.build) for one in self.packages}
        return wanted, sorted(there.keys() - wanted.keys()), [one for one in wanted if there.get(one) != wanted[one]]

    def _tell_what_is_there(self, machine: Machine, prefix: Path) -> None:
        """Where the history is silent conda takes nothing for asked for, and might remove it."""
        records = installed(prefix)
        if health.history_lacks(prefix, records):
            details = health.all_details(records)
            specs = list(health.requested(details).values()) or list(details)
            bookkeeping.append_history(machine.conda, prefix, details.values(), specs=specs)

    def _remove(self, machine: Machine, prefix: Path, names: list[str]) -> None:
        question = self._question
        question.conda.run(
            machine,
            ["remove", "--json", "--yes", "--prefix", str(prefix), "--force-remove", *names],
            question.variables,
            doing=f"packages could not be removed from {prefix}",
            prefix=prefix,
        )

    def _install(self, machine: Machine, prefix: Path, words: Sequence[str], *, into: Path | None = None) -> None:
        """Let conda fetch and link; what it fetched stays in its cache when it fails."""
        question = self._question
        network.retry(
            machine,
            lambda cached_only: question.conda.run(
                machine,
                [*question.install_words(prefix), *offline_words(cached_only), *words],
                question.environment([*question.attempt.constraints, *map(exactly, self.packages)]),
                doing=f"the packages could not be installed into {into or prefix}",
                prefix=into or prefix,
                channels=question.channels,
            ),
        )


def _limits(machine: Machine) -> dict[str, str]:
    """How long conda waits for a byte, a minute where nothing is said, and how often it asks again itself."""
    silence, retries = f"{network.timeout(machine.env):.0f}", str(network.quick_retries(machine))
    return {
        "CONDA_REMOTE_CONNECT_TIMEOUT_SECS": silence,
        "CONDA_REMOTE_READ_TIMEOUT_SECS": silence,
        "CONDA_REMOTE_MAX_RETRIES": retries,
    }


def _lets_python_go(attempt: Attempt, details: dict[str, Details], unlocked: set[str]) -> bool:
    """Whether Python may get another minor version; conda gives it one only where it is told its name."""
    held = any(text.split()[0] == "python" for text in attempt.constraints) or "python" in attempt.pinned
    return "python" in details and "python" not in unlocked and not held


def _record(path: Path) -> CondaRecord:
    name, version, build = path.name.removesuffix(".json").rsplit("-", 2)
    return CondaRecord(name, version, build, path)


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

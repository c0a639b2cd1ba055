"""A whole run of a playbook under the lock: read, carry out, record. The command line and the API share it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.engine.guard import Holder, run_lock
from nbprovision.engine.notices import Notices, path_of
from nbprovision.engine.program import Compiler
from nbprovision.engine.run import Listener, Run
from nbprovision.engine.step import Step
from nbprovision.lifecycle import own_environment
from nbprovision.machine import caches, image
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, NotTrusted, ProvisionError, UsageError
from nbprovision.model.result import Result
from nbprovision.model.task import Task
from nbprovision.playbook.calls import TaskCall
from nbprovision.playbook.outside import Outside
from nbprovision.playbook.read import Playbook, read_playbook
from nbprovision.report import activity, document
from nbprovision.report.history import KeptRun
from nbprovision.report.lost import lost
from nbprovision.report.progress import ProgressFiles
from nbprovision.report.relay import Several
from nbprovision.report.ring import RingReport
from nbprovision.report.status_file import RunEnd
from nbprovision.state import effects as kept_effects
from nbprovision.state import last_good, store
from nbprovision.state.witness import digest, state_path
from nbprovision.system import effects, log, trust
from nbprovision.system.files import explained, make_folder
from nbprovision.system.places import existing
from nbprovision.system.process import kept_children

Catalogue = Mapping[str, type[Task[Any]]]

_HOLD = 3600.0  # seconds for which a secret of AWS, or a tag, counts as unchanged


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A requested run.

    Attributes:
        playbook: Its file.
        extra_vars: Variables that win over all others.
        selection: The words that distinguish this request's state from that of other runs of the playbook.
        tags, skip_tags, start_at: Selection of the tasks.
        check: Report what would change, and change nothing.
        deep: Compare the files of every package.
        kept: Contents to read in place of the playbook's files: those of its last successful run.
        replaced: With ``kept``, a description of the replaced files.
        witness: Trust the proofs of earlier runs as far as nothing has changed since.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        bundle: The bundle that the playbook is from.

    """

    playbook: Path
    extra_vars: dict[str, Any] = {}
    selection: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    start_at: str | None = None
    check: bool = False
    deep: bool = False
    kept: Mapping[Path, bytes] | None = None
    replaced: activity.Replaced | None = None
    witness: bool = True
    lock_timeout: float | None = None
    bundle: Path | None = None


def obeyed(path: Path) -> None:
    """Judge a file of a playbook before it is read.

    Raises:
        InvalidPlaybook: this process is root's, and somebody else can change the file.

    """
    try:
        trust.obey(path, "obey")
    except NotTrusted as error:
        raise InvalidPlaybook(error.message, cause=error.cause, cure=error.cure) from None


class Session:
    """A valid playbook, ready to be carried out.

    Args:
        request: The request.
        machine: The facts.
        catalogue: Every kind of task.

    Raises:
        InvalidPlaybook: with the position of each fault.
        UsageError: ``start_at`` names no task, or the limit of the caches is not a size.

    """

    def __init__(self, request: Request, machine: Machine, catalogue: Catalogue) -> None:
        self._began = time.time_ns()
        self._started = time.perf_counter()
        self._request = request
        self._machine = machine
        machine.lock_timeout = request.lock_timeout
        self._facts_read: dict[Path, bool] = {}
        self._recording = threading.Lock()
        self._record: activity.Recorder | None = None
        self._in_background = False
        self.kept: KeptRun | None = None  # the record of the run when it has ended
        # Called with the holder of the lock if the lock must be waited for.
        self.on_wait: Callable[[Holder | None], None] = lambda other: None
        caches.limit(machine.env, existing(machine.home))  # a malformed size is reported before anything changes
        self._facts = machine.variables(self._facts_read, {} if request.check else _questions(machine))
        self._playbook: Playbook = read_playbook(
            request.playbook,
            catalogue=catalogue,
            extra_vars=request.extra_vars,
            facts=self._facts,
            env=machine.env,
            tags=request.tags,
            skip_tags=request.skip_tags,
            kept=request.kept,
            judge=obeyed,
            outside=_outside(machine, check=request.check),
        )
        compiler = Compiler(self._carried_out(), deep=request.deep, locked=bool(machine.locked))
        self._program = compiler.program(self._playbook.plays)
        self.steps: tuple[Step, ...] = tuple(compiler.steps)

    def perform(
        self, listener: Listener, announce: Callable[[str], None], allowed: Callable[[Step], bool] | None = None
    ) -> tuple[list[Result], dict[str, Any]]:
        """Carry it out under the lock.

        Args:
            listener: Receives the events of each step.
            announce: Receives warnings, and a line if the lock must be waited for.
            allowed: Decides before each step, one after the other, whether it runs; None runs all.

        Returns:
            The results in the order of the steps, and the document of the run.

        Raises:
            LockTimeout: another run held the lock for too long.
            InvalidPlaybook: an environment is unknown, or two tasks can never both hold.

        """
        home = self._machine.home
        command = f"nbprovision run {self._request.playbook}"
        reads = self.only_reads
        with (
            run_lock(
                home, command, self._request.lock_timeout, announce, reads=reads, on_wait=self._waiting_for
            ) as alone,
            kept_children(),
        ):
            self._machine.beside_a_run = not alone
            with document.if_possible(announce, "the log"), explained("no log", home):
                make_folder(home / "log", mode=0o700)
            log.open_log(home / "log" / "nbprovision.log", rotates=alone)
            self._load()
            if alone:
                image.record_baselines(self._machine)
            try:
                work = self._finish if reads else self._recorded
                results, content = work(listener, announce, allowed)
            finally:
                self._machine.archives.close()
        return results, content

    def _load(self) -> None:
        """Have the engines load, which takes as long as all that comes before the first step.

        A task with environment variables of its own needs another process than the other tasks, at its turn.
        """
        for step in self.steps:
            given = step.call.environment if step.call is not None else {}
            if step.task is not None and not (step.conditional or given):
                with contextlib.suppress(ProvisionError, OSError):
                    step.task.load(self._machine)

    @property
    def only_reads(self) -> bool:
        """Whether the run changes nothing: with ``check``, unless a task has ``check_mode: false``."""
        applies = any(step.call is not None and step.call.check_mode is False for step in self.steps)
        return self._request.check and not applies

    def nobody_waits(self) -> None:
        """Note that the caller has left and the run continues in the background; any thread may call this."""
        with self._recording:
            self._in_background = True
            if self._record is not None:
                self._record.nobody_waits()

    @contextlib.contextmanager
    def _waiting_for(self, other: Holder | None) -> Iterator[None]:
        with activity.waiting(self._machine.home, str(self._playbook.path)):
            self.on_wait(other)
            yield

    def _recorded(
        self, listener: Listener, announce: Callable[[str], None], allowed: Callable[[Step], bool] | None
    ) -> tuple[list[Result], dict[str, Any]]:
        """Carry it out, and keep the record and the progress for `nbprovision status`."""
        home, replaced = self._machine.home, self._request.replaced
        if replaced is not None:
            log.event("fallback", playbook=str(self._playbook.path), used=replaced.date, why=replaced.why)
        with self._recording:
            record = self._record = activity.Recorder(home, str(self._playbook.path), replaced)
            if self._in_background:
                record.nobody_waits()
        files = ProgressFiles(home, self._volume, record.activity, self.steps)
        report = RingReport(home, self._playbook.path, check=self._request.check)
        report.begin()
        end, status, reason = RunEnd(), 1, ""
        try:
            results, content = self._finish(Several(listener, files), announce, allowed)
            end = RunEnd(counts=content["counts"], run=self.kept.id if self.kept else "", lost=lost(self._machine))
            status, reason = document.exit_status(results), document.first_error(results)
            report.end(status, content, results)
        except ProvisionError as error:
            end, status, reason = RunEnd(error=error), error.exit_status, str(error)
            report.fail(status, error)
            raise
        except KeyboardInterrupt as error:
            status, reason = 130, "interrupted"
            report.fail(status, error)
            raise
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            report.fail(status, error)
            raise
        finally:
            record.end(status, reason)
            files.ended(record.activity, end)
            log.flush()
        return results, content

    def _finish(
        self, listener: Listener, announce: Callable[[str], None], allowed: Callable[[Step], bool] | None
    ) -> tuple[list[Result], dict[str, Any]]:
        for name in sorted(self._facts.unknown):
            announce(f"warning: a check does not ask AWS for nb.{name}, so a condition on it may hold only in a run")
        results = self._carry_out(listener, announce, allowed)
        content = self.document_of(results)
        with document.if_possible(announce, "the document of this run, which `nbprovision status` shows"):
            self._leave_behind(content, results)
        log.flush()
        return results, content

    @property
    def _volume(self) -> Path | None:
        platform = self._machine.platform
        return platform.volume if platform.kind == "notebook-instance" else None

    def _carry_out(
        self, listener: Listener, announce: Callable[[str], None], allowed: Callable[[Step], bool] | None
    ) -> list[Result]:
        request = self._request
        state = store.Store(self._state_path(), self._machine.env)
        notices = self._notices()
        run = Run(
            self.steps,
            self._machine,
            listener,
            program=self._program,
            notices=notices,
            store=state if request.witness and not request.deep else None,
            check=request.check,
            bystanders=list(self._bystanders()),
            linear=allowed is not None,
            allowed=allowed,
        )
        cached = caches.names(self._machine)
        with effects.recorded(self._machine.is_lost_at_a_stop) as made:
            results = run.execute()
        for text in run.undone:
            announce(f"warning: {text}")
        changes = [change for result in results for change in result.changes if change.kind == "package"]
        # What an environment gives up counts as the cache's own; what it takes from the cache no longer does.
        if not request.check and (any(change.before for change in changes) or caches.names(self._machine) != cached):
            caches.trim(self._machine)
        proofs, complete = run.proofs
        looked_at = {**self._facts_read, **self._playbook.looked_at}
        # A pending notification is an input too: its file keeps the next run from ending early.
        pending = [notices.path] if notices.path is not None else []
        bundle = [request.bundle] if request.bundle is not None else []
        inputs = store.look([*self._playbook.content, *bundle, *looked_at, *_own_code(), *pending]) or ()
        # An input that changed just now, or by this run, may differ from what was read.
        fresh = not inputs or any(_changed_since(witness, self._began) for witness in inputs)
        fresh = fresh or any(os.path.lexists(path) != existed for path, existed in looked_at.items())
        variables = {name: self._machine.env.get(name) for name in self._playbook.env_read}
        if self._playbook.secrets_read or self._facts.aged:
            proofs = [_ageing(proof) for proof in proofs]
        complete = self._approve(results, announce) and complete and not fresh and not any(map(Path.exists, pending))
        if request.start_at is None and not self._machine.beside_a_run:
            with (
                document.if_possible(announce, "the proofs; the next run checks everything again"),
                explained("", state.path),
            ):
                # First, so that a kill between them leaves no effects of other tasks to a state that stands.
                read = {witness.path for witness in inputs} | set(map(os.path.abspath, looked_at))
                self._keep_effects(run, made, kept_effects.path_of(state.path), proofs, read)
                state.write(inputs, variables, proofs, complete=complete)
        return results

    def _keep_effects(
        self, run: Run, made: effects.Effects, path: Path, proofs: Sequence[store.Proof], inputs: set[str]
    ) -> None:
        """Keep what the run wrote to the home; environments are lost or kept as a whole, which their witnesses show."""
        if not made.before and not path.exists():
            return
        prefixes = run.work.prefixes
        changed = {name: before for name, before in made.before.items() if not _is_below(name, prefixes)}
        tasks = [proof.digest for proof in proofs]
        kept_effects.keep(path, changed, run.work.writers, tasks=tasks, repeatable=run.work.repeatable, inputs=inputs)

    def _approve(self, results: Sequence[Result], announce: Callable[[str], None]) -> bool:
        """After a success, keep this environment of the tool and this playbook as a fallback.

        Returns:
            Whether all of it is kept, so that witnesses are enough for the next run.
        """
        request, home = self._request, self._machine.home
        succeeded = not request.check and document.overall(results) in ("ok", "changed")
        slot = own_environment.own_slot(home) if succeeded else None
        if slot is not None:
            with contextlib.suppress(OSError):  # a full disk
                own_environment.good(home, slot)
        if request.kept is not None:
            return False  # the files that were read are not those of the witnesses
        start = last_good.Start.of(self._machine.env)
        if not start.hook or request.tags or request.skip_tags or request.start_at is not None:
            return True
        if succeeded:
            with document.if_possible(announce, "this playbook as a fallback for a start at which it is invalid"):
                last_good.keep(home, self._playbook.path, self._playbook.content, start)
        return last_good.is_kept(home, self._playbook.path, self._playbook.content, start)

    @property
    def idle(self) -> bool:
        """Whether no play has a task."""
        return not any(play.sections for play in self._playbook.plays)

    @property
    def tags(self) -> dict[str, int]:
        """The tags of all tasks, chosen or not, each with the number of its tasks."""
        return dict(
            sorted(Counter(tag for play in self._playbook.plays for call in play.calls for tag in call.tags).items())
        )

    def document_of(self, results: Sequence[Result]) -> dict[str, Any]:
        """The document of the run with ``results``."""
        seconds = time.perf_counter() - self._started
        return document.document(str(self._playbook.path), results, check=self._request.check, seconds=seconds)

    def _leave_behind(self, content: dict[str, Any], results: Sequence[Result]) -> None:
        if not self._machine.beside_a_run:
            self.kept = document.leave_behind(
                self._machine.home,
                content,
                results,
                began=self._began // 1_000_000_000,
                left_out=self._left_out,
                digest=digest(repr(sorted(self._playbook.content.items()))),
            )
        document.log_end(content)

    def _carried_out(self) -> Callable[[TaskCall], bool]:
        """Decides which calls run: those that the tags choose, from ``start_at`` on."""
        start = self._request.start_at
        if start is None:
            return lambda call: call.chosen
        calls = [call for play in self._playbook.plays for call in play.calls]
        first = next((number for number, call in enumerate(calls) if start in (call.name, call.title)), None)
        if first is None:
            names = ", ".join(dict.fromkeys(f"'{call.title}'" for call in calls))
            raise UsageError(f"no task is named '{start}'", cure=f"start at one of: {names}")
        kept = {id(call) for call in calls[first:]}
        return lambda call: call.chosen and id(call) in kept

    @property
    def _left_out(self) -> list[str]:
        """The tasks that the tags or ``start_at`` leave out."""
        carried_out = self._carried_out()
        calls = (call for play in self._playbook.plays for call in play.calls)
        return list(dict.fromkeys(call.title for call in calls if not call.listen and not carried_out(call)))

    def _notices(self) -> Notices:
        """The notifications of this playbook, without those that no handler listens to any longer."""
        playbook = os.path.abspath(self._playbook.path)
        notices = Notices(path_of(self._machine.home, playbook), lasting=not self._request.check)
        plays = self._playbook.plays
        with contextlib.suppress(ProvisionError):
            notices.drop_unknown((play.name, name) for play in plays for call in play.handlers for name in call.listen)
        return notices

    def _bystanders(self) -> Iterator[Task[Any]]:
        carried_out = {(step.position, step.name) for step in self.steps}
        for play in self._playbook.plays:
            for call in play.calls:
                if (call.position, call.name) not in carried_out:
                    with contextlib.suppress(
                        InvalidPlaybook
                    ):  # as in Ansible, a task that is left out need not be valid
                        if call.wanted():
                            yield call.bind()

    def _state_path(self) -> Path:
        playbook = os.path.abspath(self._playbook.path)
        return Path(state_path(str(self._machine.home), playbook, list(self._request.selection), self._machine.env))


def _questions(machine: Machine) -> dict[str, Callable[[], Any]]:
    """The facts that a run asks AWS for."""

    def tags() -> dict[str, str]:
        from nbprovision.machine import aws

        return aws.fetch_tags(machine)

    return {"tags": tags}


def _outside(machine: Machine, *, check: bool) -> type[Outside]:
    """The part of the machine that templates may read; a run fetches each secret of AWS once.

    With ``check`` only the ``aws`` command is looked for.
    """
    values: dict[tuple[str, str, str | None], str] = {}

    class Asking(Outside):
        def secret(self, kind: str, name: str, region: str | None) -> str:
            from nbprovision.machine import aws

            placeholder = super().secret(kind, name, region)
            if check:
                aws.require_command(machine, kind, name)
                return placeholder
            if (kind, name, region) not in values:
                values[kind, name, region] = aws.fetch_secret(machine, kind, name, region)
            return values[kind, name, region]

    return Asking


def _ageing(proof: store.Proof) -> store.Proof:
    """The proof, limited to the time for which an answer of AWS counts as unchanged: its value is not kept."""
    now = time.time()
    until = now + _HOLD if proof.until is None else min(proof.until, now + _HOLD)
    return msgspec.structs.replace(proof, until=until, since=proof.since or now)


def _own_code() -> list[Path]:
    """The files that change when another version of the tool, or another Python, takes its place."""
    return [Path(__file__).parents[1] / "__init__.py", Path(sys.executable)]


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _changed_since(witness: store.Witness, began: int) -> bool:
    return witness.identity != "-" and int(witness.identity.split()[1]) + store.TICK_NS > began

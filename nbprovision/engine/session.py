"""A whole run of a playbook under the lock: read, carry out, record. What the command line and the API share."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.backends import cache_limit
from nbprovision.engine.guard import run_lock
from nbprovision.engine.notices import Notices, path_of
from nbprovision.engine.program import Compiler
from nbprovision.engine.run import Listener, Run
from nbprovision.engine.step import Step
from nbprovision.facts import caches
from nbprovision.facts.machine import Machine, existing
from nbprovision.model.errors import InvalidPlaybook, ProvisionError, TaskFailed, UsageError
from nbprovision.model.result import Result
from nbprovision.model.task import Task
from nbprovision.playbook.calls import TaskCall
from nbprovision.playbook.read import Playbook, read_playbook
from nbprovision.reporters import document
from nbprovision.reporters.progress import ProgressFiles
from nbprovision.reporters.relay import Several
from nbprovision.state import baselines, store
from nbprovision.state.witness import state_path
from nbprovision.system import log
from nbprovision.system.files import explained, make_folder, write_atomically

Catalogue = Mapping[str, type[Task[Any]]]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a run.

    Attributes:
        playbook: Its file.
        extra_vars: Variables that win over all others.
        selection: The words that tell this request's state from that of others of the same playbook.
        tags, skip_tags, start_at: Which tasks.
        check: Say what would change, and change nothing.
        deep: Compare the files of every package.
        witness: Trust what earlier runs proved, as far as nothing has changed since.
        lock_timeout: Seconds to wait for another run, None for ever.

    """

    playbook: Path
    extra_vars: dict[str, Any] = {}
    selection: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    start_at: str | None = None
    check: bool = False
    deep: bool = False
    witness: bool = True
    lock_timeout: float | None = None


class Session:
    """A playbook that was read and found valid, ready to be carried out.

    Args:
        request: What is asked.
        machine: The facts.
        catalogue: Every kind of task.

    Raises:
        InvalidPlaybook: with the position of each fault.
        UsageError: ``start_at`` names no task, or the limit of the caches is no size.

    """

    def __init__(self, request: Request, machine: Machine, catalogue: Catalogue) -> None:
        self._began = time.time_ns()
        self._started = time.perf_counter()
        self._request = request
        self._machine = machine
        machine.lock_timeout = request.lock_timeout
        self._facts_read: dict[Path, bool] = {}
        caches.limit(machine.env, existing(machine.home))  # a word that is no size is told before anything is done
        self._playbook: Playbook = read_playbook(
            request.playbook,
            catalogue=catalogue,
            extra_vars=request.extra_vars,
            facts=machine.variables(self._facts_read),
            env=machine.env,
            tags=request.tags,
            skip_tags=request.skip_tags,
        )
        compiler = Compiler(self._carried_out(), deep=request.deep)
        self._program = compiler.program(self._playbook.plays)
        self.steps: tuple[Step, ...] = tuple(compiler.steps)

    def perform(
        self, listener: Listener, tell: Callable[[str], None], allowed: Callable[[Step], bool] | None = None
    ) -> tuple[list[Result], dict[str, Any]]:
        """Carry it out under the lock.

        Args:
            listener: Hears of each step.
            tell: Hears who holds the lock, when it has to be waited for.
            allowed: Asked before each step, one after the other, whether it is to be carried out; None for all.

        Returns:
            The results in the order of the steps, and the document of the run.

        Raises:
            LockTimeout: another run held the lock for too long.
            InvalidPlaybook: an environment is not known, or two tasks can never both hold.

        """
        home = self._machine.home
        command = f"nbprovision run {self._request.playbook}"
        with run_lock(home, command, self._request.lock_timeout, tell):
            with _if_possible(tell, "the log"), explained("no log", home):
                make_folder(home / "log", mode=0o700)
            log.open_log(home / "log" / "nbprovision.log")
            baselines.record_all(self._machine)
            files = ProgressFiles(home, self._volume, str(self._playbook.path), self.steps)
            summary = f"stopped: {self._playbook.path}"
            try:
                results = self._carry_out(Several(listener, files), tell, allowed)
                content = self.document_of(results)
                with _if_possible(tell, "the document of this run, which `nbprovision status` shows"):
                    self._leave_behind(content)
                told = " ".join(f"{status}={count}" for status, count in content["counts"].items())
                summary = f"{content['status']}: {self._playbook.path}  {told}"
            finally:
                files.ended(summary)
                log.flush()
        return results, content

    @property
    def _volume(self) -> Path | None:
        platform = self._machine.platform
        return platform.volume if platform.kind == "notebook-instance" else None

    def _carry_out(
        self, listener: Listener, tell: Callable[[str], None], allowed: Callable[[Step], bool] | None
    ) -> list[Result]:
        request = self._request
        state = store.Store(self._state_path())
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
            linear=allowed is not None or any(play.strategy == "linear" for play in self._playbook.plays),
            allowed=allowed,
        )
        results = run.execute()
        if not request.check and any(change.kind == "package" for result in results for change in result.changes):
            cache_limit.trim(self._machine)
        proofs, complete = run.proofs
        looked_at = {**self._facts_read, **self._playbook.looked_at}
        # What is not told yet to a handler is one as well: by its file it keeps the next run from ending early.
        pending = [notices.path] if notices.path is not None else []
        inputs = store.look([*self._playbook.inputs, *looked_at, *_own_code(), *pending]) or ()
        # An input that changed in this very moment, or by this very run, may not be what was read.
        fresh = not inputs or any(_changed_since(witness, self._began) for witness in inputs)
        fresh = fresh or any(os.path.lexists(path) != there for path, there in looked_at.items())
        variables = {name: self._machine.env.get(name) for name in self._playbook.env_read}
        if request.start_at is None:
            with (
                _if_possible(tell, "what was proven; the next run looks at everything anew"),
                explained("", state.path),
            ):
                state.write(
                    inputs, variables, proofs, complete=complete and not fresh and not any(map(Path.exists, pending))
                )
        return results

    @property
    def tags(self) -> dict[str, int]:
        """The tags of all tasks, chosen or not, each with the number of tasks that have it."""
        return dict(
            sorted(Counter(tag for play in self._playbook.plays for call in play.calls for tag in call.tags).items())
        )

    def document_of(self, results: Sequence[Result]) -> dict[str, Any]:
        """The document that tells of ``results``."""
        seconds = time.perf_counter() - self._started
        return document.document(str(self._playbook.path), results, check=self._request.check, seconds=seconds)

    def _leave_behind(self, content: dict[str, Any]) -> None:
        text = document.render({**content, "started": self._began // 1_000_000_000, "pid": os.getpid()})
        write_atomically(self._machine.home / "last-run.json", text, mode=0o600)
        told = {key: content[key] for key in ("playbook", "status", "counts", "seconds")}
        log.event("run", proof="check", **told)

    def _carried_out(self) -> Callable[[TaskCall], bool]:
        """Which calls are carried out: those that the tags choose, from the one on that the run is to start at."""
        start = self._request.start_at
        if start is None:
            return lambda call: call.chosen
        calls = [call for play in self._playbook.plays for call in play.calls]
        first = next((number for number, call in enumerate(calls) if start in (call.name, call.title)), None)
        if first is None:
            names = ", ".join(dict.fromkeys(f"'{call.title}'" for call in calls))
            raise UsageError(f"there is no task '{start}' to start at", cause=f"there are: {names}")
        kept = {id(call) for call in calls[first:]}
        return lambda call: call.chosen and id(call) in kept

    def _notices(self) -> Notices:
        """The notifications of this playbook; those that no handler of it hears any longer are dropped."""
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
                    with contextlib.suppress(InvalidPlaybook):  # as in Ansible, what is left out need not make sense
                        if call.wanted():
                            yield call.bind()

    def _state_path(self) -> Path:
        playbook = os.path.abspath(self._playbook.path)
        return Path(state_path(str(self._machine.home), playbook, list(self._request.selection), self._machine.env))


@contextlib.contextmanager
def _if_possible(tell: Callable[[str], None], what: str) -> Iterator[None]:
    """Write what only serves later runs, or warn that it could not be: no work of this one depends on it."""
    try:
        yield
    except TaskFailed as error:
        tell(f"warning: cannot keep {what}: {error.cause}")


def _own_code() -> list[Path]:
    package = Path(__file__).parents[1]
    return [package / "__init__.py", package / "tasks", Path(sys.executable)]


def _changed_since(witness: store.Witness, began: int) -> bool:
    return witness.identity != "-" and int(witness.identity.split()[1]) + store.TICK_NS > began

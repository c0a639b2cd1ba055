"""Runs the steps of a batch: each after the steps that it needs, independent ones side by side."""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from nbprovision.engine import undone
from nbprovision.engine.attempts import attempt, merged
from nbprovision.engine.guard import Guard
from nbprovision.engine.notices import Notice, Notices
from nbprovision.engine.order import Node, arrange, maker_of
from nbprovision.engine.registry import Registry
from nbprovision.engine.step import Outcome, Step, digest_of, prove, skipped
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ProvisionError
from nbprovision.model.result import Change, Plan, Result
from nbprovision.model.task import Task
from nbprovision.state.store import Proof, Store, holds
from nbprovision.system import effects
from nbprovision.system.context import MOST_THREADS, thread
from nbprovision.system.log import withholding
from nbprovision.system.secrets import masked

# The step that a thread, or a helper thread of it, works on.
_AT_WORK: contextvars.ContextVar[Step | None] = contextvars.ContextVar("step", default=None)
_LEFT_OUT = "left out, as the answer was"
# Seconds before another task begins: short tasks side by side would only compete for the interpreter.
ALONE = 0.01


class Listener(Protocol):
    """Receives the events of a run; called from several threads, never from two at once."""

    def started(self, step: Step) -> None:
        """A step takes the full path."""

    def progressed(self, step: Step, text: str, done: float, total: float) -> None:
        """Long work has reached ``done`` of ``total`` (0 of 0 if that is unknown)."""

    def finished(self, step: Step, result: Result) -> None:
        """A step has its result."""


class Work:
    """Carries out steps by number; those of one batch in an order that their needs allow.

    Args:
        steps: In the order of the playbook.
        machine: The facts.
        listener: Receives the events of each step.
        store: The proofs of earlier runs; None checks everything again.
        check: Report what would change, and change nothing.
        linear: One step after the other, in the order of the playbook.
        bystanders: Tasks of the playbook that this run leaves out.
        notices: The handlers to run.
        allowed: Decides before each step with work whether it runs; None runs all.

    Attributes:
        steps: The steps as given; listeners receive these.
        bound: The same steps with their tasks, as far as these are known.
        outcomes: By number.
        registry: The results registered so far.
        undone: Warnings about tasks whose work a later task undid.

    Raises:
        InvalidPlaybook: the steps cannot all hold.

    """

    def __init__(
        self,
        steps: Sequence[Step],
        machine: Machine,
        listener: Listener,
        *,
        store: Store | None,
        check: bool,
        linear: bool,
        bystanders: Sequence[Task[Any]],
        notices: Notices,
        allowed: Callable[[Step], bool] | None = None,
    ) -> None:
        self.steps = steps
        self.bound = list(steps)
        self.machine = machine
        self.check = check
        self.notices = notices
        self.nodes = arrange(steps, machine, linear=linear, bystanders=bystanders)
        settled = (step for step, node in zip(steps, self.nodes, strict=True) if not step.late and not node.open)
        self.guard = Guard((step.task for step in settled if step.task is not None), machine)
        self.outcomes: dict[int, Outcome] = {}
        self.registry = Registry()
        self.undone: list[str] = []
        self._listener = listener
        self._store = store
        self._allowed = allowed or (lambda _step: True)
        self._turns: dict[int, list[Step]] = {}
        self._environments: dict[int, dict[str, str]] = {}
        self._changed_paths: dict[int, set[str]] = {}
        self._threads: list[threading.Thread] = []
        self._todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Outcome | BaseException]] = queue.SimpleQueue()
        self._listening = threading.Lock()
        self._reported: dict[int, list[Result]] = {}
        machine.applies = not check
        machine.on_progress = self._progress

    def end(self) -> None:
        """Let the threads end; an engine's child process ends with the thread that started it."""
        for _ in self._threads:
            self._todo.put(None)

    def results(self) -> list[Result]:
        """The results in the order of the steps; a handler may have several."""
        return [result for number in sorted(self._reported) for result in self._reported[number]]

    def settle(self, number: int, step: Step, environment: dict[str, str], turns: list[Step] | None = None) -> None:
        """Bind a late step to its task, or to the turns of its loop."""
        self.bound[number] = step
        self._environments[number] = environment
        if turns is not None:
            self._turns[number] = turns

    def machine_of(self, number: int) -> Machine:
        """The machine as a step sees it."""
        call = self.steps[number].call
        given = call.environment if call is not None else {}
        environment = self._environments.get(number, given)
        applies = not self.checks(number)
        if not environment and applies == self.machine.applies:
            return self.machine
        return self.machine.seen_with(environment, applies=applies)

    def unmade(self, number: int) -> Outcome | None:
        """The outcome of a step whose input files are missing because the step that makes them did not run."""
        step, before = self.steps[number], range(number)
        makers = [n for n in before if n in self.nodes[number].needs or self.nodes[n].open]
        results = {n: self.outcomes[n].result for n in makers if n in self.outcomes}
        for maker, result in results.items():
            if result.check_only and (result.changed or result.pending):
                return planned_after(step, self.steps[maker].name)
            if result.status in ("failed", "skipped"):
                return skipped(step, f"needs '{self.steps[maker].name}', which {_past(result)}")
        return None

    def checks(self, number: int) -> bool:
        """Whether a step only reports what would change."""
        call = self.steps[number].call
        return self.check if call is None or call.check_mode is None else call.check_mode

    def carry_out(self, numbers: Sequence[int], *, saved: bool = False) -> None:
        """Run the steps, side by side as far as their needs allow.

        Args:
            numbers: The steps.
            saved: The block around them handles a failure, so the run does not fail.

        """
        waiting = {number: self.nodes[number] for number in numbers}
        running = 0
        while waiting or running:
            number = self._next(waiting, set(numbers)) if running < MOST_THREADS else None
            if number is not None:
                del waiting[number]
                outcome = self._without_work(number)
                if outcome is not None:
                    self.finish(number, outcome, saved=saved)
                    continue
                if running == len(self._threads):
                    self._threads.append(thread(self._work))
                    self._threads[-1].start()
                running += 1
                self._todo.put(number)
            with contextlib.suppress(queue.Empty):
                number, outcome_or_error = self._done.get(timeout=None if number is None else ALONE)
                running -= 1
                if isinstance(outcome_or_error, BaseException):
                    raise outcome_or_error
                self.finish(number, outcome_or_error, saved=saved)
        for number in sorted(set(numbers) & self.outcomes.keys()):
            self.registry.take(self.steps[number], self.outcomes[number].result)

    def finish(self, number: int, outcome: Outcome, *, saved: bool = False) -> None:
        """Record the outcome of a step, and report it."""
        result, call = outcome.result, self.steps[number].call
        if result.status == "failed" and call is not None and call.ignore_errors:
            result = msgspec.structs.replace(result, forgiven="ignored")
        elif result.status == "failed" and saved:
            result = msgspec.structs.replace(result, forgiven="rescued")
        if result.changed and (self.check or not result.check_only):
            with contextlib.suppress(ProvisionError):  # no space for the notice, but the handler may still run
                self.notices.add(self._notices(number), planned=result.check_only)
        self.outcomes[number] = Outcome(result, reporting(outcome.proof, result))
        self._reported.setdefault(number, []).append(result)
        with self._listening:
            self._listener.finished(self.steps[number], result)

    def skip(self, numbers: Sequence[int], reason: str) -> None:
        """Report steps that will not run as left out."""
        for number in numbers:
            if number not in self.outcomes and not self.steps[number].conditional:
                self.finish(number, skipped(self.bound[number], reason))
        for number in sorted(set(numbers) & self.outcomes.keys()):
            self.registry.take(self.steps[number], self.outcomes[number].result)

    def failure(self, numbers: Sequence[int]) -> int | None:
        """The first of the steps that failed, even if the block around it handles the failure; None for none."""
        failing = (n for n in numbers if n in self.outcomes and self.outcomes[n].result.status == "failed")
        return next((n for n in failing if self.outcomes[n].result.forgiven != "ignored"), None)

    def broken(self, numbers: Sequence[int]) -> bool:
        """Whether one of the steps failed and the run with it."""
        return any(n in self.outcomes and self.outcomes[n].result.failed for n in numbers)

    @property
    def prefixes(self) -> set[str]:
        """The environments that the steps change."""
        tasks = (step.task for step in self.bound if step.task is not None)
        return {str(prefix) for task in tasks for prefix in task.guarded(self.machine)}

    @property
    def writers(self) -> dict[str, tuple[str, ...]]:
        """By changed path, the digests of the tasks that changed it, in the order of the playbook."""
        writers: dict[str, tuple[str, ...]] = {}
        for number, paths in sorted(self._changed_paths.items()):
            digests = self._digests(number) or ("",)
            for path in paths:
                writers[path] = (*writers.get(path, ()), *digests)
        return writers

    @property
    def repeatable(self) -> set[str]:
        """The digests of the tasks whose work may be repeated without them.

        It may not if another step depends on the result of the task, or the result on more than the task.
        """
        if any(step.late for step in self.steps):
            return set()
        alone: set[str] = set()
        others: set[str] = set()
        for number, step in enumerate(self.bound):
            (alone if step.simple else others).update(self._digests(number))
        return alone - others

    def _digests(self, number: int) -> tuple[str, ...]:
        task = self.bound[number].task
        return (digest_of(task, self.machine_of(number)),) if task is not None else ()

    def renew_proofs(self) -> None:
        """Prove steps whose witnesses changed too recently to serve, and again those that other steps touched.

        A pip task changes the folder that is a witness of the conda task. While two steps work side by side, neither
        may be provable, because the other changes something that both look at. The steps that ended first come first,
        so that hardly any of them has to wait for the clock.
        """
        changed = any(outcome.result.changed for outcome in self.outcomes.values())
        for number, outcome in self.outcomes.items():
            task, result, proof = self.bound[number].task, outcome.result, outcome.proof
            if task is None or result.status not in ("ok", "changed") or result.check_only:
                continue
            if proof is not None and not self._is_doubtful(number, task, proof, changed=changed):
                continue
            with withholding(self.steps[number].no_log):
                left, proof = self._looked_at_again(task, self.machine_of(number))
            self.outcomes[number] = Outcome(result, reporting(proof, result))
            later = undone.undoer(number, left, self.outcomes, self.nodes) if left.changes else None
            if later is not None:
                done = self.outcomes[later].result
                self._warn(later, undone.warning(self.bound[number], self.bound[later], left, done))

    def _is_doubtful(self, number: int, task: Task[Any], proof: Proof, *, changed: bool) -> bool:
        """Whether something that a proof rests on may have changed since.

        The witnesses of a deep check are folders and records, which do not show an edit within a file.
        """
        if not changed:
            return False
        since = (n for n, other in self.outcomes.items() if other.result.changed)
        if task.deep and any(number in self.nodes[n].needs | self.nodes[n].after for n in since):
            return True
        return not all(holds(witness, self.machine.env) for witness in proof.witnesses)

    def _warn(self, number: int, text: str) -> None:
        """Add a warning to a step that has been reported; the proof for the next start stays as it is."""
        self.undone.append(text)
        *others, result = self._reported[number]
        self._reported[number] = [*others, msgspec.structs.replace(result, warnings=(*result.warnings, text))]

    @staticmethod
    def _looked_at_again(task: Task[Any], machine: Machine) -> tuple[Plan, Proof | None]:
        """The plan of a task now, and its proof; None if there is something to do or no proof is possible."""
        if not task.proves(machine):
            return Plan(), None
        try:
            return prove(task, machine, patient=True)
        except ProvisionError:
            return Plan(), None

    def _notices(self, number: int) -> list[Notice]:
        step = self.steps[number]
        return [Notice(step.play[1], name, step.name) for name in (step.call.notify if step.call is not None else ())]

    def _next(self, waiting: dict[int, Node], among: set[int]) -> int | None:
        """The first of the lightest steps that can begin: a starting notebook waits for kernels, not for solves."""
        done = self.outcomes.keys()
        ready = (n for n, node in waiting.items() if (node.needs | node.after) & among <= done)
        return min(ready, key=lambda number: (waiting[number].weight, number), default=None)

    def _without_work(self, number: int) -> Outcome | None:
        """The outcome of a step that needs no check; None if it needs one."""
        step, node = self.bound[number], self.nodes[number]
        if number in self._turns:
            return None if self._allowed(step) else skipped(step, _LEFT_OUT)
        if step.task is None:
            return skipped(step)
        for other in sorted(node.needs) if not step.conditional else ():
            outcome = self.outcomes.get(other)
            if outcome is None or outcome.result.forgiven or self.bound[other].task is None:
                continue
            if outcome.result.status == "failed" or (outcome.result.status == "skipped" and outcome.proof is None):
                reason = f"needs '{self.steps[other].name}', which {_past(outcome.result)}"
                return skipped(step, reason)
        if not self._allowed(step):
            return skipped(step, _LEFT_OUT)
        moved = any(other in self.outcomes and self.outcomes[other].result.changed for other in node.needs | node.after)
        if moved and self.checks(number):
            return None
        call = step.call
        if self._store is None or (call is not None and call.register):  # a later task may need what it reports
            return None
        machine = self.machine_of(number)
        if step.task.of_root():  # what its proof says may be a difference
            return None
        proof = self._store.proof_of(digest_of(step.task, machine))
        # A result that ages, such as a newest version, may differ after what has just changed: an index.
        if proof is None or (moved and proof.until is not None):
            return None
        self.guard.proven(step.task, machine)
        return Outcome(step.result("ok", proof="witness"), proof)

    def _foreseen(self, number: int, step: Step, outcome: Outcome) -> Outcome:
        """With ``check``: the outcome of a step that may build on planned changes of other steps."""
        node, result = self.nodes[number], outcome.result
        results = {n: self.outcomes[n].result for n in sorted(node.needs | node.after) if n in self.outcomes}
        planned = [n for n, other in results.items() if other.check_only and (other.changed or other.pending)]
        if not planned:
            return outcome
        if result.error is not None:
            maker = maker_of(result.error, planned, node, self.nodes)
            return outcome if maker is None else planned_after(step, self.steps[maker].name)
        if result.changed and not result.warnings:
            note = f"will change after '{self.steps[planned[0]].name}'"
            result = msgspec.structs.replace(result, warnings=(note,))
        awaited = step.task.awaits if step.task is not None and node.barrier else frozenset()
        meant = (n for n in planned if awaited & {resource.kind for resource in self.nodes[n].provides})
        read = (n for n in planned if node.reads_from(self.nodes[n]))  # the task has read the file as it is now
        maker = next(iter((*meant, *read)), None)
        return Outcome(result) if maker is None or result.changed else planned_after(step, self.steps[maker].name)

    def _work(self) -> None:
        while (number := self._todo.get()) is not None:
            step = self.steps[number]
            _AT_WORK.set(step)
            try:
                with self._listening:
                    self._listener.started(step)
                turns = self._turns.get(number)
                with withholding(step.no_log):
                    if turns is None:
                        outcome = self._attempt(number, self.bound[number])
                    else:
                        outcome = merged(step, [self._attempt(number, turn) for turn in turns])
                self._done.put((number, outcome))
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                self._done.put((number, RuntimeError("the error is withheld by no_log") if step.no_log else error))

    def _attempt(self, number: int, step: Step) -> Outcome:
        """Carry a step out; its notifications are on disk while it works."""
        machine, fresh = self.machine_of(number), []

        def before() -> None:
            fresh.extend(self.notices.add(self._notices(number)))

        with effects.recorded() as made:
            outcome = attempt(
                step, machine, self.guard, check=self.checks(number), results=self.registry.results, before=before
            )
        self._changed_paths.setdefault(number, set()).update(made.before)
        if self.checks(number):
            return self._foreseen(number, step, outcome)
        if fresh and not outcome.result.changed and not self._done_after_all(step, outcome, machine):
            self.notices.remove(fresh)
        return outcome

    @staticmethod
    def _done_after_all(step: Step, outcome: Outcome, machine: Machine) -> bool:
        """Whether a failed task has nothing left to do, so that the next run would find no change and notify nobody."""
        if outcome.result.status != "failed" or step.task is None or not step.task.proves(machine):
            return False
        try:
            machine.forget()
            return not step.task.plan(step.task.read(machine)).changes
        except ProvisionError:
            return False

    def _progress(self, text: str, done: float, total: float) -> None:
        step = _AT_WORK.get()
        if step is None or step.no_log:
            return
        with self._listening:
            self._listener.progressed(step, text, done, total)


def planned_after(step: Step, maker: str) -> Outcome:
    """The outcome, with ``check``, of a step that cannot be checked before another one has run."""
    change = Change(action="change", target=step.name, after=f"after '{maker}'")
    note = f"will change after '{maker}'"
    return Outcome(step.result("changed", changes=(change,), warnings=(note,), check_only=True))


def reporting(proof: Proof | None, result: Result) -> Proof | None:
    """The proof with the report that the start-up path will print for its step."""
    if proof is None:
        return None
    again = msgspec.structs.replace(
        result,
        status="skipped" if result.status == "skipped" else "ok",
        proof="witness",
        seconds=0.0,
        changes=(),
        warnings=tuple(text for text in result.warnings if text not in result.notes),
    )
    return msgspec.structs.replace(proof, report=msgspec.json.encode(masked(again.as_json())).decode())


def _past(result: Result) -> str:
    return "failed" if result.status == "failed" else "was skipped"

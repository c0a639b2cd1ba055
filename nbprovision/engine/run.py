"""A run: every step in an order that its needs allow, side by side where they do not meet."""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from nbprovision.engine.guard import Guard
from nbprovision.engine.order import Node, arrange
from nbprovision.engine.step import Outcome, Step, carry_out, digest_of, prove
from nbprovision.facts.machine import Machine
from nbprovision.model.errors import ProvisionError
from nbprovision.model.result import Change, Result
from nbprovision.model.task import Task
from nbprovision.state.store import Proof, Store, holds
from nbprovision.system import side_by_side
from nbprovision.system.log import withholding
from nbprovision.system.process import kept_children
from nbprovision.system.secrets import masked

# The step that a thread works for, its own helpers included.
_AT_WORK: contextvars.ContextVar[Step | None] = contextvars.ContextVar("step", default=None)
# Seconds that a task works alone: short ones side by side would only fight for the interpreter.
ALONE = 0.01


class Listener(Protocol):
    """Hears how a run goes; called from several threads, never from two at once."""

    def started(self, step: Step) -> None:
        """A step takes the full path."""

    def progressed(self, step: Step, text: str, done: float, total: float) -> None:
        """Long work is ``done`` of ``total`` far (0 of 0 where that is not known)."""

    def finished(self, step: Step, result: Result) -> None:
        """A step has its result."""


class Run:
    """Carries out steps.

    Args:
        steps: In the order of the playbook.
        machine: The facts.
        listener: Hears of each step.
        store: What earlier runs proved; None looks at everything anew.
        check: Say what would change, and change nothing.
        linear: One after the other, and stop at the first failure.
        bystanders: Tasks of the playbook that this run leaves out.

    Raises:
        InvalidPlaybook: the steps cannot all hold.

    """

    def __init__(
        self,
        steps: Sequence[Step],
        machine: Machine,
        listener: Listener,
        *,
        store: Store | None = None,
        check: bool = False,
        linear: bool = False,
        bystanders: Sequence[Task[Any]] = (),
    ) -> None:
        self._steps = steps
        self._machine = machine
        self._listener = listener
        self._store = store
        self._check = check
        self._linear = linear
        self._nodes = arrange(steps, machine, linear=linear, bystanders=bystanders)
        self._guard = Guard((step.task for step in steps if step.task is not None), machine)
        self._outcomes: dict[int, Outcome] = {}
        self._todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Outcome | BaseException]] = queue.SimpleQueue()
        self._listening = threading.Lock()
        machine.applies = not check
        machine.on_progress = self._progress

    def execute(self) -> list[Result]:
        """Do it all; the results stand in the order of the steps."""
        with kept_children():
            threads: list[threading.Thread] = []
            try:
                self._carry_out_all(threads)
                self._renew_proofs()
            finally:  # not before: an engine's child process ends with the thread that made it
                for _ in threads:
                    self._todo.put(None)
        self._machine.keep()
        return [self._outcomes[number].result for number in range(len(self._steps))]

    def _carry_out_all(self, threads: list[threading.Thread]) -> None:
        waiting = dict(enumerate(self._nodes))
        running = 0
        while waiting or running:
            number = self._next(waiting) if running < side_by_side.MOST else None
            if number is not None:
                del waiting[number]
                outcome = self._without_work(number)
                if outcome is not None:
                    self._finish(number, outcome)
                    continue
                if running == len(threads):
                    threads.append(threading.Thread(target=self._work, daemon=True))
                    threads[-1].start()
                running += 1
                self._todo.put(number)
            with contextlib.suppress(queue.Empty):
                number, outcome_or_error = self._done.get(timeout=None if number is None else ALONE)
                running -= 1
                if isinstance(outcome_or_error, BaseException):
                    raise outcome_or_error
                self._finish(number, outcome_or_error)

    @property
    def proofs(self) -> tuple[list[Proof], bool]:
        """What to record, and whether it is all: every step proven."""
        proofs = [outcome.proof for _, outcome in sorted(self._outcomes.items())]
        return [proof for proof in proofs if proof is not None], None not in proofs

    def _next(self, waiting: dict[int, Node]) -> int | None:
        """The first of the lightest steps that can begin: a notebook that starts waits for kernels, not for solves."""
        done = self._outcomes.keys()
        ready = (number for number, node in waiting.items() if node.needs <= done and node.after <= done)
        return min(ready, key=lambda number: (waiting[number].weight, number), default=None)

    def _renew_proofs(self) -> None:
        """Prove what was changed too lately for its witnesses to serve, and again what other steps have touched.

        A pip task changes the folder that vouches for the conda task, and of two that worked side by side neither may
        have been provable while the other changed what both look at. What was done first is looked at first, so that
        hardly any of them has to wait for the clock.
        """
        changed = any(outcome.result.changed for outcome in self._outcomes.values())
        for number, outcome in self._outcomes.items():
            task, result, proof = self._steps[number].task, outcome.result, outcome.proof
            if task is None or result.status not in ("ok", "changed") or result.check_only:
                continue
            if proof is not None and (not changed or all(map(holds, proof.witnesses))):
                continue
            try:
                with withholding(self._steps[number].no_log):
                    _, proof = prove(task, self._machine, patient=True)
            except ProvisionError:
                proof = None
            self._outcomes[number] = Outcome(result, _reporting(proof, result))

    def _without_work(self, number: int) -> Outcome | None:
        """The outcome of a step for which nothing has to be looked at."""
        step, node = self._steps[number], self._nodes[number]
        if step.task is None:
            return carry_out(step, self._machine, self._guard, check=self._check)
        for other in sorted(node.needs):
            if self._outcomes[other].result.status in ("failed", "skipped") and self._steps[other].task is not None:
                reason = f"needs '{self._steps[other].name}', which {_past(self._outcomes[other].result)}"
                return Outcome(step.result("skipped", warnings=(reason,)))
        if self._linear and any(outcome.result.status == "failed" for outcome in self._outcomes.values()):
            return Outcome(step.result("skipped", warnings=("an earlier task failed",)))
        moved = any(self._outcomes[other].result.changed for other in node.needs | node.after)
        if moved and self._check:
            return self._planned_only(step, node)
        proof = self._store.proof_of(digest_of(step.task, self._machine)) if self._store else None
        # What is looked up anew from time to time may turn out otherwise with what has just been changed: an index.
        if proof is None or (moved and proof.until is not None):
            return None
        self._guard.proven(step.task, self._machine)
        return Outcome(step.result("ok", proof="witness"), proof)

    def _planned_only(self, step: Step, node: Node) -> Outcome | None:
        """With ``check``: the outcome of a step that builds on what another would only now make."""
        makers = [other for other in sorted(node.needs) if self._outcomes[other].result.changed]
        if not makers or step.task is None:
            return None
        try:
            plan = step.task.plan(step.task.read(self._machine))
            changes = plan.changes
        except ProvisionError:
            changes = (Change(action="change", target=step.name, after=f"after '{self._steps[makers[0]].name}'"),)
        return Outcome(step.result("changed" if changes else "ok", changes=changes, check_only=True))

    def _work(self) -> None:
        while (number := self._todo.get()) is not None:
            step = self._steps[number]
            _AT_WORK.set(step)
            try:
                with self._listening:
                    self._listener.started(step)
                with withholding(step.no_log):
                    outcome = carry_out(step, self._machine, self._guard, check=self._check)
                self._done.put((number, outcome))
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                self._done.put((number, RuntimeError("what it is is withheld by no_log") if step.no_log else error))

    def _finish(self, number: int, outcome: Outcome) -> None:
        self._outcomes[number] = Outcome(outcome.result, _reporting(outcome.proof, outcome.result))
        with self._listening:
            self._listener.finished(self._steps[number], outcome.result)

    def _progress(self, text: str, done: float, total: float) -> None:
        step = _AT_WORK.get()
        if step is None or step.no_log:
            return
        with self._listening:
            self._listener.progressed(step, text, done, total)


def _reporting(proof: Proof | None, result: Result) -> Proof | None:
    """The proof with what the start-up path will report of its step."""
    if proof is None:
        return None
    again = msgspec.structs.replace(
        result, status="skipped" if result.status == "skipped" else "ok", proof="witness", seconds=0.0, changes=()
    )
    return msgspec.structs.replace(proof, report=msgspec.json.encode(masked(again.as_json())).decode())


def _past(result: Result) -> str:
    return "failed" if result.status == "failed" else "was skipped"

"""The proofs that a run with nothing to do would find, derived from the run that has just ended.

The start-up path reports a run without making one. So a task that turns on what others report is evaluated once more
with what they report when there is nothing to do: one that waits for a change is skipped then, and no handler runs.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nbprovision.engine.attempts import merged, stands
from nbprovision.engine.operations import Program, settle_all
from nbprovision.engine.registry import Registry
from nbprovision.engine.step import Outcome, Step, prove, skipping
from nbprovision.engine.work import Work, reporting
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ProvisionError
from nbprovision.model.result import Result
from nbprovision.model.task import Task
from nbprovision.state.store import Proof
from nbprovision.system.log import withholding


class Bound(msgspec.Struct, frozen=True):
    """A late step with its task, bound to given results; ``turns`` are those of a loop, else None."""

    step: Step
    environment: dict[str, str]
    turns: list[Step] | None = None


def bound(step: Step, results: dict[str, Any]) -> Bound | None:
    """Bind a late step.

    Returns:
        None if its conditions do not hold.

    Raises:
        InvalidPlaybook: something is wrong with it, or not known.

    """
    call = step.call
    if call is None or not call.late:
        return Bound(step, dict(call.environment) if call is not None else {})
    if call.written.loop is None:
        if not call.wanted(results):
            return None
        return Bound(step.bound(call.bind(results)), call.variables(results))
    turns = []
    for turn in call.turns(results):
        turn_step = msgspec.structs.replace(step, name=turn.name, call=turn)
        turns.append(turn_step.bound(turn.bind(results) if turn.wanted(results) else None))
    return Bound(step, call.variables(results) if turns else {}, turns) if turns else None


def proofs(work: Work, program: Program) -> list[Proof | None]:
    """The proofs of a run with nothing to do, in the order of the playbook; None for each that is not possible."""
    return list(settle_all(program, Settling(work)))


class Settling:
    """Evaluates steps as if nothing needed a change any more.

    Attributes:
        registry: The results that they would have.

    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self.registry = Registry()
        # What a task reports is asked for again only if somebody listens.
        self._asked = any(step.late or _is_judged(step) for step in work.steps)

    def proof_of(self, number: int) -> Proof | None:
        """The proof of a step."""
        outcome = self._work.outcomes.get(number)
        if outcome is None or outcome.proof is None or outcome.result.status == "failed":
            return None
        return self._quietly(self._work.bound[number], outcome, self._work.machine_of(number))

    def proof_of_late(self, number: int) -> Proof | None:
        """The proof of what a late step is bound to."""
        step = self._work.steps[number]
        try:
            task = bound(step, self.registry.results)
            if task is None:
                result = step.result("skipped")
                self.registry.take(step, result)
                return reporting(skipping(step), result)
            machine = self._work.machine
            if task.environment:
                machine = machine.seen_with(task.environment, applies=machine.applies)
            if task.turns is not None:
                return self._loop(step, task.turns, machine)
            outcome = self._work.outcomes.get(number)
            ran = self._work.bound[number].task == task.step.task and machine is self._work.machine_of(number)
            if not ran or outcome is None or outcome.proof is None:
                outcome = self._looked_at(task.step, machine)
            return self._quietly(task.step, outcome, machine)
        except ProvisionError:
            return None

    def _loop(self, step: Step, turns: list[Step], machine: Machine) -> Proof | None:
        outcomes = [self._looked_at(turn, machine) for turn in turns]
        result = merged(step, outcomes).result
        self.registry.take(step, result)
        proofs = [outcome.proof for outcome in outcomes]
        proven = [proof for proof in proofs if proof is not None]
        right = all(
            stands(turn, outcome.result, self.registry.results) for turn, outcome in zip(turns, outcomes, strict=True)
        )
        if len(proven) < len(proofs) or not right:
            return None
        ends = [proof.until for proof in proven if proof.until is not None]
        witnesses = tuple(dict.fromkeys(witness for proof in proven for witness in proof.witnesses))
        proof = Proof(skipping(step).digest, min(ends, default=None), witnesses, "")
        return reporting(proof, result)

    def _quietly(self, step: Step, outcome: Outcome, machine: Machine) -> Proof | None:
        """The proof of a step whose result is evaluated again if it reports a change."""
        result, proof = outcome.result, outcome.proof
        if proof is None:
            return None
        if result.changed and self._asked and step.task is not None:
            again = self._looked_at(step, machine)
            result, proof = again.result, again.proof
        elif result.changed:
            result = msgspec.structs.replace(result, status="ok", changes=())
        if not stands(step, result, self.registry.results):
            return None
        self.registry.take(step, result)
        return reporting(proof, result)

    @staticmethod
    def _looked_at(step: Step, machine: Machine) -> Outcome:
        """The outcome of a step that is only checked."""
        task: Task[Any] | None = step.task
        if task is None:
            return Outcome(step.result("skipped"), skipping(step))
        with withholding(step.no_log), machine.reporting() as values:
            plan, proof = prove(task, machine, patient=True)
        result: Result = step.result("changed" if plan.changes else "ok", changes=plan.changes, values=values)
        return Outcome(result, proof if task.proves(machine) else None)


def _is_judged(step: Step) -> bool:
    judgement = step.call.judgement if step.call is not None else None
    return judgement is not None and any((judgement.failed_when, judgement.changed_when, judgement.until))

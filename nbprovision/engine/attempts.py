"""Attempts at a task: repeated by ``until``, judged by ``failed_when`` and ``changed_when``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from nbprovision.engine.guard import Guard
from nbprovision.engine.step import Outcome, Step, carry_out
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, ProvisionError, TaskFailed
from nbprovision.model.result import Result, as_variables
from nbprovision.playbook.calls import Judgement, Setting
from nbprovision.playbook.yaml_nodes import ListNode, Node, Scalar

_PLAIN = Judgement()


def attempt(
    step: Step, machine: Machine, guard: Guard, *, check: bool, results: dict[str, Any], before: Callable[[], None]
) -> Outcome:
    """Carry a step out, as often as ``until`` and ``retries`` ask for it.

    Args:
        step: The step, with its task.
        machine: The facts.
        guard: Marks what is unfinished.
        check: Change nothing; then there is one try.
        results: What was registered so far.
        before: Called when there is something to do, before it is begun.

    """
    judgement = step.call.judgement if step.call is not None else _PLAIN
    if judgement == _PLAIN or step.task is None:
        return carry_out(step, machine, guard, check=check, before=before)
    tries = 1 if check else judgement.retries + 1
    for number in range(1, tries + 1):
        own = carry_out(step, machine, guard, check=check, before=before)
        outcome = judged(step, own, results)
        if tries > 1:
            values = {**outcome.result.values, "attempts": number}
            outcome = Outcome(msgspec.structs.replace(outcome.result, values=values), outcome.proof)
        try:
            enough = check or _enough(step, outcome.result, results)
            good = enough and outcome.result.status != "failed"
            if not check and (not good or own.result.status == "failed"):
                step.task.judged(machine, good=good)
        except ProvisionError as error:
            with contextlib.suppress(ProvisionError):
                step.task.judged(machine, good=False)
            return _failed(step, outcome, error)
        if enough:
            return outcome
        if number < tries:
            machine.progress(f"try {number} of {tries} was not enough; again in {judgement.delay:g} s", number, tries)
            time.sleep(judgement.delay)
    if outcome.result.status == "failed" or judgement.until is None:
        return outcome
    summary = TaskFailed(
        f"after {tries} {'tries' if tries > 1 else 'try'} this is still false: {_written(judgement.until)}",
        cause="the condition of `until` was false after the last one too",
        cure="give it more time by retries and delay, or correct the condition",
    )
    return _failed(step, outcome, summary)


def judged(step: Step, outcome: Outcome, results: dict[str, Any]) -> Outcome:
    """An outcome as ``failed_when`` and ``changed_when`` see it."""
    judgement = step.call.judgement if step.call is not None else _PLAIN
    if outcome.result.status not in ("ok", "changed", "failed"):
        return outcome
    try:
        if judgement.changed_when is not None and outcome.result.status != "failed":
            changed = _holds(step, judgement.changed_when, "changed_when", outcome.result, results)
            if changed != outcome.result.changed:
                status = "changed" if changed else "ok"
                changes = outcome.result.changes if changed else ()
                result = msgspec.structs.replace(outcome.result, status=status, changes=changes)
                outcome = Outcome(result, None if changed else outcome.proof)
        if judgement.failed_when is not None:
            failed = _holds(step, judgement.failed_when, "failed_when", outcome.result, results)
            if failed and outcome.result.status != "failed":
                error = TaskFailed(
                    f"failed_when is true: {_written(judgement.failed_when)}",
                    cause="; ".join(outcome.result.warnings),
                    cure="check the result of the task: run again with -v",
                )
                return _failed(step, outcome, error)
            if not failed and outcome.result.status == "failed":
                why = outcome.result.error.message if outcome.result.error is not None else ""
                note = f"counts as no failure by failed_when: {why}"
                status = "changed" if outcome.result.changes else "ok"
                result = msgspec.structs.replace(outcome.result, status=status, error=None, warnings=(note,))
                return Outcome(result)
    except InvalidPlaybook as error:
        if not outcome.result.check_only:
            return _failed(step, outcome, error)
        if not outcome.result.pending:
            return outcome
        # What is only planned has nothing to judge yet.
        note = f"will change after '{step.name}' itself has run, according to its result"
        return Outcome(msgspec.structs.replace(outcome.result, warnings=(*outcome.result.warnings, note)))
    return outcome


def stands(step: Step, result: Result, results: dict[str, Any]) -> bool:
    """Whether a result of a run with nothing to do is one that says so, whatever judges it."""
    judgement = step.call.judgement if step.call is not None else _PLAIN
    if judgement == _PLAIN or result.status == "skipped":
        return True
    outcome = judged(step, Outcome(result), results)
    try:
        return outcome.result.status == "ok" and _enough(step, outcome.result, results)
    except InvalidPlaybook:
        return False


def merged(step: Step, outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of a loop, whose turns have the given outcomes."""
    results = [outcome.result for outcome in outcomes]
    status = next(
        (word for word in ("failed", "changed", "ok") if any(turn.status == word for turn in results)), "skipped"
    )
    result = step.result(
        status,  # type: ignore[arg-type]
        seconds=sum(turn.seconds for turn in results),
        changes=tuple(change for turn in results for change in turn.changes),
        warnings=tuple(dict.fromkeys(warning for turn in results for warning in turn.warnings)),
        error=next((turn.error for turn in results if turn.error is not None), None),
        check_only=any(turn.check_only for turn in results),
        lasting=any(turn.lasting for turn in results),
    )
    return Outcome(msgspec.structs.replace(result, values={"results": [as_variables(turn) for turn in results]}))


def _enough(step: Step, result: Result, results: dict[str, Any]) -> bool:
    judgement = step.call.judgement if step.call is not None else _PLAIN
    if judgement.until is None:
        return result.status != "failed"
    return _holds(step, judgement.until, "until", result, results)


def _holds(step: Step, conditions: tuple[Node, ...], keyword: str, result: Result, results: dict[str, Any]) -> bool:
    assert step.call is not None  # noqa: S101 - the conditions are the call's
    setting: Setting = step.call.written.setting
    own = {step.call.register: as_variables(result)} if step.call.register else {}
    return setting.knowing({**results, **own}).holds(conditions, keyword)


def _failed(step: Step, outcome: Outcome, error: ProvisionError) -> Outcome:
    before = outcome.result
    result = step.result(
        "failed", seconds=before.seconds, changes=before.changes, error=error.at(step.position), values=before.values
    )
    return Outcome(result)


def _written(conditions: tuple[Node, ...]) -> str:
    """Conditions as the playbook has them."""
    nodes: list[Node] = []
    for node in conditions:
        nodes += node.items if isinstance(node, ListNode) else [node]
    return " and ".join(f"'{node.text[:100]}'" for node in nodes if isinstance(node, Scalar))

"""Drives one task through its steps, as the engine does, for tests that need no playbook."""

from __future__ import annotations

from typing import Any

from nbprovision.machine.expansion import expanded
from nbprovision.machine.machine import Machine
from nbprovision.model.result import Change
from nbprovision.model.task import Task
from nbprovision.system import unfinished


def planned(task: Task[Any], machine: Machine) -> tuple[Change, ...]:
    """What the task would change, each of it something that the task's own definition tells of."""
    one = expanded(task)
    changes = one.plan(one.read(machine)).changes
    assert {change.action for change in changes} <= set(type(task).actions), "Task.actions lacks one of them"
    return changes


def converge(task: Task[Any], machine: Machine) -> tuple[Change, ...]:
    """Bring the task's subject about, verify it, and return what was changed."""
    one = expanded(task)
    plan = one.plan(one.read(machine))
    if plan:
        prefixes = list(one.guarded(machine))
        for prefix in prefixes:
            unfinished.mark(prefix, task.kind())
        one.apply(plan, machine)
        machine.forget()
        left = planned(task, machine)
        assert left == (), f"not converged: {left}"
        for prefix in prefixes:
            unfinished.clear(prefix)
    assert planned(task, machine) == ()
    return plan.changes

"""Rules whose findings come from reading the playbook, as a run would read it before it does anything."""

from __future__ import annotations

from collections.abc import Iterable

from nbprovision.lint.finding import RULES, Found, Rule, rule
from nbprovision.lint.subject import Playbook

RULES += [
    Rule(
        name="invalid-playbook",
        severity="error",
        about="playbook",
        finds="invalid YAML, unknown tasks and keywords, values of a wrong type, parameters that exclude each other",
        why="a run would refuse the playbook",
    ),
    Rule(
        name="unknown-parameter",
        severity="error",
        about="playbook",
        finds="a parameter that the task does not have",
        why="a run would refuse the playbook",
    ),
    Rule(
        name="unresolved-template",
        severity="error",
        about="playbook",
        finds="an invalid template, or one with an undefined variable",
        why="a run would refuse the playbook, unless `-e` sets the variable",
    ),
    Rule(
        name="unknown-noqa",
        severity="warning",
        about="playbook",
        finds="`# noqa:` with an unknown rule",
        why="it disables nothing",
    ),
]


@rule("no-task", "warning", "a play without a task", "nothing is done")
def no_task(playbook: Playbook) -> Iterable[Found]:
    """Handlers alone are never run, and a file of tasks may be empty."""
    for position in playbook.idle:
        yield Found(position=position, message="this play has no task", cure="add tasks below tasks:")


@rule(
    "unresolved-elsewhere",
    "warning",
    "an invalid template in a task that is skipped on this machine",
    "a run would refuse the playbook if the task's `when` were true",
)
def unresolved_elsewhere(playbook: Playbook) -> Iterable[Found]:
    """A task that is done only if a variable is defined may count on it."""
    for call in playbook.calls:
        error = call.unresolved
        if error is not None:
            yield Found(position=error.position or call.position, message=error.message, cure=error.cure)

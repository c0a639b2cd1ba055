"""Rules whose findings come from reading the playbook, as a run would read it before it does anything."""

from __future__ import annotations

from nbprovision.lint.finding import RULES, Rule

RULES += [
    Rule(
        name="invalid-playbook",
        severity="error",
        about="playbook",
        finds="no YAML, no such task or keyword, a value of another type, parameters that do not go together",
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
        finds="a template that is wrong, or asks for a variable that is not defined",
        why="a run would refuse the playbook, unless `-e` sets the variable",
    ),
    Rule(
        name="unknown-noqa",
        severity="warning",
        about="playbook",
        finds="`# noqa:` with a rule that there is not",
        why="it keeps nothing quiet",
    ),
]

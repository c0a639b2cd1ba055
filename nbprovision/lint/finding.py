"""A rule of lint, the problems that its function yields, and the findings made of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from nbprovision.model import subjects
from nbprovision.model.errors import Position

if TYPE_CHECKING:
    from nbprovision.lint.subject import Playbook, Script

Severity = Literal["error", "warning"]


class Edit(msgspec.Struct, frozen=True):
    """Text that replaces the characters from ``start`` to ``end`` of the file, counted from 0."""

    start: int
    end: int
    text: str


class Problem(msgspec.Struct, frozen=True):
    """A problem in the words of the function that checks for it.

    Attributes:
        position: The position of the problem.
        message: The problem, in one sentence.
        cure: The instruction that solves it.
        why: The consequence; empty for the rule's own reason.
        edits: The repair by ``--fix``; empty if a repair would not be safe.

    """

    position: Position
    message: str
    cure: str = ""
    why: str = ""
    edits: tuple[Edit, ...] = ()


Check = Callable[[Any], Iterable[Problem]]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A problem with the name and severity of its rule.

    Attributes:
        rule: The rule's name.
        severity: ``error``: it cannot work as written; ``warning``: it may do harm, or only work for now.

    The other attributes are those of `Problem`.

    """

    rule: str
    severity: Severity
    position: Position
    message: str
    why: str
    cure: str
    edits: tuple[Edit, ...] = ()


class Rule(msgspec.Struct, frozen=True):
    """A rule.

    Attributes:
        name: The name in ``# noqa: NAME`` and in the documentation.
        severity: The severity of all its findings.
        about: The kind of file that it checks.
        finds: The problem that it looks for.
        why: The consequence of the problem.
        fixes: Whether ``--fix`` can repair some or all of its findings.
        check: The function that checks a playbook or a script; None for faults that reading the playbook reports.

    """

    name: str
    severity: Severity
    about: Literal["playbook", "script"]
    finds: str
    why: str
    fixes: bool = False
    check: Check | None = None

    def findings(self, subject: Playbook | Script) -> Iterator[Finding]:
        """Check a playbook or a script."""
        return map(self.finding, self.check(subject) if self.check is not None else ())

    def finding(self, problem: Problem) -> Finding:
        """Return a problem as a finding of this rule."""
        return Finding(
            rule=self.name,
            severity=self.severity,
            position=problem.position,
            message=problem.message,
            why=problem.why or self.why,
            cure=problem.cure,
            edits=problem.edits,
        )


RULES: list[Rule] = []


def rule(
    severity: Severity, why: str, *, about: Literal["playbook", "script"] = "playbook", fixes: bool = False
) -> Callable[[Check], Check]:
    """Make a function a rule.

    The rule has the function's name, with ``script-`` before it for scripts. The first line of the docstring says what
    the rule finds. The arguments are those of `Rule`.
    """

    def register(check: Check) -> Check:
        name = ("script_" if about == "script" else "") + check.__name__
        finds = (check.__doc__ or "").partition("\n")[0].removesuffix(".")
        RULES.append(Rule(name.replace("_", "-"), severity, about, finds, why, fixes, check))
        return check

    return register


script_rule = functools.partial(rule, about="script")


@functools.cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule: those about playbooks first, sorted by name."""
    for _ in subjects.imported("_rules"):  # importing a module registers its rules
        pass
    return tuple(sorted(RULES, key=lambda rule: (rule.about, rule.name)))

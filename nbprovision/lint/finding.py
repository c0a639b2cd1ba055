"""A rule of the lint, and what it finds."""

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
    """Text that takes the place of that from ``start`` to ``end`` (characters of the file, counted from 0)."""

    start: int
    end: int
    text: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a rule found.

    Attributes:
        rule: The rule's name.
        severity: ``error``: it cannot work as written; ``warning``: it may do harm, or only work for now.
        position: Where.
        message: What is wrong, in one sentence.
        why: What comes of it.
        cure: What to do, or to write instead.
        edits: What ``--fix`` does about it; empty if that would not be safe.

    """

    rule: str
    severity: Severity
    position: Position
    message: str
    why: str
    cure: str
    edits: tuple[Edit, ...] = ()


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule's function yields; name, severity and reason are the rule's."""

    position: Position
    message: str
    cure: str = ""
    why: str = ""
    edits: tuple[Edit, ...] = ()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule.

    Attributes:
        name: As ``# noqa: NAME`` and the documentation have it.
        severity: Of all that it finds.
        about: The subject that it checks.
        finds: What it finds, in a few words.
        why: Why that is a problem.
        fixes: Whether ``--fix`` can repair all or some of it.
        check: Checks a playbook or a script. None for faults that reading the playbook finds.

    """

    name: str
    severity: Severity
    about: Literal["playbook", "script"]
    finds: str
    why: str
    fixes: bool = False
    check: Callable[[Any], Iterable[Found]] | None = None

    def findings(self, subject: Playbook | Script) -> Iterator[Finding]:
        """All that it finds."""
        for found_fault in self.check(subject) if self.check is not None else ():
            yield self.finding(found_fault)

    def finding(self, found: Found) -> Finding:
        """What was found, in this rule's name."""
        return Finding(
            rule=self.name,
            severity=self.severity,
            position=found.position,
            message=found.message,
            why=found.why or self.why,
            cure=found.cure,
            edits=found.edits,
        )


RULES: list[Rule] = []


def rule(
    name: str,
    severity: Severity,
    finds: str,
    why: str,
    *,
    about: Literal["playbook", "script"] = "playbook",
    fixes: bool = False,
) -> Callable[[Callable[[Any], Iterable[Found]]], Callable[[Any], Iterable[Found]]]:
    """Make a function a rule; see `Rule`."""

    def made(check: Callable[[Any], Iterable[Found]]) -> Callable[[Any], Iterable[Found]]:
        RULES.append(Rule(name=name, severity=severity, about=about, finds=finds, why=why, fixes=fixes, check=check))
        return check

    return made


@functools.cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule, sorted by name."""
    for _ in subjects.imported("_rules"):  # each module notes its rules when it is imported
        pass
    return tuple(sorted(RULES, key=lambda rule: (rule.about, rule.name)))

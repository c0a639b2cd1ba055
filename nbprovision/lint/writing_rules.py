"""Rules about how a playbook is written; each can be repaired without changing what it means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import get_args

from nbprovision.lint.finding import Edit, Found, rule
from nbprovision.lint.subject import Playbook
from nbprovision.machine.platform import PlatformKind
from nbprovision.model.errors import Position, nearest
from nbprovision.playbook.written import Written
from nbprovision.playbook.yaml_nodes import MapNode, Node, Scalar

_CONDITIONS = ("when", "failed_when", "changed_when", "until")
_WHOLE = re.compile(r"\{\{(?P<inner>(?:(?!\{\{|\}\}).)*)\}\}")
_KINDS = get_args(PlatformKind)
_OF_PLATFORM = re.compile(
    r"\bnb\.platform\s*(?:==|!=|(?:not\s+)?in\b)\s*(?P<names>\[[^\]]*\]|\([^)]*\)|'[^']*'|\"[^\"]*\")"
)
_LONG = "ansible.builtin."


@rule(
    "crlf",
    "warning",
    "line ends of Windows",
    "lines that a task writes or runs may end with a carriage return, which no shell understands",
    fixes=True,
)
def crlf(playbook: Playbook) -> Iterable[Found]:
    """One finding for the file; all its line ends are repaired."""
    ends = [match.start() for match in re.finditer(r"\r\n", playbook.text)]
    if ends:
        yield Found(
            position=Position(str(playbook.path), 1, 1),
            message=f"{len(ends)} lines end with CR LF",
            cure="save the file with LF line ends",
            edits=tuple(Edit(start, start + 2, "\n") for start in ends),
        )


@rule("truthy", "warning", "`yes`, `no`, `on` and `off`", "YAML 1.2 and editors read them as text", fixes=True)
def truthy(playbook: Playbook) -> Iterable[Found]:
    """Values only: keys stay text. If a parameter takes text, an error reports the value already."""
    reported = {fault.position for fault in (*playbook.faults, *playbook.refused)}
    for _, value in playbook.scalars:
        if value.position in reported:
            continue
        if isinstance(value.value, bool) and value.plain and value.text.lower() in ("yes", "no", "on", "off"):
            word = str(value.value).lower()
            yield Found(
                position=value.position,
                message=f"'{value.text}' means {word}",
                cure=f"write {word}",
                edits=_replaced(playbook, value.position, value.text, word),
            )


@rule(
    "unquoted-number",
    "warning",
    "a number that YAML 1.1 changes: `3.10` is 3.1, `010` is 8, `12:30` is 750, `1_0` is 10",
    "a parameter of type text gets the written text, but a variable only the number",
)
def unquoted_number(playbook: Playbook) -> Iterable[Found]:
    """Everywhere, because another tool or the next reader may read it otherwise."""
    for _, value in playbook.scalars:
        if isinstance(value.value, Written) and value.value.loses and value.plain:
            yield Found(
                position=value.position,
                message=f"YAML reads {value.text} as the number {value.value.number()}",
                cure=f'write "{value.text}" if it is text, {value.value.number()} if it is a number',
            )


@rule("braces-in-condition", "warning", "`{{ }}` around a whole condition", "a condition is an expression", fixes=True)
def braces_in_condition(playbook: Playbook) -> Iterable[Found]:
    """``when: "{{ x }}"`` is ``when: x``."""
    for keys, value in playbook.scalars:
        if not keys or keys[-1].text not in _CONDITIONS or not isinstance(value.value, str):
            continue
        match = _WHOLE.fullmatch(value.text.strip())
        if match is None:
            continue
        inner = match["inner"].strip()
        edits: tuple[Edit, ...] = ()
        for quote in ("'", '"'):
            edits = edits or _replaced(playbook, value.position, quote + value.text + quote, quote + inner + quote)
        yield Found(
            position=value.position,
            message=f"'{keys[-1].text}' does not need braces",
            cure=f"write {keys[-1].text}: {inner}",
            edits=edits,
        )


@rule(
    "unknown-platform",
    "error",
    "a comparison of `nb.platform` with an unknown name",
    "the condition is never true, and nothing reports it",
)
def unknown_platform(playbook: Playbook) -> Iterable[Found]:
    """In conditions and templates: ``nb.platform == 'x'``, ``!=`` and ``in``."""
    for _, value in playbook.scalars:
        if not isinstance(value.value, str):
            continue
        for match in _OF_PLATFORM.finditer(value.value):
            for name in re.findall(r"'([^']*)'|\"([^\"]*)\"", match["names"]):
                written = name[0] or name[1]
                if written not in _KINDS:
                    yield Found(
                        position=value.position,
                        message=f"unknown platform '{written}'{nearest(written, _KINDS)}",
                        cure=f"there are: {', '.join(_KINDS)}",
                    )


@rule("long-name", "warning", "`ansible.builtin.` before a key", "collections are not supported", fixes=True)
def long_name(playbook: Playbook) -> Iterable[Found]:
    """``ansible.builtin.import_tasks`` is ``import_tasks``."""
    for key in (key for node in playbook.nodes.values() for key in _keys(node)):
        if key.text.startswith(_LONG):
            short = key.text.removeprefix(_LONG)
            yield Found(
                position=key.position,
                message=f"'{key.text}' is '{short}' here",
                cure=f"write {short}",
                edits=_replaced(playbook, key.position, key.text, short),
            )


def _keys(node: Node) -> Iterable[Scalar]:
    if isinstance(node, MapNode):
        for key, value in node.pairs:
            yield key
            yield from _keys(value)
    elif not isinstance(node, Scalar):
        for item in node.items:
            yield from _keys(item)


def _replaced(playbook: Playbook, position: Position, before: str, after: str) -> tuple[Edit, ...]:
    """Return the edit, if the file is the playbook itself and has exactly ``before`` at the position."""
    if position.file != str(playbook.path):
        return ()
    lines = playbook.text.split("\n")
    start = sum(len(line) + 1 for line in lines[: position.line - 1]) + position.column - 1
    if playbook.text[start : start + len(before)] != before:
        return ()
    return (Edit(start, start + len(before), after),)

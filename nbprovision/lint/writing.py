"""Rules about how a playbook is written; each can be mended without changing what it means."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nbprovision.lint.finding import Edit, Found, rule
from nbprovision.lint.subject import Playbook
from nbprovision.model.errors import Position
from nbprovision.playbook.yaml_nodes import MapNode, Node, Scalar

_CONDITIONS = ("when", "failed_when", "changed_when", "until")
_WHOLE = re.compile(r"\{\{(?P<inner>(?:(?!\{\{|\}\}).)*)\}\}")
_LONG = "ansible.builtin."


@rule(
    "crlf",
    "warning",
    "line ends of Windows",
    "what a task writes or runs may get a carriage return at the end of each line, which no shell understands",
    fixes=True,
)
def crlf(playbook: Playbook) -> Iterable[Found]:
    """One finding for the file; all its line ends are mended."""
    ends = [match.start() for match in re.finditer(r"\r\n", playbook.text)]
    if ends:
        yield Found(
            position=Position(str(playbook.path), 1, 1),
            message=f"{len(ends)} lines end with CR LF",
            cure="save the file with LF line ends",
            edits=tuple(Edit(start, start + 2, "\n") for start in ends),
        )


@rule("truthy", "warning", "`yes`, `no`, `on` and `off`", "YAML 1.2 takes them for text, and so do editors", fixes=True)
def truthy(playbook: Playbook) -> Iterable[Found]:
    """Values only: a key that is called so is none of these."""
    for _, value in playbook.scalars:
        if isinstance(value.value, bool) and value.plain and value.text.lower() in ("yes", "no", "on", "off"):
            word = str(value.value).lower()
            yield Found(
                position=value.position,
                message=f"'{value.text}' stands for {word}",
                cure=f"write {word}",
                edits=_replaced(playbook, value.position, value.text, word),
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
            message=f"'{keys[-1].text}' has braces around it",
            cure=f"write {keys[-1].text}: {inner}",
            edits=edits,
        )


@rule("long-name", "warning", "`ansible.builtin.` before a key", "there are no collections here", fixes=True)
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
    """The edit, if the file is the playbook's own and ``before`` stands at the position as it is written there."""
    if position.file != str(playbook.path):
        return ()
    lines = playbook.text.split("\n")
    start = sum(len(line) + 1 for line in lines[: position.line - 1]) + position.column - 1
    if playbook.text[start : start + len(before)] != before:
        return ()
    return (Edit(start, start + len(before), after),)

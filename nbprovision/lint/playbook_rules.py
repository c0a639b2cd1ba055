"""Rules about any playbook: faults of reading it, missing files, unused handlers, and style."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

from nbprovision.lint.finding import RULES, Edit, Problem, Rule, rule
from nbprovision.lint.subject import Call, Playbook
from nbprovision.machine.platform import PlatformKind
from nbprovision.model.errors import Position, nearest
from nbprovision.model.task import Input
from nbprovision.playbook import ansible
from nbprovision.playbook.written import WrittenNumber
from nbprovision.playbook.yaml_nodes import MapNode, Node, Scalar

_CONDITIONS = ("when", "failed_when", "changed_when", "until")
_WHOLE_TEMPLATE = re.compile(r"\{\{(?P<inner>(?:(?!\{\{|\}\}).)*)\}\}")
_PLATFORMS = get_args(PlatformKind)
_PLATFORM_COMPARISON = re.compile(
    r"\bnb\.platform\s*(?:==|!=|(?:not\s+)?in\b)\s*(?P<names>\[[^\]]*\]|\([^)]*\)|'[^']*'|\"[^\"]*\")"
)
_LONG_PREFIX = "ansible.builtin."
_REFUSED = "a run would refuse the playbook"

RULES += [
    Rule(
        "invalid-playbook",
        "error",
        "playbook",
        "Invalid YAML, unknown tasks and keywords, values of a wrong type, parameters that exclude each other",
        _REFUSED,
    ),
    Rule("unknown-parameter", "error", "playbook", "A parameter that the task does not have", _REFUSED),
    Rule(
        "unresolved-template",
        "error",
        "playbook",
        "An invalid template, or one with an undefined variable",
        f"{_REFUSED}, unless `-e` sets the variable",
    ),
    Rule("unknown-noqa", "warning", "playbook", "`# noqa:` with an unknown rule", "it disables nothing"),
]


@rule("warning", "the play does nothing")
def no_task(playbook: Playbook) -> Iterable[Problem]:
    """A play without a task.

    Handlers alone never run, and a file of tasks may be empty.
    """
    for position in playbook.idle:
        yield Problem(position, "this play has no task", "add tasks below tasks:")


@rule("warning", "a run would refuse the playbook if the task's `when` were true")
def unresolved_elsewhere(playbook: Playbook) -> Iterable[Problem]:
    """An invalid template in a task that is skipped on this machine."""
    for call in playbook.calls:
        error = call.unresolved
        if error is not None:
            yield Problem(error.position or call.position, error.message, error.cure)


@rule("error", "the task fails")
def missing_file(playbook: Playbook) -> Iterable[Problem]:
    """A missing file beside the playbook that no earlier task creates.

    Only files in the playbook's folder move with it. After a command, any file may exist.
    """
    folder = Path(os.path.abspath(playbook.path)).parent
    created: set[Path] = set()
    for call in playbook.calls:
        if call.kind == "ensure_command":
            return
        for path, position in _inputs(playbook, call) if call.state not in ("absent", "link") else ():
            if folder in path.parents and not os.path.lexists(path) and not created & {path, *path.parents}:
                message = f"{path.relative_to(folder)} is missing in the playbook's folder"
                yield Problem(position, message, "correct the name, or add the file")
        created |= {
            Path(resource.identity) for resource in playbook.provided(call) if resource.identity.startswith("/")
        }


def _inputs(playbook: Playbook, call: Call) -> Iterator[tuple[Path, Position]]:
    """Each file that a task reads, with the position of its name; those that such a file names are included."""
    inputs = playbook.answer(call, lambda task: list(task.inputs(playbook.machine))) or []
    if call.kind == "ensure_pip_index" and call.task is not None:
        inputs += [Input(Path(text), "cert") for text in call.strings("cert")]
    for path, parameter, position in inputs:
        yield path, position or dict(call.entries(parameter)).get(str(path), call.at(parameter))


@rule("warning", "it never runs")
def unused_handler(playbook: Playbook) -> Iterable[Problem]:
    """A handler that no task notifies."""
    notified = {name for call in playbook.calls for name in call.notify}
    for call in playbook.calls:
        if call.listen and not notified & set(call.listen):
            cure = f"add notify: {call.name} to the task that should trigger it, or remove it"
            yield Problem(call.position, f"nothing notifies '{call.name}'", cure)


@rule("warning", "no shell understands the carriage return in the lines that a task writes or runs", fixes=True)
def crlf(playbook: Playbook) -> Iterable[Problem]:
    """Line ends of Windows.

    One finding for the file.
    """
    ends = [match.start() for match in re.finditer(r"\r\n", playbook.text)]
    if ends:
        edits = tuple(Edit(start, start + 2, "\n") for start in ends)
        message, start = f"{len(ends)} lines end with CR LF", Position(str(playbook.path), 1, 1)
        yield Problem(start, message, "save the file with LF line ends", edits=edits)


@rule("warning", "YAML 1.2 and editors read them as text", fixes=True)
def truthy(playbook: Playbook) -> Iterable[Problem]:
    """`yes`, `no`, `on` and `off`.

    Values only: keys stay text. If a parameter takes text, an error reports the value already.
    """
    reported = {fault.position for fault in (*playbook.faults, *playbook.refused)}
    for _, value in playbook.scalars:
        if value.position in reported:
            continue
        if isinstance(value.value, bool) and value.plain and value.text.lower() in ("yes", "no", "on", "off"):
            word = str(value.value).lower()
            edits = _replaced(playbook, value.position, value.text, word)
            yield Problem(value.position, f"'{value.text}' means {word}", f"write {word}", edits=edits)


@rule("warning", "a parameter of type text gets the written text, but a variable only the number")
def unquoted_number(playbook: Playbook) -> Iterable[Problem]:
    """A number that YAML 1.1 changes: `3.10` is 3.1, `010` is 8, `12:30` is 750, `1_0` is 10.

    Everywhere, because another tool or the next reader may read it otherwise.
    """
    for _, value in playbook.scalars:
        if isinstance(value.value, WrittenNumber) and value.value.loses and value.plain:
            number = value.value.number()
            cure = f'write "{value.text}" if it is text, {number} if it is a number'
            yield Problem(value.position, f"YAML reads {value.text} as the number {number}", cure)


@rule("warning", "a condition is an expression", fixes=True)
def braces_in_condition(playbook: Playbook) -> Iterable[Problem]:
    """`{{ }}` around a whole condition."""
    for keys, value in playbook.scalars:
        if not keys or keys[-1].text not in _CONDITIONS or not isinstance(value.value, str):
            continue
        match = _WHOLE_TEMPLATE.fullmatch(value.text.strip())
        if match is None:
            continue
        inner = match["inner"].strip()
        edits: tuple[Edit, ...] = ()
        for quote in ("'", '"'):
            edits = edits or _replaced(playbook, value.position, quote + value.text + quote, quote + inner + quote)
        message, cure = f"'{keys[-1].text}' does not need braces", f"write {keys[-1].text}: {inner}"
        yield Problem(value.position, message, cure, edits=edits)


@rule("error", "the condition is never true, and nothing reports it")
def unknown_platform(playbook: Playbook) -> Iterable[Problem]:
    """A comparison of `nb.platform` with an unknown name.

    In conditions and templates: ``nb.platform == 'x'``, ``!=`` and ``in``.
    """
    for _, value in playbook.scalars:
        for match in _PLATFORM_COMPARISON.finditer(value.value if isinstance(value.value, str) else ""):
            for single, double in re.findall(r"'([^']*)'|\"([^\"]*)\"", match["names"]):
                name = single or double
                if name not in _PLATFORMS:
                    message = f"unknown platform '{name}'{nearest(name, _PLATFORMS)}"
                    yield Problem(value.position, message, f"there are: {', '.join(_PLATFORMS)}")


@rule("warning", "collections are not supported", fixes=True)
def long_name(playbook: Playbook) -> Iterable[Problem]:
    """`ansible.builtin.` before a key, except before a module of Ansible that a task replaces."""
    for key in (key for node in playbook.nodes.values() for key in _keys(node)):
        if key.text.startswith(_LONG_PREFIX) and ansible.module(key.text) is None:
            short = key.text.removeprefix(_LONG_PREFIX)
            edits = _replaced(playbook, key.position, key.text, short)
            yield Problem(key.position, f"'{key.text}' is '{short}' here", f"write {short}", edits=edits)


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

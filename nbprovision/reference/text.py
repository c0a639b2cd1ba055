"""The tasks and keywords as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping

from nbprovision.reference.definition import STATES, Definition, Parameter

_INDENT = "    "


def page(definition: Definition, *, width: int = 100, heading: Callable[[str], str] = str) -> str:
    """Describe one kind of task.

    Args:
        definition: The kind.
        width: Columns that a line may have.
        heading: Makes a heading stand out.

    """

    def lines() -> Iterator[str]:
        yield heading(definition.kind)
        for paragraph in definition.text.split("\n\n"):
            yield from _filled(paragraph, width)
            yield ""
        yield heading("PARAMETERS")
        for parameter in definition.parameters:
            yield from _parameter(parameter, width)
        yield from (
            textwrap.fill(parameter.replace("`", ""), width, initial_indent=_INDENT)
            for parameter in definition.relations
        )
        yield ""
        yield heading("EVERY TASK TAKES")
        for parameter in definition.shared:
            yield from _parameter(parameter, width)
        yield ""
        yield heading("WHAT IT REPORTS")
        yield from _listed(STATES, width)
        if definition.actions:
            yield _INDENT + "One or more of these changes:"
            yield from _listed(definition.actions, width, indent=2 * _INDENT)
        if definition.examples:
            yield ""
            yield heading("EXAMPLES")
            yield textwrap.indent(definition.examples, _INDENT)

    return "\n".join(lines()) + "\n"


def overview(
    definitions: Iterable[Definition],
    *,
    others: Mapping[str, str] | None = None,
    width: int = 100,
    heading: Callable[[str], str] = str,
) -> str:
    """List each kind of task in a line, and name the sources of more information.

    Args:
        definitions: nbprovision's own kinds.
        others: The origin of each other kind.
        width: Columns that a line may have.
        heading: Makes a heading stand out.

    """
    rows = {definition.kind: definition.summary for definition in definitions}
    lines = [heading("TASKS"), *_listed(rows, width), ""]
    if others:
        lines += [heading("TASKS OF YOUR OWN, AND OF PACKAGES"), *_listed(others, width), ""]
    lines += [heading("MORE")]
    more = {
        "nbprovision doc TASK": "its parameters, changes and examples",
        "nbprovision doc keywords": "the other keywords of plays, tasks, blocks and handlers",
        "nbprovision doc KEYWORD": "one of these",
        "nbprovision schema": "all of it as a JSON Schema, for editors",
    }
    return "\n".join([*lines, *_listed(more, width)]) + "\n"


def keywords(tables: Mapping[str, Mapping[str, str]], *, width: int = 100, heading: Callable[[str], str] = str) -> str:
    """The keywords, by the part of a playbook that accepts them."""
    parts = ("\n".join([heading(where.upper()), *_listed(rows, width)]) for where, rows in tables.items())
    return "\n\n".join(parts) + "\n"


def _parameter(parameter: Parameter, width: int) -> Iterator[str]:
    rest = "; required" if parameter.required else f"; default: {parameter.default}" if parameter.default else ""
    yield f"{_INDENT}{parameter.name}  ({parameter.takes}{rest})"
    yield from _filled(parameter.description, width, 2 * _INDENT)


def _listed(rows: Mapping[str, str], width: int, indent: str = _INDENT) -> Iterator[str]:
    column = len(indent) + max(map(len, rows), default=0) + 2
    for name, meaning in rows.items():
        yield from textwrap.wrap(
            meaning or " ",
            width,
            initial_indent=f"{indent}{name}".ljust(column),
            subsequent_indent=" " * column,
            break_on_hyphens=False,
            drop_whitespace=bool(meaning),
        )


def _filled(text: str, width: int, indent: str = _INDENT) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )

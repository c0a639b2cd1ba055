"""The tasks and keywords as Markdown, for the reference page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nbprovision.reference.definition import Definition, Parameter


def section(definition: Definition) -> str:
    """Describe one kind of task, its parameters and changes, under a heading of its own."""
    lines = [f"### {definition.kind}", "", definition.text, ""]
    lines += [*_table(definition.parameters), ""]
    if definition.relations:
        lines += [" ".join(definition.relations), ""]
    if definition.actions:
        actions = ", ".join(f"`{action}` ({meaning})" for action, meaning in definition.actions.items())
        lines += [f"Possible changes: {actions}.", ""]
    if definition.examples:
        lines += ["```yaml", definition.examples, "```", ""]
    return "\n".join(lines)


def shared(parameters: Iterable[Parameter]) -> str:
    """List the parameters that every task has."""
    return "\n".join(_table(parameters)) + "\n"


def keywords(tables: Mapping[str, Mapping[str, str]]) -> str:
    """List the keywords with the places that accept them; keywords of one meaning share a row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for where, described in tables.items():
        for name, description in described.items():
            rows.setdefault((name, description), []).append(where)
    lines = [f"| `{name}` | {', '.join(places)} | {_cell(text)} |" for (name, text), places in rows.items()]
    return "\n".join(["| keyword | of | |", "|---|---|---|", *lines, ""])


def _table(parameters: Iterable[Parameter]) -> list[str]:
    return ["| parameter | takes | default | |", "|---|---|---|---|", *map(_row, parameters)]


def _row(parameter: Parameter) -> str:
    takes = ", ".join(f"`{choice}`" for choice in parameter.choices) or parameter.takes
    default = "required" if parameter.required else f"`{parameter.default}`" if parameter.default else ""
    return f"| `{parameter.name}` | {takes} | {default} | {_cell(parameter.description)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

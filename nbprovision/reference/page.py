"""The tasks and keywords as Markdown, for the reference page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nbprovision.reference.definition import Definition, Parameter


def section(definition: Definition) -> str:
    """What one kind of task does, takes and reports, under a heading of its own."""
    lines = [f"### {definition.kind}", "", definition.text, ""]
    if definition.handler_only:
        lines += ["It stands under `handlers`, and is run when a task that notifies it has changed something.", ""]
    lines += [*_table(definition.parameters), ""]
    if definition.relations:
        lines += [" ".join(definition.relations), ""]
    if definition.actions:
        told = ", ".join(f"`{action}` ({meaning})" for action, meaning in definition.actions.items())
        lines += [f"What it can have changed: {told}.", ""]
    if definition.examples:
        lines += ["```yaml", definition.examples, "```", ""]
    return "\n".join(lines)


def shared(parameters: Iterable[Parameter]) -> str:
    """The parameters that every task has."""
    return "\n".join(_table(parameters)) + "\n"


def keywords(tables: Mapping[str, Mapping[str, str]]) -> str:
    """The keywords with what may say them: plays, tasks, blocks and so on; what means the same stands in one row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for where, described in tables.items():
        for name, description in described.items():
            rows.setdefault((name, description), []).append(where)
    lines = [f"| `{name}` | {', '.join(places)} | {_cell(told)} |" for (name, told), places in rows.items()]
    return "\n".join(["| keyword | of | |", "|---|---|---|", *lines, ""])


def _table(parameters: Iterable[Parameter]) -> list[str]:
    return ["| parameter | takes | default | |", "|---|---|---|---|", *map(_row, parameters)]


def _row(one: Parameter) -> str:
    takes = ", ".join(f"`{choice}`" for choice in one.choices) or one.takes
    default = "required" if one.required else f"`{one.default}`" if one.default else ""
    return f"| `{one.name}` | {takes} | {default} | {_cell(one.description)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

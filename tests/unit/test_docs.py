"""The reference page tells of every task, in the words of the task's own definition.

``python -m tests.unit.test_docs`` writes that part of the page anew.
"""

from __future__ import annotations

import inspect
import re
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from nbprovision.model.task import Task
from nbprovision.tasks import Catalogue

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference.md"
BEGIN = "<!-- made by: python -m tests.unit.test_docs -->\n"
END = "<!-- end -->\n"


def described(kind: type[Task[Any]]) -> str:
    """The section of one task: what it does, and a row for each parameter of its own."""
    rows = []
    common = get_type_hints(Task, include_extras=True)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name in common:
            continue
        description = " ".join(meta.description or "" for meta in hint.__metadata__ if isinstance(meta, msgspec.Meta))
        values, default = shown_type(get_args(hint)[0]), shown_default(fields[name])
        rows.append(f"| `{fields[name].encode_name}` | {values} | {default} | {description} |")
    text = inspect.cleandoc(kind.__doc__ or "")
    return "\n".join(
        [f"### {kind.kind()}", "", text, "", "| parameter | takes | default | |", "|---|---|---|---|", *rows, ""]
    )


def shown_type(hint: Any) -> str:
    """What a parameter takes, in a user's words."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(shown_type(part) for part in get_args(hint) if part is not type(None)))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    words = {
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a mapping",
    }
    return words.get(origin or hint, "a mapping")


def shown_default(field: msgspec.structs.FieldInfo) -> str:
    """The default, or that there is none."""
    if field.required:
        return "required"
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if default in (None, "", [], {}, ()):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def made_anew() -> str:
    """The page as it should be."""
    text = REFERENCE.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    catalogue = Catalogue()
    return head + BEGIN + "\n" + "\n".join(described(catalogue[name]) for name in catalogue) + "\n" + END + tail


def test_the_reference_is_the_tasks_own_definition() -> None:
    assert REFERENCE.read_text() == made_anew(), "python -m tests.unit.test_docs writes it anew"


@pytest.mark.parametrize("page", [*DOCS.glob("*.md"), DOCS.parent / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_every_option_of_run_is_in_the_reference() -> None:
    import argparse

    from nbprovision.cli import run

    parser = argparse.ArgumentParser()
    run.configure(parser)
    text = REFERENCE.read_text()
    for action in parser._actions:
        if action.help != argparse.SUPPRESS and action.option_strings and action.dest != "help":
            assert any(f"`{option}" in text for option in action.option_strings), action.option_strings


if __name__ == "__main__":
    REFERENCE.write_text(made_anew())

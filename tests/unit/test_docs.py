"""The reference page and the schema are made from the tasks' own definitions.

``python -m tests.unit.test_docs`` writes them anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nbprovision.cli import doc
from nbprovision.reference import page
from nbprovision.reference.definition import define
from nbprovision.reference.schema import schema
from nbprovision.tasks import Catalogue

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference.md"
SCHEMA = DOCS / "playbook.schema.json"
MADE = re.compile(r"(<!-- (\w+), made by: python -m tests.unit.test_docs -->\n).*?(<!-- end -->\n)", re.DOTALL)


def made_anew() -> str:
    """The page as it should be."""
    catalogue = Catalogue()
    parts = {
        "keywords": page.keywords(doc.tables()),
        "tasks": "\n".join(page.section(define(catalogue[name])) for name in catalogue),
    }
    return MADE.sub(lambda found: f"{found[1]}\n{parts[found[2]]}\n{found[3]}", REFERENCE.read_text())


def schema_made_anew() -> str:
    return json.dumps(schema(Catalogue()), indent=1) + "\n"


def test_the_reference_is_the_tasks_own_definition() -> None:
    assert REFERENCE.read_text() == made_anew(), "python -m tests.unit.test_docs writes it anew"


def test_the_schema_is_the_tasks_own_definition() -> None:
    assert SCHEMA.read_text() == schema_made_anew(), "python -m tests.unit.test_docs writes it anew"


@pytest.mark.parametrize("kind", list(Catalogue()))
def test_a_task_says_all_that_doc_tells(kind: str) -> None:
    definition = define(Catalogue()[kind])
    assert definition.text
    assert definition.examples, "Task.examples shows its use"
    assert definition.actions, "Task.actions tells what it can have changed"
    for parameter in (*definition.parameters, *definition.shared):
        assert parameter.description, parameter.name


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


def test_every_promise_names_tests_that_are_there() -> None:
    tests = Path(__file__).parents[1]
    rows = [line for line in (DOCS / "promises.md").read_text().splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > 20
    for row in rows:
        for name in re.findall(r"`([a-z]+/test_\w+\.py(?:::\w+)?)`", row.rpartition(" | ")[2] or row):
            path, _, function = name.partition("::")
            assert f"def {function or 'test_'}" in (tests / path).read_text(), name
        assert re.search(r"\| `[./\w]+", row), f"no test holds: {row}"


if __name__ == "__main__":
    REFERENCE.write_text(made_anew())
    SCHEMA.write_text(schema_made_anew())

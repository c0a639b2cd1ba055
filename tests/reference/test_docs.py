"""The reference page and the schema are made from the tasks' own definitions.

``python -m tests.reference.test_docs`` writes them anew.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from nbprovision import cli
from nbprovision.catalogue import Catalogue
from nbprovision.cli import doc
from nbprovision.model.errors import UsageError
from nbprovision.reference import page
from nbprovision.reference.definition import define
from nbprovision.reference.schema import schema
from nbprovision.reference.status_schema import status_schema
from tests.support.pages import GUIDES, blocks, invocations

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference.md"
SCHEMA = DOCS / "playbook.schema.json"
STATUS_SCHEMA = DOCS / "status.schema.json"
MADE = re.compile(r"(<!-- (\w+), made by: python -m tests.reference.test_docs -->\n).*?(<!-- end -->\n)", re.DOTALL)


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


def status_schema_made_anew() -> str:
    return json.dumps(status_schema(), indent=1) + "\n"


def test_the_reference_is_the_tasks_own_definition() -> None:
    assert REFERENCE.read_text() == made_anew(), "python -m tests.reference.test_docs writes it anew"


def test_the_schema_is_the_tasks_own_definition() -> None:
    assert SCHEMA.read_text() == schema_made_anew(), "python -m tests.reference.test_docs writes it anew"


def test_the_schema_of_the_status_file_is_that_of_its_types() -> None:
    assert STATUS_SCHEMA.read_text() == status_schema_made_anew(), "python -m tests.reference.test_docs writes it anew"


@pytest.mark.parametrize("kind", list(Catalogue()))
def test_a_task_says_all_that_doc_tells(kind: str) -> None:
    definition = define(Catalogue()[kind])
    assert definition.text
    assert definition.examples, "Task.examples shows its use"
    assert definition.actions or Catalogue()[kind].in_root == "always", "Task.actions tells what it can have changed"
    for parameter in (*definition.parameters, *definition.shared):
        assert parameter.description, parameter.name


@pytest.mark.parametrize("page", [*DOCS.glob("*.md"), DOCS.parent / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", GUIDES)
def test_a_block_is_run_or_says_why_not(page: str) -> None:
    """Tests/reference/test_readme.py types what is to be run; a file without a name on it could not be written."""
    for block in blocks(page):
        place = f"{page}:{block.line}"
        assert block.language in ("", "sh", "yaml", "python"), place
        assert not block.comment or block.not_run, f"{place}: nobody who reads the page sees '{block.comment}'"
        if block.language in ("yaml", "python"):
            in_the_text = page in ("README.md", "docs/contributing.md")
            assert block.file_name or block.not_run or in_the_text, f"{place}: a file without a name"
        if block.language == "sh":
            parsed = subprocess.run(["sh", "-n"], input=block.text, capture_output=True, text=True)
            assert not parsed.stderr, f"{place}: {parsed.stderr}"


@pytest.mark.parametrize("page", GUIDES)
def test_the_parser_takes_the_commands_of_the_guides(page: str) -> None:
    for block in blocks(page):
        for argv in invocations(block.text) if block.language == "sh" else ():
            cli._parse(argv)


@pytest.mark.parametrize("page", [*DOCS.glob("*.md"), DOCS.parent / "README.md"], ids=lambda page: page.name)
def test_the_parser_takes_the_commands_in_the_text(page: Path) -> None:
    """What is named without what has to stand behind it is no command to type; its options are looked at all the same."""
    for line in re.findall(r"`((?:sudo )?(?:nbprovision|sh bootstrap\.sh) [^`\n]+)`", page.read_text()):
        for argv in invocations(line):
            if {"COMMAND", "...", "@"} & set(argv):  # a pattern, a requirement of pip
                continue
            if "--help" in argv:
                continue
            try:
                cli._parse(argv)
            except UsageError as error:
                if " needs " not in error.message:
                    raise


def test_commands_are_found_among_the_words_of_a_shell() -> None:
    text = "A=1 sh x/bootstrap.sh team.yml --tool wheels -e a=b >out 2>&1 | tail; nbprovision status  # nbprovision clean\nls nbprovision\n"
    assert list(invocations(text)) == [["run", "team.yml", "-e", "a=b"], ["status"]]


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
            text = (tests / path).read_text()
            assert f"def {function or 'test_'}" in text or f"class {function}:" in text, name
        assert re.search(r"\| `[./\w]+", row), f"no test holds: {row}"


if __name__ == "__main__":
    REFERENCE.write_text(made_anew())
    SCHEMA.write_text(schema_made_anew())
    STATUS_SCHEMA.write_text(status_schema_made_anew())

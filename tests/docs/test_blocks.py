"""Blocks of code on the pages: shells take the commands, the parser takes nbprovision's, lint takes the playbooks."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from nbprovision import cli
from nbprovision.catalogue import Catalogue
from nbprovision.cli.lint import assumed
from nbprovision.lint.check import check
from nbprovision.machine.machine import Machine
from tests.support.pages import ROOT, Block, blocks, invocations

PAGES = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


def of_language(language: str) -> list[Any]:
    return [
        pytest.param(page, block, id=f"{page}:{block.line}")
        for page in PAGES
        for block in blocks(page)
        if block.language == language
    ]


@pytest.mark.parametrize(("page", "block"), of_language("sh"))
def test_commands(page: str, block: Block) -> None:
    done = subprocess.run(["sh", "-n"], input=block.text, capture_output=True, text=True)
    assert done.stderr == ""
    for argv in invocations(block.text):
        cli._parse(argv)


def is_playbook(block: Block) -> bool:
    """Whether it has plays of nbprovision with its own tasks.

    A file of another kind has none. Ansible's plays have modules by their whole names, and plays with task folders are
    run by tests/reference/test_own_tasks_page.py.
    """
    documents = yaml.safe_load(block.text)
    plays = [entry for entry in documents if isinstance(entry, dict)] if isinstance(documents, list) else []
    other = "nbprovision.notebook." in block.text or any("task_folders" in play for play in plays)
    return not other and any({"tasks", "root_tasks"} & set(play) for play in plays)


# They depend on the reader's machine, and on files and variables that the page only mentions.
ELSEWHERE = {"unknown-environment", "missing-file", "unresolved-template"}
PLAYBOOKS = [parameter for parameter in of_language("yaml") if is_playbook(parameter.values[1])]


@pytest.mark.parametrize(("page", "block"), PLAYBOOKS)
def test_lint_has_nothing_against_a_playbook(page: str, block: Block, machine: Machine, tmp_path: Path) -> None:
    """The other files of its page are beside it; the page of Studio speaks of a space."""
    if page == "docs/studio.md":
        machine = assumed("studio", machine.env, machine.root)
    for other in blocks(page):
        if other.file_name:
            (tmp_path / other.file_name).write_text(other.text)
    path = tmp_path / "this.yml"
    path.write_text(block.text)
    findings = check(path, machine, Catalogue(), {})
    assert [finding for finding in findings if finding.severity == "error" and finding.rule not in ELSEWHERE] == []


def test_playbooks_are_recognised() -> None:
    assert len(PLAYBOOKS) > 20

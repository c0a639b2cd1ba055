"""``nbprovision doc``: describes the tasks and keywords of a playbook, from their definitions."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from nbprovision.catalogue import Catalogue
from nbprovision.engine.session import obeyed
from nbprovision.model.errors import UsageError, nearest
from nbprovision.playbook import keywords
from nbprovision.playbook.own_tasks import Kinds
from nbprovision.playbook.yaml_nodes import Files
from nbprovision.reference import page, text
from nbprovision.reference.definition import define
from nbprovision.report.colour import BOLD, painted

_WIDEST = 100  # columns


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``doc``."""
    parser.add_argument(
        "subject", nargs="?", metavar="TASK", help="a task, a keyword, or `keywords`; default: the list of tasks"
    )
    parser.add_argument("--playbook", type=Path, metavar="PLAYBOOK", help="a playbook whose task_folders have the task")
    parser.add_argument("--format", choices=("text", "markdown"), default="text", help="markdown: as in the reference")


def execute(options: argparse.Namespace) -> int:
    """Print the description.

    Returns:
        0.

    Raises:
        UsageError: the task or keyword is unknown.
        InvalidPlaybook: the playbook cannot be read, or the code of the task cannot be used.

    """
    kinds = Kinds(Catalogue(), Files(judge=obeyed))
    if options.playbook is not None:
        kinds = kinds.of_playbook(options.playbook, options.subject)
    sys.stdout.write(
        _markdown(options.subject, kinds) if options.format == "markdown" else _text(options.subject, kinds)
    )
    return 0


def tables() -> dict[str, Mapping[str, str]]:
    """The keywords with their descriptions, by the part of a playbook that accepts them."""
    return {
        "play": keywords.PLAY,
        "task": keywords.TASK,
        "block": keywords.BLOCK,
        "handler": keywords.HANDLER,
        "include": keywords.INCLUDE,
        "meta": keywords.META,
    }


def _text(subject: str | None, kinds: Kinds) -> str:
    width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)

    def heading(line: str) -> str:
        return painted(line, BOLD, sys.stdout)

    if subject is None:
        own = (define(kinds.own[name]) for name in kinds.own)
        return text.overview(own, others=kinds.others(), width=width, heading=heading)
    if subject in kinds:
        return text.page(define(kinds[subject]), width=width, heading=heading)
    return text.keywords(_keyword_tables(subject, kinds), width=width, heading=heading)


def _markdown(subject: str | None, kinds: Kinds) -> str:
    if subject is None:
        return "\n".join(page.section(define(kinds.own[name])) for name in kinds.own)
    if subject in kinds:
        return page.section(define(kinds[subject]))
    return page.keywords(_keyword_tables(subject, kinds))


def _keyword_tables(subject: str, kinds: Kinds) -> dict[str, Mapping[str, str]]:
    """The keywords that ``subject`` names: a single one, those of a play, task, block or handler, or all."""
    all_tables = tables()
    if subject in ("keywords", "playbook"):
        return all_tables
    if subject in all_tables:
        return {subject: all_tables[subject]}
    meanings: dict[str, Mapping[str, str]]
    meanings = {where: {subject: table[subject]} for where, table in all_tables.items() if subject in table}
    if not meanings:
        names = [*kinds, "keywords", *(name for table in all_tables.values() for name in table)]
        raise UsageError(
            f"unknown task or keyword '{subject}'{nearest(subject, names)}",
            cure="`nbprovision doc` lists the tasks, `nbprovision doc keywords` the keywords; "
            "add --playbook PLAYBOOK for a task of your own",
        )
    return meanings

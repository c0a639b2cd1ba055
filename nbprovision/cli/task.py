"""``nbprovision task``: runs one task for a program: parameters as JSON on standard input, the result as JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nbprovision.catalogue import Catalogue
from nbprovision.cli.parser import seconds
from nbprovision.engine.session import obeyed
from nbprovision.engine.single import carry_out_alone
from nbprovision.model.errors import ProvisionError, UsageError, nearest
from nbprovision.model.result import Result
from nbprovision.model.task import Task
from nbprovision.playbook import json_parameters
from nbprovision.playbook.own_tasks import Kinds
from nbprovision.playbook.yaml_nodes import Files, decode
from nbprovision.report import document
from nbprovision.report.colour import print_message

_NAME = "<stdin>"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``task``."""
    parser.add_argument("kind", metavar="KIND", help="a task, such as ensure_kernel: `nbprovision doc` lists them")
    parser.add_argument("--check", action="store_true", help="report what would change, and change nothing")
    parser.add_argument("--no-log", action="store_true", help="hide values and reasons in the result and the log")
    parser.add_argument(
        "--lock-timeout", type=seconds, metavar="SECONDS", help="time to wait for another run (default: no limit)"
    )
    parser.add_argument("--absolute-paths", action="store_true", help="refuse paths that begin at the working folder")
    parser.add_argument(
        "--task-folder",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder with tasks of your own, as task_folders of a playbook names it",
    )
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")
    parser.epilog = """
echo '{"env": "fraud", "display_name": "Fraud"}' | nbprovision task ensure_kernel
"""


def execute(options: argparse.Namespace) -> int:
    """Run the task and print its result in the form of ``tasks`` of ``run --format json``.

    Returns:
        0, or 2 if the task failed.

    Raises:
        UsageError: the task is unknown.
        InvalidPlaybook: a parameter is invalid, or the code of the task; the printed result contains the error too.

    """
    try:
        kind = _kind(options)
        text = decode(sys.stdin.buffer.read(), _NAME, "the parameters")
        result = carry_out_alone(
            json_parameters.bind(text, _NAME, kind, None if options.absolute_paths else Path.cwd()),
            check=options.check,
            home=options.home,
            lock_timeout=options.lock_timeout,
            no_log=options.no_log,
            announce=print_message,
        )
    except UsageError:
        raise
    except ProvisionError as error:
        _print(Result(name=options.kind, task=options.kind, status="failed", error=error), check=options.check)
        raise
    _print(result, check=options.check)
    return document.exit_status([result])


def _kind(options: argparse.Namespace) -> type[Task[Any]]:
    kinds = Kinds(Catalogue(), Files(judge=obeyed)).with_folders(dict.fromkeys(options.task_folder))
    if options.kind not in kinds:
        near = nearest(options.kind, kinds)
        cure = "`nbprovision doc` lists them; for a task of your own add --task-folder DIR"
        raise UsageError(f"unknown task '{options.kind[:40]}'{near}", cure=cure)
    return kinds[options.kind]


def _print(result: Result, *, check: bool) -> None:
    entry: dict[str, Any] = {**result.as_json(), "check": check}
    sys.stdout.write(document.render(entry))

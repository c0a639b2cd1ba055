"""``nbprovision task``: runs one task for a program: parameters as JSON on standard input, the result as JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nbprovision.catalogue import Catalogue
from nbprovision.cli.parser import seconds
from nbprovision.engine.single import carry_out_alone
from nbprovision.model.errors import ProvisionError, UsageError, nearest
from nbprovision.model.result import Result
from nbprovision.playbook import json_parameters
from nbprovision.playbook.yaml_nodes import decode
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
        InvalidPlaybook: a parameter is invalid; the printed result contains the error too.

    """
    catalogue = Catalogue()
    if options.kind not in catalogue:
        raise UsageError(
            f"unknown task '{options.kind[:40]}'{nearest(options.kind, catalogue)}", cure="`nbprovision doc` lists them"
        )
    kind = catalogue[options.kind]
    try:
        text = decode(sys.stdin.buffer.read(), _NAME, "the parameters")
        result = carry_out_alone(
            json_parameters.bind(text, _NAME, kind, None if options.absolute_paths else Path.cwd()),
            check=options.check,
            home=options.home,
            lock_timeout=options.lock_timeout,
            no_log=options.no_log,
            announce=print_message,
        )
    except ProvisionError as error:
        _print(Result(name=kind.kind(), task=kind.kind(), status="failed", error=error), check=options.check)
        raise
    _print(result, check=options.check)
    return document.exit_status([result])


def _print(result: Result, *, check: bool) -> None:
    entry: dict[str, Any] = {**result.as_json(), "check": check}
    sys.stdout.write(document.render(entry))

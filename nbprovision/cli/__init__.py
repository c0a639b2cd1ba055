"""The command line: one file for each command. docs/reference.md describes options and exit statuses."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Collection
from typing import Any

from nbprovision import __version__
from nbprovision.cli.parser import Parser, check_command
from nbprovision.model.errors import REPORT, ProvisionError, TaskFailed, UsageError
from nbprovision.report.colour import RED, painted, print_message

# Each is a module of this package with ``configure(parser)`` and ``execute(options) -> int``.
COMMANDS = {
    "run": "bring this machine to the state that a playbook describes",
    "lock": "write the exact packages of a playbook's environments beside it, or check that they are current",
    "status": "show how far a run is, and how the last one ended",
    "report": "show a run as a page: changes, failures with their fix, time, kernels and space",
    "keep-awake": "hold the idle stop for some time, or show how it is",
    "facts": "show what is on this machine: platform, conda, environments, kernels, indexes",
    "export": "print a playbook that installs the packages of environments again",
    "bundle": "write a playbook with its lock, all packages and the tool into one file, for machines without a network",
    "diff": "compare the packages of locks, machines and environments",
    "lint": "find mistakes in playbooks and lifecycle scripts without running them",
    "doc": "show the parameters and changes of a task, with examples",
    "schema": "print the JSON Schema of a playbook, for editors",
    "new-task": "write a task of your own and its test, as an example to change",
    "completion": "print a script for the completion of command lines in a shell",
    "task": "run one task: parameters as JSON on standard input, the result as JSON",
    "clean": "remove caches and leftovers of this tool, or show how much that would free",
    "lifecycle": "render a lifecycle script for a notebook instance",
    "fleet": "publish releases of a playbook for many notebook instances, ring by ring",
}


_EPILOG = """
nbprovision run team.yml --check --diff    what would change; changes nothing
nbprovision run team.yml                   make the changes
nbprovision doc ensure_kernel              the parameters of a task
nbprovision COMMAND --help                 the options of a command, and examples
"""


def main(argv: list[str]) -> int:
    """Parse ``argv`` and run the command that it names.

    Returns:
        The exit status, as in docs/reference.md; 130 after an interrupt, 1 for a defect of the tool.

    """
    options = argparse.Namespace()
    try:
        options = _parse(argv)
        status: int = _module_of(options.command).execute(options)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except ProvisionError as error:
        for text in error.blocks:
            print_message(f"{painted('error:', RED, sys.stderr)} {text}")
        if isinstance(error, TaskFailed):
            _report(options, error)
        return error.exit_status
    except KeyboardInterrupt:
        print_message("interrupted; the next run continues from here")
        return 130
    except (BrokenPipeError, EOFError):  # __main__ handles them
        raise
    except Exception as error:  # noqa: BLE001 - the last resort: a defect is reported in one line
        print_message(f"defect of nbprovision {__version__}: {type(error).__name__}: {error}")
        if not _report(options, error):
            print_message(f"  {REPORT}")
        return 1
    return status


def _module_of(command: str) -> Any:
    return importlib.import_module(f"{__name__}.{command.replace('-', '_')}")


def _report(options: argparse.Namespace, error: Exception) -> bool:
    """With -vvv: show the traceback and write a report; return whether the option is set."""
    from nbprovision.cli import issue_report

    return issue_report.show([error], options, lambda text: print(text, file=sys.stderr))


def command_parser(configured: Collection[str]) -> Parser:
    """The parser of a command line.

    Args:
        configured: The commands that get their options; those of the others need not be imported.

    """
    purpose = "Brings a notebook machine to the state that a playbook describes."
    parser = Parser(prog="nbprovision", description=purpose, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"nbprovision {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        if name in configured:
            _module_of(name).configure(command)
    return parser


def _parse(argv: list[str]) -> argparse.Namespace:
    if argv:
        check_command(argv, COMMANDS)
    parser = command_parser(argv[:1])
    if not argv:
        parser.print_help(sys.stderr)
        raise SystemExit(UsageError.exit_status)
    options = parser.parse_args(argv)
    options.argv = argv
    return options

"""``nbprovision completion``: prints a script with which a shell completes commands, options, tasks and files."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from nbprovision import cli
from nbprovision.catalogue import Catalogue

_EPILOG = """
eval "$(nbprovision completion bash)"      in ~/.bashrc: for each new terminal

A file costs new terminals no time, if the package bash-completion is installed:

nbprovision completion bash >~/.local/share/bash-completion/completions/nbprovision.bash
"""
_FILES = ("PLAYBOOK", "FILE", "A", "B")  # A and B of `diff` may also be environments
_FOLDERS = ("DIR", "ENV")
_TASKS = ("TASK", "KIND")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``completion``."""
    parser.epilog = _EPILOG
    shells = ("bash", "zsh", "tcsh")
    parser.add_argument("shell", choices=shells, metavar="SHELL", help="one of: " + ", ".join(shells))


def execute(options: argparse.Namespace) -> int:
    """Print the script.

    Returns:
        0.

    """
    import shtab

    parser = cli.command_parser(cli.COMMANDS)
    for action in _actions(parser):
        if action.choices is None and action.metavar in _TASKS:
            action.choices = list(Catalogue())
        elif action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.choices is None and not action.option_strings:
            # Without it, zsh would complete no option in the place of such an argument.
            action.complete = {"zsh": "_nothing"}  # type: ignore[attr-defined]
    sys.stdout.write(shtab.complete(parser, shell=options.shell) + "\n")
    return 0


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The options and arguments of a parser and of those of its commands."""
    actions = list(parser._actions)  # noqa: SLF001 - argparse has no other way
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            commands: dict[str, Any] = action.choices
            actions += [each for command in commands.values() for each in _actions(command)]
    return actions

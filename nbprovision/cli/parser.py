"""Parses a command line; an error names the correct form."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from nbprovision.model.errors import UsageError, nearest
from nbprovision.playbook import ansible

_NUMBER = re.compile(r"-\d+(\.\d*)?|-\.\d+")
# argparse's messages, which differ a little between versions of Python.
_MISSING = re.compile(r"the following arguments are required: (?P<names>.+)")
_CHOICE = re.compile(r"argument (?P<name>\S+): invalid choice: (?P<value>.+?) \(choose from (?P<choices>.+)\)")
_ARGUMENT = re.compile(r"^argument (\S+): ")
_PLAYBOOK = re.compile(r".+\.(ya?ml|json)")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that accepts only full option names, and raises `UsageError` (exit status 5)."""

    def __init__(self, **settings: Any) -> None:
        # An abbreviation of one option may match two in a later version.
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageError` with our own message for argparse's."""
        cure = f"`{self.prog} --help` lists the options"
        missing = _MISSING.fullmatch(message)
        choice = _CHOICE.fullmatch(message)
        if missing is not None:
            message = f"{self.prog} needs {missing['names']}"
        elif choice is not None:
            message, cure = f"{choice['name']} cannot be {choice['value']}", f"write one of: {choice['choices']}"
        else:
            message = _ARGUMENT.sub(r"\1 ", message).replace(" expected one argument", " needs a value")
        raise UsageError(message, cure=cure)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse the rest, in the parser that can suggest a correction."""
        if any(isinstance(action, argparse._SubParsersAction) for action in self._actions):  # noqa: SLF001
            return super().parse_known_args(args, namespace)
        self._check_names(args)
        options, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unexpected argument '{rest[0]}': {self._takes()}")
        return options, rest

    def _check_names(self, words: Sequence[str]) -> None:
        """Refuse the first unknown option, as argparse would, but with a suggestion."""
        for word in words:
            if word == "--":
                return
            name = word.partition("=")[0]
            if not name.startswith("-") or name == "-" or _NUMBER.fullmatch(name):
                continue
            actions = self._option_string_actions
            if name in actions or (not name.startswith("--") and name[:2] in actions):
                continue
            raise self._unknown(name)

    def _unknown(self, name: str) -> UsageError:
        advices = ansible.RUN_OPTIONS if self.prog.endswith(" run") else {}
        options = [option for option in self._option_string_actions if option.startswith("--")]
        near = nearest(name, options) if name.startswith("--") else nearest(f"-{name}", options) if name[2:] else ""
        advice = advices.get(name) or (None if near or name.startswith("--") else advices.get(name[:2]))
        if advice is not None:
            return UsageError(f"{self.prog} has no option {name}", cause=advice.why, cure=advice.fix)
        return UsageError(
            f"{self.prog} has no option {name[:40]}{near}", cure=f"`{self.prog} --help` lists the options"
        )

    def _takes(self) -> str:
        places = [str(action.metavar) for action in self._get_positional_actions()]
        if not places:
            return f"`{self.prog}` takes options only"
        return f"`{self.prog}` takes one {places[0]}"


def check_command(argv: Sequence[str], commands: Collection[str]) -> None:
    """Refuse a command line that does not begin with a command.

    Raises:
        UsageError: the first word is not a command; the error names the correct form.

    """
    first = argv[0]
    if first in commands or first in ("-h", "--help", "--version"):
        return
    playbook = next((word for word in argv if _PLAYBOOK.fullmatch(word)), None)
    command = next((word for word in argv if word in commands), None)
    if first.startswith("-") and command is not None:
        raise UsageError(f"{first} must follow the command", cure=f"write: nbprovision {command} {first} ...")
    if playbook is not None and (first == playbook or first.startswith("-")):
        more = " ..." * (len(argv) > 1)  # not the words themselves, as one may set a secret
        raise UsageError("the command is missing", cure=f"write: nbprovision run {playbook}{more}")
    what = "option" if first.startswith("-") else "command"
    near = nearest(first, commands)
    raise UsageError(f"unknown {what} '{first[:40]}'{near}", cure=f"there are: {', '.join(commands)}")


def seconds(text: str) -> float:
    """The type of an option with a duration in seconds: not negative, and finite."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"takes a number of seconds, not '{text}'")
    return value

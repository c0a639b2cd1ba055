"""The command line as Markdown, for a page of its own: every command with its options, from the parsers themselves."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator

_CODE = re.compile(r"(`[^`]*`)")
# Options and addresses, which are literal wherever they stand.
_LITERAL = re.compile(r"(?<![\w-])(--?[a-z][\w-]*|\w+://[^\s,;:)]+)")
_MARKDOWN = str.maketrans({"|": "\\|", "*": "\\*", "<": "&lt;", "_": "\\_"})


def page(parser: argparse.ArgumentParser) -> str:
    """Describe each command under a heading of its own, and its actions below it.

    The text is the same with every version of Python, whose own help differs in line breaks and order.

    Args:
        parser: The parser of the whole command line, with all commands configured.

    """
    return "\n".join(_commands(parser.prog, parser, 2))


def _commands(name: str, parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for sub, child in action.choices.items():
                yield from _command(f"{name} {sub}", child, level)


def _command(name: str, parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    yield from (f"{'#' * level} {name}", "", _escaped(parser.description or ""), "")
    yield from ("```text", " ".join([name, *_usage(parser)]), "```", "")
    actions = [action for group in parser._action_groups for action in _shown(group._group_actions)]  # noqa: SLF001
    if actions:
        yield from ("| argument | meaning |", "|---|---|", *(_row(parser, action) for action in actions), "")
    if parser.epilog:
        yield from ("```text", parser.epilog.strip(), "```", "")
    yield from _commands(name, parser, level + 1)


def _usage(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The words after the command: one for all its options, then each positional argument."""
    actions = [*_shown(parser._actions)]  # noqa: SLF001
    required = [action for action in actions if action.option_strings and action.required]
    yield from (f"{action.option_strings[-1]} {_value(action)}" for action in required)
    if len(required) < len([action for action in actions if action.option_strings]):
        yield "[options]"
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            yield f"{action.metavar} ..."
    for action in actions:
        if not action.option_strings:
            many = "..." * (action.nargs in ("+", "*"))
            yield f"[{_value(action)}]{many}" if action.nargs in ("?", "*") else f"{_value(action)}{many}"


def _shown(actions: Iterable[argparse.Action]) -> Iterator[argparse.Action]:
    """The actions that are described in a row each."""
    for action in actions:
        hidden = action.help == argparse.SUPPRESS or action.dest == "help"
        if not hidden and not isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            yield action


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    names = [*action.option_strings] or [_value(action)]
    if action.option_strings and action.nargs != 0:
        names[-1] += f" {_value(action)}"
    meaning = parser._get_formatter()._expand_help(action)  # noqa: SLF001
    again = "; repeatable" if isinstance(action, argparse._AppendAction) else ""  # noqa: SLF001
    code = ", ".join(f"`{name}`" for name in names).replace("|", "\\|")
    return f"| {code} | {_escaped(meaning)}{again} |"


def _value(action: argparse.Action) -> str:
    """The placeholder of an argument's value."""
    if isinstance(action.metavar, str):
        return action.metavar
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()


def _escaped(text: str) -> str:
    """A help text as Markdown in a table's cell."""
    parts = _CODE.split(" ".join(text.split()))
    marked = _CODE.split("".join(part if part.startswith("`") else _LITERAL.sub(r"`\1`", part) for part in parts))
    return "".join(part.replace("|", "\\|") if part.startswith("`") else part.translate(_MARKDOWN) for part in marked)

"""A playbook as text: YAML in ASCII, tasks apart from one another, comments before them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import yaml

_WIDTH = 4096  # nothing is folded: a long requirement stays on one line
_INDENT = "    "


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A task to be written.

    Attributes:
        name: In a few words.
        kind: Its key.
        parameters: Plain data; texts are copied as they are, templates included.
        comments: Lines before it.

    """

    name: str
    kind: str
    parameters: dict[str, Any]
    comments: tuple[str, ...] = ()


def playbook(name: str, tasks: Sequence[Written], comments: Iterable[str]) -> str:
    """A playbook of one play."""
    lines = [*map(_comment, comments), *_dumped([{"name": name}])]
    if not tasks:
        return "\n".join([*lines, "  tasks: []", ""])
    lines.append("  tasks:")
    for number, task in enumerate(tasks):
        lines += [""] * bool(number)
        lines += [_INDENT + _comment(text) for text in task.comments]
        lines += [_INDENT + line for line in _dumped([{"name": task.name, task.kind: task.parameters}])]
    return "\n".join([*lines, ""])


def _dumped(value: Any) -> list[str]:
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=_WIDTH)
    return str(text).splitlines()


def _comment(text: str) -> str:
    """One line in ASCII, whatever is in the names that it speaks of."""
    return "# " + "".join(letter if " " <= letter <= "~" else "?" for letter in text)


class _Dumper(yaml.SafeDumper):
    """Lists are indented below their key, as people write them, and nothing is written as an alias."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True

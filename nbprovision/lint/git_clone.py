"""The words of ``git clone``, which several rules need."""

from __future__ import annotations

import os.path
import re
from pathlib import PurePosixPath

import msgspec

from nbprovision.lint.shell import Command

# https://git-scm.com/docs/git-clone: options that take the next word.
_WITH_WORD = re.compile(r"-[bocju]|--(?:branch|origin|config|jobs|depth|reference|filter|template|separate-git-dir)")


class Clone(msgspec.Struct, frozen=True):
    """A clone.

    Attributes:
        name: The name of its folder.
        path: The absolute path of its folder; empty if only a run knows it.
        branch: The branch or tag; empty for the repository's own branch.

    """

    name: str
    path: str
    branch: str


def clone_of(command: Command) -> Clone | None:
    """Return the clone that a command makes; None if it makes none."""
    values = command.values
    if command.program != "git" or "clone" not in values:
        return None
    number = values.index("clone")
    folder = values[values.index("-C") + 1] if "-C" in values[:number] else ""
    operands, branch = [], ""
    rest = iter(values[number + 1 :])
    for value in rest:
        if _WITH_WORD.fullmatch(value):
            word = next(rest, "")
            branch = word if value in ("-b", "--branch") else branch
        elif value.startswith("--branch="):
            branch = value.partition("=")[2]
        elif not value.startswith("-"):
            operands.append(value)
    if not operands:
        return None
    target = operands[1] if len(operands) > 1 else re.split(r"[/:]", operands[0].rstrip("/"))[-1].removesuffix(".git")
    path = os.path.join(folder, target)
    return Clone(PurePosixPath(target).name, command.place(path), branch)

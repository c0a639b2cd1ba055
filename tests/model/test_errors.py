"""Every message of a failure has three parts: what failed, why as far as is known, and what to do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CODE = Path(__file__).parents[2] / "nbprovision"
FILES = sorted(CODE.rglob("*.py"))


def failures(tree: ast.AST) -> Iterator[ast.Call]:
    """Every place where a failed task is given its words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "TaskFailed":
            yield node


def missing(call: ast.Call) -> set[str]:
    """The parts that a call leaves out, or gives as an empty text."""
    given = {word.arg for word in call.keywords if not (isinstance(word.value, ast.Constant) and not word.value.value)}
    return {"cause", "cure"} - given


def test_every_failure_has_three_parts() -> None:
    found = [
        f"{path.relative_to(CODE)}:{call.lineno}: no {' and no '.join(sorted(missing(call)))}"
        for path in FILES
        for call in failures(ast.parse(path.read_text()))
        if missing(call)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text", ["TaskFailed('x')", "TaskFailed('x', cause='', cure='y')", "TaskFailed('x', cause='y')"]
)
def test_what_is_missing_is_seen(text: str) -> None:
    (call,) = failures(ast.parse(text))
    assert missing(call)

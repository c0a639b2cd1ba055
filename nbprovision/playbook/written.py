"""Numbers that remember how they are written.

YAML 1.1 reads ``3.10`` as 3.1, ``010`` as 8, ``12:30`` as 750 and ``1_0`` as 10 (https://yaml.org/type/). The author
may have meant text. So a number whose own text would differ keeps its text in the file. A task that takes text gets
this text. If the number went through a variable, making text of it is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nbprovision.model.errors import InvalidPlaybook, Position


class FormLost(InvalidPlaybook):
    """A number is needed as text, but its text would differ from the written one."""


class WrittenNumber:
    """A number with its text in the file: the base of `WrittenInt` and `WrittenFloat`.

    Attributes:
        text: The text in the file.
        position: The position of the text.
        passed_on: Whether the number went through a template.

    """

    text: str
    position: Position
    passed_on: bool = False

    def number(self) -> int | float:
        """Return the number alone."""
        return float(self) if isinstance(self, float) else int(self)  # type: ignore[call-overload]

    @property
    def loses(self) -> bool:
        """Whether the number's own text differs from the text in the file."""
        return str(self.number()) != self.text

    def lost(self) -> FormLost:
        """Return the error for making text of the number."""
        return FormLost(
            f"YAML reads {self.text[:40]} as the number {str(self.number())[:40]}, but text is wanted",
            cure=f'write it in quotes: "{self.text[:40]}"',
            position=self.position,
        )

    def as_text(self) -> str:
        """Return the number as text.

        Raises:
            FormLost: this text differs from the text in the file.

        """
        if self.loses:
            raise self.lost()
        return self.text

    # Templates use these: `{{ x }}`, `~`, `join`, `format`, ...
    def __str__(self) -> str:
        return self.as_text()

    def __format__(self, spec: str) -> str:
        return format(self.number(), spec) if spec else self.as_text()

    def __repr__(self) -> str:
        return self.text


class WrittenInt(WrittenNumber, int):
    """A whole number."""


class WrittenFloat(WrittenNumber, float):
    """A number with a fraction."""


def written(value: Any, text: str, position: Position, *, passed_on: bool = False) -> Any:
    """Return a value that YAML read; a whole number with a different text, and every fraction, keeps its text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, int) and str(value) == text:
        return value
    number: WrittenNumber = WrittenFloat(value) if isinstance(value, float) else WrittenInt(value)
    number.text, number.position, number.passed_on = text, position, passed_on
    return number


def passed_on(value: Any) -> Any:
    """Mark the numbers in the data as passed through a variable."""
    if isinstance(value, WrittenNumber):
        return written(value.number(), value.text, value.position, passed_on=True)
    if isinstance(value, dict):
        return {key: passed_on(entry) for key, entry in value.items()}
    return [passed_on(entry) for entry in value] if isinstance(value, list) else value


def text_of(value: Any) -> str:
    """Return the text of a value in the file.

    Raises:
        FormLost: the number went through a variable, and its own text differs.

    """
    return value.text if isinstance(value, WrittenNumber) and not value.passed_on else str(value)


def as_flow(value: Any) -> str:
    """Write data as YAML on one line; each number has its text in the file."""
    if isinstance(value, WrittenNumber):
        return value.text
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {as_flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_flow, value)) + "]"
    return json.dumps(value, default=str)


def shown(value: Any) -> Any:
    """Return data to show or compare: numbers whose own text differs are replaced by their text."""
    if isinstance(value, WrittenNumber):
        return value.text if value.loses else value.number()
    if isinstance(value, Mapping):
        return {key: shown(entry) for key, entry in value.items()}
    return [shown(entry) for entry in value] if isinstance(value, list) else value

"""Numbers that remember how they are written.

YAML 1.1 reads ``3.10`` as 3.1, ``010`` as 8, ``12:30`` as 750 and ``1_0`` as 10 (https://yaml.org/type/). Who wrote
them may have meant text. So a number whose own text would be another one keeps what stands in the file: where a task
takes text, it gets that; where only the number has come so far, through a variable, making text of it is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nbprovision.model.errors import InvalidPlaybook, Position


class FormLost(InvalidPlaybook):
    """A number is needed as text, but its text would differ from the written one."""


class Written:
    """A number as it is written: the base of `WrittenInt` and `WrittenFloat`.

    Attributes:
        text: The text in the file.
        position: Where.
        passed_on: It went through a template.

    """

    text: str
    position: Position
    passed_on: bool = False

    def number(self) -> int | float:
        """The number alone."""
        raise NotImplementedError

    @property
    def loses(self) -> bool:
        """Whether the number's own text is another one."""
        return str(self.number()) != self.text

    def lost(self) -> FormLost:
        """The error to raise where text would be made of the number."""
        return FormLost(
            f"YAML reads {self.text[:40]} as the number {str(self.number())[:40]}, but text is wanted",
            cure=f'write it in quotes: "{self.text[:40]}"',
            position=self.position,
        )

    def as_text(self) -> str:
        """The number as text.

        Raises:
            FormLost: that is not what was written.

        """
        if self.loses:
            raise self.lost()
        return self.text

    # What templates do: `{{ x }}`, `~`, `join`, `format`, ...
    def __str__(self) -> str:
        return self.as_text()

    def __format__(self, spec: str) -> str:
        return format(self.number(), spec) if spec else self.as_text()

    def __repr__(self) -> str:
        return self.text


class WrittenInt(Written, int):
    """A whole number."""

    def number(self) -> int:
        """The number alone."""
        return int(self)


class WrittenFloat(Written, float):
    """A number with a fraction."""

    def number(self) -> float:
        """The number alone."""
        return float(self)


def written(value: Any, text: str, position: Position, *, passed_on: bool = False) -> Any:
    """Return a value as YAML read it; a number with another text than its own keeps the written text.

    Of a fraction the text is remembered in any case: one that was computed has none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, int) and str(value) == text:
        return value
    made: Written = WrittenFloat(value) if isinstance(value, float) else WrittenInt(value)
    made.text, made.position, made.passed_on = text, position, passed_on
    return made


def passed_on(value: Any) -> Any:
    """Data as a template gives it: its numbers went through a variable."""
    if isinstance(value, Written):
        return written(value.number(), value.text, value.position, passed_on=True)
    if isinstance(value, dict):
        return {key: passed_on(entry) for key, entry in value.items()}
    return [passed_on(entry) for entry in value] if isinstance(value, list) else value


def text_of(value: Any) -> str:
    """Return the text of a value as it is in the file.

    Raises:
        FormLost: only the number is known, since it went through a variable, and its text would be another one.

    """
    return value.text if isinstance(value, Written) and not value.passed_on else str(value)


def as_flow(value: Any) -> str:
    """Data as YAML of one line, in which each number is written as it was."""
    if isinstance(value, Written):
        return value.text
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {as_flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_flow, value)) + "]"
    return json.dumps(value, default=str)


def shown(value: Any) -> Any:
    """Data to be shown or compared: in the place of each such number its text."""
    if isinstance(value, Written):
        return value.text if value.loses else value.number()
    if isinstance(value, Mapping):
        return {key: shown(entry) for key, entry in value.items()}
    return [shown(entry) for entry in value] if isinstance(value, list) else value

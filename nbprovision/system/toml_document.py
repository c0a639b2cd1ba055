"""Reads TOML (https://toml.io/en/v1.0.0): by the standard library from Python 3.11 on, by tomlkit before."""

from __future__ import annotations

import re
import sys
from typing import Any

_BYTE_ORDER_MARK = "\ufeff"  # uv ignores it, Python's parsers do not
# As both parsers end their messages.
_PLACE = re.compile(r"\s*\(?at line (\d+),? col(?:umn)? (\d+)\)?")


class NoToml(ValueError):
    """The text is not TOML.

    Attributes:
        reason: What is wrong, without its place.
        line, column: The place, from 1; the beginning if the parser names none.

    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        place = _PLACE.search(message)
        self.reason = _PLACE.sub("", message)
        self.line, self.column = (int(place[1]), int(place[2])) if place else (1, 1)


def load(text: str) -> dict[str, Any]:
    """The content as plain data.

    Raises:
        NoToml: it is not TOML.

    """
    text = text.removeprefix(_BYTE_ORDER_MARK)
    try:
        if sys.version_info >= (3, 11):
            import tomllib

            return tomllib.loads(text)
        import tomlkit

        return tomlkit.parse(text).unwrap()
    except (ValueError, RecursionError) as error:
        raise NoToml(str(error).partition("\n")[0]) from error

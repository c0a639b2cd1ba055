"""YAML files of others (`.condarc`, `environment.yml`) as plain data, within limits that no such file comes near."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nbprovision.system.reading import read_bytes

MAX_BYTES = 1_000_000
_MAX_VALUES = 50_000
_MAX_DEPTH = 40
# YAML 1.1's numbers of base 60: long ones take minutes.
_LONG_NUMBER = re.compile(r"(?:\d:?){100}")


class NoYaml(ValueError):
    """A text that is no YAML, or more than it can mean; ``line`` and ``column`` count from 1."""

    def __init__(self, reason: str, line: int = 1, column: int = 1) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column


def read(path: Path) -> Any:
    """The document in a file.

    Raises:
        OSError: it cannot be read; `system.reading.read_bytes` says when.
        NoYaml: it is no YAML.

    """
    return load(read_bytes(path, most=MAX_BYTES))


def load(content: bytes | str) -> Any:
    """The document in a text.

    Raises:
        NoYaml: it is no YAML, nested too deep, or its aliases unfold to more than any such file holds.

    """
    import yaml

    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        if _LONG_NUMBER.search(text):
            raise NoYaml("there is a number of more than 100 digits")
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = str(getattr(error, "problem", None) or error).partition("\n")[0]
        raise NoYaml(reason, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1) from None
    except (RecursionError, OverflowError) as error:
        raise NoYaml(f"it is nested too deep, or a number is too large ({error})") from None
    except ValueError as error:  # no UTF-8, no such date, too many digits
        raise NoYaml(str(error)) from None
    _weigh(document, {}, 0)
    return document


def _weigh(value: Any, known: dict[int, int | None], depth: int) -> int:
    """How many values there are in ``value`` with every alias unfolded: a few lines of aliases can fill any memory."""
    if not isinstance(value, list | dict | set | tuple):
        return 1
    if depth > _MAX_DEPTH:
        raise NoYaml(f"it is nested more than {_MAX_DEPTH} deep")
    if id(value) in known:
        weight = known[id(value)]
        if weight is None:
            raise NoYaml("an alias stands inside of what it refers to")
        return weight
    known[id(value)] = None
    entries = [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)
    weight = 1 + sum(_weigh(entry, known, depth + 1) for entry in entries)
    if weight > _MAX_VALUES:
        raise NoYaml(f"its aliases unfold to more than {_MAX_VALUES} values")
    known[id(value)] = weight
    return weight

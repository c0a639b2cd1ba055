"""Reads YAML files of others (`.condarc`, `environment.yml`) as plain data, with limits far above real files."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbprovision.system.reading import read_bytes

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 1_000_000
_MAX_VALUES = 50_000
_MAX_DEPTH = 40
# YAML 1.1's numbers of base 60: long ones take minutes.
_LONG_NUMBER = re.compile(r"(?:\d:?){100}")


class NoYaml(ValueError):
    """A text is not YAML, or exceeds the limits; ``line`` and ``column`` count from 1."""

    def __init__(self, reason: str, line: int = 1, column: int = 1) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column


def read(path: Path, *, texts: bool = False) -> Any:
    """The document in a file; ``texts`` as in `load`.

    Raises:
        OSError: it cannot be read; `system.reading.read_bytes` says when.
        NoYaml: it is not YAML.

    """
    return load(read_bytes(path, most=MAX_BYTES), texts=texts)


def load(content: bytes | str, *, texts: bool = False, unique: bool = False) -> Any:
    """The document in a text.

    Args:
        content: The text.
        texts: Read numbers, booleans and dates as text: 3.10 is not 3.1.
        unique: Refuse a duplicate key in a mapping, as conda does; ``texts`` implies it.

    Raises:
        NoYaml: it is not YAML, nested too deep, or its aliases expand to too many values.

    """
    import yaml

    try:
        text = content if isinstance(content, str) else decoded(content)
        if _LONG_NUMBER.search(text):
            raise NoYaml("there is a number of more than 100 digits")
        document = yaml.load(text, Loader=_loader(texts=texts) if texts or unique else yaml.SafeLoader)  # noqa: S506
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        raise NoYaml(error.reason, before.count("\n") + 1, len(before) - before.rfind("\n")) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = str(getattr(error, "problem", None) or error).partition("\n")[0]
        reason = reason.replace("but found another document", "`---` begins another document, and one is read")
        raise NoYaml(reason, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1) from None
    except (RecursionError, OverflowError) as error:
        raise NoYaml(f"it is nested too deep, or a number is too large ({error})") from None
    except ValueError as error:  # not UTF-8, an invalid date, too many digits
        raise NoYaml(str(error)) from None
    _weigh(document, {}, 0)
    return document


def decoded(content: bytes) -> str:
    """Decode a file, also UTF-16 with a byte order mark: PowerShell's ``>`` writes it, and conda reads it.

    Raises:
        UnicodeDecodeError: it is neither that nor UTF-8.

    """
    return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


@functools.cache
def _loader(*, texts: bool) -> type[yaml.SafeLoader]:
    """A safe loader that refuses duplicate keys; with ``texts`` it reads every value that is not empty as text."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in resolvers if not texts or tag.endswith((":null", ":merge"))]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def __init__(self, stream: str) -> None:
            super().__init__(stream)
            self._checked: set[int] = set()

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            """Refuse a duplicate key as conda does: its first value would be lost. Merged keys may be duplicates."""
            if id(node) not in self._checked:
                self._checked.add(id(node))
                _refuse_duplicates(node)
            super().flatten_mapping(node)

    return Loader


def _refuse_duplicates(node: yaml.MappingNode) -> None:
    import yaml

    names = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
            continue
        if key.value in names:
            reason = f"the key '{key.value[:40]}' is a duplicate, and only one of the two can be valid"
            raise yaml.constructor.ConstructorError(problem=reason, problem_mark=key.start_mark)
        names.add(key.value)


def _weigh(value: Any, weights: dict[int, int | None], depth: int) -> int:
    """Count the values with every alias expanded: a few lines of aliases can exhaust the memory."""
    if not isinstance(value, list | dict | set | tuple):
        return 1
    if depth > _MAX_DEPTH:
        raise NoYaml(f"it is nested more than {_MAX_DEPTH} deep")
    if id(value) in weights:
        weight = weights[id(value)]
        if weight is None:
            raise NoYaml("an alias is inside the value that it refers to")
        return weight
    weights[id(value)] = None
    entries = [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)
    weight = 1 + sum(_weigh(entry, weights, depth + 1) for entry in entries)
    if weight > _MAX_VALUES:
        raise NoYaml(f"its aliases unfold to more than {_MAX_VALUES} values")
    weights[id(value)] = weight
    return weight

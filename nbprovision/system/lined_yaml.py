"""Reads large YAML files that programs write, such as lock files: fast, as texts, and with the line of each mapping.

PyYAML's parser in C delivers the events, and its composer is not used: it is slower, and without limits. A program
writes neither aliases nor tags, so both are refused.
"""

from __future__ import annotations

from typing import Any

from nbprovision.system.yaml_document import NoYaml, decoded

MAX_BYTES = 16 << 20
_MAX_DEPTH = 40
_MAX_VALUES = 3_000_000
_NULL = ("", "~", "null", "Null", "NULL")  # https://yaml.org/type/null.html


class Mapping(dict[str, Any]):
    """A mapping, and the line on which it begins."""

    __slots__ = ("line",)
    line: int


def load(content: bytes) -> Any:
    """The document in a text: mappings, lists, texts and None; a number or a date is a text too.

    Raises:
        NoYaml: it is not YAML, has an alias, a tag or a duplicate key, or exceeds the limits.

    """
    import yaml

    try:
        events = yaml.parse(decoded(content), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return _composed(events)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise NoYaml(str(error.problem or error).partition("\n")[0], line, column) from None
    except yaml.YAMLError as error:
        raise NoYaml(str(error).partition("\n")[0]) from None
    except UnicodeDecodeError as error:
        raise NoYaml(str(error)) from None


def _composed(events: Any) -> Any:
    import yaml

    values: list[Any] = []  # of the list or mapping that is open: a mapping's keys and values in turn
    outer: list[tuple[list[Any], int]] = []  # what is open around it
    line, documents = 0, 0
    for count, event in enumerate(events):
        kind = type(event)
        if kind is yaml.ScalarEvent:
            values.append(None if event.implicit[0] and event.value in _NULL else event.value)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            outer.append((values, line))
            values, line = [], event.start_mark.line + 1
            if len(outer) > _MAX_DEPTH:
                raise NoYaml(f"it is nested more than {_MAX_DEPTH} deep", line)
        elif kind is yaml.MappingEndEvent:
            mapping = _mapping(values, line)
            values, line = outer.pop()
            values.append(mapping)
        elif kind is yaml.SequenceEndEvent:
            entries = values
            values, line = outer.pop()
            values.append(entries)
        elif kind is yaml.AliasEvent:
            raise NoYaml("it has an alias, which no program writes here", event.start_mark.line + 1)
        elif kind is yaml.DocumentStartEvent:
            documents += 1
            if documents > 1:
                raise NoYaml("a second document begins", event.start_mark.line + 1)
        if count > _MAX_VALUES:
            raise NoYaml(f"it has more than {_MAX_VALUES} values")
    return values[0] if values else None


def _mapping(values: list[Any], line: int) -> Mapping:
    keys = values[::2]
    if not all(isinstance(key, str) for key in keys):
        raise NoYaml("a key is not a text", line)
    mapping = Mapping(zip(keys, values[1::2], strict=True))
    mapping.line = line
    if len(mapping) != len(keys):
        twice = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise NoYaml(f"the key '{twice[:40]}' is a duplicate, and only one of the two can be valid", line)
    return mapping

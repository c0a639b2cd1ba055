"""The text of a .condarc as conda reads it, and the merged value of a setting in several such files.

Comments count: ``#!final``, ``#!top`` and ``#!bottom`` after a setting or an entry control the merge
(https://docs.conda.io/projects/conda/en/stable/user-guide/configuration/settings.html). ruamel.yaml's round trip
decides where a comment belongs, so only ruamel.yaml can parse these files. See ``YamlRawParameter`` and
``LoadedParameter`` in ``conda/common/configuration.py``.

- ``#!final`` after a setting: later files, which would win otherwise, do not count.
- ``#!final`` after an entry of a mapping: the first file with it gives the value.
- ``#!top`` and ``#!bottom`` after an entry of a list: it goes to the front or the end of the merged list.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from nbprovision.system import yaml_document

Flag = Literal["final", "top", "bottom"]
# conda strips all ``#`` and ``!`` from both ends of the comment.
_MAYBE = re.compile(r"#[!#]*(?:final|top|bottom)")
_FLAGS: dict[str, Flag] = {"final": "final", "top": "top", "bottom": "bottom"}


class Value(NamedTuple):
    """A value and the flag after it; the value is a scalar, a tuple of values, or a dict of them."""

    data: Any
    flag: Flag | None = None

    @property
    def plain(self) -> Any:
        """The value without flags."""
        if isinstance(self.data, dict):
            return {name: value.plain for name, value in self.data.items()}
        return [value.plain for value in self.data] if isinstance(self.data, tuple) else self.data


def parse(text: str, *, by_conda: bool | None = None) -> Any:
    """The document: a dict of `Value` by the names of settings, or another value.

    Args:
        text: The file's content.
        by_conda: Whether to read it with conda's own parser, which loads slowly; default: only if it may have a flag.

    Raises:
        NoYaml: it is not YAML, or too large.

    """
    document = yaml_document.load(text)  # this also checks the limits
    if by_conda if by_conda is not None else _MAYBE.search(text):
        with by_ruamel() as parser:
            document = parser.load(text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}"))
    if not isinstance(document, dict):
        return document
    return {str(name): value for name, value in _tree(document, None).data.items()}


def flat(text: str, *, by_conda: bool = True) -> dict[str, Any]:
    """Settings, flags and flagged entries by the names of the settings, to compare two texts.

    Args:
        text: A file's content.
        by_conda: Whether conda's own parser reads it; a file that this tool has written does not need it.

    Raises:
        NoYaml: it is not YAML, or not a mapping.

    """
    document = parse(text, by_conda=by_conda)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise yaml_document.NoYaml("it is not a mapping of settings")
    return {name: (value.plain, value.flag, frozenset(_flagged(value))) for name, value in document.items()}


def _flagged(value: Value, above: str = "") -> Iterator[tuple[str, Flag]]:
    """Entries with a flag: by their names in a mapping, by their values in a list."""
    entries: list[tuple[str, Value]] = []
    if isinstance(value.data, dict):
        entries = [(str(name), entry) for name, entry in value.data.items()]
    elif isinstance(value.data, tuple):
        entries = [(repr(entry.plain), entry) for entry in value.data]
    for name, entry in entries:
        if entry.flag is not None:
            yield f"{above}{name}", entry.flag
        yield from _flagged(entry, f"{above}{name}/")


@contextlib.contextmanager
def by_ruamel() -> Iterator[Any]:
    """The parser of conda, which keeps comments and quotes; each of its errors becomes a `NoYaml`."""
    import warnings

    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    parser = YAML(typ="rt", pure=True)
    parser.preserve_quotes = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield parser
    except (
        YAMLError,
        ValueError,
        RecursionError,
        AttributeError,
        LookupError,
        TypeError,
        NotImplementedError,
    ) as error:
        mark = getattr(error, "problem_mark", None)
        reason = str(getattr(error, "problem", None) or error).partition("\n")[0]
        raise yaml_document.NoYaml(reason, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1) from None


def _tree(node: Any, comment: str | None) -> Value:
    flag = _FLAGS.get(comment.strip().strip("!#")) if comment else None
    if isinstance(node, Mapping):
        return Value({name: _tree(value, _after_key(node, name)) for name, value in node.items()}, flag)
    if isinstance(node, list | tuple | set):
        return Value(tuple(_tree(value, _after_entry(node, number)) for number, value in enumerate(node)), flag)
    return Value(node, flag)


def _after_key(mapping: Any, name: Any) -> str | None:
    try:
        return str(mapping.ca.items[name][2].value)
    except (AttributeError, KeyError, IndexError, TypeError):
        return None


def _after_entry(sequence: Any, number: int) -> str | None:
    """The comment that conda reads: the one before the entry's end, or the first after it."""
    try:
        comments = sequence.ca.items[number]
        return str(comments[0].value if comments[0] else comments[1][0].value)
    except (AttributeError, KeyError, IndexError, TypeError):
        return None


def merged(matches: Sequence[Value]) -> Value:
    """The merged value of a setting.

    Args:
        matches: Its value in each file that has it; the last file wins. All are of one kind.

    """
    kind = type(matches[-1].data)
    matches = [match for match in matches if isinstance(match.data, kind) or kind not in (dict, tuple)]
    if kind is dict:
        return Value(_mapping(_up_to_final(matches)))
    if kind is tuple:
        return Value(_list(_up_to_final(matches)))
    return next((match for match in matches if match.flag == "final"), matches[-1])


def _up_to_final(matches: Sequence[Value]) -> Sequence[Value]:
    for number, match in enumerate(matches):
        if match.flag == "final":
            return matches[: number + 1]
    return matches


def _mapping(matches: Sequence[Value]) -> dict[str, Value]:
    names = dict.fromkeys(name for match in matches for name in match.data)
    entries = {name: [match.data[name] for match in matches if name in match.data] for name in names}
    return {
        name: next((value for value in values if value.flag == "final"), None) or merged(values)
        for name, values in entries.items()
    }


def _list(matches: Sequence[Value]) -> tuple[Value, ...]:
    """The merged entries, those of the winning file first; an entry marked for both ends goes to the end."""
    top = [entry for match in matches for entry in _marked(match, "top")]
    bottom = [entry for match in reversed(matches) for entry in _marked(match, "bottom")]
    every = [entry for match in reversed(matches) for entry in match.data]
    return tuple(reversed(_unique([*reversed(bottom), *reversed(_unique([*top, *every]))])))


def _marked(match: Value, flag: Flag) -> Iterable[Value]:
    return (entry for entry in match.data if entry.flag == flag)


def _unique(entries: Iterable[Value]) -> list[Value]:
    first: dict[Hashable, Value] = {}
    for entry in entries:
        key: Any = entry.plain
        first.setdefault(key if isinstance(key, Hashable) else repr(key), entry)
    return list(first.values())

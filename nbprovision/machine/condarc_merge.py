"""One setting of several .condarc files, merged as by ``LoadedParameter`` in ``conda/common/configuration.py``.

- ``#!final`` behind a setting: what stands in later files, which would win otherwise, does not count.
- ``#!final`` behind an entry of a mapping: the first file that says so gives its value.
- ``#!top`` and ``#!bottom`` behind an entry of a list: it goes to the front or the end of the merged list.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from nbprovision.machine.condarc_text import Flag, Value


def merged(matches: Sequence[Value]) -> Value:
    """What one setting comes to.

    Args:
        matches: Its value in each file that has it, the file that wins last; all of one kind.

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
    """The entries of the file that wins come first; of an entry marked for both ends the end wins."""
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

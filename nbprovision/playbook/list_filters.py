"""Ansible's filters of lists and mappings; see `filters`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NoReturn

from jinja2.runtime import Undefined

from nbprovision.model.errors import InvalidPlaybook


def fail(value: Undefined) -> NoReturn:
    """Raise the error of an undefined value."""
    value._fail_with_undefined_error()  # noqa: SLF001 - Jinja2 has no public function for it


def listed(value: Any, name: str) -> list[Any]:
    """Return the entries of the list that the filter ``name`` gets."""
    if isinstance(value, Undefined):
        fail(value)
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        cure = "put `| dict2items` before it" if isinstance(value, Mapping) else "put it in brackets: [...]"
        raise InvalidPlaybook(f"the filter {name} takes lists", cure=cure)
    return list(value)


def _mapping(value: Any, name: str) -> Mapping[Any, Any]:
    if isinstance(value, Undefined):
        fail(value)
    if not isinstance(value, Mapping):
        raise InvalidPlaybook(f"the filter {name} takes a mapping")
    return value


def _key(value: Any) -> Hashable:
    """Return a key that is equal for equal values, lists and mappings included."""
    if isinstance(value, Undefined):
        fail(value)
    if isinstance(value, Mapping):
        return ("mapping", frozenset((key, _key(entry)) for key, entry in value.items()))
    if isinstance(value, list | tuple):
        return ("list", *map(_key, value))
    return value if isinstance(value, Hashable) else repr(value)


def _unique(value: Any, case_sensitive: bool | None = None, attribute: Any = None) -> list[Any]:
    """Return each entry once, in order; as in Ansible and Jinja2, ignore case unless ``case_sensitive`` is set."""

    def key(entry: Any) -> Hashable:
        for part in str(attribute).split(".") if attribute is not None else ():
            entry = entry[int(part)] if part.isdecimal() and not isinstance(entry, Mapping) else entry[part]
        return entry.lower() if isinstance(entry, str) and not case_sensitive else _key(entry)

    return _each_once(listed(value, "unique"), key)


def _each_once(value: Iterable[Any], key: Callable[[Any], Hashable] = _key) -> list[Any]:
    entries: dict[Hashable, Any] = {}
    for entry in value:
        entries.setdefault(key(entry), entry)
    return list(entries.values())


def _union(first: Any, second: Any) -> list[Any]:
    return _each_once([*listed(first, "union"), *listed(second, "union")])


def _intersect(first: Any, second: Any) -> list[Any]:
    other = set(map(_key, listed(second, "intersect")))
    return _each_once(entry for entry in listed(first, "intersect") if _key(entry) in other)


def _difference(first: Any, second: Any) -> list[Any]:
    other = set(map(_key, listed(second, "difference")))
    return _each_once(entry for entry in listed(first, "difference") if _key(entry) not in other)


def _symmetric_difference(first: Any, second: Any) -> list[Any]:
    return [*_difference(first, second), *_difference(second, first)]


def _flatten(value: Any, levels: int | None = None, skip_nulls: bool = True) -> list[Any]:
    entries: list[Any] = []
    for entry in listed(value, "flatten"):
        if skip_nulls and entry is None:
            continue
        if isinstance(entry, list | tuple) and (levels is None or levels > 0):
            entries += _flatten(entry, None if levels is None else levels - 1, skip_nulls)
        else:
            entries.append(entry)
    return entries


def _zip(*lists: Any) -> list[list[Any]]:
    return [list(entry) for entry in zip(*(listed(entries, "zip") for entries in lists), strict=False)]


def _zip_longest(*lists: Any, fillvalue: Any = None) -> list[list[Any]]:
    together = (listed(entries, "zip_longest") for entries in lists)
    return [list(entry) for entry in itertools.zip_longest(*together, fillvalue=fillvalue)]


def _product(*lists: Any) -> list[list[Any]]:
    together = (listed(entries, "product") for entries in lists)
    return [list(entry) for entry in itertools.product(*together)]


def _combinations(value: Any, length: int) -> list[list[Any]]:
    return [list(entry) for entry in itertools.combinations(listed(value, "combinations"), length)]


def _dict2items(value: Any, key_name: str = "key", value_name: str = "value") -> list[dict[str, Any]]:
    return [{key_name: key, value_name: entry} for key, entry in _mapping(value, "dict2items").items()]


def _items2dict(value: Any, key_name: str = "key", value_name: str = "value") -> dict[Any, Any]:
    mapping = {}
    for entry in listed(value, "items2dict"):
        if not isinstance(entry, Mapping) or key_name not in entry or value_name not in entry:
            raise InvalidPlaybook(f"items2dict takes a list of mappings with '{key_name}' and '{value_name}'")
        mapping[entry[key_name]] = entry[value_name]
    return mapping


def _combine(*mappings: Any, recursive: bool = False, list_merge: str = "replace") -> dict[Any, Any]:
    """Combine mappings: later ones win, and with ``recursive`` the mappings in them are combined too."""
    choices = ("replace", "keep", "append", "prepend", "append_rp", "prepend_rp")
    if list_merge not in choices:
        raise InvalidPlaybook(f"list_merge is one of {', '.join(choices)}")
    combined: dict[Any, Any] = {}
    for entry in _flatten(list(mappings)):
        combined = _merged(combined, _mapping(entry, "combine"), recursive, list_merge)
    return combined


def _merged(below: Mapping[Any, Any], above: Mapping[Any, Any], recursive: bool, list_merge: str) -> dict[Any, Any]:
    merged = dict(below)
    for key, value in above.items():
        before = merged.get(key)
        if recursive and isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(before, value, recursive, list_merge)
        elif isinstance(before, list) and isinstance(value, list) and list_merge != "replace":
            merged[key] = _merged_lists(before, value, list_merge)
        else:
            merged[key] = value
    return merged


def _merged_lists(below: list[Any], above: list[Any], list_merge: str) -> list[Any]:
    if list_merge == "keep":
        return below
    if list_merge.endswith("_rp"):  # an entry of both occurs once, in the later one's place
        below = [entry for entry in below if entry not in above]
    return below + above if list_merge.startswith("append") else above + below


def _extract(key: Any, container: Any, morekeys: Any = None) -> Any:
    for step in [key, *(morekeys if isinstance(morekeys, list) else [] if morekeys is None else [morekeys])]:
        container = container[step]
    return container


def _subelements(value: Any, subelements: Any, skip_missing: bool = False) -> list[list[Any]]:
    path = subelements.split(".") if isinstance(subelements, str) else listed(subelements, "subelements")
    pairs = []
    for entry in value.values() if isinstance(value, Mapping) else listed(value, "subelements"):
        inner: Any = entry
        for part in path:
            inner = inner.get(part) if isinstance(inner, Mapping) else None
        if inner is None and not skip_missing:
            raise InvalidPlaybook(f"an entry has no '{'.'.join(map(str, path))}'", cure="write skip_missing=true")
        pairs += [[entry, element] for element in (listed(inner, "subelements") if inner is not None else [])]
    return pairs


FILTERS_OF_LISTS: dict[str, Callable[..., Any]] = {
    "combinations": _combinations,
    "combine": _combine,
    "dict2items": _dict2items,
    "difference": _difference,
    "extract": _extract,
    "flatten": _flatten,
    "intersect": _intersect,
    "items2dict": _items2dict,
    "product": _product,
    "subelements": _subelements,
    "symmetric_difference": _symmetric_difference,
    "union": _union,
    "unique": _unique,
    "zip": _zip,
    "zip_longest": _zip_longest,
}

"""Ansible's filters, beside those that Jinja2 has.

Names, parameters and meaning: https://docs.ansible.com/ansible/latest/collections/ansible/builtin/index.html#filter-plugins
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml
from jinja2.exceptions import UndefinedError
from jinja2.runtime import Undefined

from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook import patterns
from nbprovision.playbook.list_filters import FILTERS_OF_LISTS, fail, listed
from nbprovision.playbook.outside import Unset
from nbprovision.playbook.written import Written
from nbprovision.playbook.yaml_nodes import parse_nodes, plain
from nbprovision.system import secrets

if TYPE_CHECKING:
    from nbprovision.playbook.outside import Outside

Filter = Callable[..., Any]

_MAX_INDENT = 16
_REFERENCE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)


class _Dumper(yaml.SafeDumper):
    """Writes YAML as Ansible does; a value that occurs twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def filters(outside: Outside) -> dict[str, Filter]:
    """Return the supported filters of Ansible, by name.

    Args:
        outside: The machine, for filters that read it.

    """

    def relative(path: Any, start: Any = None) -> str:
        return os.path.relpath(outside.path(path), outside.folder if start is None else outside.path(start))

    return _PURE | {
        "expanduser": lambda path: outside.expanded(_text(path)),
        "expandvars": lambda text: _expandvars(_text(text), outside),
        "realpath": lambda path: str(outside.resolved(outside.path(path))),
        "relpath": relative,
        "fileglob": lambda pattern: [str(path) for path in outside.globbed(_text(pattern))],
    }


def _text(value: Any) -> str:
    return "" if value is None else str(value)  # what is undefined raises here


# ------------------------------------------------------------------------------------------------------- single values


def boolean(value: Any) -> bool:
    """Yes, on, 1, true and true itself are true, all else is not."""
    return str(value).strip().lower() in ("yes", "on", "1", "true")


def _mandatory(value: Any, msg: str | None = None) -> Any:
    if isinstance(value, Undefined):
        if msg:
            raise UndefinedError(str(msg))
        fail(value)
    return value


def _ternary(value: Any, true_val: Any, false_val: Any, none_val: Any = None) -> Any:
    if value is None and none_val is not None:
        return none_val
    return true_val if value else false_val


def _digest(value: Any, hashtype: str = "sha1") -> str:
    if hashtype not in hashlib.algorithms_guaranteed or hashtype.startswith("shake"):
        raise InvalidPlaybook(f"unknown hash '{str(hashtype)[:20]}'", cure="there are: sha256, sha512, sha1, md5")
    return hashlib.new(hashtype, _text(value).encode(), usedforsecurity=False).hexdigest()


def _b64encode(value: Any, encoding: str = "utf-8") -> str:
    text = _text(value)
    encoded = base64.b64encode(text.encode(encoding)).decode("ascii")
    if secrets.mask(text) != text:  # a secret in another dress is a secret
        secrets.remember(encoded)
    return encoded


def _b64decode(value: Any, encoding: str = "utf-8") -> str:
    text = _text(value)
    try:
        decoded = base64.b64decode(text, validate=False).decode(encoding)
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidPlaybook("the value is not base64 of a text", cause=str(error)) from None
    if secrets.mask(text) != text:
        secrets.remember(decoded)
    return decoded


def _human_readable(value: Any, isbits: bool = False, unit: str | None = None) -> str:
    """``1.00 GB``, in steps of 1024, as Ansible prints it."""
    number, letters = float(value), "bits" if isbits else "Bytes"
    for power, letter in reversed(list(enumerate("KMGTPEZY", 1))):
        if (unit is None and number >= 1024**power) or (unit is not None and str(unit).upper().startswith(letter)):
            return f"{number / 1024**power:.2f} {letter}{'b' if isbits else 'B'}"
    return f"{number:.2f} {letters}"


def _human_to_bytes(value: Any, default_unit: str | None = None) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", _text(value))
    unit = (match[2] or default_unit or "B") if match else ""
    if match is None or not re.fullmatch(r"(?i)([KMGTPEZY]i?)?(b|bits?|bytes?)?", unit):
        raise InvalidPlaybook(f"'{_text(value)[:40]}' is not a size", cause="a size is a number and a unit: 5 GB, 512K")
    power = "KMGTPEZY".find(unit[:1].upper()) + 1
    return round(float(match[1]) * (1 << 10 * power))


def _urlsplit(value: Any, query: str = "") -> Any:
    parts = urlsplit(_text(value))
    names = ("scheme", "netloc", "path", "query", "fragment", "username", "password", "hostname", "port")
    values = {name: getattr(parts, name) if getattr(parts, name) is not None else "" for name in names}
    if values["password"]:
        secrets.remember(values["password"])
    if query and query not in values:
        raise InvalidPlaybook(f"a URL has no part '{query[:20]}'", cure=f"it has: {', '.join(names)}")
    return values[query] if query else values


def _type_debug(value: Any) -> str:
    if isinstance(value, Written):
        value = value.number()
    return "AnsibleUndefined" if isinstance(value, Undefined) else type(value).__name__


# ----------------------------------------------------------------------------------------------------------- documents


def _to_json(value: Any, indent: int | None = None, sort_keys: bool = False, ensure_ascii: bool = True) -> str:
    return _dumped(value, indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii)


def _to_nice_json(value: Any, indent: int = 4, sort_keys: bool = True, ensure_ascii: bool = True) -> str:
    return _dumped(value, indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii)


def _dumped(value: Any, *, indent: int | None, sort_keys: bool, ensure_ascii: bool) -> str:
    _check_indent(indent)
    return json.dumps(_plain(value), indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii)


def _from_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise InvalidPlaybook("the value is not JSON", cause=str(error)) from None


def _to_yaml(value: Any, default_flow_style: bool | None = None, indent: int | None = None, **options: Any) -> str:
    return _yaml(value, default_flow_style, indent, options)


def _to_nice_yaml(value: Any, indent: int = 4, **options: Any) -> str:
    return _yaml(value, default_flow_style=False, indent=indent, options=options)


def _yaml(value: Any, default_flow_style: bool | None, indent: int | None, options: Mapping[str, Any]) -> str:
    _check_indent(indent)
    taken = {"width", "sort_keys", "allow_unicode", "explicit_start"}
    if not options.keys() <= taken:
        raise InvalidPlaybook("to_yaml has no such option", cure=f"it has: indent, {', '.join(sorted(taken))}")
    options = {"allow_unicode": True, **options}
    data = _plain(value)
    text: str = yaml.dump(data, Dumper=_Dumper, default_flow_style=default_flow_style, indent=indent, **options)
    return text


def _from_yaml(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    node = parse_nodes(value, "the text", "text")
    return None if node is None else plain(node)


def _check_indent(indent: Any) -> None:
    if indent is not None and (not isinstance(indent, int) or not 0 <= indent <= _MAX_INDENT):
        raise InvalidPlaybook(f"an indentation is a number from 0 to {_MAX_INDENT}")


def _plain(value: Any) -> Any:
    """Convert a value to plain data for JSON and YAML; an undefined value raises its error."""
    if isinstance(value, Undefined):
        fail(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | range | Iterator):
        return [_plain(entry) for entry in value]
    if isinstance(value, Written):
        if value.loses:
            raise value.lost()
        return value.number()
    return str(value) if isinstance(value, str) else value


# --------------------------------------------------------------------------------------------------------------- paths


def _splitext(path: Any) -> list[str]:
    return list(os.path.splitext(_text(path)))


def _path_join(parts: Any) -> str:
    return os.path.join(*(_text(part) for part in parts)) if isinstance(parts, list | tuple) else _text(parts)


def _commonpath(paths: Any) -> str:
    return os.path.commonpath([_text(path) for path in listed(paths, "commonpath")])


def _expandvars(text: str, outside: Outside) -> str | Unset:
    """Replace ``$NAME`` and ``${NAME}`` by the environment variables; anything else stays as written."""
    variables = {name: outside.variable(name) for pair in _REFERENCE.findall(text) if (name := pair[0] or pair[1])}
    unset = next((value for value in variables.values() if isinstance(value, Unset)), None)
    return unset or _REFERENCE.sub(lambda match: str(variables[match[1] or match[2]]), text)


_PURE: dict[str, Filter] = {
    **FILTERS_OF_LISTS,
    "b64decode": _b64decode,
    "b64encode": _b64encode,
    "basename": lambda path: os.path.basename(_text(path)),
    "bool": boolean,
    "checksum": _digest,
    "commonpath": _commonpath,
    "dirname": lambda path: os.path.dirname(_text(path)),
    "from_json": _from_json,
    "from_yaml": _from_yaml,
    "hash": _digest,
    "human_readable": _human_readable,
    "human_to_bytes": _human_to_bytes,
    "mandatory": _mandatory,
    "md5": lambda value: _digest(value, "md5"),
    "normpath": lambda path: os.path.normpath(_text(path)),
    "path_join": _path_join,
    "quote": lambda value: shlex.quote(_text(value)),
    "regex_escape": patterns.escape,
    "regex_findall": patterns.findall,
    "regex_replace": patterns.replace,
    "regex_search": patterns.search,
    "sha1": lambda value: _digest(value, "sha1"),
    "split": lambda value, separator=None, maxsplit=-1: _text(value).split(separator, maxsplit),
    "splitext": _splitext,
    "ternary": _ternary,
    "to_json": _to_json,
    "to_nice_json": _to_nice_json,
    "to_nice_yaml": _to_nice_yaml,
    "to_yaml": _to_yaml,
    "type_debug": _type_debug,
    "urldecode": lambda value: unquote(_text(value)),
    "urlsplit": _urlsplit,
}

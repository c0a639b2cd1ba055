"""Ansible's filters that Jinja2 lacks.

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
from nbprovision.playbook.list_filters import FILTERS_OF_LISTS, fail, listed
from nbprovision.playbook.outside import Unset
from nbprovision.playbook.written import WrittenNumber
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
    return "" if value is None else str(value)  # an undefined value raises here


# ------------------------------------------------------------------------------------------------------- single values


def boolean(value: Any) -> bool:
    """Whether a value is true: ``yes``, ``on``, ``1``, ``true``, and True itself are."""
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
    if secrets.mask(text) != text:  # an encoded secret is a secret
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
    if isinstance(value, WrittenNumber):
        value = value.number()
    return "AnsibleUndefined" if isinstance(value, Undefined) else type(value).__name__


# ------------------------------------------------------------------------------------------------ regular expressions


def _regex_replace(
    value: Any,
    pattern: str = "",
    replacement: str = "",
    ignorecase: bool = False,
    multiline: bool = False,
    count: int = 0,
    mandatory_count: int = 0,
) -> str:
    r"""Ansible's filter ``regex_replace``: every match (or the first ``count``) replaced; ``\1`` is a group."""
    text = text_of_pattern(value)
    regex = compiled(pattern, ignorecase=ignorecase, multiline=multiline)
    replacement = text_of_pattern(replacement)
    try:
        replaced, times = regex.subn(replacement, text, count)
    except (re.error, IndexError) as error:
        raise InvalidPlaybook(f"'{replacement[:40]}' cannot replace a match", cause=str(error)) from None
    if times < mandatory_count:
        raise InvalidPlaybook(f"'{pattern[:40]}' matches {times} times, not {mandatory_count}")
    return replaced


def _regex_search(value: Any, pattern: str, *groups: str, ignorecase: bool = False, multiline: bool = False) -> Any:
    r"""Ansible's filter ``regex_search``: the first match, or with ``\1`` and ``\g<name>`` a list of its groups."""
    match = compiled(pattern, ignorecase=ignorecase, multiline=multiline).search(text_of_pattern(value))
    if match is None:
        return None
    if not groups:
        return match.group()
    try:
        return [match.group(_group(name)) for name in groups]
    except IndexError:
        raise InvalidPlaybook(f"'{pattern[:40]}' has no group {', '.join(groups)[:40]}") from None


def _regex_findall(value: Any, pattern: str, multiline: bool = False, ignorecase: bool = False) -> list[Any]:
    """Ansible's filter ``regex_findall``: every match, or where the pattern has groups, these."""
    matches = compiled(pattern, ignorecase=ignorecase, multiline=multiline).findall(text_of_pattern(value))
    return [list(match) if isinstance(match, tuple) else match for match in matches]


def _regex_escape(value: Any, re_type: str = "python") -> str:
    """Ansible's filter ``regex_escape``."""
    if re_type not in ("python", "posix_basic"):
        raise InvalidPlaybook(f"unknown re_type '{str(re_type)[:20]}'", cure="there are: python, posix_basic")
    text = text_of_pattern(value)
    return re.escape(text) if re_type == "python" else re.sub(r"([].[^$*\\])", r"\\\1", text)


def compiled(pattern: Any, *, ignorecase: bool, multiline: bool) -> re.Pattern[str]:
    """Return a regular expression of a template."""
    text = text_of_pattern(pattern)
    try:
        return re.compile(text, (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0))
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidPlaybook(f"'{text[:60]}' is not a regular expression", cause=str(error)) from None


def _group(name: str) -> int | str:
    match = re.fullmatch(r"\\(\d+)|\\g<([^<>]+)>", str(name))
    if match is None:
        raise InvalidPlaybook(f"'{str(name)[:20]}' is not a group", cure="write '\\\\1' or '\\\\g<name>'")
    return int(match[1]) if match[1] else int(match[2]) if match[2].isdecimal() else match[2]


def text_of_pattern(value: Any) -> str:
    """Return the text of a pattern, or for a pattern; lists and mappings have none."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, list | dict) or (callable(value) and not isinstance(value, Undefined)):
        raise InvalidPlaybook("a regular expression needs text", cure="put `| string` before it, or `map` for a list")
    return str(value)


# ----------------------------------------------------------------------------------------------------------- documents


def _to_json(value: Any, indent: int | None = None, sort_keys: bool = False, ensure_ascii: bool = True) -> str:
    _check_indent(indent)
    return json.dumps(_plain(value), indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii)


def _to_nice_json(value: Any, indent: int = 4, sort_keys: bool = True, ensure_ascii: bool = True) -> str:
    return _to_json(value, indent, sort_keys, ensure_ascii)


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
    if isinstance(value, WrittenNumber):
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
    "regex_escape": _regex_escape,
    "regex_findall": _regex_findall,
    "regex_replace": _regex_replace,
    "regex_search": _regex_search,
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

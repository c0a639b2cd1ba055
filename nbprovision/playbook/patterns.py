"""Regular expressions in templates: Python's, with a clear error for what is wrong with one."""

from __future__ import annotations

import re
from typing import Any

from jinja2.runtime import Undefined

from nbprovision.model.errors import InvalidPlaybook


def replace(
    value: Any,
    pattern: str = "",
    replacement: str = "",
    ignorecase: bool = False,
    multiline: bool = False,
    count: int = 0,
    mandatory_count: int = 0,
) -> str:
    r"""Ansible's filter ``regex_replace``: every match (or the first ``count``) replaced; ``\1`` is a group."""
    text = _text(value)
    compiled = _compiled(pattern, ignorecase=ignorecase, multiline=multiline)
    replacement = _text(replacement)
    try:
        replaced, times = compiled.subn(replacement, text, count)
    except (re.error, IndexError) as error:
        raise InvalidPlaybook(f"'{replacement[:40]}' cannot replace a match", cause=str(error)) from None
    if times < mandatory_count:
        raise InvalidPlaybook(f"'{pattern[:40]}' matches {times} times, not {mandatory_count}")
    return replaced


def search(value: Any, pattern: str, *groups: str, ignorecase: bool = False, multiline: bool = False) -> Any:
    r"""Ansible's filter ``regex_search``: the first match, or with ``\1`` and ``\g<name>`` a list of its groups."""
    match = _compiled(pattern, ignorecase=ignorecase, multiline=multiline).search(_text(value))
    if match is None:
        return None
    if not groups:
        return match.group()
    try:
        return [match.group(_group(name)) for name in groups]
    except IndexError:
        raise InvalidPlaybook(f"'{pattern[:40]}' has no group {', '.join(groups)[:40]}") from None


def findall(value: Any, pattern: str, multiline: bool = False, ignorecase: bool = False) -> list[Any]:
    """Ansible's filter ``regex_findall``: every match, or where the pattern has groups, these."""
    matches = _compiled(pattern, ignorecase=ignorecase, multiline=multiline).findall(_text(value))
    return [list(match) if isinstance(match, tuple) else match for match in matches]


def escape(value: Any, re_type: str = "python") -> str:
    """Ansible's filter ``regex_escape``."""
    if re_type not in ("python", "posix_basic"):
        raise InvalidPlaybook(f"unknown re_type '{str(re_type)[:20]}'", cure="there are: python, posix_basic")
    text = _text(value)
    return re.escape(text) if re_type == "python" else re.sub(r"([].[^$*\\])", r"\\\1", text)


def matches(value: Any, pattern: str, ignorecase: bool = False, multiline: bool = False) -> bool:
    """Ansible's test ``match``: whether the text begins so."""
    return is_like(value, pattern, ignorecase, multiline, "match")


def is_in(value: Any, pattern: str, ignorecase: bool = False, multiline: bool = False) -> bool:
    """Ansible's test ``search``: whether it is somewhere in the text."""
    return is_like(value, pattern, ignorecase, multiline)


def is_like(
    value: Any, pattern: str = "", ignorecase: bool = False, multiline: bool = False, match_type: str = "search"
) -> bool:
    """Ansible's test ``regex``: as ``search``, or ``match_type`` ``match`` or ``fullmatch``."""
    compiled = _compiled(pattern, ignorecase=ignorecase, multiline=multiline)
    if match_type not in ("search", "match", "fullmatch"):
        raise InvalidPlaybook("match_type is search, match or fullmatch")
    return getattr(compiled, match_type)(_text(value)) is not None


def _compiled(pattern: Any, *, ignorecase: bool, multiline: bool) -> re.Pattern[str]:
    text = _text(pattern)
    try:
        return re.compile(text, (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0))
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidPlaybook(f"'{text[:60]}' is not a regular expression", cause=str(error)) from None


def _group(name: str) -> int | str:
    match = re.fullmatch(r"\\(\d+)|\\g<([^<>]+)>", str(name))
    if match is None:
        raise InvalidPlaybook(f"'{str(name)[:20]}' is not a group", cure="write '\\\\1' or '\\\\g<name>'")
    return int(match[1]) if match[1] else int(match[2]) if match[2].isdecimal() else match[2]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, list | dict) or (callable(value) and not isinstance(value, Undefined)):
        raise InvalidPlaybook("a regular expression needs text", cure="put `| string` before it, or `map` for a list")
    return str(value)

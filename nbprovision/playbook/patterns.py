"""Regular expressions in templates: Python's, and none runs for long.

The library ``regex`` is the one whose matching can be given a time: with the standard library's, ``(a+)+$`` on thirty
letters takes minutes, and nothing can stop it.
"""

from __future__ import annotations

import re
from typing import Any

from jinja2.runtime import Undefined

from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook.limits import TemplateLimit, limited

MAX_PATTERN = 5_000  # characters
MAX_SECONDS = 1.0  # of one search


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
    pieces: list[str] = []
    end = size = done = 0
    for match in _matches(compiled, text):
        try:
            put_in = match.expand(replacement)
        except Exception as error:  # noqa: BLE001 - regex has errors of its own beside Python's
            raise InvalidPlaybook(f"'{replacement[:40]}' cannot replace a match", cause=str(error)) from None
        pieces += (text[end : match.start()], put_in)
        size = limited(size + len(pieces[-1]) + len(pieces[-2]))
        end, done = match.end(), done + 1
        if done == count:
            break
    if done < mandatory_count:
        raise InvalidPlaybook(f"'{pattern[:40]}' matches {done} times, and {mandatory_count} are demanded")
    limited(size + len(text) - end)
    return "".join((*pieces, text[end:]))


def search(value: Any, pattern: str, *groups: str, ignorecase: bool = False, multiline: bool = False) -> Any:
    r"""Ansible's filter ``regex_search``: the first match, or with ``\1`` and ``\g<name>`` a list of its groups."""
    compiled = _compiled(pattern, ignorecase=ignorecase, multiline=multiline)
    match = _timed(lambda: compiled.search(_text(value), timeout=MAX_SECONDS))
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
    compiled = _compiled(pattern, ignorecase=ignorecase, multiline=multiline)
    found: list[Any] = []
    for match in _matches(compiled, _text(value)):
        groups = [group or "" for group in match.groups()]
        found.append(match.group() if not groups else groups[0] if len(groups) == 1 else groups)
        limited(len(found) * max(len(groups), 1))
    return found


def escape(value: Any, re_type: str = "python") -> str:
    """Ansible's filter ``regex_escape``."""
    if re_type not in ("python", "posix_basic"):
        raise InvalidPlaybook(f"there is no re_type '{str(re_type)[:20]}'", cure="there are: python, posix_basic")
    text = _text(value)
    return re.escape(text) if re_type == "python" else re.sub(r"([].[^$*\\])", r"\\\1", text)


def matches(value: Any, pattern: str, ignorecase: bool = False, multiline: bool = False) -> bool:
    """Ansible's test ``match``: whether the text begins so."""
    compiled = _compiled(pattern, ignorecase=ignorecase, multiline=multiline)
    return _timed(lambda: compiled.match(_text(value), timeout=MAX_SECONDS)) is not None


def is_in(value: Any, pattern: str, ignorecase: bool = False, multiline: bool = False) -> bool:
    """Ansible's test ``search``: whether it is somewhere in the text."""
    compiled = _compiled(pattern, ignorecase=ignorecase, multiline=multiline)
    return _timed(lambda: compiled.search(_text(value), timeout=MAX_SECONDS)) is not None


def is_like(
    value: Any, pattern: str = "", ignorecase: bool = False, multiline: bool = False, match_type: str = "search"
) -> bool:
    """Ansible's test ``regex``: as ``search``, or ``match_type`` ``match`` or ``fullmatch``."""
    compiled = _compiled(pattern, ignorecase=ignorecase, multiline=multiline)
    if match_type not in ("search", "match", "fullmatch"):
        raise InvalidPlaybook("match_type is search, match or fullmatch")
    function = {"search": compiled.search, "match": compiled.match, "fullmatch": compiled.fullmatch}[match_type]
    return _timed(lambda: function(_text(value), timeout=MAX_SECONDS)) is not None


def _compiled(pattern: Any, *, ignorecase: bool, multiline: bool) -> Any:
    import regex

    text = _text(pattern)
    if len(text) > MAX_PATTERN:
        raise TemplateLimit(f"a regular expression of more than {MAX_PATTERN} characters")
    flags = (regex.IGNORECASE if ignorecase else 0) | (regex.MULTILINE if multiline else 0)
    try:
        return regex.compile(text, flags)
    except regex.error as error:
        raise InvalidPlaybook(f"'{text[:60]}' is no regular expression", cause=str(error)) from None


def _matches(compiled: Any, text: str) -> Any:
    """Every match, in the time that all of them together may take."""
    found = compiled.finditer(text, timeout=MAX_SECONDS)
    while (match := _timed(lambda: next(found, None))) is not None:
        yield match


def _timed(work: Any) -> Any:
    try:
        return work()
    except TimeoutError:
        raise TemplateLimit(f"more than {MAX_SECONDS:.0f} second for one regular expression") from None


def _group(name: str) -> int | str:
    match = re.fullmatch(r"\\(\d+)|\\g<([^<>]+)>", str(name))
    if match is None:
        raise InvalidPlaybook(f"'{str(name)[:20]}' names no group", cure="write '\\\\1' or '\\\\g<name>'")
    return int(match[1]) if match[1] else int(match[2]) if match[2].isdecimal() else match[2]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, list | dict) or (callable(value) and not isinstance(value, Undefined)):
        raise InvalidPlaybook("a regular expression is for text", cure="put `| string` before it, or `map` for a list")
    return str(value)

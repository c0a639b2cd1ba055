"""Ansible's tests (the words after ``is``) that Jinja2 lacks.

Names and meaning: https://docs.ansible.com/ansible/latest/collections/ansible/builtin/index.html#test-plugins
"""

from __future__ import annotations

import math
import operator
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version

from nbprovision.model.errors import InvalidPlaybook, nearest
from nbprovision.playbook.filters import boolean, compiled, text_of_pattern

if TYPE_CHECKING:
    from nbprovision.playbook.outside import Outside

Test = Callable[..., bool]

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(("==", "=", "eq"), operator.eq),
    **dict.fromkeys(("<", "lt"), operator.lt),
    **dict.fromkeys(("<=", "le"), operator.le),
    **dict.fromkeys((">", "gt"), operator.gt),
    **dict.fromkeys((">=", "ge"), operator.ge),
    **dict.fromkeys(("!=", "<>", "ne"), operator.ne),
}
_SEMANTIC = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")


def tests(outside: Outside) -> dict[str, Test]:
    """Return the supported tests of Ansible, by name.

    Args:
        outside: The machine, for tests that read it.

    """

    def exists(path: Any) -> bool:
        return outside.status(outside.path(path)) is not None

    def link_exists(path: Any) -> bool:
        return outside.status(outside.path(path), follow=False) is not None

    def is_kind(kind: Callable[[int], bool], *, follow: bool = True) -> Test:
        def test(path: Any) -> bool:
            status = outside.status(outside.path(path), follow=follow)
            return status is not None and kind(status.st_mode)

        return test

    def same_file(path: Any, other: Any) -> bool:
        first, second = outside.status(outside.path(path)), outside.status(outside.path(other))
        return first is not None and second is not None and os.path.samestat(first, second)

    return _PURE | {
        "directory": is_kind(stat.S_ISDIR),
        "exists": exists,
        "file": is_kind(stat.S_ISREG),
        "link": is_kind(stat.S_ISLNK, follow=False),
        "link_exists": link_exists,
        "same_file": same_file,
    }


def _of_result(name: str) -> Test:
    """Return a test of a registered result."""

    def test(result: Any) -> bool:
        if not isinstance(result, Mapping):
            raise InvalidPlaybook(
                "the test needs the result of a task", cure="name the variable that `register` gives the result to"
            )
        return bool(result.get(name, False))

    return test


def _truthy(value: Any, convert_bool: bool = False) -> bool:
    return boolean(value) if convert_bool and isinstance(value, str) else bool(value)


def _falsy(value: Any, convert_bool: bool = False) -> bool:
    return not _truthy(value, convert_bool)


def _url(value: Any, schemes: Any = None) -> bool:
    try:
        parts = urlsplit(str(value))
    except ValueError:
        return False
    return bool(parts.scheme and parts.netloc) and (schemes is None or parts.scheme in schemes)


def _matches(value: Any, pattern: str, ignorecase: bool = False, multiline: bool = False) -> bool:
    return _regex(value, pattern, ignorecase, multiline, "match")


def _regex(
    value: Any, pattern: str = "", ignorecase: bool = False, multiline: bool = False, match_type: str = "search"
) -> bool:
    regex = compiled(pattern, ignorecase=ignorecase, multiline=multiline)
    if match_type not in ("search", "match", "fullmatch"):
        raise InvalidPlaybook("match_type is search, match or fullmatch")
    return getattr(regex, match_type)(text_of_pattern(value)) is not None


def _compare(
    value: Any, other: Any, operator: str = "eq", strict: bool | None = None, version_type: str | None = None
) -> bool:
    """Whether ``value OPERATOR other`` is true for versions.

    Args:
        value: A version.
        other: Another version.
        operator: ``<``, ``lt``, ``<=``, ``le``, ``>``, ``gt``, ``>=``, ``ge``, ``==``, ``=``, ``eq``, ``!=``, ``<>``,
            ``ne``.
        strict: True refuses versions that PEP 440 does not allow, as ``version_type: pep440`` does.
        version_type: ``pep440`` (and ``strict``), ``semver`` (and ``semantic``), or ``loose``: numbers and words in
            order. Default: PEP 440 if both are such versions, as Python's and conda's are, else loose. (Ansible is
            loose by default: there, ``1.2`` is not ``1.2.0``, and ``1.0rc1`` is newer than ``1.0``.)

    Raises:
        InvalidPlaybook: the operator is unknown, or one of the two is not a version of that type.

    """
    if operator not in _OPERATORS:
        raise InvalidPlaybook(
            f"'{str(operator)[:20]}' does not compare versions", cure=f"there are: {', '.join(_OPERATORS)}"
        )
    parsers = {"pep440": _pep440, "strict": _pep440, "semver": _semantic, "semantic": _semantic, "loose": _loose}
    kind = version_type or ("pep440" if strict else None)
    if kind is not None and kind not in parsers:
        raise InvalidPlaybook(f"unknown version_type '{str(kind)[:20]}'{nearest(str(kind), parsers)}")
    left, right = str(value).strip(), str(other).strip()
    if not left or not right:
        raise InvalidPlaybook("one of the versions to compare is empty")
    parse = parsers[kind or ("pep440" if _is_pep440(left) and _is_pep440(right) else "loose")]
    return _OPERATORS[operator](parse(left), parse(right))


def _is_pep440(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _pep440(text: str) -> Version:
    if not _is_pep440(text):
        raise InvalidPlaybook(f"'{text[:40]}' is not a version by PEP 440", cure="write version_type='loose'")
    return Version(text)


def _semantic(text: str) -> Any:
    """A key that sorts as https://semver.org does: a pre-release is before its release."""
    match = _SEMANTIC.fullmatch(text.removeprefix("v"))
    if match is None:
        raise InvalidPlaybook(f"'{text[:40]}' is not a semantic version", cure="write version_type='loose'")
    numbers = tuple(int(match[number]) for number in (1, 2, 3))
    return (numbers, match[4] is None, _parts((match[4] or "").split(".")))


def _loose(text: str) -> Any:
    """Numbers and words in order, as ``distutils.version.LooseVersion`` took them apart."""
    return _parts(part for part in re.split(r"(\d+|[a-z]+|\.)", text.lower()) if part and part != ".")


def _parts(parts: Iterable[str]) -> tuple[tuple[bool, int, str], ...]:
    """Numbers sort before words, so that any two versions can be compared."""
    return tuple((not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts)


_PURE: dict[str, Test] = {
    **dict.fromkeys(("abs", "is_abs"), lambda path: os.path.isabs(str(path))),
    "all": all,
    "any": any,
    **dict.fromkeys(("change", "changed"), _of_result("changed")),
    "contains": lambda container, value: value in container,
    **dict.fromkeys(("failed", "failure"), _of_result("failed")),
    "falsy": _falsy,
    **dict.fromkeys(("issubset", "subset"), lambda value, other: all(entry in other for entry in value)),
    **dict.fromkeys(("issuperset", "superset"), lambda value, other: all(entry in value for entry in other)),
    "match": _matches,
    **dict.fromkeys(("nan", "isnan"), lambda value: isinstance(value, float) and math.isnan(value)),
    "regex": _regex,
    "search": lambda value, pattern, ignorecase=False, multiline=False: _regex(value, pattern, ignorecase, multiline),
    **dict.fromkeys(("skip", "skipped"), _of_result("skipped")),
    **dict.fromkeys(("succeeded", "success", "successful"), lambda result: not _of_result("failed")(result)),
    "truthy": _truthy,
    "url": _url,
    **dict.fromkeys(("version", "version_compare"), _compare),
}

"""Comparing versions as the test ``version`` does."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import Any

from packaging.version import InvalidVersion, Version

from nbprovision.model.errors import InvalidPlaybook, nearest

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(("==", "=", "eq"), operator.eq),
    **dict.fromkeys(("<", "lt"), operator.lt),
    **dict.fromkeys(("<=", "le"), operator.le),
    **dict.fromkeys((">", "gt"), operator.gt),
    **dict.fromkeys((">=", "ge"), operator.ge),
    **dict.fromkeys(("!=", "<>", "ne"), operator.ne),
}
_SEMANTIC = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")


def compare(
    value: Any, other: Any, operator: str = "eq", strict: bool | None = None, version_type: str | None = None
) -> bool:
    """Whether ``value OPERATOR other`` holds for versions.

    Args:
        value: A version.
        other: The one to compare it with.
        operator: ``<``, ``lt``, ``<=``, ``le``, ``>``, ``gt``, ``>=``, ``ge``, ``==``, ``=``, ``eq``, ``!=``, ``<>``,
            ``ne``.
        strict: True refuses versions that PEP 440 does not allow, as ``version_type: pep440`` does.
        version_type: ``pep440`` (and ``strict``), ``semver`` (and ``semantic``), or ``loose``: numbers and words in the
            order in which they stand. Default: PEP 440 where both are such versions, as Python's and conda's are, else
            loose. (Ansible is loose by default: ``1.2`` is not ``1.2.0`` there, and ``1.0rc1`` newer than ``1.0``.)

    Raises:
        InvalidPlaybook: the operator is unknown, or one of the two is not a version of that type.

    """
    if operator not in _OPERATORS:
        raise InvalidPlaybook(
            f"'{str(operator)[:20]}' does not compare versions", cure=f"there are: {', '.join(_OPERATORS)}"
        )
    kinds = {"pep440": "pep440", "strict": "pep440", "semver": "semver", "semantic": "semver", "loose": "loose"}
    kind = version_type or ("pep440" if strict else None)
    if kind is not None and kind not in kinds:
        raise InvalidPlaybook(f"unknown version_type '{str(kind)[:20]}'{nearest(str(kind), kinds)}")
    left, right = str(value).strip(), str(other).strip()
    if not left or not right:
        raise InvalidPlaybook("one of the versions to compare is empty")
    chosen = kinds[kind] if kind else "pep440" if _is_pep440(left) and _is_pep440(right) else "loose"
    parse = {"pep440": _pep440, "semver": _semantic, "loose": _loose}[chosen]
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
    """Numbers before words, so that any two can be compared."""
    return tuple((not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts)

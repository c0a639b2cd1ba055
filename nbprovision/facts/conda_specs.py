"""conda's match specs, as far as they can be judged without the solver's library.

Loading that library takes longer than all the rest of a run that finds everything in place, and nearly every spec is a
name, a version or a range of plain numbers. Those are judged here; of any other `satisfies` says None, and the library is
asked. (Match specs: https://conda.org/learn/ceps/cep-0029; order of versions: conda.models.version.VersionOrder.)
"""

from __future__ import annotations

import re

import msgspec

_SPEC = re.compile(r"(?:(?P<channel>[^\[\]=<>!~ ]+)::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)\s*(?P<rest>.*)", re.DOTALL)
_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+)*")
_CLAUSE = re.compile(r"(?P<operator>==|>=|<=|!=|>|<|=|)(?P<version>[0-9]+(?:\.[0-9]+)*)(?P<star>\.?\*)?")
_BUILD = re.compile(r"[A-Za-z0-9_.+]+")


class Spec(msgspec.Struct, frozen=True):
    """A match spec in its parts; ``rest`` is what says something of version and build."""

    text: str
    name: str
    channel: str | None = None
    rest: str = ""


def parse(text: str) -> Spec | None:
    """Take a match spec apart, None where it has no name in front."""
    match = _SPEC.fullmatch(text.strip())
    if match is None or any(ord(letter) < 32 for letter in text.strip()):
        return None
    return Spec(text.strip(), match["name"].lower(), match["channel"], match["rest"].strip())


def satisfies(spec: Spec, version: str, build: str) -> bool | None:
    """Whether a package of the spec's name has a version and build that it allows; None: the library must be asked."""
    if not spec.rest:
        return True
    versions, wanted_build = _split(spec.rest)
    if versions is None or not _NUMBERS.fullmatch(version):
        return None
    if wanted_build is not None:
        if not _BUILD.fullmatch(wanted_build):
            return None
        if wanted_build != build:
            return False
    verdicts = [_clause(clause.strip(), version) for clause in versions.split(",")]
    if None in verdicts:
        return None
    return all(verdicts)


def _split(rest: str) -> tuple[str | None, str | None]:
    """Version part and build of ``=1.2=build``, ``==1.2``, ``1.2 build``, ``>=1,<2``; (None, None) for all else."""
    if any(letter in rest for letter in "[]()|~^"):
        return None, None
    words = rest.split()
    if (
        len(words) == 2
        and not words[0].endswith((",", "=", "<", ">", "!"))
        and not words[1].startswith(("<", ">", "!", "=", ","))
    ):
        return _exact(words[0].lstrip("=")), words[1]
    if len(words) > 1:
        rest = re.sub(r"\s*,\s*", ",", rest)
        rest = re.sub(r"([=<>!])\s+", r"\1", rest)
        if " " in rest:
            return None, None
    match = re.fullmatch(r"(={0,2})([^=<>!,]+)=([^=<>!,]+)", rest)
    if match:  # with a build, one sign in front of the version means the same as two
        return _exact(match[2]), match[3]
    return _exact(rest), None


def _exact(versions: str) -> str:
    """A version that stands alone is meant exactly (unlike ``=1.2``)."""
    return "==" + versions if _NUMBERS.fullmatch(versions) else versions


def _clause(clause: str, version: str) -> bool | None:
    match = _CLAUSE.fullmatch(clause)
    if clause == "*":
        return True
    if match is None:
        return None
    operator, star = match["operator"], match["star"]
    wanted, have = _numbers(match["version"]), _numbers(version)
    if star == "*" or (star and operator not in ("", "=")):
        return None
    if operator == "=" or star:
        if len(have) < len(wanted) and have + [0] * (len(wanted) - len(have)) == wanted:
            return None  # whether 1 begins with 1.0 is the library's to say
        return have[: len(wanted)] == wanted
    order = _compare(have, wanted)
    return {
        "": order == 0, "==": order == 0, "!=": order != 0,
        ">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0,
    }[operator]  # fmt: skip


def compare(one: str, other: str) -> int | None:
    """Order of two versions: negative, 0 or positive; None where one is not plain numbers."""
    if not (_NUMBERS.fullmatch(one) and _NUMBERS.fullmatch(other)):
        return None
    return _compare(_numbers(one), _numbers(other))


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _compare(one: list[int], other: list[int]) -> int:
    length = max(len(one), len(other))
    one, other = one + [0] * (length - len(one)), other + [0] * (length - len(other))
    return (one > other) - (one < other)

"""Tasks that fight over one thing: each run would undo with one what it did with the other, or fail."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from nbprovision.facts import conda_specs, requirements
from nbprovision.lint.finding import Found, rule
from nbprovision.lint.subject import Call, Playbook
from nbprovision.model.errors import Position, ProvisionError
from nbprovision.model.task import Claim, Resource

_Fight = tuple[Call, Call, str, str]  # the later task, the earlier one, what they fight over, how they differ

# Kinds whose parameters say all of what they make: what one leaves out is its default, and no less another value.
_WHOLE = frozenset(("ensure_kernel", "ensure_git_config", "ensure_line", "ensure_block"))
# Kinds that leave as it is what they do not name.
_IN_PART = frozenset(("ensure_file", "ensure_pip_index", "ensure_condarc"))
# Kinds of which only the being there can be fought over here; their packages are compared by themselves.
_THERE = frozenset(("ensure_conda_env", "ensure_conda_channel"))
# What tells two things of one kind apart that lie in one file.
_WHICH = {
    "ensure_line": ("regexp", "line"),
    "ensure_block": ("marker", "marker_begin", "marker_end"),
    "ensure_git_config": ("name",),
}
# What does not make the thing another one.
_BESIDE = frozenset(("deep", "refresh_every", "validate", "engine", "state", "backup", "create", "firstmatch"))
_PARTS_OF_FILES = ("ensure_line", "ensure_block")
_CONTENT = ("content", "template", "source", "copy", "src")
_CLAUSE = re.compile(r"(?P<operator>==|>=|<=|!=|>|<|=|)\s*(?P<version>\d+(?:\.\d+)*)(?P<star>\.\*|\*)?")


@rule(
    "conflicting-tasks",
    "error",
    "two tasks that fight over one thing: a kernel, file, index or package that they want different, or one wants gone",
    "each run does with one task what it undoes with the other, so that it never comes to an end",
)
def conflicting_tasks(playbook: Playbook) -> Iterable[Found]:
    """Tasks that both hold on this machine, each pair once; handlers and rescues act in their turn only."""
    calls = [call for call in playbook.calls if call.here and not call.handler and not call.rescue]
    told: set[frozenset[Position]] = set()
    for later, earlier, thing, reason in (*_things(playbook, calls), *_packages(playbook, calls)):
        pair = frozenset((later.position, earlier.position))
        if pair not in told:
            told.add(pair)
            yield Found(
                position=later.position,
                message=f"'{later.name}' and '{earlier.name}' ({earlier.position}) fight over {thing}: {reason}",
                cure="make one task of the two, or give each its own thing",
            )


def _things(playbook: Playbook, calls: Sequence[Call]) -> Iterator[_Fight]:
    """Kernels, files, indexes, settings."""
    makers: dict[Resource, list[Call]] = {}
    for call in calls:
        for resource in sorted(playbook.provided(call)):
            makers.setdefault(resource, []).append(call)
    for thing, several in makers.items():
        for first, second in combinations(several, 2):
            reason = _difference(first, second)
            if reason:
                yield second, first, f"{thing.kind} {thing.identity}", reason


def _difference(first: Call, second: Call) -> str:
    """What the two want different of one thing, or nothing."""
    if first.kind == second.kind == "ensure_env_var":
        return _variables(first, second)
    if first.kind == second.kind and first.kind in _WHOLE | _IN_PART | _THERE:
        return _alike(first, second) if _which(first) == _which(second) else ""
    for whole, part in ((first, second), (second, first)):
        if whole.kind == "ensure_file" and part.kind in _PARTS_OF_FILES and _state(part) != "absent":
            if _state(whole) == "absent":
                return "one wants it gone and the other a text in it"
            if any(whole.values.get(key) is not None for key in _CONTENT):
                return "one says all that is in it, the other puts something into it"
    return ""


def _alike(first: Call, second: Call) -> str:
    """What two tasks of one kind want different of one thing, or nothing."""
    absent = [_state(call) for call in (first, second)].count("absent")
    keys = sorted((first.values.keys() | second.values.keys()) - _BESIDE)
    pairs = {key: (_settled(first, key), _settled(second, key)) for key in keys}
    if first.kind in _IN_PART:
        pairs = {key: pair for key, pair in pairs.items() if None not in pair}
    if first.kind == "ensure_condarc":  # lists and mappings are merged
        common = [key for key, (one, other) in pairs.items() if key != "scope" and _entries(one) & _entries(other)]
        if absent == 1:
            return f"one puts into {common[0]} what the other takes out" if common else ""
        pairs = {key: pair for key, pair in pairs.items() if not isinstance(pair[0], list | dict)}
    if absent == 1:
        return "one wants it there and the other gone"
    if absent == 2 or first.kind in _THERE:
        return ""
    different = [key for key, (one, other) in pairs.items() if one != other]
    if _state(first) != _state(second):
        different.append("state")
    return f"they differ in {', '.join(different)}" if different else ""


def _variables(first: Call, second: Call) -> str:
    """The variable that two tasks set to different values in one file, or one of them takes away."""
    one, other = (
        {
            **(call.values.get("vars") or {}),
            **({call.values["name"]: call.values.get("value")} if call.strings("name") else {}),
        }
        for call in (first, second)
    )
    absent = [_state(call) for call in (first, second)].count("absent")
    for name in sorted(one.keys() & other.keys()):
        if absent == 1 or (absent == 0 and str(one[name]) != str(other[name])):
            return f"they differ in {name}"
    return ""


def _which(call: Call) -> tuple[Any, ...]:
    keys = _WHICH.get(call.kind, ())
    found = tuple(_settled(call, key) for key in keys)
    return found[:1] if call.kind == "ensure_line" and found[0] is not None else found


def _entries(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {repr(pair) for pair in value.items()}
    return {str(entry) for entry in (value if isinstance(value, list) else [value])}


def _state(call: Call) -> str:
    return str(call.values.get("state", "present"))


def _settled(call: Call, key: str) -> Any:
    return getattr(call.task, key, call.values.get(key)) if call.task is not None else call.values.get(key)


def _packages(playbook: Playbook, calls: Sequence[Call]) -> Iterator[_Fight]:
    """Packages of one environment: wanted and unwanted, or in versions that exclude each other."""
    pip: list[tuple[Call, Claim]] = []
    conda: list[tuple[Call, Path, str, bool]] = []
    for call in calls:
        claims = playbook.asked(call, lambda task: list(task.claims(playbook.machine))) or []
        pip += [(call, claim) for claim in claims]
        if call.kind in ("ensure_conda_env", "ensure_conda_pkg") and call.values.get("state") != "absent":
            conda += [
                (call, prefix, text, False) for prefix in _prefixes(playbook, call) for text in call.strings("packages")
            ]
        elif call.kind == "ensure_conda_pkg":
            conda += [
                (call, prefix, text, True) for prefix in _prefixes(playbook, call) for text in call.strings("packages")
            ]
    for (first, claim), (second, other) in combinations(pip, 2):
        if first is not second and claim.prefix == other.prefix and _exclude(claim, other):
            yield second, first, f"'{other.requirement}' in {other.prefix}", f"the other wants '{claim.requirement}'"
    for (first, prefix, text, gone), (second, place, also, also_gone) in combinations(conda, 2):
        if first is second or prefix != place:
            continue
        one, two = conda_specs.parse(text), conda_specs.parse(also)
        if one is None or two is None or one.name != two.name:
            continue
        if gone != also_gone:
            yield second, first, f"'{also}' in {prefix}", "one wants it there and the other gone"
        elif not gone and _no_version(one.rest, two.rest):
            yield second, first, f"'{also}' in {prefix}", f"the other wants '{text}'"
    for call, claim in pip:
        for other_call in calls:
            objection = _objection(playbook, other_call, claim) if other_call is not call else None
            if objection:
                earlier, later = sorted((call, other_call), key=lambda one: one.position[1:])
                yield later, earlier, f"'{claim.requirement}' in {claim.prefix}", objection


def _objection(playbook: Playbook, call: Call, claim: Claim) -> str | None:
    found: str | None = playbook.asked(call, lambda task: task.objection(claim, playbook.machine))
    return found


def _prefixes(playbook: Playbook, call: Call) -> Iterable[Path]:
    return playbook.asked(call, lambda task: list(task.guarded(playbook.machine))) or []


def _exclude(one: Claim, other: Claim) -> bool:
    try:
        first, second = requirements.parse(one.requirement), requirements.parse(other.requirement)
        if first.name != second.name or not first.name:
            return False
        if one.absent and other.absent:
            return False
        # What is to go in one version is let alone in another.
        return requirements.incompatible(first, second) != (one.absent != other.absent)
    except (ProvisionError, ValueError):
        return False


def _no_version(one: str, other: str) -> bool:
    """Whether two of conda's version constraints surely exclude each other; what is no plain number is not judged."""
    first, second = _specifier(one), _specifier(other)
    return first is not None and second is not None and (first & second).is_unsatisfiable()


def _specifier(rest: str) -> SpecifierSet | None:
    """A constraint of conda's in Python's form: ``=3.12`` is ``==3.12.*``."""
    clauses = []
    for clause in rest.split(","):
        match = _CLAUSE.fullmatch(clause.strip())
        if match is None:
            return None
        fuzzy = match["operator"] == "=" or bool(match["star"])
        operator = match["operator"] if match["operator"] not in ("", "=") else "=="
        if fuzzy and operator not in ("==", "!="):
            fuzzy = False
        clauses.append(f"{operator}{match['version']}{'.*' if fuzzy else ''}")
    try:
        return SpecifierSet(",".join(clauses))
    except InvalidSpecifier:
        return None

"""Tasks that fight over one thing: each run would undo with one what it did with the other, or fail."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

from nbprovision.conda import health, specs
from nbprovision.lint.finding import Found, rule
from nbprovision.lint.subject import Call, Playbook
from nbprovision.machine.environments import installed
from nbprovision.model.errors import Position, ProvisionError
from nbprovision.model.task import Claim, Resource, Setting
from nbprovision.pip import requirements

_Fight = tuple[Call, Call, str, str]  # the later task, the earlier one, what they fight over, how they differ

# Kinds whose parameters say all of what they make: what one leaves out is its default, and no less another value.
_WHOLE = frozenset(("ensure_kernel", "ensure_git_config", "ensure_line", "ensure_block"))
# Kinds that leave as it is what they do not name.
_IN_PART = frozenset(("ensure_file", "ensure_pip_index", "ensure_condarc"))
# Kinds of which only the being there can be fought over here; their packages are compared by themselves.
_THERE = frozenset(("ensure_conda_env", "ensure_venv", "ensure_conda_channel"))
# What tells two things of one kind apart that lie in one file.
_WHICH = {
    "ensure_line": ("regexp", "line"),
    "ensure_block": ("marker", "marker_begin", "marker_end"),
    "ensure_git_config": ("name",),
}
# What does not make the thing another one.
_BESIDE = frozenset(("deep", "refresh_every", "validate", "engine", "state", "backup", "create", "firstmatch"))
_OF_CONDA = ("ensure_conda_env", "ensure_conda_pkg")
_PARTS_OF_FILES = ("ensure_line", "ensure_block", "ensure_pip_index", "ensure_condarc", "ensure_git_config")
_ALL_AND_PART = "one says all that is in it, the other puts something into it"
_CONTENT = ("content", "template", "source", "copy", "src")


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
    fights = (
        *_things(playbook, calls),
        *_shared(playbook, calls),
        *_owned(playbook, calls),
        *_packages(playbook, calls),
    )
    for later, earlier, thing, reason in fights:
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
    makers: dict[str, list[tuple[Call, Resource]]] = {}
    for call in calls:
        for resource in sorted(playbook.provided(call)):
            makers.setdefault(resource.identity, []).append((call, resource))
    for several in makers.values():
        for (first, one), (second, other) in combinations(several, 2):
            reason = _difference(first, second) if first is not second else ""
            if reason and (one == other or "file" in (one.kind, other.kind)):
                yield second, first, f"{one.kind} {one.identity}", reason


def _shared(playbook: Playbook, calls: Sequence[Call]) -> Iterator[_Fight]:
    """Values of one key in a file that tasks of any kind write to; all of the file, where a task says that."""
    values: list[tuple[Call, Setting]] = []
    for call in calls:
        values += [
            (call, one) for one in playbook.asked(call, lambda task: list(task.shared_values(playbook.machine))) or ()
        ]
    for (first, one), (second, other) in combinations(values, 2):
        if first is not second and one.key == other.key and one.value != other.value and one.shares_file(other):
            reason = f"they differ in {other.key[-1]}"
            yield second, first, f"file {one.file if other.pattern else other.file}", reason
    for whole in calls:
        content = _settled(whole, "content") if whole.kind == "ensure_file" else None
        if isinstance(content, str):
            for (part, setting), resource in product(values, playbook.provided(whole)):
                here = Setting(resource.identity, (), None)
                if here.shares_file(setting) and _said(content, setting) != setting.value:
                    earlier, later = sorted((whole, part), key=lambda call: call.position[1:])
                    yield later, earlier, f"file {resource.identity}", _ALL_AND_PART


def _said(content: str, setting: Setting) -> object:
    """What a text says of a key, if it is JSON; None where it says nothing."""
    try:
        found = json.loads(content)
        for key in setting.key:
            found = found[key]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return found


def _owned(playbook: Playbook, calls: Sequence[Call]) -> Iterator[_Fight]:
    """Files of conda packages that one task writes, and another one repairs at each run by a deep look."""
    deep = [call for call in calls if call.kind in _OF_CONDA and _settled(call, "deep") is True]
    for looking, writing in product(deep, calls):
        if looking is writing or _state(writing) == "absent":
            continue
        for prefix, resource in product(_prefixes(playbook, looking), playbook.provided(writing)):
            path = Path(resource.identity) / ("kernel.json" if resource.kind == "kernel" else "")
            owner = _owner(prefix, path) if resource.kind in ("kernel", "file") and prefix in path.parents else ""
            if owner:
                earlier, later = sorted((looking, writing), key=lambda call: call.position[1:])
                reason = f"it is a file of the package {owner}, which `deep` repairs"
                yield later, earlier, f"file {path}", reason


def _owner(prefix: Path, path: Path) -> str:
    """The conda package that brings a file; nothing for none, and before the environment is made only a kernel's."""
    place = str(path.relative_to(prefix))
    records = installed(prefix)
    if not records:
        return "ipykernel" if place == "share/jupyter/kernels/python3/kernel.json" else ""
    return next((record.name for record in records if place in health.listed_files(record)), "")


def _difference(first: Call, second: Call) -> str:
    """What the two want different of one thing, or nothing."""
    if first.kind == second.kind and first.kind in _WHOLE | _IN_PART | _THERE:
        return _alike(first, second) if _which(first) == _which(second) else ""
    for whole, part in ((first, second), (second, first)):
        if whole.kind != "ensure_file" or part.kind not in _PARTS_OF_FILES or _state(part) == "absent":
            continue
        if _state(whole) == "absent":
            return "one wants it gone and the other a text in it"
        if any(whole.values.get(key) is not None for key in _CONTENT):
            return _ALL_AND_PART
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
        if call.kind in _OF_CONDA and call.values.get("state") != "absent":
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
        one, two = specs.parse(text), specs.parse(also)
        if one is None or two is None or one.name != two.name:
            continue
        if gone != also_gone:
            yield second, first, f"'{also}' in {prefix}", "one wants it there and the other gone"
        elif not gone and specs.exclude(one, two):
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

"""The rule about conflicting tasks: each run would undo with one what it did with the other, or fail."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

from nbprovision.conda import health, specs
from nbprovision.lint.finding import Problem, rule
from nbprovision.lint.subject import Call, Playbook
from nbprovision.machine.environments import installed
from nbprovision.model.errors import Position, ProvisionError
from nbprovision.model.task import Claim, Resource, Setting
from nbprovision.pip import requirements

_Conflict = tuple[Call, Call, str, str]  # the later task, the earlier one, the disputed thing, the difference

# Kinds whose parameters describe the whole thing: an omitted parameter means its default.
_WHOLE = frozenset(("ensure_kernel", "ensure_git_config", "ensure_line", "ensure_block"))
# Kinds that keep whatever they do not name.
_PARTIAL = frozenset(("ensure_file", "ensure_pip_index", "ensure_condarc"))
# Kinds that conflict here only if one creates and the other removes; their packages are compared separately.
_EXISTENCE = frozenset(("ensure_conda_env", "ensure_venv", "ensure_conda_channel"))
# The parameters that identify one of several things of a kind in a file.
_IDENTITY = {
    "ensure_line": ("regexp", "line"),
    "ensure_block": ("marker", "marker_begin", "marker_end"),
    "ensure_git_config": ("name",),
}
# Parameters that do not change the thing.
_IRRELEVANT = frozenset(("deep", "refresh_every", "validate", "engine", "state", "backup", "create", "firstmatch"))
_CONDA_TASKS = ("ensure_conda_env", "ensure_conda_pkg")
_EDITS_OF_FILES = (
    *("ensure_line", "ensure_block", "ensure_json", "ensure_ini"),
    *("ensure_pip_index", "ensure_condarc", "ensure_git_config"),
)
_ALL_AND_PART = "one sets its whole content, the other a part of it"
_CREATED_AND_REMOVED = "one creates it and the other removes it"
_CONTENT = ("content", "template", "source", "copy", "src")


@rule("error", "each run undoes with one task the work of the other, so that every run reports a change")
def conflicting_tasks(playbook: Playbook) -> Iterable[Problem]:
    """Two tasks with different states of one thing: a kernel, file, index or package.

    Only tasks whose `when` is true on this machine are compared, and neither handlers nor rescues. Each pair is
    reported once.
    """
    calls = [call for call in playbook.calls if call.here and not call.handler and not call.rescue]
    reported: set[frozenset[Position]] = set()
    for conflicts in (_resources, _shared_values, _package_files, _packages):
        for later, earlier, thing, reason in conflicts(playbook, calls):
            pair = frozenset((later.position, earlier.position))
            if pair not in reported:
                reported.add(pair)
                message = f"'{later.name}' and '{earlier.name}' ({earlier.position}) conflict over {thing}: {reason}"
                yield Problem(later.position, message, "merge the two tasks, or give each its own thing")


def _in_order(first: Call, second: Call) -> tuple[Call, Call]:
    """The later task, then the earlier one."""
    earlier, later = sorted((first, second), key=lambda call: call.position[1:])
    return later, earlier


def _resources(playbook: Playbook, calls: Sequence[Call]) -> Iterator[_Conflict]:
    """Kernels, files, indexes, settings."""
    makers: dict[str, list[tuple[Call, Resource]]] = {}
    for call in calls:
        for resource in sorted(playbook.provided(call)):
            makers.setdefault(resource.identity, []).append((call, resource))
    for provisions in makers.values():
        for (first, resource), (second, other) in combinations(provisions, 2):
            reason = _difference(first, second) if first is not second else ""
            if reason and (resource == other or "file" in (resource.kind, other.kind)):
                yield second, first, f"{resource.kind} {resource.identity}", reason


def _shared_values(playbook: Playbook, calls: Sequence[Call]) -> Iterator[_Conflict]:
    """Values of one key in a file that tasks of any kind write to, or the content of the whole file."""
    values: list[tuple[Call, Setting]] = []
    for call in calls:
        settings = playbook.answer(call, lambda task: list(task.shared_values(playbook.machine))) or ()
        values += [(call, setting) for setting in settings]
    for (first, setting), (second, other) in combinations(values, 2):
        key = _disputed(setting, other) if first is not second and setting.shares_file(other) else ""
        if key:
            file = setting.file if other.pattern else other.file
            yield second, first, f"file {file}", f"they differ in {key}"
    for whole in calls:
        content = _value(whole, "content") if whole.kind == "ensure_file" else None
        if isinstance(content, str):
            for (part, setting), resource in product(values, playbook.provided(whole)):
                shared = Setting(resource.identity, (), None).shares_file(setting)
                if shared and _json_value(content, setting.key) != setting.value:
                    yield *_in_order(whole, part), f"file {resource.identity}", _ALL_AND_PART


def _disputed(setting: Setting, other: Setting) -> str:
    """The key over which two values in one file conflict; empty for none.

    A value conflicts with another one of its key, and with a value within it: a text or nothing holds no keys.
    """
    if setting.key == other.key:
        # In Python, 1 equals True.
        same = setting.value == other.value and isinstance(setting.value, bool) == isinstance(other.value, bool)
        return "" if same else _name(other)
    outer, inner = sorted((setting, other), key=lambda each: len(each.key))
    within = inner.key[: len(outer.key)] == outer.key and inner.value is not None
    return _name(outer) if within else ""


def _name(setting: Setting) -> str:
    """The key, for a message; without one the value is the whole file."""
    return setting.key[-1] if setting.key else "the whole content"


def _json_value(content: str, keys: Iterable[Any]) -> object:
    """The value under nested keys of a JSON text; None if there is none."""
    try:
        value = json.loads(content)
        for key in keys:
            value = value[key]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return value


def _package_files(playbook: Playbook, calls: Sequence[Call]) -> Iterator[_Conflict]:
    """Files of conda packages that one task writes, and a task with ``deep`` repairs at each run."""
    deep = [call for call in calls if call.kind in _CONDA_TASKS and _value(call, "deep") is True]
    for repairing, writing in product(deep, calls):
        if repairing is writing or writing.state == "absent":
            continue
        for prefix, resource in product(_prefixes(playbook, repairing), playbook.provided(writing)):
            path = Path(resource.identity) / ("kernel.json" if resource.kind == "kernel" else "")
            owner = _owner(prefix, path) if resource.kind in ("kernel", "file") and prefix in path.parents else ""
            if owner:
                reason = f"it is a file of the package {owner}, which `deep` repairs"
                yield *_in_order(repairing, writing), f"file {path}", reason


def _owner(prefix: Path, path: Path) -> str:
    """The conda package with a file, or nothing; in a missing environment only ipykernel's kernel is known."""
    place = str(path.relative_to(prefix))
    records = installed(prefix)
    if not records:
        return "ipykernel" if place == "share/jupyter/kernels/python3/kernel.json" else ""
    return next((record.name for record in records if place in health.listed_files(record)), "")


def _difference(first: Call, second: Call) -> str:
    """Describe how two tasks on one thing differ; empty if they agree."""
    if first.kind == second.kind and first.kind in _WHOLE | _PARTIAL | _EXISTENCE:
        return _parameter_difference(first, second) if _identity(first) == _identity(second) else ""
    for whole, part in ((first, second), (second, first)):
        if whole.kind != "ensure_file" or part.kind not in _EDITS_OF_FILES or part.state == "absent":
            continue
        if whole.state == "absent":
            return "one removes it and the other edits it"
        if any(whole.values.get(key) is not None for key in _CONTENT):
            return _ALL_AND_PART
    return ""


def _parameter_difference(first: Call, second: Call) -> str:
    absent = [first.state, second.state].count("absent")
    keys = sorted((first.values.keys() | second.values.keys()) - _IRRELEVANT)
    pairs = {key: (_value(first, key), _value(second, key)) for key in keys}
    if first.kind in _PARTIAL:
        pairs = {key: pair for key, pair in pairs.items() if None not in pair}
    if first.kind == "ensure_condarc":  # lists and mappings are merged
        if absent == 1:
            common = (key for key, pair in pairs.items() if key != "scope" and _entries(pair[0]) & _entries(pair[1]))
            return next((f"one adds to {key} what the other removes" for key in common), "")
        pairs = {key: pair for key, pair in pairs.items() if not isinstance(pair[0], list | dict)}
    if absent == 1:
        return _CREATED_AND_REMOVED
    if absent == 2 or first.kind in _EXISTENCE:
        return ""
    different = [key for key, (value, other) in pairs.items() if value != other]
    if first.state != second.state:
        different.append("state")
    return f"they differ in {', '.join(different)}" if different else ""


def _identity(call: Call) -> tuple[Any, ...]:
    values = tuple(_value(call, key) for key in _IDENTITY.get(call.kind, ()))
    return values[:1] if call.kind == "ensure_line" and values[0] is not None else values


def _entries(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {repr(pair) for pair in value.items()}
    return {str(entry) for entry in (value if isinstance(value, list) else [value])}


def _value(call: Call, key: str) -> Any:
    """A parameter with its default."""
    return getattr(call.task, key, call.values.get(key))


def _packages(playbook: Playbook, calls: Sequence[Call]) -> Iterator[_Conflict]:
    """Packages of one environment: installed and removed, or in versions that exclude each other."""
    pip: list[tuple[Call, Claim]] = []
    conda: list[tuple[Call, Path, str]] = []
    for call in calls:
        claims = playbook.answer(call, lambda task: list(task.claims(playbook.machine))) or ()
        pip += [(call, claim) for claim in claims]
        if call.kind == "ensure_conda_pkg" or (call.kind == "ensure_conda_env" and call.state != "absent"):
            conda += [(call, *pair) for pair in product(_prefixes(playbook, call), call.strings("packages"))]
    for (first, claim), (second, other) in combinations(pip, 2):
        if first is not second and claim.prefix == other.prefix and _exclude(claim, other):
            yield second, first, f"'{other.requirement}' in {other.prefix}", f"the other wants '{claim.requirement}'"
    for (first, prefix, text), (second, other_prefix, other_text) in combinations(conda, 2):
        if first is second or prefix != other_prefix:
            continue
        spec, other_spec = specs.parse(text), specs.parse(other_text)
        if spec is None or other_spec is None or spec.name != other_spec.name:
            continue
        absent = [first.state, second.state].count("absent")
        if absent == 1:
            yield second, first, f"'{other_text}' in {prefix}", _CREATED_AND_REMOVED
        elif absent == 0 and specs.exclude(spec, other_spec):
            yield second, first, f"'{other_text}' in {prefix}", f"the other wants '{text}'"
    for (call, claim), other_call in product(pip, calls):
        if other_call is not call and (objection := _objection(playbook, other_call, claim)):
            yield *_in_order(call, other_call), f"'{claim.requirement}' in {claim.prefix}", objection


def _objection(playbook: Playbook, call: Call, claim: Claim) -> str | None:
    objection: str | None = playbook.answer(call, lambda task: task.objection(claim, playbook.machine))
    return objection


def _prefixes(playbook: Playbook, call: Call) -> Iterable[Path]:
    return playbook.answer(call, lambda task: list(task.guarded(playbook.machine))) or []


def _exclude(claim: Claim, other: Claim) -> bool:
    try:
        first, second = requirements.parse(claim.requirement), requirements.parse(other.requirement)
        if first.name != second.name or not first.name or (claim.absent and other.absent):
            return False
        # A claim that removes one version allows any other.
        return requirements.incompatible(first, second) != (claim.absent != other.absent)
    except (ProvisionError, ValueError):
        return False

"""Finds the key of a mapping that names the task, and explains a mapping without one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from nbprovision.model.errors import nearest
from nbprovision.model.task import Task
from nbprovision.playbook import ansible, keywords, parameters
from nbprovision.playbook.values import Values, is_nothing, kind_of
from nbprovision.playbook.yaml_nodes import MapNode


def call(node: MapNode, kinds: Collection[str], values: Values) -> parameters.Call | None:
    """Return the key of a task that names its kind, with its parameters."""
    pairs = [(key, value) for key, value in node.pairs if key.value in kinds]
    if len(pairs) > 1:
        names = " and ".join(key.text for key, _ in pairs)
        values.fault(f"one task has {names}", pairs[1][0], cure="begin each task with '- ' in a line of its own")
        return None
    if not pairs:
        _no_such_task(node, kinds, values)
        return None
    key, value = pairs[0]
    if is_nothing(value):
        value = MapNode(key.position, ())
    if not isinstance(value, MapNode):
        values.fault(
            f"{key.text} takes a mapping of parameters, not {kind_of(value)}",
            value,
            cure=f"write each parameter in a line of its own:\n{key.text}:\n  NAME: VALUE",
        )
        return None
    return parameters.Call(key.text, key.position, value)


def _no_such_task(node: MapNode, kinds: Collection[str], values: Values) -> None:
    """Explain a mapping that names no task of the catalogue."""
    strange = [key for key, _ in node.pairs if not keywords.is_ansible(str(key.value))]
    choices = f"there are: {', '.join(sorted(kinds))}"
    module = next((key for key, _ in node.pairs if ansible.module(str(key.value))), None)
    if not strange and module is None:
        before = len(values.faults)
        values.keywords(node, keywords.TASK, "task")
        if len(values.faults) == before:
            values.fault("the task has no ensure_... key", node, cure=choices)
        return
    # A key of the kind, even a misspelt one, is the one that matters.
    key = next((key for key in strange if str(key.value).startswith("ensure")), module or strange[0])
    name = key.text[:60]
    advice = ansible.module(name)
    if advice is not None:
        values.fault(f"unknown task '{name}'", key, cure=f"instead: {advice.fix}", cause=advice.why)
        return
    near = nearest(name, kinds)
    values.fault(f"unknown task '{name}'{near}", key, cure="" if near else choices)


def misplaced(
    node: MapNode, name: str, kind: type[Task[Any]], allowed: Mapping[str, str], where: str, values: Values
) -> set[Any]:
    """Note keys beside the task's own that are not keywords; return those that are parameters."""
    fields = parameters.names(kind) - allowed.keys()
    strange = [key for key, _ in node.pairs if key.value in fields]
    for key in strange:
        values.fault(f"'{key.text}' is a parameter of {name}", key, cure=f"indent it below {name}:")
    beside = {key.value for key in strange}
    values.keywords(node, allowed, where, {name, *beside})
    return beside

"""Reads the parameters of a task from a JSON document: with the checks of a playbook, and without templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nbprovision.model.errors import InvalidPlaybook, Position
from nbprovision.model.task import Task
from nbprovision.playbook import parameters
from nbprovision.playbook.faults import Faults
from nbprovision.playbook.yaml_nodes import ListNode, MapNode, Node, Scalar, parse_nodes, plain


def bind(text: str, name: str, kind: type[Task[Any]], folder: Path | None) -> Task[Any]:
    """Return the task with the parameters of a JSON object.

    A number does not fit a parameter that takes text: the program that wrote the JSON may have read ``0644`` as 420.

    Args:
        text: The document (RFC 8259).
        name: The name of the file in positions.
        kind: The kind of task.
        folder: The folder where relative paths begin; None refuses them.

    Raises:
        InvalidPlaybook: it is not a JSON object, or a parameter is wrong.

    """
    call = parameters.Call(kind.kind(), Position(name, 1, 1), _object(text, name))
    faults = Faults()
    parameters.check_names(call, kind, faults)
    task = parameters.bind(
        call, kind, render=plain, render_file=_refuse_template, folder=folder, faults=faults, keep_numbers=True
    )
    faults.raise_any()
    assert task is not None  # noqa: S101 - set unless there is a fault
    return task


def _refuse_template(path: Path) -> str:
    raise InvalidPlaybook(
        f"{path} cannot be rendered here", cause="templates belong to playbooks", cure="give the text itself"
    )


def _object(text: str, name: str) -> MapNode:
    start = Position(name, 1, 1)
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        place = Position(name, error.lineno, error.colno)
        cure = 'write an object, such as {"name": "value"}'
        raise InvalidPlaybook("the parameters are not JSON", cause=error.msg, cure=cure, position=place) from None
    except InvalidPlaybook as error:
        raise error.at(start) from None
    except RecursionError:
        raise InvalidPlaybook("the parameters are nested too deep", position=start) from None
    if not isinstance(value, dict):
        cure = 'write an object, such as {"name": "value"}'
        raise InvalidPlaybook("the parameters are not a JSON object", cure=cure, position=start)
    try:
        places = parse_nodes(text, name)  # JSON is YAML, but for a few characters
    except InvalidPlaybook:
        places = None
    node = _node(value, places, start)
    assert isinstance(node, MapNode)  # noqa: S101 - the value is a dict
    return node


def _refuse_constant(name: str) -> Any:
    raise InvalidPlaybook("the parameters are not JSON", cause=f"{name} is not a JSON number", cure="write a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [key for key, _ in pairs]
    twice = next((key for key in names if names.count(key) > 1), None)
    if twice is not None:
        raise InvalidPlaybook(f"'{twice[:40]}' is a duplicate", cure="remove one of them")
    return dict(pairs)


def _node(value: Any, place: Node | None, near: Position) -> Node:
    """Return a value with its position in YAML, or else a position near it."""
    position = near if place is None else place.position
    if isinstance(value, dict):
        keys = {key.value: (key.position, item) for key, item in place.pairs} if isinstance(place, MapNode) else {}
        return MapNode(
            position,
            tuple(
                (Scalar(keys.get(key, (position, None))[0], key, key, plain=False),
                 _node(item, keys.get(key, (position, None))[1], position))
                for key, item in value.items()
            ),
        )  # fmt: skip
    if isinstance(value, list):
        items = place.items if isinstance(place, ListNode) and len(place.items) == len(value) else [None] * len(value)
        return ListNode(position, tuple(_node(item, at, position) for item, at in zip(value, items, strict=True)))
    text = value if isinstance(value, str) else json.dumps(value)
    return Scalar(position, value, text, plain=False)  # the text of a number is not what its author wrote

"""With ``--check``: whether a task fails only for want of what an earlier one is about to make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nbprovision.engine.order import Node
from nbprovision.model.errors import Blocked, Inevitable, ProvisionError


def of(error: ProvisionError, planned: Sequence[int], node: Node, nodes: Sequence[Node]) -> int | None:
    """Find the earlier step that may remove the cause of a failure; None if a run would fail too.

    Args:
        error: The error of the task's check.
        planned: Earlier steps that bear on the task and would change something, by number.
        node: The task's place in the order.
        nodes: Those of all steps.

    """
    if isinstance(error, Inevitable):
        return None
    commands = [number for number in planned if nodes[number].barrier]  # nobody knows what a command makes
    if isinstance(error, Blocked):
        makes = [number for number in planned if _makes(nodes[number], error.path)]
    elif error.remote:
        makes, commands = [number for number in planned if _kinds(nodes[number]) & {"channel", "index"}], []
    else:
        # Later tasks are planned with what a .condarc will say: it is not a reason.
        makes = [number for number in planned if number in node.needs and _kinds(nodes[number]) != {"condarc"}]
    return next(iter((*makes, *commands)), None)


def _kinds(node: Node) -> set[str]:
    return {resource.kind for resource in node.provides}


def _makes(node: Node, path: Path) -> bool:
    """Whether a step makes a path, something below it, or what it lies in."""
    places = [Path(resource.identity) for resource in node.provides if resource.kind != "distribution"]
    return any(path == place or place in path.parents or path in place.parents for place in places)

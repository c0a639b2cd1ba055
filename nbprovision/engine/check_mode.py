"""``--check`` beyond the plans: which failures a run would not have, and which files it could not write."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import Blocked, Inevitable, ProvisionError
from nbprovision.model.result import Plan
from nbprovision.model.task import Task
from nbprovision.system import disk_space
from nbprovision.system.places import existing

if TYPE_CHECKING:
    from nbprovision.engine.order import Node

_COMMAND = "run"  # the action whose target is a command line


def maker_of(error: ProvisionError, planned: Sequence[int], node: Node, nodes: Sequence[Node]) -> int | None:
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


def refuse_unwritable(task: Task[Any], plan: Plan, machine: Machine) -> None:
    """Check the folders in which the plan creates, replaces or removes something.

    Raises:
        Blocked: one of them is not this user's to write.

    """
    for path in _written(task, plan, machine):
        folder = existing(path if path.is_dir() and not path.is_symlink() else path.parent)
        if not os.access(folder, os.W_OK | os.X_OK):
            cause, cure = disk_space.unwritable(folder)
            raise Blocked(path, f"cannot write {path}", cause=cause, cure=cure)


def _written(task: Task[Any], plan: Plan, machine: Machine) -> Iterator[Path]:
    for change in plan.changes:
        if change.target.startswith("/") and change.action != _COMMAND and "\0" not in change.target:
            yield Path(change.target)
    if not plan.beside:
        yield from task.guarded(machine)

"""With ``--check``: whether this user may write the files of a plan, which a run would only find out when it writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import Blocked
from nbprovision.model.result import Plan
from nbprovision.model.task import Task
from nbprovision.system import disk_space
from nbprovision.system.places import existing

_COMMAND = "run"  # the action whose target is a command line


def check(task: Task[Any], plan: Plan, machine: Machine) -> None:
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

"""What root's program would change, compared by its own code for a run that changes nothing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.root.tools import Trouble


class _Kind(Protocol):
    """A module of `nbprovision.root`."""

    def differences(self, wanted: Mapping[str, Any], root: str) -> list[str]:
        """In what the machine differs, in words."""


def root_differences(subject: str, module: str, wanted: Mapping[str, Any], machine: Machine) -> tuple[str, ...]:
    """Return the differences, as root's program sees them.

    Args:
        subject: What they are about, for a message.
        module: The module of `nbprovision.root`.
        wanted: What root's program gets.
        machine: The facts.

    Raises:
        TaskFailed: something that should be readable is not.

    """
    kind: _Kind = importlib.import_module(f"nbprovision.root.{module}")
    try:
        return tuple(kind.differences(wanted, str(machine.root)))
    except Trouble as trouble:
        raise TaskFailed(
            f"{subject} cannot be compared: {trouble}",
            cause="root's part of the lifecycle script would leave it alone for the same reason",
            cure="correct that as root, or take the task out",
        ) from None

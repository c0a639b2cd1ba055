"""Keeps the engines' caches within their limit: on a volume of 5 GB they are what would fill it in the end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nbprovision.machine import caches
from nbprovision.model.errors import TaskFailed
from nbprovision.system.files import remove
from nbprovision.system.log import event

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine


def trim(machine: Machine) -> int:
    """Remove what was not used for longest, what no environment shares first, until each cache is within its limit.

    What environments share takes no room of its own, and is not counted.

    Returns:
        The bytes that were freed.

    """
    freed = 0
    for cache in caches.folders(machine):
        entries = caches.entries(cache)
        excess = sum(entry.own for entry in entries) - caches.limit(machine.env, cache)
        for entry in sorted(entries, key=lambda entry: (entry.shared > 0, entry.used)):
            if excess <= 0:
                break
            with contextlib.suppress(TaskFailed):  # another time
                for path in (*entry.beside, entry.path):
                    remove(path)
                event("trimmed", kind=entry.kind, path=str(entry.path), bytes=entry.own)
                excess -= entry.own
                freed += entry.own
    return freed

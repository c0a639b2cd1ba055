"""What another configured index has: uv takes a name from the first index that has it, and leaves the rest unseen.

That protects from packages of the same name elsewhere, and stays so; but a newer version there is told
(https://docs.astral.sh/uv/concepts/indexes/#searching-across-multiple-indexes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from nbprovision.indexes import index_settings as indexes
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import uv_command
from nbprovision.pip.request import Move, Request, index_settings

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

_MOST = 3  # packages that are told with their indexes


def best(machine: Machine, request: Request) -> dict[str, str]:
    """The versions that the best of all indexes would bring; none where uv looks into one, or into all anyway.

    Args:
        machine: The facts.
        request: What is to be installed.
    """
    if not _first_only(machine, request):
        return {}
    try:
        moves = uv_command.resolve(machine, _by_best(request))
    except TaskFailed:
        return {}  # a note is no reason to fail
    return {move.name: move.after for move in moves if move.after is not None}


def notes(machine: Machine, request: Request, moves: Iterable[Move], others: Mapping[str, str]) -> list[str]:
    """What to say of packages of which another index has a newer version.

    Args:
        machine: The facts.
        request: What is to be installed, or was.
        moves: What uv does about it.
        others: See `best`.
    """
    if not others:
        return []
    taken = {name: several[0].version for name, several in request.found().items()}
    taken.update({move.name: move.after for move in moves if move.after is not None})
    newer = [name for name, version in others.items() if name in taken and _newer(version, taken[name])]
    said = []
    for name in newer[:_MOST]:
        used = uv_command.origin_of(machine, request, f"{name}=={taken[name]}")
        other = uv_command.origin_of(machine, _by_best(request), f"{name}=={others[name]}")
        said.append(
            f"{name} {taken[name]} is from {used or 'elsewhere'}, the first index that has the name; "
            f"{other or 'another index'} has {others[name]}: `index_strategy: best-match` of ensure_pip_index takes "
            "the best version of all indexes"
        )
    if len(newer) > _MOST:
        said.append(f"so it is with {', '.join(newer[_MOST:])}")
    return said


def by_pip(machine: Machine, request: Request) -> tuple[str, ...]:
    """What to say where pip was chosen, which knows no first index.

    Args:
        machine: The facts.
        request: What is to be installed.
    """
    if not _first_only(machine, request) or uv_command.find(machine) is None:
        return ()
    return ("pip installs here, as uv cannot do all that is asked for; it takes the best version of all indexes",)


def _first_only(machine: Machine, request: Request) -> bool:
    settings = index_settings(machine, request)
    return bool(settings.extra_urls and not settings.no_index and settings.index_strategy == indexes.FIRST_INDEX)


def _by_best(request: Request) -> Request:
    return msgspec.structs.replace(request, index_strategy=indexes.BEST_MATCH)


def _newer(one: str, other: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one) > Version(other)
    except InvalidVersion:
        return False

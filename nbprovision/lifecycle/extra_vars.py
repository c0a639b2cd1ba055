"""``-e`` of a rendered script: its values as the run there will get them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from nbprovision.playbook.extra_vars import ExtraVars, parse_extra_vars
from nbprovision.playbook.written import as_flow


class HandedOn(msgspec.Struct, frozen=True):
    """Variables that go into a script.

    Attributes:
        variables: The variables that are known here.
        arguments: What the run's own ``-e`` gets, one each; a file of this machine as its content in JSON.
        notes: What is left alone, a sentence each.

    """

    variables: ExtraVars
    arguments: tuple[str, ...]
    notes: tuple[str, ...] = ()


def handed_on(arguments: Iterable[str]) -> HandedOn:
    """Take the values of files of this machine, which the other one does not have.

    Args:
        arguments: As ``-e`` takes them. A file by an absolute path that is missing here is one of the other machine.

    Raises:
        UsageError, InvalidPlaybook: as `parse_extra_vars` raises them.

    """
    variables = ExtraVars()
    kept: list[str] = []
    notes: list[str] = []
    for argument in arguments:
        name = argument.strip()
        if name.startswith("@/") and not Path(name[1:]).exists():
            kept.append(argument)
            notes.append(f"-e {name}: this file must exist on the machine itself, and is not checked")
            continue
        values = parse_extra_vars([argument])
        variables.update(values)
        kept.append(as_flow(values) if name.startswith("@") else argument)
    return HandedOn(variables, tuple(kept), tuple(notes))

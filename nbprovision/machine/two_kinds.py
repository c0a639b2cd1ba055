"""A name or a folder is one environment, of one kind: conda's or virtual."""

from __future__ import annotations

from pathlib import Path

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError


def refuse_two_kinds(machine: Machine, name: str, prefix: Path, *, virtual: bool) -> None:
    """Refuse an environment where an earlier task of the playbook makes one of the other kind.

    Raises:
        ParameterError: it has the same name or the same folder.

    """
    for called, place in machine.declared.items():
        if (called == name or place == prefix) and (place in machine.virtual) != virtual:
            other, own = ("ensure_conda_env", "ensure_venv") if virtual else ("ensure_venv", "ensure_conda_env")
            raise ParameterError(
                "name",
                f"'{name}' is made by {other} in the same playbook",
                cause=f"an environment is conda's or virtual, and its name means one: {place}",
                cure=f"give the one of {own} another name",
            )

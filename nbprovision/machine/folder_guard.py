"""What no task may do to the folder of an environment.

It may not take somebody else's folder, make two kinds of environment (conda's and virtual) of one name or folder, or
remove what is not its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nbprovision.machine.environments import META, CondaFacts, is_environment
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.system import unfinished


def refuse_foreign(prefix: Path) -> None:
    """Refuse a folder with something else in it: it is the user's own.

    Raises:
        TaskFailed: it is such a folder.

    """
    if is_environment(prefix) or unfinished.is_marked(prefix) or not prefix.exists():
        return
    if not prefix.is_dir() or any(prefix.iterdir()):
        raise TaskFailed(
            f"{prefix} exists and is not a conda environment",
            cause=f"it has no {META} folder, so what is in it was not made by conda",
            cure="name another prefix, or move what is there out of the way",
        )


def refuse_removal(conda: CondaFacts, prefix: Path) -> None:
    """Refuse to remove an installation, what the platform brings, this tool's own home, and any other folder.

    Raises:
        TaskFailed: it is one of these.

    """
    if not prefix.is_dir():
        return
    real = prefix.resolve()
    found = next((one for one in conda.environments() if one.prefix.resolve() == real), None)
    if real in [place.resolve() for place in conda.installations]:
        raise TaskFailed(
            f"{prefix} is a conda installation, and no task removes one",
            cause="environments, and conda itself, run from it",
            cure="remove it by hand if it is to go",
        )
    if found is not None and found.provided:
        raise TaskFailed(
            f"{prefix} belongs to the platform's image, and no task removes it",
            cause="the notebook may depend on it, and a restart brings it back",
            cure="leave it; environments of your own can be removed",
        )
    refuse_running(prefix)
    mark = unfinished.read_mark(prefix)
    if not is_environment(prefix) and not (mark and mark.made) and any(prefix.iterdir()):
        raise TaskFailed(
            f"{prefix} is not a conda environment, and is not removed",
            cause=f"it has no {META} folder",
            cure="remove it by hand if it is to go",
        )


def refuse_running(prefix: Path) -> None:
    """Refuse to remove what this tool itself runs from.

    Raises:
        TaskFailed: its Python is in there.

    """
    real, own = prefix.resolve(), Path(sys.prefix).resolve()
    if real == own or real in own.parents:
        raise TaskFailed(
            f"{prefix} is not removed",
            cause="it holds the Python that this tool runs from",
            cure="remove it by an nbprovision that is installed elsewhere",
        )


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

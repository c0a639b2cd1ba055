"""Whether packages for CUDA are wanted here: by a GPU of this machine, or because somebody says so.

conda tells the solver by the virtual package ``__cuda``, which ``CONDA_OVERRIDE_CUDA`` sets or, empty, takes away
(https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-virtual.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

OVERRIDE = "CONDA_OVERRIDE_CUDA"


def marks(root: Path = Path("/")) -> tuple[Path, ...]:
    """What the driver makes when it finds a GPU; the library of the driver is in images of machines without one too."""
    return root / "dev/nvidiactl", root / "dev/nvidia0"


def wanted(asked: str | None, env: Mapping[str, str], root: Path = Path("/")) -> str:
    """What to solve for: a version, ``none``, or ``detected`` for what the machine's driver says.

    Args:
        asked: What the playbook says: a version or ``none``; None for what the machine has.
        env: The environment variables.
        root: The file system's root.

    """
    if asked is None and OVERRIDE in env:
        asked = env[OVERRIDE].strip() or "none"
    if asked is not None:
        return asked
    return "detected" if any(mark.exists() for mark in marks(root)) else "none"


def told_to_solver(asked: str | None, env: Mapping[str, str]) -> dict[str, str]:
    """The variable for the solver's process; empty where what it finds by itself is right."""
    if asked is None:
        return {OVERRIDE: env[OVERRIDE]} if OVERRIDE in env else {}
    return {OVERRIDE: "" if asked == "none" else asked}

"""The pictures of a kernel: the one that its task names, ipykernel's own, or one that somebody else put there.

Jupyter takes ``logo-svg.svg`` and ``logo-64x64.png`` from a kernel's folder, the first before the second
(https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs).
"""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path

from nbprovision.jupyter import ipykernel
from nbprovision.jupyter.state import KernelState
from nbprovision.machine import kernels
from nbprovision.model.errors import ParameterError, TaskFailed

_NAMES = {".svg": ("logo-svg.svg",), ".png": ("logo-32x32.png", "logo-64x64.png")}


def check(logo: str | None) -> None:
    """Refuse what is no picture by its name.

    Raises:
        ParameterError: it is neither PNG nor SVG.

    """
    if logo is not None and os.path.splitext(logo)[1].lower() not in _NAMES:
        raise ParameterError("logo", f"'{logo[-80:]}' is not a PNG or SVG picture", cure="name a .png or .svg file")


def read(path: Path) -> dict[str, bytes]:
    """The picture under the names by which Jupyter looks for it.

    Raises:
        TaskFailed: it cannot be read.

    """
    data = kernels.read_file(path)
    if data is None:
        raise TaskFailed(
            f"the logo {path} cannot be read",
            cause="there is no such file, or it has more than a megabyte" if not path.is_dir() else "it is a folder",
            cure="correct `logo`; a relative path begins at the playbook's folder",
        )
    return dict.fromkeys(_NAMES[path.suffix.lower()], data)


def is_kept(name: str, state: KernelState, logo: str | None) -> bool:
    """Whether a picture stays as it is: it is somebody else's, a task's of the playbook perhaps, and none is named."""
    if logo is not None or _is_ours(state) or state.found is None:
        return False
    file = state.found.files.get(name)
    return file is not None and file.data is not None and file.data != state.logos.get(name)


def unwanted(files: Container[str], state: KernelState, logo: str | None) -> list[str]:
    """The pictures that a named one takes the place of, and a named one that is named no more."""
    if state.found is None or not (logo is not None or _is_ours(state)):
        return []
    return [name for name in ipykernel.LOGOS if name in state.found.files and name not in files]


def _is_ours(state: KernelState) -> bool:
    """Whether the kernel's own description says that its picture was named."""
    spec = state.found.spec if state.found is not None else None
    metadata = spec.get("metadata") if isinstance(spec, dict) else None
    mark = metadata.get(kernels.MARK) if isinstance(metadata, dict) else None
    return isinstance(mark, dict) and mark.get("logo") is True

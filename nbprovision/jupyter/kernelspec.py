"""The parts that a kernelspec is made from: the program, the environment's ipykernel, and the logos.

The format: https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.machine import distributions, environments, kernels
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed

CONNECTION_FILE = "{connection_file}"
LOGOS = ("logo-32x32.png", "logo-64x64.png", "logo-svg.svg")
# The names of a logo by its format. Jupyter prefers the SVG.
LOGO_NAMES = {".svg": LOGOS[2:], ".png": LOGOS[:2]}
_PYTHON = re.compile(r"python(3(\.\d+)?)?")


class KernelState(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel's folder, and the parts of its kernelspec.

    Attributes:
        folder: The kernel's folder.
        current: The content of the folder; None if it is missing.
        prefix: The environment; None for a program outside any environment, and for a kernel to remove.
        exists: Whether the environment exists.
        awaited: Whether an earlier task of the playbook creates the environment.
        unfinished: The task that left the environment unfinished, or an empty string.
        starts: Whether the environment's Python, or the program in ``argv``, can be executed.
        ipykernel: The version of ipykernel in the environment; None if it is missing or broken.
        lacking: Missing or damaged distributions that ipykernel needs. They are searched for only with ``deep``, and
            after an interrupted install.
        bundled_spec: The kernelspec that ipykernel brings.
        logos: The logos that belong into the folder, by file name.
        launcher: The text of the launcher.
        shell: The command that runs the launcher.
        conda: The machine's conda, or an empty string.
        argv: The command of a program, with the user's home folder for ``~``.
        hidden_by: A kernel of the same name that Jupyter finds first.
        foretold: Whether the state is completely known from the plans of earlier tasks.

    """

    folder: Path
    current: kernels.KernelFolder | None = None
    prefix: Path | None = None
    exists: bool = True
    awaited: bool = False
    unfinished: str = ""
    starts: bool = True
    ipykernel: str | None = None
    lacking: tuple[str, ...] = ()
    bundled_spec: dict[str, Any] = {}
    logos: dict[str, bytes] = {}
    launcher: bytes = b""
    shell: tuple[str, ...] = ()
    conda: str = ""
    hidden_by: Path | None = None
    argv: tuple[str, ...] = ()
    foretold: bool = False

    @property
    def files(self) -> dict[str, kernels.File]:
        """The files in the kernel's folder, by name."""
        return {} if self.current is None else self.current.files

    @property
    def spec(self) -> Any:
        """The current kernel.json as plain data; None if it is missing or unreadable."""
        return None if self.current is None else self.current.spec

    @property
    def has_chosen_logo(self) -> bool:
        """Whether the current logo was chosen by a task."""
        try:
            return self.spec["metadata"][kernels.MARK]["logo"] is True
        except (KeyError, TypeError):
            return False

    @property
    def lacks_ipykernel(self) -> bool:
        """Whether ipykernel must be installed into the existing environment."""
        if self.argv or self.prefix is None or not self.exists:
            return False
        return self.ipykernel is None or bool(self.lacking)


# ------------------------------------------------------------------------------------------------------ the program


def program_path(name: str, prefix: Path | None) -> Path | None:
    """The path of a program, if it is certain: an absolute path, or a name in the environment."""
    if os.path.isabs(name):
        return Path(name)
    return prefix / "bin" / name if prefix is not None and "/" not in name else None


def can_start(name: str, prefix: Path | None, machine: Machine) -> bool:
    """Whether the program can be executed: by its path, in the environment, on the PATH or beside the Jupyter server.

    A bare ``python`` is the server's own (jupyter_client.manager.KernelManager.format_kernel_cmd).
    """
    path = program_path(name, prefix)
    if path is not None and (os.path.isabs(name) or os.access(path, os.X_OK)):
        return os.access(path, os.X_OK)
    if prefix is None and _PYTHON.fullmatch(name):
        return True
    server = machine.conda.server
    folders = [*([] if server is None else [str(server / "bin")]), machine.env.get("PATH", os.defpath)]
    return shutil.which(name, path=os.pathsep.join(folders)) is not None


# -------------------------------------------------------------------------------------------------------- ipykernel


def bundled_path(prefix: Path) -> Path:
    """The path of the kernelspec that ipykernel brings."""
    return prefix / "share/jupyter/kernels/python3" / kernels.SPEC


def bundled_spec(prefix: Path) -> dict[str, Any]:
    """The kernelspec that ipykernel brings; its ``metadata`` and ``kernel_protocol_version`` depend on the release."""
    spec = kernels.decoded(kernels.read_file(bundled_path(prefix)))
    return spec if isinstance(spec, dict) else {}


def bundled_logos(site_packages: Path) -> dict[str, bytes]:
    """The logos that ipykernel brings, by file name."""
    logos = {name: kernels.read_file(site_packages / "ipykernel/resources" / name) for name in LOGOS}
    return {name: data for name, data in logos.items() if data is not None}


def read_logo(path: Path) -> dict[str, bytes]:
    """A logo under the names by which Jupyter looks for it.

    Raises:
        TaskFailed: the file cannot be read.

    """
    data = kernels.read_file(path)
    if data is None:
        raise TaskFailed(
            f"the logo {path} cannot be read",
            cause="the file is missing, or larger than a megabyte" if not path.is_dir() else "it is a folder",
            cure="correct `logo`; relative paths start in the playbook's folder",
        )
    return dict.fromkeys(LOGO_NAMES[path.suffix.lower()], data)


def owned_by_conda(prefix: Path) -> bool:
    """Whether a conda package brought ipykernel; the environment's own task repairs it then."""
    return any(record.name == "ipykernel" for record in environments.installed(prefix))


def lacking(
    prefix: Path, installed: Mapping[str, Sequence[distributions.Distribution]], *, torn: bool
) -> tuple[str, ...]:
    """The missing or damaged distributions that ipykernel needs, itself included, judged by their files.

    An ipykernel of conda is not checked. The requirements of a damaged distribution are known only after its repair.

    Args:
        prefix: The environment.
        installed: Its distributions.
        torn: Whether an install was killed there.

    """
    from nbprovision.pip import requirements, satisfied

    version = distributions.python_version(prefix)
    if version is None or owned_by_conda(prefix):
        return ()
    environment = requirements.marker_environment(version)
    needs = satisfied.unsatisfied([requirements.parse("ipykernel")], [], installed, environment, files=True, torn=torn)
    return tuple(need.name for need in needs)

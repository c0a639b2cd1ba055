"""The Jupyter server of this machine: the environment that it runs from, its configuration, its extensions.

Sources: https://jupyter-server.readthedocs.io/en/latest/operators/configuring-extensions.html,
https://jupyterlab.readthedocs.io/en/stable/user/extensions.html#managing-extensions-using-a-configuration-file, and
https://docs.jupyter.org/en/latest/use/jupyter-directories.html for the folders.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from nbprovision.machine import kernels
from nbprovision.machine.machine import Machine

_PROGRAMS = ("jupyter-lab", "jupyter-server", "jupyter")
# Where a distribution's own files say that it extends JupyterLab, the server, or the classic notebook.
_MARKS = ("share/jupyter/labextensions/", "etc/jupyter/jupyter_server_config.d/", "share/jupyter/nbextensions/")


def server_prefix(machine: Machine) -> Path | None:
    """The environment that the Jupyter server runs from: the platform's, else that of the ``jupyter`` on the PATH."""
    for found in machine.conda.environments():
        if found.jupyter_server:
            return found.prefix
    for program in _PROGRAMS:
        place = shutil.which(program, path=machine.env.get("PATH", os.defpath))
        for path in (Path(place), Path(os.path.realpath(place))) if place is not None else ():
            prefix = path.parent.parent
            if path.parent.name == "bin" and (prefix / "bin/python").exists():
                return prefix
    return None


def config_folder(env: Mapping[str, str], user_home: Path) -> Path:
    """The user's own configuration of Jupyter."""
    return Path(os.path.abspath(env.get("JUPYTER_CONFIG_DIR") or user_home / ".jupyter"))


def page_config(folder: Path) -> Path:
    """Where a folder of configuration says which extensions of JupyterLab are off."""
    return folder / "labconfig/page_config.json"


def server_config(folder: Path) -> Path:
    """Where a folder of configuration says which extensions of the server are on."""
    return folder / "jupyter_server_config.json"


def has_lab_extension(name: str, prefix: Path, env: Mapping[str, str], user_home: Path) -> bool:
    """Whether a prebuilt extension (or the one that a plugin ``EXTENSION:plugin`` belongs to) is there.

    What is built into JupyterLab is taken to be.
    """
    name = name.partition(":")[0]
    folders = (kernels.data_dir(env, user_home), prefix / "share/jupyter", Path("/usr/local/share/jupyter"))
    return name.startswith("@jupyterlab/") or any(
        (one / "labextensions" / name / "package.json").is_file() for one in folders
    )


def extends_jupyter(record: str) -> bool:
    """Whether a distribution with this RECORD brings an extension that needs no building."""
    return any(mark in record for mark in _MARKS)

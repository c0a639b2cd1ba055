"""The Jupyter server of this machine: its environment, its configuration, its extensions.

Sources: https://jupyter-server.readthedocs.io/en/latest/operators/configuring-extensions.html,
https://jupyterlab.readthedocs.io/en/stable/user/extensions.html#managing-extensions-using-a-configuration-file, and
https://docs.jupyter.org/en/latest/use/jupyter-directories.html for the folders.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from nbprovision.machine import kernels
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed

PAGE_CONFIG = "labconfig/page_config.json"  # lists the disabled extensions of JupyterLab
SERVER_CONFIG = "jupyter_server_config.json"  # lists the enabled extensions of the server

_PROGRAMS = ("jupyter-lab", "jupyter-server", "jupyter")
# A distribution with such files extends JupyterLab, the server, or the classic notebook.
_EXTENSION_FOLDERS = (
    "share/jupyter/labextensions/",
    "etc/jupyter/jupyter_server_config.d/",
    "share/jupyter/nbextensions/",
)


def server_prefix(machine: Machine) -> Path | None:
    """The environment of the Jupyter server: the platform's (in Studio the base), or that of the one on the PATH."""
    if machine.conda.server is not None:
        return machine.conda.server
    for program in _PROGRAMS:
        location = shutil.which(program, path=machine.env.get("PATH", os.defpath))
        for path in (Path(location), Path(os.path.realpath(location))) if location is not None else ():
            prefix = path.parent.parent
            if path.parent.name == "bin" and (prefix / "bin/python").exists():
                return prefix
    return None


def parse_config(path: Path, text: str | None) -> dict[str, Any]:
    """The settings in a configuration file.

    Raises:
        TaskFailed: the text is not a JSON object.

    """
    try:
        config = json.loads(text) if text and text.strip() else {}
        if isinstance(config, dict):
            return config
        problem = "it is not a JSON object"
    except (ValueError, RecursionError) as error:
        problem = str(error)
    raise TaskFailed(
        f"{path} cannot be edited", cause=f"{problem}, so Jupyter cannot read it either", cure="correct or remove it"
    )


def disabled_extensions(config: dict[str, Any]) -> dict[str, bool]:
    """Whether each extension in a page configuration is disabled; old versions of JupyterLab wrote a list."""
    disabled = config.get("disabledExtensions", {})
    if isinstance(disabled, list):
        return dict.fromkeys(map(str, disabled), True)
    return {name: bool(off) for name, off in disabled.items()} if isinstance(disabled, dict) else {}


def has_lab_extension(name: str, prefix: Path, machine: Machine) -> bool:
    """Whether JupyterLab has a prebuilt extension, or the extension of a plugin ``EXTENSION:plugin``.

    The extensions in JupyterLab itself are assumed to exist.
    """
    name = name.partition(":")[0]
    own = kernels.data_dir(machine.env, machine.user_home)
    folders = (own, prefix / "share/jupyter", Path("/usr/local/share/jupyter"))
    return name.startswith("@jupyterlab/") or any(
        (folder / "labextensions" / name / "package.json").is_file() for folder in folders
    )


def extends_jupyter(record: str) -> bool:
    """Whether a distribution with this RECORD brings a prebuilt extension."""
    return any(folder in record for folder in _EXTENSION_FOLDERS)

"""Kernels of any program (`argv`): what is checked of the command, and whether its program is there."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError

if TYPE_CHECKING:
    from nbprovision.jupyter.ensure_kernel import EnsureKernel

_PYTHON = re.compile(r"python(3(\.\d+)?)?")
CONNECTION_FILE = "{connection_file}"


def check(task: EnsureKernel) -> None:
    """Refuse a command that could start no kernel.

    Raises:
        ParameterError: naming the parameter.

    """
    argv = task.argv
    if argv is None:
        return
    for word in argv:
        check_word("argv", word)
    if not argv or not argv[0]:
        raise ParameterError("argv", "argv names no program")
    if argv[0] != "~" and "/" in argv[0] and not argv[0].startswith(("/", "~/")):
        raise ParameterError(
            "argv",
            f"'{argv[0][:80]}' is a relative path, and Jupyter starts a kernel in the folder of its notebook",
            cure="write the whole path, {{ playbook_dir }}/... for what lies beside the playbook, or a name alone for "
            "what is on the PATH",
        )
    if not any(CONNECTION_FILE in word for word in argv):
        raise ParameterError(
            "argv",
            f"no word of argv has {CONNECTION_FILE} in it",
            cause="Jupyter puts there the file that tells the kernel where to listen",
            cure=f"add it as the program wants it, e.g. -f {CONNECTION_FILE}",
        )
    if task.name is None and task.env is None and task.prefix is None:
        raise ParameterError("name", "a kernel by argv needs a name")
    if task.validate:
        raise ParameterError("validate", "only an environment's Python can be asked for its prefix")


def check_word(key: str, text: str) -> None:
    """Refuse what no command line, variable or file name can hold."""
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ParameterError(key, f"{key} has a NUL or a lone surrogate in it, which cannot be passed on")


def program(name: str, prefix: Path | None) -> Path | None:
    """The file of a program, as far as it can be known: a path, or one of the environment's own."""
    if os.path.isabs(name):
        return Path(name)
    return prefix / "bin" / name if prefix is not None and "/" not in name else None


def expanded(argv: list[str] | None, machine: Machine) -> tuple[str, ...]:
    """The command with the user's home folder for ``~`` where a word begins with it: Jupyter has no shell do that."""
    return tuple(
        f"{machine.user_home}{word[1:]}" if word == "~" or word.startswith("~/") else word for word in argv or ()
    )


def doubt(name: str) -> str:
    """What to say of a program by its name alone that is not here, empty for a path.

    The server may have another PATH than this run.
    """
    if "/" in name:
        return ""
    return (
        f"no folder of the PATH has a program '{name}', so the kernel starts only if the Jupyter server's PATH has "
        "one; write its whole path"
    )


def starts(name: str, prefix: Path | None, machine: Machine) -> bool:
    """Whether the program is there; one by its name alone on the PATH, or where the platform's server runs from.

    A bare ``python`` is the server's own (jupyter_client.manager.KernelManager.format_kernel_cmd).
    """
    path = program(name, prefix)
    if path is not None and (os.path.isabs(name) or os.access(path, os.X_OK)):
        return os.access(path, os.X_OK)
    if prefix is None and _PYTHON.fullmatch(name):
        return True
    server = machine.conda.jupyter_server
    folders = [*([] if server is None else [str(server / "bin")]), machine.env.get("PATH", os.defpath)]
    return shutil.which(name, path=os.pathsep.join(folders)) is not None


def language_of(task: EnsureKernel) -> str:
    """The language where the user does not say: that of an environment's Python, or of a Python by `argv`."""
    name = os.path.basename(task.argv[0]) if task.argv else "python"
    return "python" if name.startswith(("python", "pypy", "ipython")) else task.kernel_name

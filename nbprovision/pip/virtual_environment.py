"""Create virtual environments by uv, from a Python of this machine (https://docs.astral.sh/uv/reference/cli/#uv-venv)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nbprovision.machine import interpreters
from nbprovision.machine.interpreters import minor, satisfies
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import uv_command
from nbprovision.system import unfinished
from nbprovision.system.files import remove_at_once

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

CONFIG = "pyvenv.cfg"


class Base(msgspec.Struct, frozen=True):
    """A Python of this machine: its executable, and its full version."""

    path: Path
    version: str


class _Listed(msgspec.Struct):
    """An entry of ``uv python list --output-format json``."""

    version: str
    path: str | None
    implementation: str
    variant: str = "default"


def bases(machine: Machine) -> list[Base]:
    """Each CPython of this machine, the newest first. Those of conda environments come last, as they may be removed.

    uv finds its own Pythons and those on the PATH; this function adds those of pyenv and conda.
    """
    pyenv = Path(machine.env.get("PYENV_ROOT") or machine.user_home / ".pyenv") / "versions"
    installations = [base / "bin" for base in machine.conda.installations]
    environments = [
        env.prefix / "bin" for env in machine.conda.environments() if not (env.unfinished or env.jupyter_server)
    ]
    folders = [*sorted(pyenv.glob("*/bin")), *installations, *environments]
    path = os.pathsep.join([machine.env.get("PATH", ""), *map(str, folders)])
    completed = uv_command.execute(
        machine,
        ["python", "list", "--only-installed", "--no-python-downloads", "--output-format", "json"],
        {"PATH": path},
        near=machine.home / "envs",
    )
    try:
        listed = msgspec.json.decode(completed.output, type=list[_Listed])
    except msgspec.DecodeError:
        raise TaskFailed(
            "cannot list the Pythons of this machine",
            cause=(completed.errors.strip() or "uv printed no list")[-2000:],
            cure="name a Python by its path: python: /usr/bin/python3",
        ) from None
    last = [folder for folder in environments if folder not in installations]
    pythons = [
        Base(Path(entry.path), entry.version)
        for entry in listed
        if entry.path is not None and entry.implementation == "cpython" and entry.variant == "default"
    ]
    return sorted(pythons, key=lambda base: (base.path.parent in last, [-part for part in _numbers(base.version)]))


def choose(machine: Machine, request: str | None, *, preferred: str = "") -> Base:
    """The Python from which to create an environment.

    Args:
        machine: The machine.
        request: The allowed versions, or the path of a Python. Default: the Python that ``pip install`` uses if no
            environment is active, else the newest.
        preferred: The minor version to choose if several are allowed, as the installed packages are for it.

    Raises:
        TaskFailed: there is no such Python.

    """
    if request is not None and "/" in request:
        python = machine.path(request)
        probed = interpreters.probe(machine, python)
        if probed is None:
            raise TaskFailed(
                f"{python} is not a working Python",
                cause="it did not report its version" if python.exists() else "the file does not exist",
                cure='name another Python, or write a version: python: "3.12"',
            )
        return Base(python, probed.version)
    if request is None and not preferred:
        own = interpreters.system_python(machine)
        probed = interpreters.probe(machine, own) if own is not None else None
        if own is not None and probed is not None:
            return Base(own, probed.version)
    available = bases(machine)
    fit = [base for base in available if request is None or satisfies(base.version, request)]
    fit.sort(key=lambda base: minor(base.version) != preferred)
    if not fit:
        # An interpreter has several names in its folder; list it once.
        names = {os.path.realpath(base.path): f"{base.version} ({base.path})" for base in reversed(available)}
        raise TaskFailed(
            f"there is no Python {request} on this machine" if request else "there is no Python on this machine",
            cause=f"found: {', '.join(reversed(names.values()))}"
            if names
            else "neither the PATH nor conda, pyenv or uv has one",
            cure="name an existing Python, or create one: ensure_conda_env with python, then python: PREFIX/bin/python",
        )
    return fit[0]


def create(machine: Machine, prefix: Path, base: Base, *, empty: bool) -> None:
    """Create a virtual environment at ``prefix``, which is marked as unfinished; installed packages stay.

    Args:
        machine: The machine.
        prefix: The environment.
        base: The Python to create it from.
        empty: Remove its content first, which is for another Python.

    Raises:
        TaskFailed: with uv's message.

    """
    if empty:
        _clear(prefix)
    words: list[str | Path] = ["venv", "--allow-existing", "--no-python-downloads", "--no-project", "--quiet"]
    completed = uv_command.execute(machine, [*words, "--python", base.path, prefix], {}, near=prefix)
    if completed.status != 0:
        raise TaskFailed(
            f"cannot create the virtual environment {prefix}",
            cause=(completed.errors.strip() or completed.output.strip())[-4000:],
            cure="fix the problem that uv reports, and run again",
        )


def _clear(prefix: Path) -> None:
    """Remove everything except the mark and pyvenv.cfg, by which the next run recognises the folder.

    Each part is removed in one step: in a half-removed part, broken packages could look complete.
    """
    for name in os.listdir(prefix):
        if name not in (unfinished.MARK, CONFIG):
            remove_at_once(prefix / name)


def _numbers(version: str) -> list[int]:
    return [int(part) if part.isdigit() else -1 for part in version.split(".")]

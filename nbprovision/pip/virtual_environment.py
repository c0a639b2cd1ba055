"""Virtual environments are made by uv, from a Python of this machine (https://docs.astral.sh/uv/reference/cli/#uv-venv)."""

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
    """A Python of this machine: its program, and its version in full."""

    path: Path
    version: str


class _Listed(msgspec.Struct):
    """An entry of ``uv python list --output-format json``."""

    version: str
    path: str | None
    implementation: str
    variant: str = "default"


def bases(machine: Machine) -> list[Base]:
    """Every CPython of this machine, the newest first; those of conda environments, which may go, behind the others.

    uv finds those on the PATH and its own. pyenv's, and those of conda, are looked for as well.
    """
    pyenv = Path(machine.env.get("PYENV_ROOT") or machine.user_home / ".pyenv") / "versions"
    condas = [base / "bin" for base in machine.conda.installations]
    environments = [
        one.prefix / "bin" for one in machine.conda.environments() if not (one.unfinished or one.jupyter_server)
    ]
    folders = [*sorted(pyenv.glob("*/bin")), *condas, *environments]
    path = os.pathsep.join([machine.env.get("PATH", ""), *map(str, folders)])
    done = uv_command.execute(
        machine,
        ["python", "list", "--only-installed", "--no-python-downloads", "--output-format", "json"],
        {"PATH": path},
        near=machine.home / "envs",
    )
    try:
        listed = msgspec.json.decode(done.output, type=list[_Listed])
    except msgspec.DecodeError:
        raise TaskFailed(
            "the Pythons of this machine could not be listed",
            cause=(done.errors.strip() or "uv gave no list")[-2000:],
            cure="name one by its path: python: /usr/bin/python3",
        ) from None
    last = [folder for folder in environments if folder not in condas]
    found = [
        Base(Path(one.path), one.version)
        for one in listed
        if one.path is not None and one.implementation == "cpython" and one.variant == "default"
    ]
    return sorted(found, key=lambda base: (base.path.parent in last, [-part for part in _numbers(base.version)]))


def choose(machine: Machine, request: str | None, *, rather: str = "") -> Base:
    """The Python to make an environment from.

    Args:
        machine: The facts.
        request: Versions that will do, or the path of one. Default: the Python that ``pip install`` means where no
            environment is active, else the newest.
        rather: The minor version to take where several will do, as what is installed is for that one.

    Raises:
        TaskFailed: there is none.

    """
    if request is not None and "/" in request:
        python = machine.path(request)
        probed = interpreters.probe(machine, python)
        if probed is None:
            raise TaskFailed(
                f"{python} is no Python that runs",
                cause="asked for its version, it gave no answer" if python.exists() else "there is no such file",
                cure='name another one, or write a version: python: "3.12"',
            )
        return Base(python, probed.version)
    if request is None and not rather:
        own = interpreters.system_python(machine)
        probed = interpreters.probe(machine, own) if own is not None else None
        if own is not None and probed is not None:
            return Base(own, probed.version)
    there = bases(machine)
    fit = [base for base in there if request is None or satisfies(base.version, request)]
    fit.sort(key=lambda base: minor(base.version) != rather)
    if not fit:
        # Each once: an interpreter has several names in its folder.
        known = {os.path.realpath(base.path): f"{base.version} ({base.path})" for base in reversed(there)}
        raise TaskFailed(
            f"there is no Python {request} on this machine" if request else "there is no Python on this machine",
            cause=f"there are: {', '.join(reversed(known.values()))}"
            if known
            else "neither on the PATH, nor of conda, pyenv or uv",
            cure="ask for one that is there, or make it: ensure_conda_env with python, then python: PREFIX/bin/python",
        )
    return fit[0]


def make(machine: Machine, prefix: Path, base: Base, *, empty: bool) -> None:
    """Make a virtual environment at ``prefix``, which is marked as unfinished; what is installed there stays.

    Args:
        machine: The facts.
        prefix: The environment.
        base: The Python that it is made from.
        empty: Take out first what is there: it is for another Python.

    Raises:
        TaskFailed: with uv's own words.

    """
    if empty:
        _clear(prefix)
    words: list[str | Path] = ["venv", "--allow-existing", "--no-python-downloads", "--no-project", "--quiet"]
    done = uv_command.execute(machine, [*words, "--python", base.path, prefix], {}, near=prefix)
    if done.status != 0:
        raise TaskFailed(
            f"the virtual environment {prefix} could not be made",
            cause=(done.errors.strip() or done.output.strip())[-4000:],
            cure="put right what uv complains of, and run once more",
        )


def _clear(prefix: Path) -> None:
    """Take out everything but the mark and pyvenv.cfg, which tell the next run what this folder is.

    Each part goes in one step: of one that is half there nobody could tell which packages are whole.
    """
    for name in os.listdir(prefix):
        if name not in (unfinished.MARK, CONFIG):
            remove_at_once(prefix / name)


def _numbers(version: str) -> list[int]:
    return [int(part) if part.isdigit() else -1 for part in version.split(".")]

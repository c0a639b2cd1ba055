"""Interpreters to install for: which environment one belongs to, and whether it may be installed into."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from nbprovision.facts.conda import is_environment
from nbprovision.model.errors import TaskFailed


class Target(msgspec.Struct, frozen=True):
    """An environment to install into, its interpreter, and what to call it where there are several."""

    prefix: Path
    python: Path
    name: str


def prefix_of(python: Path) -> Path:
    """The prefix of an interpreter: where pyvenv.cfg or conda's records are, else where it really lies."""
    prefix = python.parent.parent
    return prefix if _is_environment(prefix) else Path(os.path.realpath(python)).parent.parent


def _is_environment(prefix: Path) -> bool:
    """Whether ``prefix`` is an environment of its own, so that nothing else depends on it."""
    return (prefix / "pyvenv.cfg").is_file() or is_environment(prefix)


def is_managed(target: Target, version: str | None) -> bool:
    """Whether the Python says that somebody else manages it (PEP 668); refused where that is not an environment.

    Raises:
        TaskFailed: it is a system's own Python.
    """
    minor = ".".join((version or "").split(".")[:2])
    mark = target.prefix / "lib" / f"python{minor}" / "EXTERNALLY-MANAGED"
    if not mark.exists():
        return False
    if not _is_environment(target.prefix):
        raise TaskFailed(
            f"{target.python} is managed by the system, which nbprovision leaves alone",
            cause=f"{mark} says so",
            cure=f"make an environment from it ({target.python} -m venv FOLDER, or ensure_conda_env) and name that",
        )
    return not (target.prefix / "pyvenv.cfg").is_file()  # a venv is its owner's, whoever manages its base


def no_python(target: Target) -> TaskFailed:
    """The error for an environment without a Python that runs: why, and what helps."""
    if not target.prefix.is_dir():
        return TaskFailed(
            f"there is no environment at {target.prefix}", cure="make it first: ensure_conda_env, or python -m venv"
        )
    if os.path.islink(target.python) and not target.python.exists():
        return TaskFailed(
            f"the Python of {target.prefix} is gone",
            cause=f"{target.python} leads to {os.readlink(target.python)}, which is not there",
            cure="make the environment anew",
        )
    return TaskFailed(
        f"{target.prefix} has no Python to install for",
        cause=f"there is no {target.python}, or it has no site-packages",
        cure="add python to the packages of its ensure_conda_env",
    )

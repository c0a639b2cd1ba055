"""The targets of `ensure_pip_pkg`, and the reasons for which it refuses one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from nbprovision.machine import distributions, interpreters
from nbprovision.machine.interpreters import Target
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import Blocked, TaskFailed
from nbprovision.pip import pylock, requirements
from nbprovision.pip.pylock import LockedPackage
from nbprovision.pip.requirements import PipRequirement
from nbprovision.system import disk_space
from nbprovision.system.files import read_text


def of_system(machine: Machine) -> Target:
    """The Python that `pip install` uses if no environment is active.

    Raises:
        TaskFailed: there is no such Python.

    """
    python = interpreters.system_python(machine)
    if python is None:
        raise TaskFailed(
            "no Python found for `system: true`",
            cause="the PATH has no python3",
            cure="name an environment (`env`) or an interpreter (`python`)",
        )
    return interpreters.target_of(machine, python, str(python))


def fitting(
    machine: Machine, target: Target, locked: Iterable[LockedPackage], names: Iterable[str]
) -> list[LockedPackage]:
    """The named packages of locks, each with the file that fits the target best.

    Raises:
        TaskFailed: no file of a package fits its Python or this platform.
        Blocked: a file of this machine is missing.

    """
    chosen = set(names)
    tags = pylock.target_tags(target.version or "3.0", distributions.site_packages(target.prefix))
    return pylock.fitting([entry for entry in locked if entry.name in chosen], tags, machine.archives)


def check_rights(target: Target) -> None:
    """Refuse an interpreter whose packages this user may not change, before an engine predicts any changes.

    Raises:
        TaskFailed: this user may not write its folder.

    """
    folder = target.folder
    if target.location is not None or folder is None or not folder.exists() or os.access(folder, os.W_OK | os.X_OK):
        return
    raise TaskFailed(
        f"this user may not change the packages of {target.python}",
        cause=disk_space.unwritable(folder)[0],
        cure="name an environment of yours (`env`), give a `target` folder, or run as a user who may write there",
    )


# Folders in which conda-build builds: those of conda-forge's and Anaconda's builders, or below NAME_MILLISECONDS.
_BUILT_BY_CONDA = re.compile(r"/(feedstock_root|croot|conda-bld)/|^/(private/)?tmp/build/|_\d{13}/(work|_h_env)\b")


def _cure_of_missing(wanted: PipRequirement, path: Path) -> str:
    if wanted.name and _BUILT_BY_CONDA.search(str(path)):
        return (
            f"conda's package was built there, on another machine: write `{wanted.name}` with a version; unlike "
            "`pip freeze`, `pip list --format=freeze` prints all packages so"
        )
    return "a relative path starts from the folder of the file that names it"


def check_places(wanted: Iterable[PipRequirement], environment: Mapping[str, str]) -> None:
    """Refuse a requested project or file that is missing.

    Raises:
        Blocked: it does not exist.

    """
    for requirement in wanted:
        path = requirements.local_path(requirement)
        if path is not None and not path.exists() and requirements.applies(requirement, environment):
            raise Blocked(
                path,
                f"there is no {path}",
                cause=f"'{requirement.shown}' names it",
                cure=_cure_of_missing(requirement, path),
            ).at(requirement.position)


def refuse_editable(target: Target, wanted: Iterable[PipRequirement]) -> None:
    """Refuse an editable install into a ``target`` folder, as Python could not import it.

    Raises:
        TaskFailed: a requirement is editable, which needs a .pth file in site-packages.

    """
    editable = next((requirement for requirement in wanted if requirement.editable), None)
    if target.location is not None and editable is not None:
        raise TaskFailed(
            f"'{editable.shown}' cannot be installed into {target.location}",
            cause="an editable install works by a .pth file, which Python does not read in folders of PYTHONPATH",
            cure="install it into an environment, or put its source folder on PYTHONPATH as well",
        ).at(editable.position)


def refuse_other_builds(target: Target) -> None:
    """Refuse a ``target`` folder with packages that are compiled for another Python than that of this task.

    Raises:
        TaskFailed: this Python could not import them.

    """
    if target.location is None:
        return
    minor = int((target.version or "3.0").split(".")[1])
    for same_name in target.installed().values():
        for distribution in same_name:
            tags = _TAG.findall(read_text(distribution.path / "WHEEL") or "")
            if tags and not any(_fits(python, abi, minor) for python, abi in tags):
                raise TaskFailed(
                    f"{target.location} contains {distribution.name} {distribution.version} for another Python",
                    cause=f"it is compiled for {tags[0][0]}, and {target.python} is Python {target.version}",
                    cure="give each Python a `target` of its own",
                )


# https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/
_TAG = re.compile(r"(?m)^Tag: ([^-\s]+)-([^-\s]+)-")


def _fits(python: str, abi: str, minor: int) -> bool:
    match = re.fullmatch(r"cp3(\d+)", python)
    if match is None:
        return True
    return int(match[1]) == minor or (abi == "abi3" and int(match[1]) <= minor)


def no_target(target: Target) -> TaskFailed:
    """The error for an environment without a Python, or a file that is not an interpreter."""
    if os.access(target.python, os.X_OK) and not (target.prefix / "lib").is_dir():
        return TaskFailed(
            f"{target.python} is not a working Python",
            cause="it did not report its version and folders",
            cure="name another interpreter, or an environment by `env`",
        )
    return interpreters.no_python(target)

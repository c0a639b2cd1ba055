"""Where `ensure_pip_pkg` installs, and what keeps it from installing there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from nbprovision.machine import interpreters
from nbprovision.machine.interpreters import Target
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import Blocked, TaskFailed
from nbprovision.pip import requirements
from nbprovision.pip.requirements import PipRequirement
from nbprovision.system import room
from nbprovision.system.files import read_text


def of_system(machine: Machine) -> Target:
    """The Python that `pip install` means where no environment is active.

    Raises:
        TaskFailed: there is none.

    """
    python = interpreters.system_python(machine)
    if python is None:
        raise TaskFailed(
            "there is no Python that `system: true` could mean",
            cause="no python3 is on the PATH",
            cure="name an environment (`env`) or an interpreter (`python`)",
        )
    return interpreters.of_python(machine, python, str(python))


def check_rights(target: Target) -> None:
    """Refuse an interpreter of somebody else's, before an engine is asked what it would do.

    Raises:
        TaskFailed: what it imports cannot be written by this user.

    """
    folder = target.folder
    if target.location is not None or folder is None or not folder.exists() or os.access(folder, os.W_OK | os.X_OK):
        return
    raise TaskFailed(
        f"the packages of {target.python} are not this user's to change",
        cause=room.unwritable(folder)[0],
        cure="name an environment of yours (`env`), give a `target` folder, or run as a user who has the right",
    )


# Where conda-build works on a package: in folders of conda-forge's and Anaconda's builders, or below NAME_MILLISECONDS.
_BUILT_BY_CONDA = re.compile(r"/(feedstock_root|croot|conda-bld)/|^/(private/)?tmp/build/|_\d{13}/(work|_h_env)\b")


def _cure_of_missing(wanted: PipRequirement, path: Path) -> str:
    if wanted.name and _BUILT_BY_CONDA.search(str(path)):
        return (
            f"conda's package was built there, on another machine: write `{wanted.name}` with a version; "
            "`pip list --format=freeze` lists all packages so, as `pip freeze` does not"
        )
    return "a relative path starts from the folder of the file that names it"


def check_places(asked: Iterable[PipRequirement], environment: Mapping[str, str]) -> None:
    """Refuse a project or file that is asked for and missing.

    Raises:
        Blocked: there is none.

    """
    for wanted in asked:
        path = requirements.local_path(wanted)
        if path is not None and not path.exists() and requirements.applies(wanted, environment):
            raise Blocked(
                path,
                f"there is no {path}",
                cause=f"'{wanted.shown}' asks for it",
                cure=_cure_of_missing(wanted, path),
            ).at(wanted.position)


def refuse_editable(target: Target, asked: Iterable[PipRequirement]) -> None:
    """Refuse what would be in a ``target`` folder and could not be imported from there.

    Raises:
        TaskFailed: a source folder is to be put on the path by a file that Python reads in site-packages only.

    """
    editable = next((one for one in asked if one.editable), None)
    if target.location is not None and editable is not None:
        raise TaskFailed(
            f"'{editable.shown}' cannot be in {target.location}",
            cause="an editable install works by a .pth file, which Python does not read in folders of PYTHONPATH",
            cure="install it into an environment, or put its source folder on PYTHONPATH as well",
        ).at(editable.position)


def refuse_other_builds(target: Target) -> None:
    """Refuse a ``target`` folder with packages that are compiled for another Python than the one of this task.

    Raises:
        TaskFailed: it would import them, and fail.

    """
    if target.location is None:
        return
    minor = int((target.version or "3.0").split(".")[1])
    for several in target.found().values():
        for one in several:
            tags = _TAG.findall(read_text(one.path / "WHEEL") or "")
            if tags and not any(_fits(python, abi, minor) for python, abi in tags):
                raise TaskFailed(
                    f"{target.location} holds {one.name} {one.version} for another Python",
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
    """The error for what cannot be installed for: an environment without a Python, a file that is no interpreter."""
    if os.access(target.python, os.X_OK) and not (target.prefix / "lib").is_dir():
        return TaskFailed(
            f"{target.python} is no Python that runs",
            cause="asked for its version and folders, it gave no answer",
            cure="name another interpreter, or an environment by `env`",
        )
    return interpreters.no_python(target)

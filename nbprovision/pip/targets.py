"""Where `ensure_pip_pkg` installs: which environments and interpreters its parameters mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from nbprovision.machine import interpreters, selectors
from nbprovision.machine.image import refuse_jupyter_server
from nbprovision.machine.interpreters import Target
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import Blocked, TaskFailed
from nbprovision.model.task import Strings, as_list
from nbprovision.pip import requirements
from nbprovision.pip.requirements import Wanted
from nbprovision.system import room, unfinished
from nbprovision.system.files import read_text


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters that say where; see `EnsurePipPkg`."""

    env: str | None = None
    envs: Strings | None = None
    excluded: Strings | None = None
    allow_empty: bool = False
    python: str | None = None
    system: bool = False
    location: str | None = None
    jupyter_server: bool = False

    def targets(self, machine: Machine, declared: Mapping[str, Path]) -> list[Target]:
        """Each environment or interpreter, once.

        Args:
            machine: The facts.
            declared: What earlier tasks of the playbook make.

        Raises:
            UnknownEnvironment: there is none of that name.
            TaskFailed: there is no Python that `system` could mean.
            InvalidPlaybook: it is the Jupyter server's own, and nothing says that this is meant.

        """
        if self.python is not None:
            python = machine.path(self.python)
            found = [interpreters.of_python(machine, python, str(python))]
        elif self.system:
            found = [_of_system(machine)]
        elif self.env is not None:
            prefix = machine.prefix_of(self.env)
            found = [Target(prefix, prefix / "bin/python", self.env)]
        else:
            found = [Target(prefix, prefix / "bin/python", name) for name, prefix in self._selected(machine, declared)]
        if self.location is not None:
            place = machine.path(self.location)
            return [msgspec.structs.replace(target, location=place) for target in found]
        for target in found:
            refuse_jupyter_server(machine, target.prefix, allowed=self.jupyter_server)
        return found

    def witnesses(self, machine: Machine, targets: list[Target]) -> Iterator[Path]:
        """What tells that other environments are meant, or that one of ``targets`` has changed."""
        if self.envs is not None:
            yield from selectors.sources(machine, as_list(self.envs))
        if self.system:
            yield from interpreters.system_witnesses(machine)
        for target in targets:
            yield from (target.python, target.place / unfinished.MARK)
            yield target.folder or target.prefix / "lib"

    def _selected(self, machine: Machine, declared: Mapping[str, Path]) -> list[tuple[str, Path]]:
        return selectors.select(
            machine,
            as_list(self.envs),
            excluded=as_list(self.excluded),
            allow_empty=self.allow_empty,
            with_python=True,
            declared=declared,
        )


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


def _cure_of_missing(wanted: Wanted, path: Path) -> str:
    if wanted.name and _BUILT_BY_CONDA.search(str(path)):
        return (
            f"conda's package was built there, on another machine: write `{wanted.name}` with a version; "
            "`pip list --format=freeze` lists all packages so, as `pip freeze` does not"
        )
    return "a relative path starts from the folder of the file that names it"


def check_places(asked: Iterable[Wanted], environment: Mapping[str, str]) -> None:
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


def refuse_editable(target: Target, asked: Iterable[Wanted]) -> None:
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


def _of_system(machine: Machine) -> Target:
    python = interpreters.system_python(machine)
    if python is None:
        raise TaskFailed(
            "there is no Python that `system: true` could mean",
            cause="no python3 is on the PATH",
            cure="name an environment (`env`) or an interpreter (`python`)",
        )
    return interpreters.of_python(machine, python, str(python))

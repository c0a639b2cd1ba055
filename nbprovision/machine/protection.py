"""Refused changes to environments.

No task takes another owner's folder, creates a conda and a virtual environment of one name, or removes an environment
of another owner. No engine removes or writes files outside an environment. Engines remove the files that a package
lists. A tampered list (``../../home/x``), or a link of the user's in the place of a package's folder, would let the
next update delete files elsewhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from nbprovision.machine.distributions import Distribution, folders_of, recorded, recorded_folders
from nbprovision.machine.environments import META, CondaFacts, is_environment
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.system import unfinished

# The top folders of packages' files. An installation's `envs` and `pkgs` may be links, and often are.
_PACKAGE_FOLDERS = ("bin", "lib", "include", "share", "etc")


def refuse_foreign(prefix: Path) -> None:
    """Refuse a folder with other content than an environment.

    Raises:
        TaskFailed: it is such a folder, and so the user's own.

    """
    if is_environment(prefix) or unfinished.is_marked(prefix) or not prefix.exists():
        return
    if not prefix.is_dir() or any(prefix.iterdir()):
        raise TaskFailed(
            f"{prefix} exists and is not a conda environment",
            cause=f"it has no {META} folder, so conda did not create its content",
            cure="choose another prefix, or move the content elsewhere",
        )


def refuse_removal(conda: CondaFacts, prefix: Path) -> None:
    """Refuse to remove an installation, an environment of the platform, this tool's own, and any other folder.

    Raises:
        TaskFailed: it is one of these.

    """
    if not prefix.is_dir():
        return
    real = prefix.resolve()
    if real in [place.resolve() for place in conda.installations]:
        raise TaskFailed(
            f"{prefix} is a conda installation, and no task removes one",
            cause="environments, and conda itself, run from it",
            cure="remove it by hand if you do not need it",
        )
    if any(each.provided and each.prefix.resolve() == real for each in conda.environments()):
        raise TaskFailed(
            f"{prefix} belongs to the platform's image, and no task removes it",
            cause="the notebook may depend on it, and a restart brings it back",
            cure="keep it; you can remove environments of your own",
        )
    refuse_running(prefix)
    mark = unfinished.read_mark(prefix)
    if not is_environment(prefix) and not (mark and mark.made) and any(prefix.iterdir()):
        raise TaskFailed(
            f"{prefix} is not a conda environment, and is not removed",
            cause=f"it has no {META} folder",
            cure="remove it by hand if you do not need it",
        )


def refuse_running(prefix: Path) -> None:
    """Refuse to remove the environment that this tool itself runs from.

    Raises:
        TaskFailed: its Python is in there.

    """
    real, own = prefix.resolve(), Path(sys.prefix).resolve()
    if real == own or real in own.parents:
        raise TaskFailed(
            f"{prefix} is not removed",
            cause="it contains the Python that this tool runs from",
            cure="remove it with an nbprovision that is installed elsewhere",
        )


def refuse_two_kinds(machine: Machine, name: str, prefix: Path, *, virtual: bool) -> None:
    """Refuse an environment if an earlier task of the playbook creates one of the other kind.

    Raises:
        ParameterError: it has the same name or the same folder.

    """
    for declared, place in machine.declared.items():
        if (declared == name or place == prefix) and (place in machine.virtual) != virtual:
            other, own = ("ensure_conda_env", "ensure_venv") if virtual else ("ensure_venv", "ensure_conda_env")
            raise ParameterError(
                "name",
                f"'{name}' is created by {other} in the same playbook",
                cause=f"an environment is conda's or virtual, and its name means one: {place}",
                cure=f"give the environment of {own} another name",
            )


def paths_outside(
    prefix: Path, base: Path, names: Iterable[str], real_folders: dict[str, str] | None = None
) -> Iterator[Path]:
    """The places outside ``prefix`` that ``names`` lead to, with links followed.

    Args:
        prefix: The environment.
        base: The folder that relative names begin at.
        names: The names that a package lists.
        real_folders: Real paths of folders; several calls in a row share it, so that each folder is read once.

    """
    real_folders = {} if real_folders is None else real_folders
    names = list(names)
    if _are_inside(prefix, base, folders_of(names), real_folders):
        return
    inside = os.path.join(_real(os.path.abspath(prefix), real_folders), "")
    start = os.path.abspath(base)
    folders_inside: set[str] = set()  # as they are written
    for name in names:
        written, entry = name[: (end := name.rfind(os.sep) + 1)], name[end:]
        plain = entry not in ("", os.curdir, os.pardir)
        if plain and written in folders_inside:
            continue
        folder, _, last = os.path.normpath(os.path.join(start, name)).rpartition(os.sep)
        real = os.path.join(_real(folder, real_folders), "")
        if not real.startswith(inside):
            yield Path(real + last)
        elif plain:
            folders_inside.add(written)


def _are_inside(prefix: Path, base: Path, folders: Collection[str] | None, real_folders: dict[str, str]) -> bool:
    """Whether all folders of `folders_of` are inside ``prefix`` and none is a link, as nearly always.

    An environment has a thousand, so only those outside ``base`` are resolved.
    """
    if folders is None:
        return False
    inside = os.path.join(_real(os.path.abspath(prefix), real_folders), "")
    start = os.path.join(_real(os.path.abspath(base), real_folders), "")
    if not start.startswith(inside):
        return False
    for folder in folders:
        if folder.startswith((os.pardir, os.sep)):
            path = os.path.normpath(os.path.join(os.path.abspath(base), folder))
            if not os.path.join(_real(path, real_folders), "").startswith(inside):
                return False
        elif os.path.islink(start + folder):
            return False
    return True


def _real(folder: str, real_folders: dict[str, str]) -> str:
    """`os.path.realpath` that reads each folder once, for paths that share most of their folders."""
    real = real_folders.get(folder)
    if real is None:
        above, _, name = folder.rpartition(os.sep)
        real = os.path.join(_real(above, real_folders), name) if name else os.sep
        if os.path.islink(real):
            real = os.path.realpath(real)
        real_folders[folder] = real
    return real


def files_outside(prefix: Path, distributions: Iterable[Distribution]) -> Iterator[tuple[Distribution, Path]]:
    """The files that distributions list outside their environment, each with its distribution."""
    real_folders: dict[str, str] = {}
    for distribution in distributions:
        base = distribution.path.parent
        if not _are_inside(prefix, base, recorded_folders(distribution.path), real_folders):
            for place in paths_outside(prefix, base, recorded(distribution.path), real_folders):
                yield distribution, place


def refuse_distributions(prefix: Path, leaving: Iterable[Distribution]) -> None:
    """Refuse to remove distributions with files outside the environment.

    Raises:
        TaskFailed: one of them lists such a file.

    """
    for distribution, place in files_outside(prefix, leaving):
        raise listed_outside(f"{distribution.name} in {prefix}", distribution.path / "RECORD", place)


def listed_outside(package: str, record: Path, place: Path) -> TaskFailed:
    """The error for a package whose record lists a file outside its environment."""
    return TaskFailed(
        f"{package} is not changed",
        cause=f"{record} lists {place}, outside the environment, which would be removed with the other files",
        cure="replace a link by a folder, or delete the line from the list; or remove the environment "
        "(`state: absent`) and create it again",
    )


def refuse_link(prefix: Path, *names: str) -> None:
    """Refuse to write into folders of an environment that links lead out of.

    Raises:
        TaskFailed: one of the folders is a link to elsewhere, or lies in one.

    """
    real_folders: dict[str, str] = {}
    for name in names:
        for place in paths_outside(prefix, prefix, [f"{name}/x"], real_folders):
            raise TaskFailed(
                f"{prefix} is not changed",
                cause=f"{prefix / name} leads to {place.parent}, outside the environment",
                cure="remove the link, and run again",
            )


def refuse_links(prefix: Path, names: Iterable[str] = _PACKAGE_FOLDERS) -> None:
    """Refuse to install into an environment if a folder of packages is a link to elsewhere.

    Args:
        prefix: The environment, which may be missing yet.
        names: The folders, beside that of Python's packages.

    Raises:
        TaskFailed: one of them is such a link.

    """
    libraries = (str(path.relative_to(prefix)) for path in prefix.glob("lib/python3*/site-packages"))
    refuse_link(prefix, *names, *libraries)


def refuse_rehearsed(prefix: Path, rehearsed: Path) -> None:
    """Refuse an install that would write through a folder of the environment that is a link to elsewhere.

    Args:
        prefix: The environment.
        rehearsed: A folder with the new files in their places.

    Raises:
        TaskFailed: it would; the error names the folder.

    """
    refuse_link(prefix, *(os.path.relpath(place, rehearsed) for place, _, _ in os.walk(rehearsed)))


def has_linked_folder(prefix: Path) -> bool:
    """Whether any folder of an environment, or of the remains of one, is a link."""
    return any(os.path.islink(os.path.join(place, name)) for place, names, _ in os.walk(prefix) for name in names)

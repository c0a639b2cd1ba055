"""What this tool has left on the machine and can do without: what ``nbprovision clean`` removes.

Nothing that somebody else made is among it: no cache of conda, uv or pip that the user has, no finished environment.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nbprovision.conda import health
from nbprovision.machine import caches, kernels
from nbprovision.machine.environments import META
from nbprovision.system import unfinished
from nbprovision.system.journal import TEMPORARY_SUFFIX

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

SLOTS = ("venv.1", "venv.2")
# What uv makes in the cache folder, its TMPDIR, for the length of one command.
_SCRATCH = re.compile(r"(uv-|\.tmp).*")


class Disposable(msgspec.Struct, frozen=True, kw_only=True):
    """Something to remove.

    Attributes:
        what: Its kind, for a person.
        path: Its file or folder.
        beside: What goes with it, and before it.

    """

    what: str
    path: Path
    beside: tuple[Path, ...] = ()


def find(machine: Machine) -> list[Disposable]:
    """All of it, each path once; to be asked under the lock of a run, without which a run's own work would be in it."""
    disposables: dict[Path, Disposable] = {}
    for disposable in _all(machine):
        disposables.setdefault(disposable.path, disposable)
    return list(disposables.values())


def _all(machine: Machine) -> Iterator[Disposable]:
    yield from _of_killed_runs(machine)
    yield from (Disposable(what="unfinished environment", path=path) for path in unfinished_environments(machine))
    for folder in caches.folders(machine):
        for entry in caches.entries(folder):
            if not entry.shared:
                yield Disposable(what=_PLURAL[entry.kind], path=entry.path, beside=entry.beside)
    yield from (Disposable(what="older log", path=path) for path in sorted((machine.home / "log").glob("*.log.[0-9]*")))


_PLURAL = {
    "conda package": "conda packages that no environment shares",
    "Python package": "Python packages that no environment shares",
    "wheel": "wheels for channels",
    "index": "answers of indexes",
}


def slots(home: Path) -> list[Disposable]:
    """The places of the tool's own environment that are neither in use nor the last good one.

    One may be in the making (bootstrap.lock).
    """
    link = home / "venv"
    kept = {os.path.realpath(path) for path in (link, home / "venv.good", sys.prefix)}
    unused = [home / name for name in SLOTS if (home / name).is_dir() and os.path.realpath(home / name) not in kept]
    if not link.is_symlink():  # their creator is unknown
        return []
    return [Disposable(what="older environment of the tool itself", path=path) for path in unused]


def unfinished_environments(machine: Machine) -> list[Path]:
    """Environments that a run began to create and no install ever completed: nobody can have worked with them."""
    places = [folder / name for folder in machine.conda.folders for name in _names(folder)]
    environments = []
    for prefix in dict.fromkeys([*places, *machine.conda.registered]):
        mark = unfinished.read_mark(prefix)
        if mark is not None and mark.made and not _has_history(prefix):
            environments.append(prefix)
    return environments


def _of_killed_runs(machine: Machine) -> Iterator[Disposable]:
    what = "left by killed runs"
    prefixes = [environment.prefix for environment in machine.conda.environments()]
    for prefix in dict.fromkeys([*prefixes, *machine.conda.registered]):
        yield from (Disposable(what=what, path=path) for path in health.leftovers(prefix))
        yield from (Disposable(what=what, path=path) for path in _temporary(prefix))
        yield from (Disposable(what=what, path=path) for path in _temporary(prefix / META))
    own = [machine.home, *(machine.home / name for name in ("state", "log", "cache", "cache/constraints"))]
    configuration = [machine.user_home / ".config/pip", machine.user_home / ".config/uv", machine.user_home / ".conda"]
    kernel_folder = kernels.data_dir(machine.env, machine.user_home) / "kernels"
    each_kernel = [kernel_folder / name for name in _names(kernel_folder)]
    for folder in [*machine.conda.folders, *own, *configuration, kernel_folder, *each_kernel]:
        yield from (Disposable(what=what, path=path) for path in _temporary(folder))
    for name in _names(machine.cache):
        if _SCRATCH.fullmatch(name):
            yield Disposable(what=what, path=machine.cache / name)
    for folder in (machine.cache / "wheels").glob("*"):
        yield from (Disposable(what=what, path=path) for path in _temporary(folder))


def _temporary(folder: Path) -> list[Path]:
    return [folder / name for name in _names(folder) if name.endswith(TEMPORARY_SUFFIX) and name.startswith(".")]


def _has_history(prefix: Path) -> bool:
    try:
        return (prefix / META / "history").stat().st_size > 0
    except OSError:
        return False


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []

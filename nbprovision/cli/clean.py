"""``nbprovision clean``: removes the tool's leftovers and unneeded caches, or lists them with ``--dry-run``.

It never removes what others made: caches of conda, uv or pip that the user has, or finished environments.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.bundle import opened
from nbprovision.cli import inventory
from nbprovision.conda import health
from nbprovision.engine.guard import holder, run_lock
from nbprovision.machine import caches, kernels
from nbprovision.machine.environments import META
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.report.activity import is_held
from nbprovision.report.colour import print_message, shown
from nbprovision.report.document import render_plain
from nbprovision.state.witness import read_lines
from nbprovision.system import disk_space, unfinished
from nbprovision.system.disk_space import free_space, megabytes
from nbprovision.system.files import remove, remove_at_once
from nbprovision.system.journal import TEMPORARY_SUFFIX
from nbprovision.system.secrets import masked

_UNFINISHED = "unfinished environment"
_CACHE_ENTRIES = {
    "conda package": "conda packages that no environment shares",
    "Python package": "Python packages that no environment shares",
    "wheel": "wheels for channels",
    "index": "answers of indexes",
}
_SLOTS = ("venv.1", "venv.2")
# uv creates these in the cache folder, its TMPDIR, for the time of one command.
_SCRATCH = re.compile(r"(uv-|\.tmp).*")
# Caches that belong to others, and the commands by which their owners clear them.
_OWN_COMMANDS = {
    "conda packages": "conda clean --all",
    "uv, started by hand": "uv cache clean",
    "uv, as this tool uses it": "uv cache clean",
    "pip": "pip cache purge",
}


class Disposable(msgspec.Struct, frozen=True, kw_only=True):
    """A file or folder to remove.

    Attributes:
        what: Its kind, for a person.
        path: Its path.
        beside: Paths to remove before it.

    """

    what: str
    path: Path
    beside: tuple[Path, ...] = ()


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``clean``."""
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be removed and how much that frees; remove nothing"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one document")
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Remove the disposables, or list them.

    Returns:
        0, or 2 if something could not be removed.

    """
    machine = Machine(home=options.home.absolute() if options.home else None)
    if options.dry_run or not machine.home.is_dir():
        content = _document(machine, _disposables(machine), dry_run=options.dry_run)
        if is_held(machine.home / "lock") and (run := holder(machine.home)) is not None:
            content["running"] = str(run)
    else:
        # Not tidied by the lock, as the output lists all that is removed.
        locked = run_lock(machine.home, "nbprovision clean", None, print_message, tidy=False)
        with locked, _no_bootstrap(machine.home) as alone:
            disposables = [*_disposables(machine), *(_slots(machine.home) if alone else ())]
            content = _document(machine, disposables, dry_run=False)
            content["errors"] = list(_remove(disposables))
            content["room"]["free"] = free_space(machine.home).free
    sys.stdout.write(render_plain(masked(content)) if options.format == "json" else shown(_text(content)))
    return 2 if content["errors"] else 0


def _document(machine: Machine, disposables: Sequence[Disposable], *, dry_run: bool) -> dict[str, Any]:
    """The output as plain data; sizes are measured before anything is removed."""
    if dry_run:
        disposables = [*disposables, *_slots(machine.home)]
    sizes = disk_space.freed([(disposable.path, *disposable.beside) for disposable in disposables])
    space = free_space(machine.home)
    used = [entry for folder in caches.folders(machine) for entry in caches.entries(folder) if entry.shared]
    return {
        "dry_run": dry_run,
        "frees": sum(sizes),
        "items": [
            {"what": disposable.what, "path": str(disposable.path), "frees": size}
            for disposable, size in zip(disposables, sizes, strict=True)
        ],
        "kept": {
            "entries": len(used),
            "shared": sum(cache.shared for cache in used),
            "own": sum(cache.own for cache in used),
        },
        "left_alone": [
            {"what": cache.what, "path": cache.path, "command": _OWN_COMMANDS[cache.what]}
            for cache in inventory.caches(machine)
            if cache.what in _OWN_COMMANDS and not Path(cache.path).is_relative_to(machine.home)
        ],
        "room": {"path": str(space.folder), "free": space.free},
        "running": None,
        "errors": [],
    }


def _text(content: dict[str, Any]) -> str:
    by_kind: dict[str, list[int]] = {}
    for item in content["items"]:
        by_kind.setdefault(item["what"], []).append(item["frees"])
    verb = "would free" if content["dry_run"] else "freed"
    lines = [f"{verb} {megabytes(content['frees'])}"]
    if not content["items"]:
        lines = ["there is nothing to remove"]
    lines += [f"  {megabytes(sum(sizes)):>9}  {what} ({len(sizes)})" for what, sizes in by_kind.items()]
    kept = content["kept"]
    if kept["entries"]:
        lines.append(
            f"kept: {kept['entries']} package{'' if kept['entries'] == 1 else 's'} in the caches, "
            f"{megabytes(kept['shared'])} of which environments share; removing them would free next to nothing"
        )
    lines += [
        f"left alone: {entry['path']}, which is not this tool's: {entry['command']}" for entry in content["left_alone"]
    ]
    if content["running"]:
        lines.append(f"at work: {content['running']}; its temporary files are counted as leftovers here")
    lines += [f"could not be removed: {text}" for text in content["errors"]]
    lines.append(f"{megabytes(content['room']['free'])} are free at {content['room']['path']}")
    return "\n".join(lines) + "\n"


def _remove(disposables: Sequence[Disposable]) -> Iterator[str]:
    """Remove the disposables, caches first: on a full disk the other removals may need a little free space."""
    for item in sorted(disposables, key=lambda entry: entry.what == _UNFINISHED):
        try:
            if item.what == _UNFINISHED:
                remove_at_once(item.path)
            else:
                for path in (*item.beside, item.path):
                    remove(path)
        except TaskFailed as error:  # noqa: PERF203 - the others can still be removed
            yield error.text.replace("\n", "; ")


@contextlib.contextmanager
def _no_bootstrap(home: Path) -> Iterator[bool]:
    """Whether no bootstrap.sh is creating the tool's environment while the body runs."""
    try:
        lock = os.open(home / "bootstrap.lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # no bootstrap has made anything here
        yield False
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(lock)


def _disposables(machine: Machine) -> list[Disposable]:
    """All disposables, each path once. Call it under the lock of a run, or the work of a run is among them."""
    by_path: dict[Path, Disposable] = {}
    for disposable in _candidates(machine):
        by_path.setdefault(disposable.path, disposable)
    return list(by_path.values())


def _candidates(machine: Machine) -> Iterator[Disposable]:
    yield from _of_killed_runs(machine)
    yield from (Disposable(what=_UNFINISHED, path=path) for path in _unfinished_environments(machine))
    for folder in caches.folders(machine):
        for entry in caches.entries(folder):
            if not entry.shared:
                yield Disposable(what=_CACHE_ENTRIES[entry.kind], path=entry.path, beside=entry.beside)
    yield from _of_bundles(machine)
    yield from (Disposable(what="older log", path=path) for path in sorted((machine.home / "log").glob("*.log.[0-9]*")))
    for path in sorted((machine.home / "state").glob("*.state")):
        try:
            read_lines(str(path))
        except OSError:  # noqa: PERF203 - this version cannot read it, and a run can do without it
            yield Disposable(what="state of no use", path=path)


def _of_bundles(machine: Machine) -> Iterator[Disposable]:
    """Playbooks of bundles that are gone, and what an unfinished command has fetched or taken out for one."""
    for folder in sorted((machine.home / "bundles").glob("*")):
        bundle = opened.source_of(folder)
        if bundle is None or not bundle.exists():
            yield Disposable(what="playbook of a bundle that is gone", path=folder)
    for name in ("bundle", "bundled"):
        if (machine.cache / name).exists():
            yield Disposable(what="files for a bundle", path=machine.cache / name)


def _slots(home: Path) -> list[Disposable]:
    """The slots of the tool's own environment that are neither in use nor the last good one.

    bootstrap.sh may be creating one (bootstrap.lock).
    """
    link = home / "venv"
    kept = {os.path.realpath(path) for path in (link, home / "venv.good", sys.prefix)}
    unused = [home / name for name in _SLOTS if (home / name).is_dir() and os.path.realpath(home / name) not in kept]
    if not link.is_symlink():  # the creator of the slots is unknown
        return []
    return [Disposable(what="older environment of the tool itself", path=path) for path in unused]


def _unfinished_environments(machine: Machine) -> list[Path]:
    """Environments that a run created and no install ever completed: nobody can have worked with them."""
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

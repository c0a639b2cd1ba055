"""``nbprovision clean``: removes the tool's leftovers and unneeded caches, or lists them with ``--dry-run``."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nbprovision.cli import disposable, inventory
from nbprovision.cli.disposable import Disposable
from nbprovision.engine.guard import holder, run_lock
from nbprovision.machine import caches
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.report.activity import is_held
from nbprovision.report.colour import shown
from nbprovision.report.document import render_plain
from nbprovision.state.witness import read_lines
from nbprovision.system import disk_space
from nbprovision.system.disk_space import free_space, megabytes
from nbprovision.system.files import remove, remove_at_once
from nbprovision.system.secrets import masked

# What its owner removes, and how.
_OWN_COMMANDS = {
    "conda packages": "conda clean --all",
    "uv, started by hand": "uv cache clean",
    "uv, as this tool uses it": "uv cache clean",
    "pip": "pip cache purge",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``clean``."""
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be removed and how much that frees; remove nothing"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one document")
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Remove, or say what would be removed.

    Returns:
        0, or 2 where something could not be removed.

    """
    machine = Machine(home=options.home.absolute() if options.home else None)
    if options.dry_run or not machine.home.is_dir():
        content = _document(machine, _found(machine), dry_run=options.dry_run)
        content["running"] = str(at_work) if (at_work := _at_work(machine.home)) else None
    else:
        locked = run_lock(
            machine.home, "nbprovision clean", None, _tell, tidy=False
        )  # the output lists what is removed
        with locked, _no_bootstrap(machine.home) as alone:
            disposables = [*_found(machine), *(disposable.slots(machine.home) if alone else ())]
            content = _document(machine, disposables, dry_run=False)
            content["errors"] = list(_remove(disposables))
            content["room"]["free"] = free_space(machine.home).free
    sys.stdout.write(render_plain(masked(content)) if options.format == "json" else shown(_text(content)))
    return 2 if content["errors"] else 0


def _found(machine: Machine) -> list[Disposable]:
    states = [Disposable(what="state of no use", path=path) for path in _unreadable_states(machine.home)]
    return [*disposable.find(machine), *states]


def _document(machine: Machine, disposables: Sequence[Disposable], *, dry_run: bool) -> dict[str, Any]:
    """The output; sizes are measured before anything is removed."""
    if dry_run:
        disposables = [*disposables, *disposable.slots(machine.home)]
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
            f"{megabytes(kept['shared'])} of which environments share, so that removing them would free next to nothing"
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
    """Remove it all, caches first: on a full disk the rest may need a little room to go in one step."""
    for item in sorted(disposables, key=lambda entry: entry.what == "unfinished environment"):
        try:
            if item.what == "unfinished environment":
                remove_at_once(item.path)
            else:
                for path in (*item.beside, item.path):
                    remove(path)
        except TaskFailed as error:  # noqa: PERF203 - the others can go all the same
            yield error.text.replace("\n", "; ")


def _unreadable_states(home: Path) -> Iterator[Path]:
    """State that this version cannot read; a run checks everything with or without it."""
    for path in sorted((home / "state").glob("*.state")):
        try:
            read_lines(str(path))
        except OSError:  # noqa: PERF203 - each is to be tried
            yield path


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


def _at_work(home: Path) -> Any:
    return holder(home) if is_held(home / "lock") else None


def _tell(text: str) -> None:
    print(shown(text), file=sys.stderr, flush=True)

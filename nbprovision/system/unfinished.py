"""The mark of an environment that is being made or changed: there from its first byte until it is verified."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from nbprovision.system.files import (
    explained,
    make_folder,
    make_temporary_folder,
    remove,
    remove_if_empty,
    write_atomically,
)
from nbprovision.system.reading import read_json

MARK = ".nbprovision-unfinished"


class Unfinished(msgspec.Struct, frozen=True):
    """What was being done when the mark was set; ``made`` when the prefix did not exist before."""

    task: str
    made: bool


def mark(prefix: Path, task: str, keep: Callable[[Path], None] = lambda folder: None) -> None:
    """Mark ``prefix`` as unfinished; if it is missing, create the folder with the mark in one step.

    A prefix that is marked already keeps its mark: whether the tool made it is known only to the first one. Journals
    keep the order of what is made, so that after a failure of the power the mark is there if anything later is.

    Args:
        prefix: The environment.
        task: The kind of task that works on it.
        keep: Gets a folder that is new, before anybody else can know of it: see `system.occupied`.

    Raises:
        TaskFailed: it cannot be made or written to.

    """
    if is_marked(prefix):
        return
    with explained(f"cannot make or mark {prefix}", prefix):
        if prefix.is_dir():
            made = not any(prefix.iterdir())
            write_atomically(prefix / MARK, msgspec.json.encode(Unfinished(task, made)), durable=False)
            return
        make_folder(prefix.parent)
        nursery = make_temporary_folder(prefix)
        try:
            os.chmod(nursery, 0o755)
            keep(nursery)
            write_atomically(nursery / MARK, msgspec.json.encode(Unfinished(task, made=True)), durable=False)
            os.rename(nursery, prefix)
        except BaseException:
            with contextlib.suppress(Exception):
                remove(nursery)
            raise


def withdraw(prefix: Path) -> None:
    """Remove a mark without later work, and the folder too if it holds nothing else."""
    with contextlib.suppress(FileNotFoundError):
        if os.listdir(prefix) == [MARK]:
            clear(prefix)
            remove_if_empty(prefix)


def is_marked(prefix: Path) -> bool:
    """Whether ``prefix`` is unfinished."""
    return os.path.lexists(prefix / MARK)


def read_mark(prefix: Path) -> Unfinished | None:
    """What the mark says; a mark that cannot be read still is one, of an environment that was changed."""
    try:
        return read_json(prefix / MARK, Unfinished)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError):
        return Unfinished("unknown", made=False)


def clear(prefix: Path) -> None:
    """The environment is finished."""
    if not is_marked(prefix):  # on a read-only volume even the removal of a missing file fails
        return
    with (
        explained(f"cannot clear the mark of {prefix}", prefix),
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
    ):
        os.unlink(prefix / MARK)

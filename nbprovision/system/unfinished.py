"""The mark of an unfinished environment, from its first byte until it is verified."""

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
    """The content of a mark: the kind of task that set it, and whether that task creates the prefix."""

    task: str
    made: bool


def mark(prefix: Path, task: str, keep: Callable[[Path], None] = lambda folder: None) -> None:
    """Mark ``prefix`` as unfinished; if it is missing, create the folder with the mark in one step.

    A marked prefix keeps its mark, since only the first mark knows whether the tool created the prefix. File systems
    keep the order of writes, so after a power failure the mark exists if any later file does.

    Args:
        prefix: The environment.
        task: The kind of task that works on it.
        keep: Locks a new folder before it gets its name: see `system.occupied`.

    Raises:
        TaskFailed: the folder cannot be created or written to.

    """
    if is_marked(prefix):
        return
    with explained(f"cannot create or mark {prefix}", prefix):
        if prefix.is_dir():
            made = not any(prefix.iterdir())
            write_atomically(prefix / MARK, msgspec.json.encode(Unfinished(task, made)), durable=False)
            return
        make_folder(prefix.parent)
        temporary = make_temporary_folder(prefix)
        try:
            os.chmod(temporary, 0o755)
            keep(temporary)
            write_atomically(temporary / MARK, msgspec.json.encode(Unfinished(task, made=True)), durable=False)
            os.rename(temporary, prefix)
        except BaseException:
            with contextlib.suppress(Exception):
                remove(temporary)
            raise


def withdraw(prefix: Path) -> None:
    """Remove a mark that no work followed, and the folder too if it is empty then."""
    with contextlib.suppress(FileNotFoundError):
        if os.listdir(prefix) == [MARK]:
            clear(prefix)
            remove_if_empty(prefix)


def is_marked(prefix: Path) -> bool:
    """Whether ``prefix`` is unfinished."""
    return os.path.lexists(prefix / MARK)


def read_mark(prefix: Path) -> Unfinished | None:
    """Return the content of the mark; an unreadable one counts as that of an environment that was changed."""
    try:
        return read_json(prefix / MARK, Unfinished)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError):
        return Unfinished("unknown", made=False)


def clear(prefix: Path) -> None:
    """Remove the mark of a finished environment."""
    if not is_marked(prefix):  # on a read-only volume even the removal of a missing file fails
        return
    with (
        explained(f"cannot clear the mark of {prefix}", prefix),
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
    ):
        os.unlink(prefix / MARK)

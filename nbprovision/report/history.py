"""The last runs that had work to do, kept for ``nbprovision report``: ``runs/ID.json`` in the tool's home.

A run that ended at its witnesses is not kept: it looked at no task.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from nbprovision.model.errors import TaskFailed, UsageError
from nbprovision.model.result import Change, Result, Status
from nbprovision.report.activity import Moment
from nbprovision.system.files import make_folder, remove, write_atomically
from nbprovision.system.reading import decode, read_bytes
from nbprovision.system.secrets import masked

FOLDER = "runs"
KEPT = 20  # runs; older ones are removed
_LONGEST = 20_000  # characters of a file's content in a change
_ID = re.compile(r"\d{8}-\d{6}(-\d+)?")


class KeptTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task of a run; see `Result`.

    Attributes:
        message: The error, without its cause and cure.
        cause: Why it happened; may be empty.
        cure: What to do; may be empty.
        place: ``FILE:LINE:COLUMN`` of the task.
    """

    name: str
    task: str
    status: Status
    seconds: float
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    message: str = ""
    cause: str = ""
    cure: str = ""
    place: str = ""
    forgiven: Literal["", "ignored", "rescued"] = ""
    lasting: bool = True


class KeptRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run.

    Attributes:
        id: Its name: the time of its start (UTC), as in ``20260131-093000``.
        playbook: The playbook's absolute path.
        digest: A digest of the playbook and of all files that it is made of; empty after a run that did not read them.
        started: Seconds since the epoch.
        seconds: The duration, in seconds.
        status: ``ok``, ``changed``, ``failed`` or ``deferred``.
        check: Whether it only compared.
        counts: The number of tasks by status.
        hook: ``on-start`` or ``on-create`` in a lifecycle script.
        version: The tool's.
        left_out: The tasks that the tags leave out.
        tasks: The tasks, in the order of the playbook.
    """

    id: str = ""
    playbook: str
    digest: str
    started: Moment
    seconds: float
    status: str
    check: bool
    counts: dict[str, int]
    hook: str = ""
    version: str = ""
    left_out: tuple[str, ...] = ()
    tasks: tuple[KeptTask, ...] = ()

    @property
    def failures(self) -> list[KeptTask]:
        """The tasks by which the run failed."""
        return [task for task in self.tasks if task.status == "failed" and not task.forgiven]


def of_result(result: Result) -> KeptTask:
    """The record of a task."""
    error = result.error
    return KeptTask(
        name=result.name,
        task=result.task,
        status=result.status,
        seconds=round(result.seconds, 4),
        changes=tuple(_shortened(change) for change in result.changes),
        warnings=result.warnings,
        message="" if error is None else error.message,
        cause="" if error is None else error.cause,
        cure="" if error is None else error.cure,
        place="" if error is None or error.position is None else str(error.position),
        forgiven=result.forgiven,
        lasting=result.lasting,
    )


def keep(home: Path, run: KeptRun) -> KeptRun:
    """Keep a run, secrets masked, and remove the oldest ones.

    Args:
        home: The tool's home folder.
        run: The run, without an id.

    Returns:
        The same with its id, secrets masked.

    Raises:
        TaskFailed: the disk is full, the folder cannot be written, ...
    """
    folder = home / FOLDER
    make_folder(folder, mode=0o700)
    taken = set(_ids(home))
    base = time.strftime("%Y%m%d-%H%M%S", time.gmtime(run.started))
    own = next(name for name in _names(base) if name not in taken)
    run = msgspec.convert(masked(msgspec.to_builtins(msgspec.structs.replace(run, id=own))), KeptRun)
    write_atomically(folder / f"{own}.json", msgspec.json.encode(run) + b"\n", mode=0o600, durable=False)
    for name in _ids(home)[KEPT:]:
        with contextlib.suppress(TaskFailed):
            remove(folder / f"{name}.json")
    return run


def runs(home: Path) -> list[KeptRun]:
    """The kept runs, the newest first; a damaged record is left out."""
    return [run for name in _ids(home) if (run := _read(home, name)) is not None]


def run_of(home: Path, name: str | None) -> KeptRun:
    """The run with an id, or the last one.

    Raises:
        UsageError: it is not kept.
    """
    names = _ids(home)
    run = _read(home, name) if name in names else None if name else next(iter(runs(home)), None)
    if run is not None:
        return run
    if not names:
        raise UsageError(
            "no run is kept yet",
            cause=f"{home / FOLDER} is empty; a run that finds everything in place is not kept",
            cure="run a playbook first: nbprovision run PLAYBOOK",
        )
    raise UsageError(f"no run '{name}' is kept", cure=f"choose one of: {', '.join(names)}")


def before(run: KeptRun, kept: Sequence[KeptRun]) -> Sequence[KeptRun]:
    """Those of the kept runs, the newest first, that were before a run."""
    ids = [other.id for other in kept]
    return kept[ids.index(run.id) + 1 :] if run.id in ids else ()


def drift(run: KeptRun, earlier: Sequence[KeptRun]) -> list[KeptTask]:
    """The tasks that had to be done again although the same playbook had been carried out: something was changed since.

    Args:
        run: A run.
        earlier: The runs before it, the newest first.
    """
    before = next((other for other in earlier if other.digest == run.digest and not other.check), None)
    if before is None or not run.digest:
        return []
    held = {(task.task, task.name) for task in before.tasks if task.status in ("ok", "changed")}
    return [task for task in run.tasks if task.status == "changed" and task.lasting and (task.task, task.name) in held]


def _names(base: str) -> Iterator[str]:
    yield base
    yield from (f"{base}-{number}" for number in itertools.count(2))


def _ids(home: Path) -> list[str]:
    """The ids of the kept runs, the newest first."""
    try:
        names = [path.stem for path in (home / FOLDER).iterdir() if path.suffix == ".json"]
    except OSError:
        return []
    ids = filter(_ID.fullmatch, names)
    return sorted(ids, key=lambda name: (name[:15], int(name[16:] or 1)), reverse=True)


def _read(home: Path, name: str) -> KeptRun | None:
    try:
        return decode(msgspec.json.Decoder(KeptRun), read_bytes(home / FOLDER / f"{name}.json", follow=False))
    except (OSError, msgspec.DecodeError):
        return None


def _shortened(change: Change) -> Change:
    """The change with the beginning of long contents."""
    texts = {
        key: f"{text[:_LONGEST]}\n... ({len(text) - _LONGEST:,} characters more)\n"
        for key, text in (("before", change.before), ("after", change.after))
        if text is not None and len(text) > _LONGEST
    }
    return msgspec.structs.replace(change, **texts) if texts else change

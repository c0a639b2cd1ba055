"""``nbprovision-status.json``: the state of this machine for the extension of JupyterLab, and for other programs.

The file lies beside ``nbprovision-status.txt``, at the top of the volume of a notebook instance: the contents API of
Jupyter lists no name that begins with a dot. docs/status.schema.json describes it. Unlike the text file it exists from
the end of the first run on, as it also has to show that everything is ready.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nbprovision import __version__
from nbprovision.model.errors import NotTrusted, ProvisionError, TaskFailed
from nbprovision.model.result import Result
from nbprovision.report.activity import Activity, Moment, hook, is_held
from nbprovision.system.files import write_atomically
from nbprovision.system.reading import decode, read_bytes
from nbprovision.system.secrets import masked

FILE = "nbprovision-status.json"
PAGES = "nbprovision-report"  # the folder of the pages of runs, beside the file
_MOST = 1 << 22  # bytes

Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
State = Literal["never", "working", "background", "failed", "ready"]
TaskStatus = Literal["waiting", "running", "ok", "changed", "skipped", "failed", "deferred"]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """An error.

    Attributes:
        message: The fault.
        why: Its cause; may be empty.
        fix: The remedy; may be empty.
        task: The name of the failed task; empty if no task failed.
        place: `FILE:LINE:COLUMN` in the playbook; may be empty.

    """

    message: str
    why: str = ""
    fix: str = ""
    task: str = ""
    place: str = ""


class TaskState(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the run.

    Attributes:
        name: Its name.
        task: Its kind, such as `ensure_kernel`.
        status: Its state, or how it ended.
        text: The current step of long work; may be empty.
        done: The finished part of the work, in the unit of `text`.
        total: The whole work; 0 if unknown.
        seconds: The duration so far.
        error: The error of a failed task.

    """

    name: str
    task: str
    status: TaskStatus = "waiting"
    text: str = ""
    done: Amount = 0.0
    total: Amount = 0.0
    seconds: Amount = 0.0
    error: Fault | None = None


class Lost(msgspec.Struct, frozen=True):
    """The packages of an environment that the next stop loses.

    Attributes:
        env: The environment's name.
        packages: Names with versions, such as ``lightgbm 4.6.0``.
        command: The command that prints a playbook with them.

    """

    env: str
    packages: tuple[str, ...]
    command: str


class StatusFile(msgspec.Struct, frozen=True, kw_only=True):
    """The state of nbprovision on this machine.

    Attributes:
        format: The version of this form. Fields may be added to it; a changed meaning gets another number.
        state: `never`: no run has ended yet. `working`: a run is active. `background`: a run is active, and the start
            of the machine no longer waits for it. `failed` or `ready`: how the last run ended.
        playbook: The path of the playbook.
        hook: The lifecycle script that began the run: `on-start`, `on-create`, or empty.
        run: The id of the run for `nbprovision report`; empty during the run.
        version: The version of nbprovision.
        tasks: The tasks, in the order of the playbook.
        counts: The number of tasks by status.
        error: The first error of a failed run.
        log: The path of the log.
        report: The page of the run, relative to this file; empty if it has none.
        started: The start of the run, in seconds since the epoch.
        updated: The time of this record; an active run writes it twice a second.
        ended: The end of the run; 0 if it has not ended.
        lost: Packages installed by hand that the next stop of the machine loses.

    """

    format: Literal[1] = 1
    state: State
    playbook: str = ""
    hook: str = ""
    run: str = ""
    version: str = ""
    tasks: tuple[TaskState, ...] = ()
    counts: dict[str, Count] = {}
    error: Fault | None = None
    log: str = ""
    report: str = ""
    started: Moment = 0.0
    updated: Moment = 0.0
    ended: Moment = 0.0
    lost: tuple[Lost, ...] = ()


class RunEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a run, as far as its record does not have it.

    Attributes:
        counts: The number of tasks of each status; empty if it did not get that far.
        error: The error that ended the whole run.
        run: The id for `nbprovision report`; empty if the run is not kept.
        lost: See `StatusFile`.

    """

    counts: Mapping[str, int] = {}
    error: ProvisionError | None = None
    run: str = ""
    lost: Sequence[Lost] = ()


def fault_of(error: ProvisionError, task: str = "") -> Fault:
    """An error as the file has it."""
    place = "" if error.position is None else str(error.position)
    return Fault(message=error.message, why=error.cause, fix=error.cure, task=task, place=place)


def of_result(result: Result) -> TaskState:
    """A finished task."""
    error = None if result.error is None else fault_of(result.error, result.name)
    return TaskState(
        name=result.name, task=result.task, status=result.status, seconds=round(result.seconds, 4), error=error
    )


def of_activity(record: Activity, home: Path) -> StatusFile:
    """The state of a record, its error included; the tasks are not in it."""
    records = list(_records(record))
    failed = next((each for each in records if each.state == "failed"), None)
    active = next((each for each in records if each.state in ("running", "waiting", "installing")), None)
    behind = next((each for each in records if each.state == "background"), None)
    shown = active or behind or failed or records[0]
    return StatusFile(
        state="working" if active else "background" if behind else "failed" if failed else "ready",
        playbook=shown.playbook,
        hook=shown.hook,
        version=shown.version,
        error=Fault(message=failed.message or "the run failed", why=failed.why) if failed is shown else None,
        log=log_of(home),
        started=shown.started,
    )


def _records(record: Activity) -> Iterator[Activity]:
    """The record, and that of the other playbook of the same lifecycle script, if that ended after this one."""
    yield record
    if record.user_playbook is not None:
        yield from _records(record.user_playbook)


def log_of(home: Path) -> str:
    """The path of the log, which also names the home that a file is about."""
    return str(home / "log" / "nbprovision.log")


def at_work(record: Activity, home: Path, tasks: Iterable[TaskState]) -> StatusFile:
    """The state during a run."""
    tasks = tuple(tasks)
    counts = Counter(task.status for task in tasks)
    return msgspec.structs.replace(of_activity(record, home), tasks=tasks, counts=dict(counts))


def at_the_end(
    record: Activity, home: Path, tasks: Iterable[TaskState], end: RunEnd, failure: Fault | None
) -> StatusFile:
    """The state after a run.

    Args:
        record: The record of the run, with its end.
        home: The tool's home folder.
        tasks: The tasks of the run.
        end: The rest.
        failure: The error of the first task by which the run failed.

    """
    tasks = tuple(tasks)
    state = of_activity(record, home)
    error = state.error
    if state.state == "failed" and record.user_playbook is None and not record.why:
        error = (fault_of(end.error) if end.error is not None else failure) or error
    counts = {name: count for name, count in end.counts.items() if count} or Counter(task.status for task in tasks)
    return msgspec.structs.replace(
        state, tasks=tasks, counts=dict(counts), error=error, run=end.run, ended=time.time(), lost=tuple(end.lost)
    )


def failed(volume: Path, home: Path, playbook: str, error: ProvisionError) -> None:
    """Write that a start's playbook is invalid, unless a run is active."""
    before = read(volume, home)
    if before is None or before.state not in ("working", "background") or not is_held(home / "lock"):
        now = time.time()
        write(volume, StatusFile(
            state="failed", playbook=os.path.abspath(playbook), hook=hook(), version=__version__, error=fault_of(error),
            log=log_of(home), started=now, ended=now,
        ))  # fmt: skip


def write(volume: Path, status: StatusFile) -> None:
    """Write the file, secrets masked, if that is possible: no work depends on it."""
    status = msgspec.structs.replace(status, updated=time.time())
    content = msgspec.json.encode(masked(msgspec.to_builtins(status)))
    with contextlib.suppress(OSError, TaskFailed, NotTrusted):
        write_atomically(volume / FILE, content + b"\n", mode=0o644, durable=False)


def read(volume: Path, home: Path) -> StatusFile | None:
    """The content of the file; None if it is missing, damaged, or about another home's runs."""
    try:
        status = decode(msgspec.json.Decoder(StatusFile), read_bytes(volume / FILE, most=_MOST, follow=False))
    except (OSError, msgspec.DecodeError):
        return None
    return status if status.log == log_of(home) else None


def correct(volume: Path, home: Path, state: State, *, error: Fault | None, ended: float, lost: Sequence[Lost]) -> None:
    """Correct an outdated file, such as that of a killed run; a missing file stays missing.

    Args:
        volume: The folder of the file.
        home: The tool's home folder; a file about another home's runs is not changed.
        state: The state.
        error: The error of the last run, if it failed.
        ended: The end of the last run.
        lost: The packages that the next stop loses.

    """
    status = read(volume, home)
    if status is None or (status.state == state and status.lost == tuple(lost)):
        return
    if status.state != state:
        tasks = () if state in ("ready", "never") else tuple(map(_stopped, status.tasks))
        status = msgspec.structs.replace(
            status,
            state=state,
            tasks=tasks,
            counts=dict(Counter(task.status for task in tasks)),
            error=error,
            report="",
            ended=ended,
        )
    write(volume, msgspec.structs.replace(status, lost=tuple(lost)))


def _stopped(task: TaskState) -> TaskState:
    """A task of a killed run; the next run does it."""
    if task.status != "running":
        return task
    return msgspec.structs.replace(task, status="waiting", text="", done=0.0, total=0.0)


def with_page(volume: Path, home: Path, run: str) -> None:
    """Note that a run has a page now."""
    status = read(volume, home)
    if status is not None and run and status.run == run:
        write(volume, msgspec.structs.replace(status, report=f"{PAGES}/{run}.html"))


def restarted(home: Path) -> None:
    """After a restart that was put right without the playbook: everything is ready, and nothing can be lost yet.

    Args:
        home: The tool's home folder. The file is beside it in its usual place; platforms are not looked for here.

    """
    status = read(home.parent, home)
    if status is not None:
        now = time.time()
        ready = msgspec.structs.replace(
            status, state="ready", error=None, run="", report="", started=now, ended=now, lost=()
        )
        write(home.parent, ready)

"""The JSON document of a run, in the form of docs/reference.md."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbprovision import __version__
from nbprovision.model.errors import LockTimeout, TaskFailed
from nbprovision.model.result import Result
from nbprovision.report import activity, history
from nbprovision.report.colour import shown_json
from nbprovision.system.files import write_atomically
from nbprovision.system.log import event
from nbprovision.system.secrets import masked

_EXIT = {"failed": 2, "deferred": 7}
STATUSES = ("ok", "changed", "skipped", "failed", "deferred")


def counts(results: Sequence[Result]) -> dict[str, int]:
    """The number of results of each status as in Ansible: an ignored failure is ok, a rescued one does not count."""
    ignored, rescued = (sum(result.forgiven == why for result in results) for why in ("ignored", "rescued"))
    totals = {status: sum(result.status == status for result in results if not result.forgiven) for status in STATUSES}
    totals["ok"] += ignored
    return totals | ({"rescued": rescued} if rescued else {}) | ({"ignored": ignored} if ignored else {})


def overall(results: Sequence[Result]) -> str:
    """The status of a run: the gravest of its tasks."""
    present = {result.status for result in results if not result.forgiven}
    return next((status for status in ("failed", "deferred", "changed") if status in present), "ok")


def document(playbook: str, results: Sequence[Result], *, check: bool, seconds: float) -> dict[str, Any]:
    """The document as plain data, secrets not masked yet."""
    return {
        "playbook": playbook,
        "status": overall(results),
        "check": check,
        "seconds": round(seconds, 4),
        "counts": counts(results),
        "tasks": [result.as_json() for result in results],
    }


def exit_status(results: Sequence[Result]) -> int:
    """The exit status of a run with these results (docs/reference.md), apart from ``--exit-code``."""
    errors = [result.error for result in results if result.status == "failed"]
    if errors and all(isinstance(error, LockTimeout) for error in errors):
        return LockTimeout.exit_status
    return _EXIT.get(overall(results), 0)


def first_error(results: Sequence[Result]) -> str:
    """The first error of a run in one line; empty if it succeeded."""
    failed = (result for result in results if result.error is not None and not result.forgiven)
    return next((f"{result.task}: {result.name}: {result.error}" for result in failed), "")


def render(content: dict[str, Any]) -> str:
    """The document as text, secrets masked."""
    return render_plain(masked(content))


def render_plain(content: dict[str, Any]) -> str:
    """The document as text; its secrets are masked already."""
    return shown_json(msgspec.json.format(msgspec.json.encode(content).decode(), indent=2)) + "\n"


def leave_behind(
    home: Path,
    content: dict[str, Any],
    results: Sequence[Result],
    *,
    began: int,
    left_out: Sequence[str] = (),
    digest: str = "",
) -> history.KeptRun:
    """Write the document for `nbprovision status`, and keep the run for `nbprovision report`.

    Args:
        home: The tool's home folder.
        content: The document.
        results: The results of the tasks.
        began: When the run began, in seconds since the epoch.
        left_out: The tasks that were not chosen.
        digest: A digest of the playbook's files; empty if they were not read.

    Raises:
        TaskFailed: the disk is full, the folder cannot be written, ...

    """
    kept = history.keep(
        home,
        history.KeptRun(
            playbook=os.path.abspath(content["playbook"]),
            digest=digest,
            started=began,
            seconds=content["seconds"],
            status=content["status"],
            check=content["check"],
            counts=content["counts"],
            hook=activity.hook(),
            version=__version__,
            left_out=tuple(left_out),
            tasks=tuple(map(history.of_result, results)),
        ),
    )
    more = {"run": kept.id, "started": began, "pid": os.getpid(), "left_out": list(left_out)}
    write_atomically(home / "last-run.json", render({**content, **more}), mode=0o600)
    return kept


@contextlib.contextmanager
def if_possible(announce: Callable[[str], None], what: str) -> Iterator[None]:
    """Write something that only serves later runs, or warn: no work of this run depends on it."""
    try:
        yield
    except TaskFailed as error:
        announce(f"warning: cannot keep {what}: {error.cause}")


def log_end(content: dict[str, Any]) -> None:
    """Log the end of a run."""
    event("run", proof="check", **{key: content[key] for key in ("playbook", "status", "check", "counts", "seconds")})


class Silent:
    """A listener of a run that prints nothing: the document follows at the end."""

    def started(self, step: Any) -> None:
        """Print nothing."""

    def progressed(self, step: Any, text: str, done: float, total: float) -> None:
        """Print nothing."""

    def finished(self, step: Any, result: Result) -> None:
        """Print nothing."""

"""The report that an instance of a fleet puts into the bucket after each start: ``reports/INSTANCE.json``.

It is a hint, not a proof: instances that share a role can write each other's reports.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

FORMAT = 1
LARGEST = 256 * 1024  # bytes of a report; a larger one is broken

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Failure(msgspec.Struct, frozen=True):
    """A task that failed.

    Attributes:
        task: Its name, as in the output of a run.
        why: The message, with its cause, in one line.
        cure: What to do, in one line; may be empty.
    """

    task: str
    why: str
    cure: str = ""


class InstanceReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the last start of an instance ended.

    Attributes:
        format: The version of this record.
        instance: The name of the notebook instance.
        ring: The ring in the script that the instance runs.
        wanted: The release that the ring pointed to at this start; None if the bucket could not be asked.
        release: The release that was run; None if none was.
        fallback: The reason why another release than the wanted one was run, or why another version of nbprovision ran
            it; empty otherwise.
        tool: The version of nbprovision.
        time: The end of the start's work, in seconds since the epoch, by the instance's clock.
        status: The exit status of the start (docs/reference.md): 4 after a fallback, 7 as long as the work goes on.
        seconds: The duration of the run, in seconds.
        counts: The number of tasks by status.
        drift: The tasks that changed something although this release had succeeded on this instance before, apart from
            what each stop takes.
        failures: The tasks that failed.
        log: The last entries of the run's log after a failure, secrets masked; empty otherwise.
    """

    format: int = FORMAT
    instance: str
    ring: str
    wanted: Digest | None = None
    release: Digest | None = None
    fallback: str = ""
    tool: str
    time: float
    status: int
    seconds: float
    counts: dict[str, Count] = {}
    drift: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    log: str = ""

"""What root's part of the lifecycle script did at this start, as it left it for everybody to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from nbprovision.report.progress import moment
from nbprovision.services.root_task import REPORT
from nbprovision.system.reading import read_json


class RootResult(msgspec.Struct, frozen=True):
    """The result of one task: ``ok``, ``changed``, ``warning`` or ``failed``, and why."""

    name: str
    kind: str
    status: str
    why: str
    seconds: float


class RootReport(msgspec.Struct, frozen=True):
    """The results of a start; its time in seconds since the epoch."""

    time: float
    tasks: list[RootResult]

    @classmethod
    def read(cls, path: Path = REPORT) -> RootReport | None:
        """Return the report of this start; None if root's part has not run, or wrote something else."""
        try:
            content: Any = read_json(path, follow=False)
            return msgspec.convert(content, cls)
        except (OSError, msgspec.DecodeError):
            return None

    def lines(self) -> list[str]:
        """The report for a person: a line, and one for each task that is not as described."""
        counts = " ".join(
            f"{word}={sum(task.status == word for task in self.tasks)}"
            for word in ("ok", "changed", "warning", "failed")
        )
        wrong = [task for task in self.tasks if task.status in ("warning", "failed")]
        return [
            f"root's part of the script ({moment(self.time)}): {counts}",
            *(f"  {task.status}: {task.kind}: {task.name}: {task.why}" for task in wrong),
        ]

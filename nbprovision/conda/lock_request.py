"""What a conda task requests of a lock."""

from __future__ import annotations

from pathlib import Path

from nbprovision.model.task import LockRequest


class CondaLockRequest(LockRequest, frozen=True, kw_only=True):
    """The packages that a task requests in a conda environment.

    Attributes:
        specs: Match specs.
        channels: URLs, the preferred one first; they may contain passwords.
        cuda: The version of CUDA to solve for; None if the task does not name one.
        makes: The task creates the environment.
        source: The environment that a new one begins as a copy of.
        allowed: The task may change packages of the platform's image.

    """

    specs: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    cuda: str | None = None
    makes: bool = False
    source: Path | None = None
    allowed: bool = False

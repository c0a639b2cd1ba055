"""What a task on the configuration of indexes means for a lock."""

from __future__ import annotations

from pathlib import Path

from nbprovision.model.task import LockRequest


class IndexLockRequest(LockRequest, frozen=True, kw_only=True):
    """Configuration files as a task leaves them, which count for a lock whether the playbook has run here or not.

    Attributes:
        files: A text with the same index settings as each file will have, None for no file; they may hold passwords.

    """

    files: dict[Path, str | None]

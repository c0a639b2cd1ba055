"""What a pip task requests of a lock."""

from __future__ import annotations

from pathlib import Path

from nbprovision.model.task import LockRequest
from nbprovision.pip.requirements_files import RequirementSet


class PipLockRequest(LockRequest, frozen=True, kw_only=True):
    """The distributions that a task requests in an environment, or in a folder of its own.

    Attributes:
        wanted: The requirements, without the options of the configuration.
        environment: The environment whose Python and whose indexes count; ``prefix`` unless that is another folder.
        python: The Python that a virtual environment is created from: versions, or a path.
        version: The version of an interpreter outside of environments.
        outside: The packages are installed for such an interpreter, not into a folder of their own.
        makes: The task creates the environment.
        allowed: The task may change packages of the platform's image.

    """

    wanted: RequirementSet
    environment: Path
    python: str | None = None
    version: str | None = None
    outside: bool = False
    makes: bool = False
    allowed: bool = False

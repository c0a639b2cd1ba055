"""What the tool and the process in which py-rattler works say to one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

import msgspec


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One question to the solver.

    Attributes:
        specs: What must be there.
        keep: Specs of old, left out where they cannot be read.
        constraints: What must hold of a package if it is there.
        pinned: Names of installed packages that must not move.

    """

    specs: list[str]
    keep: list[str] = []
    constraints: list[str] = []
    pinned: list[str] = []


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is to work out: what an environment will hold.

    Attributes:
        attempts: Questions, the first that has an answer counts.
        channels: URLs, the first preferred (strictly: a package comes from the first channel that has its name).
        installed: Records in conda-meta; what they name stays as it is where it can.
        unlocked: Names of those that shall not stay as they are.
        other_builds: Installed packages of which there are builds for CUDA may get another build of their version.
        unmet: What installed packages lack (name to specs) and may go on to lack.
        variables: Environment variables for the solver, beside the machine's.

    """

    attempts: list[Attempt]
    channels: tuple[str, ...] = ()
    installed: tuple[Path, ...] = ()
    unlocked: tuple[str, ...] = ()
    other_builds: bool = False
    unmet: dict[str, list[str]] = {}
    variables: dict[str, str] = {}


class Package(msgspec.Struct, frozen=True):
    """A solved package.

    Attributes:
        url: Where its archive comes from; empty where the engine does not tell.
        order: Positive where it is newer than the installed one, negative where older.
        depends: What it needs, of a package that is not installed in this version by now.

    """

    name: str
    version: str
    build: str
    channel: str = ""
    size: int = 0
    sha256: str = ""
    md5: str = ""
    order: int = 0
    depends: list[str] = []
    url: str = ""


class SolveRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="solve"):
    """A `Query`, with what the process needs to answer it."""

    attempts: list[Attempt]
    channels: list[str]
    shown: list[str]
    installed: list[str]
    unlocked: list[str]
    repodata: str
    offline: bool
    verify: bool
    credentials: dict[str, Any]
    other_builds: bool = False
    unmet: dict[str, list[str]] = {}
    silence: float | None = None  # seconds without a byte that are too many
    retries: int = 3  # quick ones, for each file


class RehearseRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="rehearse"):
    """Fetch what was solved under a number, and link what of it is not yet in ``prefix`` into ``scratch`` instead."""

    solution: int
    prefix: str
    installed: list[str]
    scratch: str
    cache: str
    verify: bool
    silence: float | None = None
    retries: int = 3


class InstallRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="install"):
    """Bring ``prefix`` to what was solved under a number."""

    solution: int
    prefix: str
    cache: str
    reinstall: list[str]
    requested: list[str]
    verify: bool
    silence: float | None = None
    retries: int = 3


Request = Union[SolveRequest, RehearseRequest, InstallRequest]  # noqa: UP007 - msgspec.convert wants it at run time

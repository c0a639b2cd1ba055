"""What `ensure_pip_pkg` finds in an environment and plans for it: plain data."""

from __future__ import annotations

from pathlib import Path

import msgspec

from nbprovision.machine.distributions import Distribution
from nbprovision.machine.interpreters import Target
from nbprovision.model.result import Plan
from nbprovision.pip.request import Move
from nbprovision.pip.satisfied import Need


class PipState(msgspec.Struct, frozen=True, kw_only=True):
    """One environment as it stands.

    Attributes:
        target: Which.
        needs: What is not as asked for; of an awaited environment everything.
        debris: Distributions without METADATA, at which both engines stop: a killed install left them.
        moves: What the installer says it would do; None where it was not asked or cannot tell.
        told: Whether ``moves`` need not be asked for any more; see `PipPlan`.
        pins: Versions that a mend is to keep.
        constraints: Files that hold what the platform's image brought where it is.
        removable: Distributions that are there and should not be.
        conflicts: What no longer fits together since this task changed the environment.
        elsewhere: What another index than the one that is used has newer.
        managed: Its Python says that somebody else manages it.
        by_pip: pip is the engine, which would leave alone what has the right version, harmed or not.
    """

    target: Target
    needs: tuple[Need, ...] = ()
    debris: tuple[Distribution, ...] = ()
    moves: tuple[Move, ...] | None = None
    told: bool = True
    pins: tuple[str, ...] = ()
    constraints: tuple[Path, ...] = ()
    removable: tuple[Distribution, ...] = ()
    conflicts: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    managed: bool = False
    by_pip: bool = False


class PipPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the work that brings them about.

    Attributes:
        target: The environment.
        told: Whether the installer said so itself; else what it will say when it has done it counts.
        install: Whether to hand the requirements to the installer.
        reinstall: Names that the installer would take to be in place.
        pins: Versions to keep.
        constraints: See `PipState`.
        take_out: Folders of distributions to remove first, at which an installer would stop.
        replace: Names to remove first, with all their files, where the installer would not do it.
        uninstall: Names to remove.
        managed: See `PipState`.
    """

    target: Target
    told: bool = True
    install: bool = False
    reinstall: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    constraints: tuple[Path, ...] = ()
    take_out: tuple[Path, ...] = ()
    replace: tuple[str, ...] = ()
    uninstall: tuple[str, ...] = ()
    managed: bool = False

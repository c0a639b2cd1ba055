"""The state and the plan of `ensure_pip_pkg`, and their comparison: plain data only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from nbprovision.machine.distributions import Distribution
from nbprovision.machine.interpreters import Target
from nbprovision.model.result import Change, Plan
from nbprovision.pip import satisfied
from nbprovision.pip.request import Move
from nbprovision.pip.requirements import version_of
from nbprovision.pip.satisfied import Need


class PipState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one environment.

    Attributes:
        target: The environment.
        needs: Distributions that do not satisfy the requirements; all of them if the environment is yet to come.
        debris: Distributions without METADATA, left by a killed install, at which both engines fail.
        locked: The names of the needs that come from a lock file.
        moves: The changes that the installer predicts; None if it was not asked or cannot predict.
        predicted: Whether the prediction counts; see `PipPlan`.
        pins: Versions that a repair keeps.
        constraints: Files that keep the packages of the platform's image as they are.
        removable: Installed distributions to remove.
        conflicts: Conflicts between distributions since this task changed the environment.
        elsewhere: Notes about newer versions in an index that is not used.
        managed: Whether its Python is marked EXTERNALLY-MANAGED.
        by_pip: Whether pip is the engine, which ignores damage to a distribution of the right version.
    """

    target: Target
    needs: tuple[Need, ...] = ()
    debris: tuple[Distribution, ...] = ()
    locked: tuple[str, ...] = ()
    moves: tuple[Move, ...] | None = None
    predicted: bool = True
    pins: tuple[str, ...] = ()
    constraints: tuple[Path, ...] = ()
    removable: tuple[Distribution, ...] = ()
    conflicts: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    managed: bool = False
    by_pip: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """Everything that a plan warns of."""
        return tuple(dict.fromkeys((*self.conflicts, *self.elsewhere)))


class PipPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the steps that make them.

    Attributes:
        target: The environment.
        predicted: Whether ``changes`` is final. Otherwise the changes that the installer reports count.
        install: Whether the installer gets the requirements.
        locked: Names to install from the lock files, before the requirements.
        reinstall: Names that the installer would leave alone.
        pins: Versions to keep.
        constraints: See `PipState`.
        take_out: Folders of distributions to remove first, as an installer would fail at them.
        replace: Names to remove first with all their files, as the installer would not do it.
        uninstall: Names to remove.
        managed: See `PipState`.
    """

    target: Target
    predicted: bool = True
    install: bool = False
    locked: tuple[str, ...] = ()
    reinstall: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    constraints: tuple[Path, ...] = ()
    take_out: tuple[Path, ...] = ()
    replace: tuple[str, ...] = ()
    uninstall: tuple[str, ...] = ()
    managed: bool = False


def unseen(needs: Iterable[Need]) -> tuple[str, ...]:
    """The names whose faults the installer would not see."""
    return tuple(need.name for need in needs if need.reason in satisfied.UNSEEN)


def removal(state: PipState) -> PipPlan:
    """The plan of ``state: absent``.

    Only the folder of a distribution without RECORD is removed, as no engine can uninstall it.
    """
    changes = [Change("remove", need.name, kind="package") for need in state.needs]
    changes += [_removed(distribution) for distribution in state.removable]
    whole = dict.fromkeys(distribution.name for distribution in state.removable if not distribution.broken)
    return PipPlan(
        changes=tuple(changes),
        warnings=state.warnings,
        target=state.target,
        take_out=tuple(distribution.path for distribution in state.removable if distribution.broken),
        uninstall=tuple(whole),
        managed=state.managed,
    )


def install(state: PipState) -> PipPlan:
    """The plan of ``state: present`` and ``state: latest``."""
    damaged = unseen(state.needs)
    moving = {move.name for move in state.moves or ()}
    # If the installer has answered, its answer about versions counts.
    needs = [need for need in state.needs if state.moves is None or need.name in (*moving, *damaged)]
    changes = [change_of(move) for move in state.moves or ()]
    changes += [_change(need) for need in needs if need.name not in moving]
    targets = {change.target for change in changes}
    changes += [_removed(distribution) for distribution in state.debris if distribution.name not in targets]
    return PipPlan(
        changes=tuple(changes),
        warnings=state.warnings,
        target=state.target,
        predicted=state.predicted,
        install=bool({*moving, *(need.name for need in needs)}.difference(state.locked)),
        locked=state.locked,
        reinstall=damaged,
        pins=state.pins,
        constraints=state.constraints,
        take_out=tuple(distribution.path for distribution in state.debris),
        replace=damaged if state.by_pip else (),
        managed=state.managed,
    )


def _change(need: Need) -> Change:
    """The change that the installer does not predict, or was not asked about."""
    action = "install" if need.installed is None else "change" if need.reason == "version" else "reinstall"
    return Change(action, need.name, before=need.installed, after=need.expected or None, kind="package")


def _removed(distribution: Distribution) -> Change:
    return Change("remove", distribution.name, before=distribution.version, kind="package")


def change_of(move: Move) -> Change:
    """The change of a plan for a move."""
    return Change(_action(move.before, move.after), move.name, before=move.before, after=move.after, kind="package")


def _action(before: str | None, after: str | None) -> str:
    if before is None or after is None:
        return "install" if before is None else "remove"
    old, new = version_of(before), version_of(after)
    if old is None or new is None:
        return "change"
    return "reinstall" if old == new else "upgrade" if old < new else "downgrade"

"""What `ensure_pip_pkg` does about the state of an environment: a comparison of plain data."""

from __future__ import annotations

from collections.abc import Iterable

from nbprovision.model.result import Change
from nbprovision.pip import satisfied
from nbprovision.pip.request import Move
from nbprovision.pip.satisfied import Need
from nbprovision.pip.state import PipPlan, PipState


def unseen(needs: Iterable[Need]) -> tuple[str, ...]:
    """Names that the installer would take to be in place."""
    return tuple(need.name for need in needs if need.reason in satisfied.UNSEEN)


def removal(state: PipState) -> PipPlan:
    """What is taken out.

    No engine can uninstall a distribution without RECORD: all that is left of it is its folder.
    """
    changes = [Change("remove", need.name, kind="package") for need in state.needs]
    changes += [Change("remove", one.name, before=one.version, kind="package") for one in state.removable]
    broken = tuple(one for one in state.removable if one.broken)
    whole = dict.fromkeys(one.name for one in state.removable if one not in broken)
    return PipPlan(
        changes=tuple(changes),
        warnings=_warnings(state),
        target=state.target,
        take_out=tuple(one.path for one in broken),
        uninstall=tuple(whole),
        managed=state.managed,
    )


def install(state: PipState) -> PipPlan:
    """What is installed, and what the installer has to be told."""
    harmed = unseen(state.needs)
    return PipPlan(
        changes=tuple(_installs(state)),
        warnings=_warnings(state),
        target=state.target,
        told=state.told,
        install=bool(state.moves or _kept(state)),
        reinstall=harmed,
        pins=state.pins,
        constraints=state.constraints,
        take_out=tuple(one.path for one in state.debris),
        replace=harmed if state.by_pip else (),
        managed=state.managed,
    )


def _warnings(state: PipState) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*state.conflicts, *state.elsewhere)))


def _installs(state: PipState) -> list[Change]:
    """What the installer says it would do; what it cannot know, or was not asked, as far as we can tell."""
    changes = [change_of(move) for move in state.moves or ()]
    told = {change.target for change in changes}
    for need in _kept(state):
        if need.name not in told:
            action = "install" if need.installed is None else "change" if need.reason == "version" else "reinstall"
            changes.append(
                Change(action, need.name, before=need.installed, after=need.expected or None, kind="package")
            )
    told = {change.target for change in changes}
    changes += [
        Change("remove", one.name, before=one.version, kind="package") for one in state.debris if one.name not in told
    ]
    return changes


def change_of(move: Move) -> Change:
    """A move in the words of a plan."""
    return Change(_action(move.before, move.after), move.name, before=move.before, after=move.after, kind="package")


def _kept(state: PipState) -> list[Need]:
    """Needs, but for those that the installer was asked about and sees otherwise: its word on versions counts."""
    moving = {move.name for move in state.moves or ()}
    return [
        need for need in state.needs if state.moves is None or need.name in moving or need.reason in satisfied.UNSEEN
    ]


def _action(before: str | None, after: str | None) -> str:
    if before is None or after is None:
        return "install" if before is None else "remove"
    from packaging.version import InvalidVersion, Version

    try:
        old, new = Version(before), Version(after)
    except InvalidVersion:
        return "change"
    return "reinstall" if old == new else "upgrade" if old < new else "downgrade"

"""What `ensure_conda_env` finds and plans: plain data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nbprovision.conda.packages import Packages
from nbprovision.model.result import Change, Plan
from nbprovision.system import secrets

if TYPE_CHECKING:  # loaded where a file has a pip section
    from nbprovision.pip.satisfied import Need


class EnvState(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of an environment.

    Attributes:
        name: What to call it.
        there: Whether it is an environment by now.
        packages: Its conda packages.
        unregistered: The registry does not list it.
        variables: Variables of activation that are not set as wanted: before, after.
        leftovers: What a killed run left beside it.
        pip: What of the file's pip section is not there.
        notes: See `EnvironmentFile`.

    """

    name: str
    there: bool
    packages: Packages = Packages()
    unregistered: bool = False
    variables: dict[str, tuple[str | None, str]] = {}
    leftovers: tuple[Path, ...] = ()
    pip: tuple[Need, ...] = ()
    notes: tuple[str, ...] = ()


class EnvPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the state that they lead away from."""

    state: EnvState


def other_changes(state: EnvState) -> list[Change]:
    """What changes beside conda's packages: those of the pip section, variables."""
    changes = [
        Change(
            action="install" if need.there is None else "change",
            target=secrets.mask(need.name),
            before=need.there,
            after=secrets.mask(need.expected) or "any version",
            kind="package",
            channel="pip",
        )
        for need in state.pip
    ]
    return changes + [
        Change(action="set", target=f"variable {name}", before=before, after=after)
        for name, (before, after) in sorted(state.variables.items())
    ]

"""What `ensure_conda_env` finds and plans: plain data, and the comparison of packages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nbprovision.backends import rattler
from nbprovision.backends.rattler_messages import Package
from nbprovision.backends.shared_files import Shared
from nbprovision.facts.conda import CondaRecord
from nbprovision.facts.conda_health import Details
from nbprovision.facts.distributions import Distribution
from nbprovision.model.result import Change, Plan
from nbprovision.system import secrets

if TYPE_CHECKING:  # loaded where a file has a pip section
    from nbprovision.facts.satisfied import Need


class EnvState(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of an environment, and what the solver would make of it.

    Attributes:
        name: What to call it.
        there: Whether it is an environment by now.
        suspect: It was left unfinished.
        records: Packages by their records.
        installed: What the records say, by name; read only where something must be solved.
        torn: Records that cannot be true.
        missing: Specs that nothing installed satisfies.
        broken: Why a package must be put in place anew, by name.
        strays: dist-info folders that pip left in a package's place.
        unasked: Distributions of pip's that are to go, since nobody asked for them.
        shared: Files of broken packages that other environments share.
        solution: The packages to come; None where those that are there will do.
        untold: conda's history does not tell of what is installed.
        unregistered: The registry does not list it.
        cuda: What it was solved for and what it is to be solved for, where the two differ.
        variables: Variables of activation that are not set as wanted: before, after.
        leftovers: What a killed run left beside it.
        pip: What of the file's pip section is not there.

    """

    name: str
    there: bool
    suspect: bool = False
    records: tuple[CondaRecord, ...] = ()
    installed: dict[str, Details] = {}
    torn: tuple[CondaRecord, ...] = ()
    missing: tuple[str, ...] = ()
    broken: dict[str, str] = {}
    strays: tuple[Path, ...] = ()
    unasked: tuple[Distribution, ...] = ()
    shared: tuple[Shared, ...] = ()
    solution: rattler.Solution | None = None
    untold: bool = False
    unregistered: bool = False
    cuda: tuple[str | None, str] | None = None
    variables: dict[str, tuple[str | None, str]] = {}
    leftovers: tuple[Path, ...] = ()
    pip: tuple[Need, ...] = ()
    warnings: tuple[str, ...] = ()


class EnvPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the state that they lead away from."""

    state: EnvState


def package_changes(state: EnvState, solved: Iterable[Package]) -> list[Change]:
    """What of the packages comes, goes, moves or is mended."""
    changes = []
    left = dict(state.installed)
    for package in sorted(solved, key=lambda one: one.name):
        before = left.pop(package.name, None)
        channel = secrets.mask(package.channel) or None
        if package.name in state.broken and (before is None or same(before, package)):
            action, old, new = "repair", state.broken[package.name], package.version
        elif before is None:
            action, old, new = "install", None, package.version
        elif same(before, package):
            continue
        elif before.version == package.version:
            action, old, new = "change", f"{before.version} {before.build}", f"{package.version} {package.build}"
        else:
            action = "upgrade" if package.order > 0 else "downgrade"
            old, new = before.version, package.version
        changes.append(
            Change(action=action, target=package.name, before=old, after=new, kind="package", channel=channel)
        )
    changes += [
        Change(action="remove", target=name, before=gone.version, kind="package") for name, gone in sorted(left.items())
    ]
    return changes


def same(before: Details, package: Package) -> bool:
    """Whether a package is the very build that is installed."""
    if before.sha256 and package.sha256:
        return before.sha256 == package.sha256
    if before.md5 and package.md5:
        return before.md5 == package.md5
    return (before.version, before.build) == (package.version, package.build)


def other_changes(state: EnvState) -> list[Change]:
    """What changes beside the packages of the solution: other environments, pip's packages, variables."""
    changes = [Change(action="repair", target=str(one.elsewhere), before="shared the harm") for one in state.shared]
    changes += [
        Change(action="remove", target=one.name, before=one.version, kind="package", channel="pip")
        for one in state.unasked
    ]
    changes += [
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
    if state.cuda is not None:
        changes.append(Change("solve for", "CUDA", *state.cuda))
    changes += [
        Change(action="set", target=f"variable {name}", before=before, after=after)
        for name, (before, after) in sorted(state.variables.items())
    ]
    return changes


def holds(solution: rattler.Solution, details: dict[str, Details]) -> bool:
    """Whether what is installed is the solution already."""
    names = {package.name for package in solution.packages}
    return names == details.keys() and all(same(details[package.name], package) for package in solution.packages)

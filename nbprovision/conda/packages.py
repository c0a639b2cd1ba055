"""The conda packages of one environment as they stand, and what would change: plain data, and their comparison."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from nbprovision.conda.engine import Solution
from nbprovision.conda.health import Details
from nbprovision.conda.rattler_messages import Package
from nbprovision.machine import distributions
from nbprovision.machine.distributions import Distribution
from nbprovision.machine.environments import CondaRecord
from nbprovision.machine.shared_files import Shared
from nbprovision.model.result import Change
from nbprovision.model.task import Foretold
from nbprovision.system import secrets

# What can be done to the packages of an environment, and what that means.
ACTIONS = {
    "install": "a package",
    "upgrade": "to a newer version",
    "downgrade": "to an older version",
    "change": "to another build of the same version",
    "repair": "a package that was harmed, here or in an environment that shares its files",
    "remove": "a package",
    "solve for": "another version of CUDA than before",
}


class Packages(msgspec.Struct, frozen=True, kw_only=True):
    """What is there, and what the solver would make of it.

    Attributes:
        suspect: The environment was left unfinished.
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
        source: The environment that it is to begin as a copy of; the records are that one's.
        cuda: What it was solved for and what it is to be solved for, where the two differ.

    """

    suspect: bool = False
    records: tuple[CondaRecord, ...] = ()
    installed: dict[str, Details] = {}
    torn: tuple[CondaRecord, ...] = ()
    missing: tuple[str, ...] = ()
    broken: dict[str, str] = {}
    strays: tuple[Path, ...] = ()
    unasked: tuple[Distribution, ...] = ()
    shared: tuple[Shared, ...] = ()
    solution: Solution | None = None
    untold: bool = False
    source: Path | None = None
    cuda: tuple[str | None, str] | None = None
    warnings: tuple[str, ...] = ()

    def changes(self) -> list[Change]:
        """Every difference, those of the packages first."""
        changes = self._moves(self.solution.packages) if self.solution is not None else []
        changes += [Change(action="repair", target=str(one.elsewhere), before="shared the harm") for one in self.shared]
        changes += [
            Change(action="remove", target=one.name, before=one.version, kind="package", channel="pip")
            for one in self.unasked
        ]
        if self.cuda is not None:
            changes.append(Change("solve for", "CUDA", *self.cuda))
        return changes

    def foretold(self, prefix: Path) -> Foretold:
        """The environment as it will be: the packages of conda that come or stay, and of a copy all that it has."""
        if self.solution is not None:
            versions = {package.name: package.version for package in self.solution.packages}
        else:
            versions = {record.name: record.version for record in self.records}
        python = versions.get("python")
        found = {distributions.normalized(name): version for name, version in versions.items()}
        source = self.source or prefix
        before = distributions.python_version(source)
        if python is not None and before is not None and python.split(".")[:2] == before.split(".")[:2]:
            brought = distributions.installed(source)
            found = {name: several[0].version or "" for name, several in brought.items()} | found
        return Foretold(python, found)

    def _moves(self, solved: Iterable[Package]) -> list[Change]:
        """What of the packages comes, goes, moves or is mended."""
        changes = []
        left = dict(self.installed)
        for package in sorted(solved, key=lambda one: one.name):
            before = left.pop(package.name, None)
            channel = secrets.mask(package.channel) or None
            if package.name in self.broken and (before is None or same(before, package)):
                action, old, new = "repair", self.broken[package.name], package.version
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
        gone = sorted(left.items())
        return changes + [
            Change(action="remove", target=name, before=one.version, kind="package") for name, one in gone
        ]


def same(before: Details, package: Package) -> bool:
    """Whether a package is the very build that is installed."""
    if before.sha256 and package.sha256:
        return before.sha256 == package.sha256
    if before.md5 and package.md5:
        return before.md5 == package.md5
    return (before.version, before.build) == (package.version, package.build)


def holds(solution: Solution, details: dict[str, Details]) -> bool:
    """Whether what is installed is the solution already."""
    names = {package.name for package in solution.packages}
    return names == details.keys() and all(same(details[package.name], package) for package in solution.packages)

"""Compares the packages of environments."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import msgspec

from nbprovision.lock.contents import Contents, Package
from nbprovision.machine.distributions import normalized

# Versions of PEP 440 with nothing but numbers; 1.0 and 1.0.0 are equal.
_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+)*")


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A package that differs; None on the side that does not have it."""

    name: str
    before: Package | None = msgspec.field(name="from")
    after: Package | None = msgspec.field(name="to")


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """An environment on both sides.

    Attributes:
        compared: The number of packages that were compared.
        differences: Sorted by name.
    """

    compared: int
    differences: tuple[Difference, ...]


def compare(before: Contents, after: Contents) -> Comparison:
    """Compare two environments.

    Builds and digests count only if both sides have the same platform. A package by conda on one side and by pip on the
    other is a difference of its own. Python counts as a package, also that of a virtual environment.
    """
    same_platform = None in (before.platform, after.platform) or before.platform == after.platform
    pairs = _paired(before, after)
    differences = [
        Difference(name=(left or right or Package(name="")).name, before=left, after=right)
        for left, right in pairs
        if left is None or right is None or _differ(left, right, builds=same_platform)
    ]
    return Comparison(compared=len(pairs), differences=tuple(sorted(differences, key=lambda each: each.name)))


def _paired(before: Contents, after: Contents) -> list[tuple[Package | None, Package | None]]:
    """The packages of both sides that belong together; one that only one side lists has no partner.

    A list may have a name twice, so packages that are alike find each other first.
    """
    pairs: list[tuple[Package | None, Package | None]] = []
    left, right = (list({_itself(package): package for package in side.packages}.values()) for side in (before, after))
    for key in (_itself, _version, _name, _any_name):
        partners: dict[Any, list[Package]] = {}
        for package in right:
            partners.setdefault(key(package), []).append(package)
        lonely = []
        for package in left:
            waiting = partners.get(key(package))
            if waiting:
                pairs.append((package, waiting.pop(0)))
            else:
                lonely.append(package)
        left, right = lonely, [package for waiting in partners.values() for package in waiting]
    for package in left:
        partner = _provided(after, package)
        if partner is not None or after.lacks(package, before):
            pairs.append((package, partner))
    for package in right:
        partner = _provided(before, package)
        if partner is not None or before.lacks(package, after):
            pairs.append((partner, package))
    if before.own_python and after.own_python and not any(_is_python(package) for pair in pairs for package in pair):
        pairs.append((_python(before.own_python), _python(after.own_python)))
    return pairs


def _itself(package: Package) -> Hashable:
    return package.kind, package.name, package.version, package.build


def _version(package: Package) -> Hashable:
    return package.kind, package.name, package.version


def _name(package: Package) -> Hashable:
    return package.kind, package.name


def _any_name(package: Package) -> Hashable:
    """One tool's package may be the other's on the other side, under a name that differs in _ and -."""
    return normalized(package.name)


def _is_python(package: Package | None) -> bool:
    return package is not None and (package.kind, package.name) == ("conda", "python")


def _python(version: str) -> Package:
    return Package(name="python", version=version, open_version=True)  # pyvenv.cfg may have 3.12 alone


def _provided(contents: Contents, package: Package) -> Package | None:
    """The distribution that a conda package of another name brings (``torch`` of ``pytorch``), or Python itself."""
    if _is_python(package):
        return None if contents.own_python is None else _python(contents.own_python)
    version = None if package.kind == "conda" else contents.provided.get(package.name)
    return None if version is None else Package(name=package.name, kind="conda", version=version)


def _differ(left: Package, right: Package, *, builds: bool) -> bool:
    if None not in (left.kind, right.kind) and left.kind != right.kind:
        return True
    if left.version is not None and right.version is not None and not _same_version(left, right):
        return True
    if not builds or left.kind != right.kind:
        return False
    return any(
        None not in values and values[0] != values[1]
        for values in ((left.build, right.build), (left.sha256, right.sha256), (left.commit, right.commit))
    )


def _same_version(left: Package, right: Package) -> bool:
    first, second = str(left.version), str(right.version)
    if first == second:
        return True
    if (left.open_version and second.startswith(f"{first}.")) or (
        right.open_version and first.startswith(f"{second}.")
    ):
        return True
    if left.kind == "conda" == right.kind:
        return False
    if _NUMBERS.fullmatch(first) and _NUMBERS.fullmatch(second):
        return _without_zeros(first) == _without_zeros(second)
    from packaging.version import InvalidVersion, Version

    try:
        return Version(first) == Version(second)
    except InvalidVersion:
        return False


def _without_zeros(version: str) -> list[int]:
    numbers = [int(number) for number in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers

"""Packages of R as files describe them: versions, dependencies, and the records of DESCRIPTION and PACKAGES.

The format is that of Debian's control files (DCF). Names, versions and dependencies are those of "Writing R Extensions"
(https://cran.r-project.org/doc/manuals/r-release/R-exts.html#The-DESCRIPTION-file).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

NAME = re.compile(r"[A-Za-z][A-Za-z0-9.]*[A-Za-z0-9]")
VERSION = re.compile(r"[0-9]{1,18}(?:[.-][0-9]{1,18})*")
_DEPENDENCY = re.compile(r"\s*([A-Za-z][A-Za-z0-9.]*)\s*(?:\(\s*([<>=!]{1,2})\s*([0-9.-]+)\s*\)\s*)?")
_COMPARISONS: Mapping[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
# What a package needs to be loaded, and what only its build needs in addition.
_TO_LOAD = ("Depends", "Imports")
_TO_BUILD = (*_TO_LOAD, "LinkingTo")


class Dependency(NamedTuple):
    """A package that another one or a playbook names, with a comparison such as ``>=`` if a version is given."""

    name: str
    comparison: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name}{self.comparison}{self.version}"

    def allows(self, version: str) -> bool:
        """Whether it is satisfied by a version; an unknown comparison says nothing."""
        compare = _COMPARISONS.get(self.comparison)
        return compare is None or compare(numbers(version), numbers(self.version))


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A record of DESCRIPTION or PACKAGES.

    Attributes:
        name: The package.
        version: Its version.
        to_load: The packages that it needs; ``R`` is one of them if it needs a version of R.
        to_build: These, and those that only its build needs.
        priority: ``base`` for a part of R.
        built: The version of R that built it; empty in a repository.
        repository: The URL of the folder with its file, in the answer of R to a query.
        file: The name of its file there.
        md5: The MD5 of the file, if the repository has it.

    """

    name: str
    version: str
    to_load: tuple[Dependency, ...] = ()
    to_build: tuple[Dependency, ...] = ()
    priority: str = ""
    built: str = ""
    repository: str = ""
    file: str = ""
    md5: str = ""


def descriptions(text: str) -> Iterator[Description]:
    """The valid records of a text; a record without a proper name and version is left out."""
    for fields in _records(text):
        name, version = fields.get("Package", ""), fields.get("Version", "")
        if NAME.fullmatch(name) and VERSION.fullmatch(version):
            yield Description(
                name=name,
                version=version,
                to_load=tuple(_dependencies(fields, _TO_LOAD)),
                to_build=tuple(_dependencies(fields, _TO_BUILD)),
                priority=fields.get("Priority", ""),
                built=_built(fields.get("Built", "")),
                repository=fields.get("Repository", ""),
                file=fields.get("File", ""),
                md5=fields.get("MD5sum", "").lower(),
            )


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, which compare as R's ``package_version`` does: 1.10 > 1.9, 1.0-1 = 1.0.1."""
    return tuple(int(number) for number in re.split("[.-]", version) if number)


def series(version: str) -> str:
    """The first two numbers of a version of R, ``4.3``; a package is built for one of these."""
    return ".".join(map(str, numbers(version)[:2]))


def _records(text: str) -> Iterator[dict[str, str]]:
    """The fields of each record; a line that starts with a blank continues the field before it."""
    for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        fields: dict[str, str] = {}
        name = ""
        for line in block.split("\n"):
            if line[:1] in (" ", "\t"):
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
                continue
            name, _, value = line.partition(":")
            fields[name] = value.strip()
        yield fields


def _dependencies(fields: Mapping[str, str], names: tuple[str, ...]) -> Iterator[Dependency]:
    for part in ",".join(fields.get(name, "") for name in names).split(","):
        match = _DEPENDENCY.fullmatch(part)
        if match is not None:
            comparison, version = match[2] or "", match[3] or ""
            yield Dependency(match[1], comparison, version) if VERSION.fullmatch(version) else Dependency(match[1])


def _built(text: str) -> str:
    """The version of R in ``R 4.2.2; ; 2023-01-20 18:24:23 UTC; unix``."""
    version = text.partition(";")[0].removeprefix("R").strip()
    return version if VERSION.fullmatch(version) else ""

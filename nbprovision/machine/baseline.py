"""What an environment that the platform provides holds, and how far it is from what its image brought."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from nbprovision.machine import distributions
from nbprovision.machine.environments import META, installed

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Names and versions, as far as names of records and folders tell: nothing is opened.

    Attributes:
        packages: Of conda: name to ``VERSION BUILD``.
        distributions: Of Python, whoever installed them: normalised name to version.

    """

    packages: dict[str, str] = {}
    distributions: dict[str, str] = {}


class Difference(msgspec.Struct, frozen=True):
    """A package or distribution that is not what it was; None for not there."""

    kind: Literal["conda", "pip"]
    name: str
    before: str | None
    after: str | None


def content(prefix: Path) -> Content:
    """What is in ``prefix`` now."""
    return Content(
        packages={record.name: f"{record.version} {record.build}" for record in installed(prefix)},
        distributions={name: several[0].version for name, several in distributions.installed(prefix).items()},
    )


def differences(before: Content, after: Content) -> list[Difference]:
    """What has changed, sorted by name; a distribution that moved with its conda package is told once."""
    packages = list(_compared("conda", before.packages, after.packages))
    told = {distributions.normalized(one.name) for one in packages}
    moved = _compared("pip", before.distributions, after.distributions)
    return [*packages, *(one for one in moved if one.name not in told)]


def sight(prefix: Path) -> str:
    """What changes when the machine starts anew or the image under ``prefix`` is another one."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    try:
        status = os.stat(prefix / META)
    except OSError:
        return boot
    return f"{boot} {status.st_dev}:{status.st_ino}"


def _compared(
    kind: Literal["conda", "pip"], before: Mapping[str, str], after: Mapping[str, str]
) -> Iterator[Difference]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield Difference(kind, name, before.get(name), after.get(name))

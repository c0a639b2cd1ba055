"""pip's ``--target`` as a folder that is kept up to date, which pip itself does not do.

pip installs there as into nothing: it fetches all anew, leaves the old distribution's files beside the new one's, and
puts whole folders in the place of others, so that one half of a namespace package is lost
(https://pip.pypa.io/en/stable/cli/pip_install/#cmdoption-t). So it installs into a fresh folder, from which what is new
is moved over, distribution by distribution.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nbprovision.machine import distributions
from nbprovision.machine.distributions import Distribution
from nbprovision.machine.package_files import remove_distribution
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import requirements, satisfied
from nbprovision.pip.request import Move, Request, constraints_file
from nbprovision.system.files import make_folder, read_text, temporary_folder, write_atomically

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

Install = Callable[["Machine", Request, Sequence[str]], str]


def perform(machine: Machine, request: Request, location: Path, install: Install) -> None:
    """Install beside, then move over what is not there in the same version.

    Args:
        machine: The facts.
        request: What is wanted.
        location: The folder.
        install: Runs pip with more arguments.

    Raises:
        TaskFailed: with pip's own words.
    """
    with temporary_folder(machine.cache / "pip-target") as stage:
        _patiently(machine, request, location, install, ["--target", str(stage), "--no-compile"])
        there = distributions.in_folder(location)
        for name, several in distributions.in_folder(stage).items():
            old = there.get(name, [])
            if [one.version for one in old] == [several[0].version] and name not in request.reinstall:
                continue
            for one in old:
                remove_distribution(location, one.path)
            _move(several[0], stage, location)


def moves(machine: Machine, request: Request, location: Path, coming: Callable[[str], dict[str, str]],
          install: Install, report: Sequence[str]) -> list[Move]:  # fmt: skip
    """What `perform` would change.

    Args:
        machine: The facts.
        request: What is wanted.
        location: The folder.
        coming: Names and versions that a report of pip's tells.
        install: Runs pip with more arguments.
        report: Arguments that make it report and do nothing.

    Raises:
        TaskFailed: with pip's own words.
    """
    said = _patiently(machine, request, location, install, ["--target", str(location), *report])
    there = {name: several[0].version for name, several in distributions.in_folder(location).items()}
    return [
        Move(name, there.get(name), version)
        for name, version in sorted(coming(said).items())
        if there.get(name) != version or name in request.reinstall
    ]


def _patiently(machine: Machine, request: Request, location: Path, install: Install, words: Sequence[str]) -> str:
    """Run pip with what is there as constraints, as it would otherwise move all to the newest; else without."""
    kept = list(_kept(request, location))
    if kept:
        bound = (*request.constraints, constraints_file(machine, kept))
        with contextlib.suppress(TaskFailed):
            return install(machine, msgspec.structs.replace(request, constraints=bound), words)
    return install(machine, request, words)


def _kept(request: Request, location: Path) -> Iterator[str]:
    """Pins of what is there and agrees with what is asked for."""
    asked = [requirements.parse(line) for line in request.lines]
    for name, several in distributions.in_folder(location).items():
        mine = [one for one in asked if one.name == name]
        agrees = all(one.url is None and satisfied.allowed(one.specifier, several[0].version) for one in mine)
        if agrees and name not in request.upgrade and len(several) == 1:
            yield f"{name}=={several[0].version}"


def _move(one: Distribution, stage: Path, location: Path) -> None:
    """Move a distribution's files, its RECORD last: without that nobody takes it for whole."""
    record = one.path / "RECORD"
    rows = [row for row in csv.reader((read_text(record) or "").splitlines()) if row]
    # pip wrote it for lib/python, from where it moved everything up.
    rows = [[row[0].removeprefix("../../"), *row[1:]] for row in rows]
    inside = os.path.realpath(stage) + os.sep
    for name, *_ in rows:
        source = stage / name
        if not os.path.realpath(source).startswith(inside) or not os.path.lexists(source):
            continue
        if source != record:
            make_folder((location / name).parent)
            shutil.move(source, location / name)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(location / one.path.name / "RECORD", text.getvalue())

"""Packages that somebody installed by hand into the platform's environments, and the next stop of the machine loses.

The image of a notebook instance brings these environments new at each start; tasks put back only what they describe
(https://docs.aws.amazon.com/sagemaker/latest/dg/nbi-add-external.html).
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from nbprovision.machine import distributions, image
from nbprovision.machine.environments import installed
from nbprovision.machine.image import Baseline, Difference
from nbprovision.machine.machine import Machine
from nbprovision.report import history
from nbprovision.report.status_file import Lost
from nbprovision.system.reading import read_bytes, read_json

_UPTIME = Path("/proc/uptime")  # proc(5)


class _Specs(msgspec.Struct):
    """The requests in a record of conda: ``conda-meta/NAME-VERSION-BUILD.json``."""

    requested_spec: str = ""
    requested_specs: tuple[str, ...] = ()


def lost(machine: Machine) -> list[Lost]:
    """The packages that users requested in the platform's environments since the machine started.

    Packages that tasks have installed since then are not among them: the next start puts them back.
    """
    if machine.platform.kind != "notebook-instance":
        return []
    environments = []
    by_tasks = set(_names_of_tasks(machine.home))
    for environment in machine.conda.environments():
        baseline = image.known_baseline(machine, environment.prefix)
        packages: tuple[str, ...] = ()
        with contextlib.suppress(OSError):  # such as a folder of root's: no work depends on the list
            packages = _by_hand(environment.prefix, baseline, by_tasks) if baseline is not None else ()
        if packages:
            command = f"nbprovision export {shlex.quote(environment.name)}"
            environments.append(Lost(environment.name, packages, command))
    return environments


def _names_of_tasks(home: Path) -> Iterator[str]:
    """The names of the packages that the tasks of this boot have changed."""
    booted = time.time() - _seconds_since_boot()
    for run in history.runs(home):
        if not run.check and run.started + run.seconds >= booted:
            for task in run.tasks:
                yield from (distributions.normalized(each.target) for each in task.changes if each.kind == "package")


def _seconds_since_boot() -> float:
    try:
        return float(read_bytes(_UPTIME).split()[0])
    except (OSError, ValueError, IndexError):
        return time.time()


def _by_hand(prefix: Path, baseline: Baseline, by_tasks: Collection[str]) -> tuple[str, ...]:
    changes = image.differences(baseline.content, image.content(prefix))
    return tuple(
        f"{change.name} {change.after.split()[0]}"
        for change in changes
        if change.after is not None
        and change not in baseline.permitted
        and distributions.normalized(change.name) not in by_tasks
        and _is_requested(prefix, change)
    )


def _is_requested(prefix: Path, change: Difference) -> bool:
    """Whether somebody named the package; the others are there because one of these needs them."""
    if change.kind == "pip":
        return any(each.requested for each in distributions.installed(prefix).get(change.name, ()))
    for record in installed(prefix):
        if record.name == change.name:
            try:
                specs = read_json(record.path, _Specs)
            except (OSError, msgspec.DecodeError):
                return True
            return bool(specs.requested_spec or specs.requested_specs)
    return False

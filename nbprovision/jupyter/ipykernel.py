"""The ipykernel of an environment: what it says of itself, who brought it, and whether it is whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbprovision.machine import distributions, environments, kernels

LOGOS = ("logo-32x32.png", "logo-64x64.png", "logo-svg.svg")


def spec_path(prefix: Path) -> Path:
    """Where ipykernel puts the kernelspec that it brings."""
    return prefix / "share/jupyter/kernels/python3" / kernels.SPEC


def spec(prefix: Path) -> dict[str, Any]:
    """That kernelspec, or nothing; its ``metadata`` and ``kernel_protocol_version`` differ from release to release."""
    found = kernels.decoded(kernels.read_file(spec_path(prefix)))
    return found if isinstance(found, dict) else {}


def logos(site_packages: Path) -> dict[str, bytes]:
    """The pictures that ipykernel brings, by file name."""
    found = {name: kernels.read_file(site_packages / "ipykernel/resources" / name) for name in LOGOS}
    return {name: data for name, data in found.items() if data is not None}


def owned_by_conda(prefix: Path) -> bool:
    """Whether a conda package brought it, which is then the environment's own task's to mend."""
    return any(record.name == "ipykernel" for record in environments.installed(prefix))


def lacking(prefix: Path, there: Mapping[str, Sequence[distributions.Distribution]], *, torn: bool) -> tuple[str, ...]:
    """Which distributions that it needs are missing or not whole, itself among them, by looking at their files.

    What conda brought is not looked at. What lies beneath a broken distribution shows when that is mended.

    Args:
        prefix: The environment.
        there: Its distributions.
        torn: An install was killed there.

    """
    from nbprovision.pip import requirements, satisfied

    version = distributions.python_version(prefix)
    if version is None or owned_by_conda(prefix):
        return ()
    environment = requirements.marker_environment(version)
    needs = satisfied.unsatisfied([requirements.parse("ipykernel")], [], there, environment, files=True, torn=torn)
    return tuple(need.name for need in needs)

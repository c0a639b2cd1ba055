"""What is in an environment and was neither asked for nor is needed by what was: what ``exact`` removes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from nbprovision.conda.health import Details
from nbprovision.conda.specs import parse
from nbprovision.machine import distributions
from nbprovision.machine.distributions import Distribution
from nbprovision.model.task import Claim
from nbprovision.pip import requirements, satisfied


def packages(details: Mapping[str, Details], asked: Iterable[str]) -> list[str]:
    """Names of conda packages that are none of ``asked``, and that none of those needs."""
    needed: set[str] = set()
    waiting = [name for name in asked if name in details]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        specs = (parse(text) for text in details[name].depends)
        waiting += [spec.name for spec in specs if spec is not None and spec.name in details]
    return sorted(details.keys() - needed)


def by_pip(prefix: Path, claims: Iterable[Claim], owned: Collection[str]) -> list[Distribution]:
    """Distributions that pip or uv brought, and that neither a pip task nor anything that stays needs.

    What came from a path or a repository stays: a task may have asked for it without a name.

    Args:
        prefix: The environment.
        claims: What pip tasks want in it.
        owned: Normalised names of conda's packages.

    """
    found = distributions.installed(prefix)
    environment = requirements.marker_environment(distributions.python_version(prefix) or "3")
    wanted = [requirements.parse(claim.requirement) for claim in claims]
    placed = [name for name, several in found.items() if name in owned or several[0].direct_url is not None]
    needed = satisfied.needed(wanted, placed, found, environment)
    return [one for name, several in sorted(found.items()) if name not in needed for one in several]

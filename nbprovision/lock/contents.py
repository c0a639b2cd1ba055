"""The packages of an environment, wherever they are listed."""

from __future__ import annotations

from typing import Literal

import msgspec

from nbprovision.conda.exact_packages import LockedPackage
from nbprovision.conda.pixi_lock import Listed
from nbprovision.lock.places import clean
from nbprovision.machine.distributions import normalized

Scope = Literal["all", "distributions", "added", "named"]

_CONDA_CLOUD = "https://conda.anaconda.org/"


class Package(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A package as far as a list describes it.

    Attributes:
        name: The name of the conda package, or the normalised name of the distribution.
        kind: The tool that installs it; None if the list does not say.
        version: Its version; None if only its source is known.
        build: The build of a conda package, or the commit of a distribution.
        channel: The channel's name or URL, or the source of a package that has another one than a channel or index.
        sha256: The digest of a conda package's archive.
        commit: The commit of the repository that a conda package is built from.
        open_version: The version stands for all that begin with it, as ``=1.2`` in a match spec.
    """

    name: str
    kind: Literal["conda", "pip"] | None = None
    version: str | None = None
    build: str | None = None
    channel: str | None = None
    sha256: str | None = None
    commit: str | None = None
    open_version: bool = False


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """The packages of an environment.

    Attributes:
        name: Its name; None if the list has none.
        packages: The packages; pip's, if it replaced the distribution of a conda package.
        platform: The subdir of its packages, such as ``linux-64``; None if it is not known.
        own_platform: The name of the platform in the list, if that is another one, such as ``linux-64-cuda-12-4``.
        scope: The packages that are missing if they are not in the list: ``all``; ``distributions`` (those of Python,
            by any installer); ``added`` (all, unless the environment has conda packages, which the list leaves out);
            or ``named`` (none: the list has what was requested).
        provided: Distributions that a conda package of another name brings, by name with their versions.
        own_python: The version of the environment's Python, as its own files have it.
    """

    name: str | None
    packages: tuple[Package, ...]
    platform: str | None = None
    own_platform: str | None = None
    scope: Scope = "all"
    provided: dict[str, str] = {}
    own_python: str | None = None

    @property
    def platform_name(self) -> str | None:
        """The name of the platform, as the list has it."""
        return self.own_platform or self.platform

    @property
    def python(self) -> str | None:
        """The version of its Python; None if it is not known."""
        versions = (package.version for package in self.packages if (package.kind, package.name) == ("conda", "python"))
        return next(versions, self.own_python)

    @property
    def has_conda(self) -> bool:
        """Whether it has conda packages."""
        return any(package.kind == "conda" for package in self.packages)

    def lacks(self, package: Package, other: Contents) -> bool:
        """Whether a package of ``other``, which is not in this list, is missing in this environment."""
        if self.scope == "distributions":
            return package.kind != "conda" or not other.has_conda
        return self.scope == "all" or (self.scope == "added" and not other.has_conda)


def merged(conda: list[Package], pip: list[Package]) -> tuple[Package, ...]:
    """The packages of an environment, sorted; a distribution of pip replaces the conda package of its name."""
    replaced = {package.name for package in pip}
    kept = [package for package in conda if normalized(package.name) not in replaced]
    return tuple(sorted([*kept, *pip], key=lambda package: (package.name, package.kind or "")))


def of_conda(package: LockedPackage) -> Package:
    """A conda package of a list with exact packages."""
    return Package(
        name=package.name,
        kind="conda",
        version=package.version,
        build=package.build,
        channel=package.channel.removeprefix(_CONDA_CLOUD),
        sha256=package.sha256 or None,
    )


def of_listed(listed: Listed) -> Package:
    """A package of a ``pixi.lock`` that is from PyPI, or is built from its sources."""
    if listed.kind == "conda":
        return Package(
            name=listed.name,
            kind="conda",
            version=listed.version,
            build=listed.build,
            channel=clean(listed.location),
            commit=listed.commit,
        )
    is_file = listed.location.endswith((".whl", ".tar.gz", ".zip"))
    return Package(
        name=normalized(listed.name),
        kind="pip",
        version=listed.version,
        build=listed.commit,
        channel=None if is_file else clean(listed.location),
    )

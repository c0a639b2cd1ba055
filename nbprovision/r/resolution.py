"""Decides which packages have to be installed: a comparison of installed and available packages, without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from nbprovision.model.errors import TaskFailed
from nbprovision.r.description import Dependency, Description, numbers, series
from nbprovision.r.installation import Owner, Package

# Why a package stays as it is, and what to do if another version is needed.
_KEPT: Mapping[Owner, tuple[str, str]] = {
    "R": ("it is a part of R", "use an R that has it: r-base by ensure_conda_env"),
    "conda": ("conda brought it", "change it by ensure_conda_pkg: packages: [{conda}]"),
    "image": (
        "the platform's image brought it, and other packages there may need that version",
        (
            "install it into an environment of your own (ensure_conda_env with r-base), or into a library of your own: "
            "environment: {{R_LIBS_USER: FOLDER}} on the task, and the same variable for the kernels"
        ),
    ),
    "another library": ("it is in another library", "ask those who maintain that library"),
}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A package to install.

    Attributes:
        name: Its name.
        before: The installed version in the library, if there is one.
        source: The package in the repository; None while nobody has asked a repository.
        reason: Why it is installed again although its version is right.

    """

    name: str
    before: str | None = None
    source: Description | None = None
    reason: str = ""


def resolve(
    requested: Sequence[Dependency],
    installed: Mapping[str, Package],
    available: Iterable[Description] | None,
    *,
    version: str,
    latest: bool = False,
    broken: Mapping[str, str] | None = None,
) -> list[Step]:
    """Find the packages to install, each after those that it needs.

    Args:
        requested: The packages of the task.
        installed: The installed packages by name, with all that they need.
        available: The packages of the repositories; None to learn whether anything has to be installed.
        version: The version of R.
        latest: The requested packages are to have the newest version.
        broken: Installed packages that cannot be loaded, with R's reason.

    Raises:
        TaskFailed: no repository has a suitable version, or it would replace a package that must not change.

    """
    offers: dict[str, list[Description]] = {}
    for description in available or ():
        offers.setdefault(description.name, []).append(description)
    resolution = _Resolution(requested, installed, None if available is None else offers, version, latest, broken or {})
    try:
        for dependency in requested:
            resolution.add(dependency, "", frozenset())
    except RecursionError:
        raise TaskFailed(
            "the dependencies of the packages cannot be followed",
            cause="each package needs another one, hundreds of times",
            cure="check the repository in `repos`",
        ) from None
    return list(resolution.chosen.values())


class _Resolution:
    def __init__(
        self,
        requested: Sequence[Dependency],
        installed: Mapping[str, Package],
        offers: Mapping[str, list[Description]] | None,
        version: str,
        latest: bool,
        broken: Mapping[str, str],
    ) -> None:
        self._requested = {dependency.name: dependency for dependency in requested}
        self._installed, self._offers, self._version = installed, offers, version
        self._latest, self._broken = latest, broken
        self._settled: set[Dependency] = set()
        self.chosen: dict[str, Step] = {}

    def add(self, wanted: Dependency, needed_by: str, above: frozenset[str]) -> None:
        """Choose a package and all that it needs; those in ``above`` are being chosen."""
        if wanted.name == "R" or wanted.name in above or wanted in self._settled:
            return
        self._settled.add(wanted)
        previous = self.chosen.get(wanted.name)
        if previous is not None:
            if previous.source is None or wanted.allows(previous.source.version):
                return
            raise self._conflict(wanted, needed_by, previous.source.version)
        package = self._installed.get(wanted.name)
        reason = self._reason(wanted, package, requested=not needed_by)
        above |= {wanted.name}
        if package is not None and not reason:
            for dependency in package.description.to_load:
                self.add(dependency, f"{wanted.name} {package.description.version}", above)
            return
        self._refuse_kept(wanted, package, reason, needed_by)
        source = self._offer(wanted, needed_by)
        for dependency in source.to_build if source is not None else ():
            self.add(dependency, f"{wanted.name} {source.version if source else ''}".strip(), above)
        before = package.description.version if package is not None and package.owner == "" else None
        again = package is not None and source is not None and package.description.version == source.version
        self.chosen[wanted.name] = Step(name=wanted.name, before=before, source=source, reason=reason if again else "")

    def _reason(self, wanted: Dependency, package: Package | None, *, requested: bool) -> str:
        """Why the installed package does not do; empty if it does."""
        if package is None:
            return "missing"
        description = package.description
        if not wanted.allows(description.version):
            return f"{wanted} is needed"
        if package.owner == "" and series(description.built) != series(self._version):
            return f"built for R {description.built}"
        if wanted.name in self._broken:
            return f"it cannot be loaded: {self._broken[wanted.name]}"
        if self._latest and requested:
            newest = self._newest(wanted)
            if newest is not None and numbers(newest.version) > numbers(description.version):
                return f"{newest.version} is available"
        return ""

    def _refuse_kept(self, wanted: Dependency, package: Package | None, reason: str, needed_by: str) -> None:
        """Refuse to change a package of somebody else's; one in another library is only hidden by a newer one."""
        if package is None or package.owner in ("", "another library"):
            return
        cause, cure = _KEPT[package.owner]
        needs = f", which {needed_by} needs" if needed_by else ""
        raise TaskFailed(
            f"{wanted.name} {package.description.version} is not replaced by another version{needs}",
            cause=f"{reason}, but {cause}",
            cure=cure.format(conda=f"r-{wanted.name.lower()}"),
        )

    def _conflict(self, wanted: Dependency, needed_by: str, other: str) -> TaskFailed:
        return TaskFailed(
            "the requested packages are incompatible",
            cause=f"{needed_by or 'the task'} needs {wanted}, and {wanted.name} is to be {other}",
            cure=f"request another version of {wanted.name}",
        )

    def _newest(self, wanted: Dependency) -> Description | None:
        """The newest version that satisfies the request and this R."""
        both = (wanted, self._requested.get(wanted.name, wanted))
        offers = (self._offers or {}).get(wanted.name, ())
        fitting = [
            offer for offer in offers if all(each.allows(offer.version) for each in both) and not self._unmet(offer)
        ]
        return max(fitting, key=lambda offer: numbers(offer.version), default=None)

    def _unmet(self, offer: Description) -> Dependency | None:
        """What the package needs of R itself, if this R is not so."""
        needs = (needed for needed in offer.to_build if needed.name == "R")
        return next((needed for needed in needs if not needed.allows(self._version)), None)

    def _offer(self, wanted: Dependency, needed_by: str) -> Description | None:
        if self._offers is None:
            return None
        newest = self._newest(wanted)
        if newest is not None:
            return newest
        requested = self._requested.get(wanted.name, wanted)
        if requested != wanted and any(requested.allows(offer.version) for offer in self._offers.get(wanted.name, ())):
            raise self._conflict(wanted, needed_by, str(requested))
        offers = self._offers.get(wanted.name, [])
        suitable = [offer for offer in offers if wanted.allows(offer.version)]
        needs = f", which {needed_by} needs" if needed_by else ""
        message = f"no repository has the package {wanted}{needs}"
        if suitable:
            unmet = self._unmet(suitable[-1])
            raise TaskFailed(
                f"{wanted.name} {suitable[-1].version}{needs} does not work with this R",
                cause=f"it needs {unmet}, and this is R {self._version}",
                cure="use a newer R (r-base by ensure_conda_env), or a repository of the time of this R, such as "
                "https://packagemanager.posit.co/cran/2024-01-31 in `repos`",
            )
        if offers:
            has = ", ".join(sorted({offer.version for offer in offers}, key=numbers))
            raise TaskFailed(
                message,
                cause=f"it has {wanted.name} {has}; a repository of CRAN has the current version only",
                cure=f"write {wanted.name} or {wanted.name}>=VERSION, or name a repository of that time in `repos`, "
                "such as https://packagemanager.posit.co/cran/2024-01-31",
            )
        raise TaskFailed(
            message,
            cause=f"it has no package {wanted.name} for R {self._version}",
            cure="correct the name (upper and lower case count), or name in `repos` the repository that has it",
        )

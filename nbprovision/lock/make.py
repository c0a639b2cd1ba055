"""Makes a lock: conda's packages first, then the Python distributions around them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from nbprovision.conda import locking
from nbprovision.conda.locking import CondaEnvironment
from nbprovision.conda.query import LockedRecord
from nbprovision.lock import pylock, resolution
from nbprovision.lock.folder import INDEX, PIXI, Lock
from nbprovision.lock.index import Index, LockedOrigin
from nbprovision.lock.places import Places, clean
from nbprovision.lock.requests import EnvironmentRequest
from nbprovision.lock.resolution import Target
from nbprovision.machine import distributions
from nbprovision.machine.machine import Machine
from nbprovision.machine.package_names import distribution_name
from nbprovision.machine.platform import conda_subdir
from nbprovision.model.errors import ParameterError, ProvisionError, TaskFailed, nearest
from nbprovision.pip import virtual_environment
from nbprovision.system.files import read_text, temporary_folder


class Upgrade(msgspec.Struct, frozen=True, kw_only=True):
    """Which packages of an existing lock need not stay: all of them, or some by name."""

    everything: bool = False
    names: tuple[str, ...] = ()


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A new lock.

    Attributes:
        files: Its files by name.
        conda: The number of conda packages by environment, on all platforms together.
        pip: The number of distributions by environment.
        warnings: Sentences for the user.

    """

    files: dict[str, str]
    conda: dict[str, int]
    pip: dict[str, int]
    warnings: tuple[str, ...] = ()


def make(
    machine: Machine,
    requests: Sequence[EnvironmentRequest],
    folder: Path,
    platforms: Sequence[str],
    *,
    present: Lock | None = None,
    upgrade: Upgrade,
) -> Made:
    """Solve the requests of a playbook for platforms.

    Args:
        machine: The facts.
        requests: The requests.
        folder: The lock's folder.
        platforms: conda's names of the platforms.
        present: The existing lock, whose packages stay if possible.
        upgrade: Packages that need not stay.

    Raises:
        ParameterError: a package to upgrade is not in the lock.
        TaskFailed: the requested packages are incompatible, or a server cannot be reached.

    """
    places = present.places if present is not None else Places(folder.parent, machine.home, machine.user_home)
    _refuse_unknown(upgrade.names, present)
    kept = None if upgrade.everything else present
    with temporary_folder(machine.cache / "lock") as scratch:
        return _Work(machine, requests, folder, platforms, places, kept, upgrade.names, scratch).made()


def _refuse_unknown(names: Iterable[str], present: Lock | None) -> None:
    locked = _names(present) if present is not None else set()
    for name in names:
        if distributions.normalized(name) not in map(distributions.normalized, locked):
            raise ParameterError(
                "",
                f"'{name}' is not in the lock{nearest(name, locked)}",
                cause="--upgrade-package takes the name of a locked package, conda's or pip's",
                cure="correct the name; a package that the playbook requests is locked without the option",
            )


def _names(present: Lock) -> set[str]:
    names = set()
    for environment in present.environments.values():
        names |= {package.name for packages in environment.conda.values() for package in packages}
        if environment.pylock is not None:
            names |= {str(package["name"]) for package in pylock.read(environment.pylock).get("packages", [])}
    return names


class _Work:
    """The work on one lock."""

    def __init__(
        self,
        machine: Machine,
        requests: Sequence[EnvironmentRequest],
        folder: Path,
        platforms: Sequence[str],
        places: Places,
        present: Lock | None,
        upgraded: Collection[str],
        scratch: Path,
    ) -> None:
        self._machine = machine
        self._requests = requests
        self._folder = folder
        self._platforms = platforms
        self._places = places
        self._present = present
        self._upgraded = upgraded
        self._scratch = scratch
        self._records: dict[tuple[str, str], list[LockedRecord]] = {}
        self._warnings: list[str] = []

    def made(self) -> Made:
        files: dict[str, str] = {}
        self._solve_conda(files)
        origins: dict[str, LockedOrigin] = {}
        counts: dict[str, int] = {}
        for request in self._requests:
            try:
                document = self._joined(request) if request.with_pip else None
            except ProvisionError as error:
                raise error.at(request.pip_position) from None
            name = None
            if document is not None:
                name = pylock.file_name(request.name, files)
                files[name] = pylock.dump(document)
            counts[request.name] = len(document["packages"]) if document is not None else 0
            origin = msgspec.structs.asdict(request.origin(self._places))
            origins[request.name] = LockedOrigin(**origin, platforms=tuple(self._platforms_of(request)), pylock=name)
        index = Index(platforms=tuple(self._platforms), environments=origins)
        files[INDEX] = index.text()
        conda = {
            request.name: sum(len(self._records.get((request.name, platform), ())) for platform in self._platforms)
            for request in self._requests
        }
        return Made(files=files, conda=conda, pip=counts, warnings=tuple(dict.fromkeys(self._warnings)))

    def _platforms_of(self, request: EnvironmentRequest) -> list[str]:
        """The platforms of an environment: what the image of this machine brings is known for this machine only.

        Raises:
            TaskFailed: the environment belongs to another machine's image.

        """
        if request.provided is None:
            return list(self._platforms)
        if request.image is None or conda_subdir() not in self._platforms:
            raise TaskFailed(
                f"{request.name} cannot be locked on this machine",
                cause="the platform's image brings the environment, and only what tasks add to it is locked",
                cure=f"lock on a notebook instance, with --platform {conda_subdir()}",
            )
        return [conda_subdir()]

    # ------------------------------------------------------------------------------------------------------------ conda

    def _solve_conda(self, files: dict[str, str]) -> None:
        requests = [request for request in self._requests if request.specs]
        if not requests:
            return
        output = self._scratch / PIXI
        present = self._present.folder / PIXI if self._present is not None else None
        urls = {clean(url): self._places.locked(url) for request in requests for url in request.channels}
        environments = [
            CondaEnvironment(
                name=request.name,
                specs=request.specs,
                channels=request.channels,
                pins=request.pins,
                cuda=request.cuda,
                provided=request.provided,
                allowed=request.conda_allowed,
            )
            for request in requests
        ]
        platforms = [self._platforms_of(request) for request in requests]
        try:
            self._records = locking.lock(
                self._machine,
                list(zip(environments, platforms, strict=True)),
                output,
                present=present if present is not None and present.exists() else None,
                upgraded=self._upgraded,
                places={url: place for url, place in urls.items() if url != place},
            )
        except ProvisionError as error:
            failed = (request for request in requests if error.message.startswith(f"{request.name} for "))
            raise error.at(next((request.position for request in failed), None)) from None
        files[PIXI] = read_text(output) or ""

    # -------------------------------------------------------------------------------------------------------------- pip

    def _joined(self, request: EnvironmentRequest) -> pylock.Document:
        """The distributions of an environment on all platforms."""
        locked = self._present.environments.get(request.name) if self._present is not None else None
        before = pylock.read(locked.pylock) if locked is not None and locked.pylock is not None else None
        results: dict[str, pylock.Document] = {}
        pythons: dict[str, str] = {}
        for platform in self._platforms_of(request):
            target = self._target(request, platform)
            pythons[platform] = target.python
            scratch = self._scratch / f"{request.name}-{platform}"
            if before is not None and pylock.has_platform(before, platform):
                preferred: pylock.Document | None = pylock.for_platform(before, platform)
            else:  # the same versions on all platforms, if possible
                preferred = next(iter(results.values()), None)
            self._machine.progress(f"resolving {request.name} for {platform}")
            resolved = resolution.resolve(
                self._machine, request, target, scratch, preferred=preferred, upgraded=self._upgraded
            )
            results[platform] = resolved.document
            self._warnings += resolved.warnings
        return pylock.join(results, pythons, self._folder, self._places)

    def _target(self, request: EnvironmentRequest, platform: str) -> Target:
        """An environment on a platform, with what it has without pip.

        Raises:
            TaskFailed: it has no Python.

        """
        if request.kind == "folder":  # pip's --target does not look at the environment
            return Target(platform=platform, python=request.version or self._python_of(request.environment, platform))
        if request.kind == "virtual":
            return Target(platform=platform, python=self._virtual_python(request, platform))
        provided = dict(request.image.distributions) if request.image is not None else {}
        provided |= _distributions(self._records.get((request.name, platform), ()))
        return Target(
            platform=platform,
            python=self._python_of(request.prefix, platform),
            provided=provided,
            by_image=request.image is not None,
        )

    def _python_of(self, prefix: Path, platform: str) -> str:
        """The version of the Python in an environment."""
        request = next((request for request in self._requests if request.prefix == prefix), None)
        if request is not None and request.kind == "virtual":
            return self._virtual_python(request, platform)
        records = self._records.get((request.name, platform), []) if request is not None else []
        version = next((record.version for record in records if record.name == "python"), None)
        if version is None:
            place = request.provided if request is not None and request.kind == "conda" else prefix
            version = distributions.python_version(place) if place is not None else None
        if version is None:
            raise TaskFailed(
                f"{prefix.name} for {platform} has no Python, which its pip packages need",
                cause="no task requests the conda package python there",
                cure="add python to the packages of the environment",
            )
        return version

    def _virtual_python(self, request: EnvironmentRequest, platform: str) -> str:
        """The version of the Python that a virtual environment has or will have."""
        wanted = request.python
        if wanted is not None and "/" in wanted:
            path = self._machine.path(wanted)
            source = next((entry for entry in self._requests if entry.prefix in path.parents), None)
            if source is not None:
                return self._python_of(source.prefix, platform)
        present = distributions.python_version(request.prefix)
        preferred = ".".join(present.split(".")[:2]) if present is not None else ""
        return virtual_environment.choose(self._machine, wanted, preferred=preferred).version


def _distributions(records: Iterable[LockedRecord]) -> Mapping[str, str]:
    """The Python distributions in conda packages, by PyPI's names."""
    return {distribution_name(record.name): record.version for record in records if record.python}

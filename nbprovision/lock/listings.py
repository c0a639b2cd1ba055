"""Reads lists of packages that conda, pip, uv and this tool write."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.conda import environment_file, specs
from nbprovision.conda.exact_packages import LockedPackage
from nbprovision.conda.explicit_file import ExplicitFile
from nbprovision.conda.pixi_lock import PixiLock
from nbprovision.lock.contents import Contents, Package, merged, of_conda, of_listed
from nbprovision.lock.places import clean
from nbprovision.machine.distributions import normalized
from nbprovision.model.errors import InvalidPlaybook, Position
from nbprovision.pip import pylock as pip_pylock
from nbprovision.pip import requirements, requirements_files
from nbprovision.pip.requirements import PipRequirement
from nbprovision.system import secrets

if TYPE_CHECKING:
    from packaging.pylock import Package as PylockPackage

# `1.2`, `=1.2`, `==1.2`, each with a build behind it: https://docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html
_PIN = re.compile(r"(?P<operator>={0,2})\s*(?P<version>[0-9][A-Za-z0-9_.+!]*)(?:[ =]+(?P<build>[A-Za-z0-9_.+]+))?")
_PIP_PIN = re.compile(r"={2,3}(?P<version>[^*,]+)")
_COMMIT = re.compile(r"@([0-9a-f]{7,40})(?:#.*)?$")
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_PYLOCK = re.compile(r"pylock(?:\.(?P<name>[^.]+))?\.toml")
_EXPORT = "`nbprovision export --pinned ENV` names the installed versions"


class _Listed(msgspec.Struct):
    """An entry of ``conda list --json`` or ``pip list --format json``."""

    name: str
    version: str
    channel: str | None = None
    build_string: str | None = None
    platform: str | None = None


class _FactsEnvironment(msgspec.Struct):
    name: str
    prefix: str
    python: str | None = None
    packages: list[Package] | msgspec.UnsetType | None = msgspec.UNSET
    provided: dict[str, str] = {}


class _Facts(msgspec.Struct):
    """The document of ``nbprovision facts --packages --format json``."""

    environments: list[_FactsEnvironment]
    subdir: str | None = None


def pylock_name(file_name: str) -> str | None:
    """The name in ``pylock.NAME.toml``, empty for ``pylock.toml``; None for another file (PEP 751)."""
    match = _PYLOCK.fullmatch(file_name)
    return None if match is None else match["name"] or ""


def pylock(path: Path, text: str, *, python: str | None = None, platform: str | None = None) -> list[Package]:
    """The packages of a ``pylock.toml`` (PEP 751) whose markers hold in an environment.

    Args:
        path: The file, for errors.
        text: Its content.
        python: The version of the environment's Python; None for the one that runs this.
        platform: Its subdir; None for this machine's.

    Raises:
        InvalidPlaybook: it is not such a file, or a marker cannot be evaluated.
    """
    lock = pip_pylock.read(path, text)
    environment = dict(requirements.marker_environment(python or python_version()))
    if platform is not None:
        environment["platform_machine"] = "aarch64" if platform.endswith("aarch64") else "x86_64"
    packages = ((entry.version, entry.package) for entry in lock.applying(environment))
    return [
        Package(
            name=package.name,
            kind="pip",
            version=version,
            build=package.vcs.commit_id if package.vcs else None,
            channel=_origin(package),
        )
        for version, package in packages
    ]


def _origin(entry: PylockPackage) -> str | None:
    if entry.directory is not None:
        return entry.directory.path
    source = entry.vcs or entry.archive
    place = entry.index if source is None else source.url or source.path
    return None if place is None else clean(place)


def pixi(path: Path, content: bytes) -> list[Contents]:
    """The environments of a ``pixi.lock``, each for each of its platforms.

    Raises:
        InvalidPlaybook: it is not a lock file of a known version, or has an invalid entry.
    """
    lock = PixiLock(path, content)
    contents = []
    for name in lock.environments:
        for platform, subdir in lock.platforms(name).items():
            packages = [
                of_conda(package) if isinstance(package, LockedPackage) else of_listed(package)
                for package in lock.listed(name, platform)
            ]
            by_tool = ([package for package in packages if package.kind == kind] for kind in ("conda", "pip"))
            own = platform if platform != subdir else None
            contents.append(Contents(name=name, packages=merged(*by_tool), platform=subdir, own_platform=own))
    return contents


def explicit(path: Path, content: bytes) -> Contents:
    """The packages of conda's ``@EXPLICIT`` file, which ``conda list --explicit`` writes.

    Raises:
        InvalidPlaybook: a line is not the URL of a package.
    """
    file = ExplicitFile(path, content)
    packages = [package for _, package in file.listed()]
    subdirs = {package.subdir for package in packages}
    pip = [
        Package(name=normalized(name), kind="pip", version=requirements.source_version(url))
        for name, url in file.distributions
    ]
    return Contents(name=None, packages=merged(list(map(of_conda, packages)), pip), platform=_native(subdirs))


def environment_yml(path: Path, env: Mapping[str, str]) -> Contents:
    """The packages of an ``environment.yml`` whose specs name a version.

    A file in which each conda package has a build, as ``conda env export`` writes it, lists all packages; another file
    lists the requested ones.

    Raises:
        InvalidPlaybook: it is not such a file, or a package has no version.
    """
    file = environment_file.read(path)
    conda = [_conda_pin(path, spec, "`conda env export` names the installed versions") for spec in file.packages]
    pip = []
    if file.pip:
        pip = list(_pip_pins(path, environment_file.pip_section(file, env).wanted, "pip"))
    is_export = bool(conda) and all(package.build for package in conda)
    name = file.name or (os.path.basename(file.prefix) if file.prefix else None)
    return Contents(name=name, packages=merged(conda, pip), scope="all" if is_export else "named")


def requirements_txt(path: Path, env: Mapping[str, str]) -> Contents:
    """The packages of a requirements file whose lines name a version or a source.

    Raises:
        InvalidPlaybook: a line is not a requirement, or names neither; or there is none.
    """
    wanted = requirements_files.read((), [path], (), env).wanted
    if not wanted:
        cure = "write the list again: pip freeze > FILE"
        raise _wrong(path, "has no packages", "an empty list differs from nothing", cure)
    return Contents(name=None, packages=tuple(_pip_pins(path, wanted, None)), scope="added")


def json_list(path: Path, text: str) -> list[Contents]:
    """The packages in JSON of ``conda list``, ``pip list`` or ``nbprovision facts --packages``.

    Raises:
        InvalidPlaybook: it is none of these.
    """
    cure = "let `conda list --json`, `pip list --format json` or `nbprovision facts --packages --format json` write it"
    try:
        content = msgspec.json.decode(text)
        if isinstance(content, dict):
            return list(_facts(path, msgspec.convert(content, _Facts)))
        listed = msgspec.convert(content, list[_Listed])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _wrong(path, "is not a list of packages", str(error), cure) from None
    if any(entry.build_string is not None for entry in listed):
        conda = [
            Package(
                name=entry.name, kind="conda", version=entry.version, build=entry.build_string, channel=entry.channel
            )
            for entry in listed
            if entry.channel != "pypi"
        ]
        pip = [
            Package(name=normalized(entry.name), kind="pip", version=entry.version)
            for entry in listed
            if entry.channel == "pypi"
        ]
        subdirs = {str(entry.platform) for entry in listed if entry.channel != "pypi"}
        return [Contents(name=None, packages=merged(conda, pip), platform=_native(subdirs))]
    packages = [Package(name=normalized(entry.name), version=entry.version) for entry in listed]
    return [Contents(name=None, packages=merged([], packages), scope="distributions")]


def _facts(path: Path, facts: _Facts) -> Iterator[Contents]:
    names: set[str] = set()
    for environment in facts.environments:
        if environment.packages is None:  # nobody could read it
            continue
        if environment.packages is msgspec.UNSET:
            raise _wrong(
                path,
                "has no packages",
                "it was written without `--packages`",
                "write it by `nbprovision facts --packages --format json`",
            )
        name = environment.name if environment.name not in names else environment.prefix
        names.add(name)
        yield Contents(
            name=name,
            packages=tuple(environment.packages),
            platform=facts.subdir,
            provided=environment.provided,
            own_python=environment.python,
        )


def exported_playbook(path: Path, plays: Iterable[Any]) -> list[Contents]:
    """The packages of a playbook that ``nbprovision export --pinned`` wrote: those that were requested.

    Raises:
        InvalidPlaybook: a package has no version.
    """
    conda: dict[str, list[Package]] = {}
    pip: dict[str, list[Package]] = {}
    for kind, parameters in _tasks(plays):
        reference = next((str(parameters[key]) for key in ("name", "prefix", "path", "env") if key in parameters), "")
        name = os.path.basename(reference)
        packages = [str(entry) for entry in _list(parameters.get("packages"))]
        if kind in ("ensure_conda_env", "ensure_conda_pkg"):
            conda.setdefault(name, []).extend(_conda_pin(path, spec, _EXPORT) for spec in packages)
        elif kind in ("ensure_pip_pkg", "ensure_venv"):
            wanted = [requirements.parse(text, base=path.parent) for text in packages]
            pip.setdefault(name, []).extend(_pip_pins(path, wanted, "pip", _EXPORT))
    return [
        Contents(name=name, packages=merged(conda.get(name, []), pip.get(name, [])), scope="named")
        for name in dict.fromkeys([*conda, *pip])
    ]


def _tasks(plays: Iterable[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for play in plays:
        for task in _list(play.get("tasks") if isinstance(play, dict) else None):
            for kind, parameters in task.items() if isinstance(task, dict) else ():
                if isinstance(parameters, dict):
                    yield str(kind), parameters


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _conda_pin(path: Path, text: str, cure: str) -> Package:
    spec = specs.parse(text)
    pin = _PIN.fullmatch(spec.rest) if spec is not None else None
    if spec is None or pin is None:
        raise _wrong(
            path, f"names no version of '{secrets.mask(text[:80])}'", "only exact packages can be compared", cure
        )
    return Package(
        name=spec.name,
        kind="conda",
        version=pin["version"],
        build=pin["build"],
        channel=spec.channel,
        open_version=pin["operator"] != "==" and pin["build"] is None,
    )


def _pip_pins(
    path: Path, wanted: Iterable[PipRequirement], kind: Any, cure: str = "`pip freeze` names the installed versions"
) -> Iterator[Package]:
    environment = requirements.marker_environment(python_version())
    for requirement in wanted:
        pin = _PIP_PIN.fullmatch(requirement.specifier)
        if requirement.name is None or (pin is None and requirement.url is None):
            what = "has no name" if requirement.name is None else "names no version"
            raise InvalidPlaybook(
                f"'{requirement.shown[:80]}' {what}",
                cause="only exact packages can be compared",
                cure=cure,
                position=requirement.position or Position(str(path), 1, 1),
            )
        if requirements.applies(requirement, environment):
            url = requirement.url
            commit = _COMMIT.search(url or "")
            yield Package(
                name=requirement.name,
                kind=kind,
                version=pin["version"].strip() if pin else requirements.source_version(url or ""),
                build=commit[1] if commit else None,
                channel=None if url is None else requirements.without_credentials(url),
            )


def _native(subdirs: set[str]) -> str | None:
    """The platform of packages; None if all are ``noarch``."""
    return next(iter(sorted(subdirs - {"noarch", "None"})), None)


def _wrong(path: Path, what: str, cause: str, cure: str, line: int = 1) -> InvalidPlaybook:
    return InvalidPlaybook(f"{path} {what}", cause=cause, cure=cure, position=Position(str(path), line, 1))

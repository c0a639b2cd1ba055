"""Reads ``pixi.lock``, in versions 6 and 7 of the format: the exact packages of environments on platforms.

The format is that of rattler_lock: https://github.com/conda/rattler/tree/main/crates/rattler_lock. A package has only
the fields that its URL does not show; the rules for the others are in ``utils/derived_fields.rs`` there.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from nbprovision.conda.exact_packages import LockedPackage
from nbprovision.conda.package_urls import (
    Location,
    channels_with_credentials,
    is_archive,
    is_file_name,
    located,
    on_platform,
    take_credentials,
)
from nbprovision.model.errors import InvalidPlaybook, Position
from nbprovision.system import lined_yaml, merge_conflict
from nbprovision.system.lined_yaml import Mapping
from nbprovision.system.secrets import mask
from nbprovision.system.yaml_document import NoYaml

VERSIONS = (6, 7)
DEFAULT = "default"
_VERSION = re.compile(rb"^version:[ \t]*(\d{1,4})[ \t\r]*$", re.MULTILINE)
_KEYS = re.compile(rb"^(?:environments|packages):", re.MULTILINE)
_SHA256, _MD5 = re.compile("(?:[0-9a-f]{64})?"), re.compile("(?:[0-9a-f]{32})?")
_RELOCK = "run `pixi lock` with a current pixi, or `nbprovision lock`"
_ARCHIVE, _SOURCES, _PYPI = _KINDS = ("conda", "conda_source", "pypi")  # version 6 has `conda` for sources too
# Version 7 names sources `NAME[HASH] @ LOCATION`.
_IDENTIFIER = re.compile(r"(?P<name>[^\s\[\]@]+)\[[^\s\[\]]*\] @ (?P<location>.+)")
_COMMIT = re.compile(r"#([0-9a-f]{7,64})$")
# Packages of the same sources differ by one of these.
_SELECTING = ("name", "version", "build", "subdir")

_Number = Annotated[int, msgspec.Meta(ge=0, le=10**14)]  # times are milliseconds since the epoch


class _Package(msgspec.Struct, frozen=True):
    """An entry of ``packages``."""

    name: str | None = None
    version: str | None = None
    build: str | None = None
    build_number: _Number | None = None
    subdir: str | None = None
    noarch: str | None = None
    sha256: str = ""
    md5: str = ""
    depends: list[str] = []
    constrains: list[str] = []
    channel: str | None = None
    features: str | None = None
    track_features: list[str] = []
    license: str | None = None
    license_family: str | None = None
    size: _Number | None = None
    timestamp: _Number | None = None
    python_site_packages_path: str | None = None


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A package from PyPI, or one that conda builds from its sources, as far as a lock file describes it.

    Attributes:
        kind: The tool that installs it.
        name: Its name.
        version: Its version; None if its sources decide.
        build: The build of a conda package; None if its sources decide.
        location: The URL or path of its archive or sources. It may contain a password.
        commit: The commit of the repository with its sources.

    """

    kind: Literal["conda", "pip"]
    name: str
    version: str | None
    build: str | None
    location: str
    commit: str | None


class PixiLock:
    """A lock file.

    Args:
        path: The file.
        content: Its content.

    Raises:
        InvalidPlaybook: it is not YAML, or has another format; with the position in the file.

    """

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        self._chosen: dict[tuple[str, str], tuple[LockedPackage, ...]] = {}
        version = _version(content)
        if version is None:
            raise self._wrong(
                1,
                "is not a pixi.lock",
                cause="it has no line such as `version: 6`",
                cure="name a lock file of pixi or `nbprovision lock`; of a uv.lock, "
                "`uv export --format pylock.toml` makes a file that can be read",
            )
        if int(version) not in VERSIONS:
            raise self._wrong(
                1,
                f"has version {int(version)} of the format of pixi.lock",
                cause=f"nbprovision reads versions {' and '.join(map(str, VERSIONS))}",
                cure=_RELOCK,
            )
        try:
            document = lined_yaml.load(content)
        except NoYaml as error:
            conflict = merge_conflict.line(content)
            if conflict is not None:
                raise self._wrong(
                    conflict, "is not YAML", cause=merge_conflict.CAUSE, cure=merge_conflict.CURE
                ) from error
            raise self._wrong(error.line, "is not YAML", cause=str(error), cure=_RELOCK) from error
        self._environments: dict[str, Mapping] = {
            str(name): self._mapping(entry, f"the environment '{name}'")
            for name, entry in self._mapping(document.get("environments"), "`environments`").items()
        }
        self._subdirs = {
            str(entry.get("name")): str(entry.get("subdir") or entry.get("name"))
            for entry in self._mappings(document.get("platforms"), "`platforms`")
        }
        self._entries: dict[tuple[str, str], list[Mapping]] = {}  # by kind and location
        for entry in self._mappings(document.get("packages"), "`packages`"):
            for kind in _KINDS:
                if isinstance(entry.get(kind), str):
                    self._entries.setdefault((kind, entry[kind]), []).append(entry)

    @property
    def environments(self) -> tuple[str, ...]:
        """The names of its environments."""
        return tuple(self._environments)

    @property
    def credentials(self) -> tuple[str, ...]:
        """The channels whose credentials somebody put into it."""
        return channels_with_credentials(location for kind, location in self._entries if kind == _ARCHIVE)

    def subdirs(self, name: str) -> tuple[str, ...]:
        """Conda's names of the platforms that an environment has packages for."""
        return tuple(dict.fromkeys(self.platforms(name).values()))

    def platforms(self, name: str) -> dict[str, str]:
        """The platforms that an environment has packages for: the names in the file, each with conda's name."""
        return {platform: self._subdirs.get(platform, platform) for platform in self._by_platform(name)}

    def packages(self, name: str, subdir: str) -> tuple[LockedPackage, ...]:
        """The conda packages of an environment on a platform.

        Args:
            name: The environment's name; if the file has no environment of that name, its ``default`` counts.
            subdir: conda's name of the platform.

        Raises:
            InvalidPlaybook: the file has no such environment, no packages for the platform, or an invalid entry.

        """
        key = (name, subdir)
        if key not in self._chosen:
            self._chosen[key] = self._packages(name, subdir)
        return self._chosen[key]

    def listed(self, name: str, platform: str) -> Iterator[LockedPackage | Listed]:
        """The packages of an environment on a platform, whether this machine can install them or not.

        Args:
            name: The environment's name.
            platform: The file's name of the platform.

        Raises:
            InvalidPlaybook: the file has an invalid entry.

        """
        for selector in self._selectors(name, platform):
            entry = self._described(selector)
            if _PYPI in selector:
                yield self._source(entry, "pip", str(entry.get("name") or ""), str(entry[_PYPI]))
            elif (identifier := _IDENTIFIER.fullmatch(str(entry.get(_SOURCES)))) is not None:
                yield self._source(entry, "conda", identifier["name"], identifier["location"])
            elif is_archive(location := str(entry.get(_ARCHIVE))):
                yield self._package(entry)
            else:
                yield self._source(entry, "conda", str(entry.get("name") or ""), location)

    def from_pypi(self, name: str, subdir: str) -> tuple[str, ...]:
        """The locations of the packages from PyPI, which are not conda packages."""
        _, entries = self._selected(name, subdir)
        return tuple(str(entry[_PYPI]) for entry in entries if _PYPI in entry)

    def _packages(self, name: str, subdir: str) -> tuple[LockedPackage, ...]:
        chosen, entries = self._selected(name, subdir)
        packages: dict[str, LockedPackage] = {}
        for entry in entries:
            if _PYPI in entry:
                continue
            described = self._described(entry)
            package = self._package(described)
            self._require_installable(described.line, package, subdir)
            if package.name in packages:
                raise self._wrong(
                    entry.line, f"has two packages '{package.name}' in the environment '{chosen}'", cure=_RELOCK
                )
            packages[package.name] = package
        if not packages:
            raise self._wrong(
                self._environments[chosen].line,
                f"has no conda packages in the environment '{chosen}' for {subdir}",
                cause="all its packages are from PyPI" if entries else "it has no packages there",
                cure="create it by ensure_venv"
                if entries
                else f"name another environment of the file: {self._names()}",
            )
        return tuple(packages.values())

    def _selected(self, name: str, subdir: str) -> tuple[str, list[Mapping]]:
        """The environment that counts, and its entries on the platform."""
        chosen = name if name in self._environments else DEFAULT
        if chosen not in self._environments:
            raise self._wrong(
                1,
                f"has no environment '{name}', and no `{DEFAULT}`",
                cause=f"it has {self._names()}" if self._environments else "it has none",
                cure="name the task's environment as one of them" if self._environments else _RELOCK,
            )
        environment = self._environments[chosen]
        platforms = self._by_platform(chosen)
        names = [platform for platform in platforms if self._subdirs.get(platform, platform) == subdir]
        if not names:
            others = ", ".join(map(str, platforms)) or "no platform"
            raise self._wrong(
                environment.line,
                f"has no packages of the environment '{chosen}' for {subdir}, which this machine is",
                cause=f"it is for {others}",
                cure=f"add {subdir} to the platforms of the project and lock it again",
            )
        platform = subdir if subdir in names else names[0]
        if len(names) > 1 and platform != subdir:
            raise self._wrong(
                environment.line,
                f"has several platforms for {subdir}: {', '.join(names)}",
                cure=f"name one of them {subdir}",
            )
        return chosen, self._selectors(chosen, platform)

    def _by_platform(self, name: str) -> Mapping:
        environment = self._environments[name]
        return self._mapping(environment.get("packages"), f"`packages` of '{name}'", environment)

    def _selectors(self, name: str, platform: str) -> list[Mapping]:
        """The entries of an environment on a platform, each of which selects a package."""
        return list(self._mappings(self._by_platform(name)[platform], f"'{platform}'", self._environments[name]))

    def _names(self) -> str:
        return ", ".join(self._environments)

    def _kind(self, selector: Mapping) -> str:
        kind = next((kind for kind in _KINDS if isinstance(selector.get(kind), str)), None)
        if kind is None:
            key = next(iter(selector), "")
            raise self._wrong(selector.line, f"has an entry '{key}' where `conda` or `pypi` is expected", cure=_RELOCK)
        return kind

    def _described(self, selector: Mapping) -> Mapping:
        """The description of a selected package."""
        kind = self._kind(selector)
        selecting = [(key, selector[key]) for key in _SELECTING if selector.get(key) is not None]
        for entry in self._entries.get((kind, selector[kind]), ()):
            if all(entry.get(key) == value for key, value in selecting):
                return entry
        raise self._wrong(selector.line, f"does not describe {mask(selector[kind])} under `packages`", cure=_RELOCK)

    def _source(self, entry: Mapping, kind: Literal["conda", "pip"], name: str, location: str) -> Listed:
        if not name:
            raise self._wrong(entry.line, f"has no name of {mask(location)}", cure=_RELOCK)
        version, build = (None if entry.get(key) is None else str(entry[key]) for key in ("version", "build"))
        pinned = entry.get("package_build_source")  # where the sources lie if the location has only their recipe
        commit = pinned.get("rev") if isinstance(pinned, Mapping) else None
        match = _COMMIT.search(location)
        return Listed(
            kind=kind,
            name=name.lower(),
            version=version,
            build=build,
            location=location,
            commit=str(commit) if commit is not None else match[1] if match is not None else None,
        )

    def _package(self, entry: Mapping) -> LockedPackage:
        """A package that is fetched, by its description."""
        if _ARCHIVE not in entry:
            raise self._no_archive(entry.line, str(entry[_SOURCES]), "it is built from sources")
        place = str(entry[_ARCHIVE])
        try:
            location = located(place, self._path)
        except ValueError as error:
            raise self._no_archive(entry.line, place, str(error)) from None
        try:
            fields = msgspec.convert(entry, _Package, strict=False)
        except msgspec.ValidationError as error:
            raise self._wrong(
                entry.line, f"has an invalid entry for {mask(place)}", cause=str(error), cure=_RELOCK
            ) from None
        package = _completed(location, fields)
        if not is_file_name(package.stem):
            raise self._wrong(
                entry.line, f"has a path as a name, version or build of {mask(place)}", cure="do not trust the file"
            )
        return package

    def _no_archive(self, line: int, place: str, cause: str) -> InvalidPlaybook:
        return self._wrong(
            line,
            f"has a package that is not an archive: {mask(place)}",
            cause=cause,
            cure="build a package from sources first, and put it into a channel",
        )

    def _require_installable(self, line: int, package: LockedPackage, subdir: str) -> None:
        if not (_SHA256.fullmatch(package.sha256) and _MD5.fullmatch(package.md5) and package.sha256 + package.md5):
            raise self._wrong(
                line,
                f"has no valid hash of {package.file_name}",
                cause="a fetched package can only be verified by its hash",
                cure=_RELOCK,
            )
        if not on_platform(package.subdir, subdir):
            raise self._wrong(
                line,
                f"has a package for another platform: {package.file_name} is for {package.subdir}",
                cause=f"this machine is {subdir}",
                cure=_RELOCK,
            )

    def _mapping(self, value: Any, what: str, around: Mapping | None = None) -> Mapping:
        if not isinstance(value, Mapping):
            raise self._wrong(around.line if around is not None else 1, f"has no mapping in {what}", cure=_RELOCK)
        return value

    def _mappings(self, value: Any, what: str, around: Mapping | None = None) -> Iterator[Mapping]:
        if value is not None and not isinstance(value, list):
            raise self._wrong(around.line if around is not None else 1, f"has no list in {what}", cure=_RELOCK)
        for entry in value or ():
            yield self._mapping(entry, f"an entry of {what}", around)

    def _wrong(self, line: int, what: str, cause: str = "", cure: str = "") -> InvalidPlaybook:
        position = Position(str(self._path), line, 1)
        return InvalidPlaybook(f"{self._path} {what}", cause=cause, cure=cure, position=position)


def is_lock(content: bytes) -> bool:
    """Whether a file is a lock file of pixi, by three of its keys."""
    return _version(content) is not None and len(set(_KEYS.findall(content))) == 2


def _version(content: bytes) -> bytes | None:
    match = _VERSION.search(content.removeprefix(codecs.BOM_UTF8))
    return match[1] if match is not None else None


def _completed(location: Location, fields: _Package) -> LockedPackage:
    """The package, with the fields that its URL shows."""
    build = fields.build or location.build
    number = re.search(r"(?:^|[^0-9])([0-9]{1,14})$", build)
    subdir = fields.subdir or location.subdir
    noarch = fields.noarch
    if noarch is None and subdir == "noarch":
        noarch = "python" if "py" in location.build else "generic"
    return LockedPackage(
        name=(fields.name or location.name).lower(),
        version=fields.version or location.version,
        build=build,
        subdir=subdir,
        url=location.url,
        channel=take_credentials(fields.channel)[0] if fields.channel else location.channel,
        sha256=fields.sha256.lower(),
        md5=fields.md5.lower(),
        size=fields.size or 0,
        build_number=fields.build_number if fields.build_number is not None else int(number[1]) if number else 0,
        noarch=noarch,
        depends=fields.depends,
        constrains=fields.constrains,
        track_features=fields.track_features,
        features=fields.features,
        license=fields.license,
        license_family=fields.license_family,
        timestamp=fields.timestamp,
        python_site_packages_path=fields.python_site_packages_path,
    )

"""Read a lock file of pip and uv (``pylock.toml``), and select what it has for one Python on this machine.

Source: PEP 751, kept up to date at https://packaging.python.org/en/latest/specifications/pylock-toml/. The library
`packaging` reads and validates such a file. Its own selection looks for a wheel of every package, and so fails at a
package that is installed already; and its errors have no line. So this module follows the same steps one by one.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import msgspec

from nbprovision.model.errors import Blocked, InvalidPlaybook, Position, TaskFailed
from nbprovision.pip import requirements
from nbprovision.pip.requirements import DIGITS, PipRequirement
from nbprovision.system import merge_conflict, secrets, toml_document
from nbprovision.system.toml_document import NoToml

if TYPE_CHECKING:
    from packaging.pylock import Package, PackageArchive, PackageSdist, PackageWheel, Pylock
    from packaging.tags import Tag

_NAME = re.compile(r"pylock(\.[^.]+)?\.toml")
_HEADER = re.compile(r"^\s*\[\[\s*packages\s*\]\]")
_INDEX = re.compile(r"packages\[(\d+)\]")
_VCS = ("git", "hg", "svn", "bzr")
_REVISION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.:+_-]*")
_MOST_NAMED = 4  # files of a package that an error names
_AGAIN = "`uv pip compile --format pylock.toml`, `uv export --format pylock.toml` and `pip lock` write such files"


class LockedPackage(msgspec.Struct, frozen=True, kw_only=True):
    """A package of a lock file.

    Attributes:
        requirement: The same as a requirement: the exact version, or the repository, archive or folder.
        package: The entry with all files that the lock has for it, or with the chosen one only; see `fitting`.
        base: The folder of the lock, from which relative paths start.
        position: Its place in the lock.
    """

    requirement: PipRequirement
    package: Package
    base: Path
    position: Position

    @property
    def name(self) -> str:
        """Normalised."""
        return str(self.package.name)

    @property
    def version(self) -> str | None:
        """None for a source whose version only a build shows."""
        return _version(self.package)

    @property
    def files(self) -> tuple[PackageWheel | PackageSdist | PackageArchive, ...]:
        """Its files with digests: wheels, source distribution, archive."""
        package = self.package
        others = (package.sdist, package.archive)
        return (*(package.wheels or ()), *(file for file in others if file is not None))

    @property
    def hashes(self) -> tuple[str, ...]:
        """``algorithm:digest`` of its files."""
        return tuple(digest for file in self.files for digest in _digests(file.hashes))

    @property
    def is_built(self) -> bool:
        """Whether an installer builds it, by whatever its build backend requires."""
        return not self.package.wheels

    def local(self, file: PackageWheel | PackageSdist | PackageArchive) -> Path | None:
        """The path of a file on this machine, if the lock has one."""
        if file.path:
            return path_of(file.path, self.base)
        parts = urlsplit(file.url or "")
        return Path(unquote(parts.path)) if parts.scheme == "file" else None


class Lock(NamedTuple):
    """A lock file.

    Attributes:
        path: The file.
        pylock: Its content, validated.
        packages: Its packages for every environment, in its order.
        requires_at: The place of ``requires-python``.
    """

    path: Path
    pylock: Pylock
    packages: tuple[LockedPackage, ...]
    requires_at: Position

    def applying(self, environment: Mapping[str, str]) -> Iterator[LockedPackage]:
        """The packages whose marker holds, with no extra and the default groups, as PEP 751 says.

        Args:
            environment: The values of markers in the target, see `requirements.marker_environment`.

        Raises:
            InvalidPlaybook: a marker compares what cannot be compared.
        """
        groups = frozenset(self.pylock.default_groups or ())
        values: dict[str, str | frozenset[str]] = {
            **environment,
            "extras": frozenset[str](),
            "dependency_groups": groups,
        }
        for entry in self.packages:
            marker = entry.package.marker
            try:
                if marker is None or marker.evaluate(values, context="lock_file"):
                    yield entry
            except (ValueError, TypeError, KeyError) as error:
                raise InvalidPlaybook(
                    f"the marker of {entry.name} cannot be evaluated: {marker}",
                    cause=str(error),
                    cure=f"make the lock again: {_AGAIN}",
                    position=entry.position,
                ) from error

    def select(self, environment: Mapping[str, str]) -> tuple[LockedPackage, ...]:
        """The packages for an environment.

        Raises:
            TaskFailed: the lock is not for this Python or platform.
            InvalidPlaybook: it has two versions of a package for this environment.
        """
        python = environment["python_full_version"]
        self._check_environment(environment)
        selected: dict[str, LockedPackage] = {}
        for entry in self.applying(environment):
            supported = entry.package.requires_python
            if supported is not None and not supported.contains(python, prereleases=True):
                raise TaskFailed(
                    f"the locked {entry.name} {entry.version or ''}".rstrip() + f" does not support Python {python}",
                    cause=f"its requires-python is {supported}",
                    cure=_lock_again(python),
                ).at(entry.position)
            other = selected.setdefault(entry.name, entry)
            if other is not entry:
                raise InvalidPlaybook(
                    f"the lock has {entry.name} twice for this environment",
                    cause=f"the other one is in line {other.position.line}, and the markers of both hold here",
                    cure=f"make the lock again: {_AGAIN}",
                    position=entry.position,
                )
        return tuple(selected.values())

    def _check_environment(self, environment: Mapping[str, str]) -> None:
        python = environment["python_full_version"]
        supported = self.pylock.requires_python
        if supported is not None and not supported.contains(python, prereleases=True):
            raise TaskFailed(
                f"the lock {self.path} is not for Python {python}",
                cause=f"its requires-python is {supported}",
                cure=_lock_again(python),
            ).at(self.requires_at)
        markers = self.pylock.environments
        if markers and not any(marker.evaluate(dict(environment), context="requirement") for marker in markers):
            raise TaskFailed(
                f"the lock {self.path} is not for this environment",
                cause=f"its environments are: {'; '.join(map(str, markers))}",
                cure=_lock_again(python),
            ).at(Position(str(self.path), 1, 1))


def is_lock(path: str | Path) -> bool:
    """Whether a file has the name of a lock: ``pylock.toml`` or ``pylock.NAME.toml``."""
    return _NAME.fullmatch(os.path.basename(path)) is not None


@functools.lru_cache(maxsize=32)  # a task asks many times in a run
def read(path: Path, text: str) -> Lock:
    """Read a lock.

    Args:
        path: The file, for messages and as the start of relative paths.
        text: Its content.

    Raises:
        InvalidPlaybook: it is not a valid lock, or a newer kind of lock; with file and line.
    """
    from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError

    secrets.remember_url(text)
    document = _document(path, text)
    headers = [number for number, line in enumerate(text.splitlines(), start=1) if _HEADER.match(line)]

    def place(index: int) -> Position:
        return Position(str(path), headers[index] if index < len(headers) else 1, 1)

    try:
        pylock = Pylock.from_dict(document)
    except PylockUnsupportedVersionError as error:
        raise InvalidPlaybook(
            f"this version of lock files is not supported: {document.get('lock-version')}",
            cause="nbprovision reads lock-version 1.x (PEP 751)",
            cure=f"write it in that version: {_AGAIN}",
            position=_line_of(path, text, "lock-version"),
        ) from error
    except PylockValidationError as error:
        raise _invalid(path, text, document, error.context or "", error.message, place) from None
    packages = tuple(_locked(package, path.parent, place(index)) for index, package in enumerate(pylock.packages))
    return Lock(path, pylock, packages, _line_of(path, text, "requires-python"))


def fitting(packages: Iterable[LockedPackage], tags: Sequence[Tag], archives: Collection[str]) -> list[LockedPackage]:
    """The packages, each with the one file to install: the wheel that fits best, else the source distribution.

    Args:
        packages: The packages to install.
        tags: The tags of the target, see `target_tags`.
        archives: URLs whose files are on this machine; of several files that fit, one of them is chosen.

    Raises:
        TaskFailed: no file of a package fits.
        Blocked: a file or folder of this machine is missing.
    """
    from packaging.tags import create_compatible_tags_selector
    from packaging.utils import parse_wheel_filename

    select = create_compatible_tags_selector(tags)
    chosen = []
    for entry in packages:
        package = entry.package
        if package.wheels:
            here = [wheel for wheel in package.wheels if wheel.url in archives]
            names = ((wheel, parse_wheel_filename(wheel.filename)[-1]) for wheel in here or package.wheels)
            wheel = next(select(names), None)
            if wheel is None and package.sdist is None:
                raise _no_file(entry, tags)
            package = _replaced(package, wheels=[wheel] if wheel else None, sdist=None if wheel else package.sdist)
        chosen.append(msgspec.structs.replace(entry, package=package))
        _check_places(chosen[-1], archives)
    return chosen


def target_tags(python_version: str, library: Path | None) -> list[Tag]:
    """The tags of wheels for a CPython of that version on this machine, the best first. Starts no process.

    Args:
        python_version: ``3.12`` or ``3.12.1``.
        library: Its site-packages, by whose path a Python without a global lock is recognised
            (``lib/python3.13t``, https://docs.python.org/3/howto/free-threading-python.html).
    """
    from packaging.tags import compatible_tags, cpython_tags, platform_tags

    major, minor = (int(part) for part in python_version.split(".")[:2])
    free_threaded = library is not None and f"python{major}.{minor}t" in library.parts
    interpreter = f"cp{major}{minor}"
    platforms = list(platform_tags())
    abi = f"{interpreter}{'t' if free_threaded else ''}"
    return [
        *cpython_tags((major, minor), [abi], platforms),
        *compatible_tags((major, minor), interpreter, platforms),
    ]


def local_files(lock: Lock) -> Iterator[tuple[Path, Position]]:
    """Each file and folder beside the lock that it names, with the place of its package."""
    for entry in lock.packages:
        package = entry.package
        paths = [file.path for file in entry.files]
        paths += [source.path for source in (package.directory, package.vcs) if source is not None]
        for path in filter(None, paths):
            yield path_of(path, entry.base), entry.position


def _document(path: Path, text: str) -> dict[str, Any]:
    try:
        return toml_document.load(text)
    except NoToml as error:
        conflict = merge_conflict.line(text.encode())
        if conflict is not None:
            raise InvalidPlaybook(
                "the lock is not TOML",
                cause=merge_conflict.CAUSE,
                cure=merge_conflict.CURE,
                position=Position(str(path), conflict, 1),
            ) from error
        raise InvalidPlaybook(
            "the lock is not TOML",
            cause=secrets.mask(error.reason),
            cure=f"make it again, and do not edit it: {_AGAIN}",
            position=Position(str(path), error.line, error.column),
        ) from error


def _invalid(
    path: Path, text: str, document: Mapping[str, Any], context: str, message: str, place: Any
) -> InvalidPlaybook:
    """The error for a file that is TOML and not a lock; ``context`` is the path of the value (packages[3].name)."""
    index = _INDEX.match(context)
    position = place(int(index[1])) if index else _line_of(path, text, context.partition("[")[0])
    key = context[index.end() :].lstrip(".") if index else context
    name = ""
    if index:
        entry = document["packages"][int(index[1])]
        name = str(entry.get("name", "") if isinstance(entry, dict) else "")[:60]
    of_package = f"of {name} " if name else ""
    if key.endswith("hashes"):
        return InvalidPlaybook(
            f"a file {of_package}has no hash".replace("  ", " "),
            cause=f"without a hash nobody can know that {key.removesuffix('.hashes')} is the file that was locked",
            cure=f"make the lock again: {_AGAIN}",
            position=position,
        )
    return InvalidPlaybook(
        f"the lock is not valid: {secrets.mask(message)[:300]}",
        cause=f"'{key}' {of_package}is against PEP 751".replace("  ", " ") if key else "PEP 751 does not allow it",
        cure=f"make the lock again: {_AGAIN}",
        position=position,
    )


def _line_of(path: Path, text: str, key: str) -> Position:
    lines = (number for number, line in enumerate(text.splitlines(), start=1) if key and line.startswith(key))
    return Position(str(path), next(lines, 1), 1)


def _locked(package: Package, base: Path, position: Position) -> LockedPackage:
    entry = LockedPackage(requirement=PipRequirement(line=""), package=package, base=base, position=position)
    for file in entry.files:
        if not _digests(file.hashes):
            raise InvalidPlaybook(
                f"a file of {package.name} has only hashes that are not safe",
                cause=f"it has {', '.join(sorted(file.hashes))}; pip and uv compare {', '.join(DIGITS)}",
                cure=f"make the lock again: {_AGAIN}",
                position=position,
            )
        url = urlsplit(file.url or "")
        if file.url and url.scheme not in ("http", "https", "file"):
            raise InvalidPlaybook(
                f"'{secrets.mask(file.url)[:200]}' cannot be the source of {package.name}",
                cause="a file of a lock comes by https, http or from this machine",
                cure=f"make the lock again: {_AGAIN}",
                position=position,
            )
    return msgspec.structs.replace(entry, requirement=_requirement(entry))


def _requirement(entry: LockedPackage) -> PipRequirement:
    """A locked package as a requirement; wheels and source distributions count as if they came from an index."""
    package, base, position = entry.package, entry.base, entry.position
    name, version = entry.name, entry.version
    if package.vcs is not None:
        vcs = package.vcs
        is_url = vcs.url is None or "://" in vcs.url  # git@host:path is none
        if vcs.type not in _VCS or not _REVISION.fullmatch(vcs.commit_id) or not is_url:
            raise InvalidPlaybook(
                f"'{vcs.type}' at '{vcs.commit_id[:60]}' cannot be the source of {name}",
                cause=f"known repositories are {', '.join(_VCS)}, by a URL (ssh://git@HOST/PATH) and a commit's hash",
                cure=f"make the lock again: {_AGAIN}",
                position=position,
            )
        source = vcs.url or as_url(path_of(vcs.path or "", base))
        line = f"{name} @ {vcs.type}+{source}@{vcs.commit_id}{_fragment(vcs.subdirectory)}"
    elif package.directory is not None:
        folder = package.directory
        url = f"{as_url(path_of(folder.path, base))}{_fragment(folder.subdirectory)}"
        line = f"-e {url}" if folder.editable else f"{name} @ {url}"
    elif package.archive is not None:
        archive = package.archive
        place = as_url(path_of(archive.path, base)) if archive.path else archive.url
        line = f"{name} @ {place}{_fragment(archive.subdirectory)}"
    else:
        hashes = entry.hashes
        return PipRequirement(
            line=f"{name}=={version}",
            name=name,
            specifier=f"=={version}",
            hashes=hashes,
            position=position,
            locked=True,
        )
    parsed = requirements.parse(line, position=position)
    return msgspec.structs.replace(parsed, name=name, hashes=entry.hashes, locked=True)


def _fragment(subdirectory: str | None) -> str:
    return f"#subdirectory={quote(subdirectory)}" if subdirectory else ""


def _version(package: Package) -> str | None:
    if package.version is not None:
        return str(package.version)
    from packaging.utils import parse_sdist_filename, parse_wheel_filename

    if package.wheels:
        return str(parse_wheel_filename(package.wheels[0].filename)[1])
    return str(parse_sdist_filename(package.sdist.filename)[1]) if package.sdist is not None else None


def _digests(hashes: Mapping[str, str]) -> list[str]:
    return [
        f"{algorithm}:{digest.lower()}"
        for algorithm, digest in hashes.items()
        if re.fullmatch(rf"[0-9a-fA-F]{{{DIGITS.get(algorithm, 0)}}}", digest) and algorithm in DIGITS
    ]


def _check_places(entry: LockedPackage, archives: Collection[str]) -> None:
    package = entry.package
    for file in entry.files:
        path = entry.local(file) if file.url not in archives else None
        if path is not None and not path.is_file() and not (file.path and file.url):
            raise _missing(entry, path)
    if package.directory is not None and not (folder := path_of(package.directory.path, entry.base)).is_dir():
        raise _missing(entry, folder)


def _missing(entry: LockedPackage, path: Path) -> Blocked:
    error = Blocked(
        path,
        f"{path} is missing",
        cause=f"the lock names it for {entry.name}",
        cure="copy it there, or make the lock from an index that this machine reaches too",
    )
    error.at(entry.position)
    return error


def _no_file(entry: LockedPackage, tags: Sequence[Tag]) -> TaskFailed:
    names = [wheel.filename for wheel in entry.package.wheels or ()]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    best = next((tag for tag in tags if tag.platform != "any"), tags[0])
    error = TaskFailed(
        f"the lock has no file of {entry.name} {entry.version} for this Python and platform",
        cause=f"it has {', '.join(names[:_MOST_NAMED])}{more}, and this is {best}",
        cure=_lock_again(f"{best.interpreter[2]}.{best.interpreter[3:]}"),
    )
    error.at(entry.position)
    return error


def _lock_again(python: str) -> str:
    version = ".".join(python.split(".")[:2])
    return (
        f"make the lock for it too: `uv pip compile --universal --python-version {version} --format pylock.toml`, or "
        f'`nbprovision lock` after `python: "{version}"` in the task; or name a lock for this Python'
    )


def _replaced(package: Package, **fields: Any) -> Package:
    import dataclasses

    return dataclasses.replace(package, **fields)


def path_of(text: str, base: Path) -> Path:
    """The absolute path of a file or folder that a lock in the folder ``base`` names."""
    return Path(os.path.abspath(base / text))


def as_url(path: Path) -> str:
    """The ``file:`` URL of a path."""
    return f"file://{quote(str(path))}"

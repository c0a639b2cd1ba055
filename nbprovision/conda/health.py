"""Checks of an environment against its records in conda-meta: records, files, and replacements by pip."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from nbprovision.conda.records import Details, content_of, state_of
from nbprovision.conda.specs import fault, parse, satisfied
from nbprovision.machine import distributions, protection
from nbprovision.machine.condarc import Condarc
from nbprovision.machine.digests import Digests
from nbprovision.machine.distributions import normalized
from nbprovision.machine.environments import META, CondaRecord
from nbprovision.model.errors import TaskFailed
from nbprovision.system import inputs, secrets
from nbprovision.system.journal import TEMPORARY_SUFFIX
from nbprovision.system.reading import read_bytes, read_end, read_json

T = TypeVar("T")


class _File(msgspec.Struct, frozen=True):
    path: str = msgspec.field(name="_path")
    path_type: str = "hardlink"
    size_in_bytes: int | None = None
    sha256: str | None = None
    sha256_in_prefix: str | None = None
    prefix_placeholder: str | None = None
    file_mode: str | None = None
    no_link: bool = False

    @property
    def digest(self) -> str | None:
        """The digest of the installed file; None if the prefix was put into it and the record lacks the result."""
        return self.sha256_in_prefix or (self.sha256 if self.prefix_placeholder is None else None)


class _Fault(msgspec.Struct, frozen=True):
    """A file that has changed since its installation; ``digest`` is that of the new content."""

    path: str
    reason: str
    status: os.stat_result | None = None
    digest: str = ""


class _Paths(msgspec.Struct, frozen=True):
    paths: list[_File] = []


class _Link(msgspec.Struct, frozen=True):
    source: str = ""


class _Files(msgspec.Struct, frozen=True):
    files: list[str] = []
    paths_data: _Paths = _Paths()
    link: _Link = _Link()


class Drift(msgspec.Struct, frozen=True):
    """A package whose Python distribution is not the one that conda installed.

    Attributes:
        reason: A few words.
        strays: The dist-info folders that are not conda's.

    """

    reason: str
    strays: tuple[Path, ...] = ()


_FILES = msgspec.json.Decoder(_Files)
# Python writes these files again by itself, and not every package has their sources.
_MADE_BY_PYTHON = (".pyc", ".pyo")
# The folders of a pure Python package (noarch), which are linked to the folders of the environment's Python:
# https://docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html.
_LIBRARIES, _SCRIPTS = "site-packages/", "python-scripts/"


def unmet(details: dict[str, Details], records: Iterable[CondaRecord], condarc: Condarc) -> dict[str, list[str]]:
    """Missing and unsuitable dependencies, by name of the package that needs them.

    A kill can leave a package without its dependencies, because the engine links in parallel; so can a user.
    """
    by_name = {record.name: record for record in records}

    @functools.cache
    def met(text: str) -> bool:
        spec = parse(text)
        return spec is None or (spec.name in by_name and satisfied(spec, [by_name[spec.name]], condarc))

    lacking = {
        name: [text for text in content.depends if not text.startswith("__") and not met(text)]
        for name, content in details.items()
    }
    return {name: texts for name, texts in lacking.items() if texts}


def dependents(details: Mapping[str, Details], names: Iterable[str]) -> list[str]:
    """``names``, and all packages that need one of them directly or indirectly."""
    needs = {name: {spec.name for spec in map(parse, content.depends) if spec} for name, content in details.items()}
    gone = [name for name in names if name in details]
    for removed in gone:  # grows as it goes
        gone += [name for name, needed in needs.items() if removed in needed and name not in gone]
    return gone


def torn(records: Iterable[CondaRecord]) -> list[CondaRecord]:
    """Invalid records: truncated ones, and two of one package (an update was killed between them)."""
    records = list(records)
    names = Counter(record.name for record in records)
    return [record for record in records if names[record.name] > 1 or not _whole(record)]


def interpreter_missing(prefix: Path, records: Iterable[CondaRecord]) -> bool:
    """Whether the environment has Python by its records and lacks ``bin/python``."""
    return any(record.name == "python" for record in records) and not os.path.exists(prefix / "bin/python")


def broken_file(
    prefix: Path, record: CondaRecord, *, digests: Digests | None = None, records: Iterable[CondaRecord] = ()
) -> str | None:
    """The first damaged file of a package in a few words: missing, of the wrong size, or with another content.

    Args:
        prefix: The environment.
        record: The package.
        digests: Compare the contents too, with these digests.
        records: All packages; a file that several bring may have the content of any.

    """
    listed = _listed(record)
    if listed is None:
        return "its record cannot be read"
    faults = (fault for fault in _damage(prefix, listed, digests) if not _brought_by_another(fault, record, records))
    return next((fault.reason for fault in faults), None)


def damaged_source(prefix: Path, record: CondaRecord, digests: Digests | None = None) -> Path | None:
    """The folder in the package cache that shares a damaged file with ``prefix``.

    Files are hard links into the cache. An edit in place damages the file there and in every environment.
    """
    listed = _listed(record)
    if listed is None or not listed.link.source:
        return None
    return Path(listed.link.source) if _damaged_links(prefix, listed, digests) else None


def damaged_elsewhere(
    prefix: Path, record: CondaRecord, others: Iterable[Path], digests: Digests | None = None
) -> Iterator[tuple[Path, Path]]:
    """Damaged files of a package in ``prefix``, each with its path in another environment that shares it.

    Args:
        prefix: The environment.
        record: The package.
        others: Prefixes of other environments. Files of the same build of the package are compared by inode, since
            the same file may have another path there (another Python's site-packages).
        digests: Compare the contents too, with these digests.

    """
    listed = _listed(record)
    harmed = _damaged_links(prefix, listed, digests) if listed is not None else {}
    for other in others if harmed else ():
        theirs = _listed(msgspec.structs.replace(record, path=other / META / record.path.name))
        for entry in theirs.paths_data.paths if theirs is not None else ():
            place = other / entry.path
            with contextlib.suppress(OSError):
                status = os.lstat(place)
                mine = harmed.get((status.st_dev, status.st_ino))
                if mine is not None and ".." not in place.parts:
                    yield prefix / mine, place


def _damaged_links(prefix: Path, listed: _Files, digests: Digests | None) -> dict[tuple[int, int], str]:
    """Damaged files with further hard links, by device and inode."""
    return {
        (fault.status.st_dev, fault.status.st_ino): fault.path
        for fault in _damage(prefix, listed, digests)
        if fault.status is not None and fault.status.st_nlink > 1
    }


def _damage(prefix: Path, listed: _Files, digests: Digests | None = None) -> Iterator[_Fault]:
    """Each file that differs from its record.

    A text file with the prefix in place of a placeholder has another size than its original. Without digests only
    its existence is checked.
    """
    base = os.fspath(prefix)  # Path objects are slow for the ten thousand files of an environment
    for entry in listed.paths_data.paths or [_File(path=path) for path in listed.files]:
        if entry.no_link or entry.path.endswith(_MADE_BY_PYTHON) or entry.path_type == "directory":
            continue
        path = os.path.join(base, entry.path)
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            yield _Fault(entry.path, f"{entry.path} is missing")
            continue
        if entry.path_type != "hardlink":
            continue
        fixed = entry.prefix_placeholder is None or entry.file_mode == "binary"
        if fixed and entry.size_in_bytes is not None and status.st_size != entry.size_in_bytes:
            reason = f"{entry.path} has {status.st_size} bytes instead of {entry.size_in_bytes}"
            yield _Fault(entry.path, reason, status)
        elif digests is not None and entry.digest is not None and stat.S_ISREG(status.st_mode):
            digest = digests.of(Path(path), status)
            if digest != entry.digest:
                yield _Fault(entry.path, f"{entry.path} has another content", status, digest)


def _brought_by_another(fault: _Fault, record: CondaRecord, records: Iterable[CondaRecord]) -> bool:
    """Whether a file has the content that another package gave it: of two packages with one path the last one wins."""
    if not fault.digest:
        return False
    listings = (_listed(other) for other in records if other.path != record.path)
    return any(
        entry.path == fault.path and entry.digest == fault.digest
        for listing in listings
        if listing is not None
        for entry in listing.paths_data.paths
    )


def drifts(
    prefix: Path, records: Iterable[CondaRecord], *, apart_from: Collection[str] = ()
) -> Iterator[tuple[str, Drift]]:
    """Conda packages whose distribution was replaced or removed by pip or by hand.

    The names of the dist-info folders suffice for nearly all; a record is read only if they differ from its name.

    Args:
        prefix: The environment.
        records: The packages to check.
        apart_from: Distributions (normalised names) that conda does not manage.

    """
    present = distributions.installed(prefix)
    folders = {copy.path.name for copies in present.values() for copy in copies}
    for record in records:
        name = normalized(record.name)
        copies = present.get(name, [])
        if name in apart_from or (not copies and not record.build.startswith("py")):
            continue
        if [copy.version for copy in copies] == [record.version]:
            continue
        own = dist_infos(record)
        missing = [folder for folder in own if folder not in folders]
        strays = [copy for copy in copies if own and copy.path.name not in own and not copy.legacy]
        if strays:
            versions = ", ".join(copy.version for copy in strays)
            reason = f"version {versions} was put in its place without conda"
            yield record.name, Drift(reason, tuple(copy.path for copy in strays))
        elif missing:
            yield record.name, Drift(f"{missing[0]} is missing")


def in_the_way(prefix: Path, names: Iterable[str], *, apart_from: Collection[str] = ()) -> list[Path]:
    """The dist-info folders beside which new conda packages would put folders of the same distribution.

    Args:
        prefix: The environment.
        names: The new packages, which have no record in the environment.
        apart_from: Distributions (normalised names) that conda does not manage.

    """
    wanted = {normalized(name) for name in names} - set(apart_from)
    present = distributions.installed(prefix, wanted) if wanted else {}
    return [copy.path for copies in present.values() for copy in copies if not copy.legacy]


def requested(details: dict[str, Details]) -> dict[str, str]:
    """The specs by which users requested the installed packages, by package and without a channel."""
    pairs = [(content.name, spec) for content in details.values() for spec in map(parse, content.requested)]
    return {name: spec.bare for name, spec in pairs if spec is not None and spec.name == name}


def pins(prefix: Path) -> list[str]:
    """The specs in ``conda-meta/pinned``, which conda always keeps to."""
    return [text for text in _lines_of_pinned(prefix) if parse(text) is not None]


def _lines_of_pinned(prefix: Path) -> list[str]:
    try:
        lines = read_bytes(prefix / META / "pinned").decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return list(filter(None, (line.partition("#")[0].strip() for line in lines)))


def pinned(prefix: Path, condarc: Condarc) -> dict[str, str]:
    """Every spec that conda keeps to in an environment, each with its file: a .condarc, or conda-meta/pinned.

    See ``get_pinned_specs`` in ``conda/core/solve.py``.
    """
    return {text: place for text, place in _written_pins(prefix, condarc).items() if parse(text) is not None}


def unread_pins(prefix: Path, condarc: Condarc) -> tuple[str, ...]:
    """A warning for each invalid pin: conda stops at it, the built-in engine ignores it."""
    return tuple(
        f"'{secrets.without_password(text)}' in {place} is not a match spec and has no effect: {wrong.cause}"
        for text, place in _written_pins(prefix, condarc).items()
        if (wrong := fault(text)) is not None
    )


def _written_pins(prefix: Path, condarc: Condarc) -> dict[str, str]:
    if condarc.ignore_pinned:
        return {}
    configured = {text: f"{condarc.pinned_by[text]} (`pinned_packages`)" for text in condarc.pinned_packages}
    return {**configured, **dict.fromkeys(_lines_of_pinned(prefix), str(prefix / META / "pinned"))}


def history_lacks(prefix: Path, records: Iterable[CondaRecord], *, empty_only: bool = False) -> bool:
    """Whether conda's history lacks installed packages.

    conda takes an empty history to mean that no package was requested, and a later command removes all packages that it
    does not name.

    Args:
        prefix: The environment.
        records: The installed packages.
        empty_only: Accept any history that is not empty.

    """
    if empty_only and _size(prefix / META / "history") > 0:
        return False
    history = read_history(prefix)
    return history is None or history.keys() != {record.path.stem for record in records}


def read_history(prefix: Path) -> dict[str, str] | None:
    """The packages of conda's history: name-version-build to the same with its channel; None without a history."""
    try:
        lines = read_bytes(prefix / META / "history").decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    packages: dict[str, str] = {}
    for line in lines:
        distribution = line[1:].rpartition("::")[2]
        if line.startswith("+"):
            packages[distribution] = line[1:]
        elif line.startswith("-"):
            packages.pop(distribution, None)
    return packages if packages or any(line.startswith("==>") for line in lines) else None


def leftovers(prefix: Path) -> list[Path]:
    """Files beside ``prefix`` that a killed run left while it created or removed the environment."""
    temporary = re.compile(rf"\.{re.escape(prefix.name)}\.[^.]+{re.escape(TEMPORARY_SUFFIX)}")
    try:
        names = os.listdir(prefix.parent)
    except OSError:
        return []
    return [prefix.parent / name for name in sorted(names) if temporary.fullmatch(name)]


def variables(prefix: Path) -> dict[str, str]:
    """The environment variables that activation sets (``conda env config vars``)."""
    values = activation_state(prefix).get("env_vars")
    return {str(name): str(value) for name, value in values.items()} if isinstance(values, dict) else {}


def activation_state(prefix: Path) -> dict[str, object]:
    """The content of ``conda-meta/state``, which activation reads.

    Raises:
        TaskFailed: it is not a JSON object.

    """
    try:
        return read_json(prefix / META / "state", dict[str, object])
    except OSError:
        return {}
    except msgspec.DecodeError as error:
        raise TaskFailed(
            f"{prefix / META / 'state'} cannot be read", cause=str(error), cure="repair or remove the file"
        ) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _listed(record: CondaRecord) -> _Files | None:
    """The files of a package, by their paths in the environment.

    For a pure Python package (noarch) conda records the paths in the package, and py-rattler those in the environment.
    """
    listed = content_of(record, _FILES)
    if listed is None or not any(entry.path.startswith((_LIBRARIES, _SCRIPTS)) for entry in listed.paths_data.paths):
        return listed
    placed = placing(listed.files)
    entries = [msgspec.structs.replace(entry, path=placed(entry.path)) for entry in listed.paths_data.paths]
    return msgspec.structs.replace(listed, paths_data=_Paths(entries))


def listed_files(record: CondaRecord) -> list[str]:
    """The paths in a package's record, unchanged; empty if the record cannot be read."""
    listed = content_of(record, _FILES)
    return [] if listed is None else [*listed.files, *(entry.path for entry in listed.paths_data.paths)]


def dist_infos(record: CondaRecord) -> list[str]:
    """Names of the dist-info folders of a package."""
    listed = _listed(record)
    paths = listed.files if listed is not None else []
    matches = (re.search(r"site-packages/([^/]+\.dist-info)/METADATA$", path) for path in paths)
    return [match[1] for match in matches if match]


def _whole(record: CondaRecord) -> bool:
    """Whether a record ends as JSON does; a crash leaves truncated ones. An unchanged record is read once."""
    state = state_of(record)
    return state is not None and _ends_well(record.path, state)


@functools.lru_cache(maxsize=8192)
def _ends_well(path: Path, _state: tuple[int, ...]) -> bool:
    try:
        with inputs.unrecorded():
            return read_end(path, 16).rstrip().endswith(b"}")
    except OSError:
        return False


def refuse_records(prefix: Path, going: Iterable[CondaRecord]) -> None:
    """Refuse to remove conda packages with files outside the environment.

    Raises:
        TaskFailed: a path leads out of the environment.

    """
    checked: dict[str, str] = {}
    for record in going:
        for place in protection.paths_outside(prefix, prefix, listed_files(record), checked):
            raise protection.listed_outside(f"{record.name} in {prefix}", record.path, place)


def placing(files: Sequence[str]) -> Callable[[str], str]:
    """A function from a path in the package to the path in the environment.

    Args:
        files: The ``files`` of the package's record, which are paths in the environment.

    """
    parts = (file.partition(_LIBRARIES) for file in files)
    libraries = next((before for before, separator, _ in parts if separator), "")

    def placed(path: str) -> str:
        return libraries + path if path.startswith(_LIBRARIES) else path.replace(_SCRIPTS, "bin/", 1)

    return lambda path: placed(path) if path.startswith((_LIBRARIES, _SCRIPTS)) else path

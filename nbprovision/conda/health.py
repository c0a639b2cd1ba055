"""Whether an environment is what its records in conda-meta say: records, files, and what pip put in their place."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from nbprovision.conda.specs import fault, parse, satisfied
from nbprovision.machine import distributions, protection
from nbprovision.machine.condarc import Condarc
from nbprovision.machine.digests import Digests
from nbprovision.machine.distributions import normalized
from nbprovision.machine.environments import META, CondaRecord
from nbprovision.model.errors import TaskFailed
from nbprovision.system import inputs, secrets
from nbprovision.system.journal import TEMPORARY_SUFFIX
from nbprovision.system.reading import decode, read_bytes, read_end, read_json


class Details(msgspec.Struct, frozen=True):
    """What a record says of its package, without its files."""

    name: str
    version: str
    build: str
    channel: str = ""
    subdir: str = ""
    sha256: str | None = None
    md5: str | None = None
    requested_spec: str | None = None
    requested_specs: list[str] = []
    depends: list[str] = []

    @property
    def home(self) -> str:
        """The URL of its channel; conda writes down that of the channel's folder for one kind of machine."""
        return self.channel.rstrip("/").removesuffix(f"/{self.subdir}") if self.subdir else self.channel.rstrip("/")

    @property
    def requested(self) -> list[str]:
        """The specs by which users asked for it: conda writes one, other tools several."""
        return self.requested_specs or ([self.requested_spec] if self.requested_spec else [])


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
        """Of the file as it was put in place; None where nobody wrote down what the prefix in it made of it."""
        return self.sha256_in_prefix or (self.sha256 if self.prefix_placeholder is None else None)


class _Fault(msgspec.Struct, frozen=True):
    """A file that is not as it was put in place; ``digest`` is that of another content."""

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
    """A package whose Python distribution is not the one that conda put there.

    Attributes:
        reason: In a few words.
        strays: The dist-info folders that are not conda's.

    """

    reason: str
    strays: tuple[Path, ...] = ()


_DETAILS = msgspec.json.Decoder(Details)
_FILES = msgspec.json.Decoder(_Files)
# Not every package keeps what these are made of, and a file that Python writes again by itself is no loss.
_MADE_BY_PYTHON = (".pyc", ".pyo")
# Where a pure Python package (noarch) has its files: https://docs.conda.io/projects/conda-build/en/stable/resources/
# package-spec.html. They are linked to where the environment's Python looks for them.
_LIBRARIES, _SCRIPTS = "site-packages/", "python-scripts/"


def details(record: CondaRecord) -> Details | None:
    """What a record says, None where it cannot be read."""
    try:
        with inputs.unrecorded():
            return decode(_DETAILS, read_bytes(record.path))
    except (OSError, msgspec.DecodeError):
        return None


def all_details(records: Iterable[CondaRecord]) -> dict[str, Details]:
    """What the records say, by name; one that cannot be read is left out."""
    found = ((record.name, details(record)) for record in records)
    return {name: details for name, details in found if details is not None}


def unmet(details: dict[str, Details], records: Iterable[CondaRecord], condarc: Condarc) -> dict[str, list[str]]:
    """What packages depend on and is not there, or not in a version that will do: by name of the package that lacks it.

    A kill can leave a package without what it needs, since the engine links side by side; so can a person.
    """
    by_name = {record.name: record for record in records}

    @functools.cache
    def met(text: str) -> bool:
        spec = parse(text)
        return spec is None or (spec.name in by_name and satisfied(spec, [by_name[spec.name]], condarc))

    lacking = {
        name: [text for text in one.depends if not text.startswith("__") and not met(text)]
        for name, one in details.items()
    }
    return {name: texts for name, texts in lacking.items() if texts}


def dependents(details: Mapping[str, Details], names: Iterable[str]) -> list[str]:
    """``names``, and every package that needs one of them, or needs one that does."""
    needs = {name: {spec.name for spec in map(parse, one.depends) if spec is not None} for name, one in details.items()}
    gone = [name for name in names if name in details]
    for one in gone:  # grows as it goes
        gone += [name for name, needed in needs.items() if one in needed and name not in gone]
    return gone


def torn(records: Iterable[CondaRecord]) -> list[CondaRecord]:
    """Records that cannot be true: cut short, or two of one package (an update was killed between them)."""
    records = list(records)
    names = Counter(record.name for record in records)
    return [record for record in records if names[record.name] > 1 or not _whole(record.path)]


def interpreter_missing(prefix: Path, records: Iterable[CondaRecord]) -> bool:
    """Whether the environment has Python by its records, and ``bin/python`` leads nowhere."""
    return any(record.name == "python" for record in records) and not os.path.exists(prefix / "bin/python")


def broken_file(
    prefix: Path, record: CondaRecord, *, digests: Digests | None = None, records: Iterable[CondaRecord] = ()
) -> str | None:
    """The first file of a package that is missing, has the wrong size or another content, in a few words.

    Args:
        prefix: The environment.
        record: The package.
        digests: Compare the content too, with these.
        records: All packages: a file that several bring may be any one's.

    """
    listed = _listed(record)
    if listed is None:
        return "its record cannot be read"
    faults = (fault for fault in _harm(prefix, listed, digests) if not _brought_by_another(fault, record, records))
    return next((fault.reason for fault in faults), None)


def harmed_source(prefix: Path, record: CondaRecord, digests: Digests | None = None) -> Path | None:
    """The folder in the package cache that shares a harmed file with ``prefix``; what it links would be harmed again.

    Files are hard links into the cache, so what edits one in place edits it there, and in every environment.
    """
    listed = _listed(record)
    if listed is None or not listed.link.source:
        return None
    return Path(listed.link.source) if _harmed_links(prefix, listed, digests) else None


def harmed_elsewhere(
    prefix: Path, record: CondaRecord, others: Iterable[Path], digests: Digests | None = None
) -> Iterator[tuple[Path, Path]]:
    """Harmed files of a package in ``prefix``, each with the place where another environment shares it.

    Args:
        prefix: The environment.
        record: The package.
        others: Prefixes of other environments; of those that have the same build of the package the files are compared
            by inode, since the same file may have another path there (another Python's site-packages).
        digests: Compare the content too, with these.

    """
    listed = _listed(record)
    harmed = _harmed_links(prefix, listed, digests) if listed is not None else {}
    for other in others if harmed else ():
        theirs = _listed(msgspec.structs.replace(record, path=other / META / record.path.name))
        for entry in theirs.paths_data.paths if theirs is not None else ():
            place = other / entry.path
            with contextlib.suppress(OSError):
                status = os.lstat(place)
                mine = harmed.get((status.st_dev, status.st_ino))
                if mine is not None and ".." not in place.parts:
                    yield prefix / mine, place


def _harmed_links(prefix: Path, listed: _Files, digests: Digests | None) -> dict[tuple[int, int], str]:
    """Harmed files that something else shares, by device and inode."""
    return {
        (fault.status.st_dev, fault.status.st_ino): fault.path
        for fault in _harm(prefix, listed, digests)
        if fault.status is not None and fault.status.st_nlink > 1
    }


def _harm(prefix: Path, listed: _Files, digests: Digests | None = None) -> Iterator[_Fault]:
    """Each file that is not as it should be.

    A text in which the prefix was put in place of a placeholder has another size than its original, so without digests
    its being there must do.
    """
    base = os.fspath(prefix)  # an environment has ten thousand files, for which paths as objects take long
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
            found = digests.of(Path(path), status)
            if found != entry.digest:
                yield _Fault(entry.path, f"{entry.path} has another content", status, found)


def _brought_by_another(fault: _Fault, record: CondaRecord, records: Iterable[CondaRecord]) -> bool:
    """Whether a file has the content that another package gave it: of two that bring one path the last one wins."""
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
    """Packages of conda whose distribution was replaced or taken away by pip or by hand.

    The names of the dist-info folders tell nearly all; a record is opened only where they do not agree with it.

    Args:
        prefix: The environment.
        records: The packages to look at.
        apart_from: Distributions (normalised names) that are none of conda's business.

    """
    found = distributions.installed(prefix)
    there = {one.path.name for several in found.values() for one in several}
    for record in records:
        name = normalized(record.name)
        several = found.get(name, [])
        if name in apart_from or (not several and not record.build.startswith("py")):
            continue
        if [one.version for one in several] == [record.version]:
            continue
        listed = dist_infos(record)
        gone = [folder for folder in listed if folder not in there]
        strays = [one for one in several if listed and one.path.name not in listed and not one.legacy]
        if strays:
            versions = ", ".join(one.version for one in strays)
            reason = f"version {versions} was put in its place without conda"
            yield record.name, Drift(reason, tuple(one.path for one in strays))
        elif gone:
            yield record.name, Drift(f"{gone[0]} is missing")


def in_the_way(prefix: Path, names: Iterable[str], *, apart_from: Collection[str] = ()) -> list[Path]:
    """The dist-info folders that conda packages yet to come would lie beside, under the same name.

    Args:
        prefix: The environment.
        names: The packages to come, none of which is there by its record.
        apart_from: Distributions (normalised names) that are none of conda's business.

    """
    wanted = {normalized(name) for name in names} - set(apart_from)
    found = distributions.installed(prefix, wanted) if wanted else {}
    return [one.path for several in found.values() for one in several if not one.legacy]


def requested(details: dict[str, Details]) -> dict[str, str]:
    """What users asked for by now, by package: specs without a channel."""
    found = {}
    for one in details.values():
        for text in one.requested:
            spec = parse(text)
            if spec is not None and spec.name == one.name:
                found[spec.name] = spec.bare
    return found


def pins(prefix: Path) -> list[str]:
    """The specs in ``conda-meta/pinned``, which conda holds to in everything it does."""
    return [text for text in _lines_of_pinned(prefix) if parse(text) is not None]


def _lines_of_pinned(prefix: Path) -> list[str]:
    try:
        lines = read_bytes(prefix / META / "pinned").decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return list(filter(None, (line.partition("#")[0].strip() for line in lines)))


def pinned(prefix: Path, condarc: Condarc) -> dict[str, str]:
    """Every spec that conda holds to in an environment, and the place of each: a .condarc, or conda-meta/pinned.

    See ``get_pinned_specs`` in ``conda/core/solve.py``.
    """
    return {text: place for text, place in _written_pins(prefix, condarc).items() if parse(text) is not None}


def unread_pins(prefix: Path, condarc: Condarc) -> tuple[str, ...]:
    """What to tell of pins that are no match specs: conda stops at one, the built-in engine leaves it out."""
    return tuple(
        f"'{secrets.without_password(text)}' in {place} is not a match spec, and nothing is held to it: {wrong.cause}"
        for text, place in _written_pins(prefix, condarc).items()
        if (wrong := fault(text)) is not None
    )


def _written_pins(prefix: Path, condarc: Condarc) -> dict[str, str]:
    if condarc.ignore_pinned:
        return {}
    configured = {text: f"{condarc.pinned_by[text]} (`pinned_packages`)" for text in condarc.pinned_packages}
    return {**configured, **dict.fromkeys(_lines_of_pinned(prefix), str(prefix / META / "pinned"))}


def history_lacks(prefix: Path, records: Iterable[CondaRecord], *, empty_only: bool = False) -> bool:
    """Whether conda's history does not tell of what is installed.

    conda takes an empty history to mean that nobody asked for anything, and removes all that a later command does not
    name.

    Args:
        prefix: The environment.
        records: What is installed.
        empty_only: Be content with any history that is not empty.

    """
    if empty_only and _size(prefix / META / "history") > 0:
        return False
    told = history_tells(prefix)
    return told is None or told.keys() != {record.path.stem for record in records}


def history_tells(prefix: Path) -> dict[str, str] | None:
    """What conda's history says is installed: name-version-build to the same with its channel; None for no history."""
    try:
        lines = read_bytes(prefix / META / "history").decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    told: dict[str, str] = {}
    for line in lines:
        distribution = line[1:].rpartition("::")[2]
        if line.startswith("+"):
            told[distribution] = line[1:]
        elif line.startswith("-"):
            told.pop(distribution, None)
    return told if told or any(line.startswith("==>") for line in lines) else None


def leftovers(prefix: Path) -> list[Path]:
    """What a killed run left of making or removing ``prefix``, beside it."""
    made_up = re.compile(rf"\.{re.escape(prefix.name)}\.[^.]+{re.escape(TEMPORARY_SUFFIX)}")
    try:
        names = os.listdir(prefix.parent)
    except OSError:
        return []
    return [prefix.parent / name for name in sorted(names) if made_up.fullmatch(name)]


def variables(prefix: Path) -> dict[str, str]:
    """The environment variables that activation sets (``conda env config vars``)."""
    found = activation_state(prefix).get("env_vars")
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def activation_state(prefix: Path) -> dict[str, object]:
    """The content of ``conda-meta/state``, which activation reads.

    Raises:
        TaskFailed: it is no JSON object.

    """
    try:
        found: dict[str, object] = read_json(prefix / META / "state", dict[str, object])
    except OSError:
        return {}
    except msgspec.DecodeError as error:
        raise TaskFailed(
            f"{prefix / META / 'state'} cannot be read", cause=str(error), cure="mend or remove the file"
        ) from error
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _listed(record: CondaRecord) -> _Files | None:
    """The files of a package, where they are in the environment.

    Of a pure Python package (noarch) conda lists the paths in the package; py-rattler those in the environment.
    """
    listed = _as_listed(record)
    if listed is None or not any(entry.path.startswith((_LIBRARIES, _SCRIPTS)) for entry in listed.paths_data.paths):
        return listed
    placed = placing(listed.files)
    entries = [msgspec.structs.replace(entry, path=placed(entry.path)) for entry in listed.paths_data.paths]
    return msgspec.structs.replace(listed, paths_data=_Paths(entries))


def listed_files(record: CondaRecord) -> list[str]:
    """The paths that a package's record lists, as they stand; empty for one that cannot be read."""
    listed = _as_listed(record)
    return [] if listed is None else [*listed.files, *(entry.path for entry in listed.paths_data.paths)]


def _as_listed(record: CondaRecord) -> _Files | None:
    try:
        with inputs.unrecorded():
            return decode(_FILES, read_bytes(record.path))
    except (OSError, msgspec.DecodeError):
        return None


def dist_infos(record: CondaRecord) -> list[str]:
    """Names of the dist-info folders that a package brought."""
    listed = _listed(record)
    paths = listed.files if listed is not None else []
    found = (re.search(r"site-packages/([^/]+\.dist-info)/METADATA$", path) for path in paths)
    return [match[1] for match in found if match]


def _whole(path: Path) -> bool:
    """Whether a record ends as JSON does; what a crash leaves is cut short."""
    try:
        with inputs.unrecorded():
            return read_end(path, 16).rstrip().endswith(b"}")
    except OSError:
        return False


def refuse_records(prefix: Path, going: Iterable[CondaRecord]) -> None:
    """Refuse to have conda packages removed whose files are not in the environment.

    Raises:
        TaskFailed: one of them leads out of it.

    """
    known: dict[str, str] = {}
    for record in going:
        for place in protection.paths_outside(prefix, prefix, listed_files(record), known):
            raise protection.listed_outside(f"{record.name} in {prefix}", record.path, place)


def placing(files: Sequence[str]) -> Callable[[str], str]:
    """A function from a path in the package to that in the environment.

    Args:
        files: The ``files`` of the package's record, which are paths in the environment.

    """
    parts = (file.partition(_LIBRARIES) for file in files)
    libraries = next((before for before, found, _ in parts if found), "")

    def placed(path: str) -> str:
        return libraries + path if path.startswith(_LIBRARIES) else path.replace(_SCRIPTS, "bin/", 1)

    return lambda path: placed(path) if path.startswith((_LIBRARIES, _SCRIPTS)) else path

"""conda's ``environment.yml``: name, channels, packages, the section for pip, variables.

The format: https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html. Files with exact
packages take its place: see `pixi_lock` and `explicit_file`.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.conda import explicit_file, pixi_lock
from nbprovision.conda.explicit_file import ExplicitFile
from nbprovision.conda.pixi_lock import PixiLock
from nbprovision.conda.specs import Fault, channel_fault, fault, parse
from nbprovision.machine import platform
from nbprovision.machine.digests import Digests
from nbprovision.model.errors import InvalidPlaybook, MissingInput, Position, nearest
from nbprovision.system import inputs, lined_yaml, secrets, trust, yaml_document
from nbprovision.system.reading import read_bytes

if TYPE_CHECKING:  # loaded only for a file with a pip section
    from nbprovision.conda.exact_packages import LockedPackage
    from nbprovision.machine.machine import Machine
    from nbprovision.pip.requirements_files import RequirementSet, Section
    from nbprovision.pip.satisfied import Need

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
# `- pywin32  # [win]`, as in recipes of conda-build.
_SELECTOR = re.compile(
    r"""\s*-\s*["']?(?P<package>[^#"']*?)["']?\s+\#\s*\[(?P<selector>(?:\s*\b(?:not|and|or|win|win32|win64|linux|linux32|"""
    r"""linux64|osx|osx64|unix|arm64|aarch64|ppc64le|x86|x86_64|py\d*k?)\b(?:\s*[<>=!]+\s*\d+)?)+\s*)\]\s*"""
)
_HOLDS_HERE = ("linux", "unix", "not win", "not osx")
_KEYS = ("name", "channels", "dependencies", "prefix", "variables")


class EnvironmentFile(msgspec.Struct, frozen=True):
    """The content of an ``environment.yml``.

    Attributes:
        pip: The lines of the pip section, unchanged.
        selectors: Line and message for each comment that other tools take for a selector and conda ignores.
        exact: The exact packages, if the file is a ``pixi.lock`` or has ``@EXPLICIT``; then all other fields are empty.

    """

    path: Path
    name: str | None = None
    prefix: str | None = None
    channels: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    variables: dict[str, str] = {}
    selectors: tuple[tuple[int, str], ...] = ()
    exact: PixiLock | ExplicitFile | None = None

    @property
    def lacks_pip(self) -> bool:
        """Whether it has a pip section and no package ``pip``, which conda then adds."""
        specs = (parse(text) for text in self.packages)
        return bool(self.pip) and all(spec is None or spec.name != "pip" for spec in specs)

    @property
    def notes(self) -> tuple[str, ...]:
        """The warnings of a run."""
        return tuple(f"{self.path}:{line}: {text}" for line, text in self.selectors)


def read(path: Path) -> EnvironmentFile:
    """Read an ``environment.yml`` or a file with exact packages; an unchanged file is parsed once.

    Raises:
        NotTrusted: this is root, and another user can change the file.
        InvalidPlaybook: it does not exist, is not YAML, or has another format; with the position in the file.

    """
    trust.obey(path, "install what is listed in")
    inputs.file(path)  # explicitly, because it is parsed once
    try:
        status = path.stat()
    except OSError as error:
        kind = MissingInput if isinstance(error, FileNotFoundError) else InvalidPlaybook
        raise kind(
            f"cannot read the environment file {path}",
            cause=str(error.strerror),
            cure="correct `file`; a relative path is taken from the playbook's folder",
        ) from error
    return _read(path, (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino))


def locked_packages(machine: Machine, prefix: Path) -> tuple[LockedPackage, ...] | None:
    """The exact packages that an environment gets in a run with a lock; None without one.

    Raises:
        InvalidPlaybook: the lock is damaged, or has no packages for this machine's platform.

    """
    entry = machine.locked.get(prefix)
    exact = read(entry.conda).exact if entry is not None and entry.conda is not None else None
    if entry is None or exact is None:
        return None
    subdir = platform.conda_subdir()
    if isinstance(exact, PixiLock) and entry.name in exact.environments and subdir not in exact.subdirs(entry.name):
        return ()  # the image has all that is requested
    packages = exact.packages(entry.name, subdir)
    return tuple(
        msgspec.structs.replace(package, url=entry.here(package.url), channel=entry.here(package.channel))
        for package in packages
    )


def pip_section(file: EnvironmentFile, env: Mapping[str, str]) -> RequirementSet:
    """The requirements of the pip section, which conda passes to pip as a requirements file in the file's folder.

    Raises:
        InvalidPlaybook: a line is not valid in a requirements file.

    """
    from nbprovision.pip import requirements_files

    return requirements_files.read((), (), (), env, _section(file))


def named(file: EnvironmentFile) -> dict[Path, Position | None]:
    """The files and folders that the pip section names; see `requirements_files.named`."""
    if not file.pip:
        return {}
    from nbprovision.pip import requirements_files

    section = _section(file)
    paths = requirements_files.named((), (), (), section)
    return {path: place or section.lines[0][1] for path, place in paths.items()}


def wrong_name(file: EnvironmentFile) -> InvalidPlaybook:
    """The error for an invalid name in the file."""
    place = _Text(file.path).place(f"name: {file.name}", str(file.name))
    return _wrong(
        place,
        f"names the environment '{str(file.name)[:60]}'",
        cause="a name consists of letters, digits and . _ + -",
        cure="correct it there, or give `name` or `prefix` in the task",
    )


def _section(file: EnvironmentFile) -> Section:
    from nbprovision.pip.requirements_files import Section

    source = _Text(file.path)
    return Section(file.path.parent, tuple((line, source.place(line)) for line in file.pip))


class _Text:
    """The text of a file, for finding the position of a parsed value."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            text = yaml_document.decoded(read_bytes(path, most=yaml_document.MAX_BYTES))
        except UnicodeDecodeError:
            text = ""
        self.lines = text.splitlines()

    def place(self, *texts: str) -> Position:
        """The position of the first of ``texts`` that is found, first as a whole entry; else the beginning."""
        entries = [line.strip().removeprefix("- ").split(" #")[0].strip("'\" ") for line in self.lines]
        for text in texts:
            whole = (number for number, entry in enumerate(entries) if entry == text.strip())
            part = (number for number, line in enumerate(self.lines) if text and text in line)
            number = next(whole, next(part, None))
            if number is not None:
                column = self.lines[number].find(text)
                return Position(str(self._path), number + 1, max(column, 0) + 1)
        return Position(str(self._path), 1, 1)


def pip_needs(
    section: RequirementSet,
    prefix: Path,
    python: str,
    *,
    files: bool,
    torn: bool = False,
    digests: Digests | None = None,
    configured: Callable[[RequirementSet], RequirementSet],
) -> list[Need]:
    """The missing requirements of the pip section; all of them if the environment has no Python.

    Args:
        section: The requirements of the section.
        prefix: The environment.
        python: The version of the Python that it has or will have.
        files: Check the files of the distributions too.
        torn: An install was killed in the environment.
        digests: Compare the contents of files too, with these digests.
        configured: Adds the pip configuration's options for the environment.

    """
    from nbprovision.machine import distributions
    from nbprovision.pip import requirements, requirements_files, satisfied

    environment = requirements.marker_environment(python)
    section = requirements_files.selected(configured(section), environment)
    present = distributions.installed(prefix)
    return satisfied.unsatisfied(
        section.all, section.constraints, present, environment, files=files, torn=torn, digests=digests
    )


@functools.lru_cache(maxsize=64)
def _read(path: Path, identity: tuple[int, ...]) -> EnvironmentFile:  # noqa: ARG001 - a changed file is another key
    start = Position(str(path), 1, 1)
    exact = _exact(path)
    if exact is not None:
        return EnvironmentFile(path, exact=exact)
    try:
        document = yaml_document.read(path, texts=True)
    except OSError as error:
        raise _wrong(start, "cannot be read", str(error.strerror)) from error
    except yaml_document.NoYaml as error:
        _refuse_other(path)
        raise _wrong(Position(str(path), error.line, error.column), "is not YAML", str(error)) from error
    if not isinstance(document, dict):
        _refuse_other(path)
        raise _wrong(start, "is not a mapping", f"it has keys such as {', '.join(_KEYS)}")
    for key in document:
        meant = nearest(str(key), set(_KEYS) - document.keys()) if key not in _KEYS else ""
        if meant:
            raise _wrong(_Text(path).place(f"{key}:"), f"has a key '{str(key)[:40]}'{meant}")
    if "metadata" in document and "package" in document:
        raise _wrong(
            start,
            "is a lock file of conda-lock, not of pixi",
            cause="nbprovision reads pixi.lock, and files with @EXPLICIT",
            cure="let `conda-lock render --kind explicit` write a file with @EXPLICIT for this platform, and name that",
        )
    if document and not document.keys() & set(_KEYS):
        raise _wrong(start, "has no key of an environment file", f"it has keys such as {', '.join(_KEYS)}")
    return _checked(path, document, start)


def _exact(path: Path) -> PixiLock | ExplicitFile | None:
    """The content of a file with exact packages, by its form; None for another file."""
    try:
        content = read_bytes(path, most=lined_yaml.MAX_BYTES)
    except OSError:
        return None  # reported where it is read as another file
    if pixi_lock.is_lock(content):
        return PixiLock(path, content)
    return ExplicitFile(path, content) if explicit_file.is_explicit(content) else None


def _refuse_other(path: Path) -> None:
    """Refuse another file format of conda or pip, with its name."""
    lines = [line for text in _Text(path).lines if (line := text.strip()) and not line.startswith("#")]
    start = Position(str(path), 1, 1)
    if lines and all(fault(line) is None for line in lines):
        raise _wrong(
            start,
            "is a list of packages, not an environment.yml",
            cause="`conda list --export` and `pip freeze` write such a file",
            cure="write conda's packages as entries of `dependencies`; give pip's to ensure_pip_pkg as `requirements`",
        )


def _checked(path: Path, document: dict[str, Any], start: Position) -> EnvironmentFile:
    if any("\0" in text for text in _texts(document)):
        raise _wrong(start, "has a NUL in a value")
    source = _Text(path)
    packages: list[str] = []
    pip: list[str] = []
    for entry in _list(document, "dependencies", start):
        if isinstance(entry, dict) and set(entry) == {"pip"}:
            lines = entry["pip"] if isinstance(entry["pip"], list) else [entry["pip"]]
            if any(isinstance(line, (dict, list)) for line in lines):
                raise _wrong(start, "has an entry under `pip` that is not a text; write it in quotes")
            pip += [str(line) for line in lines if line]
        elif isinstance(entry, str):
            packages.append(_valid(entry, fault(entry), source, "a match spec"))
        else:
            raise _no_dependency(entry, source)
    variables = document.get("variables") or {}
    if not isinstance(variables, dict):
        raise _wrong(start, "has `variables` that are not a mapping")
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(str(name)) or isinstance(value, (dict, list)):
            raise _wrong(
                _Text(path).place(f"{name}:", f"{name}'", f'{name}"'),
                f"has a variable '{str(name)[:60]}' that is not a name with a text",
            )
    channels = _list(document, "channels", start)
    if any(isinstance(channel, (dict, list)) for channel in channels):
        raise _wrong(start, "has a channel that is not a text")
    return EnvironmentFile(
        path,
        _text(document, "name", start),
        _beside(path, _text(document, "prefix", start)),
        tuple(_channel(path, str(channel), source) for channel in channels if channel != "nodefaults"),
        tuple(packages),
        tuple(pip),
        {str(name): str(value) for name, value in variables.items()},
        tuple(_selectors(source)),
    )


def _valid(text: str, wrong: Fault | None, source: _Text, kind: str) -> str:
    """The text, unless something is wrong with it."""
    if wrong is None:
        return text
    secrets.remember_url(text)
    shown = secrets.without_password(text)[:80]
    place = source.place(text)
    raise InvalidPlaybook(f"'{shown}' is not {kind}", cause=wrong.cause, cure=wrong.cure, position=place)


def _no_dependency(entry: Any, source: _Text) -> InvalidPlaybook:
    """The error for an entry that is neither a match spec nor the pip section."""
    keys = [str(key) for key in entry] if isinstance(entry, dict) else []
    place = source.place(*(f"{key}:" for key in keys), f"- {entry}")
    error = _wrong(place, f"has a dependency that is neither a match spec nor `pip:` with a list: {str(entry)[:80]}")
    if keys and keys[0].startswith("sel("):
        error.cause = "neither conda nor nbprovision supports selectors here; mamba does"
        error.cure = f"if {keys[0]} holds here, write '{entry[keys[0]]}' instead; else leave it out"
    elif len(keys) == 1 and isinstance(entry[keys[0]], (str, int, float)):
        error.cure = f"write {keys[0]}={entry[keys[0]]}"
    elif isinstance(entry, (int, float)):
        error.cure = "write NAME=VERSION in one entry"
    return error


def _selectors(source: _Text) -> Iterator[tuple[int, str]]:
    """Line and message for each selector in a comment, which conda-build and conda-lock apply and conda ignores."""
    for number, line in enumerate(source.lines, start=1):
        match = _SELECTOR.fullmatch(line)
        if match is not None and match["package"] and match["selector"].strip() not in _HOLDS_HERE:
            comment = f"# [{match['selector']}]"
            yield number, f"'{comment}' is a comment to conda: '{match['package']}' is requested on this machine too"


def _beside(path: Path, text: str | None) -> str | None:
    """A path of the file; a relative one begins at its folder."""
    if text is None or not text or text.startswith(("/", "~", "$")):
        return text
    return os.path.normpath(path.parent / text)


def _channel(path: Path, text: str, source: _Text) -> str:
    if text.startswith(("./", "../")) or text in (".", ".."):
        return os.path.normpath(path.parent / text)
    return _valid(text, channel_fault(text) if "$" not in text else None, source, "a channel")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _texts(list(pair))
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)


def _list(document: dict[str, Any], key: str, start: Position) -> list[Any]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong(start, f"has `{key}` that is not a list")
    return value


def _text(document: dict[str, Any], key: str, start: Position) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, (str, int, float)):
        raise _wrong(start, f"has a `{key}` that is not a text")
    return None if value is None else str(value)


def _wrong(place: Position, what: str, cause: str = "", cure: str = "") -> InvalidPlaybook:
    cure = cure or "see `conda env export` for the format"
    return InvalidPlaybook(f"{place.file} {what}", cause=cause, cure=cure, position=place)

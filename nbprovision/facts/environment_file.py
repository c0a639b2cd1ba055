"""conda's ``environment.yml``: name, channels, packages, the section for pip, variables.

The format: https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.facts import yaml_document
from nbprovision.facts.file_digests import Digests
from nbprovision.model.errors import InvalidPlaybook, Position
from nbprovision.system.reading import read_bytes

if TYPE_CHECKING:  # loaded where a file has a pip section
    from nbprovision.facts.requirements_files import Asked
    from nbprovision.facts.satisfied import Need

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_KEYS = ("name", "channels", "dependencies", "prefix", "variables")


class EnvironmentFile(msgspec.Struct, frozen=True):
    """What such a file says.

    Attributes:
        pip: Lines of a requirements file, as they stand.

    """

    path: Path
    name: str | None = None
    prefix: str | None = None
    channels: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    variables: dict[str, str] = {}


def read(path: Path) -> EnvironmentFile:
    """Read an ``environment.yml``; the same file is parsed once.

    Raises:
        InvalidPlaybook: it is not there, no YAML, or not of that format; with the place in the file.

    """
    try:
        status = path.stat()
    except OSError as error:
        raise InvalidPlaybook(
            f"cannot read the environment file {path}",
            cause=str(error.strerror),
            cure="correct `file`; a relative path is taken from the playbook's folder",
        ) from error
    return _read(path, (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino))


def pip_section(file: EnvironmentFile, env: Mapping[str, str]) -> Asked:
    """What the pip section asks for; its relative paths begin at the file's folder.

    Raises:
        InvalidPlaybook: a line is no requirement.

    """
    from nbprovision.facts import requirements, requirements_files

    folder, source = file.path.parent, _Text(file.path)
    lines: list[str] = []
    included: dict[str, list[Path]] = {"-r": [], "-c": []}
    for line in file.pip:
        option = re.fullmatch(r"(-r|--requirement|-c|--constraint)[ =]\s*(.+)", line)
        if option is None:
            lines.append(line)
        else:
            included["-r" if option[1] in ("-r", "--requirement") else "-c"].append(folder / option[2].strip())
    try:
        asked = requirements_files.read((), included["-r"], included["-c"], env)
    except InvalidPlaybook as error:  # a file that is not there is named here
        error.position = error.position or source.place(*(line for line in file.pip if line not in lines))
        raise
    wanted = tuple(requirements.parse(line, base=folder, position=source.place(line)) for line in lines)
    return msgspec.structs.replace(asked, wanted=(*wanted, *asked.wanted))


class _Text:
    """The text of a file, in which a value is looked for that has lost its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = read_bytes(path, most=yaml_document.MAX_BYTES).decode("utf-8-sig", "replace").splitlines()

    def place(self, *texts: str) -> Position:
        """Where the first of ``texts`` stands; the beginning where it is not written like that."""
        for number, line in enumerate(self._lines, start=1):
            for text in texts:
                if text in line:
                    return Position(str(self._path), number, line.index(text) + 1)
        return Position(str(self._path), 1, 1)


def pip_needs(
    file: EnvironmentFile,
    prefix: Path,
    env: Mapping[str, str],
    *,
    files: bool,
    torn: bool = False,
    digests: Digests | None = None,
) -> list[Need]:
    """What of the pip section is not there; all of it where the environment has no Python yet.

    Args:
        file: The file.
        prefix: The environment.
        env: For ``${NAME}`` in requirements files.
        files: Look at the files of the distributions too.
        torn: An install was killed there.
        digests: Compare their content as well, with these.

    """
    if not file.pip:
        return []
    from nbprovision.facts import distributions, requirements, satisfied

    asked = pip_section(file, env)
    version = distributions.python_version(prefix) or "3"
    found = distributions.installed(prefix)
    environment = requirements.marker_environment(version)
    return satisfied.unsatisfied(
        asked.wanted, asked.constraints, found, environment, files=files, torn=torn, digests=digests
    )


@functools.lru_cache(maxsize=64)
def _read(path: Path, identity: tuple[int, ...]) -> EnvironmentFile:  # noqa: ARG001 - a changed file is another key
    start = Position(str(path), 1, 1)
    try:
        document = yaml_document.read(path)
    except OSError as error:
        raise _wrong(start, "cannot be read", str(error.strerror)) from error
    except yaml_document.NoYaml as error:
        raise _wrong(Position(str(path), error.line, error.column), "is no YAML", str(error)) from error
    if not isinstance(document, dict):
        raise _wrong(start, "is no mapping", f"it has keys such as {', '.join(_KEYS)}")
    if document and not document.keys() & set(_KEYS):
        raise _wrong(start, "has no key of an environment file", f"it has keys such as {', '.join(_KEYS)}")
    return _checked(path, document, start)


def _checked(path: Path, document: dict[str, Any], start: Position) -> EnvironmentFile:
    if any("\0" in text for text in _texts(document)):
        raise _wrong(start, "has a NUL in a value")
    packages: list[str] = []
    pip: list[str] = []
    for entry in _list(document, "dependencies", start):
        if isinstance(entry, str):
            packages.append(entry)
        elif isinstance(entry, dict) and set(entry) == {"pip"}:
            lines = entry["pip"] if isinstance(entry["pip"], list) else [entry["pip"]]
            if any(isinstance(line, (dict, list)) for line in lines):
                raise _wrong(start, "has an entry under `pip` that is no text; write it in quotes")
            pip += [str(line) for line in lines if line]
        else:
            raise _wrong(start, f"has a dependency that is neither a match spec nor `pip:` with a list: {entry!r}")
    variables = document.get("variables") or {}
    if not isinstance(variables, dict):
        raise _wrong(start, "has `variables` that are no mapping")
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(str(name)) or isinstance(value, (dict, list)):
            raise _wrong(
                _Text(path).place(f"{name}:", f"{name}'", f'{name}"'),
                f"has a variable '{str(name)[:60]}' that is no name with a text",
            )
    if any(isinstance(one, (dict, list)) for one in _list(document, "channels", start)):
        raise _wrong(start, "has a channel that is no text")
    return EnvironmentFile(
        path,
        _text(document, "name", start),
        _text(document, "prefix", start),
        tuple(str(one) for one in _list(document, "channels", start) if one != "nodefaults"),
        tuple(packages),
        tuple(pip),
        {str(name): str(value) for name, value in variables.items()},
    )


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
        raise _wrong(start, f"has `{key}` that is no list")
    return value


def _text(document: dict[str, Any], key: str, start: Position) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, (str, int, float)):
        raise _wrong(start, f"has a `{key}` that is no text")
    return None if value is None else str(value)


def _wrong(place: Position, what: str, cause: str = "") -> InvalidPlaybook:
    error = InvalidPlaybook(f"{place.file} {what}", cause=cause, cure="see `conda env export` for the format")
    error.position = place
    return error

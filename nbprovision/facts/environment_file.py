"""conda's ``environment.yml``: name, channels, packages, the section for pip, variables.

The format: https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from nbprovision.model.errors import InvalidPlaybook, Position

_KEYS = ("name", "channels", "dependencies", "prefix", "variables")
_SIZE_LIMIT = 1_000_000  # bytes


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


def read_environment_file(path: Path) -> EnvironmentFile:
    """Read an ``environment.yml``.

    Raises:
        InvalidPlaybook: it is not there, no YAML, or not of that format; with the place in the file.

    """
    import yaml

    start = Position(str(path), 1, 1)
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise _wrong(start, "is too long for an environment file", f"more than {_SIZE_LIMIT} bytes")
        text = path.read_text(encoding="utf-8")
        if text.count("[") + text.count("{") > 1000:
            raise _wrong(start, "is nested too deeply for an environment file")
        document = yaml.safe_load(text)
    except OSError as error:
        raise InvalidPlaybook(
            f"cannot read the environment file {path}",
            cause=str(error.strerror),
            cure="correct `file`; a relative path is taken from the playbook's folder",
        ) from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = Position(str(path), mark.line + 1, mark.column + 1) if mark else start
        raise _wrong(place, "is no YAML", str(getattr(error, "problem", None) or error)) from error
    if not isinstance(document, dict):
        raise _wrong(start, "is no mapping", f"it has keys such as {', '.join(_KEYS)}")
    return _checked(path, document, start)


def _checked(path: Path, document: dict[str, Any], start: Position) -> EnvironmentFile:
    packages: list[str] = []
    pip: list[str] = []
    for entry in _list(document, "dependencies", start):
        if isinstance(entry, str):
            packages.append(entry)
        elif isinstance(entry, dict) and set(entry) == {"pip"}:
            lines = entry["pip"] if isinstance(entry["pip"], list) else [entry["pip"]]
            pip += [str(line) for line in lines if line]
        else:
            raise _wrong(start, f"has a dependency that is neither a match spec nor `pip:` with a list: {entry!r}")
    variables = document.get("variables") or {}
    if not isinstance(variables, dict):
        raise _wrong(start, "has `variables` that are no mapping")
    return EnvironmentFile(
        path,
        _text(document, "name", start),
        _text(document, "prefix", start),
        tuple(str(one) for one in _list(document, "channels", start) if one != "nodefaults"),
        tuple(packages),
        tuple(pip),
        {str(name): str(value) for name, value in variables.items()},
    )


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

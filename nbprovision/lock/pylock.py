"""A ``pylock.ENV.toml`` for all platforms.

The format is that of PEP 751 (https://packaging.python.org/en/latest/specifications/pylock-toml/).
uv resolves for one platform at a time, so that neither the interpreter nor the machine has to exist here. Its results
are joined: a package that all platforms have in the same version stands once, with the wheels of all of them, and any
other package has a marker with its platforms.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import tomlkit

from nbprovision.lock.places import Places, clean
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.pip.pylock import LockedPackage, path_of
from nbprovision.system import toml_document
from nbprovision.system.toml_document import NoToml

# The values of the marker `platform_machine`.
MACHINES = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}
# uv's names of the platforms, with the C library of `conda.locking`.
UV_PLATFORMS = {"linux-64": "x86_64-manylinux_2_34", "linux-aarch64": "aarch64-manylinux_2_34"}
# The keys of a package in the order of the specification.
_KEYS = ("name", "version", "marker", "requires-python", "vcs", "directory", "archive", "index", "sdist", "wheels")

Document = dict[str, Any]


def file_name(environment: str, taken: Container[str] = ()) -> str:
    """The name of an environment's file; a dot in it would end the name of the lock.

    Args:
        environment: The environment's name.
        taken: Names of other environments' files: those of ``a.b`` and ``a-b`` differ by a number.

    """
    stem = f"pylock.{re.sub('[^A-Za-z0-9_-]', '-', environment)}"
    endings = ("", *(f"-{number}" for number in range(2, 1000)))
    return next(name for ending in endings if (name := f"{stem}{ending}.toml") not in taken)


def read(path: Path) -> Document:
    """The content of a file.

    Raises:
        InvalidPlaybook: it is not TOML.

    """
    try:
        return toml_document.load(path.read_text(encoding="utf-8"))
    except (NoToml, UnicodeDecodeError, OSError) as error:
        raise InvalidPlaybook(
            f"{path} cannot be read",
            cause=str(error),
            cure="restore it from the repository, or remove it and lock again",
        ) from None


def join(results: Mapping[str, Document], pythons: Mapping[str, str], folder: Path, places: Places) -> Document:
    """Join the results of all platforms; no package is left if the environment has all of them anyway.

    Args:
        results: uv's results by platform, without the packages that the environment has anyway.
        pythons: The version of Python by platform.
        folder: The lock's folder.
        places: The folders that the lock names in another way.

    """
    joined: dict[str, Document] = {}
    having: dict[str, list[str]] = {}
    for platform, result in sorted(results.items()):
        for package in result.get("packages", []):
            entry = _portable(package, folder, places)
            key = _text({name: value for name, value in entry.items() if name != "wheels"})
            if key in joined:
                wheels = [*joined[key].get("wheels", []), *entry.get("wheels", [])]
                joined[key] |= {"wheels": _each_once(wheels)} if wheels else {}
            else:
                joined[key] = entry
            having.setdefault(key, []).append(platform)
    for key, platforms in having.items():
        if len(platforms) < len(results):
            joined[key]["marker"] = " or ".join(_machine(platform) for platform in platforms)
    minors = sorted({_minor(version) for version in pythons.values()}, key=lambda minor: int(minor.split(".")[1]))
    return {
        "lock-version": "1.0",
        "environments": [
            f"python_version == '{_minor(pythons[platform])}' and {_machine(platform)} and sys_platform == 'linux'"
            for platform in sorted(results)
        ],
        "requires-python": f">={minors[0]}",
        "created-by": "nbprovision",
        "packages": sorted(
            ({key: entry[key] for key in _KEYS if key in entry} for entry in joined.values()),
            key=lambda entry: (entry["name"], entry.get("version", ""), entry.get("marker", "")),
        ),
    }


def for_platform(document: Document, platform: str) -> Document:
    """The part of a joined file that one platform has, as uv wrote it: its versions are kept where possible."""
    machine = _machine(platform)
    packages = [
        {key: value for key, value in package.items() if key != "marker"}
        for package in document.get("packages", [])
        if "marker" not in package or machine in package["marker"].split(" or ")
    ]
    return {"lock-version": "1.0", "created-by": "uv", "packages": packages}


def has_platform(document: Document, platform: str) -> bool:
    """Whether a joined file is for a platform too."""
    return any(_machine(platform) in marker for marker in document.get("environments", []))


def of_entries(entries: Iterable[LockedPackage]) -> Document:
    """Packages of other lock files, with absolute paths."""
    from packaging.pylock import Pylock
    from packaging.version import Version

    entries = list(entries)
    lock = Pylock(lock_version=Version("1.0"), created_by="", packages=[entry.package for entry in entries])
    packages = [dict(package) for package in lock.to_dict()["packages"]]
    for package, entry in zip(packages, entries, strict=True):
        sources = [package[key] for key in ("vcs", "directory", "archive", "sdist") if key in package]
        for source in (*sources, *package.get("wheels", ())):
            if "path" in source:
                source["path"] = str(path_of(source["path"], entry.base))
    return {"packages": packages}


def without(document: Document, names: Iterable[str]) -> Document:
    """A file without some packages."""
    left_out = set(names)
    return document | {"packages": [entry for entry in document.get("packages", []) if entry["name"] not in left_out]}


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _machine(platform: str) -> str:
    return f"platform_machine == '{MACHINES[platform]}'"


def _portable(package: Document, folder: Path, places: Places) -> Document:
    """A package without uv's marker, which holds on its platform, and without passwords and paths of this machine."""
    entry = {key: value for key, value in package.items() if key != "marker"}
    for key in ("vcs", "directory", "archive", "sdist"):
        if key in entry:
            entry[key] = _placed(entry[key], folder, places)
    if "wheels" in entry:
        entry["wheels"] = _each_once(_placed(wheel, folder, places) for wheel in entry["wheels"])
    if "index" in entry:
        entry["index"] = clean(entry["index"])
    return entry


def _placed(source: Document, folder: Path, places: Places) -> Document:
    url = source.get("url", "")
    if url.startswith("file:"):
        path = places.path(Path(unquote(urlsplit(url).path)), folder)
        return {"path": path, **{key: value for key, value in source.items() if key != "url"}}
    if "path" in source:
        return source | {"path": places.path(Path(source["path"]), folder)}
    return source | {"url": clean(url)} if url else source


def _text(part: Document) -> str:
    """A text that equal parts of a document have in common."""
    return json.dumps(part, sort_keys=True, default=str)


def _each_once(wheels: Iterable[Document]) -> list[Document]:
    by_text = {_text(wheel): wheel for wheel in wheels}
    name: Callable[[Document], str] = lambda wheel: str(wheel.get("url") or wheel.get("path")).rpartition("/")[2]  # noqa: E731
    return sorted(by_text.values(), key=name)


# ---------------------------------------------------------------------------------------------------------- writing


def dump(document: Document) -> str:
    """A document as TOML: a table for each package, and each wheel in a line of its own."""
    packages = tomlkit.aot()
    for package in document.get("packages", []):
        table = tomlkit.table()
        table.update({key: _value(value) for key, value in package.items()})
        packages.append(table)
    text = tomlkit.document()
    text.update({key: _value(value) for key, value in document.items() if key != "packages"})
    text["packages"] = packages or []  # the key is required
    return tomlkit.dumps(text)


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update({key: _value(entry) for key, entry in value.items()})
        return table
    if isinstance(value, list):
        array = tomlkit.array().multiline(any(isinstance(entry, (dict, str)) for entry in value))
        array.extend(map(_value, value))
        return array
    return value.astimezone(dt.timezone.utc) if isinstance(value, dt.datetime) else value

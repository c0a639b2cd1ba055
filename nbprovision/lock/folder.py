"""The folder of a lock, such as ``team.lock/`` beside ``team.yml``: read it, and replace it in one step.

It has ``pixi.lock`` with conda's packages, ``pylock.ENV.toml`` with the Python distributions of an environment, and
``index.json`` with what both were made from.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from nbprovision.conda.exact_packages import LockedPackage
from nbprovision.conda.pixi_lock import PixiLock
from nbprovision.lock.index import VERSION, Index, LockedOrigin, differences
from nbprovision.lock.places import Places
from nbprovision.lock.requests import EnvironmentRequest
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.system.files import exchange, set_mode, temporary_folder, write_atomically
from nbprovision.system.places import tool_home, user_home
from nbprovision.system.reading import read_bytes, read_json

INDEX = "index.json"
PIXI = "pixi.lock"
_MOST = 100_000_000  # bytes of a lock file
_OURS = re.compile(r"index\.json|pixi\.lock|pylock\.[^.]+\.toml")


class LockedEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """An environment in a lock.

    Attributes:
        origin: What it was made from.
        conda: Its conda packages by platform, as conda names platforms; `Lock.here` gives their URLs on this machine.
        pylock: The file with its Python distributions; None without any.

    """

    origin: LockedOrigin
    conda: dict[str, tuple[LockedPackage, ...]] = {}
    pylock: Path | None = None


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """A lock.

    Attributes:
        folder: Its folder, beside the playbook.
        platforms: The platforms that it is for.
        environments: Its environments by name.
        places: The folders that it names in another way.

    """

    folder: Path
    platforms: tuple[str, ...]
    environments: dict[str, LockedEnvironment]
    places: Places

    def here(self, url: str) -> str:
        """The URL on this machine of a URL in the lock."""
        return self.places.here(url)

    def stale(self, requests: Iterable[EnvironmentRequest], *, indexes: bool = True) -> list[str]:
        """What the playbook requests otherwise than when it was locked, each in a line; empty for a fresh lock.

        Args:
            requests: The playbook's requests, from `requests.collect`.
            indexes: Other package indexes count.

        """
        locked = {name: environment.origin for name, environment in self.environments.items()}
        wanted = {request.name: request.origin(self.places) for request in requests}
        if not indexes:
            wanted = {
                name: msgspec.structs.replace(origin, indexes=locked[name].indexes) if name in locked else origin
                for name, origin in wanted.items()
            }
        return differences(locked, wanted)

    def moved(self, requests: Iterable[EnvironmentRequest]) -> list[str]:
        """The environments whose image differs from that of the machine that wrote the lock."""
        wanted = {request.name: request.origin(self.places).image for request in requests}
        return [
            name
            for name, environment in self.environments.items()
            # Only a machine with the image can see that it has changed.
            if wanted.get(name) is not None and wanted[name] != environment.origin.image
        ]

    @property
    def images(self) -> list[str]:
        """The names of environments that the platform's image brings."""
        return [name for name, environment in self.environments.items() if environment.origin.kind == "image"]


def folder_of(playbook: Path) -> Path:
    """The folder of a playbook's lock."""
    return Path(os.path.abspath(playbook)).with_suffix(".lock")


def read(folder: Path, *, tool: Path | None = None, home: Path | None = None) -> Lock:
    """Read a lock.

    Args:
        folder: Its folder.
        tool: The tool's home; default that of this process.
        home: The user's home, likewise.

    Raises:
        InvalidPlaybook: it does not exist, or is damaged.

    """
    folder = Path(os.path.abspath(folder))
    try:
        index = read_json(folder / INDEX, Index)
    except FileNotFoundError:
        raise _wrong(folder, "the lock does not exist", f"{INDEX} is missing") from None
    except (OSError, msgspec.DecodeError) as error:
        raise _wrong(folder, "the lock cannot be read", str(error)) from None
    if index.version > VERSION:
        raise InvalidPlaybook(
            f"{folder / INDEX} has version {index.version}, and this nbprovision reads up to {VERSION}",
            cause="a newer nbprovision wrote the lock",
            cure="update nbprovision, or write the lock again with this one",
        )
    conda = _conda_packages(folder) if any(origin.specs for origin in index.environments.values()) else {}
    environments = {}
    for name, origin in index.environments.items():
        pylock = folder / origin.pylock if origin.pylock is not None else None
        if pylock is not None and (pylock.parent != folder or not pylock.is_file()):
            raise _wrong(folder, "the lock is incomplete", f"{pylock} is missing")
        environments[name] = LockedEnvironment(origin=origin, conda=conda.get(name, {}), pylock=pylock)
    places = Places(folder.parent, tool or Path(tool_home(os.environ)), home or Path(user_home(os.environ)))
    return Lock(folder=folder, platforms=index.platforms, environments=environments, places=places)


def _conda_packages(folder: Path) -> dict[str, dict[str, tuple[LockedPackage, ...]]]:
    """The packages in ``pixi.lock``, by environment and platform."""
    path = folder / PIXI
    try:
        lock = PixiLock(path, read_bytes(path, most=_MOST))
    except OSError as error:
        raise _wrong(folder, "the lock is incomplete", str(error)) from None
    return {name: {subdir: lock.packages(name, subdir) for subdir in lock.subdirs(name)} for name in lock.environments}


def _wrong(folder: Path, message: str, cause: str) -> InvalidPlaybook:
    return InvalidPlaybook(
        f"{message}: {folder}",
        cause=cause,
        cure="nbprovision lock PLAYBOOK writes it; a lock in a repository can be restored from there",
    )


def content(folder: Path) -> dict[str, bytes]:
    """The files in the folder of a lock."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return {entry.name: read_bytes(entry.path, most=_MOST) for entry in os.scandir(folder) if entry.is_file()}
    return {}


def replace(folder: Path, files: Mapping[str, str]) -> bool:
    """Put a new lock in the place of an old one, in one step: a kill leaves the one or the other.

    Returns:
        Whether anything has changed.

    Raises:
        TaskFailed: the folder cannot be written.

    """
    present = content(folder)
    others = {name: data for name, data in present.items() if not _OURS.fullmatch(name)}
    wanted = {**others, **{name: text.encode() for name, text in files.items()}}
    if present == wanted:
        return False
    with temporary_folder(folder) as new:
        for name, data in wanted.items():
            write_atomically(new / name, data, mode=0o644)
        set_mode(new, 0o755)
        exchange(new, folder)  # the old lock now has the temporary name
    return True

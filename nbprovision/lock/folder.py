"""The folder of a lock, such as ``team.lock/`` beside ``team.yml``: read it, and replace it in one step.

It has ``pixi.lock`` with conda's packages, ``pylock.ENV.toml`` with the Python distributions of an environment, and
``index.json`` with what both were made from.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from nbprovision.conda.exact_packages import LockedPackage
from nbprovision.conda.pixi_lock import PixiLock
from nbprovision.lock.index import VERSION, Index, LockedOrigin, differences
from nbprovision.lock.places import Places
from nbprovision.lock.requests import EnvironmentRequest
from nbprovision.model.errors import Blocked, InvalidPlaybook, Position
from nbprovision.pip import pylock as pip_pylock
from nbprovision.system import merge_conflict, yaml_document
from nbprovision.system.files import copy_entries, exchange, set_mode, temporary_folder, write_atomically
from nbprovision.system.places import tool_home, user_home
from nbprovision.system.reading import decode, read_bytes
from nbprovision.system.yaml_document import decoded

INDEX = "index.json"
PIXI = "pixi.lock"
_MOST = 100_000_000  # bytes of a lock file
_CURE = (
    "take the folder from the repository again (in a merge: git checkout --ours, or --theirs), or remove it; "
    "then lock again: nbprovision lock PLAYBOOK"
)
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
        locked = {
            name: environment.origin.renamed(self.places.again) for name, environment in self.environments.items()
        }
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


def exists(folder: Path) -> bool:
    """Whether there is a lock in a folder, even one that this user cannot read."""
    try:
        os.stat(folder / INDEX)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def refuse_shared(playbook: Path) -> None:
    """Refuse a playbook that has the folder of its lock in common with another one: ``team.yml`` and ``team.yaml``.

    Raises:
        InvalidPlaybook: there is such a playbook.

    """
    folder = folder_of(playbook)
    for suffix in (".yml", ".yaml"):
        other = folder.with_suffix(suffix)
        if other.name != playbook.name and _is_playbook(other):
            raise InvalidPlaybook(
                f"{playbook.name} and {other.name} would have the same lock",
                cause=f"it is {folder}, whatever the ending of the playbook's name",
                cure="give one of the playbooks another name",
                position=Position(str(playbook), 1, 1),
            )


def _is_playbook(path: Path) -> bool:
    """Whether a file is a list of plays, and not a file of variables."""
    try:
        plays = yaml_document.load(decoded(read_bytes(path)))
    except (OSError, UnicodeDecodeError, yaml_document.NoYaml):
        return False
    return isinstance(plays, list)


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
    index = _index(folder)
    if index.version > VERSION:
        raise InvalidPlaybook(
            f"{folder / INDEX} has version {index.version}, and this nbprovision reads up to {VERSION}",
            cause="a newer nbprovision wrote the lock",
            cure="update nbprovision, or write the lock again with this one",
        )
    try:
        environments = dict(_environments(folder, index))
    except InvalidPlaybook as error:
        error.cure = _CURE  # the readers of files know of other tools only
        raise
    places = Places(folder.parent, tool or Path(tool_home(os.environ)), home or Path(user_home(os.environ)))
    return Lock(folder=folder, platforms=index.platforms, environments=environments, places=places)


def _index(folder: Path) -> Index:
    path = folder / INDEX
    try:
        data = read_bytes(path, most=_MOST)
    except FileNotFoundError:
        raise InvalidPlaybook(
            f"the lock does not exist: {folder}",
            cause=f"{INDEX} is missing",
            cure="write it: nbprovision lock PLAYBOOK",
        ) from None
    except OSError as error:
        raise _wrong(folder, "the lock cannot be read", str(error)) from None
    try:
        return decode(msgspec.json.Decoder(Index), data)
    except msgspec.DecodeError as error:
        conflict = merge_conflict.line(data)
        wrong = _wrong(folder, "the lock cannot be read", str(error) if conflict is None else merge_conflict.CAUSE)
        raise wrong.at(Position(str(path), conflict or 1, 1)) from None


def _environments(folder: Path, index: Index) -> Iterator[tuple[str, LockedEnvironment]]:
    """The environments of a lock, after a look at all of its files: whoever checks a lock relies on them."""
    conda = _conda_packages(folder) if any(origin.specs for origin in index.environments.values()) else {}
    for name, origin in index.environments.items():
        pylock = folder / origin.pylock if origin.pylock is not None else None
        if pylock is not None and (pylock.parent != folder or not pylock.is_file()):
            raise _wrong(folder, "the lock is incomplete", f"{pylock} is missing")
        for platform in origin.platforms if origin.specs and origin.image is None else ():  # an image may have all
            if platform not in conda.get(name, {}):
                raise _wrong(folder, "the lock is incomplete", f"{PIXI} has no packages of {name} for {platform}")
        if pylock is not None:
            pip_pylock.read(pylock, _text(pylock))
        yield name, LockedEnvironment(origin=origin, conda=conda.get(name, {}), pylock=pylock)


def _conda_packages(folder: Path) -> dict[str, dict[str, tuple[LockedPackage, ...]]]:
    """The packages in ``pixi.lock``, by environment and platform."""
    path = folder / PIXI
    try:
        lock = PixiLock(path, read_bytes(path, most=_MOST))
    except OSError as error:
        raise _wrong(folder, "the lock is incomplete", str(error)) from None
    return {name: {subdir: lock.packages(name, subdir) for subdir in lock.subdirs(name)} for name in lock.environments}


def _text(path: Path) -> str:
    try:
        return decoded(read_bytes(path, most=_MOST))
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(path.parent, "the lock cannot be read", f"{path.name}: {error}") from None


def _wrong(folder: Path, message: str, cause: str) -> InvalidPlaybook:
    return InvalidPlaybook(f"{message}: {folder}", cause=cause, cure=_CURE)


def content(folder: Path) -> dict[str, bytes]:
    """The files of a lock in its folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        with os.scandir(folder) as entries:
            ours = [entry for entry in entries if _OURS.fullmatch(entry.name) and entry.is_file()]
        return {entry.name: read_bytes(entry.path, most=_MOST) for entry in ours}
    return {}


def replace(folder: Path, files: Mapping[str, str]) -> bool:
    """Put a new lock in the place of an old one, in one step: a kill leaves the one or the other.

    What else lies in the folder stays. If the folder is a link, the folder that it leads to is replaced.

    Returns:
        Whether anything has changed.

    Raises:
        Blocked: the folder cannot be written, or a file has its name.
        TaskFailed: the folder around it cannot be written, the disk is full, ...

    """
    folder = Path(os.path.realpath(folder))
    present = os.path.lexists(folder)
    if present and not os.path.isdir(folder):
        raise Blocked(
            folder,
            f"{folder} is not a folder",
            cause="the lock of a playbook is a folder of that name",
            cure="move the file away, or give the playbook another name",
        )
    if present and not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise Blocked(
            folder,
            f"cannot write into {folder}",
            cause="the folder is read-only, or belongs to another user",
            cure="check its owner and mode (ls -ld), or make it writable: chmod u+w",
        )
    wanted = {name: text.encode() for name, text in files.items()}
    if content(folder) == wanted:
        return False
    with temporary_folder(folder) as new:
        if present:
            copy_entries(folder, new, without=_OURS.fullmatch)
        for name, data in wanted.items():
            write_atomically(new / name, data, mode=0o644)
        set_mode(new, 0o755)
        exchange(new, folder)  # the old lock now has the temporary name
    return True

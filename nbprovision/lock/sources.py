"""The two sides of a comparison: what a word on the command line means, and which environments belong together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Literal

import msgspec

from nbprovision.conda import explicit_file
from nbprovision.lock import installed, listings
from nbprovision.lock.contents import Contents, Package, merged
from nbprovision.lock.folder import INDEX
from nbprovision.lock.index import Index
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, MissingFile, UnknownEnvironment
from nbprovision.system import yaml_document
from nbprovision.system.reading import read_bytes, read_json

MACHINE = "machine"
PIXI_LOCK = "pixi.lock"
_LOCK = ".lock"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One side.

    Attributes:
        name: As on the command line.
        kind: ``lock`` and ``file`` are on disk, ``machine`` is this machine, ``environment`` one environment of it.
        environments: Its environments, each once for each of its platforms.
    """

    name: str
    kind: Literal["lock", "file", "machine", "environment"]
    environments: tuple[Contents, ...]

    @property
    def alone(self) -> bool:
        """Whether it has a single environment, which is compared whatever the other's name."""
        return self.kind == "environment" or [environment.name for environment in self.environments] == [None]

    @property
    def selects(self) -> bool:
        """Whether environments that it does not have are not missing: it lists what a team or a person asked for."""
        return self.kind == "lock" or any(environment.scope == "named" for environment in self.environments)


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """An environment of both sides; None on the side that does not have it."""

    name: str
    platform: str | None
    before: Contents | None
    after: Contents | None


def read_both(machine: Machine, words: tuple[str, str], env: str | None) -> tuple[Source, Source]:
    """Read both sides.

    Args:
        machine: This machine.
        words: Each a file, a folder with lock files, ``machine``, or an environment by name or path.
        env: The only environment to read, by name.

    Raises:
        InvalidPlaybook: a side is not one of these, or cannot be read.
        UnknownEnvironment: no file has the name, and no environment of this machine.
    """
    sides = [None if word == MACHINE else _read(machine, word) for word in words]
    names: Collection[str] | None = None
    if env is not None:
        if None in sides:
            machine.prefix_of(env)  # which lists the existing ones
        names = {env}
    else:
        for side in sides:
            # A lock says which environments count; those of the machine beside them are not read.
            if side is not None and (side.selects or side.kind == "environment"):
                names = {environment.name for environment in side.environments if environment.name} or None
    first, second = (
        Source(name=MACHINE, kind="machine", environments=tuple(installed.everything(machine, names)))
        if side is None
        else side
        for side in sides
    )
    return first, second


def _read(machine: Machine, word: str) -> Source:
    path = Path(word).expanduser()
    if path.is_file():
        environments = tuple(_file(machine, path))
        is_lock = path.suffix == _LOCK or listings.pylock_name(path.name) is not None
        return Source(name=word, kind="lock" if is_lock else "file", environments=environments)
    if path.is_dir():
        locks = sorted(path.glob("pylock*.toml"))
        if (path / PIXI_LOCK).is_file() or locks or _index(path) is not None:
            return Source(name=word, kind="lock", environments=tuple(_folder(path, locks)))
    return _environment(machine, word, path)


def _environment(machine: Machine, word: str, path: Path) -> Source:
    try:
        prefix = path.absolute() if "/" not in word and installed.is_one(path) else machine.prefix_of(word)
    except UnknownEnvironment as error:
        if not path.is_dir():
            error.cure += f"; or name a file, a folder with {PIXI_LOCK}, or `{MACHINE}`"
            raise
        prefix = path
    if not prefix.exists():
        raise MissingFile(f"{word} does not exist", cure="correct the path")
    if not installed.is_one(prefix):
        raise InvalidPlaybook(
            f"{word} cannot be compared",
            cause=f"it has neither {PIXI_LOCK} nor pylock.toml, and is not an environment",
            cure=f"name a folder with lock files, a list of packages, an environment, or `{MACHINE}`",
        )
    names = {place: name for name, place in installed.prefixes(machine).items()}
    contents = installed.contents(machine, names.get(prefix, prefix.name), prefix)
    return Source(name=word, kind="environment", environments=(contents,))


def _folder(folder: Path, locks: Iterable[Path]) -> list[Contents]:
    """The environments of ``pixi.lock``, and what each ``pylock.NAME.toml`` adds to them."""
    path = folder / PIXI_LOCK
    environments = listings.pixi(path, _bytes(path)) if path.is_file() else []
    index = _index(folder)
    # The name of a file has no dots, that of an environment may.
    named = {} if index is None else {origin.pylock: name for name, origin in index.environments.items()}
    for lock in locks:
        name = named.get(lock.name, listings.pylock_name(lock.name))
        if name is None:
            continue
        text = _text(lock)
        same = [number for number, environment in enumerate(environments) if environment.name == name]
        for number in same:
            conda = environments[number]
            pip = listings.pylock(lock, text, python=conda.python, platform=conda.platform)
            packages = merged(list(conda.packages), pip)
            environments[number] = msgspec.structs.replace(conda, packages=packages)
        if not same:
            pip = listings.pylock(lock, text)
            environments.append(Contents(name=name or None, packages=merged([], pip), scope="added"))
    return environments


def _index(folder: Path) -> Index | None:
    """The index of a lock of this tool; None in another folder."""
    try:
        return read_json(folder / INDEX, Index)
    except (OSError, msgspec.DecodeError):
        return None


def _file(machine: Machine, path: Path) -> list[Contents]:
    text = _text(path)
    name = listings.pylock_name(path.name)
    if name is not None:
        packages: list[Package] = listings.pylock(path, text)
        return [Contents(name=name or None, packages=merged([], packages), scope="added")]
    if path.suffix == ".json":
        return listings.json_list(path, text)
    if explicit_file.is_explicit(text.encode()):
        return [listings.explicit(path, text.encode())]
    if path.suffix == _LOCK:
        return listings.pixi(path, text.encode())
    if path.suffix in (".yml", ".yaml"):
        try:
            document = yaml_document.load(text, texts=True)
        except yaml_document.NoYaml:
            document = None  # the reader of environment files names the position
        if isinstance(document, list):
            return listings.exported_playbook(path, document)
        return [listings.environment_yml(path, machine.env)]
    return [listings.requirements_txt(path, machine.env)]


def _text(path: Path) -> str:
    try:
        return yaml_document.decoded(_bytes(path))
    except UnicodeDecodeError as error:
        raise InvalidPlaybook(f"{path} is not a text", cause=str(error), cure="name a list of packages") from None


def _bytes(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise InvalidPlaybook(f"cannot read {path}", cause=str(error.strerror), cure="correct the path") from None


def pairs(before: Source, after: Source, *, env: str | None, platform: str | None) -> list[Pair]:
    """The environments that belong together, sorted by name and platform.

    Environments belong together by name. A side with a single environment is compared with the other's environment of
    that name, or with its only one. Environments that a lock does not have are left out.

    Args:
        before: One side.
        after: The other.
        env: Only the environment of this name.
        platform: Only packages for this platform. By default those of a lock with several are compared for the other
            side's platform, or, if both are locks, for all.

    Raises:
        InvalidPlaybook: it is not clear which environments to compare, or a side does not have the named one.
    """
    left = _on_platform(before, _named(before, env), after, platform)
    right = _on_platform(after, _named(after, env), before, platform)
    if before.alone:
        right = _partner(before, left[0], after, right)
    if after.alone:
        left = _partner(after, right[0], before, left)
    if before.alone or after.alone:
        return [_pair(left[0], right[0])]
    names = {environment.name or "" for environment in (*left, *right)}
    for source, other, environments in ((before, after, left), (after, before, right)):
        if source.selects and not other.selects:
            names = {environment.name or "" for environment in environments}
    return [pair for name in sorted(names) for pair in _same_name(name, left, right)]


def _named(source: Source, env: str | None) -> list[Contents]:
    """The environments of a side, all or those of a name."""
    if env is None or source.alone:
        return list(source.environments)
    environments = [environment for environment in source.environments if environment.name == env]
    if not environments:
        raise UnknownEnvironment(f"{source.name} has no environment '{env}'", cure=_names(source))
    return environments


def _names(source: Source) -> str:
    names = sorted({environment.name or "" for environment in source.environments})
    return f"name one of: {', '.join(names)}" if names else "name another file"


def _on_platform(source: Source, environments: list[Contents], other: Source, wanted: str | None) -> list[Contents]:
    """The environments of a side for the platform that is compared."""
    names, others = _platforms(source), _platforms(other)
    if not names or (wanted is None and (len(names) == 1 or len(others) > 1)):
        return environments
    if wanted is None:
        wanted = next(iter(others), installed.platform())
    subdir = {**names, **others}.get(wanted, wanted)
    chosen = [
        environment
        for name in dict.fromkeys(environment.name for environment in environments)
        for environment in _for_platform(source, [each for each in environments if each.name == name], wanted, subdir)
    ]
    if not chosen:
        raise InvalidPlaybook(
            f"{source.name} has no packages for {wanted}",
            cause=f"it has packages for {', '.join(sorted(names))}",
            cure="name another one by --platform",
        )
    return chosen


def _platforms(source: Source) -> dict[str, str]:
    """The names of a side's platforms, each with the subdir of its packages."""
    return {
        name: environment.platform
        for environment in source.environments
        if environment.platform is not None and (name := environment.platform_name) is not None
    }


def _for_platform(source: Source, environments: list[Contents], name: str, subdir: str) -> list[Contents]:
    """One environment for a platform: for that of the name, else for the only one with the same packages.

    Raises:
        InvalidPlaybook: it has packages for several such platforms.
    """
    named = [environment for environment in environments if environment.platform_name in (None, name)]
    similar = [environment for environment in environments if environment.platform == subdir]
    if not named and len(similar) > 1:
        raise InvalidPlaybook(
            f"{source.name} has several platforms for {subdir}",
            cause=f"they are {', '.join(environment.platform_name or '' for environment in similar)}",
            cure="name one of them by --platform",
        )
    return named or similar


def _partner(alone: Source, single: Contents, other: Source, environments: list[Contents]) -> list[Contents]:
    """The environment of the other side that a single one is compared with."""
    same = [environment for environment in environments if environment.name == single.name]
    if len(same) == 1 or len(environments) == 1:
        return same if len(same) == 1 else environments
    raise InvalidPlaybook(
        f"it is not clear which environment of {other.name} to compare with {alone.name}",
        cause=f"it has {', '.join(sorted({environment.name or '' for environment in environments})) or 'none'}",
        cure="name it by --env",
    )


def _same_name(name: str, left: list[Contents], right: list[Contents]) -> list[Pair]:
    before = [environment for environment in left if (environment.name or "") == name]
    after = [environment for environment in right if (environment.name or "") == name]
    if len(before) <= 1 and len(after) <= 1:
        return [_pair(next(iter(before), None), next(iter(after), None))]
    pairs = []
    keys: tuple[Callable[[Contents], str | None], ...] = (lambda each: each.platform_name, lambda each: each.platform)
    for key in keys:
        for environment in list(before):
            partner = next((each for each in after if key(each) == key(environment)), None)
            if partner is not None:
                pairs.append(_pair(environment, partner))
                before.remove(environment)
                after.remove(partner)
    pairs += [_pair(environment, None) for environment in before] + [_pair(None, environment) for environment in after]
    return sorted(pairs, key=lambda pair: pair.platform or "")


def _pair(before: Contents | None, after: Contents | None) -> Pair:
    sides = [side for side in (before, after) if side is not None]
    name = next((side.name for side in sides if side.name is not None), "environment")
    named = dict.fromkeys(side.platform_name for side in sides if side.platform is not None)
    platform = next(iter(named if len(named) == 1 else (side.platform for side in sides if side.platform)), None)
    return Pair(name=name, platform=platform, before=before, after=after)

"""``index.json`` in a lock: what the lock was made from, so that a stale one can name what has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import msgspec

VERSION = 1

Kind = Literal["conda", "virtual", "folder", "image"]


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one environment of a lock was made from, without secrets.

    Attributes:
        kind: A conda environment, a virtual one, a folder of its own, or an environment of the platform's image.
        specs: Match specs, sorted.
        channels: URLs, the preferred one first.
        pins: Pinned match specs of conda's configuration, sorted.
        cuda: The version of CUDA.
        requirements: Requirements, sorted.
        constraints: Constraints, sorted.
        indexes: URLs of the indexes, then places with files.
        python: The requested Python of a virtual environment.
        image: A digest of what the platform's image has in the environment, or in the one that it is a copy of.

    """

    kind: Kind = "conda"
    specs: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    cuda: str | None = None
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    python: str | None = None
    image: str | None = None


class LockedOrigin(Origin, frozen=True, kw_only=True, omit_defaults=True):
    """The same, with what the lock has of it.

    Attributes:
        platforms: The platforms that it is locked for.
        pylock: The file with its Python distributions; None without any.

    """

    platforms: tuple[str, ...] = ()
    pylock: str | None = None

    def renamed(self, name: Callable[[str], str]) -> LockedOrigin:
        """The same, with other names of the channels and indexes."""
        channels, indexes = tuple(map(name, self.channels)), tuple(map(name, self.indexes))
        return msgspec.structs.replace(self, channels=channels, indexes=indexes)


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``index.json``."""

    version: int = VERSION
    platforms: tuple[str, ...] = ()
    environments: dict[str, LockedOrigin] = {}

    def text(self) -> str:
        """The file: sorted, each entry of a list in a line of its own."""
        content = msgspec.json.encode(self, order="sorted")
        return msgspec.json.format(content, indent=1).decode() + "\n"


def differences(locked: Mapping[str, LockedOrigin], wanted: Mapping[str, Origin]) -> list[str]:
    """What a playbook requests otherwise than when it was locked; empty if the lock is fresh."""
    lines = []
    for name in sorted(locked.keys() | wanted.keys()):
        if name not in locked:
            lines.append(f"{name}: the environment is not in the lock")
        elif name not in wanted:
            lines.append(f"{name}: the playbook no longer has the environment")
        else:
            lines += [f"{name}: {text}" for text in _between(locked[name], wanted[name])]
    return lines


def _between(locked: Origin, wanted: Origin) -> Iterator[str]:
    if locked.kind != wanted.kind:
        yield f"the kind of environment: {locked.kind} -> {wanted.kind}"
    for field, word in (
        ("specs", "spec"),
        ("pins", "pin"),
        ("requirements", "requirement"),
        ("constraints", "constraint"),
    ):
        yield from _sets(word, getattr(locked, field), getattr(wanted, field))
    for field, word in (("channels", "channel"), ("indexes", "index")):
        before, after = getattr(locked, field), getattr(wanted, field)
        if sorted(before) == sorted(after) and before != after:
            yield f"the order of the {field}: {', '.join(before)} -> {', '.join(after)}"
        else:
            yield from _sets(word, before, after)
    for field, word in (("cuda", "CUDA"), ("python", "Python")):
        before, after = getattr(locked, field), getattr(wanted, field)
        if before != after:
            yield f"{word}: {before or 'none'} -> {after or 'none'}"


def _sets(word: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    yield from (f"{word} added: {text}" for text in after if text not in before)
    yield from (f"{word} removed: {text}" for text in before if text not in after)

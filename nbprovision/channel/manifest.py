"""The manifest of a channel of nbprovision."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from nbprovision.machine.digests import digest_of
from nbprovision.system.reading import read_json

MANIFEST = ".nbprovision-channel.json"
FORMAT = 1  # a new way of building packages gets a new number, and channels are built again


class File(msgspec.Struct, frozen=True):
    """A package's path below the channel, its size in bytes, and its digest."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """The sources and the packages of a channel."""

    interpreters: tuple[str | None, ...]
    requirements: tuple[str, ...]
    files: tuple[File, ...]
    format: int = FORMAT


EMPTY = Manifest((), (), ())


class ChannelState(msgspec.Struct, frozen=True):
    """A channel; without a manifest if nbprovision has not built it, and ``foreign`` if somebody else has."""

    manifest: Manifest | None
    foreign: bool
    broken: tuple[str, ...] = ()


def read(folder: Path, *, deep: bool = False) -> ChannelState:
    """Check a channel's folder.

    Args:
        folder: The channel.
        deep: Compare digests too, not only sizes.
    """
    try:
        manifest = read_json(folder / MANIFEST, Manifest)
    except FileNotFoundError:
        return ChannelState(None, foreign=folder.is_dir() and any(folder.iterdir()))
    except (OSError, msgspec.DecodeError):
        return ChannelState(None, foreign=False)  # our own and damaged: it is built again
    if manifest.format != FORMAT:
        return ChannelState(None, foreign=False)
    index = [path for path in ("noarch/repodata.json",) if not (folder / path).is_file()]
    broken = [file.path for file in manifest.files if not _whole(folder, file, deep=deep)]
    return ChannelState(manifest, foreign=False, broken=(*index, *broken))


def _whole(folder: Path, file: File, *, deep: bool) -> bool:
    path = folder / file.path
    try:
        if os.stat(path).st_size != file.size:
            return False
        return not deep or digest_of(path) == file.sha256
    except OSError:
        return False

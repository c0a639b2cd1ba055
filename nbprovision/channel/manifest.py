"""What a channel that this tool made says of itself."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from nbprovision.machine.digests import digest_of
from nbprovision.system.reading import read_json

MANIFEST = ".nbprovision-channel.json"
FORMAT = 1  # a newer way of making packages gets a newer number, and channels are made again


class File(msgspec.Struct, frozen=True):
    """A package's path below the channel, its size in bytes, and its digest."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a channel was made from, and what was made."""

    interpreters: tuple[str | None, ...]
    requirements: tuple[str, ...]
    files: tuple[File, ...]
    format: int = FORMAT


class ChannelState(msgspec.Struct, frozen=True):
    """A channel as it is: no manifest where the tool has not made it; ``foreign`` when somebody else has."""

    manifest: Manifest | None
    foreign: bool
    broken: tuple[str, ...] = ()


def read(folder: Path, *, deep: bool = False) -> ChannelState:
    """Look at a channel's folder.

    Args:
        folder: The channel.
        deep: Compare digests, not only sizes.
    """
    try:
        manifest = read_json(folder / MANIFEST, Manifest)
    except FileNotFoundError:
        return ChannelState(None, foreign=folder.is_dir() and any(folder.iterdir()))
    except (OSError, msgspec.DecodeError):
        return ChannelState(None, foreign=False)  # ours, and harmed: made again
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

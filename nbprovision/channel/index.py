"""The index of a channel: ``repodata.json`` of each subdir, whose bytes depend on the packages alone.

Format: https://conda.org/learn/ceps/cep-0036 (repodata.json). py-rattler's ``index_fs`` writes the same records,
each with the time of its indexing, and the members of its shards in a random order, so that two channels of the same
packages differ.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.channel.package import NATIVE, compressed, decompressed
from nbprovision.model.errors import TaskFailed
from nbprovision.system import files

_REPODATA = "repodata.json"
# What py-rattler's index has in a channel of an earlier version; clients would prefer it to `repodata.json`.
_SHARDS = ("repodata_shards.msgpack.zst", "shards")


def write(channel: Path) -> None:
    """Index the packages of both subdirs; a reader sees the old ``repodata.json`` or the new one.

    Args:
        channel: The channel's folder.

    Raises:
        TaskFailed: a file cannot be written.
    """
    for subdir in ("noarch", NATIVE):
        folder = channel / subdir
        content = _repodata(folder)
        for name in _SHARDS:
            files.remove(folder / name)
        files.write_atomically(folder / f"{_REPODATA}.zst", compressed(content))
        files.write_atomically(folder / _REPODATA, content)


def _repodata(folder: Path) -> bytes:
    repodata = {
        "info": {"subdir": folder.name},
        "packages": {},
        "packages.conda": {path.name: _record(path) for path in folder.glob("*.conda")},
        "removed": [],
        "repodata_version": 1,
    }
    return json.dumps(repodata, sort_keys=True, separators=(",", ":")).encode()


def _record(path: Path) -> dict[str, Any]:
    """The entry of a package: its ``info/index.json``, and size and digests of the file."""
    content = path.read_bytes()
    try:
        index = _index_json(content, path.stem)
    except (zipfile.BadZipFile, tarfile.TarError, LookupError, ValueError) as error:
        raise TaskFailed(
            f"{path} is not a conda package", cause=str(error), cure="remove the file from the channel"
        ) from None
    digests = {"md5": hashlib.md5(content, usedforsecurity=False), "sha256": hashlib.sha256(content)}
    return {**index, **{name: digest.hexdigest() for name, digest in digests.items()}, "size": len(content)}


def _index_json(content: bytes, stem: str) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        info = decompressed(archive.read(f"info-{stem}.tar.zst"))
    with tarfile.open(fileobj=io.BytesIO(info)) as members:
        stream = members.extractfile("info/index.json") or io.BytesIO()
        return msgspec.json.decode(stream.read(), type=dict[str, Any])

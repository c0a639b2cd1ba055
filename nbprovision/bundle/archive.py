"""The file format of a bundle: a tar archive whose members are all listed, with their digests, in its ``bundle.json``.

    bootstrap.sh             the first member, so that the first bytes of a bundle in a bucket are enough to begin with
    bundle.json              what the bundle has
    bundle.sha256            the digest of bundle.json
    tool/*.whl               nbprovision and what it needs
    playbook/...             the playbook, the files that it names, and its lock
    channels/N/...           the local channels that the playbook builds
    packages/SHA256/NAME     conda packages and distributions

The archives in it are compressed already, so it is a plain tar archive (pax, POSIX.1-2001), and each member can be read
where it lies. Owners, modes and times are fixed: the same contents are the same bytes.

`bootstrap.sh` runs this module from the wheel in the bundle before the tool is installed, so it imports nothing but the
standard library.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

VERSION = 1
BOOTSTRAP = "bootstrap.sh"
MANIFEST = "bundle.json"
TOOL = "tool/"
_DIGEST = "bundle.sha256"
_BLOCK = 1 << 20  # bytes
_MOST_LISTED = 100_000_000  # bytes of bundle.json


class Damaged(Exception):
    """The file is truncated or altered, or not a bundle."""


class Member(NamedTuple):
    """A member of a bundle: where its bytes begin, their number and their SHA-256."""

    offset: int
    size: int
    sha256: str


class Bundle(NamedTuple):
    """A bundle.

    Attributes:
        path: Its file.
        manifest: The content of ``bundle.json``.
        members: Its other members by name.

    """

    path: Path
    manifest: Mapping[str, Any]
    members: Mapping[str, Member]

    def named(self, folder: str) -> Iterator[str]:
        """The names of the members in a folder, which ends with a slash."""
        return (name for name in self.members if name.startswith(folder))


def write(stream: IO[bytes], manifest: Mapping[str, Any], sources: Mapping[str, bytes | Path]) -> None:
    """Write a bundle.

    Args:
        stream: The new file.
        manifest: What it has, apart from the list of members.
        sources: Its members by name, ``bootstrap.sh`` among them: bytes, or the file with them.

    """
    members = {}
    for name, source in sources.items():
        with _opened(source) as content:
            digest, size = _digest(content)
            members[name] = {"size": size, "sha256": digest}
    text = json.dumps({**manifest, "version": VERSION, "members": members}, indent=1, sort_keys=True).encode() + b"\n"
    digest_of_text = hashlib.sha256(text).hexdigest().encode() + b"\n"
    first = {BOOTSTRAP: sources[BOOTSTRAP], MANIFEST: text, _DIGEST: digest_of_text}
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, source in (first | {name: sources[name] for name in sorted(sources)}).items():
            info = tarfile.TarInfo(name)
            info.mode = 0o755 if name == BOOTSTRAP else 0o644
            with _opened(source) as content:
                info.size = content.seek(0, os.SEEK_END)
                content.seek(0)
                archive.addfile(info, content)


def read(path: Path) -> Bundle:
    """Read what a bundle has, without the contents of its members.

    Raises:
        Damaged: it is truncated or altered, or not a bundle.
        OSError: it cannot be read.

    """
    with path.open("rb") as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                headers = list(archive)
        except (tarfile.TarError, ValueError, EOFError, RecursionError) as error:
            raise Damaged(str(error) or "it is not a tar archive") from None
        entries: dict[str, tarfile.TarInfo] = {}
        for entry in headers:
            if entry.name.startswith("/") or ".." in entry.name.split("/"):
                raise Damaged(f"its member {entry.name[:200]!r} leads out of the folder")
            if not entry.isreg() or entry.name in entries:
                raise Damaged(
                    f"its member {entry.name[:200]!r} {'is there twice' if entry.isreg() else 'is not a file'}"
                )
            entries[entry.name] = entry
        manifest = _manifest(stream, entries)
        listed = {name: _member(name, entry) for name, entry in manifest["members"].items()}
        for name in sorted(listed.keys() ^ (entries.keys() - {MANIFEST, _DIGEST})):
            raise Damaged(f"its member {name[:200]!r} is {'missing' if name in listed else 'not in ' + MANIFEST}")
        _require_end(stream, headers[-1])
    members = {}
    for name, member in listed.items():
        if entries[name].size != member.size:
            raise Damaged(f"its member {name!r} has {entries[name].size} bytes, not {member.size}")
        members[name] = member._replace(offset=entries[name].offset_data)
    return Bundle(path, manifest, members)


def _manifest(stream: IO[bytes], entries: Mapping[str, tarfile.TarInfo]) -> dict[str, Any]:
    for name in (MANIFEST, _DIGEST):
        if name not in entries:
            raise Damaged(f"it has no {name}")
        if entries[name].size > _MOST_LISTED:
            raise Damaged(f"its {name} has {entries[name].size} bytes")
    text, digest = (_content(stream, entries[name]) for name in (MANIFEST, _DIGEST))
    if hashlib.sha256(text).hexdigest().encode() != digest.strip():
        raise Damaged(f"its {MANIFEST} is altered")
    try:
        manifest = json.loads(text)
        version = manifest["version"]
        whole = isinstance(manifest["members"], dict) and isinstance(version, int)
    except (ValueError, TypeError, LookupError, RecursionError):
        whole = False
    if not whole:
        raise Damaged(f"its {MANIFEST} cannot be read")
    if version > VERSION:
        raise Damaged(f"it has version {version}, and this nbprovision reads up to {VERSION}")
    return dict(manifest)


def _content(stream: IO[bytes], entry: tarfile.TarInfo) -> bytes:
    stream.seek(entry.offset_data)
    return stream.read(entry.size)


def _member(name: str, entry: Any) -> Member:
    try:
        size, sha256 = entry["size"], entry["sha256"]
    except (TypeError, LookupError):
        size = sha256 = None
    if not (isinstance(size, int) and isinstance(sha256, str)):
        raise Damaged(f"its {MANIFEST} has no size or digest of {name[:200]!r}")
    return Member(0, size, sha256)


def _require_end(stream: IO[bytes], last: tarfile.TarInfo) -> None:
    """Refuse a bundle that does not end with two blocks of zeros, filled up to a whole record."""
    end = last.offset_data + _rounded(last.size, tarfile.BLOCKSIZE)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(min(end, size))
    whole = size == _rounded(end + 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE)
    if not whole or stream.read().strip(b"\0"):
        raise Damaged(f"its end is missing or altered: it has {size} bytes")


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def verify(bundle: Bundle, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Compare the digests of all members.

    Args:
        bundle: The bundle.
        progress: Receives the number of bytes that have been read, and of all.

    Raises:
        Damaged: one differs.
        OSError: the file cannot be read.

    """
    total = sum(member.size for member in bundle.members.values())
    done = 0
    for name in bundle.members:
        for block in blocks(bundle, name):
            done += len(block)
            progress(done, total)


def blocks(bundle: Bundle, name: str) -> Iterator[bytes]:
    """The bytes of a member, in blocks.

    Raises:
        Damaged: its digest differs, which is known at its end.
        OSError: the file cannot be read.

    """
    member = bundle.members[name]
    digest, left = hashlib.sha256(), member.size
    with bundle.path.open("rb") as stream:
        stream.seek(member.offset)
        while left > 0 and (block := stream.read(min(_BLOCK, left))):
            digest.update(block)
            left -= len(block)
            yield block
    if left or digest.hexdigest() != member.sha256:
        raise Damaged(f"its member {name!r} is altered: it does not have the SHA-256 {member.sha256}")


def content(bundle: Bundle, name: str) -> bytes:
    """The bytes of a small member; raises as `blocks` does."""
    return b"".join(blocks(bundle, name))


def _opened(source: bytes | Path) -> IO[bytes]:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _digest(content: IO[bytes]) -> tuple[str, int]:
    """The SHA-256 of a file, and its size."""
    digest, size = hashlib.sha256(), 0
    while block := content.read(_BLOCK):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


# ---------------------------------------------------------------------------------------------- before an installation


def wheels_for(names: Iterable[str], machine: str) -> list[str]:
    """The wheels of the tool for a kind of machine, by their platform tags (``x86_64``, ``aarch64``)."""
    return [name for name in names if name.endswith((f"_{machine}.whl", "-any.whl"))]


def main(argv: list[str]) -> int:
    """Verify a bundle, and put the tool's wheels for this machine into an empty folder: ``BUNDLE FOLDER``.

    Returns:
        1 if the bundle is damaged or a file cannot be written, with the reason on standard output; else 0.

    """
    path, folder = map(Path, argv)
    try:
        bundle = read(path)
        verify(bundle)
        for name in wheels_for(bundle.named(TOOL), platform.machine()):
            with (folder / name.removeprefix(TOOL)).open("wb") as stream:
                stream.writelines(blocks(bundle, name))
    except (Damaged, OSError) as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Packs a folder into a tar archive that `archive.unpack` restores: modes, times, links and empty folders are in it."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from nbprovision.files.folder_scan import Scanned
from nbprovision.model.errors import TaskFailed
from nbprovision.system.files import explained


def pack(folder: Path, entries: Sequence[Scanned], archive: IO[bytes], failure: str, *, compressed: bool) -> None:
    """Pack the entries of a folder; whose they are is not packed, as they become the restoring user's.

    Args:
        folder: The folder.
        entries: Its entries, each folder before its own.
        archive: The stream of the archive.
        failure: The message of an error.
        compressed: Whether to compress it by gzip.

    Raises:
        TaskFailed: a file cannot be read, or is another one meanwhile.

    """
    with explained(failure), _opened(archive, compressed=compressed) as tar:
        for entry in entries:
            information = tarfile.TarInfo(entry.name)
            information.mode = stat.S_IMODE(entry.mode)
            information.mtime = entry.modified
            if entry.kind == "folder":
                information.type = tarfile.DIRTYPE
                tar.addfile(information)
            elif entry.kind == "link":
                information.type = tarfile.SYMTYPE
                information.linkname = os.readlink(folder / entry.name)
                tar.addfile(information)
            else:
                _add(tar, information, folder / entry.name, failure)


def _opened(archive: IO[bytes], *, compressed: bool) -> tarfile.TarFile:
    if compressed:
        return tarfile.open(fileobj=archive, mode="w:gz", format=tarfile.PAX_FORMAT, compresslevel=6)
    return tarfile.open(fileobj=archive, mode="w:", format=tarfile.PAX_FORMAT)


def _add(tar: tarfile.TarFile, information: tarfile.TarInfo, path: Path, failure: str) -> None:
    """Add a regular file, through no link that has taken its place since it was found."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # removed meanwhile
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise TaskFailed(failure, cause=f"{path} is not a file any more", cure="run again")
        information.size = status.st_size
        try:
            tar.addfile(information, stream)
        except OSError as error:
            if error.errno is not None:
                raise
            raise TaskFailed(
                failure, cause=f"{path} became shorter while it was read", cure="run again when nobody writes to it"
            ) from error

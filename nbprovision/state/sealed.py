"""Files of the tool that are used whole or not at all: one line of header with a digest, and a body in MessagePack.

Only this user may be able to write them: what they hold is written to other places later.
"""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from pathlib import Path

from nbprovision.system.files import make_folder, write_atomically


def digest(data: bytes) -> bytes:
    """The digest of a body, in hexadecimal."""
    return blake2b(data, digest_size=16).hexdigest().encode()


def write(path: Path, header: bytes, body: bytes) -> None:
    """Write a file; its folder is for this user alone.

    Args:
        path: The file.
        header: The name and version of its format.
        body: The content.

    Raises:
        TaskFailed: the disk is full, the folder cannot be written, ...

    """
    make_folder(path.parent, mode=0o700)
    write_atomically(path, header + digest(body) + b"\n" + body, mode=0o600)


def read(path: Path, header: bytes, *, most: int) -> bytes:
    """The body of a file.

    Args:
        path: The file.
        header: As it was written.
        most: The largest size, in bytes.

    Raises:
        OSError: it is missing, damaged, of another version, too large, or another user may have written it.

    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path.name, flags, dir_fd=folder), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > most:
                raise OSError(0, "it is not a file that this tool has written")
            for place in (status, os.fstat(folder)):
                if place.st_uid != os.getuid() or place.st_mode & 0o022:
                    raise OSError(0, "another user may have written it")
            head, _, body = stream.read().partition(b"\n")
    finally:
        os.close(folder)
    if head != header + digest(body):
        raise OSError(0, "it is damaged, or of another version")
    return body

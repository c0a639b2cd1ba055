"""Files that anybody may have put there, read without trust: no pipe is waited for, no device read without end.

Each read is recorded for listeners (`inputs`), so that a result can be doubted after a change.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from nbprovision.system import inputs

T = TypeVar("T")

# Not blocking: to open a pipe that nobody writes to would take for ever.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
MOST = 64 << 20  # bytes; the largest records of conda packages have some 20 MB


def read_bytes(path: str | Path, *, most: int = MOST, follow: bool = True) -> bytes:
    """The content of a regular file.

    Args:
        path: The file.
        most: Bytes that it may have.
        follow: A link to one will do.

    Raises:
        OSError: it is not there, may not be read, is a pipe, a device or a folder, or is too large; `strerror` says so.

    """
    inputs.file(path)
    handle = os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW)
    with open(handle, "rb", buffering=0) as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"it is {kind_of(status)}, not a file", str(path))
        content = stream.read(most + 1) if status.st_size <= most else b""
        if status.st_size > most or len(content) > most:
            raise OSError(errno.EFBIG, f"it has more than {most >> 20} MiB", str(path))
        return content


def read_end(path: str | Path, count: int) -> bytes:
    """The last ``count`` bytes of a regular file, not of a link to one; raises as `read_bytes` does."""
    inputs.file(path)
    handle = os.open(path, _FLAGS | os.O_NOFOLLOW)
    with open(handle, "rb", buffering=0) as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"it is {kind_of(status)}, not a file", str(path))
        stream.seek(max(0, status.st_size - count))
        return stream.read(count)


@overload
def read_json(path: str | Path, kind: type[T], *, most: int = MOST, follow: bool = True) -> T: ...
@overload
def read_json(path: str | Path, *, most: int = MOST, follow: bool = True) -> Any: ...
def read_json(path: str | Path, kind: Any = Any, *, most: int = MOST, follow: bool = True) -> Any:
    """The JSON document in a file.

    Args:
        path: The file.
        kind: The expected type.
        most: Bytes that it may have.
        follow: A link to one will do.

    Raises:
        OSError: it cannot be read; see `read_bytes`.
        msgspec.DecodeError: it is not JSON, or not of that kind.

    """
    return decode(msgspec.json.Decoder(kind), read_bytes(path, most=most, follow=follow))


def decode(decoder: msgspec.json.Decoder[T], content: bytes) -> T:
    """What ``decoder`` makes of ``content``; endless nesting is an error, not a crash.

    Raises:
        msgspec.DecodeError: it is not JSON, not UTF-8, or not of the decoder's kind.

    """
    try:
        return decoder.decode(content)
    except (RecursionError, UnicodeDecodeError) as error:
        raise msgspec.DecodeError(str(error)) from None


def kind_of(status: os.stat_result) -> str:
    """Describe what is at a path: a folder, a named pipe, a device, ..."""
    for test, words in _KINDS:
        if test(status.st_mode):
            return words
    return "a file"


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISLNK, "a link"),
)

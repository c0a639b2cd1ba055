"""Reads files that anybody may have written: it never waits for a pipe, and never reads a device without end.

Each read is recorded as an input (`inputs`), so that a later change of the file voids the result.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from nbprovision.system import inputs

T = TypeVar("T")

# Not blocking: opening a pipe without a writer would not return.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_AT_ONCE = 1 << 14  # bytes; files of the kernel must be read at once
MOST = 64 << 20  # bytes; the largest records of conda packages have some 20 MB


def read_bytes(path: str | Path, *, most: int = MOST, follow: bool = True) -> bytes:
    """The content of a regular file.

    Args:
        path: The file.
        most: The largest size, in bytes.
        follow: Accept a link to a file.

    Raises:
        OSError: it is missing, unreadable, too large, or a pipe, a device or a folder; `strerror` gives the reason.

    """
    with _opened(path, follow=follow) as stream:
        size = os.fstat(stream.fileno()).st_size
        # Python reserves as much memory as it may read. Files of the kernel have no size, and a file may be growing.
        expected = min(max(size, _AT_ONCE), most)
        content = stream.read(expected + 1) if size <= most else b""
        if len(content) > expected:
            content += stream.read(most + 1 - len(content))
        if size > most or len(content) > most:
            raise OSError(errno.EFBIG, f"it has more than {most >> 20} MiB", str(path))
        return content


def read_end(path: str | Path, count: int) -> bytes:
    """The last ``count`` bytes of a regular file, not of a link; raises as `read_bytes` does."""
    with _opened(path, follow=False) as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - count))
        return stream.read(count)


def _opened(path: str | Path, *, follow: bool) -> io.FileIO:
    inputs.file(path)
    stream = io.FileIO(os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW))
    status = os.fstat(stream.fileno())
    if not stat.S_ISREG(status.st_mode):
        stream.close()
        raise OSError(errno.EINVAL, f"it is {kind_of(status)}, not a file", str(path))
    return stream


@overload
def read_json(path: str | Path, kind: type[T], *, follow: bool = True) -> T: ...
@overload
def read_json(path: str | Path, *, follow: bool = True) -> Any: ...
def read_json(path: str | Path, kind: Any = Any, *, follow: bool = True) -> Any:
    """The JSON document in a file.

    Args:
        path: The file.
        kind: The expected type.
        follow: Accept a link to a file.

    Raises:
        OSError: it cannot be read; see `read_bytes`.
        msgspec.DecodeError: it is not JSON, or not of that kind.

    """
    return decode(msgspec.json.Decoder(kind), read_bytes(path, follow=follow))


def decode(decoder: msgspec.json.Decoder[T], content: bytes) -> T:
    """Decode ``content``; too deep nesting is an error, not a crash.

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

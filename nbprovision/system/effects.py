"""The effects of tasks: the paths that they change, each with its state before, recorded where it is changed.

The functions of `system.files` call `note` before they change a path. `state.effects` keeps what a restart takes away.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import stat
from collections.abc import Callable, Iterator
from hashlib import blake2b

MISSING = "-"
UNKNOWN = "?"  # a large file, a pipe, ...: it cannot be compared
LARGEST = 1 << 16  # bytes of a file that is compared, and kept


class Effects:
    """The changed paths, in the order of their first changes, each with its state before.

    Args:
        concerns: Whether a path is recorded.

    """

    def __init__(self, concerns: Callable[[str], bool]) -> None:
        self.concerns = concerns
        self.before: dict[str, str] = {}


_RECORDING: contextvars.ContextVar[tuple[Effects, ...]] = contextvars.ContextVar("effects", default=())


@contextlib.contextmanager
def recorded(concerns: Callable[[str], bool] = lambda path: True) -> Iterator[Effects]:
    """Record the changes of the body; an outer recording gets them too.

    Args:
        concerns: Whether a path is recorded.

    """
    effects = Effects(concerns)
    token = _RECORDING.set((*_RECORDING.get(), effects))
    try:
        yield effects
    finally:
        _RECORDING.reset(token)


def note(path: str | os.PathLike[str]) -> None:
    """Record that a path is about to change."""
    recordings = _RECORDING.get()
    name = os.path.abspath(path)
    if not recordings or not all(effects.concerns(name) for effects in recordings):
        return
    if all(name in effects.before for effects in recordings):
        return
    state = state_of(name)
    for effects in recordings:
        effects.before.setdefault(name, state)


def state_of(path: str) -> str:
    """The state of a path, for comparison: its kind, its permission bits and owner, and a digest of its content."""
    try:
        status = os.lstat(path)
        mode = f"{stat.S_IMODE(status.st_mode):o} {status.st_uid}"
        if stat.S_ISDIR(status.st_mode):
            return f"folder {mode}"
        if stat.S_ISLNK(status.st_mode):
            return f"link {mode} {_digest(os.fsencode(os.readlink(path)))}"
        return f"file {mode} {_digest(content(path))}" if stat.S_ISREG(status.st_mode) else UNKNOWN
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError:
        return UNKNOWN


def content(path: str) -> bytes:
    """The content of a small regular file, not of a link.

    Raises:
        OSError: it is missing, unreadable, too large or something else.

    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "it is not a file")
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise OSError(0, "it is too large")
    return data


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()

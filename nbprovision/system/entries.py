"""The state of a path: an ordinary file with its content, a folder, a link, or nothing. No link is followed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import msgspec

from nbprovision.system import inputs
from nbprovision.system.files import explained

Kind = Literal["nothing", "file", "folder", "link", "other"]

LARGEST_TEXT = 1 << 20  # bytes; what is larger is compared by its digest and never shown
_BLOCK = 1 << 20
_WORDS = {"file": "a file", "folder": "a folder", "link": "a link", "other": "a device, pipe or socket"}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One observation of a path.

    Attributes:
        kind: What it is.
        mode: Its permission bits; 0 for links and where nothing is.
        data: The content of a file of at most `LARGEST_TEXT` bytes.
        digest: The digest of the content of a larger one.
        target: What a link names.

    """

    kind: Kind = "nothing"
    mode: int = 0
    data: bytes | None = None
    digest: str = ""
    target: str = ""

    @property
    def word(self) -> str:
        """What it is, for a message."""
        return f"a link to {self.target}" if self.kind == "link" else _WORDS.get(self.kind, "nothing")

    @property
    def content(self) -> tuple[bytes | None, str]:
        """What two files of the same content have in common."""
        return self.data, self.digest

    @property
    def text(self) -> str | None:
        """The text to show; None if the file does not exist."""
        if self.kind != "file":
            return None
        return shown(self.data)


def shown(data: bytes | None) -> str:
    """The content of a file as text for a diff, or why it is none (None for more than `LARGEST_TEXT` bytes)."""
    if data is None:
        return f"(more than {LARGEST_TEXT} bytes)\n"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"({len(data)} bytes that are not text: {hashlib.sha256(data).hexdigest()[:12]})\n"
    return text.replace("\0", "\N{SYMBOL FOR NULL}")


def look(path: Path) -> Entry:
    """Return the state of ``path``.

    Raises:
        TaskFailed: it cannot be read.

    """
    inputs.file(path)
    with explained(f"cannot look at {path}"):
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return Entry()
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            return Entry(kind="folder", mode=mode)
        if stat.S_ISLNK(status.st_mode):
            return Entry(kind="link", target=os.readlink(path))
        if not stat.S_ISREG(status.st_mode):
            return Entry(kind="other", mode=mode)
        # Not blocking, and no link: something else may have taken its place since.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            data = stream.read(LARGEST_TEXT + 1)
            if len(data) <= LARGEST_TEXT:
                return Entry(kind="file", mode=mode, data=data)
            return Entry(kind="file", mode=mode, digest=_digest(data, stream))


def tree(folder: Path) -> Iterator[str]:
    """The relative paths of all that is in a folder, a folder before what is in it; no link is followed.

    Raises:
        TaskFailed: it cannot be read.

    """
    waiting = [""]
    while waiting:
        here = waiting.pop()
        with explained(f"cannot read {folder / here}"), os.scandir(folder / here) as entries:
            children = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        for name, is_folder in children:
            yield os.path.join(here, name)
            if is_folder:
                waiting.append(os.path.join(here, name))


def _digest(begun: bytes, stream: IO[bytes]) -> str:
    digest = hashlib.blake2b(begun)
    while block := stream.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()

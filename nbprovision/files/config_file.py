"""Puts a configuration file in place together with the record of what was there before."""

from __future__ import annotations

from pathlib import Path

import msgspec

from nbprovision.files.configured import Before, record_of
from nbprovision.system.files import link_atomically, remove, remove_if_empty, write_atomically

SECRET_MODE = 0o600


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """What a file is to become.

    Attributes:
        path: The file.
        text: Its whole content, None for no file.
        mode: Its permission bits.
        link: What it is to name instead of having a content.
        record: The record that is to lie beside it, None for none.
        folders: Folders to remove, where they are empty, the topmost first.
    """

    path: Path
    text: str | None
    mode: int
    link: str | None = None
    record: Before | None = None
    folders: tuple[str, ...] = ()


def put(write: Write) -> None:
    """Carry it out, so that a kill at any moment leaves what the next run can tell apart and finish.

    Raises:
        TaskFailed: the folder cannot be written, the disk is full, ...
    """
    record = record_of(write.path)
    if write.record is not None and not write.record.given_back:
        write_atomically(record, msgspec.json.encode(write.record), mode=SECRET_MODE)
    if write.link is not None:
        link_atomically(write.path, write.link)
    elif write.text is None:
        remove(write.path)
    else:
        write_atomically(write.path, write.text, mode=write.mode)
    if write.record is None:
        remove(record)
    elif write.record.given_back:
        write_atomically(record, msgspec.json.encode(write.record), mode=SECRET_MODE)
    for folder in reversed(write.folders):
        remove_if_empty(Path(folder))

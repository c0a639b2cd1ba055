"""The records of installed packages in conda-meta (CEP 34)."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from nbprovision.conda.query import Package
from nbprovision.machine.environments import CondaRecord
from nbprovision.system import inputs
from nbprovision.system.reading import decode, read_bytes

T = TypeVar("T")


class Details(msgspec.Struct, frozen=True):
    """The content of a package's record, without its files."""

    name: str
    version: str
    build: str
    channel: str = ""
    subdir: str = ""
    sha256: str | None = None
    md5: str | None = None
    requested_spec: str | None = None
    requested_specs: list[str] = []
    depends: list[str] = []

    @classmethod
    def of(cls, package: Package) -> Details:
        """The content of the record that a solved package will have, without the specs of users."""
        subdir = package.url.split("/")[-2]
        return cls(package.name, package.version, package.build, package.channel, subdir)

    @property
    def home(self) -> str:
        """The URL of its channel; conda records the URL of the channel's subdir."""
        return self.channel.rstrip("/").removesuffix(f"/{self.subdir}") if self.subdir else self.channel.rstrip("/")

    @property
    def requested(self) -> list[str]:
        """The specs by which users requested it: conda writes one, other tools several."""
        return self.requested_specs or ([self.requested_spec] if self.requested_spec else [])


_DETAILS = msgspec.json.Decoder(Details)


def details_of(record: CondaRecord) -> Details | None:
    """The content of a record, None if it cannot be read; an unchanged record is parsed once."""
    state = state_of(record)
    return None if state is None else _details(record, state)


def state_of(record: CondaRecord) -> tuple[int, ...] | None:
    """The numbers that change if the file of a record is written or replaced; None if it is missing."""
    try:
        status = os.stat(record.path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


@functools.lru_cache(maxsize=8192)
def _details(record: CondaRecord, _state: tuple[int, ...]) -> Details | None:
    return content_of(record, _DETAILS)


def content_of(record: CondaRecord, decoder: msgspec.json.Decoder[T]) -> T | None:
    """The content of a record as ``decoder`` reads it, None if it cannot be read."""
    try:
        with inputs.unrecorded():
            return decode(decoder, read_bytes(record.path))
    except (OSError, msgspec.DecodeError):
        return None


def all_details(records: Iterable[CondaRecord]) -> dict[str, Details]:
    """The contents of the records that can be read, by name."""
    return {record.name: content for record in records if (content := details_of(record)) is not None}

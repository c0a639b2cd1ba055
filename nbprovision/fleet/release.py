"""A release: one reproducible tar archive with a playbook, all files that it names, and its lock.

    RELEASE          the first member: lines of NAME=VALUE
    files/...        the playbook and its files; team.lock/ beside it

Its name in the bucket is its SHA-256, so that two publishers of the same files write the same object.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.engine.session import Catalogue
from nbprovision.lifecycle.payload import Container, Payload
from nbprovision.lifecycle.playbook import examine
from nbprovision.lifecycle.render import VERSION
from nbprovision.lint.finding import Finding
from nbprovision.lock import folder as lock_folder
from nbprovision.lock import requests
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook

FORMAT = 1
FILES = "files/"
HEAD = "RELEASE"
HEAD_BYTES = 2048  # of an archive, in which its first member lies
_CONTAINER = Container("the release", 50_000_000, 10_000, text=False)


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A release.

    Attributes:
        digest: The SHA-256 of its archive.
        content: The archive.
        playbook: The path of its playbook below ``files/``.
        files: The number of its files.
        locked: Whether it has a lock.
        warnings: The warnings of lint.
        notes: A sentence for each file that is left out or changed.
    """

    digest: str
    content: bytes
    playbook: str
    files: int
    locked: bool
    warnings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its key below the fleet's prefix."""
        return release_name(self.digest)


def release_name(digest: str) -> str:
    """Return the key of a release below the fleet's prefix."""
    return f"releases/{digest}/release.tar"


def fleet_of(content: bytes) -> str:
    """Return the name of the fleet in the first bytes of a release; empty if they have none."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r|") as archive:
            head = archive.next()
            file = archive.extractfile(head) if head is not None and head.name == HEAD else None
            text = file.read().decode() if file is not None else ""
    except (tarfile.TarError, UnicodeDecodeError, OSError, EOFError):
        return ""
    return next((line.partition("=")[2] for line in text.splitlines() if line.startswith("fleet=")), "")


def make(fleet: str, path: Path, there: Machine, here: Callable[[], Machine], catalogue: Catalogue) -> Release:
    """Pack a release.

    Args:
        fleet: The name of the fleet.
        path: The playbook.
        there: The known facts about the instances, which only this function may use.
        here: Returns the facts of this machine, on which the lock was written.
        catalogue: Every kind of task.

    Raises:
        InvalidPlaybook: a run would refuse the playbook, a file of it is missing or cannot go into a release, or its
            lock is stale.
    """
    checked = examine(path, there, catalogue, {}, into=_CONTAINER)
    lock = _lock(path, here, catalogue)
    playbook = next(iter(checked.payload.files))
    content = packed(fleet, playbook, checked.payload, lock)
    return Release(
        digest=hashlib.sha256(content).hexdigest(),
        content=content,
        playbook=playbook,
        files=len(checked.payload.files) + len(lock),
        locked=bool(lock),
        warnings=checked.warnings,
        notes=checked.notes,
    )


def packed(fleet: str, playbook: str, payload: Payload, lock: Mapping[str, bytes]) -> bytes:
    """Return the archive; the same arguments make the same bytes."""
    head = {"format": str(FORMAT), "playbook": playbook, "tool": VERSION, "fleet": fleet}
    if lock:
        head["locked"] = "1"
    text = "".join(f"{name}={value}\n" for name, value in head.items())
    folder = playbook.rpartition(".")[0] + ".lock"
    files = {**payload.files, **{f"{folder}/{name}": data for name, data in lock.items()}}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, HEAD, text.encode(), 0o644)
        for name in sorted(files):
            _add(archive, FILES + name, files[name], 0o755 if name in payload.executable else 0o644)
    return stream.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)  # its owner and its time are 0
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def _lock(path: Path, here: Callable[[], Machine], catalogue: Catalogue) -> dict[str, bytes]:
    """Return the files of the playbook's lock; empty without one.

    Raises:
        InvalidPlaybook: it is stale.
    """
    folder = lock_folder.folder_of(path)
    if not lock_folder.exists(folder):
        return {}
    machine = here()
    lock = lock_folder.read(folder, tool=machine.home, home=machine.user_home)
    variables: dict[str, Any] = {}
    stale = lock.stale(requests.collect(path, machine, catalogue, variables, images=lock.images))
    if stale:
        raise InvalidPlaybook(
            f"the lock {folder} is stale", cause="\n".join(stale), cure=f"write it again: nbprovision lock {path}"
        )
    return lock_folder.content(folder)

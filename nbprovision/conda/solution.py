"""Packages that are about to be linked: the check for disk space, and the check of their bytes against the index.

Both happen before anything changes. The needed space is a lower bound, so that nothing is refused that would fit: the
download sizes of the packages that are in no cache. Unpacked they are larger, by an unknown factor.

py-rattler (0.28) compares the digest of each download. It trusts archives in a folder, channels at ``file://`` and
unpacked packages in a cache. Therefore an archive is hashed here, once while it stays unchanged. An unpacked package
counts only if its source is known: by a mark of nbprovision, by the archive beside it, or by the engine's note of a
download.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec

from nbprovision.conda.query import MARK, Package
from nbprovision.machine.digests import digest_of
from nbprovision.machine.environments import CondaRecord, installed
from nbprovision.model.errors import NotBegun, TaskFailed
from nbprovision.system.disk_space import free_space, megabytes, require_bytes
from nbprovision.system.files import read_text, remove, write_atomically
from nbprovision.system.reading import read_bytes, read_json

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

_SUFFIXES = (".conda", ".tar.bz2")
_REVISION = 8  # bytes before the digest in py-rattler's NAME.lock
_NOTABLE_SIZE = 1_000_000  # bytes
_LIST = "info/paths.json"
_OLD_LIST = "info/files"  # of packages from before 2017, which have no other
_lock = threading.Lock()  # environments are created in parallel from the same packages: each is hashed once


INDEX = "its channel's index"
_CURES = {
    True: "if it was replaced on purpose, write the channel's index again; else fetch the package again",
    False: "if it was replaced on purpose, lock again; else fetch the package again",
}


class _Record(msgspec.Struct, frozen=True):
    """conda's record of a package in its cache."""

    sha256: str = ""
    md5: str = ""


class _File(msgspec.Struct, frozen=True):
    """An entry of a package's list of files."""

    path: str = msgspec.field(name="_path")


class _Files(msgspec.Struct, frozen=True):
    """The file ``info/paths.json`` of a package."""

    paths: list[_File]


class Solution:
    """The packages that an environment will contain, and the means to install them.

    Attributes:
        packages: All packages of the environment.
        listed_in: Where their digests come from, for messages.
        verifies: Whether the engine compares the digest of each archive that it unpacks, before it links any.

    """

    listed_in = INDEX
    verifies = False

    def __init__(self, packages: tuple[Package, ...]) -> None:
        self.packages = packages

    def caches(self, machine: Machine, prefix: Path) -> list[Path]:
        """The package caches; downloads go to the first one."""
        raise NotImplementedError

    def room(self, machine: Machine, prefix: Path) -> tuple[str, ...]:
        """A note about the size of the download, if it is large."""
        return room_note(prefix, self.packages, self.caches(machine, prefix))

    def check(self, machine: Machine, prefix: Path, *, reinstall: Collection[str] = ()) -> None:
        """Check the packages against the indexes of their channels, or the lock; may raise `TaskFailed`."""
        packages = coming(prefix, self.packages, reinstall)
        require_digests(machine, packages, self.caches(machine, prefix), self.listed_in)

    def prepare(self, machine: Machine, prefix: Path, *, reinstall: Collection[str] = ()) -> None:
        """Check the disk space and rehearse the installation, before anything changes.

        Raises:
            NotBegun: the disk is full, a download failed, or a folder is a link that leads out of the environment.
                Nothing was changed.

        """
        try:
            caches = self.caches(machine, prefix)
            new = coming(prefix, self.packages, reinstall)
            admit(machine, new, caches, self.listed_in, hashed=not self.verifies)
            require_room(prefix, self.packages, caches)
            self.rehearse(machine, prefix, reinstall=reinstall)
        except TaskFailed as error:
            self.close()
            raise NotBegun(error.message, cause=error.cause, cure=error.cure) from error

    def rehearse(self, machine: Machine, prefix: Path, *, reinstall: Collection[str] = ()) -> None:
        """Do the steps that may fail without changing the environment; may raise `TaskFailed`."""
        raise NotImplementedError

    def install(
        self, machine: Machine, prefix: Path, *, requested: Iterable[str], reinstall: Iterable[str] = ()
    ) -> None:
        """Fetch and link the packages, and remove all others. The caller writes the history.

        Args:
            machine: The machine, which reports the progress.
            prefix: The environment, absolute: scripts contain it literally.
            requested: Specs that users requested, now and before; the records of other packages lose theirs.
            reinstall: Names of packages to reinstall.

        Raises:
            TaskFailed: the installation failed.

        """
        raise NotImplementedError

    def close(self) -> None:
        """Release the resources that the installation would need."""


def identity(package: Package | CondaRecord) -> tuple[str, str, str]:
    """Name, version and build."""
    return package.name, package.version, package.build


def coming(prefix: Path, packages: Iterable[Package], again: Collection[str] = ()) -> list[Package]:
    """The packages that the environment lacks in this version and build, and those to reinstall."""
    present = {identity(record) for record in installed(prefix) if record.name not in again}
    return [package for package in packages if identity(package) not in present]


def download(prefix: Path, packages: Iterable[Package], caches: Sequence[Path]) -> int:
    """The bytes to fetch: those of packages that no cache has as a folder NAME-VERSION-BUILD."""
    new = coming(prefix, packages)
    return sum(package.size for package in new if not any(is_in(cache, package) for cache in caches))


def is_in(cache: Path, package: Package) -> bool:
    """Whether a package cache has an unpacked package of that name, version and build."""
    return (cache / _stem(package)).is_dir()


def unpacked(packages: Iterable[Package], cache: Path) -> list[Path]:
    """The folders of the packages in a package cache."""
    return [cache / _stem(package) for package in packages]


def room_note(prefix: Path, packages: Iterable[Package], caches: Sequence[Path]) -> tuple[str, ...]:
    """A note for a check: the size of the download, and whether the disk has space for it."""
    need = download(prefix, packages, caches)
    if need < _NOTABLE_SIZE:
        return ()
    room = free_space(next(iter(caches), prefix))
    verdict = "" if need <= room.free else ": not enough space"
    sizes = f"downloads {megabytes(need)} and takes more unpacked; {megabytes(room.free)} are free at {room.folder}"
    return (sizes + verdict,)


def require_room(prefix: Path, packages: Iterable[Package], caches: Sequence[Path]) -> None:
    """Refuse packages that certainly do not fit on the disk.

    Args:
        prefix: The environment, which need not exist.
        packages: All packages that it will contain.
        caches: The package caches; downloads go to the first one.

    Raises:
        NotBegun: the disk is too full; the message has the needed and the free space.

    """
    require_bytes(prefix, download(prefix, packages, caches), next(iter(caches), prefix))


def require_digests(
    machine: Machine, packages: Iterable[Package], caches: Sequence[Path], listed_in: str = INDEX
) -> None:
    """Hash the local archives that are about to be unpacked.

    Args:
        machine: The machine, for the digests of files.
        packages: The packages to link.
        caches: The folders of unpacked packages.
        listed_in: Where the packages' digests come from.

    Raises:
        TaskFailed: an archive differs from its channel's index. Or see `_require_names`.

    """
    packages = list(packages)
    _require_names(packages, listed_in)
    for package in packages:
        archive = archive_of(package)
        if archive is None or any(_is_known(machine, package, cache) for cache in caches):
            continue
        fault = _fault(machine, package, archive)
        if fault:
            raise TaskFailed(
                f"the package {archive.name} is not installed",
                cause=f"{archive} is not the file in {listed_in}: {fault}",
                cure=_CURES[listed_in == INDEX],
            )


def _require_names(packages: Iterable[Package], listed_in: str) -> None:
    """Refuse packages whose version or build is a path: the engine would unpack them there.

    Raises:
        TaskFailed: one of them is.

    """
    for package in packages:
        if "/" in _stem(package) or "\0" in _stem(package):
            raise TaskFailed(
                f"the package {_stem(package)[:200]!r} is not installed",
                cause=f"its version or build in {listed_in} is a path",
                cure="do not trust the channel, and name another one",
            )


def admit(
    machine: Machine,
    packages: Iterable[Package],
    caches: Sequence[Path],
    listed_in: str = INDEX,
    *,
    hashed: bool = True,
) -> None:
    """Remove unpacked packages of unknown source from the caches, so that only checked bytes are unpacked and linked.

    Args:
        machine: The machine, for the digests of files.
        packages: The packages to link.
        caches: The folders of unpacked packages.
        listed_in: Where the packages' digests come from.
        hashed: Hash the local archives first, as `require_digests` does; else only those that differ in size, as
            something else may not fit on the disk, or that cannot be read.

    Raises:
        TaskFailed: an archive differs from its channel's index, or a package cannot be removed; see `_require_names`.

    """
    packages = list(packages)
    with _lock:
        _require_names(packages, listed_in)
        suspects = packages if hashed else [package for package in packages if _is_suspect(package)]
        require_digests(machine, suspects, caches, listed_in)
        admitted: set[tuple[Path, str, str]] = machine.notes.setdefault("admitted packages", set())
        for package in packages:
            for cache in caches:
                # From now on packages are unpacked from checked bytes only.
                key = (cache, _stem(package), package.sha256 or package.md5)
                if key not in admitted and not _is_known(machine, package, cache):
                    _take_out(machine, package, cache, always=listed_in != INDEX)
                admitted.add(key)


def _is_suspect(package: Package) -> bool:
    """Whether the local archive of a package cannot be the one that was listed, or cannot be read."""
    archive = archive_of(package)
    if archive is None:
        return False
    return bool(package.size and archive.stat().st_size != package.size) or not os.access(archive, os.R_OK)


def mark(packages: Iterable[Package], cache: Path) -> None:
    """Mark linked packages of local channels as unpacked from bytes that `admit` checked."""
    for package in packages:
        folder = cache / _stem(package)
        digest = package.sha256 or package.md5
        if digest and _is_local(package) and folder.is_dir():
            with contextlib.suppress(TaskFailed, OSError):  # a full disk: the next run unpacks it again
                if not _is_marked(folder, package):
                    write_atomically(folder / MARK, f"{digest}\n", durable=False)


def take_damaged_out(packages: Iterable[Package], cache: Path) -> None:
    """Remove unpacked packages that lack a file of their own lists: they cannot be linked, and are unpacked again."""
    for package in packages:
        folder = cache / _stem(package)
        if folder.is_dir() and not all(os.path.lexists(folder / path) for path in _listed(folder) or [_LIST]):
            with contextlib.suppress(TaskFailed):  # the failure of the installation is reported
                remove(folder)
                remove(cache / f"{_stem(package)}.lock")


def _listed(folder: Path) -> list[str]:
    """The files that an unpacked package lists; empty if its list cannot be read."""
    try:
        if _is_file(folder / _LIST):
            return [entry.path for entry in read_json(folder / _LIST, _Files).paths] or ["info"]
        return (read_text(folder / _OLD_LIST) or "").splitlines()
    except (OSError, msgspec.DecodeError):
        return []


def _is_file(path: Path) -> bool:
    """Whether it is a regular file itself: a pipe would keep an engine waiting."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def archive_of(package: Package) -> Path | None:
    """The archive of a package on this machine; None if it is on a server, or if the file is missing."""
    parts = urlsplit(package.url)
    path = Path(unquote(parts.path))
    return path if _is_local(package) and path.is_file() else None


def _is_local(package: Package) -> bool:
    return (package.url or package.channel).startswith("file:")


def _take_out(machine: Machine, package: Package, cache: Path, *, always: bool) -> None:
    folder = cache / _stem(package)
    beside = [path for path in _beside(package, cache) if _fault(machine, package, path)]
    if not always and not beside and _is_local(package) and archive_of(package) is None:
        return  # it could not be unpacked again
    for path in (folder, cache / f"{_stem(package)}.lock", *beside):
        remove(path)


def _is_known(machine: Machine, package: Package, cache: Path) -> bool:
    """Whether the cache has nothing that would be linked, or a package that was unpacked from the right bytes."""
    folder = cache / _stem(package)
    beside = _beside(package, cache)

    def sound() -> bool:
        return not any(_fault(machine, package, path) for path in beside)

    if not folder.is_dir():
        return sound() and archive_of(package) is None
    if not package.sha256 and not package.md5:
        return sound()
    if _is_marked(folder, package):
        return True
    if beside:
        return sound()
    if _is_local(package):
        return False
    if not package.sha256:
        return package.md5 == _recorded(folder).md5
    return package.sha256 in (_locked(cache / f"{_stem(package)}.lock"), _recorded(folder).sha256)


def _is_marked(folder: Path, package: Package) -> bool:
    """Whether a package was unpacked from the right bytes, and the engine will not unpack it again by itself."""
    with contextlib.suppress(OSError):
        if _is_file(folder / "info/index.json") and (_is_file(folder / _LIST) or _is_file(folder / _OLD_LIST)):
            return (read_text(folder / MARK) or "").strip() == (package.sha256 or package.md5)
    return False


def _beside(package: Package, cache: Path) -> list[Path]:
    """The archives of a package in a cache, where conda keeps them."""
    suffixes = [suffix for suffix in _SUFFIXES if package.url.endswith(suffix)] or _SUFFIXES
    return [path for suffix in suffixes if (path := cache / f"{_stem(package)}{suffix}").is_file()]


def _fault(machine: Machine, package: Package, archive: Path) -> str:
    """How the digest of an archive differs from the index; empty if it does not, or if the index has no digest."""
    expected, algorithm = package.sha256, "sha256"
    if not expected and package.md5:
        expected, algorithm = package.md5, "md5"
    if not expected:
        expected = _recorded(archive.parent / _stem(package)).sha256
    if not expected:
        return ""
    digest = machine.digests.of(archive, os.stat(archive)) if algorithm == "sha256" else digest_of(archive, algorithm)
    return "" if digest == expected else f"its {algorithm} is {digest}, not {expected}"


def _recorded(folder: Path) -> _Record:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return read_json(folder / "info/repodata_record.json", _Record)
    return _Record()


def _locked(path: Path) -> str:
    """The digest of a download, as py-rattler noted it after comparing it."""
    with contextlib.suppress(OSError):
        return read_bytes(path)[_REVISION:].hex()
    return ""


def _stem(package: Package) -> str:
    return f"{package.name}-{package.version}-{package.build}"

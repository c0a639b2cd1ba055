"""Packages that are about to be linked: whether there is space for them, and whether their bytes are the index's.

Both are checked before anything changes. The needed space is a lower bound, so that nothing is refused that would fit:
the download sizes of the packages that are in no cache. Unpacked they are larger, by an unknown factor.

py-rattler (0.28) compares the digest of what it downloads. An archive in a folder, a channel at ``file://`` or a
package already unpacked in a cache, it takes as it is. So an archive is hashed here, once for as long as it stays the
same, and an unpacked package counts only if it is known from which bytes it was unpacked: by a mark of this tool, by
the archive beside it, or, where it was downloaded, by what the engine wrote down of it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec

from nbprovision.conda.engine import Package
from nbprovision.machine.digests import digest_of
from nbprovision.machine.environments import installed
from nbprovision.model.errors import NotBegun, TaskFailed
from nbprovision.system.disk_space import free_space, megabytes, require_bytes
from nbprovision.system.files import read_text, remove, write_atomically
from nbprovision.system.reading import read_bytes, read_json

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

# In an unpacked package: the SHA-256 of the archive that it was unpacked from.
MARK = "info/nbprovision-sha256"
_SUFFIXES = (".conda", ".tar.bz2")
_REVISION = 8  # bytes of py-rattler's NAME.lock before the digest
_WORTH_TELLING = 1_000_000  # bytes
_lock = threading.Lock()  # environments are made side by side, of the same packages: each is hashed once


class _Record(msgspec.Struct, frozen=True):
    """What conda keeps of a package in its cache."""

    sha256: str = ""


class Solution:
    """What an environment will hold, and what can bring it about.

    Attributes:
        packages: All packages of the environment.

    """

    def __init__(self, packages: tuple[Package, ...]) -> None:
        self.packages = packages

    def caches(self, machine: Machine, prefix: Path) -> list[Path]:
        """Where packages are kept; the first one gets what is fetched."""
        raise NotImplementedError

    def room(self, machine: Machine, prefix: Path) -> tuple[str, ...]:
        """The download in words, where that is worth a word."""
        return room_note(prefix, self.packages, self.caches(machine, prefix))

    def check(self, machine: Machine, prefix: Path, *, reinstall: Collection[str] = ()) -> None:
        """Make sure that the packages are those of their channels' indexes; may raise `TaskFailed`."""
        require_digests(machine, coming(prefix, self.packages, reinstall), self.caches(machine, prefix))

    def prepare(self, machine: Machine, prefix: Path, *, reinstall: Collection[str] = ()) -> None:
        """Make sure, before anything changes, that there is space, as far as can be known, and rehearse.

        Raises:
            NotBegun: there is no space, something could not be fetched, or a folder is a link to elsewhere. Nothing was
                changed.

        """
        try:
            caches = self.caches(machine, prefix)
            admit(machine, coming(prefix, self.packages, reinstall), caches)
            require_room(prefix, self.packages, caches)
            self.rehearse(machine, prefix)
        except TaskFailed as error:
            self.close()
            raise NotBegun(error.message, cause=error.cause, cure=error.cure) from error

    def rehearse(self, machine: Machine, prefix: Path) -> None:
        """Do beforehand what may fail; may raise `TaskFailed`."""
        raise NotImplementedError

    def install(
        self, machine: Machine, prefix: Path, *, requested: Iterable[str], reinstall: Iterable[str] = ()
    ) -> None:
        """Fetch and link; what is installed and not in the solution goes. The caller writes the history.

        Args:
            machine: Hears the progress.
            prefix: The environment, absolute: it is written into scripts as it stands.
            requested: What users asked for, now and before: the records of the others lose the mention.
            reinstall: Names of packages to put in place again.

        Raises:
            TaskFailed: what went wrong, with its cause and cure.

        """
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what waits for the installation."""


def coming(prefix: Path, packages: Iterable[Package], again: Collection[str] = ()) -> list[Package]:
    """The packages that are not in the environment in this version and build, and those that are put in place again."""
    there = {(one.name, one.version, one.build) for one in installed(prefix) if one.name not in again}
    return [one for one in packages if (one.name, one.version, one.build) not in there]


def download(prefix: Path, packages: Iterable[Package], caches: Sequence[Path]) -> int:
    """The bytes to fetch: of what is in none of ``caches`` (conda's form: a folder NAME-VERSION-BUILD)."""
    names = [(one, f"{one.name}-{one.version}-{one.build}") for one in coming(prefix, packages)]
    return sum(one.size for one, name in names if not any((cache / name).is_dir() for cache in caches))


def room_note(prefix: Path, packages: Iterable[Package], caches: Sequence[Path]) -> tuple[str, ...]:
    """What is to be fetched, and whether there is room for it, for whoever only asks what would change."""
    need = download(prefix, packages, caches)
    if need < _WORTH_TELLING:
        return ()
    space = free_space(next(iter(caches), prefix))
    verdict = "" if need <= space.free else ": there is no room"
    sizes = f"downloads {megabytes(need)} and takes more unpacked; {megabytes(space.free)} are free at {space.folder}"
    return (sizes + verdict,)


def require_room(prefix: Path, packages: Iterable[Package], caches: Sequence[Path]) -> None:
    """Refuse what surely does not fit.

    Args:
        prefix: The environment, which need not be there yet.
        packages: All that it shall hold.
        caches: Where packages are kept; the first one gets what is fetched.

    Raises:
        NotBegun: with the need, the room, and what to do.

    """
    require_bytes(prefix, download(prefix, packages, caches), next(iter(caches), prefix))


def require_digests(machine: Machine, packages: Iterable[Package], caches: Sequence[Path]) -> None:
    """Hash the archives of ``packages`` that lie on this machine and are about to be unpacked.

    Args:
        machine: Digests of files.
        packages: What is to be linked.
        caches: Where unpacked packages are looked for.

    Raises:
        TaskFailed: one is not what its channel's index tells of; or the index has a path in the place of a version or
            build, where the engine would unpack the package.

    """
    for package in packages:
        if "/" in _stem(package) or "\0" in _stem(package):
            raise TaskFailed(
                f"the package {_stem(package)[:200]!r} is not installed",
                cause="its version or build in the channel's index is a path",
                cure="do not trust the channel, and name another one",
            )
        archive = archive_of(package)
        if archive is None or any(_is_known(machine, package, cache) for cache in caches):
            continue
        fault = _fault(machine, package, archive)
        if fault:
            raise TaskFailed(
                f"the package {archive.name} is not installed",
                cause=f"{archive} is not the file that its channel's index tells of: {fault}",
                cure="if it was replaced on purpose, write the index of the channel again; else fetch the package "
                "again from where it came",
            )


def admit(machine: Machine, packages: Iterable[Package], caches: Sequence[Path]) -> None:
    """Require what `require_digests` does, and take out of the caches what was unpacked from nobody knows what.

    Raises:
        TaskFailed: an archive is not what its channel's index tells of, or something that must go cannot.

    """
    packages = list(packages)
    with _lock:
        require_digests(machine, packages, caches)
        admitted: set[tuple[Path, str, str]] = machine.notes.setdefault("admitted packages", set())
        for package in packages:
            for cache in caches:
                # What is unpacked from now on is unpacked from bytes that were looked at.
                key = (cache, _stem(package), package.sha256)
                if key not in admitted and not _is_known(machine, package, cache):
                    _take_out(machine, package, cache)
                admitted.add(key)


def mark(packages: Iterable[Package], cache: Path) -> None:
    """Note of packages of folders, once they are linked, that they were unpacked from bytes that `admit` checked."""
    for package in packages:
        folder = cache / _stem(package)
        if package.sha256 and package.url.startswith("file:") and folder.is_dir():
            with contextlib.suppress(TaskFailed, OSError):  # no room: it is unpacked again the next time
                if (read_text(folder / MARK) or "").strip() != package.sha256:
                    write_atomically(folder / MARK, package.sha256 + "\n", durable=False)


def archive_of(package: Package) -> Path | None:
    """The file that a package of a channel in a folder comes from; None for another channel, or without the file."""
    parts = urlsplit(package.url)
    path = Path(unquote(parts.path))
    return path if parts.scheme == "file" and path.is_file() else None


def _take_out(machine: Machine, package: Package, cache: Path) -> None:
    folder = cache / _stem(package)
    beside = [path for path in _beside(package, cache) if _fault(machine, package, path)]
    remote = not (package.url or package.channel).startswith("file:")
    if not beside and not remote and archive_of(package) is None:
        return  # there is nothing to unpack it from again
    for path in (folder, cache / f"{_stem(package)}.lock", *beside):
        remove(path)


def _is_known(machine: Machine, package: Package, cache: Path) -> bool:
    """Whether nothing lies in the cache that would be linked, or it was unpacked from the right bytes."""
    folder = cache / _stem(package)
    beside = _beside(package, cache)
    if not folder.is_dir():
        return not any(_fault(machine, package, path) for path in beside) and archive_of(package) is None
    if not package.sha256 and not package.md5:
        return not any(_fault(machine, package, path) for path in beside)
    with contextlib.suppress(OSError):
        if package.sha256 and (read_text(folder / MARK) or "").strip() == package.sha256:
            return True
    if beside:
        return not any(_fault(machine, package, path) for path in beside)
    if (package.url or package.channel).startswith("file:"):
        return False
    return package.sha256 in (_locked(cache / f"{_stem(package)}.lock"), _recorded(folder).sha256)


def _beside(package: Package, cache: Path) -> list[Path]:
    """The archives of a package that lie in a cache, as conda keeps them."""
    suffixes = [suffix for suffix in _SUFFIXES if package.url.endswith(suffix)] or _SUFFIXES
    return [path for suffix in suffixes if (path := cache / f"{_stem(package)}{suffix}").is_file()]


def _fault(machine: Machine, package: Package, archive: Path) -> str:
    """How the digest of an archive differs from the index; empty where it does not, or the index has none."""
    expected, algorithm = package.sha256, "sha256"
    if not expected and package.md5:
        expected, algorithm = package.md5, "md5"
    if not expected:
        expected = _recorded(archive.parent / _stem(package)).sha256
    if not expected:
        return ""
    found = machine.digests.of(archive, os.stat(archive)) if algorithm == "sha256" else digest_of(archive, algorithm)
    return "" if found == expected else f"its {algorithm} is {found}, not {expected}"


def _recorded(folder: Path) -> _Record:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return read_json(folder / "info/repodata_record.json", _Record)
    return _Record()


def _locked(path: Path) -> str:
    """The digest that py-rattler wrote down of what it has downloaded and compared."""
    with contextlib.suppress(OSError):
        return read_bytes(path)[_REVISION:].hex()
    return ""


def _stem(package: Package) -> str:
    return f"{package.name}-{package.version}-{package.build}"

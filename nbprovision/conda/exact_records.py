"""The exact packages of a lock in the child process: py-rattler's records of them, and their archives in the cache.

py-rattler verifies what it downloads, and nothing that comes from ``file://`` or from a cache (0.28); and it links the
first packages while it still fetches others. Therefore every package is fetched, verified and unpacked here before
py-rattler gets the first one.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import rattler
from rattler.exceptions import InvalidMatchSpecError
from rattler.package.build_string import BuildString
from rattler.package_streaming import download_and_extract, download_to_writer

from nbprovision.conda.exact_packages import LockedPackage
from nbprovision.conda.query import MARK, ExactRequest
from nbprovision.model.errors import TaskFailed
from nbprovision.system.files import (
    make_folder,
    move_into_place,
    remove,
    replacing,
    temporary_folder,
    write_atomically,
)
from nbprovision.system.secrets import mask

if TYPE_CHECKING:
    from rattler.package.no_arch_type import NoArchLiteral

    from nbprovision.conda.rattler_child import _Reporter

FAILURES = (RuntimeError,)  # py-rattler's errors of a download
_AT_ONCE = 20  # downloads
_CHUNK = 1 << 20  # bytes


class Locked:
    """The exact packages of an environment, and the installed ones that stay beside them.

    Attributes:
        before: The records of the installed packages, by name.
        records: Those of the future packages.

    Raises:
        TaskFailed: a package is invalid, or needs a virtual package that this machine does not have.

    """

    def __init__(self, request: ExactRequest) -> None:
        installed = (rattler.PrefixRecord.from_path(Path(path)) for path in request.installed)
        self.before = {record.name.normalized: record for record in installed}
        self._packages = {package.name: package for package in request.locked}
        self._unknown: dict[str, LockedPackage] = {}  # those that have no other fields until they are fetched
        self.records: list[rattler.RepoDataRecord] = [self.before[name] for name in request.kept]
        for package in request.locked:
            before = self.before.get(package.name)
            if before is not None and _is_same(before, package):
                self.records.append(before)
                continue
            self.records.append(_record(package))
            if not package.complete:
                self._unknown[package.name] = package
        self._require_virtual_packages()

    # ------------------------------------------------------------------------------------------------------- archives

    async def fetch(
        self, client: rattler.Client | None, cache: Path, archives: Mapping[str, str], reporter: _Reporter
    ) -> None:
        """Put packages into the cache, each after a check of its digest.

        Args:
            client: For downloads; None to download nothing.
            cache: The package cache.
            archives: The packages by name, each with the path of its archive, or nothing to download it.
            reporter: Reports the downloads.

        Raises:
            TaskFailed: an archive is not the locked one.
            Exception: one of py-rattler's for a failed download.

        """
        make_folder(cache)
        limit = asyncio.Semaphore(_AT_ONCE)
        # The largest first: at the end of the others, it would leave processors idle.
        packages = [package for name, package in self._packages.items() if name in archives]
        packages.sort(key=lambda package: -package.size)
        # All of them: a failure of one keeps the others, which the next attempt does not fetch again.
        results = await asyncio.gather(
            *(self._fetch(package, client, cache, archives[package.name], reporter, limit) for package in packages),
            return_exceptions=True,
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:  # wrong bytes first: the other failures may come from them
            raise next((failure for failure in failures if isinstance(failure, TaskFailed)), failures[0])

    async def _fetch(
        self,
        package: LockedPackage,
        client: rattler.Client | None,
        cache: Path,
        archive: str,
        reporter: _Reporter,
        limit: asyncio.Semaphore,
    ) -> None:
        folder = cache / package.stem
        async with limit:
            if folder.is_dir():  # the parent has removed those of unknown source
                return
            with temporary_folder(folder) as scratch:
                path = Path(archive) if archive else scratch / package.file_name
                if not archive and not await self._download(package, client, path, cache, reporter):
                    return
                unpacked = scratch / package.stem
                await _unpack(package, path, unpacked, archive or package.url)
                make_folder(unpacked / "info")
                write_atomically(unpacked / MARK, f"{package.sha256 or package.md5}\n", durable=False)
                remove(cache / f"{package.stem}.lock")  # the library's note of other bytes
                try:
                    move_into_place(unpacked, folder)
                except TaskFailed:
                    if not folder.is_dir():  # as it is if another environment has the same package
                        raise

    async def _download(
        self, package: LockedPackage, client: rattler.Client | None, path: Path, cache: Path, reporter: _Reporter
    ) -> bool:
        """Download an archive; False if the library put the package into the cache by itself."""
        if package.url.startswith("file:"):
            raise TaskFailed(
                f"the package {package.file_name} is not installed",
                cause=f"{package.url} does not exist",
                cure="put it there, or lock again",
            )
        if client is None:
            raise TaskFailed(
                f"the package {package.file_name} is not installed",
                cause="conda is set to `offline`, and the package is not in the cache",
                cure="switch `offline` off, at least once",
            )
        try:
            await _download(client, package, path, reporter)
        except FAILURES as error:
            if "HTTP status" in str(error):
                raise
            # Its message has no reason. The installer has one, if it fails as well.
            record = next(record for record in self.records if record.name.normalized == package.name)
            with temporary_folder(cache / f"{package.stem}-again") as scratch:
                try:
                    await rattler.install([record], scratch, cache, client=client, show_progress=False)
                except Exception:
                    if not (cache / package.stem).is_dir():
                        raise
            return False
        return True

    # -------------------------------------------------------------------------------------------------------- records

    def completed(self, cache: Path) -> list[rattler.RepoDataRecord]:
        """The records of the packages, with what only the fetched packages know of themselves.

        Raises:
            TaskFailed: an archive contains another package, or it needs what this machine does not have.

        """
        if self._unknown:
            self.records = [
                _read(self._unknown[name], cache) if (name := record.name.normalized) in self._unknown else record
                for record in self.records
            ]
            self._unknown = {}
            self._require_virtual_packages()
        return self.records

    def _require_virtual_packages(self) -> None:
        """Refuse packages that need a virtual package (CEP 30), such as __glibc, that this machine does not have."""
        virtual = {}
        for package in rattler.VirtualPackage.detect(rattler.VirtualPackageOverrides.from_env()):
            generic = package.into_generic()
            build = BuildString(str(generic.build_string or "0"))
            record = rattler.PackageRecord(generic.name, str(generic.version), build, 0, "noarch")
            virtual[generic.name.normalized] = record
        for record in self.records:
            for text in record.depends if record.name.normalized in self._packages else ():
                name = text.partition(" ")[0]
                if name.startswith("__") and not _satisfies(virtual.get(name), text):
                    raise _lacking(record, text, virtual.get(name))


async def keep(packages: Iterable[LockedPackage], client: rattler.Client, folder: Path, reporter: _Reporter) -> None:
    """Put the archives of packages into a folder, each under its SHA-256; those that it has stay.

    Raises:
        TaskFailed: an archive is not the locked one.
        Exception: one of py-rattler's for a failed download.

    """
    limit = asyncio.Semaphore(_AT_ONCE)

    async def fetched(package: LockedPackage) -> None:
        path = folder / package.sha256
        async with limit:
            if path.exists():
                return
            with temporary_folder(path) as scratch:
                await _download(client, package, scratch / "archive", reporter)
                _require_digest(package, _digest_of(scratch / "archive", package), package.url)
                (scratch / "archive").rename(path)

    make_folder(folder)
    for result in await asyncio.gather(*map(fetched, packages), return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _download(client: rattler.Client, package: LockedPackage, path: Path, reporter: _Reporter) -> None:
    number = reporter.on_download_start(reporter.on_populate_cache_start(0, package.name))
    try:
        with replacing(path, durable=False) as stream:
            await download_to_writer(client, package.url, _Writer(stream, number, package.size, reporter))
    finally:
        reporter.on_download_completed(number)


class _Writer:
    """Writes a download, and reports its progress."""

    def __init__(self, stream: IO[bytes], number: int, size: int, reporter: _Reporter) -> None:
        self._stream = stream
        self._number = number
        self._size = size
        self._done = 0
        self._reporter = reporter

    def write(self, chunk: bytes) -> int:
        self._stream.write(chunk)
        self._done += len(chunk)
        self._reporter.on_download_progress(self._number, self._done, self._size or None)
        return len(chunk)


def _is_same(record: rattler.PrefixRecord, package: LockedPackage) -> bool:
    digests = [(package.sha256, record.sha256), (package.md5, record.md5)]
    same_bytes = next((mine == theirs.hex() for mine, theirs in digests if mine and theirs), True)
    installed = (str(record.version), str(record.build), record.subdir)
    return same_bytes and installed == (package.version, package.build, package.subdir)


def _record(package: LockedPackage) -> rattler.RepoDataRecord:
    """The record of a package, as a channel's index would have it.

    Raises:
        TaskFailed: the library cannot read a field.

    """
    noarch: NoArchLiteral | None = "python" if package.noarch == "python" else "generic" if package.noarch else None
    try:
        record = rattler.PackageRecord(
            package.name,
            package.version,
            BuildString(package.build),
            package.build_number,
            package.subdir,
            noarch=noarch,
            depends=package.depends,
            constrains=package.constrains,
            sha256=bytes.fromhex(package.sha256) or None,
            md5=bytes.fromhex(package.md5) or None,
            size=package.size or None,
            license=package.license,
            license_family=package.license_family,
            python_site_packages_path=package.python_site_packages_path,
        )
    except Exception as error:  # the library has an error of its own for each field
        raise TaskFailed(
            f"the lock has an invalid package: {package.stem}", cause=str(error), cure="lock again"
        ) from error
    record.track_features = package.track_features
    if package.timestamp is not None:
        record.timestamp = dt.datetime.fromtimestamp(package.timestamp / 1000, tz=dt.timezone.utc)
    return rattler.RepoDataRecord(record, package.file_name, package.url, package.channel)


def _read(package: LockedPackage, cache: Path) -> rattler.RepoDataRecord:
    """The record of a package by its own ``info/index.json``."""
    path = cache / package.stem / "info/index.json"
    try:
        record = rattler.PackageRecord.from_index_json(
            path, package.size or None, package.sha256 or None, package.md5 or None
        )
    except Exception as error:
        raise TaskFailed(
            f"the package {package.file_name} is not installed",
            cause=f"its index.json cannot be read: {error}",
            cure="remove the package from the lock, or lock again",
        ) from error
    own = (record.name.normalized, str(record.version), str(record.build), record.subdir)
    if own != (package.name, package.version, package.build, package.subdir):
        raise TaskFailed(
            f"the package {package.file_name} is not installed",
            cause=f"the archive contains {'-'.join(own[:3])} for {own[3]}",
            cure="lock again",
        )
    return rattler.RepoDataRecord(record, package.file_name, package.url, package.channel)


def _satisfies(record: rattler.PackageRecord | None, text: str) -> bool:
    try:
        return record is not None and rattler.MatchSpec(text).matches(record)
    except InvalidMatchSpecError:
        return True


def _lacking(record: rattler.PackageRecord, text: str, present: rattler.PackageRecord | None) -> TaskFailed:
    name = text.partition(" ")[0]
    mine = f"has {name}={present.version}" if present is not None else f"has no {name}"
    if name == "__cuda":
        cure = "lock for a machine without this CUDA, set `cuda` if the driver is not detected, or use another machine"
    else:
        cure = "lock again for such a machine, or use one with a newer system"
    return TaskFailed(
        f"the locked {record.name.normalized} {record.version} cannot run on this machine",
        cause=f"it needs {text}, and this machine {mine}",
        cure=cure,
    )


def _digest_of(path: Path, package: LockedPackage) -> str:
    digest = hashlib.new("sha256" if package.sha256 else "md5", usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@functools.cache
def _local() -> rattler.Client:
    """For ``file://``: to make one takes as long as to unpack a small package."""
    return rattler.Client()


async def _unpack(package: LockedPackage, path: Path, folder: Path, place: str) -> None:
    """Unpack an archive whose digest is the locked one, which is known at its end.

    Args:
        package: The package.
        path: The archive.
        folder: A new folder.
        place: Where the archive comes from, for messages.

    Raises:
        TaskFailed: the digest is another.

    """
    try:
        # `extract` does the same, and lets no other thread run until it is done.
        sha256, md5 = await download_and_extract(_local(), path.as_uri(), folder)
    except Exception:
        _require_digest(package, _digest_of(path, package), place)
        raise
    _require_digest(package, (sha256 if package.sha256 else md5).hex(), place)


def _require_digest(package: LockedPackage, digest: str, place: str) -> None:
    expected, kind = (package.sha256, "sha256") if package.sha256 else (package.md5, "md5")
    if digest != expected:
        raise TaskFailed(
            f"the package {package.file_name} is not installed",
            cause=f"{mask(place)} is not the file in the lock: its {kind} is {digest}, not {expected}",
            cure="if it was replaced on purpose, lock again; else do not trust its channel",
        )

"""Fetches the archives of a bundle, and builds wheels of source distributions.

Each is kept under its SHA-256 in a folder of the cache until the bundle is written, so that a repeated command fetches
no archive twice.
"""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec
from packaging.utils import parse_wheel_filename

from nbprovision.bundle import wheel_file
from nbprovision.bundle.contents import Archive
from nbprovision.channel.package import decompressed
from nbprovision.conda import archives as conda_archives
from nbprovision.files.web_download import Download
from nbprovision.indexes import index_settings
from nbprovision.indexes.index_settings import IndexSettings
from nbprovision.lifecycle import wheels
from nbprovision.lock.pylock import MACHINES
from nbprovision.machine.digests import digest_of
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import uv_command
from nbprovision.pip.locked_install import with_credentials
from nbprovision.system import secrets
from nbprovision.system.files import make_folder, temporary_folder

if TYPE_CHECKING:
    from nbprovision.lock.folder import Lock
    from nbprovision.machine.machine import Machine

_AT_ONCE = 8  # downloads
_GROWTH = 4  # how much larger an archive is unpacked, where only unpacking would show


def fetch_conda(
    machine: Machine, lock: Lock, archives: Iterable[Archive], channels: Sequence[str], folder: Path
) -> dict[str, Path]:
    """Fetch conda packages; those of local channels stay where they are.

    Args:
        machine: The machine.
        lock: The lock.
        archives: The packages.
        channels: The channels of the playbook, with their credentials.
        folder: The folder for downloads.

    Returns:
        The files by the URLs in the lock.

    Raises:
        NetworkFailed: a channel cannot be reached.
        TaskFailed: a file is missing, or is not the locked one.

    """
    files, remote = {}, []
    for archive in archives:
        here = lock.here(archive.url)
        if here.startswith("file:"):
            path = Path(unquote(urlsplit(here).path))
            require_local(path, archive)
            files[archive.url] = path
        elif archive.conda is not None:
            remote.append(msgspec.structs.replace(archive.conda, url=here))
            files[archive.url] = folder / archive.sha256
    conda_archives.fetch(machine, remote, channels, folder)
    return files


def require_local(path: Path, archive: Archive) -> None:
    """Refuse a file of this machine that is not the locked one.

    Raises:
        TaskFailed: it is missing, or its digest differs.

    """
    if not path.is_file():
        raise TaskFailed(
            f"{path} is missing",
            cause="the lock names it",
            cure="put it back, or lock again; a channel that the playbook builds is there after a run",
        )
    if digest_of(path) != archive.sha256:
        raise TaskFailed(
            f"{path} is not the file in the lock",
            cause="its sha256 differs: it has been replaced since",
            cure="lock again",
        )


def fetch_distributions(
    machine: Machine, archives: Iterable[Archive], settings: IndexSettings | None, folder: Path
) -> dict[str, Path]:
    """Fetch files from package indexes.

    Args:
        machine: The machine.
        archives: The files.
        settings: The indexes, with their credentials; None for those of this machine.
        folder: The folder for downloads.

    Returns:
        The files by URL.

    Raises:
        NetworkFailed: a server cannot be reached.
        TaskFailed: a file is not the locked one, or cannot be written.

    """
    make_folder(folder)
    indexes = settings or index_settings.effective(machine.env, machine.user_home, root=machine.root)

    def fetched(archive: Archive) -> Path:
        path = folder / archive.sha256
        if not path.exists():
            url = with_credentials(archive.url, indexes)
            with temporary_folder(path) as scratch:
                part = scratch / "archive"
                Download(machine, url, archive.sha256, part, f"cannot fetch {secrets.mask(archive.url)}").fetch()
                part.rename(path)
        return path

    wanted = list(archives)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return dict(zip((archive.url for archive in wanted), threads.map(fetched, wanted), strict=True))


def build_wheel(machine: Machine, archive: Archive, source: Path, platforms: Iterable[str], folder: Path) -> Path:
    """Build the wheel of a source distribution.

    Args:
        machine: The machine.
        archive: The source distribution.
        source: Its file.
        platforms: The platforms that the wheel is for.
        folder: The folder for wheels that were built.

    Raises:
        TaskFailed: the build fails, or gives a wheel that fits this machine only.

    """
    place = folder / f"{archive.sha256}-3.{archive.minor}"
    if not place.is_dir():
        with temporary_folder(place) as scratch:
            named = scratch / archive.name
            named.symlink_to(source)
            _build(machine, archive, named, scratch / "built")
            (scratch / "built").rename(place)
    wheel = next(place.glob("*.whl"))
    tags = parse_wheel_filename(wheel.name)[-1]
    for platform in platforms:
        if tags.isdisjoint(wheels.wheel_tags(MACHINES[platform], archive.minor)):
            raise TaskFailed(
                f"{archive.name} cannot go into a bundle",
                cause=f"the index has no wheel of {archive.distribution}, and {wheel.name}, which was built here, does "
                f"not fit Python 3.{archive.minor} on {platform}",
                cure=f"put a wheel of {archive.distribution} for it on the index, or request another version",
            )
    return wheel


def _build(machine: Machine, archive: Archive, source: Path, folder: Path) -> None:
    settings = index_settings.effective(machine.env, machine.user_home, root=machine.root)
    variables = {**uv_command.limits(machine), **index_settings.uv_environment(settings)}
    machine.progress(f"building {archive.name}")
    words: list[str | Path] = ["build", "--wheel", "--out-dir", folder, source, *index_settings.uv_arguments(settings)]
    completed = uv_command.execute(machine, words, variables, near=machine.home)
    if completed.status != 0 or not list(folder.glob("*.whl")):
        raise TaskFailed(
            f"{archive.name} cannot be built",
            cause=secrets.mask(completed.errors.strip())[-2000:],
            cure=f"put a wheel of {archive.distribution} on the index, or request a version that has one",
        )
    for path in folder.iterdir():
        if path.suffix == ".whl":
            path.write_bytes(wheel_file.with_fixed_times(path.read_bytes()))
        else:
            path.unlink()  # uv's own .gitignore


def unpacked_size(path: Path, name: str) -> int:
    """The bytes that an archive has unpacked; estimated for a ``.tar.bz2``, whose list of files is compressed too."""
    size = path.stat().st_size
    if not name.endswith((".whl", ".conda")):
        return size * _GROWTH
    with zipfile.ZipFile(path) as archive:
        if name.endswith(".whl"):
            return sum(entry.file_size for entry in archive.infolist())
        info = next(entry for entry in archive.namelist() if entry.startswith("info-"))
        content = decompressed(archive.read(info))
    with tarfile.open(fileobj=BytesIO(content)) as members:
        for member in members:
            if member.name == "info/paths.json":
                stream = members.extractfile(member)
                paths = json.load(stream)["paths"] if stream is not None else []
                return len(content) + sum(int(entry.get("size_in_bytes", 0)) for entry in paths)
    return size * _GROWTH

"""A bundle in a run: verified, its playbook in the tool's home, and its packages wherever a lock has their URLs.

The folder ``bundles/DIGEST`` of the tool's home, named by the path of the bundle, has its playbook in ``files``, a link
``main`` to it, by which the start-up path finds its state, and a record of the bundle that it is from. A bundle that
has not changed since is not read again as a whole.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nbprovision.bundle import archive
from nbprovision.bundle.archive import Bundle, Damaged
from nbprovision.conda.rattler import package_cache
from nbprovision.engine.session import obeyed
from nbprovision.lock.locked_run import Locked
from nbprovision.lock.places import Places
from nbprovision.machine.archives import Archives
from nbprovision.machine.platform import conda_subdir
from nbprovision.model.errors import InvalidPlaybook, NotBegun, TaskFailed
from nbprovision.state.witness import bundle_folder, identity
from nbprovision.system.disk_space import FREE_SOME, free_space, megabytes
from nbprovision.system.files import (
    explained,
    link_atomically,
    make_folder,
    read_text,
    remove,
    replacing,
    write_atomically,
)
from nbprovision.system.reading import kind_of

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

_RECORD = "record.json"
_FILES = "files"
_PLAYBOOK = "playbook/"


class _Record(msgspec.Struct, frozen=True):
    """Where the playbook in a folder is from.

    Attributes:
        path: The bundle.
        identity: Its identity when it was verified.

    """

    path: str
    identity: str


class BundledPackage(msgspec.Struct, frozen=True):
    """A package in a bundle: its member, and its bytes when it is unpacked."""

    member: str
    unpacked: int


class Manifest(msgspec.Struct, frozen=True):
    """The content of ``bundle.json``, apart from the members; see `nbprovision.bundle.make`."""

    playbook: str
    platforms: list[str]
    packages: dict[str, BundledPackage]
    environments: dict[str, dict[str, list[str]]]
    channels: dict[str, str]
    executable: list[str] = []


class Opened(NamedTuple):
    """A bundle for a run.

    Attributes:
        playbook: Its playbook in the tool's home, with the lock beside it.
        archives: Its packages; None if the bundle is damaged, and an earlier one takes its place.

    """

    playbook: Path
    archives: BundledArchives | None


def open_bundle(path: Path, machine: Machine) -> Opened:
    """Verify a bundle, and put its playbook into the tool's home.

    Args:
        path: The bundle.
        machine: The facts.

    Raises:
        InvalidPlaybook: it is missing, truncated, altered or not a bundle, or not for this platform; or this process is
            root's, and somebody else can change the file.
        TaskFailed: the playbook cannot be written.

    """
    path = Path(os.path.abspath(path))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Damaged(f"it is {kind_of(status)}")  # noqa: TRY301 - the handler knows what to do
        before = identity(status)
        obeyed(path)
        bundle = archive.read(path)
        manifest = _manifest(bundle)
        folder = Path(bundle_folder(str(machine.home), str(path)))
        if _recorded(folder) != _Record(str(path), before):
            archive.verify(bundle, lambda done, total: machine.progress(f"verifying {path.name}", done, total))
            main = _unpack(bundle, manifest, folder)
            # Last, so that what a kill leaves half made is unpacked again.
            write_atomically(folder / _RECORD, msgspec.json.encode(_Record(str(path), before)))
        else:
            main = folder / _FILES / manifest.playbook
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise InvalidPlaybook(
            f"the bundle {path} does not exist" if missing else f"the bundle {path} cannot be read",
            cause="" if missing else error.strerror or str(error),
            cure="correct its path; `nbprovision bundle PLAYBOOK -o FILE` writes one",
        ) from None
    except Damaged as error:
        raise InvalidPlaybook(
            f"the bundle {path} is truncated or altered, or not a bundle",
            cause=str(error),
            cure="copy it again from the machine that made it, and compare sha256sum on both; nothing was changed",
        ) from None
    _require_platform(path, manifest.platforms)
    places = Places(main.parent, machine.home, machine.user_home)
    return Opened(playbook=main, archives=BundledArchives(bundle, manifest, machine.cache / "bundled", places))


def earlier(path: Path, machine: Machine) -> Opened:
    """The playbook of a bundle as it was when it was whole.

    Raises:
        InvalidPlaybook: it was never unpacked here.

    """
    folder = Path(bundle_folder(str(machine.home), os.path.abspath(path)))
    with contextlib.suppress(OSError):
        return Opened(playbook=folder / os.readlink(folder / "main"), archives=None)
    raise InvalidPlaybook(
        f"the bundle {path} cannot be used",
        cause="no earlier start has unpacked its playbook",
        cure="copy it again from the machine that made it",
    )


def _manifest(bundle: Bundle) -> Manifest:
    """What a bundle has.

    Raises:
        Damaged: a field is missing, or names what the bundle does not have.

    """
    try:
        manifest = msgspec.convert(bundle.manifest, Manifest)
    except msgspec.ValidationError as error:
        raise Damaged(f"its {archive.MANIFEST} is not valid: {error}") from None
    used = {url for by_platform in manifest.environments.values() for urls in by_platform.values() for url in urls}
    members = [_PLAYBOOK + manifest.playbook, *(package.member for package in manifest.packages.values())]
    for name in (*(name for name in members if name not in bundle.members), *(used - manifest.packages.keys())):
        raise Damaged(f"its {archive.MANIFEST} names {name[:200]!r}, which it does not have")
    return manifest


def source_of(folder: Path) -> Path | None:
    """The bundle that the playbook in a folder of ``bundles`` is from; None if its unpacking was not completed."""
    record = _recorded(folder)
    return None if record is None else Path(record.path)


def _recorded(folder: Path) -> _Record | None:
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(read_text(folder / _RECORD) or "", type=_Record)
    return None


def _unpack(bundle: Bundle, manifest: Manifest, folder: Path) -> Path:
    """Put the playbook and its files into a folder; a file with the same content keeps its time, which is a witness.

    Returns:
        The playbook.

    """
    names = {name.removeprefix(_PLAYBOOK): name for name in bundle.named(_PLAYBOOK)}
    programs = set(manifest.executable)
    files = folder / _FILES
    make_folder(folder, mode=0o700)
    remove(folder / _RECORD)
    for present in list(_below(files)):
        if present not in names:
            remove(files / present)
    for name, member in names.items():
        content, target = archive.content(bundle, member), files / name
        make_folder(target.parent)
        mode = 0o755 if name in programs else 0o644
        if not target.is_file() or target.stat().st_mode & 0o777 != mode or target.read_bytes() != content:
            write_atomically(target, content, mode=mode)
    main = files / manifest.playbook
    link = folder / "main"
    if not link.is_symlink() or os.readlink(link) != os.path.relpath(main, folder):
        link_atomically(link, os.path.relpath(main, folder))
    return main


def _below(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        yield from (os.path.relpath(os.path.join(place, name), folder) for name in names)


def _require_platform(path: Path, platforms: Sequence[str]) -> None:
    if conda_subdir() not in platforms:
        raise InvalidPlaybook(
            f"the bundle {path} is not for {conda_subdir()}, which this machine is",
            cause=f"it is for {', '.join(platforms)}",
            cure=f"make it with --platform {conda_subdir()} too",
        )


class BundledArchives(Archives):
    """The packages of a bundle, each taken out when it is needed.

    Args:
        bundle: The bundle, which has been verified.
        manifest: What it has.
        folder: The folder for the files that are taken out.
        places: The folders that the lock names in another way.

    """

    def __init__(self, bundle: Bundle, manifest: Manifest, folder: Path, places: Places) -> None:
        super().__init__()
        self._bundle = bundle
        self._manifest = manifest
        self._folder = folder
        self._places = places
        self._packages = {places.here(url): package for url, package in manifest.packages.items()}
        self._lock = threading.Lock()  # environments are made side by side

    def __getitem__(self, url: str) -> Path:
        """The file of a package, whose digest is verified as it is taken out.

        Raises:
            KeyError: the bundle does not have it.
            TaskFailed: the bundle has changed since it was verified, or the disk is full.

        """
        name = self._packages[url].member
        member = self._bundle.members[name]
        path = self._folder / member.sha256 / name.rpartition("/")[2]
        with self._lock:
            if not path.is_file():
                self._take_out(name, path)
        return path

    def __contains__(self, url: object) -> bool:
        return url in self._packages

    def __iter__(self) -> Iterator[str]:
        return iter(self._packages)

    def __len__(self) -> int:
        return len(self._packages)

    def _take_out(self, name: str, path: Path) -> None:
        make_folder(path.parent)
        try:
            with replacing(path, durable=False) as stream:
                stream.writelines(archive.blocks(self._bundle, name))
        except Damaged as error:
            raise TaskFailed(
                f"the bundle {self._bundle.path} has changed during the run",
                cause=str(error),
                cure="run again with a bundle that is whole",
            ) from None

    def release(self, urls: Iterable[str]) -> None:
        """Remove the copies of packages that are in the package cache now."""
        for url in urls:
            if url in self._packages:
                remove(self._folder / self._bundle.members[self._packages[url].member].sha256)

    def close(self) -> None:
        """Remove all copies."""
        with contextlib.suppress(TaskFailed):
            remove(self._folder)

    def restore(self, folder: Path) -> bool:
        """Put a local channel of the bundle into its folder, its manifest last; see `Archives`."""
        place = self._manifest.channels.get(self._places.locked(folder.as_uri()))
        if place is None:
            return False
        names = sorted(self._bundle.named(place), key=lambda name: name.count("/"), reverse=True)
        for name in names:
            target = folder / name.removeprefix(place)
            make_folder(target.parent)
            with explained(f"cannot write {target}", target), replacing(target, durable=False) as stream:
                stream.writelines(archive.blocks(self._bundle, name))
        return True

    def require_room(self, machine: Machine, locked: Locked) -> None:
        """Refuse a run for whose packages the disk has no space.

        Args:
            machine: The facts.
            locked: What the lock has for each prefix.

        Raises:
            NotBegun: with the needed and the free space.

        """
        packages: dict[str, BundledPackage] = {}
        for prefix, environment in locked.environments.items():
            cache = package_cache(machine, prefix) if environment.conda is not None else None
            for url in self._manifest.environments.get(environment.name, {}).get(conda_subdir(), ()):
                here = self._places.here(url)
                if not self._is_there(here, prefix, cache):
                    packages[here] = self._packages[here]
        # Each is unpacked once, and copied out of the bundle for that.
        need = sum(each.unpacked + self._bundle.members[each.member].size for each in packages.values())
        space = free_space(machine.home)
        if need > space.free:
            raise NotBegun(
                f"the packages of {self._bundle.path} do not fit on the disk",
                cause=f"{len(packages)} of them need {megabytes(need)}, and {megabytes(space.free)} are free at "
                f"{space.folder}",
                cure=FREE_SOME,
            )

    def _is_there(self, url: str, prefix: Path, cache: Path | None) -> bool:
        """Whether a package is installed or in the package cache; a distribution counts as installed in any prefix."""
        name = url.rpartition("/")[2]
        if not name.endswith((".conda", ".tar.bz2")):
            return prefix.exists()
        stem = name.removesuffix(".conda").removesuffix(".tar.bz2")
        return (prefix / "conda-meta" / f"{stem}.json").exists() or (cache is not None and (cache / stem).is_dir())

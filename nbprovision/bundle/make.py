"""Makes a bundle: the playbook with its files, its lock, every package of it, and the tool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.bundle import archive, contents, fetching, tool
from nbprovision.bundle.archive import BOOTSTRAP, TOOL
from nbprovision.bundle.contents import Archive
from nbprovision.channel import manifest
from nbprovision.channel.ensure_conda_channel import EnsureCondaChannel
from nbprovision.engine.session import Catalogue
from nbprovision.lifecycle.payload import Container, Payload
from nbprovision.lifecycle.playbook import examine
from nbprovision.lifecycle.render import bootstrap
from nbprovision.lock import folder as lock_folder
from nbprovision.lock import pylock
from nbprovision.lock.folder import Lock
from nbprovision.lock.requests import BoundTask, EnvironmentRequest, bound_tasks
from nbprovision.machine.digests import digest_of
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, TaskFailed, UsageError
from nbprovision.system.files import remove, replacing

_CONTAINER = Container("the bundle", 100_000_000, 10_000, text=False)
# What these bring is not in a bundle: they fetch it at each run.
FETCHING = frozenset({"ensure_download", "ensure_git_repo", "ensure_s3_sync", "ensure_r_pkg"})


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A new bundle.

    Attributes:
        platforms: The platforms that it is for, as conda names them.
        size: Its bytes.
        packages: The number of its conda packages and distributions.
        unpacked: The bytes that they take when they are unpacked, by platform.
        pythons: The versions of CPython 3 that the tool can be installed for, by platform.
        notes: Sentences for the user.

    """

    platforms: tuple[str, ...]
    size: int
    packages: int
    unpacked: dict[str, int]
    pythons: dict[str, list[int]]
    notes: tuple[str, ...]


def make(
    playbook: Path,
    machine: Machine,
    catalogue: Catalogue,
    extra_vars: Mapping[str, Any],
    lock: Lock,
    requests: Sequence[EnvironmentRequest],
    platforms: Sequence[str],
    output: Path,
) -> Made:
    """Write a bundle.

    Args:
        playbook: The playbook.
        machine: The facts.
        catalogue: Every kind of task.
        extra_vars: The variables of ``-e``.
        lock: Its lock, which is fresh.
        requests: Its requests, from `requests.collect`.
        platforms: Platforms of the lock.
        output: The file to write.

    Raises:
        InvalidPlaybook: the playbook or a file of it cannot work on another machine.
        NetworkFailed: a server cannot be reached.
        TaskFailed: a package is missing or cannot be built, or the file cannot be written.

    """
    scratch = machine.cache / "bundle"
    contents.refuse_built(lock)
    checked = examine(playbook, Machine(home=machine.home), catalogue, extra_vars, into=_CONTAINER)
    work = _Work(machine, lock, requests, platforms, checked.payload, playbook, scratch)
    tasks = bound_tasks(playbook, Machine(home=machine.home), catalogue, extra_vars)
    work.take_channels(tasks)
    work.take_packages()
    pythons = work.take_tool()
    with replacing(output) as stream:
        archive.write(stream, work.manifest, work.members)
    remove(scratch)
    return Made(
        platforms=tuple(platforms),
        size=output.stat().st_size,
        packages=len(work.packages),
        unpacked={platform: work.unpacked(platform) for platform in platforms},
        pythons=pythons,
        notes=(*checked.notes, *map(str, checked.warnings), *_notes(tasks)),
    )


def _notes(tasks: Iterable[BoundTask]) -> Iterable[str]:
    for entry in tasks:
        if entry.call.kind in FETCHING:
            yield f"{entry.call.position}: what {entry.call.kind} fetches is not in the bundle; it needs a network"


class _Work:
    """The work on one bundle.

    Attributes:
        members: Its members by name.
        packages: What it has for the URLs in the lock.

    """

    def __init__(
        self,
        machine: Machine,
        lock: Lock,
        requests: Sequence[EnvironmentRequest],
        platforms: Sequence[str],
        payload: Payload,
        playbook: Path,
        scratch: Path,
    ) -> None:
        self._machine = machine
        self._lock = lock
        self._requests = {request.name: request for request in requests}
        self._platforms = platforms
        self._scratch = scratch
        self._main = next(iter(payload.files))
        base = playbook.absolute().parents[self._main.count("/")]
        self._packed = {base / name for name in payload.files}
        self._locks: dict[Path, pylock.Document] = {}  # that name a wheel built here
        self._environments: dict[str, dict[str, list[str]]] = {}
        self._channels: dict[str, str] = {}
        self._executable = sorted(payload.executable)
        self.packages: dict[str, dict[str, Any]] = {}
        self.members: dict[str, bytes | Path] = {BOOTSTRAP: bootstrap()}
        self.members |= {f"playbook/{name}": content for name, content in payload.files.items()}

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of ``bundle.json``, apart from the members."""
        return {
            "playbook": self._main,
            "executable": self._executable,
            "platforms": list(self._platforms),
            "packages": self.packages,
            "environments": self._environments,
            "channels": self._channels,
        }

    def unpacked(self, platform: str) -> int:
        """The bytes of the packages for a platform when they are unpacked, each once."""
        urls = {url for by_platform in self._environments.values() for url in by_platform.get(platform, ())}
        return sum(self.packages[url]["unpacked"] for url in urls)

    def take_channels(self, tasks: Iterable[BoundTask]) -> None:
        """Take the local channels that the playbook builds.

        Raises:
            TaskFailed: one is not built.

        """
        for entry in tasks:
            task = entry.task
            if not isinstance(task, EnsureCondaChannel) or task.state == "absent":
                continue
            folder = entry.machine.path(task.path)
            if task.plan(task.read(entry.machine)).changes:
                raise TaskFailed(
                    f"the channel {folder} is not built",
                    cause="a bundle has the packages of the channel, as the lock has them",
                    cure="run the playbook here first, and lock again",
                    position=entry.call.position,
                )
            place = f"channels/{len(self._channels)}/"
            self._channels[self._lock.places.locked(folder.as_uri())] = place
            listed = [folder / file.path for file in (manifest.read(folder).manifest or manifest.EMPTY).files]
            indexes = [path for name in ("repodata.json", "repodata.json.zst") for path in folder.glob(f"*/{name}")]
            for path in [folder / manifest.MANIFEST, *listed, *indexes]:
                self.members[place + path.relative_to(folder).as_posix()] = path

    def take_packages(self) -> None:
        """Fetch the packages of the lock."""
        for name, environment in self._lock.environments.items():
            by_platform = self._environments.setdefault(name, {})
            every: dict[str, Archive] = {}
            for platform in self._platforms:
                if platform not in environment.origin.platforms:
                    raise UsageError(
                        f"'{name}' cannot be in a bundle for {platform}",
                        cause="the platform's image brings it, so that it is locked for the machine that locked it",
                        cure=f"make the bundle with --platform {environment.origin.platforms[0]}",
                    )
                archives = contents.of_environment(self._lock, name, platform, self._packed)
                every |= {each.url: each for each in archives}
                by_platform[platform] = [each.url for each in archives]
            self._fetch(name, list(every.values()))
        for path, content in lock_folder.content(self._lock.folder).items():
            document = self._locks.get(self._lock.folder / path)
            data = content if document is None else pylock.dump(document).encode()
            self.members[f"playbook/{self._main.rpartition('.')[0]}.lock/{path}"] = data

    def _fetch(self, name: str, wanted: Sequence[Archive]) -> None:
        machine, request, folder = self._machine, self._requests[name], self._scratch
        conda = [each for each in wanted if each.kind == "conda"]
        local = {each.url: each.local for each in wanted if each.local is not None}
        others = [each for each in wanted if each.kind != "conda" and each.url not in local]
        files = fetching.fetch_conda(machine, self._lock, conda, request.channels, folder)
        files |= fetching.fetch_distributions(machine, others, request.settings, folder)
        for each in wanted:
            path = local.get(each.url) or files[each.url]
            if each.local is not None:
                fetching.require_local(path, each)
            if each.kind == "source":
                self._take_built(name, each, path)
                continue
            self._take(each.url, each.name, each.sha256, path)
            if each.local is not None:
                self._name_wheel(name, each, each.name, each.sha256)

    def _take(self, url: str, name: str, sha256: str, path: Path) -> None:
        if url in self.packages:
            return
        place = next((place for place in self._channels if url.startswith(f"{place}/")), None)
        member = f"packages/{sha256}/{name}" if place is None else self._channels[place] + url[len(place) + 1 :]
        self.members[member] = path
        self.packages[url] = {"member": member, "unpacked": fetching.unpacked_size(path, name)}

    def _take_built(self, name: str, source: Archive, path: Path) -> None:
        """Take a wheel that is built of a source distribution, and name it in the bundle's copy of the lock."""
        by_platform = self._environments[name]
        platforms = [platform for platform, urls in by_platform.items() if source.url in urls]
        wheel = fetching.build_wheel(self._machine, source, path, platforms, self._scratch / "built")
        sha256 = digest_of(wheel)
        url = contents.own_url(wheel.name, sha256)
        self._take(url, wheel.name, sha256, wheel)
        for platform in platforms:
            by_platform[platform] = [url if each == source.url else each for each in by_platform[platform]]
        self._name_wheel(name, source, wheel.name, sha256)

    def _name_wheel(self, name: str, archive: Archive, wheel: str, sha256: str) -> None:
        """Name a wheel that only the bundle has in its copy of the lock, in place of the locked file."""
        lock = self._lock.environments[name].pylock
        assert lock is not None  # noqa: S101 - the distribution is in it
        document = self._locks.setdefault(lock, pylock.read(lock))
        for package in document["packages"]:
            files = [*package.get("wheels", ()), *(package[key] for key in ("sdist", "archive") if key in package)]
            if not any(file.get("hashes", {}).get("sha256") == archive.sha256 for file in files):
                continue
            others = [file for file in package.get("wheels", ()) if file["hashes"]["sha256"] != archive.sha256]
            package["wheels"] = [
                *others,
                {"name": wheel, "url": contents.own_url(wheel, sha256), "hashes": {"sha256": sha256}},
            ]
            for key in ("sdist", "archive"):
                package.pop(key, None)

    def take_tool(self) -> dict[str, list[int]]:
        """Take the wheels of the tool.

        Returns:
            The versions of CPython 3 that they are complete for, by platform.

        """
        name, content = tool.own_wheel()
        self.members[TOOL + name] = content
        needed, complete = tool.needed(self._machine, self._platforms, self._scratch / "tool")
        files = fetching.fetch_distributions(self._machine, needed, None, self._scratch)
        self.members |= {TOOL + each.name: files[each.url] for each in needed}
        return complete


def refuse_platforms(lock: Lock, platforms: Iterable[str], playbook: Path) -> None:
    """Refuse platforms that a lock is not for.

    Raises:
        InvalidPlaybook: naming one.

    """
    for platform in platforms:
        if platform not in lock.platforms:
            every = " ".join(f"--platform {name}" for name in (*lock.platforms, platform))
            raise InvalidPlaybook(
                f"the lock {lock.folder} is not for {platform}",
                cause=f"it is for {', '.join(lock.platforms)}",
                cure=f"nbprovision lock {playbook} {every}",
            )

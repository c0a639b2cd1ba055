"""The process in which py-rattler works: solves, then fetches and links what it has solved.

Nothing else of the tool imports py-rattler's solver or installer. See `nbprovision.conda.rattler` for the requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import rattler
from rattler.exceptions import (
    FetchRepoDataError,
    GatewayError,
    InstallerError,
    InvalidChannelError,
    InvalidMatchSpecError,
    LinkError,
    SolverError,
    TransactionError,
)

from nbprovision.conda.engine import Attempt, InstallRequest, RehearseRequest, Request, SolveRequest
from nbprovision.machine import package_names
from nbprovision.model.errors import DEFECT, REPORT, TaskFailed, nearest
from nbprovision.system import disk_space
from nbprovision.system.process import answer, ending_when_silent
from nbprovision.system.reading import read_json

Tell = Callable[..., None]
_PAUSE = 0.1  # seconds between two words about a download

_solved: dict[int, list[rattler.RepoDataRecord]] = {}  # until they are installed; requests come side by side
_numbers = itertools.count()
_one_at_a_time = threading.Lock()


def work(message: Any, tell: Tell) -> Any:
    """Do what a request asks for."""
    request = msgspec.convert(message, Request)
    if isinstance(request, SolveRequest):
        with ending_when_silent(request.silence, lambda: request.shown, lambda: _kept(request.repodata)):
            return asyncio.run(_solve(request))
    reporter = _Reporter(tell)
    with ending_when_silent(request.silence, lambda: list(reporter.coming.values()), lambda: reporter.progress):
        if isinstance(request, RehearseRequest):
            return asyncio.run(_rehearse(request, reporter))
        return asyncio.run(_install(request, reporter))


# ---------------------------------------------------------------------------------------------------------- solving


async def _solve(request: SolveRequest) -> dict[str, Any]:
    _offer_credentials(request.credentials)
    with _one_at_a_time:
        identities = _identities(request.channels)
        gateway = _gateway(request.repodata, request.offline, request.verify, request.retries, identities)
    installed = _installed(request)
    # a locked package is kept even where a spec names another channel
    rebuilt = await _with_builds_for_cuda(installed, request, gateway) if request.other_builds else []
    versions = [f"{record.name.normalized} =={record.version}" for record in rebuilt]
    locked = [
        record for record in installed if record not in rebuilt and record.name.normalized not in request.unlocked
    ]
    virtual = rattler.VirtualPackage.detect(rattler.VirtualPackageOverrides.from_env())
    unsolved: SolverError | None = None
    for number, attempt in enumerate(request.attempts):
        try:
            solved = await rattler.solve(
                request.channels,
                [*_specs(attempt.specs), *_specs(attempt.keep, lenient=True)],
                gateway=gateway,
                locked_packages=locked,
                pinned_packages=[record for record in locked if record.name.normalized in attempt.pinned],
                constraints=_specs([*attempt.constraints, *versions], lenient=True),
                virtual_packages=virtual,
                channel_priority=rattler.ChannelPriority.Strict,
            )
        except SolverError as error:  # noqa: PERF203 - the next attempt asks for less
            unsolved = error
        except (GatewayError, FetchRepoDataError, InvalidChannelError) as error:
            raise _unreachable(error, request) from error
        else:
            solution = next(_numbers)
            _solved[solution] = solved
            there = {record.name.normalized: record for record in installed}
            packages = [_package(record, there) for record in solved]
            return {"attempt": number, "solution": solution, "packages": packages}
    if unsolved is None:
        raise TaskFailed("nothing was asked of the solver", cause=DEFECT, cure=REPORT)
    raise await _unsolvable(unsolved, request, gateway)


def _kept(repodata: str) -> list[tuple[str, int, int]]:
    """What has come of channels: the library writes each piece of an index, and each shard, into this folder."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(repodata):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                found.append((entry.name, status.st_size, status.st_mtime_ns))
    return sorted(found)


async def _with_builds_for_cuda(
    installed: list[rattler.PrefixRecord], request: SolveRequest, gateway: rattler.Gateway
) -> list[rattler.PrefixRecord]:
    """The installed packages of whose version the channels have builds that ask for CUDA."""
    specs = _specs([f"{record.name.normalized} =={record.version}" for record in installed], lenient=True)
    found = await gateway.query(request.channels, _platforms(), specs, recursive=False)
    names = {
        record.name.normalized
        for records in found
        for record in records
        if any(text.split()[0] == "__cuda" for text in record.depends)
    }
    return [
        record
        for record in installed
        if record.name.normalized in names and record.name.normalized not in request.unlocked
    ]


def _installed(request: SolveRequest) -> list[rattler.PrefixRecord]:
    records = [rattler.PrefixRecord.from_path(Path(path)) for path in request.installed]
    for record in records:
        unmet = request.unmet.get(record.name.normalized)
        if unmet:
            record.depends = [text for text in record.depends if text not in unmet]
    return records


def _specs(texts: list[str], *, lenient: bool = False) -> list[rattler.MatchSpec]:
    """Read specs as conda does: plain strings handed to the solver are read strictly, and `six 1.16.0` is refused.

    Args:
        texts: The specs.
        lenient: Leave out what cannot be read, for specs that other tools wrote.

    """
    specs = []
    for text in texts:
        try:
            specs.append(rattler.MatchSpec(text))
        except InvalidMatchSpecError as error:  # noqa: PERF203 - each is to be named
            if lenient:
                continue
            raise TaskFailed(
                f"'{text}' is not a match spec",
                cause=str(error).splitlines()[0],
                cure="write it as conda does: name, name=1.2, name>=1.2,<2",
            ) from error
    return specs


def _package(record: rattler.RepoDataRecord, installed: dict[str, rattler.PrefixRecord]) -> dict[str, Any]:
    before = installed.get(record.name.normalized)
    order = 0
    if before is not None and before.version != record.version:
        order = 1 if before.version < record.version else -1
    return {
        "name": record.name.normalized,
        "version": str(record.version),
        "build": str(record.build),
        "channel": record.channel or "",
        "url": record.url or "",
        "size": record.size or 0,
        "sha256": record.sha256.hex() if record.sha256 else "",
        "md5": record.md5.hex() if record.md5 else "",
        "order": order,
        "depends": [] if before is not None and order == 0 else list(record.depends),
    }


# ------------------------------------------------------------------------------------------------------- installing


async def _install(request: InstallRequest, reporter: _Reporter) -> None:
    solved = _solved[request.solution]
    try:
        await rattler.install(
            solved,
            target_prefix=request.prefix,
            cache_dir=Path(request.cache),
            reinstall_packages=set(request.reinstall),
            # conda runs the scripts that a package brings to finish its installation; an environment without them
            # would not be what the same packages are under conda.
            execute_link_scripts=True,
            show_progress=False,
            client=_client(verify=request.verify, retries=request.retries),
            # the wrapped object: the wrapper is not taken
            requested_specs=[spec._match_spec for spec in _specs(request.requested, lenient=True)],  # noqa: SLF001
            reporter=reporter,
        )
    except (InstallerError, LinkError, TransactionError, OSError) as error:
        raise _failed(error, request, solved) from error
    del _solved[request.solution]  # not before: what the network failed is asked for again
    _open_records(Path(request.prefix))


def _open_records(prefix: Path) -> None:
    """Let everybody read the records, as conda leaves them: the library's are for their owner alone."""
    for entry in os.scandir(prefix / "conda-meta"):
        if entry.name.endswith(".json") and entry.is_file(follow_symlinks=False):
            mode = stat.S_IMODE(entry.stat().st_mode)
            if mode & 0o044 != 0o044:
                os.chmod(entry.path, mode | 0o044)


async def _rehearse(request: RehearseRequest, reporter: _Reporter) -> None:
    """Link into another folder what is to come: it is in the cache then, and there is room for it."""
    there = [rattler.PrefixRecord.from_path(Path(path)) for path in request.installed]
    known = {_identity(record) for record in there}
    solved = _solved[request.solution]
    coming = [record for record in solved if _identity(record) not in known]
    # Which Python there is tells where pure Python packages go.
    python = [record for record in solved if record.name.normalized == "python" and record not in coming]
    try:
        await rattler.install(
            [*coming, *python],
            target_prefix=request.scratch,
            alternative_target_prefix=request.prefix,
            cache_dir=Path(request.cache),
            show_progress=False,
            client=_client(verify=request.verify, retries=request.retries),
            reporter=reporter,
        )
    except (InstallerError, LinkError, TransactionError, OSError) as error:
        raise _failed(error, request, solved) from error


def _identity(record: rattler.PackageRecord) -> tuple[str, str, str]:
    return record.name.normalized, str(record.version), str(record.build)


class _Reporter:
    """Tells of packages fetched and linked; called from the engine's threads.

    Attributes:
        coming: Names of the packages that are being downloaded, by their number.

    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._packages = 0
        self._linked = 0
        self._sizes: dict[int, tuple[int, int]] = {}
        self._names: list[str] = []
        self._told = 0.0
        self.coming: dict[int, str] = {}

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes that have come, and packages that are linked."""
        return sum(done for done, _ in list(self._sizes.values())), self._linked

    def on_transaction_start(self, total_operations: int) -> None:
        self._packages = total_operations
        self._tell(text="linking", done=0, total=total_operations, unit="packages")

    def on_transaction_operation_start(self, operation: int) -> None: ...

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        self._names.append(package_name)
        return len(self._names) - 1

    def on_validate_start(self, cache_entry: int) -> int:
        return cache_entry

    def on_validate_complete(self, validate_idx: int) -> None: ...

    def on_download_start(self, cache_entry: int) -> int:
        self.coming[cache_entry] = self._names[cache_entry]
        return cache_entry

    def on_download_progress(self, download_idx: int, progress: int, total: int | None) -> None:
        self._sizes[download_idx] = (progress, total or progress)
        now = time.monotonic()
        if now - self._told >= _PAUSE:
            self._told = now
            name = self._names[download_idx] if download_idx < len(self._names) else ""
            done, all_of_it = (sum(column) for column in zip(*self._sizes.values(), strict=True))
            self._tell(text=f"fetching {name}", done=done, total=all_of_it, unit="bytes")

    def on_download_completed(self, download_idx: int) -> None:
        self.coming.pop(download_idx, None)

    def on_populate_cache_complete(self, cache_entry: int) -> None: ...

    def on_unlink_start(self, operation: int, package_name: str) -> int:
        return operation

    def on_unlink_complete(self, index: int) -> None: ...

    def on_link_start(self, operation: int, package_name: str) -> int:
        return operation

    def on_link_complete(self, index: int) -> None:
        self._linked += 1
        now = time.monotonic()
        if now - self._told >= _PAUSE or self._linked == self._packages:
            self._told = now
            self._tell(text="linking", done=self._linked, total=self._packages, unit="packages")

    def on_transaction_operation_complete(self, operation: int) -> None: ...

    def on_transaction_complete(self) -> None: ...

    def on_post_link_start(self, package_name: str, script_path: str) -> int:
        self._tell(
            text=f"running the script of {package_name}", done=self._linked, total=self._packages, unit="packages"
        )
        return 0

    def on_post_link_complete(self, index: int, success: bool) -> None: ...

    def on_pre_unlink_start(self, package_name: str, script_path: str) -> int:
        return 0

    def on_pre_unlink_complete(self, index: int, success: bool) -> None: ...


@functools.cache  # what it has read of a channel serves all that are solved from it
def _gateway(
    cache: str,
    offline: bool,
    verify: bool,
    retries: int,
    identities: tuple[str, ...],  # noqa: ARG001
) -> rattler.Gateway:
    return rattler.Gateway(
        cache_dir=Path(cache),
        client=_client(verify=verify, retries=retries),
        # `use-cache-only` fails on a cache that is fresh
        default_config=rattler.SourceConfig(cache_action="force-cache-only" if offline else "cache-or-fetch"),
    )


def _identities(channels: list[str]) -> tuple[str, ...]:
    """What tells that a channel which is a folder of this machine has changed since it was read."""
    found = []
    for url in channels:
        for subdir in ("noarch", str(rattler.Platform.current())) if url.startswith("file://") else ():
            path = Path(unquote(urlsplit(url).path), subdir, "repodata.json")
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append(f"{path} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_size}")
    return tuple(found)


@functools.cache
def _client(*, verify: bool, retries: int) -> rattler.Client:
    if verify:
        return rattler.Client.default_client(retries, user_agent="nbprovision")
    config = rattler.config.Config.from_toml("tls-no-verify = true")
    return rattler.Client.from_config(config, retries, user_agent="nbprovision")


def _offer_credentials(credentials: dict[str, Any]) -> None:
    """Let the library read credentials from memory: they never touch a disk."""
    if not credentials:
        return
    named = os.environ.get("RATTLER_AUTH_FILE")
    if named and not named.startswith("/proc/self/fd/"):
        try:
            credentials = {**read_json(named, dict[str, Any]), **credentials}
        except (OSError, msgspec.DecodeError) as error:
            raise TaskFailed(
                f"cannot read the credentials in {named}", cause=str(error), cure="see RATTLER_AUTH_FILE"
            ) from error
    elif named:
        return
    memory = os.memfd_create("credentials", 0)
    os.write(memory, msgspec.json.encode(credentials))
    os.environ["RATTLER_AUTH_FILE"] = f"/proc/self/fd/{memory}"


# --------------------------------------------------------------------------------------------------------- failures


async def _unsolvable(error: SolverError, request: SolveRequest, gateway: rattler.Gateway) -> TaskFailed:
    """Say which spec has no answer, and what there is instead."""
    cause = str(error).removeprefix("Cannot solve the request because of: ").strip()
    last: Attempt = request.attempts[-1]
    names = [name.normalized for name in await gateway.names(request.channels, platforms=_platforms())]
    asked: dict[str, str] = {}
    for wanted in _specs(last.specs):
        asked.setdefault(wanted.name.normalized, str(wanted))  # the bare names come last
    unknown = [name for name in asked if name not in names and name in cause]
    where = ", ".join(request.shown)
    if unknown:
        advice = package_names.advice(unknown[0], "conda")
        return TaskFailed(
            f"no channel has a package '{unknown[0]}'{'' if advice else nearest(unknown[0], names)}",
            cause=f"looked in {where}",
            cure=advice or "correct the name, or name the channel that has it",
        )
    hints = []
    for name, spec in asked.items():
        if spec != name and name in cause:
            hints.append(await _versions(name, request, gateway))
    return TaskFailed(
        "no set of packages satisfies all that is asked for",
        cause="\n".join([cause, *hints]),
        cure=f"loosen one of the specs, or name another channel than {where}",
    )


async def _versions(name: str, request: SolveRequest, gateway: rattler.Gateway) -> str:
    found = await gateway.query(request.channels, _platforms(), [rattler.MatchSpec(name)], recursive=False)
    versions = sorted({record.version for records in found for record in records})
    shown = ", ".join(str(version) for version in versions[-8:])
    return f"there is {name} {'... ' if len(versions) > 8 else ''}{shown}"


def _platforms() -> list[rattler.Platform]:
    return [rattler.Platform.current(), rattler.Platform("noarch")]


def _unreachable(error: Exception, request: SolveRequest) -> TaskFailed:
    text = str(error).replace("\nCaused by", "; caused by")
    if request.offline:
        cure = "conda is told to be offline, and the channel is not in the cache: turn `offline` off, or be online once"
    elif "file://" in text or "No such file" in text:
        cure = "correct the path of the channel, or build it first by ensure_conda_channel"
    else:
        cure = "correct the channel's name or URL, or check the network and the proxy (https_proxy)"
    return TaskFailed(f"cannot read the channel {' or '.join(request.shown)}", cause=text, cure=cure)


def _failed(
    error: Exception, request: InstallRequest | RehearseRequest, solved: list[rattler.RepoDataRecord]
) -> TaskFailed:
    text = str(error).replace("\nCaused by", "; caused by")
    culprit = next((record for record in solved if record.file_name in text), None)
    if culprit is not None and culprit.url not in text:
        text += f" ({culprit.url})"
    no_room = disk_space.explain_output(text, Path(request.prefix))
    if no_room is not None:
        text, cure = no_room
    elif "os error 13" in text:
        cure = f"look at who may write to {request.prefix} and {request.cache}"
    else:
        cure = "run again: what is done stays done"
    return TaskFailed(f"the packages could not be installed into {request.prefix}", cause=text, cure=cure)


if __name__ == "__main__":
    answer(work)

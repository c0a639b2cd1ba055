"""The child process of py-rattler: it solves or takes exact packages, then fetches and links them.

No other module imports py-rattler's solver or installer. See `nbprovision.conda.rattler` for the requests.
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

from nbprovision.conda import byte_code, exact_records
from nbprovision.conda.query import (
    UNSOLVABLE,
    ArchiveRequest,
    Attempt,
    ExactRequest,
    FetchRequest,
    InstallRequest,
    RehearseRequest,
    Request,
    SolveRequest,
)
from nbprovision.machine import package_names
from nbprovision.machine.environments import META
from nbprovision.model.errors import DEFECT, REPORT, TaskFailed, nearest
from nbprovision.system import disk_space
from nbprovision.system.process import answer, ending_when_silent
from nbprovision.system.reading import read_json

Tell = Callable[..., None]
_PAUSE = 0.1  # seconds between two messages about a download
_FAILURES = (InstallerError, LinkError, TransactionError, OSError)

_solved: dict[int, list[rattler.RepoDataRecord]] = {}  # solutions until they are installed; requests run in parallel
_locked: dict[int, exact_records.Locked] = {}  # those of them whose packages are exact
_numbers = itertools.count()
_gateway_lock = threading.Lock()


def work(message: Any, tell: Tell) -> Any:
    """Carry out a request."""
    request = msgspec.convert(message, Request)
    if isinstance(request, SolveRequest):
        with ending_when_silent(request.silence, lambda: request.shown, lambda: received(request.repodata)):
            return asyncio.run(_solve(request))
    if isinstance(request, ExactRequest):
        return _exact(request)
    reporter = _Reporter(tell)  # type: ignore[abstract]  # the methods without a body are not
    with ending_when_silent(request.silence, lambda: list(reporter.coming.values()), lambda: reporter.progress):
        if isinstance(request, ArchiveRequest):
            return asyncio.run(_keep(request, reporter))
        if isinstance(request, FetchRequest):
            return asyncio.run(_fetch(request, reporter))
        if isinstance(request, RehearseRequest):
            return asyncio.run(_rehearse(request, reporter))
        return asyncio.run(_install(request, reporter))


# ---------------------------------------------------------------------------------------------------------- solving


async def _solve(request: SolveRequest) -> dict[str, Any]:
    gateway = open_gateway(request)
    installed = installed_records(request)
    # A locked package is kept even if a spec names another channel.
    locked = [record for record in installed if record.name.normalized not in request.unlocked]
    rebuilt = await _with_builds_for_cuda(locked, request, gateway) if request.other_builds else []
    versions = [f"{record.name.normalized} =={record.version}" for record in rebuilt]
    locked = [record for record in locked if record not in rebuilt]
    virtual = rattler.VirtualPackage.detect(rattler.VirtualPackageOverrides.from_env())
    unsolved: SolverError | None = None
    for number, attempt in enumerate(request.attempts):
        try:
            solved = await rattler.solve(
                request.channels,
                [*match_specs(attempt.specs), *match_specs(attempt.keep, lenient=True)],
                gateway=gateway,
                locked_packages=locked,
                pinned_packages=[record for record in locked if record.name.normalized in attempt.pinned],
                constraints=match_specs([*attempt.constraints, *versions], lenient=True),
                virtual_packages=virtual,
                channel_priority=rattler.ChannelPriority.Strict,
            )
        except SolverError as error:  # noqa: PERF203 - the next attempt asks for less
            unsolved = error
        except (GatewayError, FetchRepoDataError, InvalidChannelError) as error:
            raise unreachable(error, request) from error
        else:
            solution = next(_numbers)
            _solved[solution] = solved
            before = {record.name.normalized: record for record in installed}
            packages = [_package(record, before.get(record.name.normalized)) for record in solved]
            return {"attempt": number, "solution": solution, "packages": packages}
    if unsolved is None:
        raise TaskFailed("the solver got no query", cause=DEFECT, cure=REPORT)
    raise await unsolvable(unsolved, request, gateway)


def received(repodata: str) -> list[tuple[str, int, int]]:
    """The received parts of channels: the library writes each part of an index, and each shard, into this folder."""
    parts = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(repodata):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                parts.append((entry.name, status.st_size, status.st_mtime_ns))
    return sorted(parts)


async def _with_builds_for_cuda(
    records: list[rattler.PrefixRecord], request: SolveRequest, gateway: rattler.Gateway
) -> list[rattler.PrefixRecord]:
    """Those of the installed packages for which the channels have builds of the same version that need CUDA."""
    specs = match_specs([f"{record.name.normalized} =={record.version}" for record in records], lenient=True)
    answers = await gateway.query(request.channels, platforms(request), specs, recursive=False)
    builds = [build for answer in answers for build in answer]
    names = {build.name.normalized for build in builds if any(text.split()[0] == "__cuda" for text in build.depends)}
    return [record for record in records if record.name.normalized in names]


def installed_records(request: SolveRequest) -> list[rattler.PrefixRecord]:
    """Read the records of installed packages, without the dependencies that they may continue to lack."""
    records = [rattler.PrefixRecord.from_path(Path(path)) for path in request.installed]
    for record in records:
        unmet = request.unmet.get(record.name.normalized)
        if unmet:
            record.depends = [text for text in record.depends if text not in unmet]
    return records


def match_specs(texts: list[str], *, lenient: bool = False) -> list[rattler.MatchSpec]:
    """Parse specs as conda does: the solver parses plain strings strictly, and refuses `six 1.16.0`.

    Args:
        texts: The specs.
        lenient: Leave out invalid specs, which other tools may have written.

    """
    specs = []
    for text in texts:
        try:
            specs.append(rattler.MatchSpec(text))
        except InvalidMatchSpecError as error:  # noqa: PERF203 - the error names the spec
            if lenient:
                continue
            raise TaskFailed(
                f"'{text}' is not a match spec",
                cause=str(error).splitlines()[0],
                cure="write it as conda does: name, name=1.2, name>=1.2,<2",
            ) from error
    return specs


def _package(record: rattler.RepoDataRecord, before: rattler.PrefixRecord | None) -> dict[str, Any]:
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


# ---------------------------------------------------------------------------------------------------- exact packages


def _exact(request: ExactRequest) -> dict[str, Any]:
    _offer_credentials(request.credentials)
    locked = exact_records.Locked(request)
    solution = next(_numbers)
    _locked[solution], _solved[solution] = locked, locked.records
    packages = [_package(record, locked.before.get(record.name.normalized)) for record in locked.records]
    return {"solution": solution, "packages": packages}


async def _fetch(request: FetchRequest, reporter: _Reporter) -> None:
    client = None if request.offline else _client(verify=request.verify, retries=request.retries)
    try:
        await _locked[request.solution].fetch(client, Path(request.cache), request.archives, reporter)
    except (*_FAILURES, *exact_records.FAILURES) as error:
        raise _failed(error, request, _solved[request.solution]) from error


async def _keep(request: ArchiveRequest, reporter: _Reporter) -> None:
    _offer_credentials(request.credentials)
    client = _client(verify=request.verify, retries=request.retries)
    try:
        await exact_records.keep(request.packages, client, Path(request.folder), reporter)
    except (*_FAILURES, *exact_records.FAILURES) as error:
        text = str(error).replace("\nCaused by", "; caused by")
        raise TaskFailed(
            "cannot fetch the packages", cause=text, cure="run again: fetched packages are kept"
        ) from error


def _records(solution: int, cache: str) -> list[rattler.RepoDataRecord]:
    """The packages of a solution; what a lock did not say of them is read from the fetched packages."""
    if solution in _locked:
        _solved[solution] = _locked[solution].completed(Path(cache))
    return _solved[solution]


# ------------------------------------------------------------------------------------------------------- installing


async def _install(request: InstallRequest, reporter: _Reporter) -> None:
    solved = _records(request.solution, request.cache)
    prefix = Path(request.prefix)
    python = _coming_python(solved, prefix)
    try:
        await rattler.install(
            solved,
            target_prefix=request.prefix,
            cache_dir=Path(request.cache),
            reinstall_packages=set(request.reinstall),
            # conda runs the scripts of packages too: without them the environment would differ from conda's.
            execute_link_scripts=True,
            show_progress=False,
            client=_client(verify=request.verify, retries=request.retries),
            # The library takes the wrapped object only.
            requested_specs=[spec._match_spec for spec in match_specs(request.requested, lenient=True)],  # noqa: SLF001
            reporter=reporter,
        )
    except _FAILURES as error:
        raise _failed(error, request, solved) from error
    _locked.pop(request.solution, None)
    del _solved[request.solution]  # only now: after a failure of the network the request comes again
    _open_records(prefix)
    if python is not None:
        byte_code.share(prefix, Path(request.cache, python))


def _coming_python(solved: list[rattler.RepoDataRecord], prefix: Path) -> str | None:
    """The name, version and build of the Python that an environment is about to get; None if it has this one."""
    for record in solved:
        if record.name.normalized == "python":
            name = "-".join(_identity(record))
            return None if os.path.exists(prefix / META / f"{name}.json") else name
    return None


def _open_records(prefix: Path) -> None:
    """Make the records readable for everybody, as conda does: the library makes them readable for the owner only."""
    for entry in os.scandir(prefix / "conda-meta"):
        if entry.name.endswith(".json") and entry.is_file(follow_symlinks=False):
            mode = stat.S_IMODE(entry.stat().st_mode)
            if mode & 0o044 != 0o044:
                os.chmod(entry.path, mode | 0o044)


async def _rehearse(request: RehearseRequest, reporter: _Reporter) -> None:
    """Link the new packages into another folder: then they are in the cache, and there is space for them."""
    installed = {_identity(rattler.PrefixRecord.from_path(Path(path))) for path in request.installed}
    solved = _records(request.solution, request.cache)
    coming = [record for record in solved if _identity(record) not in installed]
    # The version of Python decides where pure Python packages go.
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
    except _FAILURES as error:
        raise _failed(error, request, solved) from error


def _identity(record: rattler.PackageRecord) -> tuple[str, str, str]:
    return record.name.normalized, str(record.version), str(record.build)


class _Reporter(rattler.InstallerReporter):
    """Reports packages that are fetched and linked; the engine's threads call it.

    Attributes:
        coming: Names of the packages that are being downloaded, by their numbers.

    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._packages = 0
        self._linked = 0
        self._sizes: dict[int, tuple[int, int]] = {}
        self._names: list[str] = []
        self._reported = 0.0
        self.coming: dict[int, str] = {}

    @property
    def progress(self) -> tuple[int, int]:
        """Received bytes, and linked packages."""
        return sum(done for done, _ in list(self._sizes.values())), self._linked

    def _due(self) -> bool:
        """Whether the pause since the last message is over, which begins again then."""
        now = time.monotonic()
        due = now - self._reported >= _PAUSE
        if due:
            self._reported = now
        return due

    def _tell_linked(self, text: str = "linking") -> None:
        self._tell(text=text, done=self._linked, total=self._packages, unit="packages")

    def on_transaction_start(self, total_operations: int) -> None:
        self._packages = total_operations
        self._tell_linked()

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        self._names.append(package_name)
        return len(self._names) - 1

    def on_validate_start(self, cache_entry: int) -> int:
        return cache_entry

    def on_download_start(self, cache_entry: int) -> int:
        self.coming[cache_entry] = self._names[cache_entry]
        return cache_entry

    def on_download_progress(self, download_idx: int, progress: int, total: int | None) -> None:
        self._sizes[download_idx] = (progress, total or progress)
        if self._due():
            name = self._names[download_idx] if download_idx < len(self._names) else ""
            done, complete = (sum(column) for column in zip(*self._sizes.values(), strict=True))
            self._tell(text=f"fetching {name}", done=done, total=complete, unit="bytes")

    def on_download_completed(self, download_idx: int) -> None:
        self.coming.pop(download_idx, None)

    def on_link_complete(self, index: int) -> None:
        self._linked += 1
        if self._due() or self._linked == self._packages:
            self._tell_linked()

    def on_post_link_start(self, package_name: str, script_path: str) -> int:
        self._tell_linked(f"running the script of {package_name}")
        return 0


def open_gateway(request: SolveRequest) -> rattler.Gateway:
    """Return the reader of the channels of a request."""
    _offer_credentials(request.credentials)
    with _gateway_lock:
        identities = _identities(request.channels)
        return _gateway(request.repodata, request.offline, request.verify, request.retries, identities)


@functools.cache  # a channel is read once for all environments
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
        # `use-cache-only` fails if the cache is fresh.
        default_config=rattler.SourceConfig(cache_action="force-cache-only" if offline else "cache-or-fetch"),
    )


def _identities(channels: list[str]) -> tuple[str, ...]:
    """The identities of the indexes of local channels, which show that a channel has changed since it was read."""
    identities = []
    for url in channels:
        for subdir in ("noarch", str(rattler.Platform.current())) if url.startswith("file://") else ():
            path = Path(unquote(urlsplit(url).path), subdir, "repodata.json")
            with contextlib.suppress(OSError):
                status = path.stat()
                identities.append(f"{path} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_size}")
    return tuple(identities)


@functools.cache
def _client(*, verify: bool, retries: int) -> rattler.Client:
    if verify:
        return rattler.Client.default_client(retries, user_agent="nbprovision")
    config = rattler.config.Config.from_toml("tls-no-verify = true")
    return rattler.Client.from_config(config, retries, user_agent="nbprovision")


def _offer_credentials(credentials: dict[str, Any]) -> None:
    """Let the library read credentials from memory, so that they are never on a disk."""
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


async def unsolvable(error: SolverError, request: SolveRequest, gateway: rattler.Gateway) -> TaskFailed:
    """The error that names the incompatible specs and the available versions."""
    cause = str(error).removeprefix("Cannot solve the request because of: ").strip()
    last: Attempt = request.attempts[-1]
    names = [name.normalized for name in await gateway.names(request.channels, platforms=platforms(request))]
    specs: dict[str, str] = {}
    for spec in match_specs(last.specs):
        specs.setdefault(spec.name.normalized, str(spec))  # the bare names come last
    channels = ", ".join(request.shown)
    unknown = next((name for name in specs if name not in names and name in cause), None)
    if unknown is not None:
        advice = package_names.advice(unknown, "conda")
        return TaskFailed(
            f"no channel has a package '{unknown}'{'' if advice else nearest(unknown, names)}",
            cause=f"looked in {channels}",
            cure=advice or "correct the name, or name the channel that has it",
        )
    guilty = [name for name, spec in specs.items() if spec != name and name in cause]
    return TaskFailed(
        UNSOLVABLE,
        cause="\n".join([cause, *[await _versions(name, request, gateway) for name in guilty]]),
        cure=f"loosen one of the specs, or name another channel than {channels}",
    )


async def _versions(name: str, request: SolveRequest, gateway: rattler.Gateway) -> str:
    answers = await gateway.query(request.channels, platforms(request), [rattler.MatchSpec(name)], recursive=False)
    versions = sorted({record.version for records in answers for record in records})
    newest = ", ".join(str(version) for version in versions[-8:])
    return f"available versions of {name}: {'... ' if len(versions) > 8 else ''}{newest}"


def platforms(request: SolveRequest) -> list[rattler.Platform]:
    """Return the platforms whose packages a request may get."""
    own = rattler.Platform(request.platform) if request.platform else rattler.Platform.current()
    return [own, rattler.Platform("noarch")]


def unreachable(error: Exception, request: SolveRequest) -> TaskFailed:
    """The error for a channel that cannot be read."""
    text = str(error).replace("\nCaused by", "; caused by")
    if request.offline:
        cure = "conda is set to `offline`, and the channel is not in the cache: switch `offline` off, at least once"
    elif "file://" in text or "No such file" in text:
        cure = "correct the path of the channel, or build it first by ensure_conda_channel"
    else:
        cure = "correct the channel's name or URL, or check the network and the proxy (https_proxy)"
    return TaskFailed(f"cannot read the channel {' or '.join(request.shown)}", cause=text, cure=cure)


def _failed(
    error: Exception, request: FetchRequest | InstallRequest | RehearseRequest, solved: list[rattler.RepoDataRecord]
) -> TaskFailed:
    text = str(error).replace("\nCaused by", "; caused by")
    culprit = next((record for record in solved if record.file_name in text), None)
    if culprit is not None and culprit.url not in text:
        text += f" ({culprit.url})"
    disk_full = disk_space.explain_output(text, Path(request.prefix))
    if disk_full is not None:
        text, cure = disk_full
    elif "os error 13" in text:
        cure = f"check who may write to {request.prefix} and {request.cache}"
    else:
        cure = "run again: completed work is kept"
    return TaskFailed(f"the packages could not be installed into {request.prefix}", cause=text, cure=cure)


if __name__ == "__main__":
    answer(work)

"""The child process that solves for a lock, and writes the lock file with py-rattler.

Each environment is solved for each platform without looking at what is installed. The library writes version 7 of the
format (https://pixi.sh/latest/workspace/lockfile/), and sorts it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import rattler
from rattler.exceptions import FetchRepoDataError, GatewayError, InvalidChannelError, SolverError
from rattler.package.build_string import BuildString

from nbprovision.conda.query import LockedRecord, LockQuery, PlatformSolve
from nbprovision.conda.rattler_child import (
    installed_records,
    match_specs,
    open_gateway,
    platforms,
    received,
    unreachable,
    unsolvable,
)
from nbprovision.model.errors import TaskFailed
from nbprovision.system.process import answer, ending_when_silent

# A package that depends on one of these contains Python modules: conda-forge's noarch packages, and compiled ones.
_PYTHON = ("python", "python_abi")

Records = list[rattler.RepoDataRecord]


def work(message: Any, report: Callable[..., None]) -> Any:
    """Carry out a `LockQuery`."""
    return asyncio.run(_lock(msgspec.convert(message, LockQuery), report))


async def _lock(query: LockQuery, report: Callable[..., None]) -> list[list[LockedRecord]]:
    present = rattler.LockFile.from_path(Path(query.present)) if query.present is not None else None
    solved: list[Records] = []
    for number, solve in enumerate(query.solves):
        report(text=f"solving {solve.environment} for {solve.platform}", done=number, total=len(query.solves))
        request = solve.request
        with ending_when_silent(request.silence, lambda: request.shown, lambda: received(request.repodata)):  # noqa: B023
            solved.append(await _solve(solve, _kept(present, solve, query.upgraded)))
    answers = [[_locked(record) for record in records] for records in solved]
    _write(query, solved)
    return answers


def _kept(present: rattler.LockFile | None, solve: PlatformSolve, upgraded: Iterable[str]) -> dict[str, bytes | None]:
    """Return the digests of the packages that the existing lock has, by the names of their archives."""
    environment = present.environment(solve.environment) if present is not None else None
    if environment is None:
        return {}
    records = environment.conda_repodata_records().get(solve.platform, [])
    return {record.file_name: record.sha256 for record in records if record.name.normalized not in upgraded}


async def _solve(solve: PlatformSolve, kept: Mapping[str, bytes | None]) -> Records:
    """Solve for one platform.

    Raises:
        TaskFailed: the requested packages are incompatible, or a channel cannot be read.

    """
    request = solve.request
    attempt = request.attempts[0]
    gateway = open_gateway(request)
    provided = installed_records(request)
    try:
        favored = await _still_offered(gateway, solve, kept)
        records = await rattler.solve(
            request.channels,
            match_specs(attempt.specs),
            gateway=gateway,
            platforms=platforms(request),
            locked_packages=[*provided, *favored],
            pinned_packages=[record for record in provided if record.name.normalized in attempt.pinned],
            constraints=match_specs(attempt.constraints, lenient=True),
            virtual_packages=[_virtual_package(text) for text in solve.virtual_packages],
            channel_priority=rattler.ChannelPriority.Strict,
        )
    except SolverError as error:
        failure = await unsolvable(error, request, gateway)
        message = f"{solve.environment} for {solve.platform}: {failure.message}"
        raise TaskFailed(message, cause=failure.cause, cure=failure.cure) from error
    except (GatewayError, FetchRepoDataError, InvalidChannelError) as error:
        raise unreachable(error, request) from error
    brought = {(record.name.normalized, str(record.version), str(record.build)) for record in provided}
    new = (
        record for record in records if (record.name.normalized, str(record.version), str(record.build)) not in brought
    )
    return sorted(new, key=lambda record: (record.name.normalized, record.file_name))


async def _still_offered(gateway: rattler.Gateway, solve: PlatformSolve, kept: Mapping[str, bytes | None]) -> Records:
    """Return the records of locked packages that the channels still have: a lock never keeps a package that is gone."""
    specs = match_specs(sorted({name.rsplit("-", 2)[0] for name in kept}), lenient=True)
    if not specs:
        return []
    request = solve.request
    answers = await gateway.query(request.channels, platforms(request), specs, recursive=False)
    return [
        record
        for record in (record for records in answers for record in records)
        if record.sha256 is not None and record.sha256 == kept.get(record.file_name)
    ]


def _virtual_package(text: str) -> rattler.GenericVirtualPackage:
    """Parse ``__glibc=2.34`` and ``__archspec=1=x86_64``."""
    name, version, build = [*text.split("="), "0"][:3]
    return rattler.GenericVirtualPackage(rattler.PackageName(name), rattler.Version(version), BuildString(build))


def _locked(record: rattler.RepoDataRecord) -> LockedRecord:
    needs = {text.split()[0] for text in record.depends}
    name = record.name.normalized
    return LockedRecord(name, str(record.version), name != "python" and not needs.isdisjoint(_PYTHON))


def _write(query: LockQuery, solved: Iterable[Records]) -> None:
    """Write the lock file; the records are changed."""
    by_name = {solve.platform: solve for solve in query.solves}
    places = [
        rattler.LockPlatform(name, rattler.Platform(solve.request.platform), sorted(solve.virtual_packages))
        for name, solve in sorted(by_name.items())
    ]
    lock = rattler.LockFile(places)
    # The file's own platforms: the library accepts no others.
    named = {str(platform): platform for platform in lock.platforms()}
    channels: dict[str, dict[str, None]] = {}
    for solve, records in zip(query.solves, solved, strict=True):
        names = channels.setdefault(solve.environment, {})
        names.update(dict.fromkeys(_placed(url, query.places) for url in solve.request.channels))
        for record in records:
            record.url = _placed(record.url, query.places)
            record.channel = _placed(record.channel, query.places) if record.channel else record.channel
            lock.add_conda_package(solve.environment, named[solve.platform], record)
    for environment, urls in channels.items():
        lock.set_channels(environment, [rattler.LockChannel(url) for url in urls])
    lock.to_path(Path(query.output))


def _placed(url: str, places: Mapping[str, str]) -> str:
    """Return a URL as it is in the lock: in a channel beside the playbook it must not depend on the machine."""
    for here, locked in places.items():
        if url == here or url.startswith(f"{here.rstrip('/')}/"):
            return locked.rstrip("/") + url[len(here.rstrip("/")) :]
    return url


if __name__ == "__main__":
    answer(work)

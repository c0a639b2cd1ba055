"""Lock conda environments: solve them for each platform, in a child process, and write a ``pixi.lock``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.conda import health, rattler
from nbprovision.conda.package_urls import take_credentials
from nbprovision.conda.packages import refuse_forbidden
from nbprovision.conda.query import Attempt, LockedRecord, LockQuery, PlatformSolve, SolveRequest
from nbprovision.conda.records import all_details
from nbprovision.conda.specs import Spec, requested_specs
from nbprovision.machine import network
from nbprovision.machine.environments import installed
from nbprovision.model.errors import TaskFailed
from nbprovision.system import secrets
from nbprovision.system.process import Child

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

CHILD = "nbprovision.conda.rattler_lock"
# The C library of Amazon Linux 2023, on which notebook instances run
# (https://docs.aws.amazon.com/linux/al2023/ug/core-glibc.html).
GLIBC = "2.34"
_ARCHSPECS = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}
PLATFORMS = tuple(_ARCHSPECS)


class CondaEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """A conda environment to lock.

    Attributes:
        name: Its name in the lock.
        specs: Match specs.
        channels: URLs, the preferred one first.
        pins: Match specs for packages that need not be installed.
        cuda: The version of CUDA to solve for; None for a machine without a GPU.
        provided: An environment of the platform's image, of which the lock has only what is added or changed.
        allowed: Its packages may change.

    """

    name: str
    specs: tuple[str, ...]
    channels: tuple[str, ...]
    pins: tuple[str, ...] = ()
    cuda: str | None = None
    provided: Path | None = None
    allowed: bool = False


def platform_name(platform: str, cuda: str | None) -> str:
    """The name of a platform in a lock.

    One with CUDA has another name than the one without, because a lock file lists the properties of a platform once for
    all environments.
    """
    return platform if cuda is None else f"{platform}-cuda-{re.sub(r'[^0-9]+', '-', cuda)}"


def virtual_packages(platform: str, cuda: str | None) -> list[str]:
    """The properties of a notebook instance, as virtual packages (https://conda.org/learn/ceps/cep-0030)."""
    properties = [f"__archspec=1={_ARCHSPECS[platform]}", f"__glibc={GLIBC}", "__linux=0", "__unix=0=0"]
    return sorted([*properties, *([f"__cuda={cuda}"] if cuda is not None else [])])


def lock(
    machine: Machine,
    environments: Sequence[tuple[CondaEnvironment, Sequence[str]]],
    output: Path,
    *,
    present: Path | None = None,
    upgraded: Iterable[str] = (),
    places: Mapping[str, str] | None = None,
) -> dict[tuple[str, str], list[LockedRecord]]:
    """Solve environments for platforms, and write the lock file.

    Args:
        machine: The machine, for conda's configuration and the caches.
        environments: The environments, each with its platforms: conda's names, of `PLATFORMS`.
        output: The file to write.
        present: An existing lock file, whose packages stay if possible.
        upgraded: Names of packages for which the existing file does not count.
        places: The channels in the file, each by its URL on this machine.

    Returns:
        The packages of each environment and platform.

    Raises:
        NetworkFailed: a channel cannot be reached.
        TaskFailed: the requested packages are incompatible, or a channel cannot be read.

    """
    keys = [(environment, platform) for environment, platforms in environments for platform in platforms]

    credentials: dict[str, Any] = {}
    solves = [_solve(machine, *key, credentials) for key in keys]
    query = LockQuery(
        solves=[_with_credentials(solve, credentials) for solve in solves],
        output=str(output),
        present=None if present is None else str(present),
        upgraded=sorted(upgraded),
        places=dict(places or {}),
    )
    channels = list(dict.fromkeys(url for environment, _ in environments for url in environment.channels))
    # A lock is made of what the channels have now, so a cache does not replace a server that is unreachable.
    answer = network.retry(machine, lambda _: _call(machine, query, channels), cached=False)
    answers = msgspec.convert(answer, list[list[LockedRecord]])
    return {
        (environment.name, platform): records for (environment, platform), records in zip(keys, answers, strict=True)
    }


def _call(machine: Machine, query: LockQuery, channels: Sequence[str]) -> Any:
    child = Child(CHILD, env=rattler.child_environment(machine, channels))

    def report(message: dict[str, Any]) -> None:
        machine.progress(message["text"], message["done"], message["total"])

    try:
        return child.call(query, report, machine.timeout)
    except TaskFailed as error:
        raise rattler.by_network("cannot lock", error.cause, machine, channels) or error from error
    finally:
        child.close()


def _solve(
    machine: Machine,
    environment: CondaEnvironment,
    platform: str,
    credentials: dict[str, Any],
) -> PlatformSolve:
    """The query of one environment for one platform; adds the passwords of its channels to ``credentials``."""
    condarc = machine.conda.condarc
    refuse_forbidden(machine, environment.channels)
    channels = []
    for url in environment.channels:
        clean, by_host = take_credentials(url)
        channels.append(clean)
        credentials.update(by_host)
    specs = requested_specs(environment.specs)
    records = installed(environment.provided) if environment.provided is not None else []
    records = [record for record in records if record not in health.torn(records)]
    details = all_details(records)
    names = sorted({spec.name for spec in specs} | details.keys())  # bare names too: see `rattler.attempts`
    request = SolveRequest(
        attempts=[
            Attempt(
                specs=[*(_for_solver(spec, machine) for spec in specs), *names],
                constraints=[_for_solver(spec, machine) for spec in requested_specs(environment.pins)],
                pinned=[] if environment.allowed else sorted(details),
            )
        ],
        channels=channels,
        shown=[secrets.mask(url) for url in channels],
        installed=[str(record.path) for record in records],
        unlocked=[],
        repodata=str(machine.cache / "repodata"),
        offline=condarc.offline,
        verify=condarc.ssl_verify is not False,
        credentials={},
        unmet=health.unmet(details, records, condarc) if records else {},
        silence=network.timeout(machine.env) if any(url.startswith("http") for url in channels) else None,
        retries=network.quick_retries(machine),
        platform=platform,
    )
    return PlatformSolve(
        environment=environment.name,
        platform=platform_name(platform, environment.cuda),
        virtual_packages=virtual_packages(platform, environment.cuda),
        request=request,
    )


def _for_solver(spec: Spec, machine: Machine) -> str:
    if spec.channel is None:
        return spec.text
    url, _ = take_credentials(machine.conda.condarc.urls(spec.channel)[0])
    return f"{url}::{spec.bare}"


def _with_credentials(solve: PlatformSolve, credentials: dict[str, Any]) -> PlatformSolve:
    request = msgspec.structs.replace(solve.request, credentials=credentials)
    return msgspec.structs.replace(solve, request=request)

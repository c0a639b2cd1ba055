"""Fetches the archives of exact conda packages without installing them, by the child process of the built-in engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbprovision.conda import rattler
from nbprovision.conda.early_engine import MODULE
from nbprovision.conda.exact_packages import LockedPackage
from nbprovision.conda.package_urls import take_credentials
from nbprovision.conda.query import ArchiveRequest
from nbprovision.machine import network
from nbprovision.model.errors import TaskFailed
from nbprovision.system.process import Child

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine


def fetch(machine: Machine, packages: Iterable[LockedPackage], channels: Sequence[str], folder: Path) -> None:
    """Put archives into a folder, each under its SHA-256; those that it has stay.

    Args:
        machine: The machine, for conda's configuration.
        packages: Packages of any platform, with URLs that can be reached from here.
        channels: The channels' URLs, which may contain credentials.
        folder: The folder.

    Raises:
        NetworkFailed: a server cannot be reached.
        TaskFailed: an archive is not the locked one, or cannot be written.

    """
    credentials: dict[str, Any] = {}
    for url in channels:
        credentials.update(take_credentials(url)[1])
    request = ArchiveRequest(
        packages=list(packages),
        folder=str(folder),
        credentials=credentials,
        verify=machine.conda.condarc.ssl_verify is not False,
        silence=network.timeout(machine.env),
        retries=network.quick_retries(machine),
    )
    if request.packages:
        network.retry(machine, lambda _: _call(machine, request, channels), cached=False)


def _call(machine: Machine, request: ArchiveRequest, channels: Sequence[str]) -> None:
    child = Child(MODULE, env=rattler.child_environment(machine, channels))

    def report(message: dict[str, Any]) -> None:
        machine.progress(message["text"], message["done"], message["total"])

    try:
        child.call(request, report, machine.timeout)
    except TaskFailed as error:
        raise rattler.by_network(error.message, error.cause, machine, channels) or error from error
    finally:
        child.close()

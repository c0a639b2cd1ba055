"""A run with a lock: refuse one that is stale, and give each environment what the lock has for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nbprovision.engine.session import Catalogue
from nbprovision.lock import folder as lock_folder
from nbprovision.lock.folder import INDEX, PIXI, Lock
from nbprovision.lock.requests import EnvironmentRequest, collect
from nbprovision.machine import platform
from nbprovision.machine.locked import LockedEnvironment
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook


class Locked(NamedTuple):
    """What a run with a lock installs.

    Attributes:
        environments: What the lock has, by prefix.
        notes: Sentences for the user.

    """

    environments: Mapping[Path, LockedEnvironment]
    notes: tuple[str, ...] = ()


def locked(
    playbook: Path,
    machine: Machine,
    catalogue: Catalogue,
    extra_vars: Mapping[str, Any],
    *,
    kept: Mapping[Path, bytes] | None = None,
    frozen: bool,
    bundle: Path | None = None,
) -> Locked:
    """Read the lock beside a playbook, and compare it with the playbook.

    Args:
        playbook: The playbook.
        machine: The facts. They receive what the playbook declares, so that the run itself needs others.
        catalogue: Every kind of task.
        extra_vars: The variables of ``-e``.
        kept: Contents to read in place of the playbook's files.
        frozen: Use the lock even if it is stale.
        bundle: The bundle that the playbook is from; this machine's indexes do not matter then.

    Raises:
        InvalidPlaybook: the lock is missing, damaged or stale, or lacks an environment or the platform.

    """
    lock = lock_folder.read(lock_folder.folder_of(playbook), tool=machine.home, home=machine.user_home)
    requests = collect(playbook, machine, catalogue, extra_vars, images=lock.images, kept=kept)
    stale = lock.stale(requests, indexes=bundle is None)
    if stale and not frozen:
        again = f"write it again: {_command(playbook, extra_vars)}" if bundle is None else "make the bundle again"
        raise InvalidPlaybook(
            f"the lock {lock.folder if bundle is None else f'in {bundle}'} is stale",
            cause="\n".join(stale),
            cure=f"{again}\nor use it as it is: --frozen",
        )
    command = _command(playbook, extra_vars)
    environments = {request.prefix: _environment(lock, request, command) for request in requests}
    return Locked(environments, tuple(_notes(lock, requests, stale)))


def _command(playbook: Path, extra_vars: Mapping[str, Any]) -> str:
    """The command that locks again, with the names of the variables: a value may be secret."""
    return " ".join(["nbprovision lock", str(playbook), *(f"-e {name}=..." for name in extra_vars)])


def _environment(lock: Lock, request: EnvironmentRequest, command: str) -> LockedEnvironment:
    """What the lock has for an environment.

    Raises:
        InvalidPlaybook: it lacks something that the environment needs.

    """
    cure = f"write it again: {command}"
    entry = lock.environments.get(request.name)
    if entry is None:
        raise InvalidPlaybook(f"the lock {lock.folder} has no environment '{request.name}'", cure=cure)
    subdir = platform.conda_subdir()
    platforms = entry.origin.platforms or lock.platforms
    if subdir not in platforms:
        raise InvalidPlaybook(
            f"the lock {lock.folder} is not for {subdir}, which this machine is",
            cause=f"it is for {', '.join(platforms) or 'no platform'}",
            cure=f"{cure} {' '.join(f'--platform {name}' for name in (*lock.platforms, subdir))}",
        )
    if request.specs and not entry.origin.specs:
        raise InvalidPlaybook(
            f"the lock {lock.folder} has no conda packages for '{request.name}'",
            cause="the playbook requests some",
            cure=cure,
        )
    if request.with_pip and entry.pylock is None:
        raise InvalidPlaybook(
            f"the lock {lock.folder} has no Python distributions for '{request.name}'",
            cause="the playbook requests some by pip",
            cure=cure,
        )
    return LockedEnvironment(
        name=request.name,
        index=lock.folder / INDEX,
        conda=lock.folder / PIXI if request.specs else None,
        pylock=entry.pylock if request.with_pip else None,
        here=lock.here,
    )


def _notes(lock: Lock, requests: list[EnvironmentRequest], stale: list[str]) -> Iterator[str]:
    if stale:
        yield f"the lock is stale and used as it is: {'; '.join(stale)}"
    for name in lock.moved(requests):
        yield (
            f"the platform's image has changed {name} since it was locked; "
            "the locked packages are added to what the image now has"
        )

"""What the platform's image brought, written down at the first sight of each boot; see `machine.baseline`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from nbprovision.machine import baseline
from nbprovision.machine.baseline import Content, Difference
from nbprovision.machine.machine import Machine
from nbprovision.system.files import make_folder, write_atomically
from nbprovision.system.reading import read_json

_lock = threading.Lock()  # tasks work side by side; a run excludes other runs


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """An environment as the image brought it.

    Attributes:
        sight: The boot and the folder that were looked at.
        prefix: The environment.
        content: What was in it.
        permitted: What tasks changed of it since, because a playbook allowed them to.

    """

    sight: str
    prefix: str
    content: Content
    permitted: tuple[Difference, ...] = ()


def of(machine: Machine, prefix: Path) -> Baseline | None:
    """The baseline of an environment that the platform provides, taken now where this is its first sight.

    Returns:
        None for any other environment, which is its owner's.

    """
    if not is_provided(machine, prefix):
        return None
    with _lock:
        known = _read(machine, prefix)
        if known is not None:
            return known
        found = Baseline(sight=baseline.sight(prefix), prefix=str(prefix), content=baseline.content(prefix))
        _write(machine, prefix, found)
        return found


def known(machine: Machine, prefix: Path) -> Baseline | None:
    """The baseline of an environment, None where none was taken since the machine started; nothing is written."""
    return _read(machine, prefix) if is_provided(machine, prefix) else None


def record_all(machine: Machine) -> None:
    """Take the baselines of all environments that the platform provides, before anything changes in one."""
    if machine.platform.provided is not None:
        for environment in machine.conda.environments():
            of(machine, environment.prefix)


def permit(machine: Machine, prefix: Path, changes: Iterable[Difference]) -> None:
    """Write down what was changed with permission."""
    known = of(machine, prefix)
    if known is not None:
        with _lock:
            permitted = tuple(dict.fromkeys((*known.permitted, *changes)))
            _write(machine, prefix, msgspec.structs.replace(known, permitted=permitted))


def is_provided(machine: Machine, prefix: Path) -> bool:
    """Whether the platform's image brings the environment."""
    provided = machine.platform.provided
    if provided is None or (prefix != provided and provided not in prefix.parents):
        return False
    return any(one.prefix == prefix and one.provided for one in machine.conda.environments())


def _read(machine: Machine, prefix: Path) -> Baseline | None:
    try:
        known = read_json(_path(machine, prefix), Baseline)
    except (OSError, msgspec.DecodeError):
        return None
    return known if known.sight == baseline.sight(prefix) else None


def _write(machine: Machine, prefix: Path, known: Baseline) -> None:
    path = _path(machine, prefix)
    with contextlib.suppress(OSError):  # a volume that is full or read-only: the next look is the first again
        make_folder(path.parent, mode=0o700)
        write_atomically(path, msgspec.json.encode(known), mode=0o600, durable=False)


def _digest(prefix: Path) -> str:
    return hashlib.blake2b(os.fsencode(prefix), digest_size=16).hexdigest()[:24]


def _path(machine: Machine, prefix: Path) -> Path:
    return machine.home / "baselines" / f"{_digest(prefix)}.json"

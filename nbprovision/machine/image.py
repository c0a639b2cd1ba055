"""The packages of the platform's image, which change only with permission.

The first run after each boot records a baseline of each environment. AWS: changing or removing the packages that
SageMaker installed may make the notebook instance unstable
(https://docs.aws.amazon.com/sagemaker/latest/dg/nbi-add-external.html).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from nbprovision.machine import distributions
from nbprovision.machine.environments import META, installed
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, TaskFailed
from nbprovision.system.files import make_folder, write_atomically
from nbprovision.system.reading import read_json

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SHOWN = 20  # packages that an error lists
_lock = threading.Lock()  # tasks run side by side; the lock of the home folder excludes other runs


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Names and versions, from the names of records and folders alone.

    Attributes:
        packages: Conda packages: name to ``VERSION BUILD``.
        distributions: Python distributions of any installer: normalised name to version.

    """

    packages: dict[str, str] = {}
    distributions: dict[str, str] = {}


class Difference(msgspec.Struct, frozen=True):
    """A package or distribution that has changed; None for a missing one."""

    kind: Literal["conda", "pip"]
    name: str
    before: str | None
    after: str | None


def content(prefix: Path) -> Content:
    """The current content of ``prefix``."""
    return Content(
        packages={record.name: f"{record.version} {record.build}" for record in installed(prefix)},
        distributions={name: several[0].version for name, several in distributions.installed(prefix).items()},
    )


def differences(before: Content, after: Content) -> list[Difference]:
    """The changed packages, sorted by name; a distribution that changed with its conda package counts once."""
    packages = list(_compared("conda", before.packages, after.packages))
    names = {distributions.normalized(package.name) for package in packages}
    moved = _compared("pip", before.distributions, after.distributions)
    return [*packages, *(distribution for distribution in moved if distribution.name not in names)]


def _sight(prefix: Path) -> str:
    """A text that changes with each restart of the machine, and with the image under ``prefix``."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    try:
        status = os.stat(prefix / META)
    except OSError:
        return boot
    return f"{boot} {status.st_dev}:{status.st_ino}"


def _compared(
    kind: Literal["conda", "pip"], before: Mapping[str, str], after: Mapping[str, str]
) -> Iterator[Difference]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield Difference(kind, name, before.get(name), after.get(name))


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """An environment as the image brought it.

    Attributes:
        sight: The boot and the folder that it was recorded for.
        prefix: The environment.
        content: The content at that time.
        permitted: The later changes of tasks, which a playbook permitted.

    """

    sight: str
    prefix: str
    content: Content
    permitted: tuple[Difference, ...] = ()


def baseline_of(machine: Machine, prefix: Path) -> Baseline | None:
    """The baseline of an environment of the platform, recorded now if it is missing.

    Returns:
        None for any other environment, which belongs to its user.

    """
    if not _is_provided(machine, prefix):
        return None
    with _lock:
        baseline = _read(machine, prefix)
        if baseline is None:
            baseline = Baseline(sight=_sight(prefix), prefix=str(prefix), content=content(prefix))
            _write(machine, prefix, baseline)
        return baseline


def known_baseline(machine: Machine, prefix: Path) -> Baseline | None:
    """The baseline of an environment; None if none was recorded since the machine started. Writes nothing."""
    return _read(machine, prefix) if _is_provided(machine, prefix) else None


def record_baselines(machine: Machine) -> None:
    """Record the baselines of all environments of the platform, before any of them changes."""
    if machine.platform.provided is not None:
        for environment in machine.conda.environments():
            baseline_of(machine, environment.prefix)


def permit(machine: Machine, prefix: Path, changes: Iterable[Difference]) -> None:
    """Record permitted changes."""
    baseline = baseline_of(machine, prefix)
    if baseline is not None:
        with _lock:
            every = tuple(dict.fromkeys((*baseline.permitted, *changes)))
            _write(machine, prefix, msgspec.structs.replace(baseline, permitted=every))


def _is_provided(machine: Machine, prefix: Path) -> bool:
    """Whether the environment belongs to the platform's image."""
    provided = machine.platform.provided
    if provided is None or (prefix != provided and provided not in prefix.parents):
        return False
    return any(each.prefix == prefix and each.provided for each in machine.conda.environments())


def _read(machine: Machine, prefix: Path) -> Baseline | None:
    try:
        baseline = read_json(_path(machine, prefix), Baseline)
    except (OSError, msgspec.DecodeError):
        return None
    return baseline if baseline.sight == _sight(prefix) else None


def _write(machine: Machine, prefix: Path, baseline: Baseline) -> None:
    path = _path(machine, prefix)
    with contextlib.suppress(OSError):  # a full or read-only volume: the next run records it
        make_folder(path.parent, mode=0o700)
        write_atomically(path, msgspec.json.encode(baseline), mode=0o600, durable=False)


def _path(machine: Machine, prefix: Path) -> Path:
    digest = hashlib.blake2b(os.fsencode(prefix), digest_size=16).hexdigest()[:24]
    return machine.home / "baselines" / f"{digest}.json"


class ImageChange(NamedTuple):
    """A package of the image that a plan would change; ``because`` names the package that needs the change."""

    difference: Difference
    because: str = ""

    def __str__(self) -> str:
        reason = f" ({self.because})" if self.because else ""
        return f"{self.difference.name} {self.difference.before} -> {self.difference.after or 'removed'}{reason}"


def protected_baseline(machine: Machine, prefix: Path, *, allowed: bool) -> Baseline | None:
    """The baseline that a task may not change; None with permission, and outside the platform's environments."""
    return None if allowed else baseline_of(machine, prefix)


def refuse_jupyter_server(machine: Machine, prefix: Path, *, allowed: bool) -> None:
    """Refuse the environment of the Jupyter server, unless the task permits it.

    Raises:
        InvalidPlaybook: it is that environment, and ``allowed`` is false.

    """
    if allowed:
        return
    server = machine.conda.jupyter_server
    if server is not None and os.path.realpath(server) == os.path.realpath(prefix):
        raise InvalidPlaybook(
            f"{prefix.name} is the environment that the Jupyter server itself runs in",
            cause="changed packages there may keep the notebook from starting",
            cure="name the environment of a kernel; to change the server's, set `jupyter_server: true` of "
            "ensure_conda_pkg or ensure_pip_pkg",
        )


def refusal(prefix: Path, touched: Sequence[ImageChange], pins: Iterable[str]) -> TaskFailed:
    """The error for a plan that would change packages of the image.

    Args:
        prefix: The environment.
        touched: The packages that would change.
        pins: Requests that would change none of them; empty if there are none.

    """
    shown = [str(package) for package in touched[:_SHOWN]]
    if len(touched) > _SHOWN:
        shown.append(f"... and {len(touched) - _SHOWN} more")
    pins = list(pins)
    instead = f"request {' and '.join(pins)}, which changes none of these; or " if pins else ""
    return TaskFailed(
        f"this would change what the platform provides in {prefix.name}, which may make the notebook unstable",
        cause="\n".join(shown),
        cure=f"{instead}set `allow_platform_changes: true` to permit the change",
    )


@contextlib.contextmanager
def permitted(machine: Machine, prefix: Path, *, allowed: bool) -> Iterator[None]:
    """Record the changes of the body to packages of the image."""
    baseline = baseline_of(machine, prefix) if allowed else None
    if baseline is None:
        yield
        return
    before = content(prefix)
    yield
    changes = differences(before, content(prefix))
    brought = {**baseline.content.packages, **baseline.content.distributions}
    permit(machine, prefix, [change for change in changes if change.name in brought])

"""What the platform's image brought into its environments, and the guard on it: it changes only with permission.

A baseline of each environment is written down at the first sight of each boot. AWS: changing or removing the packages
that SageMaker installed may make the notebook instance unstable
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
_lock = threading.Lock()  # tasks work side by side; a run excludes other runs


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Names and versions, from the names of records and folders: nothing is opened.

    Attributes:
        packages: Of conda: name to ``VERSION BUILD``.
        distributions: Of Python, whoever installed them: normalised name to version.

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
    """What is in ``prefix`` now."""
    return Content(
        packages={record.name: f"{record.version} {record.build}" for record in installed(prefix)},
        distributions={name: several[0].version for name, several in distributions.installed(prefix).items()},
    )


def differences(before: Content, after: Content) -> list[Difference]:
    """What has changed, sorted by name; a distribution that moved with its conda package counts once."""
    packages = list(_compared("conda", before.packages, after.packages))
    names = {distributions.normalized(package.name) for package in packages}
    moved = _compared("pip", before.distributions, after.distributions)
    return [*packages, *(distribution for distribution in moved if distribution.name not in names)]


def _sight(prefix: Path) -> str:
    """A text that changes when the machine restarts or another image lies under ``prefix``."""
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
        sight: The boot and the folder that were looked at.
        prefix: The environment.
        content: What was in it.
        permitted: What tasks changed of it since, because a playbook allowed them to.

    """

    sight: str
    prefix: str
    content: Content
    permitted: tuple[Difference, ...] = ()


def baseline_of(machine: Machine, prefix: Path) -> Baseline | None:
    """The baseline of an environment that the platform provides, taken now where this is its first sight.

    Returns:
        None for any other environment, which is its owner's.

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
    """The baseline of an environment, None where none was taken since the machine started; nothing is written."""
    return _read(machine, prefix) if _is_provided(machine, prefix) else None


def record_baselines(machine: Machine) -> None:
    """Take the baselines of all environments that the platform provides, before anything changes in one."""
    if machine.platform.provided is not None:
        for environment in machine.conda.environments():
            baseline_of(machine, environment.prefix)


def permit(machine: Machine, prefix: Path, changes: Iterable[Difference]) -> None:
    """Write down what was changed with permission."""
    baseline = baseline_of(machine, prefix)
    if baseline is not None:
        with _lock:
            every = tuple(dict.fromkeys((*baseline.permitted, *changes)))
            _write(machine, prefix, msgspec.structs.replace(baseline, permitted=every))


def _is_provided(machine: Machine, prefix: Path) -> bool:
    """Whether the platform's image brings the environment."""
    provided = machine.platform.provided
    if provided is None or (prefix != provided and provided not in prefix.parents):
        return False
    return any(env.prefix == prefix and env.provided for env in machine.conda.environments())


def _read(machine: Machine, prefix: Path) -> Baseline | None:
    try:
        baseline = read_json(_path(machine, prefix), Baseline)
    except (OSError, msgspec.DecodeError):
        return None
    return baseline if baseline.sight == _sight(prefix) else None


def _write(machine: Machine, prefix: Path, baseline: Baseline) -> None:
    path = _path(machine, prefix)
    with contextlib.suppress(OSError):  # a volume that is full or read-only: the next look is the first again
        make_folder(path.parent, mode=0o700)
        write_atomically(path, msgspec.json.encode(baseline), mode=0o600, durable=False)


def _path(machine: Machine, prefix: Path) -> Path:
    digest = hashlib.blake2b(os.fsencode(prefix), digest_size=16).hexdigest()[:24]
    return machine.home / "baselines" / f"{digest}.json"


class Touched(NamedTuple):
    """A package of the image that would change; ``after`` is None where it would go, ``because`` names who needs it."""

    difference: Difference
    because: str = ""

    def __str__(self) -> str:
        reason = f" ({self.because})" if self.because else ""
        return f"{self.difference.name} {self.difference.before} -> {self.difference.after or 'removed'}{reason}"


def guarded(machine: Machine, prefix: Path, *, allowed: bool) -> Baseline | None:
    """What the image brought into ``prefix``; None where it may change, and where the platform does not provide it."""
    return None if allowed else baseline_of(machine, prefix)


def refuse_jupyter_server(machine: Machine, prefix: Path, *, allowed: bool) -> None:
    """Refuse the environment that the Jupyter server runs in, unless a task says that it means it.

    Raises:
        InvalidPlaybook: it is that environment.

    """
    if allowed:
        return
    server = machine.conda.jupyter_server
    if server is not None and os.path.realpath(server) == os.path.realpath(prefix):
        raise InvalidPlaybook(
            f"{prefix.name} is the environment that the Jupyter server itself runs in",
            cause="what is installed there may keep the notebook from starting",
            cure="name the environment of a kernel; if the server is really meant, ensure_conda_pkg and ensure_pip_pkg "
            "take `jupyter_server: true`",
        )


def refusal(prefix: Path, touched: Sequence[Touched], pins: Iterable[str]) -> TaskFailed:
    """The error for a plan that would move what the image brought.

    Args:
        prefix: The environment.
        touched: What would move.
        pins: What to ask for instead, so that nothing of that moves; empty where there is nothing.

    """
    shown = [str(one) for one in touched[:_SHOWN]]
    if len(touched) > _SHOWN:
        shown.append(f"... and {len(touched) - _SHOWN} more")
    pins = list(pins)
    instead = f"ask for {' and '.join(pins)}, which leaves all of it alone; " if pins else ""
    return TaskFailed(
        f"this would change what the platform provides in {prefix.name}, which may make the notebook unstable",
        cause="\n".join(shown),
        cure=f"{instead}{'or ' if pins else ''}write `allow_platform_changes: true` to have it all the same",
    )


@contextlib.contextmanager
def permitted(machine: Machine, prefix: Path, *, allowed: bool) -> Iterator[None]:
    """Write down what the body changes of what the image brought."""
    baseline = baseline_of(machine, prefix) if allowed else None
    if baseline is None:
        yield
        return
    before = content(prefix)
    yield
    changes = differences(before, content(prefix))
    brought = {**baseline.content.packages, **baseline.content.distributions}
    permit(machine, prefix, [change for change in changes if change.name in brought])

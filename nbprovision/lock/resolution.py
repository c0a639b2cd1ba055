"""Resolves the Python distributions of an environment for a lock, around those that conda or the image brings.

A distribution that the environment has anyway becomes a constraint: a wheel without content in its version. So nothing
is locked for it, its dependencies are conda's concern, and a requirement that excludes its version is an error. uv's
own ``--excludes`` would drop such a requirement in silence.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from nbprovision.lock import pylock
from nbprovision.lock.requests import EnvironmentRequest
from nbprovision.machine.distributions import normalized
from nbprovision.machine.machine import Machine
from nbprovision.machine.network import NetworkFailed
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import engine, requirements, requirements_files, uv_command
from nbprovision.pip.pylock import LockedPackage
from nbprovision.pip.request import Request
from nbprovision.pip.requirements import PipRequirement
from nbprovision.pip.satisfied import same_version
from nbprovision.system.files import make_folder, write_atomically

# uv's warning of an extra that a wheel without content lacks.
_YANKED = re.compile(r"^warning: `([^`]+)==([^`]+)` is yanked(?: \(reason: \"(.*)\"\))?$", re.MULTILINE)
_LACKS_EXTRA = re.compile(r"[Tt]he package `([A-Za-z0-9._-]+)\b[^`]*` does not have an extra named")


class Resolution(NamedTuple):
    """The distributions of an environment on one platform.

    Attributes:
        document: uv's pylock.toml, without the distributions that the environment has anyway.
        warnings: Sentences about releases that their authors have withdrawn (PEP 592).

    """

    document: pylock.Document
    warnings: tuple[str, ...]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An environment on one platform.

    Attributes:
        platform: conda's name of the platform.
        python: The version of its Python.
        provided: The distributions that it has anyway, by normalised name.
        by_image: They belong to the platform's image.

    """

    platform: str
    python: str
    provided: Mapping[str, str] = {}
    by_image: bool = False

    @property
    def markers(self) -> dict[str, str]:
        """The values of markers."""
        return {**requirements.marker_environment(self.python), "platform_machine": pylock.MACHINES[self.platform]}


def resolve(
    machine: Machine,
    request: EnvironmentRequest,
    target: Target,
    scratch: Path,
    *,
    preferred: pylock.Document | None = None,
    upgraded: Iterable[str] = (),
) -> Resolution:
    """Resolve the requirements of an environment for one platform.

    Args:
        machine: The machine, for its configuration and caches.
        request: The environment.
        target: The platform, and what the environment has anyway.
        scratch: An empty folder.
        preferred: The packages to keep if possible.
        upgraded: Names of packages that may change.

    Raises:
        TaskFailed: the requirements are incompatible with one another or with what the environment has.

    """
    exact = _exact(request, target)
    own = pylock.of_entries(exact.values())
    if not request.wanted.wanted:
        return Resolution(own, ())
    wanted = engine.configured(machine, request.environment, request.wanted)
    engine.choose(machine, wanted, "uv")
    kept = _kept(request, target) | {name: entry.version for name, entry in exact.items() if entry.version is not None}
    with_extras = {name for name in kept for entry in request.wanted.wanted if entry.name == name and entry.extras}
    sources = [f"{name} @ {entry.requirement.url}" for name, entry in exact.items() if entry.version is None]
    output = scratch / "pylock.toml"
    while True:
        if preferred is not None:
            write_atomically(output, pylock.dump(preferred), durable=False)
        constraints = _constraints(scratch, kept, with_extras, sources)
        install = Request(
            prefix=request.prefix,
            python=Path(sys.executable),
            lines=tuple(entry.requirement for entry in wanted.wanted),
            constraints=(*wanted.constraint_files, constraints),
            options=wanted.options,
            upgrade=tuple(sorted(upgraded)),
        )
        warnings = _compiled(machine, request, target, install, output)
        lacking = {normalized(name) for name in _LACKS_EXTRA.findall(warnings)} & kept.keys() - with_extras
        if not lacking:
            document = pylock.without(pylock.read(output), {*kept, *exact})
            document["packages"] += own["packages"]
            return Resolution(document, tuple(_yanked(request, warnings)))
        with_extras |= lacking  # their real metadata says what the extra needs


def _yanked(request: EnvironmentRequest, warnings: str) -> Iterator[str]:
    for name, version, reason in _YANKED.findall(warnings):
        why = f": {reason}" if reason else ""
        yield (
            f"{request.name}: the release {name} {version} was withdrawn (yanked){why}; "
            f"lock with --upgrade-package {name}, or request another version"
        )


def _exact(request: EnvironmentRequest, target: Target) -> dict[str, LockedPackage]:
    """The packages of lock files that the tasks name themselves, without those that the environment has anyway.

    They count as provided: nothing else is chosen for them, and their dependencies are the concern of their lock.

    Raises:
        InvalidPlaybook: such a lock contradicts a requirement.
        TaskFailed: it is not for this Python or platform, or would change the platform's image.

    """
    exact = {}
    for entry in requirements_files.selected(request.wanted, target.markers).locked:
        provided = target.provided.get(entry.name)
        if provided is not None and (entry.version is None or same_version(entry.version, provided)):
            continue
        if provided is not None and target.by_image and not request.pip_allowed:
            raise TaskFailed(
                f"{entry.requirement.shown} would replace a package of the platform's image",
                cause=f"the image brings {entry.name} {provided}",
                cure="leave the package out of the lock file, or set `allow_platform_changes: true`",
            ).at(entry.position)
        exact[entry.name] = entry
    return exact


def _kept(request: EnvironmentRequest, target: Target) -> dict[str, str]:
    """The distributions that stay as they are: all but those of which a task requests another version.

    pip replaces those, as in a run; the platform's only with permission.
    """
    named = [entry for entry in request.wanted.wanted if requirements.applies(entry, target.markers)]
    fixed = target.by_image and not request.pip_allowed
    return {
        name: version
        for name, version in target.provided.items()
        if requirements.version_of(version) is not None
        and (fixed or all(entry.name != name or _satisfies(entry, version) for entry in named))
    }


def _satisfies(wanted: PipRequirement, version: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return wanted.url is None and SpecifierSet(wanted.specifier).contains(version, prereleases=True)


def _constraints(folder: Path, kept: Mapping[str, str], with_extras: Iterable[str], sources: Iterable[str]) -> Path:
    """A constraints file: an empty wheel for each distribution, or the version alone where extras are requested.

    Args:
        folder: The folder to write it into.
        kept: The distributions, with their versions.
        with_extras: Those that are requested with extras.
        sources: Distributions whose version only a build shows.

    """
    wheels = folder / "wheels"
    make_folder(wheels)
    lines = list(sources)
    for name, version in sorted(kept.items()):
        if name in with_extras:
            lines.append(f"{name}=={version}")
        else:
            lines.append(f"{name} @ {_empty_wheel(wheels, name, version).as_uri()}")
    path = folder / "constraints.txt"
    write_atomically(path, "".join(f"{line}\n" for line in lines), durable=False)
    return path


def _empty_wheel(folder: Path, name: str, version: str) -> Path:
    """Write a wheel without modules and dependencies."""
    stem = f"{name.replace('-', '_')}-{requirements.version_of(version)}"
    path = folder / f"{stem}-py3-none-any.whl"
    if not path.exists():
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(f"{stem}.dist-info/METADATA", metadata)
            wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return path


def _compiled(
    machine: Machine,
    request: EnvironmentRequest,
    target: Target,
    install: Request,
    output: Path,
) -> str:
    """Let uv write ``output``; its warnings."""
    try:
        return uv_command.compile_lock(
            machine,
            install,
            request.settings,
            output=output,
            version=target.python,
            platform=pylock.UV_PLATFORMS[target.platform],
        )
    except NetworkFailed:
        raise
    except TaskFailed as error:
        cause = error.cause.replace(str(output.parent), "").strip()
        named = [name for name in sorted(target.provided) if re.search(rf"\b{re.escape(name)}\b", cause)]
        raise TaskFailed(
            f"{request.name} for {target.platform}: {error.message}",
            cause="\n".join([cause, *(_brought(name, target) for name in named)]),
            cure=_cure(named, target) or error.cure,
        ) from error


def _brought(name: str, target: Target) -> str:
    return f"{'the image' if target.by_image else 'conda'} brings {name} {target.provided[name]}"


def _cure(named: Iterable[str], target: Target) -> str:
    names = ", ".join(named)
    if not names:
        return ""
    if target.by_image:
        return "request a version that fits the image, or set `allow_platform_changes: true` and name the package"
    return f"request another version of {names} from conda, or name it in the pip task if pip is to replace conda's"

"""Checks whether a folder of wheels has all dependencies of the tool, for each Python that an image may have.

As pip with ``--no-index --find-links``, it selects wheels by their tags and reads requirements from their METADATA:
https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/
"""

from __future__ import annotations

import re
import shlex
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import msgspec
from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from nbprovision.model.errors import UsageError

MINORS = (10, 11, 12, 13, 14)  # of CPython 3
MACHINES = ("x86_64", "aarch64")
# The oldest glibc of a notebook instance's current images is that of Amazon Linux 2023.
_GLIBC = (2, 34)
_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}  # minor version; https://peps.python.org/pep-0600/
TOOL = "nbprovision"
_SAFE_MINORS = 2


class Missing(msgspec.Struct, frozen=True):
    """A wheel that the folder lacks for one Python.

    Attributes:
        requirement: The requirement for it: ``uv>=0.9``.
        by: The distribution with the requirement.
        why: The reason why no wheel of the folder fits.

    """

    requirement: str
    by: str
    why: str

    def __str__(self) -> str:
        return f"{self.requirement} (for {self.by}): {self.why}"


class Folder(msgspec.Struct, frozen=True):
    """The Pythons that a folder of wheels serves.

    Attributes:
        path: The folder.
        version: The version of the tool.
        missing: The missing wheels, by machine and minor version of CPython 3; empty if the folder is complete.

    """

    path: Path
    version: Version
    missing: dict[tuple[str, int], tuple[Missing, ...]]

    def complete(self, machine: str) -> tuple[int, ...]:
        """Return the minor versions of CPython 3 for which no wheel is missing."""
        return tuple(minor for minor in MINORS if not self.missing[machine, minor])

    @property
    def machine(self) -> str:
        """The kind of machine with the most complete versions, x86_64 first."""
        return max(MACHINES, key=lambda machine: len(self.complete(machine)))


class _Wheel:
    """A wheel of the folder; its metadata is read at the first use."""

    def __init__(self, path: Path) -> None:
        name, self.version, _, self.tags = parse_wheel_filename(path.name)
        self.path = path
        self.name = str(name)

    @cached_property
    def metadata(self) -> tuple[SpecifierSet, tuple[Requirement, ...]]:
        """The supported Pythons, and the requirements.

        Raises:
            UsageError: the file is damaged.

        """
        try:
            with zipfile.ZipFile(self.path) as wheel:
                inner = next(name for name in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
                raw, _ = parse_email(wheel.read(inner))
            pythons = SpecifierSet(raw.get("requires_python", ""))
            return pythons, tuple(Requirement(text) for text in raw.get("requires_dist", ()))
        except (OSError, StopIteration, zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise _damaged(self.path, str(error) or "it has no METADATA") from None
        except (InvalidRequirement, InvalidSpecifier) as error:
            raise _damaged(self.path, str(error)) from None


def check_folder(folder: Path, version: Version, option: str = "--tool") -> Folder:
    """Check a folder of wheels.

    Args:
        folder: A folder of this machine.
        version: The version of the tool.
        option: The option with the folder, for messages.

    Raises:
        UsageError: a wheel is damaged or does not have the name of a wheel, the tool's wheel of this version is
            missing, or the folder is complete for no Python.

    """
    wheels = [_named(path, f"{option} {folder}") for path in sorted(folder.glob("*.whl"))]
    for wheel in wheels:
        _ = wheel.metadata  # a damaged wheel stops pip, even if pip would not choose it
    tools = [wheel for wheel in wheels if wheel.name == TOOL]
    tool = next((wheel for wheel in tools if wheel.version == version), None)
    if tool is None:
        versions = ", ".join(map(str, sorted({wheel.version for wheel in tools})))
        others = f"it has {len(wheels)} wheels" if wheels else "it has no wheel at all"
        raise UsageError(
            f"{option} {folder}: this folder has no wheel of {TOOL} {version}",
            cause=f"the script asks for exactly this version; "
            f"{f'of {TOOL} the folder has {versions}' if versions else others}",
            cure=f"add it, from a checkout: pip wheel --no-deps --wheel-dir {shlex.quote(str(folder))} CHECKOUT"
            + (f"; or render the script with {TOOL} {tools[-1].version}" if len(tools) == 1 else ""),
        )
    missing = {
        (machine, minor): tuple(_missing(tool, wheels, machine, minor)) for machine in MACHINES for minor in MINORS
    }
    content = Folder(folder, tool.version, missing)
    if not any(map(content.complete, MACHINES)):
        machine, minor = min(missing, key=lambda key: (len(missing[key]), MACHINES.index(key[0]), key[1]))
        lacks = "\n".join(map(str, missing[machine, minor]))
        raise UsageError(
            f"{option} {folder}: {TOOL} {tool.version} cannot be installed from this folder by any Python",
            cause=f"nearest is Python 3.{minor} on {machine}, where these wheels are missing:\n{lacks}",
            cure=f"add them: {command(folder, tool.version, machine, minor)}",
        )
    return content


def check_wheel(path: Path) -> None:
    """Check a single wheel.

    Args:
        path: A file of this machine whose name is that of a wheel of the tool; see `refuse_other_wheel`.

    Raises:
        UsageError: it is damaged.

    """
    _ = _named(path, f"--tool {path}").metadata


def refuse_other_wheel(path: str, version: Version, shown: str | None = None) -> None:
    """Check a wheel by its name; the file need not exist here.

    Args:
        path: Its path, here or on another machine.
        version: The version of the tool that the script requires.
        shown: Its name in messages; default its path.

    Raises:
        UsageError: the wheel has another project or version, or its name is not that of a wheel.

    """
    shown = path if shown is None else shown
    wheel = _named(Path(path), f"--tool {shown}")
    if wheel.name != TOOL:
        raise UsageError(
            f"--tool {shown} is a wheel of {wheel.name}, not of {TOOL}",
            cause=f"the script installs {TOOL} from it",
            cure=f"name the wheel of {TOOL} {version}, or the folder with it and its dependencies",
        )
    if wheel.version != version:
        raise UsageError(
            f"--tool {shown} is {TOOL} {wheel.version}, not {version}",
            cause=f"the script asks for exactly {version}, the version that renders it",
            cure=f"name the wheel of {TOOL} {version}, or render the script with {TOOL} {wheel.version}",
        )


def coverage_warning(content: Folder, option: str = "--tool") -> str:
    """Return a warning if a folder serves only one Python; empty if it serves two or more."""
    complete = content.complete(content.machine)
    if len(complete) >= _SAFE_MINORS:
        return ""
    only = complete[0]
    other = min((minor for minor in MINORS if minor != only), key=lambda minor: (abs(minor - only), -minor))
    lacks = ", ".join(lack.requirement for lack in content.missing[content.machine, other])
    return (
        f"{option} {content.path}: the wheels only serve Python 3.{only} on {content.machine}, and the next image may "
        f"have another Python; for 3.{other} these are missing: {lacks}\n"
        f"add them: {command(content.path, content.version, content.machine, other)}"
    )


def command(folder: Path, version: Version, machine: str, minor: int) -> str:
    """Return the command that downloads every wheel for one Python."""
    platforms = " ".join(
        f"--platform {name}_{machine}"
        for name in ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
    )
    return (
        f"pip download --only-binary=:all: --python-version 3.{minor} --implementation cp {platforms} "
        # The path, since pip would take the name from the public index.
        f"--find-links {shlex.quote(str(folder))} -d {shlex.quote(str(folder))} "
        f"{shlex.quote(str(folder / f'{TOOL}-{version}-py3-none-any.whl'))}"
    )


def _named(path: Path, shown: str) -> _Wheel:
    try:
        return _Wheel(path)
    except InvalidWheelFilename as error:
        raise UsageError(
            f"{shown}: {path.name} does not have the name of a wheel",
            cause=str(error),
            cure="give it the name that it was downloaded with, or remove it",
        ) from None


def _damaged(path: Path, why: str) -> UsageError:
    return UsageError(
        f"the wheel {path} is damaged ({path.stat().st_size:,} bytes)",
        cause=f"{why}; a download or a copy was cut off",
        cure="download it again",
    )


def _missing(tool: _Wheel, wheels: Sequence[_Wheel], machine: str, minor: int) -> Iterator[Missing]:
    """Return the wheels that an install of the tool would not find."""
    tags = frozenset(wheel_tags(machine, minor))
    environment = marker_environment(machine, minor)
    python = environment["python_full_version"]
    if not tool.tags & tags or not tool.metadata[0].contains(python):
        yield Missing(f"{TOOL}=={tool.version}", "the script", f"its wheel is not for Python 3.{minor} on {machine}")
        return
    wanted: list[tuple[str, Requirement]] = [(TOOL, requirement) for requirement in tool.metadata[1]]
    extras: dict[str, set[str]] = {TOOL: set()}
    chosen, lacking = {TOOL: tool}, set[str]()
    while wanted:
        by, requirement = wanted.pop(0)
        wanted_extras = extras.get(by, set()) or {""}
        marker = requirement.marker
        if marker and not any(marker.evaluate({**environment, "extra": extra}) for extra in wanted_extras):
            continue
        name = str(canonicalize_name(requirement.name))
        if name in lacking:
            continue  # reported already
        new = set(requirement.extras) - extras.get(name, set())
        if name in chosen and requirement.specifier.contains(chosen[name].version, prereleases=True) and not new:
            continue
        named = [wheel for wheel in wheels if wheel.name == name]
        fitting = [wheel for wheel in named if requirement.specifier.contains(wheel.version, prereleases=True)]
        usable = [wheel for wheel in fitting if wheel.tags & tags and wheel.metadata[0].contains(python)]
        if not usable:
            shown = str(requirement).partition(";")[0].strip()
            if not named:
                why = "no wheel of that name"
            elif not fitting:
                why = "only " + ", ".join(sorted({str(wheel.version) for wheel in named}))
            else:
                why = f"none for Python 3.{minor} on {machine} among " + ", ".join(wheel.path.name for wheel in fitting)
            yield Missing(shown, by, why)
            lacking.add(name)
            continue
        best = max(usable, key=lambda wheel: wheel.version)
        chosen[name] = best
        extras.setdefault(name, set()).update(requirement.extras)
        wanted += [(name, requirement) for requirement in best.metadata[1]]


def wheel_tags(machine: str, minor: int) -> Iterator[Tag]:
    """The tags of wheels for CPython 3.``minor`` on an instance of that kind of machine, the best first."""
    major, newest = _GLIBC
    platforms = [f"manylinux_{major}_{minor}_{machine}" for minor in range(newest, _OLDEST_GLIBC[machine] - 1, -1)]
    legacy = {"x86_64": ("manylinux2014", "manylinux2010", "manylinux1"), "aarch64": ("manylinux2014",)}[machine]
    platforms += [f"{name}_{machine}" for name in legacy] + [f"linux_{machine}"]
    yield from cpython_tags((3, minor), platforms=platforms)
    yield from compatible_tags((3, minor), interpreter=f"cp3{minor}", platforms=platforms)


def marker_environment(machine: str, minor: int) -> dict[str, str]:
    """The values of markers there: https://packaging.python.org/en/latest/specifications/dependency-specifiers/."""
    full = f"3.{minor}.9"
    return {
        "implementation_name": "cpython",
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": full,
        "python_version": f"3.{minor}",
        "sys_platform": "linux",
    }

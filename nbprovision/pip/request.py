"""The parts that uv and pip share: the request, the environment that they run in, and errors from their output."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec

from nbprovision.indexes import index_settings
from nbprovision.indexes.index_settings import IndexSettings
from nbprovision.machine import distributions, package_names
from nbprovision.machine.distributions import Distribution
from nbprovision.machine.network import NetworkFailed, Server, network_failure
from nbprovision.model.errors import TaskFailed
from nbprovision.pip.install_settings import Options
from nbprovision.pip.pylock import LockedPackage
from nbprovision.pip.requirements import HASHES_OF_ALL
from nbprovision.system import disk_space, secrets
from nbprovision.system.commands import Completed
from nbprovision.system.files import read_text, write_atomically

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

Word = TypeVar("Word", str, Path)

# Sets of constraints; more than can be in use at once.
CONSTRAINTS_KEPT = 50
_PYPI = "https://pypi.org/simple"
# Variables that would make an engine use another Python, or install into another place.
_MISLEADING = (
    "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_PYTHON_EXE",
    "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_WORKING_DIR", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON_DOWNLOADS",
    "UV_BREAK_SYSTEM_PACKAGES", "UV_RESOLUTION", "UV_OVERRIDE", "UV_EXCLUDE", "UV_NO_EDITABLE", "UV_OUTPUT_FORMAT",
    "PIP_PYTHON", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PIP_REQUIREMENT",
    "PIP_EDITABLE", "PIP_DRY_RUN", "PIP_REPORT", "PIP_QUIET", "PIP_VERBOSE", "PIP_UPGRADE", "PIP_IGNORE_INSTALLED",
    "PIP_FORCE_REINSTALL", "PIP_NO_DEPS", "PIP_BREAK_SYSTEM_PACKAGES", "PIP_LOG",
)  # fmt: skip


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An install into one environment.

    Attributes:
        prefix: The environment.
        python: Its interpreter.
        lines: Lines of a requirements file. They may contain passwords, so they go to standard input.
        locked: Packages of a lock file instead of lines, each with the file to install (`pylock.fitting`).
        from_lock: The lines are those packages, in the form for pip.
        dependencies: Whether missing dependencies are installed too.
        constraints: Constraints files.
        options: The options for the whole install.
        reinstall: Names to install again even if the version is right.
        upgrade: Names to upgrade to the newest version that fits.
        managed: The interpreter is marked EXTERNALLY-MANAGED, but belongs to an environment that was created from a
            system's Python.
        folder: The folder of the distributions, if it is not the environment's site-packages.
        location: The folder to install into instead of the environment.
        index_strategy: uv's index strategy, if it is not the configured one.
    """

    prefix: Path
    python: Path
    lines: tuple[str, ...] = ()
    locked: tuple[LockedPackage, ...] = ()
    from_lock: bool = False
    dependencies: bool = True
    constraints: tuple[Path, ...] = ()
    options: Options = Options()
    reinstall: tuple[str, ...] = ()
    upgrade: tuple[str, ...] = ()
    managed: bool = False
    folder: Path | None = None
    location: Path | None = None
    index_strategy: str | None = None

    @property
    def text(self) -> str:
        """The text of a requirements file."""
        return "".join(f"{line}\n" for line in self.lines)

    @property
    def digests(self) -> str:
        """A text with all listed digests."""
        return " ".join([self.text, *(digest for entry in self.locked for digest in entry.hashes)])

    def of_lock(self, packages: Iterable[LockedPackage]) -> Request:
        """The request for these packages of a lock instead of the lines."""
        locked = tuple(packages)
        names = {entry.name for entry in locked}
        reinstall = tuple(name for name in self.reinstall if name in names)
        return msgspec.structs.replace(self, lines=(), locked=locked, constraints=(), upgrade=(), reinstall=reinstall)

    def held(self, machine: Machine, locked: Iterable[LockedPackage]) -> Request:
        """The request with the versions of locked packages as constraints, so that the rest is resolved around them."""
        pins = [f"{entry.name}=={entry.version}" for entry in locked if entry.version]
        more = [constraints_file(machine, pins)] if pins else []
        return msgspec.structs.replace(self, constraints=(*self.constraints, *more))

    def without(self, names: Iterable[str]) -> Request:
        """The request for the rest, after `of_lock` has installed the named packages."""
        done = set(names)
        return msgspec.structs.replace(self, reinstall=tuple(name for name in self.reinstall if name not in done))

    def pinned(self, pins: Sequence[str]) -> Request:
        """The request with ``pins`` (requirements) added."""
        return msgspec.structs.replace(self, lines=(*self.lines, *pins))

    def found(self) -> dict[str, list[Distribution]]:
        """The installed distributions."""
        return distributions.installed(self.prefix) if self.folder is None else distributions.in_folder(self.folder)


class Move(msgspec.Struct, frozen=True):
    """A distribution that an install adds, removes or replaces, with its versions; None if it is not installed."""

    name: str
    before: str | None
    after: str | None


def interpreter(prefix: Path) -> Path:
    """The interpreter of an environment."""
    return prefix / "bin/python"


def with_flag(flag: str, values: Iterable[Word]) -> list[str | Path]:
    """The arguments that give ``flag`` once for each value."""
    return [word for value in values for word in (flag, value)]


def constraints_file(machine: Machine, lines: Iterable[str]) -> Path:
    """A file with these constraints, as engines accept them in a file only."""
    text = "".join(f"{line}\n" for line in sorted(lines))
    path = machine.cache / "constraints" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.txt"
    with contextlib.suppress(OSError):  # tasks run side by side, and another one may remove old files now
        if read_text(path) == text:
            os.utime(path)
            return path
    write_atomically(path, text, durable=False)
    with contextlib.suppress(OSError):
        newest_first = sorted(path.parent.glob("*.txt"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        for file in newest_first[CONSTRAINTS_KEPT:]:
            file.unlink(missing_ok=True)
    return path


def child_environment(env: Mapping[str, str]) -> dict[str, str]:
    """``env`` without variables that mislead an engine: Python's own, and those of another activated environment."""
    return {
        **{name: value for name, value in env.items() if name not in _MISLEADING and not name.startswith("PYTHON")},
        "PYTHONNOUSERSITE": "1",  # packages in ~/.local are not part of the environment
        "PYTHONUTF8": "1",
        "NO_COLOR": "1",
    }


def settings_of(machine: Machine, request: Request) -> IndexSettings:
    """The indexes of a request: those of the machine's configuration, then those of requirements files."""
    configured = index_settings.effective(machine.env, machine.user_home, request.prefix, root=machine.root)
    settings = with_options(configured, request.options)
    return msgspec.structs.replace(settings, index_strategy=request.index_strategy or settings.index_strategy)


def with_options(configured: IndexSettings, options: Options) -> IndexSettings:
    """The indexes of the configuration, then those of requirements files."""
    return msgspec.structs.replace(
        configured,
        index_url=options.index_url or configured.index_url,
        extra_urls=(*configured.extra_urls, *options.extra_urls),
        find_links=(*configured.find_links, *options.find_links),
        trusted_hosts=(*configured.trusted_hosts, *options.trusted_hosts),
        no_index=configured.no_index or options.no_index,
    )


def failure(
    message: str,
    completed: Completed,
    settings: IndexSettings | None = None,
    *,
    request: Request | None = None,
    machine: Machine | None = None,
) -> TaskFailed:
    """The error of an engine: its output from the first error on, and advice.

    Args:
        message: The first line of the error.
        completed: The engine's result.
        settings: The indexes, which the error names if they may be the cause.
        request: The install.
        machine: The machine, if the network may be the cause.
    """
    output = secrets.mask(completed.errors.strip() or completed.output.strip())
    if request is not None and (request.locked or request.from_lock) and re.search(_OTHER_HASH, output, re.IGNORECASE):
        return TaskFailed(f"hash mismatch: {message}", cause=output[-3000:], cure=_CURE_OF_LOCK)
    start = re.search(r"^(error|ERROR)\b", output, re.MULTILINE)
    cause = output[start.start() :] if start else output
    first = _FIRST_INDEX.search(cause)
    if first is not None:
        return TaskFailed(
            message,
            cause=f"{cause[: first.start()].strip()}\nuv searched for {first['name']} in {first['used']} only, the "
            f"first index that has the name (another one is {first['other']})",
            cure=f"request a version that {first['used']} has; or, if you trust all indexes alike, use the best "
            "version of all: `index_strategy: best-match` of ensure_pip_index",
        )
    advice = _other_name(output)
    if settings is not None and machine is not None:
        network_error = by_network(message, cause, settings, machine, request)
        if network_error is not None and not (advice and network_error.kind == "portal"):
            return network_error
    disk_full = disk_space.explain_output(cause[-3000:], request.prefix) if request is not None else None
    if disk_full is not None:
        return TaskFailed(message, cause=disk_full[0], cure=disk_full[1])
    cure = advice or next((cure for pattern, cure in _CURES if re.search(pattern, output, re.IGNORECASE)), _CURE)
    if settings is not None and settings.no_index and cure == _NOT_FOUND:
        origin = settings.origins.get("no_index", "a requirements file")
        links = " and ".join(map(secrets.mask, settings.find_links)) or "the installed packages"
        cure = cure.replace("INDEX was searched", f"{origin} sets `no-index`, so only {links} were searched")
    else:
        index = " and ".join(secrets.mask(url) for url in _searched(settings, output)) if settings else "the index"
        cure = cure.replace("INDEX", index)
    return TaskFailed(message, cause=cause[-3000:] or f"exit status {completed.status}", cure=cure)


def by_network(
    message: str, output: str, settings: IndexSettings, machine: Machine, request: Request | None = None
) -> NetworkFailed | None:
    """The error of the network, if the engine's output shows that the network made it fail.

    Args:
        message: The first line of the error.
        output: The engine's output, masked.
        settings: The indexes.
        machine: The machine.
        request: The install. If a file has another hash than the listed one, the index may really have that file.

    """
    listed_hash = request is not None and any(digest in request.digests for digest in _DIGEST.findall(output))
    if settings.no_index or listed_hash:
        return None
    # The first index, unless the output names the host of another one.
    urls = [settings.index_url or _PYPI, *settings.extra_urls]
    by_host = [url for url in urls if (host := urlsplit(url).netloc.rpartition("@")[2]) and f"//{host}/" in output]
    url = (_searched(settings, output) if len(by_host) > 1 else by_host or urls)[0]
    return network_failure(message, output[-3000:], Server("index", url, proxy=settings.proxy), machine.env)


def _searched(settings: IndexSettings, output: str) -> list[str]:
    """The indexes that the engine's output names, in uv's order; all of them if it names none."""
    if settings.no_index:
        return list(settings.find_links) or ["no index"]
    urls = [*settings.extra_urls, settings.index_url or _PYPI]
    output = index_settings.place(output)
    named = [url for url in urls if _place(url) in output]
    # The URL of an index may begin with that of another.
    return [url for url in named if not any(_place(other).startswith(f"{_place(url)}/") for other in named)] or urls


def _place(url: str) -> str:
    return index_settings.place(url).rstrip("/")


def _other_name(output: str) -> str:
    """The right name of a package, where the requested name does not exist or belongs to a placeholder."""
    missing = (match[1] or match[2] for match in _NO_SUCH_NAME.finditer(output))
    advice = package_names.first_advice(missing, "pip")
    if advice:
        return f"{advice}; INDEX was searched"
    useless = (next(filter(None, match.groups())) for match in _NO_GOOD.finditer(output))
    return package_names.first_advice((name for name in useless if package_names.is_missing(name, "pip")), "pip")


_DIGEST = re.compile(r"\b[0-9a-f]{64,128}\b")
_NAME = r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
# uv's and pip's messages for a name that does not exist, and for a name without a suitable version.
_NO_SUCH_NAME = re.compile(rf"{_NAME} was not found in the |the requirement {_NAME}[^\n]*\(from versions: none\)")
_NO_GOOD = re.compile(
    rf"no versions? of {_NAME}|Because only {_NAME}|(?:Failed to build|metadata for|wheel for) ['`]?{_NAME}|╰─> {_NAME}"
)
# uv's advice if an earlier index has the name: an option that users of this tool cannot set.
_FIRST_INDEX = re.compile(
    r"hint: `(?P<name>[^`]+)` was found on (?P<used>\S+), but not at .*?\(e\.g\., (?P<other>[^)\s]+)\).*?"
    r"--index-strategy.*?(?=\n\n|\Z)",
    re.DOTALL,
)
# Messages of uv and pip, with advice; the first match counts.
_NOT_FOUND = "check the spelling and the version; INDEX was searched"
_CURE = "fix the reported problem, and run again"
_OTHER_HASH = r"hash mismatch|do not match the hashes"
_CURE_OF_LOCK = (
    "nothing was changed; find out why the file differs from the locked one: it may be tampered with, or damaged on "
    "the way. If its author replaced it, make the lock again"
)
_CURES: Sequence[tuple[str, str]] = (
    (
        r"no space left|os error 28\b|disk quota|errno 28\b",
        "free disk space: `nbprovision clean --dry-run` shows the sizes of caches and leftovers",
    ),
    (
        r"hashes are required|must have (a hash|their versions|hashes)|no trusted hash|no other hashes are available",
        f"give each named package a version and a hash, dependencies too: {HASHES_OF_ALL}",
    ),
    (
        _OTHER_HASH,
        (
            "compare the hash with the one that the package's author publishes: if it is that of a file for another "
            f"platform or of a new build, add it to the list ({HASHES_OF_ALL}); otherwise the file may be tampered with"
        ),
    ),
    (r"externally.managed", "create an environment (ensure_conda_env or ensure_venv) and install into that"),
    (
        (
            r"does not satisfy python|matching python|requires-python|requires python|requires a different python|"
            r"no wheels with a matching|not a supported wheel"
        ),
        "request a version that is built for this Python and machine, or another Python in the environment",
    ),
    (
        r"was not found in the p|no matching distribution|there (is|are) no versions?",
        _NOT_FOUND,
    ),
    (r"unsatisfiable|resolutionimpossible|conflicting dependencies", "loosen one of the named requirements"),
    (
        r"failed to build|build backend|failed building wheel|subprocess-exited-with-error|metadata-generation-failed",
        "no wheel fits, and building one failed: request a version with a wheel, or install what the build needs",
    ),
    (r"permission denied|os error 13\b", "find out who owns the environment (ls -ld) and run as that user"),
    (
        r"git operation failed|git.*not found",
        "check that git is installed and that this machine can reach the repository",
    ),
)

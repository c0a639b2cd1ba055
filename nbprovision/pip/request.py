"""What uv and pip share here: what is asked of them, the environment they run in, how their errors read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from nbprovision.indexes import index_settings as indexes
from nbprovision.indexes.index_settings import IndexSettings
from nbprovision.machine import distributions, package_names
from nbprovision.machine.distributions import Distribution
from nbprovision.machine.network import NetworkFailed, Server, network_failure
from nbprovision.model.errors import TaskFailed
from nbprovision.pip.install_settings import Options
from nbprovision.pip.requirements import HASHES_OF_ALL
from nbprovision.system import disk_space, secrets
from nbprovision.system.commands import Completed
from nbprovision.system.files import read_text, write_atomically

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

# Sets of constraints; more than can be in use at once.
CONSTRAINTS_KEPT = 50
_PYPI = "https://pypi.org/simple"
# Variables that would make an engine look at another Python, or install somewhere else than it is told to.
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
        lines: Lines of a requirements file; they may hold passwords and so travel by standard input.
        constraints: Constraints files.
        options: What requirements files say of the whole install.
        reinstall: Names that are put in place anew even where the version is right.
        upgrade: Names that move to the newest version that fits.
        managed: The interpreter says that somebody else manages it (EXTERNALLY-MANAGED), and it is in an environment
            all the same: one made from a system's Python.
        folder: Where the distributions are, if that is not the environment's site-packages.
        location: The folder that gets them in place of the environment.
        index_strategy: uv's word, where it is not to be the configured one.
    """

    prefix: Path
    python: Path
    lines: tuple[str, ...] = ()
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
        """The lines as a file."""
        return "".join(f"{line}\n" for line in self.lines)

    def pinned(self, pins: Sequence[str]) -> Request:
        """The same with ``pins`` (requirements) added."""
        return msgspec.structs.replace(self, lines=(*self.lines, *pins))

    def found(self) -> dict[str, list[Distribution]]:
        """The distributions that are there."""
        return distributions.installed(self.prefix) if self.folder is None else distributions.in_folder(self.folder)


class Move(msgspec.Struct, frozen=True):
    """One distribution that an install would bring, take or replace; versions, None for not there."""

    name: str
    before: str | None
    after: str | None


def interpreter(prefix: Path) -> Path:
    """The interpreter of an environment."""
    return prefix / "bin/python"


def constraints_file(machine: Machine, lines: Iterable[str]) -> Path:
    """A file with these constraints, which engines take from a file only."""
    text = "".join(f"{line}\n" for line in sorted(lines))
    path = machine.cache / "constraints" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.txt"
    with contextlib.suppress(OSError):  # tasks work side by side, and another may clear up at the same time
        if read_text(path) == text:
            os.utime(path)
            return path
    write_atomically(path, text, durable=False)
    with contextlib.suppress(OSError):
        older = sorted(path.parent.glob("*.txt"), key=lambda one: one.stat().st_mtime_ns, reverse=True)
        for one in older[CONSTRAINTS_KEPT:]:
            one.unlink(missing_ok=True)
    return path


def child_environment(env: Mapping[str, str]) -> dict[str, str]:
    """``env`` without what would lead an engine astray: Python's own variables, another environment's activation."""
    return {
        **{name: value for name, value in env.items() if name not in _MISLEADING and not name.startswith("PYTHON")},
        "PYTHONNOUSERSITE": "1",  # what lies in ~/.local is not in the environment
        "PYTHONUTF8": "1",
        "NO_COLOR": "1",
    }


def index_settings(machine: Machine, request: Request) -> IndexSettings:
    """Where the packages of a request come from: the machine's configuration, then what requirements files say."""
    configured = indexes.effective(machine.env, machine.user_home, request.prefix, root=machine.root)
    options = request.options
    return msgspec.structs.replace(
        configured,
        index_url=options.index_url or configured.index_url,
        extra_urls=(*configured.extra_urls, *options.extra_urls),
        find_links=(*configured.find_links, *options.find_links),
        trusted_hosts=(*configured.trusted_hosts, *options.trusted_hosts),
        no_index=configured.no_index or options.no_index,
        index_strategy=request.index_strategy or configured.index_strategy,
    )


def failure(
    what: str,
    done: Completed,
    settings: IndexSettings | None = None,
    *,
    request: Request | None = None,
    machine: Machine | None = None,
) -> TaskFailed:
    """The error of an engine: its own words from the first that matter, and what helps against it.

    Args:
        what: What failed.
        done: What the engine left behind.
        settings: Where it looked, to be named where the place is to blame.
        request: What it was asked for.
        machine: Where it looked from, if the network may be to blame.
    """
    said = secrets.mask(done.errors.strip() or done.output.strip())
    found = re.search(r"^(error|ERROR)\b", said, re.MULTILINE)
    cause = said[found.start() :] if found else said
    first = _FIRST_INDEX.search(cause)
    if first is not None:
        return TaskFailed(
            what,
            cause=f"{cause[: first.start()].strip()}\n{first['name']} was looked for in {first['used']} only, the "
            f"first index that has the name (another one is {first['other']})",
            cure=f"ask for a version that {first['used']} has; or, where all indexes are trusted alike, take the best "
            "version of all: `index_strategy: best-match` of ensure_pip_index",
        )
    advice = _other_name(said)
    if settings is not None and machine is not None:
        lost = by_network(what, cause, settings, machine, request)
        if lost is not None and not (advice and lost.kind == "portal"):
            return lost
    cure = advice or next((cure for pattern, cure in _CURES if re.search(pattern, said, re.IGNORECASE)), _CURE)
    if settings is not None and settings.no_index and cure == _NOT_FOUND:
        cure = _NOT_FOUND.replace("INDEX was asked", _instead_of_index(settings))
    else:
        index = " and ".join(secrets.mask(url) for url in _asked(settings, said)) if settings else "the index"
        cure = cure.replace("INDEX", index)
    no_room = disk_space.explain_output(cause[-3000:], request.prefix) if request is not None else None
    if no_room is not None:
        return TaskFailed(what, cause=no_room[0], cure=no_room[1])
    return TaskFailed(what, cause=cause[-3000:] or f"exit status {done.status}", cure=cure)


def _instead_of_index(settings: IndexSettings) -> str:
    """Why no index was asked, and what was looked at."""
    origin = settings.origins.get("no_index", "a requirements file")
    links = " and ".join(map(secrets.mask, settings.find_links)) or "what is installed"
    return f"{origin} sets `no-index`, so that no index was asked, only {links} looked at"


def by_network(
    what: str, said: str, settings: IndexSettings, machine: Machine, request: Request | None = None
) -> NetworkFailed | None:
    """Tell whether it is the network by which an engine failed, from its own words.

    Args:
        what: What failed.
        said: The engine's words, masked.
        settings: Where it looked.
        machine: Where it looked from.
        request: What it was asked for: a file that has another hash than the user listed may be what the index has.

    """
    if settings.no_index or (request is not None and any(one in request.text for one in _DIGEST.findall(said))):
        return None
    return network_failure(what, said[-3000:], _server(settings, said), machine.env)


def _server(settings: IndexSettings, said: str) -> Server:
    """The index that the engine's words are about: the first, unless another one's host is named in them."""
    urls = [settings.index_url or _PYPI, *settings.extra_urls]
    hosts = [urlsplit(url).netloc.rpartition("@")[2] for url in urls]
    by_host = [url for url, host in zip(urls, hosts, strict=True) if host and f"//{host}/" in said]
    url = (_asked(settings, said)[:1] if len(by_host) > 1 else by_host or urls)[0]
    return Server("index", url, proxy=settings.proxy)


def _asked(settings: IndexSettings, said: str) -> list[str]:
    """The indexes that the engine's words name, in uv's order; all of them where they name none."""
    if settings.no_index:
        return list(settings.find_links) or ["no index"]
    urls = [*settings.extra_urls, settings.index_url or _PYPI]
    said = indexes.place(said)
    named = [url for url in urls if _place(url) in said]
    # The URL of an index may begin with that of another.
    return [url for url in named if not any(_place(other).startswith(f"{_place(url)}/") for other in named)] or urls


def _place(url: str) -> str:
    return indexes.place(url).rstrip("/")


def _other_name(said: str) -> str:
    """What to write where a name was not found, or is no more than a placeholder, that means something elsewhere."""
    missing = (match[1] or match[2] for match in _NO_SUCH_NAME.finditer(said))
    advice = package_names.first_advice(missing, "pip")
    if advice:
        return f"{advice}; INDEX was asked"
    useless = (next(filter(None, match.groups())) for match in _NO_GOOD.finditer(said))
    return package_names.first_advice((name for name in useless if package_names.is_missing(name, "pip")), "pip")


_DIGEST = re.compile(r"\b[0-9a-f]{64,128}\b")
_NAME = r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
# uv's and pip's words for a name of which there is nothing at all, and for one of which nothing will do.
_NO_SUCH_NAME = re.compile(rf"{_NAME} was not found in the |the requirement {_NAME}[^\n]*\(from versions: none\)")
_NO_GOOD = re.compile(
    rf"no versions? of {_NAME}|Because only {_NAME}|(?:Failed to build|metadata for|wheel for) ['`]?{_NAME}|╰─> {_NAME}"
)
# What uv advises where an index that comes first has the name: an option that nobody here can give it.
_FIRST_INDEX = re.compile(
    r"hint: `(?P<name>[^`]+)` was found on (?P<used>\S+), but not at .*?\(e\.g\., (?P<other>[^)\s]+)\).*?"
    r"--index-strategy.*?(?=\n\n|\Z)",
    re.DOTALL,
)
# Words of uv and of pip, and what helps; the first that fits.
_NOT_FOUND = "look at the spelling and the version; INDEX was asked"
_CURE = "put right what it complains of, and run once more"
_CURES: Sequence[tuple[str, str]] = (
    (
        r"no space left|os error 28\b|disk quota|errno 28\b",
        "free some room: `nbprovision clean --dry-run` says what caches and leftovers take",
    ),
    (
        r"hashes are required|must have (a hash|their versions|hashes)|no trusted hash|no other hashes are available",
        f"give each package that is named its version and hash, dependencies too: {HASHES_OF_ALL}",
    ),
    (
        r"hash mismatch|do not match the hashes",
        (
            "compare the hash with the one that the package's author publishes: the right one, of a file for another "
            f"platform or of a new build, belongs into the list ({HASHES_OF_ALL}); another may have been tampered with"
        ),
    ),
    (r"externally.managed", "make an environment (ensure_conda_env or ensure_venv) and install into that"),
    (
        (
            r"does not satisfy python|matching python|requires-python|requires python|requires a different python|"
            r"no wheels with a matching|not a supported wheel"
        ),
        "ask for a version that is built for this Python and machine, or for another Python in the environment",
    ),
    (
        r"was not found in the p|no matching distribution|there (is|are) no versions?",
        _NOT_FOUND,
    ),
    (r"unsatisfiable|resolutionimpossible|conflicting dependencies", "loosen one of the requirements that are named"),
    (
        r"failed to build|build backend|failed building wheel|subprocess-exited-with-error|metadata-generation-failed",
        "no wheel fits, and building one failed: ask for a version that has one, or install what the build needs",
    ),
    (r"permission denied|os error 13\b", "look at who owns the environment (ls -ld) and run as that user"),
    (r"git operation failed|git.*not found", "see that git is installed and the repository can be reached from here"),
)

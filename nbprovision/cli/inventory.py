"""The environments, kernels, indexes and caches of this machine.

No process is started and nothing is written. Files that cannot be read are reported and stop nothing.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from nbprovision.conda.records import details_of
from nbprovision.conda.specs import allows, parse
from nbprovision.indexes import index_settings
from nbprovision.machine import caches as tool_caches
from nbprovision.machine import distributions, kernels
from nbprovision.machine.condarc import FALLBACK_CHANNEL
from nbprovision.machine.environments import CondaRecord, Environment, installed, virtual_on_volume
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ProvisionError
from nbprovision.system import unfinished

State = Literal["ready", "unfinished", "inconsistent", "broken interpreter", "unreadable"]

PYPI = "https://pypi.org/simple"
_PYTHON = re.compile(r"python(\d+(\.\d+)?t?)?")
# The dependencies of a package precede the list of its files, which is most of a record.
_HEAD = 4096  # bytes
_DEPENDS = re.compile(rb'"depends"\s*:\s*(\[[^\[\]]*\])')


class Installation(msgspec.Struct, frozen=True):
    """A conda installation; a version is None if the package is not installed."""

    prefix: str
    conda: str | None
    mamba: str | None
    provided: bool


class EnvironmentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An environment of this machine.

    Attributes:
        name: Its name in tasks; for a virtual environment the name of its folder.
        prefix: Its folder.
        kind: Whether conda knows of it.
        made_by: The platform's image, this tool, or somebody else.
        jupyter_server: The platform's Jupyter server runs from it.
        python: The version of its Python; None without Python.
        conda_packages: The number of conda's records.
        pip_packages: The number of distributions that pip or uv added.
        kernels: Names of the kernels that start it.
        state: Whether it is usable.
        because: The reason, if it is not.

    """

    name: str
    prefix: str
    kind: Literal["conda", "virtual"]
    made_by: Literal["platform", "nbprovision", "other"] = "other"
    jupyter_server: bool = False
    python: str | None
    conda_packages: int = 0
    pip_packages: int
    kernels: tuple[str, ...]
    state: State
    because: str | None


class KernelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel that Jupyter lists.

    Attributes:
        name: Its name in Jupyter.
        display_name: The name that Jupyter shows; None if kernel.json is unreadable.
        language: The language of its notebooks.
        folder: Its folder.
        scope: Its users, as in `ensure_kernel`.
        prefix: The environment that it starts; None if unknown.
        program: The program that it starts: the Python, else the first word of its command.
        program_exists: Whether the program exists; None if only the server's PATH could show it.
        hidden_by: The folder of a kernel of the same name that Jupyter finds first.

    """

    name: str
    display_name: str | None
    language: str | None
    folder: str
    scope: kernels.Scope
    prefix: str | None
    program: str | None
    program_exists: bool | None
    hidden_by: str | None


class Setting(msgspec.Struct, frozen=True):
    """A value of a configuration, and its origin."""

    value: Any
    origin: str


class Channel(msgspec.Struct, frozen=True):
    """A channel of conda packages, and the meaning of its name."""

    name: str
    urls: tuple[str, ...]
    origin: Literal["configured", "default"]


class Cache(msgspec.Struct, frozen=True):
    """A folder that may be deleted: its content is fetched again."""

    what: str
    path: str


def installations(machine: Machine) -> list[Installation]:
    """The conda installations, the one in use first."""
    result = []
    for prefix in machine.conda.installations:
        versions = {record.name: record.version for record in _records(prefix) if record.name in ("conda", "mamba")}
        provided = prefix == machine.platform.provided
        result.append(Installation(str(prefix), versions.get("conda"), versions.get("mamba"), provided))
    return result


def environments(machine: Machine, listed: Iterable[KernelInfo]) -> list[EnvironmentInfo]:
    """All environments: those of conda, virtual ones on the volume, and those that kernels start.

    Args:
        machine: The machine.
        listed: Its kernels, from `all_kernels`.

    """
    started: dict[str, list[str]] = {}
    server = machine.conda.server
    shared = str(server) if server != machine.conda.jupyter_server else ""
    for kernel in listed:
        if kernel.prefix is not None and kernel.hidden_by is None and not _is_own(kernel, shared):
            started.setdefault(kernel.prefix, []).append(kernel.name)
    result = [_environment(environment, started, server) for environment in machine.conda.environments()]
    prefixes = {environment.prefix for environment in result}
    virtual = [str(prefix) for prefix in _virtual(machine)] + [prefix for prefix in started if prefix not in prefixes]
    result += [
        _virtual_environment(Path(prefix), started) for prefix in dict.fromkeys(virtual) if prefix not in prefixes
    ]
    return result


def all_kernels(machine: Machine) -> list[KernelInfo]:
    """Every kernel that a Jupyter of this user, of all users, or of an environment lists."""
    environments = machine.conda.environments()
    dirs = kernels.kernel_dirs(machine.env, machine.user_home, prefix=machine.conda.server, root=machine.root)
    everyone = {folder / "kernels" for folder in kernels.system_dirs(machine.env, machine.root)}
    prefixes = [environment.prefix for environment in environments]
    owners = {prefix / "share/jupyter/kernels": prefix for prefix in [*prefixes, *_virtual(machine)]}
    first: dict[str, Path] = {}
    result = []
    for folder in dict.fromkeys([*dirs, *owners]):
        for name, place in kernels.installed([folder]).items():
            before = first.setdefault(name, place) if folder in dirs else place
            scope: kernels.Scope = "env" if folder in owners else "system" if folder in everyone else "user"
            result.append(_kernel(name, place, scope, owners.get(folder), prefixes, before))
    return result


def settings_by_tool(machine: Machine, warn: Callable[[str], None]) -> dict[str, dict[str, Setting]]:
    """The index settings of pip and uv, each from its own configuration; their passwords are masked from now on."""
    by_tool = {}
    for tool, read in (("pip", index_settings.of_pip), ("uv", index_settings.of_uv)):
        try:
            values = read(machine.env, machine.user_home, machine.root)
        except ProvisionError as error:
            warn(error.message + (f": {error.cause}" if error.cause else ""))
            continue
        settings = {field: Setting(value, origin) for field, (value, origin) in values.items()}
        by_tool[tool] = {"index_url": Setting(PYPI, "default"), **settings}
    return by_tool


def channels(machine: Machine) -> list[Channel]:
    """The channels of conda for tasks that name none."""
    configured = machine.conda.condarc.channels
    origin: Literal["configured", "default"] = "configured" if configured else "default"
    return [
        Channel(name, tuple(machine.conda.condarc.urls(name)), origin) for name in configured or (FALLBACK_CHANNEL,)
    ]


def caches(machine: Machine) -> list[Cache]:
    """The existing caches: of this tool, of conda, of uv and pip."""
    env = machine.env
    user = Path(env.get("XDG_CACHE_HOME") or machine.user_home / ".cache")
    places = [
        *(Cache("conda packages", str(folder)) for folder in machine.conda.pkgs_dirs),
        Cache("conda packages, this tool's", str(machine.cache / "pkgs")),
        Cache("indexes of channels, this tool's", str(machine.cache / "repodata")),
        Cache("wheels, this tool's", str(machine.cache / "wheels")),
        *(
            Cache("packages beside environments, this tool's", str(folder))
            for folder in tool_caches.folders(machine)
            if folder != machine.cache
        ),
        Cache("uv, as this tool uses it", env.get("UV_CACHE_DIR") or str(machine.cache / "uv")),
        Cache("uv, started by hand", env.get("UV_CACHE_DIR") or str(user / "uv")),
        Cache("pip", env.get("PIP_CACHE_DIR") or str(user / "pip")),
    ]
    unique = {cache.path: cache for cache in reversed(places)}
    return [cache for cache in places if unique[cache.path] is cache and os.path.isdir(cache.path)]


def _environment(environment: Environment, started: Mapping[str, list[str]], server: Path | None) -> EnvironmentInfo:
    prefix = environment.prefix
    records = _records(prefix)
    state, because = _state(environment, records)
    return EnvironmentInfo(
        name=environment.name,
        prefix=str(prefix),
        kind="conda",
        made_by="platform" if environment.provided else "nbprovision" if environment.ours else "other",
        jupyter_server=environment.prefix == server,
        python=distributions.python_version(prefix),
        conda_packages=len(records),
        pip_packages=_by_pip(_distributions(prefix), records),
        kernels=tuple(started.get(str(prefix), ())),
        state=state,
        because=because,
    )


def _virtual_environment(prefix: Path, started: Mapping[str, list[str]]) -> EnvironmentInfo:
    alive = os.access(prefix / "bin/python", os.X_OK)
    return EnvironmentInfo(
        name=prefix.name,
        prefix=str(prefix),
        kind="virtual",
        python=distributions.python_version(prefix),
        pip_packages=len(_distributions(prefix)),
        kernels=tuple(started.get(str(prefix), ())),
        state="ready" if alive else "broken interpreter",
        because=None if alive else f"{prefix / 'bin/python'} leads nowhere",
    )


def _state(environment: Environment, records: list[CondaRecord]) -> tuple[State, str | None]:
    prefix = environment.prefix
    if not os.access(prefix, os.R_OK | os.X_OK) or not os.access(prefix / "conda-meta", os.R_OK | os.X_OK):
        return "unreadable", "its folder is not this user's to read"
    if environment.unfinished:
        mark = unfinished.read_mark(prefix)
        return "unfinished", f"a run ended in the middle of {mark.task}" if mark else None
    python = any(record.name == "python" for record in records)
    if python and not os.access(prefix / "bin/python", os.X_OK):
        return "broken interpreter", f"{prefix / 'bin/python'} is missing, or leads nowhere"
    harm = _inconsistency(records)
    return ("inconsistent", harm) if harm else ("ready", None)


def _inconsistency(records: list[CondaRecord]) -> str | None:
    """The first fault of the records, in a few words: a truncated one, a missing dependency."""
    by_name = {record.name: record for record in records}
    if len(by_name) < len(records):
        names = [record.name for record in records]
        return f"there are two records of {next(name for name in names if names.count(name) > 1)}"
    for record in records:
        depends = _depends(record.path)
        if depends is None:
            return f"the record {record.path.name} is truncated"
        for text in depends:
            name = _name(text)
            installed = by_name.get(name)
            if name and installed is None:
                return f"{record.name} needs {name}, which is missing"
            if installed is not None and _excluded(text, installed.version, installed.build):
                return f"{record.name} needs {text}, but {installed.version} is installed"
    return None


def _depends(path: Path) -> tuple[str, ...] | None:
    """Return the dependencies of a package, if possible without its whole record; None for a truncated one."""
    try:
        with open(path, "rb", buffering=0) as stream:
            head = tail = stream.read(_HEAD)
            if len(head) == _HEAD:
                stream.seek(-16, os.SEEK_END)
                tail = stream.read()
    except OSError:
        return ()
    if not tail.rstrip().endswith(b"}"):
        return None  # truncated by a crash
    match = _DEPENDS.search(head)
    if match is not None:
        return _texts(match[1])
    details = details_of(CondaRecord("", "", "", path))
    return None if details is None else tuple(details.depends)


# Environments have many packages in common, so most of their dependencies have been parsed before.
@functools.lru_cache(maxsize=65536)
def _texts(array: bytes) -> tuple[str, ...] | None:
    try:
        return msgspec.json.decode(array, type=tuple[str, ...])
    except msgspec.DecodeError:
        return None


@functools.lru_cache(maxsize=65536)
def _name(text: str) -> str:
    """The package of a match spec; empty for a virtual package (the machine itself) and for an invalid spec."""
    spec = parse(text)
    return spec.name if spec is not None and not spec.name.startswith("__") else ""


@functools.lru_cache(maxsize=65536)
def _excluded(text: str, version: str, build: str) -> bool:
    """Whether a spec surely excludes a package of its name."""
    spec = parse(text)
    with contextlib.suppress(ProvisionError):
        return spec is not None and allows(spec, version, build) is False
    return False


def _by_pip(installed: Mapping[str, list[distributions.Distribution]], records: Iterable[CondaRecord]) -> int:
    """The number of distributions not from conda, whose packages mostly have the names of their distributions."""
    conda = {distributions.normalized(record.name) for record in records}
    return sum(1 for name, several in installed.items() if name not in conda and several[0].installer != "conda")


def _kernel(
    name: str, place: Path, scope: kernels.Scope, owner: Path | None, prefixes: list[Path], first: Path
) -> KernelInfo:
    spec = kernels.decoded(kernels.read_file(place / kernels.SPEC))
    spec = spec if isinstance(spec, dict) else {}
    argv = spec.get("argv")
    words = [word for word in argv if isinstance(word, str)] if isinstance(argv, list) else []
    program, prefix = _started(words, owner, prefixes)
    return KernelInfo(
        name=name,
        display_name=_text(spec.get("display_name")),
        language=_text(spec.get("language")),
        folder=str(place),
        scope=scope,
        prefix=None if prefix is None else str(prefix),
        program=program,
        program_exists=os.access(program, os.X_OK) if program is not None and os.path.isabs(program) else None,
        hidden_by=str(first) if first != place else None,
    )


def _started(words: list[str], owner: Path | None, prefixes: list[Path]) -> tuple[str | None, Path | None]:
    """The program that a kernel's command starts in the end, and its environment.

    A bare ``python`` is that of the Jupyter server (jupyter_client.manager.KernelManager.format_kernel_cmd). For a
    kernel in an environment's own folder, that is a Jupyter of that environment.
    """
    if not words:
        return None, None
    if owner is not None and _PYTHON.fullmatch(words[0]):
        return str(owner / "bin/python"), owner
    paths = [word for word in words if os.path.isabs(word)]
    program = next((word for word in paths if _PYTHON.fullmatch(os.path.basename(word))), words[0])
    for path in dict.fromkeys([program, *paths]):
        within = [prefix for prefix in prefixes if Path(path) == prefix or prefix in Path(path).parents]
        if within:
            return program, max(within, key=lambda prefix: len(prefix.parts))
    if _PYTHON.fullmatch(os.path.basename(program)) and os.path.isfile(Path(program).parent.parent / "pyvenv.cfg"):
        return program, Path(program).parent.parent
    return program, None


def _is_own(kernel: KernelInfo, shared: str) -> bool:
    """Whether it is ipykernel's own kernel, which only a Jupyter inside the same environment lists.

    Args:
        kernel: The kernel.
        shared: The environment that the server shares with its kernels; empty if there is none.

    """
    return kernel.scope == "env" and kernel.name == "python3" and kernel.prefix != shared


def _virtual(machine: Machine) -> Iterator[Path]:
    yield from machine.conda.virtual_environments().values()
    if machine.platform.volume is not None:
        yield from virtual_on_volume(machine.platform.volume)


def _records(prefix: Path) -> list[CondaRecord]:
    try:
        return installed(prefix)
    except OSError:
        return []


def _distributions(prefix: Path) -> dict[str, list[distributions.Distribution]]:
    try:
        return distributions.installed(prefix)
    except OSError:
        return {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None

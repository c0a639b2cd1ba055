"""The built-in engine for Python packages: the ``uv`` command (https://docs.astral.sh/uv/reference/cli/#uv-pip)."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import re
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nbprovision.indexes import index_settings as indexes
from nbprovision.machine import distributions, network, protection
from nbprovision.machine.distributions import normalized
from nbprovision.model.errors import NotBegun, TaskFailed
from nbprovision.pip import engine_options
from nbprovision.pip.request import Move, Request, child_environment, failure, index_settings, interpreter
from nbprovision.pip.requirements import source_version
from nbprovision.system import commands, secrets
from nbprovision.system.disk_space import beside, free_space, megabytes, require_bytes, require_rest, write_error
from nbprovision.system.files import make_folder, remove, temporary_folder
from nbprovision.system.secrets import without_password

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

# What it says of each distribution: " + name==1.0", " - name==1.0 (from URL)", " ~ name==1.0", " + name @ URL".
_MOVE = re.compile(
    r"^ (?P<sign>[-+~]) (?P<name>[A-Za-z0-9._-]+?)"
    r"(==(?P<version>\S+)( \(from (?P<origin>\S+)\)$)?| @ (?P<url>\S+))(?= |$)",
    re.MULTILINE,
)
_DOWNLOADS = re.compile(r"^Would download (\d+) package", re.MULTILINE)
_LOCK = ".lock"
_finding = threading.Lock()
_PLENTY = 1_000_000_000  # bytes; a rehearsal takes half as long as the work


def find(machine: Machine) -> Path | None:
    """The uv that came with this tool, else one on the PATH; None where there is none."""
    own = _own()
    if own is not None:
        return own
    found = shutil.which("uv", path=machine.env.get("PATH", ""))
    return Path(found) if found else None


def perform(machine: Machine, request: Request) -> list[Move]:
    """Carry a request out; where little room is left only after a rehearsal.

    uv fetches and unpacks all before it changes anything, but then removes the old before it links the new.

    Returns:
        What was changed.

    Raises:
        NotBegun: there is no room. Nothing was changed.
        TaskFailed: with uv's own words and what to do.
    """
    _refuse_outside(machine, request)
    for one in (one for name in request.reinstall for one in request.found().get(name, ())):
        for path in one.path.glob(".tmp*"):  # a killed uv's, which another one leaves where it is
            remove(path)
    if request.location is None and free_space(request.prefix).free < _PLENTY:
        _rehearse(machine, request)
    return _moves(_install(machine, request, dry_run=False))


def _refuse_outside(machine: Machine, request: Request) -> None:
    """Uv follows links in an environment when it removes the files of a distribution, and when it installs.

    Raises:
        TaskFailed: a distribution that moves has files outside, or what is to come would be outside.
    """
    if request.location is None:
        protection.refuse_links(request.prefix, ("bin", "lib"))
    place = request.location or request.prefix
    there = (one for several in request.found().values() for one in several)
    strays = [one for one, _ in protection.files_outside(place, there)]
    if strays:
        moving = {move.name for move in resolve(machine, request)}
        protection.refuse_distributions(place, (one for one in strays if one.name in moving))


def _rehearse(machine: Machine, request: Request) -> None:
    """Link into another folder what is to come: it is in the cache then, and there is room for it.

    Raises:
        NotBegun: there is none.
    """
    said = _look(machine, request)
    pins, references, fetched = _coming(said)
    coming = [*pins, *references]
    need = _to_fetch(machine, request, pins, fetched)
    require_bytes(request.prefix, need, machine.cache_near(request.prefix))
    options = msgspec.structs.replace(request.options, require_hashes=False)  # these are looked at when it counts
    with temporary_folder(beside(request.prefix)) as scratch:
        try:
            if coming:
                trial = msgspec.structs.replace(request, lines=tuple(coming), options=options, location=scratch)
                _install(machine, trial, dry_run=False, alone=True)
        except TaskFailed as error:
            if write_error(error.cause) is None:
                return  # such as a build that needs more than its own files; the install itself says what is wrong
            known = f"it takes more than {megabytes(need)}, by the sizes of the packages; " if need else ""
            raise NotBegun(error.message, cause=known + error.cause, cure=error.cure) from error
        require_rest(scratch)


def resolve(machine: Machine, request: Request) -> list[Move]:
    """What carrying a request out would change. Nothing is changed but uv's cache.

    Raises:
        TaskFailed: it cannot be carried out.
    """
    return _moves(_look(machine, request))


def _look(machine: Machine, request: Request) -> str:
    with _without_trace(request.prefix if request.location is None else request.location):
        return _install(machine, request, dry_run=True)


def _coming(said: str) -> tuple[list[str], list[str], int]:
    """What an install would bring, by uv's words about it.

    No index is asked for a direct reference: that needs a network, and may bring somebody else's package. uv hides
    passwords in what it says; such a reference leads nowhere, and is left out.

    Returns:
        Pins for an index, direct references, and how many of the pins uv has to fetch; it does not say which.

    """
    pins, references = [], []
    found = _DOWNLOADS.search(said)
    fetched = int(found[1]) if found else 0
    for match in _MOVE.finditer(said):
        if match["sign"] == "-":
            continue
        url = match["url"] or match["origin"]
        if url is None:
            pins.append(f"{match['name']}=={match['version']}")
        elif secrets.MASK not in url:
            references.append(f"{match['name']} @ {url}")
        fetched -= match["url"] is not None  # in no cache yet; uv counts files of this machine as well
    return pins, references, fetched


def origin_of(machine: Machine, request: Request, pin: str) -> str | None:
    """The index that has a version of a package, by the request's own strategy, without its password.

    Args:
        machine: The facts.
        request: What is to be installed.
        pin: ``name==version``.
    """
    settings = index_settings(machine, request)
    words = ["pip", "compile", "-", "--no-deps", "--no-header", "--emit-index-annotation", "--quiet", "--python"]
    done = execute(
        machine,
        [*words, request.python, "--prerelease", "allow", *indexes.uv_arguments(settings)],
        {**limits(machine), **indexes.uv_environment(settings)},
        near=request.prefix,
        stdin=f"{pin}\n",
    )
    found = re.search(r"^ *# from (\S+)", done.output, re.MULTILINE)
    return indexes.place(found[1]) if done.status == 0 and found else None


def _to_fetch(machine: Machine, request: Request, pins: Sequence[str], count: int) -> int:
    """The bytes to fetch at least, as the index tells them, which not every one does (PEP 700).

    Args:
        machine: The facts.
        request: What is wanted.
        pins: Pins of what is to come from it.
        count: How many of them are in no cache.

    """
    if count <= 0 or not pins:
        return 0
    settings = index_settings(machine, request)
    words = ["pip", "compile", "-", "--format", "pylock.toml", "--no-deps", "--no-header", "--quiet", "--python"]
    done = execute(
        machine,
        [*words, request.python, "--prerelease", "allow", *indexes.uv_arguments(settings)],
        {**limits(machine), **indexes.uv_environment(settings)},
        near=request.prefix,
        stdin="".join(f"{pin}\n" for pin in pins),
    )
    if done.status != 0:
        return 0
    packages = indexes.parse_uv_toml(Path("pylock.toml"), done.output).get("packages", [])
    sizes = [min([wheel.get("size", 0) for wheel in one.get("wheels", [])], default=0) for one in packages]
    return int(sum(sorted(sizes)[:count]))


def _moves(said: str) -> list[Move]:
    signs: dict[str, dict[str, str]] = {}
    for match in _MOVE.finditer(said):
        url = match["url"] or ""
        version = match["version"] or source_version(url) or without_password(url)
        signs.setdefault(normalized(match["name"]), {})[match["sign"]] = version
    return [
        Move(name, versions.get("-", versions.get("~")), versions.get("+", versions.get("~")))
        for name, versions in signs.items()
    ]


def uninstall(
    machine: Machine, prefix: Path, names: Iterable[str], *, python: Path | None = None, managed: bool = False
) -> None:
    """Uninstall distributions.

    Raises:
        TaskFailed: with uv's own words.
    """
    names = [normalized(name) for name in names]
    there = distributions.installed(prefix, names)
    protection.refuse_distributions(prefix, (one for several in there.values() for one in several))
    words: list[str | Path] = ["pip", "uninstall", "--python", python or interpreter(prefix), *names]
    done = execute(machine, words, {"UV_NO_CONFIG": "1", **_managed(managed)}, near=prefix)
    if done.status != 0:
        raise failure(f"cannot uninstall from {prefix}", done)


def evict(machine: Machine, names: Iterable[str], prefix: Path) -> None:
    """Take distributions from the cache that ``prefix`` shares: an edit in place harmed its copy too.

    https://docs.astral.sh/uv/concepts/cache/#clearing-the-cache

    Raises:
        TaskFailed: with uv's own words.
    """
    done = execute(machine, ["cache", "clean", *names], {"UV_NO_CONFIG": "1"}, near=prefix)
    if done.status != 0:
        raise failure("cannot take harmed packages from uv's cache", done)


def _install(machine: Machine, request: Request, *, dry_run: bool, alone: bool = False) -> str:
    return network.retry(
        machine,
        lambda cached_only: _attempt(machine, request, dry_run=dry_run, alone=alone, cached_only=cached_only),
    )


def _attempt(machine: Machine, request: Request, *, dry_run: bool, alone: bool, cached_only: bool) -> str:
    settings = index_settings(machine, request)
    words: list[str | Path] = ["pip", "install", "--python", request.python, "--requirements", "-"]
    words += [] if request.location is None else ["--target", request.location]
    words += [word for path in request.constraints for word in ("--constraints", path)]
    words += [word for name in request.reinstall for word in ("--reinstall-package", name)]
    words += [word for name in request.upgrade for word in ("--upgrade-package", name)]
    words += engine_options.for_uv(request.options)
    words += ["--dry-run"] if dry_run else []
    words += ["--no-deps"] if alone else []
    words += ["--offline"] if cached_only else []
    words += indexes.uv_arguments(settings)
    variables = {**limits(machine), **indexes.uv_environment(settings), **_managed(request.managed)}
    if settings.proxy is None:
        variables.update(request.options.uv_proxies)
    if dry_run:  # its lock for an environment of conda's goes where temporary files go
        make_folder(machine.cache)
        variables["TMPDIR"] = str(machine.cache)
    with engine_options.uv_toml(machine, request) as path:
        if path is not None:
            variables["UV_CONFIG_FILE"] = str(path)
        done = execute(machine, words, variables, near=request.location or request.prefix, stdin=request.text)
    if done.status != 0 and path is not None and str(path) in done.errors:
        raise engine_options.refused_by_uv(machine, done.errors.replace(str(path), "uv.toml"))
    if done.status != 0:
        what = f"cannot install what is asked for into {request.prefix}"
        raise failure(what, done, settings, request=request, machine=machine)
    return done.errors


def limits(machine: Machine) -> dict[str, str]:
    """How long uv waits for an answer, and how often it asks again, where neither pip nor uv is told that.

    https://docs.astral.sh/uv/reference/environment/#uv_http_timeout
    """
    limits = {"UV_HTTP_TIMEOUT": f"{network.timeout(machine.env):.0f}"}
    if any(machine.env.get(name) for name in ("UV_HTTP_TIMEOUT", "UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT")):
        limits = {}
    if not machine.env.get("UV_HTTP_RETRIES"):
        limits["UV_HTTP_RETRIES"] = str(network.quick_retries(machine))
    return limits


@contextlib.contextmanager
def _without_trace(prefix: Path) -> Iterator[None]:
    """Even for a dry run uv makes a lock file in a virtual environment or a target: take away what was not there."""
    lock = prefix / _LOCK
    there, folder_there = lock.exists(), prefix.exists()
    try:
        yield
    finally:
        if not there:
            with contextlib.suppress(OSError), lock.open("r+b") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not one that another uv holds by now
                lock.unlink()
        if not folder_there:
            with contextlib.suppress(OSError):
                prefix.rmdir()


def execute(
    machine: Machine, words: Sequence[str | Path], variables: dict[str, str], *, near: Path, stdin: str = ""
) -> commands.Completed:
    """Start uv, with a cache on the file system of ``near``.

    Raises:
        TaskFailed: there is no uv, or it was killed.
    """
    uv = find(machine)
    if uv is None:
        raise TaskFailed("uv is not there", cause="it came with this tool and is gone", cure="install uv, or use pip")
    env = child_environment(machine.env)
    # On the file system of the environments, so that files are linked and not copied.
    cache = {}
    if not env.get("UV_CACHE_DIR"):
        folder = machine.cache_near(near) / "uv"
        make_folder(folder, mode=0o700)  # uv's locks in it are writable for everybody who gets there
        cache = {"UV_CACHE_DIR": str(folder)}
    return commands.run(
        [uv, *words, "--no-config", "--no-progress", "--color", "never"],
        env={**env, **cache, **variables},
        stdin=stdin,
        timeout=machine.timeout,
        accept=range(256),
    )


def _managed(managed: bool) -> dict[str, str]:
    return {"UV_BREAK_SYSTEM_PACKAGES": "1"} if managed else {}


def _own() -> Path | None:
    with _finding:  # sysconfig, by which uv finds itself, cannot be asked for the first time by two threads at once
        return _found()


@functools.cache
def _found() -> Path | None:
    try:
        import uv

        return Path(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        return None

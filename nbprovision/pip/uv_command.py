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
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.indexes import index_settings
from nbprovision.indexes.index_settings import IndexSettings
from nbprovision.machine import distributions, network, protection
from nbprovision.machine.distributions import normalized
from nbprovision.model.errors import NotBegun, TaskFailed
from nbprovision.pip import locked_install
from nbprovision.pip.install_settings import ALL, Options
from nbprovision.pip.request import Move, Request, child_environment, failure, interpreter, settings_of, with_flag
from nbprovision.pip.requirements import source_version
from nbprovision.system import commands, secrets, toml_document
from nbprovision.system.disk_space import beside, free_space, megabytes, require_bytes, require_rest, write_error
from nbprovision.system.files import make_folder, remove, temporary_folder, write_atomically
from nbprovision.system.secrets import without_password

if TYPE_CHECKING:
    from nbprovision.indexes.index_settings import IndexSettings
    from nbprovision.machine.machine import Machine

# uv's line for a distribution: " + name==1.0", " - name==1.0 (from URL)", " ~ name==1.0", " + name @ URL".
_MOVE = re.compile(
    r"^ (?P<sign>[-+~]) (?P<name>[A-Za-z0-9._-]+?)"
    r"(==(?P<version>\S+)( \(from (?P<origin>\S+)\)$)?| @ (?P<url>\S+))(?= |$)",
    re.MULTILINE,
)
_DOWNLOADS = re.compile(r"^Would download (\d+) package", re.MULTILINE)
_LOCK = ".lock"
_finding = threading.Lock()
_PLENTY = 1_000_000_000  # bytes; a rehearsal takes half as long as the install


def find(machine: Machine) -> Path | None:
    """The uv that came with this tool, else the one on the PATH."""
    path = _own() or shutil.which("uv", path=machine.env.get("PATH", ""))
    return Path(path) if path else None


def _own() -> str | None:
    with _finding:  # uv finds itself by sysconfig, whose first call must not come from two threads at once
        return _found_own()


@functools.cache
def _found_own() -> str | None:
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError):
        return None


def perform(machine: Machine, request: Request) -> list[Move]:
    """Carry out a request. If little disk space is free, rehearse it first.

    uv downloads and unpacks everything before it changes the environment. It then removes the old distributions before
    it links the new ones.

    Returns:
        The changes.

    Raises:
        NotBegun: there is not enough disk space. Nothing was changed.
        TaskFailed: with uv's message and advice.
    """
    _refuse_outside(machine, request)
    installed = request.found()
    for distribution in (distribution for name in request.reinstall for distribution in installed.get(name, ())):
        for path in distribution.path.glob(".tmp*"):  # of a killed uv; the next uv does not remove them
            remove(path)
    if request.location is None and free_space(request.prefix).free < _PLENTY:
        _rehearse(machine, request)
    return _moves(_install(machine, request))


def _refuse_outside(machine: Machine, request: Request) -> None:
    """Refuse links that lead out of an environment, as uv follows them when it removes and installs files.

    Raises:
        TaskFailed: a distribution that moves has files outside, or a new one would have.
    """
    if request.location is None:
        protection.refuse_links(request.prefix, ("bin", "lib"))
    place = request.location or request.prefix
    locked = {entry.name for entry in request.locked}  # with a lock, nothing else moves
    moving = (same_name for name, same_name in request.found().items() if not locked or name in locked)
    installed = (distribution for same_name in moving for distribution in same_name)
    strays = [distribution for distribution, _ in protection.files_outside(place, installed)]
    if strays:
        names = {move.name for move in resolve(machine, request)}
        protection.refuse_distributions(place, (stray for stray in strays if stray.name in names))


def _rehearse(machine: Machine, request: Request) -> None:
    """Install the new distributions into another folder: this fills the cache, and shows that the space suffices.

    Raises:
        NotBegun: it does not suffice.
    """
    trial, size = _trial(machine, request)
    require_bytes(request.prefix, size, machine.cache_near(request.prefix))
    with temporary_folder(beside(request.prefix)) as scratch:
        try:
            if trial.lines or trial.locked:
                _install(machine, msgspec.structs.replace(trial, location=scratch))
        except TaskFailed as error:
            if write_error(error.cause) is None:
                return  # such as a build that needs more than its own files; the install itself reports the cause
            minimum = f"it takes more than {megabytes(size)}, by the sizes of the packages; " if size else ""
            raise NotBegun(error.message, cause=minimum + error.cause, cure=error.cure) from error
        require_rest(scratch)


def _trial(machine: Machine, request: Request) -> tuple[Request, int]:
    """The request that installs only what is new, and the least number of bytes to download for it."""
    if request.locked:
        files = [entry.files[0] for entry in request.locked if entry.files]
        return request, sum(file.size or 0 for file in files if not file.path)
    pins, references, to_fetch = _incoming(_dry_run(machine, request))
    options = msgspec.structs.replace(request.options, require_hashes=False)  # the install itself checks them
    trial = msgspec.structs.replace(request, lines=(*pins, *references), options=options, dependencies=False)
    return trial, _download_size(machine, request, pins, to_fetch)


def resolve(machine: Machine, request: Request) -> list[Move]:
    """The changes that carrying out a request would make. This call changes nothing but uv's cache.

    Raises:
        TaskFailed: the request cannot be carried out.
    """
    return _moves(_dry_run(machine, request))


def _dry_run(machine: Machine, request: Request) -> str:
    make_folder(machine.cache)
    with _without_trace(request.prefix if request.location is None else request.location):
        return _install(machine, request, "--dry-run")


def _incoming(output: str) -> tuple[list[str], list[str], int]:
    """The distributions that an install would bring, from the output of a dry run.

    A direct reference is not looked up in an index, which would need a network and may have an unrelated package of
    that name. uv hides passwords in its output; such a reference leads nowhere and is left out.

    Returns:
        Pins for an index, direct references, and the number of pins that uv has to download; it does not say which.

    """
    pins, references = [], []
    downloads = _DOWNLOADS.search(output)
    to_fetch = int(downloads[1]) if downloads else 0
    for match in _MOVE.finditer(output):
        if match["sign"] == "-":
            continue
        url = match["url"] or match["origin"]
        if url is None:
            pins.append(f"{match['name']}=={match['version']}")
        elif secrets.MASK not in url:
            references.append(f"{match['name']} @ {url}")
        to_fetch -= match["url"] is not None  # in no cache yet; uv counts files of this machine as well
    return pins, references, to_fetch


def origin_of(machine: Machine, request: Request, pin: str) -> str | None:
    """The index that has a version of a package, by the request's index strategy, without its password.

    Args:
        machine: The machine.
        request: The install.
        pin: ``name==version``.
    """
    origin = re.search(r"^ *# from (\S+)", _compile(machine, request, [pin], "--emit-index-annotation"), re.MULTILINE)
    return index_settings.place(origin[1]) if origin else None


def _download_size(machine: Machine, request: Request, pins: Sequence[str], count: int) -> int:
    """The least number of bytes of ``count`` downloads among ``pins``; 0 if the index has no sizes (PEP 700)."""
    if count <= 0 or not pins:
        return 0
    lock = _compile(machine, request, pins, "--format", "pylock.toml")
    packages = toml_document.load(lock).get("packages", [])
    sizes = [min([wheel.get("size", 0) for wheel in package.get("wheels", [])], default=0) for package in packages]
    return int(sum(sorted(sizes)[:count]))


def _compile(machine: Machine, request: Request, pins: Sequence[str], *words: str) -> str:
    """The output of ``uv pip compile`` for pins without their dependencies; empty if it fails."""
    settings = settings_of(machine, request)
    command = ["pip", "compile", "-", "--no-deps", "--no-header", "--quiet", "--prerelease", "allow", *words]
    completed = execute(
        machine,
        [*command, "--python", request.python, *index_settings.uv_arguments(settings)],
        {**limits(machine), **index_settings.uv_environment(settings)},
        near=request.prefix,
        stdin="".join(f"{pin}\n" for pin in pins),
    )
    return completed.output if completed.status == 0 else ""


def compile_lock(
    machine: Machine,
    request: Request,
    settings: IndexSettings,
    *,
    output: Path,
    version: str,
    platform: str,
) -> str:
    """Resolve requirements for a platform and write a pylock.toml (PEP 751); its packages stay if it exists.

    Args:
        machine: The machine.
        request: The requirements. Its interpreter builds source distributions without metadata, and its ``upgrade``
            names the packages for which the existing file does not count.
        settings: The indexes.
        output: The file, called ``pylock.toml``.
        version: The version of the Python that the packages are for, which need not exist here.
        platform: uv's name of the platform, such as ``x86_64-manylinux_2_34``.

    Returns:
        uv's warnings.

    Raises:
        TaskFailed: the requirements are incompatible, or an index cannot be read.

    """
    words: list[str | Path] = ["pip", "compile", "-", "--format", "pylock.toml", "--no-header"]
    words += ["--output-file", output, "--python", request.python, "--no-python-downloads"]
    words += ["--python-version", version, "--python-platform", platform]
    words += with_flag("--constraints", request.constraints)
    words += with_flag("--upgrade-package", request.upgrade)
    # A lock has the digest of every file, so there is nothing to require.
    words += _arguments(msgspec.structs.replace(request.options, require_hashes=False))
    words += index_settings.uv_arguments(settings)
    with _configuration(machine, request) as path:
        variables = {**limits(machine), **index_settings.uv_environment(settings)}
        if settings.proxy is None:
            variables.update(request.options.uv_proxies)
        if path is not None:
            variables["UV_CONFIG_FILE"] = str(path)
        completed = execute(machine, words, variables, near=machine.home, stdin=request.text)
    if completed.status != 0:
        raise failure("cannot lock the requested packages", completed, settings, request=request, machine=machine)
    return completed.errors


def _moves(output: str) -> list[Move]:
    signs: dict[str, dict[str, str]] = {}
    for match in _MOVE.finditer(output):
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
        TaskFailed: with uv's message.
    """
    names = [normalized(name) for name in names]
    installed = distributions.installed(prefix, names).values()
    protection.refuse_distributions(prefix, (distribution for same_name in installed for distribution in same_name))
    words: list[str | Path] = ["pip", "uninstall", "--python", python or interpreter(prefix), *names]
    completed = execute(machine, words, {"UV_NO_CONFIG": "1", **_managed(managed)}, near=prefix)
    if completed.status != 0:
        raise failure(f"cannot uninstall from {prefix}", completed)


def evict(machine: Machine, names: Iterable[str], prefix: Path) -> None:
    """Remove distributions from the cache that ``prefix`` shares, whose copies an edit in place has damaged too.

    https://docs.astral.sh/uv/concepts/cache/#clearing-the-cache

    Raises:
        TaskFailed: with uv's message.
    """
    completed = execute(machine, ["cache", "clean", *names], {"UV_NO_CONFIG": "1"}, near=prefix)
    if completed.status != 0:
        raise failure("cannot remove damaged packages from uv's cache", completed)


def _install(machine: Machine, request: Request, *flags: str) -> str:
    return network.retry(
        machine, lambda cached_only: _attempt(machine, request, [*flags, *(["--offline"] if cached_only else [])])
    )


def _attempt(machine: Machine, request: Request, flags: Sequence[str]) -> str:
    if request.locked:
        request = msgspec.structs.replace(
            request, constraints=(), upgrade=(), options=locked_install.options_for_lock(request.options)
        )
    settings = settings_of(machine, request)
    words: list[str | Path] = ["pip", "install", "--python", request.python]
    words += [] if request.dependencies or request.locked else ["--no-deps"]
    words += [] if request.location is None else ["--target", request.location]
    words += with_flag("--constraints", request.constraints)
    words += with_flag("--reinstall-package", request.reinstall)
    words += with_flag("--upgrade-package", request.upgrade)
    words += [*_arguments(request.options), *flags, *index_settings.uv_arguments(settings)]
    variables = {**limits(machine), **index_settings.uv_environment(settings), **_managed(request.managed)}
    if settings.proxy is None:
        variables.update(request.options.uv_proxies)
    if "--dry-run" in flags:  # uv's lock for a conda environment goes into the folder for temporary files
        variables["TMPDIR"] = str(machine.cache)
    with _configuration(machine, request) as path, _requirements(machine, request, settings) as place:
        if path is not None:
            variables["UV_CONFIG_FILE"] = str(path)
        words += ["--requirements", *place]
        completed = execute(machine, words, variables, near=request.location or request.prefix, stdin=request.text)
    if completed.status == 0:
        return completed.errors
    if path is not None and str(path) in completed.errors:
        documents = index_settings.uv_documents(machine.env, machine.user_home, root=machine.root)
        raise TaskFailed(
            f"uv does not accept {' and '.join(str(file) for file, _ in documents)}",
            cause=secrets.mask(completed.errors.replace(str(path), "uv.toml").strip())[-3000:],
            cure="correct or remove the named key; a uv that you start by hand fails there as well",
        )
    message = f"cannot install the requested packages into {request.prefix}"
    raise failure(message, completed, settings, request=request, machine=machine)


@contextlib.contextmanager
def _requirements(machine: Machine, request: Request, settings: IndexSettings) -> Iterator[list[str | Path]]:
    """The arguments after ``--requirements``: standard input, or a lock, which is a preview feature of uv."""
    if not request.locked:
        yield ["-"]
        return
    with locked_install.pylock_file(machine, request, settings) as path:
        yield [path, "--preview-features", "pylock"]


def _arguments(options: Options) -> list[str | Path]:
    """The arguments of ``uv pip install`` for ``options``."""
    words = [*options.format_arguments, *with_flag("--constraints", options.remote_constraints)]
    words += with_flag("--build-constraints", options.build_constraints)
    words += ["--prerelease", "allow"] if ALL in options.all_releases else []
    words += ["--prerelease", "disallow"] if ALL in options.only_final else []
    words += ["--require-hashes"] if options.require_hashes else []
    words += [] if options.build_isolation else ["--no-build-isolation"]
    words += with_flag("--config-setting", options.config_settings)
    words += ["--exclude-newer", options.uploaded_prior_to] if options.uploaded_prior_to else []
    words += ["--refresh"] if ALL in options.refresh else with_flag("--refresh-package", options.refresh)
    words += ["--keyring-provider", options.keyring] if options.keyring in ("disabled", "subprocess") else []
    return words


@contextlib.contextmanager
def _configuration(machine: Machine, request: Request) -> Iterator[Path | None]:
    """A temporary uv.toml with the settings of the user's that apply to installs; None without any."""
    document = request.options.for_uv
    if request.upgrade:
        document = _without_resolution({**document, "pip": _without_resolution(document.get("pip", {}))})
    document = {key: value for key, value in document.items() if key != "pip" or value}
    if not document:
        yield None
        return
    import tomlkit

    with temporary_folder(machine.cache / "uv-settings") as folder:
        path = folder / "uv.toml"
        write_atomically(path, tomlkit.dumps(document), mode=0o600, durable=False)
        yield path


def _without_resolution(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "resolution"}


def limits(machine: Machine) -> dict[str, str]:
    """The seconds that uv waits for an answer, and its number of retries, unless pip or uv is configured otherwise.

    https://docs.astral.sh/uv/reference/environment/#uv_http_timeout
    """
    limits = {}
    if not any(machine.env.get(name) for name in ("UV_HTTP_TIMEOUT", "UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT")):
        limits["UV_HTTP_TIMEOUT"] = f"{network.timeout(machine.env):.0f}"
    if not machine.env.get("UV_HTTP_RETRIES"):
        limits["UV_HTTP_RETRIES"] = str(network.quick_retries(machine))
    return limits


@contextlib.contextmanager
def _without_trace(prefix: Path) -> Iterator[None]:
    """Remove the lock file and the folder that uv creates even for a dry run, unless they existed before."""
    lock = prefix / _LOCK
    had_lock, had_folder = lock.exists(), prefix.exists()
    try:
        yield
    finally:
        if not had_lock:
            with contextlib.suppress(OSError), lock.open("r+b") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not one that another uv holds by now
                lock.unlink()
        if not had_folder:
            with contextlib.suppress(OSError):
                prefix.rmdir()


def execute(
    machine: Machine, words: Sequence[str | Path], variables: dict[str, str], *, near: Path, stdin: str = ""
) -> commands.Completed:
    """Run uv, with a cache on the file system of ``near``.

    Raises:
        TaskFailed: uv is missing, or was killed.
    """
    uv = find(machine)
    if uv is None:
        raise TaskFailed("uv is missing", cause="it came with this tool and is gone", cure="install uv, or use pip")
    env = {**child_environment(machine.env), **variables}
    if not env.get("UV_CACHE_DIR"):
        # On the file system of the environments, so that uv links files instead of copying them.
        folder = machine.cache_near(near) / "uv"
        make_folder(folder, mode=0o700)  # everybody may write uv's locks in it
        env["UV_CACHE_DIR"] = str(folder)
    return commands.run(
        [uv, *words, "--no-config", "--no-progress", "--color", "never"],
        env=env,
        stdin=stdin,
        timeout=machine.timeout,
        accept=range(256),
    )


def _managed(managed: bool) -> dict[str, str]:
    return {"UV_BREAK_SYSTEM_PACKAGES": "1"} if managed else {}

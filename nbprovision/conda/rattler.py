"""The built-in conda engine: py-rattler, in a child process.

A child solves, keeps the solution, and installs it on request. It loads the library once, and reads a channel once for
all environments of a run. A child whose solution is not installed (with ``--check``, after a failure) is killed. Only
that stops an install: cancelling the wait for it would leave its threads running.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from nbprovision.conda import bookkeeping, health
from nbprovision.conda.early_engine import MODULE
from nbprovision.conda.package_urls import has_credentials, take_credentials
from nbprovision.conda.query import (
    Attempt,
    ExactQuery,
    ExactRequest,
    FetchRequest,
    InstallRequest,
    Package,
    Query,
    RehearseRequest,
    SolveRequest,
)
from nbprovision.conda.records import Details
from nbprovision.conda.solution import (
    Solution,
    archive_of,
    coming,
    identity,
    is_in,
    mark,
    take_damaged_out,
    unpacked,
)
from nbprovision.conda.specs import Spec, parse
from nbprovision.machine import caches, network, package_files, platform, protection
from nbprovision.machine.distributions import normalized
from nbprovision.machine.environments import META, CondaRecord, installed
from nbprovision.machine.network import NetworkFailed, Server, network_failure
from nbprovision.model.errors import TaskFailed
from nbprovision.system import commands, secrets, trust
from nbprovision.system.context import thread
from nbprovision.system.disk_space import beside, require_rest
from nbprovision.system.files import make_folder, remove, temporary_folder
from nbprovision.system.places import existing
from nbprovision.system.process import SILENT, ChildEnded

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine
    from nbprovision.system.process import Child

_changed = threading.Condition()
_judgement = threading.Lock()
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@contextlib.contextmanager
def _held(machine: Machine, packages: set[Any]) -> Iterator[None]:
    """Wait for others that fetch one of these packages: environments made side by side unpack each package once."""
    with _changed:
        fetched_now: set[Any] = machine.notes.setdefault("packages being fetched", set())
        _changed.wait_for(lambda: fetched_now.isdisjoint(packages))
        fetched_now.update(packages)
    try:
        yield
    finally:
        with _changed:
            fetched_now.difference_update(packages)
            _changed.notify_all()


@contextlib.contextmanager
def _judging(packages: list[Path]) -> Iterator[None]:
    """Have root judge unpacked packages while the engine links them: this process would only wait."""
    if not packages or not trust.applies():
        yield
        return

    def judge() -> None:
        with _judgement:  # environments made side by side have most packages in common
            trust.are_plain(packages)

    judging = thread(judge)
    judging.start()
    try:
        yield
    finally:
        judging.join()


class RattlerSolution(Solution):
    """The packages that an environment will contain, and the child process that can install them."""

    def __init__(self, query: Query | ExactQuery, child: Child, number: int, packages: tuple[Package, ...]) -> None:
        super().__init__(packages)
        self._query = query
        self._child = child
        self._number = number

    def caches(self, machine: Machine, prefix: Path) -> list[Path]:
        """The nearest one."""
        return [package_cache(machine, prefix)]

    def install(
        self, machine: Machine, prefix: Path, *, requested: Iterable[str], reinstall: Iterable[str] = ()
    ) -> None:
        """See `Solution`."""
        reinstall = set(reinstall)
        staying = {identity(package) for package in self.packages if package.name not in reinstall}
        for record in installed(prefix):
            if identity(record) not in staying:
                bookkeeping.correct_paths(record.path)
                package_files.remove_compiled(prefix, health.listed_files(record))
        request = InstallRequest(
            solution=self._number,
            prefix=os.path.abspath(prefix),
            cache=str(package_cache(machine, prefix)),
            reinstall=sorted(reinstall),
            requested=list(requested),
            verify=machine.conda.condarc.ssl_verify is not False,
            silence=_silence(machine, self._query),
        )
        folders = unpacked(self.packages, Path(request.cache))
        try:
            with _judging(folders if self.verifies else []):  # else some of them are not unpacked yet
                # Cached packages are not fetched again in any case.
                network.retry(machine, lambda _: self._call(machine, prefix, request), cached=False)
            if not self.verifies:  # else each is marked from the start
                mark(self.packages, Path(request.cache))
            with _judgement:
                trust.made(prefix, folders)
        except NetworkFailed:
            raise
        except TaskFailed:
            take_damaged_out(self.packages, Path(request.cache))
            raise
        finally:
            self.close()

    def rehearse(self, machine: Machine, prefix: Path, *, reinstall: Collection[str] = ()) -> None:
        """Link the new packages of an existing environment into a temporary folder.

        py-rattler unlinks old packages while it still fetches new ones. A full disk or a failing network would leave
        half of an environment. The rehearsal also shows to which folders the packages write.
        """
        if coming(prefix, self.packages) and (installed(prefix) or protection.has_linked_folder(prefix)):
            cache = package_cache(machine, prefix)
            network.retry(machine, lambda _: self._rehearse(machine, prefix, cache), cached=False)

    def _rehearse(self, machine: Machine, prefix: Path, cache: Path) -> None:
        records = installed(prefix)
        torn = health.torn(records)
        with temporary_folder(beside(prefix)) as scratch:
            make_folder(scratch / META)
            for record in records:
                if record.name == "python":  # its version decides where pure Python packages go
                    shutil.copy2(record.path, scratch / META)
            request = RehearseRequest(
                solution=self._number,
                prefix=os.path.abspath(prefix),
                installed=[str(record.path) for record in records if record not in torn],
                scratch=str(scratch),
                cache=str(cache),
                verify=machine.conda.condarc.ssl_verify is not False,
                silence=_silence(machine, self._query),
            )
            try:
                self._call(machine, prefix, request)
            except TaskFailed:
                # The engine reports the first failure while other threads still link: it is too early to remove it.
                self._child.remove_at_end(scratch)
                raise
            protection.refuse_rehearsed(prefix, scratch)
            require_rest(scratch)

    def _call(self, machine: Machine, prefix: Path, request: FetchRequest | InstallRequest | RehearseRequest) -> None:
        """Send a request to the child, or to a new one if the child was ended.

        Raises:
            NetworkFailed: a package could not be fetched.
            TaskFailed: another failure.

        """
        if not self._child.alive:
            self._solve_again(machine)
        request = msgspec.structs.replace(request, solution=self._number, retries=network.quick_retries(machine))

        def report(message: dict[str, Any]) -> None:
            machine.progress(f"{prefix.name}: {message['text']}", message["done"], message["total"])

        try:
            self._child.call(request, report, machine.timeout)
        except TaskFailed as error:
            what = f"the packages could not be installed into {prefix}"
            raise _explained(error, what, machine, self._query) from error

    def _solve_again(self, machine: Machine) -> None:
        """Solve again in a new child, because the one with the solution was ended."""
        paths = tuple(path for path in self._query.installed if path.exists())
        again = self._answer(machine, paths)
        self._child, self._number = again._child, again._number  # noqa: SLF001 - of the same class
        if set(map(identity, again.packages)) != set(map(identity, self.packages)):
            raise TaskFailed(
                "the channels have changed while the packages were fetched",
                cause="a second solve found other packages than the first",
                cure="run again",
            )

    def _answer(self, machine: Machine, installed: tuple[Path, ...]) -> RattlerSolution:
        assert isinstance(self._query, Query)  # noqa: S101 - those of `ExactSolution` are others
        return _solve(machine, msgspec.structs.replace(self._query, installed=installed), cached_only=False)

    def close(self) -> None:
        """Release the child."""
        self._child.release()


class ExactSolution(RattlerSolution):
    """The exact packages of a lock, which are all fetched and checked before the first is linked."""

    _query: ExactQuery
    listed_in = "the lock"
    verifies = True

    def rehearse(self, machine: Machine, prefix: Path, *, reinstall: Collection[str] = ()) -> None:
        """Fetch the new packages, then link them into a temporary folder if the environment exists."""
        self._fetch(machine, prefix, coming(prefix, self.packages, reinstall))
        super().rehearse(machine, prefix)

    def install(
        self, machine: Machine, prefix: Path, *, requested: Iterable[str], reinstall: Iterable[str] = ()
    ) -> None:
        """See `Solution`."""
        reinstall = set(reinstall)
        try:
            # A damaged package has left the cache since the rehearsal.
            self._fetch(machine, prefix, coming(prefix, self.packages, reinstall))
        except BaseException:
            self.close()
            raise
        super().install(machine, prefix, requested=requested, reinstall=reinstall)

    def _fetch(self, machine: Machine, prefix: Path, packages: list[Package]) -> None:
        cache = package_cache(machine, prefix)
        missing = {(cache, *identity(package)) for package in packages if not is_in(cache, package)}
        with _held(machine, missing):
            packages = [package for package in packages if not is_in(cache, package)]  # others fetched some meanwhile
            kept = [package for package in packages if package.url in machine.archives]
            here = {package.name: machine.archives[package.url] for package in kept}
            places = {package.name: str(here.get(package.name) or archive_of(package) or "") for package in packages}
            request = FetchRequest(
                solution=self._number,
                prefix=os.path.abspath(prefix),
                cache=str(cache),
                archives=places,
                offline=machine.conda.condarc.offline,
                verify=machine.conda.condarc.ssl_verify is not False,
                silence=_silence(machine, self._query),
            )
            if packages:
                network.retry(machine, lambda _: self._call(machine, prefix, request), cached=False)
            machine.archives.release(package.url for package in kept)

    def _answer(self, machine: Machine, installed: tuple[Path, ...]) -> RattlerSolution:
        return exact(machine, msgspec.structs.replace(self._query, installed=installed))


def load(machine: Machine, channels: Sequence[str], cuda: str | None) -> None:
    """Start the child process that will serve queries of these channels; it loads the library meanwhile.

    Args:
        machine: The machine.
        channels: The URLs of the channels; one with a password gets a child of its own, which is not started here.
        cuda: The version of CUDA to solve for; None for the machine's.

    """
    from nbprovision.system.process import hire

    if not any(map(has_credentials, channels)):
        hire(MODULE, {**child_environment(machine, channels), **platform.cuda_override(cuda, machine.env)})


def solve(machine: Machine, query: Query) -> RattlerSolution:
    """Work out the packages that an environment will contain.

    Args:
        machine: The machine, for conda's configuration and the caches.
        query: The query.

    Raises:
        NetworkFailed: a channel cannot be reached and is not cached.
        TaskFailed: there is no solution, a channel cannot be read, or a spec is invalid.

    """
    return network.retry(machine, lambda cached_only: _solve(machine, query, cached_only=cached_only))


def exact(machine: Machine, query: ExactQuery) -> ExactSolution:
    """Prepare exact packages without a solver and without the network.

    Args:
        machine: The machine, for conda's configuration and the caches.
        query: The query.

    Raises:
        TaskFailed: a package is invalid, or needs what this machine does not have, such as a newer glibc.

    """
    credentials: dict[str, Any] = {}
    for url in filter(has_credentials, query.credentials):
        clean, hosts = take_credentials(url)
        if any(f"{place}/".startswith(f"{clean.rstrip('/')}/") for place in query.channels):
            credentials = {**hosts, **credentials}
    request = ExactRequest(
        locked=list(query.locked),
        kept=list(query.kept),
        installed=[str(path) for path in query.installed],
        verify=machine.conda.condarc.ssl_verify is not False,
        credentials=credentials,
    )
    env = {**child_environment(machine, query.channels), **query.variables}
    child, answer = _asked(machine, request, env)
    return ExactSolution(query, child, answer["solution"], _packages(answer))


def _solve(machine: Machine, query: Query, *, cached_only: bool) -> RattlerSolution:
    split = [take_credentials(url) for url in query.channels]
    clean = [url for url, _ in split]
    credentials = {host: secret for _, hosts in split for host, secret in hosts.items()}
    request = SolveRequest(
        attempts=query.attempts,
        channels=clean,
        shown=[secrets.mask(url) for url in clean],
        installed=[str(path) for path in query.installed],
        unlocked=list(query.unlocked),
        repodata=str(machine.cache / "repodata"),
        offline=cached_only or machine.conda.condarc.offline,
        verify=machine.conda.condarc.ssl_verify is not False,
        credentials=credentials,
        other_builds=query.other_builds,
        unmet=query.unmet,
        silence=None if cached_only else _silence(machine, query),
        retries=network.quick_retries(machine),
    )
    env = {**child_environment(machine, query.channels), **query.variables}
    try:
        child, answer = _asked(machine, request, env)
    except TaskFailed as error:
        if request.offline:
            raise
        what = f"cannot read the channel {' or '.join(map(secrets.mask, query.channels))}"
        raise _explained(error, what, machine, query) from error
    return RattlerSolution(query, child, answer["solution"], _packages(answer))


def _asked(machine: Machine, request: SolveRequest | ExactRequest, env: Mapping[str, str]) -> tuple[Child, Any]:
    """A child, and its answer."""
    from nbprovision.system.process import Child, hire

    # A child that gets a password serves no other query.
    child = Child(MODULE, env=env) if request.credentials else hire(MODULE, env)
    try:
        return child, child.call(request, lambda message: None, machine.timeout)
    except BaseException:
        child.release()
        raise


def _packages(answer: Any) -> tuple[Package, ...]:
    return msgspec.convert(tuple(answer["packages"]), tuple[Package, ...])


def _silence(machine: Machine, query: Query | ExactQuery) -> float | None:
    remote = any(url.startswith(("http://", "https://")) for url in query.channels)
    return network.timeout(machine.env) if remote else None


def _explained(error: TaskFailed, what: str, machine: Machine, query: Query | ExactQuery) -> TaskFailed:
    """The child's error, as a `NetworkFailed` if the network is the cause."""
    if not isinstance(error, ChildEnded):
        return by_network(what, error.cause, machine, query.channels) or error
    server = _server(error.cause, query.channels)
    if server is None or error.status != SILENT:
        return error
    return NetworkFailed(what, "silent", server, url=server.url, said=error.cause.partition(": ")[2])


def by_network(what: str, said: str, machine: Machine, channels: Iterable[str]) -> NetworkFailed | None:
    """The failure of the network that an engine's message describes, None if it describes another one.

    Args:
        what: The message of the error.
        said: The engine's message, masked.
        machine: The machine, for its proxies.
        channels: URLs that the engine may have fetched from.

    """
    server = _server(said, channels)
    if server is None:
        return None
    return network_failure(what, said, server, child_environment(machine, [server.url]))


def _server(said: str, channels: Iterable[str]) -> Server | None:
    """The channel whose URL a message contains, else the first that is on a server."""
    remote = [url for url in channels if url.startswith(("http://", "https://"))]
    named = [url for url in remote if take_credentials(url)[0].rstrip("/") in said]
    return Server("channel", (named or remote)[0]) if remote else None


def attempts(
    machine: Machine,
    prefix: Path,
    specs: list[Spec],
    details: dict[str, Details],
    torn: list[CondaRecord],
    claimed: Collection[str],
    protected: Collection[str] = (),
) -> list[Attempt]:
    """The attempts at a solution, each of which lets more of the installed packages change.

    In the first attempt no ``protected`` package changes at all.

    Installed packages stay in all attempts but the last, which may remove packages that nobody requested. Python keeps
    its minor version unless the task names Python: another version would leave behind the packages that pip installed.
    """
    wanted = [_for_solver(spec, machine) for spec in specs]
    names = {spec.name for spec in specs}
    # Bare names too: the solver loads only packages that match a spec, and would take a version from a channel of lower
    # priority although the preferred one has the name.
    bare = sorted(names)
    others = {name: text for name, text in health.requested(details).items() if name not in names}
    constraints = _pins(machine, prefix)
    if "python" in details and "python" not in names:
        constraints.append(f"python {'.'.join(details['python'].version.split('.')[:2])}.*")
    pinned = [name for name in details if normalized(name) in claimed]
    exact = [f"{record.name}=={record.version}={record.build}" for record in torn if record.name not in names]
    lost = [record.name for record in torn]
    all_stays = Attempt(
        specs=[*wanted, *bare, *sorted({*details, *lost}), *exact],
        keep=list(others.values()),
        constraints=constraints,
        pinned=pinned,
    )
    return [
        *([msgspec.structs.replace(all_stays, pinned=[*pinned, *protected])] if protected else []),
        all_stays,
        Attempt(specs=[*wanted, *bare, *sorted({*details, *lost})], constraints=constraints),
        Attempt(specs=[*wanted, *bare, *sorted({*others, *lost})], constraints=constraints),
    ]


def exact_attempt(
    machine: Machine, prefix: Path, specs: list[Spec], kept: Iterable[str], claimed: Collection[str]
) -> Attempt:
    """The attempt at an environment with only the requested packages and their dependencies."""
    return Attempt(
        specs=[*(_for_solver(spec, machine) for spec in specs), *sorted({spec.name for spec in specs} | set(kept))],
        constraints=_pins(machine, prefix),
        pinned=[name for name in kept if normalized(name) in claimed],
    )


def _pins(machine: Machine, prefix: Path) -> list[str]:
    specs = map(parse, health.pinned(prefix, machine.conda.condarc))
    return [_for_solver(spec, machine) for spec in specs if spec is not None]


def _for_solver(spec: Spec, machine: Machine) -> str:
    if spec.channel is None:
        return spec.text
    return f"{machine.conda.condarc.urls(spec.channel)[0]}::{spec.bare}"


def package_cache(machine: Machine, prefix: Path) -> Path:
    """The package cache: conda's own if one is configured and writable, else nbprovision's.

    Environments share files with it by hard links, so a cache on the file system of ``prefix`` is preferred.
    """
    device = existing(prefix).stat().st_dev
    for folder in sorted(
        machine.conda.configured_pkgs_dirs, key=lambda folder: existing(folder).stat().st_dev != device
    ):
        nearest = existing(folder)
        # Root's environments take no package that somebody else can change.
        if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK) and not trust.fault(folder):
            return folder
    own = machine.cache_near(prefix) / "pkgs"
    trust.place(own, "take packages from")
    return own


def evict(machine: Machine, source: Path) -> None:
    """Remove a damaged package from the cache, so that it is fetched again; a folder elsewhere stays."""
    own = (machine.cache / "pkgs", *(folder / "pkgs" for folder in caches.folders(machine)))
    if source.parent in (*machine.conda.configured_pkgs_dirs, *own):
        remove(source)


def usable(machine: Machine) -> bool:
    """Whether py-rattler can be loaded on this machine: a slow check, made after a failure."""
    words = [sys.executable, "-I", "-c", "import rattler"]
    return commands.run(words, env=child_environment(machine), accept=range(-64, 256)).status == 0


def child_environment(machine: Machine, channels: Iterable[str] = ()) -> dict[str, str]:
    """The child's variables, with conda's settings of certificates and proxies in the form that the library reads.

    Args:
        machine: The machine, for its variables and conda's configuration.
        channels: URLs to fetch from.

    Raises:
        TaskFailed: the channels need more proxies than the library supports.

    """
    env = dict(machine.env)
    for name in ("PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT", "SUDO_UID"):
        env.pop(name, None)
    if not env.get("SSL_CERT_FILE"):
        verify = machine.conda.condarc.ssl_verify
        bundle = verify if isinstance(verify, str) else env.get("REQUESTS_CA_BUNDLE") or env.get("CURL_CA_BUNDLE")
        if bundle and bundle != "truststore" and os.path.isfile(bundle):
            env["SSL_CERT_FILE"] = bundle
    if machine.conda.condarc.proxy_servers:
        return proxy_environment(env, machine.conda.condarc.proxy_servers, channels)
    return env


def proxy_environment(env: Mapping[str, str], proxies: Mapping[str, str], channels: Iterable[str]) -> dict[str, str]:
    """``env`` with conda's ``proxy_servers`` as the variables that the library reads, instead of its own proxies.

    conda passes them to requests and ignores the variables (``CondaSession`` in ``conda/gateways/connection``). For a
    URL requests takes the most precise of ``scheme://host``, ``scheme``, ``all://host`` and ``all``.

    Args:
        env: The environment variables.
        proxies: ``proxy_servers``.
        channels: URLs to fetch from, whose hosts may have their own proxies.

    Raises:
        TaskFailed: two hosts need different proxies, and there is one variable.

    """
    for proxy in proxies.values():
        secrets.remember_url(proxy)
    result = {name: value for name, value in env.items() if name.lower() not in _PROXY_VARIABLES}
    direct: set[str] = set()
    for scheme in ("http", "https"):
        hosts = sorted({urlsplit(url).hostname or "" for url in channels if url.startswith(f"{scheme}://")})
        chosen = {host: _proxy_of(proxies, scheme, host) for host in hosts}
        direct |= {host for host, proxy in chosen.items() if proxy is None}
        used = {proxy for proxy in chosen.values() if proxy is not None}
        general = _proxy_of(proxies, scheme, "")
        if not used and general is not None:
            used = {general}
        if len(used) > 1:
            raise TaskFailed(
                f"the channels {' and '.join(hosts)} need different proxies",
                cause="`proxy_servers` in conda's configuration has one for each, and the built-in engine supports one",
                cure="write engine: conda, or use one proxy for all channels",
            )
        for proxy in used:
            text = proxy if "://" in proxy else f"http://{proxy}"
            result[f"{scheme}_proxy"] = result[f"{scheme.upper()}_PROXY"] = text
    if direct:
        result["no_proxy"] = result["NO_PROXY"] = ",".join(sorted(direct))
    return result


def _proxy_of(proxies: Mapping[str, str], scheme: str, host: str) -> str | None:
    """``requests.utils.select_proxy``."""
    keys = (f"{scheme}://{host}", scheme, f"all://{host}", "all")
    return next((proxies[key] for key in keys if proxies.get(key)), None)

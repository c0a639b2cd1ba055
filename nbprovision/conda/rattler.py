"""The built-in conda engine, py-rattler, in a child process of its own.

A child solves, keeps what it solved, and installs it when told to: it loads the library once, and reads a channel once,
for all environments of a run that are at work side by side. A child that is forgotten (a run with ``--check``, a
failure) is killed, which is also the only way to stop an install: cancelling the wait for it would leave its threads at
work.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from nbprovision.conda import bookkeeping, health
from nbprovision.conda.engine import Attempt, InstallRequest, Package, Query, RehearseRequest, SolveRequest
from nbprovision.conda.health import Details
from nbprovision.conda.incoming import Solution, coming, mark
from nbprovision.conda.specs import Spec, parse
from nbprovision.machine import caches, network, protection
from nbprovision.machine.distributions import normalized
from nbprovision.machine.environments import META, CondaRecord, installed
from nbprovision.machine.network import NetworkFailed, Server, network_failure
from nbprovision.model.errors import TaskFailed
from nbprovision.system import commands, secrets, trust
from nbprovision.system.disk_space import beside, require_rest
from nbprovision.system.files import make_folder, remove, temporary_folder
from nbprovision.system.places import existing
from nbprovision.system.process import SILENT, ChildEnded

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine
    from nbprovision.system.process import Child

CHILD = "nbprovision.conda.rattler_child"
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class RattlerSolution(Solution):
    """What an environment will hold, and the child that can bring it about."""

    def __init__(self, query: Query, child: Child, number: int, packages: tuple[Package, ...]) -> None:
        super().__init__(packages)
        self._query = query
        self._child = child
        self._number = number

    def caches(self, machine: Machine, prefix: Path) -> list[Path]:
        """The one that is nearest."""
        return [package_cache(machine, prefix)]

    def install(
        self, machine: Machine, prefix: Path, *, requested: Iterable[str], reinstall: Iterable[str] = ()
    ) -> None:
        """See `Solution`."""
        reinstall = set(reinstall)
        staying = {(one.name, one.version, one.build) for one in self.packages if one.name not in reinstall}
        for record in installed(prefix):
            if (record.name, record.version, record.build) not in staying:
                bookkeeping.correct_paths(record.path)
        request = InstallRequest(
            solution=self._number,
            prefix=os.path.abspath(prefix),
            cache=str(package_cache(machine, prefix)),
            reinstall=sorted(reinstall),
            requested=list(requested),
            verify=machine.conda.condarc.ssl_verify is not False,
            silence=_silence(machine, self._query),
        )

        try:
            # What is in the cache is not fetched in any case.
            network.retry(machine, lambda _: self._call(machine, prefix, request), cached=False)
            mark(self.packages, Path(request.cache))
        finally:
            self.close()

    def rehearse(self, machine: Machine, prefix: Path) -> None:
        """Link what comes into a folder that is removed again, for an existing environment.

        py-rattler unlinks old packages while it still fetches new ones, so that a disk that fills up, or a network that
        fails, would leave half of an environment. The rehearsal also shows to which folders the packages write.
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
                if record.name == "python":  # tells where pure Python packages go
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
                # The engine reports the first fault, and other threads of it go on linking: no removal is the last one.
                self._child.remove_at_end(scratch)
                raise
            protection.refuse_rehearsed(prefix, scratch)
            require_rest(scratch)

    def _call(self, machine: Machine, prefix: Path, request: InstallRequest | RehearseRequest) -> None:
        """Have the child do it; another child where that one had to be ended.

        Raises:
            NetworkFailed: a package could not be fetched.
            TaskFailed: whatever else went wrong.

        """
        if not self._child.alive:
            self._solve_again(machine)
        asked = msgspec.structs.replace(request, solution=self._number, retries=network.quick_retries(machine))
        try:
            self._child.call(asked, _teller(machine, prefix), machine.timeout)
        except TaskFailed as error:
            what = f"the packages could not be installed into {prefix}"
            raise _explained(error, what, machine, self._query) from error

    def _solve_again(self, machine: Machine) -> None:
        """With a new child, as the one that knew the solution had to be ended."""
        installed = tuple(path for path in self._query.installed if path.exists())
        again = _solve(machine, msgspec.structs.replace(self._query, installed=installed), cached_only=False)
        self._child, self._number = again._child, again._number  # noqa: SLF001 - of the same class
        if {(one.name, one.version, one.build) for one in again.packages} != {
            (one.name, one.version, one.build) for one in self.packages
        }:
            raise TaskFailed(
                "the channels have changed while the packages were fetched",
                cause="a second solve found other packages than the first",
                cure="run once more",
            )

    def close(self) -> None:
        """Let the child go."""
        self._child.release()


def _teller(machine: Machine, prefix: Path) -> Callable[[dict[str, Any]], None]:
    def tell(message: dict[str, Any]) -> None:
        machine.progress(f"{prefix.name}: {message['text']}", message["done"], message["total"])

    return tell


def solve(machine: Machine, query: Query) -> RattlerSolution:
    """Work out what an environment will hold.

    Args:
        machine: Configuration of conda, caches.
        query: What is asked.

    Raises:
        NetworkFailed: a channel cannot be reached, nor has it been kept.
        TaskFailed: no answer, a channel that cannot be read, a spec that cannot be.

    """
    return network.retry(machine, lambda cached_only: _solve(machine, query, cached_only=cached_only))


def _solve(machine: Machine, query: Query, *, cached_only: bool) -> RattlerSolution:
    from nbprovision.system.process import Child, hire

    clean: list[str] = []
    credentials: dict[str, Any] = {}
    for url in query.channels:
        bare, found = take_credentials(url)
        clean.append(bare)
        credentials.update(found)
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
    # One that is told a password is nobody else's.
    child = Child(CHILD, env=env) if credentials else hire(CHILD, env)
    try:
        answer = child.call(request, lambda message: None, machine.timeout)
    except TaskFailed as error:
        child.release()
        if request.offline:
            raise
        what = f"cannot read the channel {' or '.join(map(secrets.mask, query.channels))}"
        raise _explained(error, what, machine, query) from error
    except BaseException:
        child.release()
        raise
    packages = msgspec.convert(tuple(answer["packages"]), tuple[Package, ...])
    return RattlerSolution(query, child, answer["solution"], packages)


def _silence(machine: Machine, query: Query) -> float | None:
    remote = any(url.startswith(("http://", "https://")) for url in query.channels)
    return network.timeout(machine.env) if remote else None


def _explained(error: TaskFailed, what: str, machine: Machine, query: Query) -> TaskFailed:
    """What the child reported, as a failure of the network where that is what it is."""
    if not isinstance(error, ChildEnded):
        return by_network(what, error.cause, machine, query.channels) or error
    server = _server(error.cause, query.channels)
    if server is None or error.status != SILENT:
        return error
    return NetworkFailed(what, "silent", server, url=server.url, said=error.cause.partition(": ")[2])


def by_network(what: str, said: str, machine: Machine, channels: Iterable[str]) -> NetworkFailed | None:
    """Tell whether an engine failed by the network, from its own words.

    Args:
        what: What failed.
        said: The engine's words, masked.
        machine: Its proxies.
        channels: URLs that it may have fetched from.

    """
    server = _server(said, channels)
    if server is None:
        return None
    return network_failure(what, said, server, child_environment(machine, [server.url]))


def _server(said: str, channels: Iterable[str]) -> Server | None:
    """Of several channels that are servers the one whose URL is named."""
    remote = [url for url in channels if url.startswith(("http://", "https://"))]
    named = [url for url in remote if take_credentials(url)[0].rstrip("/") in said]
    return Server("channel", (named or remote)[0]) if remote else None


def questions(
    machine: Machine,
    prefix: Path,
    specs: list[Spec],
    details: dict[str, Details],
    torn: list[CondaRecord],
    claimed: Collection[str],
    protected: Collection[str] = (),
) -> list[Attempt]:
    """What to ask of the solver, each question asking for less to stay as it is than the one before.

    In the first one nothing ``protected`` moves at all.

    What is installed stays in all of them but the last, where a package goes that nobody asked for and that stands in
    the way. Python keeps its minor version unless the task names Python: another one would leave behind what pip
    installed.
    """
    wanted = [_for_solver(spec, machine) for spec in specs]
    names = {spec.name for spec in specs}
    # Bare names besides: the solver loads only what matches a spec, and would take a version from a channel of lower
    # priority where the preferred one has the name.
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


def exact_question(
    machine: Machine, prefix: Path, specs: list[Spec], kept: Iterable[str], claimed: Collection[str]
) -> Attempt:
    """What to ask of the solver where nothing shall be there but what is asked for and what that needs."""
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
    """Where packages are kept: conda's own cache if one is configured and can be written, else the tool's.

    Environments share files with it by hard links, so one on the file system of ``prefix`` is preferred.
    """
    device = existing(prefix).stat().st_dev
    for folder in sorted(
        machine.conda.configured_pkgs_dirs, key=lambda folder: existing(folder).stat().st_dev != device
    ):
        nearest = existing(folder)
        # A package that somebody else can change is not for an environment of root's.
        if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK) and not trust.fault(folder):
            return folder
    own = machine.cache_near(prefix) / "pkgs"
    trust.place(own, "take packages from")
    return own


def evict(machine: Machine, source: Path) -> None:
    """Take a harmed package from the cache, so that it is fetched again; a folder elsewhere is left alone."""
    own = (machine.cache / "pkgs", *(folder / "pkgs" for folder in caches.folders(machine)))
    if source.parent in (*machine.conda.configured_pkgs_dirs, *own):
        remove(source)


def usable(machine: Machine) -> bool:
    """Whether py-rattler can be loaded on this machine; it takes a while, and is asked where something went wrong."""
    words = [sys.executable, "-I", "-c", "import rattler"]
    return commands.run(words, env=child_environment(machine), accept=range(-64, 256)).status == 0


def child_environment(machine: Machine, channels: Iterable[str] = ()) -> dict[str, str]:
    """The variables of the child: what conda knows of certificates and proxies, in the words that the library knows.

    Args:
        machine: Its variables, and conda's configuration.
        channels: URLs that are fetched from.

    Raises:
        TaskFailed: there are more proxies than the library can be told of.

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


def take_credentials(url: str) -> tuple[str, Mapping[str, Any]]:
    """Part a channel's URL from the token or password in it, so that neither gets into a record or a log.

    Returns:
        The URL without them, and rattler's form of the credentials (host, whatever the port, to what it asks for).

    """
    parts = urlsplit(url)
    if not parts.hostname:
        return url, {}
    host = parts.hostname + (f":{parts.port}" if parts.port else "")
    words = parts.path.split("/")
    credentials: dict[str, Any] = {}
    if len(words) > 2 and words[1] == "t":
        credentials = {parts.hostname: {"CondaToken": words[2]}}
        secrets.remember(words[2])
        words = ["", *words[3:]]
    elif parts.password is not None:
        user, password = unquote(parts.username or ""), unquote(parts.password)
        credentials = {parts.hostname: {"BasicHTTP": {"username": user, "password": password}}}
        secrets.remember(password)
        secrets.remember_url(url)
    return urlunsplit((parts.scheme, host, "/".join(words), parts.query, "")), credentials


def proxy_environment(env: Mapping[str, str], proxies: Mapping[str, str], channels: Iterable[str]) -> dict[str, str]:
    """``env`` with conda's ``proxy_servers``, as the variables that the library heeds, in place of its own proxies.

    conda hands them to requests and lets no variable count beside them (``CondaSession`` in
    ``conda/gateways/connection``). For a URL requests takes the most precise of ``scheme://host``, ``scheme``,
    ``all://host`` and ``all``.

    Args:
        env: The environment variables.
        proxies: ``proxy_servers``.
        channels: URLs that are fetched from; they decide where a host has a proxy of its own.

    Raises:
        TaskFailed: two hosts need different proxies, for which there is one variable.

    """
    for proxy in proxies.values():
        secrets.remember_url(proxy)
    found = {name: value for name, value in env.items() if name.lower() not in _PROXY_VARIABLES}
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
                cause="`proxy_servers` in conda's configuration names one for each, and the built-in engine knows one",
                cure="write engine: conda, or use one proxy for all channels",
            )
        for proxy in used:
            text = proxy if "://" in proxy else f"http://{proxy}"
            found[f"{scheme}_proxy"] = found[f"{scheme.upper()}_PROXY"] = text
    if direct:
        found["no_proxy"] = found["NO_PROXY"] = ",".join(sorted(direct))
    return found


def _proxy_of(proxies: Mapping[str, str], scheme: str, host: str) -> str | None:
    """``requests.utils.select_proxy``."""
    keys = (f"{scheme}://{host}", scheme, f"all://{host}", "all")
    return next((proxies[key] for key in keys if proxies.get(key)), None)

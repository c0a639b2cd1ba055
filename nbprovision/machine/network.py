"""Failures of the network: why a server could not be reached, and when to wait, retry or use the cache.

What an engine printed becomes a kind of failure with a reason and a fix. The engines retry each file themselves, a few
times and quickly. The retries here begin where they give up: a server restarts, or a starting machine has no network
yet. Nothing else of the tool waits for a network.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from nbprovision.model.errors import TaskFailed
from nbprovision.system.files import read_text
from nbprovision.system.log import event
from nbprovision.system.secrets import mask

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

Kind = Literal[
    "credentials", "forbidden", "missing", "proxy", "busy", "server", "portal", "dns", "refused", "route", "silent",
    "cut", "certificate", "garbled", "unclear",
]  # fmt: skip


class Server(NamedTuple):
    """Where an engine fetched from.

    Attributes:
        what: ``index`` or ``channel``.
        url: Of the index or channel, password included.
        proxy: URL of the proxy, where the environment's variables do not say.

    """

    what: Literal["index", "channel"]
    url: str
    proxy: str | None = None

    def __repr__(self) -> str:
        """Without the password: a traceback prints it."""
        return f"Server({self.what} {mask(self.url)})"


class NetworkFailed(TaskFailed):
    """A server could not be reached, or did not answer as it should.

    Args:
        message: What failed.
        kind: In which way.
        url: What was asked for.
        said: The engine's own words.
        status: The HTTP status, where there was an answer.
        proxy: What the request went by, empty for none.

    """

    remote = True

    def __init__(
        self,
        message: str,
        kind: Kind,
        server: Server,
        *,
        url: str,
        said: str,
        status: int | None = None,
        proxy: str = "",
    ) -> None:
        why, cure = _WORDS[kind]
        names = {
            "url": mask(url),
            "server": mask(server.url),
            "host": _host(url),
            "what": server.what,
            "status": f" (status {status})" if status else "",
            "sent": "and does not take those that were sent"
            if _has_password(server.url, url)
            else "and none were sent",
            **_NAMING[server.what],
        }
        self.reason = why.format(**names)
        if proxy and kind not in ("credentials", "forbidden", "missing", "busy", "server"):
            self.reason += f", by the proxy {mask(proxy)}"
        super().__init__(message, cause="\n".join(filter(None, (self.reason, said))), cure=cure.format(**names))
        self.kind = kind

    @property
    def passing(self) -> bool:
        """Whether it may be otherwise in a moment."""
        return self.kind not in ("credentials", "forbidden", "missing", "proxy", "certificate")

    @property
    def absent(self) -> bool:
        """Whether nobody answered who is to be heeded, so that what is in the cache is the best that is known."""
        return self.kind not in ("credentials", "forbidden", "missing", "garbled")


_NAMING = {
    "index": {"give": "in the URL (ensure_pip_index sets it)", "another": "name another by ensure_pip_index"},
    "channel": {
        "give": "in the channel's URL, or in the file that RATTLER_AUTH_FILE names",
        "another": "name another channel",
    },
}
# Why, and what to do.
_WORDS: Mapping[Kind, tuple[str, str]] = {
    "credentials": (
        "{url} asks for a user and password, {sent}{status}",
        "give credentials (user and password, or a token that has not expired) {give}",
    ),
    "forbidden": (
        "{url} refuses access{status}",
        "check that the user or token may read this {what} (give it {give}), and that no proxy or firewall refuses it",
    ),
    "missing": (
        "{url} does not exist{status}",
        "correct the {what}'s URL or the name of the package: {server} was asked",
    ),
    "proxy": (
        "the proxy on the way to {url} asks for a user and password{status}",
        "give them in https_proxy and http_proxy: http://USER:PASSWORD@HOST:PORT",
    ),
    "busy": (
        "{url} has too much to do{status}",
        "run again later, or {another}; NBPROVISION_NETWORK_PATIENCE says how long a run may wait",
    ),
    "server": (
        "{url} failed{status}",
        "run again later, or {another}; only those who run {host} can repair it",
    ),
    "portal": (
        "{url} did not answer as a package {what} does; it may be a login page of the network",
        (
            "open {url} in a browser and log in if the network asks for it, set https_proxy, or correct the URL or the "
            "name of the package"
        ),
    ),
    "dns": (
        "the name {host} cannot be resolved",
        "check the spelling of {host}, and that this machine has a network and a name server; https_proxy sets a proxy",
    ),
    "refused": (
        "{host} refuses the connection",
        "check that the port of {server} is right and the server runs; https_proxy sets a proxy",
    ),
    "route": (
        "no route leads to {host}",
        "check that this machine has a network (in a VPC: a route or an endpoint); https_proxy sets a proxy",
    ),
    "silent": (
        "{url} gave no answer in time",
        (
            "check that {server} can be reached from here (firewall? https_proxy?), or {another}; "
            "NBPROVISION_NETWORK_TIMEOUT says how many seconds of silence are too many"
        ),
    ),
    "cut": (
        "the connection to {host} was cut in the middle of an answer",
        "run again: what has been fetched is kept; if it happens again, check the proxy or firewall on the way",
    ),
    "certificate": (
        "the certificate of {host} is not trusted",
        (
            "name the file of the authority that signed it: `cert` of ensure_pip_index, `ssl_verify` of "
            "ensure_condarc, or SSL_CERT_FILE"
        ),
    ),
    "garbled": (
        "what came from {server} is not what it should be",
        (
            "run again; if it happens again, a proxy or login page changes what is fetched, or the file on the server "
            "is damaged or has been tampered with: compare its hash with the one that its author publishes"
        ),
    ),
    "unclear": (
        "{url} did not answer as it should",
        "run again; if it happens again, check the proxy or firewall on the way to {host}",
    ),
}

_KINDS: Mapping[int, Kind] = {
    401: "credentials", 403: "forbidden", 404: "missing", 407: "proxy", 410: "missing", 429: "busy", 503: "busy",
}  # fmt: skip
_STATUS = re.compile(
    r"(?:HTTP|error:?|returned a|too many)[ (]+([45]\d\d)\b|\b([45]\d\d) (?:Client|Server) Error"
    r"|\(([45]\d\d) [A-Z][a-z]"
)
# What uv, pip, rattler and conda print, and which kind of failure that is; the first that matches counts.
_RECOGNISED: tuple[tuple[str, Kind], ...] = (
    (r"peer certificate|certificate verify|SSLError", "certificate"),
    (r"dns error|name resolution|name or service not known|getaddrinfo", "dns"),
    (r"connection refused|(?:os error|errno) 111\b", "refused"),
    (r"network is unreachable|no route to host", "route"),
    (r"timed out|ReadTimeout|ConnectTimeout|connection-timeout|respond within", "silent"),
    (r"end of file before|response body|IncompleteRead|incomplete-download|prematurely|broken pipe", "cut"),
    (r"connection (?:was )?(?:reset|abort|broken)|before message completed", "cut"),
    (r"hash mismatch|match the hashes|invalid package format|zip archive|BadZipFile|ChecksumMismatch", "garbled"),
    (r"failed to decode|unknown frame|expected value|JSONDecodeError", "portal"),
    (r"error sending request|max retries exceeded|proxyerror|connection ?error|CondaHTTPError", "unclear"),
)
# What uv and pip print of a page of an index that lists no file.
_EMPTY_PAGE = re.compile(r"there are no versions of|\(from versions: none\)")
_URL = re.compile(r"https?://[^\s'\"`()<>,;#]+[^\s'\"`()<>,;.:#]")
_FILE = re.compile(r"\.(?:whl|gz|zip|bz2|conda|zst|json|metadata)$")


def network_failure(message: str, said: str, server: Server, env: Mapping[str, str]) -> NetworkFailed | None:
    """Tell whether an engine failed by the network, and in which way.

    Args:
        message: What failed.
        said: The engine's words, masked.
        server: Where it fetched from; ``file:`` is not a network.
        env: The variables of the engine, which name proxies.

    Returns:
        The error; None where the network is not the matter.

    """
    if not server.url.startswith(("http://", "https://")):
        return None
    url = _url_in(said, server)
    found = _STATUS.search(said)
    status = int(next(filter(None, found.groups()))) if found else None
    kind: Kind | None
    if status is not None:
        kind = _KINDS.get(status, "server")
        if kind == "missing" and server.what == "index" and not _FILE.search(url):
            return None  # the index answers, and has no such package
    else:
        kind = next((kind for words, kind in _RECOGNISED if re.search(words, said, re.IGNORECASE)), None)
        if kind is None and server.what == "index" and _EMPTY_PAGE.search(said):
            kind = "portal"
    if kind is None:
        return None
    proxy = _proxy(url, server, env)
    return NetworkFailed(message, kind, server, url=url, said=said, status=status, proxy=proxy)


_BUILD = re.compile(r"Running command .*\n((?:.*\n)*?)\S+ +(?:ERROR: .* exited with \d+|error: subprocess-exited)")


def pip_log(temporary: Mapping[str, str]) -> dict[str, str]:
    """The variable by which pip writes a log into its folder for temporary files, where it has one."""
    return {"PIP_LOG": f"{temporary['TMPDIR']}/pip.log"} if temporary else {}


def only_logged(log: Mapping[str, str]) -> str:
    """What pip says in its log alone: why it could not read pages of an index, and what a failed build printed.

    A missing page comes last, as it may be the least of the faults. With a log, pip takes a build's output for shown.
    """
    text = (read_text(Path(log["PIP_LOG"])) if log else None) or ""
    pages = dict.fromkeys(re.findall(r"Could not fetch URL .*", text))
    builds = _BUILD.findall(text)
    output = [line.partition(" ")[2].strip() for line in builds[-1].splitlines()] if builds else []
    return "\n".join([*sorted(pages, key=lambda line: "404 Client Error" in line), *output])


def _has_password(*urls: str) -> bool:
    """Whether a user was in one of the URLs; what keyrings and files of passwords add is not seen here."""
    return any("@" in url.partition("://")[2].partition("/")[0] for url in urls)


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return (parts.hostname or url) + (f":{parts.port}" if parts.port else "")


def _url_in(said: str, server: Server) -> str:
    """The URL that the engine names: of a package, whose host may be another one, or of something on the server."""
    named: list[str] = _URL.findall(said)
    exact = (url for url in named if _FILE.search(url) or _host(url) == _host(server.url))
    return next((url for url in exact if url.rstrip("/") != server.url.rstrip("/")), server.url)


def _proxy(url: str, server: Server, env: Mapping[str, str]) -> str:
    """The proxy on the way to ``url``; empty for none."""
    import urllib.request
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    names = (f"{parts.scheme}_proxy", "no_proxy")
    proxy, bypassed = (env.get(name) or env.get(name.upper()) or "" for name in names)
    if urllib.request.proxy_bypass_environment(parts.hostname or "", {"no": bypassed}):  # type: ignore[attr-defined]
        return ""
    return server.proxy or proxy


T = TypeVar("T")

TIMEOUT = 15.0  # seconds without a byte after which an answer is given up; pip's default
PATIENCE = 60.0  # seconds that all tasks of a run together may lose to a network; a start script has 300
QUICK_RETRIES = 3  # the usual number of uv and py-rattler
_LONGEST_PAUSE = 16.0
# What a server has wrong stays wrong, and a name that is not there does not come to be there.
_FEW_TRIES = {"garbled": 2, "portal": 2, "dns": 2}


def timeout(env: Mapping[str, str]) -> float:
    """Seconds of silence after which an answer is given up: ``NBPROVISION_NETWORK_TIMEOUT``.

    Raises:
        TaskFailed: the variable is not a number.

    """
    return max(_number("NBPROVISION_NETWORK_TIMEOUT", env, TIMEOUT), 1.0)


class Patience:
    """The seconds that a run may still lose to failed attempts, and to waiting between them."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self._left <= 0

    def spend(self, lost: float, wait: float) -> bool:
        """Whether there is room to wait after ``lost`` seconds have gone."""
        with self._lock:
            self._left -= lost
            if self._left < wait:
                return False
            self._left -= wait
            return True


def patience(machine: Machine) -> Patience:
    """What is left of the run's patience, which begins with ``NBPROVISION_NETWORK_PATIENCE`` seconds.

    Raises:
        TaskFailed: the variable is not a number.

    """
    known = machine.notes.get("network patience")
    if known is None:
        fresh = Patience(_number("NBPROVISION_NETWORK_PATIENCE", machine.env, PATIENCE))
        known = machine.notes.setdefault("network patience", fresh)
    assert isinstance(known, Patience)  # noqa: S101
    return known


def quick_retries(machine: Machine) -> int:
    """How often an engine may ask again itself, for each file, where nothing else is said: not where all is lost."""
    return 0 if patience(machine).over else QUICK_RETRIES


def persistently(machine: Machine, work: Callable[[bool], T], *, cached: bool = True) -> T:
    """Do work that needs a network; where it fails in a way that may pass, again, as long as patience lasts.

    Between attempts there is a pause, each twice as long as the one before and a little at random, as many machines may
    have started together. Where the server stays away, the work is done once more from the engine's caches alone, and
    the result says so: a notebook always starts.

    Args:
        machine: Hears what is waited for.
        work: Told whether to do without the network. To be done as often as wanted.
        cached: Whether it can do without.

    Raises:
        NetworkFailed: the last one, with the number of attempts.
        TaskFailed: whatever else goes wrong.

    """
    began = time.monotonic()
    tries, pause, kinds = 0, 1.0, Counter[str]()
    while True:
        started = time.monotonic()
        try:
            return work(False)
        except NetworkFailed as error:
            tries += 1
            wait = pause * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
            lost = time.monotonic() - started
            if error.kind != "silent":  # most of it may have been work
                lost = min(lost, timeout(machine.env))
            kinds[error.kind] += 1
            again = error.passing and kinds[error.kind] < _FEW_TRIES.get(error.kind, tries + 1)
            again = patience(machine).spend(lost, wait) and again
            event("network", cause=error.reason, tries=tries, wait=round(wait, 1) if again else None)
            if not again:
                return _without_network(machine, work, error, tries, time.monotonic() - began, cached=cached)
            machine.progress(f"{error.reason}; asked again in {wait:.0f} s")
            time.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _without_network(
    machine: Machine, work: Callable[[bool], T], error: NetworkFailed, tries: int, seconds: float, *, cached: bool
) -> T:
    if cached and error.absent:
        try:
            done = work(True)
        except TaskFailed:
            pass
        else:
            machine.note(f"{error.reason}: what is in the cache was used")
            return done
    if tries > 1:
        error.cause = f"{error.cause}\nasked {tries} times in {seconds:.0f} s"
    raise error


def _number(name: str, env: Mapping[str, str], default: float) -> float:
    text = env.get(name, "")
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 86400:
        raise TaskFailed(
            f"{name} is not a number of seconds",
            cause=f"it is '{text}'",
            cure=f"give it a number, such as {default:.0f}",
        )
    return number

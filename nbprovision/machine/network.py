"""Failures of the network: why a server could not be reached, and when to wait, retry or use the cache.

The output of an engine becomes a kind of failure with a reason and a fix. The engines retry each file themselves, a few
times and quickly. The retries here begin when they give up: a server restarts, or a starting machine has no network
yet. Nothing else of the tool waits for a network.
"""

from __future__ import annotations

import contextlib
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
    """The server that an engine fetched from.

    Attributes:
        what: ``index``, ``channel``, ``repository`` (of git), ``file``, or ``CRAN repository``.
        url: Its URL, with the password.
        proxy: The URL of the proxy, if it is not the one of the environment's variables.

    """

    what: Literal["index", "channel", "repository", "file", "CRAN repository"]
    url: str
    proxy: str | None = None

    def __repr__(self) -> str:
        """The server without the password, because tracebacks print it."""
        return f"Server({self.what} {mask(self.url)})"


class NetworkFailed(TaskFailed):
    """A server could not be reached, or did not answer as it should.

    Args:
        message: What failed.
        kind: The kind of failure.
        server: The server.
        url: The requested URL.
        said: The engine's own words.
        status: The HTTP status of the answer; None without an answer.
        proxy: The proxy of the request; empty for none.

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
        self.wait = 0.0  # seconds that the server asks to wait (Retry-After: RFC 9110, 10.2.3)

    @property
    def passing(self) -> bool:
        """Whether a later attempt may succeed."""
        return self.kind not in ("credentials", "forbidden", "missing", "proxy", "certificate")

    @property
    def absent(self) -> bool:
        """Whether no valid answer came, so that the cache is the best source."""
        return self.kind not in ("credentials", "forbidden", "missing", "garbled")


_AUTHORITY = "`cert` of ensure_pip_index, `ssl_verify` of ensure_condarc, or SSL_CERT_FILE"
_NAMING = {
    "index": {
        "give": "in the URL (ensure_pip_index sets it)",
        "another": "name another by ensure_pip_index",
        "wrong": "the index's URL or the name of the package",
        "answer": "a package index",
        "authority": _AUTHORITY,
    },
    "channel": {
        "give": "in the channel's URL, or in the file that RATTLER_AUTH_FILE names",
        "another": "name another channel",
        "wrong": "the channel's URL or the name of the package",
        "answer": "a package channel",
        "authority": _AUTHORITY,
    },
    "repository": {
        "give": "by `credential_helper`, by a credential helper of git, or by a key of ssh",
        "another": "name another server",
        "wrong": "`url`, or give credentials: many servers answer so if it may not be read",
        "answer": "a git repository",
        "authority": "GIT_SSL_CAINFO, or http.sslCAInfo by ensure_git_config",
    },
    "file": {
        "give": "in ~/.netrc: machine HOST login USER password PASSWORD",
        "another": "name another server",
        "wrong": "`url`",
        "answer": "the server of a file",
        "authority": "SSL_CERT_FILE",
    },
    "CRAN repository": {
        "give": "in the URL",
        "another": "name another in `repos`",
        "wrong": "`repos`",
        "answer": "a repository of R packages",
        "authority": "CURL_CA_BUNDLE",
    },
}
# The reason and the fix of each kind.
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
        "correct {wrong}; the server is {server}",
    ),
    "proxy": (
        "the proxy on the way to {url} asks for a user and password{status}",
        "give them in https_proxy and http_proxy: http://USER:PASSWORD@HOST:PORT",
    ),
    "busy": (
        "{url} is overloaded{status}",
        "run again later, or {another}; NBPROVISION_NETWORK_PATIENCE sets how long a run may wait",
    ),
    "server": (
        "{url} failed{status}",
        "run again later, or {another}; only those who run {host} can repair it",
    ),
    "portal": (
        "{url} did not answer as {answer} does; it may be a login page of the network",
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
            "NBPROVISION_NETWORK_TIMEOUT sets the seconds to wait for an answer"
        ),
    ),
    "cut": (
        "the connection to {host} was cut in the middle of an answer",
        "run again: fetched files are kept; if it happens again, check the proxy or firewall on the way",
    ),
    "certificate": (
        "the certificate of {host} is not trusted",
        ("name the file of the authority that signed it: {authority}"),
    ),
    "garbled": (
        "the content from {server} is not the expected one",
        (
            "run again; if it happens again, a proxy or login page changes the content, or the file on the server "
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


def kind_of_status(status: int) -> Kind:
    """The kind of failure that the status of an HTTP answer means."""
    return _KINDS.get(status, "server" if status >= 500 else "unclear")


_STATUS = re.compile(
    r"(?:HTTP|error:?|returned a|too many)[ (]+([45]\d\d)\b|\b([45]\d\d) (?:Client|Server) Error"
    r"|\(([45]\d\d) [A-Z][a-z]"
)
# The output of uv, pip, rattler and conda for each kind of failure; the first match counts.
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
# The output of uv and pip for a page of an index that lists no file.
_EMPTY_PAGE = re.compile(r"there are no versions of|\(from versions: none\)")
_URL = re.compile(r"https?://[^\s'\"`()<>,;#]+[^\s'\"`()<>,;.:#]")
_FILE = re.compile(r"\.(?:whl|gz|zip|bz2|conda|zst|json|metadata)$")


def network_failure(message: str, said: str, server: Server, env: Mapping[str, str]) -> NetworkFailed | None:
    """The error for an engine's failure by the network.

    Args:
        message: What failed.
        said: The engine's words, masked.
        server: The server that it fetched from; ``file:`` is not a network.
        env: The variables of the engine, which name proxies.

    Returns:
        The error; None if the network is not the cause.

    """
    if not server.url.startswith(("http://", "https://")):
        return None
    url = _url_in(said, server)
    match = _STATUS.search(said)
    status = int(next(filter(None, match.groups()))) if match else None
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
    proxy = proxy_of(url, env, server.proxy)
    return NetworkFailed(message, kind, server, url=url, said=said, status=status, proxy=proxy)


_BUILD = re.compile(r"Running command .*\n((?:.*\n)*?)\S+ +(?:ERROR: .* exited with \d+|error: subprocess-exited)")


def pip_log(temporary: Mapping[str, str]) -> dict[str, str]:
    """The variable that makes pip write a log into its folder for temporary files; empty without such a folder."""
    return {"PIP_LOG": f"{temporary['TMPDIR']}/pip.log"} if temporary else {}


def pip_log_output(log: Mapping[str, str]) -> str:
    """The output that pip writes only to its log: unreadable pages of an index, and the output of a failed build.

    A missing page comes last, because it matters least. With a log, pip does not print a build's output.
    """
    text = (read_text(Path(log["PIP_LOG"])) if log else None) or ""
    pages = dict.fromkeys(re.findall(r"Could not fetch URL .*", text))
    builds = _BUILD.findall(text)
    output = [line.partition(" ")[2].strip() for line in builds[-1].splitlines()] if builds else []
    return "\n".join([*sorted(pages, key=lambda line: "404 Client Error" in line), *output])


def _has_password(*urls: str) -> bool:
    """Whether one of the URLs has a user; passwords of keyrings and files do not show here."""
    return any("@" in url.partition("://")[2].partition("/")[0] for url in urls)


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return (parts.hostname or url) + (f":{parts.port}" if parts.port else "")


def _url_in(said: str, server: Server) -> str:
    """The URL in the engine's output: of a package, possibly on another host, or of another file on the server."""
    named: list[str] = _URL.findall(said)
    exact = (url for url in named if _FILE.search(url) or _host(url) == _host(server.url))
    return next((url for url in exact if url.rstrip("/") != server.url.rstrip("/")), server.url)


def proxy_of(url: str, env: Mapping[str, str], given: str | None = None) -> str:
    """The proxy for ``url``, ``given`` or that of the environment variables; empty for none."""
    import urllib.request
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    names = (f"{parts.scheme}_proxy", "no_proxy")
    proxy, bypassed = (env.get(name) or env.get(name.upper()) or "" for name in names)
    if urllib.request.proxy_bypass_environment(parts.hostname or "", {"no": bypassed}):  # type: ignore[attr-defined]
        return ""
    return given or proxy


T = TypeVar("T")

TIMEOUT = 15.0  # seconds without a byte until a request is given up; pip's default
PATIENCE = 60.0  # seconds that all tasks of a run together may lose to network failures; a start script has 300
QUICK_RETRIES = 3  # the default of uv and py-rattler
_LONGEST_PAUSE = 16.0
# A wrong file on a server stays wrong, and a missing name stays missing.
_FEW_TRIES = {"garbled": 2, "portal": 2, "dns": 2}


def timeout(env: Mapping[str, str]) -> float:
    """Seconds of silence until a request is given up: ``NBPROVISION_NETWORK_TIMEOUT``.

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
    def exhausted(self) -> bool:
        """Whether no time is left."""
        return self._left <= 0

    def spend(self, lost: float, wait: float) -> bool:
        """Take ``lost`` seconds, and ``wait`` seconds more if they are left; return whether they are."""
        with self._lock:
            self._left -= lost
            if self._left < wait:
                return False
            self._left -= wait
            return True


def patience(machine: Machine) -> Patience:
    """The run's patience, which begins with ``NBPROVISION_NETWORK_PATIENCE`` seconds.

    Raises:
        TaskFailed: the variable is not a number.

    """
    fresh = Patience(_number("NBPROVISION_NETWORK_PATIENCE", machine.env, PATIENCE))
    current: Patience = machine.notes.setdefault("network patience", fresh)
    return current


def quick_retries(machine: Machine) -> int:
    """The default number of an engine's own retries for each file; 0 once the patience is exhausted."""
    return 0 if patience(machine).exhausted else QUICK_RETRIES


def retry(machine: Machine, work: Callable[[bool], T], *, cached: bool = True) -> T:
    """Do work that needs a network, and retry it after a passing failure as long as the run's patience lasts.

    Pauses between attempts double each time, and vary at random because many machines may start together. If the server
    stays unreachable, the last attempt uses the engine's caches alone, and the result has a note. So a notebook starts
    without a network.

    Args:
        machine: The machine; it reports the waiting.
        work: The work; its argument is whether to avoid the network. It may run any number of times.
        cached: Whether the work can avoid the network.

    Raises:
        NetworkFailed: the last failure, with the number of attempts.
        TaskFailed: any other failure.

    """
    began = time.monotonic()
    tries, pause, kinds = 0, 1.0, Counter[str]()
    while True:
        started = time.monotonic()
        try:
            return work(False)
        except NetworkFailed as error:
            tries += 1
            wait = max(pause * random.uniform(0.75, 1.25), error.wait)  # noqa: S311 - not a secret
            lost = time.monotonic() - started
            if error.kind != "silent":  # most of the time may have been work
                lost = min(lost, timeout(machine.env))
            kinds[error.kind] += 1
            again = error.passing and kinds[error.kind] < _FEW_TRIES.get(error.kind, tries + 1)
            again = patience(machine).spend(lost, wait) and again
            event("network", cause=error.reason, tries=tries, wait=round(wait, 1) if again else None)
            if not again:
                if cached and error.absent:
                    with contextlib.suppress(TaskFailed):
                        result = work(True)
                        machine.note(f"{error.reason}: the cache was used")
                        return result
                if tries > 1:
                    error.cause = f"{error.cause}\n{tries} attempts in {time.monotonic() - began:.0f} s"
                raise
            machine.progress(f"{error.reason}; next attempt in {wait:.0f} s")
            time.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _number(name: str, env: Mapping[str, str], default: float) -> float:
    text = env.get(name) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 86400:
        raise TaskFailed(
            f"{name} is not a number of seconds",
            cause=f"it is '{text}'",
            cure=f"set it to a number, such as {default:.0f}",
        )
    return number

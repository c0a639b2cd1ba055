"""Why a server could not be had: an engine's words, and where they do not tell, one request of our own.

Engines hide much: a login page is "no version of the package" to uv and "an unknown frame" to rattler, and none of them
tells how long a server asks to be left alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Literal, NamedTuple

from nbprovision.model.errors import TaskFailed
from nbprovision.system.secrets import mask

Kind = Literal[
    "credentials", "forbidden", "missing", "proxy", "busy", "server", "portal", "dns", "refused", "route", "silent",
    "cut", "certificate", "garbled", "passing",
]  # fmt: skip

_LONGEST_LOOK = 10.0  # seconds that our own request may take
_ENOUGH = 65536  # bytes of an answer, by which a page is told from a package

# Statuses that another time may be another (RFC 9110, 6585).
_BUSY = (429, 503)
_PASSING = (408, 425, 500, 502, 504)


class Server(NamedTuple):
    """Where an engine fetched from.

    Attributes:
        what: ``index`` or ``channel``.
        url: Of the index or channel, password included.
        cert: File or folder of the authorities to trust, None for the system's.
        verify: Whether its certificate is checked.
        user: User and password, where the URL does not have them.
        proxy: URL of the proxy, where the environment's variables do not say.

    """

    what: Literal["index", "channel"]
    url: str
    cert: str | None = None
    verify: bool = True
    user: tuple[str, str] | None = None
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
        detail: What is known more exactly.
        wait: Seconds that the server asks to be left alone.
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
        detail: str = "",
        wait: float | None = None,
        proxy: str = "",
    ) -> None:
        why, cure = _WORDS[kind]
        names = {
            "url": mask(url),
            "server": mask(server.url),
            "host": _host(url),
            "what": server.what,
            "detail": f" ({detail})" if detail else "",
            "sent": "and does not take those that were sent"
            if _has_password(server.url, url)
            else "and none were sent",
            "wait": f"; it asks to be left alone for {wait:.0f} s" if wait else "",
            **_NAMING[server.what],
        }
        self.reason = why.format(**names)
        if proxy and kind not in ("credentials", "forbidden", "missing", "busy", "server"):
            self.reason += f", by the proxy {mask(proxy)}"
        super().__init__(message, cause="\n".join(filter(None, (self.reason, said))), cure=cure.format(**names))
        self.kind = kind
        self.wait = wait

    @property
    def passing(self) -> bool:
        """Whether it may be otherwise in a moment."""
        return self.kind in ("busy", "server", "dns", "refused", "route", "silent", "cut", "garbled", "passing")

    @property
    def absent(self) -> bool:
        """Whether nobody answered who is to be heeded, so that what is in the cache is the best that is known."""
        return (self.passing and self.kind != "garbled") or self.kind in ("portal", "certificate", "proxy")


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
        "{url} asks for a user and password, {sent} (status 401)",
        "give credentials (user and password, or a token that has not ended) {give}",
    ),
    "forbidden": (
        "{url} refuses access (status 403)",
        "see that the user or token may read this {what} (give it {give}), and that no proxy or firewall refuses it",
    ),
    "missing": (
        "{url} is not there (status 404)",
        "correct the {what}'s URL or the name of the package: {server} was asked",
    ),
    "proxy": (
        "the proxy on the way to {url} asks for a user and password (status 407)",
        "give them in https_proxy and http_proxy: http://USER:PASSWORD@HOST:PORT",
    ),
    "busy": (
        "{url} has too much to do{detail}{wait}",
        "run again later, or {another}; NBPROVISION_NETWORK_PATIENCE says how long a run may wait",
    ),
    "server": (
        "{url} has a fault of its own{detail}",
        "run again later, or {another}; it is for whoever runs {host} to mend",
    ),
    "portal": (
        "{url} gave an HTML page{detail} instead of what a package {what} answers",
        "log in to the network if it asks for that (open the URL in a browser), set https_proxy, or correct the URL",
    ),
    "dns": (
        "the name {host} cannot be resolved{detail}",
        (
            "see that {host} is spelled right and that this machine has a network and a name server; a proxy is set by "
            "https_proxy"
        ),
    ),
    "refused": (
        "{host} refuses the connection",
        "see that the port of {server} is right and the server runs; a proxy is set by https_proxy",
    ),
    "route": (
        "there is no way to {host}{detail}",
        "see that this machine has a network (in a VPC: a route or an endpoint); a proxy is set by https_proxy",
    ),
    "silent": (
        "{url} gave no answer in time{detail}",
        (
            "see that {server} can be reached from here (firewall? https_proxy?), or {another}; "
            "NBPROVISION_NETWORK_TIMEOUT says how many seconds of silence are too many"
        ),
    ),
    "cut": (
        "the connection to {host} was cut in the middle of an answer",
        "run again: what has been fetched is kept; if it stays so, look at the proxy or firewall on the way",
    ),
    "certificate": (
        "the certificate of {host} is not trusted{detail}",
        (
            "name the file of the authority that signed it: `cert` of ensure_pip_index, `ssl_verify` of "
            "ensure_condarc, or SSL_CERT_FILE"
        ),
    ),
    "garbled": (
        "what came from {server} is not what it should be{detail}",
        (
            "run again; if it stays so, a proxy or login page changes what is fetched, or the file on the server is "
            "damaged or has been tampered with: compare its hash with the one that its author publishes"
        ),
    ),
    "passing": (
        "{url} did not answer as it should, and does by now",
        "run again; if it stays so, look at the proxy or firewall on the way to {host}",
    ),
}

_STATUS = re.compile(
    r"status (?:client|server) error \((\d{3})\b|\b(\d{3}) (?:Client|Server) Error\b|HTTP error (\d{3})\b"
    r"|\((401|403) (?:Unauthorized|Forbidden)\)|returned a (403) Forbidden|HTTP ([1-5]\d\d) [A-Z][A-Za-z ]+ for"
    r"|HTTPError: (\d{3})\b"
)
_URL = re.compile(r"https?://[^\s'\"`()<>,;]+[^\s'\"`()<>,;.:]")
# Words of uv, pip, rattler and conda.
_NETWORK = re.compile(
    r"error sending request|error decoding response|request or response body|error trying to connect|tcp connect|"
    r"dns error|failed to lookup|name resolution|name or service not known|timed? ?out|connection (was )?(re|ab)|"
    r"connection ?error|connection broken|connecttimeout|newconnectionerror|maxretryerror|proxyerror|sslerror|"
    r"certificate|failed to fetch:? .?http|request failed after|network is unreachable|no route to host|"
    r"CondaHTTPError|IncompleteRead|ended prematurely|response ended|gave no answer in time",
    re.IGNORECASE,
)
_GARBLED = re.compile(
    r"hash mismatch|do not match the hashes|invalid package format|failed to read from zip|invalid zip|zip archive|"
    r"invalid or truncated|unknown frame|checksum|sha256|failed to decode|expected .* (bytes|hash)|BadZipFile|"
    r"error parsing|expected value|failed to parse|JSONDecodeError",
    re.IGNORECASE,
)
# What uv and pip say where hashes are asked for and a requirement has none: nothing was fetched that could be wrong.
_HASH_WANTED = re.compile(
    r"require-hashes|hashes are required in|must have (?:a hash|their versions pinned)|no trusted hash", re.IGNORECASE
)
# The digest of what came, where it is none of those that somebody listed.
_COMPUTED = re.compile(r"(?:Computed:\s+sha\d+:|\bGot\s+)([0-9a-f]{64,})")
# What uv and pip say where an index knows nothing of a package, or where something else answered in its place.
_NOT_FOUND = re.compile(
    r"was not found in the p|there (is|are) no versions? of|no matching distribution|\(from versions: none\)"
)
_PACKAGE = re.compile(
    r"(?:no versions? of |Because )(?P<uv>(?!there )[A-Za-z0-9._-]+)(?:==(?P<version>[A-Za-z0-9.!+_-]+))?|"
    r"(?:requirement|distribution found for) (?P<pip>[A-Za-z0-9._-]+)|"
    r"mismatch for `(?P<listed>[A-Za-z0-9._-]+)|(?m:^ +(?P<line>[A-Za-z0-9._-]+)\S* from https?://)"
)
_CUT = re.compile(r"end of file before|body|IncompleteRead|prematurely|reset", re.IGNORECASE)
# What need not be asked once more: the engine has waited for it.
_TOLD: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"timed? ?out|no answer in time", re.IGNORECASE), "silent"),
    (re.compile(r"connection refused|os error 111\b|errno 111\b", re.IGNORECASE), "refused"),
)


def network_failure(
    message: str, said: str, server: Server, env: Mapping[str, str], *, timeout: float
) -> NetworkFailed | None:
    """Tell whether an engine failed by the network, and in which way.

    Args:
        message: What failed.
        said: The engine's words, masked.
        server: Where it fetched from; ``file:`` is no network.
        env: The variables of the engine: proxies, certificates.
        timeout: Seconds for a request of our own.

    Returns:
        The error; None where the network is not the matter.

    """
    if not server.url.startswith(("http://", "https://")):
        return None
    found = _STATUS.search(said)
    status = int(next(group for group in found.groups() if group)) if found else None
    url = _url_in(said, server)
    proxy = _proxies(url, server, env).get(url.partition(":")[0], "")
    if status is not None and status not in _BUSY:
        kind = _kind_of(status)
        if kind == "missing" and server.what == "index" and "/simple/" in url and not _NETWORK.search(said):
            return None
        return NetworkFailed(message, kind, server, url=url, said=said, detail=_status_text(status), proxy=proxy)
    lost = bool(_NETWORK.search(said))
    garbled = bool(_GARBLED.search(said)) and not _HASH_WANTED.search(said)
    if lost and not status:
        for words, told in _TOLD:
            if words.search(said):
                return NetworkFailed(message, told, server, url=url, said=said, proxy=proxy)
    if not (status or lost or garbled or _NOT_FOUND.search(said)):
        return None
    if server.what == "index" and not (lost or status):
        url, seen = _look_at_package(said, garbled, server, env, min(timeout, _LONGEST_LOOK))
        if seen.as_listed:
            return None  # the file is what the index says, and not what somebody else listed
    else:
        seen = _look(url, server, env, min(timeout, _LONGEST_LOOK))
    kind = seen.kind
    if status is not None:
        kind = "busy" if kind == "passing" else kind
        seen = seen._replace(detail=seen.detail or _status_text(status))
    elif lost and kind in ("missing", "passing"):  # the server answers by now, whatever it has there
        kind = "cut" if _CUT.search(said) else "passing"
    elif kind in ("missing", "passing") and not garbled:
        return None  # the index answers, and knows no such package
    elif kind in ("missing", "passing"):
        kind = "garbled"
    return NetworkFailed(message, kind, server, url=url, said=said, detail=seen.detail, wait=seen.wait, proxy=proxy)


def _kind_of(status: int) -> Kind:
    if status in _BUSY:
        return "busy"
    by_status: dict[int, Kind] = {401: "credentials", 403: "forbidden", 404: "missing", 407: "proxy", 410: "missing"}
    return by_status.get(status, "server")


def _status_text(status: int) -> str:
    return f"status {status}"


def _has_password(*urls: str) -> bool:
    """Whether a user was in one of the URLs; what keyrings and files of passwords add is not seen here."""
    return any("@" in url.partition("://")[2].partition("/")[0] for url in urls)


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return (parts.hostname or url) + (f":{parts.port}" if parts.port else "")


def _url_in(said: str, server: Server) -> str:
    """The URL of the server that the engine names: the last, which is the most exact; else one that must be there."""
    named: list[str] = [url for url in _URL.findall(said) if _host(url) == _host(server.url)]
    if named and named[-1].rstrip("/") != server.url.rstrip("/"):
        return named[-1]
    return f"{server.url.rstrip('/')}/noarch/repodata.json" if server.what == "channel" else server.url


class _Seen(NamedTuple):
    """What a request of our own met."""

    kind: Kind
    detail: str = ""
    wait: float | None = None
    content: bytes = b""
    as_listed: bool = False


def _look_at_package(
    said: str, garbled: bool, server: Server, env: Mapping[str, str], timeout: float
) -> tuple[str, _Seen]:
    """Ask for an index's page of the package that the engine speaks of, and where its file was no package for that."""
    from urllib.parse import urljoin

    found = _PACKAGE.search(said)
    name = next((found[group] for group in ("uv", "pip", "listed", "line") if found[group]), "") if found else ""
    url = server.url.rstrip("/") + "/"
    if name:
        url += re.sub(r"[-_.]+", "-", name).lower() + "/"
    seen = _look(url, server, env, timeout)
    if any(digest.encode() in seen.content for digest in _COMPUTED.findall(said)):
        return url, seen._replace(as_listed=True)
    version = found["version"] if found else None
    if not garbled or seen.kind != "passing" or not version:
        return url, seen
    links = re.findall(r"href=[\"']([^\"'#]+)", seen.content.decode("utf-8", "replace"))
    named = [link for link in links if f"-{version}" in link]
    return (url, seen) if not named else ((file := urljoin(url, named[0])), _look(file, server, env, timeout))


def _look(url: str, server: Server, env: Mapping[str, str], timeout: float) -> _Seen:
    """Ask for ``url`` ourselves: in which way it fails, what is known of that, how long the server wants to rest."""
    import http.client
    import socket
    import ssl
    import urllib.error

    try:
        content_type, content = _fetch(url, server, env, timeout)
    except urllib.error.HTTPError as error:
        wait = retry_after(error.headers.get("Retry-After")) if error.code in _BUSY else None
        return _Seen(_kind_of(error.code), _status_text(error.code), wait)
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLError):
            return _Seen("certificate", getattr(reason, "verify_message", "") or str(reason.reason or ""))
        if isinstance(reason, socket.gaierror):
            return _Seen("dns", str(reason.strerror or ""))
        if isinstance(reason, TimeoutError):
            return _Seen("silent")
        if isinstance(reason, ConnectionRefusedError):
            return _Seen("refused")
        if isinstance(reason, (ConnectionError, http.client.HTTPException)):
            return _Seen("cut")
        if "407" in str(reason):
            return _Seen("proxy")
        return _Seen("route", str(getattr(reason, "strerror", None) or reason))
    if _is_page(content_type, content) and not (server.what == "index" and _lists_files(content)):
        return _Seen("portal", _title(content))
    return _Seen("passing", content=content)


def _fetch(url: str, server: Server, env: Mapping[str, str], timeout: float) -> tuple[str, bytes]:
    """The beginning of what is at ``url``.

    Raises:
        OSError: it cannot be had.
        http.client.HTTPException: the answer makes no sense.

    """
    import base64
    import http.client
    import os
    import ssl
    import urllib.request
    from urllib.parse import unquote, urlsplit, urlunsplit

    parts = urlsplit(url)
    user = server.user
    for known in (parts, urlsplit(server.url)):
        if user is None and known.password is not None:
            user = unquote(known.username or ""), unquote(known.password)
    bare = urlunsplit((parts.scheme, _host(url), parts.path, parts.query, ""))
    headers = {"User-Agent": "nbprovision", "Accept": "*/*"}
    if user is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(user).encode()).decode()
    cert = server.cert or env.get("SSL_CERT_FILE") or env.get("SSL_CERT_DIR") or None
    trusted = {"capath" if os.path.isdir(cert) else "cafile": cert} if cert and os.path.exists(cert) else {}
    context = ssl.create_default_context(**trusted)  # type: ignore[arg-type]
    if not server.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler(_proxies(url, server, env)),
        urllib.request.HTTPSHandler(context=context),
    )
    request = urllib.request.Request(bare, headers=headers)  # noqa: S310 - http or https: the caller has looked
    deadline = time.monotonic() + timeout
    content = b""
    with opener.open(request, timeout=timeout) as answer:
        length = int(answer.headers.get("Content-Length") or 0)
        # Of a package the beginning will do; of a page all, so that one which is cut or stalls shows it.
        while len(content) < _ENOUGH and (piece := answer.read1(_ENOUGH)):
            content += piece
            if time.monotonic() > deadline:
                raise TimeoutError
        if len(content) < min(length, _ENOUGH):
            raise http.client.IncompleteRead(content, length - len(content))
        return answer.headers.get("Content-Type", ""), content


def _proxies(url: str, server: Server, env: Mapping[str, str]) -> dict[str, str]:
    """The proxies on the way to ``url``, by scheme."""
    import urllib.request
    from urllib.parse import urlsplit

    found = {
        scheme: value
        for scheme in ("http", "https", "no")
        if (value := env.get(f"{scheme}_proxy") or env.get(f"{scheme.upper()}_PROXY"))
    }
    if server.proxy:
        found |= {"http": server.proxy, "https": server.proxy}
    if urllib.request.proxy_bypass_environment(urlsplit(url).hostname or "", found):  # type: ignore[attr-defined]
        return {}
    found.pop("no", None)
    return found


def retry_after(text: str | None) -> float | None:
    """The seconds that a Retry-After header asks for (RFC 9110, 10.2.3): a number, or a date by our own clock."""
    if not text:
        return None
    if text.strip().isdigit():
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _is_page(content_type: str, content: bytes) -> bool:
    beginning = content.lstrip()[:15].lower()
    return content_type.startswith("text/html") or beginning.startswith((b"<!doctype html", b"<html"))


def _lists_files(content: bytes) -> bool:
    """Whether it is a page of an index (PEP 503), which links to files, or names other pages of it."""
    return bool(re.search(rb"href=[^>]*\.(whl|tar\.gz|zip|egg|tar\.bz2)\b", content, re.IGNORECASE)) or (
        b"pypi:repository-version" in content or b"Links for" in content or b"Simple index" in content
    )


def _title(content: bytes) -> str:
    found = re.search(rb"<title[^>]*>\s*(.{1,80}?)\s*</title>", content, re.IGNORECASE | re.DOTALL)
    if found is None:
        return ""
    return f"its title is '{' '.join(found[1].decode('utf-8', 'replace').split())}'"

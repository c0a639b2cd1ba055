"""Fetches one file by https, resumed after an interruption, and accepted only with the expected SHA-256.

The standard library is enough for that: pip, uv and conda fetch their packages themselves, and nothing else needs a
client of HTTP.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import netrc
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urljoin, urlsplit

from nbprovision import __version__
from nbprovision.files.git_url import is_loopback
from nbprovision.machine import authorities, network
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import NotBegun, TaskFailed
from nbprovision.system import disk_space, inputs, secrets, trust
from nbprovision.system.files import explained
from nbprovision.system.log import event

_BLOCK = 1 << 18  # bytes
_MOST_REDIRECTS = 10
_LONGEST_WAIT = 3600.0  # seconds; a server that wants more has no date in mind
_REPORT_EVERY = 0.5  # seconds
_REDIRECTS = (301, 302, 303, 307, 308)


class Download:
    """A file that is fetched, in as many attempts as it takes.

    Args:
        machine: The machine; its variables name proxies, authorities and the netrc.
        url: The URL.
        sha256: The expected digest.
        target: The file to write.
        failure: The message of an error.

    """

    def __init__(self, machine: Machine, url: str, sha256: str, target: Path, failure: str) -> None:
        self._machine, self._url, self._sha256, self._target, self._failure = machine, url, sha256, target, failure
        self._digest = hashlib.sha256()
        self._size = 0  # bytes on disk, all in the digest
        self._tag = ""  # of the server's version of the file
        self._outdated = False  # the bytes on disk are of another version

    def fetch(self) -> None:
        """Fetch the file.

        Raises:
            NetworkFailed: the server could not be reached, or did not send this file.
            NotBegun: the file is larger than the free space.
            TaskFailed: the file cannot be written, or the server leads to an insecure URL.

        """
        with explained(f"cannot write {self._target}", self._target), self._target.open("wb") as stream:
            network.retry(self._machine, lambda _offline: self._attempt(stream), cached=False)
            stream.flush()
            os.fsync(stream.fileno())

    def _attempt(self, stream: IO[bytes]) -> None:
        if self._outdated:
            self._reset(stream)
        with self._answer() as (answer, url):
            start = self._begin(stream, answer, url)
            total = _length(answer.headers)
            total = None if total is None else total + start
            if total is not None:
                self._require_space(total - start)
            self._copy(answer, stream, url, total)
        if total is not None and self._size < total:
            raise self._failed("cut", url, f"{self._size} of {total} bytes came")
        actual = self._digest.hexdigest()
        if actual != self._sha256:
            said = f"sha256 is {actual}, not {self._sha256}; it has {self._size} bytes"
            self._outdated = True
            raise self._failed("garbled", url, said)

    def _begin(self, stream: IO[bytes], answer: Any, url: str) -> int:
        """Where the answer continues: behind the bytes on disk, or at the beginning."""
        match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if answer.status != 206:
            self._reset(stream)
        elif match is None or int(match[1]) != self._size:
            self._outdated = True
            raise self._failed("cut", url, "the server sent another part of the file than the requested one")
        tag = answer.headers.get("ETag", "")
        self._tag = tag if tag.startswith('"') else ""  # a weak one does not identify bytes
        return self._size

    def _reset(self, stream: IO[bytes]) -> None:
        stream.seek(0)
        stream.truncate()
        self._digest = hashlib.sha256()
        self._size = 0
        self._tag = ""
        self._outdated = False

    def _copy(self, answer: Any, stream: IO[bytes], url: str, total: int | None) -> None:
        name = f"fetching {os.path.basename(urlsplit(self._url).path) or self._url}"
        reported = 0.0
        while True:
            try:
                block = answer.read(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise self._explained(error, url) from error
            if not block:
                break
            stream.write(block)
            self._digest.update(block)
            self._size += len(block)
            if time.monotonic() - reported > _REPORT_EVERY:
                reported = time.monotonic()
                self._machine.progress(name, self._size, total or 0)

    def _require_space(self, need: int) -> None:
        space = disk_space.free_space(self._target)
        if need > space.free:
            raise NotBegun(
                self._failure,
                cause=f"the file has {disk_space.megabytes(need)}, and {disk_space.megabytes(space.free)} are free at "
                f"{space.folder}",
                cure=disk_space.FREE_SOME,
            )

    @contextlib.contextmanager
    def _answer(self) -> Iterator[tuple[Any, str]]:
        """The answer to the request, and the URL that redirects have led to."""
        url = self._url
        for _ in range(_MOST_REDIRECTS):
            answer, error = self._ask(url)
            if error is None:
                with contextlib.closing(answer):
                    event("download", url=secrets.mask(url), status=answer.status)
                    yield answer, url
                    return
            with contextlib.closing(error):
                location = error.headers.get("Location")
                if error.code in _REDIRECTS and location:
                    url = self._redirected(url, location)
                    continue
                if error.code == 416:  # the server's file is shorter than what is there: another one
                    self._outdated = True
                    raise self._failed("cut", url, "the server has another file than before")
                raise self._refused(error, url)
        raise self._failed("unclear", url, f"more than {_MOST_REDIRECTS} redirects")

    def _ask(self, url: str) -> tuple[Any, Any]:
        """Send one request; return the answer, or else the error that has a status."""
        place, authorization = _without_userinfo(url)
        request = urllib.request.Request(  # noqa: S310 - https, or http of this machine
            place, headers={"User-Agent": f"nbprovision/{__version__}", "Accept-Encoding": "identity"}
        )
        if self._size > 0:
            request.add_header("Range", f"bytes={self._size}-")
            if self._tag:
                request.add_header("If-Range", self._tag)
        authorization = authorization or _authorization(place, self._machine, self._failure)
        if authorization:
            request.add_unredirected_header("Authorization", authorization)
        proxy = network.proxy_of(url, self._machine.env)
        if proxy:
            _use_proxy(request, proxy)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=_authorities(self._machine, self._failure)),
            _NoRedirects(),
        )
        try:
            return opener.open(request, timeout=network.timeout(self._machine.env)), None
        except urllib.error.HTTPError as error:
            return None, error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._explained(error, url) from error

    def _redirected(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        parts = urlsplit(target)
        secrets.remember_url(target)
        first = urlsplit(self._url)
        from_here = is_loopback(first.hostname or "")
        may_be_plain = is_loopback(parts.hostname or "") if from_here else first.scheme == "http"
        if parts.scheme == "https" or (parts.scheme == "http" and may_be_plain):
            return target
        raise TaskFailed(
            self._failure,
            cause=f"{secrets.mask(url)} leads to {secrets.mask(target)}, which is not encrypted",
            cure="write the https URL of the file itself",
        )

    def _refused(self, error: urllib.error.HTTPError, url: str) -> network.NetworkFailed:
        failure = self._failed(network.kind_of_status(error.code), url, f"{error.code} {error.reason}", error.code)
        with contextlib.suppress(ValueError):
            failure.wait = min(max(float(error.headers.get("Retry-After", "")), 0.0), _LONGEST_WAIT)
        return failure

    def _explained(self, error: BaseException, url: str) -> network.NetworkFailed:
        reason = getattr(error, "reason", None)
        cause = reason if isinstance(reason, BaseException) else error
        kind: network.Kind = "unclear"
        if isinstance(cause, ssl.SSLCertVerificationError):
            kind = "certificate"
        elif isinstance(cause, socket.gaierror):
            kind = "dns"
        elif isinstance(cause, TimeoutError):
            kind = "silent"
        elif isinstance(cause, ConnectionRefusedError):
            kind = "refused"
        elif "Tunnel connection failed: 407" in str(cause):
            kind = "proxy"
        elif isinstance(cause, ConnectionError | http.client.IncompleteRead | ssl.SSLError):
            kind = "cut"
        elif isinstance(cause, OSError) and "unreachable" in str(cause):
            kind = "route"
        return self._failed(kind, url, secrets.mask(f"{type(cause).__name__}: {cause}"))

    def _failed(self, kind: network.Kind, url: str, said: str, status: int | None = None) -> network.NetworkFailed:
        server = network.Server("file", url)
        proxy = network.proxy_of(url, self._machine.env)
        return network.NetworkFailed(self._failure, kind, server, url=url, said=said, status=status, proxy=proxy)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to the caller, which judges each of them."""

    def redirect_request(self, *arguments: Any) -> None:
        """Do not follow."""


def _length(headers: Message) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _use_proxy(request: urllib.request.Request, proxy: str) -> None:
    """Send a request by a proxy, with its user and password (RFC 9110, 11.7)."""
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    secrets.remember_url(proxy)
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_header("Proxy-authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    request.set_proxy(parts.netloc.rpartition("@")[2], parts.scheme)


def _without_userinfo(url: str) -> tuple[str, str]:
    """The URL without user and password, and the header with them (RFC 7617); empty without any."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, ""
    secrets.remember_userinfo(userinfo)
    return parts._replace(netloc=host).geturl(), _basic(unquote(parts.username or ""), unquote(parts.password or ""))


def _basic(user: str, password: str) -> str:
    header = base64.b64encode(f"{user}:{password}".encode()).decode()
    secrets.remember(header)
    return f"Basic {header}"


def _authorization(url: str, machine: Machine, failure: str) -> str:
    """The header for a server that the user's netrc names, as for curl, pip and git; empty for none."""
    path = Path(machine.env.get("NETRC") or machine.user_home / ".netrc")
    if not path.is_file():
        return ""
    trust.obey(path, "obey")
    try:
        entry = netrc.netrc(str(path)).hosts.get(urlsplit(url).hostname or "")
    except (netrc.NetrcParseError, UnicodeDecodeError, OSError) as error:
        message = getattr(error, "msg", "it cannot be read")
        raise TaskFailed(
            failure, cause=f"{path} is not valid: {message}", cure="write: machine HOST login USER password PASSWORD"
        ) from None
    if entry is None:
        return ""
    user, _, password = (text or "" for text in entry)
    secrets.remember(password)
    return _basic(user, password)


def _authorities(machine: Machine, failure: str) -> ssl.SSLContext:
    """The trusted authorities: those that the usual variables name, else the user's bundle, else the machine's."""
    env = machine.env
    file = env.get("SSL_CERT_FILE") or env.get("REQUESTS_CA_BUNDLE") or env.get("CURL_CA_BUNDLE")
    folder = env.get("SSL_CERT_DIR")
    if file and os.path.isdir(file):
        file, folder = None, file
    if not (file or folder):
        bundle = authorities.user_bundle(env, machine.user_home)
        inputs.file(bundle)
        if bundle.exists():
            file = str(bundle)
        elif not os.path.exists(ssl.get_default_verify_paths().cafile or ""):
            public = authorities.public_bundle()
            file = str(public) if public is not None else None
    for path in filter(None, (file, folder)):
        trust.obey(path, "obey")
    try:
        return ssl.create_default_context(cafile=file or None, capath=folder or None)
    except (OSError, ssl.SSLError) as error:
        raise TaskFailed(
            failure,
            cause=f"the certificates in {file or folder} cannot be read: {error}",
            cure="correct SSL_CERT_FILE (or REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_DIR), or unset it",
        ) from None

"""A server of files by https or http on the loopback interface, with ranges, redirects and a test's own authority."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import ipaddress
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# The smallest archive (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.16).
EMPTY_ZIP = b"PK\x05\x06" + bytes(18)


class Authority(NamedTuple):
    """Files of an authority, and of a server's certificate for 127.0.0.1 that it signed."""

    bundle: Path
    certificate: Path
    key: Path


def make_authority(folder: Path) -> Authority:
    """Create an authority, and a certificate by it."""
    folder.mkdir(parents=True, exist_ok=True)
    now = dt.datetime.now(dt.timezone.utc)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("authority of a test"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )

    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = (
        builder("authority of a test", authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = (
        builder("127.0.0.1", server_key).add_extension(address, critical=False).sign(authority_key, hashes.SHA256())
    )
    made = Authority(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    made.bundle.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made


class Request(NamedTuple):
    """A request of a client."""

    path: str
    range: str | None
    authorization: str | None


class FileServer:
    """Serves bytes by path.

    Attributes:
        url: Of the server.
        files: What it serves.
        redirects: URLs or paths by path.
        user: ``USER:PASSWORD`` that it requires; empty for none.
        status: Answered to the next ``times`` requests instead, with ``headers``.
        cut: Bytes after which each of the next ``times`` answers breaks off.
        ranges: Whether it can continue a file.
        content_type: Of every file.
        silent: Whether no request gets an answer.
        requests: Those that came.

    """

    def __init__(self, authority: Authority | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.user = ""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.cut = 0
        self.times = 0
        self.ranges = True
        self.content_type = "application/octet-stream"
        self.wrong_range = False
        self.length = True
        self.silent = False
        self.requests: list[Request] = []
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.own = self  # type: ignore[attr-defined]
        if authority is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(authority.certificate, authority.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if authority is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def end(self) -> None:
        """Stop."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        own: FileServer = self.server.own
        wanted = self.headers.get("Range")
        own.requests.append(Request(self.path, wanted, self.headers.get("Authorization")))
        path = self.path.partition("?")[0]
        if own.silent:
            own.over.wait(60)
            self.close_connection = True
            return
        faulty = own.times > 0
        own.times -= faulty
        if faulty and own.status:
            self.answer(own.status, b"no", own.headers)
        elif own.user and self.headers.get("Authorization") != f"Basic {base64.b64encode(own.user.encode()).decode()}":
            self.answer(401, b"", {"WWW-Authenticate": "Basic"})
        elif path in own.redirects:
            self.answer(302, b"", {"Location": own.redirects[path]})
        elif path not in own.files:
            self.answer(404, b"", {})
        else:
            content = own.files[path]
            headers = {"ETag": f'"{hash(content)}"', "Content-Type": own.content_type}
            status, start = 200, 0
            if wanted and own.ranges and self.headers.get("If-Range", headers["ETag"]) == headers["ETag"]:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.answer(416, b"", {})
                    return
                status = 206
                headers["Content-Range"] = f"bytes {start + own.wrong_range}-{len(content) - 1}/{len(content)}"
            self.answer(status, content[start:], headers, cut=own.cut if faulty else 0)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def answer(self, status: int, content: bytes, headers: dict[str, str], cut: int = 0) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.server.own.length:
            self.send_header("Content-Length", str(len(content)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        with contextlib.suppress(OSError):
            if self.command != "HEAD":
                self.wfile.write(content[:cut] if cut else content)
        if cut:
            self.close_connection = True

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@contextlib.contextmanager
def serving_files(authority: Authority | None = None) -> Iterator[FileServer]:
    """A server for the time of the body."""
    server = FileServer(authority)
    try:
        yield server
    finally:
        server.end()
        time.sleep(0)

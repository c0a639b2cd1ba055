"""A web server on the loopback interface that serves a folder or an index of wheels, and fails as it is told to."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

PORTAL = (
    b"<!DOCTYPE html><html><head><title>Welcome</title></head><body><form>Log in to the network</form></body></html>"
)


class Asked(NamedTuple):
    """A request: when (a monotonic clock), by which method, for what, with which credentials."""

    when: float
    method: str
    path: str
    authorization: str | None


class Fault:
    """What goes wrong with requests whose path matches.

    Args:
        kind: ``status``, ``portal``, ``hang`` (no word), ``stall`` (half of it, then no word), ``slow`` (in ten pieces, for
            four seconds), ``cut`` (half of it, then a reset), ``garble`` (as many bytes, others) or ``swap`` (a file of
            that kind which is another).
        path: A pattern.
        times: So often, then all is well; None for ever.
        status: Of ``status``.
        headers: Of ``status``.

    """

    def __init__(
        self, kind: str, path: str = "", *, times: int | None = None, status: int = 500, **headers: str
    ) -> None:
        self.kind = kind
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pattern = path
        self._path = re.compile(path)
        self._times = times
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """As if it had not struck yet."""
        self._left = self._times

    def strikes(self, path: str) -> bool:
        """Whether this request gets it; counts."""
        if not self._path.search(path):
            return False
        with self._lock:
            if self._left is None:
                return True
            self._left -= 1
            return self._left >= 0


class FaultyServer:
    """Serves until its block ends.

    Attributes:
        folder: What is served.
        url: Of what is served.
        faults: The first that strikes counts.
        asked: Every request.

    """

    def __init__(self, folder: Path, find: Callable[[str], tuple[str, bytes] | None]) -> None:
        self.folder = folder
        self.find = find
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.faulty = self  # type: ignore[attr-defined]
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def only(self, *faults: Fault) -> FaultyServer:
        """From now on these faults, and nothing asked yet."""
        self.faults = list(faults)
        self.asked = []
        return self

    def close(self) -> None:
        """Serve no longer: connections are refused."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: FaultyServer = self.server.faulty  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        server.asked.append(Asked(time.monotonic(), self.command, path, self.headers.get("Authorization")))
        fault = next((fault for fault in server.faults if fault.strikes(path)), None)
        if fault is None:
            self._serve(path, server)
        elif fault.kind == "status":
            self._answer(fault.status, "text/plain", b"no\n", fault.headers)
        elif fault.kind == "portal":
            self._answer(200, "text/html; charset=utf-8", PORTAL)
        elif fault.kind == "hang":
            server.over.wait(120)
            self.close_connection = True
        else:
            self._spoil(fault.kind, path, server)

    do_HEAD = do_GET  # noqa: N815 - the library's word

    def _serve(self, path: str, server: FaultyServer) -> None:
        found = server.find(path)
        if found is None:
            self._answer(404, "text/plain", b"not here\n")
        else:
            self._answer(200, *found)

    def _spoil(self, kind: str, path: str, server: FaultyServer) -> None:
        content_type, content = server.find(path) or ("text/plain", b"not here, and long enough to be cut\n")
        if kind == "garble":
            self._answer(200, content_type, bytes(byte ^ 0x55 for byte in content))
            return
        if kind == "swap":
            self._answer(200, content_type, _swapped(content))
            return
        self._head(200, content_type, len(content), {})
        if kind == "slow":
            size = len(content) // 10 + 1
            for begin in range(0, 0 if self.command == "HEAD" else len(content), size):
                time.sleep(0.4)
                self.wfile.write(content[begin : begin + size])
                self.wfile.flush()
            return
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
        if kind == "stall":
            server.over.wait(120)
        else:  # a reset, not an orderly end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def _answer(self, status: int, content_type: str, content: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(status, content_type, len(content), headers or {})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _head(self, status: int, content_type: str, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # whoever asked has gone
            super().handle()

    def log_message(self, *arguments: Any) -> None: ...


def _swapped(content: bytes) -> bytes:
    """The same archive with one more member: whole, and not what its hash says."""
    archive = io.BytesIO(content)
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("more.txt", "more")
    return archive.getvalue()


def _file_of(folder: Path) -> Callable[[str], tuple[str, bytes] | None]:
    def find(path: str) -> tuple[str, bytes] | None:
        try:
            return "application/octet-stream", (folder / path.lstrip("/")).read_bytes()
        except OSError:
            return None

    return find


def _index_of(wheels: Path, *, sizes: bool = False) -> Callable[[str], tuple[str, bytes] | None]:
    """PEP 503: /simple/NAME/ lists, /files/ has them; PEP 691, and sizes as of PEP 700, where these are wanted."""

    def find(path: str) -> tuple[str, bytes] | None:
        words = path.strip("/").split("/")
        if words[0] == "files" and len(words) == 2 and (wheels / words[1]).is_file():
            return "application/octet-stream", (wheels / words[1]).read_bytes()
        name = words[-1].replace("-", "_")
        found = sorted(wheels.glob(f"{name}-*.whl"))
        if words[0] != "simple" or len(words) != 2 or not found:
            return None
        if sizes:
            files = [
                {
                    "filename": one.name,
                    "url": f"/files/{one.name}",
                    "hashes": {"sha256": hashlib.sha256(one.read_bytes()).hexdigest()},
                    "size": one.stat().st_size,
                }
                for one in found
            ]
            document = {"meta": {"api-version": "1.1"}, "name": words[1], "files": files, "versions": []}
            return "application/vnd.pypi.simple.v1+json", json.dumps(document).encode()
        links = "".join(
            f'<a href="/files/{one.name}#sha256={hashlib.sha256(one.read_bytes()).hexdigest()}">{one.name}</a>\n'
            for one in found
        )
        return "text/html", f"<!DOCTYPE html><html><body>\n{links}</body></html>\n".encode()

    return find


@contextlib.contextmanager
def _serving(folder: Path, find: Callable[[str], tuple[str, bytes] | None]) -> Iterator[FaultyServer]:
    server = FaultyServer(folder, find)
    try:
        yield server
    finally:
        server.close()


def serving_folder(folder: Path) -> contextlib.AbstractContextManager[FaultyServer]:
    """Serve the files of a folder: a conda channel."""
    return _serving(folder, _file_of(folder))


def serving_index(wheels: Path, *, sizes: bool = False) -> contextlib.AbstractContextManager[FaultyServer]:
    """Serve an index of a folder of wheels, which may tell their sizes; its URL ends with ``/simple``."""
    return _serving(wheels, _index_of(wheels, sizes=sizes))


def unused_port() -> int:
    """A port at which connections are refused."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port

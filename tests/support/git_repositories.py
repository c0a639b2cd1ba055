"""Real git repositories, and a real server of git by http on the loopback interface."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

AUTHOR = {
    "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "file:http",
}  # fmt: skip


def git(folder: Path, *words: str | Path) -> str:
    """Run git as another program would, with a configuration of its own."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), **AUTHOR}
    done = subprocess.run(["git", *words], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {words}: {done.stderr}"
    return done.stdout.strip()


class Origin:
    """A repository that others clone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = folder.as_uri()
        folder.mkdir(parents=True)
        git(folder, "init", "--quiet", "--initial-branch", "main")
        git(folder, "config", "http.uploadpack", "true")
        self.commit("README.md", "one\n")

    def commit(self, name: str, text: str) -> str:
        """Commit a file, and return the commit."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        git(self.folder, "add", "--", name)
        git(self.folder, "commit", "--quiet", "-m", f"write {name}")
        return git(self.folder, "rev-parse", "HEAD")

    def run(self, *words: str | Path) -> str:
        """Run git in it."""
        return git(self.folder, *words)


class _Handler(BaseHTTPRequestHandler):
    """Passes each request to `git http-backend` (https://git-scm.com/docs/git-http-backend)."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        own = self.server.own
        own.asked.append(self.path)
        if own.status:
            self.answer(own.status, b"", {})
            return
        if own.silent:
            own.over.wait(60)
            return
        if own.user and self.headers.get("Authorization") != own.authorization:
            self.answer(401, b"", {"WWW-Authenticate": 'Basic realm="git"'})
            return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        env = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(own.folder), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": "ada",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), **AUTHOR,
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        self.answer(status, content, headers)

    def do_POST(self) -> None:
        self.do_GET()

    def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class GitServer:
    """Serves the repositories in a folder.

    Attributes:
        url: Of the folder.
        user: Who may read; empty for everybody. The password is ``password``.
        status: Answered to every request, if it is not 0.
        silent: Whether no request gets an answer.
        asked: The path of every request.

    """

    password = "let-me-in"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = ""
        self.status = 0
        self.silent = False
        self.asked: list[str] = []
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.own = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def authorization(self) -> str:
        """The header of a request of the user's."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def end(self) -> None:
        """Stop."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[GitServer]:
    """A server for the time of the body."""
    server = GitServer(folder)
    try:
        yield server
    finally:
        server.end()

"""AWS CodeArtifact without AWS: a script called ``aws``, and a real index on this machine that asks for its token.

The script notes how it was called, and answers in the words of the real command (both versions of it).
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

AWS = """\
#!{python}
import datetime, json, os, pathlib, sys, time
here = pathlib.Path({here!r})
with open(here / "calls", "a") as stream:
    stream.write(json.dumps(sys.argv[1:]) + "\\n")
answer = json.loads((here / "answer").read_text())
if "fail" in answer:
    sys.exit(sys.stderr.write("\\n" + answer["fail"] + "\\n") and 255)
ends = time.time() + int(sys.argv[sys.argv.index("--duration-seconds") + 1])
if answer["version"] == 2:
    ends = datetime.datetime.fromtimestamp(ends, datetime.timezone.utc).isoformat()
print(json.dumps({{"authorizationToken": answer["token"], "expiration": ends}}))
"""


def aws_command(folder: Path, here: Path) -> Path:
    """Write the command into a folder; it takes its answer from ``here/answer``, and notes its calls beside that."""
    path = folder / "aws"
    path.write_text(AWS.format(python=sys.executable, here=str(here)))
    path.chmod(0o755)
    return path


def page(folder: Path, name: str, wheels: Iterable[Path]) -> None:
    """An index's page of a distribution, whose wheels lie beside it."""
    text = "".join(f'<a href="{wheel.name}">{wheel.name}</a>\n' for wheel in wheels)
    (folder / name / "index.html").write_text(text)


@contextlib.contextmanager
def serving(folder: Path, accepted: set[str]) -> Iterator[str]:
    """Serve a folder to whoever comes with one of the tokens; the URL."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def do_GET(self) -> None:
            right = ["Basic " + base64.b64encode(f"aws:{token}".encode()).decode() for token in accepted]
            if self.headers.get("Authorization") in right:
                super().do_GET()
                return
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="codeartifact"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

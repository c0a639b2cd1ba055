"""A canary in every kind of secret: after runs of all sorts it is in the files that need it, and nowhere else.

`NBPROVISION_TEST_HOSTILE=all` makes more runs, of sorts that differ from the others in how they are told.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.conda_packages import TinyChannel
from tests.support.wheels import make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.scaled("NBPROVISION_TEST_HOSTILE")]

ALL = os.environ.get("NBPROVISION_TEST_HOSTILE") == "all"
ROOT = Path(__file__).parents[2]
WORD = "c4nary"  # a part of every secret that no way of quoting changes
PASSWORD = f'{WORD}-1/:@ "é\\'
TOKEN = f"tk-{WORD}-2"
HIDDEN = f"{WORD}-3 'hidden' by no_log"
VARIABLE = f'{WORD}-4"of a variable'
# The word as it may stand in base64, by where it begins in a group of three bytes.
ENCODED = [
    base64.b64encode(b"x" * shift + WORD.encode() + b"xx")[2 * bool(shift) : 8].strip(b"=") for shift in range(3)
]
NEEDLES = [WORD.encode(), *(part[2:7] for part in ENCODED)]

PLAYBOOK = """\
- vars:
    password: "{{ lookup('env', 'INDEX_PASSWORD') }}"
    index: "http://me:{{ password | urlencode | replace('/', '%2F') }}@SERVER"
  tasks:
    - name: "An index with {{ password }}"
      ensure_pip_index: {url: "{{ index }}/PLACE/simple"}
    - ensure_pip_pkg: {env: PREFIX, packages: [WHEEL], engine: ENGINE}
    - ensure_conda_env: {name: tiny, channels: ["http://SERVER/t/{{ lookup('env', 'CHANNEL_TOKEN') }}"], packages: [CONDA]}
    - ensure_kernel:
        name: demo
        argv: [/bin/cat, "{connection_file}"]
        environment: {API: "{{ lookup('env', 'API_TOKEN') }}"}
    - name: hidden
      no_log: true
      ensure_kernel:
        name: hidden
        argv: [/bin/cat, "{connection_file}"]
        environment: {SETTING: "{{ lookup('env', 'SETTING') }}"}
    - name: hidden failure
      no_log: true
      when: FAILS
      ensure_kernel:
        name: failing
        argv: ["/nowhere/{{ lookup('env', 'SETTING') }}", "{connection_file}"]
"""


class Place:
    """A machine with a guarded server, whose runs are watched for the canary on command lines."""

    def __init__(self, env: dict[str, str], folder: Path, server: str, prefix: Path) -> None:
        self.env = {name: value for name, value in env.items() if not name.startswith(("PIP_", "UV_"))}
        self.env |= {"INDEX_PASSWORD": PASSWORD, "CHANNEL_TOKEN": TOKEN, "API_TOKEN": VARIABLE, "SETTING": HIDDEN}
        self.env |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "XDG_CONFIG_DIRS": str(folder / "xdg")}
        self.env |= {"UV_HTTP_RETRIES": "0", "PIP_RETRIES": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        self.folder = folder
        self.server = server
        self.prefix = prefix
        self.seen_in_ps: set[str] = set()

    def playbook(self, **words: str) -> Path:
        values = {"PLACE": "new", "WHEEL": "plum", "CONDA": "alpha", "ENGINE": "uv", "FAILS": "false", **words}
        values |= {"SERVER": self.server, "PREFIX": str(self.prefix)}
        text = PLAYBOOK
        for word, value in values.items():
            text = text.replace(word, value)
        path = self.folder / "project/playbook.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def call(self, *words: str, status: int = 0) -> str:
        """Run the command, watched; the canary must not be in what it says."""
        process = subprocess.Popen(
            [sys.executable, "-m", "nbprovision", *words],
            env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        )  # fmt: skip
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,))
        watcher.start()
        told, _ = process.communicate()
        over.set()
        watcher.join()
        assert process.returncode == status, told
        assert not found_in(told.encode()), told
        return told

    def _watch(self, over: threading.Event) -> None:
        # Command lines are for everybody to read; of the environment of a process the kernel lets its owner know alone.
        while not over.is_set():
            for number in filter(str.isdigit, os.listdir("/proc")):
                try:
                    content = Path("/proc", number, "cmdline").read_bytes()
                except OSError:
                    continue
                if found_in(content):
                    self.seen_in_ps.add(content.decode(errors="replace"))
            time.sleep(0.02)

    def holders(self) -> set[str]:
        """The files with a canary in them, by their paths, the playbook aside."""
        files = (path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())
        mine = (path for path in files if path.relative_to(self.folder).parts[0] not in ("project", "served"))
        return {str(path.relative_to(self.folder)) for path in mine if found_in(path.read_bytes() + str(path).encode())}


def found_in(content: bytes) -> list[bytes]:
    return [needle for needle in NEEDLES if needle in content]


def test_the_needles_find_every_form() -> None:
    for text in (PASSWORD, quote(PASSWORD), json.dumps(PASSWORD), repr(PASSWORD)):
        assert found_in(text.encode())
        for user in ("", "u", "us", "use:", "user:"):
            assert found_in(base64.b64encode((user + text).encode()))


@pytest.fixture
def place(env: dict[str, str], tmp_path: Path) -> Iterator[Place]:
    served = tmp_path / "served"
    wheel = make_wheel(served / "new/simple/plum", "plum", "1.0")
    (wheel.parent / "index.html").write_text(f'<!DOCTYPE html><a href="{wheel.name}">{wheel.name}</a>')
    channel = TinyChannel(served / "channel")
    channel.add("alpha", "1.0")
    right = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(served))

        def do_GET(self) -> None:
            if self.path.startswith(f"/t/{TOKEN}/"):
                self.path = "/channel/" + self.path.removeprefix(f"/t/{TOKEN}/")
            elif self.headers.get("Authorization") != right or self.path.startswith("/denied/"):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="new"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            super().do_GET()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    (tmp_path / "xdg").mkdir()
    prefix = tmp_path / "prefix"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    yield Place(env, tmp_path, f"127.0.0.1:{server.server_address[1]}", prefix)
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_canary_is_where_it_is_needed_and_nowhere_else(place: Place) -> None:
    playbook = str(place.playbook())
    assert "changed=5" in place.call("run", playbook, "-vvv", "--diff")
    if ALL:
        assert "ok=5" in place.call("run", playbook, "-vvv")
    place.call("run", playbook, "--format", "json", "--no-witness")
    place.call("run", playbook, "--check", "--diff", "-vv", "--deep")
    plain = [["status"], ["facts"]] if ALL else []
    for words in (*plain, ["status", "--format", "json"], ["facts", "--format", "json"]):
        place.call(*words)
    place.call("export", str(place.prefix), "tiny")

    failing = str(place.playbook(WHEEL="plum==9", CONDA="beta", FAILS="true"))
    told = place.call("run", failing, "-vvv", "--diff", status=2)
    assert "failed=3" in told
    assert "a report to attach" in told
    if ALL:
        place.call("run", failing, "--format", "json", status=2)
    denied = str(place.playbook(PLACE="denied", WHEEL="peach", FAILS="true"))
    place.call("run", denied, "-vvv", "--deadline", "300", status=2)
    place.call("run", str(place.playbook(PLACE="denied", WHEEL="peach", ENGINE="pip")), "-vvv", status=2)
    place.call("status")

    kernels = "home/.local/share/jupyter/kernels"
    needed = {
        "home/.config/pip/pip.conf",
        "home/.config/uv/uv.toml",
        f"{kernels}/demo/kernel.json",
        f"{kernels}/hidden/kernel.json",
    }
    assert place.holders() == needed
    for name in needed:
        assert stat.S_IMODE((place.folder / name).stat().st_mode) == 0o600, name
    assert not place.seen_in_ps

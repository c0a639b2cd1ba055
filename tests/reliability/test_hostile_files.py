"""Whatever lies where a file is read (a pipe, a device, a folder, garbage, a document without end): no hang, no crash."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from nbprovision.__main__ import main

DEEP = 200_000


def _bomb() -> bytes:
    rows = [b"a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)]
    return b"\n".join([*rows, b"channels: *a11", b"dependencies: *a11", b""])


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 34)


KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "folder": lambda path: path.mkdir(),
    "loop": lambda path: path.symlink_to(path.name),
    "bytes": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "deep list": lambda path: path.write_bytes(b"[" * DEEP),
    "deep mapping": lambda path: path.write_bytes(b'{"argv":' * DEEP),
    "deep TOML": lambda path: path.write_bytes(b"a = " + b"[" * DEEP),
    "aliases": lambda path: path.write_bytes(_bomb()),
    "other types": lambda path: path.write_bytes(b'{"pid": "x", "started": 1e300, "tasks": 3, "argv": {}, "env": []}'),
    "moment": lambda path: path.write_bytes(b'{"pid": 1, "command": "x", "since": 1e300, "started": -1e300}'),
    "number": lambda path: path.write_bytes(b"channels: " + b"1:" * 50_000 + b"1\n"),
    "one line": lambda path: path.write_bytes(b"a," * 300_000),
    "huge": _sparse,
}
# Where the tool reads, below the user's home or its own; `*` is the state of the run before.
OWN = [
    "state/*", "progress.json", "last-run.json", "status.json", "waiting/x.json", "lock.holder", "journal", "cache/digests",
    "log/nbprovision.log", "runs/20260131-093000.json",
]  # fmt: skip
USERS = [
    ".condarc", ".conda/environments.txt", ".config/pip/pip.conf", ".config/uv/uv.toml",
    ".local/share/jupyter/kernels/other/kernel.json", ".local/share/jupyter/kernels/demo/kernel.json",
]  # fmt: skip
ENVIRONMENT = [
     "SITE/six-1.0.dist-info/METADATA", "SITE/six-1.0.dist-info/RECORD", "SITE/six-1.0.dist-info/INSTALLER",
    "SITE/six-1.0.dist-info/direct_url.json", "conda-meta/six-1.0-0.json", "conda-meta/history", "conda-meta/state",
    "conda-meta/pinned", ".nbprovision-unfinished",
]  # fmt: skip
MEMORY = 8 << 30  # bytes of addresses
ALL = os.environ.get("NBPROVISION_TEST_HOSTILE") == "all"
pytestmark = [pytest.mark.scaled("NBPROVISION_TEST_HOSTILE"), pytest.mark.sampled(2)]


def some(first: int) -> list[str]:
    """A pipe, a file of 16 GB and a few others, which differ from test to test; all of them in the long form."""
    names = list(KINDS)
    return names if ALL else list(dict.fromkeys(["pipe", "huge", *names[first::5]]))


INPUTS = ["requirements.txt", "environment.yml", "vars.yml", "playbook.yml", "content.txt"]

PLAYBOOK: list[dict[str, Any]] = [
    {"ensure_kernel": {"name": "demo", "argv": ["/bin/cat", "{connection_file}"]}},
    {"ensure_pip_index": {"url": "http://127.0.0.1:9/simple"}},
    {"ensure_condarc": {"channels": ["team"]}},
    {"ensure_pip_pkg": {"env": "ENV", "packages": ["six"]}},
    {"ensure_conda_pkg": {"env": "ENV", "packages": ["six"], "channels": ["file:///nowhere"]}},
]
WITH_INPUTS = [
    {"ensure_pip_pkg": {"env": "ENV", "requirements": "requirements.txt"}},
    {"ensure_conda_env": {"name": "made", "file": "environment.yml"}},
    {"ensure_kernel": {"name": "{{ lookup('file', 'content.txt') }}", "argv": ["/bin/cat", "{connection_file}"]}},
]


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """A wait without end, or memory without end, is a failure of this test, not of the whole machine."""

    def give_up(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    memory = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, memory[1]))
    signal.alarm(300)  # a machine that is busy takes its time
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, memory)
        signal.signal(signal.SIGALRM, before)


class User:
    def __init__(self, env: dict[str, str], folder: Path, home: Path) -> None:
        self.env = {name: value for name, value in env.items() if not name.startswith(("PIP_", "UV_"))}
        self.env |= {"PIP_NO_INDEX": "1", "UV_OFFLINE": "1"}
        self.folder = folder
        self.home = home
        self.tool = Path(env["NBPROVISION_HOME"])
        self.prefix = folder / "env"
        self.site = self.prefix / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        self.playbook = folder / "playbook.yml"

    def call(self, *words: str) -> tuple[int, str]:
        out = io.StringIO()
        with (
            ending(),
            mock.patch.dict(os.environ, self.env, clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
        ):
            status = main([*words])
        told = out.getvalue()
        assert status in (0, 2, 4, 5), told
        assert "Traceback" not in told
        assert "defect" not in told
        return status, told

    def write(self, tasks: list[dict[str, Any]]) -> None:
        self.playbook.write_text(json.dumps([{"tasks": tasks}]).replace("ENV", str(self.prefix)))


@pytest.fixture
def user(env: dict[str, str], tmp_path: Path, home: Path) -> User:
    made = User(env, tmp_path, home)
    made.site.mkdir(parents=True)
    (made.prefix / "bin").mkdir()
    (made.prefix / "bin/python").symlink_to(sys.executable)
    (made.prefix / "pyvenv.cfg").write_text(
        f"home = {Path(sys.executable).parent}\nversion = 3.{sys.version_info[1]}.0\n"
    )
    (made.prefix / "conda-meta").mkdir()
    (made.prefix / "conda-meta/history").touch()
    made.write(PLAYBOOK)
    return made


def plant(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        return
    path.unlink(missing_ok=True)
    KINDS[kind](path)


@pytest.mark.parametrize("kind", some(1))
def test_the_tools_own_files(kind: str, user: User) -> None:
    user.write(PLAYBOOK[:3])
    user.call("run", str(user.playbook))
    for name in OWN:
        for path in list(user.tool.glob(name)) or [user.tool / name]:
            plant(path, kind)
    user.call("status")
    user.call("status", "--format", "json")
    status, told = user.call("run", str(user.playbook))
    assert status == 0 or "journal" in told or "log" in told, told
    user.call("facts")
    user.call("clean", "--dry-run")


@pytest.mark.parametrize("kind", some(2))
def test_the_users_files(kind: str, user: User) -> None:
    for name in USERS:
        plant(user.home / name, kind)
    user.call("facts")
    user.call("run", str(user.playbook))
    user.call("run", str(user.playbook), "--check", "--diff")


@pytest.mark.parametrize("kind", some(3))
def test_an_environments_files(kind: str, user: User) -> None:
    for name in ENVIRONMENT:
        plant(Path(str(user.prefix / name).replace(str(user.prefix / "SITE"), str(user.site))), kind)
    user.write(PLAYBOOK[3:])
    user.call("run", str(user.playbook), "--check", "--deep")
    user.call("export", str(user.prefix))
    user.call("facts")


@pytest.mark.parametrize("kind", some(4))
def test_inputs(kind: str, user: User) -> None:
    for name in INPUTS:
        plant(user.folder / name, kind)
    told = []
    if kind not in ("bytes", "one line", "other types", "moment"):
        status, text = user.call("run", str(user.playbook), "-e", f"@{user.folder / 'vars.yml'}", "--check")
        assert status in (4, 5), text
        status, text = user.call("run", str(user.playbook), "--check")
        assert status == 4, text
    if user.playbook.is_dir():
        user.playbook.rmdir()
    user.playbook.unlink(missing_ok=True)
    for task in WITH_INPUTS:
        user.write([task])
        told.append(user.call("run", str(user.playbook), "--check"))
    assert all(status != 0 for status, _ in told), told


def test_a_process_of_its_own_ends_too(user: User) -> None:
    """The start-up path reads the state before anything else is there that could give up."""
    user.write(PLAYBOOK[:1])
    user.call("run", str(user.playbook))
    (state,) = user.tool.glob("state/*.state")
    plant(state, "pipe")
    done = subprocess.run(
        [sys.executable, "-m", "nbprovision", "run", str(user.playbook)],
        env=user.env, capture_output=True, text=True, check=False, timeout=300, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

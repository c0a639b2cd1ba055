"""Real pip and real uv fetch from where ensure_pip_index says, from local indexes, one of them with a password."""

from __future__ import annotations

import base64
import http.server
import shutil
import stat
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nbprovision.files.config_file import record_of
from nbprovision.indexes.ensure_pip_index import EnsurePipIndex
from nbprovision.indexes.index_settings import effective, pip_environment, uv_arguments, uv_environment
from nbprovision.machine.machine import Machine
from tests.support.driver import converge

pytestmark = pytest.mark.engine

PASSWORD = "canary/5:p@ss"
QUOTED = "canary%2F5%3Ap%40ss"


class Indexes(NamedTuple):
    """A server of two indexes: ``old`` has tiny 1.0, ``new`` has tiny 2.0 and asks for a password."""

    base: str
    asked: list[str]

    def url(self, name: str, credentials: str = "") -> str:
        """An index's URL."""
        return self.base.replace("://", f"://{credentials}") + f"/{name}/simple/"


def make_wheel(folder: Path, version: str) -> Path:
    """The smallest wheel there is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tiny-{version}-py3-none-any.whl"
    info = f"tiny-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", f"version = '{version}'\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


@pytest.fixture
def indexes(tmp_path: Path) -> Iterator[Indexes]:
    """The server, in a thread."""
    served = tmp_path / "served"
    for name, version in (("old", "1.0"), ("new", "2.0")):
        wheel = make_wheel(served / name / "simple/tiny", version)
        (wheel.parent / "index.html").write_text(f'<!DOCTYPE html><a href="{wheel.name}">{wheel.name}</a>')
    right = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(served))

        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path.startswith("/new/") and self.headers.get("Authorization") != right:
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
    yield Indexes(f"http://127.0.0.1:{server.server_address[1]}", asked)
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def env(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """No index by variables, nor by this machine's own configuration."""
    (tmp_path / "xdg").mkdir()
    kept = {name: value for name, value in env.items() if not name.startswith(("PIP_", "UV_"))}
    return {
        **kept,
        "XDG_CONFIG_DIRS": str(tmp_path / "xdg"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
        "UV_HTTP_RETRIES": "0",
    }


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A virtual environment, in which pip is this Python's."""
    made = tmp_path / "prefix"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True)
    site = made / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    (site / "pip").symlink_to(Path(sysconfig.get_paths()["purelib"]) / "pip")
    return made


def run(env: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    """A command of the user."""
    return subprocess.run([str(word) for word in words], env=env, cwd="/", capture_output=True, text=True, check=False)


def pip_takes(env: dict[str, str], prefix: Path, into: Path) -> str:
    """The version of tiny that pip of the environment fetches."""
    shutil.rmtree(into, ignore_errors=True)
    done = run(env, prefix / "bin/python", "-m", "pip", "download", "-q", "--no-deps", "-d", into, "tiny")
    assert done.returncode == 0, done.stderr
    return next(into.glob("tiny-*.whl")).name.split("-")[1]


def uv_takes(env: dict[str, str], prefix: Path, *arguments: str) -> str:
    """The version of tiny that uv would install into the environment."""
    uv = Path(sysconfig.get_paths()["scripts"]) / "uv"
    words = [
        "pip",
        "install",
        "--dry-run",
        "--no-deps",
        "--refresh",
        "--python",
        str(prefix / "bin/python"),
        "tiny",
        *arguments,
    ]
    done = run(env, uv, *words)
    assert done.returncode == 0, done.stderr
    return done.stderr.partition("+ tiny==")[2].split()[0]


def handed_on(machine: Machine, prefix: Path) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """What the tool starts pip and uv with."""
    settings = effective(machine.env, machine.user_home, prefix, root=machine.root)
    pip, uv = pip_environment(settings), uv_environment(settings)
    return {**machine.env, **pip}, {**machine.env, **uv}, uv_arguments(settings)


def holders(folder: Path, *needles: bytes) -> set[Path]:
    """Files below a folder that hold one of the texts."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path for path in files if any(needle in path.read_bytes() for needle in needles)}


def test_user_scope_with_a_password(
    machine: Machine, indexes: Indexes, prefix: Path, tmp_path: Path, home: Path
) -> None:
    """pip and uv by hand, and both as the tool starts them, fetch from it; only the two 0600 files hold the password."""
    with_password = indexes.url("new", f"me:{QUOTED}@")
    converge(EnsurePipIndex(url=with_password), machine)
    listed = run(machine.env, prefix / "bin/python", "-m", "pip", "config", "list").stdout
    assert f"global.index-url='{with_password}'" in listed
    assert pip_takes(machine.env, prefix, tmp_path / "got") == "2.0"
    assert uv_takes(machine.env, prefix) == "2.0"
    pip, uv, arguments = handed_on(machine, prefix)
    assert pip_takes(pip, prefix, tmp_path / "got") == "2.0"
    assert uv_takes(uv, prefix, *arguments) == "2.0"
    files = {home / ".config/pip/pip.conf", home / ".config/uv/uv.toml"}
    encoded = base64.b64encode(f"me:{PASSWORD}".encode())
    assert holders(tmp_path, b"canary", encoded, base64.b64encode(b"canary")[:8]) == files
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(record_of(path).stat().st_mode) == 0o600
    converge(EnsurePipIndex(state="absent"), machine)
    assert holders(tmp_path, b"canary") == set()
    assert list(home.glob(".config/*/*.*")) == []


def test_env_scope(machine: Machine, indexes: Indexes, prefix: Path, tmp_path: Path) -> None:
    """Only in that environment: pip by its own file, uv because the tool tells it."""
    converge(EnsurePipIndex(url=indexes.url("old"), scope="env", env=str(prefix)), machine)
    assert pip_takes(machine.env, prefix, tmp_path / "got") == "1.0"
    pip, uv, arguments = handed_on(machine, prefix)
    assert uv_takes(uv, prefix, *arguments) == "1.0"
    assert pip_takes(pip, prefix, tmp_path / "got") == "1.0"
    assert effective(machine.env, machine.user_home, tmp_path / "other", root=machine.root).index_url is None


@pytest.mark.parametrize("scope", ["user", "env"])
def test_strategies(scope: str, machine: Machine, indexes: Indexes, prefix: Path, tmp_path: Path) -> None:
    """uv takes the first index that has a name, the extra one here; by best-match what pip takes."""
    where: dict[str, Any] = {"scope": "env", "env": str(prefix)} if scope == "env" else {}
    # The server looks at no password under /old; the user's uv.toml may hold one, an environment may not.
    newest = indexes.base + "/open/simple/"
    shutil.copytree(tmp_path / "served/new", tmp_path / "served/open")
    common = {"url": newest, "extra_urls": [indexes.url("old")], **where}
    converge(EnsurePipIndex(**common), machine)
    _, uv, arguments = handed_on(machine, prefix)
    assert uv_takes(uv, prefix, *arguments) == "1.0"
    assert pip_takes(machine.env, prefix, tmp_path / "got") == "2.0"
    converge(EnsurePipIndex(**common, index_strategy="best-match"), machine)
    _, uv, arguments = handed_on(machine, prefix)
    assert uv_takes(uv, prefix, *arguments) == "2.0"
    if scope == "user":
        assert uv_takes(machine.env, prefix) == "2.0"


def test_find_links_and_trusted_hosts(machine: Machine, indexes: Indexes, prefix: Path, tmp_path: Path) -> None:
    """A folder with a blank in its name, beside an index that has less; both tools accept the other settings."""
    folder = tmp_path / "my wheels, all"
    make_wheel(folder, "3.0")
    task = EnsurePipIndex(
        url=indexes.url("old"),
        find_links=str(folder),
        trusted_hosts=["127.0.0.1", "h.example:8443"],
        index_strategy="best-match",
    )
    converge(task, machine)
    assert pip_takes(machine.env, prefix, tmp_path / "got") == "3.0"
    assert uv_takes(machine.env, prefix) == "3.0"
    pip, uv, arguments = handed_on(machine, prefix)
    assert pip_takes(pip, prefix, tmp_path / "got") == "3.0"
    assert uv_takes(uv, prefix, *arguments) == "3.0"


def test_uv_by_itself_is_followed_by_pip(machine: Machine, indexes: Indexes, prefix: Path, tmp_path: Path) -> None:
    """Who has set uv alone gets the same from pip; the rest of uv's configuration is shut out, not added."""
    folder = machine.user_home / ".config/uv"
    folder.mkdir(parents=True)
    (folder / "uv.toml").write_text(f'[[index]]\nurl = "{indexes.url("old")}"\ndefault = true\n')
    pip, uv, arguments = handed_on(machine, prefix)
    assert pip_takes(pip, prefix, tmp_path / "got") == "1.0"
    assert uv_takes(uv, prefix, *arguments) == "1.0"
    indexes.asked.clear()
    machine.env["PIP_INDEX_URL"] = indexes.url("new", f"me:{QUOTED}@")
    pip, uv, arguments = handed_on(machine, prefix)
    assert uv_takes(uv, prefix, *arguments) == "2.0"
    assert not any(path.startswith("/old/") for path in indexes.asked)


def test_no_index(machine: Machine, indexes: Indexes, prefix: Path, tmp_path: Path) -> None:
    """What the user has set in pip.conf holds for uv: no index is asked."""
    make_wheel(tmp_path / "wheels", "4.0")
    (prefix / "pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {tmp_path / 'wheels'}\n")
    converge(EnsurePipIndex(url=indexes.url("old")), machine)
    pip, uv, arguments = handed_on(machine, prefix)
    assert pip_takes(pip, prefix, tmp_path / "got") == "4.0"
    assert uv_takes(uv, prefix, *arguments) == "4.0"
    assert indexes.asked == []

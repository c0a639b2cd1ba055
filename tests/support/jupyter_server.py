"""A real Jupyter server in an environment of its own, as an image brings one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import registry_settings
from tests.support.at_work import until

TOKEN = "token-of-the-test"
OPTIONS = ("--no-browser", "--allow-root", "--ServerApp.port=0", f"--IdentityProvider.token={TOKEN}")


@pytest.fixture(scope="session")
def server_environment(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with a Jupyter server, its kernel, and the supervisor that Studio's image has."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    prefix = tmp_path_factory.mktemp("server") / "env"
    env = {**os.environ, **registry_settings(), "UV_CACHE_DIR": str(shared_cache / "uv")}
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(prefix)], env=env, check=True)
    packages = ["jupyter_server>=2", "ipykernel", "supervisor>=4.2", "setuptools<81"]
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", str(prefix / "bin/python"), *packages],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"no Jupyter server can be installed here: {done.stderr[-300:]}")
    return prefix


class Server:
    """A running server of a user.

    Args:
        home: The user's home folder.
        pid: Its process.

    """

    def __init__(self, home: Path, pid: int) -> None:
        self.pid = pid
        record = home / f".local/share/jupyter/runtime/jpserver-{pid}.json"
        until(lambda: json.loads(record.read_text())["url"])
        self.url = json.loads(record.read_text())["url"]
        until(lambda: self.ask("api/status"))

    def ask(self, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)

    def kernel(self, name: str) -> dict[str, str]:
        """The environment variables of the process of a new kernel, by the kernel of Linux."""
        identity = self.ask("api/kernels", {"name": name})["id"]
        found: list[Path] = []
        until(lambda: found.extend(path for path in Path("/proc").glob("[0-9]*") if _names(path, identity)) or found)
        entries = (found[0] / "environ").read_bytes().decode().split("\0")
        return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def _names(process: Path, word: str) -> bool:
    with contextlib.suppress(OSError):
        return word.encode() in (process / "cmdline").read_bytes()
    return False

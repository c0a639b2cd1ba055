"""A team's folder with a playbook to lock: a served channel for two platforms, and a folder or an index of wheels."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision.__main__ import main
from tests.support.conda_packages import TinyChannel
from tests.support.file_server import FileServer, serving_files
from tests.support.wheels import make_wheel

PLATFORMS = ("linux-64", "linux-aarch64")
BOTH = ("--platform", "linux-64", "--platform", "linux-aarch64")


class Team:
    """A folder of a repository.

    Attributes:
        folder: Its path.
        channel: A channel in a folder, which `serve` puts on the server.
        wheels: A folder of wheels.
        server: The server of the channel, and of an index.

    """

    def __init__(self, folder: Path, server: FileServer) -> None:
        self.folder = folder
        folder.mkdir()
        self.channel = TinyChannel(folder / "channel")
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        self.server = server
        server.content_type = "text/html"  # the index is
        self.playbook = folder / "team.yml"
        self.lock_folder = folder / "team.lock"
        for platform in PLATFORMS:
            self.channel.add("python", "3.12.4", subdir=platform, files={"bin/python": platform})
            self.channel.add("alpha", "1.0", subdir=platform, depends=["__glibc >=2.28"])
        self.channel.add("beta", "1.0", noarch="python", depends=["python", "alpha"])
        self.channel.add("pip", "24.0", noarch="python", depends=["python"])
        make_wheel(self.wheels, "pear", "1.0", requires=["beta>=1", "plum"])
        make_wheel(self.wheels, "plum", "1.0")
        self.serve()

    def serve(self) -> None:
        """Put the channel and an index of the wheels on the server."""
        self.server.files.clear()
        for path in self.channel.path.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                for root in ("", "/t/tk-0123456789"):
                    self.server.files[f"{root}/conda/{path.relative_to(self.channel.path)}"] = content
        put_index(self.server, self.wheels)

    @property
    def url(self) -> str:
        """The URL of the served channel."""
        return f"{self.server.url}/conda"

    def write(self, tasks: str) -> None:
        """Write the playbook."""
        self.playbook.write_text(f"- tasks:\n{textwrap.indent(textwrap.dedent(tasks).strip(), '    ')}\n")

    def standard(self, *, specs: str = "python, pip, beta", requirements: str = "pear") -> None:
        """Write a playbook with a conda environment, and a package from pip in it."""
        self.write(f"""
            - ensure_conda_env: {{name: fraud, packages: [{specs}], channels: ["{self.url}"]}}
            - ensure_pip_pkg: {{env: fraud, packages: [{requirements}]}}
        """)

    def lock(self, *options: str) -> int:
        """Lock the playbook; the exit status."""
        return main(["lock", str(self.playbook), *options])

    def files(self) -> dict[str, str]:
        """The texts of the lock's files."""
        return {path.name: path.read_text() for path in sorted(self.lock_folder.iterdir())}


@pytest.fixture
def team(tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    """A team whose packages come from its server and its folder of wheels, and from nowhere else."""
    for name, value in use_only(env, tmp_path / "team/wheels").items():
        monkeypatch.setenv(name, value)
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_CONSTRAINT", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with serving_files() as server:
        yield Team(tmp_path / "team", server)


def put_channel(server: FileServer, channel: Path) -> None:
    """Put a channel on a server, below ``/conda``."""
    for path in channel.rglob("*"):
        if path.is_file():
            server.files[f"/conda/{path.relative_to(channel)}"] = path.read_bytes()


def put_index(server: FileServer, folder: Path) -> None:
    """Put the wheels of a folder and an index of them on a server."""
    names: dict[str, list[Path]] = {}
    for wheel in sorted(folder.iterdir()):
        names.setdefault(wheel.name.partition("-")[0].replace("_", "-"), []).append(wheel)
        server.files[f"/files/{wheel.name}"] = wheel.read_bytes()
    for name, wheels in names.items():
        links = "".join(
            f'<a href="/files/{wheel.name}#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}">{wheel.name}</a>'
            for wheel in wheels
        )
        server.files[f"/simple/{name}/"] = links.encode()


def use_only(env: dict[str, str], wheels: Path) -> dict[str, str]:
    """Variables with a folder of wheels instead of an index."""
    kept = {name: value for name, value in env.items() if not name.startswith(("PIP_INDEX", "UV_"))}
    return {**kept, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": "/dev/null"}

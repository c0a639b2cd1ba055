"""Every test has a HOME, a tool home and a configuration of its own; only what reaches the registries is let in."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from nbprovision.machine.machine import Machine
from nbprovision.system.context import separate_run

pytest_plugins = [
    "tests.support.auditing",
    "tests.support.bytecode",
    "tests.support.run_folder",
    "tests.support.measuring",
    "tests.support.tiers",
    "tests.support.figures",
    "tests.support.own_wheels",
]

_REACHES_REGISTRIES = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip

# How long an example takes, or its making, tells of the machine.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@functools.cache
def registry_settings() -> dict[str, str]:
    """How this machine reaches a Python package index, from pip's own configuration."""
    settings = {name: os.environ[name] for name in _REACHES_REGISTRIES if name in os.environ}
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.partition(".")
        if section not in ("global", "install", "download", ":env:"):
            continue
        value = value.strip("'\"")
        if option == "index-url" and value:  # pip ignores an empty variable
            settings["PIP_INDEX_URL"] = settings["UV_DEFAULT_INDEX"] = value
        elif option == "cert":
            settings.setdefault("PIP_CERT", value)
            settings.setdefault("SSL_CERT_FILE", value)
    return settings


def measurement() -> dict[str, str]:
    """What has the processes that a test starts measured too, where the tests are (``--cov``)."""
    return {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_PROCESS_")}


@pytest.fixture(autouse=True)
def a_run_of_its_own() -> Iterator[None]:
    """What one test has as a password may be a word of another."""
    with separate_run():
        yield


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The user's home folder of this test."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def env(tmp_path: Path, home: Path) -> dict[str, str]:
    """The environment variables of a user on a bare machine."""
    return {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
        "NBPROVISION_HOME": str(tmp_path / "nbprovision"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **registry_settings(),
        **measurement(),
    }


@pytest.fixture
def machine(env: dict[str, str], tmp_path: Path) -> Machine:
    """The facts of that machine; ``root`` is an empty folder, so that no platform is found."""
    root = tmp_path / "root"
    root.mkdir()
    made = Machine(env, root=root)
    made.home.mkdir(parents=True, exist_ok=True)
    return made


@pytest.fixture(scope="session")
def shared_cache() -> Path:
    """What is costly and never changes (the channel, wheels) is kept between test runs of one checkout."""
    configured = os.environ.get("NBPROVISION_TEST_CACHE")
    folder = Path(configured) if configured else Path(__file__).parents[1] / ".test-cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder, links as links."""
    shutil.copytree(source, target, symlinks=True)


class Channel(NamedTuple):
    """A real conda channel of this machine."""

    path: Path
    url: str
    python: str


@pytest.fixture(scope="session")
def channel(shared_cache: Path) -> Channel:
    """Python, pip, setuptools, wheel and what ipykernel needs, with some packages in several versions."""
    from tests.support.channel import build

    folder = build(shared_cache)
    return Channel(folder, folder.as_uri(), f"{sys.version_info.major}.{sys.version_info.minor}")

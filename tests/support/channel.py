"""The channel that the integration tests stand on, built by the product and kept between test runs."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import filelock

import nbprovision.channel as builder
from nbprovision.channel.ensure_conda_channel import EnsureCondaChannel
from nbprovision.channel.package import Package
from nbprovision.machine.machine import Machine
from tests.conftest import registry_settings

PYPI = ["pip", "setuptools", "wheel", "ipykernel"]
# In several versions, for what adds, upgrades, downgrades and pins.
PYPI += ["six==1.16.0", "six==1.17.0", "idna==3.7", "idna==3.10", "packaging", "packaging==24.0"]


def build(cache: Path) -> Path:
    """Build the channel once for this interpreter and this builder; test processes wait for one another."""
    folder = cache / f"channel-{_key()}"
    with filelock.FileLock(cache / "channel.lock"):
        if not (folder / "done").exists():
            _build(folder, cache)
            (folder / "done").touch()
    return folder


def _build(folder: Path, cache: Path) -> None:
    env = {**os.environ, "HOME": str(cache / "home"), "NBPROVISION_HOME": str(cache / "nbprovision")}
    env = {name: value for name, value in env.items() if not name.startswith(("PIP_", "UV_"))}
    machine = Machine({**env, **registry_settings()}, root=cache)
    task = EnsureCondaChannel(path=str(folder), pypi=PYPI)
    task.apply(task.plan(task.read(machine)), machine)
    for package in (activating(), r_demo()):
        package.write(folder)
    index(folder)


def index(folder: Path) -> None:
    """Index a channel, in a process of its own: py-rattler may crash an interpreter that ends."""
    import subprocess

    code = (
        "import asyncio, os, sys\nfrom pathlib import Path\nfrom rattler.index.index import index_fs\n"
        "asyncio.run(index_fs(Path(sys.argv[1]), write_zst=True, write_shards=True, force=True))\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def activating() -> Package:
    """A package whose activation script sets NBP_ACTIVATED."""
    package = Package("nbp-activate", "1.0", "0", noarch="generic")
    package.add("etc/conda/activate.d/nbp.sh", b"export NBP_ACTIVATED=1\n")
    package.add("etc/conda/deactivate.d/nbp.sh", b"unset NBP_ACTIVATED\n")
    return package


def r_demo() -> Package:
    """A package as R's are, without R."""
    package = Package("r-demo", "1.0", "r44_0", noarch="generic")
    package.add("lib/R/library/demo/DESCRIPTION", b"Package: demo\nVersion: 1.0\n")
    return package


def _key() -> str:
    sources = sorted(Path(builder.__file__).parent.glob("*.py"))
    content = b"".join(path.read_bytes() for path in [*sources, Path(__file__)])
    return hashlib.sha256(content + sys.version.encode() + sys.executable.encode()).hexdigest()[:12]

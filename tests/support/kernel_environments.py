"""Conda environments that kernels can be of, with a real Python and a real ipykernel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nbprovision.jupyter.ensure_kernel import EnsureKernel
from nbprovision.machine.machine import Machine
from tests.conftest import Channel

_INSTALL = """
import asyncio, os, sys
from rattler import Channel, Gateway, MatchSpec, Platform, install, solve
async def make(channel, cache, prefix, *specs):
    records = await solve([Channel(channel)], [MatchSpec(spec) for spec in specs], gateway=Gateway(),
                          platforms=[Platform.current(), Platform("noarch")])
    await install(records, prefix, cache_dir=cache, show_progress=False)
asyncio.run(make(*sys.argv[1:]))
os._exit(0)
"""

MakeEnvironment = Callable[..., Path]


@pytest.fixture(scope="session")
def make_environment(channel: Channel, tmp_path_factory: pytest.TempPathFactory) -> MakeEnvironment:
    """Makes a conda environment at a prefix, by bare py-rattler."""
    cache = tmp_path_factory.mktemp("packages")

    def make(prefix: Path, *specs: str) -> Path:
        command = [sys.executable, "-c", _INSTALL, channel.url, str(cache), str(prefix), *specs]
        subprocess.run(command, check=True, timeout=300)
        return prefix

    return make


@pytest.fixture(scope="session")
def fraud(make_environment: MakeEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with ipykernel; shared, so nothing may change it."""
    prefix = tmp_path_factory.mktemp("volume") / "envs" / "a größe"
    return make_environment(prefix, "python", "pip", "ipykernel")


def folder_of(task: EnsureKernel, machine: Machine) -> Path:
    return Path(next(iter(task.provides(machine))).identity)

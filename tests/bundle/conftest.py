"""Fixtures of these tests."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from nbprovision.bundle import fetching, tool
from nbprovision.conda.locking import PLATFORMS
from nbprovision.machine.machine import Machine
from tests.conftest import registry_settings


@pytest.fixture(scope="session")
def tool_wheels(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of all that the tool needs, from the machine's index, kept between test runs."""
    needs = hashlib.sha256("".join(tool.requirements()).encode()).hexdigest()[:12]
    folder = shared_cache / f"tool-wheels-{needs}"
    if not folder.is_dir():
        home = tmp_path_factory.mktemp("tool")
        machine = Machine({"HOME": str(home), "PATH": "/usr/bin:/bin", **registry_settings()}, home=home)
        archives, _ = tool.needed(machine, PLATFORMS, home / "scratch")
        files = fetching.fetch_distributions(machine, archives, None, home / "fetched")
        for archive in archives:
            files[archive.url].rename(home / "fetched" / archive.name)
        try:
            (home / "fetched").rename(folder)
        except OSError:  # another worker was faster, or it is another file system
            if not folder.is_dir():
                shutil.copytree(home / "fetched", folder)
    return folder

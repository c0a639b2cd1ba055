"""The documentation site, built once by zensical in an environment of its own, which is kept between test runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import tomlkit

from tests.conftest import registry_settings

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "docs/site/build.py"
# As somebody reads the output who looks for colour codes in vain.
PLAIN = {"NO_COLOR": "1", "LC_ALL": "C.UTF-8"}


class Site(NamedTuple):
    """The site as it was built."""

    python: Path
    folder: Path
    output: str

    @property
    def html(self) -> Path:
        return self.folder / "html"


@pytest.fixture(scope="session")
def zensical(shared_cache: Path) -> Path:
    """The Python of an environment with the extra ``docs``."""
    from filelock import FileLock
    from uv import find_uv_bin

    extras = tomlkit.loads((ROOT / "pyproject.toml").read_text()).unwrap()["project"]["optional-dependencies"]
    folder = shared_cache / f"docs-{sys.version_info.major}.{sys.version_info.minor}"
    env = {**os.environ, **registry_settings(), "UV_CACHE_DIR": str(shared_cache / "uv")}
    made = folder / "made-from"
    with FileLock(shared_cache / "docs.lock"):
        if not made.exists() or made.read_text() != str(extras["docs"]):
            python = folder / "bin/python"
            for words in (
                ["venv", "--clear", "--python", sys.executable, str(folder)],
                ["pip", "install", "--python", str(python), *extras["docs"]],
            ):
                done = subprocess.run([find_uv_bin(), "--quiet", *words], env=env, capture_output=True, text=True)
                if done.returncode:
                    pytest.skip(f"zensical cannot be installed: {done.stderr.strip()[-300:]}")
            made.write_text(str(extras["docs"]))
    return folder / "bin/python"


@pytest.fixture(scope="session")
def site(zensical: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The site, by the command of docs/contributing.md."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [zensical, BUILD, "--folder", folder],
        env={**os.environ, **PLAIN}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return Site(zensical, folder, done.stdout + done.stderr)

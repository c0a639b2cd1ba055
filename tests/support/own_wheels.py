"""The tool's own wheels, and home folders in which bootstrap.sh has installed it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import registry_settings
from tests.support.bootstrapping import NOT_THERE, REACHED, ROOT, bootstrap


@pytest.fixture(scope="session")
def wheels(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of nbprovision and all that it needs."""
    from filelock import FileLock

    needs = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()[:8]
    folder = shared_cache / f"wheels-{sys.version_info.major}.{sys.version_info.minor}-{needs}"
    env = {**os.environ, **registry_settings(), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    pip = [sys.executable, "-m", "pip"]
    own = tmp_path_factory.mktemp("wheels")
    with FileLock(shared_cache / "wheels.lock"):
        subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(own), str(ROOT)], env=env, check=True)
        (wheel,) = own.glob("nbprovision-*.whl")
        if not (folder / "complete").exists():
            subprocess.run(
                [*pip, "download", "-q", "-d", str(folder), "--only-binary=:all:", str(wheel)], env=env, check=True
            )
            for copied in folder.glob("nbprovision-*.whl"):
                copied.unlink()
            (folder / "complete").touch()
    for path in folder.glob("*.whl"):
        (own / path.name).hardlink_to(path)
    return own


@pytest.fixture
def offline(env: dict[str, str], wheels: Path, shared_cache: Path) -> dict[str, str]:
    """A machine with a folder of wheels and an index that nobody answers for; its Python is the tests' own."""
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        env.pop(name, None)
    return {
        **env,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "NBPROVISION_SOURCE": str(wheels),
        "NBPROVISION_PYTHON": sys.executable,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
        "UV_CACHE_DIR": str(shared_cache / "uv"),
    }


@pytest.fixture(scope="session")
def made(wheels: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a complete environment, to be copied to the same place by tests that harm it."""
    home = tmp_path_factory.mktemp("made") / "home"
    env = {
        "HOME": str(home.parent),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "NBPROVISION_HOME": str(home),
        "NBPROVISION_SOURCE": str(wheels),
        "NBPROVISION_PYTHON": sys.executable,
        "UV_CACHE_DIR": str(shared_cache / "uv"),
    }
    done = bootstrap(env, NOT_THERE)
    assert done.returncode == REACHED, done.stderr
    return home


@pytest.fixture
def complete(made: Path, offline: dict[str, str]) -> Iterator[tuple[Path, dict[str, str]]]:
    """That home folder and its variables; what a test does to it (but never in place) is undone."""
    kept = made.with_name("kept")
    shutil.copytree(made, kept, symlinks=True, copy_function=os.link)
    yield made, {**offline, "NBPROVISION_HOME": str(made)}
    shutil.rmtree(made)
    kept.rename(made)

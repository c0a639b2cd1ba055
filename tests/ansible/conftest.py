"""Controllers: ansible-core in environments of its own, kept between test runs, and the collection as it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from nbprovision.system import toml_document
from tests.conftest import registry_settings
from tests.support.ansible_controller import Controller
from tests.support.pythons import python_of

ROOT = Path(__file__).parents[2]
# The oldest that the collection supports, the newest that this Python takes, and the newest of a later Python.
CORES = {"2.17": ["ansible-core==2.17.*"], "newest": ["ansible-core>=2.18"], "later": ["ansible-core>=2.20"]}
_LATER = ("3.14", "3.13", "3.12")  # those that the newest core takes


def environment(cache: Path, core: str) -> Path:
    """The folder of the commands of an ansible-core."""
    from filelock import FileLock
    from uv import find_uv_bin

    later = (python for version in _LATER if (python := python_of(version)))
    interpreter = next(later, None) if core == "later" else sys.executable
    if interpreter is None:
        pytest.skip(f"NO TEST OF THE NEWEST ANSIBLE: it takes Python {' or '.join(_LATER)}, and none of them is here")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / f"ansible-{core}-{version if core != 'later' else Path(interpreter).name.removeprefix('python')}"
    uv = [find_uv_bin(), "--quiet"]
    own = sysconfig.get_path("purelib") if core != "later" else str(ROOT)
    # What is compiled for one Python does not serve another.
    dependencies = toml_document.load((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    dependencies = dependencies if core == "later" else []
    env = {**os.environ, **registry_settings(), "UV_CACHE_DIR": str(cache / "uv")}
    with FileLock(cache / "ansible.lock"):
        if not (folder / "complete").exists():
            python = folder / "bin/python"
            for words in (
                ["venv", "--clear", "--python", interpreter, str(folder)],
                ["pip", "install", "--only-binary", ":all:", "--python", str(python), *CORES[core], *dependencies],
            ):
                done = subprocess.run([*uv, *words], env=env, capture_output=True, text=True)
                if done.returncode:
                    pytest.skip(f"ansible-core {core} cannot be installed: {done.stderr.strip()[-300:]}")
            (folder / "complete").touch()
        # The controller has the nbprovision of this checkout, as that of a user has an installed one.
        (packages,) = folder.glob("lib/python*/site-packages")
        packages.joinpath("controller.pth").write_text(f"import site; site.addsitedir({own!r})\n")
    return folder / "bin"


@pytest.fixture(scope="session")
def collections(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of collections, with this one built and installed from its file by the oldest core."""
    folder = tmp_path_factory.mktemp("collections")
    controller = Controller(environment(shared_cache, "2.17"), folder, {"HOME": str(folder), "PATH": "/usr/bin:/bin"})
    controller.galaxy("build", str(ROOT / "ansible"), "--output-path", str(folder))
    (archive,) = folder.glob("nbprovision-notebook-*.tar.gz")
    controller.galaxy("install", str(archive), "--collections-path", str(folder), "--offline")
    return folder


@pytest.fixture(params=["2.17", "newest"])
def controller(
    request: pytest.FixtureRequest, shared_cache: Path, collections: Path, tmp_path: Path, env: dict[str, str]
) -> Controller:
    """A controller whose only target is this machine, with this checkout's nbprovision on the PATH."""
    env = {
        **env,
        "PATH": f"{sysconfig.get_path('scripts')}:{env['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
    }
    return Controller(environment(shared_cache, request.param), tmp_path, env)

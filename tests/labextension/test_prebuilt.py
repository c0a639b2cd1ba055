"""The prebuilt extension in the package is what its sources give, byte for byte."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nbprovision.system.files import tree

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "labextension"
PREBUILT = ROOT / "nbprovision/labextension"


def has_node() -> bool:
    """Whether there is a Node.js that the builder supports (20 or newer), with npm."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return False
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    return int(version.removeprefix("v").partition(".")[0] or 0) >= 20


@pytest.mark.proof
@pytest.mark.network
@pytest.mark.skipif(not has_node(), reason="NOT COMPARED: no npm and Node.js 20 or newer here to build the extension")
def test_the_prebuilt_files_are_those_of_the_sources(shared_cache: Path, tmp_path: Path) -> None:
    """Packages of the lock file alone; their install scripts do not run."""
    work = tmp_path / "labextension"
    shutil.copytree(SOURCES, work, ignore=shutil.ignore_patterns("node_modules", "lib"))
    env = {**os.environ, "npm_config_cache": str(shared_cache / "npm"), "npm_config_update_notifier": "false"}
    for argv in (["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["npm", "run", "build"]):
        done = subprocess.run(argv, cwd=work, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    built = tmp_path / "nbprovision/labextension"
    assert sorted(tree(built)) == sorted(tree(PREBUILT)), "build it again: see labextension/README.md"
    for name in tree(built):
        if (built / name).is_file():
            assert (built / name).read_bytes() == (PREBUILT / name).read_bytes(), f"{name}: see labextension/README.md"


def test_its_only_request_is_for_a_content() -> None:
    """A request that JupyterLab makes as well cannot be seen from outside, so the sources are looked at too."""
    text = "".join(path.read_text() for path in sorted(SOURCES.glob("src/*.ts")))
    assert set(re.findall(r"serviceManager\.(\w+)", text)) == {"contents"}
    assert re.findall(r"_contents\.(\w+)", text) == ["get"]
    assert re.findall(r"\b(?:fetch|ServerConnection|XMLHttpRequest|WebSocket|import\()", text) == []
    assert "innerHTML" not in text


def test_it_names_no_host() -> None:
    """Neither the files nor the lock name a registry, and the extension asks for nothing from elsewhere."""
    for path in (SOURCES / "package-lock.json", *PREBUILT.glob("static/*.js")):
        text = path.read_text()
        assert '"resolved"' not in text
        assert "fetch(" not in text
        assert "XMLHttpRequest" not in text

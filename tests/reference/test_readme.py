"""README and the guides are followed from the first command to the last, as a newcomer would.

README has a fresh home, and so has the tutorial, which begins with a bare machine; the guides after it go on there.

What is printed is typed and written as it is (`tests/support/pages.py`); nothing is put in its place. A `.condarc` has the local
channel for conda-forge, as that of a company has its mirror.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import Channel, registry_settings
from tests.support.pages import GUIDES, ROOT, Block, blocks

pytestmark = pytest.mark.proof

NAME = "conda-forge"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The repository, without what other tests left in it."""
    folder = tmp_path / "clone"
    ignored = shutil.ignore_patterns("__pycache__", "container", ".*cache*")
    for name in ("nbprovision", "scripts", "playbooks", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("bootstrap.sh", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def newcomer(clone: Path, channel: Channel) -> dict[str, str]:
    """Their variables: nothing of nbprovision is set. `python3` is the Python of which the local channel has a package."""
    home = clone.with_name("home")
    commands = clone.with_name("bin")
    mirror = clone.with_name("mirror")
    for folder in (home, commands, mirror):
        folder.mkdir()
    (mirror / NAME).symlink_to(channel.path)
    (home / ".condarc").write_text(f"custom_channels:\n  {NAME}: {mirror.as_uri()}\n")
    (commands / "python3").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (commands / "python3").chmod(0o755)
    return {
        "HOME": str(home),
        "PATH": f"{commands}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        **registry_settings(),
    }


class Shell:
    """A terminal: what one block exports, the next one has."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.exported = folder.with_name("exported")
        self.exported.write_text("")
        self.output = ""

    def type(self, page: str, block: Block) -> None:
        """Each line of a block has to succeed; what it prints is kept for the block after it."""
        script = f". {self.exported}\nset -e\n{block.text}export -p >{self.exported}\n"
        done = subprocess.run(
            ["sh", "-c", script], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, f"{page}:{block.line}\n{block.text}\n{done.stdout}\n{done.stderr}"
        self.output = done.stdout

    def follow(self, page: str) -> None:
        """Do what a page says."""
        for block in blocks(page):
            if block.not_run:
                continue
            if block.file_name:
                (self.folder / block.file_name).write_text(block.text)
            elif block.language == "sh":
                self.type(page, block)
            elif not block.language:
                pattern = re.escape(block.text.strip()).replace(re.escape("..."), ".*")
                assert re.search(f"^{pattern}$", self.output, re.MULTILINE), (
                    f"{page}:{block.line} shows\n{block.text}\nand it is\n{self.output}"
                )


@pytest.mark.engine
@pytest.mark.kernel
@pytest.mark.network
def test_the_readme(clone: Path, newcomer: dict[str, str]) -> None:
    Shell(clone, newcomer).follow("README.md")
    assert kernels_in(newcomer) == {"fraud", "quickstart", "risk"}


@pytest.mark.engine
@pytest.mark.kernel
@pytest.mark.network
def test_the_guides(clone: Path, newcomer: dict[str, str]) -> None:
    shell = Shell(clone, newcomer)
    first, *others = GUIDES[1:]
    shell.follow(first)
    assert kernels_in(newcomer) == set()
    assert not Path(newcomer["HOME"], ".local/state/nbprovision/envs/quickstart").exists()
    for page in others:
        shell.follow(page)
    assert kernels_in(newcomer) == {"my-copy", "plots", "quickstart", "shared"}
    assert not Path(newcomer["HOME"], ".config/pip").exists(), "a guide that only looks has written"


def kernels_in(env: dict[str, str]) -> set[str]:
    return {path.name for path in Path(env["HOME"], ".local/share/jupyter/kernels").iterdir()}


def test_the_playbook_of_the_readme_is_the_one_in_the_repository() -> None:
    (block,) = (block for block in blocks("README.md") if block.language == "yaml")
    assert yaml.safe_load(block.text) == yaml.safe_load((ROOT / "playbooks/sagemaker.yml").read_text())
    assert block.text in (ROOT / "playbooks/sagemaker.yml").read_text()


def test_the_test_command_of_the_readme(tmp_path: Path) -> None:
    """It is what ran this very test, where it did; here it is asked for the list of tests only."""
    if not Path(sys.prefix, ".made-from").exists():
        pytest.skip("these tests were not started by tests/run.sh")
    made_from = subprocess.run(
        "cat pyproject.toml scripts/* | cksum", shell=True, cwd=ROOT, capture_output=True, text=True
    )
    if not Path(sys.prefix, ".made-from").read_text().startswith(made_from.stdout.strip()):
        pytest.skip("pyproject.toml is newer than this environment, which would be made anew under these tests")
    (line,) = (block.text for block in blocks("README.md") if block.text.startswith("sh tests/run.sh"))
    env = {**os.environ, "NBPROVISION_TEST_VENV": sys.prefix, "NBPROVISION_TEST_WORKERS": "1"}
    line = line.strip() + " --collect-only -q -p no:cacheprovider tests/test_layers.py"
    assert "tests/test_layers.py" in type_line(line, ROOT, env)


@pytest.mark.engine
def test_the_task_that_the_contributors_page_writes(env: dict[str, str], tmp_path: Path) -> None:
    """One new file is a new kind of task: in a playbook, with check mode, and as a Python function."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "nbprovision", clone / "nbprovision", ignore=shutil.ignore_patterns("__pycache__"))
    page = (ROOT / "docs/contributing.md").read_text()
    (block,) = (block for block in blocks("docs/contributing.md") if block.language == "python")
    (name,) = re.findall(r"`(nbprovision/files/\w+\.py)` holds the class", page)
    (clone / name).write_text(block.text)
    motd = tmp_path / "motd"
    (tmp_path / "motd.yml").write_text("- tasks:\n    - ensure_motd: {path: ./motd, text: hello}\n")
    nbprovision = f"{sys.executable} -m nbprovision run {tmp_path}/motd.yml"
    assert "changed=1" in type_line(f"{nbprovision} --check", clone, env)
    assert not motd.exists()
    assert "changed=1" in type_line(nbprovision, clone, env)
    assert motd.read_text() == "hello\n"
    assert "changed=0" in type_line(nbprovision, clone, env)
    code = f"import nbprovision; print(nbprovision.ensure_motd(path={str(motd)!r}, text='bye').changed)"
    assert type_line(f'{sys.executable} -c "{code}"', clone, env) == "True\n"


def type_line(line: str, folder: Path, env: dict[str, str]) -> str:
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout

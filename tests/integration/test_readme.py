"""Every command and every playbook of the README and the tutorial is run, as a newcomer would, in a fresh home.

In place of conda-forge stands the local channel. A fenced block of the language `sh` is typed line by line, `yaml` is a
playbook (under the name that a comment before it gives, or the same as one that the repository has), `python` is run by
the tool's own Python. A block that cannot be run here says so in a comment before it: `<!-- not run here: why -->`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.conftest import Channel, registry_settings

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/tutorial.md", "docs/how-to.md", "docs/lifecycle.md"]


class Block(NamedTuple):
    language: str
    comment: str
    text: str


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, each with the comment that stands before it."""
    found = re.findall(r"(?:<!-- ([^\n]*) -->\n)?```(\w*)\n(.*?)```\n", (ROOT / page).read_text(), re.DOTALL)
    return [Block(language, comment, text) for comment, language, text in found]


def run_here(page: str) -> list[Block]:
    return [block for block in blocks(page) if not block.comment.startswith("not run here: ")]


def commands(page: str) -> list[str]:
    """Every line of every `sh` block."""
    return [line for block in run_here(page) if block.language == "sh" for line in block.text.splitlines()]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, channel: Channel) -> Path:
    """What a newcomer has, with the local channel in place of conda-forge."""
    folder = tmp_path_factory.mktemp("newcomer") / "clone"
    ignored = shutil.ignore_patterns("__pycache__", "container", ".*cache*")
    for name in ("nbprovision", "scripts", "playbooks", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("bootstrap.sh", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    for playbook in (folder / "playbooks").glob("*.yml"):
        playbook.write_text(playbook.read_text().replace("conda-forge", str(channel.path)))
    return folder


@pytest.fixture(scope="module")
def newcomer(clone: Path, shared_cache: Path) -> dict[str, str]:
    """Their variables: nothing of nbprovision is set, but which Python to use, as the local channel has this one.

    One home for all pages: each begins with the quickstart, so that they may be read in any order.
    """
    home = clone.with_name("home")
    home.mkdir()
    return {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "NBPROVISION_PYTHON": sys.executable,
        "UV_CACHE_DIR": str(shared_cache / "uv"),
        **registry_settings(),
    }


def type_line(line: str, folder: Path, env: dict[str, str]) -> str:
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def type_all(page: str, folder: Path, env: dict[str, str], channel: Channel) -> None:
    """Type the lines of a page; a variable that one of them sets is there for the next."""
    for block in run_here(page):
        if block.comment.startswith("file: "):
            (folder / block.comment.removeprefix("file: ")).write_text(block.text)
    env = dict(env)
    for line in commands(page):
        if line.startswith("sh tests/run.sh"):
            continue  # see test_the_test_command_of_the_readme
        exported = re.fullmatch(r'export (\w+)="(.*)"', line)
        if exported:
            env[exported[1]] = type_line(f'printf %s "{exported[2]}"', folder, env)
        else:
            type_line(line.replace("conda-forge", str(channel.path)), folder, env)


@pytest.mark.engine
@pytest.mark.kernel
@pytest.mark.network
def test_the_readme(clone: Path, newcomer: dict[str, str], channel: Channel) -> None:
    type_all("README.md", clone, newcomer, channel)
    home = Path(newcomer["HOME"])
    kernels = home / ".local/share/jupyter/kernels"
    assert {path.name for path in kernels.iterdir()} >= {"fraud", "quickstart", "risk"}
    again = type_line("sh bootstrap.sh playbooks/quickstart.yml", clone, newcomer)
    assert "changed=0" in again
    assert "failed=0" in again
    python = home / ".local/state/nbprovision/venv/bin/python"
    for block in run_here("README.md"):
        if block.language == "python":
            done = subprocess.run([python, "-c", block.text], env=newcomer, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert done.stdout == "False ()\n"


@pytest.mark.engine
@pytest.mark.kernel
@pytest.mark.network
def test_the_tutorial(clone: Path, newcomer: dict[str, str], channel: Channel) -> None:
    type_all("docs/tutorial.md", clone, newcomer, channel)
    local = Path(newcomer["HOME"], ".local")
    assert not {path.name for path in (local / "share/jupyter/kernels").iterdir()} & {"mine", "quickstart"}
    assert not (local / "state/nbprovision/envs/quickstart").exists()


@pytest.mark.engine
@pytest.mark.kernel
@pytest.mark.network
def test_the_how_to_guides(clone: Path, newcomer: dict[str, str], channel: Channel, tmp_path: Path) -> None:
    type_line("sh bootstrap.sh playbooks/quickstart.yml", clone, newcomer)
    type_all("docs/how-to.md", clone, newcomer, channel)
    for block in run_here("docs/how-to.md"):
        if block.comment.startswith("playbook: "):
            name, _, variables = block.comment.removeprefix("playbook: ").partition("; variables: ")
            (clone / name).write_text(block.text.replace("conda-forge", str(channel.path)))
            type_line(f"{variables} XDG_CONFIG_HOME={tmp_path} sh bootstrap.sh {name}", clone, newcomer)
            if name == "index.yml":
                assert (tmp_path / "pip/pip.conf").stat().st_mode & 0o077 == 0


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
    (line,) = (line for line in commands("README.md") if line.startswith("sh tests/run.sh"))
    env = {**os.environ, "NBPROVISION_TEST_VENV": sys.prefix, "NBPROVISION_TEST_WORKERS": "1"}
    line += " --collect-only -q -p no:cacheprovider tests/unit/test_layers.py"
    assert "tests/unit/test_layers.py" in type_line(line, ROOT, env)


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_left_out(page: str) -> None:
    """Output and signatures have no language; all else is run, or says why it is not."""
    for block in blocks(page):
        assert block.language in ("", "sh", "yaml", "python"), block
        if block.language == "yaml" and page != "README.md":
            assert block.comment.startswith(("file: ", "playbook: ", "not run here: ")), block


@pytest.mark.engine
def test_the_task_that_the_contributors_page_writes(env: dict[str, str], tmp_path: Path) -> None:
    """One new file is a new kind of task: in a playbook, with check mode, and as a Python function."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "nbprovision", clone / "nbprovision", ignore=shutil.ignore_patterns("__pycache__"))
    (block,) = (block for block in blocks("docs/contributing.md") if block.comment.startswith("task: "))
    (clone / "nbprovision/tasks" / (block.comment.removeprefix("task: ") + ".py")).write_text(block.text)
    motd = tmp_path / "motd"
    (clone / "motd.yml").write_text(f"- tasks:\n    - ensure_motd: {{path: {motd}, text: hello}}\n")
    nbprovision = f"{sys.executable} -m nbprovision run motd.yml"
    assert "changed=1" in type_line(f"{nbprovision} --check", clone, env)
    assert not motd.exists()
    assert "changed=1" in type_line(nbprovision, clone, env)
    assert motd.read_text() == "hello\n"
    assert "changed=0" in type_line(nbprovision, clone, env)
    code = f"import nbprovision; print(nbprovision.ensure_motd(path={str(motd)!r}, text='bye').changed)"
    assert type_line(f'{sys.executable} -c "{code}"', clone, env) == "True\n"

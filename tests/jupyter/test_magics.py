"""`%pip` and `%conda` in a notebook act on the kernel's own environment, in real kernels.

IPython's `%conda` (IPython/core/magics/packaging.py) runs, through a shell, what CONDA_EXE names; else a `conda` beside the
kernel's Python; else what stands before ` create` or ` install` in the first `# cmd:` line of conda-meta/history that has
a conda in it; else `conda` from the PATH. Where no real conda is, a script in its place notes how it was called;
NBPROVISION_TEST_CONDA=/path/of/bin/conda runs the last test with a real one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from nbprovision.machine.environments import installed
from tests.conftest import Channel
from tests.support.conda_packages import TinyChannel
from tests.support.wheels import make_wheel

pytest.importorskip("jupyter_client")
pytestmark = [pytest.mark.engine, pytest.mark.kernel]

ROOT = Path(__file__).parents[2]
STAND_IN = """\
#!{python}
import json, os, sys
with open({record!r}, "a") as stream:
    stream.write(json.dumps([sys.argv, os.environ.get("CONDA_PREFIX"), os.environ.get("SUDO_UID")]) + "\\n")
"""
EXECUTE = """\
import json, sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name=sys.argv[1], startup_timeout=300, cwd=sys.argv[2])
def show(message):
    content = message["content"]
    print(content.get("text", ""), *content.get("traceback", []), end="")
for cell in json.loads(sys.argv[3]):
    client.execute_interactive(cell, timeout=120, output_hook=show)
client.stop_channels(); manager.shutdown_kernel(now=True)
"""
PLAYBOOK = """\
- tasks:
    - ensure_conda_env: {{name: {name}, channels: {channels}, packages: [python, pip, ipykernel{more}]}}
    - ensure_kernel: {{env: {name}, name: activated}}
    - ensure_kernel: {{env: {name}, name: plain, activate: false}}
"""


class Notebook(NamedTuple):
    """An environment with two kernels, and the user who opens them."""

    env: dict[str, str]
    prefix: Path
    folder: Path
    record: Path

    def execute(self, kernel: str, *cells: str, **variables: str) -> str:
        """What the cells print, in a kernel of that name; ``variables`` are the server's."""
        env = {**self.env, **variables}
        env.pop("PYTHONPATH", None)
        argv = [sys.executable, "-c", EXECUTE, kernel, str(self.folder), json.dumps(cells)]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def calls(self) -> list[tuple[list[str], str | None, str | None]]:
        """How the conda in place was called: arguments, CONDA_PREFIX, SUDO_UID."""
        if not self.record.exists():
            return []
        found = [tuple(json.loads(line)) for line in self.record.read_text().splitlines()]
        self.record.unlink()
        return found  # type: ignore[return-value]


def make(
    folder: Path, env: dict[str, str], channels: list[str], conda: Path | None, *, name: str = "fraud", more: str = ""
) -> Notebook:
    Path(env["HOME"], ".condarc").write_text(f"envs_dirs: ['{folder}/volume/envs']\n")
    playbook = folder / "playbook.yml"
    playbook.write_text(PLAYBOOK.format(name=name, channels=json.dumps(channels), more=more))
    env = {**env, "PYTHONPATH": str(ROOT), "PIP_NO_INDEX": "1"}
    argv = [sys.executable, "-m", "nbprovision", "run", str(playbook)]
    made = {**env, "CONDA_EXE": str(conda)} if conda is not None else env
    done = subprocess.run(argv, env=made, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    folder.joinpath("work").mkdir()
    (prefix,) = (path.parent for path in folder.glob(f"**/envs/{name}/conda-meta"))
    return Notebook(env, prefix, folder / "work", folder / "record")


def stand_in(folder: Path) -> Path:
    """A conda installation as far as files go, whose command notes how it was called."""
    conda = folder / "conda/bin/conda"
    conda.parent.mkdir(parents=True)
    (folder / "conda/conda-meta").mkdir()
    conda.write_text(STAND_IN.format(python=sys.executable, record=str(folder / "record")))
    conda.chmod(0o755)
    return conda


@pytest.fixture
def notebook(tmp_path: Path, env: dict[str, str], channel: Channel) -> Notebook:
    return make(tmp_path, env, [channel.url], stand_in(tmp_path))


def test_pip_and_conda_act_on_the_kernels_own_environment(notebook: Notebook) -> None:
    wheel = make_wheel(notebook.folder, "apple", "1.0")
    output = notebook.execute(
        "activated", f"%pip install ./{wheel.name}", "import apple; print('version', apple.version)"
    )
    assert "version 1.0" in output, output
    (found,) = notebook.prefix.glob("lib/python3*/site-packages/apple.py")
    assert not list(Path(notebook.env["HOME"]).glob(".local/lib/**/apple.py"))
    output = notebook.execute("plain", "%pip uninstall --yes apple")
    assert not found.exists(), output

    for kernel in ("activated", "plain"):  # with the CONDA_EXE of the activation, and by the history
        notebook.execute(kernel, "%conda install six", "%conda list", SUDO_UID="0" if kernel == "plain" else "")
        conda = str(notebook.folder.parent / "conda/bin/conda")
        (install, listed) = notebook.calls()
        assert install[0] == [conda, "install", "--yes", "--prefix", str(notebook.prefix), "six"]
        assert listed[0][:4] == [conda, "list", "--prefix", str(notebook.prefix)]
        assert install[1] == (str(notebook.prefix) if kernel == "activated" else None)


def test_what_stands_in_the_history_is_the_machines_conda(notebook: Notebook) -> None:
    """Of every revision; and the history of an environment that conda made is not made to say anything else."""
    lines = re.findall("^# cmd: (.*)", (notebook.prefix / "conda-meta/history").read_text(), re.MULTILINE)
    assert lines == [f"{notebook.folder.parent}/conda/bin/conda create"]
    notebook.execute("plain", "%conda list", CONDA_EXE="/nowhere/conda")
    ((argv, _, _),) = notebook.calls()
    assert argv[0] == f"{notebook.folder.parent}/conda/bin/conda"


def test_nothing_of_a_playbook_gets_to_the_shell(tmp_path: Path, env: dict[str, str], channel: Channel) -> None:
    """Neither a channel nor a conda with a name that a shell would take for a command; then nothing is run.

    (A prefix of such a name IPython itself would hand to a shell, as `--prefix`.)
    """
    hostile = TinyChannel(tmp_path / "x; touch canary; conda create")
    hostile.add("alpha", "1.0")
    conda = stand_in(tmp_path / "$(touch canary)")
    made = make(tmp_path, env, [channel.url, str(hostile.path)], conda, more=", 'alpha[version=1.0]'")
    assert "alpha" in {record.name for record in installed(made.prefix)}
    history = (made.prefix / "conda-meta/history").read_text()
    assert re.findall("^# cmd: (.*)", history, re.MULTILINE) == ["nbprovision run"]
    output = made.execute("plain", "%conda list")
    assert re.search("conda.*not found", output), output
    assert not list(tmp_path.rglob("canary"))
    assert made.calls() == []


@pytest.mark.skipif("NBPROVISION_TEST_CONDA" not in os.environ, reason="NBPROVISION_TEST_CONDA names no real conda")
def test_a_real_conda_installs_into_the_kernels_environment(
    tmp_path: Path, env: dict[str, str], channel: Channel
) -> None:
    made = make(tmp_path, env, [channel.url], Path(os.environ["NBPROVISION_TEST_CONDA"]))
    assert "six" not in {record.name for record in installed(made.prefix)}
    cell = f"%conda install --offline --override-channels --channel {channel.url} six"
    for kernel, version in (("activated", "1.16.0"), ("plain", "1.17.0")):
        output = made.execute(kernel, f"{cell}={version}")
        assert {record.name: record.version for record in installed(made.prefix)}["six"] == version, output

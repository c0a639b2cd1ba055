"""What ``--check`` calls changed is what the run changes, or it says after which task it will change.

For every playbook here and every state of the machine: a check, then the run. A task that the check calls ok is ok in
the run; one that it calls changed is changed, or the check said "will change after"; one that fails in the run failed
in the check, unless it builds on what a command makes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from nbprovision.__main__ import main
from tests.conftest import Channel
from tests.support.conda_packages import TinyChannel

pytestmark = [pytest.mark.engine, pytest.mark.network, pytest.mark.sampled(2)]

ENV = "    - ensure_conda_env: {name: new, channels: [CHANNEL], packages: [python, idna=3.7]}\n"
UNREACHABLE = "http://127.0.0.1:9/c"
PROJECT = """
[project]
name = "mine"
version = "1.0"
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
"""

PLAYBOOKS = {
    "editable": ENV + "    - ensure_pip_pkg: {env: new, packages: ['-e ROOT/project']}\n",
    "folder": ENV + "    - ensure_pip_pkg: {env: new, packages: [./project]}\n",
    "missing project": ENV + "    - ensure_pip_pkg: {env: new, packages: [./nowhere]}\n    - ensure_kernel: {env: new}\n",
    "missing in a pip section": "    - ensure_conda_env: {file: wrong.yml}\n    - ensure_pip_pkg: {env: wrong, packages: [six]}\n",
    "what conda brings": ENV
    + "    - ensure_pip_pkg: {env: new, packages: [idna]}\n"
    + "    - ensure_conda_pkg: {env: new, channels: [CHANNEL], packages: [idna, python]}\n"
    + "    - ensure_pip_pkg: {env: new, packages: [\"six; python_version < '3'\", \"packaging; python_version > '3'\"]}\n",
    "no Python": "    - ensure_conda_env: {name: new, channels: [CHANNEL], packages: [nbp-activate]}\n"
    "    - ensure_pip_pkg: {env: new, packages: [six]}\n",
    "no ipykernel": ENV + "    - ensure_kernel: {env: new, install_ipykernel: false}\n",
    "copy": ENV + "    - ensure_conda_env: {name: copy, clone: new}\n    - ensure_pip_pkg: {env: copy, packages: [idna]}\n",
    "kernel and variable": ENV
    + "    - ensure_kernel: {env: new, name: k}\n    - ensure_env_var: {name: A, value: b, where: kernels}\n"
    + "    - ensure_pip_pkg: {env: new, packages: [ipykernel]}\n",
    "made by a command": "    - ensure_command: {argv: [PYTHON, -m, venv, ROOT/v], creates: ROOT/v/bin/python}\n"
    "    - ensure_pip_pkg: {env: ROOT/v, packages: [six]}\n"
    "    - ensure_command: {shell: 'printf \"#!/bin/sh\\ntest -e ROOT/done\\n\" > ROOT/tool && chmod +x ROOT/tool', creates: ROOT/tool}\n"
    "    - ensure_command: {argv: [touch, ROOT/done], unless: [ROOT/tool]}\n"
    "    - ensure_kernel: {argv: [ROOT/tool, '{connection_file}'], name: t}\n",
    "made by a file": '    - ensure_file: {path: ROOT/bin/run, content: "#!/bin/sh\\n", mode: 0755}\n'
    "    - ensure_kernel: {argv: [ROOT/bin/run, '{connection_file}'], name: t}\n"
    "    - ensure_file: {path: ROOT/copy, src: ROOT/bin/run}\n    - ensure_line: {path: ROOT/copy, line: x, create: false}\n",
    "requirements that a file brings": ENV
    + '    - ensure_file: {path: ROOT/made/r.txt, content: "six\\n-c c.txt\\n"}\n'
    '    - ensure_file: {path: ROOT/made/c.txt, content: "six<9\\n"}\n'
    "    - ensure_pip_pkg: {env: new, requirements: ROOT/made/r.txt, constraints: [ROOT/made/c.txt]}\n",
    "requirements that are written anew": ENV + '    - ensure_file: {path: ROOT/r.txt, content: "idna\\nsix\\n"}\n'
    "    - ensure_pip_pkg: {env: new, requirements: ROOT/r.txt}\n",
    "requirements that a command brings": ENV
    + "    - ensure_command: {shell: mkdir ROOT/clone; echo six > ROOT/clone/r.txt, creates: ROOT/clone}\n"
    "    - ensure_pip_pkg: {env: new, requirements: ROOT/clone/r.txt}\n",
    "an environment file that a file brings": "    - ensure_file:\n        path: ROOT/made.yml\n"
    "        content: '{name: named, channels: [CHANNEL], dependencies: [python]}'\n"
    "    - ensure_conda_env: {file: ROOT/made.yml}\n"
    "    - ensure_pip_pkg: {env: named, packages: [six]}\n    - ensure_conda_pkg: {envs: n*, channels: [CHANNEL], packages: [idna]}\n",
    "requirements that nobody brings": ENV + "    - ensure_file: {path: ROOT/r.txt, src: ROOT/nowhere}\n"
    "    - ensure_pip_pkg: {env: new, requirements: ROOT/r.txt}\n    - ensure_kernel: {env: new}\n",
    "registered": "    - ensure_command: {argv: [echo, hi]}\n      register: said\n      changed_when: false\n"
    "    - ensure_file: {path: ROOT/a, content: '{{ said.stdout }}'}\n"
    "    - ensure_file: {path: ROOT/b, content: x}\n      when: said.stdout == 'no'\n"
    "    - ensure_command: {argv: [echo, hi]}\n      register: other\n      changed_when: other.stdout == 'no'\n"
    "    - ensure_file: {path: 'ROOT/{{ item }}', content: x}\n      loop: '{{ said.stdout_lines }}'\n",
    "channel out of reach": f"    - ensure_condarc: {{channels: ['{UNREACHABLE}']}}\n"
    "    - ensure_conda_env: {name: other, packages: [python]}\n",
    "another channel out of reach": ENV
    + f"    - ensure_conda_pkg: {{env: new, channels: ['{UNREACHABLE}'], packages: [six]}}\n",
    "no such thing": "    - ensure_file: {path: ROOT/a, src: ROOT/nowhere}\n    - ensure_line: {path: ROOT/z, line: x, create: false}\n"
    "    - ensure_kernel: {argv: [/nowhere/x, '{connection_file}'], name: k}\n",
}  # fmt: skip
STATES = {
    "bare": "",
    "made": ENV,
    "made otherwise": ENV.replace("idna=3.7", "six"),
    "other requirements": ENV
    + "    - ensure_file: {path: ROOT/r.txt, content: idna}\n    - ensure_pip_pkg: {env: new, requirements: ROOT/r.txt}\n",
}
CASES = (
    [(name, "bare") for name in PLAYBOOKS]
    + [("requirements that are written anew", "other requirements")]
    + [(name, state) for name in ("what conda brings", "kernel and variable") for state in ("made", "made otherwise")]
)


UNMADE = {
    "r.txt": "    - ensure_pip_pkg: {env: new, requirements: ROOT/x/r.txt}\n    - ensure_file: {path: ROOT/x/r.txt, content: six}\n",
    "other.txt": "    - ensure_file: {path: ROOT/x/r.txt, content: six}\n"
    "    - ensure_pip_pkg: {env: new, requirements: [ROOT/x/r.txt, ROOT/x/other.txt]}\n",
    "e.yml": "    - ensure_file: {path: ROOT/x/r.yml, content: six}\n    - ensure_conda_env: {file: ROOT/x/e.yml}\n",
}  # fmt: skip


class Place:
    """A machine in a folder."""

    def __init__(self, folder: Path, env: dict[str, str], channel: str) -> None:
        self.root = folder / "place"
        self.env = env | {"NBPROVISION_TIMEOUT": "5", "NBPROVISION_NETWORK_PATIENCE": "5"}
        self.channel = channel
        for name in ("project", "bin"):
            (self.root / name).mkdir(parents=True)
        (self.root / "project/pyproject.toml").write_text(PROJECT)
        (self.root / "project/mine.py").write_text("")
        (self.root / "wrong.yml").write_text(
            f"name: wrong\nchannels: [{channel}]\ndependencies: [python, pip: [./nowhere]]\n"
        )

    def run(self, tasks: str, *options: str) -> tuple[int, list[dict[str, Any]]]:
        """The exit status, and what is said of each task."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status, _ = self.main(tasks, "run", "--format", "json", *options)
        return status, json.loads(out.getvalue())["tasks"]

    def main(self, tasks: str, command: str, *options: str) -> tuple[int, Path]:
        """The exit status of a command, and the playbook."""
        text = "- tasks:\n" + tasks.replace("CHANNEL", self.channel).replace("ROOT", str(self.root))
        book = self.root / "play.yml"
        book.write_text(text.replace("PYTHON", getattr(sys, "_base_executable", sys.executable)))
        with mock.patch.dict(os.environ, self.env, clear=True):
            return main([command, str(book), *options]), book


@pytest.fixture
def place(tmp_path: Path, env: dict[str, str], channel: Channel, shared_cache: Path) -> Place:
    """A bare machine with a channel."""
    return Place(tmp_path, env | {"UV_CACHE_DIR": str(shared_cache / "uv")}, channel.url)


def disagreements(check: list[dict[str, Any]], run: list[dict[str, Any]]) -> list[str]:
    """The tasks of which the check says one thing, and the run another."""
    found = []
    for said, done in zip(check, run, strict=True):
        after = any("will change after" in warning for warning in said["warnings"])
        if said["status"] != done["status"] and not (
            after and said["status"] == "changed" and done["status"] != "failed"
        ):
            found.append(f"{said['name']}: {said['status']} in the check, {done['status']} in the run; {said['error']}")
    return found


@pytest.mark.parametrize(("name", "state"), CASES, ids=["-".join(case) for case in CASES])
def test_they_agree(place: Place, name: str, state: str) -> None:
    """The statuses of the tasks, and whether the run would fail; a second check finds what is left."""
    if STATES[state]:
        assert place.run(STATES[state])[0] == 0
    checked, said = place.run(PLAYBOOKS[name], "--check")
    status, done = place.run(PLAYBOOKS[name])
    done = [task for task in done if task["status"] != "skipped"]
    said = [task for task in said if task["status"] != "skipped"][: len(done)]
    assert not disagreements(said, done)
    assert checked == status


@pytest.mark.parametrize("missing", UNMADE)
def test_a_file_that_no_earlier_task_makes_is_missed_before_the_first_task(
    place: Place, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its name, by the check, the run and lint."""
    for words in (["run", "--check"], ["run"], ["lint"]):
        status, _ = place.main(ENV + UNMADE[missing], *words)
        said = capsys.readouterr()
        assert status == 4
        assert f"x/{missing}" in said.err + said.out
    assert not (place.root / "x").exists()


def test_another_python_takes_what_pip_installed(tmp_path: Path, env: dict[str, str]) -> None:
    """pip's distributions stay behind with the Python before: the tasks that want them say so."""
    tiny = TinyChannel(tmp_path / "tiny")
    for version in ("3.11.2", "3.12.3"):
        libraries = f"lib/python{version[:4]}/site-packages/README.txt"
        files = {"bin/python": "#!/bin/sh\nexit 0\n", libraries: "", f"lib/python{version[:4]}/os.py": ""}
        tiny.add("python", version, files=files)
    place = Place(tmp_path, env, tiny.url)
    made = "    - ensure_conda_env: {name: new, channels: [CHANNEL], packages: ['python=VERSION']}\n"
    assert place.run(made.replace("VERSION", "3.11"))[0] == 0
    folder = Path(env["NBPROVISION_HOME"], "envs/new/lib/python3.11/site-packages/apple-1.0.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: apple\nVersion: 1.0\n")
    (folder / "RECORD").write_text("apple-1.0.dist-info/METADATA,,\napple-1.0.dist-info/RECORD,,\n")
    pip = "    - ensure_pip_pkg: {env: new, packages: [apple]}\n"
    assert [task["status"] for task in place.run(made.replace("VERSION", "3.11") + pip, "--check")[1]] == ["ok", "ok"]
    environment, packages = place.run(made.replace("VERSION", "3.12") + pip, "--check")[1]
    assert (environment["status"], packages["status"]) == ("changed", "changed")
    assert packages["warnings"] == ["will change after 'ensure_conda_env'"]


OF_ROOT = {
    "ensure_file: {path: /opt/of-root/x, content: a}": "/opt/of-root/x",
    "ensure_file: {path: /opt/of-root, state: directory}": "/opt/of-root",
    "ensure_line: {path: /opt/of-root, line: a}": "/opt/of-root",
    "ensure_json: {path: /opt/of-root/x, values: {a: 1}}": "/opt/of-root/x",
    "ensure_ini: {path: /opt/of-root/x, values: {a: {b: 1}}}": "/opt/of-root/x",
    "ensure_kernel: {argv: [/bin/sh, '{connection_file}'], name: k, scope: system}": "/usr/local/share/jupyter",
}


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("task", OF_ROOT)
def test_what_may_not_be_written(place: Place, tmp_path: Path, task: str) -> None:
    """A user who may not write there hears it from the check already."""
    for folder in (tmp_path, *tmp_path.rglob("*"), *tmp_path.parents):
        if folder.is_dir() and folder.owner() == "root" and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o005)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    book = theirs / "play.yml"
    book.write_text(f"- tasks:\n    - {task.replace('CHANNEL', place.channel)}\n")
    env = place.env | {"HOME": str(theirs), "NBPROVISION_HOME": str(theirs / "tool")}
    said = []
    for options in (["--check"], []):
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "nbprovision",
             "run", str(book), "--format", "json", *options],
            env=env, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert done.returncode == 2, done.stdout + done.stderr
        said.append(json.loads(done.stdout)["tasks"][0])
    assert [one["status"] for one in said] == ["failed", "failed"]
    assert OF_ROOT[task] in said[0]["error"]["message"]


R = "    - ensure_conda_env: {name: NAME, channels: [CHANNEL], packages: [r-base]}\n"
PYTHON = "    - ensure_conda_env: {name: py, channels: [CHANNEL], packages: [python]}\n"
INTO = "    - ensure_conda_pkg: {envs: ENVS, channels: [CHANNEL], packages: [PACKAGE]}\n"
NOTE = "r1 is left out: it has no Python, which needy would bring; name it under `envs` to install there"


@pytest.mark.parametrize("made", [False, True], ids=["to be made", "made"])
@pytest.mark.parametrize(
    ("envs", "package", "installed"),
    [
        ("all", "needy", {"py"}),
        ("['r*', py]", "needy", {"py"}),
        ("[r1, 'p*']", "needy", {"py", "r1"}),
        ("all", "plain", {"py", "r1", "r2"}),
        ("all", "python", {"py", "r1", "r2"}),
    ],
)
def test_all_is_every_environment_that_has_what_the_package_needs(
    tmp_path: Path, env: dict[str, str], envs: str, package: str, installed: set[str], *, made: bool
) -> None:
    """An environment of R gets no Python by the way, but where it is named."""
    tiny = TinyChannel(tmp_path / "tiny")
    tiny.add("r-base", "4.4.1")
    tiny.add("plain", "1.0")
    tiny.add("python", "3.12.3", files={"bin/python": "#!/bin/sh\nexit 0\n", "lib/python3.12/os.py": ""})
    tiny.add("between", "1.0", depends=["python"])
    tiny.add("needy", "1.0", depends=["between"])
    place = Place(tmp_path, env, tiny.url)
    environments = R.replace("NAME", "r1") + R.replace("NAME", "r2") + PYTHON
    book = environments + INTO.replace("ENVS", envs).replace("PACKAGE", package)
    if made:
        assert place.run(environments)[0] == 0
    _, said = place.run(book, "--check")
    status, done = place.run(book)
    assert status == 0, done
    assert not disagreements(said, done)
    folder = Path(env["NBPROVISION_HOME"], "envs")
    assert {path.parents[1].name for path in folder.glob(f"*/conda-meta/{package}-*.json")} == installed
    for tasks in (said, done):
        notes = [text for text in tasks[-1]["warnings"] if "left out" in text]
        assert (NOTE in notes) == (installed == {"py"}), tasks
    assert [task["status"] for task in place.run(book)[1]] == ["ok"] * 4


ENVS = "    - ensure_conda_env: {name: new, channels: [CHANNEL], packages: [python, idna]}\n"
INSTEAD = {
    "a package that comes and is to go": "    - ensure_conda_pkg: {env: new, packages: [idna], state: absent}\n",
    "the newest of what comes": "    - ensure_pip_pkg: {env: new, packages: [idna], state: latest}\n",
    "a folder of its own": "    - ensure_pip_pkg: {env: new, packages: [idna], target: ROOT/t}\n",
}


@pytest.mark.parametrize("name", INSTEAD)
@pytest.mark.parametrize("before", ["", ENVS.replace(", idna", "")], ids=["bare", "made"])
def test_what_an_environment_will_hold_is_not_all_that_counts(place: Place, name: str, before: str) -> None:
    """Nor does it spare what is to go, to be the newest, or to be in a folder."""
    if before:
        assert place.run(before)[0] == 0
    checked, said = place.run(ENVS + INSTEAD[name], "--check")
    status, done = place.run(ENVS + INSTEAD[name])
    assert (checked, status) == (0, 0)
    assert not disagreements(said, done)

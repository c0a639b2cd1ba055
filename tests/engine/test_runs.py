"""The four tasks in one playbook, through the whole command: what a user runs, twice and a third time."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nbprovision
from nbprovision.conda import bookkeeping
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.conda.records import all_details
from nbprovision.engine.work import Work
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.system.process import Child
from tests.conftest import Channel
from tests.support.driver import converge

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.engine, pytest.mark.network]

PLAYBOOK = """\
- name: Fraud
  vars:
    channel: "{url}"
  tasks:
    - name: The environment
      ensure_conda_env:
        name: fraud
        channels: ["{{{{ channel }}}}"]
        packages: ["python {python}.*", pip, ipykernel{conda}]
    - name: Where its packages come from
      ensure_pip_index:
        env: fraud
        scope: env
        url: {index}
    - name: A packaging of its own
      ensure_pip_pkg:
        env: fraud
        packages: ["packaging==24.0"]
    - name: Its kernel
      ensure_kernel:
        env: fraud
        display_name: Fraud
"""
# Ours is a process that must start none: the hook writes each start that Python is asked for.
COUNTER = """\
import os, sys
def hook(event, args, path=os.environ.get("STARTED_PROCESSES")):
    if path and event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.exec", "os.system"):
        with open(path, "a") as stream:
            stream.write(f"{event} {args[:2]}\\n")
sys.addaudithook(hook)
"""
COMPUTE = """\
import sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name=sys.argv[1], startup_timeout=300)
client.execute_interactive("import sys, packaging; print(1 + 1, sys.prefix, packaging.__version__)", timeout=300,
    output_hook=lambda message: print(message["content"].get("text", ""), end=""))
client.stop_channels(); manager.shutdown_kernel(now=True)
"""


class User:
    """Who runs the command on a playbook of theirs."""

    def __init__(self, env: dict[str, str], folder: Path, channel: Channel, conda: str = "") -> None:
        (folder / "counter").mkdir()
        (folder / "counter/sitecustomize.py").write_text(COUNTER)
        self.started = folder / "counter/started"
        self.env = {
            **env,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder / 'counter'}",
            "STARTED_PROCESSES": str(self.started),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.playbook = folder / "fraud.yml"
        index = env.get("PIP_INDEX_URL", "https://pypi.org/simple")
        text = PLAYBOOK.format(url=channel.url, python=channel.python, conda=conda, index=index)
        self.playbook.write_text(text)
        self.home, self.tool = Path(env["HOME"]), Path(env["NBPROVISION_HOME"])
        self.prefix = self.tool / "envs/fraud"

    def run(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        self.started.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "nbprovision", "run", str(self.playbook), *words]
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def told(self, *words: str) -> Any:
        return json.loads(self.run("--format", "json", *words).stdout)

    def processes(self) -> str:
        return self.started.read_text() if self.started.exists() else ""

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.tool / "log/nbprovision.log").read_text().splitlines()]


@pytest.fixture
def user(env: dict[str, str], tmp_path: Path, channel: Channel) -> User:
    return User(env, tmp_path, channel)


def tree(*folders: Path) -> dict[str, tuple[int, int, int, bytes | str | None]]:
    """Every path with its mode, owner, time of change and content; folders too, so that an empty one counts."""
    found: dict[str, tuple[int, int, int, bytes | str | None]] = {}
    for folder in folders:
        for path in (folder, *sorted(folder.rglob("*"))):
            about = path.lstat()
            content: bytes | str | None = None
            if path.is_symlink():
                content = os.readlink(path)
            elif stat.S_ISREG(about.st_mode):
                content = path.read_bytes()
            found[str(path)] = (about.st_mode, about.st_uid, about.st_mtime_ns, content)
    return found


@pytest.mark.kernel
def test_two_runs_and_a_third(user: User) -> None:
    first = user.told()
    assert (first["status"], first["counts"]["changed"]) == ("changed", 4)
    assert user.processes(), "the counter counts"
    second = user.told()
    assert user.processes() == ""
    assert [(task["status"], task["proof"]) for task in second["tasks"]] == [("ok", "witness")] * 4
    read = user.told("--no-witness")
    assert user.processes() == "", "a full look starts no process either"
    assert [(task["status"], task["proof"]) for task in read["tasks"]] == [("ok", "check")] * 4
    assert user.told("--no-witness")["counts"]["ok"] == 4, "and stays so"

    environment = {**user.env, "PYTHONPATH": ""}
    argv = [sys.executable, "-c", COMPUTE, "fraud"]
    said = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert said.stdout.split() == ["2", str(user.prefix), "24.0"], said.stdout + said.stderr

    commands = [entry for entry in user.log() if entry["event"] == "command"]
    for part in ("rattler_child (SolveRequest)", "rattler_child (InstallRequest)", "uv pip install"):
        assert any(part in entry["command"] for entry in commands), commands
    assert all(isinstance(entry["status"], int) and entry["seconds"] >= 0 for entry in commands)


def test_a_playbook_without_a_task_says_so(env: dict[str, str], tmp_path: Path) -> None:
    """As with Ansible it is no failure."""
    path = tmp_path / "play.yml"
    for text in ("- tasks: []\n", "- hosts: localhost\n"):
        path.write_text(text)
        argv = [sys.executable, "-m", "nbprovision", "run", str(path)]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0
        assert done.stderr == f"warning: {path} has no task, so nothing is done\n"
        assert "ok=0 " in done.stdout


def test_a_check_changes_nothing(user: User, tmp_path: Path) -> None:
    around = [user.home, tmp_path / "elsewhere"]
    for folder in around:
        (folder / "empty").mkdir(parents=True)
        (folder / "mine").write_text("of the user\n")
    before = tree(*around)
    told = user.told("--check", "--diff")
    assert (told["check"], told["counts"]["changed"]) == (True, 4)
    assert tree(*around) == before
    assert not user.prefix.exists()
    assert user.run("--check", "--exit-code", status=3)

    user.run()
    user.playbook.write_text(user.playbook.read_text().replace("==24.0", ">=24.1").replace("Fraud", "Other"))
    before = tree(*around, user.prefix)
    text = user.run("--check", "--diff").stdout
    assert "packaging" in text
    assert "Other" in text
    assert tree(*around, user.prefix) == before
    assert user.told("--check")["counts"]["changed"] == 2


def test_a_version_that_breaks_a_spec_is_an_invalid_playbook(
    env: dict[str, str], tmp_path: Path, channel: Channel
) -> None:
    user = User(env, tmp_path, channel, conda=', "packaging >=25"')
    before = tree(user.home)
    said = user.run(status=4).stderr
    line = {text.strip(): number for number, text in enumerate(user.playbook.read_text().splitlines(), 1)}
    assert f"fraud.yml:{line['ensure_pip_pkg:']}:7: " in said, said
    assert f"fraud.yml:{line['ensure_conda_env:']}:7)" in said
    assert "'packaging >=25'" in said
    assert "'packaging==24.0'" in said
    assert tree(user.home) == before
    assert not user.prefix.exists()


def test_the_engine_loads_while_the_run_prepares_its_first_step(
    env: dict[str, str], tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def told(owner: type, word: str) -> None:
        begin = owner.__init__

        def beginning(self: Any, *arguments: Any, **options: Any) -> None:
            events.append(word)
            begin(self, *arguments, **options)

        monkeypatch.setattr(owner, "__init__", beginning)

    told(Child, "engine")
    told(Work, "steps")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "play.yml"
    task = f"ensure_conda_env: {{name: NAME, channels: ['{channel.url}'], packages: [six]}}"
    path.write_text(f"- tasks: [{task.replace('NAME', 'one')}, {task.replace('NAME', 'two')}]")
    assert all(result.changed for result in nbprovision.run_playbook(path))
    assert events == ["engine", "steps"], "one process for both environments"

    events.clear()
    own = f"{{{task.replace('NAME', 'three')}, environment: {{LEVEL: '1'}}}}"
    path.write_text(f"- tasks: [{own}]")
    assert all(result.changed for result in nbprovision.run_playbook(path))
    assert events == ["steps", "engine"], "not one that would not serve it"

    events.clear()
    path.write_text(f"- tasks: [{task.replace('NAME', 'one')}]")
    assert not any(result.changed for result in nbprovision.run_playbook(path))
    assert events == ["steps"], "nothing is loaded for what is there"


def test_the_history_has_of_a_solved_package_what_its_record_has(
    machine: Machine, tmp_path: Path, channel: Channel
) -> None:
    """So the records of a new environment need not be read for it."""
    converge(EnsureCondaEnv(name="demo", channels=[channel.url], packages=["python", "six"]), machine)
    prefix = machine.conda.environments()[-1].prefix
    details = all_details(installed(prefix))
    assert {"python", "six"} <= details.keys()
    told = (prefix / "conda-meta/history").read_text()
    bookkeeping.append_history(machine.conda, tmp_path, details.values(), specs=["python", "six"])
    again = (tmp_path / "conda-meta/history").read_text()
    assert [line for line in told.splitlines() if line[:1] in "+-"] == [
        line for line in again.splitlines() if line[:1] in "+-"
    ]

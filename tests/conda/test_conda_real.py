"""Environments of either engine in the hands of a real conda: where NBPROVISION_TEST_CONDA names one.

Its recorded words cannot stand in for it here: what counts is what it does with an environment that has a Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.conda.ensure_conda_pkg import EnsureCondaPkg
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from tests.conftest import Channel, registry_settings
from tests.support.conda_standin import REAL
from tests.support.driver import converge, planned
from tests.support.wheels import make_wheel

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not REAL, reason="needs a real conda: NBPROVISION_TEST_CONDA=/path/to/conda"),
]
ROOT = Path(__file__).parents[2]
IDNA = "lib/python3.*/site-packages/idna*.dist-info"
COMPUTE = """\
import sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name=sys.argv[1], startup_timeout=300)
client.execute_interactive("import sys, six; print(1 + 1, sys.prefix, six.__version__)", timeout=300,
    output_hook=lambda message: print(message["content"].get("text", ""), end=""))
client.stop_channels(); manager.shutdown_kernel(now=True)
"""
FILE = """\
name: x
channels: [{url}]
dependencies:
  - python={python}
  - six=1.16.0
  - ipykernel
  - nbp-activate
  - pip
  - pip: [{wheel}]
variables:
  NBP_COLOUR: blue
"""
PLAYBOOK = """\
- tasks:
    - ensure_conda_env: {{file: {file}, engine: {engine}}}
    - ensure_kernel: {{env: x}}
"""


class World:
    """A user with a real conda, and an environment that one of the engines made by a playbook."""

    def __init__(self, engine: str, here: Path, channel: Channel) -> None:
        self.engine, self.here, self.channel = engine, here, channel
        self.prefix = here / "envs/x"
        (here / "home").mkdir()
        self.env = {
            "HOME": str(here / "home"),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "NBPROVISION_HOME": str(here / "nb"),
            "CONDA_EXE": REAL,
            "CONDA_PKGS_DIRS": str(here / "pkgs"),
            "CONDA_ENVS_DIRS": str(here / "envs"),
            **registry_settings(),
        }
        wheel = make_wheel(here, "nbpdemo", "1.0")
        (here / "environment.yml").write_text(FILE.format(url=channel.url, python=channel.python, wheel=wheel))
        (here / "x.yml").write_text(PLAYBOOK.format(file=here / "environment.yml", engine=engine))

    def run(self) -> Any:
        argv = [sys.executable, "-m", "nbprovision", "run", str(self.here / "x.yml"), "--format", "json"]
        done = subprocess.run(argv, env=self.env, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def conda(self, *words: str) -> str:
        done = subprocess.run([REAL, *words], env=self.env, capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def bash(self, script: str) -> str:
        done = subprocess.run(["bash", "-c", f"set -e\n{script}"], env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def machine(self) -> Machine:
        return Machine(self.env, root=self.here / "root")

    def versions(self) -> dict[str, str]:
        return {record.name: record.version for record in installed(self.prefix)}

    def wants(self, engine: str, *packages: str, **more: Any) -> EnsureCondaPkg:
        return EnsureCondaPkg(
            **{"env": "x", "packages": list(packages), "channels": [self.channel.url], "engine": engine, **more}
        )


@pytest.fixture(scope="module", params=["rattler", "conda"])
def world(request: pytest.FixtureRequest, channel: Channel, tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(request.param, tmp_path_factory.mktemp(request.param), channel)
    assert made.run()["status"] == "changed"
    return made


@pytest.mark.kernel
@pytest.mark.network
def test_made_by_a_playbook_with_a_kernel_that_computes(world: World) -> None:
    again = world.run()
    assert again["status"] == "ok"
    done = subprocess.run([sys.executable, "-c", COMPUTE, "x"], env=world.env, capture_output=True, text=True)
    assert done.stdout == f"2 {world.prefix} 1.16.0\n", done.stderr
    assert subprocess.run([world.prefix / "bin/python", "-c", "import nbpdemo"]).returncode == 0


def test_conda_sees_an_ordinary_environment(world: World) -> None:
    assert str(world.prefix) in json.loads(world.conda("env", "list", "--json"))["envs"]
    listed = {one["name"]: one["version"] for one in json.loads(world.conda("list", "--name", "x", "--json"))}
    assert listed.items() >= world.versions().items()
    assert listed["nbpdemo"] == "1.0"
    revisions = world.conda("list", "--name", "x", "--revisions")
    assert "(rev 0)" in revisions
    assert "six-1.16.0" in revisions
    exported = world.conda("env", "export", "--name", "x", "--from-history")
    assert "six" in exported, "what was asked for is in the history"
    assert "platformdirs" not in exported, "what came along is not"


def test_conda_activate_and_source_activate(world: World) -> None:
    told = 'echo "$CONDA_DEFAULT_ENV $NBP_COLOUR $NBP_ACTIVATED $CONDA_PREFIX $(command -v python)"'
    expected = f"x blue 1 {world.prefix} {world.prefix}/bin/python\n"
    assert world.bash(f'eval "$("{REAL}" shell.bash hook)"\nconda activate x\n{told}') == expected
    off = 'conda deactivate\necho "[$NBP_COLOUR$NBP_ACTIVATED]"'
    assert world.bash(f'eval "$("{REAL}" shell.bash hook)"\nconda activate x\n{off}') == "[]\n"
    path = f'PATH="{Path(REAL).parent}:$PATH"'
    assert world.bash(f"{path}\nsource activate x\n{told}") == expected


def test_the_other_engine_goes_on_and_back_again(world: World) -> None:
    other = "conda" if world.engine == "rattler" else "rattler"
    before = world.versions()
    for engine, version in ((other, "3.7"), (world.engine, "3.10")):
        assert converge(world.wants(engine, f"idna={version}"), world.machine)
        assert world.versions() == {**before, "idna": version}, "nothing else moved"
        assert [path.name for path in world.prefix.glob(IDNA)] == [f"idna-{version}.dist-info"]
        assert planned(world.wants(other, f"idna={version}"), world.machine) == ()
    assert world.run()["status"] in ("ok", "changed")
    assert converge(world.wants(other, "idna", state="absent"), world.machine)
    assert world.versions() == before
    assert list(world.prefix.glob(IDNA)) == [], "nothing is left of it, whoever put it there"
    script = f"{world.prefix}/bin/python -c 'import six, pip, ipykernel'"
    assert world.bash(script) == ""


def test_conda_remove_removes_only_that(world: World) -> None:
    converge(world.wants(world.engine, "r-demo"), world.machine)
    before = world.versions()
    world.conda("remove", "--name", "x", "--yes", "--quiet", "r-demo")
    assert before.keys() - world.versions().keys() == {"r-demo"}
    assert {name: before[name] for name in world.versions()} == world.versions()


def test_what_pip_put_in_a_packages_place_is_mended(world: World, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "six", "9.9")
    script = f"{world.prefix}/bin/python -m pip install -q --no-index --force-reinstall {wheel}"
    world.bash(script)
    task = EnsureCondaEnv(file=str(world.here / "environment.yml"), engine=world.engine)  # type: ignore[arg-type]
    assert [(one.action, one.target) for one in converge(task, world.machine)] == [("repair", "six")]
    assert world.bash(f"{world.prefix}/bin/python -c 'import six; print(six.__version__)'") == "1.16.0\n"


def test_a_copy_of_what_conda_made(world: World) -> None:
    """The records of the copy list its files where they are, whichever engine wrote down the original's."""
    task = EnsureCondaEnv(name="z", clone="x")
    converge(task, world.machine)
    whole = EnsureCondaEnv(name="z", packages=["six"], channels=[world.channel.url], deep=True)
    assert planned(whole, world.machine) == ()
    assert world.bash(f"{world.here}/envs/z/bin/python -c 'import six; print(six.__version__)'") == "1.16.0\n"
    for record in installed(world.here / "envs/z"):
        document = json.loads(record.path.read_text())
        listed = {one["_path"] for one in document["paths_data"]["paths"] if not one["_path"].endswith(".pyc")}
        assert all(os.path.lexists(world.here / "envs/z" / path) for path in listed), record.name
        assert len(listed) == len({path for path in document["files"] if not path.endswith(".pyc")}) or not listed


def test_killed_and_run_again(world: World) -> None:
    playbook = world.here / "k.yml"
    packages = f"[python={world.channel.python}, ipykernel]"
    asked = f"{{name: k, packages: {packages}, channels: [{world.channel.url}], engine: {world.engine}}}"
    playbook.write_text(f"- tasks:\n    - ensure_conda_env: {asked}\n")
    argv = [sys.executable, "-m", "nbprovision", "run", str(playbook)]
    for seconds in (2, 4, 6):
        with subprocess.Popen(argv, env=world.env, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL) as run:
            time.sleep(seconds)
            run.kill()
    done = subprocess.run([*argv, "--deep"], env=world.env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert world.bash(f"{world.here}/envs/k/bin/python -c 'import ipykernel'") == ""
    again = subprocess.run([*argv, "--deep", "--check", "--exit-code"], env=world.env, cwd=ROOT)
    assert again.returncode == 0


def test_absent(world: World, tmp_path: Path) -> None:
    machine = world.machine
    task = EnsureCondaEnv(name="y", packages=["r-demo"], channels=[world.channel.url], engine=world.engine)  # type: ignore[arg-type]
    converge(task, machine)
    assert os.path.isdir(world.here / "envs/y")
    converge(EnsureCondaEnv(name="y", state="absent", engine=world.engine), world.machine)  # type: ignore[arg-type]
    assert str(world.here / "envs/y") not in json.loads(world.conda("env", "list", "--json"))["envs"]

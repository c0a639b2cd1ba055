"""`nbprovision run --locked`: exactly what the lock has, by no solver and no page of an index, every digest verified."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uv

from nbprovision.lock import folder as lock_folder
from tests.conftest import Channel
from tests.engine.test_runs import COUNTER
from tests.support.file_server import FileServer, serving_files
from tests.support.locking import put_channel, put_index
from tests.support.wheels import make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.proof]
ROOT = Path(__file__).parents[2]
PLAYBOOK = """
- tasks:
    - ensure_conda_env: {{name: fraud, packages: [python, pip, "{idna}"], channels: ["{url}/conda"]{more}}}
    - ensure_conda_pkg: {{env: fraud, packages: ["six<1.17"], channels: ["{url}/conda"]}}
    - ensure_pip_pkg: {{env: fraud, packages: [pear]{pip}}}
"""


class Team:
    """A team with a served channel and index, whose machines have a home each."""

    def __init__(self, folder: Path, env: dict[str, str], channel: Channel, server: FileServer) -> None:
        self.folder = folder
        self.server = server
        self.playbook = folder / "team.yml"
        put_channel(server, channel.path)
        wheels = folder / "wheels"
        wheels.mkdir()
        make_wheel(wheels, "pear", "1.0", requires=["plum"])
        make_wheel(wheels, "plum", "2.0")
        put_index(server, wheels)
        counter = folder / "counter"
        counter.mkdir()
        (counter / "sitecustomize.py").write_text(COUNTER)
        self.started = counter / "started"
        kept = {name: value for name, value in env.items() if not name.startswith(("PIP_INDEX", "UV_"))}
        self.env = {
            **kept,
            "PIP_INDEX_URL": f"{server.url}/simple",
            "PYTHONPATH": f"{ROOT}:{counter}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "STARTED_PROCESSES": str(self.started),
        }
        self.home = folder / "one"
        self.write()

    def write(self, idna: str = "idna<3.10", more: str = "", pip: str = "") -> None:
        self.playbook.write_text(PLAYBOOK.format(url=self.server.url, idna=idna, more=more, pip=pip))

    def call(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        self.started.unlink(missing_ok=True)
        self.server.requests.clear()
        env = {**self.env, "HOME": str(self.home), "NBPROVISION_HOME": str(self.home / "nbprovision")}
        self.home.mkdir(exist_ok=True)
        argv = [sys.executable, "-m", "nbprovision", words[0], str(self.playbook), *words[1:]]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, cwd=self.folder)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def run(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.call("run", "--format", "json", *words, status=status).stdout)

    def fetched(self) -> list[str]:
        """The paths that were asked for since the last command."""
        return [request.path for request in self.server.requests]

    def conda(self) -> dict[str, tuple[str, str]]:
        """Version and digest of the installed conda packages."""
        records = [json.loads(path.read_text()) for path in (self.prefix / "conda-meta").glob("*.json")]
        return {record["name"]: (record["version"], record["sha256"]) for record in records}

    @property
    def prefix(self) -> Path:
        return self.home / "nbprovision/envs/fraud"

    def distributions(self) -> set[str]:
        return {path.name for path in self.prefix.glob("lib/python*/site-packages/*.dist-info")}

    def locked(self) -> dict[str, tuple[str, str]]:
        content = lock_folder.read(self.folder / "team.lock", home=self.home).environments["fraud"].conda
        return {package.name: (package.version, package.sha256) for package in next(iter(content.values()))}


@pytest.fixture
def team(tmp_path: Path, env: dict[str, str], channel: Channel) -> Iterator[Team]:
    with serving_files() as server:
        server.content_type = "text/html"
        made = Team(tmp_path, env, channel, server)
        made.call("lock")
        yield made


def test_two_homes_get_the_same_without_a_solver_or_an_index(team: Team) -> None:
    installed = []
    for name in ("two", "three"):
        team.home = team.folder / name
        assert team.run("--locked")["counts"]["changed"] == 2  # the first task installs what the second one requests
        assert team.conda() == team.locked()
        assert team.conda()["idna"][0] == "3.7"
        assert {"pear-1.0.dist-info", "plum-2.0.dist-info"} <= team.distributions()
        # Nothing but archives is asked for: neither the index of a channel nor a page of a package index.
        assert {path.rpartition(".")[2] for path in team.fetched()} == {"conda", "whl"}
        installed.append(team.conda())
    assert installed[0] == installed[1]

    again = team.run("--locked")
    assert [(task["status"], task["proof"]) for task in again["tasks"]] == [("ok", "witness")] * 3
    assert team.fetched() == []
    looked = team.run("--locked", "--no-witness")
    assert [(task["status"], task["proof"]) for task in looked["tasks"]] == [("ok", "check")] * 3
    assert not team.started.exists(), "no process is started"
    assert team.fetched() == []


def test_a_stale_lock_is_refused_with_what_changed_and_used_if_that_is_asked_for(team: Team) -> None:
    team.write(idna="idna")
    told = team.call("run", "--locked", status=4).stderr
    assert "fraud: spec added: idna" in told
    assert "fraud: spec removed: idna<3.10" in told
    assert "nbprovision lock" in told
    assert not team.prefix.exists()
    told = team.call("run", "--frozen").stderr
    assert "the lock is stale and used as it is: fraud: spec added: idna" in told
    assert team.conda()["idna"][0] == "3.7"
    # A new lock changes what is installed, although nothing else has changed.
    team.call("lock", "--upgrade")
    assert team.run("--locked")["counts"]["changed"] >= 1
    assert team.conda()["idna"][0] == "3.10"


@pytest.mark.parametrize("suffix", [".conda", ".whl"])
def test_another_archive_in_the_place_is_refused(team: Team, suffix: str) -> None:
    victim = next(
        path for path in team.server.files if path.endswith(suffix) and ("/six-1.16" in path or "/pear" in path)
    )
    content = team.server.files[victim]
    team.server.files[victim] = content[:-200] + bytes(200)
    told = team.run("--locked", status=2)
    assert "failed" in [task["status"] for task in told["tasks"]]
    assert "six" not in team.conda() if suffix == ".conda" and team.prefix.exists() else True
    assert "pear-1.0.dist-info" not in team.distributions()
    team.server.files[victim] = content
    assert team.run("--locked")["status"] == "changed"
    assert team.conda() == team.locked()


def test_what_is_not_in_the_lock_is_shown_and_removed_if_exact(team: Team) -> None:
    team.run("--locked")
    extra = {"packages": "packaging", "name": "extra"}
    other = team.folder / "other.yml"
    other.write_text(
        f'- tasks:\n    - ensure_conda_pkg: {{env: fraud, packages: [{extra["packages"]}], channels: ["{team.server.url}/conda"]}}\n'
    )
    first, team.playbook = team.playbook, other
    team.run()
    team.playbook = first
    assert "packaging" in team.conda()
    told = team.call("run", "--locked", "--no-witness")
    assert "1 package is not in the lock" in told.stdout + told.stderr
    team.write(more=", exact: true")
    team.run("--locked")
    assert team.conda() == team.locked()


def test_what_pip_installed_beside_the_lock_is_shown_and_removed_if_exact(team: Team) -> None:
    """The lock's own distributions and what these need are none of it."""
    told = team.call("run", "--locked")
    assert "not in the lock" not in told.stdout + told.stderr
    make_wheel(team.folder, "apple", "1.0", requires=["cherry"])
    make_wheel(team.folder, "cherry", "1.0")
    words = [uv.find_uv_bin(), "pip", "install", "--offline", "--no-index", "--find-links", team.folder, "apple"]
    subprocess.run([*words, "--python", team.prefix / "bin/python"], check=True, env=team.env)
    told = team.call("run", "--locked")
    note = "2 packages from pip are not in the lock and left as installed: apple, cherry; `exact: true` removes them"
    assert note in told.stdout + told.stderr
    team.write(more=", exact: true")
    told = team.call("run", "--locked")
    assert "not in the lock" not in told.stdout + told.stderr
    assert {name.partition("-")[0] for name in team.distributions()} >= {"pear", "plum"}
    assert not any(name.startswith(("apple", "cherry")) for name in team.distributions())


def test_newest_versions_are_not_looked_up(team: Team) -> None:
    team.write(more=", update: latest", pip=", state: latest")
    team.run("--locked")
    assert team.conda() == team.locked()
    assert {path.rpartition(".")[2] for path in team.fetched()} == {"conda", "whl"}


def test_without_a_lock(team: Team) -> None:
    team.playbook = team.folder / "new.yml"
    team.write()
    told = team.call("run", "--locked", status=4).stderr
    assert "the lock does not exist" in told
    assert "nbprovision lock" in told


def test_from_python(team: Team) -> None:
    code = "import sys; from nbprovision import run_playbook; print(*(r.status for r in run_playbook(sys.argv[1], extra_vars={{}}, {}=True)))"
    env = {**team.env, "HOME": str(team.home), "NBPROVISION_HOME": str(team.home / "nbprovision")}

    def call(option: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", code.format(option), str(team.playbook)]
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, cwd=team.folder)

    assert call("locked").stdout.split() == ["changed", "ok", "changed"]
    assert team.conda() == team.locked()
    team.write(idna="idna")
    assert "is stale" in call("locked").stderr
    assert call("frozen").stdout.split() == ["ok"] * 3


def test_pip_replaces_a_dependency_of_condas_where_a_task_requests_it(team: Team) -> None:
    make_wheel(team.folder / "wheels", "packaging", "99.0")
    put_index(team.server, team.folder / "wheels")
    text = team.playbook.read_text().replace("[python, pip,", "[python, pip, ipykernel,")
    team.playbook.write_text(text.replace("packages: [pear]", "packages: [pear, packaging==99.0]"))
    team.call("lock")
    assert "packaging" in team.locked(), "ipykernel needs it"
    assert team.run("--locked")["status"] == "changed"
    assert "packaging-99.0.dist-info" in team.distributions()
    assert {task["status"] for task in team.run("--locked", "--no-witness")["tasks"]} == {"ok"}


def test_a_pip_task_that_requests_what_conda_brings(team: Team) -> None:
    """Its environment has a lock without a package from pip."""
    team.playbook.write_text(team.playbook.read_text().replace("packages: [pear]", "packages: [pip]"))
    team.call("lock")
    team.call("lock", "--check")
    assert team.run("--locked")["status"] == "changed"
    assert team.conda() == team.locked()
    assert {task["status"] for task in team.run("--locked", "--no-witness")["tasks"]} == {"ok"}
    team.playbook.write_text(team.playbook.read_text().replace("packages: [pip]", "packages: [pear]"))
    assert "requirement added: pear" in team.call("run", "--locked", status=4).stderr


def test_environments_side_by_side_fetch_each_package_once(team: Team) -> None:
    names = ["one", "two", "three"]
    tasks = "".join(
        f'    - ensure_conda_env: {{name: {name}, packages: [python, pip, six], channels: ["{team.server.url}/conda"]}}\n'
        for name in names
    )
    team.playbook.write_text(f"- tasks:\n{tasks}")
    team.call("lock")
    assert team.run("--locked")["counts"]["changed"] == len(names)
    fetched = [path for path in team.fetched() if path.endswith(".conda")]
    assert len(fetched) == len(set(fetched)) == 3


def test_every_kind_of_task_that_installs_packages(team: Team) -> None:
    """A pip section, several environments in one task, a virtual environment, a kernel that needs ipykernel."""
    url = team.server.url
    make_wheel(team.folder / "wheels", "ipykernel", "6.0")
    put_index(team.server, team.folder / "wheels")
    (team.folder / "environment.yml").write_text(
        f"name: one\nchannels: ['{url}/conda']\ndependencies: [python, pip, {{pip: [pear]}}]\n"
    )
    team.playbook.write_text(f"""
- tasks:
    - ensure_conda_env: {{file: environment.yml}}
    - ensure_conda_env: {{name: two, packages: [python, pip], channels: ["{url}/conda"]}}
    - ensure_conda_pkg: {{envs: [one, two], packages: [six], channels: ["{url}/conda"], state: latest}}
    - ensure_pip_pkg: {{envs: [one, two], packages: [plum], state: latest}}
    - ensure_venv: {{path: ./virtual, packages: [pear]}}
    - ensure_kernel: {{env: two, install_ipykernel: true}}
""")
    team.call("lock")
    assert team.run("--locked")["status"] == "changed"
    for name in ("one", "two"):
        packages = team.home / f"nbprovision/envs/{name}"
        assert list(packages.glob("conda-meta/six-*.json"))
        assert list(packages.glob("lib/python*/site-packages/plum-2.0.dist-info"))
    assert list((team.home / "nbprovision/envs/one").glob("lib/python*/site-packages/pear-1.0.dist-info"))
    assert list((team.folder / "virtual").glob("lib/python*/site-packages/pear-1.0.dist-info"))
    assert list((team.home / "nbprovision/envs/two").glob("lib/python*/site-packages/ipykernel-6.0.dist-info"))
    assert {path.rpartition(".")[2] for path in team.fetched()} <= {"conda", "whl"}
    assert {task["proof"] for task in team.run("--locked")["tasks"]} == {"witness"}
    assert {task["status"] for task in team.run("--locked", "--no-witness")["tasks"]} == {"ok"}
    assert team.fetched() == []

"""The machine's own conda as the engine.

Where NBPROVISION_TEST_CONDA names a real conda, these tests run on it. Elsewhere a stand-in plays what a real one said
and did: the recordings in tests/data/conda-output, which ``python -m tests.support.record_conda`` makes anew.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbprovision.conda import health
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.conda.ensure_conda_pkg import EnsureCondaPkg
from nbprovision.conda.records import all_details
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ProvisionError, TaskFailed
from nbprovision.model.result import Change
from tests.support import conda_standin
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge, planned

pytestmark = pytest.mark.engine
ROOT = Path(__file__).parents[2]


@pytest.fixture
def conda(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The command: real, recorded or played."""
    if conda_standin.REAL and not conda_standin.RECORDING:
        return Path(conda_standin.REAL)
    story = re.sub(r"[^a-z0-9_]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")
    return conda_standin.fake_conda(tmp_path, story)


@pytest.fixture
def env(env: dict[str, str], tmp_path: Path, conda: Path) -> dict[str, str]:
    """A user with that conda, and folders of their own for it."""
    return {
        **env,
        "CONDA_EXE": str(conda),
        "CONDA_PKGS_DIRS": str(tmp_path / "pkgs"),
        "CONDA_ENVS_DIRS": str(tmp_path / "nbprovision/envs"),
    }


@pytest.fixture
def tiny(tmp_path: Path) -> TinyChannel:
    """alpha in three versions, beta which needs an alpha below 2, gamma alone in two."""
    channel = TinyChannel(tmp_path / "tiny")
    for version in ("1.0", "1.1", "2.0"):
        channel.add("alpha", version)
    channel.add("beta", "1.0", depends=["alpha <2"])
    channel.add("gamma", "3.0")
    channel.add("gamma", "3.1")
    return channel


def env_of(channel: TinyChannel, *packages: str, **more: Any) -> EnsureCondaEnv:
    settings = {"name": "x", "engine": "conda", "packages": list(packages), "channels": [channel.url]}
    return EnsureCondaEnv(**{**settings, **more})


def prefix_of(machine: Machine) -> Path:
    return machine.home / "envs/x"


def versions(machine: Machine) -> dict[str, str]:
    return {record.name: record.version for record in installed(prefix_of(machine))}


def moves(changes: tuple[Change, ...]) -> list[tuple[str, str, str | None, str | None]]:
    return [(one.action, one.target, one.before, one.after) for one in changes if one.kind == "package"]


def test_made_and_then_in_place(machine: Machine, tiny: TinyChannel, home: Path) -> None:
    changes = converge(env_of(tiny, "beta", "gamma=3.0"), machine)
    assert [(one.action, one.target, one.after) for one in changes] == [
        ("create", "x", "present"),
        ("install", "alpha", "1.1"),
        ("install", "beta", "1.0"),
        ("install", "gamma", "3.0"),
        ("register", "x", "environments.txt"),
    ]
    assert (prefix_of(machine) / "share/beta.txt").read_text() == "beta 1.0\n"
    assert (home / ".conda/environments.txt").read_text() == f"{prefix_of(machine)}\n"
    assert converge(env_of(tiny, "beta", "gamma=3.0"), machine) == ()


def test_it_is_conda_that_works(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    converge(env_of(tiny, "gamma"), machine)
    record = json.loads(next((prefix_of(machine) / "conda-meta").glob("gamma-*.json")).read_text())
    assert record["link"]["source"].startswith(str(tmp_path / "pkgs"))


def test_a_look_changes_nothing(machine: Machine, tiny: TinyChannel) -> None:
    assert planned(env_of(tiny, "beta"), machine)
    assert not (machine.home / "envs").exists()
    converge(env_of(tiny, "gamma=3.0"), machine)
    before = {path: path.stat().st_mtime_ns for path in prefix_of(machine).rglob("*")}
    assert moves(planned(env_of(tiny, "gamma>3.0"), machine)) == [("upgrade", "gamma", "3.0", "3.1")]
    assert {path: path.stat().st_mtime_ns for path in prefix_of(machine).rglob("*")} == before


def test_adding_keeps_the_rest_as_it_is(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "alpha"), machine)
    tiny.add("alpha", "2.5")
    assert moves(converge(env_of(tiny, "alpha", "gamma"), machine)) == [("install", "gamma", None, "3.1")]


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ("alpha=1.0", "alpha>=1.1,<2", ("upgrade", "alpha", "1.0", "1.1")),
        ("alpha", "alpha=1.1", ("downgrade", "alpha", "2.0", "1.1")),
        ("alpha", "alpha==1.0", ("downgrade", "alpha", "2.0", "1.0")),
        ("alpha", "alpha<2", ("downgrade", "alpha", "2.0", "1.1")),
    ],
    ids=["up", "down", "exactly", "below"],
)
def test_moves(
    machine: Machine, tiny: TinyChannel, first: str, then: str, expected: tuple[str, str, str | None, str | None]
) -> None:
    converge(env_of(tiny, first), machine)
    assert moves(converge(env_of(tiny, then), machine)) == [expected]


def test_what_stands_in_the_way_goes(machine: Machine, tiny: TinyChannel) -> None:
    """delta came along with nobody's asking and cannot stay."""
    tiny.add("delta", "1.0", depends=["alpha <2"])
    converge(env_of(tiny, "delta", "gamma"), machine)
    changes = moves(converge(env_of(tiny, "alpha=2.0", "gamma", exact=True), machine))
    assert changes == [("upgrade", "alpha", "1.1", "2.0"), ("remove", "delta", "1.0", None)]


def test_latest(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "gamma=3.0", "alpha=1.0"), machine)
    changes = moves(converge(env_of(tiny, "gamma", update="latest"), machine))
    assert changes == [("upgrade", "gamma", "3.0", "3.1")]


def test_latest_with_what_it_needs(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "beta"), machine)
    tiny.add("beta", "2.0", depends=["alpha >=2"])
    converge(env_of(tiny, "beta", update="latest"), machine)
    assert versions(machine) == {"alpha": "2.0", "beta": "2.0"}


def test_python_keeps_its_minor_version_unless_it_is_named(machine: Machine, tiny: TinyChannel) -> None:
    for minor in ("3.11.2", "3.12.3"):
        tiny.add("python", minor, files={"bin/python": f"{minor}\n"})
    tiny.add("new", "1.0", depends=["python >=3.12"])
    converge(env_of(tiny, "python=3.11"), machine)
    assert moves(converge(env_of(tiny, "python", "gamma"), machine)) == [("install", "gamma", None, "3.1")]
    with pytest.raises(TaskFailed, match="the requested packages are incompatible") as caught:
        planned(env_of(tiny, "new"), machine)
    assert "3.11" in caught.value.cause
    changes = moves(converge(env_of(tiny, "new", "python"), machine))
    assert changes == [("install", "new", None, "1.0"), ("upgrade", "python", "3.11.2", "3.12.3")]


def test_exact_removes_what_nobody_asked_for(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "beta", "gamma"), machine)
    assert moves(converge(env_of(tiny, "beta", exact=True), machine)) == [("remove", "gamma", "3.1", None)]
    assert versions(machine) == {"alpha": "1.1", "beta": "1.0"}


def test_packages_come_and_go_by_ensure_conda_pkg(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "beta"), machine)
    more = {"env": "x", "engine": "conda", "channels": [tiny.url]}
    assert moves(converge(EnsureCondaPkg(packages=["gamma"], **more), machine)) == [("install", "gamma", None, "3.1")]
    gone = moves(converge(EnsureCondaPkg(packages=["alpha"], state="absent", **more), machine))
    assert gone == [("remove", "alpha", "1.1", None), ("remove", "beta", "1.0", None)]
    assert versions(machine) == {"gamma": "3.1"}


def test_harm_is_mended(machine: Machine, tiny: TinyChannel) -> None:
    task = env_of(tiny, "beta", "gamma", deep=True)
    converge(task, machine)
    (prefix_of(machine) / "share/gamma.txt").unlink()
    next((prefix_of(machine) / "conda-meta").glob("alpha-*.json")).write_text("{")
    changes = moves(converge(task, machine))
    assert [(action, target) for action, target, _, _ in changes] == [("repair", "alpha"), ("repair", "gamma")]
    assert (prefix_of(machine) / "share/gamma.txt").read_text() == "gamma 3.1\n"
    details = all_details(installed(prefix_of(machine)))
    assert health.requested(details) == {"beta": "beta", "gamma": "gamma"}, "a repair asks for nothing"


def test_a_file_edited_in_place_is_mended_in_the_cache_too(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    converge(env_of(tiny, "gamma=3.1"), machine)
    cached = tmp_path / "pkgs/gamma-3.1-0/share/gamma.txt"
    cached.parent.mkdir(parents=True, exist_ok=True)  # a recording knows the environments only
    (prefix_of(machine) / "share/gamma.txt").unlink()
    cached.write_text("edited in place")
    os.link(cached, prefix_of(machine) / "share/gamma.txt")
    assert [one.action for one in converge(env_of(tiny, "gamma=3.1", deep=True), machine)] == ["repair"]
    assert (prefix_of(machine) / "share/gamma.txt").read_text() == "gamma 3.1\n"


def test_the_history_tells_once_what_was_asked_for(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "beta"), machine)
    converge(env_of(tiny, "beta", "gamma=3.0"), machine)
    lines = (prefix_of(machine) / "conda-meta/history").read_text().splitlines()
    assert [line for line in lines if not line.startswith(("==>", "# cmd", "# conda"))] == [
        f"+{tiny.url}/noarch::alpha-1.1-0",
        f"+{tiny.url}/noarch::beta-1.0-0",
        "# update specs: ['beta']",
        f"+{tiny.url}/noarch::gamma-3.0-0",
        "# update specs: ['beta', 'gamma=3.0']",
    ]
    assert sum(line.startswith("==>") for line in lines) == 2


def test_registered_only_as_condarc_says(machine: Machine, tiny: TinyChannel, home: Path) -> None:
    """conda itself lists every environment that it touches."""
    (home / ".condarc").write_text("register_envs: false\n")
    converge(env_of(tiny, "gamma"), machine)
    assert not conda_registry(home)


def conda_registry(home: Path) -> list[str]:
    path = home / ".conda/environments.txt"
    return path.read_text().split() if path.exists() else []


def test_one_engine_goes_on_with_what_the_other_made(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "beta", engine="rattler"), machine)
    assert moves(converge(env_of(tiny, "beta", "gamma=3.0"), machine)) == [("install", "gamma", None, "3.0")]
    assert planned(env_of(tiny, "beta", "gamma=3.0", engine="rattler"), machine) == ()
    changes = moves(converge(env_of(tiny, "beta", "gamma=3.1", engine="rattler"), machine))
    assert changes == [("upgrade", "gamma", "3.0", "3.1")]
    details = all_details(installed(prefix_of(machine)))
    assert health.requested(details) == {"beta": "beta", "gamma": "gamma 3.1.*"}
    assert planned(env_of(tiny, "beta", "gamma=3.1"), machine) == ()


def test_a_spec_may_name_its_channel(machine: Machine, tiny: TinyChannel, tmp_path: Path) -> None:
    other = TinyChannel(tmp_path / "other")
    other.add("alpha", "9.0")
    converge(env_of(tiny, f"{other.url}::alpha", "gamma"), machine)
    assert versions(machine) == {"alpha": "9.0", "gamma": "3.1"}


def test_pip_is_no_part_of_python(machine: Machine, tiny: TinyChannel) -> None:
    """As under the built-in engine; conda would add it by itself, and fail where the channel has none."""
    tiny.add("python", "3.11.7", files={"bin/python": "#!/bin/sh\n"})
    converge(env_of(tiny, "python"), machine)
    assert versions(machine) == {"python": "3.11.7"}


def test_files_that_conda_lists_as_they_were_in_the_package(machine: Machine, tiny: TinyChannel) -> None:
    """In ``paths_data`` of a pure Python package; py-rattler would leave them behind, and a deep look miss them."""
    places = "lib/python3.11/site-packages"
    tiny.add("pure", "1.0", files={f"{places}/pure.py": "1", f"{places}/pure-1.0.dist-info/METADATA": "Name: pure"})
    tiny.add("pure", "2.0", files={f"{places}/pure.py": "2", f"{places}/pure-2.0.dist-info/METADATA": "Name: pure"})
    converge(env_of(tiny, "pure=1.0", engine="rattler"), machine)
    [record] = (prefix_of(machine) / "conda-meta").glob("pure-*.json")
    document = json.loads(record.read_text())
    for entry in document["paths_data"]["paths"]:
        entry["_path"] = entry["_path"].removeprefix("lib/python3.11/")
    record.write_text(json.dumps(document))
    assert planned(env_of(tiny, "pure=1.0", engine="rattler", deep=True), machine) == ()
    converge(env_of(tiny, "pure=2.0", engine="rattler"), machine)
    assert sorted(path.name for path in (prefix_of(machine) / places).iterdir()) == ["pure-2.0.dist-info", "pure.py"]


def test_a_channel_as_conda_writes_it_down(machine: Machine, tiny: TinyChannel) -> None:
    """conda's records name the channel's folder for one kind of machine; a spec that names the channel means it too."""
    converge(env_of(tiny, "gamma", engine="rattler"), machine)
    [record] = (prefix_of(machine) / "conda-meta").glob("gamma-*.json")
    document = json.loads(record.read_text())
    record.write_text(json.dumps({**document, "channel": f"{tiny.url}/noarch"}))
    assert planned(env_of(tiny, f"{tiny.url}::gamma", engine="rattler"), machine) == ()


@pytest.mark.parametrize(
    ("packages", "message", "cause"),
    [
        (["alfa"], "no channel has a package 'alfa'", "tiny/noarch"),
        (["alpha>=9"], "no channel has alpha", "tiny/noarch"),
        (["beta", "alpha=2"], "the requested packages are incompatible", "beta -> alpha"),
        (["alpha[nonsense"], "'alpha[nonsense' is not a match spec", "nonsense"),
    ],
    ids=["no package", "no version", "conflict", "no spec"],
)
def test_what_cannot_be_is_said(
    machine: Machine, tiny: TinyChannel, packages: list[str], message: str, cause: str
) -> None:
    with pytest.raises(ProvisionError) as caught:
        planned(env_of(tiny, *packages), machine)
    assert caught.value.message.startswith(message)
    assert cause in caught.value.cause
    assert caught.value.cure
    assert not prefix_of(machine).exists()


def test_a_channel_that_is_not_there(machine: Machine, tmp_path: Path) -> None:
    task = EnsureCondaEnv(name="x", packages=["alpha"], channels=[(tmp_path / "none").as_uri()], engine="conda")
    with pytest.raises(TaskFailed, match="cannot read a channel") as caught:
        planned(task, machine)
    assert "ensure_conda_channel" in caught.value.cure


def test_terms_of_service_are_the_users_to_accept(env: dict[str, str], tiny: TinyChannel, tmp_path: Path) -> None:
    """Played unless the conda to be recorded has the plugin that asks for them."""
    recording = conda_standin.RECORDING and conda_standin.knows_terms()
    conda = conda_standin.fake_conda(tmp_path, "terms_of_service", recording=recording)
    machine = Machine({**env, "CONDA_EXE": str(conda)}, root=tmp_path / "root")
    terms = {"version": "2025-07-15T00:00:00+00:00", "text": "As you please.", "support": "https://example.com"}
    (tiny.path / "terms.json").write_text(json.dumps(terms))
    with pytest.raises(TaskFailed, match="terms of service have not been accepted on this machine") as caught:
        planned(env_of(tiny, "alpha"), machine)
    assert f"conda tos accept --override-channels --channel {tiny.url}" in caught.value.cause
    assert "conda tos accept" in caught.value.cure


def test_progress_is_told(machine: Machine, tiny: TinyChannel) -> None:
    told: list[tuple[str, float, float]] = []
    machine.on_progress = lambda text, done, total: told.append((text, done, total))
    converge(env_of(tiny, "beta"), machine)
    assert told[-1] == ("x: linking", 2, 2)


def test_a_secret_of_a_channel_is_not_for_a_command_line(machine: Machine) -> None:
    task = EnsureCondaEnv(name="x", packages=["alpha"], channels=["https://me:hush@conda.example/x"], engine="conda")
    with pytest.raises(TaskFailed, match="conda cannot use a channel with a password or a token") as caught:
        planned(task, machine)
    assert "hush" not in str(caught.value)


PLAYBOOK = """\
- tasks:
    - ensure_conda_env:
        name: x
        channels: [{channel}]
        packages: [beta]
        engine: conda
    - ensure_conda_pkg:
        env: x
        channels: [{channel}]
        packages: [gamma]
        engine: conda
"""


def test_by_a_playbook(env: dict[str, str], tiny: TinyChannel, tmp_path: Path) -> None:
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(PLAYBOOK.format(channel=tiny.url))

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "nbprovision", "run", str(playbook), "--format", "json", *words]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    status, first = run()
    assert (status, first["status"]) == (0, "changed"), first
    assert [task["status"] for task in first["tasks"]] == ["changed", "changed"]
    assert run()[1]["status"] == "ok"
    assert run("--no-witness", "--check", "--exit-code")[0] == 0


# ------------------------------------------------------------------------------------------------ which engine it is


def test_no_conda_is_said(tmp_path: Path, tiny: TinyChannel) -> None:
    machine = Machine({"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}, root=tmp_path / "root")
    with pytest.raises(TaskFailed, match="this machine has no conda") as caught:
        planned(env_of(tiny, "alpha", engine="conda"), machine)
    assert str(tmp_path / "bin") in caught.value.cause


# A Python of ours in which py-rattler cannot be loaded, as on a machine whose C library is too old for it.
NO_RATTLER = """\
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name == "rattler":
            raise ImportError("libc.so.6: version `GLIBC_2.17' not found")
sys.meta_path.insert(0, Refusing())
"""


def test_auto_is_conda_where_py_rattler_cannot_be_loaded(
    env: dict[str, str], tiny: TinyChannel, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "old"], check=True)
    [places] = (tmp_path / "old/lib").glob("python3.*/site-packages")
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    (places / "ours.pth").write_text(f"{libraries}\n{ROOT}\n")
    (places / "sitecustomize.py").write_text(NO_RATTLER)
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(PLAYBOOK.format(channel=tiny.url).replace("engine: conda", "engine: auto"))
    command = [str(tmp_path / "old/bin/python"), "-m", "nbprovision", "run", str(playbook)]
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (tmp_path / "nbprovision/envs/x/share").iterdir()) == [
        "alpha.txt", "beta.txt", "gamma.txt",
    ]  # fmt: skip

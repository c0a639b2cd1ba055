"""An instance gets a GPU, or loses it: packages that have a build for each are exchanged, and nothing else moves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.machine import platform
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, TaskFailed
from nbprovision.playbook.read import read_playbook
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge, planned

pytestmark = pytest.mark.engine


@pytest.fixture
def channel(tmp_path: Path) -> TinyChannel:
    made = TinyChannel(tmp_path / "tiny")
    made.add("torch", "2.0", build="cpu_0")
    made.add("torch", "2.0", build="cuda_0", build_number=200, depends=["__cuda >=12", "cudart"])
    made.add("cudart", "12.4")
    made.add("numbers", "1.0")
    return made


def env_of(channel: TinyChannel, wanted: str | None = None) -> EnsureCondaEnv:
    return EnsureCondaEnv(name="x", packages=["torch", "numbers"], channels=[channel.url], cuda=wanted)


def builds(machine: Machine) -> dict[str, str]:
    return {record.name: f"{record.version} {record.build}" for record in installed(machine.home / "envs/x")}


def test_from_cpu_to_gpu_and_back(machine: Machine, channel: TinyChannel) -> None:
    converge(env_of(channel), machine)
    assert builds(machine) == {"torch": "2.0 cpu_0", "numbers": "1.0 0"}
    # Newer versions have come meanwhile: they are not what a change of the instance asks for.
    channel.add("torch", "3.0", build="cpu_0")
    channel.add("numbers", "1.1")
    converge(env_of(channel, "12.4"), machine)
    assert builds(machine) == {"torch": "2.0 cuda_0", "numbers": "1.0 0", "cudart": "12.4 0"}
    assert planned(env_of(channel, "12.4"), machine) == ()
    converge(env_of(channel, "none"), machine)
    assert builds(machine)["torch"] == "2.0 cpu_0"


def test_a_gpu_that_comes_is_a_witness(machine: Machine, channel: TinyChannel) -> None:
    task = env_of(channel)
    converge(task, machine)
    assert set(platform.gpu_marks(machine.root)) <= set(task.witnesses(machine))
    assert not set(platform.gpu_marks(machine.root)) & set(env_of(channel, "none").witnesses(machine))
    (machine.root / "dev").mkdir()
    (machine.root / "dev/nvidiactl").touch()
    # The driver is not really there, so the solver finds the same packages; that it was asked is noted, once.
    (change,) = converge(task, machine)
    assert (change.target, change.before, change.after) == ("CUDA", "none", "detected")


def test_the_variable_that_conda_knows(machine: Machine, channel: TinyChannel) -> None:
    machine.env["CONDA_OVERRIDE_CUDA"] = "12.2"
    converge(env_of(channel), machine)
    assert builds(machine)["torch"] == "2.0 cuda_0"
    machine.env["CONDA_OVERRIDE_CUDA"] = ""
    converge(env_of(channel), machine)
    assert builds(machine)["torch"] == "2.0 cpu_0"


def test_a_channel_that_is_gone_takes_nothing_away(machine: Machine, channel: TinyChannel) -> None:
    """The environment works as it is; that it is not what the machine has is a warning, and asked again next time."""
    converge(env_of(channel), machine)
    shutil.rmtree(channel.path)
    task = env_of(channel, "12.4")
    plan = task.plan(task.read(machine))
    assert not plan
    (warning,) = plan.warnings
    assert "not for '12.4'" in warning
    with pytest.raises(TaskFailed):
        planned(EnsureCondaEnv(name="x", packages=["torch", "more"], channels=[channel.url]), machine)


def test_an_environment_of_others_is_not_solved_anew(machine: Machine, channel: TinyChannel) -> None:
    converge(env_of(channel), machine)
    (machine.home / "envs/x/conda-meta/nbprovision").unlink()
    assert planned(env_of(channel, "12.4"), machine) == ()


@pytest.mark.parametrize(("written", "meant"), [("'12.10'", "12.10"), ("'12'", "12"), ("none", "none"), ("null", None)])
def test_as_a_playbook_writes_it(tmp_path: Path, written: str, meant: str | None) -> None:
    path = tmp_path / "playbook.yml"
    path.write_text(f"- tasks:\n    - ensure_conda_env: {{name: x, cuda: {written}}}\n")
    (call,) = read_playbook(path, Catalogue()).plays[0].calls
    assert isinstance(call.task, EnsureCondaEnv)
    assert call.task.cuda == meant


def test_what_is_no_version_is_refused_at_its_place(tmp_path: Path) -> None:
    path = tmp_path / "playbook.yml"
    path.write_text("- tasks:\n    - ensure_conda_env:\n        name: x\n        cuda: twelve\n")
    with pytest.raises(InvalidPlaybook) as caught:
        read_playbook(path, Catalogue())
    assert f"{path}:4:15" in str(caught.value)
    assert "'twelve' is not a version of CUDA" in str(caught.value)

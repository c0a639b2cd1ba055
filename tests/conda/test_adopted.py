"""Environments that lie on the volume already, made by other tools: found, given kernels, changed, never rebuilt."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.machine import environments
from nbprovision.machine.environments import installed, survey
from nbprovision.machine.machine import Machine
from nbprovision.system import unfinished
from tests.conftest import Channel
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge
from tests.support.provided_conda import Instance
from tests.support.wheels import make_wheel


@pytest.fixture
def instance(env: dict[str, str], tmp_path: Path) -> Instance:
    return Instance(env, tmp_path / "root")


def installation(prefix: Path) -> Path:
    """What conda's installer leaves, as far as anyone looks at it."""
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "conda-meta/history").touch()
    (prefix / "conda-meta/conda-4.6.14-py37_0.json").write_text('{"name": "conda", "version": "4.6.14"}')
    (prefix / "condabin").mkdir()
    return prefix


def environment(prefix: Path) -> Path:
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "conda-meta/history").touch()
    return prefix


def made_by_others(machine: Machine, prefix: Path, channel: str, *packages: str) -> Path:
    """A real environment, with nothing in it that tells of this tool."""
    converge(EnsureCondaEnv(prefix=str(prefix), packages=list(packages), channels=[channel]), machine)
    (prefix / "conda-meta/nbprovision").unlink()
    (prefix / unfinished.MARK).unlink(missing_ok=True)
    return prefix


def volume_of(instance: Instance) -> Path:
    return instance.root / "home/ec2-user/SageMaker"


def inodes(prefix: Path) -> dict[str, int]:
    return {str(path.relative_to(prefix)): path.lstat().st_ino for path in prefix.rglob("*")}


def test_the_samples_installation_is_found(instance: Instance) -> None:
    """persistent-conda-ebs makes custom-miniconda/miniconda, and in it custom_python."""
    base = installation(volume_of(instance) / "custom-miniconda/miniconda")
    environment(base / "envs/custom_python")
    conda = instance.machine.conda
    assert conda.prefix_of("custom_python") == base / "envs/custom_python"
    assert conda.installations == [instance.anaconda, base]
    assert conda.base == instance.anaconda
    assert not any(
        one.provided or one.ours for one in conda.environments() if base in (one.prefix, *one.prefix.parents)
    )


def test_where_it_is_looked_for(instance: Instance, tmp_path: Path) -> None:
    volume = volume_of(instance)
    found = {
        environment(volume / place)
        for place in ("by-prefix", "envs/one", "team/envs/two", "kernels/three", ".conda/envs/four", "project/conda")
    }
    installations = {installation(volume / place) for place in ("miniconda3", "mine", "tools/miniforge3")}
    for place in ("data/deep/down/env", ".cache/envs/hidden", "project/other/env"):
        environment(volume / place)
    (volume / "link").symlink_to(tmp_path / "gone")
    (volume / "file").touch()
    looked = survey(volume)
    assert set(looked.environments) == found
    assert set(looked.installations) == installations
    assert survey(tmp_path / "no-volume") == survey(volume / "file")


def test_a_full_volume_is_not_searched_for_long(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = volume_of(instance)
    for number in range(300):
        (volume / f"a{number:03}").mkdir()
    last = installation(volume / "z-my-conda")
    looked: list[str] = []
    ask = environments.is_environment
    monkeypatch.setattr(environments, "is_environment", lambda path: looked.append(str(path)) or ask(path))
    assert survey(volume).installations == (last,)
    assert len(looked) < 200 * 20


def test_what_is_mounted_on_the_volume_is_not_looked_into(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system whose server is gone would stop every run."""
    volume = volume_of(instance)
    installation(volume / "efs of ours/miniconda3")
    here = installation(volume / "tools/miniconda3")
    assert len(survey(volume).installations) == 2
    place = str(volume / "efs of ours").replace(" ", "\\040")
    (tmp_path / "mounts").write_text(f"127.0.0.1:/ {place} nfs4 rw 0 0\n")
    monkeypatch.setattr(environments, "_MOUNTS", tmp_path / "mounts")
    assert survey(volume).installations == (here,)


@pytest.mark.engine
def test_it_is_brought_to_the_playbooks_state_and_stays_itself(instance: Instance, channel: Channel) -> None:
    base = installation(volume_of(instance) / "custom-miniconda/miniconda")
    elsewhere = Machine(instance.env, root=instance.root / "elsewhere")
    prefix = made_by_others(elsewhere, base / "envs/custom_python", channel.url, "python", "pip", "six=1.16.0")
    (prefix / "notes.txt").write_text("the user's own")
    shutil.rmtree(Path(instance.env["HOME"]) / ".conda")  # the restart
    wheel = make_wheel(instance.root / "wheels", "apple", "1.0")
    before = inodes(prefix)
    playbook = f"""
        - tasks:
            - ensure_conda_env: {{name: custom_python, packages: [idna=3.7], channels: ['{channel.url}']}}
            - ensure_pip_pkg: {{env: custom_python, packages: ["{wheel}"]}}
            - ensure_kernel: {{env: custom_python, display_name: Custom (custom_python)}}
        """
    assert {result.status for result in instance.run(playbook)} == {"changed"}
    after = inodes(prefix)
    apart = {"conda-meta/history", "lib", ".lock"}
    assert {place: inode for place, inode in before.items() if place not in apart and after.get(place) != inode} == {}
    assert {record.name for record in installed(prefix)} >= {"six", "idna", "python"}
    kernel = Path(instance.env["HOME"]) / ".local/share/jupyter/kernels/custom_python/kernel.json"
    assert str(prefix) in kernel.read_text()
    assert not (prefix / "conda-meta/nbprovision").exists()
    time.sleep(0.02)  # out of the clock tick of what was written last
    assert {result.status for result in instance.run(playbook)} == {"ok"}


@pytest.mark.engine
def test_another_name_for_it_is_not_made(instance: Instance, tmp_path: Path) -> None:
    """By its name the environment is the one that is there, not a new one in the platform's folder."""
    tiny = TinyChannel(tmp_path / "tiny")
    tiny.add("alpha", "1.0")
    tiny.add("beta", "1.0")
    elsewhere = Machine(instance.env, root=instance.root / "elsewhere")
    prefix = made_by_others(elsewhere, volume_of(instance) / "work/envs/mine", tiny.url, "alpha")
    shutil.rmtree(Path(instance.env["HOME"]) / ".conda")
    instance.run(f"- tasks: [ensure_conda_env: {{name: mine, packages: [beta], channels: ['{tiny.url}']}}]")
    assert {record.name for record in installed(prefix)} == {"alpha", "beta"}
    assert not (volume_of(instance) / "envs").exists()


@pytest.mark.engine
def test_all_means_it_when_the_playbook_has_named_it(instance: Instance, tmp_path: Path) -> None:
    """Nothing vouches for it that no more of such have come, so `all` leaves alone what was only stumbled over."""
    tiny = TinyChannel(tmp_path / "tiny")
    for name in ("alpha", "beta"):
        tiny.add(name, "1.0")
    elsewhere = Machine(instance.env, root=instance.root / "elsewhere")
    base = installation(volume_of(instance) / "tools/miniconda")
    prefix = made_by_others(elsewhere, base / "envs/mine", tiny.url, "alpha")
    instance.provide("python3", tiny.url, "alpha")
    shutil.rmtree(Path(instance.env["HOME"]) / ".conda")
    channels = f"channels: ['{tiny.url}']"
    everywhere = f"ensure_conda_pkg: {{envs: all, except: base, packages: [beta], {channels}}}"
    instance.run(f"- tasks:\n    - {everywhere}\n")
    assert {record.name for record in installed(prefix)} == {"alpha"}
    assert {record.name for record in installed(instance.prefix("python3"))} == {"alpha", "beta"}
    adopt = f"ensure_conda_env: {{name: mine, {channels}}}"
    instance.run(f"- tasks:\n    - {adopt}\n    - {everywhere}\n")
    assert {record.name for record in installed(prefix)} == {"alpha", "beta"}
    assert [one.looked_up for one in instance.machine.conda.environments() if one.prefix == prefix] == [False]


@pytest.mark.engine
def test_a_glob_that_names_the_folder_means_it(instance: Instance, tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    for name in ("alpha", "beta"):
        tiny.add(name, "1.0")
    elsewhere = Machine(instance.env, root=instance.root / "elsewhere")
    envs = installation(volume_of(instance) / "tools/miniconda") / "envs"
    made_by_others(elsewhere, envs / "mine", tiny.url, "alpha")
    shutil.rmtree(Path(instance.env["HOME"]) / ".conda")
    playbook = f"- tasks: [ensure_conda_pkg: {{envs: '{envs}/*', packages: [beta], channels: ['{tiny.url}']}}]"
    assert {result.status for result in instance.run(playbook)} == {"changed"}
    time.sleep(0.02)
    assert [(result.status, result.proof) for result in instance.run(playbook)] == [("ok", "witness")]
    made_by_others(elsewhere, envs / "later", tiny.url, "alpha")
    shutil.rmtree(Path(instance.env["HOME"]) / ".conda")
    assert {result.status for result in instance.run(playbook)} == {"changed"}
    assert {record.name for record in installed(envs / "later")} == {"alpha", "beta"}

"""`nbprovision export` tells apart who brought what: conda, pip, the image of the platform, or the user afterwards."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uv

from nbprovision.cli.export import exported
from nbprovision.conda import requested
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from tests.conftest import Channel
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge
from tests.support.exporting import by_hand, counts, nbprovision, tasks
from tests.support.provided import Instance as PipInstance
from tests.support.provided_conda import Instance
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.engine


# ------------------------------------------------------------------------------------------------------------------- pip


def test_what_came_along_is_left_out_where_pip_tells(
    machine: Machine, channel: Channel, wheels: Path, env: dict[str, str]
) -> None:
    converge(EnsureCondaEnv(name="x", packages=["python", "pip"], channels=[channel.url]), machine)
    prefix = machine.home / "envs/x"
    make_wheel(wheels, "stone", "1.0")
    make_wheel(wheels, "lonely", "1.0", requires=["stone"])
    by_hand(env, "pip", prefix, "pear", "lonely", "apple")
    subprocess.run([prefix / "bin/python", "-m", "pip", "uninstall", "-qy", "lonely"], env=env, check=True)
    machine.forget()
    text = exported(machine, ["x"], pinned=False)
    assert tasks(text)[1] == ("ensure_pip_pkg", {"env": "x", "packages": ["apple", "pear"]})
    assert "# Left out, since they were not requested and nothing needs them: stone" in text


def test_where_the_installer_does_not_tell_it_is_what_nothing_needs(
    machine: Machine, wheels: Path, env: dict[str, str], tmp_path: Path
) -> None:
    """uv says of all that it installs that it was asked for."""
    prefix = virtual(tmp_path / "venv")
    by_hand(env, "uv", prefix, "pear", "old-tool", "plum")
    text = exported(machine, [str(prefix)], pinned=True)
    packages = ["old-tool==1.0", "pear==1.0", "plum==1.0"]
    python = ".".join(map(str, sys.version_info[:2]))
    assert tasks(text) == [
        ("ensure_venv", {"path": str(prefix), "python": python}),
        ("ensure_pip_pkg", {"env": str(prefix), "packages": packages}),
    ]


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_what_conda_brought_tells_of_no_extra(
    machine: Machine, channel: Channel, wheels: Path, env: dict[str, str], tool: str
) -> None:
    """That six is there, which an extra of what pip installed would bring, is conda's doing."""
    converge(EnsureCondaEnv(name="x", packages=["python", "pip", "six"], channels=[channel.url]), machine)
    make_wheel(wheels, "fig", "1.0", requires=['six; extra == "dried"'])
    by_hand(env, tool, machine.home / "envs/x", "fig")
    assert tasks(exported(machine, ["x"], pinned=False))[1][1]["packages"] == ["fig"]


def test_what_pip_put_in_the_place_of_condas_is_pips(
    machine: Machine, channel: Channel, wheels: Path, env: dict[str, str], tmp_path: Path
) -> None:
    packages = ["python", "pip", "six=1.16.0"]
    converge(EnsureCondaEnv(name="x", packages=packages, channels=[channel.url]), machine)
    by_hand(env, "pip", machine.home / "envs/x", "six==1.17.0")
    text = exported(machine, ["x"], pinned=False)
    (_, made), (_, brought) = tasks(text)
    assert made["packages"] == ["pip", "python"]
    assert brought["packages"] == ["six==1.17.0"]
    book = tmp_path / "book.yml"
    book.write_text(text)
    assert counts(nbprovision(env, "run", str(book), "--format", "json"))["changed"] == 0


def virtual(prefix: Path) -> Path:
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    subprocess.run([uv.find_uv_bin(), "venv", "-q", "--python", base, prefix], check=True)
    return prefix


# ------------------------------------------------------------------------------------------------------------ the platform


@pytest.fixture
def instance(env: dict[str, str], tmp_path: Path) -> Instance:
    return Instance(env, tmp_path / "root")


def added(instance: Instance, tiny: TinyChannel, *packages: str) -> None:
    """Packages that a user adds by conda, which writes them into the history."""
    prefix = instance.prefix("python3")
    elsewhere = Machine(instance.env, root=instance.root / "elsewhere")
    converge(EnsureCondaEnv(prefix=str(prefix), packages=list(packages), channels=[tiny.url]), elsewhere)


@pytest.fixture
def tiny(tmp_path: Path) -> TinyChannel:
    channel = TinyChannel(tmp_path / "tiny")
    for version in ("1.0", "2.0"):
        channel.add("core", version)
    channel.add("more", "1.0", depends=["helper"])
    channel.add("helper", "1.0")
    return channel


def test_of_the_platforms_environments_what_was_added(instance: Instance, tiny: TinyChannel) -> None:
    instance.provide("python3", tiny.url, "core=1.0")
    instance.run("- tasks: []")  # the first run of the boot writes down what the image brought
    added(instance, tiny, "more")
    text = exported(instance.machine, ["python3"], pinned=False)
    assert tasks(text) == [("ensure_conda_pkg", {"env": "python3", "channels": [tiny.url], "packages": ["more"]})]
    assert {result.status for result in instance.run(text)} == {"ok"}
    shutil.rmtree(instance.prefix("python3"))  # a restart
    instance.provide("python3", tiny.url, "core=1.0")
    assert {result.status for result in instance.run(text)} == {"changed"}
    assert {record.name for record in installed(instance.prefix("python3"))} == {"core", "more", "helper"}


def test_what_was_moved_with_permission_needs_it_again(instance: Instance, tiny: TinyChannel) -> None:
    instance.provide("python3", tiny.url, "core=1.0")
    instance.run("- tasks: []")
    added(instance, tiny, "core=2.0")
    text = exported(instance.machine, ["python3"], pinned=False)
    ((kind, given),) = tasks(text)
    assert kind == "ensure_conda_pkg"
    assert given["packages"] == ["core=2.0"]
    assert given["allow_platform_changes"] is True
    assert {result.status for result in instance.run(text)} == {"ok"}


def test_what_pip_added_to_the_platforms(env: dict[str, str], tmp_path: Path) -> None:
    instance = PipInstance(tmp_path, env)
    prefix = instance.provide("python3", ("numpy", "1.26"))
    make_wheel(instance.wheels, "apple", "1.0", requires=["plum"])
    make_wheel(instance.wheels, "plum", "1.0")
    instance.good("- ensure_pip_pkg: {env: python3, packages: [numpy]}")  # the first run of the boot
    by_hand(instance.env, "uv", prefix, "apple")
    text = exported(instance.machine(), ["python3"], pinned=True)
    assert tasks(text) == [("ensure_pip_pkg", {"env": "python3", "packages": ["apple==1.0"]})]
    assert instance.good("- ensure_pip_pkg: {env: python3, packages: [apple==1.0]}") == ["ok"]


def test_what_pip_moved_with_permission_needs_it_again(env: dict[str, str], tmp_path: Path) -> None:
    instance = PipInstance(tmp_path, env)
    prefix = instance.provide("python3", ("apple", "1.0"))
    make_wheel(instance.wheels, "apple", "2.0")
    moved = "- ensure_pip_pkg: {env: python3, packages: ['apple>=2'], allow_platform_changes: true}"
    assert instance.good(moved) == ["changed"]
    text = exported(instance.machine(), ["python3"], pinned=True)
    [(_, task)] = tasks(text)
    assert (task["packages"], task["allow_platform_changes"]) == (["apple==2.0"], True)
    shutil.rmtree(prefix)  # a restart
    instance.provide("python3", ("apple", "1.0"))
    instance.playbook.write_text(text)
    assert instance.good(text.partition("  tasks:\n")[2]) == ["changed"]


def test_kernels_that_the_image_brought_are_its_own(
    instance: Instance, tiny: TinyChannel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = instance.provide("python3", tiny.url, "core=1.0")
    spec = json.dumps({"argv": [f"{prefix}/bin/python", "-m", "ipykernel"], "display_name": "x", "language": "python"})
    for folder in ("image", "mine"):
        place = instance.root / "usr/local/share/jupyter/kernels" / folder / "kernel.json"
        place.parent.mkdir(parents=True)
        place.write_text(spec)
        if folder == "image":
            (tmp_path / "stat").write_text(f"btime {place.stat().st_ctime}\n")
            time.sleep(0.02)
    monkeypatch.setattr(requested, "_STAT", tmp_path / "stat")
    given = [
        given["name"]
        for kind, given in tasks(exported(instance.machine, ["python3"], pinned=False))
        if kind == "ensure_kernel"
    ]
    assert given == ["mine"]


def test_without_a_baseline_what_is_newer_than_the_start(
    instance: Instance, tiny: TinyChannel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = instance.provide("python3", tiny.url, "core=1.0")
    image = max(record.path.stat().st_ctime for record in installed(prefix))
    (tmp_path / "stat").write_text(f"cpu 1\nbtime {image}\n")
    monkeypatch.setattr(requested, "_STAT", tmp_path / "stat")
    added(instance, tiny, "more")
    text = exported(instance.machine, ["python3"], pinned=True)
    assert "# No run has recorded the image's packages in python3" in text
    assert tasks(text) == [("ensure_conda_pkg", {"env": "python3", "channels": [tiny.url], "packages": ["more=1.0"]})]
    assert not (instance.machine.home / "baselines").exists()

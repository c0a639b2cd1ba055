"""``exact``, ``update: latest`` and ``state: latest`` with real solves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.model.task import Claim
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from tests.reliability.world import make_wheels
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge, planned

pytestmark = pytest.mark.engine


@pytest.fixture
def tiny(tmp_path: Path) -> TinyChannel:
    channel = TinyChannel(tmp_path / "tiny")
    channel.add("alpha", "1.0")
    channel.add("beta", "1.0", depends=["alpha <2"])
    channel.add("gamma", "3.1")
    return channel


def env_of(channel: TinyChannel, *packages: str, **more: Any) -> EnsureCondaEnv:
    return EnsureCondaEnv(**{"name": "x", "packages": list(packages), "channels": [channel.url], **more})


def versions(machine: Machine) -> dict[str, str]:
    return {record.name: record.version for record in installed(machine.home / "envs/x")}


class TestExact:
    def test_what_nobody_asked_for_goes(self, machine: Machine, tiny: TinyChannel) -> None:
        converge(env_of(tiny, "beta", "gamma"), machine)
        assert planned(env_of(tiny, "beta"), machine) == (), "without exact it stays"
        (change,) = converge(env_of(tiny, "beta", exact=True), machine)
        assert (change.action, change.target) == ("remove", "gamma")
        assert versions(machine) == {"alpha": "1.0", "beta": "1.0"}, "what beta needs stays"

    def test_what_a_pip_task_asks_for_stays(self, machine: Machine, tiny: TinyChannel) -> None:
        converge(env_of(tiny, "beta", "gamma"), machine)
        machine.claims = [Claim(machine.home / "envs/x", "gamma")]
        assert planned(env_of(tiny, "beta", exact=True), machine) == ()

    def test_something_comes_as_another_goes(self, machine: Machine, tiny: TinyChannel) -> None:
        converge(env_of(tiny, "gamma"), machine)
        changes = converge(env_of(tiny, "beta", exact=True), machine)
        assert {(one.action, one.target) for one in changes} == {
            ("install", "alpha"), ("install", "beta"), ("remove", "gamma"),
        }  # fmt: skip

    def test_a_new_environment(self, machine: Machine, tiny: TinyChannel) -> None:
        converge(env_of(tiny, "beta", exact=True), machine)
        assert versions(machine) == {"alpha": "1.0", "beta": "1.0"}

    def test_nonsense(self) -> None:
        with pytest.raises(ParameterError):
            EnsureCondaEnv(name="x", state="absent", exact=True)


class TestLatest:
    def test_what_is_asked_for_moves(self, machine: Machine, tiny: TinyChannel) -> None:
        converge(env_of(tiny, "alpha", "gamma"), machine)
        tiny.add("alpha", "1.5")
        tiny.add("gamma", "4.0")
        assert planned(env_of(tiny, "alpha"), machine) == ()
        (change,) = converge(env_of(tiny, "alpha", update="latest"), machine)
        assert (change.action, change.target, change.before, change.after) == ("upgrade", "alpha", "1.0", "1.5")
        assert versions(machine)["gamma"] == "3.1", "not asked for by this task"

    def test_what_it_needs_comes_along(self, machine: Machine, tiny: TinyChannel) -> None:
        converge(env_of(tiny, "beta"), machine)
        tiny.add("alpha", "2.0")
        tiny.add("beta", "2.0", depends=["alpha >=2"])
        converge(env_of(tiny, "beta", update="latest"), machine)
        assert versions(machine) == {"alpha": "2.0", "beta": "2.0"}

    def test_it_ages(self, machine: Machine, tiny: TinyChannel) -> None:
        assert env_of(tiny, "alpha", update="latest").holds_for(machine) == 86400
        assert env_of(tiny, "alpha", update="latest", refresh_every="7d").holds_for(machine) == 7 * 86400
        assert env_of(tiny, "alpha").holds_for(machine) is None


@pytest.mark.parametrize("engine", ["uv", "pip"])
class TestPipLatest:
    def test_what_is_named_moves(self, machine: Machine, tmp_path: Path, engine: str) -> None:
        make_wheels(tmp_path / "wheels")
        machine.env.update({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")})
        prefix = tmp_path / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)

        def task(*packages: str, **more: Any) -> EnsurePipPkg:
            return EnsurePipPkg(env=str(prefix), packages=list(packages), **{"engine": engine, **more})

        converge(task("apple==1.0"), machine)
        assert planned(task("apple"), machine) == ()
        (change,) = converge(task("apple", state="latest"), machine)
        assert (change.action, change.target, change.before) == ("upgrade", "apple", "1.0")
        assert planned(task("apple", state="latest"), machine) == ()
        assert planned(task("apple<=1.0", state="latest"), machine) != (), "the newest that fits"
        assert task("apple", state="latest").holds_for(machine) == 86400

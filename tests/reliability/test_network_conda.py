"""A channel that fails, with the machine's own conda as the engine: real, recorded or played, as in test_conda_command.py."""

# ruff: noqa: F401, F811 - pytest finds fixtures by their names in this module
from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import NotBegun, TaskFailed
from tests.conda.test_conda_command import conda, env, env_of, prefix_of, tiny, versions
from tests.reliability.test_network import TOLD, limits, name_of, told
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge, planned
from tests.support.faulty_server import Fault, FaultyServer, serving_folder

pytestmark = pytest.mark.engine
PACKAGE = r"\.tar\.bz2$"


@pytest.fixture
def served(tiny: TinyChannel) -> Iterator[FaultyServer]:
    """The channel, behind a server."""
    with serving_folder(tiny.path) as server:
        tiny.url = server.url
        yield server


@pytest.mark.parametrize(("fault", "pattern"), TOLD, ids=name_of)
def test_a_channel_that_fails(
    limits: dict[str, str],
    machine: Machine,
    tiny: TinyChannel,
    served: FaultyServer,
    fault: Fault,
    pattern: str,
) -> None:
    served.only(fault)
    with pytest.raises(TaskFailed) as caught:
        planned(env_of(tiny, "gamma"), machine)
    told(caught.value, served, pattern)
    assert caught.value.message == "cannot read a channel"


def test_a_package_that_cannot_be_had(
    limits: dict[str, str],
    machine: Machine,
    tiny: TinyChannel,
    served: FaultyServer,
) -> None:
    served.only(Fault("status", PACKAGE, status=500))
    with pytest.raises(TaskFailed, match=r"the packages could not be installed into .*/envs/x") as caught:
        converge(env_of(tiny, "gamma"), machine)
    told(caught.value, served, r"gamma-3.1-0.tar.bz2 failed \(status 500\)")
    served.only()
    converge(env_of(tiny, "gamma"), machine)


def test_a_channel_that_fails_for_a_while(
    env: dict[str, str],
    machine: Machine,
    tiny: TinyChannel,
    served: FaultyServer,
) -> None:
    """It is asked once more."""
    env["NBPROVISION_NETWORK_TIMEOUT"] = "1"
    progress: list[str] = []
    machine.on_progress = lambda text, done, total: progress.append(text)
    fault = Fault("cut", "repodata", times=4)
    served.only(fault)
    converge(env_of(tiny, "gamma"), machine)
    assert any(re.search("was cut in the middle of an answer; next attempt", text) for text in progress), progress


def test_a_channel_that_is_gone_is_done_without(
    limits: dict[str, str],
    machine: Machine,
    tiny: TinyChannel,
    served: FaultyServer,
) -> None:
    """What is in conda's own caches is enough."""
    converge(env_of(tiny, "beta", "gamma=3.0"), machine)
    served.only(Fault("status", status=503))
    with machine.noting() as notes:
        assert planned(env_of(tiny, "gamma>3.0"), machine)
    assert any("the cache was used" in note for note in notes), notes


def test_nothing_goes_before_what_comes_is_there(
    limits: dict[str, str],
    machine: Machine,
    tiny: TinyChannel,
    served: FaultyServer,
) -> None:
    """Packages that nobody asks for any more stay where the new one cannot be fetched."""
    converge(env_of(tiny, "beta"), machine)
    before = versions(machine)
    served.only(Fault("status", PACKAGE, status=500))
    with pytest.raises(NotBegun) as caught:
        converge(env_of(tiny, "gamma", exact=True), machine)
    assert "failed (status 500)" in caught.value.cause
    assert versions(machine) == before
    assert (prefix_of(machine) / "share/beta.txt").exists()

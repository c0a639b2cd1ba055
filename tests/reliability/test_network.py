"""A server that refuses, hangs, stalls, cuts, lies: it is asked again where that may help, and told where it does not.

The servers are real ones on the loopback interface, the engines real. Limits are short, so that hangs are; a number in
NBPROVISION_TEST_NETWORK makes that many rounds of faults at random, each with a clean run after it.
"""

from __future__ import annotations

import ensurepip
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.channel.ensure_conda_channel import EnsureCondaChannel
from nbprovision.conda import rattler
from nbprovision.conda.query import Attempt, Query
from nbprovision.machine.machine import Machine
from nbprovision.machine.network import NetworkFailed
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import pip_command, uv_command
from nbprovision.pip.request import Request
from nbprovision.system.process import kept_children
from tests.conftest import Channel
from tests.reliability.world import World, ask
from tests.support.driver import converge
from tests.support.faulty_server import Fault, FaultyServer, serving_folder, serving_index, unused_port
from tests.support.wheels import make_wheel

pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.proof,
    pytest.mark.sampled(2),
]

PASSWORD = "Sesam5417"
ROUNDS = int(os.environ.get("NBPROVISION_TEST_NETWORK", "1"))
CONDA_PACKAGE = r"\.conda$"
WHEEL = r"\.whl$"

# What goes wrong for ever, and what must be told of it.
TOLD: list[tuple[Fault, str]] = [
    (Fault("status", status=401), r"asks for a user and password.*\(status 401\)"),
    (Fault("status", status=403), r"refuses access \(status 403\)"),
    (Fault("status", status=500), r"failed \(status 500\)"),
    (Fault("status", status=503, Retry_After="2"), r"is overloaded \(status 503\)"),
    (Fault("status", status=429, Retry_After="900"), r"is overloaded \(status 429\)"),
    (Fault("portal"), r"did not answer as a package (index|channel) does|is not the expected one"),
    (Fault("hang"), r"gave no answer in time"),
    (Fault("stall"), r"gave no answer in time"),
    (Fault("cut"), r"was cut in the middle of an answer|is not the expected one"),
]
NEVER_AGAIN = ("401", "403", "404")


def name_of(case: Any) -> str:
    return f"{case.kind}{case.status if case.kind == 'status' else ''}" if isinstance(case, Fault) else ""


def told(error: TaskFailed, server: FaultyServer, pattern: str) -> None:
    """It says what failed, why (naming the URL), and what to do; and no password."""
    assert isinstance(error, NetworkFailed), error.text
    assert error.message
    assert re.search(pattern, error.cause), error.text
    assert f"127.0.0.1:{server.port}" in error.cause
    assert error.cure
    assert PASSWORD not in error.text


def with_password(url: str) -> str:
    return url.replace("//", f"//me:{PASSWORD}@")


@pytest.fixture
def limits(env: dict[str, str]) -> dict[str, str]:
    """Short ones: a second of silence, no time to wait."""
    env.update(NBPROVISION_NETWORK_TIMEOUT="1", NBPROVISION_NETWORK_PATIENCE="0")
    return env


# ------------------------------------------------------------------------------------------------------------- conda


@pytest.fixture(scope="module")
def served_channel(channel: Channel) -> Iterator[FaultyServer]:
    with serving_folder(channel.path) as server, kept_children():
        yield server


def solved(machine: Machine, url: str) -> rattler.RattlerSolution:
    return rattler.solve(machine, Query(attempts=[Attempt(specs=["r-demo"])], channels=(url,)))


def installed(machine: Machine, url: str) -> None:
    """A package that needs nothing else, in an environment of its own."""
    prefix = machine.home / "env"
    solved(machine, url).install(machine, prefix, requested=["r-demo"])
    assert (prefix / "lib/R/library/demo/DESCRIPTION").exists()


@pytest.mark.parametrize(("fault", "pattern"), TOLD, ids=name_of)
def test_a_channel_that_fails(
    fault: Fault, pattern: str, limits: dict[str, str], machine: Machine, served_channel: FaultyServer
) -> None:
    served_channel.only(fault)
    with pytest.raises(TaskFailed) as raised:
        solved(machine, with_password(served_channel.url))
    told(raised.value, served_channel, pattern)
    if name_of(fault)[-3:] in NEVER_AGAIN:
        again = len(served_channel.asked) - len({asked[1:3] for asked in served_channel.asked})
        assert again == 0, "asked again, which helps nothing"


@pytest.mark.parametrize(
    ("fault", "pattern"),
    [
        *((Fault(fault.kind, CONDA_PACKAGE, status=fault.status, **fault.headers), text) for fault, text in TOLD),
        (Fault("status", CONDA_PACKAGE, status=404), r"does not exist \(status 404\)"),
        (Fault("garble", CONDA_PACKAGE), "is not the expected one"),
        (Fault("swap", CONDA_PACKAGE), "is not the expected one"),
    ],
    ids=name_of,
)
def test_a_channel_whose_packages_cannot_be_had(
    fault: Fault, pattern: str, limits: dict[str, str], machine: Machine, served_channel: FaultyServer
) -> None:
    served_channel.only(fault)
    if fault.kind == "cut":  # py-rattler asks for a package three times, with pauses in which nothing comes
        machine.env["NBPROVISION_NETWORK_TIMEOUT"] = "10"
    with pytest.raises(TaskFailed) as raised:
        installed(machine, with_password(served_channel.url))
    told(raised.value, served_channel, pattern)
    assert not (machine.home / "env/lib").exists()
    served_channel.only()
    installed(machine, with_password(served_channel.url))  # nothing of it was left in a cache


def test_a_channel_that_is_not_there(limits: dict[str, str], machine: Machine, served_channel: FaultyServer) -> None:
    served_channel.only(Fault("status", status=404))
    with pytest.raises(TaskFailed) as raised:
        solved(machine, served_channel.url)
    told(raised.value, served_channel, r"does not exist \(status 404\)")
    with pytest.raises(TaskFailed, match=r"127\.0\.0\.1:\d+ refuses the connection"):
        solved(machine, f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(TaskFailed, match=r"the name channel\.invalid cannot be resolved"):
        solved(machine, "http://channel.invalid/main")


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("status", status=500, times=9)],  # py-rattler itself asks four times
        [Fault("cut", "repodata", times=1)],  # and never after half an answer
        [Fault("stall", "repodata", times=1)],
        [Fault("garble", "repodata", times=1)],
        [Fault("garble", CONDA_PACKAGE, times=1)],
        [Fault("hang", CONDA_PACKAGE, times=1)],
        [Fault("stall", CONDA_PACKAGE, times=1)],
        [Fault("status", "shards/", status=429, times=5, Retry_After="1")],
    ],
    ids=lambda faults: f"{name_of(faults[0])}-{faults[0].pattern}",
)
def test_a_channel_that_fails_for_a_while(
    faults: list[Fault], env: dict[str, str], machine: Machine, served_channel: FaultyServer
) -> None:
    machine.env["NBPROVISION_NETWORK_TIMEOUT"] = "2"
    for fault in faults:
        fault.begin()
    served_channel.only(*faults)
    installed(machine, served_channel.url)


def test_a_channel_that_is_slow_is_waited_for(machine: Machine, served_channel: FaultyServer) -> None:
    """Index and package take longer than the limit for silence, in which something comes each time."""
    machine.env.update(NBPROVISION_NETWORK_TIMEOUT="2", NBPROVISION_NETWORK_PATIENCE="0")
    served_channel.only(
        Fault("status", "shards|zst|bz2", status=404), Fault("slow", rf"repodata\.json$|{CONDA_PACKAGE}")
    )
    installed(machine, served_channel.url)


def test_a_channel_that_is_gone_is_done_without(
    limits: dict[str, str], machine: Machine, channel: Channel, tmp_path: Path
) -> None:
    copy = tmp_path / "channel"
    shutil.copytree(channel.path / "noarch", copy / "noarch", ignore=shutil.ignore_patterns("*.conda"))
    shutil.copytree(channel.path / "linux-64", copy / "linux-64", ignore=shutil.ignore_patterns("*.conda"))
    shutil.copy(next(channel.path.glob("noarch/r-demo-*.conda")), copy / "noarch")
    with serving_folder(copy) as server:
        installed(machine, server.url)
        url = server.url
    shutil.rmtree(machine.home / "env")
    machine.env["ANOTHER"] = "process, which has read nothing yet"
    with machine.noting() as noted:
        installed(machine, url)
    assert noted == [f"{url[7:]} refuses the connection: the cache was used"]


# --------------------------------------------------------------------------------------------------------- uv and pip


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    wheels = tmp_path_factory.mktemp("wheels")
    make_wheel(wheels, "apple", "1.0", files={"orchard.py": f"trees = {os.urandom(9000).hex()!r}\n"})
    with serving_index(wheels) as server:
        yield server


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where nothing is ever installed: what succeeds goes elsewhere."""
    prefix = tmp_path_factory.mktemp("venv") / "venv"
    uv = str(uv_command.find(Machine({"HOME": "/nonexistent"})))
    subprocess.run([uv, "venv", "--quiet", "--no-config", "--python", sys.executable, prefix], check=True)
    return prefix


def fetched(machine: Machine, venv: Path, url: str, engine: Any = uv_command) -> None:
    """Install into a folder."""
    machine.env["PIP_INDEX_URL"] = with_password(url) + "/simple"
    place = machine.home / "place"
    request = Request(prefix=venv, python=venv / "bin/python", lines=("apple",), location=place)
    engine.perform(machine, request)
    assert (place / "orchard.py").exists()


@pytest.mark.parametrize("part", ["page", "wheel"])
@pytest.mark.parametrize(("fault", "pattern"), TOLD, ids=name_of)
def test_an_index_that_fails(
    fault: Fault, pattern: str, part: str, limits: dict[str, str], machine: Machine, index: FaultyServer, venv: Path
) -> None:
    index.only(Fault(fault.kind, WHEEL if part == "wheel" else "", status=fault.status, **fault.headers))
    with pytest.raises(TaskFailed) as raised:
        fetched(machine, venv, index.url)
    told(raised.value, index, pattern)
    if name_of(fault)[-3:] in NEVER_AGAIN:
        assert len(index.asked) == len({asked[1:3] for asked in index.asked}), "asked again, which helps nothing"
    assert not (machine.home / "place/orchard.py").exists()


@pytest.mark.parametrize("kind", ["garble", "swap"])
def test_an_index_whose_files_are_not_what_they_should_be(
    kind: str, limits: dict[str, str], machine: Machine, index: FaultyServer, venv: Path
) -> None:
    index.only(Fault(kind, WHEEL))
    with pytest.raises(TaskFailed) as raised:
        fetched(machine, venv, index.url)
    told(raised.value, index, "is not the expected one")
    assert "tampered" in raised.value.cure


def test_an_index_that_knows_no_such_package_is_no_network_at_fault(
    limits: dict[str, str], machine: Machine, index: FaultyServer, venv: Path
) -> None:
    index.only(Fault("status", status=404))
    with pytest.raises(TaskFailed) as raised:
        fetched(machine, venv, index.url)
    assert not isinstance(raised.value, NetworkFailed)
    assert "check the spelling and the version" in raised.value.cure


@pytest.mark.parametrize(
    ("kind", "part", "status", "times", "headers"),
    [
        ("status", "simple", 500, 2, {}),
        ("status", "simple", 429, 2, {"Retry_After": "1"}),
        ("cut", "simple", 0, 1, {}),
        ("status", WHEEL, 503, 2, {"Retry_After": "1"}),
    ],
)
def test_an_index_that_fails_for_a_while(
    kind: str,
    part: str,
    status: int,
    times: int,
    headers: dict[str, str],
    env: dict[str, str],
    machine: Machine,
    index: FaultyServer,
    venv: Path,
) -> None:
    machine.env.update(NBPROVISION_NETWORK_TIMEOUT="2", UV_HTTP_RETRIES="0")  # so that all the patience is ours
    index.only(Fault(kind, part, times=times, status=status, **headers))
    fetched(machine, venv, index.url)


def test_an_index_that_is_slow_is_waited_for(machine: Machine, index: FaultyServer, venv: Path) -> None:
    machine.env.update(NBPROVISION_NETWORK_TIMEOUT="2", NBPROVISION_NETWORK_PATIENCE="0")
    index.only(Fault("slow"))
    fetched(machine, venv, index.url)


def test_an_index_that_is_gone_is_done_without(
    limits: dict[str, str], machine: Machine, index: FaultyServer, venv: Path
) -> None:
    index.only()
    with serving_index(index.folder) as server:
        fetched(machine, venv, server.url)
    shutil.rmtree(machine.home / "place")
    with machine.noting() as noted:
        fetched(machine, venv, server.url)
    assert noted == [f"127.0.0.1:{server.port} refuses the connection: the cache was used"]
    shutil.rmtree(machine.cache)
    shutil.rmtree(machine.home / "place")
    with pytest.raises(TaskFailed, match="refuses the connection"):
        fetched(machine, venv, server.url)


@pytest.mark.parametrize(
    ("fault", "pattern"),
    [case for case in TOLD if name_of(case[0]) in ("status401", "portal", "hang", "status500")],
    ids=name_of,
)
def test_pip_and_an_index_that_fails(
    fault: Fault, pattern: str, limits: dict[str, str], machine: Machine, index: FaultyServer, venv: Path
) -> None:
    index.only(fault)
    with pytest.raises(TaskFailed) as raised:
        fetched(machine, venv, index.url, pip_command)
    told(raised.value, index, pattern)


# ------------------------------------------------------------------------------------------------------- whole machines


class Net:
    """A machine whose channel and index are servers that fail as they are told to."""

    def __init__(self, root: Path, channel: Channel) -> None:
        self._serving_channel = serving_folder(channel.path)
        self._serving_index = serving_index(root / "world/wheels")
        self.channel = self._serving_channel.__enter__()
        self.index = self._serving_index.__enter__()
        self.world = World(root / "world", channel._replace(url=with_password(self.channel.url)))
        self.begin()
        done = self.world.run()
        assert done.status == 0, done.errors
        self.world.keep()

    def close(self) -> None:
        self._serving_channel.__exit__(None, None, None)
        self._serving_index.__exit__(None, None, None)

    def restore(self) -> None:
        """As it was made, nothing cached."""
        self.world.restore()
        shutil.rmtree(self.world.tool / "cache", ignore_errors=True)
        self.channel.only()
        self.index.only()
        self.begin()

    def begin(self) -> None:
        env = self.world.env
        del env["PIP_NO_INDEX"], env["PIP_FIND_LINKS"]
        env.update(
            PIP_INDEX_URL=with_password(self.index.url) + "/simple",
            NBPROVISION_NETWORK_TIMEOUT="2",
            NBPROVISION_NETWORK_PATIENCE="2",
            UV_HTTP_RETRIES="0",
        )

    def ask_for_more(self) -> list[str]:
        """Options with which something else is described of everything that comes from a server, and a new kernel."""
        self.world.values.update(six="1.16.0", apple="1.1")
        return ["-e", "six=1.16.0", "-e", "apple=1.1"]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory, channel: Channel) -> Iterator[Net]:
    made = Net(tmp_path_factory.mktemp("net"), channel)
    yield made
    made.close()


def test_what_is_there_works_on_and_the_rest_is_done(net: Net) -> None:
    net.restore()
    world = net.world
    shutil.rmtree(world.kernels / "tool")  # something to do that needs no network
    kernel = (world.kernels / "demo/kernel.json").read_bytes()
    net.channel.only(Fault("hang", CONDA_PACKAGE))
    net.index.only(Fault("portal"))
    before = dict(world.values)
    ran = world.run(*net.ask_for_more())
    assert ran.status == 2
    assert {task["name"]: task["status"] for task in ran.document["tasks"]} == {
        "index": "ok", "environment": "failed", "packages": "skipped", "kernel": "skipped", "tool": "changed",
    }  # fmt: skip
    (failure,) = [task["error"]["message"] for task in ran.document["tasks"] if task["status"] == "failed"]
    assert "gave no answer in time" in failure
    assert PASSWORD not in failure + ran.errors
    assert (world.kernels / "demo/kernel.json").read_bytes() == kernel
    world.values = before
    assert world.differences(files=True) == []
    net.channel.only()
    net.index.only()
    ran = world.run(*net.ask_for_more())
    assert ran.status == 0, ran.document
    assert world.differences(files=True) == []


def test_where_all_is_in_place_no_server_is_asked(net: Net) -> None:
    net.restore()
    for options in ((), ("--no-witness",), ("--deep",)):
        ran = net.world.run(*options)
        assert ran.all_ok
    assert net.channel.asked + net.index.asked == []


def random_faults(choice: random.Random) -> list[Fault]:
    """Some that pass and some that stay."""
    kinds = ["status", "portal", "hang", "stall", "cut", "garble"]
    return [
        Fault(
            choice.choice(kinds),
            choice.choice(["", "repodata", "shards/", CONDA_PACKAGE, WHEEL, "simple"]),
            times=choice.choice([1, 2, 5, None]),
            status=choice.choice([401, 403, 404, 429, 500, 502, 503]),
            **choice.choice([{}, {"Retry_After": "1"}]),  # type: ignore[arg-type]
        )
        for _ in range(choice.randint(1, 3))
    ]


@pytest.mark.scaled("NBPROVISION_TEST_NETWORK")
def test_whatever_fails_the_next_run_brings_it_about(net: Net, request: pytest.FixtureRequest) -> None:
    seed = int(os.environ.get("NBPROVISION_TEST_SEED", "0")) or random.randrange(1 << 30)
    print(f"NBPROVISION_TEST_SEED={seed}")
    choice = random.Random(seed)
    world, failed = net.world, 0
    for _ in range(ROUNDS):
        net.restore()
        kernel = json.loads((world.kernels / "demo/kernel.json").read_text())["argv"]
        net.channel.only(*random_faults(choice))
        net.index.only(*random_faults(choice))
        more = net.ask_for_more()
        ran = world.run(*more)
        assert ran.status in (0, 2), ran.errors
        failed += ran.status == 2
        for task in ran.document["tasks"]:
            if task["status"] == "failed":
                assert len(task["error"]["message"].splitlines()) >= 3, task
        assert PASSWORD not in str(ran.document) + ran.errors
        assert json.loads((world.kernels / "demo/kernel.json").read_text())["argv"] == kernel
        assert ask(world.prefix, files=True)["harm"] == []  # type: ignore[index]
        assert not (world.prefix / ".nbprovision-unfinished").exists()
        net.channel.only()
        net.index.only()
        ran = world.run(*more)
        assert ran.status == 0, ran.document
        assert world.differences(files=True) == []
        assert world.run(*more).all_ok
    print(f"{ROUNDS} rounds, {failed} of them with a failure")


# ------------------------------------------------------------------------------------------------ the making of a channel


@pytest.fixture
def pip_too(index: FaultyServer) -> FaultyServer:
    """The index has pip as well, by which wheels are fetched: the one that Python brings."""
    [wheel] = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    shutil.copy(wheel, index.folder)
    return index


def built(machine: Machine, url: str) -> None:
    machine.env["PIP_INDEX_URL"] = with_password(url) + "/simple"
    converge(EnsureCondaChannel(path=str(machine.home / "channel"), pypi="apple"), machine)


@pytest.mark.parametrize(("fault", "pattern"), [TOLD[0], TOLD[2], TOLD[5]], ids=name_of)
def test_an_index_that_a_channel_cannot_be_made_of(
    fault: Fault, pattern: str, limits: dict[str, str], machine: Machine, pip_too: FaultyServer
) -> None:
    pip_too.only(Fault(fault.kind, "/apple", status=fault.status, **fault.headers))
    with pytest.raises(TaskFailed, match="cannot fetch wheels for Python") as raised:
        built(machine, pip_too.url)
    told(raised.value, pip_too, pattern)
    pip_too.only()
    built(machine, pip_too.url)


def test_an_index_that_fails_for_a_while_when_a_channel_is_made(machine: Machine, pip_too: FaultyServer) -> None:
    machine.env.update(NBPROVISION_NETWORK_TIMEOUT="2", PIP_RETRIES="0")
    pip_too.only(Fault("status", "/simple/apple", status=500, times=2))
    built(machine, pip_too.url)
    assert (machine.home / "channel/noarch/apple-1.0-pyh0000000_0.conda").exists()

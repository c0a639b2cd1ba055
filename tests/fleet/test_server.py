"""The command itself, as processes, against moto's server: publishers at once, and publishers that are killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.conftest import FLEET, PLAYBOOK
from tests.support import moto_server
from tests.support.publishers import Account

pytestmark = [pytest.mark.proof, moto_server.NEEDED]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto_server.serving(states=True) as address:
        yield address


@pytest.fixture
def account(server: str, tmp_path: Path) -> Account:
    moto_server.reset(server)
    return Account(server, tmp_path, FLEET, PLAYBOOK)


def test_the_command_as_a_process(account: Account) -> None:
    assert "nothing -> " in account.run("jane", "publish")
    assert "nothing to do" in account.run("jane", "publish")
    assert "canary" in account.run("jane", "status")
    assert "0 good reports" in account.run("jane", "promote", status=2)
    assert "no instance belongs to the fleet" in account.run("jane", "plan")
    assert account.publisher_of(account.whole()[0]) == "jane"


def test_publishers_at_once(account: Account) -> None:
    """Each ends with 0, or with 2 and who was faster; the ring has one whole release."""
    names = ["jane", "joe", "ann"]
    account.run("first", "publish")
    processes = {name: account.start(name, "publish") for name in names}
    published = {"first"}
    for name, process in processes.items():
        out, _ = process.communicate(timeout=120)
        assert process.returncode in (0, 2), out
        if process.returncode == 0:
            published.add(name)
        else:
            assert "has changed meanwhile" in out
            assert "set it to" in out
    assert len(published) > 1
    # Not all of them: moto compares and writes in two steps, between which another one may write.
    assert {account.publisher_of(digest) for digest in account.whole()} <= published


@pytest.mark.parametrize("seconds", [0.8, 1.2, 1.6, 2.0, 2.5])
def test_a_killed_publisher_leaves_a_whole_release(account: Account, seconds: float) -> None:
    """It may be killed before it begins, in the middle, or after its end: nothing of this test depends on that."""
    account.run("first", "publish")
    process = account.start("second", "publish")
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    assert account.publisher_of(account.whole()[0]) in ("first", "second")
    account.run("second", "publish")
    assert account.publisher_of(account.whole()[0]) == "second"
    assert "nothing to do" in account.run("second", "publish")


def test_no_server_answers(tmp_path: Path, account: Account) -> None:
    account.address = "http://127.0.0.1:9"
    out = account.run("jane", "back", status=2)
    assert "AWS cannot be reached" in out

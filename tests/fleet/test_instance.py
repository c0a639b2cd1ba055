"""A fleet from end to end: the real command publishes, the real bootstrap.sh and `aws` start, and `status` reads that."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lifecycle.test_bootstrap_hook import at_work, wait_for
from tests.support import moto_server, rings
from tests.support.publishers import Account

pytestmark = [pytest.mark.proof, moto_server.NEEDED]
FLEET = f"fleet: fraud\nbucket: {rings.PREFIX}\nplaybook: team.yml\nrings: [{{name: canary}}]\n"
KERNEL = "    - ensure_kernel: {{name: {name}, argv: ['true', '{{connection_file}}'], display_name: T}}\n"


def playbook(*kernels: str, more: str = "") -> str:
    return "- tasks:\n" + "".join(KERNEL.format(name=name) for name in kernels) + more


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with moto_server.serving(states=True) as address:
        yield Account(address, tmp_path / "publishers", FLEET, playbook("team"))


@pytest.fixture
def instance(account: Account, complete: tuple[Path, dict[str, str]], tmp_path: Path) -> Iterator[Any]:
    account.folder.mkdir()
    made = rings.Instance(account, complete[1], tmp_path / "bin", "mine", "canary")
    yield made
    with contextlib.suppress(OSError):
        wait_for(lambda: not at_work(made.home))


def start(instance: Any, status: int = 0) -> None:
    done = instance.start()
    assert done.returncode == status, done.stdout + done.stderr
    wait_for(lambda: not at_work(instance.home))  # the upload of the report


def test_a_release_reaches_an_instance_and_goes_back(account: Account, instance: Any) -> None:
    account.run("jane", "publish")
    account.sagemaker.create_notebook_instance(
        NotebookInstanceName="mine", InstanceType="ml.t3.medium", RoleArn="arn:aws:iam::123456789012:role/notebook",
        LifecycleConfigName="fraud-canary-r1",
    )  # fmt: skip

    def state() -> tuple[str, str, str]:
        for _ in range(3):  # it comes into service
            document = json.loads(account.run("jane", "status", "--format", "json"))
        (shown,) = document["instances"]
        return shown["state"], shown["release"], shown["why"]

    start(instance)
    assert instance.offers("team")
    first = account.whole()[0]
    assert state() == ("ok", first, "")

    account.write("jane", playbook("team", "other"))
    account.run("jane", "publish")
    start(instance)
    assert instance.offers("other")
    second = account.whole()[0]
    assert state() == ("ok", second, "")

    failing = "    - name: Never\n      ensure_command: {argv: ['/bin/false'], creates: /nowhere}\n"
    account.write("jane", playbook("team", more=failing))
    account.run("jane", "publish")
    start(instance, status=2)
    bad = account.whole()[0]
    assert state()[:2] == ("failed", bad)
    assert "Never" in state()[2]

    account.run("jane", "back")
    start(instance)
    assert state() == ("ok", second, "")

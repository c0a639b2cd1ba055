"""The module `wave`, by the oldest supported ansible-core and the newest, with moto's server."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import moto_server
from tests.support.ansible_controller import NAMESPACE, Controller
from tests.support.figures import RecordFigure
from tests.support.notebook_instances import BAD, ROLE, Account, refusing

pytestmark = [pytest.mark.proof, pytest.mark.network, moto_server.NEEDED]

CHANGES = {"StopNotebookInstance", "UpdateNotebookInstance", "StartNotebookInstance"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto_server.serving(states=True) as address:
        yield address


@pytest.fixture
def account(server: str, controller: Controller) -> Account:
    """An account with the lifecycle configs `old`, `new` and `bad`, which the controller reaches."""
    moto_server.reset(server)
    account = Account(server)
    controller.env |= account.env()
    for name, script in (("old", "#!/bin/sh\n"), ("new", "#!/bin/sh\n"), ("bad", BAD)):
        account.add_config(name, script)
    return account


def wave(*instances: str, config: str = "new", **options: Any) -> dict[str, Any]:
    values = {"instances": list(instances), "lifecycle_config": config, "restart": "all", "interval": 0}
    return {"wave": values | options}


def results(result: dict[str, Any]) -> dict[str, tuple[str, list[str]]]:
    """The result and the actions of each instance."""
    return {each["name"]: (each["result"], each["actions"]) for each in result["instances"]}


def test_only_instances_that_differ_are_restarted(controller: Controller, account: Account) -> None:
    for name, config in (("runs", "old"), ("stands", "old"), ("done", "new"), ("none", None)):
        account.add_instance(name, config)
    account.stop("stands")
    before = account.states()
    names = ("runs", "stands", "done", "none")
    expected = {
        "runs": ("changed", ["stop", "update", "start"]),
        "stands": ("changed", ["update"]),
        "done": ("ok", []),
        "none": ("changed", ["stop", "update", "start"]),
    }
    account.record()
    (checked,) = controller.play([wave(*names)], "--check", "--diff")
    assert {operation for operation, _ in account.recorded()} & CHANGES == set()
    assert (results(checked), checked["changed"], account.states()) == (expected, True, before)
    assert "+lifecycle_config: new" in controller.output
    account.record()
    (changed,) = controller.play([wave(*names)], "-v")
    operations = [operation for operation, _ in account.recorded()]
    assert (results(changed), changed["failed"]) == (expected, False), changed
    assert account.states() == {name: ("Stopped" if name == "stands" else "InService", "new") for name in names}
    assert "DescribeNotebookInstance" not in operations, "it waits by listing"
    assert changed["msg"] == "1 ok, 3 changed"
    (again,) = controller.play([wave(*names)])
    assert (results(again), again["changed"]) == (dict.fromkeys(names, ("ok", [])), False)
    (started,) = controller.play([wave(*names, start=True)])
    assert results(started)["stands"] == ("changed", ["start"])
    assert account.states()["stands"] == ("InService", "new")


@pytest.mark.parametrize("controller", ["newest"], indirect=True)
def test_without_restart_only_stopped_instances_change(controller: Controller, account: Account) -> None:
    account.add_instance("runs", "old")
    account.add_instance("stands", "old")
    account.stop("stands")
    task = wave("runs", "stands")
    del task["wave"]["restart"]
    (result,) = controller.play([task])
    assert results(result) == {"runs": ("skipped", []), "stands": ("changed", ["update"])}
    assert result["instances"][0]["reason"] == "it runs; `restart: all` restarts it"
    assert account.states() == {"runs": ("InService", "old"), "stands": ("Stopped", "new")}


def test_a_play_ends_at_the_first_wave_that_fails(controller: Controller, account: Account, tmp_path: Path) -> None:
    names = [f"fraud-{number}" for number in range(6)]
    for name in names:
        account.add_instance(name, "old")
    inventory = tmp_path / "fraud.notebook_instances.yml"
    inventory.write_text(yaml.safe_dump({"plugin": f"{NAMESPACE}.instances"}))
    values = wave(config="{{ config }}")["wave"] | {"instances": "{{ ansible_play_batch }}"}
    play = {
        "hosts": "notebook_instances",
        "gather_facts": False,
        "serial": [2, 4],
        "max_fail_percentage": 0,
        "tasks": [{f"{NAMESPACE}.wave": values, "run_once": True}],
    }
    path = tmp_path / "waves.yml"
    path.write_text(yaml.safe_dump([play]))
    account.record()
    assert not controller.playbook(path, "-i", str(inventory), "-e", "config=bad")
    changed = {body["NotebookInstanceName"] for operation, body in account.recorded() if operation in CHANGES}
    assert changed == {"fraud-0", "fraud-1"}
    states = account.states()
    assert [states[name] for name in names] == [("Failed", "bad")] * 2 + [("InService", "old")] * 4
    assert "2 failed" in controller.output
    assert "Please check your CloudWatch logs" in controller.output
    assert controller.playbook(path, "-i", str(inventory), "-e", "config=new", "-l", ",".join(names[2:])), (
        controller.output
    )


@pytest.mark.parametrize("controller", ["newest"], indirect=True)
def test_what_is_wrong_is_said_and_nothing_is_stopped(controller: Controller, account: Account) -> None:
    account.add_instance("runs", "old")
    account.add_instance("broken", "bad")
    account.record()
    tasks = {
        "does not exist": wave("runs", config="missing"),
        "broken: Notebook Instance Lifecycle Config": wave("broken"),
        "gone: it does not exist in us-east-1": wave("gone"),
        "missing required arguments: lifecycle_config": {"wave": {"instances": ["runs"]}},
        "value of restart must be one of: stopped, all": wave("runs", restart="never"),
        "Supported parameters include": wave("runs", lifecycle="new"),
        "The config profile (nobody) could not be found": wave("runs", profile="nobody"),
    }
    for words, result in zip(tasks, controller.play(list(tasks.values())), strict=True):
        assert result["failed"], words
        assert words in result["msg"]
    assert {operation for operation, _ in account.recorded()} & CHANGES == set()


@pytest.mark.parametrize("controller", ["newest"], indirect=True)
def test_an_instance_that_aws_refuses_to_change_runs_again(controller: Controller, account: Account) -> None:
    account.add_instance("runs", "old")
    refused = {"UpdateNotebookInstance": "AccessDeniedException"}
    with refusing(account.address, refused.get) as address:
        controller.env["AWS_ENDPOINT_URL"] = address
        (result,) = controller.play([wave("runs")])
    assert results(result) == {"runs": ("failed", ["stop", "start"])}
    assert "AWS denies sagemaker:UpdateNotebookInstance" in result["msg"]
    assert account.states() == {"runs": ("InService", "old")}


@pytest.mark.parametrize("controller", ["newest"], indirect=True)
def test_a_permission_to_look_at_the_config_is_not_needed(controller: Controller, account: Account) -> None:
    account.add_instance("runs", "old")
    refused = {"DescribeNotebookInstanceLifecycleConfig": "AccessDeniedException"}
    with refusing(account.address, refused.get) as address:
        controller.env["AWS_ENDPOINT_URL"] = address
        changed, missing = controller.play([wave("runs"), wave("runs", config="missing")])
    assert results(changed) == {"runs": ("changed", ["stop", "update", "start"])}
    assert "the lifecycle config new cannot be looked at" in " ".join(controller.output.split())
    assert results(missing) == {"runs": ("failed", ["stop", "start"])}
    assert account.states() == {"runs": ("InService", "new")}


@pytest.mark.parametrize("controller", ["newest"], indirect=True)
def test_a_wave_ends_in_time(controller: Controller, account: Account) -> None:
    account.add_instance("runs", "old")
    (result,) = controller.play([wave("runs", timeout=0)])
    assert results(result) == {"runs": ("unfinished", ["stop"])}
    assert "runs: the time is over" in result["msg"]
    account.settle(account.client())
    lists = itertools.count()
    lost = lambda operation: "ServiceUnavailable" if operation.startswith("List") and next(lists) > 1 else None  # noqa: E731
    with refusing(account.address, lost) as address:
        controller.env |= {"AWS_ENDPOINT_URL": address, "AWS_MAX_ATTEMPTS": "1"}
        (result,) = controller.play([wave("runs", start=True)])
    assert results(result)["runs"][0] == "unfinished"
    assert "sagemaker:ListNotebookInstances failed" in result["msg"]
    assert "`start: true` starts it" in result["msg"]


@pytest.mark.parametrize("controller", ["newest"], indirect=True)
def test_no_call_is_lost_when_aws_throttles(controller: Controller, account: Account) -> None:
    names = [f"fraud-{number}" for number in range(5)]
    for name in names:
        account.add_instance(name, "old")
    calls = itertools.count()
    with refusing(account.address, lambda _: None if next(calls) % 4 else "ThrottlingException") as address:
        controller.env["AWS_ENDPOINT_URL"] = address
        (result,) = controller.play([wave(*names)])
    assert result["msg"] == "5 changed"
    assert set(account.states().values()) == {("InService", "new")}


@pytest.mark.campaign
@pytest.mark.parametrize("controller", ["newest"], indirect=True)
@pytest.mark.parametrize("config", ["new", "bad"])
def test_a_thousand_instances(
    controller: Controller, account: Account, tmp_path: Path, config: str, record_figure: RecordFigure
) -> None:
    """In waves of 3, 97 and 300; a bad config leaves 3 instances Failed and the others untouched."""
    names = [f"fraud-{number:04}" for number in range(1000)]
    for name in names:
        account.client().create_notebook_instance(
            NotebookInstanceName=name, InstanceType="ml.t3.medium", RoleArn=ROLE, LifecycleConfigName="old"
        )
    account.settle(account.client())
    values = wave(config=config)["wave"] | {"instances": "{{ ansible_play_batch }}"}
    play = {
        "hosts": "all",
        "gather_facts": False,
        "serial": [3, 97, 300],
        "max_fail_percentage": 0,
        "tasks": [{f"{NAMESPACE}.wave": values, "run_once": True}],
    }
    path, inventory = tmp_path / "waves.yml", tmp_path / "hosts"
    path.write_text(yaml.safe_dump([play]))
    inventory.write_text("\n".join(names))
    begin = time.monotonic()
    assert controller.playbook(path, "-i", str(inventory)) == (config == "new"), controller.output
    record_figure(f"seconds of waves over 1,000 instances, config {config}", time.monotonic() - begin, aim=60)
    states = Counter(account.states().values())
    good = {("InService", "new"): 1000}
    assert states == (good if config == "new" else {("Failed", "bad"): 3, ("InService", "old"): 997})

"""The patches of moto: notebook instances change and are refused as AWS does it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import moto_server

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
pytest.importorskip("moto", reason="moto is not installed")

from botocore.exceptions import ClientError

from tests.support import sagemaker_states

ROLE = "arn:aws:iam::123456789012:role/notebook"
GOOD = base64.b64encode(b"#!/bin/sh\nexit 0\n").decode()
BAD = base64.b64encode(b"#!/bin/sh\nexit 1\n").decode()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A client of an account with the configs `good` and `bad`, and the instance `one` that has the first."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with sagemaker_states.mocked():
        client = boto3.client("sagemaker", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="a")
        _fill(client)
        yield client


def _fill(client: Any) -> None:
    for name, script in (("good", GOOD), ("bad", BAD)):
        client.create_notebook_instance_lifecycle_config(
            NotebookInstanceLifecycleConfigName=name,
            OnStart=[{"Content": script}],
            Tags=[{"Key": "fleet", "Value": "fraud"}],
        )
    client.create_notebook_instance(
        NotebookInstanceName="one", InstanceType="ml.t3.medium", RoleArn=ROLE, LifecycleConfigName="good"
    )


def _statuses(client: Any, times: int) -> list[str]:
    lists = (client.list_notebook_instances()["NotebookInstances"] for _ in range(times))
    return [instances[0]["NotebookInstanceStatus"] for instances in lists]


def test_states(client: Any) -> None:
    """An instance goes through the states in between, and fails with a bad script."""
    assert _statuses(client, 3) == ["Pending", "InService", "InService"]
    client.stop_notebook_instance(NotebookInstanceName="one")
    assert _statuses(client, 2) == ["Stopping", "Stopped"]
    client.update_notebook_instance(NotebookInstanceName="one", LifecycleConfigName="bad")
    assert _statuses(client, 2) == ["Updating", "Stopped"]
    client.start_notebook_instance(NotebookInstanceName="one")
    assert _statuses(client, 2) == ["Pending", "Failed"]
    described = client.describe_notebook_instance(NotebookInstanceName="one")
    assert "notebook-instance-lifecycle-config/bad" in described["FailureReason"]
    client.update_notebook_instance(NotebookInstanceName="one", DisassociateLifecycleConfig=True)
    assert _statuses(client, 2) == ["Updating", "Stopped"]
    assert "NotebookInstanceLifecycleConfigName" not in client.describe_notebook_instance(NotebookInstanceName="one")


def test_configs(client: Any) -> None:
    """Configs are listed, changed and tagged; a changed script is that of the next start."""
    name = "NotebookInstanceLifecycleConfigName"
    listed = client.list_notebook_instance_lifecycle_configs(SortBy="Name", SortOrder="Ascending")
    assert [each[name] for each in listed["NotebookInstanceLifecycleConfigs"]] == ["bad", "good"]
    arn = listed["NotebookInstanceLifecycleConfigs"][1]["NotebookInstanceLifecycleConfigArn"]
    client.add_tags(ResourceArn=arn, Tags=[{"Key": "fleet", "Value": "risk"}])
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "fleet", "Value": "risk"}]
    client.update_notebook_instance_lifecycle_config(**{name: "good"}, OnStart=[{"Content": BAD}])
    _statuses(client, 2)
    client.stop_notebook_instance(NotebookInstanceName="one")
    _statuses(client, 2)
    client.start_notebook_instance(NotebookInstanceName="one")
    assert _statuses(client, 2) == ["Pending", "Failed"]


def test_pages(client: Any) -> None:
    """A page has ten instances; filters by name, status and config hold across pages."""
    for number in range(14):
        client.create_notebook_instance(
            NotebookInstanceName=f"more-{number}", InstanceType="ml.t3.medium", RoleArn=ROLE, LifecycleConfigName="bad"
        )
    first = client.list_notebook_instances()
    assert len(first["NotebookInstances"]) == 10
    assert len(client.list_notebook_instances(NextToken=first["NextToken"])["NotebookInstances"]) == 5
    pages = client.get_paginator("list_notebook_instances").paginate(
        NotebookInstanceLifecycleConfigNameContains="bad", StatusEquals="Failed"
    )
    assert sum(len(page["NotebookInstances"]) for page in pages) == 14


CONFIG = "create_notebook_instance_lifecycle_config"
REFUSED = [
    ("start_notebook_instance", {}, "Status (Pending) not in ([Stopped, Failed]). Unable to transition to (Pending)"),
    ("stop_notebook_instance", {}, "Status (Pending) not in ([InService]). Unable to transition to (Stopping)"),
    ("update_notebook_instance", {"LifecycleConfigName": "bad"}, "Unable to transition to (Updating)"),
    (CONFIG, {"OnStart": [{"Content": "a" * 16385}]}, "Member must have length less than or equal to 16384"),
    (CONFIG, {"OnStart": [{"Content": "#!/bin/sh"}]}, "base64"),
    (CONFIG, {"OnStart": [{"Content": GOOD}] * 2}, "Member must have length less than or equal to 1"),
    (CONFIG, {"NotebookInstanceLifecycleConfigName": "a" * 64}, "Member must have length less than or equal to 63"),
    (CONFIG, {"NotebookInstanceLifecycleConfigName": "a_b"}, "Member must satisfy regular expression pattern"),
    (CONFIG, {"NotebookInstanceLifecycleConfigName": "good"}, "already exists"),
    (
        "create_notebook_instance",
        {"NotebookInstanceName": "new", "LifecycleConfigName": "missing"},
        "notebook-instance-lifecycle-config/missing' does not exist",
    ),
]


@pytest.mark.parametrize(("operation", "fields", "message"), REFUSED)
def test_refused(client: Any, operation: str, fields: dict[str, Any], message: str) -> None:
    """What AWS refuses is refused."""
    if operation == CONFIG:
        fields = {"NotebookInstanceLifecycleConfigName": "new"} | fields
    else:
        fields = {"NotebookInstanceName": "one"} | fields
    if operation == "create_notebook_instance":
        fields |= {"InstanceType": "ml.t3.medium", "RoleArn": ROLE}
    with pytest.raises(ClientError) as error:
        getattr(client, operation)(**fields)
    assert error.value.response["Error"]["Code"] == "ValidationException"
    assert message in str(error.value)


@moto_server.NEEDED
def test_server() -> None:
    """A server has the patches too."""
    with moto_server.serving(states=True) as address:
        client = boto3.client(
            "sagemaker",
            region_name="us-east-1",
            endpoint_url=address,
            aws_access_key_id="a",
            aws_secret_access_key="a",
        )
        _fill(client)
        assert _statuses(client, 2) == ["Pending", "InService"]

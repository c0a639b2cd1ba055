"""A fleet with an account of its own in moto: S3, SageMaker with the states that moto lacks, logs."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.client
import pytest
from botocore.exceptions import ClientError
from moto.sagemaker.models import sagemaker_backends

from nbprovision.bundle.tool import own_wheel
from nbprovision.cli import main
from nbprovision.fleet import publish
from tests.support import boto_descriptions, sagemaker_states

ACCOUNT = "123456789012"  # moto's
BUCKET = "acme-notebooks"
PREFIX = "fraud/"
FLEET = """\
fleet: fraud
bucket: s3://acme-notebooks/fraud
match: {tags: {team: fraud}}
playbook: team.yml
rings:
  - {name: canary, match: {tags: {ring: canary}}, need: 2}
  - {name: early, share: 10%}
  - {name: stable}
stop_when: {failed: 1, silent: 30m}
restart: never
"""
PLAYBOOK = """\
- tasks:
    - ensure_file: {path: ~/motd, src: motd}
"""


class Team:
    """A platform team's folder, account and fleet.

    Attributes:
        folder: The folder with ``fleet.yml`` and ``team.yml``.
        calls: Every call to AWS since the last `begin`: service, operation, parameters.
    """

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.file = folder / "fleet.yml"
        self.file.write_text(FLEET)
        (folder / "team.yml").write_text(PLAYBOOK)
        (folder / "motd").write_text("good morning\n")
        self._capsys = capsys
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.s3 = boto3.client("s3")
        self.sagemaker = boto3.client("sagemaker")
        self.s3.create_bucket(Bucket=BUCKET)

    def begin(self) -> None:
        self.calls.clear()

    @property
    def operations(self) -> list[str]:
        return [f"{service}:{operation}" for service, operation, _ in self.calls]

    def run(self, *words: str, status: int = 0) -> str:
        """What a command prints on both streams."""
        self._capsys.readouterr()
        self.begin()
        action, *more = words
        got = main(["fleet", action, "-f", str(self.file), *more])
        out, err = self._capsys.readouterr()
        assert got == status, out + err
        assert "Traceback" not in err
        return out + err

    def json(self, *words: str, status: int = 0) -> Any:
        """The document of a command."""
        self._capsys.readouterr()
        self.begin()
        action, *more = words
        got = main(["fleet", action, "-f", str(self.file), "--format", "json", *more])
        out, err = self._capsys.readouterr()
        assert got == status, out + err
        return json.loads(out)

    def change(self, text: str = "good evening\n") -> None:
        """Change what the playbook brings."""
        (self.folder / "motd").write_text(text)

    def objects(self, folder: str = "") -> list[str]:
        """The keys of the fleet's objects, below its prefix."""
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=PREFIX + folder).get("Contents", [])
        return [item["Key"].removeprefix(PREFIX) for item in listed]

    def content(self, name: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=BUCKET, Key=PREFIX + name)["Body"].read())

    def put(self, name: str, content: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=PREFIX + name, Body=content)

    def pointer(self, ring: str) -> dict[str, str]:
        lines = self.content(f"rings/{ring}").decode().splitlines()
        return dict(line.split("=", 1) for line in lines)  # type: ignore[misc]

    def release(self, ring: str = "canary") -> str:
        return self.pointer(ring)["release"]

    def add(self, name: str, ring: str = "", configuration: str = "", **tags: str) -> None:
        """Create an instance in a ring, in service."""
        config = configuration or (f"fraud-{ring}-r1" if ring else "")
        more: dict[str, Any] = {"LifecycleConfigName": config} if config else {}
        self.sagemaker.create_notebook_instance(
            NotebookInstanceName=name,
            InstanceType="ml.t3.medium",
            RoleArn="arn:aws:iam::123456789012:role/notebook",
            Tags=[{"Key": key, "Value": value} for key, value in {"team": "fraud", **tags}.items()],
            **more,
        )
        self.settle(name)

    def settle(self, name: str) -> str:
        """Let an instance reach the state that it is on its way to."""
        for _ in range(5):
            state = self.sagemaker.describe_notebook_instance(NotebookInstanceName=name)["NotebookInstanceStatus"]
        return str(state)

    def add_failed(self, name: str, configuration: str = "fraud-canary-r9") -> None:
        """Create an instance whose script keeps it from starting."""
        script = base64.b64encode(b"#!/bin/sh\nexit 1\n").decode()
        with contextlib.suppress(ClientError):  # it exists
            self.sagemaker.create_notebook_instance_lifecycle_config(
                NotebookInstanceLifecycleConfigName=configuration, OnStart=[{"Content": script}]
            )
        self.add(name, configuration=configuration)
        assert self.settle(name) == "Failed"

    def age(self, name: str, seconds: float) -> None:
        """Let an instance have reached its state some time ago."""
        instance = sagemaker_backends[ACCOUNT]["us-east-1"].notebook_instances[name]
        instance.last_modified_time -= timedelta(seconds=seconds)

    def report(self, name: str, of: str = "canary", **fields: Any) -> None:
        """Put the report of an instance of a ring into the bucket."""
        release = self.release(of) if "release" not in fields else fields["release"]
        document = {
            "format": 1, "instance": name, "ring": of, "wanted": release, "release": release, "tool": "0.1.0",
            "time": time.time(), "status": 0, "seconds": 1.5, "counts": {"ok": 1},
        } | fields  # fmt: skip
        self.put(f"reports/{name}.json", json.dumps(document).encode())


@functools.cache
def _wheel() -> tuple[str, bytes]:
    """The tool's own wheel, which takes a while to compress."""
    return own_wheel()


def deny(monkeypatch: pytest.MonkeyPatch, *operations: str) -> None:
    """Let IAM deny some operations."""
    call = botocore.client.BaseClient._make_api_call

    def denied(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        if operation in operations:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}, operation)
        return call(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", denied)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An account with nothing in it, and nothing of this machine's own configuration."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NBPROVISION_HOME", str(tmp_path / "nbprovision"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with sagemaker_states.mocked(), boto_descriptions.kept():
        yield


@pytest.fixture
def team(aws: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Team:
    folder = tmp_path / "team"
    folder.mkdir()
    made = Team(folder, capsys)
    monkeypatch.setattr(publish, "own_wheel", _wheel)
    original = botocore.client.BaseClient._make_api_call

    def record(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        made.calls.append((client.meta.service_model.service_name, operation, parameters))
        return original(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", record)
    return made

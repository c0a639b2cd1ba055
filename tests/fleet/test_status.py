"""`fleet status` and `fleet plan`: few calls, and a table that a person can act on."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from typing import Any

import boto3
import botocore.awsrequest
import botocore.client
import botocore.exceptions
import pytest

from nbprovision.fleet.bucket import Bucket
from nbprovision.fleet.cloud import Cloud
from nbprovision.fleet.instances import listed, position
from tests.fleet.conftest import BUCKET, FLEET, PREFIX, Team, deny

LOGS = "/aws/sagemaker/NotebookInstances"


def test_a_table_and_what_to_do(team: Team) -> None:
    team.run("publish")
    digest = team.release()[:12]
    for name in ("good", "bad", "quiet", "away"):
        team.add(name, "canary")
    team.report("good", drift=["ensure_file: ~/motd"])
    team.report("bad", status=2, failures=[{"task": "ensure_pip_pkg: pandas", "why": "no such version", "cure": "pin it"}], log="line 1\nline 2\n")  # fmt: skip
    team.age("quiet", 7300)
    team.sagemaker.stop_notebook_instance(NotebookInstanceName="away")
    team.settle("away")
    team.add_failed("broken")
    out = team.run("status")
    lines = out.splitlines()
    assert lines[0] == "fleet fraud in s3://acme-notebooks/fraud"
    table = [" ".join(line.split()) for line in lines[1:4]]
    assert table[0] == "ring release since instances ok failed silent starting stopped behind drift"
    assert table[1] == f"canary {digest} {team.pointer('canary')['since']} 5 1 2 1 0 1 0 1"
    assert table[2] == "early none - 0 0 0 0 0 0 0 0"
    assert "failed: bad (canary, script r1): ensure_pip_pkg: pandas: no such version" in out
    assert "  log: line 2\n  fix: pin it; or nbprovision fleet back canary" in out
    assert "failed: broken (canary, script r9): SageMaker could not start it\n  why: Notebook Instance Lifecycle" in out
    assert "  fix: nbprovision fleet rescue broken" in out
    assert "silent: quiet (canary, script r1): in service for 2h without a report of this start" in out
    assert "canary: good had drift, and mended it: ensure_file: ~/motd" in out
    described = [
        parameters["NotebookInstanceName"] for _, name, parameters in team.calls if name == "DescribeNotebookInstance"
    ]
    assert described == ["broken"]


def test_the_document_has_the_same(team: Team) -> None:
    team.run("publish")
    team.add("good", "canary")
    team.report("good")
    document = team.json("status")
    ring = document["rings"][0]
    assert (ring["ring"], ring["release"], ring["instances"], ring["ok"], ring["good"]) == (
        "canary", team.release(), 1, 1, 1,
    )  # fmt: skip
    instance = document["instances"][0]
    assert (instance["name"], instance["state"], instance["release"]) == ("good", "ok", team.release())
    assert document["rings"][2]["release"] is None


def test_the_log_in_cloudwatch_goes_first(team: Team) -> None:
    team.run("publish")
    team.add("bad", "canary")
    team.report("bad", status=2, log="of the report\n")
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName=LOGS)
    stream = "bad/LifecycleConfigOnStart"
    logs.create_log_stream(logGroupName=LOGS, logStreamName=stream)
    events = [{"timestamp": int(time.time() * 1000), "message": f"line {number}"} for number in range(30)]
    logs.put_log_events(logGroupName=LOGS, logStreamName=stream, logEvents=events)
    out = team.run("status")
    assert "  log: line 29\n" in out
    assert "line 19\n" not in out
    assert "of the report" not in out


def test_what_may_not_be_read_is_left_out(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team.run("publish")
    team.add_failed("broken")
    deny(monkeypatch, "DescribeNotebookInstance", "GetLogEvents")
    out = team.run("status")
    assert "why: sagemaker:DescribeNotebookInstance on broken is denied" in out
    assert "fix: nbprovision fleet rescue broken" in out


def test_a_report_that_is_removed_meanwhile(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team.run("publish")
    team.add("one", "canary")
    team.report("one")
    listed = Bucket.listed

    def removed(bucket: Bucket, folder: str, **options: Any) -> Any:
        yield from listed(bucket, folder, **options)
        if folder == "reports/":
            team.s3.delete_object(Bucket=BUCKET, Key=f"{PREFIX}reports/one.json")

    monkeypatch.setattr(Bucket, "listed", removed)
    assert "the report of one is broken: it was removed meanwhile" in team.run("status")


def test_instances_with_another_release_or_script_are_shown(team: Team) -> None:
    team.run("publish")
    team.add("one", "canary")
    team.add("other", configuration="fraud-canary-r1")
    team.report("one")
    team.report("other", release="b" * 64, fallback="the bucket cannot be reached", wanted=None)
    team.change()
    team.file.write_text(FLEET + "script: {deadline: 100}\n")
    team.run("publish")
    out = team.run("status")
    assert out.splitlines()[2].split()[-2:] == ["2", "0"]
    assert "canary: an older script than r2 on one, other" in out
    assert "canary: other did not get the ring's release: the bucket cannot be reached" in out


def test_a_ring_that_was_removed_is_shown(team: Team) -> None:
    team.run("publish")
    team.add("one", "early")
    team.file.write_text(FLEET.replace("  - {name: early, share: 10%}\n", ""))
    assert "one has fraud-early-r1, of a ring that the fleet file does not have" in team.run("status")


def test_another_fleet_is_not_counted(team: Team) -> None:
    team.run("publish")
    script = base64.b64encode(b"#!/bin/sh\nexit 0\n").decode()
    for name in ("not-fraud", "fraud-eu"):
        team.sagemaker.create_notebook_instance_lifecycle_config(
            NotebookInstanceLifecycleConfigName=f"{name}-canary-r1", OnStart=[{"Content": script}]
        )
        team.add(name, configuration=f"{name}-canary-r1")
    document = team.json("status")
    assert document["instances"] == document["strays"] == []


@pytest.mark.proof
def test_a_thousand_instances_with_nothing_new_take_few_calls(team: Team) -> None:
    team.run("publish")
    for number in range(1000):
        name = f"n{number}"
        team.sagemaker.create_notebook_instance(
            NotebookInstanceName=name, InstanceType="ml.t3.medium", RoleArn="arn:aws:iam::123456789012:role/notebook",
            LifecycleConfigName=("fraud-canary-r1", "fraud-early-r1", "fraud-stable-r1")[number % 3],
        )  # fmt: skip
        team.put(f"reports/{name}.json", b"x")
    team.json("status")
    assert len(team.json("status")["instances"]) == 1000
    assert len(team.calls) <= 15


@pytest.mark.proof
def test_a_throttled_call_is_repeated(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 repeats it, adaptively; nothing is lost."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    team.add("one")
    refusals = iter(range(4))

    def throttle(request: Any, **fields: Any) -> Any:
        if next(refusals, None) is None:
            return None
        body = json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"}).encode()
        answer = botocore.awsrequest.AWSResponse(request.url, 400, {"content-type": "application/x-amz-json-1.1"}, None)
        answer._content = body
        return answer

    cloud = Cloud("us-east-1", "reader")
    client = cloud.client("sagemaker")
    assert client.meta.config.retries == {"mode": "adaptive", "total_max_attempts": 10}
    client.meta.events.register_first("before-send.sagemaker", throttle)
    assert [instance.name for instance in listed(cloud)] == ["one"]
    assert next(refusals, None) is None


def test_plan_places_each_instance(team: Team) -> None:
    team.run("publish")
    for name, configuration, tags in (
        ("right", "fraud-canary-r1", {"ring": "canary"}),
        ("bare", "", {"ring": "canary"}),
        ("other", "fraud-canary-r1", {}),
        ("leaving", "fraud-canary-r1", {"team": "risk"}),
        ("foreign", "", {"team": "risk"}),
    ):
        add_tagged(team, name, configuration, {"team": "fraud", **tags})
    out = team.run("plan")
    assert "canary: 2 instances, 1 with its newest script" in out
    assert "bare (InService): no configuration: none -> fraud-canary-r1" in out
    assert "other (InService): other ring: fraud-canary-r1 -> fraud-" in out
    assert "leaving: fraud-canary-r1, and no ring takes it" in out
    assert "foreign" not in out
    assert "--lifecycle-config-name CONFIGURATION" in out
    places = {each["name"]: each["difference"] for each in team.json("plan")["instances"]}
    assert places == {"right": "none", "bare": "no configuration", "other": "other ring", "leaving": "leaves"}


def test_plan_names_an_instance_that_no_ring_takes(team: Team) -> None:
    team.file.write_text(FLEET.replace("{name: stable}", "{name: stable, match: {tags: {ring: stable}}}"))
    team.run("publish")
    names = [name for name in (f"n{number}" for number in range(20)) if position("fraud", name) > 0.1][:2]
    add_tagged(team, names[0], "", {"team": "fraud"})
    add_tagged(team, names[1], "", {"team": "risk"})
    out = team.run("plan")
    assert f"  {names[0]} (InService): it has the fleet's tags, and no ring takes it" in out
    assert names[1] not in out


def add_tagged(team: Team, name: str, configuration: str, tags: dict[str, str]) -> None:
    more: dict[str, Any] = {"LifecycleConfigName": configuration} if configuration else {}
    team.sagemaker.create_notebook_instance(
        NotebookInstanceName=name, InstanceType="ml.t3.medium", RoleArn="arn:aws:iam::123456789012:role/notebook",
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()], **more,
    )  # fmt: skip
    team.settle(name)


def test_plan_before_the_first_publication(team: Team) -> None:
    assert "no instance belongs to the fleet" in team.run("plan")
    add_tagged(team, "bare", "", {"team": "fraud", "ring": "canary"})
    assert "none -> the first script of canary, which is not published yet" in team.run("plan")


def test_plan_shows_an_older_script(team: Team) -> None:
    team.run("publish")
    add_tagged(team, "one", "fraud-canary-r1", {"team": "fraud", "ring": "canary"})
    team.file.write_text(FLEET + "script: {deadline: 100}\n")
    team.run("publish")
    assert "one (InService): other script: fraud-canary-r1 -> fraud-canary-r2" in team.run("plan")


def test_plan_without_tags_asks_for_none(team: Team) -> None:
    team.add("one")
    team.file.write_text(
        FLEET.replace("match: {tags: {team: fraud}}\n", "").replace("match: {tags: {ring: canary}}", "share: 50%")
    )
    team.run("plan")
    assert "sagemaker:ListTags" not in team.operations


ERRORS = {
    "AccessDenied": ("AccessDenied", "s3:ListBucket on s3://acme-notebooks/fraud/ is denied", "`nbprovision fleet policy publisher` prints"),
    "expired": ("ExpiredToken", "the credentials of AWS have expired", "aws sso login"),
    "unknown key": ("InvalidAccessKeyId", "AWS does not know these credentials", "get-caller-identity"),
    "no bucket": ("NoSuchBucket", "the bucket does not exist", "correct `bucket` in the fleet file"),
    "region": ("PermanentRedirect", "the bucket is in another region", "region: eu-west-1"),
    "other": ("InternalError", "s3:ListBucket on s3://acme-notebooks/fraud/ failed: InternalError", "correct the reported error"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_of_aws_has_a_cure(team: Team, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    code, message, cure = ERRORS[case]

    def refuse(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        response = {"Error": {"Code": code, "Message": "said by AWS"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise botocore.exceptions.ClientError(response, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", refuse)
    out = team.run("publish", status=2)
    assert message in out
    assert "why: said by AWS" in out
    assert cure in out


@pytest.mark.parametrize(
    ("error", "message", "cure"),
    [
        (botocore.exceptions.NoCredentialsError(), "credentials of AWS are missing", "aws configure"),
        (botocore.exceptions.UnauthorizedSSOTokenError(), "cannot be read, or have expired", "aws sso login"),
        (botocore.exceptions.NoRegionError(), "the region of AWS is missing or wrong", "region: eu-west-1"),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="https://x"), "AWS cannot be reached", "https_proxy"),
        (botocore.exceptions.UnknownEndpointError(service_name="s3", region_name="x"), "boto3 failed", "correct"),
    ],
)
def test_an_error_of_boto3_has_a_cure(
    team: Team, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str, cure: str
) -> None:
    def fail(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", fail)
    out = team.run("status", status=2)
    assert message in out
    assert cure in out


def test_without_a_way_to_sts_the_writer_has_another_name(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    call = botocore.client.BaseClient._make_api_call

    def fail(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        if operation == "GetCallerIdentity":
            raise botocore.exceptions.EndpointConnectionError(endpoint_url="https://sts.us-east-1.amazonaws.com")
        return call(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", fail)
    team.run("publish")
    assert team.pointer("canary")["by"].endswith(f"@{os.uname().nodename}")


def test_a_missing_profile_or_region_has_a_cure(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nope")
    assert "fix: correct AWS_PROFILE" in team.run("status", status=2)
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "the region of AWS is missing or wrong" in team.run("status", status=2)


def test_boto3_is_an_extra(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    out = team.run("status", status=5)
    assert "error: nbprovision fleet needs boto3" in out
    assert "fix: pip install 'nbprovision[fleet]'" in out


def test_the_keys_of_another_prefix_are_not_touched(team: Team) -> None:
    team.s3.put_object(Bucket=BUCKET, Key="rings/canary", Body=b"of another fleet")
    team.run("publish")
    keys = [parameters["Key"] for _, _, parameters in team.calls if "Key" in parameters]
    assert keys
    assert all(key.startswith(PREFIX) for key in keys)

"""`fleet policy`: nothing to complain of, and every call that a command makes is allowed by the policy for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from nbprovision.fleet import definition
from nbprovision.fleet.cloud import Policy
from nbprovision.fleet.policies import policy
from tests.fleet.conftest import FLEET, Team
from tests.support import iam

KINDS = get_args(Policy)


def printed(team: Team, kind: str) -> Any:
    return json.loads(team.run("policy", kind))


def test_parliament_finds_nothing(tmp_path: Path) -> None:
    printed = []
    for before, after in (
        ("", ""),
        ("match: {tags: {team: fraud}}\n", ""),
        ("s3://acme-notebooks/fraud", "s3://acme-notebooks"),
        ("restart: never", "region: eu-west-1"),
    ):
        (tmp_path / "fleet.yml").write_text(FLEET.replace(before, after) if before else FLEET)
        fleet = definition.read(tmp_path / "fleet.yml")
        printed += [policy(fleet, kind) for kind in KINDS]
    assert len(printed) == 16
    assert iam.findings(*printed) == []


def test_parliament_finds_something_elsewhere() -> None:
    statement = {"Effect": "Allow", "Action": ["s3:GetObjekt"], "Resource": "*"}
    assert iam.findings({"Version": "2012-10-17", "Statement": [statement]})


def test_it_is_printed_without_aws(team: Team) -> None:
    assert printed(team, "reader") == policy(definition.read(team.file), "reader")
    assert team.operations == []
    assert "KIND" in team.run("policy", status=5)
    assert "kind cannot be 'writer'" in team.run("policy", "writer", status=5).replace("KIND", "kind")


def check(team: Team, *kinds: Policy) -> None:
    """Compare the calls of the last command with policies."""
    policies = [policy(definition.read(team.file), kind) for kind in kinds]
    assert team.calls
    for service, operation, parameters in team.calls:
        for wanted in iam.call(service, operation, parameters, {"team": "fraud"}):
            assert iam.allowed(policies, wanted), f"{wanted} is not allowed to {kinds}"


def canaries(team: Team) -> None:
    team.run("publish")
    for name in ("one", "two"):
        team.add(name, "canary")
        team.report(name)


def stopped(team: Team) -> None:
    canaries(team)
    team.sagemaker.stop_notebook_instance(NotebookInstanceName="two")
    team.settle("two")
    team.file.write_text(FLEET.replace("never", "stopped") + "script: {deadline: 100}\n")


def bad(team: Team) -> None:
    canaries(team)
    team.report("two", status=2)
    team.add_failed("three")


def failed(team: Team) -> None:
    team.run("publish")
    team.add_failed("three")


def twice(team: Team) -> None:
    canaries(team)
    team.change()
    team.run("publish")


COMMANDS: dict[str, tuple[Callable[[Team], object], list[str], tuple[Policy, ...]]] = {
    "first publish": (lambda team: None, ["publish"], ("publisher",)),
    "second publish": (canaries, ["publish"], ("publisher",)),
    "new script": (lambda team: (canaries(team), team.file.write_text(FLEET + "script: {deadline: 99}\n")), ["publish"], ("publisher",)),
    "restart stopped": (stopped, ["publish"], ("publisher", "roller")),
    "promote": (canaries, ["promote"], ("publisher",)),
    "back": (twice, ["back"], ("publisher",)),
    "status": (bad, ["status"], ("reader",)),
    "plan": (canaries, ["plan"], ("reader",)),
    "render": (canaries, ["render", "terraform"], ("reader",)),
    "rescue": (failed, ["rescue", "three"], ("roller",)),
}  # fmt: skip


@pytest.mark.parametrize("case", COMMANDS)
def test_every_call_is_allowed(team: Team, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbprovision.fleet.rescue._EVERY", 0.01)
    prepare, words, kinds = COMMANDS[case]
    prepare(team)
    team.run(*words)
    check(team, *kinds)
    if len(kinds) > 1:  # both are needed
        with pytest.raises(AssertionError, match="is not allowed"):
            check(team, kinds[0])


def test_publishing_is_not_restarting(team: Team) -> None:
    fleet = definition.read(team.file)
    instance = f"arn:aws:sagemaker:{iam.REGION}:{iam.ACCOUNT}:notebook-instance/one"
    script = f"arn:aws:sagemaker:{iam.REGION}:{iam.ACCOUNT}:notebook-instance-lifecycle-config/fraud-canary-r1"
    tagged = {"aws:ResourceTag/team": "fraud"}
    update = iam.Call("sagemaker:UpdateNotebookInstance", instance, tagged)
    assert [kind for kind in KINDS if iam.allowed([policy(fleet, kind)], update)] == ["roller"]
    other = iam.Call("sagemaker:UpdateNotebookInstance", instance, {"aws:ResourceTag/team": "risk"})
    assert not iam.allowed([policy(fleet, "roller")], other)
    point = iam.Call("s3:PutObject", "arn:aws:s3:::acme-notebooks/fraud/rings/canary", {})
    assert [kind for kind in KINDS if iam.allowed([policy(fleet, kind)], point)] == ["publisher"]
    report = iam.Call("s3:PutObject", "arn:aws:s3:::acme-notebooks/fraud/reports/one.json", {})
    assert [kind for kind in KINDS if iam.allowed([policy(fleet, kind)], report)] == ["instance"]
    rewrite = iam.Call("sagemaker:UpdateNotebookInstanceLifecycleConfig", script, {})
    assert [kind for kind in KINDS if iam.allowed([policy(fleet, kind)], rewrite)] == []
    administrator = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    assert iam.allowed([administrator], rewrite)
    assert not iam.allowed([administrator, policy(fleet, "roller")], rewrite)


def test_a_wave_may_look_before_it_stops(team: Team) -> None:
    """The module `wave` of the Ansible collection refuses a configuration that does not exist."""
    fleet = definition.read(team.file)
    look = "sagemaker:DescribeNotebookInstanceLifecycleConfig"
    configuration = f"arn:aws:sagemaker:{iam.REGION}:{iam.ACCOUNT}:notebook-instance-lifecycle-config/fraud-canary-r1"
    assert iam.allowed([policy(fleet, "roller")], iam.Call(look, configuration, {}))


def test_an_instance_may_take_a_release_and_nothing_else(team: Team) -> None:
    """The calls that bootstrap.sh makes by the aws command."""
    own = [policy(definition.read(team.file), "instance")]
    bucket = "arn:aws:s3:::acme-notebooks"
    for action, key in (
        ("s3:GetObject", "fraud/rings/canary"),
        ("s3:GetObject", f"fraud/releases/{'a' * 64}/release.tar"),
        ("s3:GetObject", "fraud/wheels/nbprovision-0.1.0-py3-none-any.whl"),
        ("s3:PutObject", "fraud/reports/one.json"),
    ):
        assert iam.allowed(own, iam.Call(action, f"{bucket}/{key}", {}))
    assert iam.allowed(own, iam.Call("s3:ListBucket", bucket, {"s3:prefix": "fraud/wheels/"}))
    assert not iam.allowed(own, iam.Call("s3:ListBucket", bucket, {"s3:prefix": "fraud/"}))
    assert not iam.allowed(own, iam.Call("s3:GetObject", f"{bucket}/fraud/reports/one.json", {}))
    assert not iam.allowed(own, iam.Call("s3:PutObject", f"{bucket}/fraud/rings/canary", {}))
    assert not iam.allowed(own, iam.Call("s3:PutObject", f"{bucket}/fraud/wheels/x.whl", {}))


@pytest.mark.parametrize(("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_other_parts_of_aws_have_other_arns(team: Team, region: str, partition: str) -> None:
    team.file.write_text(FLEET + f"region: {region}\n")
    for kind in KINDS:
        for statement in printed(team, kind)["Statement"]:
            resources = statement["Resource"]
            for resource in [resources] if isinstance(resources, str) else resources:
                assert resource == "*" or resource.startswith(f"arn:{partition}:")

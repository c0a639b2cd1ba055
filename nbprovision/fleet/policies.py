"""The policies of IAM for a fleet, each with what its holder needs and no more.

instance: the role of the notebook instances. It reads releases, and writes reports.
publisher: whoever publishes and promotes releases. A release runs as the notebook's user, never as root.
roller: whoever gives instances another script and restarts them. A script runs as root, so it must not change one.
reader: whoever looks at the fleet.

Actions, resources and conditions: https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nbprovision.fleet.bucket import RELEASES, REPORTS, RINGS, SCRIPTS, WHEELS
from nbprovision.fleet.cloud import Policy
from nbprovision.fleet.definition import Fleet

_VERSION = "2012-10-17"  # of IAM's policy language
_LOGS = "log-group:/aws/sagemaker/NotebookInstances:log-stream:*"

Statement = dict[str, Any]


def policy(fleet: Fleet, kind: Policy) -> dict[str, Any]:
    """Return a policy as plain data."""
    statements: dict[Policy, Callable[[Fleet], Iterator[Statement]]] = {
        "instance": _instance,
        "publisher": _publisher,
        "roller": _roller,
        "reader": _reader,
    }
    return {"Version": _VERSION, "Statement": list(statements[kind](fleet))}


def _instance(fleet: Fleet) -> Iterator[Statement]:
    yield _objects(fleet, "TakeReleases", ["s3:GetObject"], RINGS, RELEASES, WHEELS)
    yield _list(fleet, "ListWheels", WHEELS)
    yield _objects(fleet, "WriteReports", ["s3:PutObject"], REPORTS)


def _publisher(fleet: Fleet) -> Iterator[Statement]:
    yield _list(fleet, "ListObjects", "")
    yield _objects(fleet, "ReadObjects", ["s3:GetObject"], RINGS, RELEASES, WHEELS, SCRIPTS, REPORTS)
    yield _objects(fleet, "WriteReleases", ["s3:PutObject"], RINGS, RELEASES, WHEELS, SCRIPTS)
    yield {
        "Sid": "CreateScripts",
        "Effect": "Allow",
        "Action": [
            "sagemaker:CreateNotebookInstanceLifecycleConfig",
            "sagemaker:DescribeNotebookInstanceLifecycleConfig",
            "sagemaker:AddTags",
        ],
        "Resource": _sagemaker(fleet, f"notebook-instance-lifecycle-config/{fleet.name}-*"),
    }
    yield _list_instances()


def _roller(fleet: Fleet) -> Iterator[Statement]:
    yield _list_instances()
    instances = _sagemaker(fleet, "notebook-instance/*")
    yield {
        "Sid": "ReadInstances",
        "Effect": "Allow",
        "Action": ["sagemaker:DescribeNotebookInstance", "sagemaker:ListTags"],
        "Resource": instances,
    }
    yield {  # a wave looks for its configuration before it stops an instance
        "Sid": "ReadScripts",
        "Effect": "Allow",
        "Action": ["sagemaker:DescribeNotebookInstanceLifecycleConfig"],
        "Resource": _sagemaker(fleet, f"notebook-instance-lifecycle-config/{fleet.name}-*"),
    }
    restart: Statement = {
        "Sid": "RestartInstances",
        "Effect": "Allow",
        "Action": [
            "sagemaker:StartNotebookInstance",
            "sagemaker:StopNotebookInstance",
            "sagemaker:UpdateNotebookInstance",
        ],
        "Resource": instances,
    }
    if fleet.tags:
        restart["Condition"] = {
            "StringEquals": {f"aws:ResourceTag/{name}": value for name, value in fleet.tags.items()}
        }
    yield restart
    # It would be root on every instance with the script, at its next start.
    yield {
        "Sid": "NeverChangeScripts",
        "Effect": "Deny",
        "Action": ["sagemaker:UpdateNotebookInstanceLifecycleConfig"],
        "Resource": "*",
    }


def _reader(fleet: Fleet) -> Iterator[Statement]:
    yield _list(fleet, "ListObjects", "")
    yield _objects(fleet, "ReadObjects", ["s3:GetObject"], RINGS, SCRIPTS, REPORTS)
    yield _list_instances()
    yield {
        "Sid": "ReadInstances",
        "Effect": "Allow",
        "Action": ["sagemaker:DescribeNotebookInstance", "sagemaker:ListTags"],
        "Resource": _sagemaker(fleet, "notebook-instance/*"),
    }
    yield {
        "Sid": "ReadLogs",
        "Effect": "Allow",
        "Action": ["logs:GetLogEvents"],
        "Resource": f"arn:{_partition(fleet)}:logs:{fleet.region or '*'}:*:{_LOGS}",
    }


def _list_instances() -> Statement:
    """Return the statement of an action that has no resource."""
    return {
        "Sid": "ListInstances",
        "Effect": "Allow",
        "Action": ["sagemaker:ListNotebookInstances"],
        "Resource": "*",
    }


def _objects(fleet: Fleet, sid: str, actions: Sequence[str], *folders: str) -> Statement:
    bucket = f"arn:{_partition(fleet)}:s3:::{fleet.bucket}"
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": [f"{bucket}/{fleet.prefix}{folder}*" for folder in folders],
    }


def _list(fleet: Fleet, sid: str, folder: str) -> Statement:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": ["s3:ListBucket"],
        "Resource": f"arn:{_partition(fleet)}:s3:::{fleet.bucket}",
        "Condition": {"StringLike": {"s3:prefix": f"{fleet.prefix}{folder}*"}},
    }


def _sagemaker(fleet: Fleet, resource: str) -> str:
    return f"arn:{_partition(fleet)}:sagemaker:{fleet.region or '*'}:*:{resource}"


def _partition(fleet: Fleet) -> str:
    """Return the part of AWS that a region belongs to, as in its ARNs."""
    region = fleet.region or ""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"

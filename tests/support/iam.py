"""Says whether policies of IAM allow a call, as far as the policies of a fleet need it; parliament judges the rest.

The order is that of AWS: an explicit Deny wins, then any Allow
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

ACCOUNT, REGION = "123456789012", "us-east-1"
# boto3's operations with other names in IAM.
_NAMES = {"s3:ListObjectsV2": "s3:ListBucket", "s3:HeadObject": "s3:GetObject"}
FREE = {"sts:GetCallerIdentity"}  # no policy is needed, and none can deny it


class Call(NamedTuple):
    """A call as IAM sees it."""

    action: str
    resource: str
    context: Mapping[str, str]


def call(service: str, operation: str, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> list[Call]:
    """What IAM judges for a call of boto3; ``tags`` are those of the instances."""
    action = _NAMES.get(f"{service}:{operation}", f"{service}:{operation}")
    if service == "s3":
        bucket = f"arn:aws:s3:::{parameters['Bucket']}"
        if action == "s3:ListBucket":
            return [Call(action, bucket, {"s3:prefix": parameters["Prefix"]} if "Prefix" in parameters else {})]
        return [Call(action, f"{bucket}/{parameters['Key']}", {})]
    if service == "logs":
        stream = f"{parameters['logGroupName']}:log-stream:{parameters['logStreamName']}"
        return [Call(action, f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{stream}", {})]
    start = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:"
    instance, config = parameters.get("NotebookInstanceName"), parameters.get("NotebookInstanceLifecycleConfigName")
    if instance is not None:
        tagged = {f"aws:ResourceTag/{key}": value for key, value in tags.items()}
        return [Call(action, f"{start}notebook-instance/{instance.lower()}", tagged)]
    if config is not None:
        resource = f"{start}notebook-instance-lifecycle-config/{config.lower()}"
        more = [Call("sagemaker:AddTags", resource, {})] if parameters.get("Tags") else []
        return [Call(action, resource, {}), *more]
    return [Call(action, parameters.get("ResourceArn", "*"), {})]


def allowed(policies: Sequence[Mapping[str, Any]], wanted: Call) -> bool:
    """Whether policies allow a call."""
    if wanted.action in FREE:
        return True
    matching = [
        statement["Effect"]
        for policy in policies
        for statement in policy["Statement"]
        if any(fnmatchcase(wanted.action, pattern) for pattern in _listed(statement["Action"]))
        and any(fnmatchcase(wanted.resource, pattern) for pattern in _listed(statement["Resource"]))
        and _holds(statement.get("Condition", {}), wanted.context)
    ]
    return "Deny" not in matching and "Allow" in matching


def _holds(condition: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> bool:
    for operator, keys in condition.items():
        for key, values in keys.items():
            value = context.get(key)  # a key that the request lacks fits nothing
            if operator == "StringEquals":
                fits = value in _listed(values)
            elif operator == "StringLike":
                fits = value is not None and any(fnmatchcase(value, pattern) for pattern in _listed(values))
            else:
                raise AssertionError(f"this matcher does not know {operator}")
            if not fits:
                return False
    return True


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


# parliament asks pkg_resources, which newer setuptools lack, for the place of its own files.
_PARLIAMENT = """
import importlib.util, json, os, sys, types
shim = types.ModuleType("pkg_resources")
shim.resource_filename = lambda name, file: os.path.join(os.path.dirname(importlib.util.find_spec(name).origin), file)
sys.modules["pkg_resources"] = shim
import parliament
every = [parliament.analyze_policy_string(text).findings for text in json.load(sys.stdin)]
print(json.dumps([f"{finding.issue}: {finding.detail} {finding.location}" for each in every for finding in each]))
"""


def findings(*policies: Mapping[str, Any]) -> list[str]:
    """parliament's findings in policies."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PARLIAMENT],
        input=json.dumps([json.dumps(policy) for policy in policies]),
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr
    listed: list[str] = json.loads(done.stdout)
    return listed

"""The lifecycle configurations of a fleet as files of Terraform, CloudFormation and the CDK.

Each file has the revisions that instances may have: a configuration in use cannot be deleted. If its script changed
and its name did not, the change would reach all instances at once.

Terraform's file is JSON with base64, since a heredoc would read ``${}`` as its own:
https://developer.hashicorp.com/terraform/language/syntax/json
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

from nbprovision.fleet import script
from nbprovision.fleet.bucket import Bucket
from nbprovision.fleet.definition import Fleet
from nbprovision.fleet.script import Configuration
from nbprovision.lifecycle.render import MAX_BYTES
from nbprovision.lifecycle.root_part import RootPart
from nbprovision.model.errors import TaskFailed, UsageError

Form = Literal["terraform", "cloudformation", "cdk"]
FORMS: tuple[Form, ...] = ("terraform", "cloudformation", "cdk")

KEPT = 3  # revisions of each ring
_TERRAFORM = "aws_sagemaker_notebook_instance_lifecycle_configuration"
_CLOUDFORMATION = "AWS::SageMaker::NotebookInstanceLifecycleConfig"
# https://github.com/hashicorp/terraform-provider-aws/issues/45830
WARNING = (
    "never change `platform_identifier` of an aws_sagemaker_notebook_instance: Terraform destroys the instance and its "
    "volume, and creates another one; update a stopped instance by the AWS CLI instead, and ignore_changes"
)


def configurations(fleet: Fleet, root: RootPart | None, bucket: Bucket | None) -> list[Configuration]:
    """Return the lifecycle configurations: the newest revisions in the bucket, and one more where a script differs.

    Args:
        fleet: The fleet.
        root: Root's part of the scripts.
        bucket: The fleet's part of the bucket; None for a fleet that has none yet.

    Raises:
        UsageError: a script cannot be rendered, or the platform would refuse it.
        TaskFailed: AWS refuses a call.
    """
    listing = {} if bucket is None else bucket.listing()
    newest = script.revisions(listing)
    made = []
    for ring in fleet.rings:
        text = script.rendered(fleet, ring, root)
        last = newest.get(ring.name, 0)
        present = {
            revision: _kept(bucket, script.object_name(ring.name, revision))
            for revision in range(max(1, last - KEPT + 1), last + 1)
            if bucket is not None and script.object_name(ring.name, revision) in listing
        }
        if present.get(last) != text:
            present[last + 1] = text
        made += [
            Configuration(name=fleet.configuration(ring, revision), script=content)
            for revision, content in present.items()
        ]
    return made


def _kept(bucket: Bucket, name: str) -> str:
    """Return a script in the bucket.

    Raises:
        TaskFailed: it is not a script of this tool.
    """
    content = bucket.get(name, MAX_BYTES + 1)
    try:
        return (content.data if content is not None else b"").decode("ascii")
    except UnicodeDecodeError:
        raise TaskFailed(
            f"{name} in the bucket is not a script",
            cause="it has other characters than ASCII: somebody else wrote it",
            cure="restore its last version: aws s3api list-object-versions",
        ) from None


def rendered(form: Form, fleet: Fleet, every: Sequence[Configuration]) -> str:
    """Return a file with configurations."""
    forms: dict[Form, Callable[[Fleet, Sequence[Configuration]], str]] = {
        "terraform": _terraform,
        "cloudformation": _cloudformation,
        "cdk": _cdk,
    }
    return forms[form](fleet, every)


def _terraform(fleet: Fleet, every: Sequence[Configuration]) -> str:
    resources = {
        _identifier(configuration.name): {
            "name": configuration.name,
            "on_start": configuration.base64,
            **({"tags": dict(fleet.tags)} if fleet.tags else {}),
        }
        for configuration in every
    }
    document = {
        "//": [_HEAD, WARNING],
        "resource": {_TERRAFORM: resources},
        "output": {
            "lifecycle_configurations": {
                "description": f"The newest lifecycle configuration of each ring of the fleet {fleet.name}.",
                "value": _newest(fleet, every),
            }
        },
    }
    return _escaped(document)


def _escaped(document: Any) -> str:
    """Write JSON for Terraform, which evaluates templates in its strings."""
    return _json(document).replace("${", "$${").replace("%{", "%%{")


def _cloudformation(fleet: Fleet, every: Sequence[Configuration]) -> str:
    return _json(_template(fleet, every))


def _template(fleet: Fleet, every: Sequence[Configuration]) -> dict[str, Any]:
    resources = {
        _logical(configuration.name): {
            "Type": _CLOUDFORMATION,
            # An instance that has it would not start without it.
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {
                "NotebookInstanceLifecycleConfigName": configuration.name,
                "OnStart": [{"Content": configuration.base64}],
                **({"Tags": [{"Key": key, "Value": value} for key, value in fleet.tags.items()]} if fleet.tags else {}),
            },
        }
        for configuration in every
    }
    if len(resources) < len(every):
        raise UsageError(
            "two rings have names that CloudFormation cannot distinguish",
            cause="its names have no hyphens, so that a-1 and a1 are the same",
            cure="rename one of the rings",
        )
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Lifecycle configurations of the fleet {fleet.name}. {_HEAD}",
        "Resources": resources,
    }


_CDK = '''\
#!/usr/bin/env python3
"""Lifecycle configurations of the fleet {fleet}, for the AWS CDK in Python. {head}"""

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker

SCRIPTS = {scripts}
TAGS = {tags}


class Fleet(cdk.Stack):
    """One configuration for each ring and revision; none is deleted with the stack."""

    def __init__(self, scope: cdk.App, name: str) -> None:
        super().__init__(scope, name)
        for configuration, script in SCRIPTS.items():
            hook = sagemaker.CfnNotebookInstanceLifecycleConfig.NotebookInstanceLifecycleHookProperty(content=script)
            made = sagemaker.CfnNotebookInstanceLifecycleConfig(
                self,
                configuration,
                notebook_instance_lifecycle_config_name=configuration,
                on_start=[hook],
            )
            for key, value in TAGS.items():
                cdk.Tags.of(made).add(key, value)
            made.apply_removal_policy(cdk.RemovalPolicy.RETAIN)


app = cdk.App()
Fleet(app, "{stack}")
app.synth()
'''


def _cdk(fleet: Fleet, every: Sequence[Configuration]) -> str:
    return _CDK.format(
        fleet=fleet.name,
        head=_HEAD,
        stack=f"nbprovision-fleet-{fleet.name}",
        scripts=_json({configuration.name: configuration.base64 for configuration in every}).rstrip(),
        tags=_json(dict(fleet.tags)).rstrip(),
    )


_HEAD = "Written by nbprovision fleet render; write it again instead of editing it."


def _newest(fleet: Fleet, every: Sequence[Configuration]) -> dict[str, str]:
    """Return the name of the newest configuration of each ring."""
    newest = {}
    for configuration in every:  # in the order of their revisions
        member = fleet.membership(configuration.name)
        if member is not None:
            newest[member[0].name] = configuration.name
    return newest


def _identifier(name: str) -> str:
    """Return the name of a resource in Terraform, which does not begin with a digit."""
    text = name.replace("-", "_")
    return f"_{text}" if text[0].isdigit() else text


def _logical(name: str) -> str:
    """Return the name of a resource in CloudFormation, which has only letters and digits."""
    return "".join(word.capitalize() for word in name.split("-"))


def _json(document: Any) -> str:
    return json.dumps(document, indent=2) + "\n"

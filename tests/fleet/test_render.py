"""`fleet render`: files of Terraform, CloudFormation and the CDK that their own tools accept."""

from __future__ import annotations

import ast
import base64
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nbprovision.fleet import definition, templates
from nbprovision.fleet.script import Configuration
from nbprovision.model.errors import UsageError
from tests.fleet.conftest import FLEET, Team

TERRAFORM = shutil.which("terraform")
VARIABLE = "NBPROVISION_TEST_TERRAFORM_PLUGINS"  # a folder as `terraform providers mirror` fills it
PLUGINS = os.environ.get(VARIABLE, "")
RESOURCE = "aws_sagemaker_notebook_instance_lifecycle_configuration"


def terraform(team: Team, *words: str) -> Any:
    out, warning, _ = team.run("render", "terraform", *words).partition("warning: never change `platform_identifier`")
    assert warning
    return json.loads(out)


def test_terraform_has_the_scripts_in_base64(team: Team) -> None:
    document = terraform(team, "--offline")
    configurations = document["resource"][RESOURCE]
    assert sorted(configurations) == ["fraud_canary_r1", "fraud_early_r1", "fraud_stable_r1"]
    canary = configurations["fraud_canary_r1"]
    assert canary["name"] == "fraud-canary-r1"
    assert canary["tags"] == {"team": "fraud"}
    team.run("publish")
    assert base64.b64decode(canary["on_start"]) == team.content("scripts/canary-r1.sh")
    assert document["output"]["lifecycle_configurations"]["value"]["canary"] == "fraud-canary-r1"
    assert "platform_identifier" in document["//"][1]


def test_revisions_are_counted_from_the_bucket(team: Team) -> None:
    """Older ones stay: instances have them, and a pointer to one that is gone could not be taken back."""
    for deadline in (100, 101, 102, 103):
        team.file.write_text(FLEET + f"script: {{deadline: {deadline}}}\n")
        team.run("publish")
    team.file.write_text(FLEET + "script: {deadline: 104}\n")
    configurations = terraform(team)["resource"][RESOURCE]
    canary = {name: base64.b64decode(value["on_start"]) for name, value in configurations.items() if "canary" in name}
    assert sorted(canary) == [f"fraud_canary_r{number}" for number in (2, 3, 4, 5)]
    assert b"--deadline 99" in canary["fraud_canary_r4"]
    assert b"--deadline 100" in canary["fraud_canary_r5"]


def test_publish_takes_what_others_have_created(team: Team) -> None:
    """Terraform creates the configuration first; publish finds the same script, and keeps it."""
    for value in terraform(team, "--offline")["resource"][RESOURCE].values():
        team.sagemaker.create_notebook_instance_lifecycle_config(
            NotebookInstanceLifecycleConfigName=value["name"], OnStart=[{"Content": value["on_start"]}]
        )
    team.run("publish")
    assert team.release()


def test_templates_in_tags_are_text(team: Team) -> None:
    """AWS has no such tags; whatever comes into the file, Terraform evaluates nothing in it."""
    fleet = msgspec.structs.replace(definition.read(team.file), tags={"team": "${var.x} %{if}"})
    document = json.loads(templates.rendered("terraform", fleet, templates.configurations(fleet, None, None)))
    assert document["resource"][RESOURCE]["fraud_canary_r1"]["tags"] == {"team": "$${var.x} %%{if}"}


@pytest.mark.proof
@pytest.mark.skipif(TERRAFORM is None, reason="terraform is not installed: its own validation is left out")
@pytest.mark.skipif(not PLUGINS, reason=f"{VARIABLE} does not name a folder with terraform's provider of AWS")
def test_terraform_itself_accepts_it(team: Team, tmp_path: Path) -> None:
    assert TERRAFORM is not None
    document = terraform(team, "--offline")
    folder = tmp_path / "terraform"
    folder.mkdir()

    def validate() -> subprocess.CompletedProcess[str]:
        (folder / "main.tf.json").write_text(json.dumps(document))
        return call("validate", "-no-color")

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "CHECKPOINT_DISABLE": "1"}
        return subprocess.run([TERRAFORM, *words], cwd=folder, capture_output=True, text=True, env=env)  # type: ignore[list-item]

    (folder / "main.tf.json").write_text(json.dumps(document))
    begun = call("init", "-backend=false", "-input=false", "-no-color", f"-plugin-dir={PLUGINS}")
    assert begun.returncode == 0, begun.stdout + begun.stderr
    valid = validate()
    assert valid.returncode == 0, valid.stdout + valid.stderr
    document["resource"][RESOURCE]["fraud_canary_r1"]["name"] = "fraud_canary"
    assert "only alphanumeric characters and hyphens" in validate().stderr.replace("\n", " ")


def test_cfn_lint_finds_nothing(team: Team, tmp_path: Path) -> None:
    text = team.run("render", "cloudformation", "--offline")
    resources = json.loads(text)["Resources"]
    assert sorted(resources) == ["FraudCanaryR1", "FraudEarlyR1", "FraudStableR1"]
    for resource in resources.values():
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")
    (tmp_path / "template.json").write_text(text)
    assert cfn_lint(tmp_path / "template.json") == []
    (tmp_path / "template.json").write_text(text.replace("OnStart", "OnStrat"))
    assert cfn_lint(tmp_path / "template.json") != []


def cfn_lint(template: Path) -> list[Any]:
    command = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run(
        [command, "--format", "json", "--include-checks", "I", "--", template],
        capture_output=True, text=True, env={"PATH": os.environ["PATH"], "HOME": str(template.parent)},
    )  # fmt: skip
    findings: list[Any] = json.loads(done.stdout)
    return findings


def test_names_that_cloudformation_cannot_tell_apart(team: Team) -> None:
    team.file.write_text(FLEET.replace("name: early", "name: a-1").replace("name: stable", "name: a1"))
    assert "cannot distinguish" in team.run("render", "cloudformation", "--offline", status=5)


def test_the_cdk_app_runs(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """With modules in the place of the CDK's, which needs Node: it names what the CDK has, and passes the scripts."""
    text = team.run("render", "cdk", "--offline")
    ast.parse(text)
    made: list[tuple[Any, ...]] = []

    class Anything:
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            made.append((*arguments[1:], keywords))

        def apply_removal_policy(self, policy: str) -> None:
            made.append((policy,))

        def synth(self) -> None:
            made.append(("synth",))

    class Config(Anything):
        class NotebookInstanceLifecycleHookProperty:
            def __init__(self, *, content: str) -> None:
                self.content = content

    tags = types.SimpleNamespace(
        of=lambda resource: types.SimpleNamespace(add=lambda key, value: made.append((key, value)))
    )
    sagemaker = types.SimpleNamespace(CfnNotebookInstanceLifecycleConfig=Config)
    removal = types.SimpleNamespace(RETAIN="retain")
    core: Any = types.ModuleType("aws_cdk")
    core.App = core.Stack = Anything
    core.Tags, core.RemovalPolicy, core.aws_sagemaker = tags, removal, sagemaker
    monkeypatch.setitem(sys.modules, "aws_cdk", core)
    exec(compile(text, "app.py", "exec"), {"__name__": "__main__"})
    assert [entry[0] for entry in made if entry[0] in ("retain", "synth", "team")] == ["team", "retain"] * 3 + ["synth"]
    scripts = {entry[1]["notebook_instance_lifecycle_config_name"]: entry[1]["on_start"][0].content for entry in made if len(entry) == 2 and isinstance(entry[1], dict) and entry[1]}  # fmt: skip
    expected = terraform(team, "--offline")["resource"][RESOURCE].values()
    assert scripts == {value["name"]: value["on_start"] for value in expected}


@pytest.mark.parametrize(
    ("name", "script", "message"),
    [
        ("a" * 64, "#!/bin/sh\n", "cannot be called"),
        ("a-", "#!/bin/sh\n", "cannot be called"),
        ("a_b", "#!/bin/sh\n", "cannot be called"),
        ("a", "#!/bin/sh\r\n", "line ends of Windows"),
        ("a", "#!/bin/sh\n" + "#" * 12_288, "12,298 bytes"),
        ("a", "#!/bin/sh\n" + "ü" * 6_140, "12,290 bytes"),
        ("a", "", "does not begin with #!"),
    ],
)
def test_what_the_platform_refuses_is_refused_first(name: str, script: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Configuration(name=name, script=script)


def test_the_largest_script_has_16384_characters() -> None:
    made = Configuration(name="a", script="#!/bin/sh\n".ljust(12_288, "#"))
    assert len(made.base64) == 16_384


def test_a_script_of_somebody_else_in_the_bucket_is_refused(team: Team) -> None:
    team.run("publish")
    team.put("scripts/canary-r1.sh", b"#!/bin/sh\r\n")
    assert "line ends of Windows" in team.run("render", "terraform", status=5)
    team.put("scripts/canary-r1.sh", b"\xff\xfe")
    assert "is not a script" in team.run("render", "terraform", status=2)

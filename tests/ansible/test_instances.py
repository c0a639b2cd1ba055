"""The inventory of notebook instances, by the oldest supported ansible-core and the newest, with moto's server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import moto_server
from tests.support.ansible_controller import NAMESPACE, Controller
from tests.support.notebook_instances import Account

pytestmark = [pytest.mark.proof, pytest.mark.network, moto_server.NEEDED]

PLUGIN = {"plugin": f"{NAMESPACE}.instances"}
COUNT = 12  # more than a page of the service
NONE: dict[str, Any] = {}


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """An account: 12 instances of the team fraud, one of which is Failed, and one of another team elsewhere."""
    with moto_server.serving(states=True) as address:
        account = Account(address)
        account.add_config("fraud-early-r3")
        account.add_config("fraud-canary-r4", "#!/bin/sh\nexit 1\n")
        account.add_instance("bad", "fraud-canary-r4", {"team": "fraud", "ring": "canary"})
        for number in range(1, COUNT):
            account.add_instance(f"fraud-{number}", "fraud-early-r3", {"team": "fraud", "ring": "early"})
        account.add_instance("other", tags={"team": "risk"}, region="eu-west-1")
        yield account


def listed(controller: Controller, account: Account, folder: Path, content: Any, *words: str) -> dict[str, Any]:
    """The document of an inventory file."""
    controller.env |= account.env()
    path = folder / "team.notebook_instances.yml"
    path.write_text(yaml.safe_dump(PLUGIN | content))
    return controller.inventory(path, *words)


def test_instances_are_hosts_with_groups_by_tags(controller: Controller, account: Account, tmp_path: Path) -> None:
    content = {
        "fleet": "fraud",
        "keyed_groups": [{"key": "notebook.tags.ring", "prefix": "ring"}, {"key": "notebook.status", "separator": ""}],
        "groups": {"small": "notebook.instance_type == 'ml.t3.medium'"},
        "compose": {"team": "notebook.tags.team"},
        "strict": True,
    }
    document = listed(controller, account, tmp_path, content)
    assert document["ring_canary"]["hosts"] == document["Failed"]["hosts"] == ["bad"]
    early = sorted(f"fraud-{number}" for number in range(1, COUNT))
    assert sorted(document["ring_early"]["hosts"]) == sorted(document["InService"]["hosts"]) == early
    assert sorted(document["notebook_instances"]["hosts"]) == sorted(document["small"]["hosts"]) == ["bad", *early]
    variables = document["_meta"]["hostvars"]["fraud-1"]
    assert variables["team"] == "fraud"
    notebook = variables["notebook"]
    assert (notebook["name"], notebook["status"], notebook["region"]) == ("fraud-1", "InService", "us-east-1")
    assert (notebook["lifecycle_config"], notebook["ring"], notebook["revision"]) == ("fraud-early-r3", "early", 3)
    assert notebook["tags"] == {"team": "fraud", "ring": "early"}
    assert notebook["instance_type"] == "ml.t3.medium"
    assert notebook["url"].startswith("fraud-1.")


CHOICES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "a tag": ({"tags": {"ring": "canary"}}, {"bad"}),
    "one of several values": ({"tags": {"ring": ["canary", "none"]}}, {"bad"}),
    "any value": ({"tags": {"ring": None}, "filters": {"name_contains": "bad"}}, {"bad"}),
    "another value": ({"tags": {"ring": "beta"}}, set()),
    "a status": ({"filters": {"status": "Failed"}}, {"bad"}),
    "several statuses": ({"filters": {"status": ["Failed", "Stopped"]}}, {"bad"}),
    "a part of the name": ({"filters": {"name_contains": "fraud-11"}}, {"fraud-11"}),
    "a config": ({"filters": {"lifecycle_config_contains": "canary"}}, {"bad"}),
    "another region": ({"region": "eu-west-1"}, {"other"}),
    "two regions": ({"regions": ["eu-west-1", "us-east-1"], "tags": {"ring": "canary"}}, {"bad"}),
}


@pytest.mark.parametrize("controller", ["newest"], indirect=True)
def test_instances_are_chosen(controller: Controller, account: Account, tmp_path: Path) -> None:
    for case, (content, hosts) in CHOICES.items():
        document = listed(controller, account, tmp_path, content)
        assert set(document.get("notebook_instances", NONE).get("hosts", [])) == hosts, case


@pytest.mark.parametrize("controller", ["newest"], indirect=True)  # 2.17 has no option for it
def test_the_list_is_kept_until_it_is_flushed(controller: Controller, account: Account, tmp_path: Path) -> None:
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    chosen = {"filters": {"name_contains": "fraud-1"}, **cache}
    first = listed(controller, account, tmp_path, chosen)
    account.record()
    assert listed(controller, account, tmp_path, chosen) == first
    assert account.recorded() == []
    account.record()
    assert listed(controller, account, tmp_path, chosen, "--flush-cache") == first
    assert [operation for operation, _ in account.recorded()] == ["ListNotebookInstances", *["ListTags"] * 3]
    other = listed(controller, account, tmp_path, {"filters": {"name_contains": "bad"}, **cache})
    assert other["notebook_instances"]["hosts"] == ["bad"], "a changed file is obeyed at once"


REFUSED: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "an unknown filter": ({"filters": {"state": "Failed"}}, {}, "unknown filter state; the filters are: status, name"),
    "an unknown profile": ({"profile": "nobody"}, {}, "The config profile (nobody) could not be found"),
    "no region": ({}, {"AWS_DEFAULT_REGION": ""}, "the AWS region is missing: write `region`"),
    "no credentials": (
        {},
        {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"},
        "AWS credentials are missing: write `profile`, or log in",
    ),
    "no network": ({}, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "AWS cannot be asked"),
    "a filter that AWS refuses": ({"filters": {"name_contains": "a_b"}}, {}, "sagemaker:ListNotebookInstances failed"),
}


def test_what_is_wrong_is_said_without_a_traceback(controller: Controller, account: Account, tmp_path: Path) -> None:
    for case, (content, variables, words) in REFUSED.items():
        before = dict(controller.env)
        controller.env |= account.env() | variables
        path = tmp_path / "team.notebook_instances.yml"
        path.write_text(yaml.safe_dump(PLUGIN | content))
        controller.inventory(path)
        controller.env = before
        assert words in " ".join(controller.output.split()), f"{case}: {controller.output}"
        assert "Traceback" not in controller.output, case


@pytest.mark.parametrize("controller", ["newest"], indirect=True)
def test_one_name_in_two_regions_is_refused(controller: Controller, account: Account, tmp_path: Path) -> None:
    account.add_instance("bad", region="eu-north-1")
    listed(controller, account, tmp_path, {"regions": ["us-east-1", "eu-north-1"]})
    assert "the instance bad exists in us-east-1 and eu-north-1" in " ".join(controller.output.split())


@pytest.mark.parametrize("controller", ["2.17"], indirect=True)
def test_a_controller_without_boto3_says_so(controller: Controller, account: Account, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "boto3.py").write_text("raise ImportError('none here')\n")
    controller.env["PYTHONPATH"] = str(absent)
    listed(controller, account, tmp_path, {})
    assert "boto3 is missing in the environment of Ansible (none here)" in " ".join(controller.output.split())


@pytest.mark.parametrize("controller", ["2.17"], indirect=True)
def test_the_documentation_is_shown(controller: Controller) -> None:
    options = controller.doc("instances", "inventory")["doc"]["options"]
    assert {"regions", "tags", "filters", "keyed_groups", "cache"} <= options.keys()

"""`fleet rescue`: a failed instance comes back, by either of two ways."""

from __future__ import annotations

import base64

import pytest

from tests.fleet.conftest import Team, deny
from tests.support import sagemaker_states


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbprovision.fleet.rescue._EVERY", 0.01)


def described(team: Team, name: str) -> tuple[str, str]:
    answer = team.sagemaker.describe_notebook_instance(NotebookInstanceName=name)
    return answer["NotebookInstanceStatus"], answer.get("NotebookInstanceLifecycleConfigName", "")


def script(team: Team) -> bytes:
    answer = team.sagemaker.describe_notebook_instance_lifecycle_config(
        NotebookInstanceLifecycleConfigName="fraud-canary-r9"
    )
    return base64.b64decode(answer["OnStart"][0]["Content"])


def test_without_its_script(team: Team) -> None:
    team.add_failed("one")
    out = team.run("rescue", "one", "--check")
    assert "would take fraud-canary-r9 from one, and start it" in out
    assert described(team, "one") == ("Failed", "fraud-canary-r9")
    out = team.run("rescue", "one")
    assert "sagemaker:DescribeNotebookInstance" not in team.operations
    assert described(team, "one") == ("InService", "")
    assert "take the script from one" in out
    assert "--lifecycle-config-name fraud-canary-r9" in out
    assert script(team) == b"#!/bin/sh\nexit 1\n"


def test_with_a_script_without_effect(team: Team) -> None:
    team.add_failed("one")
    assert "every instance with fraud-canary-r9" in team.run("rescue", "one", "--way", "no-op-script", "--check")
    out = team.run("rescue", "one", "--way", "no-op-script")
    assert described(team, "one") == ("InService", "fraud-canary-r9")
    assert script(team) == b"#!/bin/sh\nexit 1\n"
    assert "put its own script into fraud-canary-r9 again" in out
    assert "still has fraud-canary-r9" in out


def test_where_a_failed_instance_cannot_be_updated(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sagemaker_states, "FROM_FAILED", False)
    team.add_failed("one")
    out = team.run("rescue", "one", status=2)
    assert "fix: try the other way: nbprovision fleet rescue one --way no-op-script" in out
    team.run("rescue", "one", "--way", "no-op-script")
    assert described(team, "one")[0] == "InService"


def test_an_instance_that_fails_again(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script is put back all the same."""
    monkeypatch.setattr("nbprovision.fleet.rescue._NO_OP", "#!/bin/sh\nexit 3\n")
    team.add_failed("one")
    out = team.run("rescue", "one", "--way", "no-op-script", status=2)
    assert "error: one failed again" in out
    assert script(team) == b"#!/bin/sh\nexit 1\n"


def test_an_interrupt_puts_the_script_back(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nbprovision.fleet.rescue.time.sleep", interrupt)
    team.add_failed("one")
    team.run("rescue", "one", "--way", "no-op-script", status=130)
    assert script(team) == b"#!/bin/sh\nexit 1\n"


def test_a_script_may_be_changed_by_an_administrator_only(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "UpdateNotebookInstanceLifecycleConfig")
    team.add_failed("one")
    out = team.run("rescue", "one", "--way", "no-op-script", status=2)
    assert "this takes an administrator" in out
    assert described(team, "one")[0] == "Failed"


def test_one_that_takes_too_long(team: Team) -> None:
    team.add_failed("one")
    assert "one is still Updating after 0 s" in team.run("rescue", "one", "--wait", "0", status=2)


def test_one_that_needs_none(team: Team) -> None:
    team.run("publish")
    team.add("one", "canary")
    assert "one is InService" in team.run("rescue", "one", status=5)
    assert "the instance on does not exist" in team.run("rescue", "on", status=5)
    team.add("two")
    team.sagemaker.stop_notebook_instance(NotebookInstanceName="two")
    team.settle("two")
    assert "two has no lifecycle configuration" in team.run("rescue", "two", "--way", "no-op-script", status=5)


def test_the_document_is_alone_on_standard_output(team: Team) -> None:
    team.add_failed("one")
    document = team.json("rescue", "one")
    assert document["configuration"] == "fraud-canary-r9"
    assert document["changed"]


@pytest.mark.parametrize("name", ["nobody", "kim.é", "a" * 64, "-"])
def test_an_unknown_name(team: Team, name: str) -> None:
    out = team.run("rescue", "--", name, status=5)
    assert f"error: the instance {name} does not exist in this account and region" in out

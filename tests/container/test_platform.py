"""What the platform's image brought, on the instance itself: told, guarded, copied to the volume, and there again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.container.conftest import TOOL_HOME, VOLUME, Instance
from tests.container.test_lifecycle_script import bring_wheels, from_wheels, state_of

NBPROVISION = f"{TOOL_HOME}/venv/bin/nbprovision"
ANACONDA = "/home/ec2-user/anaconda3"
COPY = f"{VOLUME}/envs/copy"
PLAYBOOK = """\
- tasks:
    - ensure_conda_env: {name: copy, clone: python3, channels: ['file:///nowhere/at/all']}
    - ensure_kernel: {env: copy, display_name: A copy}
"""
CODE = "import sys; print(sys.prefix, 1 + 1)"


@pytest.fixture(scope="module")
def provisioned(new_instance: Callable[[], Instance]) -> Instance:
    instance = new_instance().start()
    bring_wheels(instance)
    instance.hook("on-start", from_wheels(PLAYBOOK))
    return instance.restart(seconds=280)


def facts(instance: Instance) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(instance.run(NBPROVISION, "facts", "--format", "json"))
    return found


def play(instance: Instance, task: str) -> str:
    instance.write("/tmp/play.yml", f"- tasks:\n    - {task}\n")
    return instance.shell(f"{NBPROVISION} run /tmp/play.yml 2>&1 || echo status $?")


def test_the_facts_of_the_instance(provisioned: Instance) -> None:
    found = facts(provisioned)
    assert found["platform"]["kind"] == "notebook-instance"
    environments = {one["name"]: one for one in found["environments"]}
    assert {"python3", "JupyterSystemEnv", "copy"} <= environments.keys()
    assert environments["copy"]["prefix"] == COPY


def test_a_copy_of_the_image_survives_it(provisioned: Instance) -> None:
    """Made without any channel; at the next start it is there, and nothing of it is touched."""
    assert provisioned.execute("copy", CODE).split() == [COPY, "2"]
    before = state_of(provisioned, COPY)
    provisioned.restart(seconds=280)
    assert provisioned.execute("copy", CODE).split() == [COPY, "2"]
    assert state_of(provisioned, COPY) == before


def test_the_guard(provisioned: Instance) -> None:
    """What the image brought goes neither by conda nor by pip, and the Jupyter server's environment by no name."""
    python3 = f"{ANACONDA}/envs/python3"
    before = state_of(provisioned, f"{python3}/lib")
    said = play(provisioned, "ensure_conda_pkg: {env: python3, packages: [ipykernel], state: absent}")
    assert "this would change what the platform provides in python3" in said
    assert "ipykernel" in said
    said = play(provisioned, "ensure_pip_pkg: {env: python3, packages: [ipykernel], state: absent}")
    assert "this would change what the platform provides in python3" in said
    said = play(provisioned, "ensure_pip_pkg: {env: JupyterSystemEnv, packages: [tabulate]}")
    assert "status 4" in said
    assert state_of(provisioned, f"{python3}/lib") == before

"""Rendered lifecycle scripts on a notebook instance: it starts, in time, provisioned, at every start."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from nbprovision import __version__
from nbprovision.lifecycle.render import ScriptRequest, render
from tests.container.conftest import TOOL_HOME, VOLUME, Instance

PLAYBOOK = """\
- name: Team
  tasks:
    - ensure_conda_env:
        name: team
        channels: [file:///srv/channel]
        packages: [python, pip, ipykernel]
    - ensure_pip_pkg:
        env: team
        packages: ["cowsay @ file:///srv/wheels/cowsay-6.1-py3-none-any.whl"]
    - ensure_kernel:
        env: team
        display_name: Team
        environment: {GREETING: hello}
"""
ENVIRONMENT = f"{VOLUME}/envs/team"
SERVER = "/home/ec2-user/anaconda3/envs/JupyterSystemEnv"
CODE = "import os, sys, cowsay; print(sys.prefix, 1 + 1, os.environ['GREETING'])"


def bring_wheels(instance: Instance) -> None:
    """What a user who has no internet access uploads to the volume."""
    instance.shell(f"mkdir -p {VOLUME}/wheels; cp /srv/wheels/*.whl /srv/tool/*.whl {VOLUME}/wheels/")


def from_wheels(content: str = PLAYBOOK, **wanted: object) -> str:
    """A script with the playbook in it and the tool from the volume."""
    options = {"playbook": "team.yml", "payload": {"team.yml": content.encode()}, "tool": f"{VOLUME}/wheels"}
    return render(ScriptRequest(**{**options, **wanted}))  # type: ignore[arg-type]


def state_of(instance: Instance, folder: str) -> str:
    """Names, modes, sizes, times and contents of all in a folder, byte code aside."""
    return instance.shell(
        f"cd {folder} && find . ! -name '*.pyc' ! -name __pycache__ ! -type d -printf '%p %M %s %T@ %l\\n' | sort | sha256sum;"
        f"find . -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | sha256sum"
    )


@pytest.fixture(scope="module")
def created(new_instance: Callable[[], Instance]) -> Instance:
    """An instance whose on-create and on-start scripts have provisioned it."""
    instance = new_instance().start()
    bring_wheels(instance)
    instance.hook("on-create", from_wheels(on_create=True))
    instance.hook("on-start", from_wheels())
    return instance.restart("on-create", "on-start", seconds=280)


def test_the_notebook_starts_provisioned(created: Instance) -> None:
    line = created.output().splitlines()[-1]
    assert re.fullmatch(
        rf"nbprovision: done status=0 seconds=\d+\.\d changed=\d failed=0 version={__version__} hook=on-start", line
    )
    assert created.kernels()["team"] == "Team"
    assert created.execute("team", CODE).split() == [ENVIRONMENT, "2", "hello"]


def test_all_of_it_is_the_users(created: Instance) -> None:
    assert created.run("find", VOLUME, "/home/ec2-user/.local", "!", "-user", "ec2-user") == ""


def test_the_servers_environment_is_untouched(created: Instance, new_instance: Callable[[], Instance]) -> None:
    assert state_of(created, SERVER) == state_of(new_instance().start(), SERVER)


def test_a_terminal_has_the_command(created: Instance) -> None:
    assert created.terminal("command -v nbprovision").strip() == f"{TOOL_HOME}/bin/nbprovision"
    assert created.terminal("nbprovision --version").startswith("nbprovision ")


def test_roots_path_does_not_lead_to_what_the_user_can_write(created: Instance) -> None:
    assert VOLUME not in created.run("/bin/sh", "-lc", "echo $PATH", user="root")


def test_three_restarts_install_nothing_and_put_back_what_was_lost(created: Instance) -> None:
    before = state_of(created, ENVIRONMENT), state_of(created, f"{TOOL_HOME}/venv/")
    for _ in range(3):
        created.restart()
        assert created.status("on-start") == 0
        assert created.kernels()["team"] == "Team"
        assert created.execute("team", CODE).split() == [ENVIRONMENT, "2", "hello"]
        assert (state_of(created, ENVIRONMENT), state_of(created, f"{TOOL_HOME}/venv/")) == before
    # The first start after on-create plans, as it has a state of its own; then the kernel is put back without a plan.
    last = json.loads(created.shell(f"cat {TOOL_HOME}/last-run.json"))
    assert {change["action"] for task in last["tasks"] for change in task["changes"]} == {"restore"}
    assert created.terminal("command -v nbprovision").strip() == f"{TOOL_HOME}/bin/nbprovision"

"""The place of nbprovision's home on a target is that of the tool itself."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from nbprovision.system.places import tool_home

ACTION = Path(__file__).parents[2] / "ansible/plugins/plugin_utils/tool_action.py"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"NBPROVISION_HOME": "/srv/nbprovision"},
        {"NBPROVISION_HOME": ""},
        {"XDG_STATE_HOME": "/srv/state"},
        {"XDG_STATE_HOME": "state"},
        {"XDG_STATE_HOME": "/srv/state", "NBPROVISION_HOME": "/srv/nbprovision"},
    ],
)
def test_the_shell_finds_the_tools_home(settings: dict[str, str]) -> None:
    match = re.search(r'^HOME = """\\\n(.*?)"""', ACTION.read_text(), re.DOTALL | re.MULTILINE)
    assert match is not None
    env = {"HOME": "/home/me", "PATH": "/usr/bin:/bin", **settings}
    done = subprocess.run(
        ["sh", "-c", f'{match[1]}printf %s "$home"'], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == tool_home(env)

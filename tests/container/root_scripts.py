"""Runs of scripts with root's part on an instance that stays, without a restart; and what they report."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from nbprovision.catalogue import Catalogue
from nbprovision.cli.lint import assumed
from nbprovision.lifecycle.playbook import root_calls
from nbprovision.lifecycle.root_part import RootPart, root_part
from tests.container.conftest import TOOL_HOME, VOLUME, Instance
from tests.container.test_lifecycle_script import from_wheels
from tests.container.test_root_tasks import run_again

OWN = f"{VOLUME}/team.yml"


def part_of(playbook: str) -> RootPart:
    """Root's part of a playbook."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "team.yml"
        path.write_text(playbook)
        part = root_part(root_calls(path, assumed("notebook-instance", {}, Path("/")), Catalogue(), {}))
    assert part is not None
    return part


def script_for(playbook: str) -> str:
    """A script for a playbook on the volume, of whose `root_tasks` root's part is made."""
    return from_wheels(playbook=OWN, payload={}, root=part_of(playbook), seconds=240)


def run_script(instance: Instance, playbook: str) -> str:
    """Run a script as the platform would at a start; what it printed."""
    instance.write(OWN, playbook)
    instance.write("/var/lib/lifecycle/on-start", script_for(playbook), user="root")
    instance.run("chmod", "700", "/var/lib/lifecycle/on-start", user="root")
    return run_again(instance).rpartition("status ")[0].rstrip()


def root_report(instance: Instance) -> dict[str, tuple[str, str]]:
    """The status and the reason of each task, as root's part has reported them."""
    report: dict[str, Any] = json.loads(instance.run("cat", "/run/nbprovision/root.json"))
    return {task["name"]: (task["status"], task["why"]) for task in report["tasks"]}


def run_report(instance: Instance, playbook: str) -> dict[str, tuple[str, list[str]]]:
    """The status of each task in a run of the user's, with the warnings."""
    instance.write(OWN, playbook)
    shown = instance.shell(f"{TOOL_HOME}/venv/bin/nbprovision run --format json {OWN} 2>/dev/null")
    return {task["name"]: (task["status"], task.get("warnings", [])) for task in json.loads(shown)["tasks"]}

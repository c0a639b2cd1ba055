"""A notebook instance in a ring: the release, the fallback and the report, with the real ``aws`` against moto's S3."""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision import __version__
from nbprovision.lifecycle.render import BOOTSTRAP_NAME, ScriptRequest, bootstrap, render
from nbprovision.report.instance_report import InstanceReport
from tests.container.conftest import TOOL_HOME, VOLUME, Image, Instance
from tests.support import moto_server
from tests.support.rings import PREFIX, Fleet, release

pytestmark = moto_server.NEEDED

_COMMAND = importlib.util.find_spec("awscli")
PACKAGES = Path(str(_COMMAND.origin)).parents[1] if _COMMAND is not None else None
NAME = "nbprovision"  # in docker/metadata
PLAYBOOK = f"""\
- name: Team
  tasks:
    - name: kernel
      ensure_kernel: {{name: team, argv: ["true", "{{connection_file}}"], display_name: KERNEL}}
    - name: notes
      ensure_file: {{path: {VOLUME}/notes, content: x}}
"""
# The command of the test environment, in a Python of the instance.
AWS = """#!/bin/sh
export AWS_ENDPOINT_URL=ADDRESS AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=a AWS_DEFAULT_REGION=us-east-1
export PYTHONPATH=/srv/aws PYTHONDONTWRITEBYTECODE=1
exec /home/ec2-user/anaconda3/bin/python -m awscli "$@"
"""


@pytest.fixture
def fleet(image: Image) -> Iterator[Fleet]:
    """The bucket, on the address that this machine has for containers."""
    form = "{{(index .IPAM.Config 0).Subnet}}"  # the gateway is missing until the engine starts a second time
    asked = subprocess.run(
        ["docker", "network", "inspect", "bridge", "--format", form], capture_output=True, text=True, check=True
    )
    gateway = str(ipaddress.ip_network(asked.stdout.strip())[1])
    with moto_server.serving(gateway) as address:
        fleet = Fleet(address)
        wheels = [*(Path(image.tool).parents[1] / "context/wheels").glob("*.whl"), *Path(image.tool).glob("*.whl")]
        for wheel in wheels:
            fleet.put(f"wheels/{wheel.name}", wheel.read_bytes())
        fleet.put(f"wheels/{BOOTSTRAP_NAME}", bootstrap())
        yield fleet


def restart(instance: Instance, fleet: Fleet) -> str:
    """Start it again, with the ``aws`` command as the image of the platform has it; return the script's last line."""
    head, rest = render(ScriptRequest(ring=f"{PREFIX}/rings/stable", tool=f"{PREFIX}/wheels")).split("\n", 1)
    program = AWS.replace("ADDRESS", fleet.address)
    instance.hook(
        "on-start", f"{head}\ncat >/usr/local/bin/aws <<'END'\n{program}END\nchmod 755 /usr/local/bin/aws\n{rest}"
    )
    instance.restart(seconds=280, volumes=[*instance.mounts, f"{PACKAGES}:/srv/aws:ro"])
    return instance.output().splitlines()[-1]


def report(instance: Instance, fleet: Fleet) -> InstanceReport:
    """The report in the bucket, once its upload has ended."""
    instance.shell("while pgrep -f instance-repor[t].json >/dev/null; do sleep 0.1; done")
    content = fleet.report(NAME)
    assert content is not None, instance.output()
    return content


def test_a_release_and_what_follows(instance: Instance, fleet: Fleet) -> None:
    instance.start()
    first = fleet.publish(release({"team.yml": PLAYBOOK.replace("KERNEL", "First")}))
    line = restart(instance, fleet)
    assert line.startswith("nbprovision: done status=0 "), instance.output()
    assert line.endswith(f" version={__version__} hook=on-start release={first[:12]}")
    assert instance.kernels()["team"] == "First"
    content = report(instance, fleet)
    assert (content.instance, content.ring, content.release, content.status) == (NAME, "stable", first, 0)
    assert content.counts["changed"] == 2

    restart(instance, fleet)
    content = report(instance, fleet)
    assert (content.status, content.counts["changed"], content.drift) == (0, 1, ()), "the stop took the kernel"
    last = json.loads(instance.shell(f"cat {TOOL_HOME}/last-run.json"))
    assert {change["action"] for task in last["tasks"] for change in task["changes"]} == {"restore"}
    instance.shell(f"echo y >{VOLUME}/notes")
    restart(instance, fleet)
    assert report(instance, fleet).drift == ("notes",)
    assert instance.run("find", VOLUME, "/home/ec2-user/.local", "!", "-user", "ec2-user") == ""

    bad = fleet.publish(release({"team.yml": "- tasks: [{ensure_kernle: {}}]\n"}))
    line = restart(instance, fleet)
    assert line.startswith(f"nbprovision: failed status=4 fallback=playbook used={__version__} "), instance.output()
    assert line.endswith(f" release={first[:12]}")
    assert instance.status("on-start") == 0
    assert instance.kernels()["team"] == "First"
    content = report(instance, fleet)
    assert (content.wanted, content.release, content.status) == (bad, first, 4)
    assert "ensure_kernle" in content.fallback
    assert f"the ring points to {bad[:12]}: " in instance.terminal("nbprovision status")

    second = fleet.publish(release({"team.yml": PLAYBOOK.replace("KERNEL", "Second")}))
    restart(instance, fleet)
    assert instance.kernels()["team"] == "Second"
    content = report(instance, fleet)
    assert (content.release, content.status, content.fallback, content.drift) == (second, 0, "", ())
    moto_server.reset(fleet.address)
    line = restart(instance, fleet)
    assert line.startswith("nbprovision: failed status=4 fallback=playbook "), instance.output()
    assert instance.kernels()["team"] == "Second"

"""Files of settings of the system, and the samples that need them, on an instance with systemd."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.container.conftest import Instance
from tests.container.root_scripts import part_of, root_report
from tests.container.test_lifecycle_script import bring_wheels
from tests.container.test_root_tasks import report

# By hand, beside the trial of each kind in test_root_tasks.py: many starts of an instance.
pytestmark = pytest.mark.campaign

SAMPLES = Path(__file__).parents[2] / "playbooks/samples"
DAEMON = "/etc/docker/daemon.json"
AGENT = "/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.d/file_amazon-cloudwatch-agent.json"
UNIT = "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n"


@pytest.fixture(scope="module")
def kept(new_instance: Callable[[], Instance]) -> Instance:
    """An instance with stand-ins for the services of Docker and of CloudWatch."""
    instance = new_instance().start(systemd=True)
    bring_wheels(instance)
    for name in ("docker", "amazon-cloudwatch-agent"):
        instance.write(f"/usr/lib/systemd/system/{name}.service", UNIT, user="root")
    instance.run("systemctl", "daemon-reload", user="root")
    return instance


def carry_out(instance: Instance, playbook: str) -> None:
    """Run root's program by itself, as a script would: the samples have several kinds, which a script fetches."""
    instance.write("/root/program", part_of(playbook).content.decode("ascii"), user="root")
    instance.run("/usr/bin/python3", "-I", "-S", "/root/program", "100", "x", user="root", ok=False)


def pid(instance: Instance, unit: str) -> str:
    """The main process of a service."""
    return instance.run("systemctl", "show", "-P", "MainPID", unit).strip()


def test_the_folder_of_docker(kept: Instance) -> None:
    playbook = (SAMPLES / "docker-data-root.yml").read_text()
    kept.write(DAEMON, '{\n    "log-driver": "local",\n    "data-root": "/var/lib/docker"\n}\n', user="root")
    kept.shell(f"chown 0:1000 {DAEMON}; chmod 640 {DAEMON}; systemctl start docker", user="root")
    first = pid(kept, "docker")
    carry_out(kept, playbook)
    assert set(report(kept).values()) == {"changed"}, root_report(kept)
    text = kept.run("cat", DAEMON, user="root")
    assert text == '{\n    "log-driver": "local",\n    "data-root": "/home/ec2-user/SageMaker/docker"\n}\n'
    assert kept.run("stat", "-c", "%u:%g %a", DAEMON, user="root").strip() == "0:1000 640"
    second = pid(kept, "docker")
    assert second not in ("0", first), "it was restarted with the new folder"
    carry_out(kept, playbook)
    assert set(report(kept).values()) == {"ok"}
    assert pid(kept, "docker") == second


def test_the_settings_of_cloudwatch_are_merged(kept: Instance) -> None:
    playbook = (SAMPLES / "publish-instance-metrics.yml").read_text()
    logs = {"logs_collected": {"files": {"collect_list": [{"file_path": "/var/log/jupyter.log"}]}}}
    kept.write(AGENT, json.dumps({"logs": logs}), user="root")
    carry_out(kept, playbook)
    assert set(report(kept).values()) == {"changed"}, root_report(kept)
    data = json.loads(kept.run("cat", AGENT))
    assert data["logs"] == logs, "the platform's own logs stay"
    assert data["metrics"]["metrics_collected"]["mem"]["metrics_collection_interval"] == 60
    assert pid(kept, "amazon-cloudwatch-agent") != "0"
    carry_out(kept, playbook)
    assert set(report(kept).values()) == {"ok"}


def test_the_agent_of_the_systems_manager(kept: Instance) -> None:
    playbook = (SAMPLES / "disable-uninstall-ssm-agent.yml").read_text()
    build = r"""
mkdir -p /tmp/b/DEBIAN /tmp/b/lib/systemd/system; cd /tmp/b
printf 'Package: amazon-ssm-agent\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n' >DEBIAN/control
printf '[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n' >lib/systemd/system/amazon-ssm-agent.service
printf '#!/bin/sh\nsystemctl disable --now amazon-ssm-agent\n' >DEBIAN/prerm; chmod 755 DEBIAN/prerm
dpkg-deb --root-owner-group --build . /tmp/agent.deb; dpkg -i /tmp/agent.deb; systemctl enable --now amazon-ssm-agent
"""
    kept.shell(build, user="root")
    carry_out(kept, playbook)
    assert set(report(kept).values()) == {"changed"}, root_report(kept)
    assert kept.shell("dpkg-query -W -f '${db:Status-Status}' amazon-ssm-agent 2>/dev/null || true") in (
        "",
        "config-files",
    )
    assert kept.run("systemctl", "is-enabled", "amazon-ssm-agent", ok=False).strip() == "masked"
    carry_out(kept, playbook)
    assert set(report(kept).values()) == {"ok"}


def test_links_that_lead_elsewhere_are_not_followed(kept: Instance) -> None:
    task = f"- root_tasks:\n    - name: x\n      ensure_json: {{path: {DAEMON}, values: {{a: 1}}, scope: system}}\n"
    kept.shell("cd /home/ec2-user; echo '{}' >mine.json; mkdir -p folder; echo '{}' >folder/daemon.json")
    try:
        kept.shell(f"rm -f {DAEMON}; ln -s /home/ec2-user/mine.json {DAEMON}", user="root")
        carry_out(kept, task)
        assert root_report(kept)["x"] == ("failed", f"{DAEMON} is a link")
        kept.shell("rm -rf /etc/docker; ln -s /home/ec2-user/folder /etc/docker", user="root")
        carry_out(kept, task)
        status, why = root_report(kept)["x"]
        assert (status, "/etc/docker is not a folder of root's" in why) == ("failed", True)
        assert kept.shell("cat /home/ec2-user/mine.json /home/ec2-user/folder/daemon.json") == "{}\n{}\n"
        kept.shell("rm /etc/docker; mkdir /etc/docker; chown ec2-user /etc/docker", user="root")
        carry_out(kept, task)
        assert "can be changed by others than root" in root_report(kept)["x"][1]
    finally:
        kept.shell("rm -rf /etc/docker", user="root")

"""``ensure_mount``: what root is handed, what a run compares, and the link that is the user's own half."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nbprovision.engine.single import carry_out_alone
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.model.result import Result
from nbprovision.root import mount
from nbprovision.services.ensure_mount import EnsureMount

SOURCE = "files.example.com:/team"
ARN = '{"ResourceArn": "arn:aws:sagemaker:eu-west-1:111122223333:notebook-instance/team", "ResourceName": "team"}'


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine whose root folder is the test's."""
    root = tmp_path / "root"
    (root / "proc/self").mkdir(parents=True)
    (root / "opt/ml/metadata").mkdir(parents=True)
    (root / "opt/ml/metadata/resource-metadata.json").write_text(ARN)
    (root / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "user").mkdir()
    env = {"HOME": str(tmp_path / "user"), "PATH": "/usr/bin:/bin", "NBPROVISION_HOME": str(tmp_path / "home")}
    return Machine(env, root=root)


def mounted(machine: Machine, task: EnsureMount, *, unit: bool = True) -> None:
    """What root's part leaves: the mount unit, and the line in the table of mounts."""
    wanted: dict[str, Any] = dict(task.wanted())
    if unit:
        path = machine.root / "etc/systemd/system" / mount._unit(wanted)
        path.write_text(mount._text(wanted, str(machine.root)))
    line = f"99 1 0:55 / /mnt/{task.name} rw,nosuid shared:9 - nfs4 {task.source} rw\n"
    (machine.root / "proc/self/mountinfo").write_text("20 1 0:5 / /proc rw - proc proc rw\n" + line)


def compared(task: EnsureMount, machine: Machine) -> tuple[str, ...]:
    return task.read(machine).differences


def carried_out(task: EnsureMount, machine: Machine) -> Result:
    from nbprovision.engine.guard import Guard
    from nbprovision.engine.step import Step, carry_out

    return carry_out(Step(name="x", kind=task.kind(), task=task), machine, Guard([task], machine), check=False).result


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({"name": "../etc"}, "name"), ({"name": "a b"}, "name"), ({"name": "A"}, "name"), ({"name": "-o"}, "name"),
        ({"name": "a\n[Mount]"}, "name"), ({"name": ""}, "name"), ({"name": "a%n"}, "name"),
        ({"source": "-o suid"}, "source"), ({"source": "h:/x\nType=ext4"}, "source"), ({"source": "/dev/sda1"}, "source"),
        ({"source": "h:/../etc"}, "source"), ({"source": "h:/%h"}, "source"), ({"source": "fs-1:/"}, "source"),
        ({"source": "$(id):/x"}, "source"), ({"source": "h:/a b"}, "source"),
        ({"options": "suid"}, "options"), ({"options": "rw,dev"}, "options"), ({"options": ["a\nb"]}, "options"),
        ({"options": "a%n"}, "options"), ({"options": ""}, "options"),
        ({"source": "fs-0123456789abcdef0:/", "access_point": "fsap-1;id"}, "access_point"), ({"timeout": "1h"}, "timeout"), ({"timeout": "0s"}, "timeout"),
        ({"fstype": "nfs4", "tls": True}, "tls"), ({"fstype": "efs", "source": "host:/x"}, "source"), ({"fstype": "s3"}, "source"), ({"fstype": "lustre"}, "source"),
    ],
)  # fmt: skip
def test_what_could_become_roots_is_refused(parameters: dict[str, Any], key: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureMount(**{"name": "team", "source": SOURCE, **parameters})
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("parameters", "source", "kind", "options"),
    [
        ({"source": "fs-0123456789abcdef0:/"}, "fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com:/", "nfs4", "noresvport"),
        ({"source": "fs-0123456789abcdef0:/", "tls": True}, "fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com:/", "efs", "tls"),
        (
            {"source": "fs-0123456789abcdef0:/", "access_point": "fsap-0123456789abcdef0"},
            "fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com:/", "efs", "tls,accesspoint=fsap-0123456789abcdef0",
        ),
        ({"fstype": "nfs4"}, SOURCE, "nfs4", "noresvport"),
        ({"fstype": "nfs4", "options": ["ro", "soft,retry=0"]}, SOURCE, "nfs4", "nosuid,nodev,ro,soft,retry=0"),
        ({"fstype": "lustre", "source": "fs-1.fsx.eu-west-1.amazonaws.com@tcp:/fsx"}, "fs-1.fsx.eu-west-1.amazonaws.com@tcp:/fsx", "lustre", "flock"),
        ({"fstype": "s3", "source": "s3://team-bucket/data/"}, "s3://team-bucket/data/", "mount-s3", "allow-other"),
    ],
)  # fmt: skip
def test_the_unit(machine: Machine, parameters: dict[str, Any], source: str, kind: str, options: str) -> None:
    text = mount._text(
        dict(EnsureMount(**{"name": "team-a", "source": SOURCE, **parameters}).wanted()), str(machine.root)
    )
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert lines["What"] == source
    assert (lines["Type"], lines["Where"], lines["TimeoutSec"]) == (kind, "/mnt/team-a", "30")
    assert options in lines["Options"]
    assert lines["Options"].startswith("nosuid,nodev")


def test_its_name_is_escaped_as_systemd_does() -> None:
    assert mount._unit({"name": "team-a_b"}) == "mnt-team\\x2da_b.mount"


class TestARun:
    task = EnsureMount(name="team", source=SOURCE, fstype="nfs4")

    def test_drift_is_skipped_with_its_reason(self, machine: Machine) -> None:
        (machine.root / "proc/self/mountinfo").write_text("")
        result = carried_out(self.task, machine)
        assert result.status == "skipped"
        assert result.warnings == ("drift: render the script again", f"/mnt/team: mount {SOURCE}")

    def test_what_root_did_is_ok(self, machine: Machine) -> None:
        mounted(machine, self.task)
        assert carried_out(self.task, machine).status == "ok"

    def test_something_else_is_there(self, machine: Machine) -> None:
        mounted(machine, self.task, unit=False)
        assert compared(self.task, machine) == ("something else is mounted there",)

    def test_another_description(self, machine: Machine) -> None:
        mounted(machine, self.task)
        assert compared(EnsureMount(name="team", source=SOURCE, fstype="nfs4", timeout="9s"), machine) == (
            "mount it again",
        )

    def test_absent(self, machine: Machine) -> None:
        absent = EnsureMount(name="team", source=SOURCE, fstype="nfs4", state="absent")
        assert compared(absent, machine) == ()
        mounted(machine, self.task)
        assert compared(absent, machine) == ("unmount", "remove mnt-team.mount")

    def test_what_cannot_be_compared_fails_nothing(self, machine: Machine) -> None:
        (machine.root / "etc/systemd/system/mnt-team.mount").symlink_to("/etc/passwd")
        result = carried_out(self.task, machine)
        assert (result.status, result.error) == ("skipped", None)
        assert "is a link" in result.warnings[1]

    def test_the_single_task_of_the_api_is_skipped_too(self, env: dict[str, str]) -> None:
        assert carry_out_alone(self.task, home=Path(env["NBPROVISION_HOME"])).status == "skipped"


class TestTheLink:
    task = EnsureMount(name="team", source=SOURCE, fstype="nfs4", link="~/files/team")

    def test_it_is_made_once_the_file_system_is_there(self, machine: Machine) -> None:
        link = machine.path("~/files/team")
        (machine.root / "proc/self/mountinfo").write_text("")
        assert carried_out(self.task, machine).status == "skipped"
        assert not os.path.lexists(link)
        mounted(machine, self.task)
        assert carried_out(self.task, machine).status == "changed"
        assert os.readlink(link) == "/mnt/team"
        assert carried_out(self.task, machine).status == "ok"

    def test_what_cannot_be_compared_fails_nothing(self, machine: Machine) -> None:
        """Where the comparison itself decides whether a run does the user's half."""
        (machine.root / "etc/systemd/system/mnt-team.mount").symlink_to("/etc/passwd")
        result = carried_out(self.task, machine)
        assert (result.status, result.error) == ("skipped", None)
        assert "is a link" in result.warnings[1]

    def test_what_is_there_stays(self, machine: Machine) -> None:
        link = machine.path("~/files/team")
        link.mkdir(parents=True)
        mounted(machine, self.task)
        result = carried_out(self.task, machine)
        assert result.status == "ok"
        assert "is not a link to /mnt/team" in result.warnings[0]
        assert link.is_dir()

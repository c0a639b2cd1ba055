"""`ensure_mount` on an instance with systemd. No kernel here has NFS, so that `mount.nfs4` is a stand-in that mounts a tmpfs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.container.conftest import TOOL_HOME, VOLUME, Instance, InstanceFailed
from tests.container.test_lifecycle_script import bring_wheels
from tests.container.test_root_tasks import beginning_with, report, run_again, with_root

# By hand, beside the trial of each kind in test_root_tasks.py: many starts of an instance.
pytestmark = pytest.mark.campaign

PLAYBOOK = """\
- root_tasks:
    - name: The files
      ensure_mount: {name: team-a, source: "files.example.com:/team", fstype: nfs4, timeout: 40s, link: ~/SageMaker/team}
  tasks:
    - ensure_kernel: {name: small, argv: [/bin/cat, "{connection_file}"], display_name: Small}
"""
ANSWERS = 'printf \'#!/bin/sh\\nexec /bin/mount -i -t tmpfs -o size=1m,mode=700,nosuid,nodev "$1" "$2"\\n\' >/sbin/mount.nfs4; chmod 755 /sbin/mount.nfs4'
HANGS = "printf '#!/bin/sh\\nexec sleep 600\\n' >/sbin/mount.nfs4; chmod 755 /sbin/mount.nfs4"


def mounts(instance: Instance) -> list[str]:
    """What is mounted there, in the words of an independent tool."""
    return instance.run("findmnt", "-n", "-o", "FSTYPE,OPTIONS", "/mnt/team-a", user="root", ok=False).splitlines()


@pytest.fixture(scope="module")
def started(new_instance: Callable[[], Instance], tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """A start with a server that answers, and a link of the user's where root would mount."""
    instance = new_instance().start(systemd=True)
    bring_wheels(instance)
    instance.shell(f"mkdir -m 700 {VOLUME}/private; ln -s {VOLUME}/private {VOLUME}/other")
    instance.hook("on-start", beginning_with(ANSWERS, with_root(PLAYBOOK, tmp_path_factory.mktemp("script"))))
    instance.restart(systemd=True, seconds=280)
    assert report(instance) == {"The files": "changed"}
    return instance


def test_it_is_mounted_once_and_linked(started: Instance) -> None:
    (mounted,) = mounts(started)
    assert mounted.startswith("tmpfs")
    assert "nosuid" in mounted
    assert "nodev" in mounted
    assert started.run("readlink", f"{VOLUME}/team").strip() == "/mnt/team-a"
    assert started.run("stat", "-c", "%a", "/mnt/team-a", user="root").strip() == "700"  # as the server has it
    assert started.kernels()["small"] == "Small"
    last = started.run("cat", "/var/log/notebook-instance/LifecycleConfigOnStart.log", user="root").splitlines()[-1]
    assert last.startswith("nbprovision: done status=0"), last
    assert "root=" not in last


def test_again_it_changes_nothing(started: Instance) -> None:
    unit = started.shell("ls -l --time-style=full-iso /etc/systemd/system/mnt-*", user="root")
    output = run_again(started)
    assert "root: ok The files" in output
    assert len(mounts(started)) == 1
    assert started.shell("ls -l --time-style=full-iso /etc/systemd/system/mnt-*", user="root") == unit
    told = started.run(f"{TOOL_HOME}/bin/nbprovision", "run", f"{TOOL_HOME}/lifecycle/playbook/team.yml", ok=False)
    assert "skipped=0 failed=0" in told, told


def test_a_run_reports_drift_and_roots_own_run_too(started: Instance) -> None:
    started.run("umount", "/mnt/team-a", user="root")
    for user in ("ec2-user", "root"):
        told = started.run(
            f"{TOOL_HOME}/bin/nbprovision",
            "run",
            f"{TOOL_HOME}/lifecycle/playbook/team.yml",
            "--no-witness",
            user=user,
            ok=False,
        )
        if user == "ec2-user":
            assert "drift: render the script again" in told, told
        assert mounts(started) == []
    assert "root: changed The files" in run_again(started)
    assert len(mounts(started)) == 1


def test_a_server_that_does_not_answer_is_a_warning(new_instance: Callable[[], Instance], tmp_path: Path) -> None:
    """With --strict as well; the notebook starts, and the user's part has run."""
    instance = new_instance().start(systemd=True)
    bring_wheels(instance)
    script = with_root(PLAYBOOK.replace("40s", "4s"), tmp_path, strict=True)
    instance.hook("on-start", beginning_with(HANGS, script))
    instance.restart(systemd=True, seconds=280)
    assert report(instance) == {"The files": "warning"}
    assert instance.status("on-start") == 0
    assert instance.seconds("on-start") < 100
    assert instance.kernels()["small"] == "Small"
    assert mounts(instance) == []


def test_a_failure_with_strict_keeps_the_notebook_from_starting(
    new_instance: Callable[[], Instance], tmp_path: Path
) -> None:
    """Here because systemd does not run; without --strict the same is a line in the log."""
    instance = new_instance().start()
    bring_wheels(instance)
    instance.hook("on-start", with_root(PLAYBOOK, tmp_path))
    instance.restart(seconds=280)
    assert report(instance) == {"The files": "failed"}
    last = instance.output().splitlines()[-1]
    assert last.startswith("nbprovision: done status=0"), last
    assert " root=failed" in last, last
    instance.hook("on-start", with_root(PLAYBOOK, tmp_path, strict=True))
    instance.stop()
    with pytest.raises(InstanceFailed, match="systemd does not run here"):
        instance.start("on-start", seconds=280)

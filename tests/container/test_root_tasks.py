"""Root's part of a script on an instance with systemd, while the notebook's user does what he can to turn it on root."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.cli.lint import assumed
from nbprovision.lifecycle.playbook import root_calls
from nbprovision.lifecycle.render import BOOTSTRAP_NAME, bootstrap
from nbprovision.lifecycle.root_part import root_part
from nbprovision.model.errors import UsageError
from tests.container.conftest import TOOL_HOME, VOLUME, Instance
from tests.container.test_lifecycle_script import bring_wheels, from_wheels
from tests.container.test_trust import WON, WON_BY_PYTHON, of_root
from tests.support.authority_file import AUTHORITY

pytestmark = pytest.mark.sampled(3)

# A task of each kind, as `root_tasks` has it.
TRIALS = {
    "ensure_json": "{path: /etc/docker/daemon.json, values: {data-root: /srv/docker}, scope: system}",
    "ensure_ini": "{path: /etc/team/agent.conf, values: {agent: {level: 3}}, scope: system}",
    "ensure_system_pkg": "{packages: [no-such-agent], state: absent}",
    "ensure_service": "{name: no-such-agent, state: stopped, settings: {Service: {Nice: 5}}}",
    "ensure_idle_stop": "{after: 2h, dry_run: true}",
    "ensure_mount": "{name: team, source: 'files.example.com:/team', fstype: nfs4, timeout: 5s, link: ~/SageMaker/team}",
    "ensure_ca_cert": "{path: company-ca.pem, scope: system}",
    "ensure_schedule": "{name: report, every: 1h, missed: true, env: planted, shell: 'id -un'}",
}
# What the user can do before the next start: fake programs and modules in every place that is his, and links to root's files.
PLANTS = f"""
mkdir -p ~/bin ~/.local/bin {TOOL_HOME}/bin {VOLUME}/planted ~/.config/systemd/user ~/.local/lib/python3.9/site-packages
for p in python3 systemctl mount mount.nfs4 dpkg-query apt-get dnf rpm curl aws sha256sum base64 timeout env sh id jq openssl; do
    for d in ~/bin ~/.local/bin {TOOL_HOME}/bin {VOLUME}/planted; do printf '%s\\n' '#!/bin/sh' '{WON}' 'exit 0' >$d/$p; chmod 755 $d/$p; done
done
for m in sitecustomize usercustomize json os zlib base64; do echo "{WON_BY_PYTHON}" >~/.local/lib/python3.9/site-packages/$m.py; done
for f in .profile .bashrc .pam_environment; do echo 'export PYTHONPATH={VOLUME}/planted LD_LIBRARY_PATH={VOLUME}/planted' >~/$f; done
ln -sfn /etc {VOLUME}/team
ln -sf /etc/shadow {TOOL_HOME}/root.json
"""


def with_root(playbook: str, folder: Path, **options: object) -> str:
    """A script with the playbook in it, and root's part of its `root_tasks`."""
    path = folder / "team.yml"
    path.write_text(playbook)
    (folder / "company-ca.pem").write_text(AUTHORITY)
    part = root_part(root_calls(path, assumed("notebook-instance", {}, Path("/")), Catalogue(), {}))
    assert part is not None
    try:
        return from_wheels(playbook, root=part, **options)
    except UsageError:  # too large: it is fetched from S3, which no container reaches, so that it is there already
        script = from_wheels(playbook, root=part, assets_url="s3://team-bucket/nbprovision", **options)
        own = f"/usr/sbin/runuser -u ec2-user -- /bin/sh -c 'mkdir -p {TOOL_HOME}/lifecycle; cat >{TOOL_HOME}/lifecycle/{BOOTSTRAP_NAME}'"
        root = f"/bin/mkdir -p -m 700 /var/lib/nbprovision; /bin/cat >/var/lib/nbprovision/{part.name}"
        lines = [_fed(command, content) for command, content in ((root, part.content), (own, bootstrap()))]
        return beginning_with("\n".join(lines), script)


def _fed(command: str, content: bytes) -> str:
    """Shell lines that give a command such input."""
    return f"/usr/bin/base64 -d <<'END-OF-ASSET' | {{ {command}; }}\n{base64.encodebytes(content).decode()}END-OF-ASSET"


def beginning_with(line: str, script: str) -> str:
    """A script that runs a line of root's before all others: what the image would have."""
    head, rest = script.split("\n", 1)
    return f"{head}\n{line}\n{rest}"


def report(instance: Instance) -> dict[str, str]:
    """The status of each of root's tasks at this start, as the user may read it."""
    tasks = json.loads(instance.run("cat", "/run/nbprovision/root.json"))["tasks"]
    return {task["name"]: task["status"] for task in tasks}


def run_again(instance: Instance) -> str:
    """Run the script of this start once more, as root."""
    return instance.shell(
        "/usr/bin/env -i PATH=/sbin:/bin:/usr/sbin:/usr/bin /var/lib/lifecycle/on-start </dev/null 2>&1; echo status $?",
        user="root",
    )


@pytest.fixture(scope="module")
def prepared(new_instance: Callable[[], Instance]) -> Instance:
    """An instance with the tool on its volume."""
    instance = new_instance().start(systemd=True)
    bring_wheels(instance)
    return instance


@pytest.mark.parametrize("kind", TRIALS)
def test_root_is_not_won(prepared: Instance, tmp_path: Path, kind: str) -> None:
    playbook = f"- root_tasks:\n    - {kind}: {TRIALS[kind]}\n  tasks:\n    - ensure_file: {{path: ~/made}}\n"
    prepared.shell(PLANTS)
    prepared.hook("on-start", with_root(playbook, tmp_path))
    prepared.restart(systemd=True, seconds=200)
    prepared.shell(PLANTS)
    before = of_root(prepared)
    told = run_again(prepared)
    assert told.splitlines()[-1] == "status 0", told
    prepared.shell("/bin/sh -lc true", user="root")
    assert prepared.shell("ls -A /root/won 2>&1", user="root", ok=False).startswith("ls: cannot access")
    changed = set(of_root(prepared).splitlines()) ^ set(before.splitlines())
    assert {line.split()[0] for line in changed} <= {"/etc/profile.d/nbprovision.sh"}
    assert prepared.shell("find /home/ec2-user -xdev -user root", user="root") == ""

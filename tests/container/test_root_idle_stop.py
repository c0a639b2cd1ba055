"""`ensure_idle_stop` on an instance with systemd: the timer looks, the user can neither end nor deceive it, idle is stopped.

The instance's Jupyter server asks for no token here, as on the platform. `aws` is a stand-in of root's that writes down
its call; tests/services/test_idle_real_server.py has the real command.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.container.conftest import TOOL_HOME, Instance
from tests.container.test_lifecycle_script import bring_wheels
from tests.container.test_root_tasks import beginning_with, report, run_again, with_root
from tests.container.test_scenarios import wait_for
from tests.container.test_systemd import properties

PLAYBOOK = """\
- root_tasks:
    - name: Idle
      ensure_idle_stop: {after: 1m, every: 10s, grace: 0s, connections: false, keep_awake: 1h, dry_run: DRY}
  tasks:
    - ensure_kernel: {name: small, argv: [/bin/sh, -c, "sleep 3000; exit", "{connection_file}"], display_name: Small}
"""
OPEN = (
    "for f in $(grep -rl 'IdentityProvider.token' /home/ec2-user/.jupyter /home/ec2-user/anaconda3/envs/JupyterSystemEnv/etc /etc/jupyter"
    " 2>/dev/null); do sed -i 's/token = .*/token = \"\"/' $f; echo 'c.ServerApp.disable_check_xsrf = True' >>$f; done"
)
# It writes down each call, where only root and the service's user can.
AWS = """printf '#!/bin/sh\\n{ id -u; echo "$@"; } >>/run/nbprovision-idle/calls\\n' >/usr/bin/aws; chmod 755 /usr/bin/aws"""
CALLS = "/run/private/nbprovision-idle/calls"
HANGS = 300


def look(instance: Instance) -> dict[str, Any]:
    """The last decision, as the notebook's user reads it; empty while one is being written."""
    content: dict[str, Any] = json.loads(instance.run("cat", "/run/nbprovision/idle.json") or "{}")
    return content


def script_for(dry: str, folder: Path) -> str:
    """The on-start script, which opens Jupyter and brings the stand-in first."""
    return beginning_with(f"{OPEN}\n{AWS}", with_root(PLAYBOOK.replace("DRY", dry), folder))


def wait_for_look(instance: Instance, text: str) -> dict[str, Any]:
    """Wait for a decision with such a word in it."""
    seen: list[dict[str, Any]] = []

    def has_come() -> bool:
        seen.append(look(instance))
        return text in json.dumps(seen[-1])

    wait_for(has_come, HANGS, f"no decision with {text}: {seen[-3:]}")
    return seen[-1]


@pytest.fixture(scope="module")
def started(new_instance: Callable[[], Instance], tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """A start with the watcher that only says what it would do."""
    instance = new_instance().start(systemd=True)
    bring_wheels(instance)
    instance.hook("on-start", script_for("true", tmp_path_factory.mktemp("script")))
    return instance.restart(systemd=True, seconds=280)


def test_the_timer_runs_and_the_service_is_nobodys(started: Instance) -> None:
    assert report(started)["Idle"] in ("changed", "ok")  # ok after another test's second run of the script
    timer, service = (properties(started, f"nbprovision-idle.{kind}") for kind in ("timer", "service"))
    assert (timer["ActiveState"], timer["UnitFileState"]) == ("active", "enabled")
    assert service["DynamicUser"] == service["NoNewPrivileges"] == service["ProtectHome"] == "yes"
    assert service["ProtectSystem"] == "strict"
    wait_for_look(started, "the last use")
    assert properties(started, "nbprovision-idle.service")["Result"] == "success"
    assert "keep: " in started.run("journalctl", "--no-pager", "-u", "nbprovision-idle", user="root")
    shown = started.run(f"{TOOL_HOME}/bin/nbprovision", "status")
    assert "idle stop: " in shown, shown


def test_again_it_changes_nothing(started: Instance) -> None:
    files = "ls -l --time-style=full-iso /usr/lib/nbprovision /etc/systemd/system"
    before = started.shell(files, user="root")
    assert "root: ok Idle" in run_again(started)
    assert started.shell(files, user="root") == before
    told = started.run(f"{TOOL_HOME}/bin/nbprovision", "run", f"{TOOL_HOME}/lifecycle/playbook/team.yml", ok=False)
    assert "skipped=0 failed=0" in told, told


def test_its_user_can_neither_end_nor_change_it(started: Instance) -> None:
    for command in (
        "systemctl --no-ask-password stop nbprovision-idle.timer", "systemctl --no-ask-password disable nbprovision-idle.timer",
        "systemctl --no-ask-password mask --runtime nbprovision-idle.service",
        "echo x >/run/nbprovision/idle.json", "rm -f /run/nbprovision/idle.json", "mv /run/nbprovision /run/x",
        "echo x >>/usr/lib/nbprovision/idle_watch.py", "echo {} >/usr/lib/nbprovision/idle.json", "ls /run/private/nbprovision-idle",
        "rmdir /run/nbprovision-awake", "mv /run/nbprovision-awake /run/x", "echo x >/etc/systemd/system/nbprovision-idle.timer",
    ):  # fmt: skip
        shown = started.shell(f"({command}) 2>&1 && echo done", ok=False)
        assert "done" not in shown.splitlines(), f"{command}: {shown}"
    # While it looks, at a server that never answers, its process cannot be killed either.
    started.shell("systemctl start --no-block nbprovision-idle.service", user="root")
    kill = "kill -9 $pid 2>&1 || true; break"
    killed = started.shell(
        f"for i in $(seq 200); do pid=$(pgrep -f '[i]dle_watch.py' | head -n 1); [ -z \"$pid\" ] || {{ {kill}; }}; done",
        ok=False,
    )
    assert "not permitted" in killed, killed
    assert properties(started, "nbprovision-idle.timer")["ActiveState"] == "active"


def test_live_work_is_never_stopped_and_idle_is(started: Instance) -> None:
    """A program in a terminal; a hold, and one that is no time; then nothing."""
    process = started.shell(
        "nohup /home/ec2-user/anaconda3/bin/python -c 'while True: pass' >/dev/null 2>&1 & echo $!"
    ).strip()
    # Not "the last use, the user's processes took …, was 2m ago", of a look before.
    assert wait_for_look(started, """["the user's processes took""")["decision"] == "keep"
    started.run("kill", process)
    started.run(f"{TOOL_HOME}/bin/nbprovision", "keep-awake", "3h")
    held = wait_for_look(started, "keeps it awake")
    assert held["held"] <= held["time"] + 3600
    started.shell("rm /run/nbprovision-awake/until; ln -s /etc/shadow /run/nbprovision-awake/until")
    wait_for_look(started, "keep-awake: ")
    final = wait_for_look(started, "would stop")
    assert final["idle"] >= 60
    assert started.shell(f"ls {CALLS} 2>/dev/null || true", user="root") == ""


def test_it_stops_the_instance_by_the_systems_aws(instance: Instance, tmp_path: Path) -> None:
    """As its own user, by the whole path, whatever the notebook's user has put on his PATH."""
    instance.start(systemd=True)
    bring_wheels(instance)
    (tmp_path / "script").mkdir()
    instance.hook("on-start", script_for("false", tmp_path / "script"))
    instance.shell(
        "mkdir -p ~/bin; printf '#!/bin/sh\\ntouch /home/ec2-user/SageMaker/won\\n' >~/bin/aws; chmod 755 ~/bin/aws"
    )
    instance.restart(systemd=True, seconds=280)
    kernel = instance.api("kernels", "POST", {"name": "small"})  # it never answers: `starting` for ever
    wait_for_look(instance, '"decision": "stop"')
    assert [entry["execution_state"] for entry in instance.api("kernels") if entry["id"] == kernel["id"]] == [
        "starting"
    ]
    user, words = instance.run("cat", CALLS, user="root").splitlines()[:2]
    assert 61184 <= int(user) <= 65519, "a user of the service's own: systemd.exec(5), DynamicUser"
    assert words.startswith("sagemaker stop-notebook-instance --notebook-instance-name nbprovision --region us-east-1")
    assert instance.shell("ls ~/SageMaker/won 2>/dev/null || true") == ""

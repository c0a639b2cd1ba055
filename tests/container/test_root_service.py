"""Services on an instance with systemd, looked at by systemd's own commands."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.container.conftest import Instance
from tests.container.root_scripts import OWN, root_report, run_report, run_script, script_for
from tests.container.test_lifecycle_script import bring_wheels

# By hand, beside the trial of each kind in test_root_tasks.py: many starts of an instance.
pytestmark = pytest.mark.campaign

TASK = """\
- root_tasks:
    - name: the agent
      ensure_service: %s
"""
VALUE = 'it\'s 50% of "all" $HOME \\ back\nsecond\tline'


@pytest.fixture(scope="module")
def kept(new_instance: Callable[[], Instance]) -> Instance:
    """An instance with the tool, and a service that writes down its environment."""
    instance = new_instance().start(systemd=True)
    bring_wheels(instance)
    instance.write(
        "/usr/lib/systemd/system/agent.service",
        "[Service]\nExecStart=/bin/sh -c 'env -0 >/run/agent-env; exec sleep 1000'\n[Install]\nWantedBy=multi-user.target\n",
        user="root",
    )
    instance.write(
        "/usr/lib/systemd/system/stuck.service",
        "[Service]\nType=oneshot\nExecStart=/bin/sleep 1000\nTimeoutStartSec=infinity\n",
        user="root",
    )
    instance.run("systemctl", "daemon-reload", user="root")
    return instance


@pytest.fixture
def at_rest(kept: Instance) -> Instance:
    """The same with the service as it is after its installation, since the tests come in any order."""
    kept.shell(
        "systemctl unmask agent; systemctl disable --now agent; rm -rf /etc/systemd/system/agent.service.d /run/agent-env;"
        " systemctl daemon-reload",
        user="root",
    )
    return kept


def converge(instance: Instance, **task: object) -> tuple[str, str]:
    """Run a script with one task twice; what came of it first."""
    playbook = TASK % json.dumps({"name": "agent", **task})
    shown = run_script(instance, playbook)
    first = root_report(instance)["the agent"]
    assert first[0] in ("changed", "ok"), shown
    before = state(instance)
    run_script(instance, playbook)
    assert root_report(instance)["the agent"] == ("ok", "")
    assert state(instance) == before
    assert run_report(instance, playbook)["the agent"] == ("ok", [])
    return first


def state(instance: Instance, unit: str = "agent") -> dict[str, str]:
    """What systemd says of a service."""
    names = "ActiveState,UnitFileState,MainPID,LimitNOFILE,DropInPaths,NeedDaemonReload,Nice"
    shown = instance.run("systemctl", "show", "-p", names, unit)
    return dict(line.split("=", 1) for line in shown.splitlines())


def test_a_service_through_its_states(at_rest: Instance) -> None:
    kept = at_rest
    first = converge(
        kept, state="started", enabled=True, environment={"A": VALUE, "B": True}, settings={"Service": {"Nice": 5}}
    )
    assert first == ("changed", "write its settings; enable; start")
    started = state(kept)
    assert (started["ActiveState"], started["UnitFileState"], started["Nice"]) == ("active", "enabled", "5")
    assert started["DropInPaths"] == "/etc/systemd/system/agent.service.d/nbprovision.conf"
    kept.shell("for _ in $(seq 50); do [ -s /run/agent-env ] && exit; sleep 0.1; done", user="root")
    environment = kept.run("cat", "/run/agent-env", user="root").split("\0")
    assert f"A={VALUE}" in environment
    assert "B=true" in environment

    assert converge(kept, settings={"Service": {"Nice": 7}}) == ("changed", "write its settings")
    again = state(kept)
    assert (again["ActiveState"], again["Nice"], again["NeedDaemonReload"]) == ("active", "7", "no")
    assert again["MainPID"] != started["MainPID"], "it was restarted"

    assert converge(kept, state="stopped", enabled=False, masked=True)[1] == "mask; disable; stop"
    stopped = state(kept)
    assert (stopped["ActiveState"], stopped["UnitFileState"], stopped["MainPID"]) == ("inactive", "masked", "0")
    assert "masked" in kept.run("systemctl", "start", "agent", user="root", ok=False)

    assert converge(kept, masked=False, settings={}) == ("changed", "unmask; remove its settings")
    assert state(kept)["DropInPaths"] == ""
    assert state(kept)["ActiveState"] == "inactive", "nobody wanted it to start"


def test_drift_is_seen_by_the_users_run(at_rest: Instance) -> None:
    kept = at_rest
    playbook = TASK % "{name: agent, state: started}"
    converge(kept, state="started")
    kept.run("systemctl", "stop", "agent", user="root")
    assert run_report(kept, playbook)["the agent"] == (
        "skipped",
        ["drift: render the script again", "service agent: start"],
    )


def test_a_start_that_hangs_is_bounded(kept: Instance) -> None:
    playbook = (
        TASK % "{name: stuck, state: started, timeout: 3s}"
        + "  tasks: [{ensure_file: {path: /tmp/made, content: x}}]\n"
    )
    kept.shell("rm -f /tmp/made")
    try:
        shown = run_script(kept, playbook)
        assert root_report(kept)["the agent"] == ("failed", "systemctl took more than 3 s")
        assert "root=failed" in shown.splitlines()[-1]
        assert kept.run("cat", "/tmp/made") == "x"
    finally:
        kept.run("systemctl", "stop", "stuck", user="root")


def test_a_service_that_is_missing(kept: Instance) -> None:
    run_script(kept, TASK % "{name: missing, state: started}")
    status, why = root_report(kept)["the agent"]
    assert (status, "missing.service not found" in why) == ("failed", True), why
    run_script(kept, TASK % "{name: missing, state: stopped, enabled: false}")
    assert root_report(kept)["the agent"] == ("ok", "")


def test_the_user_cannot_turn_it_on_root(at_rest: Instance) -> None:
    """Units, drop-ins and programs of the user's, in every place that is theirs."""
    kept = at_rest
    won = 'if [ "$(/usr/bin/id -u)" = 0 ]; then /usr/bin/touch /root/won; fi'
    kept.shell(f"""
for folder in ~/bin ~/.local/bin /tmp ~; do
    mkdir -p $folder; printf '%s\\n' '#!/bin/sh' '{won}' >$folder/systemctl; chmod 755 $folder/systemctl
done
mkdir -p ~/.config/systemd/user/agent.service.d ~/.local/share/systemd/user
printf '[Service]\\nExecStartPre=+/usr/bin/touch /root/won\\n' | tee ~/.config/systemd/user/agent.service.d/x.conf >~/.config/systemd/user/agent.service
""")
    kept.shell("rm -f /root/won; systemctl stop agent", user="root")
    converge(kept, state="started", settings={"Service": {"Nice": 3}})
    assert state(kept)["ActiveState"] == "active"
    assert "won" not in kept.run("ls", "-A", "/root", user="root")


def test_jupyter_gets_its_settings_when_the_script_has_ended(new_instance: Callable[[], Instance]) -> None:
    """As at a real start: the script's unit is before Jupyter's, which is restarted only if it ran."""
    kept = new_instance().start(systemd=True)
    bring_wheels(kept)
    playbook = TASK % "{name: jupyter-server, settings: {Service: {Nice: 3}}}"
    kept.write(OWN, playbook)
    kept.hook("on-start", script_for(playbook))
    kept.restart(systemd=True, seconds=300)
    assert root_report(kept)["the agent"][0] == "changed"
    first = state(kept, "jupyter-server")["MainPID"]
    assert kept.run("ps", "-o", "ni=", "-p", first).strip() == "3"
    again = playbook.replace("3", "5")
    kept.hook("on-start", script_for(again))  # Jupyter requires the unit of the script, which a restart runs again
    run_script(kept, again)
    kept.shell(f"""
for _ in $(seq 600); do
    pid=$(systemctl show -P MainPID jupyter-server)
    [ "$pid" = {first} ] || [ "$(ps -o ni= -p "$pid" | tr -d ' ')" != 5 ] || exit 0
    sleep 0.1
done
exit 1""")

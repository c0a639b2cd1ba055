"""Schedules on an instance with systemd: root's timers run the user's commands as the user, and nothing of it as root."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.container.conftest import TOOL_HOME, VOLUME, Instance
from tests.container.test_lifecycle_script import bring_wheels
from tests.container.test_root_tasks import report, run_again, with_root
from tests.container.test_scenarios import wait_for
from tests.container.test_systemd import properties
from tests.container.test_trust import of_root

# By hand, beside the trial of each kind in test_root_tasks.py: many starts of an instance.
pytestmark = pytest.mark.campaign

FOLDER = f"{TOOL_HOME}/schedules"
TIMER, SERVICE = "nbprovision-schedule-tick.timer", "nbprovision-schedule-tick.service"
COMMAND = "echo $(id -un) $PWD %n; echo $VIRTUAL_ENV; command -v nbprovision"
PLAYBOOK = f"""\
- root_tasks:
    - name: Tick
      ensure_schedule:
        name: tick
        every: 1h
        missed: true
        env: ~/SageMaker/planted
        shell: '{COMMAND}'
    - name: Nightly
      ensure_schedule: {{name: nightly, at: "*-*-* 00:00", missed: true, argv: [touch, SageMaker/nightly]}}
    - name: Hangs
      ensure_schedule: {{name: hangs, at: "Mon..Fri 08:30", timeout: 2s, shell: "sleep 600 & sleep 601"}}
  tasks:
    - ensure_file: {{path: ~/made}}
"""
ABSENT = "- root_tasks:\n    - name: Tick\n      ensure_schedule: {name: tick, state: absent}\n  tasks:\n    - ensure_file: {path: ~/made}\n"
# What the user can do in his own folders before root's part: links to root's files in the place of each that is written.
PLANTS = f"""
mkdir -p {FOLDER}
for name in tick.log .tick.new tick.lock .tick.pipe; do ln -sfn /etc/shadow {FOLDER}/$name; done
ln -sfn /etc/nbprovision {FOLDER}/hangs.json
"""


@pytest.fixture(scope="module")
def started(new_instance: Callable[[], Instance], tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """An instance whose script has set up the schedules."""
    instance = new_instance().start(systemd=True)
    bring_wheels(instance)
    instance.shell(
        f"/home/ec2-user/anaconda3/bin/python -m venv --without-pip {VOLUME}/planted || python3 -m venv --without-pip {VOLUME}/planted"
    )
    instance.hook("on-start", with_root(PLAYBOOK, tmp_path_factory.mktemp("playbook")))
    instance.restart(systemd=True, seconds=280)
    assert report(instance) == {"Tick": "changed", "Nightly": "changed", "Hangs": "changed"}
    return instance


def set_up(instance: Instance, playbook: str, folder: Path) -> None:
    """Run the script of another playbook, as the next start would."""
    instance.hook("on-start", with_root(playbook, folder))
    instance.shell("cp /opt/lifecycle/on-start /var/lib/lifecycle/on-start", user="root")
    assert run_again(instance).splitlines()[-1] == "status 0"


def record(instance: Instance, name: str) -> dict[str, object]:
    text = instance.run("cat", f"{FOLDER}/{name}.json", ok=False)
    content: dict[str, object] = json.loads(text) if text.startswith("{") else {}
    return content


def ended(instance: Instance, name: str) -> Callable[[], bool]:
    return lambda: record(instance, name).get("ended") is not None


def test_the_first_run_comes_soon_and_is_the_users(started: Instance) -> None:
    assert properties(started, TIMER)["ActiveState"] == "active"
    assert properties(started, TIMER)["UnitFileState"] == "enabled"
    shown = properties(started, SERVICE)
    assert (shown["User"], shown["Type"], shown["CPUWeight"]) == ("ec2-user", "oneshot", "20")
    wait_for(ended(started, "tick"), 120, "the schedule does not run")
    log = started.run("cat", f"{FOLDER}/tick.log")
    assert record(started, "tick")["status"] == 0, log
    assert log.splitlines()[1:] == [
        "ec2-user /home/ec2-user %n",
        f"{VOLUME}/planted",
        f"{TOOL_HOME}/bin/nbprovision",
    ]
    assert started.shell(f"find {FOLDER} ! -user ec2-user", user="root") == ""
    assert started.shell("find /home/ec2-user -xdev -user root", user="root") == ""


def test_status_shows_them(started: Instance) -> None:
    wait_for(ended(started, "tick"), 120, "the schedule does not run")
    entries = json.loads(started.run(f"{TOOL_HOME}/bin/nbprovision", "status", "--format", "json"))["schedules"]
    by_name = {entry["name"]: entry for entry in entries}
    assert set(by_name) == {"tick", "nightly", "hangs"}
    assert by_name["tick"]["state"] == "ok"
    # The next time of a calendar event, as systemd itself has it.
    following = int(
        properties(started, "nbprovision-schedule-hangs.timer")["NextElapseUSecRealtime"]
        and started.shell(
            'date -d "$(systemctl show -P NextElapseUSecRealtime nbprovision-schedule-hangs.timer)" +%s', user="root"
        )
    )
    assert by_name["hangs"]["next"] == following
    text = started.run(f"{TOOL_HOME}/bin/nbprovision", "status")
    assert "schedule tick, every 1h: ok (" in text


def test_a_second_run_of_the_script_changes_nothing(started: Instance) -> None:
    before = of_root(started)
    assert run_again(started).splitlines()[-1] == "status 0"
    assert set(report(started).values()) == {"ok"}
    assert {line.split()[0] for line in set(of_root(started).splitlines()) ^ set(before.splitlines())} <= {
        "/etc/profile.d/nbprovision.sh"
    }
    result = json.loads(started.run(f"{TOOL_HOME}/bin/nbprovision", "status", "--format", "json"))
    assert result["last"]["counts"]["failed"] == 0


def test_a_run_that_hangs_is_ended_with_its_children(started: Instance) -> None:
    started.run("systemctl", "start", "nbprovision-schedule-hangs.service", user="root", ok=False)
    wait_for(ended(started, "hangs"), 60, "the time limit does not end it")
    assert record(started, "hangs")["reason"] == "timeout"
    wait_for(lambda: started.run("pgrep", "-u", "ec2-user", "sleep", ok=False) == "", 30, "a child is left")


def test_a_missed_run_is_made_up_for_after_a_stop(started: Instance) -> None:
    """The root volume is new, and systemd's own stamps are gone with it; the record is on the volume."""
    old = int(time.time()) - 3 * 86400
    line = f'{{"started": {old}, "ended": {old}, "status": 0, "reason": ""}}'
    started.shell(f"mkdir -p {FOLDER}; echo '{line}' >{FOLDER}/nightly.json; rm -f {VOLUME}/nightly")
    recent = record(started, "tick")
    started.restart(systemd=True, seconds=280)
    wait_for(lambda: record(started, "nightly").get("started") not in (old, None), 120, "the missed run does not come")
    started.run("ls", f"{VOLUME}/nightly")
    if recent and time.time() - float(str(recent["started"])) < 3000:
        assert record(started, "tick") == recent  # it is not due yet


def test_links_of_the_users_do_not_win_root(started: Instance) -> None:
    started.shell(f"rm -f {FOLDER}/*; {PLANTS}")
    before = started.shell("stat -c '%s %Y %Z' /etc/shadow; cat /etc/shadow; ls -la /etc/nbprovision", user="root")
    for name in ("tick", "hangs"):
        started.run("systemctl", "start", f"nbprovision-schedule-{name}.service", user="root", ok=False)
    assert (
        started.shell("stat -c '%s %Y %Z' /etc/shadow; cat /etc/shadow; ls -la /etc/nbprovision", user="root") == before
    )
    assert run_again(started).splitlines()[-1] == "status 0"
    started.shell(f"rm -rf {FOLDER}; ln -s /etc/nbprovision {FOLDER}")
    started.run("systemctl", "start", SERVICE, user="root", ok=False)
    assert (
        started.shell("ls -la /etc/nbprovision /etc/nbprovision/schedules; cat /etc/shadow", user="root").count("tick.")
        == 0
    )
    started.shell(f"rm -f {FOLDER}")


def test_without_rights_the_user_cannot_change_the_timer(started: Instance) -> None:
    for words in (["stop", TIMER], ["start", SERVICE], ["edit", SERVICE]):
        started.shell(f"systemctl --no-ask-password {' '.join(words)} </dev/null >/dev/null 2>&1 && echo won || true")
    assert properties(started, TIMER)["ActiveState"] == "active"
    assert "Permission denied" in started.shell("echo x 2>&1 >/etc/nbprovision/schedules/tick", ok=False)


def test_absent_ends_it(started: Instance, tmp_path: Path) -> None:
    set_up(started, ABSENT, tmp_path)
    assert report(started) == {"Tick": "changed"}
    assert properties(started, TIMER)["LoadState"] == "not-found"
    assert started.run("ls", "/etc/nbprovision/schedules").split() == ["hangs", "nightly"]
    set_up(started, PLAYBOOK, tmp_path)  # the other tests come in any order

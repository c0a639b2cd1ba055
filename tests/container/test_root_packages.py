"""Packages of the system on an instance with systemd, by the real apt and dpkg from a repository that the test builds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.container.conftest import Instance
from tests.container.root_scripts import root_report, run_report, run_script
from tests.container.test_lifecycle_script import bring_wheels

# By hand, beside the trial of each kind in test_root_tasks.py: many starts of an instance.
pytestmark = pytest.mark.campaign

TASKS = """\
- root_tasks:
    - name: the agent
      ensure_system_pkg: {packages: [small-agent], timeout: %s, state: %s}
  tasks:
    - ensure_file: {path: /tmp/made, content: x}
"""
# A package with a service, as debhelper makes its scripts; and one that needs it.
REPOSITORY = r"""
mkdir -p /srv/repository && cd /srv/repository
mkdir -p agent/DEBIAN agent/lib/systemd/system agent/usr/sbin user/DEBIAN
printf 'Package: small-agent\nVersion: %s\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n' "$VERSION" >agent/DEBIAN/control
printf '[Service]\nExecStart=/usr/sbin/small-agent\n[Install]\nWantedBy=multi-user.target\n' >agent/lib/systemd/system/small-agent.service
printf '#!/bin/sh\nexec sleep 1000\n' >agent/usr/sbin/small-agent
cat >agent/DEBIAN/postinst <<'END'
#!/bin/sh
set -e
echo "$(id -u) $PATH" >/root/postinst-ran
if [ -e /root/slow ]; then sleep 60; fi
systemctl daemon-reload
systemctl enable --now small-agent.service
END
cat >agent/DEBIAN/prerm <<'END'
#!/bin/sh
set -e
systemctl disable --now small-agent.service
END
chmod 755 agent/DEBIAN/p* agent/usr/sbin/small-agent
printf 'Package: agent-user\nVersion: 1\nArchitecture: all\nDepends: small-agent\nRecommends: small-agent\nMaintainer: x <x@example.com>\nDescription: x\n' >user/DEBIAN/control
: >Packages
for p in agent user; do
    dpkg-deb --root-owner-group --build $p $p.deb >/dev/null
    cat $p/DEBIAN/control >>Packages
    printf 'Filename: ./%s.deb\nSize: %s\nSHA256: %s\n\n' $p "$(stat -c %s $p.deb)" "$(sha256sum <$p.deb | cut -d' ' -f1)" >>Packages
done
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/repository ./' >/etc/apt/sources.list.d/test.list
"""


@pytest.fixture(scope="module")
def kept(new_instance: Callable[[], Instance]) -> Instance:
    """An instance with the tool, and a repository of which apt has no list yet."""
    instance = new_instance().start(systemd=True)
    bring_wheels(instance)
    instance.shell(f"VERSION=1; {REPOSITORY}", user="root")
    return instance


@pytest.fixture
def clean(kept: Instance) -> Instance:
    kept.shell(
        "rm -f /root/slow /root/postinst-ran; for _ in $(seq 40); do dpkg --configure -a && break; sleep 1; done; dpkg --purge agent-user small-agent; rm -rf /var/lib/apt/lists/*",
        user="root",
    )
    return kept


def installed(instance: Instance) -> str:
    """The states of the package, as dpkg has them."""
    return instance.shell("dpkg-query -W -f '${db:Status-Status}' small-agent 2>/dev/null || true")


def active(instance: Instance) -> str:
    """Whether the service runs, by systemd."""
    return instance.run("systemctl", "is-active", "small-agent.service", ok=False).strip()


def test_it_is_installed_and_removed_with_its_service(clean: Instance) -> None:
    present = TASKS % ("60s", "present")
    shown = run_script(clean, present)
    assert root_report(clean) == {"the agent": ("changed", "install small-agent")}, shown
    assert "root: changed the agent: install small-agent" in shown
    assert shown.splitlines()[-1].startswith("nbprovision: done status=0"), shown
    assert (installed(clean), active(clean)) == ("installed", "active")
    assert clean.run("cat", "/root/postinst-ran", user="root").startswith("0 /usr/sbin:/usr/bin:")
    assert run_report(clean, present)["the agent"] == ("ok", [])
    before = clean.run(
        "stat", "-c", "%Y %i", "/var/lib/dpkg/status", "/var/lib/apt/lists", "/var/cache/apt/pkgcache.bin"
    )
    run_script(clean, present)
    assert root_report(clean) == {"the agent": ("ok", "")}
    after = clean.run(
        "stat", "-c", "%Y %i", "/var/lib/dpkg/status", "/var/lib/apt/lists", "/var/cache/apt/pkgcache.bin"
    )
    assert after == before, "neither apt nor dpkg ran"

    absent = TASKS % ("60s", "absent")
    assert run_report(clean, absent)["the agent"] == (
        "skipped",
        ["drift: render the script again", "system packages: remove small-agent"],
    )
    run_script(clean, absent)
    assert root_report(clean) == {"the agent": ("changed", "remove small-agent")}
    assert (installed(clean) in ("", "config-files"), active(clean)) == (True, "inactive")
    assert clean.shell("pgrep -f '[s]leep 1000' || true") == ""
    assert run_report(clean, absent)["the agent"] == ("ok", [])


def test_what_was_killed_is_completed_at_the_next_start(clean: Instance) -> None:
    clean.shell("touch /root/slow", user="root")
    shown = run_script(clean, TASKS % ("8s", "present"))
    status, why = root_report(clean)["the agent"]
    assert status == "failed", shown
    assert "took more than" in why
    assert "root=failed" in shown.splitlines()[-1]
    assert clean.run("cat", "/tmp/made") == "x", "the user's part went on"
    assert installed(clean) == "half-configured"
    assert clean.shell("pgrep -f '[s]leep 60' || true") == "", "what was cut off has ended"
    clean.shell("rm /root/slow", user="root")
    run_script(clean, TASKS % ("8s", "present"))
    assert root_report(clean) == {"the agent": ("changed", "install small-agent")}
    assert (installed(clean), active(clean)) == ("installed", "active")


def test_the_lock_of_another_apt_is_waited_for_in_bounds(clean: Instance) -> None:
    clean.shell(
        'nohup /usr/bin/python3 -c \'import fcntl, time; f = open("/var/lib/dpkg/lock-frontend", "w");'
        "fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(25)' >/dev/null 2>&1 & sleep 1",
        user="root",
    )
    run_script(clean, TASKS % ("12s", "present"))
    status, why = root_report(clean)["the agent"]
    assert (status, "lock" in why) == ("failed", True), why
    run_script(clean, TASKS % ("100s", "present"))
    assert root_report(clean)["the agent"][0] == "changed"


def test_nothing_else_is_removed(clean: Instance) -> None:
    clean.shell("apt-get update; apt-get install -y agent-user", user="root")
    try:
        run_script(clean, TASKS % ("60s", "absent"))
        assert root_report(clean)["the agent"] == ("failed", "agent-user would go as well, and nothing is removed")
        assert (installed(clean), active(clean)) == ("installed", "active")
    finally:
        clean.shell("apt-get purge -y agent-user", user="root")


def test_no_name_is_a_pattern(clean: Instance) -> None:
    """apt-get takes a name that no package has for a regular expression, and a + at its end for a command."""
    for name in ("small.agent", "small-agent+"):
        tasks = (TASKS % ("60s", "present")).replace("[small-agent]", f"['{name}']")
        run_script(clean, tasks)
        assert root_report(clean)["the agent"] == ("failed", f"no source has the package {name}")
    assert installed(clean) == ""


def test_a_source_that_does_not_answer_is_a_warning(clean: Instance) -> None:
    clean.shell(
        "mv /etc/apt/sources.list.d/test.list /root/; echo 'deb [trusted=yes] http://127.0.0.1:9/ ./' >/etc/apt/sources.list.d/far.list",
        user="root",
    )
    try:
        shown = run_script(clean, TASKS % ("60s", "present"))
        assert root_report(clean)["the agent"][0] == "warning"
        assert "nbprovision: done status=0" in shown.splitlines()[-1]
        assert "root=" not in shown.splitlines()[-1]
    finally:
        clean.shell("rm /etc/apt/sources.list.d/far.list; mv /root/test.list /etc/apt/sources.list.d/", user="root")


def test_the_user_cannot_turn_it_on_root(clean: Instance) -> None:
    """Programs, settings of apt and packages of the user's, in every place that is theirs."""
    won = 'if [ "$(/usr/bin/id -u)" = 0 ]; then /usr/bin/touch /root/won; fi'
    plant = f"""
for folder in ~/bin ~/.local/bin /tmp ~; do
    mkdir -p $folder
    for p in apt-get apt-cache dpkg rpm dnf sh sleep; do printf '%s\\n' '#!/bin/sh' '{won}' >$folder/$p; chmod 755 $folder/$p; done
done
printf 'APT::Update::Pre-Invoke {{"/usr/bin/touch /root/won";}};\\n' >~/apt.conf; cp ~/apt.conf ~/.aptrc
printf 'post-invoke=touch /root/won\\n' >~/.dpkg.cfg
mkdir -p ~/small-agent; cp /srv/repository/user.deb ~/small-agent.deb
"""
    clean.shell(plant)
    clean.shell("rm -f /root/won", user="root")
    run_script(clean, TASKS % ("60s", "present"))
    assert root_report(clean)["the agent"][0] == "changed"
    assert "won" not in clean.run("ls", "-A", "/root", user="root")

"""The notebook's user tries to win root by way of the lifecycle script, and fails each time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.container.conftest import TOOL_HOME, VOLUME, Instance
from tests.container.test_lifecycle_script import bring_wheels, from_wheels

pytestmark = pytest.mark.sampled(3)

PLAYBOOK = """\
- tasks:
    - ensure_kernel: {name: small, argv: [/bin/cat, "{connection_file}"], display_name: Small}
    - ensure_pip_index: {url: "https://index.example/simple"}
"""
# What is planted tells whether root ever runs it.
WON = 'if [ "$(/usr/bin/id -u)" = 0 ]; then /usr/bin/touch /root/won; fi'
WON_BY_PYTHON = "import os; os.getuid() or open('/root/won', 'w').close()"
SITE = f"$(ls -d {TOOL_HOME}/venv/lib/python3.*/site-packages)"
OWN = f"{TOOL_HOME}/lifecycle"
PLANTS = {
    "the playbook": f"""printf '%s' '- tasks: [{{ensure_kernel: {{name: x, scope: system, argv: [/bin/cat, "{{connection_file}}"]}}}}]' >{OWN}/playbook.yml""",
    "the bootstrap": f"echo '{WON}' >>{OWN}/bootstrap.sh",
    "the tool's python": f"mv {TOOL_HOME}/venv/bin/python {TOOL_HOME}/venv/bin/real; printf '%s\\n' '#!/bin/sh' '{WON}' 'exec \"${{0%/*}}/real\" \"$@\"' >{TOOL_HOME}/venv/bin/python; chmod 755 {TOOL_HOME}/venv/bin/python",
    "the command": f"printf '%s\\n' '#!/bin/sh' '{WON}' >{TOOL_HOME}/venv/bin/nbprovision; chmod 755 {TOOL_HOME}/venv/bin/nbprovision",
    "a .pth": f'echo "{WON_BY_PYTHON}" >{SITE}/zz.pth',
    "a sitecustomize": f'echo "{WON_BY_PYTHON}" >{SITE}/sitecustomize.py',
    "a user's sitecustomize": f'mkdir -p ~/.local/lib/python3.11/site-packages; echo "{WON_BY_PYTHON}" >~/.local/lib/python3.11/site-packages/usercustomize.py',
    "the state": f"for f in {TOOL_HOME}/state/*; do echo '{WON}' >$f; done",
    "the lock, a link": f"ln -sf /etc/shadow {TOOL_HOME}/lock",
    "the log, a link": f"rm -rf {TOOL_HOME}/log; ln -s /etc {TOOL_HOME}/log",
    "the folder of the script, a link": f"rm -rf {OWN}; ln -s /etc {OWN}",
    "the home folder, a link": f"mv {TOOL_HOME} {TOOL_HOME}.real; ln -s /root {TOOL_HOME}",
    "the kernels, a link": "rm -rf ~/.local/share/jupyter; mkdir -p ~/.local/share; ln -s /etc ~/.local/share/jupyter",
    "pip.conf, a link": "mkdir -p ~/.config/pip; ln -sf /etc/passwd ~/.config/pip/pip.conf",
    "a .profile": f"for f in .profile .bashrc .bash_profile .shrc; do echo '{WON}' >~/$f; done",
    "a PYTHONPATH": f"mkdir -p {VOLUME}/planted; echo \"{WON_BY_PYTHON}\" | tee {VOLUME}/planted/sitecustomize.py >{VOLUME}/planted/os.py; for f in .profile .bashrc .pam_environment .config/environment; do mkdir -p ~/.config; echo 'export PYTHONPATH={VOLUME}/planted' >~/$f; done",
    "programs on the PATH": f"mkdir -p ~/bin ~/.local/bin {TOOL_HOME}/bin; for p in sh id cat timeout env python3 runuser systemd-run; do for d in ~/bin ~/.local/bin {TOOL_HOME}/bin; do printf '%s\\n' '#!/bin/sh' '{WON}' >$d/$p; chmod 755 $d/$p; done; done",
    "the status file, a link": f"ln -sf /etc/passwd {VOLUME}/nbprovision-status.txt",
}  # fmt: skip


@pytest.fixture(scope="module")
def kept(new_instance: Callable[[], Instance]) -> Instance:
    """An instance that was provisioned, with a copy of all that its user may change."""
    instance = new_instance().start()
    bring_wheels(instance)
    instance.hook("on-start", from_wheels(PLAYBOOK))
    instance.restart(seconds=280)
    instance.shell(f"cd / && tar -cf /tmp/kept.tar {VOLUME[1:]} home/ec2-user/.config home/ec2-user/.local")
    return instance


def of_root(instance: Instance) -> str:
    """All that only root may change, as far as a script could."""
    return instance.shell("find /etc /root /usr/local/bin -type f -printf '%p %m %u %s %T@\\n' | sort", user="root")


@pytest.mark.parametrize("name", PLANTS)
def test_root_is_not_won(kept: Instance, name: str) -> None:
    kept.shell("rm -f /root/won", user="root")
    kept.shell(PLANTS[name])
    before = of_root(kept)
    try:
        told = kept.shell(
            "/usr/bin/env -i PATH=/sbin:/bin:/usr/sbin:/usr/bin /var/lib/lifecycle/on-start </dev/null 2>&1; echo status $?",
            user="root",
        )
        assert told.splitlines()[-1] == "status 0", told
        kept.shell("/bin/sh -lc true", user="root")  # root's own terminal
        after = of_root(kept)
        changed = set(after.splitlines()) ^ set(before.splitlines())
        assert {line.split()[0] for line in changed} <= {"/etc/profile.d/nbprovision.sh"}
        assert kept.shell("ls -A /root/won 2>&1", user="root", ok=False).startswith("ls: cannot access")
    finally:
        kept.shell(
            f"rm -rf ~/.config ~/.local ~/bin ~/.profile ~/.bashrc ~/.bash_profile ~/.shrc {TOOL_HOME} {TOOL_HOME}.real;"
            f"rm -f {VOLUME}/nbprovision-status.txt; cd / && tar -xf /tmp/kept.tar"
        )


def test_a_task_that_needs_root_is_refused_by_name(kept: Instance) -> None:
    kept.write(
        "/tmp/system.yml",
        '- tasks: [{ensure_kernel: {name: x, scope: system, argv: [/bin/cat, "{connection_file}"]}}]\n',
    )
    told = kept.run(f"{TOOL_HOME}/venv/bin/nbprovision", "run", "/tmp/system.yml", ok=False)
    assert "ensure_kernel" in told
    assert "not this user's to change" in told

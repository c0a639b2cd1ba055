"""Root's part of a lifecycle script beside a user who runs what he likes: what reaches him, and what he can do to it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.container.conftest import TOOL_HOME, VOLUME, Instance
from tests.container.test_lifecycle_script import bring_wheels, from_wheels

PLAYBOOK = """\
- tasks:
    - ensure_kernel: {name: small, argv: [/bin/cat, "{connection_file}"], display_name: Small}
"""
PYTHON = f"{TOOL_HOME}/venv/bin/python"
SCRIPT = "/usr/bin/env -i PATH=/sbin:/bin:/usr/sbin:/usr/bin /var/lib/lifecycle/on-start"
BOTH = "/home/ec2-user/anaconda3/bin/python"


@pytest.fixture(scope="module")
def kept(new_instance: Callable[[], Instance]) -> Instance:
    """An instance that was provisioned."""
    instance = new_instance().start()
    bring_wheels(instance)
    instance.hook("on-start", from_wheels(PLAYBOOK, seconds=60))
    return instance.restart(seconds=280)


@pytest.fixture
def planted(kept: Instance) -> Iterator[Callable[[str], Instance]]:
    """Has the tool's Python do something else before it does its work."""

    def plant(script: str) -> Instance:
        kept.write(f"{PYTHON}.planted", f'#!/bin/bash\n{script}\nexec {PYTHON}.real "$@"\n')
        kept.shell(f"mv {PYTHON} {PYTHON}.real; chmod 755 {PYTHON}.planted; mv {PYTHON}.planted {PYTHON}")
        # What bootstrap.sh compares with, so that it does not look closer.
        kept.shell(
            f"cd {TOOL_HOME}/venv; sed -i \"3s/.*/$(stat -L -c '%s %Y' bin/python)/\" .complete; touch -d +1hour .complete"
        )
        return kept

    yield plant
    kept.shell(
        f"test ! -e {PYTHON}.real || mv -f {PYTHON}.real {PYTHON}; rm -f /tmp/seen*; touch {TOOL_HOME}/venv/.complete; pkill sleep || true",
        ok=False,
    )


def test_neither_terminal_nor_descriptors_nor_variables_reach_the_user(planted: Callable[[str], Instance]) -> None:
    """By the state that the attack needs: a process of the user's is in a session of its own, without a terminal."""
    instance = planted("ps -o sid=,tty= -p $$ >/tmp/seen; ls /proc/$$/fd >/tmp/seen-fd; env >/tmp/seen-env")
    # `script` would be a program more; docker gives root a terminal of its own.
    command = ["docker", "exec", "--tty", "--user", "root", "--env", "SECRET=root's", instance.container, "/bin/bash", "-c",
               f"exec 7</etc/shadow 23</etc/shadow; ps -o sid=,tty= -p $$ >/root/own; {SCRIPT.rsplit(maxsplit=1)[-1]}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    own = instance.run("cat", "/root/own", user="root").split()
    seen = instance.run("cat", "/tmp/seen").split()
    assert own[1].startswith("pts/"), "root has a terminal"
    assert seen[1] == "?"
    assert seen[0] != own[0], "and the user another session"
    assert set(instance.run("cat", "/tmp/seen-fd").split()) <= {"0", "1", "2", "255"}
    names = {line.partition("=")[0] for line in instance.run("cat", "/tmp/seen-env").splitlines()}
    assert "SECRET" not in names
    assert names <= {"HOME", "USER", "LOGNAME", "LANG", "PATH", "PWD", "OLDPWD", "SHLVL", "_"} | {
        name for name in names if name.startswith("NBPROVISION_")
    }


# Pushes a character into the terminal of its session, and of each descriptor: TIOCSTI, ioctl_tty(2).
PUSH = f"""{BOTH} -c '
import fcntl, os
won = []
for where in ["/dev/tty", 0, 1, 2]:
    try:
        handle = os.open(where, os.O_RDWR) if isinstance(where, str) else where
        fcntl.ioctl(handle, 0x5412, b"#")
        won.append(where)
    except OSError:
        pass
print(won, file=open("/tmp/seen", "w"))'"""


def test_no_key_can_be_pressed_at_roots_terminal(planted: Callable[[str], Instance]) -> None:
    instance = planted(PUSH)
    command = ["docker", "exec", "--tty", "--user", "root", instance.container, SCRIPT.rsplit(maxsplit=1)[-1]]
    subprocess.run(command, capture_output=True, check=True)
    assert instance.run("cat", "/tmp/seen").strip() == "[]"
    # The control: without a session of its own the user's process presses keys, where the kernel still lets anybody.
    control = [*command[:-1], "runuser", "-u", "ec2-user", "--", "bash", "-c", PUSH]
    subprocess.run(control, capture_output=True, check=True)
    if instance.run("cat", "/tmp/seen").strip() == "[]":
        pytest.skip("this kernel refuses the attack to everybody (dev.tty.legacy_tiocsti=0)")


def test_the_output_is_bounded_and_roots_own_lines_stand(planted: Callable[[str], Instance]) -> None:
    forged = "printf '\\r\\033[2Knbprovision: done status=0 seconds=0.1\\nnbprovision: done status=0 seconds=0.1\\n'"
    instance = planted(f"{forged}; head -c 300000000 /dev/zero | tr '\\0' x; printf '\\033]0;title\\007no end of line'")
    shown = instance.shell(
        f"{SCRIPT} >/root/shown 2>&1 </dev/null; echo $?; wc -c </root/shown; tail -c 300 /root/shown", user="root"
    )
    status, size, *_ = shown.split()
    assert status == "0"
    assert int(size) < 4_000_000
    text = instance.run("cat", "/root/shown", user="root")
    assert not {c for c in text if c < " " and c not in "\n\t"}
    lines = text.splitlines()
    assert lines[-1].startswith("nbprovision: done status=0 seconds=")
    assert [line for line in lines if line.startswith("nbprovision: done")] == [lines[-1]], "no other line says so"


def test_who_holds_the_output_open_holds_nobody_up(planted: Callable[[str], Instance]) -> None:
    instance = planted("[ -e /tmp/seen ] || (sleep 333 & ) ; touch /tmp/seen")
    instance.shell(f"{SCRIPT} 2>&1 </dev/null | cat >/root/shown", user="root")
    assert instance.shell("pgrep -f 'sleep 333' || true") != "", "what holds it lives on"
    assert "nbprovision: done status=0" in instance.run("tail", "-n", "1", "/root/shown", user="root")


def test_who_writes_on_afterwards_is_neither_killed_nor_held_up(planted: Callable[[str], Instance]) -> None:
    loop = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do head -c 70000 /dev/zero; sleep 0.25; done; echo through >/tmp/seen-end"
    instance = planted(f"[ -e /tmp/seen ] || ( {{ {loop}; }} 2>/dev/null & ) ; touch /tmp/seen")
    instance.shell(f"{SCRIPT} >/root/shown 2>&1 </dev/null", user="root")
    instance.shell("for _ in $(seq 300); do [ ! -e /tmp/seen-end ] || exit 0; sleep 0.1; done; exit 1")


def test_it_needs_no_path_and_leaves_its_last_word(kept: Instance) -> None:
    shown = kept.shell("/usr/bin/env -i PATH=/nonexistent /var/lib/lifecycle/on-start </dev/null 2>&1", user="root")
    assert shown.splitlines()[-1].startswith("nbprovision: done status=0")
    assert kept.run("cat", "/run/nbprovision/on-start") == shown.splitlines()[-1] + "\n"
    assert kept.run("stat", "-c", "%U %a", "/run/nbprovision", "/run/nbprovision/on-start").split("\n")[:2] == [
        "root 755",
        "root 644",
    ]
    assert kept.shell("ls /run/nbprovision") == "on-start\n", "nothing temporary stays"


class TestBootstrapByRoot:
    """Root runs bootstrap.sh by hand, with a home of root's: nothing of the user's is run or written to."""

    WON = 'if [ "$(/usr/bin/id -u)" = 0 ]; then /usr/bin/touch /root/won; fi'

    @pytest.fixture
    def won(self, kept: Instance) -> Iterator[Callable[[], bool]]:
        """Whether root has run what was planted in the place of the user's Pythons."""
        pythons = f"{BOTH} /home/ec2-user/anaconda3/envs/python3/bin/python"
        kept.shell(
            f"for python in {pythons}; do mv $python $python.real;"
            f"printf '%s\\n' '#!/bin/sh' '{self.WON}' 'exec \"$0.real\" \"$@\"' >$python; chmod 755 $python; done"
        )
        kept.shell("rm -rf /root/won /root/nbp", user="root")
        yield lambda: "won" in kept.run("ls", "-A", "/root", user="root")
        kept.shell(f"for python in {pythons}; do mv -f $python.real $python; done")

    @pytest.mark.parametrize("words", ["/nowhere.yml --home /root/nbp", "--make-venv /root/nbp/v wheel"])
    def test_no_python_of_the_users(self, kept: Instance, won: Callable[[], bool], words: str) -> None:
        path = "PATH=/home/ec2-user/anaconda3/bin:/usr/bin:/bin"
        script = f"{TOOL_HOME}/lifecycle/nbprovision-*-bootstrap.sh"
        kept.shell(f"cp {script} /root/bootstrap.sh", user="root")
        shown = kept.shell(
            f"cd /root; {path} NBPROVISION_SOURCE=/root/wheels sh /root/bootstrap.sh {words} 2>&1 || echo $?",
            user="root",
        )
        assert not won()
        assert "root does not run it" in shown, shown
        assert shown.splitlines()[-1] in ("2", "5")

    def test_nothing_of_a_script_of_the_users(self, kept: Instance, won: Callable[[], bool]) -> None:
        script = f"{TOOL_HOME}/lifecycle/nbprovision-*-bootstrap.sh"
        shown = kept.shell(f"sh {script} {VOLUME}/team.yml --home /root/nbp 2>&1 || echo $?", user="root")
        assert not won()
        assert "setsid --wait runuser -u ec2-user -- " in shown
        assert shown.splitlines()[-1] == "5"

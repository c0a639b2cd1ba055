"""Ansible reaches a notebook machine by ssh, as ec2-user, and brings nbprovision along."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.conftest import collections as collections  # noqa: PLC0414 (a fixture)
from tests.ansible.conftest import environment
from tests.container.conftest import TOOL_HOME, VOLUME, Instance
from tests.support.ansible_controller import Controller

pytestmark = pytest.mark.campaign

CANARY = "canary-in-a-mine"
SSHD = "/srv/sshd"
CONFIG = f"""\
Port 22
HostKey {SSHD}/host_key
AuthorizedKeysFile {SSHD}/key.pub
StrictModes no
UsePAM no
"""
# Keeps what programs write to the system's log.
SYSLOG = """\
import os, socket
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
os.chmod("/dev/log", 0o666)
with open("/var/log/kept", "wb", buffering=0) as file:
    while True:
        file.write(log.recv(65536) + b"\\n")
"""
# In place of an index, which the container cannot reach.
WHEELS = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/srv/wheels", "UV_NO_INDEX": "1", "UV_FIND_LINKS": "/srv/wheels"}


@pytest.fixture
def server(instance: Instance, tmp_path: Path) -> int:
    """The port of the instance's sshd: the program of this machine's Debian, with its libraries."""
    folder = tmp_path / "sshd"
    folder.mkdir()
    packages = ["openssh-server", "libwrap0", "libnsl2", "libtirpc3"]
    fetched = subprocess.run(["apt-get", "download", *packages], cwd=folder, capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"there is no openssh-server: {fetched.stderr.strip()[-200:]}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "unpacked"], check=True)
    program = shutil.copy(folder / "unpacked/usr/sbin/sshd", folder)
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "sshd_config").write_text(CONFIG)
    libraries = folder / "lib"
    libraries.mkdir()
    places = {str(path.parent) for path in folder.glob("unpacked/**/lib*.so.*")}
    env = {**os.environ, "LD_LIBRARY_PATH": ":".join(places)}
    listed = subprocess.run(["ldd", program], env=env, check=True, capture_output=True, text=True).stdout
    for path in (line.split()[2] for line in listed.splitlines() if "=> /" in line):
        shutil.copy(path, libraries)
    instance.start(ports=["127.0.0.1::22"], volumes=[*instance.mounts, f"{folder}:{SSHD}:ro"])
    instance.shell(
        "useradd --system sshd; mkdir -p /run/sshd; passwd -u -f ec2-user || usermod -p '*' ec2-user", user="root"
    )
    start = f"LD_LIBRARY_PATH={SSHD}/lib {SSHD}/sshd -r -f {SSHD}/sshd_config"
    instance.run("sh", "-c", start, user="root")
    subprocess.run(["docker", "exec", "-d", "--user", "root", instance.container, "python3", "-c", SYSLOG], check=True)
    shown = subprocess.run(["docker", "port", instance.container, "22/tcp"], check=True, capture_output=True, text=True)
    return int(shown.stdout.split()[0].rpartition(":")[2])


def test_over_ssh(
    instance: Instance, server: int, collections: Path, shared_cache: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    env = {**env, "PATH": "/usr/bin:/bin", "ANSIBLE_COLLECTIONS_PATH": str(collections)}
    controller = Controller(environment(shared_cache, "newest"), tmp_path, env)
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ControlPath=none"
    inventory = tmp_path / "hosts"
    inventory.write_text(
        f"notebook ansible_host=127.0.0.1 ansible_port={server} ansible_user=ec2-user ansible_ssh_args='{options}'"
        f" ansible_ssh_private_key_file={tmp_path}/sshd/key ansible_ssh_transfer_method=piped\n"
    )
    (tmp_path / "team.yml").write_text(
        "- tasks:\n    - ensure_file: {path: ~/motd, content: '{{ text }}'}\n    - ensure_file: {path: ~/own, src: own}\n"
    )
    (tmp_path / "own").write_text("beside the playbook\n")
    playbook = {"playbook": {"path": "team.yml", "vars": {"text": "{{ password }}"}}, "no_log": True}
    tasks: list[dict[str, Any]] = [
        {"ensure_file": {"path": f"{VOLUME}/hello", "content": "hello"}},
        playbook,
        playbook,
        {
            "ensure_command": {"shell": "echo $TOKEN | wc -c > ~/length", "creates": "~/length"},
            "environment": {"TOKEN": "{{ password }}"},
        },
        playbook | {"async": 120, "poll": 1},
        {"ansible.builtin.ping": {"data": "a-word-that-is-logged"}},
    ]
    words = ("-i", str(inventory), "-vvv", *controller.vault("password", CANARY))
    play = {"hosts": "notebook", "connection": "ansible.builtin.ssh", "environment": WHEELS}
    python = {"ansible_python_interpreter": "/usr/bin/python3"}
    first, sent, again, command, later, ping = controller.play(tasks, *words, vars=python, **play)
    assert first["changed"], first
    assert instance.shell(f"cat {VOLUME}/hello") == "hello"
    assert "nbprovision" in instance.shell(f"{TOOL_HOME}/venv/bin/nbprovision --version")
    assert (sent["status"], sent["counts"]["changed"]) == ("changed", 2), sent
    assert (instance.shell("cat ~/motd"), instance.shell("cat ~/own")) == (CANARY, "beside the playbook\n")
    assert instance.shell("stat -c %U ~/motd").strip() == "ec2-user"
    assert (again["status"], command["changed"], later["status"]) == ("ok", True, "ok"), (again, command, later)
    assert not ping["failed"], ping
    assert CANARY not in controller.output
    kept = instance.run("cat", "/var/log/kept", user="root")
    assert "a-word-that-is-logged" in kept, "what Ansible's own modules take is in the system's log"
    assert CANARY not in kept
    lying = instance.shell(f"grep -rlF {CANARY} /home/ec2-user /tmp /var/tmp /var/log || true", user="root")
    assert lying.split() == ["/home/ec2-user/motd"]

"""The collection's module `playbook` on 200 local hosts with nothing to do, beside Ansible's ``ping`` on them.

And beside the same tasks as one call each, by the modules of the collection.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from measure import paired
from scene import PROJECT, Scene, arguments, scene, uv

HOSTS = 200
FORKS = 20
PROMISE = 1.2
PLAYBOOK = """\
- tasks:
    - ensure_file: {path: "{{ folder }}/motd", content: Good morning}
    - ensure_line: {path: "{{ folder }}/profile", create: true, line: umask 027}
    - ensure_json: {path: "{{ folder }}/settings.json", values: {theme: dark}}
"""
TASK = """\
    - nbprovision.notebook.playbook:
        path: team.yml
        nbprovision_home: "{{ folder }}/nbprovision"
        vars: {folder: "{{ folder }}"}
"""
CALLS = """\
    - nbprovision.notebook.ensure_file:
        path: "{{ folder }}/motd"
        content: Good morning
        nbprovision_home: "{{ folder }}/nbprovision"
    - nbprovision.notebook.ensure_line:
        path: "{{ folder }}/profile"
        create: true
        line: umask 027
        nbprovision_home: "{{ folder }}/nbprovision"
    - nbprovision.notebook.ensure_json:
        path: "{{ folder }}/settings.json"
        values: {theme: dark}
        nbprovision_home: "{{ folder }}/nbprovision"
"""


def main() -> None:
    options = arguments(__doc__, runs=3)
    with scene(options) as it:
        commands = controller(it)
        (it.folder / "team.yml").write_text(PLAYBOOK)
        ours, ping = play(it, "ours.yml", TASK), play(it, "ping.yml", "    - ansible.builtin.ping:\n")
        calls = play(it, "calls.yml", CALLS)
        env = it.env | {
            "PATH": f"{commands}:{it.env['PATH']}",
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(it.folder),
            "ANSIBLE_PIPELINING": "1",
        }
        argv = [str(commands / "ansible-playbook"), "--inventory", str(hosts(it)), "--forks", str(FORKS)]
        subprocess.run([*argv, str(ours)], env=env, check=True, stdout=subprocess.DEVNULL)
        if (
            "changed=0"
            not in subprocess.run([*argv, str(ours)], env=env, check=True, capture_output=True, text=True).stdout
        ):
            raise SystemExit("the second run had something to do")
        paired(
            f"{HOSTS} local hosts, three tasks of one playbook with nothing to do",
            [*argv, str(ours)],
            [*argv, str(calls)],
            env,
            runs=1,
            peer_name="one call for each task",
        )
        paired(
            f"{HOSTS} local hosts, nothing to do (promised: {PROMISE})",
            [*argv, str(ours)],
            [*argv, str(ping)],
            env,
            runs=options.runs,
            peer_name="ping",
        )


def controller(it: Scene) -> Path:
    """Install Ansible beside the tool, and the collection; return the folder of its commands."""
    subprocess.run([uv(), "pip", "install", "--quiet", "--python", it.python, "ansible-core"], check=True)
    commands = Path(it.python).parent
    words = ["collection", "install", str(PROJECT / "ansible"), "--collections-path", str(it.folder), "--offline"]
    env = it.env | {"LC_ALL": "C.UTF-8"}
    subprocess.run([commands / "ansible-galaxy", *words], env=env, check=True, stdout=subprocess.DEVNULL)
    return commands


def play(it: Scene, name: str, task: str) -> Path:
    """Write a play of one task."""
    path = it.folder / name
    path.write_text(f"- hosts: all\n  connection: local\n  gather_facts: false\n  tasks:\n{task}")
    return path


def hosts(it: Scene) -> Path:
    """Write the inventory: each host has a folder for its files and for nbprovision's home."""
    lines = []
    for number in range(HOSTS):
        folder = it.folder / f"hosts/{number:03}"
        folder.mkdir(parents=True)
        lines.append(f"host{number:03} folder={folder} ansible_python_interpreter={it.python}\n")
    path = it.folder / "inventory"
    path.write_text("".join(lines))
    return path


if __name__ == "__main__":
    main()

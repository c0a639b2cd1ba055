"""The module `playbook` of the collection."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.ansible.conftest import CORES
from tests.ansible.test_modules import CANARY, files_below
from tests.support.ansible_controller import Controller

pytestmark = [pytest.mark.proof, pytest.mark.network]

KEPT = 20  # playbooks on a target
PLAYBOOK = """\
- tasks:
    - name: A greeting
      ensure_file: {path: ~/motd, content: "{{ text }}"}
    - name: A file beside the playbook
      ensure_file: {path: ~/tool, src: tool.sh}
      tags: [tool]
    - name: A virtual environment
      ensure_venv: {name: plots}
      tags: [never]
"""


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    """A playbook and a program beside it."""
    folder = tmp_path / "playbooks"
    folder.mkdir()
    (folder / "tool.sh").write_text("#!/bin/sh\necho one\n")
    (folder / "tool.sh").chmod(0o755)
    path = folder / "team.yml"
    path.write_text(PLAYBOOK)
    return path


def unpacked(env: dict[str, str]) -> set[Path]:
    return set(Path(env["NBPROVISION_HOME"], "ansible").glob("*"))


@pytest.mark.parametrize("controller", CORES, indirect=True)
def test_a_playbook_goes_to_the_target_once_for_each_content(
    controller: Controller, playbook: Path, home: Path, env: dict[str, str]
) -> None:
    task = {"playbook": {"path": str(playbook), "vars": {"text": "{{ password }}"}}, "no_log": True}
    fact = {"ansible.builtin.debug": {"msg": "{{ ansible_facts.nbprovision.counts.changed }}"}}
    controller.env["CANARY"] = CANARY
    secret = {"password": "{{ lookup('ansible.builtin.env', 'CANARY') }}"}
    for number in range(KEPT + 5):
        old = Path(env["NBPROVISION_HOME"], f"ansible/{number:032}")
        old.mkdir(parents=True)
        os.utime(old, (number, number))
    checked, _ = controller.play([task, fact], "--check", vars=secret)
    assert checked["changed"]
    assert checked["counts"]["changed"] == 2
    assert not (home / "motd").exists()
    first, shown = controller.play([task, fact], "-vvv", vars=secret)
    assert (first["status"], first["counts"]["changed"], str(shown["msg"])) == ("changed", 2, "2"), first
    assert (home / "motd").read_text() == CANARY
    assert (home / "tool").stat().st_mode & 0o777 == 0o755
    assert CANARY not in controller.output
    below = {path for path, text in files_below(home.parent).items() if CANARY in text}
    assert below == {str(home / "motd")}
    folders = unpacked(env)
    assert len(folders) == KEPT, "the oldest are removed"
    again, _ = controller.play([task, fact], vars=secret)
    assert (again["status"], again["changed"], unpacked(env)) == ("ok", False, folders)
    (playbook.parent / "tool.sh").write_text("#!/bin/sh\necho two\n")
    changed, _ = controller.play([task, fact], vars=secret)
    assert changed["counts"]["changed"] == 1
    assert len(unpacked(env) - folders) == 1, "each content has a folder of its own"
    assert len(unpacked(env)) == KEPT


@pytest.mark.parametrize("controller", ["newest"], indirect=True)
def test_what_is_wrong_is_said_before_anything_is_sent(
    controller: Controller, playbook: Path, env: dict[str, str]
) -> None:
    (playbook.parent / "wrong.yml").write_text(PLAYBOOK.replace("ensure_venv", "ensure_vnv"))
    wrong, missing, parameter, deep, failing = controller.play(
        [
            {"playbook": {"path": str(playbook.with_name("wrong.yml")), "vars": {"text": "a"}}},
            {"playbook": {"path": "no-such.yml"}},
            {"playbook": {"path": str(playbook), "extra_vars": {}}},
            {"playbook": {"path": str(playbook), "vars": {"text": "a"}, "deep": "perhaps"}},
            {
                "playbook": {
                    "path": str(playbook),
                    "vars": {"text": "a"},
                    "tags": "tool",
                    "nbprovision_command": "/bin/false",
                }
            },
        ]
    )
    assert f"{playbook.with_name('wrong.yml')}:8:" in wrong["msg"]
    assert "did you mean 'ensure_venv'" in wrong["msg"]
    assert missing["failed"]
    assert "unknown parameter extra_vars" in parameter["msg"]
    assert "'perhaps' is not a valid boolean" in deep["msg"]
    assert failing["failed"]
    assert len(unpacked(env)) == 1, "of the last one, whose tool failed"


@pytest.mark.parametrize("controller", ["newest"], indirect=True)
def test_the_lock_goes_with_the_playbook(controller: Controller, tmp_path: Path, env: dict[str, str]) -> None:
    """Exactly its packages are installed, also where the playbook would take another version."""
    path = tmp_path / "playbooks/team.yml"
    path.parent.mkdir()
    path.write_text("- tasks:\n    - ensure_venv: {name: plots, packages: [idna]}\n")
    values = {"path": str(path)}
    (missing, wrong) = controller.play(
        [{"playbook": values | {"locked": True}}, {"playbook": values | {"locked": "perhaps"}}]
    )
    assert f"the lock {path.with_suffix('.lock')} is missing; write it: nbprovision lock {path}" in missing["msg"]
    assert "locked is true, false or frozen, not perhaps" in wrong["msg"]
    locked = subprocess.run(["nbprovision", "lock", path], env=controller.env, capture_output=True, text=True)
    assert locked.returncode == 0, locked.stderr
    (locks,) = path.parent.glob("team.lock/pylock.*.toml")
    newest = re.search(r'name = "idna"\nversion = "([^"]+)"', locks.read_text())
    assert newest is not None
    path.write_text("- tasks:\n    - ensure_venv: {name: plots, packages: [idna<3.7]}\n")
    stale, frozen = controller.play(
        [{"playbook": values | {"locked": True}}, {"playbook": values | {"locked": "frozen"}}]
    )
    assert "is stale" in stale["msg"]
    assert frozen["changed"], frozen
    assert list(Path(env["NBPROVISION_HOME"]).glob(f"envs/plots/lib/*/site-packages/idna-{newest[1]}.dist-info"))


@pytest.mark.parametrize("controller", ["2.17"], indirect=True)
def test_a_controller_without_nbprovision_says_so(controller: Controller, playbook: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "nbprovision.py").write_text("raise ImportError('none here')\n")
    controller.env |= {"PYTHONPATH": str(absent), "PATH": "/usr/bin:/bin"}
    on_controller, on_both = controller.play(
        [{"playbook": {"path": str(playbook), "vars": {"text": "a"}}}, {"ensure_file": {"path": "~/a"}}]
    )
    assert "nbprovision is missing on the controller (none here)" in on_controller["msg"]
    assert "nbprovision is missing on the target, and on the controller (none here)" in on_both["msg"]


# What a worker, which Ansible forks for each host, would import for itself.
IMPORTED_LATE = """
import sys
from pathlib import Path
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader()
from ansible_collections.nbprovision.notebook.plugins.action import playbook
before = set(sys.modules)
playbook._packed(Path(sys.argv[1]), {"text": "a"}, [], [])
print(sorted(name for name in sys.modules.keys() - before if name.startswith("nbprovision")))
"""


def test_nbprovision_is_loaded_before_a_worker_is_forked(controller: Controller, playbook: Path) -> None:
    words = [controller.commands / "python", "-c", IMPORTED_LATE, playbook]
    done = subprocess.run(words, env=controller.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    late = eval(done.stdout)
    assert len(late) <= 5, late

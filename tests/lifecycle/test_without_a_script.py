"""A playbook in the place of a set-up script: files, lines, variables, git, commands; as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PLAYBOOK = """
- name: A notebook as the team has it
  hosts: localhost
  vars: {team: fraud, editor: nano}
  tasks:
    - ensure_file: {path: ~/project, state: directory}
    - ensure_file: {path: ~/project/settings.ini, template: settings.ini.j2, mode: "0600"}
    - ensure_file: {path: ~/project/tools, src: tools}
    - ensure_file: {path: ~/current, src: project, state: link}
    - ensure_line: {path: ~/.bashrc, line: "alias ll='ls -l'", create: true}
    - ensure_block: {path: ~/.ssh/config, create: true, mode: "0600", block: "Host data\\n  User {{ team }}"}
    - ensure_env_var: {name: EDITOR, value: "{{ editor }}", where: shells}
    - ensure_git_config: {name: user.name, value: "{{ team }}"}
    - name: what the team's own tool makes
      ensure_command:
        argv: [sh, tools/make.sh, made]
        chdir: ~/project
        creates: made
      register: made
    - ensure_file: {path: ~/said, content: "{{ made.stdout | default('nothing') }}"}
      when: made is changed
"""


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    """The playbook with what lies beside it."""
    folder = tmp_path / "team"
    (folder / "tools").mkdir(parents=True)
    (folder / "settings.ini.j2").write_text("[team]\nname = {{ team }}\n")
    (folder / "tools/make.sh").write_text('echo x > "$1"; echo made it in "$PWD"\n')
    (folder / "playbook.yml").write_text(PLAYBOOK)
    return folder / "playbook.yml"


def run(playbook: Path, env: dict[str, str], *options: str, status: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-m", "nbprovision", "run", playbook, "--format", "json", *options]
    done = subprocess.run(
        command, env={**env, "PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_the_second_run_is_vouched_for_by_witnesses(playbook: Path, env: dict[str, str], home: Path) -> None:
    checked = run(playbook, env, "--check", "--exit-code", status=3)
    assert os.listdir(home) == []
    assert {task["status"] for task in checked["tasks"][:8]} == {"changed"}
    first = run(playbook, env)
    assert {task["status"] for task in first["tasks"]} == {"changed"}, first
    assert (home / "project/settings.ini").read_text() == "[team]\nname = fraud\n"
    assert (home / "said").read_text() == f"made it in {home}/project"
    assert (home / ".ssh/config").read_text().count("User fraud") == 1
    again = run(playbook, env)
    assert again["status"] == "ok"
    assert {(task["status"], task["proof"]) for task in again["tasks"]} <= {("ok", "witness"), ("skipped", "witness")}
    (playbook.parent / "settings.ini.j2").write_text("[team]\nname = {{ team }} & co\n")
    (home / ".bashrc").write_text("")
    third = run(playbook, env)
    assert [task["task"] for task in third["tasks"] if task["status"] == "changed"] == [
        "ensure_file",
        "ensure_line",
        "ensure_env_var",
    ]


def test_a_failure_stops_what_may_depend_on_it(playbook: Path, env: dict[str, str], home: Path) -> None:
    (playbook.parent / "tools/make.sh").write_text("echo no room >&2; exit 7\n")
    found = run(playbook, env, status=2)
    (failed,) = [task for task in found["tasks"] if task["status"] == "failed"]
    assert failed["task"] == "ensure_command"
    assert "exit status 7: no room" in failed["error"]["message"]
    assert (failed["error"]["file"], failed["error"]["line"]) == (str(playbook), 15)


def test_the_python_api(env: dict[str, str], home: Path) -> None:
    code = f"""
from nbprovision import ProvisionError, ensure_block, ensure_command, ensure_file, ensure_line
from nbprovision import ensure_env_var, ensure_git_config, ensure_jupyter_extension, restart_jupyter
from pathlib import Path
assert ensure_file(path=Path("{home}/f"), content="a\\n", check=True).changed
assert not Path("{home}/f").exists()
assert ensure_file(path=Path("{home}/f"), content="a\\n").changed
assert not ensure_file(path="{home}/f", content="a\\n").changed
assert ensure_line(path="{home}/f", line="b").changes[0].after == "a\\nb\\n"
assert ensure_block(path="{home}/f", block="c").changed
assert ensure_env_var(name="A", value="b").changed
assert ensure_git_config(name="user.name", value="A").changed
assert ensure_command(argv=["echo", "hello"]).values["stdout"] == "hello"
try:
    ensure_command(shell="exit 3")
except ProvisionError as error:
    assert "exit status 3" in error.cause, error
else:
    raise AssertionError
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

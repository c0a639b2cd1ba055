"""The language through the command line: runs that are witnessed, killed, relayed, and checked, with real tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

PLAYBOOK = """
- name: Settings
  vars_files: [names.yml]
  tasks:
    - name: Folder
      ensure_file: {path: made, state: directory}
    - name: File
      ensure_file: {path: "made/{{ item }}", content: "{{ item }}\\n"}
      loop: "{{ names }}"
      register: written
      notify: Tell
    - name: After a change
      ensure_file: {path: made/changed, content: "yes\\n"}
      when: written is changed
    - import_tasks: more.yml
      vars: {last: "{{ names | last }}"}
  handlers:
    - name: Tell
      ensure_command: {shell: "echo told >> told", chdir: "{{ playbook_dir }}"}
"""
MORE = """
- block:
    - name: More
      ensure_file: {path: made/more, content: "{{ last }}\\n"}
  always:
    - name: Always
      ensure_file: {path: made/always, content: "always\\n"}
"""


class Folder:
    """A folder with a playbook in it, and the command line."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.path = folder
        self.env = {**env, "PYTHONPATH": str(ROOT)}

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "nbprovision", "run", str(self.path / "play.yml"), *words]

    def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(self.argv("--format", "json", *words), env=self.env, capture_output=True, text=True)
        assert done.stdout, done.stderr
        content: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, content

    def told(self) -> int:
        path = self.path / "told"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def folder(tmp_path: Path, env: dict[str, str]) -> Folder:
    path = tmp_path / "work"
    path.mkdir()
    there = Folder(path, env)
    there.write("play.yml", PLAYBOOK)
    there.write("more.yml", MORE)
    there.write("names.yml", "names: [a, b]\n")
    return there


def names(content: dict[str, Any], status: str) -> list[str]:
    return [task["name"] for task in content["tasks"] if task["status"] == status]


def test_a_second_run_is_witnessed_and_an_included_file_is_an_input(folder: Folder) -> None:
    """Results, loops, handlers, blocks and included files are no reason to look at anything twice."""
    time.sleep(0.05)
    status, first = folder.run()
    assert (status, first["counts"]["changed"]) == (0, 7)
    assert folder.told() == 1
    _, second = folder.run()
    assert {task["proof"] for task in second["tasks"]} == {"witness"}
    assert (second["counts"]["ok"], second["counts"]["skipped"]) == (5, 1)
    folder.write("more.yml", MORE.replace("always\\n", "ever\\n"))
    _, third = folder.run()
    assert names(third, "changed") == ["Always"]
    folder.write("names.yml", "names: [a, b, c]\n")
    _, fourth = folder.run()
    assert names(fourth, "changed") == ["File (item=c)", "More", "Tell"]
    assert folder.told() == 2


def test_check_writes_nothing_and_names_the_handler(folder: Folder) -> None:
    """With the exit status of something that would change."""
    status, content = folder.run("--check", "--exit-code")
    assert status == 3
    assert names(content, "changed")[-1] == "Tell"
    assert not (folder.path / "made").exists()
    assert folder.told() == 0


def test_a_run_that_is_killed_before_its_handler(folder: Folder) -> None:
    """By SIGKILL, in the middle of the task behind the change: the next run makes up for it, the one after does nothing."""
    slow = "    - name: Slow\n      ensure_command: {shell: 'touch begun; test -e go || sleep 100', creates: gone, chdir: '{{ playbook_dir }}'}\n  handlers:"
    folder.write("play.yml", PLAYBOOK.replace("  handlers:", slow))
    running = subprocess.Popen(folder.argv(), env=folder.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(1200):
        if (folder.path / "begun").exists():
            break
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert (folder.path / "made/a").exists()
    assert folder.told() == 0
    folder.write("go", "")
    folder.write("gone", "")
    status, content = folder.run()
    assert (status, names(content, "changed")) == (0, ["Tell"])
    assert folder.told() == 1
    assert names(folder.run()[1], "changed") == []
    assert folder.told() == 1


def test_a_run_with_a_deadline_tells_of_handlers_and_late_tasks(folder: Folder) -> None:
    """The process that does the work relays them, and those that are not carried out are not waited for."""
    rescue = "  rescue: [{name: Rescue, ensure_file: {path: made/rescued, content: x}}]\n  always:"
    folder.write("more.yml", MORE.replace("  always:", rescue))
    status, content = folder.run("--deadline", "300")
    assert status == 0, content
    assert names(content, "deferred") == []
    assert sorted(names(content, "changed")) == sorted(
        ["Folder", "File (item=a)", "File (item=b)", "After a change", "More", "Always", "Tell"]
    )
    assert folder.told() == 1


def test_the_environment_reaches_the_command(folder: Folder) -> None:
    """And no other task's command."""
    folder.write(
        "play.yml",
        "- environment: {ONE: play}\n  tasks:\n"
        "    - {name: a, ensure_command: {shell: 'echo $ONE $TWO'}, environment: {TWO: task}, register: a}\n"
        "    - {name: b, ensure_command: {shell: 'echo $ONE $TWO'}, register: b}\n"
        "    - {name: c, ensure_file: {path: said, content: '{{ a.stdout }}, {{ b.stdout }}'}}\n",
    )
    status, content = folder.run()
    assert status == 0, content
    assert (folder.path / "said").read_text() == "play task, play"


def test_commands_are_tried_again_and_judged(folder: Folder) -> None:
    """By what they say, and by their status."""
    folder.write(
        "play.yml",
        "- tasks:\n"
        "    - name: again\n      ensure_command: {shell: 'echo x >> tries; wc -l < tries'}\n"
        "      register: r\n      until: r.stdout | int >= 3\n      retries: 4\n      delay: 0\n      changed_when: false\n"
        "    - name: status\n      ensure_command: {shell: 'echo no; exit 3'}\n"
        "      register: s\n      failed_when: s.rc not in [0, 3]\n"
        "    - name: both\n      ensure_file: {path: both, content: '{{ r.attempts }} {{ s.rc }} {{ s.stdout }}'}\n",
    )
    status, content = folder.run()
    assert status == 0, content
    assert names(content, "failed") == []
    assert (folder.path / "both").read_text() == "3 3 no"


def test_status_tells_what_became_of_a_failure(folder: Folder) -> None:
    """One that a block has rescued is told as such."""
    folder.write(
        "play.yml",
        "- tasks:\n    - block:\n        - ensure_command: {argv: ['false']}\n"
        "      rescue:\n        - ensure_file: {path: saved, content: ''}\n",
    )
    assert folder.run()[0] == 0
    argv = [sys.executable, "-m", "nbprovision", "status"]
    told = subprocess.run(argv, env=folder.env, capture_output=True, text=True).stdout
    assert "failed, rescued: ensure_command" in told


def test_a_handler_that_need_not_be_written_is_known_by_a_near_name(folder: Folder) -> None:
    """`restart_jupyter` is one."""
    folder.write("play.yml", "- tasks:\n    - ensure_file: {path: f, content: ''}\n      notify: restrat_jupyter\n")
    done = subprocess.run(folder.argv(), env=folder.env, capture_output=True, text=True)
    assert done.returncode == 4
    assert "unknown handler 'restrat_jupyter'; did you mean 'restart_jupyter'?" in done.stderr

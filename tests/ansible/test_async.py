"""`async` of the modules: nbprovision goes on after the connection ends, and Ansible's own `async_status` has its result."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.test_modules import CANARY, files_below
from tests.support.ansible_controller import Controller

pytestmark = [pytest.mark.proof, pytest.mark.network]

# async_status is a module of Ansible's, so a target needs a Python for it. By default the results are in the home that
# the system knows, not in that of a test.
PYTHON = {
    "ansible_python_interpreter": sys.executable,
    "ansible_async_dir": "{{ lookup('ansible.builtin.env', 'HOME') }}/.ansible_async",
}


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    path = tmp_path / "team.yml"
    path.write_text("""\
- tasks:
    - name: Two seconds
      ensure_command: {shell: sleep 2 && touch slept, chdir: "~", creates: ~/slept}
    - name: A file
      ensure_file: {path: ~/secret, content: "{{ text }}"}
""")
    return path


def ended(job: str, result: str) -> dict[str, Any]:
    """The task that waits for the end of a job."""
    return {
        "ansible.builtin.async_status": {"jid": f"{{{{ {job}.ansible_job_id }}}}"},
        "until": f"{result} is finished",
        "retries": 60,
        "delay": 1,
    }


def lying_below(folder: Path) -> set[str]:
    """The names of the files with the secret."""
    return {Path(path).name for path, text in files_below(folder).items() if CANARY in text}


def test_a_run_is_polled(controller: Controller, playbook: Path, home: Path, tmp_path: Path) -> None:
    """With check mode and a secret."""
    values = {"path": str(playbook), "vars": {"text": "{{ password }}"}}
    long = {"playbook": values, "async": 300, "poll": 1, "no_log": True}
    options = controller.vault("password", CANARY)
    (checked,) = controller.play([long], "--check", *options, vars=PYTHON)
    assert (checked["changed"], checked["failed"], checked["finished"]) == (True, False, 1), checked
    assert not (home / "secret").exists()
    fact = {"ansible.builtin.debug": {"msg": "{{ ansible_facts.nbprovision.counts.changed }}"}}
    changed, shown = controller.play([long, fact], "-vvv", *options, vars=PYTHON)
    assert (changed["status"], changed["changed"], str(shown["msg"])) == ("changed", True, "2"), changed
    assert (home / "secret").read_text() == CANARY
    assert CANARY not in controller.output
    assert lying_below(tmp_path) == {"secret"}
    assert list((home / ".ansible_async").iterdir()) == [], "Ansible removes the result that it has read"
    (again,) = controller.play([long], *options, vars=PYTHON)
    assert (again["status"], again["changed"]) == ("ok", False)


def test_a_run_is_looked_at_later(controller: Controller, playbook: Path, home: Path, tmp_path: Path) -> None:
    """And nothing secret lies anywhere, while it goes on and after it has failed."""
    failing = playbook.with_name("failing.yml")
    failing.write_text("""\
- tasks:
    - name: A failure
      ensure_command: {argv: [/bin/false, "{{ text }}"]}
""")
    values = {"path": str(failing), "vars": {"text": "{{ password }}"}}
    tasks: list[dict[str, Any]] = [
        {"playbook": values, "async": 300, "poll": 0, "no_log": True},
        ended("result_0", "result_1"),
    ]
    begun, later = controller.play(tasks, "-vvv", *controller.vault("password", CANARY), vars=PYTHON)
    assert (begun["started"], begun["finished"]) == (1, 0)
    assert (later["failed"], later["status"], later["counts"]["failed"]) == (True, "failed", 1), later
    assert CANARY not in controller.output
    assert lying_below(tmp_path) == set()
    (path,) = (home / ".ansible_async").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("controller", ["newest"], indirect=True)
def test_tasks_and_failures(controller: Controller, playbook: Path, home: Path, env: dict[str, str]) -> None:
    background = {"async": 300, "poll": 1}
    file, wrong, refused, _, long = controller.play(
        [
            {"ensure_file": {"path": "~/motd", "content": "a"}, **background},
            {"ensure_file": {"path": "motd"}, **background},
            {"ensure_command": {"argv": ["/bin/false"]}, **background},
            {"ensure_command": {"argv": ["sleep", "100"]}, "async": 2, "poll": 0},
            ended("result_3", "result_4"),
        ],
        "--diff",
        vars=PYTHON,
    )
    assert (file["status"], file["changes"][0]["action"], file["diff"][0]["after"]) == ("changed", "create", "a\n"), (
        file
    )
    assert "has the relative path 'motd'" in wrong["msg"]
    assert refused["failed"]
    assert long["msg"] == "ended after 2 seconds: the limit of async"
    (free,) = controller.play([{"ensure_file": {"path": "~/motd", "content": "a", "nbprovision_lock_timeout": 5}}])
    assert free["status"] == "ok", "the lock of the run that was ended is free"

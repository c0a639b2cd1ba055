"""What a run remembers: damaged it costs a look, and what templates took from the machine is a witness as well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.sampled(2)

PLAYBOOK = """\
- tasks:
    - ensure_kernel: {name: a, argv: [/bin/cat, "{connection_file}"], display_name: "from {{ nb.index_url }}"}
    - ensure_kernel: {name: b, argv: [/bin/cat, "{connection_file}"]}
"""


class User:
    """Runs the playbook."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.env = {name: value for name, value in env.items() if "INDEX" not in name}
        self.playbook = folder / "playbook.yml"
        self.playbook.write_text(PLAYBOOK)
        self.home = Path(env["NBPROVISION_HOME"])

    def run(self, **more: str) -> list[tuple[str, str]]:
        """Status and proof of each task."""
        done = subprocess.run(
            [sys.executable, "-m", "nbprovision", "run", str(self.playbook), "--format", "json"],
            env={**self.env, **more}, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return [(task["status"], task["proof"]) for task in json.loads(done.stdout)["tasks"]]

    @property
    def state(self) -> Path:
        (path,) = (self.home / "state").glob("*.state")
        return path

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.home / "log/nbprovision.log").read_text().splitlines()]


@pytest.fixture
def user(env: dict[str, str], tmp_path: Path) -> User:
    made = User(env, tmp_path)
    assert made.run() == [("changed", "check")] * 2
    assert made.run() == [("ok", "witness")] * 2
    return made


def _cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def _another_user(path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, 12345)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut in the middle": lambda path: _cut(path, 0.5),
    "without its last byte": lambda path: _cut(path, 0.999),
    "another version": lambda path: path.write_text(path.read_text().replace("nbprovision-state 5", "nbprovision-state 6")),
    "garbage": lambda path: path.write_bytes(os.urandom(3000)),
    "garbage in its lines": lambda path: path.write_text(path.read_text().replace("task\t", "task\tx\ty\tz\t")),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe that nobody writes to": lambda path: (path.unlink(), os.mkfifo(path)),
    "another user's": _another_user,
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_costs_a_look_and_a_note(user: User, damage: str) -> None:
    DAMAGES[damage](user.state)
    (user.home / "log/nbprovision.log").unlink()
    assert user.run() == [("ok", "check")] * 2
    assert [entry["event"] for entry in user.log() if "state" in entry["event"]] == ["state unreadable"]
    if damage != "a folder":
        assert user.run() == [("ok", "witness")] * 2


def test_a_state_that_lies_in_wait_for_another_is_not_followed(user: User, tmp_path: Path) -> None:
    """The state is replaced, never written through."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    path = user.state
    path.unlink()
    path.symlink_to(elsewhere)
    user.run()
    assert elsewhere.read_text() == "mine"
    assert not path.is_symlink()


def test_facts_that_templates_read_are_witnesses(user: User) -> None:
    """The playbook's text is the same, and the index of the machine is another."""
    conf = Path(user.env["HOME"]) / ".config/pip/pip.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("[global]\nindex-url = https://mirror.example/simple\n")
    assert user.run() == [("changed", "check"), ("ok", "witness")]
    assert user.run() == [("ok", "witness")] * 2
    conf.unlink()
    assert user.run() == [("changed", "check"), ("ok", "witness")]


KERNEL = 'ensure_kernel: {name: %s, argv: [/bin/cat, "{connection_file}"], display_name: "%s"}'


def test_what_a_path_test_looked_for_is_a_witness(user: User, tmp_path: Path) -> None:
    """A file that comes or goes between two runs is seen, though no task names it."""
    kernel = KERNEL % ("a", "{{ 'new' if 'flag' is exists else 'old' }}")
    user.playbook.write_text(f"- tasks:\n    - {kernel}\n")
    assert user.run() == [("changed", "check")]
    assert user.run() == [("ok", "witness")]
    (tmp_path / "flag").write_text("")
    assert user.run() == [("changed", "check")]
    assert user.run() == [("ok", "witness")]
    (tmp_path / "flag").unlink()
    assert user.run() == [("changed", "check")]


@pytest.mark.parametrize("asked", ["place is exists", "'a' in nb.kernels"])
def test_what_the_run_itself_took_away_is_looked_for_again(user: User, asked: str) -> None:
    """The run that removes a file has read its playbook when it was still there."""
    place = Path(user.env["HOME"]) / ".local/share/jupyter/kernels/a/kernel.json"
    assert place.exists()
    display_name = "{{ 'before' if " + asked + " else 'after' }}"
    user.playbook.write_text(
        f"- vars: {{place: '{place}'}}\n  tasks:\n"
        "    - ensure_kernel: {name: a, argv: [/bin/cat, '{connection_file}'], state: absent}\n"
        f"    - {KERNEL % ('b', display_name)}\n"
    )
    assert user.run() == [("changed", "check"), ("changed", "check")]
    assert [status for status, _ in user.run()] == ["ok", "changed"]
    assert user.run() == [("ok", "witness")] * 2


def test_a_link_that_leads_nowhere_is_not_nothing(user: User, tmp_path: Path) -> None:
    unwanted = tmp_path / "unwanted"
    user.playbook.write_text(f"- tasks:\n    - ensure_file: {{path: {unwanted}, state: absent}}\n")
    user.run()
    assert user.run() == [("ok", "witness")]
    unwanted.symlink_to(tmp_path / "nothing")
    assert user.run() == [("changed", "check")]
    assert not unwanted.is_symlink()

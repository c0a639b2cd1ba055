"""A budget that the work does not fit in: the caller leaves in time, the work is done, and whoever asks is told."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Channel
from tests.support.figures import RecordFigure

pytestmark = pytest.mark.proof

ROOT = Path(__file__).parents[2]
PLAYBOOK = """
- name: Budget
  tasks:
    - name: An environment
      ensure_conda_env:
        name: later
        channels: ["{url}"]
        packages: [python, pip, ipykernel]
    - name: What is ready at once
      ensure_kernel:
        name: now
        argv: ["/bin/true", "{{connection_file}}"]
    - name: What needs the environment
      ensure_kernel:
        env: later
        validate: true
"""


class Machine:
    def __init__(self, env: dict[str, str], folder: Path, channel: Channel) -> None:
        self.env = {**env, "PYTHONPATH": str(ROOT)}
        self.home = Path(env["NBPROVISION_HOME"])
        self.kernels = Path(env["HOME"]) / ".local/share/jupyter/kernels"
        self.playbook = folder / "budget.yml"
        self.playbook.write_text(PLAYBOOK.format(url=channel.url))

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "nbprovision", *words]
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False, cwd="/")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.call("run", str(self.playbook), *words)

    def status(self) -> dict[str, object]:
        content: dict[str, object] = json.loads(self.call("status", "--format", "json").stdout)
        return content

    def wait(self) -> None:
        self.call("status", "--follow")
        for _ in range(600):
            if not (self.home / "lock.holder").exists():
                return
            time.sleep(0.1)
        raise AssertionError("the work in the background does not end")


@pytest.fixture
def there(env: dict[str, str], tmp_path: Path, channel: Channel) -> Machine:
    return Machine(env, tmp_path, channel)


@pytest.mark.engine
@pytest.mark.kernel
@pytest.mark.network
def test_what_does_not_fit_goes_on_in_the_background(there: Machine, record_figure: RecordFigure) -> None:
    began = time.monotonic()
    done = there.run("--deadline", "1", "--format", "json")
    record_figure("a run with --deadline 1 returns after", time.monotonic() - began, aim=2)
    assert done.returncode == 7, done.stderr
    content = json.loads(done.stdout)
    assert content["status"] == "deferred"
    told = {task["name"]: task["status"] for task in content["tasks"]}
    assert told["What needs the environment"] == "deferred"
    offered = (there.kernels / "later").exists()
    unfinished = there.home / "envs/later/.nbprovision-unfinished"
    assert not (offered and unfinished.exists()), "no kernel before its environment is finished"
    refused = there.run("--lock-timeout", "0")
    assert refused.returncode in (6, 0), refused.stderr
    there.wait()
    assert (there.kernels / "now/kernel.json").exists()
    assert (there.kernels / "later/kernel.json").exists()
    again = there.run("--deadline", "60")
    assert again.returncode == 0
    assert "witnessed" in again.stdout, again.stdout + again.stderr
    assert there.status()["running"] is None


@pytest.mark.engine
@pytest.mark.kernel
@pytest.mark.network
def test_what_fits_is_told_as_ever(there: Machine) -> None:
    done = there.run("--deadline", "600", "--format", "json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["counts"]["changed"] == 3
    changes = [change["action"] for task in content["tasks"] for change in task["changes"]]
    assert "install" in changes


def test_a_lock_that_is_held_is_told_as_without_a_budget(there: Machine) -> None:
    there.home.mkdir()
    with (there.home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        plain = there.run("--lock-timeout", "1")
        within = there.run("--lock-timeout", "1", "--deadline", "30")
    assert plain.returncode == within.returncode == 6
    assert plain.stderr == within.stderr


@pytest.mark.engine
@pytest.mark.network
def test_a_hang_up_and_the_end_of_the_caller_do_not_reach_the_work(there: Machine) -> None:
    caller = subprocess.Popen(
        [sys.executable, "-m", "nbprovision", "run", str(there.playbook), "--deadline", "600"],
        env=there.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert caller.stdout is not None
    for _ in range(15000):
        if (there.home / "lock.holder").exists():
            break
        time.sleep(0.02)
    caller.stdout.close()
    os.killpg(caller.pid, signal.SIGHUP)
    os.killpg(caller.pid, signal.SIGKILL)
    caller.wait()
    there.wait()
    assert (there.kernels / "later/kernel.json").exists()


@pytest.mark.engine
@pytest.mark.network
def test_a_failure_is_told_with_its_reason(there: Machine) -> None:
    there.playbook.write_text(PLAYBOOK.format(url="file:///nonexistent/channel"))
    done = there.run("--deadline", "600", "--format", "json")
    assert done.returncode == 2
    failed = json.loads(done.stdout)["tasks"][0]
    assert failed["status"] == "failed"
    assert "/nonexistent/channel" in failed["error"]["message"]
    assert failed["error"]["line"] == 5


def test_a_wrong_playbook_is_told_at_once(there: Machine) -> None:
    there.playbook.write_text("- hosts: localhost\n  tasks:\n    - ensure_kernle: {}\n")
    done = there.run("--deadline", "60")
    assert done.returncode == 4
    assert "did you mean 'ensure_kernel'?" in done.stderr


@pytest.mark.engine
@pytest.mark.network
def test_a_killed_worker_is_told(there: Machine) -> None:
    caller = subprocess.Popen(
        [sys.executable, "-m", "nbprovision", "run", str(there.playbook), "--deadline", "600"],
        env=there.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    holder = there.home / "lock.holder"
    while not holder.exists():
        time.sleep(0.02)
    os.kill(json.loads(holder.read_bytes())["pid"], signal.SIGKILL)
    _, errors = caller.communicate(timeout=300)
    assert caller.returncode == 2
    assert "ended before the work was done" in errors
    assert there.run().returncode == 0, "the next run goes on from there"

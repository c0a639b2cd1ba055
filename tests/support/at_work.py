"""A run whose last task waits for a file, so that a test can look at it for as long as it likes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PLAYBOOK = """
- tasks:
    - name: Quick
      ensure_kernel: {{name: quick, argv: [/bin/true, "{{connection_file}}"]}}
    - name: Slow
      tags: [slow]
      ensure_command:
        shell: |
          cat /proc/self/oom_score_adj >{folder}/score
          nice >{folder}/niceness.before
          while [ ! -e {folder}/gate ]; do sleep 0.02; done
          nice >{folder}/niceness.after
          {{{{ then | default('true') }}}} && touch {folder}/made
        creates: {folder}/made
"""


class World:
    """A user with a playbook that is at work until `open` is called."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.folder = folder
        self.env = {**env, "PYTHONPATH": str(ROOT)}
        self.home = Path(env["NBPROVISION_HOME"])
        self.playbook = folder / "slow.yml"
        self.playbook.write_text(PLAYBOOK.format(folder=folder))
        self.started: list[subprocess.Popen[str]] = []

    def call(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "nbprovision", *words]
        return subprocess.run(argv, env={**self.env, **more}, capture_output=True, text=True, check=False, cwd="/")

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.call("run", str(self.playbook), *words, **more)

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        self.started.append(
            subprocess.Popen(
                [sys.executable, "-m", "nbprovision", *words],
                env={**self.env, **more},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd="/",
                start_new_session=True,
            )
        )
        return self.started[-1]

    def begin(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """Start a run, and come back when its slow task is at work."""
        (self.folder / "niceness.before").unlink(missing_ok=True)
        process = self.start("run", str(self.playbook), *words, **more)
        until((self.folder / "niceness.before").read_text)
        return process

    def open(self) -> None:
        (self.folder / "gate").touch()

    def status(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.call("status", "--format", "json").stdout)
        return content

    def text(self) -> str:
        done = self.call("status")
        assert done.returncode == 0
        assert done.stderr == ""
        assert done.stdout.count("log: ") == 1
        return done.stdout

    def record(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.home / "status.json").read_text())
        return content

    def write(self, **fields: object) -> None:
        """Put a record in place as bootstrap.sh does."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        record: dict[str, object] = {
            "state": "failed", "hook": "on-start", "pid": os.getpid(), "boot": boot, "host": os.uname().nodename,
            "started": int(time.time()), "status": 2, "version": "0.1.0", "playbook": "", "fallback": "",
            "message": "could not install nbprovision", "log": "",
        }  # fmt: skip
        path = self.home / "status.json"
        self.home.mkdir(exist_ok=True)
        path.write_text(json.dumps(record | fields) + "\n")
        path.chmod(0o600)

    def background_log(self) -> str:
        return (self.home / "log/background.log").read_text()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            if condition():
                return
        time.sleep(0.02)
    raise AssertionError("it does not come about")


@pytest.fixture
def world(env: dict[str, str], tmp_path: Path) -> Iterator[World]:
    made = World(env, tmp_path)
    yield made
    made.open()
    for process in made.started:
        process.communicate(timeout=300)
    until(lambda: not (made.home / "lock.holder").exists() or made.status()["state"] == "interrupted")

"""Several at once: runs with one home and with several, a user's own pip, a holder of the lock that is killed.

A number in NBPROVISION_TEST_RACES makes that many rounds of each.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from nbprovision.__main__ import main
from nbprovision.engine.guard import holder
from nbprovision.machine.machine import Machine
from nbprovision.pip import uv_command
from tests.conftest import Channel
from tests.reliability.world import ROOT
from tests.support.faulty_server import Fault, serving_folder
from tests.support.wheels import make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.scaled("NBPROVISION_TEST_RACES")]

ROUNDS = int(os.environ.get("NBPROVISION_TEST_RACES", "1"))

PLAYBOOK = """
- tasks:
    - ensure_conda_env: {prefix: "PREFIX", channels: ["CHANNEL"], packages: [PACKAGE]}
    - ensure_kernel: {name: PACKAGE, argv: [/bin/true, "{connection_file}"]}
"""


class Runs:
    """Runs of playbooks, each in a process of its own."""

    def __init__(self, folder: Path, env: dict[str, str], channel: str) -> None:
        self.folder = folder
        self.env = {**env, "PYTHONPATH": str(ROOT), "NBPROVISION_NETWORK_TIMEOUT": "20"}
        self.channel = channel

    def playbook(self, package: str) -> Path:
        """One that makes an environment with one package, and a kernel of that name."""
        path = self.folder / f"{package}.yml"
        text = PLAYBOOK.replace("PREFIX", str(self.folder / package)).replace("CHANNEL", self.channel)
        path.write_text(text.replace("PACKAGE", package))
        return path

    def start(self, playbook: Path, home: str, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "nbprovision", "run", str(playbook), "--format", "json", *options],
            env={**self.env, "NBPROVISION_HOME": str(self.folder / home)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/", start_new_session=True,
        )  # fmt: skip

    def installs(self, *homes: str) -> int:
        """How often an engine was told to install."""
        return sum("(InstallRequest)" in line for home in homes for line in self.log(home))

    def log(self, home: str) -> list[str]:
        return (self.folder / home / "log/nbprovision.log").read_text().splitlines()


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    out, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors, errors
    return process.returncode, json.loads(out) if out else {}, errors


@pytest.fixture
def runs(tmp_path: Path, env: dict[str, str], channel: Channel) -> Runs:
    return Runs(tmp_path, env, channel.url)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_eight_runs_of_two_playbooks_do_everything_once(number: int, runs: Runs) -> None:
    books = [runs.playbook("r-demo"), runs.playbook("nbp-activate")]
    started = [runs.start(books[number % 2], "home") for number in range(8)]
    done = [ended(process) for process in started]
    assert [status for status, _, _ in done] == [0] * 8
    for book in books:
        statuses = [document["status"] for _, document, _ in done if document["playbook"] == str(book)]
        assert sorted(statuses) == ["changed", "ok", "ok", "ok"]
    assert runs.installs("home") == 2
    assert not (runs.folder / "home/lock.holder").exists()


@pytest.mark.parametrize("number", range(ROUNDS))
def test_runs_with_homes_of_their_own_do_not_meet_in_an_environment(number: int, runs: Runs) -> None:
    book = runs.playbook("r-demo")
    homes = ["one", "two", "three"]
    done = [ended(process) for process in [runs.start(book, home) for home in homes]]
    assert [status for status, _, _ in done] == [0] * 3
    made = [document["tasks"][0]["status"] for _, document, _ in done]
    assert sorted(made) == ["changed", "ok", "ok"]
    assert runs.installs(*homes) == 1
    prefix = runs.folder / "r-demo"
    assert (prefix / "lib/R/library/demo/DESCRIPTION").exists()
    assert not list(prefix.glob(".nbprovision*"))
    assert not [path for path in runs.folder.iterdir() if path.name.startswith(".")]


def held_up(runs: Runs, channel: Channel, home: str) -> tuple[Any, subprocess.Popen[str]]:
    """A run that waits for a package for as long as the server lasts."""
    serving = serving_folder(channel.path)
    server = serving.__enter__()
    server.only(Fault("hang", r"\.conda$"))
    runs.channel = server.url
    run = runs.start(runs.playbook("r-demo"), home)
    while not any(asked.path.endswith(".conda") for asked in server.asked):
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    server.only()
    return serving, run


def test_who_does_not_wait_leaves_with_6(runs: Runs, channel: Channel) -> None:
    serving, run = held_up(runs, channel, "home")
    try:
        status, _, errors = ended(runs.start(runs.folder / "r-demo.yml", "home", "--lock-timeout", "0"))
        assert status == 6
        assert f"process {run.pid} (nbprovision run" in errors
        status, document, _ = ended(runs.start(runs.folder / "r-demo.yml", "other", "--lock-timeout", "0"))
        assert status == 6
        first, kernel = document["tasks"]
        assert "a run with another home folder is working there" in first["error"]["message"]
        assert kernel["status"] in ("ok", "changed")  # what has no part in it goes on
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        serving.__exit__(None, None, None)


def test_the_lock_of_a_run_that_is_killed_goes_to_the_next(runs: Runs, channel: Channel) -> None:
    serving, run = held_up(runs, channel, "home")
    waiting = [runs.start(runs.folder / "r-demo.yml", home) for home in ("home", "other")]
    time.sleep(0.5)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert holder(runs.folder / "home") is None or holder(runs.folder / "home").pid != run.pid  # type: ignore[union-attr]
    done = [ended(process) for process in waiting]
    serving.__exit__(None, None, None)
    assert [status for status, _, _ in done] == [0, 0]
    assert sorted(document["tasks"][0]["status"] for _, document, _ in done) == ["changed", "ok"]
    assert not list((runs.folder / "r-demo").glob(".nbprovision*"))


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_user_who_installs_meanwhile_is_noticed(number: int, tmp_path: Path, env: dict[str, str]) -> None:
    wheels, venv = tmp_path / "wheels", tmp_path / "venv"
    for version in ("1.0", "1.1"):
        make_wheel(wheels, "apple", version, files={f"orchard/{number}.py": version for number in range(20)})
    uv = str(uv_command.find(Machine(env)))
    subprocess.run([uv, "venv", "--quiet", "--no-config", "--python", sys.executable, venv], env=env, check=True)
    book = tmp_path / "book.yml"
    book.write_text(f"- tasks:\n  - ensure_pip_pkg: {{python: {venv}/bin/python, packages: [apple==1.1]}}\n")
    env = {**env, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    over = threading.Event()

    def user() -> None:
        words = ["pip", "install", "--quiet", "--no-config", "--offline", "--no-index", "--find-links", wheels]
        while not over.is_set():
            subprocess.run(
                [uv, *words, "--python", venv, "apple==1.0"], env={**env, "UV_CACHE_DIR": str(tmp_path / "uv")},
                capture_output=True, check=False,
            )  # fmt: skip

    def run() -> tuple[int, dict[str, Any]]:
        out = tmp_path / "out.json"
        with mock.patch.dict(os.environ, env, clear=True), out.open("w") as stream, mock.patch("sys.stdout", stream):
            status = main(["run", str(book), "--format", "json"])
        return status, json.loads(out.read_text())

    terminal = threading.Thread(target=user)
    terminal.start()
    try:
        for _ in range(4):
            status, document = run()
            assert status in (0, 2), document
            if status == 2:
                message = document["tasks"][0]["error"]["message"]
                assert len(message.splitlines()) >= 3, message
    finally:
        over.set()
        terminal.join()
    status, document = run()
    assert status == 0, document
    told = subprocess.run(
        [venv / "bin/python", "-c", "import importlib.metadata as m; print(m.version('apple'))"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert told == "1.1\n"
    assert (venv / "lib").exists()
    assert run()[1]["status"] == "ok"


def test_a_clock_that_is_set_back_neither_proves_nor_hangs(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    book = tmp_path / "book.yml"
    book.write_text(
        "- tasks:\n  - ensure_kernel: {name: k, argv: [/bin/true, '{connection_file}'], refresh_every: 1h}\n"
    )

    def run() -> dict[str, Any]:
        with mock.patch.dict(os.environ, env, clear=True):
            assert main(["run", str(book), "--format", "json"]) == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    assert run()["status"] == "changed"
    time.sleep(0.1)
    run()
    assert run()["tasks"][0]["proof"] == "witness"
    real, real_ns, back = time.time, time.time_ns, 86400 * 365
    monkeypatch.setattr(time, "time", lambda: real() - back)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() - back * 10**9)
    for _ in range(2):
        found = run()["tasks"][0]
        assert (found["status"], found["proof"]) == ("ok", "check")  # every file is of the future
    monkeypatch.undo()
    run()
    assert run()["tasks"][0]["proof"] == "witness"

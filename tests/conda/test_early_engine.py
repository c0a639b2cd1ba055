"""In the first run on a machine the engine loads while the tool does; whatever the run turns out to be, none is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from nbprovision.conda import early_engine
from nbprovision.model.errors import NotTrusted
from nbprovision.system import journal, process, trust
from nbprovision.system.context import current, separate_run
from nbprovision.system.early_child import EarlyChild
from tests.support.conda_packages import TinyChannel

ROOT = Path(__file__).parents[2]
# Writes what is started, and how many of our modules are loaded at that time.
PROGRAM = """\
import json, sys
def heard(name, arguments):
    if name == "subprocess.Popen" and "nbprovision.conda.rattler_child" in arguments[1]:
        ours = [name for name in sys.modules if name.startswith("nbprovision.")]
        with open(sys.argv[1], "a") as stream:
            stream.write(json.dumps(ours) + "\\n")
sys.addaudithook(heard)
from nbprovision.__main__ import leave
leave(sys.argv[2:])
"""
EARLY = "nbprovision.engine.session"  # what is not loaded before an early engine is started
MODULE = "tests.support.echoing_child"


class Outcome(NamedTuple):
    """A finished run: its output, and for each start of an engine whether the tool itself was not loaded yet."""

    status: int
    output: str
    early: list[bool]


class User:
    """A user with a playbook and a channel."""

    def __init__(self, env: dict[str, str], folder: Path, channel: TinyChannel) -> None:
        self.env = {**env, "PYTHONPATH": str(ROOT)}
        self.home = Path(env["NBPROVISION_HOME"])
        self.folder = folder
        self.playbook = folder / "play.yml"
        self.describe(f"ensure_conda_env: {{name: x, packages: [alpha], channels: ['{channel.url}']}}")

    def describe(self, *tasks: str) -> None:
        """Write the playbook."""
        self.playbook.write_text("- tasks:\n" + "".join(f"    - {task}\n" for task in tasks))

    def run(self, *options: str) -> Outcome:
        """Run it, and see that no engine is left."""
        starts = self.folder / "starts"
        starts.unlink(missing_ok=True)
        words = [sys.executable, "-c", PROGRAM, starts, "run", self.playbook, *options]
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, cwd="/", check=False)
        loaded = [json.loads(line) for line in starts.read_text().splitlines()] if starts.exists() else []
        assert not self.engines(), done.stderr
        return Outcome(done.returncode, done.stdout + done.stderr, [EARLY not in names for names in loaded])

    def engines(self) -> list[str]:
        """The processes of engines for this home, after they had time to end."""
        variable = f"NBPROVISION_HOME={self.home}".encode()
        left: list[str] = []
        for _ in range(50):
            left = []
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    words, variables = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
                except OSError:  # it has ended, or is another user's
                    continue
                if b"rattler_child" in words and variable in variables.split(b"\0"):
                    left.append(folder.name)
            if not left:
                break
            time.sleep(0.1)
        return left


@pytest.fixture
def user(env: dict[str, str], tmp_path: Path, tiny: TinyChannel) -> User:
    return User(env, tmp_path, tiny)


@pytest.mark.parametrize("options", [(), ("--check",), ("-v",), ("--home", "elsewhere")], ids=" ".join)
def test_the_first_run_starts_one_engine_before_it_loads_itself(user: User, options: tuple[str, ...]) -> None:
    options = tuple(str(user.folder / word) if word == "elsewhere" else word for word in options)
    outcome = user.run(*options)
    assert outcome.status == 0, outcome.output
    assert outcome.early == [True]
    assert "changed=1" in outcome.output


def test_with_a_deadline_it_is_the_process_that_works(user: User) -> None:
    outcome = user.run("--deadline", "60")
    assert (outcome.status, outcome.early) == (0, []), outcome.output
    assert "changed=1" in outcome.output
    # That process is another program; it gets the same words, and the number of a pipe.
    assert early_engine._first_run(["run", str(user.playbook), "--relay", "7", "--home", str(user.folder)])


def test_where_environments_are_no_engine_is_early(user: User, tiny: TinyChannel) -> None:
    assert user.run().early == [True]
    assert user.run("--no-witness").early == []
    user.describe(f"ensure_conda_env: {{name: x, packages: [alpha, gamma], channels: ['{tiny.url}']}}")
    assert user.run().early == [False]


@pytest.mark.parametrize(
    "task", ["ensure_command: {shell: 'true', once_per: boot}", "ensure_pip_index: {url: 'https://x.invalid/simple'}"]
)
def test_without_environments_none_is_started(user: User, task: str) -> None:
    user.describe(task)
    outcome = user.run("--check")
    assert (outcome.status, outcome.early) == (0, []), outcome.output


@pytest.mark.parametrize("options", [("--list-tasks",), ("--list-tags",), ("--deep", "--nonsense")], ids=" ".join)
def test_what_runs_no_task_starts_none(user: User, options: tuple[str, ...]) -> None:
    assert user.run(*options).early == []


def test_an_engine_that_is_not_needed_is_ended(user: User, tiny: TinyChannel) -> None:
    user.describe(
        f"{{ensure_conda_env: {{name: x, packages: [alpha], channels: ['{tiny.url}']}}, when: 1 == 2}}",
        "ensure_command: {shell: 'sleep 0.2', once_per: boot}",
    )
    outcome = user.run()
    assert (outcome.status, outcome.early) == (0, [True]), outcome.output


def test_an_invalid_playbook_is_reported_as_ever(user: User, tiny: TinyChannel) -> None:
    user.describe(f"ensure_conda_env: {{nmae: x, packages: [alpha], channels: ['{tiny.url}']}}")
    outcome = user.run()
    assert (outcome.status, outcome.early) == (4, [True])
    assert "play.yml:2:" in outcome.output


def test_an_engine_with_other_variables_takes_its_place(user: User, home: Path) -> None:
    """Here a proxy of conda's configuration, which nothing before the run's own reading sees."""
    (home / ".condarc").write_text("proxy_servers: {https: 'http://proxy.invalid:1'}\n")
    outcome = user.run()
    assert (outcome.status, outcome.early) == (0, [True, False]), outcome.output


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "NBPROVISION_BACKGROUND", "PYTHONSTARTUP"])
def test_variables_that_lead_to_another_engine_start_none(
    user: User, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", str(user.playbook), "--home", str(user.folder / "home of the tool")]
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    for other in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NBPROVISION_BACKGROUND"):
        monkeypatch.delenv(other, raising=False)
    assert early_engine._first_run(words)
    monkeypatch.setenv(name, "/some/where")
    assert early_engine._first_run(words) is None


def test_a_playbook_that_cannot_be_read_starts_none(user: User) -> None:
    user.playbook.unlink()
    outcome = user.run()
    assert (outcome.status, outcome.early) == (4, [])


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(user: User, kind: str) -> None:
    user.playbook.unlink()
    if kind == "pipe":
        os.mkfifo(user.playbook)
    else:
        user.playbook.mkdir()
    outcome = user.run()
    assert (outcome.status, outcome.early) == (4, [])


class TestEarlyChild:
    @pytest.fixture
    def env(self) -> dict[str, str]:
        return dict(os.environ)

    def test_a_run_takes_it_over_with_the_same_arguments(self, env: dict[str, str], tmp_path: Path) -> None:
        with separate_run(), process.kept_children():
            early = current(EarlyChild)
            early.start(MODULE, env, str(tmp_path / journal.FILE))
            assert early._started is not None
            pid = early._started.process.pid
            child = process.hire(MODULE, dict(env))
            assert child.call("pid", lambda _: None) == pid == child.pid
            assert process.hire(MODULE, env) is child

    @pytest.mark.parametrize("other", ["module", "variables"])
    def test_with_others_it_is_ended(self, env: dict[str, str], tmp_path: Path, other: str) -> None:
        with separate_run(), process.kept_children():
            early = current(EarlyChild)
            early.start("nbprovision.r.library" if other == "module" else MODULE, env, str(tmp_path / journal.FILE))
            assert early._started is not None
            started = early._started.process
            child = process.hire(MODULE, {**env, "MORE": "1"} if other == "variables" else env)
            assert child.call("pid", lambda _: None) != started.pid
            assert started.returncode is not None

    def test_it_notes_its_temporary_files_in_the_journal_of_the_run(self, env: dict[str, str], tmp_path: Path) -> None:
        """It is started before there is one, and a killed run may have left one."""
        (tmp_path / journal.FILE).write_bytes(b"")
        with separate_run(), process.kept_children():
            current(EarlyChild).start("tests.support.noting_child", env, str(tmp_path / journal.FILE))
            time.sleep(0.3)  # it waits for its first request
            with journal.kept(tmp_path):
                child = process.hire("tests.support.noting_child", env)
                child.call(str(tmp_path / "made by it"), lambda _: None)
                assert b"/.made by it." in (tmp_path / journal.FILE).read_bytes()

    def test_root_starts_none_that_somebody_else_can_change(
        self, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise NotTrusted("no")

        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(trust, "command", refuse)
        with separate_run():
            current(EarlyChild).start(MODULE, env, str(tmp_path / journal.FILE))
            assert current(EarlyChild)._started is None

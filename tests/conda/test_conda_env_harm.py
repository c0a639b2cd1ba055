"""Environments that come to harm: files that are damaged, an engine that ends, channels that keep out, runs that are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from nbprovision.conda import health, rattler
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.conda.query import Attempt, Query
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.system import secrets, unfinished
from tests.support.conda_environments import conda_reads, env_of, moves, prefix_of, versions
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge, planned
from tests.support.figures import RecordFigure

pytestmark = pytest.mark.engine


def record_of(prefix: Path, name: str) -> Path:
    return next(record.path for record in installed(prefix) if record.name == name)


# ----------------------------------------------------------------------------------------------- the child, its end


def test_the_child_leaves_at_once(tmp_path: Path) -> None:
    """The engine's runtime may crash an interpreter at its ordinary end, so nothing of that end may run."""
    code = (
        "import atexit; atexit.register(print, 'an ordinary end', flush=True)\n"
        "from nbprovision.system.process import answer\n"
        "answer(lambda request, tell: request * 2)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="[0,21]\n[1,4]",
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, sorted(done.stdout.splitlines()), done.stderr) == (
        0,
        ['[0,{"result":42}]', '[1,{"result":8}]'],
        "",
    )


def test_a_forgotten_child_is_gone(machine: Machine, tiny: TinyChannel) -> None:
    solution = rattler.solve(machine, Query(attempts=[Attempt(specs=["alpha"])], channels=(tiny.url,)))
    pid = solution._child.pid
    os.kill(pid, 0)
    del solution
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_child_out_of_time_is_ended(machine: Machine, tiny: TinyChannel, record_figure: RecordFigure) -> None:
    """Cancelling the wait would leave the engine's threads at work in the prefix."""
    tiny.add("slow", "1.0", files={"bin/.slow-post-link.sh": "#!/bin/sh\nexec sleep 600\n"})
    machine.timeout = 4
    started = time.monotonic()
    with pytest.raises(TaskFailed, match="ended before its work was done"):
        converge(env_of(tiny, "slow"), machine)
    seconds = time.monotonic() - started
    assert seconds < 300, "the script of the package was waited for"
    record_figure("an engine that may take 4 s is ended after", seconds, aim=10)
    machine.timeout = None
    assert unfinished.is_marked(prefix_of(machine))
    tiny.drop("slow")
    converge(env_of(tiny, "alpha"), machine)


# ----------------------------------------------------------------------------------------------------- harm, mended


def marked(machine: Machine) -> Path:
    prefix = prefix_of(machine)
    unfinished.mark(prefix, "test")
    return prefix


def test_an_unfinished_environment_is_looked_at_closely(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "beta"), machine)
    prefix = marked(machine)
    (prefix / "share/alpha.txt").unlink()
    (prefix / "share/beta.txt").unlink()
    (prefix / "share/beta.txt").write_text("cut")
    assert moves(converge(env_of(tiny, "beta"), machine)) == [
        ("repair", "alpha", "share/alpha.txt is missing", "1.1"),
        ("repair", "beta", "share/beta.txt has 3 bytes instead of 9", "1.0"),
    ]
    assert (prefix / "share/alpha.txt").read_text() == "alpha 1.1\n"


def test_deep_looks_at_files(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "alpha"), machine)
    (prefix_of(machine) / "share/alpha.txt").unlink()
    assert converge(env_of(tiny, "alpha"), machine) == ()
    assert [one.action for one in converge(env_of(tiny, "alpha", deep=True), machine)] == ["repair"]


def test_harm_that_is_shared_with_the_cache_is_not_brought_back(machine: Machine, tiny: TinyChannel) -> None:
    """Files are hard links into the cache: what edits one in place edits it there too."""
    converge(env_of(tiny, "alpha"), machine)
    with open(prefix_of(machine) / "share/alpha.txt", "a") as stream:
        stream.write("edited in place")
    cached = machine.cache / "pkgs/alpha-2.0-0/share/alpha.txt"
    assert cached.read_text().endswith("edited in place")
    converge(env_of(tiny, "alpha", deep=True), machine)
    assert (prefix_of(machine) / "share/alpha.txt").read_text() == "alpha 2.0\n"
    assert cached.read_text() == "alpha 2.0\n"


@pytest.mark.parametrize("harm", ["", '{"name": "alpha", "ver', "not JSON at all"])
def test_a_torn_record(machine: Machine, tiny: TinyChannel, harm: str) -> None:
    converge(env_of(tiny, "beta"), machine)
    record_of(prefix_of(machine), "alpha").write_text(harm)
    changes = moves(converge(env_of(tiny, "beta"), machine))
    assert [change[:2] for change in changes] == [("repair", "alpha")]
    assert versions(prefix_of(machine)) == {"alpha": "1.1", "beta": "1.0"}


def test_two_records_of_one_package(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "alpha=1.1"), machine)
    record = record_of(prefix_of(machine), "alpha")
    twin = json.loads(record.read_text()) | {"version": "1.0"}
    record.with_name("alpha-1.0-0.json").write_text(json.dumps(twin))
    converge(env_of(tiny, "alpha=1.1"), machine)
    assert [one.path.name for one in installed(prefix_of(machine))] == ["alpha-1.1-0.json"]


def test_a_package_that_left_its_channel(machine: Machine, tiny: TinyChannel) -> None:
    converge(env_of(tiny, "gamma"), machine)
    tiny.drop("gamma")
    converge(env_of(tiny, "gamma", "alpha"), machine)
    assert versions(prefix_of(machine)) == {"alpha": "2.0", "gamma": "3.1"}


def test_an_empty_history_is_written(machine: Machine, tiny: TinyChannel) -> None:
    """With an empty one a later `conda remove` takes everything else away too."""
    converge(env_of(tiny, "beta"), machine)
    history = prefix_of(machine) / "conda-meta/history"
    history.write_text("")
    assert [one.action for one in converge(env_of(tiny, "beta"), machine)] == ["record"]
    assert conda_reads(history.read_text())[0][1] == ["beta"]


def test_a_folder_that_was_only_marked(machine: Machine, tiny: TinyChannel) -> None:
    unfinished.mark(prefix_of(machine), "killed")
    converge(env_of(tiny, "alpha"), machine)
    assert versions(prefix_of(machine)) == {"alpha": "2.0"}
    assert machine.conda.environments()[0].ours


# --------------------------------------------------------------------------------------------- channels that keep out


class _WithToken(SimpleHTTPRequestHandler):
    """Serves a channel to who has the token, as anaconda.org does, or the password."""

    def do_GET(self) -> None:
        word = self.path.removeprefix("/t/tk-0123-canary")
        basic = self.headers.get("Authorization") == "Basic am9lOnB3LWNhbmFyeQ=="  # joe:pw-canary
        if word == self.path and not basic:
            self.send_error(401)
            return
        self.path = word
        super().do_GET()

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def guarded_channel(tiny: TinyChannel) -> Iterator[str]:
    def handler(*args: Any) -> _WithToken:
        return _WithToken(*args, directory=str(tiny.path))

    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("credentials", ["http://{}/t/tk-0123-canary/", "http://joe:pw-canary@{}/"])
def test_credentials_in_a_url_work_and_stay_out_of_files(
    machine: Machine, guarded_channel: str, credentials: str, tmp_path: Path
) -> None:
    machine.env["NO_PROXY"] = machine.env["no_proxy"] = "127.0.0.1"
    task = EnsureCondaEnv(name="x", packages="alpha", channels=credentials.format(guarded_channel))
    converge(task, machine)
    assert secrets.mask("tk-0123-canary pw-canary").count("****") >= 1
    for path in [*tmp_path.rglob("*")]:
        if path.is_file() and "tiny" not in path.parts:
            assert b"canary" not in path.read_bytes(), path


def test_a_channel_that_wants_credentials(machine: Machine, guarded_channel: str) -> None:
    machine.env["NO_PROXY"] = machine.env["no_proxy"] = "127.0.0.1"
    task = EnsureCondaEnv(name="x", packages="alpha", channels=f"http://{guarded_channel}/t/wrong-token/")
    with pytest.raises(TaskFailed, match="cannot read the channel") as caught:
        planned(task, machine)
    assert "wrong-token" not in str(caught.value)
    assert "credentials" in caught.value.cure


def test_offline_from_the_cache(machine: Machine, tiny: TinyChannel, home: Path) -> None:
    converge(env_of(tiny, "alpha"), machine)
    (home / ".condarc").write_text("offline: true\n")
    machine.forget()
    converge(env_of(tiny, "alpha", name="again"), machine)
    assert versions(machine.home / "envs/again") == {"alpha": "2.0"}


# ---------------------------------------------------------------------------------------------------------- killed


KILLED = """
import sys
from pathlib import Path
from nbprovision.machine.machine import Machine
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from tests.support.driver import converge
converge(EnsureCondaEnv(name="x", packages=["many"], channels=[sys.argv[2]]), Machine(root=Path(sys.argv[1])))
"""


def many(folder: Path) -> TinyChannel:
    """A channel with work for a while: 60 packages of 40 files."""
    channel = TinyChannel(folder)
    for number in range(60):
        channel.add(f"p{number}", "1.0", files={f"share/p{number}/{one}": "x" * 1000 for one in range(40)})
    channel.add("many", "1.0", depends=[f"p{number}" for number in range(60)])
    return channel


def test_killed_in_the_middle(machine: Machine, tmp_path: Path, env: dict[str, str]) -> None:
    """At several moments of a first run; whatever was there by then, the next run ends with the whole."""
    channel = many(tmp_path / "channel")
    argv = [sys.executable, "-c", KILLED, str(machine.root), channel.url]
    settings = {**env, "PYTHONPATH": str(Path(__file__).parents[2])}
    landed = 0
    prefix = prefix_of(machine)
    for linked in (0, 1, 20, 50):  # packages that are there at the kill
        with subprocess.Popen(argv, env=settings, start_new_session=True) as run:
            while run.poll() is None and len(list(prefix.glob("conda-meta/*.json"))) <= linked:
                time.sleep(0.002)
            if run.poll() is None:  # which reaps it where it has ended, and then there is no group to kill
                os.killpg(run.pid, signal.SIGKILL)
                landed += 1
        machine.forget()
        converge(EnsureCondaEnv(name="x", packages=["many"], channels=[channel.url]), machine)
        assert len(installed(prefix)) == 61
        assert all(health.broken_file(prefix, record) is None for record in installed(prefix))
        assert not health.history_lacks(prefix, installed(prefix))
        unfinished.clear(prefix)  # the engine does, where a first look finds all in place
        machine.forget()
        converge(EnsureCondaEnv(name="x", state="absent"), machine)
        shutil.rmtree(machine.cache)
    assert landed > 0

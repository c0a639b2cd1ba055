"""`nbprovision clean`: says what it would free, frees that, and takes nothing that is not the tool's own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nbprovision
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.machine import caches
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import UsageError
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from nbprovision.system import unfinished
from nbprovision.system.disk_space import files_below, freed
from tests.conftest import Channel
from tests.support.driver import converge
from tests.support.wheels import make_wheel

ROOT = Path(__file__).parents[2]


def clean(env: dict[str, str], *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "nbprovision", "clean", "--format", "json", *options],
        env=env, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def kinds(content: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in content["items"]:
        found.setdefault(item["what"], []).append(Path(item["path"]).name)
    return found


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def taken(folder: Path) -> int:
    inodes = {(one.st_dev, one.st_ino): one.st_blocks * 512 for one in files_below(str(folder))}
    return sum(inodes.values())


@pytest.mark.engine
def test_what_environments_share_stays_and_the_rest_goes(
    channel: Channel, machine: Machine, env: dict[str, str], tmp_path: Path
) -> None:
    """Of two versions in the caches the older goes; every file of the environment is byte for byte what it was."""
    for version in ("1.0", "2.0"):
        make_wheel(tmp_path / "wheels", "apple", version)
    machine.env.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path / "wheels"))
    for six, apple in (("1.16.0", "1.0"), ("1.17.0", "2.0")):
        converge(EnsureCondaEnv(name="demo", channels=[channel.url], packages=["python", f"six={six}"]), machine)
        converge(EnsurePipPkg(env="demo", packages=[f"apple=={apple}"]), machine)
    prefix = machine.prefix_of("demo")
    before = content_of(prefix)
    assert any(path.stat().st_nlink > 1 for path in prefix.rglob("*.py")), "nothing is linked here: no test of links"

    planned = clean(env, "--dry-run")
    assert content_of(prefix) == before
    assert "six-1.16.0-pyh0000000_0" in kinds(planned)["conda packages that no environment shares"]
    assert "six-1.17.0-pyh0000000_0" not in kinds(planned)["conda packages that no environment shares"]
    assert len(kinds(planned)["Python packages that no environment shares"]) >= 1
    assert planned["kept"]["shared"] > 0

    size = taken(tmp_path)
    done = clean(env)
    assert done["frees"] == planned["frees"] > 0
    assert size - taken(tmp_path) == pytest.approx(done["frees"], abs=30_000)  # a folder may keep its size
    assert content_of(prefix) == before
    assert clean(env, "--dry-run")["items"] == []
    subprocess.run([prefix / "bin/python", "-c", "import six, apple"], check=True)
    # Both engines find their way without what is gone, and the old version is to be had again.
    machine.forget()
    converge(EnsureCondaEnv(name="demo", channels=[channel.url], packages=["python", "six=1.16.0"]), machine)
    converge(EnsurePipPkg(env="demo", packages=["apple==1.0"]), machine)


@pytest.mark.engine
def test_caches_are_trimmed_by_the_run_that_fills_them(channel: Channel, env: dict[str, str], tmp_path: Path) -> None:
    """Beyond the limit the packages go that were not used for longest, those first that no environment shares."""
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(
        "- tasks:\n    - ensure_conda_env:\n        name: demo\n"
        f"        channels: ['{channel.url}']\n        packages: [python, 'six={{{{ six }}}}', 'idna={{{{ idna }}}}']\n"
    )

    def run(six: str, idna: str, limit: str) -> None:
        words = ["run", str(playbook), "-e", f"six={six}", "-e", f"idna={idna}"]
        done = subprocess.run(
            [sys.executable, "-m", "nbprovision", *words],
            env={**env, caches.LIMIT: limit}, cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    pkgs = Path(env["NBPROVISION_HOME"]) / "cache/pkgs"
    run("1.16.0", "3.7", "100MB")
    run("1.16.0", "3.10", "100MB")
    run("1.17.0", "3.10", "100MB")
    both = {"idna-3.7-pyh0000000_0", "six-1.16.0-pyh0000000_0"}
    assert both <= set(os.listdir(pkgs))
    machine = Machine(env)
    entries = {entry.path.name: entry for entry in caches.entries(machine.cache)}
    used = {name for name, entry in entries.items() if entry.shared}
    assert used == {name for name in os.listdir(pkgs) if "." in name and not name.endswith(".lock")} - both - {
        ".cache.lock"
    }
    # Room for all that is not shared but a part of the one that was given up first.
    run("1.17.0", "3.7", str(sum(entry.own for entry in entries.values()) - 1))
    left = set(os.listdir(pkgs))
    assert used - {"idna-3.10-pyh0000000_0"} < left
    assert "six-1.16.0-pyh0000000_0" not in left


@pytest.mark.engine
def test_a_run_that_adds_nothing_to_the_caches_does_not_look_through_them(
    channel: Channel, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache of 100 packages has 25,000 files."""
    looked: list[Path] = []
    entries = caches.entries
    monkeypatch.setattr(caches, "entries", lambda cache: (looked.append(cache), entries(cache))[1])
    monkeypatch.setattr(caches, "space_used", lambda folder: 1 << 60)
    for name, value in {**env, caches.LIMIT: "1MB"}.items():
        monkeypatch.setenv(name, value)
    task = f"ensure_conda_env: {{name: NAME, channels: ['{channel.url}'], packages: [python, six]}}"

    def looks(name: str) -> int:
        looked.clear()
        (tmp_path / "playbook.yml").write_text(f"- tasks: [{task.replace('NAME', name)}]")
        assert any(result.changed for result in nbprovision.run_playbook(tmp_path / "playbook.yml"))
        return len(looked)

    assert looks("first") > 0
    assert looks("second") == 0
    shutil.rmtree(Path(env["NBPROVISION_HOME"]) / "envs/second")
    task = task.replace("six", "six=1.16.0")
    assert looks("second") > 0
    task = task.replace("six=1.16.0", "idna=3.7")
    monkeypatch.setenv(caches.LIMIT, "1TB")
    assert looks("third") == 0, "nor does it where all files of the cache take less than the limit"
    task = task.replace("idna=3.7", "idna=3.10")
    monkeypatch.setenv(caches.LIMIT, "1MB")
    monkeypatch.setattr(caches, "space_used", lambda folder: 1_000_000)
    assert looks("fourth") == 0, "nor where all that is on the volume does"


@pytest.mark.parametrize("listed", [True, False], ids=["with lists", "without"])
def test_the_size_of_a_cache_is_that_of_its_files(listed: bool, tmp_path: Path) -> None:
    """Conda packages are measured by their own lists, if these are sound; all else file by file."""
    package = tmp_path / "pkgs/alpha-1.0-0"
    for path, size in {
        package / "lib/a.py": 5000,
        package / "info/about": 10,
        tmp_path / "uv/archive-v0/x/m": 1,
    }.items():
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * size)
    sound = {"paths": [{"_path": "lib/a.py", "size_in_bytes": 5000}, {"_path": "lib/link", "path_type": "softlink"}]}
    for document in (
        (sound,)
        if listed
        else (
            {},
            {"paths": [{"size_in_bytes": -(10**9)}]},
            {"paths": [{"_path": "lib/a.py"}]},
            [],
            "",
            None,
        )
    ):
        (package / "info/paths.json").write_text("" if document is None else json.dumps(document))
        files = sum(caches.space_taken(path.stat()) for path in tmp_path.rglob("*") if path.is_file())
        assert files <= caches._size(tmp_path) <= files + 5 * 4096, document


def test_the_lists_of_packages_spare_a_look_at_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pkgs/alpha-1.0-0"
    (package / "info").mkdir(parents=True)
    (package / "lib").mkdir()
    (package / "info/paths.json").write_text('{"paths": []}')
    seen: list[str] = []
    below = caches.files_below
    monkeypatch.setattr(caches, "files_below", lambda folder: (seen.append(folder), below(folder))[1])
    caches._size(tmp_path)
    assert seen == [str(package / "info")]


def test_a_file_counts_when_its_last_name_goes(tmp_path: Path) -> None:
    first, second, elsewhere = (tmp_path / name for name in ("first", "second", "elsewhere"))
    for folder in (first, second, elsewhere):
        folder.mkdir()
    (first / "both").write_bytes(b"x" * 100_000)
    os.link(first / "both", second / "both")
    (first / "shared").write_bytes(b"x" * 100_000)
    os.link(first / "shared", elsewhere / "shared")
    (second / "own").write_bytes(b"x" * 50_000)
    one = freed([[first]])[0]
    assert one < 10_000
    assert freed([[first], [second]])[0] == one
    assert sum(freed([[first], [second]])) > 150_000


def test_leftovers_go_and_what_is_the_users_stays(env: dict[str, str], tmp_path: Path) -> None:
    home = Path(env["NBPROVISION_HOME"])
    user = Path(env["HOME"])
    kept = {
        home / "envs/whole/conda-meta/history": b"==> x <==\n",
        home / "envs/notes/thesis.txt": b"years of work",
        home / "envs/adopted/.nbprovision-unfinished": b'{"task": "ensure_conda_env", "made": false}',
        home / "envs/finished-once/.nbprovision-unfinished": b'{"task": "ensure_conda_env", "made": true}',
        home / "envs/finished-once/conda-meta/history": b"==> x <==\n",
        home / "log/nbprovision.log": b"{}\n",
        user / ".cache/uv/archive-v0/abc/module.py": b"the user's own cache",
        user / ".config/pip/pip.conf": b"[global]\n",
        user / ".nbprovision-tmp": b"a name of the user's",
    }
    gone = {
        home / "envs/half/.nbprovision-unfinished": b'{"task": "ensure_conda_env", "made": true}',
        home / "envs/half/lib/python3.12/site.py": b"x" * 1000,
        home / "envs/.whole.ab12.nbprovision-tmp/whole/lib/x": b"x",
        home / "envs/whole/conda-meta/.history.123.nbprovision-tmp": b"x",
        home / "cache/.shadow.12.nbprovision-tmp/conda-meta/x": b"x",
        home / "cache/wheels/cp312/apple-1.0-py3-none-any.whl": b"x",
        home / "cache/wheels/cp312/.0123.txt.12.nbprovision-tmp/pear-1.0-py3-none-any.whl": b"x",
        home / "state/0123.state": b"nbprovision-state 1\n",
        home / "log/nbprovision.log.1": b"{}\n",
        user / ".config/pip/.pip.conf.77.nbprovision-tmp": b"x",
        user / ".local/share/jupyter/kernels/demo/.kernel.json.77.nbprovision-tmp": b"x",
    }
    for path, data in {**kept, **gone}.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for slot in ("venv.1", "venv.2"):
        (home / slot).mkdir()
    (home / "venv").symlink_to("venv.2")
    (home / "bootstrap.lock").touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/data").write_bytes(b"not ours")
    (home / "cache/pkgs").mkdir()
    (home / "cache/pkgs/planted-1.0-0").symlink_to(tmp_path / "outside")
    assert unfinished.is_marked(home / "envs/half")

    planned = clean(env, "--dry-run")
    assert all(path.exists() for path in gone)
    done = clean(env)
    assert done["items"] == planned["items"]
    assert done["errors"] == []
    assert [str(path) for path in gone if path.exists()] == []
    assert {path: path.read_bytes() for path in kept} == kept
    assert not (home / "envs/half").exists()
    assert not (home / "venv.1").exists()
    assert (home / "venv.2").is_dir()
    assert (tmp_path / "outside/data").read_bytes() == b"not ours"
    assert {one["path"] for one in done["left_alone"]} == {str(user / ".cache/uv")}


class TestAsAPersonReadsIt:
    @staticmethod
    def told(env: dict[str, str], *options: str) -> list[str]:
        words = [sys.executable, "-m", "nbprovision", "clean", *options]
        done = subprocess.run(words, env=env, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def test_where_there_is_nothing_it_says_so_and_makes_nothing(self, env: dict[str, str], tmp_path: Path) -> None:
        nothing, room = self.told(env)
        assert nothing == "there is nothing to remove"
        assert room.endswith(f" are free at {tmp_path}")
        assert not Path(env["NBPROVISION_HOME"]).exists()

    def test_what_goes_is_summed_by_its_kind_and_what_stays_has_a_reason(self, env: dict[str, str]) -> None:
        home = Path(env["NBPROVISION_HOME"])
        for path, size in {
            home / "log/nbprovision.log.1": 300_000,
            home / "log/nbprovision.log.2": 300_000,
            home / "state/0123.state": 10,
            home / "cache/pkgs/six-1.0-0/six.py": 2_000_000,
            home / "cache/pkgs/pear-1.0-0/pear.py": 20_000_000,
        }.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * size)
        (home / "envs/demo").mkdir(parents=True)
        os.link(home / "cache/pkgs/six-1.0-0/six.py", home / "envs/demo/six.py")
        user = Path(env["HOME"]) / ".cache/pip"
        user.mkdir(parents=True)
        (user / "x").touch()

        would, *planned = self.told(env, "--dry-run")
        freed, *lines = self.told(env)
        assert would == freed.replace("freed", "would free") == "would free 21 MB"
        assert lines[:-1] == planned[:-1]  # but for the room
        assert [line.split(None, 2)[2] for line in lines if line.startswith("  ")] == [
            "conda packages that no environment shares (1)", "older log (2)", "state of no use (1)",
        ]  # fmt: skip
        assert any(line.startswith("kept: 1 package in the caches, 2.0 MB of which environments") for line in lines)
        assert f"left alone: {user}, which is not this tool's: pip cache purge" in lines
        assert self.told(env)[0] == "there is nothing to remove"

    def test_a_run_that_is_at_work_is_named(self, env: dict[str, str]) -> None:
        home = Path(env["NBPROVISION_HOME"])
        home.mkdir()
        (home / "lock.holder").write_text(json.dumps({"pid": os.getpid(), "command": "nbprovision run", "since": 0}))
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (line,) = (line for line in self.told(env, "--dry-run") if line.startswith("at work: "))
        assert line.startswith(f"at work: process {os.getpid()} (nbprovision run, since ")
        assert line.endswith("; its temporary files are counted as leftovers here")
        assert not any(line.startswith("at work: ") for line in self.told(env, "--dry-run")), "the lock is free"

    @pytest.mark.parametrize("at_work", [False, True])
    def test_a_slot_of_the_tool_itself_stays_while_bootstrap_is_at_work(
        self, at_work: bool, env: dict[str, str]
    ) -> None:
        home = Path(env["NBPROVISION_HOME"])
        for slot in ("venv.1", "venv.2"):
            (home / slot).mkdir(parents=True)
        (home / "venv").symlink_to("venv.1")
        with (home / "bootstrap.lock").open("w") as lock:
            if at_work:
                fcntl.flock(lock, fcntl.LOCK_EX)
            self.told(env)
        assert (home / "venv.2").exists() == at_work

    def test_the_slot_of_the_tool_that_last_ended_a_run_well_stays(self, env: dict[str, str]) -> None:
        home = Path(env["NBPROVISION_HOME"])
        for slot in ("venv.1", "venv.2"):
            (home / slot).mkdir(parents=True)
        (home / "venv").symlink_to("venv.1")
        (home / "venv.good").symlink_to("venv.2")
        (home / "bootstrap.lock").touch()
        assert self.told(env)[0] == "there is nothing to remove"
        assert (home / "venv.2").is_dir()


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("800MB", 800_000_000), ("1.5 GiB", 1_610_612_736), ("2g", 2_000_000_000), ("123", 123)],
)
def test_the_limit_of_the_caches_is_a_size(text: str, size: int, tmp_path: Path) -> None:
    assert caches.limit({caches.LIMIT: text}, tmp_path) == size


def test_a_limit_that_is_no_size_is_an_error_that_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="800MB"):
        caches.limit({caches.LIMIT: "plenty"}, tmp_path)

"""Packages of pip that come to harm: what is there and not whole, a run that is killed, and what cannot be installed."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from nbprovision.machine import distributions
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ProvisionError, TaskFailed
from nbprovision.pip import uv_command
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from nbprovision.system import unfinished
from tests.support.driver import converge, planned
from tests.support.pip_environment import ENGINES, Task, asked_of, carried_out, told, venv
from tests.support.provided import versions
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.engine


@ENGINES
def test_a_wrong_hash_installs_nothing(task: Task, prefix: Path, machine: Machine, tmp_path: Path, engine: str) -> None:
    (tmp_path / "r.txt").write_text(f"apple==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(TaskFailed) as caught:
        converge(EnsurePipPkg(requirements=str(tmp_path / "r.txt"), env=str(prefix), engine=engine), machine)
    assert "hash" in caught.value.cause.lower()
    assert "compare the hash" in caught.value.cure
    assert versions(prefix) == {}


class TestHarm:
    """What is there and not whole is put in place anew."""

    @pytest.fixture
    def site(self, task: Task, prefix: Path, machine: Machine) -> Path:
        converge(task("apple==1.0", "pear"), machine)
        site = distributions.site_packages(prefix)
        assert site is not None
        return site

    @ENGINES
    def test_a_record_is_missing(self, task: Task, site: Path, machine: Machine, engine: str) -> None:
        (site / "apple-1.0.dist-info/RECORD").unlink()
        (site / "apple.py").unlink()
        assert told(converge(task("apple==1.0", engine=engine), machine)) == [("reinstall", "apple", "1.0", "1.0")]
        assert (site / "apple.py").exists()

    @ENGINES
    def test_metadata_is_missing(self, task: Task, site: Path, machine: Machine, engine: str) -> None:
        (site / "apple-1.0.dist-info/METADATA").unlink()
        (change,) = converge(task("apple==1.0", engine=engine), machine)
        assert (change.action, change.target) == ("reinstall", "apple")

    def test_debris_in_the_way_of_another(self, task: Task, site: Path, machine: Machine) -> None:
        shutil.rmtree(site / "pear-1.0.dist-info")
        (site / "pear-1.0.dist-info").mkdir()
        assert planned(task("apple"), machine) == ()
        changes = told(converge(task("apple", "plum"), machine))
        assert changes == [("install", "plum", None, None), ("remove", "pear", "1.0", None)]

    @ENGINES
    def test_two_of_one_name(
        self, task: Task, site: Path, wheels: Path, machine: Machine, tmp_path: Path, engine: str
    ) -> None:
        other = venv(tmp_path / "other")
        converge(EnsurePipPkg(packages="apple==1.1", env=str(other)), machine)
        there = distributions.site_packages(other)
        assert there is not None
        shutil.copytree(there / "apple-1.1.dist-info", site / "apple-1.1.dist-info")
        (site / "apple.py").unlink()  # the cache shares it
        shutil.copy2(there / "apple.py", site / "apple.py")
        converge(task("apple==1.0", engine=engine), machine)
        assert [path.name for path in sorted(site.glob("apple*"))] == ["apple-1.0.dist-info", "apple.py"]
        assert (site / "apple.py").read_text() == "version = '1.0'\n"

    @ENGINES
    def test_a_dependency_is_gone(self, task: Task, site: Path, machine: Machine, engine: str) -> None:
        shutil.rmtree(site / "apple-1.0.dist-info")
        (site / "apple.py").unlink()
        (change,) = converge(task("pear", engine=engine), machine)
        assert (change.action, change.target) == ("install", "apple")

    @ENGINES
    def test_deep_finds_what_is_gone_or_edited(self, task: Task, site: Path, machine: Machine, engine: str) -> None:
        (site / "apple.py").unlink()
        assert planned(task("apple", engine=engine), machine) == ()
        assert [action for action, *_ in told(converge(task("apple", deep=True, engine=engine), machine))] == [
            "reinstall"
        ]
        text = (site / "apple.py").read_text()
        (site / "apple.py").unlink()  # a new file: the cache may share the old one
        (site / "apple.py").write_text(text.replace("1.0", "6.6"))
        assert planned(task("apple"), machine) == ()
        assert planned(task("apple", deep=True), machine) != ()
        converge(task("apple", deep=True, engine=engine), machine)
        assert (site / "apple.py").read_text() == text

    def test_a_marked_environment_gets_the_deep_look(
        self, task: Task, prefix: Path, site: Path, machine: Machine
    ) -> None:
        (site / "apple.py").unlink()
        unfinished.mark(prefix, "ensure_pip_pkg")
        assert [target for _, target, *_ in told(converge(task("pear"), machine))] == ["apple"]
        assert (site / "apple.py").exists()

    def test_removing_what_has_no_record(self, task: Task, site: Path, machine: Machine) -> None:
        (site / "apple-1.0.dist-info/RECORD").unlink()
        assert told(converge(task("apple", state="absent"), machine)) == [("remove", "apple", "1.0", None)]


def test_killed_at_any_moment_the_next_run_converges(
    task: Task, prefix: Path, wheels: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL of uv while it writes: an install of many files that takes a while, from a cold cache."""
    many = {f"big/part_{number}.py": f"n = {number}\n" * 50 for number in range(1500)}
    for version in ("1.0", "2.0"):
        make_wheel(wheels, "big", version, files={**many, f"big/of_{version[0]}.py": "x = 1\n"})
    uv = uv_command.find(machine)
    assert uv is not None
    began = time.monotonic()
    converge(task("big==1.0"), machine)
    whole = time.monotonic() - began
    landed = 0
    for number, wanted in zip(range(60), itertools.cycle(["big==2.0", "big==1.0"]), strict=False):
        if landed == 3:  # on a fast machine uv may have ended before it is killed
            break
        unfinished.mark(prefix, "ensure_pip_pkg")
        machine.sound.clear()  # as in a new run
        argv = [uv, "pip", "install", "--python", prefix / "bin/python", "--no-index", "--find-links", wheels,
                "--cache-dir", machine.cache / "uv", wanted]  # fmt: skip
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", env=machine.env)
        _kill_while_it_writes(process, prefix, whole, 0.01 * (number % 6))
        landed += process.wait() == -signal.SIGKILL
        assert carried_out(task(wanted), machine).error is None
        version = wanted.split("==")[1]
        assert asked_of(prefix, "import importlib.metadata as m; print(m.version('big'))") == version
        assert not distributions.installed(prefix)["big"][0].files_missing(digests=machine.digests)
        assert len(list(prefix.glob("lib/python3.*/site-packages/big-*.dist-info"))) == 1
        assert not unfinished.is_marked(prefix)
    assert landed == 3


def _kill_while_it_writes(process: subprocess.Popen[bytes], prefix: Path, limit: float, later: float) -> None:
    """Kill as soon as site-packages changes, or some milliseconds after."""
    (site,) = prefix.glob("lib/python3.*/site-packages")
    before, started = os.stat(site).st_mtime_ns, time.monotonic()
    while process.poll() is None and os.stat(site).st_mtime_ns == before and time.monotonic() - started < limit + 5:
        pass
    time.sleep(later)
    with contextlib.suppress(ProcessLookupError):
        process.kill()


class TestErrors:
    def test_what_no_index_has(self, task: Task, machine: Machine) -> None:
        for engine in ("uv", "pip"):
            with pytest.raises(TaskFailed) as caught:
                planned(task("cherry", engine=engine), machine)
            assert "cherry" in caught.value.cause
            assert "spelling" in caught.value.cure

    def test_what_is_not_found_where_no_index_is_asked(self, task: Task, machine: Machine) -> None:
        machine.env["PIP_NO_INDEX"] = "1"
        for engine in ("uv", "pip"):
            with pytest.raises(TaskFailed) as caught:
                planned(task("cherry", engine=engine), machine)
            assert "PIP_NO_INDEX sets `no-index`, so only" in caught.value.cure

    def test_what_does_not_go_together(self, task: Task, machine: Machine) -> None:
        for engine in ("uv", "pip"):
            with pytest.raises(TaskFailed) as caught:
                planned(task("pear", "apple>=2", engine=engine), machine)
            assert "apple" in caught.value.cause
            assert "loosen" in caught.value.cure

    def test_an_index_that_cannot_be_reached(self, task: Task, machine: Machine) -> None:
        del machine.env["PIP_NO_INDEX"]
        machine.env.update(
            PIP_INDEX_URL="http://ann:canary-pass@127.0.0.1:9/simple", NBPROVISION_NETWORK_PATIENCE="2",
            UV_HTTP_RETRIES="0", PIP_RETRIES="0",
        )  # fmt: skip
        with pytest.raises(TaskFailed) as caught:
            planned(task("cherry"), machine)
        assert "127.0.0.1:9" in caught.value.cure
        assert "canary-pass" not in str(caught.value)

    def test_a_path_that_is_not_there(self, task: Task, machine: Machine, tmp_path: Path) -> None:
        with pytest.raises(TaskFailed, match=r"there is no .*gone\.whl"):
            planned(task(f"{tmp_path}/gone.whl"), machine)

    def test_another_python_is_needed(self, task: Task, wheels: Path, machine: Machine) -> None:
        make_wheel(wheels, "future", "1.0", requires_python=">=4")
        for engine in ("uv", "pip"):
            with pytest.raises(TaskFailed) as caught:
                planned(task("future", engine=engine), machine)
            assert "Python" in caught.value.cure

    def test_a_disk_that_is_full(self, task: Task, prefix: Path, machine: Machine) -> None:
        """uv's own words, from a file system without room."""
        if os.geteuid() != 0 or not shutil.which("mount"):
            pytest.skip("needs to mount a small file system")
        full = prefix.parent / "full"
        full.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", full], capture_output=True
        )
        if mounted.returncode != 0:
            pytest.skip("may not mount a small file system")
        try:
            machine.env["UV_CACHE_DIR"] = str(full)
            with pytest.raises(TaskFailed) as caught:
                converge(task("pear", "plum", "apple"), machine)
            assert "free some space" in caught.value.cure
        finally:
            subprocess.run(["umount", full], check=True)


def test_every_error_is_one_of_ours(task: Task, machine: Machine) -> None:
    for text in ("six=1.0", "six 1.0", "-r x", "six --foo", "http://[::1/x.whl", "a\nb", "", "six==1 --hash=md5"):
        with pytest.raises(ProvisionError):
            task(text)

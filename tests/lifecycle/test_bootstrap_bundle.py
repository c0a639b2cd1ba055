"""bootstrap.sh with a bundle: the tool comes from it, without a network, and only from a bundle that is whole."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbprovision import __version__
from nbprovision.bundle import archive
from tests.lifecycle.test_bootstrap_hook import Hook, another_version, at_work, wait_for
from tests.reliability.volume import MB, mounted
from tests.support import bundles, moto_server, other_python
from tests.support.bootstrapping import ROOT, bootstrap

pytestmark = [pytest.mark.proof, pytest.mark.sampled(3)]  # each unpacks the tool, or installs it

AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can do it")
PROGRAMS = ("tar", "sha256sum", "stat", "find", "cat", "cksum", "sort", "tail", "readlink", "timeout")


class BundleHook(Hook):
    """A machine that starts with a bundle, and has its tool from there."""

    def __init__(self, home: Path, env: dict[str, str], folder: Path, wheels: Path) -> None:
        super().__init__(home, {name: value for name, value in env.items() if name != "NBPROVISION_SOURCE"}, folder)
        self.playbook = bundles.write(folder / "team.tar", wheels)
        self.unpacked = home / "lifecycle/bundle"
        self.wheels = wheels

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """As a person runs it at a terminal."""
        env = {name: value for name, value in {**self.env, **variables}.items() if name not in HOOK}
        shutil.rmtree(self.kernels, ignore_errors=True)
        return bootstrap(env, str(self.playbook), *words)

    def names(self) -> list[str]:
        """What lies beside the wheels."""
        return sorted(path.name for path in self.unpacked.parent.iterdir() if not path.name.startswith("."))

    def state(self) -> dict[str, tuple[int, int]]:
        """The wheels and their record, by inode and time."""
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in self.unpacked.iterdir()}


HOOK = ("NBPROVISION_PHASE", "NBPROVISION_VERSION")


@pytest.fixture
def hook(complete: tuple[Path, dict[str, str]], tmp_path: Path, wheels: Path) -> BundleHook:
    """The tool is installed already, so that only the bundle is new."""
    return BundleHook(*complete, tmp_path, wheels)


@pytest.fixture
def started(hook: BundleHook) -> BundleHook:
    """One start with the bundle has succeeded."""
    done = hook.start()
    assert done.returncode == 0, done.stdout + done.stderr
    assert hook.facts(done) == [f"version={__version__}"]
    assert "creating" not in done.stdout, "it has the wheel that is installed"
    return hook


@pytest.fixture
def bare(offline: dict[str, str], tmp_path: Path, wheels: Path) -> BundleHook:
    """A machine without the tool."""
    return BundleHook(Path(offline["NBPROVISION_HOME"]), offline, tmp_path, wheels)


def without_network() -> list[str]:
    """The command before others that leaves them no network, where this user may."""
    words = ["unshare", "--net"]
    possible = os.getuid() == 0 and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    return words if possible else []


def test_a_bare_machine_needs_no_network(bare: BundleHook, tmp_path: Path) -> None:
    """The script lies alone, taken out of the bundle as its user would; the index of the settings is never reached."""
    subprocess.run(["tar", "-xf", bare.playbook, "bootstrap.sh"], cwd=tmp_path, check=True)
    words = [*without_network(), "sh", "bootstrap.sh", "team.tar", "--format", "json"]
    env = {name: value for name, value in bare.env.items() if name not in HOOK}
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert bare.offers()
    assert {path.suffix for path in bare.unpacked.iterdir()} == {".whl", ""}
    before, slot = bare.state(), (bare.home / "venv/.complete").stat()
    again = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "creating" not in again.stderr
    assert (bare.state(), (bare.home / "venv/.complete").stat()) == (before, slot)


def traced(hook: BundleHook, source: dict[str, str], *words: str) -> Counter[str]:
    """The programs that bootstrap.sh calls, by the trace of a shell that writes whole lines."""
    env = {name: value for name, value in {**hook.env, **source}.items() if name not in HOOK}
    command = ["bash", "-x", str(ROOT / "bootstrap.sh"), *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    called = re.findall(r"^\++ (?:TZ=UTC0 )?([^\s=]+)(?=\s|$)", done.stderr, re.MULTILINE)
    return Counter(name for name in called if name in PROGRAMS or name.endswith("bin/python"))


def test_an_unchanged_bundle_is_neither_unpacked_nor_verified_again(started: BundleHook) -> None:
    before = started.state()
    calls = traced(started, {}, str(started.playbook))
    assert started.state() == before
    assert calls["tar"] == calls["sha256sum"] == 0
    assert sum(count for name, count in calls.items() if name.endswith("/python")) == 1, "the run itself"
    (started.playbook.parent / "team.yml").write_text(bundles.KERNEL)
    plain = traced(started, {"NBPROVISION_SOURCE": str(started.unpacked)}, str(started.playbook.with_suffix(".yml")))
    more = calls - plain
    assert set(more) <= {"stat", "readlink"}  # root judges the bundle's path too
    assert os.getuid() == 0 or more == Counter(["stat"])


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_at_the_head(path: Path) -> None:
    os.truncate(path, 2000)


def altered(path: Path, member: str) -> None:
    (name,) = archive.read(path).named(member)
    found = archive.read(path).members[name]
    with path.open("r+b") as stream:
        stream.seek(found.offset + found.size // 2)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 1]))


def alter_wheel(path: Path) -> None:
    altered(path, f"{archive.TOOL}py_rattler-")


def alter_tool(path: Path) -> None:
    altered(path, f"{archive.TOOL}nbprovision-")


def alter_playbook(path: Path) -> None:
    altered(path, "playbook/team.yml")


def foreign(path: Path) -> None:
    path.write_bytes(b"not an archive\n" * 10_000)


HARMS: dict[Callable[[Path], None], str] = {
    cut: "unexpected end of data",
    cut_at_the_head: "it is truncated, or not a bundle",
    alter_wheel: "its member 'tool/py_rattler-",
    alter_tool: "its member 'tool/nbprovision-",
    alter_playbook: "its member 'playbook/team.yml' is altered",
    foreign: "it is truncated, or not a bundle",
    Path.unlink: "it does not exist, or cannot be read",
}


def test_a_harmed_bundle_is_refused_before_anything_changes(started: BundleHook) -> None:
    whole = started.playbook.with_name("whole.tar")
    started.playbook.rename(whole)
    beside = started.playbook.with_name("team.tar.new")  # a file of the user's
    beside.touch()
    before = started.state()
    for harm, reason in HARMS.items():
        shutil.copy(whole, started.playbook)
        harm(started.playbook)
        done = started.run()
        assert done.returncode == 4, f"{harm}: {done.stdout}{done.stderr}"
        assert reason in done.stderr, f"{harm}: {done.stderr}"
        assert "Traceback" not in done.stderr
        assert started.state() == before
        assert started.names() == ["bootstrap.good", "bundle"]
        assert beside.exists()
        assert not started.kernels.exists()
        assert started.record()["state"] == "failed"


def test_a_hook_uses_the_last_good_playbook_of_a_harmed_bundle(started: BundleHook) -> None:
    alter_wheel(started.playbook)
    done = started.start()
    assert done.returncode == 4, done.stdout
    assert "its member 'tool/py_rattler-" in done.stdout
    assert started.facts(done) == [f"fallback=playbook used={__version__} version={__version__}"]
    assert started.offers(), done.stdout + done.stderr
    bundles.write(started.playbook, started.wheels)
    assert started.start().returncode == 0


def test_nothing_is_installed_from_a_harmed_bundle(bare: BundleHook) -> None:
    alter_playbook(bare.playbook)
    done = bare.start()
    assert done.returncode == 4, done.stdout
    assert not list(bare.home.glob("venv*"))
    assert not bare.unpacked.exists()


def test_a_full_disk(bare: BundleHook, tmp_path: Path) -> None:
    reason = mounted(tmp_path / "small", size=30 * MB)
    if reason is not None:
        pytest.skip(reason)
    home = tmp_path / "small/home"
    try:
        done = bare.run("--home", str(home))
        assert done.returncode == 2, done.stderr
        assert "No space left on device" in done.stderr
        assert "Free space: nbprovision clean" in done.stderr
        assert not list((home / "lifecycle").iterdir())
        assert not list(home.glob("venv*"))
    finally:
        subprocess.run(["umount", "--lazy", tmp_path / "small"], check=True)


def test_killed_while_it_unpacks_the_next_start_completes(hook: BundleHook) -> None:
    command = ["sh", str(ROOT / "bootstrap.sh"), str(hook.playbook)]
    process = subprocess.Popen(command, env=hook.env, start_new_session=True)
    while not list(hook.home.glob("lifecycle/bundle.new/*.whl")) and process.poll() is None:
        pass
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not hook.unpacked.exists()
    done = hook.start()
    assert done.returncode == 0, done.stdout
    assert len(list(hook.unpacked.glob("*.whl"))) == len(list(hook.wheels.glob("*.whl")))
    assert not hook.unpacked.with_name("bundle.new").exists()


def test_another_bundle_takes_the_place_of_the_last(started: BundleHook) -> None:
    bundles.write(started.playbook, started.wheels, "other")
    done = started.start()
    assert done.returncode == 0, done.stdout
    assert started.offers("other")


class TestInstalls:
    """Each installs the tool."""

    def test_the_bundle_decides_which_version_it_is(self, started: BundleHook, wheels: Path, tmp_path: Path) -> None:
        """The script may be of an earlier version than the bundle in its bucket."""
        (tmp_path / "new").mkdir()
        another_version(wheels, "0.10.0", tmp_path / "new")
        for wheel in wheels.glob("*.whl"):
            if not wheel.name.startswith("nbprovision-"):
                (tmp_path / "new" / wheel.name).hardlink_to(wheel)
        bundles.write(started.playbook, tmp_path / "new")
        done = started.start()
        assert done.returncode == 0, done.stdout
        assert started.facts(done)[-1] == "version=0.10.0"

    def test_a_python_that_it_has_no_wheels_for(self, bare: BundleHook, tmp_path: Path) -> None:
        python = other_python.make(tmp_path / "image/python3", minor=sys.version_info.minor + 1)
        done = bare.run(NBPROVISION_PYTHON=str(python))
        assert done.returncode == 2, done.stderr
        assert "could not install nbprovision from" in done.stderr
        assert "make the bundle again for this machine's Python" in done.stderr
        assert not list(bare.home.glob("venv*"))


@AS_ROOT
def test_root_uses_no_bundle_that_another_user_can_change(started: BundleHook) -> None:
    os.chown(started.playbook, 1000, 1000)
    done = started.run()
    assert done.returncode == 5
    assert f"root does not use {started.playbook}" in done.stderr


def test_another_source_of_the_tool_wins(hook: BundleHook) -> None:
    done = hook.run("--tool", str(hook.wheels))
    assert done.returncode == 0, done.stderr
    assert hook.offers()
    assert not hook.unpacked.exists(), "the run verifies it"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto_server.serving() as address:
        yield address


@moto_server.NEEDED
class TestBucket:
    @pytest.fixture(autouse=True)
    def _bucket(self, hook: BundleHook, server: str, tmp_path: Path) -> Iterator[None]:
        """The bundle lies in a bucket, and `aws` is the real one."""
        self.hook, self.server, self.file = hook, server, hook.playbook
        self.aws = tmp_path / "bin/aws"
        moto_server.make_command(self.aws.parent, server)
        subprocess.run([self.aws, "s3", "mb", "s3://team"], check=True, stdout=subprocess.DEVNULL)
        self.upload()
        hook.env["PATH"] = f"{tmp_path}/bin:{hook.env['PATH']}"
        hook.playbook = Path("s3://team/books/team.tar")
        self.fetched = hook.home / "lifecycle/bundle.tar"
        yield
        moto_server.reset(server)

    def upload(self, kernel: str = "team", harm: Callable[[Path], None] = lambda path: None) -> None:
        bundles.write(self.file, self.hook.wheels, kernel)
        harm(self.file)
        place = "s3://team/books/team.tar"
        subprocess.run([self.aws, "s3", "cp", "--only-show-errors", self.file, place], check=True)

    def start(self, *words: str) -> subprocess.CompletedProcess[str]:
        hook = self.hook
        shutil.rmtree(hook.kernels, ignore_errors=True)
        return bootstrap(hook.env, "s3://team/books/team.tar", *(words or ("--deadline", "120")))

    def test_it_is_fetched_when_it_has_changed(self) -> None:
        done = self.start()
        assert done.returncode == 0, done.stdout
        assert self.hook.offers()
        before = self.fetched.stat()
        assert self.start().returncode == 0
        assert self.fetched.stat() == before
        self.upload("other")
        done = self.start()
        assert done.returncode == 0, done.stdout
        assert self.hook.offers("other")
        assert self.hook.names() == ["bootstrap.good", "bundle", "bundle.tar", "bundle.tar.etag"]

    def test_without_the_bucket_that_of_an_earlier_start_is_used(self) -> None:
        assert self.start().returncode == 0
        moto_server.reset(self.server)
        done = self.start()
        assert done.returncode == 4, done.stdout
        assert "cannot fetch the bundle from s3://team/books/team.tar" in done.stdout
        assert self.hook.facts(done)[-1] == f"fallback=playbook used={__version__} version={__version__}"
        assert self.hook.offers()

    def test_a_damaged_one_does_not_take_the_place_of_the_last(self) -> None:
        assert self.start().returncode == 0
        before = self.fetched.read_bytes()
        self.upload("other", alter_wheel)
        done = self.start()
        assert done.returncode == 4, done.stdout
        assert "its member 'tool/py_rattler-" in done.stdout
        assert self.hook.facts(done)[-1] == f"fallback=playbook used={__version__} version={__version__}"
        assert self.hook.offers()
        assert self.fetched.read_bytes() == before
        assert self.hook.names() == ["bootstrap.good", "bundle", "bundle.tar", "bundle.tar.etag"]

    def test_a_download_that_is_cut_off_leaves_the_last(self, tmp_path: Path) -> None:
        """Here `aws` writes a part of the file, as it does before it is killed."""
        assert self.start().returncode == 0
        before = self.fetched.read_bytes()
        self.upload("other")
        self.aws.rename(tmp_path / "bin/real")
        self.aws.write_text(
            f'#!/bin/sh\ncase "$*" in *" s3 cp "*) for to; do :; done; echo part >"$to.1a2b"; kill -9 $$ ;; esac\n'
            f'exec {tmp_path}/bin/real "$@"\n'
        )
        self.aws.chmod(0o755)
        done = self.start()
        assert done.returncode == 4, done.stdout
        assert self.hook.offers()
        assert self.fetched.read_bytes() == before
        assert self.hook.names() == ["bootstrap.good", "bundle", "bundle.tar", "bundle.tar.etag"]
        (tmp_path / "bin/real").rename(self.aws)
        assert self.start().returncode == 0
        assert self.hook.offers("other")

    def test_a_download_that_takes_long_keeps_no_kernels_waiting(self, tmp_path: Path) -> None:
        """The last bundle puts them back; the new one follows when it is fetched."""
        assert self.start().returncode == 0
        self.upload("other")
        self.aws.rename(tmp_path / "bin/real")
        self.aws.write_text(
            f'#!/bin/sh\ncase "$*" in *" s3 cp "*) while [ ! -e {tmp_path}/go ]; do sleep 0.1; done ;; esac\n'
            f'exec {tmp_path}/bin/real "$@"\n'
        )
        self.aws.chmod(0o755)
        done = self.start("--deadline", "12")
        assert done.returncode == 7, done.stdout
        assert "continues in the background" in done.stdout
        assert self.hook.offers()
        assert not self.hook.offers("other")
        (tmp_path / "go").touch()
        wait_for(lambda: self.hook.offers("other"))
        wait_for(lambda: not at_work(self.hook.home))
        assert self.hook.record()["state"] == "ok"

"""bootstrap.sh as a lifecycle script runs it: one budget, the background, and what it falls back to.

The environment is the real one, installed from real wheels; only the version and the harm are made up.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbprovision import __version__
from tests.support import other_python
from tests.support.bootstrapping import ROOT, bootstrap

pytestmark = [pytest.mark.proof, pytest.mark.sampled(3)]  # each installs the tool

KERNEL = '- tasks: [{ensure_kernel: {name: NAME, argv: ["true", "{connection_file}"], display_name: T}}]\n'


class Hook:
    """A machine whose lifecycle script starts bootstrap.sh."""

    def __init__(self, home: Path, env: dict[str, str], folder: Path) -> None:
        self.home = home
        self.playbook = folder / "team.yml"
        self.playbook.write_text(KERNEL.replace("NAME", "team"))
        self.env = {**env, "NBPROVISION_PHASE": "on-start", "NBPROVISION_VERSION": __version__}
        self.kernels = Path(env["HOME"]) / ".local/share/jupyter/kernels"

    def start(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """One start of the machine, whose kernels are gone."""
        shutil.rmtree(self.kernels, ignore_errors=True)
        return bootstrap({**self.env, **variables}, str(self.playbook), *(words or ("--deadline", "120")))

    def facts(self, done: subprocess.CompletedProcess[str]) -> list[str]:
        """What it says of itself to root's part, beside that its work may outlast it."""
        return [
            fact for fact in re.findall(r"^nbprovision: result (.*)$", done.stdout, re.MULTILINE) if fact != "worker"
        ]

    def offers(self, kernel: str = "team") -> bool:
        return (self.kernels / kernel / "kernel.json").exists()

    def record(self) -> dict[str, object]:
        record: dict[str, object] = json.loads((self.home / "status.json").read_text())
        return record


@pytest.fixture
def hook(complete: tuple[Path, dict[str, str]], tmp_path: Path) -> Hook:
    """The tool is installed, and one start has succeeded."""
    hook = Hook(*complete, tmp_path)
    done = hook.start()
    assert done.returncode == 0, done.stderr
    assert hook.facts(done) == [f"version={__version__}"]
    assert os.readlink(hook.home / "venv.good") == "venv.1"
    return hook


@pytest.fixture
def empty(offline: dict[str, str], tmp_path: Path) -> Iterator[Hook]:
    """Nothing is installed yet."""
    hook = Hook(Path(offline["NBPROVISION_HOME"]), offline, tmp_path)
    yield hook
    with contextlib.suppress(OSError):
        wait_for(lambda: not at_work(hook.home))


def at_work(home: Path) -> bool:
    """Whether a process of a worker lives."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"NBPROVISION_HOME={home}".encode() in (folder / "environ").read_bytes():
                return True
    return False


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it does not come about")


def another_version(
    wheels: Path, version: str, folder: Path, change: Callable[[str, bytes], bytes] | None = None
) -> Path:
    """The tool's wheel under another version, with one change to its files."""
    (source,) = wheels.glob(f"nbprovision-{__version__}-*.whl")
    target = folder / source.name.replace(__version__, version)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        record = []
        for entry in old.infolist():
            name = entry.filename.replace(f"nbprovision-{__version__}", f"nbprovision-{version}")
            if name.endswith("/RECORD"):
                listing = name
                continue
            data = old.read(entry)
            if name.endswith("/METADATA"):
                data = data.replace(f"\nVersion: {__version__}\n".encode(), f"\nVersion: {version}\n".encode())
            data = change(name, data) if change is not None else data
            copied = zipfile.ZipInfo(name)
            copied.external_attr = entry.external_attr
            new.writestr(copied, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            record.append(f"{name},sha256={digest},{len(data)}")
        new.writestr(listing, "\n".join([*record, f"{listing},,", ""]))
    return target


@pytest.fixture
def bucket(wheels: Path, tmp_path: Path) -> Path:
    """A folder of wheels of its own, to be changed."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for wheel in wheels.glob("*.whl"):
        (folder / wheel.name).hardlink_to(wheel)
    return folder


class TestBudget:
    def test_what_is_in_place_takes_no_detour(self, hook: Hook) -> None:
        done = hook.start()
        assert done.returncode == 0
        assert "ok=1" in done.stdout or "changed=1" in done.stdout
        assert not (hook.home / "log/bootstrap.log").exists(), "no other process was needed"

    def test_an_install_that_takes_too_long_goes_on(self, empty: Hook) -> None:
        done = empty.start("--deadline", "1")
        assert done.returncode == 7, done.stdout + done.stderr
        assert "nbprovision: result worker" in done.stdout
        assert "continues in the background" in done.stderr
        wait_for(empty.offers)
        wait_for(lambda: not at_work(empty.home))
        assert "creating its environment" in (empty.home / "log/bootstrap.log").read_text()
        again = empty.start()
        assert again.returncode == 0
        assert os.readlink(empty.home / "venv.good") == "venv.1"

    def test_the_budget_counts_from_the_start_of_roots_part(self, empty: Hook) -> None:
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        done = empty.start("--deadline", "100", NBPROVISION_STARTED=f"{uptime - 200:.2f}")
        assert done.returncode == 7
        wait_for(empty.offers)

    def test_an_install_that_fits_is_shown_as_it_goes(self, empty: Hook) -> None:
        done = empty.start("--deadline", "300")
        assert done.returncode == 0, done.stdout + done.stderr
        shown = done.stdout
        assert shown.index("creating its environment") < shown.index("changed=1")
        assert empty.facts(done) == [f"version={__version__}"]

    def test_the_answer_of_the_worker_arrives_when_its_reader_is_ended(self, empty: Hook, tmp_path: Path) -> None:
        """`cat` may be ended after it has read and before it writes. Here nothing that it reads arrives."""
        text = (ROOT / "bootstrap.sh").read_text()
        assert text.count("cat <&3)") == 1
        script = tmp_path / "bootstrap.sh"
        script.write_text(text.replace("cat <&3)", "cat <&3 >/dev/null)"))
        done = bootstrap(empty.env, str(empty.playbook), "--deadline", "300", script=script)
        assert done.returncode == 0, done.stdout + done.stderr
        assert empty.facts(done) == [f"version={__version__}"]
        assert not list((empty.home / "lifecycle").glob(".answer.*"))

    def test_the_end_of_the_caller_does_not_reach_the_work(self, empty: Hook) -> None:
        caller = subprocess.Popen(
            ["sh", str(ROOT / "bootstrap.sh"), str(empty.playbook), "--deadline", "300"],
            env=empty.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        wait_for((empty.home / "venv.1").is_dir)
        assert caller.stdout is not None
        caller.stdout.close()
        os.killpg(caller.pid, 9)
        caller.wait()
        wait_for(empty.offers)

    def test_a_worker_that_is_killed_is_reported(self, empty: Hook) -> None:
        caller = subprocess.Popen(
            ["sh", str(ROOT / "bootstrap.sh"), str(empty.playbook), "--deadline", "300"],
            env=empty.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for((empty.home / "status.json").exists)
        os.killpg(int(str(empty.record()["pid"])), 9)
        _, errors = caller.communicate(timeout=300)
        assert caller.returncode == 2
        assert "ended before the work was done" in errors

    def test_nobody_waits_for_an_install_of_another_start(self, empty: Hook) -> None:
        first = subprocess.Popen(
            ["sh", str(ROOT / "bootstrap.sh"), str(empty.playbook), "--deadline", "300"],
            env={**empty.env, "NBPROVISION_PHASE": "on-create"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for((empty.home / "venv.1").is_dir)
        worker = int(str(empty.record()["pid"]))
        os.killpg(worker, signal.SIGSTOP)  # the install takes longer than whatever the second start does
        try:
            second = empty.start("--deadline", "299")
        finally:
            os.killpg(worker, signal.SIGCONT)
        assert second.returncode == 7
        # Whichever of the two gets the run's lock first does the work of both, and the other does not wait for it.
        assert first.wait(timeout=300) in (0, 7)
        wait_for(empty.offers)

    def test_the_budget_is_no_part_of_a_state(self, hook: Hook) -> None:
        """The next start of the same script is witnessed, whatever is left of its budget."""
        hook.start("--deadline", "120")
        done = bootstrap(hook.env, str(hook.playbook), "--deadline", "100")
        assert "witnessed" in done.stdout, done.stdout + done.stderr


class TestFallback:
    def test_a_version_that_cannot_be_installed(self, hook: Hook) -> None:
        done = hook.start(NBPROVISION_SOURCE="nbprovision==99.0")
        assert done.returncode == 4, done.stdout
        assert hook.offers()
        assert hook.facts(done)[-1] == f"fallback=tool used={__version__} version={__version__}"
        assert "could not install nbprovision==99.0" in done.stdout
        assert hook.record()["fallback"] == "tool"
        assert "could not install nbprovision==99.0" in str(hook.record()["message"])

    def test_a_wheel_that_is_cut(self, hook: Hook, bucket: Path, wheels: Path) -> None:
        cut = another_version(wheels, "0.10.0", bucket)
        cut.write_bytes(cut.read_bytes()[:-5000])
        done = hook.start(NBPROVISION_SOURCE=str(bucket), NBPROVISION_VERSION="0.10.0")
        assert done.returncode == 4, done.stdout
        assert hook.offers()
        assert "fallback=tool" in hook.facts(done)[-1]

    @pytest.mark.parametrize(
        "harm",
        [
            lambda playbook: playbook.write_text(playbook.read_text().replace("ensure_kernel", "ensure_kernle")),
            lambda playbook: playbook.write_text("- tasks: ["),
            lambda playbook: playbook.unlink(),
        ],
        ids=["misspelt", "not YAML", "gone"],
    )
    def test_a_playbook_that_is_invalid(self, hook: Hook, harm: Callable[[Path], None]) -> None:
        harm(hook.playbook)
        done = hook.start()
        assert done.returncode == 4, done.stdout
        assert hook.offers()
        assert hook.facts(done) == [f"fallback=playbook used={__version__} version={__version__}"]
        record = hook.record()
        assert (record["state"], record["status"], record["fallback"]) == ("failed", 4, "playbook")
        assert str(hook.playbook) in str(record["why"])

    def test_a_playbook_of_another_name_that_is_invalid(self, hook: Hook, tmp_path: Path) -> None:
        """The team's is replaced by the one that the team had before, the user's own by nothing of the team's."""
        before, own = hook.playbook, tmp_path / "own.yml"
        hook.playbook = tmp_path / "renamed.yml"
        for path in (hook.playbook, own):
            path.write_text("[")
        done = hook.start(NBPROVISION_USER_PLAYBOOK=str(own))
        assert done.returncode == 4, done.stdout
        assert hook.offers()
        assert hook.facts(done) == [f"fallback=playbook used={__version__} version={__version__} user_status=4"]
        assert (done.stdout + done.stderr).count(f"using the team's {before} that last succeeded") == 1

    def test_both(self, hook: Hook) -> None:
        hook.playbook.write_text("[")
        done = hook.start(NBPROVISION_SOURCE="nbprovision==99.0")
        assert done.returncode == 4
        assert hook.offers()
        assert hook.facts(done)[-1].startswith("fallback=both ")

    def test_at_a_terminal_nothing_is_fallen_back_to(self, hook: Hook) -> None:
        for name in ("NBPROVISION_PHASE", "NBPROVISION_VERSION"):
            del hook.env[name]
        assert hook.start(NBPROVISION_SOURCE="nbprovision==99.0").returncode == 2
        assert not hook.offers()
        hook.playbook.write_text("[")
        assert hook.start().returncode == 4
        assert not hook.offers()

    def test_where_nothing_has_worked_yet_another_version_has_to_do(self, empty: Hook) -> None:
        done = empty.start("--deadline", "300", NBPROVISION_VERSION="99.0")
        assert done.returncode == 4, done.stdout
        assert empty.offers()
        assert "fallback=tool" in empty.facts(done)[-1]


class TestAnotherImage:
    """The image's Python has another minor version. It is a stand-in, which says so and refuses the old ABI."""

    @pytest.fixture
    def changed(self, empty: Hook, tmp_path: Path) -> Hook:
        """The tool was made with the image's Python, which is then replaced."""
        python = tmp_path / "image/python3"
        python.parent.mkdir()
        python.symlink_to(other_python.real())
        empty.env["NBPROVISION_PYTHON"] = str(python)
        done = empty.start("--deadline", "300")
        assert done.returncode == 0, done.stdout
        other_python.make(python, minor=sys.version_info.minor + 1)
        return empty

    def test_a_finished_environment_has_a_python_that_fits(self, changed: Hook) -> None:
        environment = changed.home / "envs/team/bin"
        environment.mkdir(parents=True)
        (environment / "python").symlink_to(other_python.real())
        done = changed.start("--deadline", "300")
        assert done.returncode == 4, done.stdout
        assert changed.offers()
        assert changed.facts(done)[-1] == f"fallback=tool used={__version__} version={__version__}"
        assert changed.start("--deadline", "300").returncode == 4, "and so at the next start"

    def test_where_there_is_none_it_is_said(self, changed: Hook) -> None:
        done = changed.start("--deadline", "300")
        assert done.returncode == 2, done.stdout
        assert "could not install" in done.stdout
        assert "Traceback" not in done.stdout

    def test_when_the_image_is_back_the_slot_is_of_use_again(self, changed: Hook, tmp_path: Path) -> None:
        changed.start("--deadline", "300")
        python = tmp_path / "image/python3"
        python.unlink()
        python.symlink_to(other_python.real())
        done = changed.start("--deadline", "300")
        assert done.returncode == 0, done.stdout
        assert "creating" not in done.stdout


class TestVersions:
    def test_an_upgrade_and_a_roll_back(self, hook: Hook, bucket: Path, wheels: Path) -> None:
        another_version(wheels, "0.10.0", bucket)
        up = hook.start(NBPROVISION_SOURCE=str(bucket), NBPROVISION_VERSION="0.10.0")
        assert up.returncode == 0, up.stdout
        assert hook.facts(up)[-1] == "version=0.10.0"
        assert [os.readlink(hook.home / link) for link in ("venv", "venv.good")] == ["venv.2", "venv.2"]
        back = hook.start(NBPROVISION_SOURCE=str(bucket), NBPROVISION_VERSION=__version__)
        assert back.returncode == 0
        assert "creating" not in back.stdout + back.stderr, "it is still installed"
        assert hook.facts(back) == [f"version={__version__}"]

    def test_without_a_version_the_newest_counts(self, hook: Hook, bucket: Path, wheels: Path) -> None:
        """As versions are compared, not as names are: 0.10.0 is newer than 0.9.0."""
        for version in ("0.9.0", "0.10.0"):
            another_version(wheels, version, bucket)
        del hook.env["NBPROVISION_VERSION"]
        done = hook.start(NBPROVISION_SOURCE=str(bucket))
        assert done.returncode == 0, done.stdout
        assert (hook.home / "venv/.complete").read_text().splitlines()[1] == "0.10.0"

    def test_an_upgrade_that_takes_long_keeps_no_kernels_waiting(self, hook: Hook, bucket: Path, wheels: Path) -> None:
        """The version that is installed puts them back; the new one follows when it is there."""
        another_version(wheels, "0.10.0", bucket)
        with (hook.home / "bootstrap.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # as if another start had begun the install, and were slow
            done = hook.start("--deadline", "10", NBPROVISION_SOURCE=str(bucket), NBPROVISION_VERSION="0.10.0")
            assert done.returncode == 7, done.stdout
            wait_for(hook.offers)
            assert os.readlink(hook.home / "venv") == "venv.1", "the new one is not there yet"
        wait_for(lambda: os.readlink(hook.home / "venv.good") == "venv.2")
        wait_for(lambda: not at_work(hook.home))
        assert (hook.home / "venv/.complete").read_text().splitlines()[1] == "0.10.0"
        assert hook.record()["state"] == "ok"

    def test_what_last_worked_is_never_written_over(self, hook: Hook, bucket: Path, wheels: Path) -> None:
        """A version whose runs crash, and then another one: both go into the other slot."""

        def crash(name: str, data: bytes) -> bytes:
            return data + b"\nraise RuntimeError(1)\n" if name == "nbprovision/engine/session.py" else data

        another_version(wheels, "0.10.0", bucket, crash)
        another_version(wheels, "0.11.0", bucket)
        hook.env["NBPROVISION_SOURCE"] = str(bucket)
        done = hook.start(NBPROVISION_VERSION="0.10.0")
        assert done.returncode == 1, done.stdout
        assert os.readlink(hook.home / "venv.good") == "venv.1"
        done = hook.start(NBPROVISION_VERSION="0.11.0")
        assert done.returncode == 0, done.stdout
        assert (hook.home / "venv.1/.complete").read_text().splitlines()[1] == __version__


def zeros(path: Path) -> None:
    """As a power cut leaves a file: its size and its times, and nothing in it."""
    status = path.stat()
    path.unlink()
    path.write_bytes(b"\0" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def nothing(path: Path) -> None:
    status = path.stat()
    path.unlink()
    path.touch()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


class TestRepair:
    @pytest.mark.parametrize(
        ("pattern", "harm"),
        [("msgspec/_core*.so", nothing), ("nbprovision/engine/run.py", zeros), ("nbprovision/__main__.py", nothing)],
        ids=["an empty library", "a module of zeros", "an empty entry"],
    )
    def test_what_a_power_cut_left_is_found_and_made_again(
        self, hook: Hook, pattern: str, harm: Callable[[Path], None]
    ) -> None:
        (path,) = (hook.home / "venv/lib").glob(f"python3*/site-packages/{pattern}")
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
        harm(path)
        marker = (hook.home / "venv/.complete").resolve()
        later = time.time() + 5
        os.utime(marker, (later, later))  # nothing has changed since, as far as times tell
        hook.playbook.write_text(KERNEL.replace("NAME", "other"))
        done = hook.start()
        assert done.returncode == 0, done.stdout + done.stderr
        assert "is damaged, and is created again" in done.stdout + done.stderr
        assert hook.offers("other")


class TestSwitch:
    def test_nothing_is_done(self, hook: Hook) -> None:
        (hook.home / "skip").touch()
        done = hook.start()
        assert done.returncode == 0
        assert hook.facts(done) == ["skipped"]
        assert not hook.offers()
        assert hook.record()["state"] == "skipped"

    def test_nothing_of_a_playbook_of_the_scripts_own(self, hook: Hook) -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(hook.playbook, "team.yml")
        (hook.home / "skip").write_text("check\n")
        shutil.rmtree(hook.kernels)
        done = subprocess.run(
            ["sh", str(ROOT / "bootstrap.sh"), "inline:team.yml", "--deadline", "60"],
            env=hook.env, input=base64.b64encode(packed.getvalue()).decode(), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "changed=1" in done.stdout
        assert not hook.offers()

    def test_or_nothing_is_changed(self, hook: Hook) -> None:
        (hook.home / "skip").write_text("check\n")
        done = hook.start()
        assert done.returncode == 0
        assert hook.facts(done) == [f"skipped mode=check version={__version__}"]
        assert "changed=1" in done.stdout, "it says what would change"
        assert not hook.offers()

    def test_at_a_terminal_it_does_not_count(self, hook: Hook) -> None:
        (hook.home / "skip").touch()
        del hook.env["NBPROVISION_PHASE"]
        hook.start()
        assert hook.offers()


class TestTheUsersOwn:
    def test_it_is_carried_out_after_the_teams(self, hook: Hook, tmp_path: Path) -> None:
        own = tmp_path / "own.yml"
        own.write_text(KERNEL.replace("NAME", "mine"))
        done = hook.start(NBPROVISION_USER_PLAYBOOK=str(own))
        assert done.returncode == 0
        assert hook.facts(done) == [f"version={__version__} user_status=0"]
        assert hook.offers()
        assert hook.offers("mine")

    def test_its_faults_are_the_users(self, hook: Hook, tmp_path: Path) -> None:
        own = tmp_path / "own.yml"
        own.write_text("[")
        done = hook.start(NBPROVISION_USER_PLAYBOOK=str(own))
        assert done.returncode == 0, "the team's is as it should be"
        assert hook.facts(done) == [f"version={__version__} user_status=4"]


class TestInline:
    """The playbook comes with the script."""

    def start(self, hook: Hook, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, text in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        shutil.rmtree(hook.kernels, ignore_errors=True)
        return subprocess.run(
            ["sh", str(ROOT / "bootstrap.sh"), "inline:team.yml", "--deadline", "120"],
            input=base64.b64encode(packed.getvalue()).decode(), env=hook.env, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    def test_files_that_cannot_be_unpacked_leave_those_of_the_last_start(self, hook: Hook) -> None:
        assert self.start(hook, {"team.yml": KERNEL.replace("NAME", "old")}).returncode == 0
        unpacked = hook.home / "lifecycle/playbook"
        (unpacked / "tasks").touch()
        new = {"team.yml": KERNEL.replace("NAME", "new"), "tasks/more.yml": "[]\n"}
        done = self.start(hook, new)
        assert done.returncode == 4, done.stdout
        assert "could not unpack the playbook" in done.stderr
        assert hook.offers("old")
        assert not hook.offers("new")
        (unpacked / "tasks").unlink()
        assert self.start(hook, new).returncode == 0
        assert hook.offers("new")


# In place of AWS's own command, which needs AWS: `s3 cp` and `s3 sync` with a folder for the buckets.
AWS = """#!/bin/sh
while [ "$1" != s3 ]; do shift; done
shift; verb=$1; shift
for word; do case $word in s3://*) from=BUCKETS/${word#s3://} ;; --*) ;; *) to=$word ;; esac; done
[ ! -e BUCKETS/hangs ] || exec sleep 100
[ -d BUCKETS ] || { echo "Could not connect to the endpoint URL" >&2; exit 255; }
case $verb in cp) cp "$from" "$to" ;; sync) cp "$from"*.whl "$to/" ;; esac
"""


class TestBucket:
    @pytest.fixture
    def buckets(self, hook: Hook, tmp_path: Path) -> Path:
        """A bucket with a playbook."""
        buckets, programs = tmp_path / "buckets", tmp_path / "bin"
        (buckets / "team").mkdir(parents=True)
        shutil.copy(hook.playbook, buckets / "team/book.yml")
        programs.mkdir()
        (programs / "aws").write_text(AWS.replace("BUCKETS", str(buckets)))
        (programs / "aws").chmod(0o755)
        hook.env["PATH"] = f"{programs}:{hook.env['PATH']}"
        hook.playbook = Path("s3://team/book.yml")
        return buckets

    def start(self, hook: Hook, *words: str) -> subprocess.CompletedProcess[str]:
        shutil.rmtree(hook.kernels, ignore_errors=True)
        return bootstrap(hook.env, "s3://team/book.yml", *(words or ("--deadline", "120")))

    def test_the_playbook_comes_from_there(self, hook: Hook, buckets: Path) -> None:
        done = self.start(hook)
        assert done.returncode == 0, done.stdout
        assert hook.offers()
        before = (hook.home / "lifecycle/playbook.yml").stat()
        assert self.start(hook).returncode == 0
        assert (hook.home / "lifecycle/playbook.yml").stat() == before, "it has not changed, so it keeps its time"

    def test_where_it_cannot_be_reached_that_of_an_earlier_start_is_used(self, hook: Hook, buckets: Path) -> None:
        self.start(hook)
        buckets.rename(buckets.with_name("elsewhere"))
        done = self.start(hook)
        assert done.returncode == 4, done.stdout
        assert hook.offers()
        assert "Could not connect to the endpoint URL" in done.stdout
        assert hook.facts(done)[-1].startswith("fallback=playbook ")

    def test_one_that_hangs_is_given_up(self, hook: Hook, buckets: Path) -> None:
        self.start(hook)
        (buckets / "hangs").touch()
        done = self.start(hook, "--deadline", "12")
        assert done.returncode == 4, done.stdout
        assert "aws did not end in time" in done.stdout
        assert hook.offers()

    def test_all_that_is_asked_of_it_has_a_third_of_the_budget(self, hook: Hook, buckets: Path) -> None:
        self.start(hook)
        (buckets / "hangs").touch()
        hook.env["NBPROVISION_SOURCE"] = "s3://team/wheels"
        done = self.start(hook, "--deadline", "24")
        limits = [int(limit) for limit in re.findall(r"aws did not end in time \((-?[0-9]+) s\)", done.stdout)]
        assert len(limits) == 2, done.stdout
        assert 0 < limits[0] <= 8
        assert limits[0] + limits[1] <= 8


class TestMessages:
    def test_an_index_that_is_dead(self, empty: Hook) -> None:
        done = empty.start("--deadline", "300", NBPROVISION_SOURCE="nbprovision==1.0", PIP_RETRIES="1")
        assert done.returncode == 2
        assert "Looking in indexes: http://127.0.0.1:9/simple" in done.stdout
        assert "Connection refused" in done.stdout
        assert "Traceback" not in done.stdout
        assert "During handling" not in done.stdout
        assert empty.record()["state"] == "failed"
        assert "Connection refused" in str(empty.record()["message"])

    def test_a_folder_that_lacks_a_wheel(self, empty: Hook, bucket: Path, silent: socket.socket) -> None:
        """It is named, and no index is asked: one out of reach would use up the budget before it said so."""
        next(bucket.glob("msgspec-*.whl")).unlink()
        empty.env["PIP_INDEX_URL"] = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        done = empty.start("--deadline", "300", NBPROVISION_SOURCE=str(bucket))
        assert done.returncode == 2
        assert "msgspec" in done.stdout, done.stdout
        assert str(bucket) in done.stdout
        assert "msgspec" in str(empty.record()["message"])
        with pytest.raises(BlockingIOError):
            silent.accept()

    def test_an_upgrade_from_a_folder_that_lacks_a_wheel(
        self, hook: Hook, wheels: Path, bucket: Path, silent: socket.socket
    ) -> None:
        another_version(wheels, "0.10.0", bucket)
        next(bucket.glob("msgspec-*.whl")).unlink()
        hook.env["PIP_INDEX_URL"] = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        done = hook.start(NBPROVISION_SOURCE=str(bucket), NBPROVISION_VERSION="0.10.0")
        assert done.returncode == 4, done.stdout
        assert "msgspec" in done.stdout, done.stdout
        assert hook.facts(done)[-1].startswith("fallback=tool ")

    def test_a_folder_with_nothing_but_the_tool_leaves_the_rest_to_the_index(
        self, empty: Hook, wheels: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "tool"
        folder.mkdir()
        (wheel,) = wheels.glob("nbprovision-*.whl")
        (folder / wheel.name).hardlink_to(wheel)
        with an_index(wheels) as index:
            done = empty.start("--deadline", "300", NBPROVISION_SOURCE=str(folder), PIP_INDEX_URL=index.url)
        assert done.returncode == 0, done.stdout

    def test_what_was_fetched_of_uv_is_kept_for_the_next_start(self, empty: Hook, wheels: Path, tmp_path: Path) -> None:
        del empty.env["UV_CACHE_DIR"]
        lacking = tmp_path / "lacking"
        lacking.mkdir()
        for wheel in wheels.glob("*.whl"):
            if not wheel.name.startswith("msgspec-"):
                (lacking / wheel.name).hardlink_to(wheel)
        with an_index(lacking) as index:
            source = {"NBPROVISION_SOURCE": f"nbprovision=={__version__}", "PIP_INDEX_URL": index.url}
            for _ in range(2):
                done = empty.start("--deadline", "300", **source)
                assert done.returncode == 2, done.stdout
                assert "msgspec" in done.stdout, done.stdout
            asked = [path for path in index.asked if re.search(r"/uv-[^/]*\.whl$", path)]
        assert len(asked) == 1, asked


class Index(http.server.ThreadingHTTPServer):
    """A package index (PEP 503) of a folder of wheels, which notes what it is asked for.

    Attributes:
        claimed: Digests that it lists in place of the files' own, by their names.
        only_pip: Whether it answers pip alone, as where an index asks for what uv does not know.

    """

    def __init__(self, wheels: Path) -> None:
        self.wheels = wheels
        self.asked: list[str] = []
        self.claimed: dict[str, str] = {}
        self.only_pip = False
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        name = self.path.rstrip("/").rpartition("/")[2]
        listed = [
            wheel
            for wheel in self.server.wheels.glob("*")
            if wheel.name.split("-")[0].replace("_", "-").lower() == name
        ]
        if self.server.only_pip and "pip/" not in self.headers["User-Agent"]:
            listed = []
        content = b""
        if name.endswith((".whl", ".tar.gz")):
            content = (self.server.wheels / name).read_bytes()
        for wheel in listed:
            digest = self.server.claimed.get(wheel.name) or hashlib.sha256(wheel.read_bytes()).hexdigest()
            content += f'<a href="/files/{wheel.name}#sha256={digest}">{wheel.name}</a>\n'.encode()
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", "text/html" if listed else "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815  # the name that the library wants

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def an_index(wheels: Path) -> Iterator[Index]:
    with Index(wheels) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A port at which nobody answers, as where a firewall drops what is sent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening

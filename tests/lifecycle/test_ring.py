"""bootstrap.sh in a ring of a fleet: the release that the ring points to, or the last good one, and the report."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision import __version__
from nbprovision.report.instance_report import InstanceReport
from nbprovision.state.witness import identity
from tests.lifecycle.test_bootstrap_hook import another_version, at_work, wait_for
from tests.reliability.volume import MB, mounted
from tests.support import moto_server
from tests.support.bootstrapping import ROOT, bootstrap
from tests.support.rings import PREFIX, Fleet, Instance, release

pytestmark = [pytest.mark.proof, pytest.mark.sampled(3), moto_server.NEEDED]  # each start takes seconds

KERNEL = 'ensure_kernel: {name: NAME, argv: ["true", "{connection_file}"], display_name: T}'
POINTER = "s3api get-object --bucket team --key fraud/rings/stable --range bytes=0-8191 /dev/stdout"


def playbook(kernel: str = "team", *tasks: str) -> str:
    lines = [f"- {{{KERNEL.replace('NAME', kernel)}}}", *(f"- {task}" for task in tasks)]
    return "- tasks:\n" + "".join(f"    {line}\n" for line in lines)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto_server.serving() as address:
        yield address


@pytest.fixture
def fleet(server: str) -> Iterator[Fleet]:
    yield Fleet(server)
    moto_server.reset(server)


@pytest.fixture
def instance(fleet: Fleet, complete: tuple[Path, dict[str, str]], tmp_path: Path) -> Iterator[Instance]:
    """The tool is installed, and the ring points to nothing yet."""
    instance = Instance(fleet, complete[1], tmp_path / "bin", "mine")
    yield instance
    with contextlib.suppress(OSError):
        wait_for(lambda: not at_work(instance.home))


@pytest.fixture
def first(fleet: Fleet) -> str:
    """The digest of the first release."""
    return fleet.publish(release({"team.yml": playbook()}))


@pytest.fixture
def started(instance: Instance, first: str) -> Instance:
    """One start with the first release has succeeded."""
    done = instance.start()
    assert done.returncode == 0, done.stdout + done.stderr
    assert facts(done) == [f"version={__version__} release={first[:12]}"]
    assert instance.offers()
    uploaded(instance)
    return instance


def facts(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What a start says of itself to root's part."""
    said = re.findall(r"^nbprovision: result (.*)$", done.stdout, re.MULTILINE)
    return [fact for fact in said if fact != "worker"]


def uploaded(instance: Instance) -> None:
    """Wait for the upload, which nobody waits for at a start."""
    wait_for(lambda: not at_work(instance.home))


def report(fleet: Fleet, instance: Instance) -> InstanceReport:
    """The report in the bucket, which is that of the tool's home."""
    uploaded(instance)
    content = fleet.report()
    assert content == instance.report()
    return content


def names(instance: Instance) -> set[str]:
    """The entries of the folder of releases and what is beside it, without the files of bootstrap.sh itself."""
    return {path.name for path in instance.own.iterdir() if not path.name.startswith((".", "bootstrap", "report."))}


class TestStart:
    def test_one_that_comes_to_no_run_uploads_no_earlier_report(self, fleet: Fleet, started: Instance) -> None:
        """It would pass for news: the fleet goes by the time of the upload, as clocks of instances may be wrong."""
        assert started.has_uploaded
        os.utime(started.home / "instance-report.json", (time.time() - 60,) * 2)
        fleet.publish(release({"team.yml": playbook("other")}))
        with (started.home / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = started.start("--lock-timeout", "1")
        assert done.returncode == 6, done.stdout + done.stderr
        uploaded(started)
        assert not started.has_uploaded

    def test_the_first_one(self, fleet: Fleet, offline: dict[str, str], wheels: Path, tmp_path: Path) -> None:
        """The release names the version of the tool, which comes from the bucket."""

        def renamed(name: str, data: bytes) -> bytes:
            return data.replace(__version__.encode(), b"0.10.0") if name == "nbprovision/__init__.py" else data

        another_version(wheels, "0.10.0", tmp_path, renamed)
        for wheel in [*wheels.glob("*.whl"), *tmp_path.glob("*.whl")]:
            fleet.put(f"wheels/{wheel.name}", wheel.read_bytes())
        digest = fleet.publish(release({"books/team.yml": playbook()}, "books/team.yml", "0.10.0"))
        bare = Instance(fleet, offline, tmp_path / "bin", "mine")
        done = bare.start("--deadline", "300")
        assert done.returncode == 0, done.stdout + done.stderr
        assert facts(done) == [f"version=0.10.0 release={digest[:12]}"]
        assert bare.offers()
        assert [call.split()[:2] for call in bare.calls] == [["s3api", "get-object"], ["s3", "cp"], ["s3", "sync"]]
        content = report(fleet, bare)
        assert (content.instance, content.ring, content.tool) == ("mine", "stable", "0.10.0")
        assert (content.wanted, content.release, content.status, content.fallback) == (digest, digest, 0, "")
        assert content.counts["changed"] == 1
        assert content.drift == ()
        assert names(bare) == {"releases", "release", "release.at", "release.good"}

    def test_with_nothing_to_do_it_asks_once(self, fleet: Fleet, started: Instance, first: str) -> None:
        """The home is new at each start: once it is put back, the next start is witnessed."""
        before = report(fleet, started)
        done = started.start()
        assert started.calls == [POINTER]
        assert done.returncode == 0
        assert report(fleet, started).counts["changed"] == 1
        (started.home / "keep").touch()
        done = bootstrap(started.env, started.ring, "--deadline", "120")
        assert "witnessed" in done.stdout, done.stdout + done.stderr
        after = report(fleet, started)
        assert after.time > before.time
        assert (after.release, after.status, after.counts, after.drift) == (first, 0, {"ok": 1, "skipped": 0}, ())

    def test_the_upload_is_not_waited_for(self, fleet: Fleet, started: Instance, tmp_path: Path) -> None:
        started.instead_of_aws(
            f'case "$*" in */reports/*) while [ ! -e {tmp_path}/go ]; do sleep 0.1; done ;; esac\nexec "$real" "$@"'
        )
        before = fleet.report()
        assert started.start().returncode == 0
        assert fleet.report() == before
        (tmp_path / "go").touch()
        assert report(fleet, started) != before

    def test_an_upload_that_fails_changes_nothing_and_is_said(self, fleet: Fleet, started: Instance) -> None:
        started.instead_of_aws('case "$*" in */reports/*) echo no space there; exit 1 ;; esac\nexec "$real" "$@"')
        assert started.start().returncode == 0
        uploaded(started)
        log = started.home / "log/report.log"
        assert log.read_text().splitlines() == [
            f"nbprovision: cannot upload the report to {PREFIX}/reports/mine.json",
            "  no space there",
            "  The next start tries again.",
        ]
        started.instead_of_aws('exec "$real" "$@"')
        started.start()
        report(fleet, started)
        assert not log.exists()

    def test_a_release_with_the_same_playbook_is_witnessed(self, fleet: Fleet, started: Instance) -> None:
        bootstrap(started.env, started.ring, "--deadline", "120")
        digest = fleet.publish(release({"team.yml": playbook(), "notes.txt": "more"}))
        done = bootstrap(started.env, started.ring, "--deadline", "120")
        assert "witnessed" in done.stdout, done.stdout + done.stderr
        assert report(fleet, started).release == digest
        assert (started.own / "release.good").read_text() == f"{digest}\n"
        assert (started.own / "release/notes.txt").read_text() == "more"

    def test_another_release_replaces_the_files_of_the_last(self, fleet: Fleet, started: Instance) -> None:
        """Files that only the last one had are gone, and what a task wrote beside the playbook stays."""
        task = "ensure_file: {path: ./made, content: x}"
        old = {"team.yml": playbook("team", task), "a/b/gone.txt": "", "run.sh": "#!/bin/sh\n", "a/kept.txt": "x"}
        fleet.publish(release(old))
        assert started.start().returncode == 0
        placed = started.own / "release"
        kept = identity((placed / "a/kept.txt").stat())
        fleet.publish(release({"team.yml": playbook("other"), "a/kept.txt": "x", "run.sh/inner": ""}))
        done = started.start()
        assert done.returncode == 0, done.stdout
        assert started.offers("other")
        assert identity((placed / "a/kept.txt").stat()) == kept
        files = {str(path.relative_to(placed)) for path in placed.rglob("*") if path.is_file()}
        assert files == {"team.yml", "made", "a/kept.txt", "run.sh/inner"}
        assert not (placed / "a/b").exists()

    def test_the_newest_three_are_kept_and_the_last_good_one(self, fleet: Fleet, started: Instance, first: str) -> None:
        bad = [fleet.publish(release({"team.yml": f"- tasks: [{number}]\n"})) for number in range(4)]
        for digest in bad:
            fleet.point(digest)
            assert started.start().returncode == 4
            os.utime(started.own / "releases" / digest, (time.time() + len(bad), time.time() + bad.index(digest)))
        kept = {path.name for path in (started.own / "releases").iterdir()}
        assert kept == {first, *bad[1:]}

    def test_a_locked_release_runs_locked(self, fleet: Fleet, started: Instance) -> None:
        fleet.publish(release({"team.yml": playbook("other")}, locked="1"))
        done = started.start()
        assert done.returncode == 4
        assert "team.lock" in done.stdout + done.stderr, "its lock is missing"
        index = json.dumps({"environments": {}, "platforms": ["linux-64", "linux-aarch64"], "version": 1})
        fleet.publish(release({"team.yml": playbook("other"), "team.lock/index.json": index}, locked="1"))
        done = started.start()
        assert done.returncode == 0, done.stdout
        assert started.offers("other")

    def test_programs_may_be_run(self, fleet: Fleet, started: Instance) -> None:
        task = "ensure_command: {argv: ['{{ playbook_dir }}/make.sh']}"
        fleet.publish(release({"team.yml": playbook("team", task), "make.sh": "#!/bin/sh\nexit 0\n"}))
        done = started.start()
        assert done.returncode == 0, done.stdout

    def test_the_users_own_playbook_is_not_part_of_the_report(
        self, fleet: Fleet, started: Instance, tmp_path: Path
    ) -> None:
        own = tmp_path / "own.yml"
        own.write_text("[")
        done = started.start(NBPROVISION_USER_PLAYBOOK=str(own))
        assert done.returncode == 0, done.stdout
        assert facts(done)[-1].endswith(" user_status=4")
        assert report(fleet, started).failures == ()
        assert report(fleet, started).status == 0

    def test_check_of_the_switch_changes_nothing(self, fleet: Fleet, started: Instance) -> None:
        before = fleet.report()
        (started.home / "skip").write_text("check\n")
        done = started.start()
        assert facts(done) == [f"skipped mode=check version={__version__}"]
        assert "changed=1" in done.stdout
        assert started.calls == []
        uploaded(started)
        assert fleet.report() == before


def break_ring(fleet: Fleet, harm: str) -> tuple[str, str]:
    """Point the ring to a release that cannot be used; return its digest, and the reason."""
    good = release({"team.yml": playbook("other")})
    digest = "a" * 64
    match harm:
        case "pointer":
            fleet.put("rings/stable", b"\0rubbish \xff\nrelease=../../x\nrelease=" + b"g" * 64)
            return "", f"the pointer {PREFIX}/rings/stable is not valid"
        case "no release":
            fleet.point(digest)
            return digest, f"cannot fetch the release {PREFIX}/releases/{digest}/release.tar: "
        case "digest":
            fleet.put(f"releases/{digest}/release.tar", good)
            fleet.point(digest)
            return digest, f"the release {PREFIX}/releases/{digest}/release.tar is altered: Its sha256 is "
        case "tar":
            return fleet.publish(b"not an archive\n" * 1000), "cannot unpack the release "
        case "cut":
            return fleet.publish(good[:2000]), "cannot unpack the release "
        case "no RELEASE":
            digest = fleet.publish(release({"team.yml": ""}, name="OTHER"))
        case "format":
            digest = fleet.publish(release({"team.yml": ""}, format="2"))
        case "no playbook":
            digest = fleet.publish(release({"other.yml": ""}))
        case _:
            digest = fleet.publish(release({"team.yml": ""}, "../../../team.yml"))
    return digest, "is not valid: Its RELEASE must have format=1, playbook=FILE and tool=VERSION."


HARMS = ["pointer", "no release", "digest", "tar", "cut", "no RELEASE", "format", "no playbook", "outside"]


class TestFallback:
    @pytest.mark.parametrize("harm", HARMS)
    def test_a_release_that_cannot_be_used(self, fleet: Fleet, started: Instance, first: str, harm: str) -> None:
        instance = started
        before = names(instance)
        digest, reason = break_ring(fleet, harm)
        done = instance.start()
        assert done.returncode == 4, done.stdout
        assert "Traceback" not in done.stdout
        assert facts(done) == [f"fallback=playbook used={__version__} version={__version__} release={first[:12]}"]
        assert reason in " ".join(done.stdout.split())
        assert instance.offers()
        content = report(fleet, instance)
        assert (content.wanted, content.release, content.status) == (digest or None, first, 4)
        assert reason in content.fallback
        assert content.failures == ()
        record = json.loads((instance.home / "status.json").read_text())
        assert (record["state"], record["status"], record["fallback"]) == ("failed", 4, "playbook")
        assert reason in record["message"]
        assert names(instance) == before
        fleet.point(first)
        done = instance.start()
        assert done.returncode == 0
        assert (report(fleet, instance).status, report(fleet, instance).fallback) == (0, "")

    @pytest.mark.parametrize("harm", HARMS)
    def test_at_a_first_start(self, fleet: Fleet, instance: Instance, harm: str) -> None:
        wanted, reason = break_ring(fleet, harm)
        done = instance.start()
        assert done.returncode == 4, done.stdout
        assert "Traceback" not in done.stdout
        assert not instance.offers()
        content = report(fleet, instance)
        assert (content.wanted, content.release, content.status) == (wanted or None, None, 4)
        assert reason in content.fallback
        digest = fleet.publish(release({"team.yml": playbook()}))
        assert instance.start().returncode == 0
        assert report(fleet, instance).release == digest

    @pytest.mark.parametrize("harm", ["no network", "denied", "no bucket"])
    def test_without_the_bucket(self, fleet: Fleet, started: Instance, first: str, harm: str) -> None:
        reason = "(404)|NoSuchBucket"
        if harm == "no network":
            started.instead_of_aws('AWS_ENDPOINT_URL=; eval "$(sed "s|=http://[^ ]*|=http://127.0.0.1:9|" "$real")"')
            reason = "Could not connect to the endpoint URL"
        elif harm == "denied":
            fleet.deny()
            reason = r"\(403\)"
        else:
            moto_server.reset(fleet.address)
        done = started.start()
        assert done.returncode == 4, done.stdout
        assert f"cannot fetch the pointer {PREFIX}/rings/stable" in done.stdout
        assert facts(done) == [f"fallback=playbook used={__version__} version={__version__} release={first[:12]}"]
        assert started.offers()
        content = started.report()
        assert (content.wanted, content.release, content.status) == (None, first, 4)
        assert re.search(reason, content.fallback)
        uploaded(started)
        if harm == "no network":
            assert "cannot upload the report" in (started.home / "log/report.log").read_text()
        again = bootstrap(started.env, started.ring, "--deadline", "120")
        if harm == "no bucket":
            assert "witnessed" in again.stdout, again.stdout
            assert (started.report().status, started.report().wanted) == (4, None)
            assert re.search(reason, started.report().fallback)

    def test_a_playbook_that_is_invalid(self, fleet: Fleet, started: Instance, first: str) -> None:
        digest = fleet.publish(release({"team.yml": '- tasks: [{ensure_kernle: {name: "a"}}]\n', "more": ""}))
        done = started.start()
        assert done.returncode == 4, done.stdout
        assert f"uses the last good release, {first[:12]}" in done.stdout
        assert facts(done) == [f"fallback=playbook used={__version__} version={__version__} release={first[:12]}"]
        assert started.offers()
        content = report(fleet, started)
        assert (content.wanted, content.release, content.status) == (digest, first, 4)
        assert content.fallback.startswith(f"the playbook of release {digest[:12]} is invalid: ")
        assert "team.yml:1:12: " in content.fallback
        assert "ensure_kernle" in content.fallback
        status = self.status(started)
        assert f"ring stable: release {first[:12]}" in status
        assert f"the ring points to {digest[:12]}: the playbook of release {digest[:12]} is invalid" in status

    def test_at_a_terminal_nothing_is_fallen_back_to(self, fleet: Fleet, started: Instance) -> None:
        for name in ("NBPROVISION_PHASE", "NBPROVISION_VERSION"):
            del started.env[name]
        for harm in HARMS:
            break_ring(fleet, harm)
            done = started.start("-v")
            assert done.returncode == 4, harm + done.stdout + done.stderr
            assert not started.offers()
        fleet.publish(release({"team.yml": playbook("other")}))
        assert started.start("-v").returncode == 0
        assert started.offers("other")

    def test_a_release_that_is_damaged_here_is_fetched_again(self, fleet: Fleet, started: Instance, first: str) -> None:
        """As a power cut leaves it, and then as a user changes the files of the run."""
        (started.own / "releases" / first / "RELEASE").write_bytes(b"\0" * 60)
        assert started.start().returncode == 0
        assert started.offers()
        placed = started.own / "release/team.yml"
        before = placed.stat()
        placed.write_bytes(b"\0" * before.st_size)
        os.utime(placed, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert started.start().returncode == 0
        assert started.offers()
        assert placed.read_text() == playbook()
        assert report(fleet, started).release == first

    def status(self, instance: Instance, *words: str) -> str:
        command = [instance.home / "venv/bin/nbprovision", "status", *words]
        return subprocess.run(command, env=instance.env, capture_output=True, text=True, check=True).stdout

    def test_status_shows_the_ring(self, started: Instance, first: str) -> None:
        assert f"ring stable: release {first[:12]} (" in self.status(started)
        ring = json.loads(self.status(started, "--format", "json"))["ring"]
        assert (ring["ring"], ring["release"], ring["wanted"], ring["fallback"]) == ("stable", first, first, "")

    def test_a_script_without_a_ring_leaves_no_report(self, started: Instance, tmp_path: Path) -> None:
        (tmp_path / "team.yml").write_text(playbook())
        done = bootstrap(started.env, str(tmp_path / "team.yml"), "--deadline", "120")
        assert done.returncode == 0, done.stdout
        assert not (started.home / "instance-report.json").exists()

    def test_an_invalid_playbook_at_a_first_start(self, fleet: Fleet, instance: Instance) -> None:
        digest = fleet.publish(release({"team.yml": "["}))
        assert instance.start().returncode == 4
        content = report(fleet, instance)
        assert (content.wanted, content.release, content.status, content.fallback) == (digest, digest, 4, "")
        assert "team.yml:" in content.failures[0].why

    def test_a_task_that_fails_is_reported_and_its_release_stays(
        self, fleet: Fleet, started: Instance, first: str
    ) -> None:
        digest = fleet.publish(release({"team.yml": playbook("team", "ensure_command: {argv: ['false']}")}))
        for _ in range(2):
            done = started.start()
            assert done.returncode == 2, done.stdout
            assert facts(done) == [f"version={__version__} release={digest[:12]}"]
            content = report(fleet, started)
            assert (content.wanted, content.release, content.status, content.fallback) == (digest, digest, 2, "")
            (failure,) = content.failures
            assert failure.task
            assert "false" in failure.why
            assert "task failed" in content.log
            assert content.drift == ()
        fleet.point(first)
        assert started.start().returncode == 0
        assert report(fleet, started).log == ""

    def test_a_version_of_the_tool_that_is_nowhere(self, fleet: Fleet, started: Instance) -> None:
        digest = fleet.publish(release({"team.yml": playbook("other")}, tool="99.0"))
        done = started.start()
        assert done.returncode == 4, done.stdout
        assert started.offers("other"), "the installed version runs the release"
        content = report(fleet, started)
        assert (content.wanted, content.release, content.status, content.tool) == (digest, digest, 4, __version__)
        assert "could not install nbprovision==99.0" in content.fallback
        assert facts(done)[-1].startswith(f"fallback=tool used={__version__} ")
        assert (started.own / "release.good").read_text().strip() != digest

    def test_a_full_disk(self, fleet: Fleet, started: Instance, first: str, tmp_path: Path) -> None:
        """The release does not fit; the last one lies where it was."""
        small = started.own
        small.rename(tmp_path / "own")
        reason = mounted(small, size=2 * MB)
        if reason is not None:
            pytest.skip(reason)
        try:
            shutil.copytree(tmp_path / "own", small, symlinks=True, dirs_exist_ok=True)
            digest = fleet.publish(release({"team.yml": playbook("other"), "large": "x" * 3 * MB}))
            done = started.start()
            assert done.returncode == 4, done.stdout
            assert "Free space: nbprovision clean" in done.stdout
            assert started.offers(), done.stdout
            assert (report(fleet, started).wanted, report(fleet, started).release) == (digest, first)
            assert names(started) == {"releases", "release", "release.at", "release.good"}
            (small / "filler").write_bytes(b"x" * (os.statvfs(small).f_bavail * os.statvfs(small).f_frsize))
            digest = fleet.publish(release({"team.yml": playbook("small")}))
            assert started.start().returncode == 4
            fleet.point(first)
            done = started.start()
            assert done.returncode == 0, "a start with nothing to fetch needs no space"
        finally:
            subprocess.run(["umount", "--lazy", small], check=True)


class TestKilled:
    def kill(self, instance: Instance, mark: Path, script: Path = ROOT / "bootstrap.sh") -> None:
        """Start, and kill everything as soon as a file exists."""
        process = subprocess.Popen(["sh", str(script), instance.ring], env=instance.env)
        wait_for(mark.exists)
        while at_work(instance.home):
            for folder in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if f"NBPROVISION_HOME={instance.home}".encode() in (folder / "environ").read_bytes():
                        os.kill(int(folder.name), signal.SIGKILL)
            process.poll()
        process.wait()

    def test_in_the_download(self, fleet: Fleet, started: Instance, tmp_path: Path) -> None:
        digest = fleet.publish(release({"team.yml": playbook("other")}))
        started.instead_of_aws(
            f'case "$*" in *" s3 cp "*) for to; do :; done; echo part >"$to.1a2b"; touch {tmp_path}/now; sleep 600 ;; '
            'esac\nexec "$real" "$@"'
        )
        self.kill(started, tmp_path / "now")
        assert not (started.own / "releases" / digest).exists()
        started.instead_of_aws('exec "$real" "$@"')
        done = started.start()
        assert done.returncode == 0, done.stdout
        assert started.offers("other")
        assert names(started) == {"releases", "release", "release.at", "release.good"}

    def test_while_files_are_put_in_place(self, fleet: Fleet, started: Instance, first: str, tmp_path: Path) -> None:
        """It waits before one of them here, so that the kill comes between two files."""
        files = {f"{number}.txt": "new" for number in range(5)}
        digest = fleet.publish(release({"team.yml": playbook("other"), **files}))
        text, script = (ROOT / "bootstrap.sh").read_text(), tmp_path / "bootstrap.sh"
        begin = "copy() { # FILE FILE\n"
        assert text.count(begin) == 1
        waiting = f"case $1 in *3.txt) touch {tmp_path}/now; sleep 600 ;; esac\n"
        script.write_text(text.replace(begin, begin + waiting))
        self.kill(started, tmp_path / "now", script)
        assert (started.own / "release.at").read_text().split() == [first, digest]
        fleet.point(first)
        done = started.start()
        assert done.returncode == 0, done.stdout
        assert started.offers()
        placed = started.own / "release"
        assert {path.name for path in placed.iterdir() if path.suffix != ".new"} == {"team.yml"}
        fleet.point(digest)
        assert started.start().returncode == 0
        assert {path.name for path in placed.iterdir()} == {"team.yml", *files}

    def test_in_the_run_the_report_says_that_it_goes_on(
        self, fleet: Fleet, started: Instance, first: str, tmp_path: Path
    ) -> None:
        task = f"ensure_command: {{shell: 'touch {tmp_path}/now; sleep 600'}}"
        digest = fleet.publish(release({"team.yml": playbook("team", task)}))
        self.kill(started, tmp_path / "now")
        assert (started.report().release, started.report().status) == (digest, 7)
        assert (started.own / "release.good").read_text().strip() == first


class TestBackground:
    def test_the_end_is_reported_too(self, fleet: Fleet, started: Instance, tmp_path: Path) -> None:
        task = f"ensure_command: {{shell: 'while [ ! -e {tmp_path}/go ]; do sleep 0.1; done', creates: {tmp_path}/x}}"
        task = task.replace("done'", f"done; touch {tmp_path}/x'")
        digest = fleet.publish(release({"team.yml": playbook("other", task)}))
        done = started.start("--deadline", "15")
        assert done.returncode == 7, done.stdout
        wait_for(lambda: (fleet.report() or started.report()).release == digest)
        content = fleet.report()
        assert content is not None
        assert (content.release, content.status) == (digest, 7)
        (tmp_path / "go").touch()
        content = report(fleet, started)
        assert (content.release, content.status, content.counts["changed"]) == (digest, 0, 2)
        assert (started.own / "release.good").read_text().strip() == digest

    def test_a_release_that_takes_long_keeps_no_kernels_waiting(
        self, fleet: Fleet, started: Instance, first: str, tmp_path: Path
    ) -> None:
        """The last one puts them back; the new one follows when it is here."""
        digest = fleet.publish(release({"team.yml": playbook("other")}))
        started.instead_of_aws(
            f'case "$*" in */releases/*) while [ ! -e {tmp_path}/go ]; do sleep 0.1; done ;; esac\nexec "$real" "$@"'
        )
        done = started.start("--deadline", "14")
        assert done.returncode == 7, done.stdout
        assert started.offers()
        assert not started.offers("other")
        assert started.report().release == first
        assert started.report().fallback == f"release {digest[:12]} is still being fetched"
        (tmp_path / "go").touch()
        wait_for(lambda: started.offers("other"))
        content = report(fleet, started)
        assert (content.release, content.status, content.fallback) == (digest, 0, "")
        assert (started.own / "release.good").read_text().strip() == digest


class TestReport:
    def test_drift_is_what_no_stop_takes(self, fleet: Fleet, started: Instance, tmp_path: Path) -> None:
        shared, task = tmp_path / "volume", "{name: settings, ensure_file: {path: PATH, content: x}}"
        fleet.publish(release({"team.yml": playbook("team", task.replace("PATH", f"{shared}/settings"))}))
        assert started.start().returncode == 0
        assert report(fleet, started).drift == (), "a new release changes what it wants"
        assert started.start().returncode == 0
        content = report(fleet, started)
        assert (content.counts["changed"], content.drift) == (1, ()), "the stop took the kernel"
        (shared / "settings").write_text("y")
        assert started.start().returncode == 0
        content = report(fleet, started)
        assert (content.counts["changed"], content.drift) == (2, ("settings",))
        assert (shared / "settings").read_text() == "x"
        assert started.start().returncode == 0
        assert report(fleet, started).drift == ()

    def test_no_secret_is_in_it(self, fleet: Fleet, started: Instance) -> None:
        secret = "s3cr3t-W0rd-of-ours"
        tasks = [
            f"{{name: shown, vars: {{password: {secret}}}, ensure_command: {{shell: 'echo {{{{ password }}}}; exit 3'}}}}",
            f"{{name: hidden, no_log: true, ensure_command: {{shell: 'echo {secret}x; exit 3'}}}}",
        ]
        fleet.publish(release({"team.yml": playbook("team", *tasks)}))
        done = started.start()
        assert done.returncode == 2, done.stdout
        content = report(fleet, started)
        assert len(content.failures) >= 1
        assert secret not in (started.home / "instance-report.json").read_text()

    @pytest.mark.parametrize("name", ["-a", "a_b", "a" * 64, "../other", "a\nb", ""])
    def test_no_instance_without_a_valid_name_reports(
        self, fleet: Fleet, instance: Instance, first: str, name: str
    ) -> None:
        done = instance.start(NBPROVISION_INSTANCE=name)
        assert done.returncode == 0, done.stdout
        assert "is not the name of an instance" in done.stderr + done.stdout
        uploaded(instance)
        assert not (instance.home / "instance-report.json").exists()

    def test_the_platform_says_the_name(self, fleet: Fleet, instance: Instance, first: str, tmp_path: Path) -> None:
        """Its file is at a fixed path, which is another one here."""
        text = (ROOT / "bootstrap.sh").read_text()
        platforms = "        /opt/ml/metadata/resource-metadata.json 2>/dev/null"
        assert text.count(platforms) == 1
        script = tmp_path / "bootstrap.sh"
        script.write_text(text.replace("/opt/ml/metadata/resource-metadata.json 2", f"{tmp_path}/metadata.json 2"))
        arn = "arn:aws:sagemaker:eu-west-1:123456789012:notebook-instance/theirs"
        (tmp_path / "metadata.json").write_text(json.dumps({"ResourceArn": arn, "ResourceName": "theirs"}, indent=1))
        env = {name: value for name, value in instance.env.items() if name != "NBPROVISION_INSTANCE"}
        done = bootstrap(env, instance.ring, "--deadline", "120", script=script)
        assert done.returncode == 0, done.stdout
        uploaded(instance)
        content = fleet.report("theirs")
        assert content is not None
        assert content.instance == "theirs"


@pytest.mark.parametrize("word", ["ring:", "ring:stable", "ring:s3://team/stable", "ring:https://team/rings/a"])
def test_what_is_no_ring_is_refused(word: str, env: dict[str, str]) -> None:
    done = bootstrap({**env, "NBPROVISION_PYTHON": sys.executable}, word, "--tool", f"{PREFIX}/wheels")
    assert done.returncode == 5
    assert f"{word} is not a ring" in done.stderr

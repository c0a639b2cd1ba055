"""`ensure_s3_sync`: folders restored from S3 and sent to it, by the real `aws` command and moto's server.

moto does not compare the owner of a bucket: of that the test sees the call, by a wrapper around the real command that
writes down its arguments, and refuses for another account as AWS does.
"""

from __future__ import annotations

import io
import os
import random
import re
import socket
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest

from nbprovision.files import s3_comparison
from nbprovision.files.ensure_s3_sync import EnsureS3Sync, SyncPlan
from nbprovision.files.folder_scan import scan
from nbprovision.machine import s3
from nbprovision.machine.machine import Machine
from nbprovision.machine.network import NetworkFailed
from nbprovision.model.errors import Blocked, NotBegun, ParameterError, TaskFailed
from nbprovision.model.result import Change
from nbprovision.system import disk_space
from tests.support import moto_server
from tests.support.driver import converge, planned

pytestmark = [
    moto_server.NEEDED,
    pytest.mark.proof,
    pytest.mark.sampled(2),
]  # each start of the real aws command takes a second
OWNER = "123456789012"
URL = "s3://backups/ada/notes"
TAR = "s3://backups/ada/notes.tar.gz"
HOUR = 3600
_WRAPPER = """#!/bin/sh
echo "$@" >>{log}
case "$*" in
*"--expected-bucket-owner {owner}"*) ;;
*"--expected-bucket-owner"*)
    echo "An error occurred (403) when calling the HeadBucket operation: Forbidden" >&2
    exit 255 ;;
esac
exec {aws} "$@"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto_server.serving() as address:
        yield address


class Cloud:
    """S3 on this machine, an `aws` command that writes down its calls, and a folder to restore or send."""

    def __init__(self, address: str, machine: Machine, tmp_path: Path) -> None:
        moto_server.reset(address)
        self.machine, self.address, self.path = machine, address, tmp_path / "work"
        commands = tmp_path / "commands"
        commands.mkdir()
        self.log = commands / "log"
        wrapper = commands / "aws"
        wrapper.write_text(_WRAPPER.format(log=self.log, owner=OWNER, aws=moto_server.AWS))
        wrapper.chmod(0o755)
        for name in [name for name in machine.env if name.lower().endswith("_proxy")]:
            del machine.env[name]
        machine.env.update(
            AWS_ENDPOINT_URL=address, AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing",
            AWS_DEFAULT_REGION="us-east-1", NO_PROXY="127.0.0.1", PATH=f"{commands}:{machine.env['PATH']}",
        )  # fmt: skip
        self.s3 = boto3.client(
            "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="a"
        )
        self.s3.create_bucket(Bucket="backups")

    def put(self, key: str, content: bytes | str = b"1") -> None:
        self.s3.put_object(Bucket="backups", Key=key, Body=content)

    def stored(self, prefix: str = "ada/notes/") -> list[str]:
        answer = self.s3.list_objects_v2(Bucket="backups", Prefix=prefix)
        return sorted(entry["Key"][len(prefix) :] for entry in answer.get("Contents", []))

    def calls(self) -> list[str]:
        """The calls since the last question."""
        calls = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return calls

    def task(self, **parameters: Any) -> EnsureS3Sync:
        given = {"source": TAR if parameters.get("archive") else URL, "path": str(self.path), **parameters}
        return EnsureS3Sync(**given)

    def up(self, **parameters: Any) -> EnsureS3Sync:
        return self.task(direction="up", **parameters)

    def later(self) -> None:
        """Another run begins."""
        self.machine.notes.clear()
        self.machine._notes_of.clear()

    def files(self, folder: Path | None = None) -> dict[str, str]:
        folder = folder or self.path
        return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}

    def write(self, name: str, content: str = "1", *, age: float = 0) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, (time.time() - age, time.time() - age))
        return path


@pytest.fixture
def cloud(server: str, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setattr("nbprovision.machine.network.time.sleep", lambda _seconds: None)
    return Cloud(server, machine, tmp_path)


def warnings(task: EnsureS3Sync, machine: Machine) -> tuple[str, ...]:
    return task.plan(task.read(machine)).warnings


def summary(changes: tuple[Change, ...]) -> list[tuple[str, str | None, str | None]]:
    return [(change.action, change.before, change.after) for change in changes]


# -------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(("parameters", "reason"), [
    ({"source": "/home/ada/notes"}, "path: /home/ada/notes, and direction: up"),
    ({"source": "backups/ada"}, "is not a place in S3"),
    ({"source": "s3://b/ada"}, "is not a place in S3"),
    ({"source": "s3://backups/a b"}, "is not a place in S3"),
    ({"source": "s3://backups//a"}, "has an empty part"),
    ({"source": "s3://backups/a/../b"}, "has an empty part"),
    ({"source": "s3://backups/a[1]"}, "takes it for a pattern"),
    ({"path": "s3://backups/ada"}, "is the folder on this machine"),
    ({"path": "/work[1]"}, "takes it for a pattern"),
    ({"exclude": ["/data/*"]}, "matches nothing"),
    ({"exclude": "file:///etc/passwd"}, "matches nothing"),
    ({"exclude": ""}, "matches nothing"),
    ({"expected_owner": "ada"}, "is not the number of an account"),
    ({"archive": True}, "is not the object of an archive"),
    ({"archive": True, "source": "s3://backups/a.tar", "direction": "up", "delete": True}, "has no meaning"),
])  # fmt: skip
def test_parameters_are_refused(parameters: dict[str, Any], reason: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureS3Sync(**{"source": URL, "path": "/work", **parameters})
    assert reason in caught.value.text


def test_the_whole_bucket_is_a_place(cloud: Cloud) -> None:
    cloud.put("a")
    for source in ("s3://backups", "s3://backups/"):
        assert summary(planned(cloud.task(source=source), cloud.machine))[0][2] == "1 file (a) from s3://backups/"


# ---------------------------------------------------------------------------------------------------------- restoring


def test_a_folder_is_restored_once(cloud: Cloud) -> None:
    cloud.put("ada/notes/a")
    cloud.put("ada/notes/b/c d", "2")
    cloud.put("ada/notes/empty/", "")  # as the console creates a folder
    cloud.put("ada/notesshop/a")
    task = cloud.task()
    assert summary(planned(task, cloud.machine)) == [("download", None, f"2 files (a, b/c d) from {URL}/")]
    assert not cloud.path.exists()
    assert not cloud.machine.home.joinpath("s3").exists()
    converge(task, cloud.machine)
    assert cloud.files() == {"a": "1", "b/c d": "2"}
    cloud.calls()
    cloud.later()
    (cloud.path / "a").unlink()
    cloud.put("ada/notes/new")
    assert planned(task, cloud.machine) == ()
    assert cloud.calls() == [], "no process is started"
    (cloud.machine.home / "s3").rename(cloud.machine.home / "gone")  # another home
    assert summary(planned(task, cloud.machine)) == [("download", None, f"2 files (a, new) from {URL}/")]


@pytest.mark.parametrize(("once_per", "expected"), [("ever", []), ("boot", ["download"]), ("run", ["download"])])
def test_how_often(once_per: str, expected: list[str], cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.put("ada/notes/a")
    task = cloud.task(once_per=once_per)
    converge(task, cloud.machine)
    cloud.put("ada/notes/b")
    cloud.later()
    in_this_boot = [change.action for change in planned(task, cloud.machine)]
    cloud.later()
    assert in_this_boot == (["download"] if once_per == "run" else [])
    monkeypatch.setattr("nbprovision.system.inputs.this_start", lambda: "another start")
    assert [change.action for change in planned(task, cloud.machine)] == expected


def test_a_folder_that_a_restart_has_taken_is_restored_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.put("ada/notes/a")
    converge(cloud.task(), cloud.machine)
    (cloud.path / "a").unlink()
    cloud.path.rmdir()
    cloud.later()
    assert planned(cloud.task(), cloud.machine) == (), "on a machine that loses nothing, the user has removed it"
    platform = cloud.machine.platform.__class__("notebook-instance", "test", Path("/home/ec2-user/SageMaker"))
    monkeypatch.setitem(vars(cloud.machine), "platform", platform)
    assert len(planned(cloud.task(), cloud.machine)) == 1
    platform = cloud.machine.platform.__class__("notebook-instance", "test", cloud.path.parent)
    monkeypatch.setitem(vars(cloud.machine), "platform", platform)
    assert planned(cloud.task(), cloud.machine) == ()


def test_newer_work_stays(cloud: Cloud) -> None:
    """`aws s3 sync` by itself replaces it."""
    cloud.put("ada/notes/notebook", "old")
    cloud.put("ada/notes/other", "old")
    task = cloud.task(once_per="run")
    converge(task, cloud.machine)
    path = cloud.write("notebook", "my work")
    os.utime(path, (time.time() + HOUR, time.time() + HOUR))
    old = cloud.path / "other"
    os.utime(old, (time.time() - HOUR, time.time() - HOUR))
    cloud.put("ada/notes/other", "new")  # of the same size
    cloud.later()
    assert warnings(task, cloud.machine) == (
        f"1 file (notebook) in {cloud.path} stay, as they are newer than what S3 has",
    )
    converge(task, cloud.machine)
    assert cloud.files() == {"notebook": "my work", "other": "new"}


def test_nothing_to_restore_is_no_failure_and_is_looked_for_again(cloud: Cloud) -> None:
    for task in (cloud.task(), cloud.task(archive=True)):
        (warning,) = warnings(task, cloud.machine)
        assert warning.startswith("nothing is restored")
        assert converge(task, cloud.machine) == ()
        assert task.ages(cloud.machine) == 0.0
        assert not cloud.path.exists()
    cloud.put("ada/notes/a")
    cloud.later()
    converge(cloud.task(), cloud.machine)
    assert cloud.task().ages(cloud.machine) is None


def test_more_than_one_answer(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        cloud.put(f"ada/notes/{number}")
    monkeypatch.setattr(s3, "_PAGE", 2)
    converge(cloud.task(), cloud.machine)
    assert len(cloud.files()) == 5


def test_excluded_files_are_left_out_on_both_sides(cloud: Cloud) -> None:
    for name in ("a", "a.ckpt", "data/x/y", "-x", "ckpt"):
        cloud.put(f"ada/notes/{name}")
    exclude = ["*.ckpt", "data/*", "-x"]
    converge(cloud.task(exclude=exclude), cloud.machine)
    assert set(cloud.files()) == {"a", "ckpt"}
    for name in ("b.ckpt", "data/z", "b", "-y"):
        cloud.write(name)
    converge(cloud.up(exclude=exclude, delete=True), cloud.machine)
    assert cloud.stored() == ["-x", "-y", "a", "a.ckpt", "b", "ckpt", "data/x/y"]


# ------------------------------------------------------------------------------------------------- what bars its way


@pytest.mark.parametrize("key", ["../evil", "b/../../evil", "/evil", "b//c", "./a", "b/.."])
def test_an_object_that_would_get_out_is_refused(key: str, cloud: Cloud) -> None:
    cloud.put("ada/notes/a")
    cloud.put(f"ada/notes/{key}")
    with pytest.raises(TaskFailed) as caught:
        planned(cloud.task(), cloud.machine)
    assert "cannot be a file in the folder" in caught.value.cause
    assert not cloud.path.exists()
    assert not (cloud.path.parent / "evil").exists()


def test_nothing_is_written_through_a_link(cloud: Cloud, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    cloud.path.mkdir()
    (cloud.path / "folder").symlink_to(outside)
    (cloud.path / "[file]").symlink_to(outside / "file")
    (cloud.path / "unrelated").symlink_to(outside)
    for key in ("folder/evil", "folder/sub/evil", "[file]", "a"):
        cloud.put(f"ada/notes/{key}", "evil")
    task = cloud.task(delete=True)
    (warning,) = warnings(task, cloud.machine)
    assert warning.startswith("2 links ([file], folder) in")
    converge(task, cloud.machine)
    assert (cloud.path / "a").read_text() == "evil"
    assert os.listdir(outside) == ["file"]
    assert (outside / "file").read_text() == "mine"
    assert (cloud.path / "[file]").is_symlink()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_folder_is_kept(kind: str, cloud: Cloud, tmp_path: Path) -> None:
    if kind == "link":
        (tmp_path / "other").mkdir()
        cloud.path.symlink_to(tmp_path / "other")
    else:
        cloud.path.write_text("mine")
    for task in (cloud.task(), cloud.up(), cloud.task(archive=True), cloud.up(archive=True)):
        with pytest.raises(TaskFailed) as caught:
            planned(task, cloud.machine)
        assert caught.value.cure
    assert cloud.calls() == []


def test_a_file_where_a_folder_belongs(cloud: Cloud) -> None:
    cloud.put("ada/notes/a/b")
    cloud.write("a", "mine")
    with pytest.raises(TaskFailed) as caught:
        planned(cloud.task(), cloud.machine)
    assert "needs a folder at 'a', where a file is" in caught.value.cause
    (cloud.path / "a").unlink()
    cloud.write("a/b/c")
    with pytest.raises(TaskFailed) as caught:
        planned(cloud.task(), cloud.machine)
    assert "needs a file at 'a/b', where a folder is" in caught.value.cause


def test_the_tools_own_folder_is_not_transferred(cloud: Cloud) -> None:
    """A backup of the whole volume, on which the tool has its state."""
    volume = cloud.machine.home.parent
    (cloud.machine.home / "log").mkdir(parents=True)
    (cloud.machine.home / "log/run").write_text("secret")
    (volume / "lost+found").mkdir()
    (volume / "lost+found/x").write_text("x")
    (volume / "notebook").write_text("x")
    converge(cloud.up(path=str(volume), exclude=["commands/*", "*.pyc"]), cloud.machine)
    assert not [key for key in cloud.stored() if key.startswith((cloud.machine.home.name, "lost"))]
    assert "notebook" in cloud.stored()
    for path in (cloud.machine.home, cloud.machine.home / "log"):
        with pytest.raises(TaskFailed, match="in the tool's own folder"):
            planned(cloud.up(path=str(path)), cloud.machine)


# ------------------------------------------------------------------------------------------------------------- sending


def test_a_folder_is_sent_once_per_start(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.write("a", age=10)
    cloud.write("b/c", age=10)
    task = cloud.up()
    assert summary(planned(task, cloud.machine)) == [("upload", None, f"2 files (a, b/c) from {cloud.path}")]
    assert cloud.stored() == []
    converge(task, cloud.machine)
    assert cloud.stored() == ["a", "b/c"]
    cloud.calls()
    cloud.write("d")
    cloud.later()
    assert planned(task, cloud.machine) == ()
    assert cloud.calls() == []
    monkeypatch.setattr("nbprovision.system.inputs.this_start", lambda: "another start")
    assert summary(converge(task, cloud.machine)) == [("upload", None, f"1 file (d) from {cloud.path}")]
    assert cloud.stored() == ["a", "b/c", "d"]


def test_no_link_is_sent(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private/key").write_text("secret")
    cloud.write("a", age=10)
    (cloud.path / "folder").symlink_to(tmp_path / "private")
    (cloud.path / "file").symlink_to(tmp_path / "private/key")
    os.mkfifo(cloud.path / "pipe")
    task = cloud.up()
    (warning,) = warnings(task, cloud.machine)
    assert warning == f"3 links (file, folder, pipe) in {cloud.path} are not sent; archive: true keeps links"
    converge(task, cloud.machine)
    assert cloud.stored() == ["a"]


def test_names_that_no_key_can_have_are_not_sent(cloud: Cloud) -> None:
    cloud.write(os.fsdecode(b"caf\xe9"), age=10)
    cloud.write("caf\xe9 [1]*", age=10)
    task = cloud.up(delete=True)
    (warning,) = warnings(task, cloud.machine)
    assert "1 file (caf\\udce9)" in warning
    converge(task, cloud.machine)
    assert cloud.stored() == ["caf\xe9 [1]*"]


def test_a_missing_folder_cannot_be_sent(cloud: Cloud) -> None:
    for task in (cloud.up(), cloud.up(archive=True)):
        with pytest.raises(Blocked):
            planned(task, cloud.machine)


def test_a_file_that_cannot_be_read_is_a_failure(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `aws` ends with 2, which AWS's sample script takes for a success."""
    cloud.write("a", age=10)
    wrapper = Path(cloud.machine.env["PATH"].partition(":")[0]) / "aws"
    wrapper.write_text(
        f'#!/bin/sh\ncase "$2" in sync) echo "warning: Skipping file {cloud.path}/a" >&2; exit 2;; esac\n'
        f'exec {moto_server.AWS} "$@"\n'
    )
    with pytest.raises(TaskFailed) as caught:
        converge(cloud.up(), cloud.machine)
    assert "1 file (a) were skipped: warning: Skipping file" in caught.value.cause
    assert [change.action for change in planned(cloud.up(), cloud.machine)] == ["upload"]
    wrapper.write_text(f'#!/bin/sh\n{moto_server.AWS} "$@" || exit\ncase "$2" in sync) exit 2;; esac\n')
    converge(cloud.up(), cloud.machine)  # what it skipped was nothing that had to be sent


# ------------------------------------------------------------------------------------------------------------ deleting


def test_files_are_removed_only_when_asked(cloud: Cloud) -> None:
    cloud.put("ada/notes/a")
    cloud.write("mine")
    converge(cloud.task(once_per="run"), cloud.machine)
    assert set(cloud.files()) == {"a", "mine"}
    cloud.later()
    task = cloud.task(once_per="run", delete=True)
    assert summary(converge(task, cloud.machine)) == [("remove", "1 file (mine)", None)]
    assert set(cloud.files()) == {"a"}
    cloud.write("b", age=10)
    (cloud.path / "a").unlink()
    converge(cloud.up(), cloud.machine)
    assert cloud.stored() == ["a", "b"]
    assert summary(converge(cloud.up(delete=True, once_per="run"), cloud.machine))
    assert cloud.stored() == ["b"]


def test_an_empty_source_removes_nothing(cloud: Cloud) -> None:
    cloud.write("mine")
    with pytest.raises(TaskFailed) as caught:
        converge(cloud.task(delete=True), cloud.machine)
    assert f"{URL} has no file" in caught.value.cause
    assert cloud.files() == {"mine": "1"}
    cloud.put("ada/notes/a")
    cloud.put("ada/notes.tar.gz")
    (cloud.path / "mine").unlink()
    for task in (cloud.up(delete=True), cloud.up(archive=True)):
        with pytest.raises(TaskFailed) as caught:
            converge(task, cloud.machine)
        assert f"{cloud.path} has no file" in caught.value.cause
    with pytest.raises(TaskFailed):
        converge(cloud.up(delete=True, exclude="*"), cloud.machine)
    assert cloud.stored("ada/") == ["notes.tar.gz", "notes/a"]


# ------------------------------------------------------------------------------------------- the plan of aws itself


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_the_plan_is_the_one_of_a_dry_run(up: bool, seed: int, cloud: Cloud) -> None:
    """Of `aws s3 sync --dryrun` with the same options."""
    chance = random.Random(seed)
    names = ["a", "b", "a.x", "d/a", "d/b.x", "d/e/f", "[a]", "d-/a", "Z", "z/\xe9"]
    for name in chance.sample(names, 6):
        cloud.put(f"ada/notes/{name}", "1" * chance.choice([1, 2]))
    stored = {
        entry.key: entry.modified for entry in s3.list_objects(cloud.machine, s3.Place("backups", "ada/notes/"), "")
    }
    for name in chance.sample(names, 6):
        path = cloud.write(name, "1" * chance.choice([1, 2]))
        at = stored.get(f"ada/notes/{name}", time.time()) + chance.choice([-HOUR, 0, HOUR])
        os.utime(path, (at, at))
    (cloud.path / "link").symlink_to("a")
    (cloud.path / "pruned").mkdir()
    (cloud.path / "pruned/x").symlink_to("/etc")
    task = cloud.task(direction="up" if up else "down", delete=True, exclude=["*.x", "pruned/*"])
    plan = task.plan(task.read(cloud.machine))
    assert isinstance(plan, SyncPlan)
    comparison = plan.state.comparison
    assert comparison is not None
    patterns = ["*.x", "pruned/*", *s3_comparison.own_exclusions(cloud.path, cloud.machine.home, ".none")]
    exclude = [f"--exclude={pattern}" for pattern in s3_comparison.exclusions(comparison, patterns, up=up)]
    sides = [str(cloud.path), URL] if up else [URL, str(cloud.path)]
    options = ["--delete", "--no-follow-symlinks", *([] if up else ["--exact-timestamps"])]
    shown = subprocess.check_output(
        [moto_server.AWS, "s3", "sync", "--dryrun", *options, *exclude, *sides],
        env=dict(cloud.machine.env), text=True, cwd=cloud.path.parent,
    )  # fmt: skip
    root = f"{URL}/" if up else r"(?:\./)?work/"
    transferred = re.findall(rf"^\(dryrun\) (?:up|down)load: .* to {root}(.*)$", shown, re.MULTILINE)
    removed = re.findall(rf"^\(dryrun\) delete: {root}(.*)$", shown, re.MULTILINE)
    assert sorted(transferred) == sorted(comparison.transferred), shown
    assert sorted(removed) == sorted(comparison.removed), shown
    assert transferred or removed


def test_a_scan_opens_no_excluded_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked/a").mkdir(parents=True)
    (tmp_path / "open").mkdir()
    opened: list[str] = []
    scandir = os.scandir

    def listen(path: Path) -> Any:
        opened.append(os.path.normpath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listen)
    assert [entry.name for entry in scan(tmp_path, ["locked/*"])] == ["open"]
    assert opened == [str(tmp_path), str(tmp_path / "open")]


# ----------------------------------------------------------------------------------------------------------- the owner


def test_the_owner_is_checked_before_anything_is_transferred(cloud: Cloud) -> None:
    cloud.put("ada/notes/a")
    converge(cloud.task(expected_owner=OWNER), cloud.machine)
    calls = cloud.calls()
    asked = f"s3api head-bucket --bucket backups --expected-bucket-owner {OWNER} --output json"
    assert calls.count(asked) == 2, "for the plan, and again before the transfer"
    transfer = next(number for number, call in enumerate(calls) if call.startswith("s3 "))
    assert calls[transfer - 1] == asked
    assert not [call for call in calls if call.startswith("s3api list") and OWNER not in call]
    cloud.write("b", age=10)
    for task in (
        cloud.task(expected_owner="000000000000", once_per="run"),
        cloud.up(expected_owner="000000000000"),
        cloud.task(expected_owner="000000000000", archive=True, path=str(cloud.path.parent / "new")),
        cloud.up(expected_owner="000000000000", archive=True),
    ):
        with pytest.raises(TaskFailed) as caught:
            converge(task, cloud.machine)
        assert "correct `expected_owner`" in caught.value.cure
    assert not [call for call in cloud.calls() if call.startswith("s3 ")]
    assert cloud.stored("ada/") == ["notes/a"]
    cloud.later()
    converge(cloud.up(expected_owner=OWNER, archive=True), cloud.machine)
    assert cloud.stored("ada/") == ["notes.tar.gz", "notes/a"]


# --------------------------------------------------------------------------------------------------------- the network


def test_no_network(cloud: Cloud) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cloud.write("a")
    cloud.machine.env.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}", AWS_MAX_ATTEMPTS="1", NBPROVISION_NETWORK_PATIENCE="0"
    )
    for task in (
        cloud.task(),
        cloud.up(),
        cloud.task(archive=True, path=str(cloud.path.parent / "new")),
        cloud.task(expected_owner=OWNER),
    ):
        with pytest.raises(NetworkFailed) as caught:
            planned(task, cloud.machine)
        assert "gave no answer in time" in caught.value.cause


def test_a_passing_failure_is_tried_again(cloud: Cloud) -> None:
    cloud.put("ada/notes/a")
    wrapper = Path(cloud.machine.env["PATH"].partition(":")[0]) / "aws"
    mark = cloud.path.parent / "mark"
    wrapper.write_text(
        f'#!/bin/sh\nif [ "$1" = s3 ] && [ ! -e {mark} ]; then touch {mark}; echo "Read timeout on endpoint" >&2; exit 1; fi\n'
        f'exec {moto_server.AWS} "$@"\n'
    )
    converge(cloud.task(), cloud.machine)
    assert cloud.files() == {"a": "1"}


def test_no_bucket_no_space_no_command(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskFailed) as caught:
        planned(cloud.task(source="s3://nowhere/a"), cloud.machine)
    assert "aws s3 ls" in caught.value.cure
    cloud.put("ada/notes/a", "1" * 2000)
    little = disk_space.FreeSpace(cloud.path.parent, 1000, 1000, None)
    with monkeypatch.context() as patch:
        patch.setattr("nbprovision.machine.s3.disk_space.free_space", lambda _path: little)
        with pytest.raises(NotBegun):
            converge(cloud.task(), cloud.machine)
    assert not cloud.path.exists()
    cloud.later()
    cloud.machine.env["PATH"] = str(cloud.path)
    with pytest.raises(TaskFailed) as caught:
        planned(cloud.task(), cloud.machine)
    assert "the `aws` command is not on the PATH" in caught.value.cause


# -------------------------------------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("archive", [False, True])
def test_a_failed_transfer_is_repeated_and_a_killed_one_leaves_nothing(archive: bool, cloud: Cloud) -> None:
    """The command leaves NAME.XXXXXXXX behind where it is killed."""
    cloud.write("a", "content", age=10)
    converge(cloud.up(archive=archive), cloud.machine)
    (cloud.path / "a").unlink()
    cloud.path.rmdir()
    commands = Path(cloud.machine.env["PATH"].partition(":")[0])
    whole = (commands / "aws").read_text()
    (commands / "aws").write_text(
        f'#!/bin/sh\nif [ "$1" = s3 ]; then echo part > {cloud.path}/a.6eF3aB12; kill -9 $$; fi\n'
        f'exec {moto_server.AWS} "$@"\n'
    )
    task = cloud.task(archive=archive)
    with pytest.raises(TaskFailed):
        converge(task, cloud.machine)
    (commands / "aws").write_text(whole)
    if not archive:
        assert set(cloud.files()) == {"a.6eF3aB12"}
        cloud.write("a.6eF3aB13", age=10)
        os.utime(cloud.path / "a.6eF3aB13")
    cloud.later()
    assert [change.action for change in converge(task, cloud.machine)] == ["download"]
    assert "a.6eF3aB12" not in cloud.files()
    assert cloud.files()["a"] == "content"
    assert list(cloud.path.parent.glob(".*")) == []


# -------------------------------------------------------------------------------------------------------------- archives


def make_tree(cloud: Cloud) -> None:
    cloud.write("bin/tool", "#!/bin/sh\n", age=100).chmod(0o755)
    cloud.write("secret", age=100).chmod(0o600)
    cloud.write("read-only/a", age=100).chmod(0o440)
    cloud.write(os.fsdecode(b"caf\xe9\n.txt"), "bytes", age=100)
    (cloud.path / "empty").mkdir(mode=0o700)
    (cloud.path / "link").symlink_to("bin/tool")
    (cloud.path / "bin/up").symlink_to("../secret")
    (cloud.path / "dangling").symlink_to("missing")
    cloud.write("left.ckpt")
    (cloud.path / "read-only").chmod(0o750)
    os.utime(cloud.path / "read-only", (1_000_000_000, 1_000_000_000))


def described(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Each entry, as find(1) prints it."""
    shown = subprocess.check_output(["find", ".", "-mindepth", "1", "-printf", r"%P\0%y %m %T@ %l\0"], cwd=folder)
    words = shown.decode("utf-8", "surrogateescape").split("\0")[:-1]
    result = {}
    for name, text in zip(words[::2], words[1::2], strict=True):
        kind, mode, at, target = text.split(" ", 3)
        result[ascii(name)] = (kind, mode, target if kind == "l" else round(float(at), 3))
    return result


@pytest.mark.parametrize("name", ["work.tar.gz", "work.tar"])
def test_an_archive_keeps_modes_times_and_links(name: str, cloud: Cloud) -> None:
    make_tree(cloud)
    source = f"s3://backups/ada/{name}"
    task = cloud.up(archive=True, source=source, exclude="*.ckpt")
    before = described(cloud.path)
    ((action, _, after),) = summary(planned(task, cloud.machine))
    assert action == "upload"
    assert after is not None
    assert after.startswith("an archive of 4 files")
    converge(task, cloud.machine)
    new = cloud.path.parent / "new"
    converge(cloud.task(archive=True, source=source, path=str(new)), cloud.machine)
    del before["'left.ckpt'"]
    after_it = described(new)
    assert after_it == before
    assert subprocess.run([new / "bin/tool"], check=False).returncode == 0


def test_an_unchanged_folder_is_not_sent_again(cloud: Cloud) -> None:
    make_tree(cloud)
    task = cloud.up(archive=True, once_per="run")
    converge(task, cloud.machine)
    cloud.later()
    cloud.calls()
    assert converge(task, cloud.machine) == ()
    assert not [call for call in cloud.calls() if call.startswith("s3 ")]
    cloud.later()
    cloud.write("new")
    assert len(converge(task, cloud.machine)) == 1
    cloud.later()
    cloud.put("ada/notes.tar.gz", "somebody else's")
    assert len(converge(task, cloud.machine)) == 1, "the backup is not the one that was sent"


def test_a_folder_with_files_is_replaced_only_when_asked(cloud: Cloud) -> None:
    cloud.write("a", age=10)
    converge(cloud.up(archive=True), cloud.machine)
    (cloud.path / "a").rename(cloud.path / "mine")
    task = cloud.task(archive=True)
    (warning,) = warnings(task, cloud.machine)
    assert "has files and stays" in warning
    cloud.calls()
    assert converge(task, cloud.machine) == ()
    assert cloud.calls() == []
    assert set(cloud.files()) == {"mine"}
    task = cloud.task(archive=True, delete=True, once_per="run")
    assert summary(converge(task, cloud.machine)) == [
        ("download", "a folder with files, which is replaced", f"the content of {TAR}")
    ]
    assert set(cloud.files()) == {"a"}
    cloud.later()
    cloud.write("mine")
    assert converge(task, cloud.machine) == (), "the same archive replaces nothing again"
    assert set(cloud.files()) == {"a", "mine"}


def archive_of(*members: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"1" * member.size))
    return stream.getvalue()


def member(name: str, **values: Any) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    for key, value in {"size": 0 if "type" in values else 1, **values}.items():
        setattr(entry, key, value)
    return entry


@pytest.mark.parametrize("evil", [
    (member("/evil"),),
    (member("../evil"),),
    (member("l", type=tarfile.SYMTYPE, linkname="/etc"),),
    (member("l", type=tarfile.SYMTYPE, linkname="../.."),),
    (member("a", type=tarfile.SYMTYPE, linkname="."), member("a/evil")),
    (member("d", type=tarfile.DIRTYPE), member("d/l", type=tarfile.SYMTYPE, linkname=".."), member("d/l/x")),
    (member("c", type=tarfile.LNKTYPE, linkname="/etc/passwd"),),
    (member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),),
    (member("pipe", type=tarfile.FIFOTYPE),),
], ids=lambda evil: evil[0].name)  # fmt: skip
def test_a_hostile_archive_restores_nothing(evil: tuple[tarfile.TarInfo, ...], cloud: Cloud) -> None:
    cloud.put("ada/notes.tar.gz", archive_of(member("good"), *evil))
    with pytest.raises(TaskFailed) as caught:
        converge(cloud.task(archive=True), cloud.machine)
    assert "is refused" in caught.value.cause
    assert not cloud.path.exists()
    assert not (cloud.path.parent / "evil").exists()
    assert list(cloud.path.parent.glob(".*")) == []


def test_special_bits_are_not_restored(cloud: Cloud) -> None:
    cloud.put(
        "ada/notes.tar.gz",
        archive_of(member("s", mode=0o6777), member("d", type=tarfile.DIRTYPE, mode=0o1000), member("d/a", mode=0o400)),
    )
    converge(cloud.task(archive=True), cloud.machine)
    modes = {name: stat.S_IMODE((cloud.path / name).stat().st_mode) for name in ("s", "d", "d/a")}
    assert modes == {"s": 0o775, "d": 0o700, "d/a": 0o400}


@pytest.mark.parametrize("content", [b"text", archive_of(), b""], ids=["text", "empty archive", "nothing"])
def test_what_is_no_archive_replaces_nothing(content: bytes, cloud: Cloud) -> None:
    cloud.put("ada/notes.tar.gz", content)
    cloud.write("mine")
    with pytest.raises(TaskFailed) as caught:
        converge(cloud.task(archive=True, delete=True), cloud.machine)
    assert caught.value.cure
    assert cloud.files() == {"mine": "1"}


def test_links_out_of_the_folder_are_not_packed(cloud: Cloud, tmp_path: Path) -> None:
    """The archive could not be restored."""
    cloud.write("a", age=10)
    (cloud.path / "out").symlink_to("/etc/passwd")
    (cloud.path / "up").symlink_to("../other")
    (cloud.path / "chain").symlink_to("out")
    os.mkfifo(cloud.path / "pipe")
    task = cloud.up(archive=True)
    assert warnings(task, cloud.machine) == (
        f"3 links (chain, out, up) in {cloud.path} are not sent, as they lead out of the folder",
        f"1 file (pipe) in {cloud.path} are not sent: they are pipes, sockets or devices",
    )
    converge(task, cloud.machine)
    converge(cloud.task(archive=True, path=str(tmp_path / "new")), cloud.machine)
    assert os.listdir(tmp_path / "new") == ["a"]


def test_a_damaged_record_is_none(cloud: Cloud, tmp_path: Path) -> None:
    cloud.put("ada/notes/a")
    converge(cloud.task(), cloud.machine)
    cloud.later()
    (record,) = (cloud.machine.home / "s3").iterdir()
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    for content in ("", "[]", '{"what": "", "done": -1}'):
        record.write_text(content)
        cloud.path.joinpath("a").unlink(missing_ok=True)
        assert len(planned(cloud.task(), cloud.machine)) == 1
    record.unlink()
    (tmp_path / "planted").write_text('{"what": "", "done": 1}')
    record.symlink_to(tmp_path / "planted")
    assert len(planned(cloud.task(), cloud.machine)) == 1

"""The command itself, as processes, against moto's server: publishers at once, and publishers that are killed."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.conftest import measurement
from tests.fleet.conftest import BUCKET, FLEET, PLAYBOOK, PREFIX
from tests.support import moto_server

pytestmark = [pytest.mark.proof, moto_server.NEEDED]
ROOT = Path(__file__).parents[2]
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "secret-of-the-publisher", "AWS_DEFAULT_REGION": "us-east-1"}


class Account:
    """An account on moto's server, with publishers that have folders of their own."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.folder = folder
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "a", "region_name": "us-east-1"}
        self.s3 = boto3.client("s3", endpoint_url=address, **keys)
        self.s3.create_bucket(Bucket=BUCKET)

    def start(self, publisher: str, *words: str) -> subprocess.Popen[str]:
        """Start a command of a publisher, whose release has the publisher's name in it."""
        home = self.folder / publisher
        if not home.exists():
            home.mkdir()
            (home / "fleet.yml").write_text(FLEET)
            (home / "team.yml").write_text(PLAYBOOK)
            (home / "motd").write_text(publisher)
        env = {
            "PATH": os.environ["PATH"], "HOME": str(home), "NBPROVISION_HOME": str(home / "nbprovision"),
            "AWS_ENDPOINT_URL": self.address, "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1",
            **KEYS, **measurement(),
        }  # fmt: skip
        argv = [sys.executable, "-m", "nbprovision", "fleet", words[0], "-f", str(home / "fleet.yml"), *words[1:]]
        return subprocess.Popen(
            argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def run(self, publisher: str, *words: str, status: int = 0) -> str:
        process = self.start(publisher, *words)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == status, out
        assert "Traceback" not in out
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in out
        return out

    def objects(self) -> dict[str, bytes]:
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=PREFIX).get("Contents", [])
        contents = {}
        for item in listed:
            answer: Any = self.s3.get_object(Bucket=BUCKET, Key=item["Key"])
            contents[item["Key"].removeprefix(PREFIX)] = answer["Body"].read()
        return contents

    def whole(self) -> list[str]:
        """The releases of the canary ring, the present one first; each that a pointer names is whole."""
        objects = self.objects()
        lines = dict(line.split("=", 1) for line in objects["rings/canary"].decode().splitlines())
        digests = [lines["release"], *lines["before"].split()]
        for digest in digests:
            content = objects[f"releases/{digest}/release.tar"]
            assert hashlib.sha256(content).hexdigest() == digest
        return digests

    def publisher_of(self, digest: str) -> str:
        content = self.objects()[f"releases/{digest}/release.tar"]
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            file = archive.extractfile("files/motd")
            assert file is not None
            return file.read().decode()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto_server.serving(states=True) as address:
        yield address


@pytest.fixture
def account(server: str, tmp_path: Path) -> Account:
    moto_server.reset(server)
    return Account(server, tmp_path)


def test_the_command_as_a_process(account: Account) -> None:
    assert "nothing -> " in account.run("jane", "publish")
    assert "nothing to do" in account.run("jane", "publish")
    assert "canary" in account.run("jane", "status")
    assert "0 good reports" in account.run("jane", "promote", status=2)
    assert "no instance belongs to the fleet" in account.run("jane", "plan")
    assert account.publisher_of(account.whole()[0]) == "jane"


def test_publishers_at_once(account: Account) -> None:
    """Each ends with 0, or with 2 and who was faster; the ring has one whole release."""
    names = ["jane", "joe", "ann"]
    account.run("first", "publish")
    processes = {name: account.start(name, "publish") for name in names}
    published = {"first"}
    for name, process in processes.items():
        out, _ = process.communicate(timeout=120)
        assert process.returncode in (0, 2), out
        if process.returncode == 0:
            published.add(name)
        else:
            assert "has changed meanwhile" in out
            assert "set it to" in out
    assert len(published) > 1
    # Not all of them: moto compares and writes in two steps, between which another one may write.
    assert {account.publisher_of(digest) for digest in account.whole()} <= published


@pytest.mark.parametrize("seconds", [0.8, 1.2, 1.6, 2.0, 2.5])
def test_a_killed_publisher_leaves_a_whole_release(account: Account, seconds: float) -> None:
    """It may be killed before it begins, in the middle, or after its end: nothing of this test depends on that."""
    account.run("first", "publish")
    process = account.start("second", "publish")
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    assert account.publisher_of(account.whole()[0]) in ("first", "second")
    account.run("second", "publish")
    assert account.publisher_of(account.whole()[0]) == "second"
    assert "nothing to do" in account.run("second", "publish")


def test_no_server_answers(tmp_path: Path, account: Account) -> None:
    account.address = "http://127.0.0.1:9"
    out = account.run("jane", "back", status=2)
    assert "AWS cannot be reached" in out

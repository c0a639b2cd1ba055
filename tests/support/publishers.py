"""Publishers of a fleet as processes, in an account on moto's server."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import boto3

from tests.conftest import measurement

ROOT = Path(__file__).parents[2]
SECRET = "secret-of-the-publisher"
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}


class Account:
    """An account on moto's server, with publishers that have folders of their own.

    Args:
        address: The address of the server.
        folder: The folder for theirs.
        fleet: Their fleet file.
        playbook: Their playbook; the file `motd` beside it has the publisher's name.
        ring: The first ring.
    """

    def __init__(self, address: str, folder: Path, fleet: str, playbook: str, ring: str = "canary") -> None:
        self.address = address
        self.folder = folder
        self.ring = ring
        self._fleet = fleet
        self._playbook = playbook
        place = fleet.partition("s3://")[2].split()[0]
        self.bucket, _, self.prefix = place.partition("/")
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "a", "region_name": "us-east-1"}
        self.s3 = boto3.client("s3", endpoint_url=address, **keys)
        self.sagemaker = boto3.client("sagemaker", endpoint_url=address, **keys)
        self.s3.create_bucket(Bucket=self.bucket)

    def start(self, publisher: str, *words: str) -> subprocess.Popen[str]:
        """Start a command of a publisher, whose release has the publisher's name in it."""
        home = self.folder / publisher
        if not home.exists():
            home.mkdir()
            (home / "fleet.yml").write_text(self._fleet)
            (home / "motd").write_text(publisher)
            self.write(publisher, self._playbook)
        env = {
            "PATH": os.environ["PATH"], "HOME": str(home), "NBPROVISION_HOME": str(home / "nbprovision"),
            "AWS_ENDPOINT_URL": self.address, "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1",
            **KEYS, **measurement(),
        }  # fmt: skip
        argv = [sys.executable, "-m", "nbprovision", "fleet", words[0], "-f", str(home / "fleet.yml"), *words[1:]]
        return subprocess.Popen(
            argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def write(self, publisher: str, playbook: str) -> None:
        """Write the playbook of a publisher."""
        (self.folder / publisher / "team.yml").write_text(playbook)

    def run(self, publisher: str, *words: str, status: int = 0) -> str:
        process = self.start(publisher, *words)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == status, out
        assert "Traceback" not in out
        assert SECRET not in out
        return out

    def objects(self) -> dict[str, bytes]:
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{self.prefix}/").get("Contents", [])
        contents = {}
        for item in listed:
            answer: Any = self.s3.get_object(Bucket=self.bucket, Key=item["Key"])
            contents[item["Key"].removeprefix(f"{self.prefix}/")] = answer["Body"].read()
        return contents

    def whole(self) -> list[str]:
        """The releases of the first ring, the present one first; each that a pointer names is whole."""
        objects = self.objects()
        lines = dict(line.split("=", 1) for line in objects[f"rings/{self.ring}"].decode().splitlines())
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

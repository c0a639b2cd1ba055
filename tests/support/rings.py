"""A ring of a fleet in moto's S3, and instances in it that start with the real bootstrap.sh and the real ``aws``."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

import msgspec

from nbprovision import __version__
from nbprovision.report.instance_report import InstanceReport
from tests.support import moto_server
from tests.support.bootstrapping import bootstrap

BUCKET = "team"
PREFIX = f"s3://{BUCKET}/fraud"


def release(
    files: Mapping[str, str], playbook: str = "team.yml", tool: str = __version__, name: str = "RELEASE", **more: str
) -> bytes:
    """A release as the publisher packs it: ``RELEASE`` first, the files below ``files/``, owners and times fixed."""
    fields = {"format": "1", "playbook": playbook, "tool": tool, "fleet": "fraud", **more}
    members = {name: "".join(f"{key}={value}\n" for key, value in fields.items())}
    members |= {f"files/{path}": files[path] for path in sorted(files)}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, text in members.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o755 if path.endswith(".sh") else 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    return content.getvalue()


class Fleet:
    """The bucket of a fleet.

    Args:
        address: The address of moto's server, without a bucket of this name.

    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._request("", b"")

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self._request(f"/fraud/{key}", content)

    def publish(self, content: bytes, ring: str = "stable") -> str:
        """Write a release, and point a ring to it; return its digest."""
        digest = hashlib.sha256(content).hexdigest()
        self.put(f"releases/{digest}/release.tar", content)
        self.point(digest, ring)
        return digest

    def point(self, digest: str, ring: str = "stable") -> None:
        """Point a ring to a release."""
        self.put(f"rings/{ring}", f"release={digest}\nsince=2026-12-01T00:00:00Z\nbefore={'0' * 64}\n".encode())

    def report(self, instance: str = "mine") -> InstanceReport | None:
        """The report of an instance; None without one."""
        try:
            return msgspec.json.decode(self._request(f"/fraud/reports/{instance}.json"), type=InstanceReport)
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return None

    def deny(self) -> None:
        """Let nobody read an object."""
        resource = f"arn:aws:s3:::{BUCKET}/*"
        statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": resource}
        self._request("?policy", msgspec.json.encode({"Version": "2012-10-17", "Statement": [statement]}))

    def _request(self, path: str, data: bytes | None = None) -> bytes:
        """Ask the server; with data, write them."""
        # Without a type they would be taken for a form, and without a key nobody may overwrite or read.
        headers = {"Content-Type": "application/octet-stream", "Authorization": "AWS a:a"}
        address, method = f"{self.address}/{BUCKET}{path}", "GET" if data is None else "PUT"
        request = urllib.request.Request(address, data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            content: bytes = answer.read()
        return content


class Instance:
    """A machine whose lifecycle script is that of a ring.

    Args:
        fleet: The bucket.
        env: Its variables, with its homes; the tool may be installed.
        folder: A folder for its ``aws`` command, which writes each call into ``calls``.
        name: The name of the instance.
        ring: Its ring.

    """

    def __init__(self, fleet: Fleet, env: Mapping[str, str], folder: Path, name: str, ring: str = "stable") -> None:
        self.home = Path(env["NBPROVISION_HOME"])
        self.own = self.home / "lifecycle"
        self.kernels = Path(env["HOME"]) / ".local/share/jupyter/kernels"
        self.ring = f"ring:{PREFIX}/rings/{ring}"
        self.aws = folder / "aws"
        self._calls = folder / "calls"
        moto_server.make_command(folder, fleet.address)
        self.instead_of_aws('exec "$real" "$@"')
        self.env = {
            **env,
            "PATH": f"{folder}:{env['PATH']}",
            "NBPROVISION_PHASE": "on-start",
            "NBPROVISION_VERSION": __version__,
            "NBPROVISION_SOURCE": f"{PREFIX}/wheels",
            "NBPROVISION_INSTANCE": name,
        }

    def instead_of_aws(self, text: str) -> None:
        """Have the ``aws`` command run a text of the shell, in which ``$real`` is the real one."""
        real = self.aws.with_name("real-aws")
        if not real.exists():
            self.aws.rename(real)
        self.aws.write_text(f'#!/bin/sh\necho "$*" >>{self._calls}\nreal={real}\n{text}\n')
        self.aws.chmod(0o755)

    def start(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """One start of the machine, whose kernels are gone."""
        self._calls.write_text("")
        shutil.rmtree(self.kernels, ignore_errors=True)
        return bootstrap({**self.env, **variables}, self.ring, *(words or ("--deadline", "120")))

    @property
    def calls(self) -> list[str]:
        """The calls of ``aws`` since the last start: service, command and object, without the upload of the report."""
        lines = [line.split("--cli-read-timeout 20 ")[-1] for line in self._calls.read_text().splitlines()]
        return [line for line in lines if "/reports/" not in line]

    @property
    def has_uploaded(self) -> bool:
        """Whether the last start has begun to upload a report."""
        return "/reports/" in self._calls.read_text()

    def offers(self, kernel: str = "team") -> bool:
        """Whether the machine has a kernel."""
        return (self.kernels / kernel / "kernel.json").exists()

    def report(self) -> InstanceReport:
        """The report in the tool's home."""
        return msgspec.json.decode((self.home / "instance-report.json").read_bytes(), type=InstanceReport)

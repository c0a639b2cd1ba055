"""moto's server: AWS's services on a port of this machine, which the real ``aws`` command talks to."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

AWS = Path(sys.executable).with_name("aws")
_MOTO = Path(sys.executable).with_name("moto_server")
_ROOT = Path(__file__).parents[2]
NEEDED = pytest.mark.skipif(not (AWS.exists() and _MOTO.exists()), reason="awscli or moto[server] is not installed")


@contextlib.contextmanager
def serving(host: str = "127.0.0.1", *, states: bool = False) -> Iterator[str]:
    """The address of a server that answers.

    Args:
        host: The address of this machine that it has.
        states: With the patches of `sagemaker_states`.

    """
    with socket.socket() as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.support.sagemaker_states"] if states else [str(_MOTO)]
    recording = Path(tempfile.mkdtemp(), "calls")  # if a test starts moto's recorder
    process = subprocess.Popen(
        [*command, "-H", host, "-p", str(port)],
        cwd=_ROOT,
        env={**os.environ, "MOTO_RECORDER_FILEPATH": str(recording)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://{host}:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(recording.parent)


def put(address: str, bucket: str, key: str, content: bytes) -> None:
    """Create a bucket, and an object in it."""
    for path, data in ((bucket, b""), (f"{bucket}/{key}", content)):
        headers = {"Content-Type": "application/octet-stream"}  # it would take the default for a form
        request = urllib.request.Request(f"{address}/{path}", data=data, method="PUT", headers=headers)
        urllib.request.urlopen(request, timeout=30).close()


def make_command(folder: Path, address: str) -> None:
    """Create an `aws` command in a folder: the real one, for this server."""
    folder.mkdir(exist_ok=True)
    variables = f"AWS_ENDPOINT_URL={address} AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=a AWS_DEFAULT_REGION=us-east-1"
    (folder / "aws").write_text(f'#!/bin/sh\nexec env {variables} NO_PROXY=127.0.0.1 {AWS} "$@"\n')
    (folder / "aws").chmod(0o755)


def reset(address: str) -> None:
    """Make an account with nothing in it."""
    urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST"), timeout=30).close()

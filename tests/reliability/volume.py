"""A small file system of its own (tmpfs) to be filled, and a machine on it with packages that take known room."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from nbprovision.__main__ import main
from nbprovision.channel.package import Package
from nbprovision.channel.wheel import convert
from tests.reliability.world import Ran, read_document
from tests.support.channel import index
from tests.support.wheels import make_wheel

MB = 1_000_000
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Volume:
    """The mounted folder.

    Attributes:
        path: Where it is mounted.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filling = path / "filling"
        self._many = path / "many"

    @property
    def free(self) -> int:
        """Bytes."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int) -> None:
        """Leave so many bytes free."""
        self.empty()
        with self._filling.open("wb") as stream:
            if self.free > leave:
                os.posix_fallocate(stream.fileno(), 0, self.free - leave)

    def use_inodes(self, leave: int) -> None:
        """Leave so many inodes free."""
        self._many.mkdir()
        for number in range(os.statvfs(self.path).f_favail - leave):
            (self._many / str(number)).touch()

    def empty(self) -> None:
        """Take away what fills it."""
        self._filling.unlink(missing_ok=True)
        if self._many.exists():
            for path in self._many.iterdir():
                path.unlink()
            self._many.rmdir()

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Mounted so while the body runs."""
        subprocess.run(["mount", "-o", "remount,ro", self.path], check=True)
        try:
            yield
        finally:
            subprocess.run(["mount", "-o", "remount,rw", self.path], check=True)


def mounted(path: Path, *, size: int, inodes: int = 12_000) -> str | None:
    """Mount a file system at ``path``; the reason where that cannot be."""
    if os.getuid() != 0:
        return "mounting a file system of its own needs root"
    path.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={inodes}", "tmpfs", str(path)]
    done = subprocess.run(words, capture_output=True, text=True)
    return f"no file system can be mounted here: {done.stderr.strip()}" if done.returncode else None


def run(env: dict[str, str], playbook: Path, *options: str) -> Ran:
    """Run a playbook by the command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, env, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main(["run", str(playbook), "--format", "json", *options])
    return read_document(status, out.getvalue(), err.getvalue())


def make_packages(channel: Path) -> None:
    """``loose`` unpacks from next to nothing to 30 MB, ``dense`` takes 12 MB as fetched and as unpacked."""
    for version in ("1.0", "2.0"):
        loose = Package("loose", version, "0", noarch="generic")
        for number in range(30):
            loose.add(f"share/loose/{number}.txt", (f"{version} {number}\n".encode() * MB)[:MB])
        dense = Package("dense", version, "0", noarch="generic")
        dense.add("share/dense.bin", random.Random(version).randbytes(12 * MB))
        small = Package("small", version, "0", noarch="generic")
        small.add("share/small.txt", f"{version}\n".encode())
        kernel = make_wheel(channel / "wheels", "ipykernel", "6.0")  # validated nowhere here, so that it need not start
        for package in (loose, dense, small, convert(kernel, [PYTHON], {})):
            package.write(channel)
    (channel / "linux-64").mkdir(exist_ok=True)
    index(channel)


def make_wheels(folder: Path) -> None:
    """``apple`` with a module that tells its version, and 15 MB of data."""
    for version in ("1.0", "2.0"):
        data = random.Random(version).randbytes(15 * MB // 2).hex()
        make_wheel(folder, "apple", version, files={"apple_data/data.txt": data})


def content(*folders: Path) -> dict[str, str]:
    """Every file below some folders, with a digest of what is in it, its mode, and its link."""
    found = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        elif path.is_file():
            found[str(path)] = f"{path.stat().st_mode:o} {hashlib.blake2b(path.read_bytes()).hexdigest()}"
    return found

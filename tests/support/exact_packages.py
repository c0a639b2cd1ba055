"""Environments of exact packages: lock files in each format, a server for the channel, and a harmed archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from tests.support.conda_packages import TinyChannel
from tests.support.file_server import FileServer, serving_files
from tests.support.lock_files import explicit, pixi_lock

Write = Callable[..., Path]
FORMATS = ["pixi.lock", "@EXPLICIT with sha256", "@EXPLICIT with md5"]
ALPHA = "alpha-1.0-0.tar.bz2"


@pytest.fixture(params=FORMATS)
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    """Writes packages of a channel, each as ``NAME=VERSION``, into a file of one of the formats."""

    def written(channel: TinyChannel, *specs: str, url: str = "") -> Path:
        if request.param == "pixi.lock":
            return pixi_lock(tmp_path / "pixi.lock", channel, {"default": specs}, url=url)
        return explicit(tmp_path / "explicit.txt", channel, specs, kind=request.param.rpartition(" ")[2], url=url)

    return written


@pytest.fixture
def server(tiny: TinyChannel) -> Iterator[FileServer]:
    """Serves the channel below ``/chan``; its index is missing, which nothing asks for."""
    with serving_files() as served:
        for path in tiny.path.glob("noarch/*.tar.bz2"):
            served.files[f"/chan/noarch/{path.name}"] = path.read_bytes()
        yield served


def locked(path: Path, **more: Any) -> EnsureCondaEnv:
    return EnsureCondaEnv(**{"name": "x", "file": str(path), **more})


def evil(folder: Path) -> bytes:
    """An archive of alpha 1.0 with something else in it."""
    channel = TinyChannel(folder / "evil")
    channel.add("alpha", "1.0", files={"share/alpha.txt": "something else\n"})
    return (channel.path / "noarch" / ALPHA).read_bytes()

"""Lock files of made-up packages, written by py-rattler and as conda writes them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.conftest import Channel
from tests.support.conda_packages import TinyChannel

_WRITE = """
import asyncio, json, os, sys
import rattler
path, url, environments, virtual, platform = json.loads(sys.argv[1])
async def write():
    gateway = rattler.Gateway(cache_dir=path + ".repodata")
    lock = rattler.LockFile([rattler.LockPlatform(platform, virtual_packages=virtual)])
    for name, specs in environments.items():
        lock.set_channels(name, [rattler.LockChannel(url)])
        records = await rattler.solve([url], [rattler.MatchSpec(spec) for spec in specs], gateway=gateway,
            virtual_packages=[rattler.GenericVirtualPackage(rattler.PackageName(*text.split("=")[:1]),
                rattler.Version(text.split("=")[1]), rattler.package.build_string.BuildString("0")) for text in virtual])
        for record in records:
            lock.add_conda_package(name, lock.platforms()[0], record)
    lock.to_path(path)
asyncio.run(write())
sys.stdout.flush()
os._exit(0)
"""


def pixi_lock(
    path: Path,
    channel: TinyChannel | Channel,
    environments: Mapping[str, Iterable[str]],
    *,
    url: str = "",
    virtual: Iterable[str] = (),
    platform: str = "linux-64",
) -> Path:
    """Write a ``pixi.lock`` by py-rattler, in a process of its own: it may crash an interpreter that ends.

    Args:
        path: The file.
        channel: The channel to solve from.
        environments: Match specs by the name of the environment.
        url: The URL of the channel in the file; default its folder.
        virtual: Virtual packages of the platform.
        platform: Its name.

    """
    specs = {name: list(texts) for name, texts in environments.items()}
    request = json.dumps([str(path), channel.url, specs, list(virtual), platform])
    subprocess.run([sys.executable, "-W", "ignore", "-c", _WRITE, request], check=True)
    if url:
        path.write_text(path.read_text().replace(f"{channel.path}/", f"{url}/").replace(channel.url, url))
    return path


def explicit(
    path: Path, channel: TinyChannel, specs: Iterable[str], *, kind: str = "md5", url: str = "", head: str = ""
) -> Path:
    """Write a file as ``conda list --explicit`` does; each spec is ``NAME=VERSION``."""
    index: dict[str, Any] = json.loads((channel.path / "noarch/repodata.json").read_text())["packages"]
    lines = [
        "# This file may be used to create an environment using:",
        "# $ conda create --name <env> --file <this file>",
    ]
    lines += ["# platform: linux-64", *filter(None, [head]), "@EXPLICIT"]
    for spec in specs:
        name, _, version = spec.partition("=")
        file, entry = next(
            (file, entry) for file, entry in index.items() if (entry["name"], entry["version"]) == (name, version)
        )
        digest = f"sha256:{entry['sha256']}" if kind == "sha256" else entry["md5"]
        lines.append(f"{url or channel.url}/noarch/{file}" + (f"#{digest}" if kind else ""))
    path.write_text("\n".join(lines) + "\n")
    return path

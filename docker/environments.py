"""Make the environments that the platform's image provides; runs while the image is built, as ec2-user.

    environments.py BASE CHANNEL ENVIRONMENTS

ENVIRONMENTS is JSON: for each name (``base`` is the installation itself) the conda packages asked for and, where a
kernel is to be offered, its display name: ``{"python3": {"packages": ["python", "ipykernel"], "kernel": "A"}}``
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from rattler import Channel, MatchSpec, VirtualPackage, install, solve


async def make(prefix: Path, packages: list[str], base: Path, channel: str) -> None:
    """One environment, with the history that conda would have written."""
    specs = [MatchSpec(package) for package in packages]
    records = await solve([Channel(channel)], specs, virtual_packages=VirtualPackage.detect())
    await install(
        records,
        prefix,
        cache_dir=base / "pkgs",
        show_progress=False,
        requested_specs=[spec._match_spec for spec in specs],  # noqa: SLF001 - it takes nothing else
    )
    lines = [f"==> {time.strftime('%Y-%m-%d %H:%M:%S')} <==", f"# cmd: conda create -p {prefix}"]
    lines += sorted(
        f"+{channel}/{record.subdir}::{record.name.normalized}-{record.version}-{record.build}" for record in records
    )
    lines += [f"# update specs: {packages}"]
    (prefix / "conda-meta/history").write_text("\n".join(lines) + "\n")


def offer_kernel(prefix: Path, name: str, display_name: str, server: Path) -> None:
    """Offer the environment's kernel as the platform does, by a name with ``conda_`` before it."""
    folder = server / "share/jupyter/kernels" / f"conda_{name}"
    folder.mkdir(parents=True)
    argv = [str(prefix / "bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": display_name, "language": "python"}))


def main(base: Path, channel: str, environments: dict[str, dict[str, object]]) -> None:
    """All of them, and their kernels."""
    prefixes = {name: base if name == "base" else base / "envs" / name for name in environments}
    for name, wanted in environments.items():
        asyncio.run(make(prefixes[name], wanted["packages"], base, channel))
    for name, wanted in environments.items():
        if "kernel" in wanted:
            offer_kernel(prefixes[name], name, str(wanted["kernel"]), prefixes["JupyterSystemEnv"])


main(Path(sys.argv[1]), Path(sys.argv[2]).as_uri(), json.loads(sys.argv[3]))
sys.stdout.flush()
os._exit(0)  # py-rattler's threads may crash an interpreter that ends in the ordinary way

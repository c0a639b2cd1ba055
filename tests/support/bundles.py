"""Bundles as tests want them: written by the real writer, with a playbook of one kernel and the tool's own wheels."""

from __future__ import annotations

import json
from pathlib import Path

from nbprovision.bundle import archive
from nbprovision.machine.platform import conda_subdir
from tests.support.bootstrapping import ROOT

KERNEL = '- tasks: [{ensure_kernel: {name: NAME, argv: ["true", "{connection_file}"], display_name: T}}]\n'


def write(path: Path, wheels: Path, kernel: str = "team") -> Path:
    """Write a bundle, in place of an earlier one.

    Args:
        path: The bundle.
        wheels: A folder with the wheels of the tool.
        kernel: The name of the kernel that its playbook makes.

    """
    lock = {"environments": {}, "platforms": [conda_subdir()], "version": 1}
    sources: dict[str, bytes | Path] = {
        archive.BOOTSTRAP: ROOT / "bootstrap.sh",
        "playbook/team.yml": KERNEL.replace("NAME", kernel).encode(),
        "playbook/team.lock/index.json": json.dumps(lock).encode(),
    }
    sources |= {f"{archive.TOOL}{wheel.name}": wheel for wheel in wheels.glob("*.whl")}
    contents: dict[str, object] = {"platforms": [conda_subdir()], "packages": {}, "environments": {}, "channels": {}}
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as stream:
        archive.write(stream, {"playbook": "team.yml", "executable": [], **contents}, sources)
    new.replace(path)
    return path

"""``nbprovision facts``: shows the content of this machine; it starts no process and writes nothing."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from nbprovision import __version__
from nbprovision.cli import inventory
from nbprovision.cli.inventory import EnvironmentInfo
from nbprovision.lock import installed
from nbprovision.machine import image
from nbprovision.machine import platform as platform_facts
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.report import facts_text
from nbprovision.report.colour import shown
from nbprovision.report.document import render_plain
from nbprovision.system import disk_space
from nbprovision.system.places import existing
from nbprovision.system.secrets import masked


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``facts``."""
    parser.add_argument("--sizes", action="store_true", help="measure environments and caches too, which takes longer")
    parser.add_argument(
        "--packages", action="store_true", help="in the JSON: all packages of each environment, for `diff`"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one document")
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Print the facts.

    Returns:
        0, even if something is broken.

    """
    machine = Machine(home=options.home.absolute() if options.home else None)
    content = masked(document(machine, sizes=options.sizes, packages=options.packages))
    sys.stdout.write(render_plain(content) if options.format == "json" else shown(facts_text.text(content)))
    return 0


def document(machine: Machine, *, sizes: bool = False, packages: bool = False) -> dict[str, Any]:
    """The facts as plain data, as docs/reference.md describes them; secrets not masked yet.

    Args:
        machine: The machine.
        sizes: Measure environments and caches too.
        packages: List the packages of each environment.

    """
    warnings: list[str] = []
    kernels = inventory.all_kernels(machine)
    environments = inventory.environments(machine, kernels)
    platform = machine.platform
    indexes = inventory.settings_by_tool(machine, warnings.append)
    warnings = [*machine.conda.condarc.warnings, *warnings]
    document_content: dict[str, Any] = {
        "nbprovision": __version__,
        "platform": platform,
        "instance": platform_facts.instance(machine.root),
        "space": _space(machine),
        "home": {"path": str(machine.home), "exists": os.path.isdir(machine.home)},
        "conda": {
            "command": machine.conda.executable,
            "installations": inventory.installations(machine),
            "channels": inventory.channels(machine),
            "envs_dirs": machine.conda.envs_dirs,
            "pkgs_dirs": machine.conda.pkgs_dirs,
        },
        "environments": [
            {**msgspec.to_builtins(environment), "distance": _distance(machine, environment)}
            for environment in environments
        ],
        "kernels": kernels,
        "indexes": indexes,
        "caches": inventory.caches(machine),
        "warnings": list(dict.fromkeys(warnings)),
    }
    content: dict[str, Any] = msgspec.to_builtins(document_content, enc_hook=os.fspath)
    if sizes:
        _measure(content)
    if packages:
        _list_packages(machine, content)
    return content


def _space(machine: Machine) -> list[dict[str, Any]]:
    """The space of the volume, the root, and the tool's home if that is on another file system."""
    devices: dict[int, Path] = {}
    for path in (machine.platform.volume, machine.root, existing(machine.home)):
        if path is not None and os.path.exists(path):
            devices.setdefault(path.stat().st_dev, path)
    spaces = map(disk_space.free_space, devices.values())
    return [{"path": str(space.folder), "total": space.total, "free": space.free} for space in spaces]


def _distance(machine: Machine, environment: EnvironmentInfo) -> list[dict[str, Any]] | None:
    """The differences from the image; None if they are unknown, and for environments outside the image."""
    recorded = image.known_baseline(machine, Path(environment.prefix)) if environment.made_by == "platform" else None
    if recorded is None or environment.state == "unreadable":
        return None
    permitted = {change.name for change in recorded.permitted}
    return [
        {"kind": change.kind, "name": change.name, "from": change.before, "to": change.after}
        | {"permitted": change.name in permitted}
        for change in image.differences(recorded.content, image.content(Path(environment.prefix)))
    ]


def _list_packages(machine: Machine, content: dict[str, Any]) -> None:
    """Add ``packages`` and ``provided`` to each environment, and the ``subdir`` of this machine's packages."""
    content["subdir"] = installed.platform()
    for environment in content["environments"]:
        environment.update(_packages(machine, environment))


def _packages(machine: Machine, environment: dict[str, Any]) -> dict[str, Any]:
    try:
        listed = installed.contents(machine, environment["name"], Path(environment["prefix"]))
    except InvalidPlaybook:  # its state is `unreadable`
        return {"packages": None, "provided": {}}
    return {"packages": msgspec.to_builtins(listed.packages), "provided": listed.provided}


def _measure(content: dict[str, Any]) -> None:
    """Add ``size`` and ``shared`` to each entry with a folder; a folder within another counts only for itself."""
    meter = disk_space.Meter()
    measured = [(entry, entry["prefix"]) for entry in content["environments"]]
    measured += [(entry, entry["path"]) for entry in content["caches"]]
    measured.append((content["home"], content["home"]["path"]))
    folders = {folder for _, folder in measured}
    for item, folder in measured:
        usage = meter.usage(Path(folder), folders - {folder})
        item["size"], item["shared"] = usage.size, usage.shared
    content["together"] = meter.together

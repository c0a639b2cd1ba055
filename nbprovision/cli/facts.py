"""``nbprovision facts``: what is on this machine, found by looking; no process is started and nothing is written."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from nbprovision import __version__
from nbprovision.cli import inventory
from nbprovision.cli.inventory import FoundEnvironment
from nbprovision.machine import image
from nbprovision.machine.machine import Machine
from nbprovision.report import facts_text
from nbprovision.report.colour import shown
from nbprovision.report.document import render_plain
from nbprovision.system import disk_space
from nbprovision.system.places import existing
from nbprovision.system.secrets import masked


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``facts``."""
    parser.add_argument("--sizes", action="store_true", help="measure environments and caches too, which takes longer")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one document")
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Tell all that was found.

    Returns:
        0; that something is broken is an answer too.

    """
    machine = Machine(home=options.home.absolute() if options.home else None)
    content = masked(document(machine, sizes=options.sizes))
    sys.stdout.write(render_plain(content) if options.format == "json" else shown(facts_text.text(content)))
    return 0


def document(machine: Machine, *, sizes: bool = False) -> dict[str, Any]:
    """The document, whose keys docs/reference.md describes; secrets not masked yet.

    Args:
        machine: The machine.
        sizes: Measure environments and caches too.

    """
    warnings: list[str] = []
    kernels = inventory.found_kernels(machine)
    environments = inventory.environments(machine, kernels)
    platform = machine.platform
    indexes = inventory.settings_by_tool(machine, warnings.append)
    warnings[:0] = machine.conda.condarc.warnings
    document_content: dict[str, Any] = {
        "nbprovision": __version__,
        "platform": platform,
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
    return content


def _space(machine: Machine) -> list[disk_space.Room]:
    """The space of the volume, of the root, and of the tool's home if that is on neither."""
    places = [*([machine.platform.volume] if machine.platform.volume else []), machine.root, existing(machine.home)]
    devices: dict[int, Path] = {}
    for place in places:
        if os.path.exists(place):
            devices.setdefault(place.stat().st_dev, place)
    rooms = (disk_space.room(place) for place in devices.values())
    return [room for room in rooms if room is not None]


def _distance(machine: Machine, environment: FoundEnvironment) -> list[dict[str, Any]] | None:
    """The differences from the image; None if they are unknown, and for environments outside the image."""
    recorded = image.known_baseline(machine, Path(environment.prefix)) if environment.made_by == "platform" else None
    if recorded is None or environment.state == "unreadable":
        return None
    permitted = {change.name for change in recorded.permitted}
    return [
        {
            "kind": change.kind,
            "name": change.name,
            "from": change.before,
            "to": change.after,
            "permitted": change.name in permitted,
        }
        for change in image.differences(recorded.content, image.content(Path(environment.prefix)))
    ]


def _measure(content: dict[str, Any]) -> None:
    """Add ``size`` and ``shared`` to what has a folder; one that lies in another counts for itself alone."""
    meter = disk_space.Meter()
    measured = [(entry, entry["prefix"]) for entry in content["environments"]]
    measured += [(entry, entry["path"]) for entry in content["caches"]]
    measured.append((content["home"], content["home"]["path"]))
    folders = {folder for _, folder in measured}
    for item, folder in measured:
        usage = meter.usage(Path(folder), folders - {folder})
        item["size"], item["shared"] = usage.size, usage.shared
    content["together"] = meter.together

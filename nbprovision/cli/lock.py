"""``nbprovision lock``: writes the exact packages of a playbook's environments beside it, or checks that file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from nbprovision.catalogue import Catalogue
from nbprovision.conda.locking import PLATFORMS
from nbprovision.engine.guard import run_lock
from nbprovision.lock import folder as lock_folder
from nbprovision.lock import make, requests
from nbprovision.lock.folder import Lock
from nbprovision.lock.make import Made, Upgrade
from nbprovision.lock.requests import EnvironmentRequest
from nbprovision.machine.machine import Machine
from nbprovision.machine.ownership import refuse_foreign
from nbprovision.machine.platform import conda_subdir
from nbprovision.model.errors import UsageError
from nbprovision.playbook.read import parse_extra_vars
from nbprovision.report.colour import print_message, shown
from nbprovision.system import log
from nbprovision.system.secrets import masked

_EPILOG = """
examples:
  nbprovision lock team.yml                              write team.lock/ for this machine's platform
  nbprovision lock team.yml --platform linux-64 --platform linux-aarch64
  nbprovision lock team.yml --upgrade-package pandas     let one package move
  nbprovision lock team.yml --check                      for CI: is the lock current?

exit status:
  0  the lock is written, or current
  2  the packages are incompatible, or a server cannot be reached
  3  with --check: the lock is stale
  4  the playbook is invalid or missing, or a package to upgrade is not in the lock
  5  bad options
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``lock``."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("playbook", metavar="PLAYBOOK", help="the playbook's file")
    add("--check", action="store_true", help="only compare the lock with the playbook, without a network")
    add(
        "--platform",
        action="append",
        default=[],
        choices=PLATFORMS,
        help="a platform to lock for; default: those of the existing lock, else this machine's",
    )
    add("--upgrade", action="store_true", help="take the newest versions of all packages")
    add("--upgrade-package", action="append", default=[], metavar="NAME", help="let this package change")
    add("-e", "--extra-vars", action="append", default=[], metavar="KEY=VALUE|@FILE", help="set variables, as for run")
    add("--format", choices=("text", "json"), default="text", help="json: one document on standard output")
    add("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Write a lock, or check one.

    Returns:
        The exit status.

    """
    if options.check and (options.upgrade or options.upgrade_package):
        raise UsageError("--check cannot be combined with --upgrade", cure="leave one of them out")
    machine = Machine(home=options.home.absolute() if options.home else None)
    refuse_foreign(machine.env, machine.user_home, machine.home)
    path = Path(options.playbook)
    folder = lock_folder.folder_of(path)
    if options.check:
        return _check(options, folder, *lock_and_requests(options, machine, folder))
    lock_folder.refuse_shared(path)
    command = f"nbprovision lock {options.playbook}"
    # Another one may write the lock and the playbook while this one waits, so both are read afterwards.
    with run_lock(machine.home, command, None, print_message), log.kept_in(machine.home):
        made = _make(options, machine, folder, *lock_and_requests(options, machine, folder))
        changed = lock_folder.replace(folder, made.files)
    _report(options, folder, made, changed=changed)
    return 0


def lock_and_requests(
    options: argparse.Namespace, machine: Machine, folder: Path
) -> tuple[Lock | None, list[EnvironmentRequest]]:
    """The present lock, and what the playbook requests."""
    present = None
    if lock_folder.exists(folder):
        present = lock_folder.read(folder, tool=machine.home, home=machine.user_home)
    images = present.images if present is not None else []
    extra_vars = parse_extra_vars(options.extra_vars)
    return present, requests.collect(Path(options.playbook), machine, Catalogue(), extra_vars, images=images)


def _check(options: argparse.Namespace, folder: Path, present: Lock | None, wanted: list[EnvironmentRequest]) -> int:
    if present is None:
        stale = [f"{folder} does not exist"]
    else:
        stale = [
            *(f"the platform {name} is not in the lock" for name in options.platform if name not in present.platforms),
            *present.stale(wanted),
        ]
    if options.format == "json":
        _print_json({"lock": str(folder), "status": "stale" if stale else "fresh", "stale": stale})
    elif stale:
        for line in stale:
            print(shown(f"stale: {line}"))
        print_message(f"nbprovision lock {options.playbook} writes the lock again")
    else:
        print(shown(f"{folder.name} is fresh"))
    return 3 if stale else 0


def _make(
    options: argparse.Namespace,
    machine: Machine,
    folder: Path,
    present: Lock | None,
    wanted: list[EnvironmentRequest],
) -> Made:
    platforms = options.platform or (present.platforms if present is not None else [conda_subdir()])
    return make.make(
        machine,
        wanted,
        folder,
        sorted(set(platforms)),
        present=present,
        upgrade=Upgrade(everything=options.upgrade, names=tuple(options.upgrade_package)),
    )


def _report(options: argparse.Namespace, folder: Path, made: Made, *, changed: bool) -> None:
    for line in made.warnings:
        print_message(f"warning: {line}")
    status = "changed" if changed else "unchanged"
    if options.format == "json":
        environments = {name: {"conda": made.conda[name], "pip": made.pip[name]} for name in made.conda}
        _print_json({"lock": str(folder), "status": status, "environments": environments})
        return
    for name in made.conda:
        print(shown(f"{name}: {made.conda[name]} conda packages, {made.pip[name]} from pip"))
    print(shown(f"{folder.name} is {'written' if changed else 'unchanged'}"))


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(masked(document), indent=2) + "\n")

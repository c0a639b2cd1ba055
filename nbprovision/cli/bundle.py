"""``nbprovision bundle``: writes everything that a playbook needs into one file, for machines without a network."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from nbprovision.bundle import make
from nbprovision.catalogue import Catalogue
from nbprovision.cli.lock import lock_and_requests
from nbprovision.conda.locking import PLATFORMS
from nbprovision.engine.guard import run_lock
from nbprovision.lock import folder as lock_folder
from nbprovision.lock import make as make_lock
from nbprovision.lock.folder import Lock
from nbprovision.lock.make import Upgrade
from nbprovision.lock.requests import EnvironmentRequest
from nbprovision.machine.machine import Machine
from nbprovision.machine.ownership import refuse_foreign
from nbprovision.machine.platform import conda_subdir
from nbprovision.model.errors import InvalidPlaybook, UsageError
from nbprovision.playbook.read import parse_extra_vars
from nbprovision.report.colour import print_message, shown
from nbprovision.system import log
from nbprovision.system.disk_space import megabytes
from nbprovision.system.secrets import masked

_EPILOG = """
examples:
  nbprovision bundle team.yml -o team.tar                       with the packages of team.lock/ (see nbprovision lock)
  tar -xf team.tar bootstrap.sh && sh bootstrap.sh team.tar     on a machine without a network and without the tool
  nbprovision run --bundle team.tar                             on one that has the tool

exit status:
  0  the bundle is written
  2  a package cannot be fetched or built, or the file cannot be written
  4  the playbook is invalid or missing, or its lock is stale
  5  bad options
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bundle``."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("playbook", metavar="PLAYBOOK", help="the playbook's file; its lock is written if it has none")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the file to write; its name ends with .tar")
    add(
        "--platform",
        action="append",
        default=[],
        choices=PLATFORMS,
        help="a platform of the lock that the bundle is for; default: all of them",
    )
    add("-e", "--extra-vars", action="append", default=[], metavar="KEY=VALUE|@FILE", help="set variables, as for run")
    add("--format", choices=("text", "json"), default="text", help="json: one document on standard output")
    add("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Write a bundle.

    Returns:
        The exit status.

    """
    if options.output.suffix != ".tar":
        raise UsageError(
            f"--output {options.output} does not end with .tar",
            cause="bootstrap.sh knows a bundle by that",
            cure=f"write --output {options.output.with_suffix('.tar')}",
        )
    machine = Machine(home=options.home.absolute() if options.home else None)
    refuse_foreign(machine.env, machine.user_home, machine.home)
    path, extra_vars = Path(options.playbook), parse_extra_vars(options.extra_vars)
    lock, wanted = _fresh_lock(options, machine, path)
    platforms = sorted(set(options.platform or lock.platforms))
    make.refuse_platforms(lock, platforms, path)
    command = f"nbprovision bundle {options.playbook}"
    with run_lock(machine.home, command, None, print_message), log.kept_in(machine.home):
        made = make.make(path, machine, Catalogue(), extra_vars, lock, wanted, platforms, options.output)
    for note in made.notes:
        print_message(f"warning: {note}")
    if options.format == "json":
        document = {
            "bundle": str(options.output),
            "platforms": list(made.platforms),
            "size": made.size,
            "packages": made.packages,
            "unpacked": made.unpacked,
            "pythons": {platform: [f"3.{minor}" for minor in minors] for platform, minors in made.pythons.items()},
        }
        sys.stdout.write(json.dumps(masked(document), indent=2) + "\n")
        return 0
    for platform in made.platforms:
        pythons = ", ".join(f"3.{minor}" for minor in made.pythons[platform])
        print(shown(f"{platform}: {megabytes(made.unpacked[platform])} unpacked; the tool for Python {pythons}"))
    print(shown(f"{options.output} is written: {made.packages} packages, {megabytes(made.size)}"))
    return 0


def _fresh_lock(options: argparse.Namespace, machine: Machine, path: Path) -> tuple[Lock, list[EnvironmentRequest]]:
    """The lock of a playbook, which is written if there is none, and the requests that it is for.

    Raises:
        InvalidPlaybook: it is stale.

    """
    folder = lock_folder.folder_of(path)
    present, wanted = lock_and_requests(options, machine, folder)
    if present is not None:
        stale = present.stale(wanted)
        if stale:
            raise InvalidPlaybook(
                f"the lock {folder} is stale", cause="\n".join(stale), cure=f"write it again: nbprovision lock {path}"
            )
        return present, wanted
    lock_folder.refuse_shared(path)
    print_message(f"{path} has no lock: writing {folder}")
    with run_lock(machine.home, f"nbprovision bundle {path}", None, print_message), log.kept_in(machine.home):
        platforms = sorted(set(options.platform or [conda_subdir()]))
        made = make_lock.make(machine, wanted, folder, platforms, upgrade=Upgrade())
        lock_folder.replace(folder, made.files)
    return lock_folder.read(folder, tool=machine.home, home=machine.user_home), wanted

"""``nbprovision fleet``: releases of a playbook for many notebook instances, ring by ring."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, get_args

from nbprovision.catalogue import Catalogue
from nbprovision.cli.lint import assumed, show
from nbprovision.cli.parser import seconds
from nbprovision.fleet import definition, moves, overview, placement, publish, rescue, script
from nbprovision.fleet import release as releases
from nbprovision.fleet.bucket import Bucket, short
from nbprovision.fleet.cloud import Cloud, Policy
from nbprovision.fleet.definition import Fleet
from nbprovision.fleet.instances import Instance, members, of_ring
from nbprovision.fleet.page import of_fleet
from nbprovision.fleet.pointer import plain
from nbprovision.fleet.policies import policy
from nbprovision.fleet.steps import Step
from nbprovision.fleet.templates import FORMS, WARNING, configurations, rendered
from nbprovision.lifecycle.playbook import root_calls
from nbprovision.lifecycle.root_part import RootPart, root_part
from nbprovision.machine.machine import Machine
from nbprovision.machine.ownership import refuse_foreign
from nbprovision.model.errors import UsageError
from nbprovision.report.colour import print_message, shown
from nbprovision.report.document import render_plain
from nbprovision.services.root_task import RootTask
from nbprovision.system.files import write_atomically
from nbprovision.system.secrets import masked

_EPILOG = """
examples:
  nbprovision fleet publish                pack the playbook, and point the first ring to it
  nbprovision fleet status                 what the last starts reported, ring by ring
  nbprovision fleet promote                the release goes to the next ring, if the ring before is well
  nbprovision fleet back                   the release before it comes back, by one write for each ring
  nbprovision fleet policy publisher       a policy of IAM for those who publish

exit status:
  0  done, or nothing to do
  2  the ring before is not well, another publisher was faster, or AWS refused a call
  4  the fleet file or the playbook is invalid or missing
  5  bad options, or boto3 is missing
"""

_ACTIONS: dict[str, tuple[str, Policy]] = {
    "plan": ("show the ring of each instance by the fleet file, and which have another script", "reader"),
    "publish": ("put a release into the bucket, and point the first ring to it", "publisher"),
    "promote": ("point the next ring to the release of the ring before it, if that ring is well", "publisher"),
    "back": ("point rings to the release that they had before", "publisher"),
    "status": ("show what the last starts of all instances reported", "reader"),
    "rescue": ("bring an instance into service whose script keeps it from starting", "roller"),
    "policy": ("print a policy of IAM", "reader"),
    "render": ("print the lifecycle configurations as a file of Terraform, CloudFormation or the CDK", "reader"),
}
_CHANGING = ("publish", "promote", "back", "rescue")
_PRINTING = ("policy", "render")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``fleet`` and their options."""
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (purpose, _) in _ACTIONS.items():
        command = actions.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        add = command.add_argument
        if name in ("promote", "back"):
            rings = {
                "promote": "default: the first ring with another release than the ring before it",
                "back": "default: every ring with the newest release",
            }
            add("ring", nargs="?", metavar="RING", help=rings[name])
        if name == "rescue":
            add("name", metavar="NAME", help="the name of the instance")
            add(
                "--way",
                choices=get_args(rescue.Way),
                default="disassociate",
                help="default: %(default)s (docs/fleet.md)",
            )
            add(
                "--wait",
                type=seconds,
                default=rescue.WAIT,
                metavar="SECONDS",
                help="for each state; default: %(default)s",
            )
        if name == "policy":
            add("kind", choices=get_args(Policy), metavar="KIND", help=f"one of: {', '.join(get_args(Policy))}")
        if name == "render":
            add("form", choices=FORMS, metavar="FORM", help=f"one of: {', '.join(FORMS)} (in Python)")
            add("--offline", action="store_true", help="do not look into the bucket: the first revision of each ring")
        if name == "promote":
            add("--force", metavar="REASON", help="promote although the ring before is not well; the pointer keeps why")
        if name == "status":
            add(
                "--html",
                nargs="?",
                const="-",
                metavar="FILE",
                help="write it as a page of HTML, in place of the table to standard output if no FILE is given",
            )
        if name in _CHANGING:
            add("--check", action="store_true", help="only show what would change")
        add("-f", "--file", type=Path, default=Path("fleet.yml"), metavar="FILE", help="default: %(default)s")
        if name in _PRINTING:
            continue
        add("--format", choices=("text", "json"), default="text", help="json: one document on standard output")
        add("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Carry out an action.

    Returns:
        The exit status.

    """
    fleet = definition.read(options.file)
    run: Callable[[argparse.Namespace, Fleet], int] = {
        "plan": _plan,
        "publish": _publish,
        "promote": _promote,
        "back": _back,
        "status": _status,
        "rescue": _rescue,
        "policy": _policy,
        "render": _render,
    }[options.action]
    return run(options, fleet)


def _connect(options: argparse.Namespace, fleet: Fleet) -> tuple[Cloud, Bucket]:
    cloud = Cloud(fleet.region, _ACTIONS[options.action][1])
    return cloud, Bucket(cloud, fleet)


def _machine(options: argparse.Namespace) -> Machine:
    """This machine, with a home that it may write to."""
    machine = Machine(home=options.home.absolute() if options.home else None)
    refuse_foreign(machine.env, machine.user_home, machine.home)
    return machine


def _cache(options: argparse.Namespace, fleet: Fleet) -> Path:
    """The folder of a fleet's cache below the tool's home."""
    return _machine(options).cache / "fleet" / hashlib.sha256(fleet.url.encode()).hexdigest()[:16]


def _publish(options: argparse.Namespace, fleet: Fleet) -> int:
    release = releases.make(fleet.name, fleet.playbook, _there(fleet), lambda: _machine(options), Catalogue())
    show(release.warnings, sys.stderr)
    for note in release.notes:
        print_message(f"warning: {note}")
    cloud, bucket = _connect(options, fleet)
    publication = publish.plan(cloud, bucket, fleet, release, _root(fleet))
    first = fleet.rings[0]
    count = f"{release.files} files" if release.files > 1 else "1 file"
    print_text(options, f"release {short(release.digest)} of {fleet.playbook}: {count}, {len(release.content):,} bytes")
    _carry_out(options, publication.steps)
    outdated = _outdated(cloud, fleet, publication.scripts)
    updates: list[Step] = []
    if fleet.restart == "stopped" and first.name in publication.scripts:
        of_first = [instance for instance, _ in of_ring(fleet, first, outdated)]
        updates = placement.update_steps(cloud, fleet, first, of_first, publication.scripts[first.name])
        _carry_out(options, updates)
    pointer = publication.state.pointer
    if not publication.steps and pointer is not None:
        print_text(options, f"nothing to do: {first.name} points to {short(release.digest)} since {pointer.since}")
    updated = {step.target for step in updates}
    outdated = [instance for instance in outdated if instance.name not in updated]
    _print_moves(options, outdated)
    _print_document(
        options,
        {
            "release": release.digest,
            "ring": first.name,
            "changed": bool(publication.steps or updates),
            "check": options.check,
            "steps": [step.document() for step in (*publication.steps, *updates)],
            "outdated": [{"name": each.name, "configuration": each.configuration} for each in outdated],
        },
    )
    return 0


def _there(fleet: Fleet) -> Machine:
    """An instance, of which only the platform and the variables of the scripts are known."""
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **fleet.script.env}
    return assumed("notebook-instance", env, Path("/"))


def _root(fleet: Fleet) -> RootPart | None:
    """Root's part of the scripts, of the playbook's ``root_tasks``."""
    machine = _there(fleet)
    calls = root_calls(fleet.playbook, machine, Catalogue(), {})
    return root_part(call for call in calls if not (isinstance(call.task, RootTask) and call.task.of_users(machine)))


def _outdated(cloud: Cloud, fleet: Fleet, rings: Collection[str]) -> list[Instance]:
    """The instances of rings with a new script; a release without one asks nothing of SageMaker."""
    if not rings:
        return []
    every = members(cloud, fleet)
    return [instance for ring in fleet.rings if ring.name in rings for instance, _ in of_ring(fleet, ring, every)]


def _print_moves(options: argparse.Namespace, outdated: Sequence[Instance]) -> None:
    if not outdated:
        return
    print_text(options, "these instances have an older script, and keep it until they are moved:")
    for each in outdated:
        print_text(options, f"  {each.name} ({each.status}): {each.configuration}")
    print_text(options, placement.how_to_move())


def _promote(options: argparse.Namespace, fleet: Fleet) -> int:
    number = None if options.ring is None else moves.number_of(fleet, options.ring)
    reason = plain(options.force or "")
    if options.force is not None and not reason:
        raise UsageError(
            "--force needs a reason",
            cause="the pointer keeps it, and `fleet status` shows it to all others",
            cure='write it out: --force "the canaries are down for another reason"',
        )
    cloud, bucket = _connect(options, fleet)
    now = overview.take(cloud, bucket, fleet, _cache(options, fleet), examine=False)
    states = [ring.state for ring in now.rings]
    number = moves.next_ring(states) if number is None else number
    if number is None and states[0].pointer is None:
        moves.release_of(now.rings[0])
    if number is None:
        return _nothing(options, "nothing to promote: every ring has the release of the ring before it")
    before, target = now.rings[number - 1], states[number]
    publish.require_own(bucket, fleet, before.state)
    release = moves.release_of(before)
    publish.require_own(bucket, fleet, target)
    steps: list[Step] = []
    if target.pointer is None or target.pointer.release != release:
        steps.append(publish.pointer_step(cloud, bucket, target, release, source=before.state, reason=reason))
    if fleet.restart == "stopped":
        for ring in now.rings[: number + 1]:  # no script overtakes the release that it was published with
            outdated = [each.instance for each in now.outdated(ring)]
            steps += placement.update_steps(cloud, fleet, ring.ring, outdated, now.newest.get(ring.ring.name, 0))
    if not steps:
        since = "" if target.pointer is None else target.pointer.since
        return _nothing(options, f"nothing to do: {target.ring.name} has {short(release)} since {since}")
    refusals = list(moves.refusals(fleet, before))
    if refusals and options.force is None:
        raise moves.refused(before, target.ring, refusals)
    _carry_out(options, steps)
    _print_document(
        options,
        {
            "release": release,
            "ring": target.ring.name,
            "changed": True,
            "check": options.check,
            "steps": [step.document() for step in steps],
            "forced": refusals,
        },
    )
    return 0


def _back(options: argparse.Namespace, fleet: Fleet) -> int:
    wanted = None if options.ring is None else fleet.ring(options.ring)
    cloud, bucket = _connect(options, fleet)
    states = bucket.states(fleet.rings if wanted is None else (wanted,), bucket.listing())
    chosen = moves.of_newest(states) if wanted is None else states
    for state in chosen:
        publish.require_own(bucket, fleet, state)
    steps = moves.back_steps(cloud, bucket, chosen)
    for state in chosen:
        if state.pointer is not None and not state.pointer.before:
            print_message(f"warning: {state.ring.name} keeps {short(state.pointer.release)}: it has no earlier release")
    _carry_out(options, steps)
    _print_document(options, {"changed": True, "check": options.check, "steps": [step.document() for step in steps]})
    return 0


def _status(options: argparse.Namespace, fleet: Fleet) -> int:
    if options.html == "-" and options.format == "json":
        raise UsageError(
            "--html without a file cannot be combined with --format json",
            cause="standard output is for one document",
            cure="name the file: --html fleet.html",
        )
    if options.html is not None and not Path(options.html).absolute().parent.is_dir():
        raise UsageError(f"--html {options.html}: its folder does not exist", cure="create it, or correct the path")
    cloud, bucket = _connect(options, fleet)
    now = overview.take(cloud, bucket, fleet, _cache(options, fleet))
    if options.html is not None:
        _write_page(options.html, of_fleet(now, time.time()))
    if options.html != "-":
        for line in overview.lines(now):
            print_text(options, line)
    _print_document(options, overview.document(now))
    return 0


def _write_page(file: str, page: str) -> None:
    if file == "-":
        sys.stdout.write(page)
    else:
        write_atomically(Path(file).absolute(), page, mode=0o600, durable=False)


def _plan(options: argparse.Namespace, fleet: Fleet) -> int:
    cloud, bucket = _connect(options, fleet)
    places = placement.placed(cloud, fleet, script.revisions(bucket.listing()))
    for line in placement.lines(fleet, places):
        print_text(options, line)
    _print_document(options, {"fleet": fleet.name, "instances": [place.document() for place in places]})
    return 0


def _rescue(options: argparse.Namespace, fleet: Fleet) -> int:
    cloud, _ = _connect(options, fleet)
    work = rescue.Rescue(cloud, options.name, options.wait, lambda line: print_text(options, line))
    instance = work.look()
    work.check(instance, options.way)
    if options.check:
        for line in rescue.plan(instance, options.way):
            print_text(options, f"would {line}")
    else:
        work.run(instance, options.way)
        for line in rescue.how_to_return(instance, options.way):
            print_text(options, line)
    document = {"instance": instance.name, "configuration": instance.configuration or None, "way": options.way}
    _print_document(options, {"changed": True, "check": options.check, **document})
    return 0


def _policy(options: argparse.Namespace, fleet: Fleet) -> int:
    sys.stdout.write(render_plain(policy(fleet, options.kind)))
    return 0


def _render(options: argparse.Namespace, fleet: Fleet) -> int:
    bucket = None if options.offline else _connect(options, fleet)[1]
    every = configurations(fleet, _root(fleet), bucket)
    if options.form == "terraform":
        print_message(f"warning: {WARNING}")
    sys.stdout.write(rendered(options.form, fleet, every))
    return 0


def _carry_out(options: argparse.Namespace, steps: Sequence[Step]) -> None:
    """Carry out steps in order, and print each when it is done."""
    for step in steps:
        if not options.check:
            step.work()
        print_text(options, f"  {'would ' if options.check else ''}{step.line}")


def _nothing(options: argparse.Namespace, sentence: str) -> int:
    print_text(options, sentence)
    _print_document(options, {"changed": False, "check": options.check, "steps": []})
    return 0


def print_text(options: argparse.Namespace, line: str) -> None:
    """Print a line for people, unless standard output is for one JSON document."""
    if options.format == "text":
        print(shown(line), flush=True)


def _print_document(options: argparse.Namespace, document: dict[str, Any]) -> None:
    if options.format == "json":
        sys.stdout.write(render_plain(masked(document)))

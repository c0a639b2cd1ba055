"""``nbprovision run``: a playbook, from reading it to the exit status."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbprovision.catalogue import Catalogue
from nbprovision.cli.asking import at_terminal
from nbprovision.cli.parser import seconds
from nbprovision.engine import background
from nbprovision.engine.budget import perform_within
from nbprovision.engine.run import Listener
from nbprovision.engine.session import Request, Session, obeyed
from nbprovision.machine.machine import Machine
from nbprovision.machine.ownership import note, refuse_foreign
from nbprovision.model.errors import InvalidPlaybook, ProvisionError, UsageError
from nbprovision.model.result import Result
from nbprovision.playbook.calls import SPECIAL_TAGS
from nbprovision.playbook.extra_vars import INPUT, mask_all, read_input
from nbprovision.playbook.read import parse_extra_vars
from nbprovision.report import status_file
from nbprovision.report.activity import Replaced, hook, last_failure, record_failure
from nbprovision.report.colour import print_message, shown
from nbprovision.report.document import Silent, exit_status, if_possible, render
from nbprovision.report.relay import Relay
from nbprovision.report.ring import RingReport
from nbprovision.report.terminal import Terminal, event_lines
from nbprovision.state import last_good
from nbprovision.state.witness import parse
from nbprovision.system import log
from nbprovision.system.secrets import mask

if TYPE_CHECKING:
    from nbprovision.bundle.opened import Opened

_SHOWS_EVENTS = 2  # the number of `v`

_EPILOG = """
examples:
  nbprovision run team.yml --check --diff        what would change, in full; changes nothing
  nbprovision run team.yml                       make the changes
  nbprovision run team.yml -e team=risk -t pip   with another value, and only tasks with the tag pip
  nbprovision run team.yml --locked              exactly the packages of team.lock/ (see nbprovision lock)
  nbprovision run --bundle team.tar              the same without a network (see nbprovision bundle)
  nbprovision run team.yml --format json         one JSON document on standard output
  nbprovision run team.yml --deadline 240        return in time; unfinished work continues in the background

exit status:
  0  everything is as described, changed or not      4  the playbook is invalid or missing
  1  a defect of nbprovision                         5  bad options
  2  a task failed                                   6  another run held the lock for too long
  3  with --check --exit-code: something would       7  work continues in the background
     change

`nbprovision doc` describes the tasks, `nbprovision doc keywords` the rest of a playbook.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``run``."""
    parser.epilog = _EPILOG
    parser.add_argument("playbook", metavar="PLAYBOOK", nargs="?", help="the playbook's file")
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="FILE",
        help="a file with the playbook, its lock and its packages",
    )
    add = parser.add_argument_group("what is done").add_argument
    add("-C", "--check", action="store_true", help="show what would change, and change nothing")
    add("--exit-code", action="store_true", help="with --check: exit status 3 when something would change")
    add(
        "-e",
        "--extra-vars",
        action="append",
        default=[],
        metavar="KEY=VALUE|@FILE|@-",
        help="set variables, or those of a YAML file or of standard input; they override all others",
    )
    add("--mask-vars", action="store_true", help="mask the values of -e in all output, whatever their names are")
    add("--deep", action="store_true", help="compare the files of every package, not only names and versions")
    add(
        "--locked",
        action="store_true",
        help="install exactly what the lock beside the playbook has (nbprovision lock); refuse a stale one",
    )
    add("--frozen", action="store_true", help="the same, and use the lock even if it is stale")
    add("--no-witness", action="store_true", help="check everything again")
    add("--deadline", type=seconds, metavar="SECONDS", help="time limit of the run")
    add(
        "--lock-timeout",
        type=seconds,
        metavar="SECONDS",
        help="time to wait for another run (default: no limit)",
    )
    add("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")
    add("--relay", type=int, help=argparse.SUPPRESS)
    add("--last-good", action="store_true", help=argparse.SUPPRESS)  # bootstrap.sh's
    add = parser.add_argument_group("which tasks").add_argument
    add("-t", "--tags", action="append", default=[], metavar="A,B", help="only tasks with one of these tags")
    add("--skip-tags", action="append", default=[], metavar="A,B", help="leave out tasks with one of these tags")
    add("--start-at-task", metavar="NAME", help="leave out the tasks before this one")
    add("--step", action="store_true", help="ask before each task, and run them one after the other")
    add("--list-tasks", action="store_true", help="print the tasks that would run, and exit")
    add("--list-tags", action="store_true", help="print the tags, and exit")
    add = parser.add_argument_group("amount of output").add_argument
    add("-D", "--diff", action="store_true", help="show each change in full: files as a diff, packages as a table")
    add("--format", choices=("text", "json"), default="text", help="json: one document on standard output")
    add("--report", type=Path, metavar="FILE", help="write the run as a page of HTML, as nbprovision report does")
    add(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="-v: each change; -vv: and each command with its time, and why a task was checked; "
        "-vvv: and the engines' output, and the traceback of a defect",
    )


def execute(options: argparse.Namespace) -> int:
    """Run a playbook.

    Returns:
        The exit status.

    """
    if options.exit_code and not options.check:
        raise UsageError("--exit-code needs --check", cure="add --check, or leave it out")
    if options.step and options.deadline is not None:
        raise UsageError("--step cannot be combined with --deadline", cause="work in the background cannot ask")
    if options.playbook is None and options.bundle is None:
        raise UsageError("either PLAYBOOK or --bundle FILE is required", cure="name the playbook's file")
    if options.playbook is not None and options.bundle is not None:
        why = "a bundle has its own playbook"
        raise UsageError("PLAYBOOK cannot be combined with --bundle", cause=why, cure="leave PLAYBOOK out")
    if options.report is not None and not options.report.absolute().parent.is_dir():
        raise UsageError(f"--report {options.report}: its folder does not exist", cure="create it, or correct the path")
    if INPUT in options.extra_vars:
        if options.deadline is not None:
            raise UsageError("-e @- cannot be combined with --deadline", cause="work in the background has no input")
        options.extra_vars = [read_input(sys.stdin.buffer) if word == INPUT else word for word in options.extra_vars]
    if options.mask_vars:
        mask_all(parse_extra_vars(options.extra_vars))
    machine = Machine(home=options.home.absolute() if options.home else None)
    if not background.nobody_waits_from_the_start() or options.list_tasks or options.list_tags:
        return _execute(options, machine, background.Report())
    background.die_first()
    background.give_way()
    options.deadline = None  # there is nobody to come back to
    with background.reported(machine.home, lambda: True) as report:
        report.status = _execute(options, machine, report)
    return report.status


def _execute(options: argparse.Namespace, machine: Machine, report: background.Report) -> int:
    started = time.perf_counter()
    session = _session(options, machine)
    if options.list_tasks:
        for step in session.steps:
            if step.call is not None and step.call.listen:  # a handler is none of the tasks, as in Ansible's list
                continue
            print(shown(f"{step.name}  ({step.kind}, {step.position})"))
        return 0
    if options.list_tags:
        for tag, count in session.tags.items():
            print(shown(f"{tag}  ({count} task{'s' if count > 1 else ''})"))
        return 0
    refuse_foreign(machine.env, machine.user_home, machine.home)
    if options.relay is not None:
        return _relay(session, options, machine.home)
    if background.nobody_waits_from_the_start():
        session.nobody_waits()
    if session.idle:
        print_message(f"warning: {options.playbook} has no task, so nothing is done")
    text = note(machine.env, machine.user_home)
    if text is not None:
        print_message(text)
    _warn_of_unknown_tags(options, session)
    terminal = None
    listener: Listener = Silent()
    if options.format == "text":
        listener = terminal = Terminal(
            sys.stdout, diff=options.diff, verbosity=options.verbose, env=machine.env, check=options.check
        )
    allowed = at_terminal(terminal.close if terminal is not None else None) if options.step else None
    if options.verbose >= _SHOWS_EVENTS:
        log.listen(terminal.heard if terminal is not None else _event_printer(options.verbose, print_message))
    try:
        if options.deadline is None:
            results, content = session.perform(listener, print_message, allowed)
            _report(results, options, print_message)
        else:
            left = options.deadline - (time.perf_counter() - started)
            argv = _without("--deadline", options.argv)
            results, content = perform_within(session, left, argv, machine.home, listener, print_message)
    finally:
        log.listen(None)
        if terminal is not None:
            terminal.close()
    report.content = content
    if options.deadline is None:
        _write_report(session, options, machine)
    if terminal is None:
        sys.stdout.write(render(content))
    else:
        terminal.recap(results, time.perf_counter() - started)
    if options.exit_code and content["status"] == "changed":
        return 3
    return exit_status(results)


def _open_bundle(options: argparse.Namespace, machine: Machine) -> Opened:
    """Take the playbook and the packages from the bundle.

    Raises:
        InvalidPlaybook: see `opened.open_bundle`.
        UsageError: this runs as root, and the home folder is somebody else's.

    """
    from nbprovision.bundle import opened

    refuse_foreign(machine.env, machine.user_home, machine.home)
    try:
        bundle = opened.open_bundle(options.bundle, machine)
    except InvalidPlaybook:
        if not options.last_good:
            raise
        bundle = opened.earlier(options.bundle, machine)
    options.playbook = str(bundle.playbook)
    if bundle.archives is not None:
        machine.archives = bundle.archives
    return bundle


def _use_lock(
    options: argparse.Namespace, machine: Machine, good: last_good.Kept | None, bundle: Opened | None
) -> None:
    """Have the environments installed from the lock.

    Raises:
        InvalidPlaybook: see `locked_run.locked`.
        NotBegun: the packages of the bundle do not fit on the disk.

    """
    from nbprovision.lock.locked_run import locked

    kept = None if good is None else good.content
    lock = locked(
        Path(options.playbook) if good is None or _is_of(good, options.playbook) else good.path,
        Machine(home=machine.home),  # it learns what the playbook declares, which the run itself learns again
        Catalogue(),
        parse_extra_vars(options.extra_vars, kept, obeyed),
        kept=kept,
        frozen=options.frozen or good is not None,
        bundle=options.bundle,
    )
    if bundle is not None and bundle.archives is not None and not options.check:
        bundle.archives.require_room(machine, lock)
    machine.locked = lock.environments
    if options.relay is None:
        for line in lock.notes:
            print_message(f"warning: {line}")


def _warn_of_unknown_tags(options: argparse.Namespace, session: Session) -> None:
    for tag in (*_split(options.tags), *_split(options.skip_tags)):
        if tag not in session.tags and tag not in SPECIAL_TAGS:
            choices = f"there are: {', '.join(session.tags)}" if session.tags else "no task has a tag"
            print_message(f"warning: no task has the tag '{tag}'; {choices}")


def _session(options: argparse.Namespace, machine: Machine) -> Session:
    """Read the playbook; a lifecycle script's that is invalid is what `nbprovision status` is to show."""
    try:
        bundle = _open_bundle(options, machine) if options.bundle is not None else None
        kept = _last_good(options, machine) if options.last_good else None
        replaced = Replaced(kept.date, _fault(options, machine)) if kept is not None else None
        if options.locked or options.frozen or bundle is not None:
            _use_lock(options, machine, kept, bundle)
        return Session(_request(options, kept, replaced), machine, Catalogue())
    except ProvisionError as error:
        if hook() and not (options.check or options.list_tasks or options.list_tags):
            with log.kept_in(machine.home):
                log.event("invalid", playbook=os.path.abspath(options.playbook or options.bundle), why=str(error))
            RingReport(machine.home, options.playbook or "").fail(error.exit_status, error)
            if not options.last_good:  # what is wrong with the playbook itself is recorded then
                playbook = options.playbook or str(options.bundle)
                record_failure(machine.home, playbook, error.exit_status, str(error))
                if machine.platform.kind == "notebook-instance" and machine.platform.volume is not None:
                    status_file.failed(machine.platform.volume, machine.home, playbook, error)
        raise


def _last_good(options: argparse.Namespace, machine: Machine) -> last_good.Kept:
    """The content of the last successful run: of this playbook, or else of another one of the team's."""
    start = last_good.Start.of(machine.env)
    if not start.hook:
        raise UsageError("--last-good is for lifecycle scripts", cure="correct the playbook, and leave it out")
    kept = last_good.read(machine.home, Path(options.playbook), start)
    if options.relay is None:
        what = "the one" if _is_of(kept, options.playbook) else f"the team's {kept.path}"
        print_message(f"the playbook is invalid; using {what} that last succeeded, of {kept.date}")
    return kept


def _is_of(kept: last_good.Kept, playbook: str) -> bool:
    return kept.path == Path(os.path.abspath(playbook))


def _fault(options: argparse.Namespace, machine: Machine) -> str:
    """Describe the fault in the unused playbook; the record has faults that only the run found."""
    try:
        Session(_request(options), machine, Catalogue())
    except ProvisionError as error:
        return str(error)
    return last_failure(machine.home, options.playbook, InvalidPlaybook.exit_status)


def _request(
    options: argparse.Namespace, good: last_good.Kept | None = None, replaced: Replaced | None = None
) -> Request:
    # The start-up path names the state file from the bare command line; both must come to the same name.
    argv = [word for word in _without("--relay", options.argv) if word != "--last-good"]
    kept = None if good is None else good.content
    invocation = parse(argv)
    selection = tuple(invocation.selection if invocation else ["other", *argv, _digest(options.extra_vars)])
    return Request(
        playbook=Path(options.playbook) if good is None or _is_of(good, options.playbook) else good.path,
        extra_vars=parse_extra_vars(options.extra_vars, kept, obeyed),
        # What this playbook proves is of no use to the one in its place, nor the other way round.
        selection=selection if kept is None else (*selection, "--last-good"),
        tags=_split(options.tags),
        skip_tags=_split(options.skip_tags),
        start_at=options.start_at_task,
        check=options.check,
        deep=options.deep,
        kept=kept,
        replaced=replaced,
        witness=not options.no_witness,
        lock_timeout=options.lock_timeout,
        bundle=options.bundle,
    )


def _digest(words: Sequence[str]) -> str:
    """Distinguish the runs of a playbook with other variables on standard input."""
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()


def _event_printer(verbosity: int, print_line: Callable[[str], None]) -> log.Listener:
    """Prints each event that ``-v`` asks for."""

    def print_event(event: str, fields: Mapping[str, Any]) -> None:
        for line in event_lines(event, fields, verbosity):
            print_line(mask(line))

    return print_event


def _relay(session: Session, options: argparse.Namespace, home: Path) -> int:
    """Be the process that does the work while another one waits for the end of it or of its budget."""
    background.die_first()
    relay = Relay(options.relay, session.steps)
    session.on_wait = lambda other: relay.waits(other.hook if other else "")

    def nobody_waits() -> None:
        background.give_way()
        session.nobody_waits()

    background.when_nobody_waits(options.relay, nobody_waits)
    if options.verbose >= _SHOWS_EVENTS:
        log.listen(_event_printer(options.verbose, relay.said))
    with background.reported(home, lambda: not relay.delivered()) as report:
        try:
            results, report.content = session.perform(relay, relay.said)
            report.status = exit_status(results)
            _report(results, options, relay.said)
        except ProvisionError as error:
            relay.failed(error)
            raise
        relay.ended(report.content)
        _write_report(session, options, Machine(home=home))
    return report.status


def _write_report(session: Session, options: argparse.Namespace, machine: Machine) -> None:
    """Write the pages of the run: the requested one, and after a start those that a user of JupyterLab looks for."""
    if session.kept is None or not (options.report or hook()):
        return
    from nbprovision.cli import report

    with if_possible(print_message, "the page of this run"):
        if options.report:
            report.write_page(machine, session.kept, options.report.absolute())
        if hook():
            report.write_pages(machine, session.kept)


def _report(results: Sequence[Result], options: argparse.Namespace, print_line: Callable[[str], None]) -> None:
    """With -vvv: where in the code each failure came up, and a report of them all."""
    failures = [result.error for result in results if result.error is not None]
    if failures and options.verbose:
        from nbprovision.cli import issue_report

        issue_report.show(failures, options, print_line)


def _without(option: str, argv: Sequence[str]) -> list[str]:
    words = iter(argv)
    kept = []
    for word in words:
        if word == option:
            next(words, None)
        elif not word.startswith(f"{option}="):
            kept.append(word)
    return kept


def _split(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(tag.strip() for value in values for tag in value.split(",") if tag.strip())

"""The start after a restart: puts back what the home has lost, from what the last run kept, without the playbook.

It belongs to the start-up path: neither the playbook nor any task is read. Whatever it cannot explain, it leaves to a
run that plans: then it has changed nothing, or put back a part, which that run finds in place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nbprovision.model.errors import ProvisionError
from nbprovision.model.result import Change, Result
from nbprovision.report import activity, document, status_file
from nbprovision.report.colour import print_message
from nbprovision.report.ring import RingReport
from nbprovision.report.terminal import Terminal
from nbprovision.state import effects, store
from nbprovision.state.effects import Effect
from nbprovision.state.witness import Invocation, leftovers, read_lines
from nbprovision.system import journal, log, trust
from nbprovision.system.effects import state_of
from nbprovision.system.files import make_folder


class _Step(NamedTuple):
    """A step for the terminal; plays are not known here."""

    name: str
    kind: str
    play: tuple[int, str] = (0, "")
    diff: bool | None = False


class _Unexplained(Exception):
    """The machine differs in more than what is put back here."""


def put_back(invocation: Invocation, started: float) -> int | None:
    """Put back what a restart took away, if nothing else has changed since the last run.

    Args:
        invocation: The command line.
        started: ``time.perf_counter()`` at the start of the program.

    Returns:
        The exit status, or None when the full path must be taken.

    """
    home = Path(invocation.home)
    began = int(time.time())
    try:
        _refuse_foreign(home)
        with _locked(home), journal.kept(home):
            state = Path(invocation.state_path)
            lines = read_lines(str(state))
            kept = effects.read(effects.path_of(state), store.tasks_of(lines))
            lost = _lost(lines, kept)
            for effect in lost:
                _repeat(effect)
            with contextlib.suppress(OSError):
                make_folder(home / "log", mode=0o700)
            log.open_log(home / "log" / "nbprovision.log")
            record = activity.Recorder(home, invocation.playbook)
            results = list(_results(lines, lost))
            with document.if_possible(print_message, "the proofs; the next run checks everything again"):
                _keep(state, lines, kept)
            content = document.document(
                invocation.playbook, results, check=False, seconds=time.perf_counter() - started
            )
            with document.if_possible(print_message, "the document of this run, which `nbprovision status` shows"):
                document.leave_behind(home, content, results, began=began)
            document.log_end(content)
            record.end(0)
            RingReport(home, invocation.playbook).end(0, content)
            status_file.restarted(home)
            log.flush()
            _record_baselines(home)
    except (_Unexplained, ProvisionError, OSError, ValueError):
        return None
    _report(invocation, results, content)
    return 0


def _refuse_foreign(home: Path) -> None:
    """As root, leave it to the full run to say whose a folder is; each written path is judged as well."""
    folders = (home, Path(os.environ.get("HOME", "/")))
    if os.geteuid() == 0 and any(trust.fault(folder, shared=True) is not None for folder in folders):
        raise _Unexplained


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold the lock of a run, which a full run takes by filelock; not if it must be waited for."""
    lock = os.open(home / "lock", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if leftovers(str(home)):
            raise _Unexplained
        yield
    finally:
        os.close(lock)


def _lost(lines: Sequence[str], kept: Sequence[Effect]) -> list[Effect]:
    """What must be put back.

    Raises:
        _Unexplained: a path is neither as the last run left it nor as it was before, or something else has changed.

    """
    if not kept or not store.stands_apart_from(lines, {effect.path: effect.identity for effect in kept}):
        raise _Unexplained
    entries: dict[str, list[bytes]] = {}
    for effect in kept:
        entries.setdefault(os.path.dirname(effect.path), []).append(os.path.basename(effect.name))
    witnessed = store.paths_of(lines)
    lost = []
    for effect in kept:
        state = state_of(effect.path)
        if state not in (effect.before, effect.after):
            raise _Unexplained
        # A folder that shows by its time what is in it must get all that was in it.
        whole = effect.kind != "folder" or effect.data == b"\0".join(sorted(entries.get(effect.path, ())))
        if effect.path in witnessed and not (whole and _has_only_its_own(effect)):
            raise _Unexplained
        if state != effect.after:
            lost.append(effect)
    return lost


def _has_only_its_own(effect: Effect) -> bool:
    """Whether nothing has been added to a folder."""
    if effect.kind != "folder":
        return True
    with contextlib.suppress(FileNotFoundError):
        return set(map(os.fsencode, os.listdir(effect.path))) <= set(effect.data.split(b"\0"))
    return True


def _repeat(effect: Effect) -> None:
    if not effect.repeat():
        raise _Unexplained


def _keep(state: Path, lines: Sequence[str], kept: Sequence[Effect]) -> None:
    """Record the new identities, when a later change of them would show."""
    store.settle(store.look(effect.path for effect in kept) or ())
    renewed = [effect.looked_at_again() for effect in kept]
    if None in renewed:  # a full disk, or somebody else writes the same files
        raise _Unexplained
    stand = [effect for effect in renewed if effect is not None]
    witnessed = store.paths_of(lines)
    if any(new.data != old.data and new.path in witnessed for new, old in zip(stand, kept, strict=True)):
        raise _Unexplained  # somebody else's file in a folder that a task looks at
    effects.write(effects.path_of(state), stand, store.tasks_of(lines))
    before, now = ({effect.path: effect.identity for effect in those} for those in (kept, stand))
    if not store.renew(state, lines, before, now):
        raise _Unexplained


def _results(lines: Sequence[str], lost: Sequence[Effect]) -> Iterator[Result]:
    """The results of all tasks, and their events."""
    witnessed = store.paths_of(lines)
    # All that was in a witnessed folder is put back with it, such as a kernel's.
    whole = {effect.path for effect in lost if effect.kind == "folder" and effect.path in witnessed}
    for line in lines:
        kind, *fields = line.split("\t", 4)
        if kind != "task":
            continue
        report = msgspec.json.decode(fields[3])
        own = _shown([effect for effect in lost if fields[0] in effect.tasks], whole)
        result = Result(
            name=report["name"],
            task=report["task"],
            status="changed" if own else report["status"],
            proof="check" if own else "witness",
            changes=tuple(Change("restore", path) for path in own),
            warnings=tuple(report["warnings"]),
        )
        if own:
            log.event(
                "task",
                task=result.task,
                name=result.name,
                status=result.status,
                seconds=0.0,
                check=False,
                changes=[change.as_json() for change in result.changes],
            )
        yield result


def _shown(lost: Sequence[Effect], whole: set[str]) -> list[str]:
    """The paths to show for a task: a whole folder instead of its files, and no folder only because of its content."""
    shown = []
    for effect in lost:
        folder = os.path.dirname(effect.path)
        if effect.kind != "folder":
            shown.append(folder if folder in whole else effect.path)
        elif not any(other.path.startswith(f"{effect.path}/") for other in lost):
            shown.append(effect.path)
    return list(dict.fromkeys(shown))


def _record_baselines(home: Path) -> None:
    """Record what the image brought, as the first run after each boot does; other machines have no such record."""
    if (home / "baselines").is_dir():
        from nbprovision.machine import image
        from nbprovision.machine.machine import Machine

        image.record_baselines(Machine(home=home))


def _report(invocation: Invocation, results: Sequence[Result], content: dict[str, Any]) -> None:
    if invocation.json:
        sys.stdout.write(document.render(content))
        return
    terminal = Terminal(sys.stdout)
    for result in results:
        terminal.finished(_Step(result.name, result.task), result)
    terminal.recap(results, content["seconds"])

"""Writes what was proven, and tells of each task whether its own witnesses still stand.

The format, and the reading of it where nothing has changed, is in `state.witness`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from nbprovision.state.witness import HEADER, digest, identity, read_lines
from nbprovision.system.files import make_folder, remove, write_atomically
from nbprovision.system.log import detail, event

# A change within one tick of the kernel's coarse clock leaves the same ctime as the change before it (git calls such an
# entry racy: Documentation/technical/racy-git.txt). The slowest clock in use ticks every 10 ms (CONFIG_HZ=100).
TICK_NS = 20_000_000
STATES_KEPT = 20


class Witness(msgspec.Struct, frozen=True):
    """One look at a path: ``kind`` is ``stat`` (links followed) or ``lstat``; identity ``-`` where nothing is there."""

    kind: str
    path: str
    identity: str


class Proof(msgspec.Struct, frozen=True):
    """What was recorded of one task.

    Attributes:
        digest: Of its parameters.
        until: When it stops holding, in seconds since the epoch; None for never.
        witnesses: They must be as they were.
        report: Its JSON.
        since: When it was proven. A clock that shows less was set back, and would make it hold for too long.

    """

    digest: str
    until: float | None
    witnesses: tuple[Witness, ...]
    report: str
    since: float = 0.0


def look(paths: Iterable[str | Path]) -> tuple[Witness, ...] | None:
    """Take the identity of each path, and of the link itself where it is one.

    Returns:
        The witnesses, or None when one of them cannot serve: its name has a tab or a line end in it.

    """
    found = []
    for path in dict.fromkeys(map(str, paths)):
        if "\t" in path or "\n" in path:
            return None
        own = _status(os.lstat, path)
        if own is not None and stat.S_ISLNK(own.st_mode):
            found.append(Witness("lstat", path, identity(own)))
            own = _status(os.stat, path)
        found.append(Witness("stat", path, identity(own) if own is not None else "-"))
    return tuple(found)


def unsettled(witnesses: Iterable[Witness]) -> float:
    """Seconds until a later change of any of them would show; more than a tick where the clock was set back."""
    newest = max((int(w.identity.split()[1]) for w in witnesses if w.identity != "-"), default=0)
    return max(0.0, (newest + TICK_NS - time.time_ns()) / 1e9)


def settle(witnesses: Iterable[Witness]) -> None:
    """Wait, for a tick at most, until a later change of any of them would show."""
    ahead = unsettled(witnesses)
    if 0 < ahead <= TICK_NS / 1e9:
        time.sleep(ahead)


class Store:
    """The state file of one playbook with one set of options.

    Args:
        path: From `witness.state_path`.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._proofs = {proof.digest: proof for proof in self._read()}

    def proof_of(self, task_digest: str) -> Proof | None:
        """What stands recorded of a task with these parameters, if all its witnesses hold now."""
        proof = self._proofs.get(task_digest)
        if proof is None:
            return None
        changed = next((witness.path for witness in proof.witnesses if not holds(witness)), None)
        if changed is None and (proof.until is None or proof.since <= time.time() < proof.until):
            return proof
        reason = "its time is over, or the clock was set" if changed is None else f"{changed} is not as it was"
        detail("doubted", task=msgspec.json.decode(proof.report)["name"] if proof.report else "", reason=reason)
        return None

    def write(
        self, inputs: Iterable[Witness], variables: dict[str, str | None], proofs: list[Proof], *, complete: bool
    ) -> None:
        """Record what a run proved.

        Args:
            inputs: Witnesses of the playbook, of what it includes, and of the tool itself.
            variables: Environment variables that templates read, None for those that were not set.
            proofs: One for each task that was proven, in the order of the playbook.
            complete: Whether they are all; if not, the next run takes the full path, and looks only at the rest.

        """
        numbers: dict[Witness, int] = {}
        for witness in inputs:
            numbers.setdefault(witness, len(numbers))
        tasks = []
        for proof in proofs:
            own = [str(numbers.setdefault(witness, len(numbers))) for witness in proof.witnesses]
            until = "-" if proof.until is None else f"{proof.until:.3f} {proof.since:.3f}"
            tasks.append(f"task\t{proof.digest}\t{until}\t{','.join(own)}\t{proof.report}")
        ageing = [(proof.until, proof.since) for proof in proofs if proof.until is not None]
        ageing += [] if complete else [(0.0, 0.0)]
        ends, begins = zip(*ageing, strict=True) if ageing else ((), ())
        lines = [
            HEADER,
            f"until\t{min(ends):.3f}\t{max(begins):.3f}" if ageing else "until\t-",
            *(f"env\t{name}\t{'-' if value is None else digest(value)}" for name, value in variables.items()),
            *(f"{witness.kind}\t{witness.path}\t{witness.identity}" for witness in numbers),
            *tasks,
        ]
        content = "\n".join(lines)
        make_folder(self.path.parent, mode=0o700)
        if self.path.is_dir():
            remove(self.path)
        write_atomically(self.path, f"{content}\nend\t{digest(content)}", mode=0o600)
        self._drop_old_states()

    def forget(self) -> None:
        """Nothing is proven any longer."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> Iterator[Proof]:
        try:
            lines = read_lines(str(self.path))
        except OSError as error:
            event("state unreadable", path=str(self.path), reason=str(error.strerror))
            return
        witnesses: list[Witness] = []
        proofs = []
        try:
            for line in lines:
                kind, *fields = line.split("\t", 4)
                if kind in ("stat", "lstat"):
                    witnesses.append(Witness(kind, *fields))
                elif kind == "task":
                    times = [float(text) for text in fields[1].split(" ")] if fields[1] != "-" else [None, 0.0]
                    own = tuple(witnesses[int(number)] for number in fields[2].split(",") if number)
                    proofs.append(Proof(fields[0], times[0], own, fields[3], times[1] or 0.0))
        except (ValueError, IndexError, TypeError) as error:
            event("state unreadable", path=str(self.path), reason=str(error))
            return
        yield from proofs

    def _drop_old_states(self) -> None:
        states = sorted(self.path.parent.glob("*.state"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in states[STATES_KEPT:]:
            path.unlink(missing_ok=True)


def holds(witness: Witness) -> bool:
    """Whether a path is now what it was when the witness was taken."""
    now = _status(os.lstat if witness.kind == "lstat" else os.stat, witness.path)
    return witness.identity == (identity(now) if now is not None else "-")


def _status(look_at: Callable[[str], os.stat_result], path: str) -> os.stat_result | None:
    try:
        return look_at(path)
    except OSError:
        return None

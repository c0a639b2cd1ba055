"""Writes the proofs of a run, and finds for each task whether its own witnesses still stand.

The format, and the reading of it where nothing has changed, is in `state.witness`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from nbprovision.state.witness import HEADER, digest, identity, read_lines, still_stands
from nbprovision.system import inputs
from nbprovision.system.files import make_folder, remove, write_atomically
from nbprovision.system.inputs import Inputs, Look
from nbprovision.system.log import detail, event
from nbprovision.system.places import this_start
from nbprovision.system.reading import read_bytes

# A change within one tick of the kernel's coarse clock leaves the same ctime as the change before it (git calls such an
# entry racy: Documentation/technical/racy-git.txt). The slowest clock in use ticks every 10 ms (CONFIG_HZ=100).
TICK_NS = 20_000_000
STATES_KEPT = 20
_SMALL = 1 << 16  # bytes of a file whose content is compared


class Witness(msgspec.Struct, frozen=True):
    """One reading of a path: ``kind`` is ``stat`` (links followed) or ``lstat``; identity ``-`` if nothing is there.

    With the kind ``env`` the path is an environment variable, and the identity a digest of its value; the empty name
    stands for the start of the machine.
    """

    kind: str
    path: str
    identity: str


class Proof(msgspec.Struct, frozen=True):
    """The recorded proof of one task.

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
    """Take the identity of each path, and of the link itself if it is one.

    Returns:
        The witnesses, or None when one of them cannot serve: its name has a tab or a line end in it.

    """
    return _witnesses((path, inputs.look(path)) for path in dict.fromkeys(map(str, paths)))


def read_from(read: Inputs) -> tuple[Witness, ...] | None:
    """The witnesses of a result: the files that were read for it, as they were then, and the variables.

    Returns:
        They, or None when one of them cannot serve: as `look` says, or it had changed so lately when it was read that
        a later change would not show.

    """
    for look in read.files.values():
        newest = max((status.st_ctime_ns for status in (look.own, look.followed) if status is not None), default=0)
        if newest + TICK_NS > look.at:
            return None
    files = _witnesses(read.files.items())
    if files is None or any(letter in name for name in read.variables for letter in "\t\n,="):
        return None
    return (*files, *(variable(name, value) for name, value in read.variables.items()))


def variable(name: str, value: str | None) -> Witness:
    """The witness of an environment variable, None for one that is not set."""
    return Witness("env", name, "-" if value is None else digest(value))


def _witnesses(looks: Iterable[tuple[str, Look]]) -> tuple[Witness, ...] | None:
    witnesses = []
    for path, look in looks:
        if "\t" in path or "\n" in path:
            return None
        if look.own is None:
            witnesses.append(Witness("lstat", path, "-"))  # a link that leads nowhere is not nothing
            continue
        if stat.S_ISLNK(look.own.st_mode):
            witnesses.append(Witness("lstat", path, identity(look.own)))
        witnesses.append(Witness("stat", path, identity(look.followed) if look.followed is not None else "-"))
    return tuple(witnesses)


def unsettled(witnesses: Iterable[Witness]) -> float:
    """Seconds until a later change of any of them would show; more than a tick where the clock was set back."""
    files = (w for w in witnesses if w.kind != "env" and w.identity != "-")
    newest = max((int(w.identity.split()[1]) for w in files), default=0)
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
        env: The environment variables that the run sees; default those of this process.

    """

    def __init__(self, path: Path, env: Mapping[str, str] | None = None) -> None:
        self.path = path
        self._env = os.environ if env is None else env
        self._contents: dict[str, str] = {}
        self._proofs = {proof.digest: proof for proof in self._read()}

    def proof_of(self, task_digest: str) -> Proof | None:
        """Return the proof of a task with these parameters, if all its witnesses hold now."""
        proof = self._proofs.get(task_digest)
        if proof is None:
            return None
        now = {witness: self._as_it_is(witness) for witness in proof.witnesses}
        changed = next((witness.path for witness, same in now.items() if same is None), None)
        if changed is None and (proof.until is None or proof.since <= time.time() < proof.until):
            return msgspec.structs.replace(proof, witnesses=tuple(same for same in now.values() if same is not None))
        reason = "its time is over, or the clock was set" if changed is None else f"{changed} is not as it was"
        detail("doubted", task=msgspec.json.decode(proof.report)["name"] if proof.report else "", reason=reason)
        return None

    def write(
        self, looked_at: Iterable[Witness], variables: dict[str, str | None], proofs: list[Proof], *, complete: bool
    ) -> None:
        """Record what a run proved.

        Args:
            looked_at: Witnesses of the playbook, of what it includes, and of the tool itself.
            variables: Environment variables that templates read, None for those that were not set.
            proofs: One for each task that was proven, in the order of the playbook.
            complete: Whether they are all; if not, the next run takes the full path, and looks only at the rest.

        """
        numbers: dict[Witness, int] = {}
        for witness in looked_at:
            numbers.setdefault(witness, len(numbers))
        read = [variable(name, value) for name, value in variables.items()]
        read += [witness for proof in proofs for witness in proof.witnesses if witness.kind == "env"]
        tasks = []
        for proof in proofs:
            own = [
                f"{witness.path}={witness.identity}"
                if witness.kind == "env"
                else str(numbers.setdefault(witness, len(numbers)))
                for witness in proof.witnesses
            ]
            until = "-" if proof.until is None else f"{proof.until:.3f} {proof.since:.3f}"
            tasks.append(f"task\t{proof.digest}\t{until}\t{','.join(own)}\t{proof.report}")
        ageing = [(proof.until, proof.since) for proof in proofs if proof.until is not None]
        ageing += [] if complete else [(0.0, 0.0)]
        ends, begins = zip(*ageing, strict=True) if ageing else ((), ())
        contents = {
            witness.path: _content(witness.path)
            for witness in numbers
            if self._is_lost_at_a_restart(witness.path) and holds(witness)
        }
        lines = [
            HEADER,
            f"until\t{min(ends):.3f}\t{max(begins):.3f}" if ageing else "until\t-",
            *(f"{witness.kind}\t{witness.path}\t{witness.identity}" for witness in dict.fromkeys((*read, *numbers))),
            *(f"content\t{path}\t{content}" for path, content in contents.items() if content),
            *tasks,
        ]
        _write(self.path, lines)
        self._drop_old_states()

    def _as_it_is(self, witness: Witness) -> Witness | None:
        """The witness, or that of a file which was rewritten with the same content; None if it has changed."""
        if holds(witness, self._env):
            return witness
        content = self._contents.get(witness.path) if witness.kind == "stat" else None
        if content is None or content != _content(witness.path):
            return None
        return Witness("stat", witness.path, identity(os.stat(witness.path)))

    def _is_lost_at_a_restart(self, path: str) -> bool:
        """Whether a file is one of the user's home that nobody sees: ``~/.config/pip/pip.conf``, ``~/.condarc``."""
        home = self._env.get("HOME", "").rstrip("/")
        return bool(home) and path.startswith(f"{home}/.") and not path.startswith(f"{self.path.parent.parent}/")

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
                elif kind == "content":
                    self._contents[fields[0]] = fields[1]
                elif kind == "task":
                    times = [float(text) for text in fields[1].split(" ")] if fields[1] != "-" else [None, 0.0]
                    own = tuple(
                        witnesses[int(word)] if word.isdigit() else Witness("env", *word.split("=", 1))
                        for word in fields[2].split(",")
                        if word
                    )
                    proofs.append(Proof(fields[0], times[0], own, fields[3], times[1] or 0.0))
        except (ValueError, IndexError, TypeError) as error:
            event("state unreadable", path=str(self.path), reason=str(error))
            return
        yield from proofs

    def _drop_old_states(self) -> None:
        states = sorted(self.path.parent.glob("*.state"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in states[STATES_KEPT:]:
            path.unlink(missing_ok=True)
            path.with_suffix(".effects").unlink(missing_ok=True)


def paths_of(lines: Iterable[str]) -> set[str]:
    """The paths that the lines of a state file have as witnesses."""
    return {path for kind, path, _ in map(_fields, lines) if kind in ("stat", "lstat")}


def tasks_of(lines: Iterable[str]) -> list[str]:
    """The digests of the tasks in the lines of a state file, in their order."""
    return [line.split("\t", 2)[1] for line in lines if line.startswith("task\t")]


def stands_apart_from(lines: Iterable[str], identities: Mapping[str, str]) -> bool:
    """Whether the lines of a state file hold now, apart from those of the given paths.

    Args:
        lines: The lines.
        identities: By path, the identity that its line must have.

    """
    rest = []
    for line in lines:
        kind, path, recorded = _fields(line)
        is_of_a_link = kind == "stat" and path in identities and f"lstat\t{path}\t{identities.get(path)}" in lines
        if kind not in ("stat", "lstat") or (recorded != identities.get(path) and not is_of_a_link):
            rest.append(line)
    return still_stands(rest)


def renew(path: Path, lines: Iterable[str], before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Write a state file with new identities of some paths.

    Args:
        path: The file.
        lines: Its lines.
        before: The identities by path that are recorded in it, links not followed.
        now: The new ones.

    Returns:
        Whether all of its lines hold now; nothing is written otherwise.

    Raises:
        TaskFailed: the disk is full, the folder cannot be written, ...

    """
    # Where a link leads to may be one of the paths too; if it is not, it must be as it was.
    new = {identity: now[name] for name, identity in before.items() if identity != "-"}
    renewed = []
    for line in lines:
        kind, name, recorded = _fields(line)
        renews = kind in ("stat", "lstat") and name in now
        renewed.append(f"{kind}\t{name}\t{new.get(recorded, recorded)}" if renews else line)
    if not still_stands(renewed):
        return False
    _write(path, renewed)
    return True


def _fields(line: str) -> tuple[str, str, str]:
    """Kind, path and identity of a witness; of another line only the kind."""
    kind, _, rest = line.partition("\t")
    path, _, recorded = rest.partition("\t")
    return kind, path, recorded


def _write(path: Path, lines: Iterable[str]) -> None:
    content = "\n".join(lines)
    make_folder(path.parent, mode=0o700)
    if path.is_dir():
        remove(path)
    write_atomically(path, f"{content}\nend\t{digest(content)}", mode=0o600)


def _content(path: str) -> str | None:
    """Return the content, owner and mode of a small regular file; None for anything else."""
    try:
        status = os.stat(path)
        said = read_bytes(path, most=_SMALL).hex() if stat.S_ISREG(status.st_mode) else None
    except OSError:
        return None
    return None if said is None else digest(f"{status.st_mode} {status.st_uid} {said}")


def holds(witness: Witness, env: Mapping[str, str] = os.environ) -> bool:
    """Whether a path, or a variable of ``env``, is now what it was when the witness was taken."""
    if witness.kind == "env":
        now = this_start() if witness.path == inputs.START else env.get(witness.path)
        return witness == variable(witness.path, now)
    status = inputs.status(os.lstat if witness.kind == "lstat" else os.stat, witness.path)
    return witness.identity == (identity(status) if status is not None else "-")

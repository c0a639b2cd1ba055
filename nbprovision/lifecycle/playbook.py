"""Checks whether a playbook can work on another machine, and collects the files and variables that go with it.

The playbook is read as in a run, but through a link to the root folder. A path below that link begins at a file of the
playbook. Any other path is an absolute path in the playbook, and so belongs to the other machine.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nbprovision.lifecycle.payload import SCRIPT, Container, Member, Payload, pack
from nbprovision.lint.check import check
from nbprovision.lint.finding import Finding
from nbprovision.lint.subject import ELSEWHERE, Catalogue, Elsewhere, is_of_elsewhere, outside_of
from nbprovision.machine.expansion import expanded
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, MissingFile, Position, ProvisionError, nearest
from nbprovision.model.task import Task
from nbprovision.playbook import parameters, read
from nbprovision.playbook.calls import TaskCall
from nbprovision.playbook.extra_vars import ExtraVars, parse_extra_vars
from nbprovision.playbook.faults import SeveralFaults, single_faults
from nbprovision.playbook.own_tasks import FORM
from nbprovision.playbook.template import NotYetKnown
from nbprovision.playbook.written import as_flow
from nbprovision.playbook.yaml_nodes import MapNode, scalars

# Another name of the root folder, to distinguish paths below it from paths that begin with /.
_ROOT = "/proc/self/root"
_BY_LINK = re.compile(rf"{_ROOT}/[^\s'\":;,|&<>()]+")
# Only the machine itself can decide the first rule. `secret_text` decides the second.
_UNDECIDED = "unknown-environment"
_DECIDED = "plain-secret"
_ANY_TAG = ("all", "tagged", "untagged", "always", "never")


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A playbook that can go to another machine.

    Attributes:
        payload: Its files, itself first.
        warnings: The warnings of lint.
        notes: A sentence for each file that is left out or changed.

    """

    payload: Payload
    warnings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


class HandedOn(msgspec.Struct, frozen=True):
    """Variables that go into a script.

    Attributes:
        variables: The variables with values that exist on this machine.
        arguments: The arguments for ``-e`` of the run; a file of this machine is replaced by its content in JSON.
        notes: A sentence for each file that is not checked.

    """

    variables: ExtraVars
    arguments: tuple[str, ...]
    notes: tuple[str, ...] = ()


def handed_on(arguments: Iterable[str]) -> HandedOn:
    """Replace files of this machine by their values, since the other machine does not have them.

    Args:
        arguments: The arguments of ``-e``. A missing file with an absolute path belongs to the other machine.

    Raises:
        UsageError, InvalidPlaybook: as `parse_extra_vars` raises them.

    """
    variables = ExtraVars()
    kept: list[str] = []
    notes: list[str] = []
    for argument in arguments:
        name = argument.strip()
        if name.startswith("@/") and not Path(name[1:]).exists():
            kept.append(argument)
            notes.append(f"-e {name}: this file must exist on the machine itself, and is not checked")
            continue
        values = parse_extra_vars([argument])
        variables.update(values)
        kept.append(as_flow(values) if name.startswith("@") else argument)
    return HandedOn(variables, tuple(kept), tuple(notes))


class _Named(NamedTuple):
    """A path in the playbook, perhaps below the link."""

    path: Path
    position: Position | None
    document: bool = False  # a playbook, a file of tasks or of variables, in which line ends do not matter


class _UnknownFacts(dict[str, Any]):
    """The facts of an unknown machine, so that no condition leaves a file out."""

    def __getitem__(self, name: str) -> Any:
        raise NotYetKnown(f"nb.{name}", ELSEWHERE)

    def get(self, name: str, default: Any = None) -> Any:
        """Raise as ``[]`` does: the machine has a value, so that a default would be wrong."""
        return self[name]


def examine(
    path: Path,
    machine: Machine,
    catalogue: Catalogue,
    extra_vars: Mapping[str, Any],
    *,
    tags: Collection[str] = (),
    skip_tags: Collection[str] = (),
    into: Container = SCRIPT,
) -> Checked:
    """Check a playbook as lint does, and collect the files that it and its tasks read.

    Args:
        path: The playbook, a file of this machine.
        machine: The known facts about its machine; see `nbprovision.cli.lint.assumed`. Declarations of the playbook
            are added to it, so that it can serve one playbook only.
        catalogue: Every kind of task.
        extra_vars: The variables of ``-e``.
        tags: The value of ``--tags`` for the run.
        skip_tags: The value of ``--skip-tags``.
        into: What the files go into.

    Raises:
        InvalidPlaybook: a run would refuse the playbook (each fault has its position), or one of its files is missing,
            is too large, is not text, or holds a secret.

    """
    errors, warnings = [], []
    for finding in check(path, machine, catalogue, extra_vars):
        if finding.severity == "error" and finding.rule != _UNDECIDED:
            errors.append(finding)
        elif finding.rule != _DECIDED:
            warnings.append(msgspec.structs.replace(finding, severity="warning"))
    if errors:
        raise _refused(errors)
    members, notes = _Reading(path, machine, catalogue, extra_vars, tags, skip_tags).members()
    payload, changed = pack(members, into)
    return Checked(payload=payload, warnings=tuple(warnings), notes=tuple(dict.fromkeys((*notes, *changed))))


def root_calls(
    path: Path,
    machine: Machine,
    catalogue: Catalogue,
    extra_vars: Mapping[str, Any],
    *,
    tags: Collection[str] = (),
    skip_tags: Collection[str] = (),
) -> list[TaskCall]:
    """Return the chosen tasks of root's part, in order; the arguments are those of `examine`.

    Raises:
        InvalidPlaybook: the playbook has faults.

    """
    playbook = _read(path, machine, catalogue, extra_vars, machine.variables(), tags, skip_tags)
    return [call for play in playbook.plays for call in play.root_calls if call.task is not None]


def _read(
    path: Path,
    machine: Machine,
    catalogue: Catalogue,
    extra_vars: Mapping[str, Any],
    facts: Mapping[str, Any],
    tags: Collection[str],
    skip_tags: Collection[str],
) -> read.Playbook:
    """Read a playbook as its machine would, with these facts."""
    return read.read_playbook(
        path,
        catalogue,
        extra_vars,
        facts,
        env=Elsewhere(machine.env),
        tags=tags,
        skip_tags=skip_tags,
        outside=outside_of(machine),
    )


def _refused(findings: Iterable[Finding]) -> InvalidPlaybook:
    faults = [
        InvalidPlaybook(finding.message, cause=finding.why, cure=finding.cure, position=finding.position)
        for finding in findings
    ]
    return faults[0] if len(faults) == 1 else SeveralFaults(faults)


class _Reading:
    """Reads the playbook twice: for all files that it may include, and for the values of its tasks' parameters."""

    def __init__(
        self,
        path: Path,
        machine: Machine,
        catalogue: Catalogue,
        extra_vars: Mapping[str, Any],
        tags: Collection[str],
        skip_tags: Collection[str],
    ) -> None:
        self.shown = path
        self.machine = machine
        self.notes: list[str] = []
        self._start = Position(str(path), 1, 1)
        self._named: dict[Path, _Named] = {}
        self._made: set[Path] = set()
        self._tags: set[str] = set(_ANY_TAG)
        whole = Path(f"{_ROOT}{os.path.abspath(path)}")
        read_here = machine.variables()
        facts = (_UnknownFacts(read_here), read_here)
        for values in facts:
            try:
                playbook = _read(whole, machine, catalogue, extra_vars, values, tags, skip_tags)
            except InvalidPlaybook as fault:
                faults = single_faults(fault)
                missing = next((fault for fault in faults if isinstance(fault, MissingFile)), None)
                if values is facts[0] and missing is None:
                    continue  # the names of its files depend on facts
                raise self._placed(missing or self._unclear(faults[0])) from None
            if not any(play.sections for play in playbook.plays):
                raise self._placed(_nothing_to_do(playbook))
            try:
                self._gather(playbook)
            except ProvisionError as fault:
                raise self._placed(fault) from None
        for word in (*tags, *skip_tags):
            if word not in self._tags:
                self.notes.append(f"no task has the tag '{word}'{nearest(word, self._tags)}")

    def members(self) -> tuple[list[Member], list[str]]:
        """Return the files to pack, the playbook first, and a note for each file that is left out.

        Raises:
            InvalidPlaybook: a file is missing.

        """
        own = Path(os.path.abspath(self.shown))
        members = {own: Member(own, str(self.shown), self._start, document=True)}
        for named in self._named.values():
            made = any(made == named.path or made in named.path.parents for made in self._made)
            if made and not named.path.is_file():
                continue  # a task creates it; an existing file is one that tasks edit
            here = self._here(named.path)
            position = self._position(named.position) or self._start
            if here is None:
                self.notes.append(
                    f"{position}: {named.path} is not packed: it is an absolute path, of the machine itself"
                )
            elif os.path.lexists(here):
                members.setdefault(here, Member(here, self._shown(here), position, document=named.document))
            else:
                raise InvalidPlaybook(
                    f"{self._shown(here)} is missing; it must go with the playbook",
                    cause="it is named here, and a relative path begins at the folder of the file that names it",
                    cure="correct the path; write an absolute path for a file of the notebook itself",
                    position=position,
                )
        return list(members.values()), self.notes

    def _gather(self, playbook: read.Playbook) -> None:
        for call in _calls(playbook):
            self._tags.update(call.tags)
            if call.chosen and call.written.call is not None:
                self._gather_task(call)
        for path in [*playbook.content][1:]:
            self._named[path] = _Named(path, None, document=True)
        for folder in (folder for play in playbook.plays for folder in play.task_folders):
            if not any(path.parent == folder for path in self._named):  # it must exist there, although no task uses it
                files = (path for path in sorted(folder.glob("*.py")) if FORM.fullmatch(path.stem))
                self._named.update((path, _Named(path, None)) for path in files)
        for path in playbook.looked_at:  # it may be missing, and an absolute path belongs to the machine
            if self._here(path) is not None and path.is_file():
                self._named.setdefault(path, _Named(path, None))

    def _gather_task(self, call: TaskCall) -> None:
        origin = call.written.kind.origin
        if origin is not None and origin.package:
            self.notes.append(
                f"{self._position(call.position)}: {call.kind} is of the package {origin.package}, which must be "
                "installed beside nbprovision there"
            )
        task: Task[Any] | None = call.task
        if task is None:
            with contextlib.suppress(ProvisionError):  # a task that is skipped here may run there
                task = call.bind()
        given = call.written.call.parameters if call.written.call is not None else MapNode(call.position, ())
        if task is None:
            # Its values are known only there: take the existing files that its texts name.
            for _, scalar in scalars(given):
                text = scalar.value if isinstance(scalar.value, str) else ""
                path = Path(os.path.normpath(call.written.setting.folder / text))
                if text and "\n" not in text and not text.startswith(("/", "~")) and path.is_file():
                    self._named.setdefault(path, _Named(path, scalar.position))
            return
        for text in parameters.texts(task):  # a command with {{ playbook_dir }}/FILE in it
            for name in _BY_LINK.findall(text):
                if os.path.isfile(name):
                    self._named.setdefault(Path(name), _Named(Path(name), call.position))
        with contextlib.suppress(ProvisionError):
            provided = expanded(task).provides(self.machine)
            self._made.update(Path(resource.identity) for resource in provided if resource.identity.startswith("/"))
        for path, parameter, place in task.inputs(self.machine):
            node = given.get(parameter)
            where = place or (node.position if node is not None else call.position)
            self._named.setdefault(path, _Named(path, where))

    def _here(self, path: Path) -> Path | None:
        """Return the path without the link; None for an absolute path of the playbook."""
        text = str(path)
        return Path(text.removeprefix(_ROOT)) if text.startswith(f"{_ROOT}/") else None

    def _shown(self, path: Path) -> str:
        """Show a path as the playbook was named: relative if the playbook's path was."""
        return str(path) if self.shown.is_absolute() else os.path.relpath(path)

    def _position(self, position: Position | None) -> Position | None:
        if position is None or (here := self._here(Path(position.file))) is None:
            return position
        return position._replace(file=self._shown(here))

    def _placed(self, fault: ProvisionError) -> ProvisionError:
        fault.position = self._position(fault.position)
        for name in ("message", "cause", "cure"):
            setattr(fault, name, getattr(fault, name).replace(f"{_ROOT}/", "/"))
        return fault

    @staticmethod
    def _unclear(fault: ProvisionError) -> ProvisionError:
        """Explain the fault if the name of a file depends on a variable that is set only there."""
        if not is_of_elsewhere(fault):
            return fault
        return InvalidPlaybook(
            f"the files of the playbook are unknown: {fault.message}",
            cure="give the variable a value: --env NAME=VALUE, or -e NAME=VALUE in its place",
            position=fault.position,
        )


def _nothing_to_do(playbook: read.Playbook) -> InvalidPlaybook:
    return InvalidPlaybook(
        "the playbook has nothing to do",
        cause="no play has a task",
        cure="add tasks below tasks:",
        position=playbook.plays[0].position,
    )


def _calls(playbook: read.Playbook) -> Iterator[TaskCall]:
    for play in playbook.plays:
        yield from play.calls
        yield from play.handlers

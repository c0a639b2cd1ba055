"""The order of tasks, by what each provides, requires and changes."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbprovision.engine.step import Step
from nbprovision.machine.expansion import expanded
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import (
    Blocked,
    Inevitable,
    InvalidPlaybook,
    MissingInput,
    ProvisionError,
    UnknownEnvironment,
)
from nbprovision.model.task import Claim, Resource, Task


class Node:
    """A step's place in the order.

    Attributes:
        reads: Files of the playbook's author that it reads.
        needs: Numbers of earlier steps that make what this one requires; if one fails, this step is skipped.
        after: Numbers of earlier steps that touch the same thing; this one only waits for them.
        weight: The expected cost of its work; see `Task.weight`.
        barrier: It keeps its place in the order of the playbook; see `Task.barrier`.
        open: It names something that a late task may make, or reads a file that an earlier one makes; its place is
            found again when its turn comes.

    """

    def __init__(
        self, step: Step, machine: Machine, *, may_be_open: bool = False, earlier: Sequence[Node] = ()
    ) -> None:
        task = step.task
        self.provides: frozenset[Resource] = frozenset()
        self.requires: frozenset[Resource] = frozenset()
        self.changes: frozenset[Path] = frozenset()
        self.reads: frozenset[Resource] = frozenset()
        self.needs: set[int] = set()
        self.after: set[int] = set()
        self.weight = 0
        self.barrier = False
        self.open = False
        if task is None:
            return
        try:
            self.reads = _read_by(task, machine)
            machine.declared.update(task.declares(machine))
            self.requires = task.requires(machine)
            self.provides = task.provides(machine)
            self.changes = frozenset(task.guarded(machine))
            self.weight = task.weight(machine)
            self.barrier = task.barrier(machine)
        except UnknownEnvironment as error:
            if not may_be_open:
                raise error.at(step.position) from None
            self.open = True
        except MissingInput as error:
            made, unmade = _missing(self.reads, earlier)
            if not may_be_open and (unmade or not made):
                right = _nobody_makes(unmade[0]) if made else error  # which may name one that will be there
                raise right.at(step.position) from None
            self.open = True
            with contextlib.suppress(ProvisionError):  # the file may be needed for it as well
                self.provides = task.provides(machine)
        except ProvisionError as error:
            raise error.at(step.position) from None

    def reads_from(self, earlier: Node) -> bool:
        """Whether it reads a file that an earlier step creates or changes."""
        return _meet(self.reads, earlier.provides)

    def follows(self, earlier: Node) -> bool:
        """Whether both touch the same thing, so that the order of the playbook must be kept."""
        return bool(
            earlier.barrier
            or not self.provides.isdisjoint(earlier.provides)
            or not self._touches.isdisjoint(earlier.changes)
            or _meet(self.provides, earlier.provides)
        )

    @functools.cached_property
    def _touches(self) -> frozenset[Path]:
        """The paths that it changes, and the environments that it needs."""
        return self.changes | {Path(needed.identity) for needed in self.requires if needed.kind == "environment"}


def arrange(
    steps: Sequence[Step], machine: Machine, *, linear: bool, bystanders: Sequence[Task[Any]] = ()
) -> list[Node]:
    """Find the order, and give the machine what the steps declare and claim.

    Args:
        steps: In the order of the playbook; a step sees only what earlier ones declare.
        machine: Gets ``expected``, ``declared``, ``claims`` and ``wanted``.
        linear: One after the other, as written.
        bystanders: Tasks of the playbook that this run leaves out; what they declare and claim counts all the same.

    Raises:
        InvalidPlaybook: an environment is unknown, or two tasks can never both be satisfied.

    """
    bystanders = list(map(expanded, bystanders))
    # First of all, because a name must lead to the same place at the beginning and at the end of a run.
    for task in bystanders:
        with contextlib.suppress(InvalidPlaybook):  # it is left out
            machine.expect(task.configures(machine))
    for step in steps:
        if step.task is not None and not step.conditional:
            try:
                machine.expect(step.task.configures(machine))
            except InvalidPlaybook as error:
                raise error.at(step.position) from None
    for task in bystanders:
        with contextlib.suppress(MissingInput):
            machine.declared.update(task.declares(machine))
    nodes: list[Node] = []
    unknown = False
    for number, step in enumerate(steps):
        unknown = unknown or (step.late and step.task is None)
        node = Node(step, machine, may_be_open=unknown, earlier=nodes)
        unknown = unknown or node.open  # an environment's name may be in the missing file
        _place(node, nodes)
        if linear and number:
            node.after.add(number - 1)
        nodes.append(node)
    settled = [step for step, node in zip(steps, nodes, strict=True) if not node.open and not step.conditional]
    _gather_claims(settled, bystanders, machine)
    return nodes


def arrange_late(step: Step, number: int, nodes: list[Node], machine: Machine) -> None:
    """Find the place of a late step, and give the machine what it declares and claims.

    Args:
        step: With its task.
        number: Its number.
        nodes: Those of all steps; gets the one of this step.
        machine: As for `arrange`.

    Raises:
        ProvisionError: it names something that does not exist.

    """
    node = Node(step, machine)
    _place(node, nodes[:number])
    nodes[number] = node
    for later in nodes[number + 1 :]:
        _relate(later, number, node)
    if step.task is not None:
        machine.claims += [claim for claim in step.task.claims(machine) if claim not in machine.claims]
        machine.wanted.update(step.task.conda_wishes(machine))


def maker_of(error: ProvisionError, planned: Sequence[int], node: Node, nodes: Sequence[Node]) -> int | None:
    """Find the earlier step that may remove the cause of a failure; None if a run would fail too.

    Args:
        error: The error of the task's check.
        planned: Earlier steps that bear on the task and would change something, by number.
        node: The task's place in the order.
        nodes: Those of all steps.

    """
    if isinstance(error, Inevitable):
        return None
    commands = [number for number in planned if nodes[number].barrier]  # nobody knows what a command makes
    if isinstance(error, Blocked):
        makes = [number for number in planned if _makes(nodes[number], error.path)]
    elif error.remote:
        makes, commands = [number for number in planned if _kinds(nodes[number]) & {"channel", "index"}], []
    else:
        # Later tasks are planned with what a .condarc will say: it is not a reason.
        makes = [number for number in planned if number in node.needs and _kinds(nodes[number]) != {"condarc"}]
    return next(iter((*makes, *commands)), None)


def _kinds(node: Node) -> set[str]:
    return {resource.kind for resource in node.provides}


def _makes(node: Node, path: Path) -> bool:
    """Whether a step makes a path, something below it, or what it lies in."""
    places = [Path(resource.identity) for resource in node.provides if resource.kind != "distribution"]
    return any(path == place or place in path.parents or path in place.parents for place in places)


def _place(node: Node, earlier: Sequence[Node]) -> None:
    for number, other in enumerate(earlier):
        _relate(node, number, other)


def _relate(node: Node, number: int, earlier: Node) -> None:
    if not earlier.provides.isdisjoint(node.requires) or node.barrier or node.reads_from(earlier):
        node.needs.add(number)
    elif node.follows(earlier):
        node.after.add(number)


def _missing(reads: frozenset[Resource], earlier: Sequence[Node]) -> tuple[list[str], list[str]]:
    """The missing files that a step reads: those that earlier steps make, and the others."""
    made: list[str] = []
    unmade: list[str] = []
    for file in sorted(reads):
        if not os.path.exists(file.identity):
            by_a_task = any(_meet(frozenset({file}), node.provides) for node in earlier)
            (made if by_a_task else unmade).append(file.identity)
    return made, unmade


def _nobody_makes(path: str) -> MissingInput:
    return MissingInput(
        f"{path} does not exist",
        cause="the task reads it, and no earlier task creates it",
        cure="correct the name, or create the file",
    )


def _read_by(task: Task[Any], machine: Machine) -> frozenset[Resource]:
    """The author's files that a task reads, which an earlier one may make."""
    with contextlib.suppress(ProvisionError):  # the task itself will report it
        return frozenset(Resource("file", str(file.path)) for file in task.inputs(machine))
    return frozenset()


def _meet(some: frozenset[Resource], others: frozenset[Resource]) -> bool:
    """Whether a file of one set is, or lies in, a resource of the other: a removed folder, an environment."""
    for first, second in itertools.product(some, others):
        if "file" in (first.kind, second.kind) and "distribution" not in (first.kind, second.kind):
            path, other = f"{first.identity.rstrip('/')}/", f"{second.identity.rstrip('/')}/"
            if path.startswith(other) or other.startswith(path):
                return True
    return False


def _gather_claims(steps: Sequence[Step], bystanders: Sequence[Task[Any]], machine: Machine) -> None:
    claims: list[tuple[Step, Claim]] = []
    for step in steps:
        if step.task is not None:
            try:
                claims += [(step, claim) for claim in step.task.claims(machine)]
                machine.wanted.update(step.task.conda_wishes(machine))
            except ProvisionError as error:
                raise error.at(step.position) from None
    machine.claims = [claim for _, claim in claims]
    for task in bystanders:
        with contextlib.suppress(ProvisionError):  # it names what only another task left out would make
            machine.claims += task.claims(machine)
            machine.wanted.update(task.conda_wishes(machine))
    for owner, claim in claims:
        for step in steps:
            if step is owner or step.task is None or step.late or owner.late:
                continue  # of late steps perhaps only one runs
            objection = step.task.objection(claim, machine)
            if objection is not None:
                raise InvalidPlaybook(
                    f"'{owner.name}' wants '{claim.requirement}' in {claim.prefix}, and no version satisfies both it "
                    f"and '{step.name}' ({step.position}), where {objection}",
                    cure="change one of the two so that a version exists that both allow",
                ).at(owner.position)

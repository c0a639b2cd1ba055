"""Which task waits for which: found from what each provides, requires and changes."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbprovision.engine.step import Step
from nbprovision.facts.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, ProvisionError, UnknownEnvironment
from nbprovision.model.task import Claim, Resource, Task


class Node:
    """A step's place in the order.

    Attributes:
        needs: Numbers of earlier steps that make what this one requires; their failure is its end.
        after: Numbers of earlier steps that touch the same thing; this one only waits for them.
        weight: What its work is likely to take; see `Task.weight`.
        barrier: It keeps its place in the order of the playbook; see `Task.barrier`.
        open: What it names may be made by a task that is not known yet; it is looked at again when its turn comes.

    """

    def __init__(self, step: Step, machine: Machine, *, may_be_open: bool = False) -> None:
        task = step.task
        self.provides: frozenset[Resource] = frozenset()
        self.requires: frozenset[Resource] = frozenset()
        self.changes: frozenset[Path] = frozenset()
        self.needs: set[int] = set()
        self.after: set[int] = set()
        self.weight = 0
        self.barrier = False
        self.open = False
        if task is None:
            return
        try:
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
        except ProvisionError as error:
            raise error.at(step.position) from None

    def follows(self, earlier: Node) -> bool:
        """Whether both touch one thing, so that the order of the playbook must be kept."""
        environments = {Path(resource.identity) for resource in self.requires if resource.kind == "environment"}
        return bool(
            earlier.barrier
            or self.provides & earlier.provides
            or self.changes & earlier.changes
            or environments & earlier.changes
            or _meet(self.provides, earlier.provides)
        )


def arrange(
    steps: Sequence[Step], machine: Machine, *, linear: bool, bystanders: Sequence[Task[Any]] = ()
) -> list[Node]:
    """Find the order, and tell the machine what the steps declare and claim.

    Args:
        steps: In the order of the playbook; a step sees only what earlier ones declare.
        machine: Gets ``expected``, ``declared``, ``claims`` and ``wanted``.
        linear: One after the other, as written.
        bystanders: Tasks of the playbook that this run leaves out; what they declare and claim counts all the same.

    Raises:
        InvalidPlaybook: an environment is not known, or two tasks can never both be satisfied.

    """
    # Before all else, as a place that a name leads to must be the same at the beginning of a run and at its end.
    expected = (step.task for step in steps if step.task is not None and not step.conditional)
    for task in (*bystanders, *expected):
        machine.expect(task.configures(machine))
    for task in bystanders:
        machine.declared.update(task.declares(machine))
    nodes: list[Node] = []
    unknown = False
    for number, step in enumerate(steps):
        unknown = unknown or (step.late and step.task is None)
        node = Node(step, machine, may_be_open=unknown)
        _place(node, nodes)
        if linear and number:
            node.after.add(number - 1)
        nodes.append(node)
    known = [step for step, node in zip(steps, nodes, strict=True) if not node.open and not step.conditional]
    _gather_claims(known, bystanders, machine)
    return nodes


def arrange_late(step: Step, number: int, nodes: list[Node], machine: Machine) -> None:
    """Find the place of a step that is known only now, and tell the machine what it declares and claims.

    Args:
        step: With its task.
        number: Its number.
        nodes: Those of all steps; gets the one of this step.
        machine: As for `arrange`.

    Raises:
        ProvisionError: it names what is not there.

    """
    node = Node(step, machine)
    _place(node, nodes[:number])
    nodes[number] = node
    if step.task is not None:
        machine.claims += [claim for claim in step.task.claims(machine) if claim not in machine.claims]
        machine.wanted.update(step.task.conda_wishes(machine))


def _place(node: Node, earlier: Sequence[Node]) -> None:
    for number, other in enumerate(earlier):
        if other.provides & node.requires or node.barrier:
            node.needs.add(number)
        elif node.follows(other):
            node.after.add(number)


def _meet(some: frozenset[Resource], others: frozenset[Resource]) -> bool:
    """Whether a file of one is, or lies in, what the other provides: a folder that goes, an environment."""
    for one, other in itertools.product(some, others):
        if "file" in (one.kind, other.kind) and "distribution" not in (one.kind, other.kind):
            place, there = Path(one.identity), Path(other.identity)
            if place == there or place in there.parents or there in place.parents:
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
                continue  # of late ones perhaps only one is carried out
            objection = step.task.objection(claim, machine)
            if objection is not None:
                raise InvalidPlaybook(
                    f"'{owner.name}' wants '{claim.requirement}' in {claim.prefix}, and no version satisfies both it "
                    f"and '{step.name}' ({step.position}), where {objection}",
                    cure="change one of the two so that a version exists that both allow",
                ).at(owner.position)

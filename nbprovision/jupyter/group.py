"""One task for the kernels of several environments: which they are, and how each of the kernels is called."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nbprovision.jupyter.state import KernelState
from nbprovision.machine import kernels, selectors
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.model.result import Plan
from nbprovision.model.task import as_list

if TYPE_CHECKING:
    from nbprovision.jupyter.ensure_kernel import EnsureKernel

NAME = "{env}"  # in `name` and `display_name`: the environment's name


class Member(NamedTuple):
    """A kernel of the group: the task for it alone, and what there is of it."""

    task: EnsureKernel
    state: KernelState


def check(task: EnsureKernel) -> None:
    """Refuse what several kernels cannot have in common.

    Raises:
        ParameterError: they would all be called the same, or ``envs`` is missing where it is needed.

    """
    if task.envs is None:
        return
    for key, value in (("name", task.name), ("display_name", task.display_name)):
        if value is not None and NAME not in value:
            raise ParameterError(
                key, f"all kernels of `envs` would have the {key} '{value}'", cure=f"write {NAME} for the environment"
            )


def members(task: EnsureKernel, machine: Machine) -> list[EnsureKernel]:
    """A task for each environment that ``envs`` means and that has a Python.

    Raises:
        UnknownEnvironment: there is none of a name, or a glob matches none.

    """
    found = selectors.select(
        machine,
        as_list(task.envs),
        excluded=as_list(task.except_),
        allow_empty=task.allow_empty,
        with_python=True,
        declared=selectors.declared_before(machine, task),
    )
    made: dict[str, EnsureKernel] = {}
    for called, prefix in found:
        name = os.path.basename(called.rstrip("/"))
        if kernels.normalized(name) in made:
            name = kernels.normalized(str(prefix))
        shown = task.display_name.replace(NAME, name) if task.display_name is not None else f"Python ({name})"
        own = kernels.normalized(task.name.replace(NAME, name) if task.name is not None else name)
        made[kernels.normalized(name)] = msgspec.structs.replace(
            task, envs=None, except_=None, allow_empty=False, prefix=str(prefix), name=own, display_name=shown
        )
    return list(made.values())


def read(tasks: Iterable[EnsureKernel], machine: Machine) -> KernelState:
    """What there is of each kernel, in the state of them all."""
    return KernelState(folder=Path(), members=tuple(Member(one, one.read(machine)) for one in tasks))


def plan(state: KernelState) -> Plan:
    """The changes of all of them."""
    plans = [one.task.plan(one.state) for one in state.members]
    return Plan(
        changes=tuple(change for one in plans for change in one.changes),
        warnings=tuple(warning for one in plans for warning in one.warnings),
        beside=all(one.beside for one in plans if one),
    )


def apply(tasks: Iterable[EnsureKernel], machine: Machine) -> None:
    """Carry out what each of them needs."""
    for one in tasks:
        found = one.plan(one.read(machine))
        if found:
            one.apply(found, machine)


def witnesses(task: EnsureKernel, tasks: Iterable[EnsureKernel], machine: Machine) -> Iterator[Path]:
    """What the environments were found by, and what each kernel goes by."""
    yield from selectors.sources(machine, as_list(task.envs))
    for one in tasks:
        yield from one.witnesses(machine)

"""Tasks that work on one environment or on several: their parameters, and the tasks for each of the environments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, NamedTuple

import msgspec

from nbprovision.machine import selectors
from nbprovision.machine.machine import Machine, once
from nbprovision.model.relations import Needs, Relation
from nbprovision.model.task import State, Strings, Task, as_list, parameter

PlatformChanges = Annotated[
    bool, parameter("Change packages that the platform's image brought, at the risk of an unstable notebook.")
]


class Selection(NamedTuple):
    """A selected environment.

    Attributes:
        name: Its name in messages.
        prefix: Its folder.
        by_glob: Selected by ``all`` or a glob, not by its name or path.

    """

    name: str
    prefix: Path
    by_glob: bool = False


class Member(NamedTuple):
    """The task for one of several environments, and the name of the environment."""

    name: str
    task: Task[Any]


class EnvSelection(Task[State], Generic[State], frozen=True, kw_only=True):
    """A task on the environment ``env``, or on several: ``envs`` without ``except``.

    The methods of a subclass work on one environment, which is `selected`. With ``envs`` the engine carries out the
    task's `members` in its place; see `machine.expansion`.

    Attributes:
        with_python: ``all`` and globs mean environments with a Python only.
        by_conda: ``all`` and globs mean conda environments only.

    """

    relations: ClassVar[tuple[Relation, ...]] = (Needs("except", ("envs",)), Needs("allow_empty", ("envs",)))
    with_python: ClassVar[bool] = False
    by_conda: ClassVar[bool] = False

    env: Annotated[str | None, parameter("The environment, by name or path.", extra={"path": "if-slash"})] = None
    envs: Annotated[
        Strings | None,
        parameter(
            "Several environments: names, globs (`pytorch*`, `/path/envs/*`), paths, `all` (never the Jupyter "
            "server's own). `all` and globs leave out environments without a Python if one is needed.",
            extra={"path": "if-slash"},
        ),
    ] = None
    except_: Annotated[
        Strings | None, parameter("Exceptions from `envs`: names, globs, paths.", extra={"path": "if-slash"})
    ] = msgspec.field(default=None, name="except")
    allow_empty: Annotated[bool, parameter("Whether `envs` may match no environment.")] = False

    @property
    def names_one(self) -> bool:
        """Whether a parameter names a single environment, or something in its place."""
        return self.env is not None

    @property
    def is_several(self) -> bool:
        """Whether ``envs`` selects the environments; an empty list does so only if no other parameter does."""
        return self.envs is not None and (bool(as_list(self.envs)) or not self.names_one)

    @once
    def selected(self, machine: Machine) -> Selection:
        """The environment of a task without ``envs``.

        Raises:
            UnknownEnvironment: no environment has that name.

        """
        selected: Selection | None = machine.notes_of(self).get("selected")
        if selected is not None:
            return selected
        assert self.env is not None  # noqa: S101 - a task with `envs` is expanded
        return Selection(self.env, machine.prefix_of(self.env))

    def selection(self, machine: Machine) -> list[Selection]:
        """The environments that ``envs`` selects.

        Environments of later tasks are not among them; otherwise a task would select other environments when it runs
        than when it was ordered.

        Raises:
            UnknownEnvironment: a name is unknown, or a glob matches no environment.

        """
        declared: Mapping[str, Path] = machine.notes_of(self).setdefault("declared before", dict(machine.declared))
        selected = selectors.select(
            machine,
            as_list(self.envs),
            excluded=as_list(self.except_),
            allow_empty=self.allow_empty,
            with_python=self.with_python,
            by_conda=self.by_conda,
            declared=declared,
        )
        return [Selection(name, prefix, name not in as_list(self.envs)) for name, prefix in selected]

    def members(self, machine: Machine) -> list[Member]:
        """A task for each environment that ``envs`` selects.

        Raises:
            UnknownEnvironment: a name is unknown, or a glob matches no environment.

        """
        return [self.member(machine, selection) for selection in self.selection(machine)]

    def member(self, machine: Machine, selection: Selection, **parameters: Any) -> Member:
        """This task for one environment: the same object throughout a run, so that it keeps its notes.

        Args:
            machine: The facts.
            selection: The environment.
            parameters: Parameters that differ for it.

        """
        members: dict[object, Member] = machine.notes_of(self).setdefault("members", {})
        key = (selection, *parameters.items())
        if key not in members:
            task = msgspec.structs.replace(
                self, env=str(selection.prefix), envs=None, except_=None, allow_empty=False, **parameters
            )
            machine.notes_of(task)["selected"] = selection
            members[key] = Member(selection.name, task)
        return members[key]

    def sources(self, machine: Machine) -> Iterator[Path]:
        """Witnesses of the selection."""
        return selectors.sources(machine, as_list(self.envs))


class PackageSelection(EnvSelection[State], Generic[State], frozen=True, kw_only=True):
    """A task on packages in environments, those of the platform if that is allowed."""

    allow_platform_changes: PlatformChanges = False
    jupyter_server: Annotated[
        bool, parameter("Change even the environment that the platform's Jupyter server runs in, if it is named.")
    ] = False

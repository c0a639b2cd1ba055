"""A local conda channel, for machines that reach a Python package index and no conda channel."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from nbprovision.channel import manifest
from nbprovision.channel.manifest import ChannelState
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Resource, Strings, Task, as_list, parameter
from nbprovision.pip import requirements

Wanted = TypeVar("Wanted")


class EnsureCondaChannel(Task[ChannelState], frozen=True, kw_only=True):
    """A conda channel in a folder of this machine, made from its own Python and from wheels.

    The packages serve machines like this one: shared libraries of the system stay the system's. Name the folder in the
    ``channels`` of ``ensure_conda_env``.
    """

    actions = {
        "build": "a requirement, or an interpreter, became a package of the channel",
        "build again": "a package that was harmed",
        "remove": "the channel",
    }
    examples = """
    - name: A channel for a machine that reaches PyPI and no conda channel
      ensure_conda_channel:
        path: ./channel
        pypi: [pip, humanize]

    - name: No channel there
      ensure_conda_channel:
        path: ./old-channel
        state: absent
    """

    path: Annotated[str, parameter("The channel's folder.", extra={"path": True})]
    pypi: Annotated[
        Strings,
        parameter(
            "Requirements that become conda packages, with all that they need; a path of a wheel will do too.",
            extra={"path": requirements.anchored},
        ),
    ] = []
    interpreter: Annotated[
        Strings | None,
        parameter(
            "The CPython that becomes the package `python`: a path, a version such as `3.12`, or several of them. "
            "Default: the one that nbprovision runs on.",
            extra={"path": "if-slash"},
        ),
    ] = None
    packages_cache: Annotated[
        str | None,
        parameter("Folder that keeps the wheels; default: in the tool's own cache.", extra={"path": True}),
    ] = None
    state: Annotated[Literal["present", "absent"], parameter("Whether the channel is wanted.")] = "present"

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        for text in as_list(self.pypi):
            requirements.of_parameter("pypi", text)
        for text in as_list(self.interpreter):
            if "/" not in text and not re.fullmatch(r"[0-9]+(\.[0-9]+){0,2}", text):
                raise ParameterError(
                    "interpreter", f"'{text[:40]}' is neither a path nor a version of Python", cure='write "3.12"'
                )

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """Give the channel to the environments that use it."""
        return frozenset({Resource("channel", str(machine.path(self.path)))})

    def read(self, machine: Machine) -> ChannelState:
        """Look at the channel's manifest and the files that it names."""
        return manifest.read(machine.path(self.path), deep=self.deep)

    def plan(self, state: ChannelState) -> Plan:
        """Build what is asked for and not there; what was asked for before stays."""
        if state.foreign:
            raise TaskFailed(
                f"{self.path} is not a channel that nbprovision made",
                cause="it has files in it and no manifest",
                cure="give another `path`, or move what is there away",
            )
        if self.state == "absent":
            there = state.manifest is not None
            return Plan(changes=(Change(action="remove", target=self.path),) if there else ())
        had = state.manifest
        wanted = [(f"python {python or ''}".strip(), python) for python in self._interpreters]
        changes = [
            Change(action="build", target=name, after=name)
            for name, python in wanted
            if had is None or python not in had.interpreters
        ]
        changes += [
            Change(action="build", target=requirement, after=requirement)
            for requirement in as_list(self.pypi)
            if had is None or requirement not in had.requirements
        ]
        changes += [Change(action="build again", target=path) for path in state.broken]
        return Plan(changes=tuple(changes))

    def apply(self, plan: Plan, machine: Machine) -> None:
        """Build the channel, or remove it."""
        from nbprovision.channel import maker

        folder = machine.path(self.path)
        if self.state == "absent":
            maker.remove(folder)
            return
        before = manifest.read(folder).manifest
        maker.make(
            machine,
            folder,
            interpreters=_union(before.interpreters if before else (), self._interpreters),
            requirements=_union(before.requirements if before else (), as_list(self.pypi)),
            wheels=machine.path(self.packages_cache) if self.packages_cache else machine.cache / "wheels",
        )

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The manifest, and the folders that the packages lie in."""
        folder = machine.path(self.path)
        return [folder / manifest.MANIFEST, *(folder / subdir for subdir in ("noarch", "linux-64", "linux-aarch64"))]

    @property
    def _interpreters(self) -> list[str | None]:
        return [*as_list(self.interpreter)] or [None]


def _union(before: Iterable[Wanted], now: Iterable[Wanted]) -> tuple[Wanted, ...]:
    return tuple(dict.fromkeys([*before, *now]))

"""``ensure_conda_channel``: a local conda channel, for machines without access to another."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from nbprovision.channel import manifest
from nbprovision.channel.manifest import ChannelState
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Resource, Strings, Task, as_list, parameter
from nbprovision.pip import requirements


class EnsureCondaChannel(Task[ChannelState], frozen=True, kw_only=True):
    """Build a conda channel in a folder of this machine, from its own Python and from wheels.

    The packages fit machines like this one, because they use the system's shared libraries. To use the channel, name
    the folder in the ``channels`` of ``ensure_conda_env``.

    The same Python and wheels give packages and indexes of the same bytes, in any folder, at any time. The variable
    ``SOURCE_DATE_EPOCH`` sets the time of their files; a Python source has an earlier one, made from its content.
    """

    actions = {
        "build": "a package of a requirement or an interpreter",
        "build again": "a damaged package",
        "remove": "the channel",
    }
    examples = """
    - name: A channel for a machine that can only reach PyPI
      ensure_conda_channel:
        path: ./channel
        pypi: [pip, humanize]

    - name: A channel to remove
      ensure_conda_channel:
        path: ./old-channel
        state: absent
    """

    path: Annotated[str, parameter("The channel's folder.", extra={"path": True})]
    pypi: Annotated[
        Strings,
        parameter(
            "Requirements that become conda packages, with their dependencies; paths of wheels are possible too.",
            extra={"path": requirements.anchored},
        ),
    ] = []
    interpreter: Annotated[
        Strings | None,
        parameter(
            "The CPython that becomes the package `python`: a path, a version such as `3.12`, or several of them. "
            "Default: nbprovision's own.",
            extra={"path": "if-slash"},
        ),
    ] = None
    packages_cache: Annotated[
        str | None,
        parameter("Folder that keeps the wheels. Default: in nbprovision's cache.", extra={"path": True}),
    ] = None
    state: Annotated[Literal["present", "absent"], parameter("Whether the channel exists.")] = "present"

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        for text in as_list(self.pypi):
            requirements.of_parameter("pypi", text)
        for text in as_list(self.interpreter):
            if "/" not in text and not re.fullmatch(r"[0-9]+(\.[0-9]+){0,2}", text):
                raise ParameterError(
                    "interpreter", f"'{text[:40]}' is neither a path nor a version of Python", cure='write "3.12"'
                )

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The channel, for the environments that use it."""
        return frozenset({Resource("channel", str(machine.path(self.path)))})

    def read(self, machine: Machine) -> ChannelState:
        """Check the channel's manifest and its files."""
        return manifest.read(machine.path(self.path), deep=self.deep)

    def plan(self, state: ChannelState) -> Plan:
        """Build the missing packages; earlier requirements stay."""
        if state.foreign:
            raise TaskFailed(
                f"{self.path} is not a channel of nbprovision",
                cause="it contains files and no manifest",
                cure="give another `path`, or move the files away",
            )
        if self.state == "absent":
            exists = state.manifest is not None
            return Plan(changes=(Change(action="remove", target=self.path),) if exists else ())
        before = state.manifest or manifest.EMPTY
        new = [f"python {python or ''}".strip() for python in self._interpreters if python not in before.interpreters]
        new += [requirement for requirement in as_list(self.pypi) if requirement not in before.requirements]
        changes = [Change(action="build", target=name, after=name) for name in new]
        changes += [Change(action="build again", target=path) for path in state.broken]
        return Plan(changes=tuple(changes))

    def apply(self, plan: Plan, machine: Machine) -> None:
        """Build the channel, or take it from a bundle, or remove it."""
        from nbprovision.channel import maker

        folder = machine.path(self.path)
        if self.state == "absent":
            maker.remove(folder)
            return
        if machine.archives.restore(folder) and not self.plan(manifest.read(folder, deep=True)).changes:
            return
        before = manifest.read(folder).manifest or manifest.EMPTY
        maker.make(
            machine,
            folder,
            interpreters=tuple(dict.fromkeys([*before.interpreters, *self._interpreters])),
            requirements=tuple(dict.fromkeys([*before.requirements, *as_list(self.pypi)])),
            wheels=machine.path(self.packages_cache) if self.packages_cache else machine.cache / "wheels",
        )

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The manifest, and the folders of the packages."""
        folder = machine.path(self.path)
        return [folder / manifest.MANIFEST, *(folder / subdir for subdir in ("noarch", "linux-64", "linux-aarch64"))]

    @property
    def _interpreters(self) -> list[str | None]:
        return [*as_list(self.interpreter)] or [None]

"""Where `ensure_pip_pkg` installs: which environments and interpreters its parameters mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from nbprovision.facts import distributions, selectors
from nbprovision.facts.interpreters import Target, prefix_of
from nbprovision.facts.machine import Machine
from nbprovision.model.task import Strings, as_list
from nbprovision.system import unfinished
from nbprovision.tasks.platform_guard import refuse_jupyter_server


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters that say where; see `EnsurePipPkg`."""

    env: str | None = None
    envs: Strings | None = None
    excluded: Strings | None = None
    allow_empty: bool = False
    python: str | None = None
    jupyter_server: bool = False

    def targets(self, machine: Machine, declared: Mapping[str, Path]) -> list[Target]:
        """Each environment or interpreter, once.

        Args:
            machine: The facts.
            declared: What earlier tasks of the playbook make.

        Raises:
            UnknownEnvironment: there is none of that name.
            InvalidPlaybook: it is the Jupyter server's own, and nothing says that this is meant.

        """
        if self.python is not None:
            python = machine.path(self.python)
            found = [Target(prefix_of(python), python, str(python))]
        elif self.env is not None:
            prefix = machine.prefix_of(self.env)
            found = [Target(prefix, prefix / "bin/python", self.env)]
        else:
            found = [Target(prefix, prefix / "bin/python", name) for name, prefix in self._selected(machine, declared)]
        for target in found:
            refuse_jupyter_server(machine, target.prefix, allowed=self.jupyter_server)
        return found

    def witnesses(self, machine: Machine, targets: list[Target]) -> Iterator[Path]:
        """What tells that other environments are meant, or that one of ``targets`` has changed."""
        if self.envs is not None:
            yield from selectors.sources(machine, as_list(self.envs))
        for target in targets:
            yield from (target.python, target.prefix / unfinished.MARK)
            folder = distributions.site_packages(target.prefix)
            yield folder or target.prefix / "lib"

    def _selected(self, machine: Machine, declared: Mapping[str, Path]) -> list[tuple[str, Path]]:
        return selectors.select(
            machine,
            as_list(self.envs),
            excluded=as_list(self.excluded),
            allow_empty=self.allow_empty,
            with_python=True,
            declared=declared,
        )

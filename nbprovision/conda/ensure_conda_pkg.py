"""``ensure_conda_pkg``: conda packages in environments that are there, the platform's own among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nbprovision.conda import packages as conda_packages
from nbprovision.conda.packages import Channels, CondaWork, EngineName, Packages, Wish
from nbprovision.conda.specs import (
    Spec,
    allows,
    channel_urls,
    check_channels,
    configuration_of,
    conflicts,
    local_channels,
    refuse_contradiction,
    wanted_spec,
)
from nbprovision.machine import distributions
from nbprovision.machine.env_selection import PackageSelection, Selection
from nbprovision.machine.environments import META, is_environment
from nbprovision.machine.image import refuse_jupyter_server
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import AnyOf, OneOf
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import DAY, Claim, Foretold, Input, Resource, Strings, as_list, by_path, parameter
from nbprovision.system import unfinished


class PackagesState(msgspec.Struct, frozen=True, kw_only=True):
    """The packages of the environment; None where an earlier task has yet to make it, or where they are not for it."""

    packages: Packages | None = None
    missing: tuple[tuple[str, str], ...] = ()  # names and versions that it will not have when it is made
    note: str = ""


class PackagesPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the state that they lead away from."""

    state: PackagesState


class EnsureCondaPkg(PackageSelection[PackagesState], frozen=True, kw_only=True):
    """Conda packages in environments that are there, those of the platform among them; all else in them stays.

    In an environment that the platform provides nothing moves that its image brought: what is asked for is solved
    around it, and where that cannot be, the task says what would have to change and what to ask for instead.
    """

    relations = (
        AnyOf(("packages",)),
        OneOf(("env", "envs"), cure_missing="name an environment"),
        *PackageSelection.relations,
    )
    by_conda = True
    actions = conda_packages.ACTIONS
    examples = """
    - name: Packages into one environment
      ensure_conda_pkg:
        env: fraud
        packages: [packaging, "idna>=3.7"]
        channels: [conda-forge]

    - name: The newest version in all environments but one
      ensure_conda_pkg:
        envs: all
        except: fraud
        packages: six
        channels: [conda-forge]
        state: latest

    - name: Packages that are to go
      ensure_conda_pkg:
        envs: [fraud, "ris*"]
        packages: [idna]
        channels: [conda-forge]
        state: absent
    """

    packages: Annotated[Strings, parameter("Match specs as conda writes them; with `state: absent` names.")]
    channels: Channels = msgspec.field(default_factory=list)
    state: Annotated[
        Literal["present", "latest", "absent"],
        parameter(
            "`latest` keeps what is named at the newest version that fits, looked up once a day or as `refresh_every` "
            "says; `absent` removes it, and what cannot be without it."
        ),
    ] = "present"
    engine: EngineName = "auto"

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        check_channels("channels", as_list(self.channels))
        for spec in self._specs():
            if self.state == "absent" and (spec.rest or spec.channel):
                raise ParameterError(
                    "packages", f"'{spec.text}' is more than a name", cure=f"to remove it write {spec.name}"
                )

    def _specs(self) -> list[Spec]:
        specs = [wanted_spec(text) for text in dict.fromkeys(as_list(self.packages))]
        refuse_contradiction(specs)
        return specs

    def _selected(self, machine: Machine) -> Selection:
        selected = self.selected(machine)
        refuse_jupyter_server(machine, selected.prefix, allowed=self.jupyter_server)
        return selected

    def _channels(self, machine: Machine) -> tuple[str, ...]:
        return channel_urls(machine, as_list(self.channels), self._specs())

    def _work(self, prefix: Path, machine: Machine) -> CondaWork:
        specs = tuple(self._specs())
        wish = Wish(
            prefix=prefix,
            specs=() if self.state == "absent" else specs,
            absent=tuple(spec.name for spec in specs) if self.state == "absent" else (),
            channels=self._channels(machine),
            claims=frozenset(machine.claims_on(prefix)),
            latest=self.state == "latest",
            deep=self.deep,
            allowed=self.allow_platform_changes,
            engine=self.engine,
        )
        return CondaWork(machine, wish)

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The packages, which are distributions too as far as anyone can tell by now."""
        prefix = self._selected(machine).prefix
        return frozenset(
            Resource("distribution", f"{prefix} {distributions.normalized(spec.name)}") for spec in self._specs()
        )

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The configuration of conda, the environment, and the channels that are folders of this machine."""
        environment = Resource("environment", str(self._selected(machine).prefix))
        channels = {Resource("channel", path) for path in local_channels(self._channels(machine))}
        return configuration_of(machine) | {environment} | channels

    def conda_wishes(self, machine: Machine) -> Iterable[tuple[Path, str]]:
        """The packages, so that an exact environment keeps them."""
        if self.state == "absent":
            return []
        prefix = self._selected(machine).prefix
        return [(prefix, spec.name) for spec in self._specs()]

    def objection(self, claim: Claim, machine: Machine) -> str | None:
        """A pip task's wish for a distribution that breaks a spec of the same package."""
        if claim.prefix != self._selected(machine).prefix:
            return None
        for spec in self._specs() if self.state != "absent" else ():
            if conflicts(spec, claim.requirement, absent=claim.absent):
                return f"{self.kind()} asks for '{spec.text}'"
        return None

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment."""
        return [self._selected(machine).prefix]

    def ages(self, machine: Machine) -> float | None:
        """What is the newest version today need not be tomorrow."""
        return DAY if self.state == "latest" and self.refresh_every is None else None

    def inputs(self, machine: Machine) -> Iterator[Input]:
        """Channels given by path."""
        return (Input(path, "channels") for path in by_path(self.channels))

    def witnesses(self, machine: Machine) -> Iterator[Path]:
        """The records, the distributions, the interpreter and the mark; what a name leads to."""
        yield machine.conda.registry
        yield from machine.conda.condarc_places
        prefix = self._selected(machine).prefix
        yield from (prefix / META, prefix / META / "history", prefix / "bin/python", prefix / unfinished.MARK)
        libraries = distributions.site_packages(prefix)
        if libraries is not None:
            yield libraries

    def read(self, machine: Machine) -> PackagesState:
        """What the environment has; where something is missing, what the solver would do about it.

        Raises:
            TaskFailed: there is no such environment, or what is asked for cannot be had without harm.

        """
        selected = self._selected(machine)
        prefix, coming = selected.prefix, machine.foretold.get(selected.prefix)
        if not is_environment(prefix):
            if prefix in machine.declared.values():
                missing = self._missing(coming)
                if missing and self.state != "absent":
                    names = self._ask_channels(prefix, machine)
                    if "python" in names and coming is not None and self._only_without_python(selected, coming.python):
                        return self._left_out(selected)
                return PackagesState(missing=missing)
            raise TaskFailed(
                f"{prefix} is no conda environment",
                cause="it has no conda-meta folder" if prefix.is_dir() else "there is no such folder",
                cure="make it first by ensure_conda_env",
            )
        if coming is not None and self.state == "present" and not self._missing(coming):
            return PackagesState()
        packages = self._work(prefix, machine).read()
        python = distributions.python_version(prefix) if coming is None else coming.python
        solution = packages.solution
        brought = {package.name for package in solution.packages} if solution is not None else set()
        if solution is not None and "python" in brought and self._only_without_python(selected, python):
            solution.close()
            return self._left_out(selected)
        if self.state == "absent" and coming is not None and not packages.changes():
            return PackagesState(missing=self._missing(coming))
        return PackagesState(packages=packages)

    def _only_without_python(self, selected: Selection, python: str | None) -> bool:
        """Whether an environment is meant only if the packages need no Python: it has none, and was not named."""
        return selected.by_glob and python is None and all(spec.name != "python" for spec in self._specs())

    def _left_out(self, selected: Selection) -> PackagesState:
        names = ", ".join(spec.name for spec in self._specs())
        return PackagesState(
            note=f"{selected.name} is left out: it has no Python, which {names} would bring; "
            "name it under `envs` to install there"
        )

    def plan(self, state: PackagesState) -> PackagesPlan:
        """Compare what is there with what is asked for."""
        warnings = (*(state.packages.warnings if state.packages is not None else ()), *filter(None, [state.note]))
        return PackagesPlan(changes=tuple(self._changes(state)), warnings=warnings, state=state)

    def _changes(self, state: PackagesState) -> list[Change]:
        if state.packages is not None:
            return state.packages.changes()
        return [
            Change("remove", name, kind="package")
            if self.state == "absent"
            else Change("install", name, after=rest or "any version", kind="package")
            for name, rest in state.missing
        ]

    def _ask_channels(self, prefix: Path, machine: Machine) -> frozenset[str]:
        """Find out whether the channels answer; what else is wrong shows when the environment is there.

        Returns:
            The packages that would be in an environment of these alone.

        Raises:
            TaskFailed: one cannot be reached.

        """
        try:
            solution = self._work(prefix, machine).read().solution
        except TaskFailed as error:
            if error.remote:
                raise
            return frozenset()
        if solution is None:
            return frozenset()
        solution.close()
        return frozenset(package.name for package in solution.packages)

    def _missing(self, coming: Foretold | None) -> tuple[tuple[str, str], ...]:
        """What of the specs an environment that is still to be made will not have; of those to go, what it will."""
        there = {} if coming is None else coming.packages
        found = [(spec, there.get(distributions.normalized(spec.name))) for spec in self._specs()]
        if self.state == "absent":
            return tuple((spec.name, spec.rest) for spec, version in found if version is not None)
        return tuple(
            (spec.name, spec.rest)
            for spec, version in found
            if version is None or allows(spec, version, "") is False or spec.channel is not None
        )

    def foretells(self, plan: PackagesPlan, machine: Machine) -> dict[Path, Foretold]:
        """The packages that come."""
        prefix, state = self._selected(machine).prefix, plan.state
        if state.packages is not None:
            return {prefix: state.packages.foretold(prefix)}
        if self.state == "absent" or prefix not in machine.foretold:
            return {}
        before = machine.foretold[prefix]
        names = {distributions.normalized(name): "" for name, _ in state.missing}
        python = before.python or ("" if "python" in names else None)
        return {prefix: Foretold(python, {**names, **before.packages}, whole=False)}

    def apply(self, plan: PackagesPlan, machine: Machine) -> None:
        """Install or remove."""
        if plan.state.packages is not None:
            selected = self._selected(machine)
            machine.progress(f"installing into {selected.name}")
            self._work(selected.prefix, machine).apply(plan.state.packages)

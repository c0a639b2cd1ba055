"""``ensure_conda_pkg``: conda packages in environments that are there, the platform's own among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nbprovision.conda import packages as conda_packages
from nbprovision.conda.packages import Packages
from nbprovision.conda.specs import Spec, allows, conflicts
from nbprovision.conda.work import (
    CondaWork,
    Wish,
    channel_urls,
    check_channels,
    configuration_of,
    local_channels,
    refuse_contradiction,
    wanted_spec,
)
from nbprovision.machine import distributions, selectors
from nbprovision.machine.env_selection import EnvSelection
from nbprovision.machine.environments import META, is_environment
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform_guard import refuse_jupyter_server
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import AnyOf, OneOf
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import DAY, Claim, Foretold, Input, Resource, Strings, as_list, by_path, parameter
from nbprovision.system import side_by_side, unfinished


class PackagesIn(msgspec.Struct, frozen=True, kw_only=True):
    """The packages of one environment; None where an earlier task has yet to make it, or where they are not for it."""

    name: str
    prefix: Path
    packages: Packages | None
    missing: tuple[tuple[str, str], ...] = ()  # names and versions that it will not have when it is made
    note: str = ""


class PackagesPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the environments that need them."""

    work: tuple[PackagesIn, ...] = ()


class EnsureCondaPkg(EnvSelection[tuple[PackagesIn, ...]], frozen=True, kw_only=True):
    """Conda packages in environments that are there, those of the platform among them; all else in them stays.

    In an environment that the platform provides nothing moves that its image brought: what is asked for is solved
    around it, and where that cannot be, the task says what would have to change and what to ask for instead.
    """

    relations = (
        AnyOf(("packages",)),
        OneOf(("env", "envs"), cure="name an environment"),
        *EnvSelection.relations,
    )
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
    channels: Annotated[
        Strings,
        parameter(
            "Channels by name, URL or path, the preferred one first. Default: those of `.condarc`, else conda-forge.",
            extra={"path": "if-dot"},
        ),
    ] = msgspec.field(default_factory=list)
    state: Annotated[
        Literal["present", "latest", "absent"],
        parameter(
            "`latest` keeps what is named at the newest version that fits, looked up once a day or as `refresh_every` "
            "says; `absent` removes it, and what cannot be without it."
        ),
    ] = "present"
    allow_platform_changes: Annotated[
        bool, parameter("Change packages that the platform's image brought, at the risk of an unstable notebook.")
    ] = False
    jupyter_server: Annotated[bool, parameter("The Jupyter server's own environment is meant, if it is named.")] = False
    engine: Annotated[
        Literal["auto", "rattler", "conda"],
        parameter(
            "What solves and installs: `rattler` is the built-in engine, `conda` the machine's own; `auto` is the "
            "built-in one, and the machine's own where that cannot run."
        ),
    ] = "auto"

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

    def _targets(self, machine: Machine) -> dict[Path, str]:
        if self.env is not None:
            targets = {machine.prefix_of(self.env): self.env}
        else:
            found = selectors.select(
                machine,
                as_list(self.envs),
                excluded=as_list(self.except_),
                allow_empty=self.allow_empty,
                by_conda=True,
                declared=selectors.declared_before(machine, self),
            )
            targets = {prefix: name for name, prefix in found}
        for prefix in targets:
            refuse_jupyter_server(machine, prefix, allowed=self.jupyter_server)
        return targets

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
        return frozenset(
            Resource("distribution", f"{prefix} {distributions.normalized(spec.name)}")
            for prefix in self._targets(machine)
            for spec in self._specs()
        )

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The configuration of conda, the environments, and the channels that are folders of this machine."""
        environments = {Resource("environment", str(prefix)) for prefix in self._targets(machine)}
        channels = {Resource("channel", path) for path in local_channels(self._channels(machine))}
        return configuration_of(machine) | environments | channels

    def conda_wishes(self, machine: Machine) -> Iterable[tuple[Path, str]]:
        """The packages, so that an exact environment keeps them."""
        if self.state == "absent":
            return []
        return [(prefix, spec.name) for prefix in self._targets(machine) for spec in self._specs()]

    def objection(self, claim: Claim, machine: Machine) -> str | None:
        """A pip task's wish for a distribution that breaks a spec of the same package."""
        if claim.prefix not in self._targets(machine):
            return None
        for spec in self._specs() if self.state != "absent" else ():
            if conflicts(spec, claim.requirement, absent=claim.absent):
                return f"{self.kind()} asks for '{spec.text}'"
        return None

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environments."""
        return list(self._targets(machine))

    def ages(self, machine: Machine) -> float | None:
        """What is the newest version today need not be tomorrow."""
        return DAY if self.state == "latest" and self.refresh_every is None else None

    def inputs(self, machine: Machine) -> Iterator[Input]:
        """Channels given by path."""
        return (Input(path, "channels") for path in by_path(self.channels))

    def witnesses(self, machine: Machine) -> Iterator[Path]:
        """Of each environment the records, the distributions, the interpreter and the mark; what a name leads to."""
        yield machine.conda.registry
        yield from machine.conda.condarc_places
        if self.envs is not None:
            yield from selectors.sources(machine, as_list(self.envs))
        for prefix in self._targets(machine):
            yield from (prefix / META, prefix / META / "history", prefix / "bin/python", prefix / unfinished.MARK)
            libraries = distributions.site_packages(prefix)
            if libraries is not None:
                yield libraries

    def read(self, machine: Machine) -> tuple[PackagesIn, ...]:
        """What each environment has; where something is missing, what the solver would do about it.

        Raises:
            TaskFailed: there is no such environment, or what is asked for cannot be had without harm.

        """
        targets = list(self._targets(machine).items())
        return tuple(side_by_side.each(lambda target: self._read(*target, machine), targets))

    def _read(self, prefix: Path, name: str, machine: Machine) -> PackagesIn:
        if not is_environment(prefix):
            if prefix in machine.declared.values():
                coming = machine.foretold.get(prefix)
                missing = self._missing(coming)
                if missing and self.state != "absent":
                    names = self._ask_channels(prefix, machine)
                    if "python" in names and coming is not None and self._only_without_python(name, coming.python):
                        return self._left_out(name, prefix)
                return PackagesIn(name=name, prefix=prefix, packages=None, missing=missing)
            raise TaskFailed(
                f"{prefix} is no conda environment",
                cause="it has no conda-meta folder" if prefix.is_dir() else "there is no such folder",
                cure="make it first by ensure_conda_env",
            )
        coming = machine.foretold.get(prefix)
        if coming is not None and self.state == "present" and not self._missing(coming):
            return PackagesIn(name=name, prefix=prefix, packages=None)
        packages = self._work(prefix, machine).read()
        python = distributions.python_version(prefix) if coming is None else coming.python
        solution = packages.solution
        brought = {package.name for package in solution.packages} if solution is not None else set()
        if solution is not None and "python" in brought and self._only_without_python(name, python):
            solution.close()
            return self._left_out(name, prefix)
        if self.state == "absent" and coming is not None and not packages.changes():
            return PackagesIn(name=name, prefix=prefix, packages=None, missing=self._missing(coming))
        return PackagesIn(name=name, prefix=prefix, packages=packages)

    def _only_without_python(self, name: str, python: str | None) -> bool:
        """Whether an environment is meant only if the packages need no Python: it has none, and was not named."""
        named = self.env is not None or name in as_list(self.envs)
        return not named and python is None and all(spec.name != "python" for spec in self._specs())

    def _left_out(self, name: str, prefix: Path) -> PackagesIn:
        names = ", ".join(spec.name for spec in self._specs())
        note = f"{name} is left out: it has no Python, which {names} would bring; name it under `envs` to install there"
        return PackagesIn(name=name, prefix=prefix, packages=None, note=note)

    def plan(self, state: tuple[PackagesIn, ...]) -> PackagesPlan:
        """Compare what is there with what is asked for."""
        changes: list[Change] = []
        work = []
        for one in state:
            found = self._changes(one)
            if found:
                work.append(one)
            of = f" in {one.name}" if len(state) > 1 else ""
            changes += [msgspec.structs.replace(change, target=change.target + of) for change in found]
        warnings = dict.fromkeys(text for one in state if one.packages for text in one.packages.warnings)
        warnings |= dict.fromkeys(one.note for one in state if one.note)
        return PackagesPlan(changes=tuple(changes), warnings=tuple(warnings), work=tuple(work))

    def _changes(self, one: PackagesIn) -> list[Change]:
        if one.packages is not None:
            return one.packages.changes()
        return [
            Change("remove", name, kind="package")
            if self.state == "absent"
            else Change("install", name, after=rest or "any version", kind="package")
            for name, rest in one.missing
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
        found = {}
        for one in plan.work:
            if one.packages is not None:
                found[one.prefix] = one.packages.foretold(one.prefix)
            elif self.state != "absent" and one.prefix in machine.foretold:
                before = machine.foretold[one.prefix]
                names = {distributions.normalized(name): "" for name, _ in one.missing}
                python = before.python or ("" if "python" in names else None)
                found[one.prefix] = Foretold(python, {**names, **before.packages}, whole=False)
        return found

    def apply(self, plan: PackagesPlan, machine: Machine) -> None:
        """Install or remove, in several environments at once."""

        def apply(one: PackagesIn) -> None:
            if one.packages is not None:
                machine.progress(f"installing into {one.name}")
                self._work(one.prefix, machine).apply(one.packages)

        side_by_side.each(apply, plan.work)

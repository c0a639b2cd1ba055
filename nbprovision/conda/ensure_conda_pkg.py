"""``ensure_conda_pkg``: conda packages in existing environments, including the platform's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nbprovision.conda import packages as conda_packages
from nbprovision.conda.environment_file import locked_packages
from nbprovision.conda.exact_packages import LockedPackage
from nbprovision.conda.lock_request import CondaLockRequest
from nbprovision.conda.packages import Channels, CondaPackages, CondaRequest, CondaWork, EngineName
from nbprovision.conda.specs import Spec, allows, channel_urls, check_channels, requested_specs, required_resources
from nbprovision.machine import distributions
from nbprovision.machine.env_selection import PackageSelection, Selection
from nbprovision.machine.environments import is_environment
from nbprovision.machine.image import refuse_jupyter_server
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import AnyOf, OneOf
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import (
    DAY,
    Claim,
    Foretold,
    Input,
    LockRequest,
    Resource,
    Strings,
    as_list,
    by_path,
    parameter,
)


class PackagesState(msgspec.Struct, frozen=True, kw_only=True):
    """The packages of an environment.

    Attributes:
        packages: None if an earlier task has yet to create the environment, or if the environment is left out.
        missing: Names and specs of the packages that the future environment will not satisfy.
        note: Why the environment is left out.

    """

    packages: CondaPackages | None = None
    missing: tuple[tuple[str, str], ...] = ()
    note: str = ""


class PackagesPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the state that they start from."""

    state: PackagesState


class EnsureCondaPkg(PackageSelection[PackagesState], frozen=True, kw_only=True):
    """Install and remove conda packages in existing environments, and leave their other packages unchanged.

    In an environment that the platform provides, no package of its image changes. The requested packages are solved
    around them. If that is impossible, the task reports which packages would have to change and an alternative request.
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

    - name: Packages to remove
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
            "`latest` keeps the packages at their newest compatible versions, looked up once a day or as "
            "`refresh_every` says. `absent` removes them, and the packages that need them."
        ),
    ] = "present"
    engine: EngineName = "auto"

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        check_channels("channels", as_list(self.channels))
        for spec in self._specs():
            if self.state == "absent" and (spec.rest or spec.channel):
                raise ParameterError(
                    "packages", f"'{spec.text}' is more than a name", cure=f"to remove it write {spec.name}"
                )

    def _specs(self) -> list[Spec]:
        return requested_specs(as_list(self.packages))

    def _selected(self, machine: Machine) -> Selection:
        selected = self.selected(machine)
        refuse_jupyter_server(machine, selected.prefix, allowed=self.jupyter_server)
        return selected

    def _channels(self, machine: Machine) -> tuple[str, ...]:
        locked = self._locked(self._selected(machine).prefix, machine)
        if locked is not None:
            return tuple(dict.fromkeys(package.channel for package in locked))
        return channel_urls(machine, as_list(self.channels), self._specs())

    def _locked(self, prefix: Path, machine: Machine) -> tuple[LockedPackage, ...] | None:
        """The exact packages of a lock, unless the packages are removed."""
        return None if self.state == "absent" else locked_packages(machine, prefix)

    def _work(self, prefix: Path, machine: Machine) -> CondaWork:
        specs = tuple(self._specs())
        request = CondaRequest(
            prefix=prefix,
            specs=() if self.state == "absent" else specs,
            locked=self._locked(prefix, machine),
            whole=False,
            credentials=(*machine.conda.channels(as_list(self.channels)), *machine.conda.condarc.places),
            absent=tuple(spec.name for spec in specs) if self.state == "absent" else (),
            channels=self._channels(machine),
            claims=frozenset(machine.claims_on(prefix)),
            latest=self.state == "latest",
            deep=self.deep,
            allowed=self.allow_platform_changes,
            engine=self.engine,
        )
        return CondaWork(machine, request)

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The packages, each of which may contain a Python distribution of its name."""
        prefix = self._selected(machine).prefix
        return frozenset(
            Resource("distribution", f"{prefix} {distributions.normalized(spec.name)}") for spec in self._specs()
        )

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment, the local channels and the configuration of conda."""
        environment = Resource("environment", str(self._selected(machine).prefix))
        return required_resources(machine, self._channels(machine)) | {environment}

    def conda_wishes(self, machine: Machine) -> Iterable[tuple[Path, str]]:
        """The packages, so that an exact environment keeps them."""
        if self.state == "absent":
            return []
        prefix = self._selected(machine).prefix
        return [(prefix, spec.name) for spec in self._specs()]

    def objection(self, claim: Claim, machine: Machine) -> str | None:
        """Why a distribution that a pip task wants breaks a spec of this task, if it does."""
        if self.state == "absent" or claim.prefix != self._selected(machine).prefix:
            return None
        return conda_packages.objection(self.kind(), self._specs(), claim)

    def as_locked(self) -> EnsureCondaPkg:
        """The task with `state: present` in place of `latest`."""
        return msgspec.structs.replace(self, state="present") if self.state == "latest" else self

    def lock_requests(self, machine: Machine) -> Iterable[LockRequest]:
        """The packages, unless they are removed."""
        if self.state == "absent":
            return []
        return [
            CondaLockRequest(
                prefix=self._selected(machine).prefix,
                specs=tuple(spec.text for spec in self._specs()),
                channels=self._channels(machine),
                allowed=self.allow_platform_changes,
            )
        ]

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment."""
        return [self._selected(machine).prefix]

    def ages(self, machine: Machine) -> float | None:
        """A day with `latest`: there may be a newer version tomorrow."""
        return DAY if self.state == "latest" and self.refresh_every is None else None

    def inputs(self, machine: Machine) -> Iterator[Input]:
        """Channels given by path."""
        return (Input(path, "channels") for path in by_path(self.channels))

    def witnesses(self, machine: Machine) -> Iterator[Path]:
        """The records, the distributions, the interpreter and the mark, and the files that give a name its meaning."""
        yield from conda_packages.witnesses(machine, self._selected(machine).prefix)

    def read(self, machine: Machine) -> PackagesState:
        """Compare the packages of the environment with the request, and solve if a package is missing.

        Raises:
            TaskFailed: the environment does not exist, or the request cannot be satisfied without damage.

        """
        selected = self._selected(machine)
        prefix, coming = selected.prefix, machine.foretold.get(selected.prefix)
        if not is_environment(prefix):
            if prefix in machine.declared.values():
                return self._read_declared(selected, coming, machine)
            raise TaskFailed(
                f"{prefix} is not a conda environment",
                cause="it has no conda-meta folder" if prefix.is_dir() else "the folder does not exist",
                cure="create it first by ensure_conda_env",
            )
        if coming is not None and self.state == "present" and not self._missing(coming):
            return PackagesState()
        packages = self._work(prefix, machine).read()
        python = distributions.python_version(prefix) if coming is None else coming.python
        solution = packages.solution
        names = {package.name for package in solution.packages} if solution is not None else set()
        if solution is not None and "python" in names and self._only_without_python(selected, python):
            solution.close()
            return self._left_out(selected)
        if self.state == "absent" and coming is not None and not packages.changes():
            return PackagesState(missing=self._missing(coming))
        return PackagesState(packages=packages)

    def _read_declared(self, selected: Selection, coming: Foretold | None, machine: Machine) -> PackagesState:
        """The state of an environment that an earlier task has yet to create.

        Raises:
            TaskFailed: a channel cannot be reached; other problems show when the environment exists.

        """
        missing = self._missing(coming)
        if missing and self.state != "absent":
            try:
                solution = self._work(selected.prefix, machine).read().solution
            except TaskFailed as error:
                if error.remote:
                    raise
                solution = None
            if solution is not None:
                solution.close()
                brings_python = any(package.name == "python" for package in solution.packages)
                if brings_python and coming is not None and self._only_without_python(selected, coming.python):
                    return self._left_out(selected)
        return PackagesState(missing=missing)

    def _only_without_python(self, selected: Selection, python: str | None) -> bool:
        """Whether the packages may not bring Python: a glob selected an environment that has none."""
        return selected.by_glob and python is None and all(spec.name != "python" for spec in self._specs())

    def _left_out(self, selected: Selection) -> PackagesState:
        names = ", ".join(spec.name for spec in self._specs())
        return PackagesState(
            note=f"{selected.name} is left out: it has no Python, which {names} would bring; "
            "name it under `envs` to install there"
        )

    def _missing(self, coming: Foretold | None) -> tuple[tuple[str, str], ...]:
        """The specs that a future environment does not satisfy; with `absent` the packages that it will have."""
        versions = {} if coming is None else coming.packages
        pairs = [(spec, versions.get(distributions.normalized(spec.name))) for spec in self._specs()]
        return tuple(
            (spec.name, spec.rest)
            for spec, version in pairs
            if (
                version is not None
                if self.state == "absent"
                else version is None or allows(spec, version, "") is False or spec.channel is not None
            )
        )

    def plan(self, state: PackagesState) -> PackagesPlan:
        """Compare the installed packages with the requested ones."""
        if state.packages is not None:
            changes, warnings = state.packages.changes(), state.packages.warnings
        else:
            changes, warnings = [self._future_change(name, rest) for name, rest in state.missing], ()
        return PackagesPlan(changes=tuple(changes), warnings=(*warnings, *filter(None, [state.note])), state=state)

    def _future_change(self, name: str, rest: str) -> Change:
        if self.state == "absent":
            return Change("remove", name, kind="package")
        return Change("install", name, after=rest or "any version", kind="package")

    def foretells(self, plan: PackagesPlan, machine: Machine) -> dict[Path, Foretold]:
        """The environment with the new packages."""
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
        """Install or remove the packages."""
        if plan.state.packages is not None:
            selected = self._selected(machine)
            machine.progress(f"installing into {selected.name}")
            self._work(selected.prefix, machine).apply(plan.state.packages)

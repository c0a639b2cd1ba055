"""A conda environment: there or not, with packages that satisfy match specs, an ordinary one for every conda tool."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from nbprovision.conda import bookkeeping, environment_file, health
from nbprovision.conda.environment_file import EnvironmentFile
from nbprovision.conda.packages import ACTIONS, Channels, CondaWork, EngineName, Packages, Wish
from nbprovision.conda.specs import (
    Spec,
    channel_urls,
    check_channels,
    configuration_of,
    conflicts,
    local_channels,
    refuse_contradiction,
    wanted_spec,
)
from nbprovision.machine import cuda, distributions, folder_guard
from nbprovision.machine.condarc import expanded
from nbprovision.machine.environments import META, is_environment
from nbprovision.machine.image import refuse_jupyter_server
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed, UnsetVariable
from nbprovision.model.relations import AnyOf, Excludes, OneOf
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import DAY, Claim, Foretold, Input, Resource, Strings, Task, as_list, by_path, parameter
from nbprovision.pip import engine as pip_engine
from nbprovision.pip import requirements
from nbprovision.pip.request import interpreter
from nbprovision.pip.satisfied import UNSEEN
from nbprovision.system import secrets, unfinished
from nbprovision.system.files import remove, remove_at_once

if TYPE_CHECKING:  # loaded where a file has a pip section
    from nbprovision.pip.satisfied import Need

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_RESERVED = ("base", "root")  # conda's own names of an installation


class EnvState(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of an environment.

    Attributes:
        name: What to call it.
        there: Whether it is an environment by now.
        packages: Its conda packages.
        unregistered: The registry does not list it.
        variables: Variables of activation that are not set as wanted: before, after.
        leftovers: What a killed run left beside it.
        pip: What of the file's pip section is not there.
        notes: See `EnvironmentFile`.

    """

    name: str
    there: bool
    packages: Packages = Packages()
    unregistered: bool = False
    variables: dict[str, tuple[str | None, str]] = {}
    leftovers: tuple[Path, ...] = ()
    pip: tuple[Need, ...] = ()
    notes: tuple[str, ...] = ()


class EnvPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the state that they lead away from."""

    state: EnvState


class EnsureCondaEnv(Task[EnvState], frozen=True, kw_only=True):
    """Make a conda environment and keep in it what is asked for; what else is in it stays.

    The packages come from the first channel that has them, by conda's own rules; what is installed moves only as far as
    a spec asks for it.
    """

    relations = (
        OneOf(("name", "prefix"), required=False),
        AnyOf(("name", "prefix", "file"), cure="give name or prefix"),
        Excludes("state", "absent", ("packages", "file", "clone", "exact", "update")),
    )
    actions = {
        "create": "the environment",
        **ACTIONS,
        "set": "a variable that the environment's file names",
        "record": "what is installed in the environment's history, where that said nothing of it",
        "register": "the environment in conda's list of environments",
        "unregister": "it is taken out of that list",
        "clean": "what a killed run left behind",
    }
    examples = """
    - name: An environment by name
      ensure_conda_env:
        name: fraud
        channels: [conda-forge]
        packages: [python=3.12, pip, ipykernel]

    - name: The newest versions, and nothing that nobody asked for
      ensure_conda_env:
        name: risk
        channels: [conda-forge]
        packages: [python, pip]
        update: latest
        exact: true

    - name: What a file describes, by path
      ensure_conda_env:
        prefix: ./envs/report
        file: environment.yml

    - name: A copy of another environment, which takes no channel
      ensure_conda_env:
        name: fraud-copy
        clone: fraud

    - name: An environment that is not wanted any more
      ensure_conda_env:
        name: old
        state: absent
    """

    name: Annotated[
        str | None,
        parameter("The environment by name: the one that conda means by it, else a new one in the platform's folder."),
    ] = None
    prefix: Annotated[str | None, parameter("The environment by path, instead of a name.", extra={"path": True})] = None
    packages: Annotated[
        Strings, parameter("Match specs as conda writes them: `python=3.12`, `numpy>=2,<3`, `conda-forge::gdal`.")
    ] = msgspec.field(default_factory=list)
    channels: Channels = msgspec.field(default_factory=list)
    file: Annotated[
        str | None,
        parameter(
            "An `environment.yml` that says more of it, a pip section too.",
            extra={"path": True, "document": "environment"},
        ),
    ] = None
    clone: Annotated[
        str | None,
        parameter(
            "An environment, by name or path, to begin as a copy of: what pip installed in it too, and without any "
            "channel or index. One that is there already is left as it is.",
            extra={"path": "if-slash"},
        ),
    ] = None
    state: Annotated[Literal["present", "absent"], parameter("Whether the environment is to be there.")] = "present"
    exact: Annotated[
        bool,
        parameter("Remove what no task of the playbook asked for, and nothing asked for needs."),
    ] = False
    update: Annotated[
        Literal["none", "latest"],
        parameter(
            "`latest`: what is asked for is kept at its newest version; looked up once a day, or as often as "
            "`refresh_every` says."
        ),
    ] = "none"
    cuda: Annotated[
        str | None,
        parameter(
            "Version of CUDA to solve for, such as `12.4`, or `none`. Default: what the machine has. Where that is "
            "another than before, packages with builds for both are exchanged, in the same version.",
        ),
    ] = None
    allow_platform_changes: Annotated[
        bool,
        parameter(
            "In an environment that the platform provides: change packages that its image brought, at the risk of an "
            "unstable notebook."
        ),
    ] = False
    engine: EngineName = "auto"

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise ParameterError(
                "name",
                f"'{self.name[:60]}' cannot be the name of an environment",
                cure="use letters, digits and . _ + - ; for a path give prefix",
            )
        if self.cuda is not None and not re.fullmatch(r"none|[0-9]+(\.[0-9]+)?", self.cuda):
            raise ParameterError("cuda", f"'{self.cuda[:40]}' is not a version of CUDA", cure='write "12.4", or none')
        self._specs(None)
        check_channels("channels", as_list(self.channels))

    # ------------------------------------------------------------------------------------------ what the user wrote

    def _file(self) -> EnvironmentFile | None:
        return environment_file.read(Path(self.file)) if self.file is not None else None

    def _specs(self, file: EnvironmentFile | None) -> list[Spec]:
        texts = [*as_list(self.packages), *(file.packages if file else ())]
        specs = [wanted_spec(text) for text in dict.fromkeys(texts)]
        refuse_contradiction(specs)
        return specs

    def _identity(self, machine: Machine, file: EnvironmentFile | None = None) -> tuple[str, Path]:
        """Name and prefix; a name or prefix in the file counts where the task gives none."""
        prefix, name = self.prefix, self.name
        if prefix is None and name is None:
            file = file or self._file()
            prefix, name = (file.prefix, file.name) if file else (None, None)
            if file is not None and name is not None and not _NAME.fullmatch(name):
                if "/" not in name:
                    raise environment_file.wrong_name(file)
                name = None  # the export of an environment that has none may have a path there
            if prefix is None and name is None:
                raise ParameterError(
                    "name", f"neither the task nor {self.file} names the environment", cure="give name"
                )
        if name is None:
            found = machine.path(str(prefix))
            return found.name, found
        there = machine.conda.prefix_of(name)
        if there is None and name in _RESERVED:
            raise ParameterError("name", f"'{name}' is conda's name for its own installation, and there is none here")
        return name, there or machine.conda.new_prefix(name)

    def _channels(self, machine: Machine, file: EnvironmentFile | None, specs: Iterable[Spec]) -> tuple[str, ...]:
        asked: Iterable[str] = as_list(self.channels)
        if not asked and file is not None:  # conda replaces variables in those of a file
            asked = [expanded(text, machine.env) for text in file.channels]
            for text in asked:
                if "$" in text:
                    raise UnsetVariable(f"an environment variable in the channel '{text}' of {self.file} is not set")
            check_channels("file", asked)
        return channel_urls(machine, asked, specs)

    def _source(self, machine: Machine, prefix: Path) -> Path | None:
        """The environment to copy, None where there is one already.

        Raises:
            TaskFailed: it is not a conda environment.

        """
        if self.clone is None or is_environment(prefix):
            return None
        source = machine.prefix_of(self.clone, of=prefix)
        if source == prefix:
            raise ParameterError("clone", f"{self.clone} cannot begin as a copy of itself", cure="name another one")
        if not is_environment(source) and source not in machine.declared.values():
            raise TaskFailed(
                f"{source} is not a conda environment to copy",
                cause="it has no conda-meta folder" if source.is_dir() else "there is no such folder",
                cure="name one that is there as `clone`",
            )
        return source

    def _work(self, machine: Machine) -> CondaWork:
        file = self._file()
        prefix = self._identity(machine, file)[1]
        specs = self._specs(file)
        if file is not None and file.lacks_pip and not distributions.installed(prefix, ["pip"]):
            specs.append(wanted_spec("pip"))
        wish = Wish(
            prefix=prefix,
            clone=self._source(machine, prefix),
            specs=tuple(specs),
            channels=self._channels(machine, file, specs),
            claims=frozenset((*machine.claims_on(prefix), *self.claims(machine))),
            others=frozenset(name for place, name in machine.wanted if place == prefix),
            exact=self.exact,
            latest=self.update == "latest",
            cuda=self.cuda,
            deep=self.deep,
            allowed=self.allow_platform_changes,
            engine=self.engine,
        )
        return CondaWork(machine, wish)

    # ------------------------------------------------------------------------------------ its place among other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The environment."""
        return frozenset({Resource("environment", str(self._identity(machine)[1]))})

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The configuration of conda, the channels that are folders of this machine, and the environment to copy."""
        configuration = configuration_of(machine)
        if self.state == "absent":
            return configuration
        file = self._file()
        urls = self._channels(machine, file, self._specs(file))
        source = self._source(machine, self._identity(machine, file)[1])
        copied = {Resource("environment", str(source))} if source is not None else set()
        return configuration | copied | {Resource("channel", path) for path in local_channels(urls)}

    def declares(self, machine: Machine) -> dict[str, Path]:
        """The name, for later tasks."""
        if self.state == "absent":
            return {}
        name, prefix = self._identity(machine)
        folder_guard.refuse_two_kinds(machine, name, prefix, virtual=False)
        return {name: prefix}

    def objection(self, claim: Claim, machine: Machine) -> str | None:
        """A pip task's wish for a distribution that breaks a spec of the same package."""
        if self.state == "absent" or claim.prefix != self._identity(machine)[1]:
            return None
        for spec in self._specs(self._file()):
            if conflicts(spec, claim.requirement, absent=claim.absent):
                return f"{self.kind()} asks for '{spec.text}'"
        return None

    def claims(self, machine: Machine) -> Iterable[Claim]:
        """What the file's pip section wants."""
        file = self._file()
        if self.state == "present" and file is not None and file.pip:
            prefix = self._identity(machine, file)[1]
            for wanted in environment_file.pip_section(file, machine.env).wanted:
                if wanted.name is not None and not wanted.marker:
                    origin = f" @ {secrets.without_password(wanted.url)}" if wanted.url else wanted.specifier
                    yield Claim(prefix, f"{wanted.name}{origin}")

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment; one that goes does so in a single step."""
        return () if self.state == "absent" else (self._identity(machine)[1],)

    def inputs(self, machine: Machine) -> Iterable[Input]:
        """The environment file, what its pip section names, and channels given by path."""
        yield from (Input(path, "channels") for path in by_path(self.channels))
        if self.file is not None:
            yield Input(Path(self.file), "file")
            if os.path.isfile(self.file) and (file := environment_file.read(Path(self.file))):
                yield from (Input(path, "file", place) for path, place in environment_file.named(file).items())

    def weight(self, machine: Machine) -> Literal[1, 2]:
        """A new environment takes long."""
        return 1 if is_environment(self._identity(machine)[1]) else 2

    def ages(self, machine: Machine) -> float | None:
        """What is the newest version today need not be tomorrow."""
        return DAY if self.update == "latest" and self.refresh_every is None else None

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """Records, history, distributions, interpreter, mark, registry; the file; what says where a name leads."""
        prefix = self._identity(machine)[1]
        yield prefix / META
        yield prefix / META / "history"
        yield prefix / META / "state"
        libraries = distributions.site_packages(prefix)
        if libraries is not None:
            yield libraries
        yield prefix / "bin/python"
        yield prefix / unfinished.MARK
        yield machine.conda.registry
        yield from machine.conda.condarc_places
        if self.cuda is None:
            yield from cuda.marks(machine.root)
        if self.file is not None:
            yield Path(self.file)

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> EnvState:
        """Look at the interpreter, the records, the distributions; ask the solver only where they will not do."""
        file = self._file()
        name, prefix = self._identity(machine, file)
        there = is_environment(prefix)
        leftovers = tuple(health.leftovers(prefix))
        listed = prefix in machine.conda.registered
        if self.state == "absent":
            folder_guard.refuse_removal(machine.conda, prefix)
            return EnvState(
                name=name, there=prefix.is_dir() or prefix.is_symlink(), unregistered=not listed, leftovers=leftovers
            )
        folder_guard.refuse_foreign(prefix)
        refuse_jupyter_server(machine, prefix, allowed=False)
        try:
            packages = self._work(machine).read()
        except TaskFailed as error:  # what is wanted by a comment's mistake may be what cannot be had
            error.cause = "\n".join(filter(None, (error.cause, *(file.notes if file else ()))))
            raise
        if file is not None and file.pip and not machine.applies:
            from nbprovision.pip.targets import check_places

            version = distributions.python_version(prefix) or packages.foretold(prefix).python or "3"
            asked = environment_file.pip_section(file, machine.env).wanted
            check_places(asked, requirements.marker_environment(version))
        variables = file.variables if file else {}
        set_now = health.variables(prefix) if variables else {}
        needs = (
            environment_file.pip_needs(
                file,
                prefix,
                machine.env,
                files=packages.suspect or self.deep,
                torn=packages.suspect,
                digests=machine.digests if self.deep else None,
                configured=lambda asked: pip_engine.configured(machine, prefix, asked),
            )
            if file
            else ()
        )
        return EnvState(
            name=name,
            there=there,
            packages=packages,
            unregistered=machine.conda.condarc.register_envs and not listed,
            variables={key: (set_now.get(key), value) for key, value in variables.items() if set_now.get(key) != value},
            leftovers=leftovers,
            pip=tuple(needs),
            notes=file.notes if file else (),
        )

    def plan(self, state: EnvState) -> EnvPlan:
        """Compare what is there with what is asked for."""
        changes = [Change(action="clean", target=str(path), before="left by a killed run") for path in state.leftovers]
        if self.state == "absent":
            if state.there:
                changes.append(Change(action="remove", target=state.name, before="present"))
            if not state.unregistered:
                changes.append(Change(action="unregister", target=state.name, before="registered"))
            return EnvPlan(changes=tuple(changes), state=state)
        if not state.there:
            source = state.packages.source
            after = "present" if source is None else f"a copy of {source}"
            changes.append(Change(action="create", target=state.name, after=after))
        changes += state.packages.changes()
        if state.packages.solution is None and state.there and state.packages.untold:
            changes.append(Change(action="record", target=f"{META}/history", after="what is installed"))
        changes += _other_changes(state)
        if state.unregistered:
            changes.append(Change(action="register", target=state.name, after="environments.txt"))
        beside = {change.action for change in changes} <= {"register", "clean"}
        return EnvPlan(
            changes=tuple(changes), warnings=(*state.packages.warnings, *state.notes), beside=beside, state=state
        )

    def foretells(self, plan: EnvPlan, machine: Machine) -> dict[Path, Foretold]:
        """The packages that come, and what the file's pip section names."""
        if self.state == "absent":
            return {}
        prefix = self._identity(machine)[1]
        found = plan.state.packages.foretold(prefix)
        wanted = {need.name: "" for need in plan.state.pip}
        source = machine.foretold.get(plan.state.packages.source) if plan.state.packages.source is not None else None
        found = source or found
        return {prefix: Foretold(found.python, {**found.packages, **wanted}, found.whole and not wanted)}

    def apply(self, plan: EnvPlan, machine: Machine) -> None:
        """Put packages in place, then tell conda of it."""
        state = plan.state
        file = self._file()
        _, prefix = self._identity(machine, file)
        for path in state.leftovers:
            remove(path)
        if self.state == "absent":
            if state.there:
                remove_at_once(prefix)
            bookkeeping.unregister(machine.conda, prefix)
            return
        self._work(machine).apply(state.packages)
        if state.pip and file is not None:
            from nbprovision.pip.guard import image_constraints

            if not interpreter(prefix).exists():
                raise TaskFailed(
                    f"the pip section of {file.path} cannot be installed",
                    cause=f"there is no Python in {prefix}",
                    cure="add python to its dependencies",
                )
            held = () if self.allow_platform_changes else image_constraints(machine, prefix)
            asked = environment_file.pip_section(file, machine.env)
            reinstall = [need.name for need in state.pip if need.reason in UNSEEN]
            pip_engine.install(machine, prefix, asked, constraints=held, reinstall=reinstall)
        if state.variables:
            wanted = {name: after for name, (_, after) in state.variables.items()}
            bookkeeping.set_variables(prefix, wanted)
        if state.unregistered:
            bookkeeping.register(machine.conda, prefix)


def _other_changes(state: EnvState) -> list[Change]:
    """What changes beside conda's packages: those of the pip section, variables."""
    changes = [
        Change(
            action="install" if need.installed is None else "change",
            target=secrets.mask(need.name),
            before=need.installed,
            after=secrets.mask(need.expected) or "any version",
            kind="package",
            channel="pip",
        )
        for need in state.pip
    ]
    return changes + [
        Change(action="set", target=f"variable {name}", before=before, after=after)
        for name, (before, after) in sorted(state.variables.items())
    ]

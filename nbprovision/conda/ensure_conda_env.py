"""``ensure_conda_env``: create and maintain a conda environment, an ordinary one for every conda tool."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from nbprovision.conda import bookkeeping, environment_file, health, packages, rattler
from nbprovision.conda.environment_file import EnvironmentFile
from nbprovision.conda.exact_packages import LockedPackage
from nbprovision.conda.lock_request import CondaLockRequest
from nbprovision.conda.packages import ACTIONS, Channels, CondaPackages, CondaRequest, CondaWork, EngineName
from nbprovision.conda.specs import Spec, channel_urls, check_channels, requested_specs, required_resources
from nbprovision.machine import distributions, platform, protection
from nbprovision.machine.condarc import expanded
from nbprovision.machine.environments import META, is_environment
from nbprovision.machine.image import refuse_jupyter_server
from nbprovision.machine.locked import PLACES
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed, UnsetVariable
from nbprovision.model.relations import AnyOf, Excludes, OneOf
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import (
    DAY,
    Claim,
    Foretold,
    Input,
    LockRequest,
    Resource,
    Strings,
    Task,
    as_list,
    by_path,
    parameter,
)
from nbprovision.pip import engine as pip_engine
from nbprovision.pip import requirements
from nbprovision.pip.request import interpreter
from nbprovision.pip.satisfied import UNSEEN
from nbprovision.system import secrets
from nbprovision.system.files import remove, remove_at_once

if TYPE_CHECKING:  # loaded where a file has a pip section
    from nbprovision.pip.requirements_files import RequirementSet
    from nbprovision.pip.satisfied import Need

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_RESERVED = ("base", "root")  # conda's own names of an installation


class EnvState(msgspec.Struct, frozen=True, kw_only=True):
    """A conda environment as it is, with the differences from the request.

    Attributes:
        name: The name for messages.
        exists: Whether the prefix is an environment.
        packages: Its conda packages.
        unregistered: The registry does not list it.
        variables: Variables of activation to set, each with the present and the future value.
        leftovers: Files that a killed run left beside it.
        pip: Missing requirements of the file's pip section.
        notes: See `EnvironmentFile`.

    """

    name: str
    exists: bool
    packages: CondaPackages = CondaPackages()
    unregistered: bool = False
    variables: dict[str, tuple[str | None, str]] = {}
    leftovers: tuple[Path, ...] = ()
    pip: tuple[Need, ...] = ()
    notes: tuple[str, ...] = ()


class EnvPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the state that they start from."""

    state: EnvState


class EnsureCondaEnv(Task[EnvState], frozen=True, kw_only=True):
    """Create and maintain a conda environment, and leave its other packages unchanged.

    Each package comes from the first channel that has it, by conda's own rules. An installed package changes only if a
    spec requires it.
    """

    relations = (
        OneOf(("name", "prefix"), required=False),
        AnyOf(("name", "prefix", "file"), cure="give name or prefix"),
        Excludes("state", "absent", ("packages", "file", "clone", "exact", "update")),
    )
    actions = {
        "create": "the environment",
        **ACTIONS,
        "set": "a variable of the environment's file",
        "record": "installed packages that the environment's history lacked",
        "register": "the environment in conda's list of environments",
        "unregister": "the environment, which leaves that list",
        "clean": "leftovers of a killed run",
    }
    examples = """
    - name: An environment by name
      ensure_conda_env:
        name: fraud
        channels: [conda-forge]
        packages: [python=3.12, pip, ipykernel]

    - name: The newest versions, and no other packages
      ensure_conda_env:
        name: risk
        channels: [conda-forge]
        packages: [python, pip]
        update: latest
        exact: true

    - name: The environment of a file, by path
      ensure_conda_env:
        prefix: ./envs/report
        file: environment.yml

    - name: Exactly the packages of a lock file
      ensure_conda_env:
        name: risk-locked
        file: pixi.lock
        exact: true

    - name: A copy of another environment, without a channel
      ensure_conda_env:
        name: fraud-copy
        clone: fraud

    - name: An environment to remove
      ensure_conda_env:
        name: old
        state: absent
    """

    name: Annotated[
        str | None,
        parameter("The environment by name: the one that conda knows by it, else a new one in the platform's folder."),
    ] = None
    prefix: Annotated[str | None, parameter("The environment by path, instead of a name.", extra={"path": True})] = None
    packages: Annotated[
        Strings, parameter("Match specs as conda writes them: `python=3.12`, `numpy>=2,<3`, `conda-forge::gdal`.")
    ] = msgspec.field(default_factory=list)
    channels: Channels = msgspec.field(default_factory=list)
    file: Annotated[
        str | None,
        parameter(
            "An `environment.yml` with further packages, channels and variables, and a pip section. Or a file with "
            "exact packages, which are installed without solving: a `pixi.lock` (the environment of the same name, "
            "else `default`), or the output of `conda list --explicit --md5`.",
            extra={"path": True, "document": "environment"},
        ),
    ] = None
    clone: Annotated[
        str | None,
        parameter(
            "An environment, by name or path, that a new one begins as a copy of, including pip's packages. No "
            "channel or index is needed. An existing environment is not replaced.",
            extra={"path": "if-slash"},
        ),
    ] = None
    state: Annotated[Literal["present", "absent"], parameter("Whether the environment exists.")] = "present"
    exact: Annotated[
        bool,
        parameter(
            "Remove packages that no task of the playbook requests and no requested package needs. With a file of "
            "exact packages: remove those that it does not name."
        ),
    ] = False
    update: Annotated[
        Literal["none", "latest"],
        parameter(
            "`latest` keeps the requested packages at their newest versions, looked up once a day or as "
            "`refresh_every` says."
        ),
    ] = "none"
    cuda: Annotated[
        str | None,
        parameter(
            "Version of CUDA to solve for, such as `12.4`, or `none`. Default: the machine's. If it has changed, "
            "packages with builds for both versions get the other build of the same version.",
        ),
    ] = None
    allow_platform_changes: Annotated[
        bool,
        parameter(
            "Change packages of the platform's image in an environment that the platform provides, at the risk of an "
            "unstable notebook."
        ),
    ] = False
    engine: EngineName = "auto"

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise ParameterError(
                "name",
                f"'{self.name[:60]}' cannot be the name of an environment",
                cure="use letters, digits and . _ + - or give `prefix` for a path",
            )
        if self.cuda is not None and not re.fullmatch(r"none|[0-9]+(\.[0-9]+)?", self.cuda):
            raise ParameterError("cuda", f"'{self.cuda[:40]}' is not a version of CUDA", cure='write "12.4", or none')
        self._specs(None)
        check_channels("channels", as_list(self.channels))

    # ------------------------------------------------------------------------------------------------- the parameters

    def _file(self) -> EnvironmentFile | None:
        return environment_file.read(Path(self.file)) if self.file is not None else None

    def _specs(self, file: EnvironmentFile | None) -> list[Spec]:
        return requested_specs([*as_list(self.packages), *(file.packages if file else ())])

    def _locked(self, machine: Machine, file: EnvironmentFile | None) -> tuple[LockedPackage, ...] | None:
        """The exact packages of the file, None if it has none.

        Raises:
            ParameterError: another parameter contradicts them.
            InvalidPlaybook: the file has none for this environment or machine.

        """
        if file is None or file.exact is None:
            return environment_file.locked_packages(machine, self._identity(machine, file)[1])
        for key, given in (("packages", bool(as_list(self.packages))), ("update", self.update != "none")):
            if given:
                raise ParameterError(
                    key,
                    f"`{key}` contradicts the exact packages of {self.file}",
                    cure="leave it out; ensure_conda_pkg adds packages, and locking again gives newer versions",
                )
        if self.engine == "conda":
            raise ParameterError(
                "engine",
                f"conda does not install the exact packages of {self.file}",
                cause="only the built-in engine verifies every package before it links the first one",
                cure="leave `engine` out",
            )
        packages = file.exact.packages(self._identity(machine, file)[0], platform.conda_subdir())
        place = next((package.url for package in packages if package.url.startswith(PLACES)), None)
        if place is not None:
            raise ParameterError(
                "file",
                f"{self.file} belongs to the lock of a playbook",
                cause=f"it has packages of a channel in a folder of the machine that runs the playbook: {place}",
                cure="run that playbook with --locked, or copy its packages into a channel with a URL and lock again",
            )
        return packages

    def _identity(self, machine: Machine, file: EnvironmentFile | None = None) -> tuple[str, Path]:
        """Name and prefix; those of the file if the task gives neither."""
        prefix, name = self.prefix, self.name
        if prefix is None and name is None:
            file = file or self._file()
            prefix, name = (file.prefix, file.name) if file else (None, None)
            if file is not None and name is not None and not _NAME.fullmatch(name):
                if "/" not in name:
                    raise environment_file.wrong_name(file)
                name = None  # the export of an environment without a name may have a path there
            if prefix is None and name is None:
                raise ParameterError(
                    "name", f"neither the task nor {self.file} names the environment", cure="give name"
                )
        if name is None:
            path = machine.path(str(prefix))
            return path.name, path
        existing = machine.conda.prefix_of(name)
        if existing is None and name in _RESERVED:
            raise ParameterError(
                "name", f"'{name}' is conda's name for its own installation, and this machine has no conda"
            )
        return name, existing or machine.conda.new_prefix(name)

    def _credentials(self, machine: Machine, file: EnvironmentFile | None) -> tuple[str, ...]:
        """Channels that may have the credentials for exact packages: the task's, the file's, and conda's."""
        of_file = [expanded(text, machine.env) for text in file.channels] if file is not None else []
        names = [*as_list(self.channels), *of_file]
        given = file.exact.credentials if file is not None and file.exact is not None else ()
        return (*machine.conda.channels(names), *given, *machine.conda.condarc.places)

    def _channels(self, machine: Machine, file: EnvironmentFile | None, specs: Iterable[Spec]) -> tuple[str, ...]:
        locked = self._locked(machine, file)
        if locked is not None:
            return tuple(dict.fromkeys(package.channel for package in locked))
        names = as_list(self.channels)
        if not names and file is not None:  # conda replaces variables in the channels of a file
            names = [expanded(text, machine.env) for text in file.channels]
            for text in names:
                if "$" in text:
                    raise UnsetVariable(f"an environment variable in the channel '{text}' of {self.file} is not set")
            check_channels("file", names)
        return channel_urls(machine, names, specs)

    def _source(self, machine: Machine, prefix: Path) -> Path | None:
        """The environment to copy, None if the task's own exists.

        Raises:
            TaskFailed: the source is not a conda environment.

        """
        if self.clone is None or is_environment(prefix):
            return None
        source = machine.prefix_of(self.clone, of=prefix)
        if source == prefix:
            raise ParameterError(
                "clone", f"{self.clone} cannot begin as a copy of itself", cure="name another environment"
            )
        if not is_environment(source) and source not in machine.declared.values():
            raise TaskFailed(
                f"{source} is not a conda environment to copy",
                cause="it has no conda-meta folder" if source.is_dir() else "the folder does not exist",
                cure="name an existing environment by `clone`",
            )
        return source

    def _work(self, machine: Machine) -> CondaWork:
        file = self._file()
        prefix = self._identity(machine, file)[1]
        locked = self._locked(machine, file)
        specs = self._specs(file) if locked is None else [Spec(package.name, package.name) for package in locked]
        if file is not None and file.lacks_pip and not distributions.installed(prefix, ["pip"]):
            specs += requested_specs(["pip"])
        request = CondaRequest(
            prefix=prefix,
            clone=self._source(machine, prefix),
            specs=tuple(specs),
            locked=locked,
            channels=self._channels(machine, file, specs),
            credentials=self._credentials(machine, file) if locked is not None else (),
            claims=frozenset((*machine.claims_on(prefix), *self.claims(machine))),
            others=frozenset(name for place, name in machine.wanted if place == prefix),
            exact=self.exact,
            latest=self.update == "latest",
            cuda=self.cuda,
            deep=self.deep,
            allowed=self.allow_platform_changes,
            engine=self.engine,
        )
        return CondaWork(machine, request)

    # ------------------------------------------------------------------------------------ its place among other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The environment."""
        return frozenset({Resource("environment", str(self._identity(machine)[1]))})

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The configuration of conda, the local channels, and the environment to copy."""
        if self.state == "absent":
            return required_resources(machine)
        file = self._file()
        urls = self._channels(machine, file, self._specs(file))
        source = self._source(machine, self._identity(machine, file)[1])
        copied = {Resource("environment", str(source))} if source is not None else set()
        return required_resources(machine, urls) | copied

    def declares(self, machine: Machine) -> dict[str, Path]:
        """The name, for later tasks."""
        if self.state == "absent":
            return {}
        name, prefix = self._identity(machine)
        protection.refuse_two_kinds(machine, name, prefix, virtual=False)
        return {name: prefix}

    def objection(self, claim: Claim, machine: Machine) -> str | None:
        """Why a distribution that a pip task wants breaks a spec of this task, if it does."""
        if self.state == "absent" or claim.prefix != self._identity(machine)[1]:
            return None
        file = self._file()
        specs = self._specs(file)
        if file is not None and file.exact is not None:  # a lock of the playbook was made around what pip tasks want
            locked = self._locked(machine, file) or ()
            specs = [Spec(package.text, package.name, rest=f"=={package.version}") for package in locked]
        return packages.objection(self.kind(), specs, claim)

    def claims(self, machine: Machine) -> Iterable[Claim]:
        """The distributions of the file's pip section."""
        file = self._file()
        if self.state == "present" and file is not None and file.pip:
            prefix = self._identity(machine, file)[1]
            for wanted in self._pip_section(file, prefix, machine).unconditional:
                if wanted.name is not None:
                    origin = f" @ {secrets.without_password(wanted.url)}" if wanted.url else wanted.specifier
                    yield Claim(prefix, f"{wanted.name}{origin}")

    def as_locked(self) -> EnsureCondaEnv:
        """The task without `update: latest`."""
        return msgspec.structs.replace(self, update="none")

    def lock_requests(self, machine: Machine) -> Iterable[LockRequest]:
        """The packages, those of the file, and the requirements of its pip section."""
        if self.state == "absent":
            return
        file = self._file()
        prefix = self._identity(machine, file)[1]
        specs = self._specs(file)
        if file is not None and file.lacks_pip:
            specs += requested_specs(["pip"])
        exact = self._locked(machine, file) or ()
        yield CondaLockRequest(
            prefix=prefix,
            specs=tuple(spec.text for spec in specs) + tuple(package.text for package in exact),
            channels=self._channels(machine, file, specs),
            cuda=self.cuda,
            makes=True,
            source=machine.prefix_of(self.clone, of=prefix) if self.clone is not None else None,
            allowed=self.allow_platform_changes,
        )
        if file is not None and file.pip:
            from nbprovision.pip.lock_request import PipLockRequest

            wanted = environment_file.pip_section(file, machine.env)
            allowed = self.allow_platform_changes
            yield PipLockRequest(prefix=prefix, wanted=wanted, environment=prefix, allowed=allowed)

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment; its removal is a single step."""
        return () if self.state == "absent" else (self._identity(machine)[1],)

    def inputs(self, machine: Machine) -> Iterable[Input]:
        """The environment file, the files that its pip section names, and channels given by path."""
        yield from (Input(path, "channels") for path in by_path(self.channels))
        if self.file is not None:
            yield Input(Path(self.file), "file")
            if os.path.isfile(self.file) and (file := environment_file.read(Path(self.file))):
                yield from (Input(path, "file", place) for path, place in environment_file.named(file).items())

    def weight(self, machine: Machine) -> Literal[1, 2]:
        """Twice as much for a new environment, which takes long."""
        return 1 if is_environment(self._identity(machine)[1]) else 2

    def load(self, machine: Machine) -> None:
        """The built-in engine, for an environment that has to be made."""
        other = self.state == "absent" or self.engine == "conda" or self.clone is not None
        if other or is_environment(self._identity(machine)[1]):
            return
        file = self._file()
        rattler.load(machine, self._channels(machine, file, self._specs(file)), self.cuda)

    def ages(self, machine: Machine) -> float | None:
        """A day with `update: latest`: there may be a newer version tomorrow."""
        return DAY if self.update == "latest" and self.refresh_every is None else None

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """Records, history, distributions, interpreter, mark; the file; the files that give a name its meaning."""
        prefix = self._identity(machine)[1]
        yield from packages.witnesses(machine, prefix)
        yield prefix / META / "state"
        if self.cuda is None:
            yield from platform.gpu_marks(machine.root)
        if self.file is not None:
            yield Path(self.file)

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> EnvState:
        """Check the interpreter, records and distributions; solve only if they do not satisfy the request."""
        file = self._file()
        name, prefix = self._identity(machine, file)
        leftovers = tuple(health.leftovers(prefix))
        registered = prefix in machine.conda.registered
        if self.state == "absent":
            protection.refuse_removal(machine.conda, prefix)
            exists = prefix.is_dir() or prefix.is_symlink()
            return EnvState(name=name, exists=exists, unregistered=not registered, leftovers=leftovers)
        exists = is_environment(prefix)
        protection.refuse_foreign(prefix)
        refuse_jupyter_server(machine, prefix, allowed=False)
        try:
            conda_packages = self._work(machine).read()
        except TaskFailed as error:  # a selector that conda ignores may have requested what does not exist
            error.cause = "\n".join(filter(None, (error.cause, *(file.notes if file else ()))))
            raise
        variables = file.variables if file else {}
        set_now = health.variables(prefix) if variables else {}
        return EnvState(
            name=name,
            exists=exists,
            packages=conda_packages,
            unregistered=machine.conda.condarc.register_envs and not registered,
            variables={key: (set_now.get(key), value) for key, value in variables.items() if set_now.get(key) != value},
            leftovers=leftovers,
            pip=tuple(self._pip_needs(file, prefix, conda_packages, machine)) if file and file.pip else (),
            notes=self._notes(file, name),
        )

    def _notes(self, file: EnvironmentFile | None, name: str) -> tuple[str, ...]:
        """The warnings about the file."""
        if file is None or file.exact is None:
            return file.notes if file else ()
        places = file.exact.from_pypi(name, platform.conda_subdir())
        if not places:
            return ()
        note = f"{self.file} also has packages from PyPI ({len(places)}), which this task does not install"
        return (f"{note}: give them to ensure_pip_pkg",)

    def _pip_section(self, file: EnvironmentFile, prefix: Path, machine: Machine) -> RequirementSet:
        """The requirements of the file's pip section, or what a lock has in their place."""
        from nbprovision.pip.requirements_files import as_locked

        section = environment_file.pip_section(file, machine.env)
        return as_locked(section, machine.locked.get(prefix), machine.env)

    def _pip_needs(
        self, file: EnvironmentFile, prefix: Path, conda_packages: CondaPackages, machine: Machine
    ) -> list[Need]:
        """The missing requirements of the file's pip section."""
        section = self._pip_section(file, prefix, machine)
        python = distributions.python_version(prefix) or conda_packages.foretold(prefix).python or "3"
        if not machine.applies:
            from nbprovision.pip.targets import check_places

            check_places(section.wanted, requirements.marker_environment(python))
        return environment_file.pip_needs(
            section,
            prefix,
            python,
            files=conda_packages.suspect or self.deep,
            torn=conda_packages.suspect,
            digests=machine.digests if self.deep else None,
            configured=lambda section: pip_engine.configured(machine, prefix, section),
        )

    def plan(self, state: EnvState) -> EnvPlan:
        """Compare the environment with the request."""
        changes = [Change(action="clean", target=str(path), before="left by a killed run") for path in state.leftovers]
        if self.state == "absent":
            if state.exists:
                changes.append(Change(action="remove", target=state.name, before="present"))
            if not state.unregistered:
                changes.append(Change(action="unregister", target=state.name, before="registered"))
            return EnvPlan(changes=tuple(changes), state=state)
        if not state.exists:
            source = state.packages.source
            after = "present" if source is None else f"a copy of {source}"
            changes.append(Change(action="create", target=state.name, after=after))
        changes += state.packages.changes()
        if state.packages.solution is None and state.exists and state.packages.history_incomplete:
            changes.append(Change(action="record", target=f"{META}/history", after="the installed packages"))
        changes += _other_changes(state)
        if state.unregistered:
            changes.append(Change(action="register", target=state.name, after="environments.txt"))
        beside = {change.action for change in changes} <= {"register", "clean"}
        return EnvPlan(
            changes=tuple(changes), warnings=(*state.packages.warnings, *state.notes), beside=beside, state=state
        )

    def foretells(self, plan: EnvPlan, machine: Machine) -> dict[Path, Foretold]:
        """The environment with the new packages and the distributions of the file's pip section."""
        if self.state == "absent":
            return {}
        conda_packages, prefix = plan.state.packages, self._identity(machine)[1]
        source = machine.foretold.get(conda_packages.source) if conda_packages.source is not None else None
        expected = source or conda_packages.foretold(prefix)
        wanted = {need.name: "" for need in plan.state.pip}
        return {prefix: Foretold(expected.python, {**expected.packages, **wanted}, expected.whole and not wanted)}

    def apply(self, plan: EnvPlan, machine: Machine) -> None:
        """Install the packages, then set the variables and register the environment."""
        state = plan.state
        file = self._file()
        _, prefix = self._identity(machine, file)
        for path in state.leftovers:
            remove(path)
        if self.state == "absent":
            if state.exists:
                remove_at_once(prefix)
            bookkeeping.unregister(machine.conda, prefix)
            return
        self._work(machine).apply(state.packages)
        if state.pip and file is not None:
            self._install_pip_section(file, prefix, state.pip, machine)
        if state.variables:
            bookkeeping.set_variables(prefix, {name: after for name, (_, after) in state.variables.items()})
        if state.unregistered:
            bookkeeping.register(machine.conda, prefix)

    def _install_pip_section(
        self, file: EnvironmentFile, prefix: Path, needs: Iterable[Need], machine: Machine
    ) -> None:
        from nbprovision.pip.guard import image_constraints

        if not interpreter(prefix).exists():
            raise TaskFailed(
                f"the pip section of {file.path} cannot be installed",
                cause=f"{prefix} has no Python",
                cure="add python to its dependencies",
            )
        constraints = () if self.allow_platform_changes else image_constraints(machine, prefix)
        section = environment_file.pip_section(file, machine.env)
        reinstall = [need.name for need in needs if need.reason in UNSEEN]
        pip_engine.install(
            machine,
            prefix,
            section,
            constraints=constraints,
            reinstall=reinstall,
            allowed=self.allow_platform_changes,
        )


def _other_changes(state: EnvState) -> list[Change]:
    """The changes of the pip section and of variables."""
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

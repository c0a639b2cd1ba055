"""Tasks that install Python distributions into conda and virtual environments, by uv or pip."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

import msgspec

from nbprovision.indexes import index_settings
from nbprovision.machine import distributions, interpreters, package_files
from nbprovision.machine.distributions import Distribution, SharedFile
from nbprovision.machine.env_selection import PackageSelection
from nbprovision.machine.environments import is_environment
from nbprovision.machine.image import permitted, refuse_jupyter_server
from nbprovision.machine.interpreters import Target, is_managed, no_python
from nbprovision.machine.machine import Machine, once
from nbprovision.model.errors import FETCH_FIRST, URL_FOR_PATH, Inevitable, ParameterError, TaskFailed
from nbprovision.model.relations import AnyOf, Excludes, OneOf
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import (
    DAY,
    Claim,
    Foretold,
    Input,
    LockRequest,
    Resource,
    State,
    Strings,
    Task,
    as_list,
    parameter,
)
from nbprovision.pip import engine as pip_engine
from nbprovision.pip import pip_command, pylock, requirements, requirements_files, satisfied, uv_command
from nbprovision.pip import targets as pip_targets
from nbprovision.pip.engine import Engine
from nbprovision.pip.guard import PipGuard, known_prefix
from nbprovision.pip.lock_request import PipLockRequest
from nbprovision.pip.plan import PipPlan, PipState, change_of, install, removal, unseen
from nbprovision.pip.request import Move, Request
from nbprovision.pip.requirements import PipRequirement
from nbprovision.pip.requirements_files import RequirementSet
from nbprovision.pip.satisfied import Need
from nbprovision.system import secrets, unfinished
from nbprovision.system.files import remove

Answer = TypeVar("Answer")

ACTIONS = {
    "install": "a distribution",
    "upgrade": "to a newer version",
    "downgrade": "to an older version",
    "change": "to the requested version, if the versions cannot be compared",
    "reinstall": "a damaged distribution, or one from another source",
    "remove": "a distribution, or the remains of an interrupted removal",
}
# Pythons that a future environment may have.
_POSSIBLE_PYTHONS = ("3.8.20", "3.9.21", "3.10.16", "3.11.11", "3.12.8", "3.13.1", "3.14.0", "3.15.0")


class PipPackages(PackageSelection[PipState], frozen=True, kw_only=True):
    """The parameters and steps of `ensure_pip_pkg`, which other tasks use for their packages."""

    relations = (
        AnyOf(("packages", "requirements")),
        OneOf(("env", "envs", "python", "system"), cure_missing="name the environment to install into"),
        Excludes("state", "absent", ("constraints",)),
        OneOf(("target", "envs"), required=False, cure="`target` is for one Python: name its environment by `env`"),
        *PackageSelection.relations,
    )
    with_python = True

    packages: Annotated[
        Strings | None,
        parameter(
            "Requirements: `requests`, `requests[socks]>=2.31,<3`, `name @ URL`, `./a.whl`, `-e /a/folder`, "
            "`git+https://...`; each may be followed by `; marker`.",
            extra={"path": requirements.anchored},
        ),
    ] = None
    requirements: Annotated[
        Strings | None,
        parameter(
            "Requirements files, with everything that pip allows in them, and lock files named `pylock.toml` or "
            "`pylock.NAME.toml` (PEP 751), whose packages are installed exactly as locked.",
            extra={"path": True, "document": "requirements pylock"},
        ),
    ] = None
    constraints: Annotated[
        Strings | None,
        parameter(
            "Constraints files: the allowed versions of packages, if they are installed.",
            extra={"path": True, "document": "requirements"},
        ),
    ] = None
    python: Annotated[
        str | None, parameter("Path of an interpreter, instead of `env`: `.venv/bin/python`.", extra={"path": True})
    ] = None
    system: Annotated[
        bool,
        parameter("The Python that `pip install` uses if no environment is active, instead of `env`."),
    ] = False
    target: Annotated[
        str | None,
        parameter(
            "A folder to install into, as with pip's `--target`, for the Python of `env`, `python` or `system`.",
            extra={"path": True},
        ),
    ] = None
    state: Annotated[
        Literal["present", "latest", "absent"],
        parameter(
            "`latest` keeps the named packages at the newest version that fits, looked up once a day or as set by "
            "`refresh_every`. `absent` uninstalls; with a version after the name, only that version."
        ),
    ] = "present"
    engine: Annotated[
        Literal["auto", "uv", "pip"],
        parameter("The installer: uv, pip, or `auto`: uv if it supports all options, else pip."),
    ] = "auto"

    @property
    def names_one(self) -> bool:
        """Whether an environment or an interpreter is named."""
        return self.env is not None or self.python is not None or self.system

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        for key in ("requirements", "constraints"):
            for text in as_list(getattr(self, key)):
                if "://" in text:
                    raise ParameterError(
                        key, f"'{key}' cannot be '{secrets.mask(text)[:80]}'", cause=URL_FOR_PATH, cure=FETCH_FIRST
                    )
        locks = [text for text in as_list(self.requirements) if pylock.is_lock(text)]
        if self.state == "latest" and locks:
            raise ParameterError(
                "requirements",
                f"`state: latest` contradicts the lock {locks[0]}",
                cause="a lock names one version of each package",
                cure="leave `state` out, and make the lock again for newer versions (`uv pip compile --upgrade`)",
            )
        self._check_packages()

    def _check_packages(self) -> None:
        seen: dict[str, PipRequirement] = {}
        for text in as_list(self.packages):
            wanted = requirements.of_parameter("packages", text)
            other = seen.setdefault(wanted.name or wanted.line, wanted)
            if other is not wanted and not (wanted.marker or other.marker) and requirements.incompatible(wanted, other):
                raise ParameterError(
                    "packages", f"no version satisfies both '{other.shown}' and '{wanted.shown}'", cure="drop one"
                )

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The distributions that it names."""
        names = _names(self._wanted(machine))
        place = self._target(machine).place
        return frozenset(Resource("distribution", f"{place} {name}") for name in names)

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment, and each configuration file that sets an index."""
        prefix = self._target(machine).prefix
        files = index_settings.pip_files(machine.env, machine.user_home, prefix, machine.root)
        return frozenset({Resource("environment", str(prefix)), *(Resource("index", str(path)) for path in files)})

    def claims(self, machine: Machine) -> Iterator[Claim]:
        """The named requirements. A requirement whose marker depends on a Python yet to come is not a claim."""
        target = self._target(machine)
        for wanted in self._claimed(target, machine):
            source = f" @ {secrets.without_password(wanted.url)}" if wanted.url else wanted.specifier
            yield Claim(target.place, f"{wanted.name_and_extras}{source}", self.state == "absent")

    def objection(self, claim: Claim, machine: Machine) -> str | None:
        """The conflict with another task's claim on the same distribution, if the two exclude each other."""
        target = self._target(machine)
        if target.place != claim.prefix:
            return None
        theirs = requirements.parse(claim.requirement)
        absent = self.state == "absent"
        for mine in self._claimed(target, machine):
            if mine.name != theirs.name or (absent and claim.absent):
                continue
            # Two installs conflict if no version satisfies both, an install and a removal if one version does.
            if requirements.incompatible(mine, theirs) == (absent == claim.absent):
                return f"'{mine.shown}' is {'to be absent' if absent else 'wanted'} there"
        return None

    def as_locked(self) -> PipPackages:
        """The task with `state: present` in place of `latest`."""
        return msgspec.structs.replace(self, state="present") if self.state == "latest" else self

    def lock_requests(self, machine: Machine) -> Iterable[LockRequest]:
        """The requirements, unless they are removed."""
        if self.state == "absent":
            return
        target = self._target(machine)
        yield PipLockRequest(
            prefix=target.place,
            wanted=self._wanted(machine),
            environment=target.prefix,
            version=target.version if target.probed is not None else None,
            outside=target.probed is not None and target.location is None,
            allowed=self.allow_platform_changes,
        )

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment, or the `target` folder."""
        return [self._target(machine).place]

    def read(self, machine: Machine) -> PipState:
        """Find the unsatisfied requirements; if there are any, ask the installer for the changes that it would make.

        Raises:
            UnknownEnvironment: the environment does not exist.
            TaskFailed: it cannot be changed, or no versions satisfy the requirements.
        """
        wanted, target = self._wanted(machine), self._target(machine)
        prefix, version = target.prefix, target.version
        managed = is_managed(target) if target.location is None else False  # first, as it refuses a system's Python
        if version is None or not target.runs:
            by_glob = self.env is not None and self.selected(machine).by_glob
            if by_glob and is_environment(prefix) and not machine.is_unfinished(prefix):
                return PipState(target=target)  # `all` selected it before it was known to get no Python
            if prefix not in machine.declared.values():
                raise pip_targets.no_target(target)
            return self._foreseen(target, wanted, machine)
        future = machine.foretold.get(prefix) if target.location is None else None
        if future is not None and future.python and future.python.split(".")[:2] != version.split(".")[:2]:
            return self._foreseen(target, wanted, machine)  # the present packages stay behind with the old Python
        pip_targets.refuse_other_builds(target)
        installed = target.installed()
        environment = requirements.marker_environment(version)
        wanted = requirements_files.selected(self._configured(target, wanted, machine), environment)
        pip_targets.refuse_editable(target, wanted.all)
        before = machine.notes_of(self).get("conflicts before")
        state = PipState(
            target=target,
            conflicts=() if before is None else tuple(text for text in _conflicts(target) if text not in before),
            managed=managed,
        )
        if self.state == "absent":
            removable = tuple(_removable(wanted.all, installed, environment))
            if removable:
                pip_targets.check_rights(target)
                PipGuard(machine, target, allowed=self.allow_platform_changes).refuse_removal(removable)
            return msgspec.structs.replace(state, removable=removable)
        suspect = target.place in machine.suspect or machine.is_unfinished(target.place)
        needs = satisfied.unsatisfied(
            wanted.all,
            wanted.constraints,
            installed,
            environment,
            files=suspect or self.deep,
            torn=suspect,
            digests=machine.digests if self.deep else None,
        )
        if future is not None:  # conda installs these before it is this task's turn
            needs = [need for need in needs if need.reason != "missing" or not _is_coming(need, future, wanted)]
        locked = {entry.name for entry in wanted.locked}
        if needs or suspect:
            state = msgspec.structs.replace(state, locked=tuple(need.name for need in needs if need.name in locked))
            debris = tuple(entry for same_name in installed.values() for entry in same_name if not entry.has_metadata)
            state = msgspec.structs.replace(state, needs=tuple(needs), debris=debris)
        return self._predicted(state, wanted, environment, machine) if needs or self.state == "latest" else state

    def _predicted(
        self, state: PipState, wanted: RequirementSet, environment: Mapping[str, str], machine: Machine
    ) -> PipState:
        """The state with the changes that the installer predicts, if it has to be asked."""
        target = state.target
        needs = [need for need in state.needs if need.name not in state.locked]
        engine = self._engine(machine, wanted)
        pip_targets.check_rights(target)
        pip_targets.check_places(wanted.wanted, environment)
        guard = PipGuard(machine, target, allowed=self.allow_platform_changes)
        moves_of_lock = self._moves_of_lock(state, wanted, guard, machine) if state.locked else []
        # uv reports its changes, and need not predict them if nothing can be in the way.
        only_missing = self.state == "present" and all(need.reason == "missing" for need in state.needs)
        reports = engine is uv_command and only_missing and machine.applies and guard.needless and not state.locked
        state = msgspec.structs.replace(
            state,
            pins=tuple(need.pin for need in needs if need.pin),
            constraints=() if self.allow_platform_changes else guard.constraints(),
            predicted=bool(state.debris) or not reports,
            by_pip=engine is pip_command,
        )
        if state.debris or reports:
            return state
        if state.locked and not needs and self.state == "present":  # the lock says it all
            return msgspec.structs.replace(state, moves=tuple(moves_of_lock))
        machine.progress(f"looking for versions for {target.name}")
        request = self._request(state, wanted, unseen(needs)).held(machine, wanted.locked)
        applying = [requirement for requirement in wanted.wanted if requirements.applies(requirement, environment)]
        resolution = guard.resolve(engine, request, () if request.upgrade else state.pins, applying, needs)
        if resolution.moves is None and request.upgrade:
            raise TaskFailed(
                f"the pip of {target.name} cannot find newer versions",
                cause="it is older than 22.2",
                cure="leave `engine` at `auto`, or upgrade pip in the environment",
            )
        # An engine would reinstall an editable distribution each time.
        settled = {requirement.name for requirement in applying if requirement.editable} - {need.name for need in needs}
        moves = [move for move in resolution.moves or () if move.name not in settled or move.before != move.after]
        moves = [*moves_of_lock, *(move for move in moves if move.name not in state.locked)]
        notes: Sequence[str] = ()
        if engine is uv_command and (self.state == "latest" or not machine.applies):
            request = guard.hold(request) if resolution.constraints else request
            notes = pip_engine.newer_elsewhere(machine, request, moves, pip_engine.best_versions(machine, request))
        elif engine is pip_command and self.engine == "auto":
            notes = pip_engine.note_on_pip(machine, request)
        return msgspec.structs.replace(
            state,
            moves=None if resolution.moves is None else tuple(moves),
            pins=resolution.pins,
            constraints=resolution.constraints,
            elsewhere=tuple(notes),
        )

    def _moves_of_lock(self, state: PipState, wanted: RequirementSet, guard: PipGuard, machine: Machine) -> list[Move]:
        """The changes to what a lock has, as far as an installer would see them.

        Raises:
            TaskFailed: no file of the lock fits, or it would replace a package of the image or of conda.

        """
        versions = {entry.name: entry.version for entry in wanted.locked}
        needs = [need for need in state.needs if need.name in state.locked]
        pip_targets.fitting(machine, state.target, wanted.locked, state.locked)
        guard.refuse_locked(needs)
        return [
            Move(need.name, need.installed, versions[need.name] or need.expected)
            for need in needs
            if need.reason in ("missing", "version")
        ]

    def plan(self, state: PipState) -> PipPlan:
        """Compare the state with the requirements."""
        return removal(state) if self.state == "absent" else install(state)

    def apply(self, plan: PipPlan, machine: Machine) -> Sequence[Change]:
        """Remove distributions that are in the way, then install or uninstall.

        Returns:
            The changes that the engine reports; if it reports none, the planned ones.

        """
        provided = known_prefix(machine, plan.target.place)
        with permitted(machine, provided, allowed=self.allow_platform_changes):
            moves = self._carry_out(plan, machine)
        return [change_of(move) for move in moves] if moves and not plan.predicted else plan.changes

    def _carry_out(self, plan: PipPlan, machine: Machine) -> Sequence[Move] | None:
        """Carry out a plan; the changes, if the engine reports them."""
        moves: Sequence[Move] | None = None
        target = plan.target
        prefix = target.prefix if target.location is None else target.location
        if not os.access(target.python, os.X_OK):
            raise no_python(target)
        machine.notes_of(self)["conflicts before"] = frozenset(_conflicts(target))
        guard = PipGuard(machine, target, allowed=self.allow_platform_changes)
        installed = target.installed()
        # No engine uninstalls from a folder that is not an environment.
        by_hand = (*plan.replace, *(plan.uninstall if target.location is not None else ()))
        traces = None if target.folder is None else package_files.traces(target.folder, _leaving(plan, installed))
        for folder in (*plan.take_out, *_paths_of(by_hand, installed)):
            package_files.remove_distribution(prefix, folder)
        environment = requirements.marker_environment(target.version or "3")
        configured = self._configured(target, self._wanted(machine), machine)
        wanted = requirements_files.selected(configured, environment)
        engine = self._engine(machine, wanted)
        if plan.uninstall and target.location is None:
            machine.progress(f"uninstalling {', '.join(plan.uninstall)} from {target.name}")
            engine.uninstall(machine, prefix, plan.uninstall, python=target.python, managed=plan.managed)
        if plan.install or plan.locked:
            machine.progress(f"installing into {target.name}")
            request = self._request(plan, wanted, plan.reinstall)
            shared = list(self._shared(target, plan.reinstall, machine))
            if shared and engine is uv_command:
                uv_command.evict(machine, plan.reinstall, prefix)
            if plan.locked:
                packages = pip_targets.fitting(machine, target, wanted.locked, plan.locked)
                pip_engine.perform_locked(machine, engine, request.of_lock(packages))
            if plan.install:
                if plan.constraints:
                    request = guard.hold(request)
                request = request.without(plan.locked).held(machine, wanted.locked)
                moves = pip_engine.perform(machine, engine, request.pinned(plan.pins))
            _keep_newest(target, plan.reinstall)
            package_files.mend(copy for copy in shared if copy.elsewhere != copy.file)
        if traces is not None:
            package_files.tidy_traces(traces)
        return moves

    def witnesses(self, machine: Machine) -> Iterator[Path]:
        """The files with the requirements, the interpreter and the distributions' folders."""
        wanted = self._wanted(machine)
        yield from wanted.files
        sources = (*wanted.wanted, *(entry.requirement for lock in wanted.locks for entry in lock.packages))
        yield from filter(None, map(requirements.local_path, sources))
        if self.system:
            yield from interpreters.system_witnesses(machine)
        target = self._target(machine)
        yield from (target.python, target.place / unfinished.MARK, target.folder or target.prefix / "lib")
        if self.state != "absent":
            yield from self._configured(target, wanted, machine).files
            if any(requirement.editable for requirement in wanted.wanted):
                yield target.prefix / "src"  # of clones
            yield from index_settings.pip_files(machine.env, machine.user_home, target.prefix, machine.root)
        names = _names(wanted)
        yield from _paths_of(sorted(names), target.installed(names))

    def ages(self, machine: Machine) -> float | None:
        """A day for ``state: latest``, as newer versions may appear."""
        return DAY if self.state == "latest" and self.refresh_every is None else None

    def inputs(self, machine: Machine) -> Iterator[Input]:
        """Requirements and constraints files with the files that they name, and wheels and projects given by path."""
        for key, places in (
            ("requirements", requirements_files.named((), self._paths(self.requirements, machine), ())),
            ("constraints", requirements_files.named((), (), self._paths(self.constraints, machine))),
            ("packages", requirements_files.named(as_list(self.packages), (), ())),
        ):
            yield from (Input(path, key, position) for path, position in places.items())

    @staticmethod
    def _paths(texts: Strings | None, machine: Machine) -> list[Path]:
        return [machine.path(text) for text in as_list(texts)]

    def _wanted(self, machine: Machine) -> RequirementSet:
        wanted = requirements_files.read(
            as_list(self.packages),
            self._paths(self.requirements, machine),
            self._paths(self.constraints, machine),
            machine.env,
        )
        if self.state == "absent" or not machine.locked:
            return wanted
        return requirements_files.as_locked(wanted, machine.locked.get(self._target(machine).place), machine.env)

    @once
    def _target(self, machine: Machine) -> Target:
        """The environment or the interpreter.

        Raises:
            UnknownEnvironment: no environment has that name.
            TaskFailed: there is no Python for `system`.
            InvalidPlaybook: it is the Jupyter server's own environment, without `jupyter_server`.

        """
        if self.python is not None:
            python = machine.path(self.python)
            target = interpreters.target_of(machine, python, str(python))
        elif self.system:
            target = pip_targets.of_system(machine)
        else:
            name, prefix, _ = self.selected(machine)
            target = Target(prefix, prefix / "bin/python", name)
        if self.target is not None:
            return msgspec.structs.replace(target, location=machine.path(self.target))
        refuse_jupyter_server(machine, target.prefix, allowed=self.jupyter_server)
        return target

    def _claimed(self, target: Target, machine: Machine) -> list[PipRequirement]:
        """The named requirements whose marker holds in ``target``, for each Python that it may get."""
        wanted = self._wanted(machine)
        named = [requirement for requirement in wanted.wanted if requirement.name]
        if not (wanted.locks or any(requirement.marker for requirement in named)):
            return named
        return _applying_to_all(wanted, _marker_environments(target.version))

    def _foreseen(self, target: Target, wanted: RequirementSet, machine: Machine) -> PipState:
        """The state of an environment that an earlier task is about to create, or to give another Python.

        Raises:
            Blocked: a requested project or file is missing.

        """
        future = machine.foretold.get(target.prefix)
        if future is not None and target.location is not None:  # the environment's packages are not in the folder
            packages = {name: same_name[0].version or "" for name, same_name in target.installed().items()}
            future = Foretold(future.python, packages, future.whole)
        if future is not None and future.python is None:
            error = no_python(target)
            raise Inevitable(error.message, cause=error.cause, cure=error.cure) if future.whole else error
        environments = _marker_environments(future.python if future is not None else None)
        applying = _applying_to_all(wanted, environments)
        if self.state == "absent":
            applying = [entry for entry in applying if future is not None and entry.name in future.packages]
        else:
            pip_targets.check_places(applying, environments[0])
            if future is not None and self.state == "present":  # for `latest`, a future version may be too old
                applying = [entry for entry in applying if entry.url or not _has(future, entry)]
        needs = [
            Need(name=entry.name or entry.shown, reason="missing", expected=satisfied.expected(entry))
            for entry in applying
        ]
        return PipState(target=target, needs=tuple(needs))

    def foretells(self, plan: PipPlan, machine: Machine) -> dict[Path, Foretold]:
        """The future packages, except dependencies that were not resolved yet."""
        place = plan.target.place
        before = machine.foretold.get(place)
        if self.state == "absent" or before is None:
            return {}
        new = {distributions.normalized(change.target): "" for change in plan.changes}
        return {place: Foretold(before.python, {**new, **before.packages}, whole=False)}

    def _configured(self, target: Target, wanted: RequirementSet, machine: Machine) -> RequirementSet:
        """The requirements with the options of the configuration, which do not matter to a removal."""
        return wanted if self.state == "absent" else pip_engine.configured(machine, target.prefix, wanted)

    def _engine(self, machine: Machine, wanted: RequirementSet) -> Engine:
        return pip_engine.choose(machine, wanted if self.state != "absent" else RequirementSet(), self.engine)

    def _request(self, of: PipState | PipPlan, wanted: RequirementSet, reinstall: tuple[str, ...]) -> Request:
        """The install; with ``state: latest`` the named packages are upgraded."""
        target = of.target
        names = [requirement.name for requirement in wanted.wanted if requirement.name and not requirement.editable]
        return Request(
            prefix=target.prefix,
            python=target.python,
            lines=tuple(requirement.requirement for requirement in wanted.wanted),
            constraints=wanted.constraint_files,
            options=wanted.options,
            reinstall=reinstall,
            upgrade=tuple(names) if self.state == "latest" else (),
            managed=of.managed,
            folder=None if target.probed is None and target.location is None else target.folder,
            location=target.location,
        )

    def _shared(self, target: Target, names: Iterable[str], machine: Machine) -> Iterator[SharedFile]:
        """Damaged files that other places share: uv's cache, for which a file stands for itself, or environments."""
        others = [env.prefix for env in machine.conda.environments() if env.prefix != target.place]
        installed = target.installed()
        digests = machine.digests if self.deep else None
        for distribution in [entry for name in names for entry in installed.get(name, ())]:
            for file, elsewhere in distributions.harmed_elsewhere(distribution, others, digests):
                yield SharedFile(file, elsewhere)


def _marker_environments(version: str | None) -> list[dict[str, str]]:
    """The values of markers for a Python, or for each possible Python if its version is not known."""
    return [requirements.marker_environment(text) for text in ([version] if version else _POSSIBLE_PYTHONS)]


def _applying_to_all(wanted: RequirementSet, environments: Sequence[Mapping[str, str]]) -> list[PipRequirement]:
    """The packages of the locks and the requirements that apply in each of the environments."""
    common: list[PipRequirement] = []
    for lock in wanted.locks:
        applying = [set(map(id, lock.applying(markers))) for markers in environments]
        common += [entry.requirement for entry in lock.packages if all(id(entry) in each for each in applying)]
    loose = [entry for entry in wanted.wanted if all(requirements.applies(entry, markers) for markers in environments)]
    names = {entry.name for entry in common}
    return [*common, *(entry for entry in loose if entry.name not in names)]


def _names(wanted: RequirementSet) -> set[str]:
    """The names of all requirements and locked packages, whether or not they apply."""
    names = {requirement.name for requirement in wanted.wanted if requirement.name}
    return names.union(entry.name for lock in wanted.locks for entry in lock.packages)


def _has(future: Foretold, wanted: PipRequirement) -> bool:
    version = future.packages.get(wanted.name or "")
    return version is not None and (not version or satisfied.allowed(wanted.specifier, version))


def _is_coming(need: Need, future: Foretold, wanted: RequirementSet) -> bool:
    named = [requirement for requirement in wanted.all if requirement.name == need.name]
    if any(requirement.url for requirement in named):
        return False
    return need.name in future.packages and all(_has(future, requirement) for requirement in named)


def _removable(
    wanted: Iterable[PipRequirement], installed: satisfied.Installed, environment: Mapping[str, str]
) -> Iterator[Distribution]:
    for requirement in wanted:
        name = requirement.name or satisfied.by_source(requirement, installed)
        if name is not None and requirements.applies(requirement, environment):
            for distribution in installed.get(name, ()):
                if satisfied.allowed(requirement.specifier, distribution.version):
                    yield distribution


def _conflicts(target: Target) -> list[str]:
    return satisfied.conflicts(target.installed(), requirements.marker_environment(target.version or "3"))


def _paths_of(names: Iterable[str], installed: satisfied.Installed) -> list[Path]:
    return [distribution.path for name in names for distribution in installed.get(name, ())]


def _leaving(plan: PipPlan, installed: satisfied.Installed) -> set[Path]:
    """The folders of distributions that are removed or replaced."""
    names = {*plan.uninstall, *plan.replace, *plan.reinstall, *(change.target for change in plan.changes)}
    return {*plan.take_out, *_paths_of(names, installed)}


def _keep_newest(target: Target, names: Iterable[str]) -> None:
    """Keep the newer of two folders of one name, which remain if one RECORD lists files of the other."""
    installed = target.installed()
    for name in names:
        by_age = sorted((entry.path.stat().st_ctime_ns, entry.path) for entry in installed.get(name, ()))
        for _, path in by_age[:-1]:
            remove(path)


class WithPip(Task[State], Generic[State], frozen=True, kw_only=True):
    """A task that installs the packages of its parameters by a pip task, which answers for them."""

    @property
    def has_packages(self) -> bool:
        """Whether there are packages to install."""
        raise NotImplementedError

    def packages_in(self, env: str) -> PipPackages:
        """The pip task for an environment.

        Raises:
            ParameterError: the packages cannot be understood.

        """
        raise NotImplementedError

    def prefix(self, machine: Machine) -> Path:
        """The environment to install into.

        Raises:
            UnknownEnvironment: it does not exist.

        """
        raise NotImplementedError

    def pip(self, machine: Machine) -> PipPackages | None:
        """The pip task: the same object throughout a run, as the machine keeps notes by object."""
        if not self.has_packages:
            return None
        notes = machine.notes_of(self)
        if "pip" not in notes:
            notes["pip"] = self.packages_in(str(self.prefix(machine)))
        task: PipPackages = notes["pip"]
        return task

    def _all(self, machine: Machine, question: Callable[[PipPackages], Iterable[Answer]]) -> list[Answer]:
        pip = self.pip(machine)
        return [] if pip is None else list(question(pip))

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The packages."""
        return frozenset(self._all(machine, lambda pip: pip.provides(machine)))

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment, and the configuration of indexes."""
        return frozenset(self._all(machine, lambda pip: pip.requires(machine)))

    def claims(self, machine: Machine) -> Iterable[Claim]:
        """The packages."""
        return self._all(machine, lambda pip: pip.claims(machine))

    def objection(self, claim: Claim, machine: Machine) -> str | None:
        """The objection of the pip task."""
        pip = self.pip(machine)
        return None if pip is None else pip.objection(claim, machine)

    def lock_requests(self, machine: Machine) -> Iterable[LockRequest]:
        """The packages."""
        return self._all(machine, lambda pip: pip.lock_requests(machine))

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment, if packages are installed."""
        return self._all(machine, lambda pip: pip.guarded(machine))

    def inputs(self, machine: Machine) -> Iterable[Input]:
        """Requirements files, wheels and projects given by path."""
        return self._all(machine, lambda pip: pip.inputs(machine))

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The witnesses of the packages."""
        return self._all(machine, lambda pip: pip.witnesses(machine))

    def ages(self, machine: Machine) -> float | None:
        """Seconds for which the packages count as the newest."""
        pip = self.pip(machine)
        return None if pip is None else pip.ages(machine)

    def read_packages(self, machine: Machine) -> PipState | None:
        """The state of the packages; None without any."""
        pip = self.pip(machine)
        return None if pip is None else pip.read(machine)

    def plan_packages(self, state: PipState | None) -> Plan:
        """The plan for the packages."""
        return Plan() if state is None else self.packages_in("/").plan(state)

    def apply_packages(self, plan: Plan, machine: Machine) -> list[Change]:
        """Carry out the plan of `plan_packages`; the changes."""
        pip = self.pip(machine)
        return list(pip.apply(plan, machine)) if pip is not None and isinstance(plan, PipPlan) and plan else []

"""Python distributions in conda and virtual environments, installed by uv or pip: what several kinds of task do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nbprovision.indexes import index_settings
from nbprovision.machine import distributions, interpreters, removed_code, shared_files
from nbprovision.machine.distributions import Distribution
from nbprovision.machine.env_selection import PackageSelection
from nbprovision.machine.environments import is_environment
from nbprovision.machine.image import permitted, refuse_jupyter_server
from nbprovision.machine.interpreters import Target, is_managed, no_python
from nbprovision.machine.machine import Machine
from nbprovision.machine.shared_files import Shared
from nbprovision.model.errors import FETCH_FIRST, URL_FOR_PATH, Inevitable, ParameterError, TaskFailed
from nbprovision.model.relations import AnyOf, Excludes, OneOf
from nbprovision.model.result import Change
from nbprovision.model.task import DAY, Claim, Foretold, Input, Resource, Strings, as_list, parameter
from nbprovision.pip import engine as pip_engine
from nbprovision.pip import other_index, pip_command, requirements, requirements_files, satisfied, uv_command
from nbprovision.pip import targets as pip_targets
from nbprovision.pip.engine import Engine
from nbprovision.pip.guard import Answer, PipGuard, known_prefix
from nbprovision.pip.plan import change_of, install, removal, unseen
from nbprovision.pip.request import Move, Request
from nbprovision.pip.requirements import PipRequirement
from nbprovision.pip.requirements_files import RequirementSet
from nbprovision.pip.satisfied import Need
from nbprovision.pip.state import PipPlan, PipState
from nbprovision.system import secrets, unfinished
from nbprovision.system.files import remove

# Pythons that an environment which is not made yet may turn out to have.
_CONCEIVABLE = ("3.8.20", "3.9.21", "3.10.16", "3.11.11", "3.12.8", "3.13.1", "3.14.0", "3.15.0")


class PipPackages(PackageSelection[PipState], frozen=True, kw_only=True):
    """The parameters and steps of `ensure_pip_pkg`, for other tasks that install something by the way."""

    relations = (
        AnyOf(("packages", "requirements")),
        OneOf(("env", "envs", "python", "system"), cure_missing="name the environment to install into"),
        Excludes("state", "absent", ("constraints",)),
        OneOf(("target", "envs"), required=False, cure="`target` is for one Python: name it by `env`"),
        *PackageSelection.relations,
    )
    with_python = True

    packages: Annotated[
        Strings | None,
        parameter(
            "Requirements: `requests`, `requests[socks]>=2.31,<3`, `name @ URL`, `./a.whl`, `-e /a/folder`, "
            "`git+https://...`; with `; marker` behind them.",
            extra={"path": requirements.anchored},
        ),
    ] = None
    requirements: Annotated[
        Strings | None,
        parameter(
            "Requirements files, with all that pip allows in them.", extra={"path": True, "document": "requirements"}
        ),
    ] = None
    constraints: Annotated[
        Strings | None,
        parameter(
            "Constraints files: what version may be installed of a package, if it is.",
            extra={"path": True, "document": "requirements"},
        ),
    ] = None
    python: Annotated[
        str | None, parameter("Path of an interpreter, in place of `env`: `.venv/bin/python`.", extra={"path": True})
    ] = None
    system: Annotated[
        bool,
        parameter("The Python that `pip install` means where no environment is active, in place of `env`."),
    ] = False
    target: Annotated[
        str | None,
        parameter(
            "A folder that gets the packages, as with pip's `--target`; for the Python of `env`, `python` or `system`.",
            extra={"path": True},
        ),
    ] = None
    state: Annotated[
        Literal["present", "latest", "absent"],
        parameter(
            "`latest` keeps what is named at the newest version that fits, looked up once a day or as `refresh_every` "
            "says; `absent` uninstalls, with a version behind a name only if that one is there."
        ),
    ] = "present"
    engine: Annotated[
        Literal["auto", "uv", "pip"], parameter("Who installs: uv, pip, or (`auto`) uv where it can.")
    ] = "auto"

    @property
    def names_one(self) -> bool:
        """Whether an environment or an interpreter is named."""
        return self.env is not None or self.python is not None or self.system

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        for key in ("requirements", "constraints"):
            for text in as_list(getattr(self, key)):
                if "://" in text:
                    raise ParameterError(
                        key, f"'{key}' cannot be '{secrets.mask(text)[:80]}'", cause=URL_FOR_PATH, cure=FETCH_FIRST
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
        names = {wanted.name for wanted in self._asked(machine).wanted if wanted.name}
        place = self._target(machine).place
        return frozenset(Resource("distribution", f"{place} {name}") for name in names)

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment, and every index configuration that says where packages come from."""
        prefix = self._target(machine).prefix
        files = index_settings.pip_files(machine.env, machine.user_home, prefix, machine.root)
        return frozenset({Resource("environment", str(prefix)), *(Resource("index", str(path)) for path in files)})

    def claims(self, machine: Machine) -> Iterator[Claim]:
        """What it wants in its environment. A condition that a Python yet to come decides is no claim."""
        target = self._target(machine)
        for wanted in self._claimed(target, machine):
            origin = f" @ {secrets.without_password(wanted.url)}" if wanted.url else wanted.specifier
            extras = f"[{','.join(wanted.extras)}]" if wanted.extras else ""
            yield Claim(target.place, f"{wanted.name}{extras}{origin}", self.state == "absent")

    def objection(self, claim: Claim, machine: Machine) -> str | None:
        """Another task's wish for a version of the same distribution that can never be what this one wants."""
        target = self._target(machine)
        if target.place != claim.prefix:
            return None
        theirs = requirements.parse(claim.requirement)
        for mine in self._claimed(target, machine):
            if mine.name != theirs.name:
                continue
            absent = self.state == "absent"
            if absent != claim.absent and not requirements.incompatible(mine, theirs):
                return f"'{mine.shown}' is {'to be absent' if absent else 'wanted'} there"
            if not absent and not claim.absent and requirements.incompatible(mine, theirs):
                return f"'{mine.shown}' is wanted there"
        return None

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment, or the folder that gets the packages in place of one."""
        return [self._target(machine).place]

    def read(self, machine: Machine) -> PipState:
        """What of the requirements is not there; where something is missing, what the installer would do about it.

        Raises:
            UnknownEnvironment: there is no such environment.
            TaskFailed: it cannot be installed into, or no versions satisfy the requirements.
        """
        asked, target = self._asked(machine), self._target(machine)
        prefix, version = target.prefix, target.version
        managed = is_managed(target) if target.location is None else False
        if version is None or not target.runs:
            by_glob = self.env is not None and self.selected(machine).by_glob
            if by_glob and is_environment(prefix) and not machine.is_unfinished(prefix):
                return PipState(target=target)  # `all` meant it while it was not known to get no Python
            if prefix not in machine.declared.values():
                raise pip_targets.no_target(target)
            return self._foreseen(target, asked, machine)
        coming = machine.foretold.get(prefix) if target.location is None else None
        if coming is not None and coming.python and coming.python.split(".")[:2] != version.split(".")[:2]:
            return self._foreseen(target, asked, machine)  # what pip brought stays behind with the Python before
        pip_targets.refuse_other_builds(target)
        pip_targets.refuse_editable(target, asked.wanted)
        found = target.found()
        environment = requirements.marker_environment(version)
        before = machine.notes_of(self).get("conflicts before")
        conflicts = () if before is None else tuple(text for text in _conflicts(target) if text not in before)
        if self.state == "absent":
            removable = tuple(_removable(asked, found, environment))
            if removable:
                pip_targets.check_rights(target)
                PipGuard(machine, target, allowed=self.allow_platform_changes).refuse_removal(removable)
            return PipState(target=target, removable=removable, conflicts=conflicts, managed=managed)
        asked = self._configured(target, asked, machine)
        suspect = target.place in machine.suspect or machine.is_unfinished(target.place)
        needs = satisfied.unsatisfied(
            asked.wanted,
            asked.constraints,
            found,
            environment,
            files=suspect or self.deep,
            torn=suspect,
            digests=machine.digests if self.deep else None,
        )
        if coming is not None:  # what conda brings before it is this task's turn
            needs = [need for need in needs if need.reason != "missing" or not _will_be_there(need, coming, asked)]
        debris = [one for every in found.values() for one in every if not one.has_metadata] if needs or suspect else []
        engine = self._engine(machine, asked) if needs or self.state == "latest" else None
        if engine is not None:
            pip_targets.check_rights(target)
            pip_targets.check_places(asked.wanted, environment)
        answer = Answer(moves=None, pins=tuple(need.pin for need in needs if need.pin))
        told = True
        elsewhere: tuple[str, ...] = ()
        if engine is not None:
            guard = PipGuard(machine, target, allowed=self.allow_platform_changes)
            if not self.allow_platform_changes:
                answer = msgspec.structs.replace(answer, constraints=guard.constraints())
            # Who installs says what it has done, and need not be asked before where nothing can be in the way.
            plain = engine is uv_command and self.state == "present" and all(need.reason == "missing" for need in needs)
            told = bool(debris) or not (plain and machine.applies and guard.needless)
        if engine is not None and not debris and told:
            machine.progress(f"looking for versions for {target.name}")
            request = self._upgrading(_request(target, asked, unseen(needs), managed=managed))
            applying = [wanted for wanted in asked.wanted if requirements.applies(wanted, environment)]
            answer = guard.work_out(engine, request, () if request.upgrade else answer.pins, applying, needs)
            if answer.moves is None and request.upgrade:
                raise TaskFailed(
                    f"the pip of {target.name} cannot say whether there is something newer",
                    cause="it is older than 22.2",
                    cure="leave `engine` to `auto`, or upgrade pip in the environment",
                )
            # An engine would put an editable one in place again each time.
            settled = {wanted.name for wanted in applying if wanted.editable} - {need.name for need in needs}
            moves = [one for one in answer.moves or () if one.name not in settled or one.before != one.after]
            answer = msgspec.structs.replace(answer, moves=None if answer.moves is None else moves)
            if engine is uv_command and (self.state == "latest" or not machine.applies):
                request = guard.hold(request) if answer.constraints else request
                others = other_index.best(machine, request)
                elsewhere = tuple(other_index.notes(machine, request, answer.moves or (), others))
            elif engine is pip_command and self.engine == "auto":
                elsewhere = other_index.by_pip(machine, request)
        return PipState(
            target=target,
            needs=tuple(needs),
            elsewhere=elsewhere,
            debris=tuple(debris),
            moves=None if answer.moves is None else tuple(answer.moves),
            told=told,
            pins=answer.pins,
            constraints=answer.constraints,
            conflicts=conflicts,
            managed=managed,
            by_pip=engine is pip_command,
        )

    def plan(self, state: PipState) -> PipPlan:
        """Compare what is there with what is asked for."""
        return removal(state) if self.state == "absent" else install(state)

    def apply(self, plan: PipPlan, machine: Machine) -> Sequence[Change]:
        """Take out what is in the way, then install or uninstall.

        Returns:
            What was done, as far as the engine tells; else what was planned.

        """
        provided = known_prefix(machine, plan.target.place)
        with permitted(machine, provided, allowed=self.allow_platform_changes):
            moves = self._carry_out(plan, machine)
        return [change_of(move) for move in moves] if moves and not plan.told else plan.changes

    def _carry_out(self, plan: PipPlan, machine: Machine) -> Sequence[Move] | None:
        """Carry out a plan; what was installed, as far as the engine tells."""
        moves: Sequence[Move] | None = None
        asked, target = self._asked(machine), plan.target
        prefix = target.prefix if target.location is None else target.location
        if not os.access(target.python, os.X_OK):
            raise no_python(target)
        machine.notes_of(self)["conflicts before"] = frozenset(_conflicts(target))
        guard = PipGuard(machine, target, allowed=self.allow_platform_changes)
        found = target.found()
        # No engine uninstalls from a folder that is no environment.
        by_hand = (*plan.replace, *(plan.uninstall if target.location is not None else ()))
        traces = None if target.folder is None else removed_code.traces(target.folder, _leaving(plan, found))
        for folder in (*plan.take_out, *(one.path for name in by_hand for one in found.get(name, ()))):
            removed_code.remove_distribution(prefix, folder)
        asked = self._configured(target, asked, machine)
        engine = self._engine(machine, asked)
        if plan.uninstall and target.location is None:
            machine.progress(f"uninstalling {', '.join(plan.uninstall)} from {target.name}")
            engine.uninstall(machine, prefix, plan.uninstall, python=target.python, managed=plan.managed)
        if plan.install:
            machine.progress(f"installing into {target.name}")
            request = self._upgrading(_request(target, asked, plan.reinstall, managed=plan.managed))
            shared = list(self._shared(target, plan.reinstall, machine))
            if shared and engine is uv_command:
                uv_command.evict(machine, plan.reinstall, prefix)
            if plan.constraints:
                request = guard.hold(request)
            moves = pip_engine.perform(machine, engine, request.pinned(plan.pins))
            _keep_newest(target, plan.reinstall)
            shared_files.mend(one for one in shared if one.elsewhere != one.file)
        if traces is not None:
            removed_code.tidy_traces(traces)
        return moves

    def witnesses(self, machine: Machine) -> Iterator[Path]:
        """Files that say what is asked for; the interpreter and the distributions' folders."""
        asked = self._asked(machine)
        yield from asked.files
        local = [requirements.local_path(wanted) for wanted in asked.wanted]
        yield from (path for path in local if path is not None)
        if self.system:
            yield from interpreters.system_witnesses(machine)
        target = self._target(machine)
        yield from (target.python, target.place / unfinished.MARK, target.folder or target.prefix / "lib")
        if self.state != "absent":
            yield from self._configured(target, asked, machine).files
            if any(wanted.editable for wanted in asked.wanted):
                yield target.prefix / "src"  # of clones
            yield from index_settings.pip_files(machine.env, machine.user_home, target.prefix, machine.root)
        names = {wanted.name for wanted in asked.wanted if wanted.name}
        found = target.found(names)
        yield from (one.path for name in sorted(names) for one in found.get(name, ()))

    def ages(self, machine: Machine) -> float | None:
        """What is the newest version today need not be tomorrow."""
        return DAY if self.state == "latest" and self.refresh_every is None else None

    def inputs(self, machine: Machine) -> Iterator[Input]:
        """Requirements and constraints files with those that they name, wheels and projects given by path."""
        for key, named in (
            ("requirements", requirements_files.named((), self._paths(self.requirements, machine), ())),
            ("constraints", requirements_files.named((), (), self._paths(self.constraints, machine))),
            ("packages", requirements_files.named(as_list(self.packages), (), ())),
        ):
            yield from (Input(path, key, position) for path, position in named.items())

    @staticmethod
    def _paths(texts: Strings | None, machine: Machine) -> list[Path]:
        return [machine.path(text) for text in as_list(texts)]

    def _asked(self, machine: Machine) -> RequirementSet:
        return requirements_files.read(
            as_list(self.packages),
            self._paths(self.requirements, machine),
            self._paths(self.constraints, machine),
            machine.env,
        )

    def _target(self, machine: Machine) -> Target:
        """The environment or the interpreter.

        Raises:
            UnknownEnvironment: there is none of that name.
            TaskFailed: there is no Python that `system` could mean.
            InvalidPlaybook: it is the Jupyter server's own, and nothing says that this is meant.

        """
        if self.python is not None:
            python = machine.path(self.python)
            target = interpreters.of_python(machine, python, str(python))
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
        """The named requirements whose marker holds in ``target``, whatever Python it may yet get."""
        named = [wanted for wanted in self._asked(machine).wanted if wanted.name]
        if not any(wanted.marker for wanted in named):
            return named
        version = target.version
        environments = [requirements.marker_environment(text) for text in ([version] if version else _CONCEIVABLE)]
        return [wanted for wanted in named if all(requirements.applies(wanted, one) for one in environments)]

    def _foreseen(self, target: Target, asked: RequirementSet, machine: Machine) -> PipState:
        """The state of an environment that an earlier task is about to make, or to give another Python.

        Raises:
            Blocked: a project or file that is asked for is missing.

        """
        coming = machine.foretold.get(target.prefix)
        if coming is not None and target.location is not None:  # what the environment gets is not in the folder
            packages = {name: several[0].version or "" for name, several in target.found().items()}
            coming = Foretold(coming.python, packages, coming.whole)
        if coming is not None and coming.python is None:
            error = no_python(target)
            raise Inevitable(error.message, cause=error.cause, cure=error.cure) if coming.whole else error
        versions = [coming.python] if coming is not None and coming.python else list(_CONCEIVABLE)
        environments = [requirements.marker_environment(version) for version in versions]
        wanted = [one for one in asked.wanted if all(requirements.applies(one, marks) for marks in environments)]
        if self.state == "absent":
            there = [one for one in wanted if coming is not None and one.name in coming.packages]
            return PipState(target=target, needs=tuple(_missing(one) for one in there))
        pip_targets.check_places(wanted, environments[0])
        if self.state == "latest":  # what comes need not be the newest
            coming = None
        needs = [_missing(one) for one in wanted if coming is None or one.url or not _has(coming, one)]
        return PipState(target=target, needs=tuple(needs))

    def foretells(self, plan: PipPlan, machine: Machine) -> dict[Path, Foretold]:
        """The packages that come, but for those that others only depend on and nobody has looked up yet."""
        place = plan.target.place
        before = machine.foretold.get(place)
        if self.state == "absent" or before is None:
            return {}
        brought = {distributions.normalized(change.target): "" for change in plan.changes}
        return {place: Foretold(before.python, {**brought, **before.packages}, whole=False)}

    def _upgrading(self, request: Request) -> Request:
        """With `state: latest`: what is asked for by name moves to its newest version."""
        if self.state != "latest":
            return request
        names = [requirements.parse(line).name for line in request.lines if not line.startswith("-")]
        return msgspec.structs.replace(request, upgrade=tuple(name for name in names if name))

    def _configured(self, target: Target, asked: RequirementSet, machine: Machine) -> RequirementSet:
        """What is asked for, and what the configuration says of every install there; to remove takes none of it."""
        return asked if self.state == "absent" else pip_engine.configured(machine, target.prefix, asked)

    def _engine(self, machine: Machine, asked: RequirementSet) -> Engine:
        return pip_engine.choose(machine, asked if self.state != "absent" else RequirementSet(), self.engine)

    def _shared(self, target: Target, names: Iterable[str], machine: Machine) -> Iterator[Shared]:
        """Harmed files that something shares: uv's cache at least, where a file stands for itself, or environments."""
        others = [found.prefix for found in machine.conda.environments() if found.prefix != target.place]
        found = target.found()
        for one in [one for name in names for one in found.get(name, ())]:
            digests = machine.digests if self.deep else None
            for file, elsewhere in distributions.harmed_elsewhere(one, others, digests):
                yield Shared(file, elsewhere)


def _missing(wanted: PipRequirement) -> Need:
    return Need(name=wanted.name or wanted.shown, reason="missing", expected=satisfied.expected(wanted))


def _has(coming: Foretold, wanted: PipRequirement) -> bool:
    version = coming.packages.get(wanted.name or "")
    return version is not None and (not version or satisfied.allowed(wanted.specifier, version))


def _will_be_there(need: Need, coming: Foretold, asked: RequirementSet) -> bool:
    named = [wanted for wanted in asked.wanted if wanted.name == need.name]
    if any(wanted.url for wanted in named):
        return False
    return need.name in coming.packages and all(_has(coming, wanted) for wanted in named)


def _removable(
    asked: RequirementSet, found: satisfied.Installed, environment: Mapping[str, str]
) -> Iterator[Distribution]:
    for wanted in asked.wanted:
        name = wanted.name or satisfied.by_source(wanted, found)
        if name is not None and requirements.applies(wanted, environment):
            yield from (one for one in found.get(name, ()) if satisfied.allowed(wanted.specifier, one.version))


def _conflicts(target: Target) -> list[str]:
    return satisfied.conflicts(target.found(), requirements.marker_environment(target.version or "3"))


def _request(target: Target, asked: RequirementSet, reinstall: tuple[str, ...], *, managed: bool) -> Request:
    return Request(
        prefix=target.prefix,
        python=target.python,
        lines=tuple(wanted.requirement for wanted in asked.wanted),
        constraints=asked.constraint_files,
        options=asked.options,
        reinstall=reinstall,
        managed=managed,
        folder=None if target.probed is None and target.location is None else target.folder,
        location=target.location,
    )


def _leaving(plan: PipPlan, found: Mapping[str, Sequence[Distribution]]) -> set[Path]:
    """The folders of distributions that go or change."""
    names = {*plan.uninstall, *plan.replace, *plan.reinstall, *(change.target for change in plan.changes)}
    return {*plan.take_out, *(one.path for name in names for one in found.get(name, ()))}


def _keep_newest(target: Target, names: Iterable[str]) -> None:
    """Of two folders that are left of one name (one RECORD names files of the other) keep the one just written."""
    found = target.found()
    for name in names:
        written = sorted((one.path.stat().st_ctime_ns, one.path) for one in found.get(name, ()))
        for _, path in written[:-1]:
            remove(path)

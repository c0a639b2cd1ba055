"""A conda environment: there or not, with packages that satisfy match specs, an ordinary one for every conda tool."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nbprovision.backends import conda_prefix, rattler, shared_files
from nbprovision.backends.shared_files import Shared
from nbprovision.facts import conda_guard, conda_health, cuda, distributions, environment_file, terms
from nbprovision.facts import unasked as unasked_facts
from nbprovision.facts.conda import MADE_BY_US, META, CondaRecord, installed, is_environment
from nbprovision.facts.conda_health import Details
from nbprovision.facts.conda_specs import Spec, conflicts, parse, satisfied
from nbprovision.facts.environment_file import EnvironmentFile
from nbprovision.facts.file_digests import Digests
from nbprovision.facts.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.result import Change
from nbprovision.model.task import DAY, Claim, Resource, Strings, Task, as_list, parameter
from nbprovision.system import secrets, unfinished
from nbprovision.tasks.conda_env_state import EnvPlan, EnvState, holds, other_changes, package_changes, same

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_RESERVED = ("base", "root")  # conda's own names of an installation


class EnsureCondaEnv(Task[EnvState], frozen=True, kw_only=True):
    """Make a conda environment and keep in it what is asked for; what else is in it stays.

    The packages come from the first channel that has them, by conda's own rules; what is installed moves only as far as
    a spec asks for it.
    """

    name: Annotated[
        str | None,
        parameter("The environment by name: the one that conda means by it, else a new one in the platform's folder."),
    ] = None
    prefix: Annotated[str | None, parameter("The environment by path, instead of a name.", extra={"path": True})] = None
    packages: Annotated[
        Strings, parameter("Match specs as conda writes them: `python=3.12`, `numpy>=2,<3`, `conda-forge::gdal`.")
    ] = msgspec.field(default_factory=list)
    channels: Annotated[
        Strings,
        parameter(
            "Channels by name, URL or path, the preferred one first. Default: those of `.condarc`, else conda-forge.",
            extra={"path": "if-dot"},
        ),
    ] = msgspec.field(default_factory=list)
    file: Annotated[
        str | None, parameter("An `environment.yml` that says more of it, a pip section too.", extra={"path": True})
    ] = None
    state: Annotated[Literal["present", "absent"], parameter("Whether the environment is to be there.")] = "present"
    exact: Annotated[
        bool,
        parameter(
            "Remove what neither this task nor a pip task of the playbook asked for, and nothing asked for needs."
        ),
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
    engine: Annotated[
        Literal["auto", "rattler", "conda", "mamba"],
        parameter("What solves and installs: `auto` and `rattler` are the built-in engine."),
    ] = "auto"

    def __post_init__(self) -> None:
        if self.name is not None and self.prefix is not None:
            raise ParameterError("prefix", "name and prefix are two ways to say one thing", cure="give one of them")
        if self.name is None and self.prefix is None and self.file is None:
            raise ParameterError("name", "an environment of what name?", cure="give name or prefix")
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise ParameterError(
                "name",
                f"'{self.name[:60]}' cannot be the name of an environment",
                cure="use letters, digits and . _ + - ; for a path give prefix",
            )
        if self.engine in ("conda", "mamba"):
            raise ParameterError(
                "engine", f"this version cannot work by {self.engine} yet", cure="leave engine out, or write auto"
            )
        if self.state == "absent" and (self.packages or self.file):
            raise ParameterError(
                "state", "an environment that is to be absent has no packages", cure="leave packages and file out"
            )
        if self.state == "absent" and (self.exact or self.update == "latest"):
            raise ParameterError(
                "exact" if self.exact else "update",
                "an environment that is to be absent has no packages",
                cure="leave it out",
            )
        if self.cuda is not None and not re.fullmatch(r"none|[0-9]+(\.[0-9]+)?", self.cuda):
            raise ParameterError("cuda", f"'{self.cuda[:40]}' is no version of CUDA", cure='write "12.4", or none')
        for text in as_list(self.packages):
            _spec(text)

    # ------------------------------------------------------------------------------------------ what the user wrote

    def _file(self) -> EnvironmentFile | None:
        return environment_file.read(Path(self.file)) if self.file is not None else None

    def _specs(self, file: EnvironmentFile | None) -> list[Spec]:
        texts = [*as_list(self.packages), *(file.packages if file else ())]
        return [_spec(text) for text in dict.fromkeys(texts)]

    def _identity(self, machine: Machine, file: EnvironmentFile | None = None) -> tuple[str, Path]:
        """Name and prefix; a name or prefix in the file counts where the task gives none."""
        prefix, name = self.prefix, self.name
        if prefix is None and name is None:
            file = file or self._file()
            prefix, name = (file.prefix, file.name) if file else (None, None)
            if prefix is None and (name is None or not _NAME.fullmatch(name)):
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

    def _channels(self, machine: Machine, file: EnvironmentFile | None, specs: Iterable[Spec]) -> list[str]:
        asked = as_list(self.channels) or list(file.channels if file else ())
        named = [spec.channel.partition("[")[0] for spec in specs if spec.channel]
        urls = machine.conda.channels(asked)
        return list(dict.fromkeys([*urls, *(url for name in named for url in machine.conda.condarc.urls(name))]))

    # ------------------------------------------------------------------------------------ its place among other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The environment."""
        return frozenset({Resource("environment", str(self._identity(machine)[1]))})

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The configuration of conda, and the channels that are folders of this machine."""
        configuration = frozenset(Resource("condarc", str(place)) for place in machine.conda.condarc_places)
        if self.state == "absent":
            return configuration
        file = self._file()
        urls = self._channels(machine, file, self._specs(file))
        return configuration | {Resource("channel", _path_of(url)) for url in urls if url.startswith("file://")}

    def declares(self, machine: Machine) -> dict[str, Path]:
        """The name, for later tasks."""
        if self.state == "absent":
            return {}
        name, prefix = self._identity(machine)
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

    def _claimed(self, machine: Machine, prefix: Path) -> frozenset[str]:
        """Names of the distributions that are pip's business in the environment."""
        claims = {*machine.claims_on(prefix), *self.claims(machine)}
        return frozenset(conda_health.distribution_of(claim.requirement) for claim in claims)

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment; one that goes does so in a single step."""
        return () if self.state == "absent" else (self._identity(machine)[1],)

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
        leftovers = tuple(conda_health.leftovers(prefix))
        listed = prefix in machine.conda.registered
        if self.state == "absent":
            conda_guard.refuse_removal(machine.conda, prefix)
            return EnvState(
                name=name, there=prefix.is_dir() or prefix.is_symlink(), unregistered=not listed, leftovers=leftovers
            )
        conda_guard.refuse_foreign(prefix)
        specs = self._specs(file)
        records = installed(prefix)
        torn = conda_health.torn(records)
        sound = [record for record in records if record not in torn]
        missing = tuple(spec.text for spec in specs if not satisfied(spec, sound, machine.conda.condarc))
        broken, strays = self._harm(machine, prefix, sound, specs)
        for record in torn:
            broken[record.name] = f"its record {record.path.name} is torn"
        suspect = machine.is_unfinished(prefix)
        details: dict[str, Details] = {}
        solution = None
        latest = self.update == "latest" and bool(specs)
        warnings = machine.conda.condarc.warnings + terms.notes(machine, self._channels(machine, file, specs))
        for_cuda = cuda.wanted(self.cuda, machine.env, machine.root)
        before = conda_prefix.solved_for_cuda(prefix)
        moved = there and before not in (None, for_cuda)
        if missing or broken or suspect or latest or self.exact or moved:
            details = conda_health.all_details(sound)
        claims = [*machine.claims_on(prefix), *self.claims(machine)]
        superfluous = self._superfluous(machine, prefix, specs, details) if self.exact else []
        incomplete = suspect and conda_health.incomplete(details, sound, machine.conda.condarc)
        amiss = bool(missing or broken or superfluous or incomplete)
        if amiss or latest or moved:
            try:
                solution = self._solve(machine, prefix, specs, missing, details, torn, sound, file, other_builds=moved)
            except TaskFailed as error:
                if amiss or latest:
                    raise
                moved = False  # what is there works as it is, with its kernel; the next run asks again
                warnings += (f"solved for CUDA '{before}', not for '{for_cuda}': {error.message}",)
            if solution is not None and (latest or moved) and not amiss and holds(solution, details):
                solution.close()
                solution = None
        if solution is not None:
            coming = {package.name for package in solution.packages} - details.keys()
            strays += conda_health.in_the_way(prefix, coming, apart_from=self._claimed(machine, prefix))
        unasked = (
            unasked_facts.by_pip(prefix, claims, set(map(distributions.normalized, details))) if self.exact else []
        )
        set_now = conda_health.variables(prefix) if file and file.variables else {}
        return EnvState(
            name=name,
            there=there,
            suspect=suspect,
            records=tuple(records),
            installed=details,
            torn=tuple(torn),
            missing=missing,
            broken=broken,
            strays=tuple(strays),
            unasked=tuple(unasked),
            shared=tuple(self._shared(machine, prefix, sound, broken)) if broken else (),
            solution=solution,
            untold=conda_health.history_lacks(prefix, records, empty_only=not suspect),
            unregistered=machine.conda.condarc.register_envs and not listed,
            cuda=(before, for_cuda) if moved else None,
            variables={
                key: (set_now.get(key), value)
                for key, value in (file.variables if file else {}).items()
                if set_now.get(key) != value
            },
            leftovers=leftovers,
            pip=tuple(
                environment_file.pip_needs(
                    file, prefix, machine.env, files=suspect or self.deep, digests=self._digests(machine)
                )
            )
            if file
            else (),
            warnings=warnings,
        )

    def _solve(
        self,
        machine: Machine,
        prefix: Path,
        specs: list[Spec],
        missing: Collection[str],
        details: dict[str, Details],
        torn: list[CondaRecord],
        sound: list[CondaRecord],
        file: EnvironmentFile | None,
        *,
        other_builds: bool,
    ) -> rattler.Solution:
        claimed = self._claimed(machine, prefix)
        unlocked = [spec.name for spec in specs if spec.text in missing]
        moving = [spec.name for spec in specs] if self.update == "latest" else unlocked
        solution = rattler.solve(
            machine,
            [rattler.exact_question(machine, prefix, specs, self._kept(machine, prefix, details), claimed)]
            if self.exact
            else rattler.questions(machine, prefix, specs, details, torn, claimed),
            self._channels(machine, file, specs),
            [record.path for record in sound if record.name in details],
            unlocked=moving,
            other_builds=other_builds,
            variables=cuda.told_to_solver(self.cuda, machine.env),
        )
        kept = [one.name for one in solution.packages if one.name in details and same(details[one.name], one)]
        stuck = [name for name in unlocked if name in kept]
        if stuck:
            raise TaskFailed(
                f"the solver keeps {', '.join(stuck)} as it is, and that is not what is asked for",
                cure="write the spec another way, or name the version that you want",
            )
        return solution

    def _kept(self, machine: Machine, prefix: Path, details: dict[str, Details]) -> list[str]:
        """Packages that an exact environment keeps for the sake of pip tasks."""
        claimed = self._claimed(machine, prefix)
        means = {"python", "pip"} if claimed else set()
        return [name for name in details if name in means or distributions.normalized(name) in claimed]

    def _superfluous(self, machine: Machine, prefix: Path, specs: list[Spec], details: dict[str, Details]) -> list[str]:
        """Packages that nobody asked for.

        Raises:
            TaskFailed: the platform provides the environment, and would miss what it brings.

        """
        asked = [*(spec.name for spec in specs), *self._kept(machine, prefix, details)]
        found = unasked_facts.packages(details, asked)
        if found and any(one.prefix == prefix and one.provided for one in machine.conda.environments()):
            raise TaskFailed(
                f"exact would remove {len(found)} packages that the platform's image brings: {', '.join(found[:5])}",
                cure="leave exact out, or make an environment of your own",
            )
        return found

    def _harm(
        self, machine: Machine, prefix: Path, records: list[CondaRecord], specs: list[Spec]
    ) -> tuple[dict[str, str], list[Path]]:
        """Packages to put in place anew and why, and what pip left in their place.

        In an environment that others made only what the task names is looked at: an image's maker may have put packages
        in place by pip on purpose.
        """
        claimed = self._claimed(machine, prefix)
        broken: dict[str, str] = {}
        strays: list[Path] = []
        ours = (prefix / META / MADE_BY_US).exists()
        names = {spec.name for spec in specs}
        subject = records if ours else [record for record in records if record.name in names]
        if conda_health.interpreter_missing(prefix, records):
            broken["python"] = "bin/python leads nowhere"
        for package, drift in conda_health.drifts(prefix, subject, apart_from=claimed):
            broken[package] = drift.reason
            strays += drift.strays
        if self.deep or machine.is_unfinished(prefix):
            digests = self._digests(machine)
            for record in records:
                if record.name not in broken and distributions.normalized(record.name) not in claimed:
                    reason = conda_health.broken_file(prefix, record, digests=digests, records=records)
                    if reason:
                        broken[record.name] = reason
        return broken, strays

    def _digests(self, machine: Machine) -> Digests | None:
        return machine.digests if self.deep else None

    def _shared(
        self, machine: Machine, prefix: Path, records: Iterable[CondaRecord], broken: Collection[str]
    ) -> Iterable[Shared]:
        """Files of broken packages that other environments share, and with them the harm."""
        others = [found.prefix for found in machine.conda.environments() if found.prefix != prefix]
        for record in records:
            if record.name in broken:
                found = conda_health.harmed_elsewhere(prefix, record, others, self._digests(machine))
                yield from (Shared(*places) for places in found)

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
            changes.append(Change(action="create", target=state.name, after="present"))
        if state.solution is not None:
            changes += package_changes(state, state.solution.packages)
        elif state.there and state.untold:
            changes.append(Change(action="record", target=f"{META}/history", after="what is installed"))
        changes += other_changes(state)
        if state.unregistered:
            changes.append(Change(action="register", target=state.name, after="environments.txt"))
        beside = {change.action for change in changes} <= {"register", "clean"}
        return EnvPlan(changes=tuple(changes), warnings=state.warnings, beside=beside, state=state)

    def apply(self, plan: EnvPlan, machine: Machine) -> None:
        """Put packages in place, then tell conda of it."""
        state = plan.state
        file = self._file()
        _, prefix = self._identity(machine, file)
        for path in state.leftovers:
            conda_prefix.remove_leftover(path)
        if self.state == "absent":
            if state.there:
                conda_prefix.remove_prefix(prefix)
            conda_prefix.unregister(machine.conda, prefix)
            return
        mark = unfinished.read_mark(prefix)
        if mark is not None and mark.made and not (prefix / META / MADE_BY_US).exists():
            conda_prefix.begin(prefix)
        specs = [spec.text for spec in self._specs(file)]
        for one in state.unasked:
            conda_prefix.remove_distribution(prefix, one.path)
        if state.solution is not None:
            self._install(state, state.solution, machine, prefix, specs)
        elif state.untold or not state.there:
            after = conda_health.all_details(installed(prefix))
            conda_prefix.append_history(machine.conda, prefix, (), after.values(), specs=specs)
        if state.pip and file is not None:
            from nbprovision.backends import uv_command

            uv_command.install_section(machine, prefix, file, state.pip)
        if state.variables:
            wanted = {name: after for name, (_, after) in state.variables.items()}
            conda_prefix.set_variables(prefix, wanted)
        if (prefix / META / MADE_BY_US).exists():
            conda_prefix.note_cuda(prefix, cuda.wanted(self.cuda, machine.env, machine.root))
        if state.unregistered:
            conda_prefix.register(machine.conda, prefix)

    def _install(
        self, state: EnvState, solution: rattler.Solution, machine: Machine, prefix: Path, specs: list[str]
    ) -> None:
        for record in state.torn:
            conda_prefix.remove_leftover(record.path)
        for record in state.records:
            if record.name in state.broken:
                harmed = conda_health.harmed_source(prefix, record, self._digests(machine))
                if harmed is not None:
                    rattler.evict(machine, harmed)
        for folder in state.strays:
            conda_prefix.remove_distribution(prefix, folder)
        requested = conda_health.requested(state.installed)
        requested.update({_spec(text).name: text for text in specs})
        solution.install(machine, prefix, requested=requested.values(), reinstall=state.broken)
        shared_files.mend(state.shared)
        after = conda_health.all_details(installed(prefix))
        before = list(state.installed.values())
        if conda_health.history_lacks(prefix, [record for record in state.records if record not in state.torn]):
            before = []  # whoever changed it last did not tell, so tell it all
        removed = state.installed.keys() - after.keys()
        conda_prefix.append_history(machine.conda, prefix, before, after.values(), specs=specs, removed=removed)


def _spec(text: str) -> Spec:
    spec = parse(text)
    if spec is None:
        raise ParameterError(
            "packages", f"'{text[:80]}' is no match spec", cure="write it as conda does: name, name=1.2, name>=1.2,<2"
        )
    return spec


def _path_of(url: str) -> str:
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(url).path)

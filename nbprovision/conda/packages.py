"""The conda packages of one environment: compare installed with requested packages, and install the difference."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nbprovision.conda import anaconda_terms, bookkeeping, health, rattler
from nbprovision.conda.clone import clone
from nbprovision.conda.engine import Engine, choose
from nbprovision.conda.exact_packages import LockedPackage
from nbprovision.conda.query import UNSOLVABLE, Attempt, ExactQuery, Package, Query
from nbprovision.conda.records import Details, all_details, details_of
from nbprovision.conda.requested import unneeded_distributions, unneeded_packages
from nbprovision.conda.solution import Solution, identity
from nbprovision.conda.specs import Spec, allows, conflicts, parse, satisfied
from nbprovision.machine import distributions, package_files, platform, protection
from nbprovision.machine.digests import Digests
from nbprovision.machine.distributions import Distribution, SharedFile
from nbprovision.machine.environments import MADE_BY_US, META, CondaRecord, installed, is_environment
from nbprovision.machine.image import Baseline, Difference, ImageChange, permitted, protected_baseline, refusal
from nbprovision.machine.machine import Machine
from nbprovision.machine.network import NetworkFailed
from nbprovision.model.errors import TaskFailed
from nbprovision.model.result import Change
from nbprovision.model.task import Claim, Foretold, Strings, parameter
from nbprovision.system import secrets, unfinished
from nbprovision.system.files import remove

Channels = Annotated[
    Strings,
    parameter(
        "Channels by name, URL or path, the preferred one first. Default: those of `.condarc`, else conda-forge.",
        extra={"path": "if-dot"},
    ),
]
EngineName = Annotated[
    Literal["auto", "rattler", "conda"],
    parameter(
        "The engine that solves and installs. `rattler` is built in, `conda` is the machine's own. `auto` is the "
        "built-in engine, or the machine's own if the built-in one cannot run."
    ),
]
_MANY = 5  # names in a message
# The actions on the packages of an environment, each with its meaning.
ACTIONS = {
    "install": "a package",
    "upgrade": "to a newer version",
    "downgrade": "to an older version",
    "change": "to another build of the same version",
    "repair": "a damaged package, here or in an environment that shares its files",
    "remove": "a package",
    "solve for": "another version of CUDA than before",
}


class CondaPackages(msgspec.Struct, frozen=True, kw_only=True):
    """The installed packages, and the packages that the solver would make of them.

    Attributes:
        suspect: The environment was left unfinished.
        records: The records of the installed packages.
        torn: Those of the records that are invalid.
        installed: The contents of valid records, by name; read only if something must be solved.
        missing: Specs that no installed package satisfies.
        unwanted: Names of installed packages that are to be removed.
        broken: Packages to reinstall by name, each with the reason.
        strays: dist-info folders that pip put in the place of a package's own.
        unneeded: Distributions from pip to remove, because no task needs them.
        shared: Files of broken packages that other environments share.
        solution: The packages to install; None if the installed ones suffice.
        history_incomplete: conda's history lacks installed packages.
        source: The environment to begin as a copy of; then the records are its records.
        cuda: The previous and the new version of CUDA to solve for, if they differ.
        warnings: Messages for the user.

    """

    suspect: bool = False
    records: tuple[CondaRecord, ...] = ()
    torn: tuple[CondaRecord, ...] = ()
    installed: dict[str, Details] = {}
    missing: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    broken: dict[str, str] = {}
    strays: tuple[Path, ...] = ()
    unneeded: tuple[Distribution, ...] = ()
    shared: tuple[SharedFile, ...] = ()
    solution: Solution | None = None
    history_incomplete: bool = False
    source: Path | None = None
    cuda: tuple[str | None, str] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def sound(self) -> list[CondaRecord]:
        """The valid records."""
        return [record for record in self.records if record not in self.torn]

    @property
    def readable(self) -> tuple[Path, ...]:
        """The paths of the records whose contents are `installed`."""
        return tuple(record.path for record in self.sound if record.name in self.installed)

    def changes(self) -> list[Change]:
        """Every difference, those of the packages first."""
        changes = self._package_changes(self.solution.packages) if self.solution is not None else []
        changes += [
            Change(action="repair", target=str(file.elsewhere), before="shared the damage") for file in self.shared
        ]
        changes += [
            Change(action="remove", target=unneeded.name, before=unneeded.version, kind="package", channel="pip")
            for unneeded in self.unneeded
        ]
        if self.cuda is not None:
            changes.append(Change("solve for", "CUDA", *self.cuda))
        return changes

    def foretold(self, prefix: Path) -> Foretold:
        """The environment after the changes: conda's packages, and the distributions that the same Python keeps."""
        packages: Iterable[Package | CondaRecord] = self.records if self.solution is None else self.solution.packages
        versions = {package.name: package.version for package in packages}
        python = versions.get("python")
        expected = {distributions.normalized(name): version for name, version in versions.items()}
        source = self.source or prefix
        before = distributions.python_version(source)
        if python is not None and before is not None and python.split(".")[:2] == before.split(".")[:2]:
            kept = distributions.installed(source)
            expected = {name: copies[0].version or "" for name, copies in kept.items()} | expected
        return Foretold(python, expected)

    def _package_changes(self, solved: Iterable[Package]) -> list[Change]:
        changes = []
        removed = dict(self.installed)
        for package in sorted(solved, key=lambda package: package.name):
            before = removed.pop(package.name, None)
            if package.name in self.broken and (before is None or same(before, package)):
                action, old, new = "repair", self.broken[package.name], package.version
            elif before is None:
                action, old, new = "install", None, package.version
            elif same(before, package):
                continue
            elif before.version == package.version:
                action, old, new = "change", f"{before.version} {before.build}", f"{package.version} {package.build}"
                if old == new:  # the archive was replaced
                    old, new = f"{old} {_digest(before)}", f"{new} {_digest(package)}"
            else:
                action = "upgrade" if package.order > 0 else "downgrade"
                old, new = before.version, package.version
            channel = secrets.mask(package.channel) or None
            changes.append(
                Change(action=action, target=package.name, before=old, after=new, kind="package", channel=channel)
            )
        return changes + [
            Change(action="remove", target=name, before=details.version, kind="package")
            for name, details in sorted(removed.items())
        ]

    def going(self, solution: Solution) -> list[CondaRecord]:
        """The packages whose files the engine will remove: those to remove, to change or to reinstall."""
        kept = {package.name for package in solution.packages if is_kept(self.installed, package)} - self.broken.keys()
        return [record for record in self.records if record.name not in kept]


def same(before: Details, package: Package) -> bool:
    """Whether a package is the very build that is installed."""
    if before.sha256 and package.sha256:
        return before.sha256 == package.sha256
    if before.md5 and package.md5:
        return before.md5 == package.md5
    return (before.version, before.build) == (package.version, package.build)


def _digest(package: Details | Package) -> str:
    """The beginning of a package's digest, to distinguish two archives."""
    return f"({(package.sha256 or package.md5 or '')[:12] or 'no digest'})"


def is_kept(details: Mapping[str, Details], package: Package) -> bool:
    """Whether a package of a solution is installed already, in this build."""
    return package.name in details and same(details[package.name], package)


class CondaRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The packages that a task wants in an environment.

    Attributes:
        prefix: The environment, which need not exist.
        clone: An environment that a new one begins as a copy of.
        specs: Match specs to satisfy.
        locked: The exact packages that satisfy them; None to solve.
        whole: With ``locked``, the environment should have no others: they are mentioned.
        absent: Names of packages to remove.
        channels: URLs, the preferred one first.
        credentials: URLs of channels that may have the credentials for locked packages.
        claims: Distributions that pip tasks want in the environment.
        others: Packages that other tasks want in the environment.
        exact: Remove all other packages.
        latest: Keep the requested packages at their newest versions.
        cuda: The version of CUDA to solve for; see `EnsureCondaEnv`.
        deep: Compare the contents of files.
        allowed: The task may change packages of the platform's image.
        engine: The name of the engine.

    """

    prefix: Path
    clone: Path | None = None
    specs: tuple[Spec, ...] = ()
    locked: tuple[LockedPackage, ...] | None = None
    whole: bool = True
    absent: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    claims: frozenset[Claim] = frozenset()
    others: frozenset[str] = frozenset()
    exact: bool = False
    latest: bool = False
    cuda: str | None = None
    deep: bool = False
    allowed: bool = False
    engine: str = "auto"

    @property
    def names(self) -> list[str]:
        """The names of the requested packages, and of locked ones."""
        return list(dict.fromkeys([spec.name for spec in self.specs] + [package.name for package in self.locked or ()]))

    @property
    def texts(self) -> list[str]:
        """The specs as conda writes them."""
        return [spec.text for spec in self.specs]


class CondaWork:
    """Reads the packages of an environment, and carries out the changes that a request needs."""

    def __init__(self, machine: Machine, request: CondaRequest) -> None:
        self._machine = machine
        self._request = request
        self._prefix = request.prefix
        self._condarc = machine.conda.condarc

    @cached_property
    def _claimed(self) -> frozenset[str]:
        """Normalised names of the distributions that pip tasks want in the environment."""
        return frozenset(distributions.name_in(claim.requirement) for claim in self._request.claims)

    @cached_property
    def _engine(self) -> Engine:
        return choose(self._request.engine, self._machine)

    @property
    def _digests(self) -> Digests | None:
        return self._machine.digests if self._request.deep else None

    @property
    def _cuda(self) -> str:
        """The version of CUDA to solve for."""
        return platform.cuda_version(self._request.cuda, self._machine.env, self._machine.root)

    @cached_property
    def _image(self) -> Baseline | None:
        """The packages of the platform's image, None if the task may change them."""
        return protected_baseline(self._machine, self._prefix, allowed=self._request.allowed)

    @property
    def _protected(self) -> tuple[str, ...]:
        return tuple(self._image.content.packages) if self._image is not None else ()

    # ---------------------------------------------------------------------------------------------------------- reading

    def read(self) -> CondaPackages:
        """Check the interpreter, records and distributions; solve only if they do not satisfy the request.

        Raises:
            TaskFailed: the request cannot be satisfied.

        """
        state = self._solved(self._inspected())
        machine, prefix, solution = self._machine, self._prefix, state.solution
        strays, warnings = state.strays, state.warnings
        if solution is not None:
            source = state.source or prefix
            strays += tuple(prefix / path.relative_to(source) for path in self._in_the_way(source, solution, state))
            if not machine.applies:
                solution.check(machine, prefix, reinstall=state.broken)
                warnings += solution.room(machine, prefix)
        request, unneeded = self._request, self._unneeded_distributions(state)
        if unneeded and not request.exact:
            warnings += (_left([distribution.name for distribution in unneeded], "from pip "),)
            unneeded = []
        return msgspec.structs.replace(
            state,
            strays=strays,
            unneeded=tuple(unneeded),
            shared=tuple(self._shared(state)) if state.broken else (),
            history_incomplete=health.history_lacks(prefix, state.records, empty_only=not state.suspect),
            warnings=warnings,
        )

    def _unneeded_distributions(self, state: CondaPackages) -> list[Distribution]:
        """The distributions that ``exact`` removes, and that a lock mentions."""
        request = self._request
        if not (request.exact or (request.locked is not None and request.whole and state.source is None)):
            return []
        owned = set(map(distributions.normalized, state.installed))
        return unneeded_distributions(self._prefix, request.claims, owned)

    def _inspected(self) -> CondaPackages:
        """The environment as it is, with everything in it that the request does not want."""
        machine, request, prefix, condarc = self._machine, self._request, self._prefix, self._condarc
        source = request.clone if not is_environment(prefix) else None
        records = installed(source or prefix)
        torn = health.torn(records)
        sound = [record for record in records if record not in torn]
        if request.locked is None:
            missing = tuple(spec.text for spec in request.specs if not satisfied(spec, sound, condarc))
        else:
            present = all_details(sound)
            missing = tuple(
                package.text for package in request.locked if not package.is_installed(present.get(package.name))
            )
        broken, strays = self._damage(sound) if source is None else ({}, [])
        broken.update({record.name: f"its record {record.path.name} is torn" for record in torn})
        for package in request.locked or ():
            if package.text in missing and (package.name, package.version, package.build) in map(identity, sound):
                broken.setdefault(package.name, "it is another archive than the locked one")
        suspect = source is None and machine.is_unfinished(prefix)
        unwanted = tuple(record.name for record in sound if record.name in request.absent)
        solved_for = bookkeeping.solved_for_cuda(prefix)
        cuda_moved = request.locked is None and is_environment(prefix) and solved_for not in (None, self._cuda)
        latest = request.latest and request.specs
        compared = request.exact or request.locked is not None
        needs_details = missing or broken or suspect or latest or compared or cuda_moved or unwanted
        return CondaPackages(
            suspect=suspect,
            records=tuple(records),
            torn=tuple(torn),
            installed=all_details(sound) if needs_details else {},
            missing=missing,
            unwanted=unwanted,
            broken=broken,
            strays=tuple(strays),
            source=source,
            cuda=(solved_for, self._cuda) if cuda_moved else None,
            warnings=condarc.warnings + (anaconda_terms.notes(machine, request.channels) if source is None else ()),
        )

    def _solved(self, state: CondaPackages) -> CondaPackages:
        """The state with a solution, if it needs one.

        Raises:
            TaskFailed: there is no solution.

        """
        request, details = self._request, state.installed
        if request.locked is not None:
            return self._locked(state, request.locked)
        superfluous = self._superfluous(details) if request.exact else []
        incomplete = state.suspect and health.unmet(details, state.sound, self._condarc)
        if state.unwanted and not state.missing:
            return msgspec.structs.replace(state, solution=self._removal(state))
        required = bool(state.missing or state.broken or superfluous or incomplete or state.unwanted)
        latest = request.latest and bool(request.specs)
        if not (required or latest or state.cuda):
            return state
        try:
            solution, inconsistencies = self._solve(state)
        except TaskFailed as error:
            if required or latest or state.cuda is None:
                raise
            # The installed packages work as they are, with their kernel; the next run tries again.
            before, after = state.cuda
            warning = f"solved for CUDA '{before}', not for '{after}': {error.message}"
            return msgspec.structs.replace(state, cuda=None, warnings=(*state.warnings, warning))
        warnings = (*state.warnings, *inconsistencies, *health.unread_pins(self._prefix, self._condarc))
        names = {package.name for package in solution.packages}
        if not required and names == details.keys() and all(is_kept(details, package) for package in solution.packages):
            solution.close()
            return msgspec.structs.replace(state, warnings=warnings)
        return msgspec.structs.replace(state, solution=solution, warnings=warnings)

    def _damage(self, records: list[CondaRecord]) -> tuple[dict[str, str], list[Path]]:
        """The packages to reinstall with the reasons, and the dist-info folders that pip put in their place.

        In an environment that others made, and in a copy of one, only the requested packages are checked: an image's
        maker may have replaced packages by pip on purpose.
        """
        prefix, claimed = self._prefix, self._claimed
        broken: dict[str, str] = {}
        strays: list[Path] = []
        ours = (prefix / META / MADE_BY_US).exists() and bookkeeping.cloned_from(prefix) is None
        checked = records if ours else [record for record in records if record.name in self._request.names]
        if health.interpreter_missing(prefix, records):
            broken["python"] = "bin/python leads nowhere"
        for package, drift in health.drifts(prefix, checked, apart_from=claimed):
            broken[package] = drift.reason
            strays += drift.strays
        if self._request.deep or self._machine.is_unfinished(prefix):
            for record in records:
                if record.name not in broken and distributions.normalized(record.name) not in claimed:
                    reason = health.broken_file(prefix, record, digests=self._digests, records=records)
                    if reason:
                        broken[record.name] = reason
        return broken, strays

    def _in_the_way(self, prefix: Path, solution: Solution, state: CondaPackages) -> list[Path]:
        """dist-info folders from pip beside which a new package would put its own."""
        new = {package.name for package in solution.packages} - state.installed.keys()
        return health.in_the_way(prefix, new, apart_from=self._claimed)

    def _shared(self, state: CondaPackages) -> Iterator[SharedFile]:
        """Damaged files of broken packages that other environments share."""
        prefixes = [environment.prefix for environment in self._machine.conda.environments()]
        others = [prefix for prefix in prefixes if prefix != self._prefix]
        for record in state.sound:
            if record.name in state.broken:
                places = health.damaged_elsewhere(self._prefix, record, others, self._digests)
                yield from (SharedFile(*pair) for pair in places)

    def _kept(self, details: dict[str, Details]) -> list[str]:
        """Packages that an exact environment keeps because of other tasks."""
        needed = self._request.others | ({"python", "pip"} if self._claimed else set())
        return [name for name in details if name in needed or distributions.normalized(name) in self._claimed]

    def _superfluous(self, details: dict[str, Details]) -> list[str]:
        """Packages that no task needs, which an exact environment does not keep.

        Raises:
            TaskFailed: the platform provides the environment, which needs its packages.

        """
        request = self._request
        if request.locked is None:
            names = unneeded_packages(details, [*request.names, *self._kept(details)])
        else:  # the locked packages need no others
            names = [name for name in unneeded_packages(details, self._kept(details)) if name not in request.names]
        if not request.exact:
            return names
        environments = self._machine.conda.environments()
        if names and any(place.prefix == self._prefix and place.provided for place in environments):
            raise TaskFailed(
                f"exact would remove {len(names)} packages that the platform's image brings: {', '.join(names[:5])}",
                cause="no task of the playbook requests them, and the notebook may need them",
                cure="leave exact out, or make an environment of your own",
            )
        return names

    # ---------------------------------------------------------------------------------------------------------- solving

    def _solve(self, state: CondaPackages) -> tuple[Solution, tuple[str, ...]]:
        """The packages to install, and a warning for each package that stays inconsistent.

        Raises:
            TaskFailed: there is no solution, or only one that changes packages of the platform's image.

        """
        machine, request, details = self._machine, self._request, state.installed
        refuse_forbidden(machine, request.channels)
        protected = [name for name in self._protected if name in details]
        specs = list(request.specs)
        if request.exact:
            attempts = [rattler.exact_attempt(machine, self._prefix, specs, self._kept(details), self._claimed)]
        else:
            attempts = rattler.attempts(
                machine, self._prefix, specs, details, list(state.torn), self._claimed, protected
            )
        unlocked = tuple(spec.name for spec in specs if spec.text in state.missing)
        query = Query(
            attempts=attempts,
            channels=request.channels,
            installed=state.readable,
            unlocked=tuple(name for name in request.names if name not in protected) if request.latest else unlocked,
            other_builds=state.cuda is not None,
            variables=platform.cuda_override(request.cuda, machine.env),
        )
        answer = self._answer(query, state, unlocked)
        unmet: dict[str, list[str]] = {}
        if not isinstance(answer, Solution):
            failure = answer
            unmet = health.unmet(details, state.sound, self._condarc)
            if unmet:  # an inconsistent package need not keep the others from being installed
                answer = self._answer(_tolerating(query, unmet), state, unlocked)
            if not isinstance(answer, Solution):
                pins = health.pinned(self._prefix, self._condarc)
                raise _with_reasons(failure, unmet, pins, request.names)
        kept = {package.name for package in answer.packages if is_kept(details, package)}
        stuck = [name for name in unlocked if name in kept]
        if stuck:
            raise TaskFailed(
                f"the solver keeps {', '.join(stuck)} as installed, which does not satisfy the request",
                cause="the installed package satisfies the spec as the solver reads it",
                cure="write the spec in another way, or name the version that you want",
            )
        return answer, tuple(f"the environment is inconsistent: {text}; left as it is" for text in _lacking(unmet))

    def _answer(self, query: Query, state: CondaPackages, unlocked: tuple[str, ...]) -> Solution | TaskFailed:
        """A solution that the task may carry out, or the reason why there is none.

        Raises:
            NetworkFailed: a channel cannot be reached.

        """
        try:
            solution = self._engine.solve(self._machine, query)
        except NetworkFailed:
            raise
        except TaskFailed as error:
            return error
        overruled = self._overruled(solution, state.installed)
        touched = self._touched(solution, state) if not overruled else []
        if not (overruled or touched):
            return solution
        solution.close()
        if overruled:
            return TaskFailed(
                UNSOLVABLE,
                cause=f"the task requests another version of {', '.join(overruled)} than the pin allows",
                cure="change one of them",
            )
        return refusal(self._prefix, touched, self._alternatives(unlocked, state))

    def _locked(self, state: CondaPackages, locked: tuple[LockedPackage, ...]) -> CondaPackages:
        """The state with the locked packages as its solution, if one of them is missing or damaged.

        Raises:
            TaskFailed: they cannot be installed, or would change packages of the platform's image.

        """
        machine, request, details = self._machine, self._request, state.installed
        others = self._superfluous(details) if request.whole or request.exact else []
        if others and not request.exact:
            state = msgspec.structs.replace(state, warnings=(*state.warnings, _left(others)))
        lost = [record.name for record in state.torn if record.name not in request.names]
        if lost:
            note = f"the lock cannot restore {', '.join(lost)}, whose records are torn: install them again"
            broken = {name: reason for name, reason in state.broken.items() if name not in lost}
            state = msgspec.structs.replace(state, broken=broken, warnings=(*state.warnings, note))
        going = set(others) if request.exact else set()
        if not (state.missing or state.broken or going):
            return state
        refuse_forbidden(machine, request.channels)
        query = ExactQuery(
            locked=locked,
            kept=tuple(name for name in details if name not in request.names and name not in going),
            installed=state.readable,
            channels=request.channels,
            credentials=request.credentials,
            variables=platform.cuda_override(request.cuda, machine.env),
        )
        solution = self._engine.exact(machine, query)
        touched = self._touched(solution, state)
        if touched:
            solution.close()
            raise refusal(self._prefix, touched, ())
        return msgspec.structs.replace(state, solution=solution)

    def _removal(self, state: CondaPackages) -> Solution:
        """The environment without the unwanted packages and those that need them; the others stay as they are.

        Raises:
            TaskFailed: the platform's image brought one of the packages.

        """
        details = state.installed
        removed = set(health.dependents(details, state.unwanted))
        reasons = dict.fromkeys(removed - set(state.unwanted), "it needs them")
        touched = [
            ImageChange(Difference("conda", name, details[name].version, None), reasons.get(name, ""))
            for name in sorted(removed & set(self._protected))
        ]
        if touched:
            raise refusal(self._prefix, touched, ())
        staying = {record.name: record for record in state.sound if record.name in details.keys() - removed}
        unmet = health.unmet({name: details[name] for name in staying}, staying.values(), self._condarc)
        attempt = Attempt(specs=list(staying), pinned=list(staying))  # no channel is read: all of it is installed
        paths = tuple(record.path for record in staying.values())
        return self._engine.solve(self._machine, Query(attempts=[attempt], installed=paths, unmet=unmet))

    def _overruled(self, solution: Solution, details: dict[str, Details]) -> list[str]:
        """New packages that a pin excludes: conda's classic solver lets a task overrule a pin."""
        new = {package.name: package for package in solution.packages if not is_kept(details, package)}
        pins = filter(None, map(parse, health.pinned(self._prefix, self._condarc)))
        pairs = [(pin, new[pin.name]) for pin in pins if pin.name in new]
        return [package.name for pin, package in pairs if allows(pin, package.version, package.build) is False]

    def _touched(self, solution: Solution, state: CondaPackages) -> list[ImageChange]:
        """The packages of the platform's image that a solution would change, each with the reason."""
        new = {package.name: package for package in solution.packages}
        touched = []
        for name in self._protected:
            before, after = state.installed.get(name), new.get(name)
            if before is None or (after is not None and same(before, after)):
                continue
            texts = (before.version, after.version if after else None)
            if texts[0] == texts[1] and after is not None:
                texts = (f"{before.version} {before.build}", f"{after.version} {after.build}")
            touched.append(ImageChange(Difference("conda", name, *texts), self._because(before, solution)))
        for path in self._in_the_way(self._prefix, solution, state) if self._image is not None else ():
            name, _, version = path.name.removesuffix(".dist-info").partition("-")
            touched.append(ImageChange(Difference("pip", name, version, None), "pip's copy would lie beside conda's"))
        return touched

    def _because(self, before: Details, solution: Solution) -> str:
        """The specs that need another version of a package than the installed one."""
        reasons = [f"requested: {spec.text}" for spec in self._request.specs if spec.name == before.name]
        names = self._request.names
        for package in sorted(solution.packages, key=lambda package: (package.name not in names, package.name)):
            for text in package.depends:
                spec = parse(text)
                if spec and spec.name == before.name and allows(spec, before.version, before.build) is False:
                    reasons.append(f"{package.name} {package.version} needs {text}")
        return ", ".join(reasons[:3])

    def _alternatives(self, unlocked: tuple[str, ...], state: CondaPackages) -> list[str]:
        """Specs of the requested packages, in any version, that leave the platform's image as it is."""
        any_version = [Spec(name, name) for name in unlocked]
        details = state.installed
        all_stays = [*self._protected, *details]
        attempts = rattler.attempts(self._machine, self._prefix, any_version, details, [], self._claimed, all_stays)
        query = Query(
            attempts=attempts[:1],
            channels=self._request.channels,
            installed=state.readable,
            unlocked=tuple(name for name in unlocked if name not in self._protected),
        )
        try:
            solution = self._engine.solve(self._machine, query)
        except TaskFailed:
            return []
        solution.close()
        return [f"{package.name}={package.version}" for package in solution.packages if package.name in unlocked]

    # --------------------------------------------------------------------------------------------------------- applying

    def apply(self, state: CondaPackages) -> None:
        """Install and remove packages, then write conda's history.

        Raises:
            NotBegun: there is no space, or something could not be fetched; nothing was changed.
            TaskFailed: with the engine's own message.

        """
        machine, prefix, solution = self._machine, self._prefix, state.solution
        if solution is not None:
            protection.refuse_links(prefix)
            solution.prepare(machine, prefix, reinstall=state.broken)
        if state.source is not None:
            clone(machine, state.source, prefix)
            bookkeeping.note_clone(prefix, state.source)
        protection.refuse_link(prefix, META)
        ours = prefix / META / MADE_BY_US
        mark = unfinished.read_mark(prefix)
        if mark is not None and mark.made and not ours.exists():
            bookkeeping.begin(prefix)
        for distribution in state.unneeded:
            package_files.remove_distribution(prefix, distribution.path)
        folders = [distributions.site_packages(prefix)]
        if solution is not None:
            with permitted(machine, prefix, allowed=self._request.allowed):
                self._install(state, solution)
        elif state.history_incomplete:
            self._append_history()
        if state.installed or state.unneeded or state.strays:
            folders.append(distributions.site_packages(prefix))  # another folder if Python got a new minor version
            for folder in dict.fromkeys(folders):
                package_files.tidy(folder)
        if ours.exists():
            bookkeeping.note_cuda(prefix, self._cuda)

    def _install(self, state: CondaPackages, solution: Solution) -> None:
        machine, prefix = self._machine, self._prefix
        health.refuse_records(prefix, state.going(solution))
        for record in state.torn:
            remove(record.path)
        for record in state.records:
            if record.name in state.broken:
                cached = health.damaged_source(prefix, record, self._digests)
                if cached is not None:
                    self._engine.evict(machine, cached)
        for folder in state.strays:
            package_files.remove_distribution(prefix, folder)
        names = {package.name for package in solution.packages}
        requested = {name: text for name, text in health.requested(state.installed).items() if name in names}
        requested.update({spec.name: spec.text for spec in self._request.specs})
        solution.install(machine, prefix, requested=requested.values(), reinstall=state.broken)
        package_files.mend(state.shared)
        self._append_history(before=state.installed, solved=solution.packages)

    def _append_history(self, before: Iterable[str] = (), solved: Iterable[Package] = ()) -> None:
        """Add what has changed; of solved packages all is known, and their records need not be read."""
        solution = {identity(package): Details.of(package) for package in solved if package.url}
        records = {record.name: record for record in installed(self._prefix)}
        after = (solution.get(identity(record)) or details_of(record) for record in records.values())
        bookkeeping.append_history(
            self._machine.conda,
            self._prefix,
            filter(None, after),
            specs=self._request.texts,
            removed=set(before) - records.keys(),
        )


def _left(names: Sequence[str], origin: str = "") -> str:
    """A note about packages that a lock does not have; ``origin`` says where they are from, if not from conda."""
    number = f"{len(names)} packages {origin}are" if len(names) > 1 else f"1 package {origin}is"
    listed = ", ".join(names[:_MANY]) + (", ..." if len(names) > _MANY else "")
    return f"{number} not in the lock and left as installed: {listed}; `exact: true` removes them"


def _tolerating(query: Query, unmet: dict[str, list[str]]) -> Query:
    """The query for an environment in which inconsistent packages stay as they are."""
    attempts = [msgspec.structs.replace(attempt, pinned=[*attempt.pinned, *unmet]) for attempt in query.attempts]
    return msgspec.structs.replace(query, attempts=attempts, unmet=unmet)


def _lacking(unmet: dict[str, list[str]]) -> Iterator[str]:
    for name, texts in sorted(unmet.items()):
        yield f"{name} lacks {', '.join(texts)}"


def _with_reasons(
    error: TaskFailed, unmet: dict[str, list[str]], pins: Mapping[str, str], names: Collection[str]
) -> TaskFailed:
    """The error, with the inconsistencies of the environment and the pins that may be its cause.

    Args:
        error: Why there is no solution.
        unmet: The inconsistent packages.
        pins: The specs that conda keeps to, each with its file.
        names: The requested packages.

    """
    causes = [*filter(None, [error.cause]), *(f"inconsistent: {text}" for text in _lacking(unmet))]
    mentioned = {*names, *re.findall(r"[a-z0-9_][a-z0-9_.-]*", "\n".join(causes).lower())}
    guilty = {text: place for text, place in pins.items() if (spec := parse(text)) and spec.name in mentioned}
    causes += [f"pinned: {text} in {place}" for text, place in guilty.items()]
    cure = error.cure
    if guilty:
        cure = f"change the pin in {' or '.join(dict.fromkeys(guilty.values()))}, or request a version that it allows"
    return TaskFailed(error.message, cause="\n".join(causes), cure=cure)


def refuse_forbidden(machine: Machine, urls: Iterable[str]) -> None:
    """Refuse channels that the administrator has not allowed in conda's configuration, for both engines.

    Raises:
        TaskFailed: a channel is not allowed.

    """
    condarc = machine.conda.condarc
    forbidden = condarc.forbidden(urls)
    if forbidden is not None:
        url, reason = forbidden
        allowed = ", ".join(map(secrets.mask, condarc.allowlist_channels or condarc.channels))
        raise TaskFailed(
            f"the channel {secrets.mask(url)} is not allowed on this machine",
            cause=reason,
            cure=f"leave `channels` out, or name one that is allowed ({allowed}), or ask the administrator",
        )


def objection(kind: str, specs: Iterable[Spec], claim: Claim) -> str | None:
    """Why a conda task forbids a distribution that a pip task wants in the same environment, if it does.

    Args:
        kind: The kind of the conda task.
        specs: Its match specs.
        claim: The distribution.

    """
    conflicting = (spec for spec in specs if conflicts(spec, claim.requirement, absent=claim.absent))
    spec = next(conflicting, None)
    return f"{kind} asks for '{spec.text}'" if spec is not None else None


def witnesses(machine: Machine, prefix: Path) -> Iterator[Path]:
    """The files that show that an environment's packages are unchanged, and that its name has the same meaning."""
    yield from (prefix / META, prefix / META / "history", prefix / "bin/python", prefix / unfinished.MARK)
    libraries = distributions.site_packages(prefix)
    if libraries is not None:
        yield libraries
    yield machine.conda.registry
    yield from machine.conda.condarc_places
    if prefix in machine.locked:
        yield from machine.locked[prefix].files

"""The conda packages of one environment: what is there, what a task wants of them, and bringing that about."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nbprovision.conda import anaconda_terms, bookkeeping, health, rattler
from nbprovision.conda.clone import clone
from nbprovision.conda.engine import Attempt, Engine, Package, Query, choose
from nbprovision.conda.health import Details
from nbprovision.conda.incoming import Solution
from nbprovision.conda.requested import unneeded_distributions, unneeded_packages
from nbprovision.conda.specs import Spec, allows, parse, satisfied
from nbprovision.machine import distributions, package_files, platform, protection
from nbprovision.machine.digests import Digests
from nbprovision.machine.distributions import Distribution, SharedFile
from nbprovision.machine.environments import MADE_BY_US, META, CondaRecord, installed, is_environment
from nbprovision.machine.image import Baseline, Difference, ImageChange, permitted, protected_baseline, refusal
from nbprovision.machine.machine import Machine
from nbprovision.machine.network import NetworkFailed
from nbprovision.model.errors import DEFECT, REPORT, TaskFailed
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
        "What solves and installs: `rattler` is the built-in engine, `conda` the machine's own; `auto` is the "
        "built-in one, and the machine's own where that cannot run."
    ),
]
# What can be done to the packages of an environment, and what that means.
ACTIONS = {
    "install": "a package",
    "upgrade": "to a newer version",
    "downgrade": "to an older version",
    "change": "to another build of the same version",
    "repair": "a package that was harmed, here or in an environment that shares its files",
    "remove": "a package",
    "solve for": "another version of CUDA than before",
}


class Packages(msgspec.Struct, frozen=True, kw_only=True):
    """What is there, and what the solver would make of it.

    Attributes:
        suspect: The environment was left unfinished.
        records: Packages by their records.
        installed: What the records say, by name; read only where something must be solved.
        torn: Records that cannot be true.
        missing: Specs that nothing installed satisfies.
        broken: Why a package must be put in place again, by name.
        strays: dist-info folders that pip left in a package's place.
        unasked: Distributions of pip's that are to go, since nobody asked for them.
        shared: Files of broken packages that other environments share.
        solution: The packages to come; None where those that are there will do.
        untold: conda's history does not tell of what is installed.
        source: The environment that it is to begin as a copy of; the records are that one's.
        cuda: What it was solved for and what it is to be solved for, where the two differ.

    """

    suspect: bool = False
    records: tuple[CondaRecord, ...] = ()
    installed: dict[str, Details] = {}
    torn: tuple[CondaRecord, ...] = ()
    missing: tuple[str, ...] = ()
    broken: dict[str, str] = {}
    strays: tuple[Path, ...] = ()
    unasked: tuple[Distribution, ...] = ()
    shared: tuple[SharedFile, ...] = ()
    solution: Solution | None = None
    untold: bool = False
    source: Path | None = None
    cuda: tuple[str | None, str] | None = None
    warnings: tuple[str, ...] = ()

    def changes(self) -> list[Change]:
        """Every difference, those of the packages first."""
        changes = self._moves(self.solution.packages) if self.solution is not None else []
        changes += [Change(action="repair", target=str(one.elsewhere), before="shared the harm") for one in self.shared]
        changes += [
            Change(action="remove", target=one.name, before=one.version, kind="package", channel="pip")
            for one in self.unasked
        ]
        if self.cuda is not None:
            changes.append(Change("solve for", "CUDA", *self.cuda))
        return changes

    def foretold(self, prefix: Path) -> Foretold:
        """The environment as it will be: the packages of conda that come or stay, and of a copy all that it has."""
        if self.solution is not None:
            versions = {package.name: package.version for package in self.solution.packages}
        else:
            versions = {record.name: record.version for record in self.records}
        python = versions.get("python")
        found = {distributions.normalized(name): version for name, version in versions.items()}
        source = self.source or prefix
        before = distributions.python_version(source)
        if python is not None and before is not None and python.split(".")[:2] == before.split(".")[:2]:
            brought = distributions.installed(source)
            found = {name: several[0].version or "" for name, several in brought.items()} | found
        return Foretold(python, found)

    def _moves(self, solved: Iterable[Package]) -> list[Change]:
        """What of the packages comes, goes, moves or is mended."""
        changes = []
        left = dict(self.installed)
        for package in sorted(solved, key=lambda one: one.name):
            before = left.pop(package.name, None)
            channel = secrets.mask(package.channel) or None
            if package.name in self.broken and (before is None or same(before, package)):
                action, old, new = "repair", self.broken[package.name], package.version
            elif before is None:
                action, old, new = "install", None, package.version
            elif same(before, package):
                continue
            elif before.version == package.version:
                action, old, new = "change", f"{before.version} {before.build}", f"{package.version} {package.build}"
            else:
                action = "upgrade" if package.order > 0 else "downgrade"
                old, new = before.version, package.version
            changes.append(
                Change(action=action, target=package.name, before=old, after=new, kind="package", channel=channel)
            )
        gone = sorted(left.items())
        return changes + [
            Change(action="remove", target=name, before=one.version, kind="package") for name, one in gone
        ]


def same(before: Details, package: Package) -> bool:
    """Whether a package is the very build that is installed."""
    if before.sha256 and package.sha256:
        return before.sha256 == package.sha256
    if before.md5 and package.md5:
        return before.md5 == package.md5
    return (before.version, before.build) == (package.version, package.build)


def holds(solution: Solution, details: dict[str, Details]) -> bool:
    """Whether what is installed is the solution already."""
    names = {package.name for package in solution.packages}
    return names == details.keys() and all(same(details[package.name], package) for package in solution.packages)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a task wants of the packages of an environment.

    Attributes:
        prefix: The environment, which need not be there yet.
        clone: An environment to begin as a copy of, where there is none yet.
        specs: Match specs that must hold.
        absent: Names of packages that must not be there.
        channels: URLs, the preferred one first.
        claims: Distributions that are pip's business there.
        others: Packages that other tasks want there.
        exact: Nothing else is wanted.
        latest: The newest version of what is asked for.
        cuda: What to solve for; see `EnsureCondaEnv`.
        deep: Compare the files.
        allowed: What the platform's image brought may change too.
        engine: What solves and installs.

    """

    prefix: Path
    clone: Path | None = None
    specs: tuple[Spec, ...] = ()
    absent: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
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
        """The packages that are asked for."""
        return [spec.name for spec in self.specs]


class CondaWork:
    """Reads what is there and applies what is missing.

    Args:
        machine: The facts.
        wish: What is wanted.

    """

    def __init__(self, machine: Machine, wish: Wish) -> None:
        self._machine = machine
        self._wish = wish
        self._prefix = wish.prefix

    @cached_property
    def _claimed(self) -> frozenset[str]:
        """Names of the distributions that are pip's business in the environment."""
        return frozenset(distributions.name_in(claim.requirement) for claim in self._wish.claims)

    @cached_property
    def _engine(self) -> Engine:
        return choose(self._wish.engine, self._machine)

    @property
    def _digests(self) -> Digests | None:
        return self._machine.digests if self._wish.deep else None

    def read(self) -> Packages:
        """Look at the interpreter, the records, the distributions; ask the solver only where they will not do.

        Raises:
            TaskFailed: what is asked for cannot be had.

        """
        machine, wish, prefix = self._machine, self._wish, self._prefix
        condarc = machine.conda.condarc
        source = wish.clone if not is_environment(prefix) else None
        records = installed(source or prefix)
        torn = health.torn(records)
        sound = [record for record in records if record not in torn]
        missing = tuple(spec.text for spec in wish.specs if not satisfied(spec, sound, condarc))
        broken, strays = self._harm(sound) if source is None else ({}, [])
        for record in torn:
            broken[record.name] = f"its record {record.path.name} is torn"
        suspect = machine.is_unfinished(prefix) and source is None
        details: dict[str, Details] = {}
        solution = None
        latest = wish.latest and bool(wish.specs)
        warnings = condarc.warnings + (anaconda_terms.notes(machine, wish.channels) if source is None else ())
        for_cuda = platform.cuda_version(wish.cuda, machine.env, machine.root)
        before = bookkeeping.solved_for_cuda(prefix)
        moved = is_environment(prefix) and before not in (None, for_cuda)
        unwanted = [record.name for record in sound if record.name in wish.absent]
        if missing or broken or suspect or latest or wish.exact or moved or unwanted:
            details = health.all_details(sound)
        superfluous = self._superfluous(details) if wish.exact else []
        incomplete = suspect and bool(health.unmet(details, sound, condarc))
        amiss = bool(missing or broken or superfluous or incomplete or unwanted)
        if unwanted and not missing:
            solution = self._without(unwanted, details, sound)
        elif amiss or latest or moved:
            try:
                solution, tolerated = self._solve(missing, details, torn, sound, other_builds=moved)
                warnings += tolerated + health.unread_pins(prefix, condarc)
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
            in_the_way = health.in_the_way(source or prefix, coming, apart_from=self._claimed)
            strays += [prefix / path.relative_to(source or prefix) for path in in_the_way]
        if solution is not None and not machine.applies:
            solution.check(machine, prefix, reinstall=broken)
            warnings += solution.room(machine, prefix)
        owned = set(map(distributions.normalized, details))
        return Packages(
            suspect=suspect,
            records=tuple(records),
            installed=details,
            torn=tuple(torn),
            missing=missing,
            broken=broken,
            strays=tuple(strays),
            unasked=tuple(unneeded_distributions(prefix, wish.claims, owned)) if wish.exact else (),
            shared=tuple(self._shared(sound, broken)) if broken else (),
            solution=solution,
            untold=health.history_lacks(prefix, records, empty_only=not suspect),
            source=source,
            cuda=(before, for_cuda) if moved else None,
            warnings=warnings,
        )

    def _solve(
        self,
        missing: Collection[str],
        details: dict[str, Details],
        torn: list[CondaRecord],
        sound: list[CondaRecord],
        *,
        other_builds: bool,
    ) -> tuple[Solution, tuple[str, ...]]:
        """The packages to come; where the environment is inconsistent and stays so, a warning for each that lacks.

        Raises:
            TaskFailed: there is no answer, or only one that moves what the platform's image brought.

        """
        machine, wish, specs = self._machine, self._wish, list(self._wish.specs)
        _refuse_channels(machine, wish.channels)
        unlocked = tuple(spec.name for spec in specs if spec.text in missing)
        protected = [name for name in self._protected if name in details]
        if wish.exact:
            questions = [rattler.exact_question(machine, self._prefix, specs, self._kept(details), self._claimed)]
        else:
            questions = rattler.questions(machine, self._prefix, specs, details, torn, self._claimed, protected)

        def query(unmet: dict[str, list[str]]) -> Query:
            return Query(
                attempts=[_stable(question, unmet) for question in questions],
                channels=wish.channels,
                installed=tuple(record.path for record in sound if record.name in details),
                unlocked=tuple(name for name in wish.names if name not in protected) if wish.latest else unlocked,
                other_builds=other_builds,
                unmet=unmet,
                variables=platform.cuda_override(wish.cuda, machine.env),
            )

        def ask(unmet: dict[str, list[str]]) -> tuple[Solution | None, TaskFailed | None]:
            try:
                solution = self._engine.solve(machine, query(unmet))
            except NetworkFailed:
                raise
            except TaskFailed as error:
                return None, error
            overruled = self._overruled(solution, details)
            if overruled:
                solution.close()
                return None, TaskFailed(
                    "no set of packages satisfies all that is asked for",
                    cause=f"the task asks for another version of {', '.join(overruled)} than the pin allows",
                    cure="change one of them",
                )
            touched = self._touched(solution, details)
            if touched:
                solution.close()
                return None, refusal(self._prefix, touched, self._pins(unlocked, details, sound))
            return solution, None

        solution, failure = ask({})
        unmet: dict[str, list[str]] = {}
        if solution is None:
            unmet = health.unmet(details, sound, machine.conda.condarc)
            if unmet:  # what is inconsistent by now need not keep the rest from being installed
                solution, _ = ask(unmet)
        if solution is None:
            failure = _with_inconsistency(
                failure or TaskFailed("the solver gave no answer", cause=DEFECT, cure=REPORT), unmet
            )
            raise _with_pins(failure, health.pinned(self._prefix, machine.conda.condarc), wish.names)
        kept = [one.name for one in solution.packages if one.name in details and same(details[one.name], one)]
        stuck = [name for name in unlocked if name in kept]
        if stuck:
            raise TaskFailed(
                f"the solver keeps {', '.join(stuck)} as it is, and that is not what is asked for",
                cause="what is installed satisfies the spec as the solver reads it",
                cure="write the spec another way, or name the version that you want",
            )
        return solution, tuple(_lacking(unmet))

    def _without(self, unwanted: Collection[str], details: dict[str, Details], sound: list[CondaRecord]) -> Solution:
        """All that is there without some packages, and without what cannot be without them; the rest stays as it is.

        Raises:
            TaskFailed: the platform's image brought one of them.

        """
        gone = set(health.dependents(details, unwanted))
        touched = [
            ImageChange(
                Difference("conda", name, details[name].version, None), "" if name in unwanted else "it needs them"
            )
            for name in sorted(gone & set(self._protected))
        ]
        if touched:
            raise refusal(self._prefix, touched, ())
        left = [record for record in sound if record.name in details and record.name not in gone]
        names = [record.name for record in left]
        unmet = health.unmet({name: details[name] for name in names}, left, self._machine.conda.condarc)
        stay = Attempt(specs=names, pinned=names)  # no channel is asked: all of it is there
        query = Query(attempts=[stay], installed=tuple(record.path for record in left), unmet=unmet)
        return self._engine.solve(self._machine, query)

    @cached_property
    def _image(self) -> Baseline | None:
        """What the platform's image brought, where the task may not move it."""
        return protected_baseline(self._machine, self._prefix, allowed=self._wish.allowed)

    @property
    def _protected(self) -> tuple[str, ...]:
        return tuple(self._image.content.packages) if self._image is not None else ()

    def _overruled(self, solution: Solution, details: dict[str, Details]) -> list[str]:
        """Packages that would come although a pin excludes them: conda's classic solver lets a task overrule a pin."""
        coming = {
            one.name: one for one in solution.packages if one.name not in details or not same(details[one.name], one)
        }
        names = []
        for spec in map(parse, health.pinned(self._prefix, self._machine.conda.condarc)):
            one = coming.get(spec.name) if spec is not None else None
            if spec is not None and one is not None and allows(spec, one.version, one.build) is False:
                names.append(one.name)
        return names

    def _touched(self, solution: Solution, details: dict[str, Details]) -> list[ImageChange]:
        coming = {package.name: package for package in solution.packages}
        found = []
        for name in self._protected:
            before, after = details.get(name), coming.get(name)
            if before is None or (after is not None and same(before, after)):
                continue
            texts = (before.version, after.version if after else None)
            if texts[0] == texts[1] and after is not None:
                texts = (f"{before.version} {before.build}", f"{after.version} {after.build}")
            found.append(ImageChange(Difference("conda", name, *texts), self._because(name, before, solution)))
        if self._image is None:
            return found
        for path in health.in_the_way(self._prefix, coming.keys() - details.keys(), apart_from=self._claimed):
            name, _, version = path.name.removesuffix(".dist-info").partition("-")
            found.append(ImageChange(Difference("pip", name, version, None), "pip's copy would lie beside conda's"))
        return found

    def _because(self, name: str, before: Details, solution: Solution) -> str:
        """Who needs another version of a package than the one that is there."""
        reasons = [f"asked for: {spec.text}" for spec in self._wish.specs if spec.name == name]
        for package in sorted(solution.packages, key=lambda one: (one.name not in self._wish.names, one.name)):
            for text in package.depends:
                spec = parse(text)
                if spec is not None and spec.name == name and allows(spec, before.version, before.build) is False:
                    reasons.append(f"{package.name} {package.version} needs {text}")
        return ", ".join(reasons[:3])

    def _pins(self, unlocked: tuple[str, ...], details: dict[str, Details], sound: list[CondaRecord]) -> list[str]:
        """What to ask for instead, in any version, so that nothing moves that the image brought."""
        free = [Spec(name, name) for name in unlocked]
        all_stays = [*self._protected, *details]
        questions = rattler.questions(self._machine, self._prefix, free, details, [], self._claimed, all_stays)
        query = Query(
            attempts=questions[:1],
            channels=self._wish.channels,
            installed=tuple(record.path for record in sound if record.name in details),
            unlocked=tuple(name for name in unlocked if name not in self._protected),
        )
        try:
            solution = self._engine.solve(self._machine, query)
        except TaskFailed:
            return []
        solution.close()
        return [f"{one.name}={one.version}" for one in solution.packages if one.name in unlocked]

    def _kept(self, details: dict[str, Details]) -> list[str]:
        """Packages that an exact environment keeps for the sake of other tasks."""
        means = {"python", "pip"} if self._claimed else set()
        means |= self._wish.others
        return [name for name in details if name in means or distributions.normalized(name) in self._claimed]

    def _superfluous(self, details: dict[str, Details]) -> list[str]:
        """Packages that nobody asked for.

        Raises:
            TaskFailed: the platform provides the environment, and would miss what it brings.

        """
        found = unneeded_packages(details, [*self._wish.names, *self._kept(details)])
        environments = self._machine.conda.environments()
        if found and any(one.prefix == self._prefix and one.provided for one in environments):
            raise TaskFailed(
                f"exact would remove {len(found)} packages that the platform's image brings: {', '.join(found[:5])}",
                cause="nothing in the playbook asks for them, and the notebook may need them",
                cure="leave exact out, or make an environment of your own",
            )
        return found

    def _harm(self, records: list[CondaRecord]) -> tuple[dict[str, str], list[Path]]:
        """Packages to put in place again and why, and what pip left in their place.

        In an environment that others made, and in a copy of one, only what the task names is looked at: an image's
        maker may have put packages in place by pip on purpose.
        """
        prefix, claimed = self._prefix, self._claimed
        broken: dict[str, str] = {}
        strays: list[Path] = []
        ours = (prefix / META / MADE_BY_US).exists() and bookkeeping.cloned_from(prefix) is None
        subject = records if ours else [record for record in records if record.name in self._wish.names]
        if health.interpreter_missing(prefix, records):
            broken["python"] = "bin/python leads nowhere"
        for package, drift in health.drifts(prefix, subject, apart_from=claimed):
            broken[package] = drift.reason
            strays += drift.strays
        if self._wish.deep or self._machine.is_unfinished(prefix):
            for record in records:
                if record.name not in broken and distributions.normalized(record.name) not in claimed:
                    reason = health.broken_file(prefix, record, digests=self._digests, records=records)
                    if reason:
                        broken[record.name] = reason
        return broken, strays

    def _shared(self, records: Iterable[CondaRecord], broken: Collection[str]) -> Iterable[SharedFile]:
        """Files of broken packages that other environments share, and with them the harm."""
        others = [found.prefix for found in self._machine.conda.environments() if found.prefix != self._prefix]
        for record in records:
            if record.name in broken:
                found = health.harmed_elsewhere(self._prefix, record, others, self._digests)
                yield from (SharedFile(*places) for places in found)

    def apply(self, packages: Packages) -> None:
        """Put packages in place, then tell conda of it.

        Raises:
            NotBegun: there is no room, or something could not be fetched: nothing was changed.
            TaskFailed: with the engine's own words.

        """
        machine, prefix = self._machine, self._prefix
        if packages.solution is not None:
            protection.refuse_links(prefix)
            packages.solution.prepare(machine, prefix, reinstall=packages.broken)
        if packages.source is not None:
            clone(machine, packages.source, prefix)
            bookkeeping.note_clone(prefix, packages.source)
        protection.refuse_link(prefix, META)
        mark = unfinished.read_mark(prefix)
        if mark is not None and mark.made and not (prefix / META / MADE_BY_US).exists():
            bookkeeping.begin(prefix)
        for one in packages.unasked:
            package_files.remove_distribution(prefix, one.path)
        folders = [distributions.site_packages(prefix)]
        if packages.solution is not None:
            with permitted(machine, prefix, allowed=self._wish.allowed):
                self._install(packages, packages.solution)
        elif packages.untold:
            after = health.all_details(installed(prefix))
            bookkeeping.append_history(machine.conda, prefix, after.values(), specs=self._texts)
        if packages.installed or packages.unasked or packages.strays:
            folders.append(distributions.site_packages(prefix))  # of another Python, if that has moved
            for folder in dict.fromkeys(folders):
                package_files.tidy(folder)
        if (prefix / META / MADE_BY_US).exists():
            bookkeeping.note_cuda(prefix, platform.cuda_version(self._wish.cuda, machine.env, machine.root))

    @property
    def _texts(self) -> list[str]:
        return [spec.text for spec in self._wish.specs]

    def _install(self, packages: Packages, solution: Solution) -> None:
        machine, prefix = self._machine, self._prefix
        health.refuse_records(prefix, _going(packages, solution))
        for record in packages.torn:
            remove(record.path)
        for record in packages.records:
            if record.name in packages.broken:
                harmed = health.harmed_source(prefix, record, self._digests)
                if harmed is not None:
                    self._engine.evict(machine, harmed)
        for folder in packages.strays:
            package_files.remove_distribution(prefix, folder)
        coming = {package.name for package in solution.packages}
        requested = {name: text for name, text in health.requested(packages.installed).items() if name in coming}
        requested.update({spec.name: spec.text for spec in self._wish.specs})
        solution.install(machine, prefix, requested=requested.values(), reinstall=packages.broken)
        package_files.mend(packages.shared)
        after = health.all_details(installed(prefix))
        removed = packages.installed.keys() - after.keys()
        bookkeeping.append_history(machine.conda, prefix, after.values(), specs=self._texts, removed=removed)


def _stable(question: Attempt, names: Collection[str]) -> Attempt:
    """The question with ``names`` staying just as they are: only their own records tell what they may lack."""
    return msgspec.structs.replace(question, pinned=[*question.pinned, *names]) if names else question


def _lacking(unmet: dict[str, list[str]]) -> Iterable[str]:
    for name, texts in sorted(unmet.items()):
        yield f"the environment is inconsistent: {name} lacks {', '.join(texts)}; left as it is"


def _with_inconsistency(error: TaskFailed, unmet: dict[str, list[str]]) -> TaskFailed:
    lacking = "\n".join(
        f"inconsistent by now: {name} lacks {', '.join(texts)}" for name, texts in sorted(unmet.items())
    )
    return TaskFailed(error.message, cause="\n".join(filter(None, (error.cause, lacking))), cure=error.cure)


def _refuse_channels(machine: Machine, urls: Iterable[str]) -> None:
    """Conda's own means by which an administrator says where packages may come from, for both engines.

    Raises:
        TaskFailed: a channel is not among those.

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


def _with_pins(error: TaskFailed, pins: Mapping[str, str], names: Collection[str]) -> TaskFailed:
    """The error with the pins that may be its cause, by the files that they stand in.

    Args:
        error: Why there is no solution.
        pins: Specs that hold, and where they stand.
        names: Packages that the task asks for.

    """
    mentioned = {*names, *re.findall(r"[a-z0-9_][a-z0-9_.-]*", error.cause.lower())}
    guilty = {text: place for text, place in pins.items() if (spec := parse(text)) and spec.name in mentioned}
    if not guilty:
        return error
    return TaskFailed(
        error.message,
        cause="\n".join([error.cause, *(f"pinned: {text} in {place}" for text, place in guilty.items())]),
        cure=f"change the pin in {' or '.join(dict.fromkeys(guilty.values()))}, or ask for a version that it allows",
    )


def _going(packages: Packages, solution: Solution) -> list[CondaRecord]:
    """The packages whose files the engine will remove: those that go, change, or are put in place again."""
    coming = {package.name: package for package in solution.packages}
    return [
        record
        for record in packages.records
        if record.name in packages.broken
        or record.name not in coming
        or record.name not in packages.installed
        or not same(packages.installed[record.name], coming[record.name])
    ]

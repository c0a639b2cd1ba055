"""``ensure_r_pkg``: packages of R, from CRAN or another repository, installed by R itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec

from nbprovision.files.file_work import resources_above
from nbprovision.files.git_url import is_loopback
from nbprovision.machine.machine import Machine, once
from nbprovision.machine.network import NetworkFailed
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import AnyOf
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import DAY, Resource, Strings, Task, as_list, parameter
from nbprovision.r import installation as r_files
from nbprovision.r.description import NAME, VERSION, Dependency, Description, numbers
from nbprovision.r.installation import Installation, Package
from nbprovision.r.r_command import RCommand
from nbprovision.r.resolution import Step, resolve
from nbprovision.system import inputs, secrets
from nbprovision.system.files import (
    explained,
    make_folder,
    move_into_place,
    remove_at_once,
    temporary_folder,
    write_atomically,
)

CRAN = "https://cloud.r-project.org"
_REQUEST = re.compile(rf"({NAME.pattern})\s*(?:(>=|==)\s*({VERSION.pattern}))?")
_IN_PARENTHESES = re.compile(r"([^\s(]+)\s*\(\s*(.+?)\s*\)")  # as DESCRIPTION has it: dplyr (>= 1.1)


class RPackagesState(msgspec.Struct, frozen=True, kw_only=True):
    """The packages of an R.

    Attributes:
        installation: The R; None if an earlier task has yet to install it.
        installed: The installed packages by name, with all that they need.
        available: The packages of the repositories; None if nobody had to ask them.
        broken: With `deep`, the installed packages that cannot be loaded, each with R's reason.
        dependents: With `state: absent`, the installed packages that need a package of the task, each with its name.

    """

    installation: Installation | None
    installed: dict[str, Package] = {}
    available: tuple[Description, ...] | None = None
    broken: dict[str, str] = {}
    dependents: dict[str, str] = {}


class RPackagesPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the packages to install, each after those that it needs."""

    steps: tuple[Step, ...] = ()


class EnsureRPkg(Task[RPackagesState], frozen=True, kw_only=True):
    """Install and remove R packages, from CRAN or another repository.

    R itself installs them with everything that they need, and only packages that can be loaded are put in place. With
    `env` they go into the library of the environment, without it into the user's library of the R on the PATH. Packages
    that conda or the platform's image brought never change. A package that was built for another R (4.2 and 4.3 differ)
    is built again. `deep: true` loads each package to see whether it still works.
    """

    relations = (AnyOf(("packages",)),)
    actions: ClassVar[dict[str, str]] = {
        "install": "a package, or a package that another one needs",
        "upgrade": "to a newer version",
        "downgrade": "to an older version",
        "rebuild": "a package that was built for another R, or that cannot be loaded",
        "remove": "a package",
    }
    examples: ClassVar[str] = """
- name: Packages for the R on the PATH, as CRAN had them on that day
  ensure_r_pkg:
    packages: [fixest, "data.table>=1.14"]
    repos: https://packagemanager.posit.co/cran/2024-01-31
- name: The newest version
  ensure_r_pkg:
    packages: fixest
    repos: https://packagemanager.posit.co/cran/2024-01-31
    state: latest
- name: A package to remove
  ensure_r_pkg:
    packages: fixest
    state: absent
"""
    habits: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("name", "pkg", "package"), "write packages:"),
        **dict.fromkeys(("repo", "repository", "mirror"), "write repos: with the URL of a repository"),
        **dict.fromkeys(("lib", "library", "executable"),
                        "name the environment by env:, or a library by the task's environment: {R_LIBS_USER: FOLDER}"),
        "version": 'write it with the name: packages: ["NAME>=VERSION"]',
        "dependencies": "remove it; what a package needs is always installed",
    }  # fmt: skip

    packages: Annotated[
        Strings,
        parameter("Names as CRAN has them, perhaps with `>=VERSION` or `==VERSION`; with `state: absent` names."),
    ]
    env: Annotated[
        str | None,
        parameter(
            "The environment with the R (r-base), by name or path. Default: the R on the PATH.",
            extra={"path": "if-slash"},
        ),
    ] = None
    repos: Annotated[
        Strings,
        parameter(
            f"Repositories: URLs, or folders with `src/contrib/PACKAGES`. Default: {CRAN}.", extra={"path": "if-no-url"}
        ),
    ] = msgspec.field(default_factory=list)
    state: Annotated[
        Literal["present", "latest", "absent"],
        parameter(
            "`latest` keeps the packages at the newest version, looked up once a day or as `refresh_every` says. "
            "`absent` removes them."
        ),
    ] = "present"

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        names: dict[str, Dependency] = {}
        for dependency in self._requested():
            if names.setdefault(dependency.name, dependency) != dependency:
                raise ParameterError(
                    "packages",
                    f"{dependency.name} is requested twice: {names[dependency.name]} and {dependency}",
                    cure="remove one of them",
                )
            if self.state == "absent" and dependency.comparison:
                raise ParameterError(
                    "packages", f"'{dependency}' is more than a name", cure=f"to remove it write {dependency.name}"
                )
            if self.state == "latest" and dependency.comparison == "==":
                raise ParameterError(
                    "packages",
                    f"'{dependency}' and `state: latest` contradict each other",
                    cure=f"write {dependency.name}, or leave `state` out",
                )
        for url in as_list(self.repos):
            _check_repository(url)

    def _requested(self) -> list[Dependency]:
        return [_request(text) for text in as_list(self.packages)]

    def _names(self) -> list[str]:
        return list(dict.fromkeys(dependency.name for dependency in self._requested()))

    # ---------------------------------------------------------------------------------- its relations to other tasks

    @once
    def _prefix(self, machine: Machine) -> Path | None:
        return None if self.env is None else machine.prefix_of(self.env)

    @once
    def _installation(self, machine: Machine) -> Installation | None:
        return r_files.find(machine, self._prefix(machine))

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The packages in their library; two tasks on one library follow each other."""
        installation = self._installation(machine)
        library = str(installation.library if installation is not None else self._prefix(machine) or "R on the PATH")
        folders = {Resource("file", f"{library}/{name}") for name in self._names()} if installation else set()
        return frozenset({Resource("library of R", library), *folders})

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment, the folders above the library, and repositories that are folders."""
        prefix, installation = self._prefix(machine), self._installation(machine)
        needed = {Resource("environment", str(prefix))} if prefix is not None else set()
        needed |= {
            Resource("file", str(path)) for path in map(_folder, self._repositories(machine)) if path is not None
        }
        return frozenset(needed) | (resources_above(installation.library, machine) if installation else frozenset())

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment, so that no other task changes it meanwhile."""
        prefix = self._prefix(machine)
        return () if prefix is None else (prefix,)

    def weight(self, machine: Machine) -> Literal[1, 2]:
        """A build may take long."""
        installation = self._installation(machine)
        library = installation.library if installation is not None else None
        is_there = library is not None and all((library / name).exists() for name in self._names())
        return 1 if is_there or self.state == "absent" else 2

    def ages(self, machine: Machine) -> float | None:
        """A day with `latest`: there may be a newer version tomorrow."""
        return DAY if self.state == "latest" and self.refresh_every is None else None

    def witnesses(self, machine: Machine) -> Iterator[Path]:
        """R itself, its libraries, and the packages in them."""
        installation = self._installation(machine)
        if installation is None:
            prefix = self._prefix(machine)
            yield from () if prefix is None else (prefix / "bin/R",)
            return
        yield from (installation.program, installation.home / "library/base/DESCRIPTION", *installation.libraries)
        for package in r_files.installed(machine, installation, self._names()).values():
            if package.owner != "R":
                yield from (package.path / "DESCRIPTION", package.path / "Meta/package.rds")

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> RPackagesState:
        """Read the descriptions of the installed packages, and ask the repositories if a package is missing.

        Raises:
            TaskFailed: R is missing, or a repository cannot be read.

        """
        installation = self._installation(machine)
        if installation is None or not installation.version:
            self._require_coming(machine)
            return RPackagesState(installation=None)
        self._record(installation)
        names = self._names()
        installed = r_files.installed(machine, installation, names)
        if self.state == "absent":
            dependents = r_files.dependents(installation, names)
            return RPackagesState(installation=installation, installed=installed, dependents=dependents)
        command = RCommand(machine, installation)
        present = [name for name in installed if installed[name].owner == ""]
        broken = command.unloadable(present) if self.deep and present else {}
        state = RPackagesState(installation=installation, installed=installed, broken=broken)
        missing = [step.name for step in self._resolved(state)]
        if not missing and self.state != "latest":
            return state
        try:
            available = command.available(list(dict.fromkeys([*names, *missing])), self._repositories(machine))
        except NetworkFailed as error:
            if missing:
                raise
            machine.note(f"{error.reason}: the packages were not compared with the newest ones")
            return state
        needed = [dependency.name for offer in available for dependency in offer.to_build]
        installed = r_files.installed(machine, installation, [*names, *needed])
        return msgspec.structs.replace(state, installed=installed, available=tuple(available))

    def plan(self, state: RPackagesState) -> RPackagesPlan:
        """Compare the packages with the request.

        Raises:
            TaskFailed: no repository has a suitable version, or a package must not change.

        """
        if self.state == "absent":
            return self._plan_removal(state)
        unknown = [Step(name=name) for name in self._names()]
        steps = unknown if state.installation is None else self._resolved(state)
        changes = tuple(map(_change, steps))
        return RPackagesPlan(changes=changes, beside=True, steps=tuple(steps))

    def apply(self, plan: RPackagesPlan, machine: Machine) -> Sequence[Change] | None:
        """Build the packages beside the library, load them, and move each into its place.

        Raises:
            TaskFailed: a package could not be fetched, built or loaded; the library is as it was.

        """
        machine.forget()
        installation = self._installation(machine)
        if installation is None:
            raise self._no_r(machine)
        library = installation.library
        if self.state == "absent":
            for change in plan.changes:
                remove_at_once(library / change.target)
            return plan.changes
        if any(step.source is None for step in plan.steps):
            plan = self.plan(self.read(machine))
        packages = [step.source for step in plan.steps if step.source is not None]
        with explained(f"cannot create {library}", library):
            make_folder(library)
        command = RCommand(machine, installation)
        with temporary_folder(library / "nbprovision") as folder:
            for name in ("files", "library", "old"):
                make_folder(folder / name)
            machine.progress(f"fetching {_listed(packages)}")
            command.download(packages, folder / "files", self._repositories(machine))
            machine.progress(f"building {_listed(packages)}")
            command.install(packages, folder / "library", folder / "files")
            for package in packages:
                write_atomically(folder / "library" / package.name / r_files.MARK, "", durable=False)
                if os.path.lexists(library / package.name):
                    move_into_place(library / package.name, folder / "old" / package.name)
                move_into_place(folder / "library" / package.name, library / package.name)
        return plan.changes

    # --------------------------------------------------------------------------------------------------- its properties

    def _resolved(self, state: RPackagesState) -> list[Step]:
        assert state.installation is not None  # noqa: S101 - the callers have looked
        return resolve(
            self._requested(),
            state.installed,
            state.available,
            version=state.installation.version,
            latest=self.state == "latest",
            broken=state.broken,
        )

    def _plan_removal(self, state: RPackagesState) -> RPackagesPlan:
        changes, warnings = [], []
        for name in self._names():
            package = state.installed.get(name)
            if package is None:
                continue
            version = package.description.version
            if package.owner == "another library":
                warnings.append(
                    f"R still finds {name} {version} in {package.path.parent}, which is not the task's library"
                )
                continue
            if package.owner:
                raise TaskFailed(
                    f"{name} {version} is not removed",
                    cause={
                        "R": "it is a part of R",
                        "conda": "conda brought it",
                        "image": "the platform's image brought it",
                    }[package.owner],
                    cure=f"remove it by ensure_conda_pkg: packages: [r-{name.lower()}], state: absent"
                    if package.owner == "conda"
                    else "leave it out",
                )
            if name in state.dependents:
                raise TaskFailed(
                    f"{name} {version} is not removed",
                    cause=f"{state.dependents[name]} needs it",
                    cure=f"remove that as well: packages: [{name}, {state.dependents[name]}]",
                )
            changes.append(Change("remove", name, before=version, kind="package"))
        return RPackagesPlan(changes=tuple(changes), warnings=tuple(warnings), beside=True)

    def _record(self, installation: Installation) -> None:
        """Record what was looked at: the libraries change if a package is installed or removed by somebody else."""
        for library in installation.libraries:
            inputs.file(library)

    def _require_coming(self, machine: Machine) -> None:
        """Accept a missing R, if an earlier task makes the environment.

        Raises:
            TaskFailed: no task does.

        """
        prefix = self._prefix(machine)
        coming = machine.foretold.get(prefix) if prefix is not None else None
        if coming is not None and "r-base" in coming.packages:
            return
        if prefix not in machine.declared.values() or (prefix is not None and prefix.exists()):
            raise self._no_r(machine)

    def _no_r(self, machine: Machine) -> TaskFailed:
        prefix = self._prefix(machine)
        if prefix is None:
            return TaskFailed(
                "no R found",
                cause="the PATH has no R that works",
                cure="name an environment with r-base by `env`; ensure_conda_env with packages: [r-base] creates one",
            )
        return TaskFailed(
            f"{prefix} has no R",
            cause=f"{prefix}/bin/R is missing, or its R is damaged",
            cure="add r-base to the packages of the environment (ensure_conda_env, ensure_conda_pkg)",
        )

    def _repositories(self, machine: Machine) -> list[str]:
        """The URLs of the repositories."""
        return [
            text.rstrip("/") if "://" in text else f"file://{machine.path(text)}"
            for text in as_list(self.repos) or [CRAN]
        ]


def _request(text: str) -> Dependency:
    """A package of a playbook.

    Raises:
        ParameterError: it is not a name, or has another comparison.

    """
    match = _REQUEST.fullmatch(text.strip())
    if match is not None:
        return Dependency(match[1], match[2] or "", match[3] or "")
    name = re.split(r"[\s<>=!~(@]", text.strip(), maxsplit=1)[0]
    as_described = _IN_PARENTHESES.fullmatch(text.strip())
    if as_described is not None:
        cause, cure = "it is written as in DESCRIPTION", f"write {as_described[1]}{as_described[2].replace(' ', '')}"
    elif "/" in text:
        cause = "it is a path, a URL or a repository of git, and this task takes packages from repositories of packages"
        cure = "put the package into a repository (tools::write_PACKAGES) and name that in `repos`"
    elif NAME.fullmatch(name) and name != text.strip():
        cause = "a repository has the newest version only, so that only a lower bound or that version can be requested"
        cure = f"write {name}, {name}>=VERSION or {name}==VERSION"
    else:
        cause = (
            "a name has letters, digits and dots, at least two of them; it begins with a letter and ends with no dot"
        )
        cure = "write the name as CRAN has it"
    raise ParameterError("packages", f"'{text[:80]}' is not a package of R", cause=cause, cure=cure)


def _check_repository(text: str) -> None:
    """Refuse a URL of another kind, and one over which anybody could send other packages.

    Raises:
        ParameterError: it is one of these.

    """
    secrets.remember_url(text)
    if not text.isprintable() or "\t" in text or not text.strip():
        raise ParameterError("repos", f"{text[:80]!r} is not a repository", cure="write a URL or the path of a folder")
    if "://" not in text:
        return
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        host, parts = "", None
    scheme = parts.scheme if parts is not None else ""
    if scheme == "file" and not host and text.startswith("file:///"):
        return
    if not host or scheme not in ("http", "https") or any(character.isspace() for character in text):
        raise ParameterError(
            "repos",
            f"'{secrets.mask(text)[:80]}' is not the URL of a repository",
            cure=f"write https://HOST/PATH, such as {CRAN}, or the path of a folder",
        )
    if scheme == "http" and not is_loopback(host):
        raise ParameterError(
            "repos",
            f"'{secrets.mask(text)[:80]}' is not encrypted",
            cause="packages are not signed: anybody on the way could send other ones",
            cure="write https://",
        )


def _folder(url: str) -> Path | None:
    """The folder of a repository that is one."""
    return Path(url[7:]) if url.startswith("file://") else None


def _change(step: Step) -> Change:
    after = step.source.version if step.source is not None else None
    action = "install"
    if step.before is not None:
        action = "upgrade"
        if step.reason:
            action = "rebuild"
        elif after is not None and numbers(after) < numbers(step.before):
            action = "downgrade"
    origin = step.source.repository.partition("/src/contrib")[0] if step.source is not None else None
    return Change(action, step.name, step.before, after, kind="package", channel=origin)


def _listed(packages: Sequence[Description]) -> str:
    names = ", ".join(package.name for package in packages[:5])
    return f"{names} and {len(packages) - 5} more" if len(packages) > 5 else names

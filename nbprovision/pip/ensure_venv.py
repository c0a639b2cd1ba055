"""``ensure_venv``: a virtual environment with a requested Python and packages, created by uv."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nbprovision.machine import distributions, interpreters, protection
from nbprovision.machine.environments import is_environment, is_virtual
from nbprovision.machine.interpreters import minor
from nbprovision.machine.machine import Machine
from nbprovision.machine.protection import refuse_two_kinds
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import Excludes, OneOf
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import LockRequest, Resource, Strings, as_list, parameter
from nbprovision.pip import requirements, requirements_files, satisfied, virtual_environment
from nbprovision.pip.lock_request import PipLockRequest
from nbprovision.pip.packages import ACTIONS, PipPackages, WithPip
from nbprovision.pip.plan import PipState
from nbprovision.pip.requirements_files import RequirementSet
from nbprovision.pip.virtual_environment import CONFIG, Base
from nbprovision.system import unfinished
from nbprovision.system.files import remove_at_once

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_RESERVED = ("base", "root", "all")  # conda's names of an installation, and the `all` of `envs`
_ACTIVATE = "bin/activate"


class VenvState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a virtual environment.

    Attributes:
        name: Its name in messages.
        exists: Whether its path exists.
        version: The version of its Python, if known.
        fault: Why it must be created or repaired; empty if it need not.
        base: The Python to create it from; None if that is not needed, or is yet to come.
        incoming: The packages to install into an environment that is created, each with the expected version.
        pip: The state of the packages, if the environment stays; None without packages.

    """

    name: str
    exists: bool
    version: str | None = None
    fault: str = ""
    base: Base | None = None
    incoming: tuple[tuple[str, str], ...] = ()
    pip: PipState | None = None

    @property
    def empties(self) -> bool:
        """Whether the installed packages are removed, as they are for another minor version of Python."""
        return self.exists and self.base is not None and minor(self.version) != minor(self.base.version)


class VenvPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the state before them."""

    state: VenvState


class EnsureVenv(WithPip[VenvState], frozen=True, kw_only=True):
    """Create and maintain a virtual environment.

    uv creates it from a Python of this machine. Other tasks can name it (`env`), and `all` includes it. Other packages
    in it stay, unless it is created again: if another minor version of Python is requested, or if its Python is gone
    and no other of that version is left. `%pip` works in its notebooks only if `pip` is among its packages.
    """

    relations = (
        OneOf(("name", "path"), cure_missing="give a name, which other tasks can use, or the path of its folder"),
        Excludes("state", "absent", ("packages", "requirements", "python")),
    )
    actions = {
        "create": "the environment",
        "mend": "an environment whose Python is gone or changed, or whose creation was interrupted; its packages stay",
        "recreate": "an environment for another version of Python; packages that were installed by hand are lost",
        **ACTIONS,
        "remove": "the environment, a distribution, or the remains of an interrupted removal",
    }
    examples = """
    - name: A virtual environment by name
      ensure_venv:
        name: plots
        packages: [ipykernel, humanize]

    - name: By path, with a version of Python, and the packages of a file
      ensure_venv:
        path: ./.venv
        python: ">=3.10"
        requirements: requirements.txt

    - name: An environment that is no longer needed
      ensure_venv:
        name: old
        state: absent
    """
    habits = {"prefix": "write path: for the folder of a virtual environment", "virtualenv": "write path:"}

    name: Annotated[
        str | None,
        parameter(
            "The name of the environment. Its folder is in `SageMaker/envs` on a notebook instance, elsewhere in "
            "`envs` of the tool's home. No conda environment may have that name."
        ),
    ] = None
    path: Annotated[
        str | None, parameter("The path of the environment, instead of a name: `.venv`.", extra={"path": True})
    ] = None
    python: Annotated[
        str | None,
        parameter(
            'An installed Python: a version (`"3.12"`, `"3.12.4"`, `">=3.10,<3.13"`) or the path of an interpreter. '
            "Nothing is downloaded. Default: the present one; for a new environment the Python that `pip install` "
            "uses if no environment is active.",
            extra={"path": "if-slash"},
        ),
    ] = None
    packages: Annotated[
        Strings,
        parameter("Requirements, as in `ensure_pip_pkg`.", extra={"path": requirements.anchored}),
    ] = msgspec.field(default_factory=list)
    requirements: Annotated[
        Strings,
        parameter(
            "Requirements files, with everything that pip allows in them, and lock files named `pylock.toml` or "
            "`pylock.NAME.toml` (PEP 751), whose packages are installed exactly as locked.",
            extra={"path": True, "document": "requirements pylock"},
        ),
    ] = msgspec.field(default_factory=list)
    state: Annotated[Literal["present", "absent"], parameter("Whether the environment exists.")] = "present"

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        if self.name is not None and (not _NAME.fullmatch(self.name) or self.name in _RESERVED):
            raise ParameterError(
                "name",
                f"'{self.name[:60]}' cannot be the name of an environment",
                cure="use letters, digits and . _ + - ; or give `path`",
            )
        if self.python is not None and "/" not in self.python and not interpreters.is_version_request(self.python):
            raise ParameterError(
                "python",
                f"'{self.python[:60]}' is neither a version of Python nor a path",
                cure='write a version, python: "3.12", or a full path, python: /usr/bin/python3.12',
            )
        if self.has_packages:
            self.packages_in("/")  # reports mistakes in them before anything runs

    # ------------------------------------------------------------------------------------ its place among other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The environment, and the packages."""
        return super().provides(machine) | {Resource("environment", str(self.prefix(machine)))}

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The configuration of indexes, and the environment that contains its Python."""
        needed = super().requires(machine)
        source = self._source(machine)
        if source is not None:
            needed |= {Resource("environment", str(source))}
        return needed - {Resource("environment", str(self.prefix(machine)))}

    def declares(self, machine: Machine) -> dict[str, Path]:
        """The name, for later tasks."""
        if self.state == "absent":
            return {}
        prefix = self.prefix(machine)
        refuse_two_kinds(machine, prefix.name, prefix, virtual=True)
        machine.virtual.add(prefix)
        return {prefix.name: prefix}

    def lock_requests(self, machine: Machine) -> Iterable[LockRequest]:
        """The packages, and the Python that the environment is created from."""
        if self.state == "absent":
            return
        prefix = self.prefix(machine)
        yield PipLockRequest(prefix=prefix, wanted=RequirementSet(), environment=prefix, python=self.python, makes=True)
        yield from super().lock_requests(machine)

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment, unless it is removed, which is a single step."""
        return () if self.state == "absent" else (self.prefix(machine),)

    def weight(self, machine: Machine) -> Literal[1, 2]:
        """2 for a new environment, which takes long."""
        return 1 if is_virtual(self.prefix(machine)) else 2

    def witnesses(self, machine: Machine) -> Iterator[Path]:
        """The environment's own files, those of its packages, and the paths of conda environments of its name."""
        prefix = self.prefix(machine)
        yield from (prefix, prefix / CONFIG)
        if self.name is not None:
            yield from (folder / self.name for folder in machine.conda.folders)
        if self.state == "absent":
            return
        yield from (prefix / "bin/python", prefix / _ACTIVATE, prefix / unfinished.MARK)
        libraries = distributions.site_packages(prefix)
        yield from [libraries] if libraries is not None else []
        if self.python is not None and "/" in self.python:
            yield machine.path(self.python)
        yield from super().witnesses(machine)

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> VenvState:
        """Find out the version of its Python and the state of its packages.

        Raises:
            TaskFailed: its path holds something else, or there is no such Python.

        """
        prefix = self.prefix(machine)
        self._refuse(prefix, machine)
        if self.state == "absent":
            return VenvState(name=prefix.name, exists=os.path.lexists(prefix))
        exists = is_virtual(prefix)
        version, fault = self._examined(prefix, machine)
        if not fault:
            return VenvState(name=prefix.name, exists=True, version=version, pip=self.read_packages(machine))
        source = self._source(machine)
        awaited = source is not None and self.python is not None and not os.path.exists(machine.path(self.python))
        base = None if awaited else virtual_environment.choose(machine, self.python, preferred=minor(version))
        state = VenvState(name=prefix.name, exists=exists, version=version, fault=fault, base=base)
        installed = distributions.installed(prefix) if exists and not state.empties else {}
        return msgspec.structs.replace(state, incoming=tuple(self._incoming(machine, base, installed)))

    def plan(self, state: VenvState) -> VenvPlan:
        """Compare the state with the parameters."""
        if self.state == "absent":
            gone = (Change("remove", state.name, before="present"),) if state.exists else ()
            return VenvPlan(changes=gone, state=state)
        if not state.fault:
            pip = self.plan_packages(state.pip)
            return VenvPlan(changes=pip.changes, warnings=pip.warnings, state=state)
        action = "create" if not state.exists else "recreate" if state.empties else "mend"
        after = f"Python {state.base.version}" if state.base is not None else f"the Python of {self.python}"
        created = Change(action, state.name, before=state.fault if state.exists else None, after=after)
        incoming = [Change("install", name, after=version or None, kind="package") for name, version in state.incoming]
        return VenvPlan(changes=(created, *incoming), state=state)

    def apply(self, plan: VenvPlan, machine: Machine) -> Sequence[Change]:
        """Create or repair the environment if necessary, then install.

        Raises:
            TaskFailed: with uv's message.

        """
        prefix = self.prefix(machine)
        state = plan.state
        if self.state == "absent":
            remove_at_once(prefix)
            return plan.changes
        done: list[Change] = []
        if state.fault:
            base = state.base or virtual_environment.choose(machine, self.python)
            machine.progress(f"creating the virtual environment {state.name}")
            virtual_environment.create(machine, prefix, base, empty=state.empties or not state.exists)
            machine.notes[self._created_key(prefix)] = True
            machine.forget()
            done.append(plan.changes[0])
        missing = self.plan_packages(self.read_packages(machine))
        return [*done, *self.apply_packages(missing, machine)]

    # -------------------------------------------------------------------------------------------------- its properties

    def prefix(self, machine: Machine) -> Path:
        """The folder of the environment."""
        if self.name is None:
            return machine.path(str(self.path))
        existing = machine.conda.virtual_environments().get(self.name)
        return existing or machine.conda.new_virtual_prefix(self.name)

    def _source(self, machine: Machine) -> Path | None:
        """The environment of the playbook that contains the interpreter of `python`."""
        if self.python is None or "/" not in self.python:
            return None
        parents = machine.path(self.python).parents
        return next((prefix for prefix in machine.declared.values() if prefix in parents), None)

    def _refuse(self, prefix: Path, machine: Machine) -> None:
        """Refuse a path that holds something else, and a name of a conda environment.

        Raises:
            TaskFailed: it is one of these.

        """
        taken = machine.conda.prefix_of(self.name) if self.name is not None else None
        if self.state == "present" and taken is not None:
            raise TaskFailed(
                f"a conda environment '{self.name}' already exists",
                cause=f"it is at {taken}, and a name must mean one environment",
                cure="give the virtual environment another name, or remove the other one (ensure_conda_env, absent)",
            )
        if not os.path.lexists(prefix):
            return
        if self.state == "absent":
            protection.refuse_running(prefix)
        mark = unfinished.read_mark(prefix)
        ours = mark is not None and mark.task == self.kind()
        empty = prefix.is_dir() and not any(name != unfinished.MARK for name in os.listdir(prefix))
        if is_environment(prefix) or not (ours or empty or is_virtual(prefix)):
            raise TaskFailed(
                f"{prefix} exists and is not a virtual environment",
                cause="it is a conda environment" if is_environment(prefix) else f"it has no {CONFIG}",
                cure="give another name or path, or move it out of the way",
            )

    def _examined(self, prefix: Path, machine: Machine) -> tuple[str | None, str]:
        """The version of its Python, and why it must be created or repaired; empty if it need not."""
        if not is_virtual(prefix):
            return None, "missing"
        recorded = distributions.python_version(prefix)
        python = prefix / "bin/python"
        probed = interpreters.probe(machine, python)
        if probed is None:
            link = f", which linked to {os.readlink(python)}" if python.is_symlink() else ""
            return recorded, f"its Python is gone{link}"
        if os.path.realpath(probed.prefix) != os.path.realpath(prefix):
            return recorded, "its Python belongs to another environment"
        if minor(probed.version) != minor(recorded):
            return recorded, f"its Python was {recorded}, and is now {probed.version}"
        if self.python is not None and not _fits(self.python, probed, machine):
            return probed.version, f"Python {probed.version}"
        libraries = Path(probed.folders[0])
        if not libraries.is_dir() or not (prefix / _ACTIVATE).is_file():
            return probed.version, "it is incomplete"
        mark = unfinished.read_mark(prefix)
        interrupted = mark is not None and mark.made and prefix in machine.suspect
        if interrupted and self._created_key(prefix) not in machine.notes:
            return probed.version, "its creation was interrupted"
        return probed.version, ""

    def _created_key(self, prefix: Path) -> tuple[str, Path]:
        """The key of the machine's note that this run has created or repaired the environment."""
        return (self.kind(), prefix)

    # -------------------------------------------------------------------------------------------------- its packages

    @property
    def has_packages(self) -> bool:
        """Whether there are packages to install."""
        return bool(as_list(self.packages) or as_list(self.requirements))

    def packages_in(self, env: str) -> PipPackages:
        """The pip task for the environment."""
        return PipPackages(
            packages=self.packages,
            requirements=self.requirements,
            env=env,
            deep=self.deep,
            refresh_every=self.refresh_every,
        )

    def _incoming(
        self, machine: Machine, base: Base | None, installed: satisfied.Installed
    ) -> Iterator[tuple[str, str]]:
        """The requested packages that are not installed in an environment without a working Python."""
        if not self.has_packages:
            return
        paths = [machine.path(text) for text in as_list(self.requirements)]
        requested = requirements_files.read(as_list(self.packages), paths, [], machine.env)
        requested = requirements_files.as_locked(requested, machine.locked.get(self.prefix(machine)), machine.env)
        if base is None:
            applying = requested.unconditional
        else:
            environment = requirements.marker_environment(base.version)
            everything = requirements_files.selected(requested, environment).all
            applying = [wanted for wanted in everything if requirements.applies(wanted, environment)]
        first: dict[str, requirements.PipRequirement] = {}
        for wanted in applying:
            first.setdefault(wanted.name or wanted.shown, wanted)
        for wanted in first.values():
            if wanted.name is None or wanted.name not in installed:
                yield wanted.name or wanted.shown, satisfied.expected(wanted)


def _fits(request: str, probed: interpreters.Interpreter, machine: Machine) -> bool:
    """Whether an environment has the requested Python; a path means that Python by any of its names.

    If the interpreter at that path is gone, an environment that was created from it and still runs is not replaced.
    """
    if "/" not in request:
        return interpreters.satisfies(probed.version, request)
    wanted = interpreters.probe(machine, machine.path(request))
    return wanted is None or (wanted.base == probed.base and wanted.version == probed.version)

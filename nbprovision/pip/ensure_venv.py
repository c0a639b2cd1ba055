"""``ensure_venv``: a virtual environment by uv, by name or path, with the Python and the packages asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nbprovision.machine import distributions, folder_guard, interpreters, virtual_environments
from nbprovision.machine.environments import is_environment
from nbprovision.machine.folder_guard import refuse_two_kinds
from nbprovision.machine.machine import Machine
from nbprovision.machine.virtual_environments import minor
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import Excludes, OneOf
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Resource, Strings, as_list, parameter
from nbprovision.pip import examples as pip_examples
from nbprovision.pip import requirements, requirements_files, satisfied, virtual_environment
from nbprovision.pip.packages import PipPackages
from nbprovision.pip.state import PipState
from nbprovision.pip.virtual_environment import CONFIG, Base
from nbprovision.pip.with_pip import WithPip
from nbprovision.system import unfinished
from nbprovision.system.files import remove_at_once

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_RESERVED = ("base", "root", "all")  # conda's names of an installation, and what `envs` means by it
_ACTIVATE = "bin/activate"


class VenvState(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of a virtual environment.

    Attributes:
        name: What to call it.
        there: Whether something is at its place.
        version: Of its Python, as far as that is known; None where there is none.
        harm: Why it has to be made or mended, empty where it need not be.
        base: The Python to make it from; None where that is not needed, or is still to come.
        coming: Packages that are to go into an environment which is made anew, each with what is expected.
        pip: What there is of the packages, where the environment stays; None without any.

    """

    name: str
    there: bool
    version: str | None = None
    harm: str = ""
    base: Base | None = None
    coming: tuple[tuple[str, str], ...] = ()
    pip: PipState | None = None

    @property
    def empties(self) -> bool:
        """Whether what is installed goes, as it is for another minor version of Python."""
        return self.there and self.base is not None and minor(self.version) != minor(self.base.version)


class VenvPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the state that they lead away from."""

    state: VenvState


class EnsureVenv(WithPip[VenvState], frozen=True, kw_only=True):
    """Create and maintain a virtual environment, made by uv from a Python of this machine.

    Other tasks take it by name (`env`), and `all` includes it. What else is installed in it stays, unless it is made
    anew: where another minor version of Python is asked for, or its Python is gone and none of that version is left.
    An environment without `pip` among its packages has none, so that `%pip` does not work in its notebooks.
    """

    relations = (
        OneOf(("name", "path"), cure_missing="give a name, by which other tasks know it, or the path of its folder"),
        Excludes("state", "absent", ("packages", "requirements", "python")),
    )
    actions = {
        "create": "the environment",
        "mend": "an environment whose Python is gone or another one, or which is half made; what is installed stays",
        "recreate": "it is made anew for another version of Python, and what was installed by hand is gone",
        **pip_examples.ACTIONS,
        "remove": "the environment, a distribution, or what a killed removal left of one",
    }
    examples = """
    - name: A virtual environment by name
      ensure_venv:
        name: plots
        packages: [ipykernel, humanize]

    - name: By path, of a version of Python, with what a file asks for
      ensure_venv:
        path: ./.venv
        python: ">=3.10"
        requirements: requirements.txt

    - name: One that is not wanted any more
      ensure_venv:
        name: old
        state: absent
    """
    habits = {"prefix": "write path: for the folder of a virtual environment", "virtualenv": "write path:"}

    name: Annotated[
        str | None,
        parameter(
            "The environment by name: in `SageMaker/envs` on a notebook instance, elsewhere in `envs` of the tool's "
            "home. No environment of conda's may have that name."
        ),
    ] = None
    path: Annotated[
        str | None, parameter("The environment by path, instead of a name: `.venv`.", extra={"path": True})
    ] = None
    python: Annotated[
        str | None,
        parameter(
            'Its Python, one that is on this machine: a version (`"3.12"`, `"3.12.4"`, `">=3.10,<3.13"`) or the path '
            "of an interpreter. Nothing is downloaded. Default: what is there stays; for a new environment the Python "
            "that `pip install` means where no environment is active.",
            extra={"path": "if-slash"},
        ),
    ] = None
    packages: Annotated[
        Strings,
        parameter("Requirements, as `ensure_pip_pkg` takes them.", extra={"path": requirements.anchored}),
    ] = msgspec.field(default_factory=list)
    requirements: Annotated[
        Strings,
        parameter(
            "Requirements files, with all that pip allows in them.", extra={"path": True, "document": "requirements"}
        ),
    ] = msgspec.field(default_factory=list)
    state: Annotated[Literal["present", "absent"], parameter("Whether the environment is to be there.")] = "present"

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        if self.name is not None and (not _NAME.fullmatch(self.name) or self.name in _RESERVED):
            raise ParameterError(
                "name",
                f"'{self.name[:60]}' cannot be the name of an environment",
                cure="use letters, digits and . _ + - ; for a folder give path",
            )
        if self.python is not None and "/" not in self.python and not virtual_environments.is_request(self.python):
            raise ParameterError(
                "python",
                f"'{self.python[:60]}' is neither a version of Python nor the path of one",
                cure='write a version, python: "3.12", or a whole path, python: /usr/bin/python3.12',
            )
        if self.has_packages:
            self.packages_in("/")  # what is wrong with them is told before anything runs

    # ------------------------------------------------------------------------------------ its place among other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The environment, and the packages."""
        return super().provides(machine) | {Resource("environment", str(self.prefix(machine)))}

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """Where packages come from, and the environment that its Python is in."""
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

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment; one that goes does so in a single step."""
        return () if self.state == "absent" else (self.prefix(machine),)

    def weight(self, machine: Machine) -> Literal[1, 2]:
        """A new environment takes long."""
        return 1 if virtual_environments.is_virtual(self.prefix(machine)) else 2

    def witnesses(self, machine: Machine) -> Iterator[Path]:
        """What makes it one, its Python, its mark, what vouches for the packages; and the folders of conda's names."""
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
        """Ask its Python, where that is another file than before, and look at the packages.

        Raises:
            TaskFailed: something else is at its place, or there is no such Python.

        """
        prefix = self.prefix(machine)
        self._refuse(prefix, machine)
        if self.state == "absent":
            return VenvState(name=prefix.name, there=os.path.lexists(prefix))
        there = virtual_environments.is_virtual(prefix)
        version, harm = self._judged(prefix, machine)
        if not harm:
            return VenvState(name=prefix.name, there=True, version=version, pip=self.read_packages(machine))
        source = self._source(machine)
        awaited = source is not None and self.python is not None and not os.path.exists(machine.path(self.python))
        base = None if awaited else virtual_environment.choose(machine, self.python, rather=minor(version))
        state = VenvState(name=prefix.name, there=there, version=version, harm=harm, base=base)
        if there and not state.empties and distributions.site_packages(prefix) is not None:
            installed = distributions.installed(prefix)
        else:
            installed = {}
        return msgspec.structs.replace(state, coming=tuple(self._coming(machine, base, installed)))

    def plan(self, state: VenvState) -> VenvPlan:
        """Compare what is there with what is asked for."""
        if self.state == "absent":
            gone = (Change("remove", state.name, before="present"),) if state.there else ()
            return VenvPlan(changes=gone, state=state)
        if not state.harm:
            pip = self.plan_packages(state.pip)
            return VenvPlan(changes=pip.changes, warnings=pip.warnings, state=state)
        action = "create" if not state.there else "recreate" if state.empties else "mend"
        after = f"Python {state.base.version}" if state.base is not None else f"the Python of {self.python}"
        made = Change(action, state.name, before=state.harm if state.there else None, after=after)
        coming = [Change("install", name, after=wanted or None, kind="package") for name, wanted in state.coming]
        return VenvPlan(changes=(made, *coming), state=state)

    def apply(self, plan: VenvPlan, machine: Machine) -> Sequence[Change]:
        """Make the environment where it is missing or harmed, then install.

        Raises:
            TaskFailed: with uv's own words.

        """
        prefix = self.prefix(machine)
        state = plan.state
        if self.state == "absent":
            remove_at_once(prefix)
            return plan.changes
        done: list[Change] = []
        if state.harm:
            base = state.base or virtual_environment.choose(machine, self.python)
            machine.progress(f"making the virtual environment {state.name}")
            virtual_environment.make(machine, prefix, base, empty=state.empties or not state.there)
            machine.notes[self._made(prefix)] = True
            machine.forget()
            done.append(plan.changes[0])
        missing = self.plan_packages(self.read_packages(machine))
        return [*done, *self.apply_packages(missing, machine)]

    # ----------------------------------------------------------------------------------------------------- what it is

    def prefix(self, machine: Machine) -> Path:
        """The folder of the environment."""
        if self.name is None:
            return machine.path(str(self.path))
        there = virtual_environments.named(machine.conda).get(self.name)
        return there or virtual_environments.new_prefix(machine.conda, self.name)

    def _source(self, machine: Machine) -> Path | None:
        """The environment of the playbook that the interpreter named by `python` is in."""
        if self.python is None or "/" not in self.python:
            return None
        above = machine.path(self.python).parents
        return next((prefix for prefix in machine.declared.values() if prefix in above), None)

    def _refuse(self, prefix: Path, machine: Machine) -> None:
        """Refuse what is no virtual environment, and a name that conda has.

        Raises:
            TaskFailed: it is one of these.

        """
        taken = machine.conda.prefix_of(self.name) if self.name is not None else None
        if self.state == "present" and taken is not None:
            raise TaskFailed(
                f"there is a conda environment '{self.name}' already",
                cause=f"it is at {taken}, and a name means one environment",
                cure="give the virtual environment another name, or remove the other one (ensure_conda_env, absent)",
            )
        if not os.path.lexists(prefix):
            return
        if self.state == "absent":
            folder_guard.refuse_running(prefix)
        mark = unfinished.read_mark(prefix)
        ours = mark is not None and mark.task == self.kind()
        empty = prefix.is_dir() and not any(name != unfinished.MARK for name in os.listdir(prefix))
        if is_environment(prefix) or not (ours or empty or virtual_environments.is_virtual(prefix)):
            raise TaskFailed(
                f"{prefix} is there and is not a virtual environment",
                cause="it is an environment of conda's" if is_environment(prefix) else f"it has no {CONFIG}",
                cure="give another name or path, or move what is there out of the way",
            )

    def _judged(self, prefix: Path, machine: Machine) -> tuple[str | None, str]:
        """The version of its Python, and why it has to be made or mended; empty where it need not be."""
        if not virtual_environments.is_virtual(prefix):
            return None, "missing"
        recorded = distributions.python_version(prefix)
        python = prefix / "bin/python"
        probed = interpreters.probe(machine, python)
        if probed is None:
            leads = f", which led to {os.readlink(python)}" if python.is_symlink() else ""
            return recorded, f"its Python is gone{leads}"
        if os.path.realpath(probed.prefix) != os.path.realpath(prefix):
            return recorded, "its Python is not its own"
        if minor(probed.version) != minor(recorded):
            return recorded, f"its Python was {recorded}, and is {probed.version} now"
        if self.python is not None and not _fits(self.python, probed, machine):
            return probed.version, f"Python {probed.version}"
        libraries = Path(probed.folders[0])
        if not libraries.is_dir() or not (prefix / _ACTIVATE).is_file():
            return probed.version, "it is not whole"
        mark = unfinished.read_mark(prefix)
        half_made = mark is not None and mark.made and prefix in machine.suspect
        if half_made and self._made(prefix) not in machine.notes:
            return probed.version, "a run ended while it was made"
        return probed.version, ""

    def _made(self, prefix: Path) -> tuple[str, Path]:
        """Under which the machine has it noted that this run has made or mended the environment."""
        return (self.kind(), prefix)

    # -------------------------------------------------------------------------------------------------- its packages

    @property
    def has_packages(self) -> bool:
        """Whether there is something to install."""
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

    def _coming(self, machine: Machine, base: Base | None, installed: satisfied.Installed) -> Iterator[tuple[str, str]]:
        """What is asked for and not installed, where the environment cannot be asked yet."""
        if not self.has_packages:
            return
        paths = [machine.path(text) for text in as_list(self.requirements)]
        asked = requirements_files.read(as_list(self.packages), paths, [], machine.env)
        environment = requirements.marker_environment(base.version) if base is not None else None
        for wanted in asked.wanted:
            if environment is not None and not requirements.applies(wanted, environment):
                continue
            if environment is None and wanted.marker:
                continue
            if wanted.name is None or wanted.name not in installed:
                yield wanted.name or wanted.shown, satisfied.expected(wanted)


def _fits(request: str, probed: interpreters.Interpreter, machine: Machine) -> bool:
    """Whether the Python of an environment is one of those that will do; a path means one Python, by any of its names.

    An interpreter that is there no more is no reason to make anew what was made from it and runs.
    """
    if "/" not in request:
        return virtual_environments.satisfies(probed.version, request)
    wanted = interpreters.probe(machine, machine.path(request))
    return wanted is None or (wanted.base == probed.base and wanted.version == probed.version)

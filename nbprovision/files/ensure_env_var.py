"""``ensure_env_var``: environment variables of kernels and of shells."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from nbprovision.files.edited_text import DamagedBlock, Place, with_block, without_block
from nbprovision.files.file_work import (
    FILE_ACTIONS,
    FilePlan,
    TextState,
    carry_out,
    check_text,
    edited,
    joined,
    read_text,
    written,
)
from nbprovision.machine import kernels
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed, nearest
from nbprovision.model.relations import AnyOf, Needs
from nbprovision.model.task import Resource, Setting, Strings, Task, as_list, parameter
from nbprovision.system import secrets
from nbprovision.system.files import PathState, path_state

# A login shell of bash reads the first of these that is there, another one ~/.bashrc, and a terminal of JupyterLab may
# be either: https://www.gnu.org/software/bash/manual/html_node/Bash-Startup-Files.html
_LOGIN = (".bash_profile", ".bash_login", ".profile")
_INTERACTIVE = ".bashrc"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GLOB = re.compile(r"[*?\[]")
_ALL = "all"


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel's description: its file, and what it says (None for what is no description)."""

    path: Path
    entry: PathState
    spec: Any


class EnvVarState(msgspec.Struct, frozen=True, kw_only=True):
    """Where the variables are, or are to be.

    Attributes:
        shells: Files that shells read.
        kernels: Kernels of the user.
        missing: Names that are asked for and are no kernel of the user's.
        there: Names of all kernels of the user.
        volume: What survives a restart.

    """

    shells: tuple[TextState, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    missing: tuple[str, ...] = ()
    there: tuple[str, ...] = ()
    volume: Path | None = None


class EnsureEnvVar(Task[EnvVarState], frozen=True, kw_only=True):
    """Environment variables in the user's kernels, and in the shells of terminals.

    A value is taken as it is written: no shell and no kernel evaluates anything in it. In a shell's file each variable
    is a block of its own, in a kernel an entry of `env` in its kernel.json; `ensure_kernel` leaves such entries alone.
    Kernels and terminals that run already have them after their next start. The kernels are those that `jupyter
    kernelspec` knows as the user's own when it is this task's turn, so it belongs behind the tasks that make them.
    """

    relations = (
        AnyOf(("name", "vars"), cure="give `name` and `value`, or `vars`"),
        Needs("value", ("name",)),
    )
    actions: ClassVar[dict[str, str]] = {key: FILE_ACTIONS[key] for key in ("create", "write", "set mode")}
    examples: ClassVar[str] = """
- name: Where the models are
  ensure_env_var:
    name: MODEL_HOME
    value: /home/ec2-user/SageMaker/models
- name: Variables of the terminals only
  ensure_env_var:
    where: shells
    vars:
      EDITOR: nano
      PAGER: less -R
- name: Not any more
  ensure_env_var:
    name: OLD_SETTING
    state: absent
"""
    habits: ClassVar[dict[str, str]] = {
        "key": "write name:",
        "variable": "write name:",
        "variables": "write vars:",
        "env": "write kernels: with the names of kernels",
        "path": "write where: kernels, shells or everywhere",
    }

    awaits: ClassVar[frozenset[str]] = frozenset({"kernel"})

    name: Annotated[str | None, parameter("The variable.")] = None
    value: Annotated[str | int | None, parameter("Its value.")] = None
    vars: Annotated[dict[str, str | int], parameter("Several variables, name to value.")] = msgspec.field(
        default_factory=dict
    )
    where: Annotated[
        Literal["everywhere", "kernels", "shells"],
        parameter("In the user's kernels, in shells (`~/.bashrc`, and what a login shell reads), or in both."),
    ] = "everywhere"
    kernels: Annotated[Strings, parameter("Which kernels: names, globs, or `all` of the user's.")] = _ALL
    state: Annotated[Literal["present", "absent"], parameter("Whether they are to be set.")] = "present"
    follow: Annotated[
        bool, parameter("Where a shell's file is a link that leads out of its folder: change what it names.")
    ] = False

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        if self.name is not None and self.state == "present" and self.value is None:
            raise ParameterError("name", f"`{self.name}` needs a `value`", cure='write value: "" for an empty one')
        for name, value in self._variables.items():
            key = "name" if name == self.name else "vars"
            if not _NAME.fullmatch(name):
                raise ParameterError(
                    key, f"{name[:60]!r} is not the name of a variable", cure="letters, digits and _, no digit first"
                )
            check_text(key, value)
            if "\0" in value:
                raise ParameterError(key, f"the value of {name} has a NUL in it, which no variable can hold")
        if not as_list(self.kernels):
            raise ParameterError("kernels", "`kernels` names none", cure="write where: shells, or name kernels")

    @property
    def _variables(self) -> dict[str, str]:
        own = {} if self.name is None else {self.name: "" if self.value is None else str(self.value)}
        return {**own, **{name: str(value) for name, value in self.vars.items()}}

    @property
    def _secret(self) -> bool:
        """Whether one of the values is not for everybody's eyes; each such value is masked from now on."""
        found = [secrets.remember_if_secret(name, value) for name, value in self._variables.items()]
        return any(found)

    # ------------------------------------------------------------------------------------ its place among other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The files of shells, and those of the kernels that are named."""
        return frozenset(Resource("file", str(path)) for path in (*self._shell_files(machine), *self._named(machine)))

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The kernels that are named."""
        return frozenset(Resource("kernel", str(path.parent)) for path in self._named(machine))

    def shared_values(self, machine: Machine) -> Iterator[Setting]:
        """Each variable in each file, as it stands there; of kernels that a pattern means the pattern is given."""
        present = self.state == "present"
        for name, value in self._variables.items():
            for path in self._shell_files(machine):
                yield Setting(str(path), (name,), value if present else None)
            for kernel in as_list(self.kernels) if self.where != "shells" else ():
                path = self._folder(machine) / ("*" if kernel == _ALL else kernel.lower()) / kernels.SPEC
                wanted = _in_kernel(value) if present else None
                yield Setting(str(path), ("env", name), wanted, pattern=self._is_pattern(kernel))

    def barrier(self, machine: Machine) -> bool:
        """Which kernels a pattern means is known when all that stands before it is done."""
        return self.where != "shells" and any(map(self._is_pattern, as_list(self.kernels)))

    def weight(self, machine: Machine) -> Literal[0]:
        """Small files."""
        return 0

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The files of shells and kernels, and the folder in which a new kernel would show."""
        yield from self._shell_files(machine)
        if self.where != "shells":
            folder = self._folder(machine)
            yield folder
            yield from (folder / name / kernels.SPEC for name in sorted(kernels.installed([folder])))

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> EnvVarState:
        """The files as they stand.

        Raises:
            TaskFailed: one of them cannot be read.

        """
        shells = tuple(read_text(path, follow=self.follow) for path in self._shell_files(machine))
        if self.where == "shells":
            return EnvVarState(shells=shells, volume=machine.platform.volume)
        there = kernels.installed([self._folder(machine)])
        asked = as_list(self.kernels)
        chosen = [name for name in there if any(self._means(pattern, name) for pattern in asked)]
        missing = [name for name in asked if not self._is_pattern(name) and name.lower() not in there]
        return EnvVarState(
            shells=shells,
            kernels=tuple(_kernel(there[name]) for name in sorted(chosen)),
            missing=tuple(missing) if self.state == "present" else (),
            there=tuple(sorted(there)),
            volume=machine.platform.volume,
        )

    def plan(self, state: EnvVarState) -> FilePlan:
        """What to write into which file.

        Raises:
            TaskFailed: a kernel is not there, a file cannot be edited, or a secret would get onto the volume.

        """
        if state.missing:
            raise TaskFailed(
                f"there is no kernel '{state.missing[0]}' of this user{nearest(state.missing[0], state.there)}",
                cause=f"there are: {', '.join(state.there)}" if state.there else "there is none at all",
                cure="make it by ensure_kernel before this task, or correct `kernels`",
            )
        if self._secret and self.state == "present":
            for place in (*(one.place for one in state.shells), *(one.path for one in state.kernels)):
                _refuse_persistent(place, state.volume)
        made = joined((*map(self._shell, state.shells), *map(self._kernel, state.kernels)))
        return msgspec.structs.replace(made, warnings=tuple(self._doubts()), beside=True)

    def apply(self, plan: FilePlan, machine: Machine) -> None:
        """Write them.

        Raises:
            TaskFailed: one cannot be written.

        """
        carry_out(plan, machine)

    def _shell(self, file: TextState) -> FilePlan:
        before = file.text
        text = before or ""
        try:
            for name, value in self._variables.items():
                begin, end = f"# BEGIN {name} (nbprovision)", f"# END {name} (nbprovision)"
                if self.state == "absent":
                    text = without_block(text, begin, end)
                else:
                    text = with_block(text, begin, end, f"export {name}={shlex.quote(value)}", Place())
        except DamagedBlock:
            raise TaskFailed(
                f"the variable {name} in {file.path} cannot be told from the rest of it",
                cause=f"its marks, '{begin}' and '{end}', are not there once each, one behind the other",
                cure="mend the marks by hand, or remove them together with what stands between them",
            ) from None
        if before is None and not text:
            return FilePlan()
        return edited(file, text, mode="go=" if self._secret and self.state == "present" else None)

    def _kernel(self, kernel: Kernel) -> FilePlan:
        if not isinstance(kernel.spec, dict):
            raise TaskFailed(
                f"{kernel.path} describes no kernel",
                cause="it is no JSON object, or its folder is a link",
                cure="make the kernel anew by ensure_kernel, or remove it",
            )
        variables = {name: _in_kernel(value) for name, value in self._variables.items()}
        spec = kernels.with_variables(kernel.spec, variables, present=self.state == "present")
        if spec == kernel.spec:
            private = "go=" if self._secret and self.state == "present" else None
            return written(kernel.path, kernel.path, kernel.entry, data=None, same=True, mode=private)
        data = kernels.encoded(spec)
        return written(kernel.path, kernel.path, kernel.entry, data=data, mode="go=" if spec["env"] else None)

    def _doubts(self) -> Iterator[str]:
        for name, value in self._variables.items():
            if self.state == "present" and re.search(r"\$\{?[A-Za-z_]", value):
                yield f"the value of {name} is taken as it is: nothing puts a variable's value in the place of its `$`"

    def _shell_files(self, machine: Machine) -> list[Path]:
        if self.where == "kernels":
            return []
        names = [*_LOGIN, _INTERACTIVE]
        if self.state == "present":
            login = next((name for name in _LOGIN if os.path.lexists(machine.user_home / name)), _LOGIN[-1])
            names = [login, _INTERACTIVE]
        return [machine.user_home / name for name in names]

    def _named(self, machine: Machine) -> list[Path]:
        """The files of the kernels that are named, not meant by a pattern."""
        if self.where == "shells":
            return []
        folder = self._folder(machine)
        return [folder / name.lower() / kernels.SPEC for name in as_list(self.kernels) if not self._is_pattern(name)]

    @staticmethod
    def _folder(machine: Machine) -> Path:
        return kernels.data_dir(machine.env, machine.user_home) / "kernels"

    @staticmethod
    def _is_pattern(name: str) -> bool:
        return name == _ALL or bool(_GLOB.search(name))

    @staticmethod
    def _means(pattern: str, name: str) -> bool:
        return pattern == _ALL or fnmatch.fnmatchcase(name, pattern.lower())


def _kernel(folder: Path) -> Kernel:
    found = kernels.read_folder(folder)
    path = folder / kernels.SPEC
    spec = found.spec if found is not None and found.mode is not None else None
    return Kernel(path=path, entry=path_state(path), spec=spec)


def _in_kernel(value: str) -> str:
    """A value in a kernel.json, where Jupyter takes ``$$`` for a dollar sign."""
    return value.replace("$", "$$")


def _refuse_persistent(place: Path, volume: Path | None) -> None:
    kept = Path(os.path.realpath(volume)) if volume is not None else None
    if kept is not None and kept in Path(os.path.realpath(place)).parents:
        raise TaskFailed(
            f"a secret cannot be written to {place}",
            cause=f"it is on {volume}, which survives a restart, and a secret must not stay there",
            cure="fetch it where it is used, or keep the file off the volume",
        )

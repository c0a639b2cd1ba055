"""``ensure_env_var``: environment variables of kernels, of shells, and of the Jupyter server."""

from __future__ import annotations

import ast
import fnmatch
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from nbprovision.files import file_work
from nbprovision.files.config_file import refuse_persistent
from nbprovision.files.file_work import FilePlan, Follow, ManagedPath
from nbprovision.files.text import Place, with_block
from nbprovision.machine import kernels
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed, nearest
from nbprovision.model.relations import AnyOf, Excludes, Needs
from nbprovision.model.task import Resource, Setting, Strings, Task, as_list, parameter
from nbprovision.system import secrets
from nbprovision.system.files import path_state

# A login shell of bash reads the first existing file of these, other shells read ~/.bashrc. A terminal of JupyterLab
# may be either: https://www.gnu.org/software/bash/manual/html_node/Bash-Startup-Files.html
_LOGIN = (".bash_profile", ".bash_login", ".profile")
_INTERACTIVE = ".bashrc"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GLOB = re.compile(r"[*?\[]")
_ALL = "all"
# Every program of Jupyter executes this file before its own, and kernels inherit the server's variables. The image's
# own files (jupyter_server_config.py, jupyter_notebook_config.py) stay as they are.
# https://jupyter-core.readthedocs.io/en/latest/ (JupyterApp.load_config_file), and
# https://jupyter-server.readthedocs.io/en/latest/users/configuration.html
_SERVER = "jupyter_config.py"


class KernelSpec(ManagedPath, frozen=True, kw_only=True):
    """The kernel.json of a kernel, as plain data; None if it is unreadable."""

    spec: Any


class EnvVarState(msgspec.Struct, frozen=True, kw_only=True):
    """The files with variables.

    Attributes:
        shells: The files that shells read.
        kernels: The selected kernels of the user.
        missing: The selected names that are not kernels of the user.
        available: The names of all kernels of the user.
        server: The file that the Jupyter server reads.
        volume: The folder that survives a restart.

    """

    shells: tuple[ManagedPath, ...] = ()
    kernels: tuple[KernelSpec, ...] = ()
    missing: tuple[str, ...] = ()
    available: tuple[str, ...] = ()
    server: ManagedPath | None = None
    volume: Path | None = None


class EnsureEnvVar(Task[EnvVarState], frozen=True, kw_only=True):
    """Set environment variables in the user's kernels and in the shells of terminals, or in the Jupyter server.

    Values are literal: no shell and no kernel evaluates them. In a shell's file each variable has a block of its own.
    In a kernel it is an entry of `env` in kernel.json, which `ensure_kernel` keeps. Running kernels and terminals see
    the variables after their next start. The task changes the kernels that exist when its turn comes, so write it after
    the tasks that create them.

    The kernels of the image have no kernel.json of the user. They get a variable by `where: server`: it is then in
    `jupyter_config.py` in the user's Jupyter folder, and every kernel and terminal inherits it from the server,
    whichever environment it is of. The server reads the file when it starts; a lifecycle script runs before that, at
    any other time notify `restart_jupyter`. A variable of kernel.json precedes one of the server. `everywhere` does not
    include the server, because a variable such as PYTHONPATH can keep its own programs from starting.
    """

    relations = (
        AnyOf(("name", "vars"), cure="give `name` and `value`, or `vars`"),
        Needs("value", ("name",)),
        Excludes("where", "shells", ("kernels",), cure="leave `kernels` out, or write where: kernels"),
        Excludes("where", "server", ("kernels",), cure="leave `kernels` out: every kernel gets the server's variables"),
    )
    actions: ClassVar[dict[str, str]] = file_work.EDIT_ACTIONS
    examples: ClassVar[str] = """
- name: The folder of the models
  ensure_env_var:
    name: MODEL_HOME
    value: /home/ec2-user/SageMaker/models
- name: Variables of the terminals only
  ensure_env_var:
    where: shells
    vars:
      EDITOR: nano
      PAGER: less -R
- name: A proxy for every kernel, the image's own included
  ensure_env_var:
    where: server
    vars:
      https_proxy: http://proxy.example:3128
      no_proxy: localhost,127.0.0.1,169.254.169.254
- name: An old variable is removed
  ensure_env_var:
    name: OLD_SETTING
    state: absent
"""
    habits: ClassVar[dict[str, str]] = {
        "key": "write name:",
        "variable": "write name:",
        "variables": "write vars:",
        "env": "write kernels: with the names of kernels",
        "path": "write where: kernels, shells, server or everywhere",
    }

    awaits: ClassVar[frozenset[str]] = frozenset({"kernel"})

    name: Annotated[str | None, parameter("Name of the variable.")] = None
    value: Annotated[str | int | None, parameter("Its value.")] = None
    vars: Annotated[dict[str, str | int], parameter("Several variables, as a mapping of names to values.")] = (
        msgspec.field(default_factory=dict)
    )
    where: Annotated[
        Literal["everywhere", "kernels", "shells", "server"],
        parameter(
            "In the user's kernels, in shells (`~/.bashrc` and the file of login shells), in both (`everywhere`), or "
            "in the Jupyter server and with it in every kernel."
        ),
    ] = "everywhere"
    kernels: Annotated[Strings, parameter("The kernels: names, globs, or `all` of the user's.")] = _ALL
    state: Annotated[Literal["present", "absent"], parameter("Whether the variables are set.")] = "present"
    follow: Follow = False

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        file_work.check_text(self, "name", "value", "vars")
        if self.name is not None and self.state == "present" and self.value is None:
            raise ParameterError("name", f"`{self.name}` needs a `value`", cure='write value: "" for an empty one')
        for name in self._variables:
            if not _NAME.fullmatch(name):
                key = "name" if name == self.name else "vars"
                cure = "write letters, digits and _, and no digit first"
                raise ParameterError(key, f"{name[:60]!r} is not the name of a variable", cure=cure)
        if not as_list(self.kernels):
            raise ParameterError("kernels", "`kernels` names no kernel", cure="write where: shells, or name kernels")

    @property
    def _variables(self) -> dict[str, str]:
        own = {} if self.name is None else {self.name: "" if self.value is None else str(self.value)}
        return {**own, **{name: str(value) for name, value in self.vars.items()}}

    @property
    def _secret(self) -> bool:
        """Whether a value is a secret; every secret value is masked from now on."""
        secret = [secrets.remember_if_secret(name, value) for name, value in self._variables.items()]
        return any(secret)

    # ---------------------------------------------------------------------------------- its relations to other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The files of shells and of the server, and the kernel.json of each named kernel."""
        files = (*self._shell_files(machine), *self._server_files(machine), *self._named(machine))
        return frozenset(Resource("file", str(path)) for path in files)

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The named kernels."""
        return frozenset(Resource("kernel", str(path.parent)) for path in self._named(machine))

    def shared_values(self, machine: Machine) -> Iterator[Setting]:
        """Each variable in each file, in the file's notation; a pattern stands for its kernels."""
        present = self.state == "present"
        for name, value in self._variables.items():
            for path in (*self._shell_files(machine), *self._server_files(machine)):
                yield Setting(str(path), (name,), value if present else None)
            for kernel in as_list(self.kernels) if self._in_kernels else ():
                path = self._folder(machine) / ("*" if kernel == _ALL else kernel.lower()) / kernels.SPEC
                wanted = _in_kernel(value) if present else None
                yield Setting(str(path), ("env", name), wanted, pattern=self._is_pattern(kernel))

    def barrier(self, machine: Machine) -> bool:
        """Earlier tasks may create kernels that match a pattern."""
        return self._in_kernels and any(map(self._is_pattern, as_list(self.kernels)))

    def weight(self, machine: Machine) -> Literal[0]:
        """Small files."""
        return 0

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The files of shells, of the server and of kernels, and the folder in which new kernels appear."""
        yield from self._shell_files(machine)
        yield from self._server_files(machine)
        if self._in_kernels:
            folder = self._folder(machine)
            yield folder
            yield from (folder / name / kernels.SPEC for name in sorted(kernels.installed([folder])))

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> EnvVarState:
        """Read the files.

        Raises:
            TaskFailed: one of them cannot be read.

        """
        shells = tuple(file_work.read_state(path, follow=self.follow) for path in self._shell_files(machine))
        server = [file_work.read_state(path, follow=self.follow) for path in self._server_files(machine)]
        if not self._in_kernels:
            return EnvVarState(shells=shells, server=next(iter(server), None), volume=machine.platform.volume)
        available = kernels.installed([self._folder(machine)])
        patterns = as_list(self.kernels)
        chosen = [name for name in available if any(self._matches(pattern, name) for pattern in patterns)]
        missing = [name for name in patterns if not self._is_pattern(name) and name.lower() not in available]
        return EnvVarState(
            shells=shells,
            kernels=tuple(_read_kernel(available[name]) for name in sorted(chosen)),
            missing=tuple(missing) if self.state == "present" else (),
            available=tuple(sorted(available)),
            volume=machine.platform.volume,
        )

    def plan(self, state: EnvVarState) -> FilePlan:
        """Plan the variables in each file.

        Raises:
            TaskFailed: a kernel is missing, a file cannot be edited, or a secret would be written to the volume.

        """
        if state.missing:
            names = ", ".join(state.available)
            raise TaskFailed(
                f"there is no kernel '{state.missing[0]}' of this user{nearest(state.missing[0], state.available)}",
                cause=f"the kernels are: {names}" if names else "the user has no kernel",
                cure="create it with ensure_kernel before this task, or correct `kernels`",
            )
        private = self._secret and self.state == "present"
        server = () if state.server is None else (state.server,)
        if private:
            for file in (*state.shells, *server, *state.kernels):
                refuse_persistent(file, Path(os.path.realpath(file.place)), state.volume)
        mode = "go=" if private else None
        plans = [self._plan_shell(file, mode) for file in state.shells]
        plans += [self._plan_server(file, mode) for file in server]
        plans += [self._plan_kernel(kernel, mode) for kernel in state.kernels]
        return msgspec.structs.replace(file_work.join_plans(plans), warnings=tuple(self._doubts()), beside=True)

    def apply(self, plan: FilePlan, machine: Machine) -> None:
        """Write the files.

        Raises:
            TaskFailed: a file cannot be written.

        """
        file_work.carry_out(plan, machine)

    def _plan_shell(self, file: ManagedPath, mode: str | None) -> FilePlan:
        text = self._with_blocks(file, lambda name, value: f"export {name}={shlex.quote(value)}")
        return FilePlan() if file.text is None and not text else file_work.plan_text(file, text, mode=mode)

    def _plan_server(self, file: ManagedPath, mode: str | None) -> FilePlan:
        text = self._with_blocks(file, lambda name, value: f"import os\n\nos.environ[{name!r}] = {value!r}")
        if self.state == "present":
            try:
                ast.parse(text)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
                raise TaskFailed(
                    f"{file.path} cannot be edited",
                    cause=f"it is not valid Python, so Jupyter cannot read it either: {error.args[0]}{line}",
                    cure="correct or remove it",
                ) from None
        return FilePlan() if file.text is None and not text else file_work.plan_text(file, text, mode=mode)

    def _with_blocks(self, file: ManagedPath, statement: Callable[[str, str], str]) -> str:
        """The text of a file with a block for each variable, or without it."""
        text = file.text or ""
        for name, value in self._variables.items():
            begin, end = f"# BEGIN {name} (nbprovision)", f"# END {name} (nbprovision)"
            lines = statement(name, value) if self.state == "present" else None
            text = with_block(text, begin, end, lines, Place(), name=f"the variable {name} in {file.path}").text
        return text

    def _plan_kernel(self, kernel: KernelSpec, mode: str | None) -> FilePlan:
        if not isinstance(kernel.spec, dict):
            raise TaskFailed(
                f"{kernel.path} does not describe a kernel",
                cause="it is not a JSON object, or its folder is a link",
                cure="create the kernel again with ensure_kernel, or remove it",
            )
        variables = {name: _in_kernel(value) for name, value in self._variables.items()}
        spec = kernels.with_variables(kernel.spec, variables, present=self.state == "present")
        if spec == kernel.spec:
            return file_work.plan_file(kernel, data=None, same=True, mode=mode)
        return file_work.plan_file(kernel, data=kernels.encoded(spec), mode="go=" if spec["env"] else None)

    def _doubts(self) -> Iterator[str]:
        for name, value in self._variables.items():
            if self.state == "present" and re.search(r"\$\{?[A-Za-z_]", value):
                yield f"the value of {name} is literal: nothing replaces its `$` by a variable's value"

    def _shell_files(self, machine: Machine) -> list[Path]:
        if self.where not in ("everywhere", "shells"):
            return []
        names = [*_LOGIN, _INTERACTIVE]
        if self.state == "present":
            login = next((name for name in _LOGIN if os.path.lexists(machine.user_home / name)), _LOGIN[-1])
            names = [login, _INTERACTIVE]
        return [machine.user_home / name for name in names]

    @property
    def _in_kernels(self) -> bool:
        return self.where in ("everywhere", "kernels")

    def _server_files(self, machine: Machine) -> list[Path]:
        if self.where != "server":
            return []
        return [kernels.config_dir(machine.env, machine.user_home) / _SERVER]

    def _named(self, machine: Machine) -> list[Path]:
        """The files of the kernels that are named, not matched by a pattern."""
        if not self._in_kernels:
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
    def _matches(pattern: str, name: str) -> bool:
        return pattern == _ALL or fnmatch.fnmatchcase(name, pattern.lower())


def _read_kernel(folder: Path) -> KernelSpec:
    kernel = kernels.read_folder(folder)
    path = folder / kernels.SPEC
    spec = kernel.spec if kernel is not None and kernel.mode is not None else None
    return KernelSpec(path=path, place=path, entry=path_state(path), spec=spec)


def _in_kernel(value: str) -> str:
    """A value in the notation of kernel.json, where ``$$`` stands for a dollar sign."""
    return value.replace("$", "$$")

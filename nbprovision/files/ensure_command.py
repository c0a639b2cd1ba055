"""``ensure_command``: a command that runs if its result is missing."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from nbprovision.files.file_work import check_path, check_text, resources_above
from nbprovision.machine import environments
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import OneOf
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Duration, Resource, Strings, Task, as_list, parameter, seconds
from nbprovision.system import commands, secrets, trust

_ANY = range(-64, 256)  # exit statuses, including those of signals
_HOW_TO_WRITE = "write argv: [PROGRAM, ARGUMENT, ...], or shell: COMMAND for a shell's syntax"


class CommandState(msgspec.Struct, frozen=True, kw_only=True):
    """The reason to run the command, or an empty string."""

    reason: str


class EnsureCommand(Task[CommandState], frozen=True, kw_only=True):
    """Run a command, unless the paths in ``creates`` exist, those in ``removes`` are missing, or ``unless`` succeeds.

    Each of several conditions can prevent the run. After the run, the paths in ``creates`` must exist, those in
    ``removes`` must be missing, and ``unless`` must succeed. A command without these three runs each time (with
    ``onlyif`` each time that ``onlyif`` succeeds), and every run then checks all tasks of the playbook. ``unless`` and
    ``onlyif`` also run with ``--check``: they must not change anything.

    The command keeps its place in the playbook: it runs after all tasks before it, and before all tasks after it. It
    runs as the user who runs the playbook, and must not leave a background process. The result has ``rc``, ``stdout``,
    ``stderr``, ``stdout_lines`` and ``stderr_lines``.
    """

    relations = (OneOf(("argv", "shell"), cure_missing=_HOW_TO_WRITE),)
    actions: ClassVar[dict[str, str]] = {"run": "the command"}
    examples: ClassVar[str] = """
- name: A copy of the repository
  ensure_command:
    argv: [git, init, --quiet, work/fraud]
    chdir: "~"
    creates: work/fraud/.git
- name: A key for Git
  ensure_command:
    shell: umask 077; mkdir -p ~/.ssh && echo made > ~/.ssh/key
    creates: ~/.ssh/key
- name: A setting that only its own program can show
  ensure_command:
    argv: [git, config, --global, init.defaultBranch, main]
    unless: test "$(git config --global init.defaultBranch)" = main
"""
    habits: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("cmd", "_raw_params", "free_form"), _HOW_TO_WRITE),
        "warn": "remove it; there are no warnings of that kind",
        "expand_argument_vars": "remove it: the words of argv are literal, and shell: expands variables",
        "strip_empty_ends": "remove it; line ends at the end of stdout and stderr are always removed",
        "stdin_add_newline": "remove it; write the line end into stdin",
        "cwd": "write chdir:",
        "path": "write creates:, removes: or chdir:",
    }

    argv: Annotated[list[str] | None, parameter("Program and arguments, as words that no shell reads.")] = None
    shell: Annotated[
        str | None,
        parameter(
            "Text for a shell, instead of `argv`: with pipes, `&&`, variables. The shell also reads the values of "
            "templates: write them with `| quote`."
        ),
    ] = None
    executable: Annotated[str, parameter("The shell for `shell`, `unless` and `onlyif`.")] = "/bin/sh"
    creates: Annotated[
        Strings | None, parameter("Paths that the command creates: it does not run if all exist. Relative to `chdir`.")
    ] = None
    removes: Annotated[
        Strings | None,
        parameter("Paths that the command removes: it does not run if all are missing. Relative to `chdir`."),
    ] = None
    unless: Annotated[
        Strings | None,
        parameter("A command that succeeds if there is nothing to do: text for the shell, or a list of words."),
    ] = None
    onlyif: Annotated[
        Strings | None, parameter("A command that must succeed before the command runs; written like `unless`.")
    ] = None
    chdir: Annotated[
        str, parameter("The folder that the command runs in. Default: the home folder.", extra={"path": True})
    ] = "~"
    env: Annotated[
        str | None,
        parameter(
            "An environment, by name or path; the command runs in it as after activation.", extra={"path": "if-slash"}
        ),
    ] = None
    environment: Annotated[
        dict[str, str | int | float], parameter("Additional environment variables for the command.")
    ] = msgspec.field(default_factory=dict)
    stdin: Annotated[str, parameter("Text for the command's standard input.")] = ""
    timeout: Annotated[
        Duration | None, parameter("Time after which the command is killed: `90s`, `30m`. Default: no limit.")
    ] = None
    any_order: Annotated[
        bool, parameter("Run the command beside other tasks: it depends on no task, and no task depends on it.")
    ] = False

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        for key in ("argv", "unless", "onlyif"):
            value = getattr(self, key)
            if value is not None and not (value and value[0].strip()):
                raise ParameterError(key, f"'{key}' names no program")
            if value is not None and re.match(r"~[^/]*/", value[0]):
                raise ParameterError(
                    key,
                    f"'{value[0][:80]}' starts with ~, which only a shell replaces",
                    cure="write {{ lookup('env', 'HOME') }} instead, or the command as `shell`",
                )
        if self.shell is not None and not self.shell.strip():
            raise ParameterError("shell", "'shell' is empty")
        check_text(self, "argv", "shell", "unless", "onlyif", "executable", "env", "environment")
        for key in ("creates", "removes", "chdir"):
            for path in as_list(getattr(self, key)):
                check_path(key, path)
        for name in self.environment:
            if not name or "=" in name:
                raise ParameterError("environment", f"{name!r} cannot be a variable of a command")

    # ---------------------------------------------------------------------------------- its relations to other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The paths that it creates or removes."""
        return frozenset(Resource("file", str(path)) for path in self._marks(machine))

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """Its folder, and its environment."""
        prefix = self._prefix(machine)
        needs = {Resource("environment", str(prefix))} if prefix is not None else set()
        return frozenset(needs) | resources_above(self._folder(machine) / "*", machine)

    def barrier(self, machine: Machine) -> bool:
        """A command may depend on any task before it, and any task after it on the command."""
        return not self.any_order

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The paths that it creates or removes."""
        return self._marks(machine)

    def ages(self, machine: Machine) -> float | None:
        """A command may answer differently at any time, unless the user says otherwise."""
        asks = self.unless is not None or self.onlyif is not None
        return 0.0 if asks and self.refresh_every is None else None

    def proves(self, machine: Machine) -> bool:
        """Whether anything shows that it has run."""
        return self.creates is not None or self.removes is not None or self.unless is not None

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> CommandState:
        """Decide by the paths, and then by the commands, whether it has to run.

        Raises:
            TaskFailed: a command of a condition cannot be run.

        """
        for name, value in self.environment.items():
            secrets.remember_if_secret(name, str(value))
        missing = [path for path in self._paths(self.creates, machine) if not os.path.lexists(path)]
        present = [path for path in self._paths(self.removes, machine) if os.path.lexists(path)]
        if (self.creates is not None and not missing) or (self.removes is not None and not present):
            return CommandState(reason="")
        reasons = [f"there is no {path}" for path in missing[:1]] + [f"{path} exists" for path in present[:1]]
        for key, command, wanted in (("unless", self.unless, False), ("onlyif", self.onlyif, True)):
            if command is not None:
                if (self._run(self._words(command), machine).status == 0) is not wanted:
                    return CommandState(reason="")
                text = command if isinstance(command, str) else shlex.join(command)
                reasons.append(f"{key}: {text} {'succeeds' if wanted else 'fails'}")
        return CommandState(reason=", ".join(reasons) or "nothing shows that it has run")

    def plan(self, state: CommandState) -> Plan:
        """Plan the run if there is a reason."""
        if not state.reason:
            return Plan()
        return Plan(changes=(Change("run", self._line, after=state.reason),))

    def apply(self, plan: Plan, machine: Machine) -> None:
        """Run the command.

        Raises:
            TaskFailed: it cannot be started, fails, times out, or does not create or remove the paths.

        """
        done = self._run(self._words(self.argv if self.argv is not None else self.shell or ""), machine)
        machine.forget()
        output, errors = done.output.rstrip("\r\n"), done.errors.rstrip("\r\n")
        machine.report(
            rc=done.status,
            stdout=output,
            stderr=errors,
            stdout_lines=output.splitlines(),
            stderr_lines=errors.splitlines(),
        )
        if done.status != 0:
            message = (errors.strip() or output.strip())[-4000:]
            status = f"killed by signal {-done.status}" if done.status < 0 else f"exit status {done.status}"
            raise TaskFailed(
                f"the command failed: {secrets.mask(self._line)}",
                cause=secrets.mask(f"{status}: {message}" if message else f"{status}, without output"),
                cure=f"run it by hand in {self._folder(machine)}",
            )
        missing = [f"{path} is still missing" for path in self._paths(self.creates, machine) if not path.exists()]
        present = [f"{path} still exists" for path in self._paths(self.removes, machine) if os.path.lexists(path)]
        if missing or present:
            key = "creates" if missing else "removes"
            raise TaskFailed(
                f"the command succeeded without the expected result: {secrets.mask(self._line)}",
                cause=(missing or present)[0],
                cure=f"correct the command, or `{key}`: relative paths start at {self._folder(machine)}",
            )

    @property
    def _line(self) -> str:
        return self.shell.strip() if self.shell is not None else shlex.join(self.argv or [])

    def _words(self, command: Strings) -> list[str]:
        return [self.executable, "-c", command] if isinstance(command, str) else list(command)

    def _run(self, words: list[str], machine: Machine) -> commands.Completed:
        folder = self._folder(machine)
        if not folder.is_dir():
            raise TaskFailed(
                f"cannot run a command in {folder}",
                cause="there is no such folder",
                cure="create it, or correct `chdir`",
            )
        variables = {name: str(value) for name, value in self.environment.items()}
        return commands.run(
            self._activated(words, variables, machine),
            env={**machine.env, **variables},
            cwd=folder,
            stdin=self.stdin,
            timeout=None if self.timeout is None else seconds(self.timeout),
            accept=_ANY,
            foreign=True,
        )

    def _activated(self, words: list[str], variables: Mapping[str, str], machine: Machine) -> list[str]:
        prefix = self._prefix(machine)
        if prefix is None:
            return words
        if not prefix.is_dir():
            raise TaskFailed(
                f"there is no environment at {prefix}",
                cause="there is no such folder",
                cure="create it with ensure_conda_env, or correct `env`",
            )
        # The launcher activates the environment, and so searches it first.
        trust.environment(prefix, "run a command in")
        path = f"{prefix}/bin:{machine.env.get('PATH', os.defpath)}"
        for program in (words[0], machine.conda.executable):
            if program is not None:
                trust.program(program, env={"PATH": path}, cwd=str(self._folder(machine)))
        kept = " ".join(name for name in variables if name.isidentifier() and name != "PATH") or "-"
        return [
            *environments.launcher_shell(),
            str(environments.LAUNCHER_SOURCE),
            str(prefix),
            str(machine.conda.executable or "-"),
            kept,
            *words,
        ]

    def _prefix(self, machine: Machine) -> Path | None:
        return None if self.env is None else machine.prefix_of(self.env)

    def _folder(self, machine: Machine) -> Path:
        return machine.path(self.chdir)

    def _paths(self, given: Strings | None, machine: Machine) -> list[Path]:
        folder = self._folder(machine)
        return [machine.path(path if path.startswith("~") else str(folder / path)) for path in as_list(given)]

    def _marks(self, machine: Machine) -> list[Path]:
        return self._paths(self.creates, machine) + self._paths(self.removes, machine)

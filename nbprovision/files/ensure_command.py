"""``ensure_command``: a command that is run when what it is for is not there yet."""

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

_ANY = range(-64, 256)  # exit statuses, killed by a signal or not


class CommandState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether there is something to do, and why: empty where there is not."""

    reason: str


class EnsureCommand(Task[CommandState], frozen=True, kw_only=True):
    """Run a command, unless what it is for is there: ``creates`` a path, ``removes`` one, or ``unless`` one succeeds.

    Of several conditions each one can keep it from running. After it, what it ``creates`` must be there, what it
    ``removes`` gone, and ``unless`` must succeed. Without one of these three it is run each time (with ``onlyif``
    each time that succeeds), and every run takes a look at everything. The commands of ``unless`` and ``onlyif`` are
    run to find out, with ``--check`` too: they must only look.

    It keeps its place in the playbook: what stands before is done first, what stands behind waits. It runs as the user
    whom the playbook runs as, and must leave nothing to wait for. The result has ``rc``, ``stdout``, ``stderr``,
    ``stdout_lines`` and ``stderr_lines``.
    """

    relations = (
        OneOf(
            ("argv", "shell"),
            cure_missing="write argv: [PROGRAM, ARGUMENT, ...], or shell: COMMAND to have a shell read it",
        ),
    )
    actions: ClassVar[dict[str, str]] = {"run": "the command was run"}
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
- name: A setting that only its own program can tell of
  ensure_command:
    argv: [git, config, --global, init.defaultBranch, main]
    unless: test "$(git config --global init.defaultBranch)" = main
"""
    habits: ClassVar[dict[str, str]] = {
        "cmd": "write argv: [PROGRAM, ARGUMENT, ...], or shell: COMMAND to have a shell read it",
        "_raw_params": "write argv: [PROGRAM, ARGUMENT, ...], or shell: COMMAND to have a shell read it",
        "free_form": "write argv: [PROGRAM, ARGUMENT, ...], or shell: COMMAND to have a shell read it",
        "warn": "remove it; there are no warnings of that kind",
        "expand_argument_vars": "remove it: words of argv are taken as they are, and shell: expands variables",
        "strip_empty_ends": "remove it; the last line ends of stdout and stderr are always left out",
        "stdin_add_newline": "remove it; write the line end into stdin",
        "cwd": "write chdir:",
        "path": "write creates:, removes: or chdir:",
    }

    argv: Annotated[
        list[str] | None, parameter("Program and arguments, word by word; no shell sees them.")
    ] = None  # fmt: skip
    shell: Annotated[
        str | None,
        parameter(
            "Text that a shell reads, instead of `argv`: with pipes, `&&`, variables. What of it comes from a template "
            "is read by the shell as well: put it in with `| quote`."
        ),
    ] = None
    executable: Annotated[str, parameter("The shell for `shell`, `unless` and `onlyif`.")] = "/bin/sh"
    creates: Annotated[
        Strings | None, parameter("What the command makes: it is not run where that is there. Relative to `chdir`.")
    ] = None
    removes: Annotated[
        Strings | None, parameter("What the command removes: it is not run where that is gone. Relative to `chdir`.")
    ] = None
    unless: Annotated[
        Strings | None,
        parameter("A command that succeeds where there is nothing to do: text for the shell, or a list of words."),
    ] = None
    onlyif: Annotated[
        Strings | None, parameter("A command that must succeed for it to be run: as `unless`.")
    ] = None  # fmt: skip
    chdir: Annotated[str, parameter("The folder that it runs in. Default: the home folder.", extra={"path": True})] = (
        "~"
    )
    env: Annotated[
        str | None,
        parameter("An environment, by name or path, in which it runs as after activation.", extra={"path": "if-slash"}),
    ] = None
    environment: Annotated[
        dict[str, str | int | float], parameter("Variables for it, beside those of the run itself.")
    ] = msgspec.field(default_factory=dict)
    stdin: Annotated[str, parameter("What it reads from its standard input.")] = ""
    timeout: Annotated[Duration | None, parameter("After how long it is killed: `90s`, `30m`. Default: never.")] = None
    any_order: Annotated[
        bool, parameter("Run it beside other tasks: it depends on none, and none depends on it.")
    ] = False  # fmt: skip

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        for key in ("argv", "unless", "onlyif"):
            value = getattr(self, key)
            if value is not None and not (value and value[0].strip()):
                raise ParameterError(key, f"'{key}' names no program")
            if value is not None and re.match(r"~[^/]*/", value[0]):
                raise ParameterError(
                    key,
                    f"'{value[0][:80]}' begins with ~, which only a shell replaces",
                    cure="write {{ lookup('env', 'HOME') }} in its place, or the command as `shell`",
                )
        if self.shell is not None and not self.shell.strip():
            raise ParameterError("shell", "'shell' is empty")
        for key in ("argv", "shell", "unless", "onlyif", "executable", "env", "stdin"):
            for word in as_list(getattr(self, key)):
                check_text(key, word)
                if "\0" in word and key != "stdin":
                    raise ParameterError(key, f"'{key}' has a NUL in it, which no command can be given")
        for key in ("creates", "removes"):
            for path in as_list(getattr(self, key)):
                check_path(key, path)
        check_path("chdir", self.chdir)
        for name, value in self.environment.items():
            check_text("environment", f"{name}{value}")
            if not name or "=" in name or "\0" in f"{name}{value}":
                raise ParameterError("environment", f"{name!r} cannot be a variable of a command")

    # ------------------------------------------------------------------------------------ its place among other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """What it makes or removes."""
        return frozenset(Resource("file", str(path)) for path in self._marks(machine))

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """Its folder, and its environment."""
        prefix = self._prefix(machine)
        needs = {Resource("environment", str(prefix))} if prefix is not None else set()
        return frozenset(needs) | resources_above(self._folder(machine) / "*", machine)

    def barrier(self, machine: Machine) -> bool:
        """Nobody knows what it depends on, or what depends on it."""
        return not self.any_order

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """What it makes or removes."""
        return self._marks(machine)

    def ages(self, machine: Machine) -> float | None:
        """What a command has answered may be otherwise at any time, unless the user knows better."""
        asks = self.unless is not None or self.onlyif is not None
        return 0.0 if asks and self.refresh_every is None else None

    def proves(self, machine: Machine) -> bool:
        """Whether anything shows that it was run."""
        return self.creates is not None or self.removes is not None or self.unless is not None

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> CommandState:
        """Whether it is to be run; paths are looked at first, commands are asked only where they do not tell.

        Raises:
            TaskFailed: a command that is to be asked cannot be.

        """
        self._remember_secrets()
        missing = [path for path in self._paths(self.creates, machine) if not os.path.lexists(path)]
        there = [path for path in self._paths(self.removes, machine) if os.path.lexists(path)]
        if (self.creates is not None and not missing) or (self.removes is not None and not there):
            return CommandState(reason="")
        reasons = [f"there is no {path}" for path in missing[:1]] + [f"{path} is there" for path in there[:1]]
        if self.unless is not None:
            if self._succeeds(self.unless, machine):
                return CommandState(reason="")
            reasons.append(f"unless: {_shown(self.unless)} fails")
        if self.onlyif is not None:
            if not self._succeeds(self.onlyif, machine):
                return CommandState(reason="")
            reasons.append(f"onlyif: {_shown(self.onlyif)} succeeds")
        return CommandState(reason=", ".join(reasons) or "nothing shows that it was run")

    def plan(self, state: CommandState) -> Plan:
        """Run it, or not."""
        if not state.reason:
            return Plan()
        return Plan(changes=(Change("run", self._line, after=state.reason),))

    def apply(self, plan: Plan, machine: Machine) -> None:
        """Run it.

        Raises:
            TaskFailed: it cannot be started, ends with another status than 0, does not end in time, or leaves undone
                what it is for.

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
            said = (errors.strip() or output.strip())[-4000:]
            how = f"killed by signal {-done.status}" if done.status < 0 else f"exit status {done.status}"
            raise TaskFailed(
                f"the command failed: {secrets.mask(self._line)}",
                cause=secrets.mask(f"{how}: {said}" if said else f"{how}, and it said nothing"),
                cure=f"try it by hand in {self._folder(machine)}",
            )
        undone = [f"there is still no {path}" for path in self._paths(self.creates, machine) if not path.exists()]
        undone += [f"{path} is still there" for path in self._paths(self.removes, machine) if os.path.lexists(path)]
        if undone:
            key = "creates" if "no " in undone[0] else "removes"
            raise TaskFailed(
                f"the command succeeded and did not do what it is for: {secrets.mask(self._line)}",
                cause=undone[0],
                cure=f"correct the command, or `{key}`: a relative path begins at {self._folder(machine)}",
            )

    @property
    def _line(self) -> str:
        return self.shell.strip() if self.shell is not None else shlex.join(self.argv or [])

    def _succeeds(self, command: Strings, machine: Machine) -> bool:
        return self._run(self._words(command), machine).status == 0

    def _words(self, command: Strings) -> list[str]:
        return [self.executable, "-c", command] if isinstance(command, str) else list(command)

    def _run(self, words: list[str], machine: Machine) -> commands.Completed:
        folder = self._folder(machine)
        if not folder.is_dir():
            raise TaskFailed(
                f"cannot run a command in {folder}", cause="there is no such folder", cure="make it, or correct `chdir`"
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
                cure="make it by ensure_conda_env, or correct `env`",
            )
        # The launcher activates it, and so looks for the program in it first.
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

    def _remember_secrets(self) -> None:
        for name, value in self.environment.items():
            secrets.remember_if_secret(name, str(value))


def _shown(command: Strings) -> str:
    return command if isinstance(command, str) else shlex.join(command)

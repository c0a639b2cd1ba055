"""``ensure_command``: a command that runs if its result is missing."""

from __future__ import annotations

import os
import re
import shlex
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from nbprovision.files.command_record import Files, Record, outcome
from nbprovision.files.file_work import check_path, check_text, resources_above
from nbprovision.machine import environments
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import Needs, OneOf
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Duration, Resource, Strings, Task, as_list, parameter, seconds
from nbprovision.state.witness import digest
from nbprovision.system import commands, inputs, log, secrets, trust
from nbprovision.system.files import explained, remove, write_atomically

_ANY = range(-64, 256)  # exit statuses, including those of signals
_SHOWN = 200  # characters of a command in its record
_ONE_ANSWER = "keep one of them: each decides by itself whether the command has run"
_HOW_TO_WRITE = "write argv: [PROGRAM, ARGUMENT, ...], or shell: COMMAND for a shell's syntax"


class CommandState(msgspec.Struct, frozen=True, kw_only=True):
    """The reason to run the command, or an empty string.

    Attributes:
        reason: The reason.
        boot: The start of the machine, if `once_per` needs it.
        content: A digest of all that the command is given, if `once_per` needs it.

    """

    reason: str
    boot: str = ""
    content: str = ""


class CommandPlan(Plan, frozen=True, kw_only=True):
    """A run of the command.

    Attributes:
        boot: As in `CommandState`.
        content: As in `CommandState`.

    """

    boot: str = ""
    content: str = ""


class EnsureCommand(Task[CommandState], frozen=True, kw_only=True):
    """Run a command, unless the paths in ``creates`` exist, those in ``removes`` are missing, or it has run before.

    Each of several conditions can prevent the run. After the run, the paths in ``creates`` must exist, those in
    ``removes`` must be missing, and ``unless`` must succeed. A command without these three and without ``once_per``
    runs each time (with ``onlyif`` each time that ``onlyif`` succeeds), and every run then checks all tasks of the
    playbook. ``unless`` and ``onlyif`` also run with ``--check``: they must not change anything.

    ``once_per`` decides by a record in the tool's home, which a success of the command writes. A command that fails, is
    killed, or fails by ``failed_when`` runs again at the next run. A command is known by its text (``argv`` or
    ``shell``, ``executable``) and ``chdir``: a command with another text has not run yet.

    With ``background`` the run does not wait for the command, which goes on after the end of the run. It has low
    priority, and all processes that it started end with it. ``nbprovision status`` shows it, its last result, its log
    (the output of its last run), and how to stop it. A run does not start it again while it is running. Tasks after it
    do not wait for it, and ``creates``, ``removes`` and ``unless`` count at the next run.

    The command keeps its place in the playbook: it runs after all tasks before it, and before all tasks after it. It
    runs as the user who runs the playbook, and must not leave a process behind, except by ``background``. The result
    has ``rc``, ``stdout``, ``stderr``, ``stdout_lines`` and ``stderr_lines``; with ``background`` it has ``pid`` and
    ``log``.
    """

    relations = (
        OneOf(("argv", "shell"), cure_missing=_HOW_TO_WRITE),
        *(OneOf(("once_per", name), required=False, cure=_ONE_ANSWER) for name in ("creates", "removes", "unless")),
        Needs("reads", ("once_per",), "content", cure="write once_per: content, or leave `reads` out"),
    )
    actions: ClassVar[dict[str, str]] = {"run": "the command", "start": "the command, in the background"}
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
- name: Old downloads are removed at each start of the machine
  ensure_command:
    shell: rm -rf downloads/*
    once_per: boot
- name: The report, again whenever its numbers change, while the notebook is in use
  ensure_command:
    shell: date > report.txt
    once_per: content
    reads: numbers.txt
    background: true
    timeout: 2h
"""
    habits: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("cmd", "_raw_params", "free_form"), _HOW_TO_WRITE),
        "warn": "remove it; there are no warnings of that kind",
        "expand_argument_vars": "remove it: the words of argv are literal, and shell: expands variables",
        "strip_empty_ends": "remove it; line ends at the end of stdout and stderr are always removed",
        "stdin_add_newline": "remove it; write the line end into stdin",
        "cwd": "write chdir:",
        "async": "write background: true, and timeout: for its longest time",
        "poll": "remove it; background: true never waits",
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
    once_per: Annotated[
        Literal["boot", "content", "ever"] | None,
        parameter(
            "Run the command once per start of the machine (`boot`; in a container, of the container), again only when "
            "its content has changed (`content`: `env`, `environment`, `stdin` and the files in `reads`), or only once "
            "(`ever`)."
        ),
    ] = None
    reads: Annotated[
        Strings | None,
        parameter("Files that the command reads, and does not change: a part of its content. Relative to `chdir`."),
    ] = None
    background: Annotated[bool, parameter("Start the command, and do not wait for its end.")] = False
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
        for key in ("creates", "removes", "reads", "chdir"):
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
        needs |= {Resource("file", str(path)) for path in self._paths(self.reads, machine)}
        return frozenset(needs) | resources_above(self._folder(machine) / "*", machine)

    def barrier(self, machine: Machine) -> bool:
        """A command may depend on any task before it, and any task after it on the command."""
        return not self.any_order

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The paths that it creates or removes, the record of its success, and the files that it reads."""
        yield from self._marks(machine)
        if self._has_record:
            yield self._files(machine).record
            yield from self._paths(self.reads, machine)

    def ages(self, machine: Machine) -> float | None:
        """A command may answer differently at any time, unless the user says otherwise; one at work may be killed."""
        if machine.notes_of(self).get("at work"):
            return 0.0
        asks = self.unless is not None or self.onlyif is not None
        return 0.0 if asks and self.refresh_every is None else None

    def proves(self, machine: Machine) -> bool:
        """Whether anything shows that it has run."""
        return any(value is not None for value in (self.creates, self.removes, self.unless, self.once_per))

    def judged(self, machine: Machine, *, good: bool) -> None:
        """Record a success that `failed_when` made of a failure, or forget one that is none by its judgement."""
        state = machine.notes_of(self).pop("ended", None)
        if state is not None and self.once_per is not None:
            self._record(state, machine, done=good)

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> CommandState:
        """Decide by the paths, and then by the commands, whether it has to run.

        Raises:
            TaskFailed: a command of a condition cannot be run.

        """
        for name, value in self.environment.items():
            secrets.remember_if_secret(name, str(value))
        notes = machine.notes_of(self)
        notes["at work"] = self.background and ("started" in notes or self._files(machine).running)
        if notes["at work"]:
            return CommandState(reason="")
        record = self._files(machine).read() if self._has_record else None
        boot = inputs.start_of_machine() if self.once_per == "boot" else ""
        content = self._content(machine) if self.once_per == "content" else ""
        if self.once_per is not None and self._is_done(record, boot, content):
            return CommandState(reason="")
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
        if self.once_per is not None:
            reasons.insert(0, self._reason(record))
        return CommandState(reason=", ".join(reasons) or "nothing shows that it has run", boot=boot, content=content)

    def plan(self, state: CommandState) -> CommandPlan:
        """Plan the run if there is a reason."""
        if not state.reason:
            return CommandPlan()
        change = Change("start" if self.background else "run", self._line, after=state.reason)
        return CommandPlan(changes=(change,), boot=state.boot, content=state.content)

    def apply(self, plan: CommandPlan, machine: Machine) -> None:
        """Run the command, or start it in the background.

        Raises:
            TaskFailed: it cannot be started, fails, times out, does not create or remove the paths, or changes a file
                that it reads.

        """
        if self.background:
            self._launch(plan, machine)
            return
        machine.notes_of(self)["ended"] = plan
        if self.once_per is not None:
            self._record(plan, machine, done=False)  # a run that is killed from now on has not done it
        self._run_to_its_end(machine)
        if self.once_per is not None:
            if plan.content and self._content(machine) != plan.content:
                raise TaskFailed(
                    f"the command has changed what it reads: {secrets.mask(self._line)}",
                    cause="a file in `reads` changed while the command ran, so `once_per: content` cannot show that it "
                    "has run for the present content",
                    cure="let the command write to other files; if somebody else changed the file, run again",
                )
            self._record(plan, machine, done=True)

    def _run_to_its_end(self, machine: Machine) -> None:
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
            status = outcome(done.status)
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

    # --------------------------------------------------------------------------------------- its record and its keeper

    @property
    def _has_record(self) -> bool:
        return self.once_per is not None or self.background

    def _files(self, machine: Machine) -> Files:
        """The files of the record, by what identifies the command."""
        shell = self.executable if self.shell is not None else ""
        identity = repr((self.argv, self.shell, shell, str(self._folder(machine))))
        return Files.of(machine.home, digest(secrets.to_digest(identity)))

    def _content(self, machine: Machine) -> str:
        """A digest of what the command is given: variables, input, environment, and the content of its files.

        Raises:
            TaskFailed: a file cannot be read, or is a folder.

        """
        files: list[tuple[str, str]] = []
        for path in self._paths(self.reads, machine):
            inputs.file(path)
            with explained(f"cannot read {path}, which the command reads"):
                try:
                    status = os.stat(path)
                except (FileNotFoundError, NotADirectoryError):
                    files.append((str(path), ""))
                    continue
                if not stat.S_ISREG(status.st_mode):
                    raise TaskFailed(
                        f"{path} is not a file",
                        cause="`reads` takes files, whose content is compared",
                        cure="name the files in the folder, or remove it from `reads`",
                    )
                files.append((str(path), machine.digests.of(path, status)))
        prefix = self._prefix(machine)
        given = (None if prefix is None else str(prefix), sorted(self.environment.items()), self.stdin, files)
        return digest(secrets.to_digest(repr(given)))

    def _is_done(self, record: Record | None, boot: str, content: str) -> bool:
        if record is None or not record.done:
            return False
        return {"boot": record.boot == boot, "content": record.content == content}.get(self.once_per or "", True)

    def _reason(self, record: Record | None) -> str:
        if record is not None and record.started and record.status is None and not record.reason:
            return "it was killed before its end"
        if record is not None and record.started and (record.status or record.reason):
            return f"it failed: {record.reason or outcome(record.status)}"
        if record is None or not record.done:
            return "it has not succeeded yet"
        return "the machine has started again" if self.once_per == "boot" else "its content has changed"

    def _record(self, plan: CommandPlan, machine: Machine, *, done: bool) -> None:
        record = self._files(machine).record
        if done:
            write_atomically(record, msgspec.json.encode(self._success(plan)), mode=0o600)
        else:
            remove(record)  # works on a full disk, too

    def _success(self, plan: CommandPlan) -> Record:
        return Record(command=self._shown, done=time.time(), boot=plan.boot, content=plan.content)

    @property
    def _shown(self) -> str:
        return "withheld by no_log" if log.is_withheld() else secrets.mask(" ".join(self._line.split()))[:_SHOWN]

    def _launch(self, plan: CommandPlan, machine: Machine) -> None:
        """Start the command in the background.

        Raises:
            TaskFailed: it cannot be started.

        """
        from nbprovision.files import command_keeper

        files = self._files(machine)
        variables = {name: str(value) for name, value in self.environment.items()}
        words = self._words(self.argv if self.argv is not None else self.shell or "")
        pid = command_keeper.launch(
            machine.home,
            files.record.stem,
            self._success(plan),
            self._activated(words, variables, machine),
            env={**machine.env, **variables},
            cwd=self._existing_folder(machine),
            stdin=self.stdin,
            timeout=None if self.timeout is None else seconds(self.timeout),
        )
        machine.notes_of(self)["started"] = True
        machine.report(pid=pid, log=str(files.log))

    def _existing_folder(self, machine: Machine) -> Path:
        folder = self._folder(machine)
        if not folder.is_dir():
            raise TaskFailed(
                f"cannot run a command in {folder}",
                cause="there is no such folder",
                cure="create it, or correct `chdir`",
            )
        return folder

    def _run(self, words: list[str], machine: Machine) -> commands.Completed:
        folder = self._existing_folder(machine)
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

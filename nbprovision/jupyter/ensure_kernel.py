"""A Jupyter kernel of an environment, or of any program that implements Jupyter's protocol."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from nbprovision.files.file_work import check_text, resources_above
from nbprovision.jupyter import kernel_folder, kernelspec
from nbprovision.jupyter.kernelspec import CONNECTION_FILE, KernelState
from nbprovision.machine import distributions, environments, kernels
from nbprovision.machine.env_selection import EnvSelection, Member
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import Inevitable, ParameterError, TaskFailed, UnknownEnvironment
from nbprovision.model.relations import OneOf, Requires
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Claim, Foretold, Input, LockRequest, Resource, Setting, parameter
from nbprovision.system import secrets, unfinished
from nbprovision.system.places import existing

NAME = "{env}"  # in `name` and `display_name`: the environment's name
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A reference in a value that Jupyter expands by string.Template.
_REFERENCE = re.compile(r"(?<!\$)(?:\$\$)*\$\{?[A-Za-z_]")


class EnsureKernel(EnvSelection[KernelState], frozen=True, kw_only=True):
    """Create and maintain a Jupyter kernel for an environment (``env`` or ``prefix``) or any program (``argv``).

    The kernel of an environment starts as after ``conda activate``, or after a virtual environment's ``activate``. It
    runs the environment's Python; with ``argv`` it runs a program of another language, such as R, that is installed
    there. ``envs`` creates a kernel for each of several environments. ``{env}`` in ``name`` and ``display_name`` stands
    for the environment's name.
    """

    relations = (
        OneOf(("env", "prefix", "envs"), required=False),
        OneOf(("argv", "envs"), required=False),
        *EnvSelection.relations,
        Requires("scope", "env", ("env", "prefix")),
    )
    with_python = True
    actions: ClassVar[dict[str, str]] = {
        "install": "ipykernel into the environment",
        "write": "a file of the kernel's folder",
        "set mode": "who may read it",
        "remove": "the kernel, or a file of it that is no longer needed",
    }
    examples: ClassVar[str] = """
- name: A kernel of an environment, tried before it is offered
  ensure_kernel:
    env: fraud
    display_name: Fraud (Python)
    validate: true
    environment:
      STAGE: test
      PATH: "${HOME}/bin:${PATH}"

- name: A kernel for each of several environments
  ensure_kernel:
    envs: [fraud, "ris*"]
    name: "team-{env}"
    display_name: "Team ({env})"

- name: A program that speaks Jupyter's protocol
  ensure_kernel:
    name: plain
    argv: [/usr/bin/python3, -m, ipykernel_launcher, -f, "{connection_file}"]
    display_name: The machine's Python

- name: A kernel that is no longer offered
  ensure_kernel:
    name: old
    state: absent
"""

    prefix: Annotated[
        str | None, parameter("Path of the environment that the kernel runs in.", extra={"path": True})
    ] = None
    argv: Annotated[
        list[str] | None,
        parameter(
            "Command of a kernel other than the environment's Python; one word contains `{connection_file}`. With "
            "`env` or `prefix` it runs in that environment."
        ),
    ] = None
    name: Annotated[
        str | None,
        parameter(
            "Jupyter's name of the kernel: letters (Jupyter lowers them), digits and `.`, `_`, `-`. "
            "Default: the environment's name in that form."
        ),
    ] = None
    display_name: Annotated[
        str | None,
        parameter(
            "Name that Jupyter shows. Default: `Python (ENVIRONMENT)` (with `argv`, its language); outside any "
            "environment the kernel's name."
        ),
    ] = None
    language: Annotated[
        str | None,
        parameter("Language of the kernel's notebooks. Default: `python`; for another program the kernel's name."),
    ] = None
    environment: Annotated[
        dict[str, str | int | float],
        parameter(
            "Environment variables of the kernel. Jupyter replaces `${NAME}` in a value by the server's variable and "
            "`$$` by a dollar sign. A value without `${...}` overrides what activation sets."
        ),
    ] = msgspec.field(default_factory=dict)
    activate: Annotated[
        bool, parameter("Start the kernel in its activated environment: PATH, CONDA_PREFIX, activate.d and the rest.")
    ] = True
    user_site: Annotated[
        bool, parameter("Let the kernel see packages of `pip install --user`, which hide those of the environment.")
    ] = False
    scope: Annotated[
        kernels.Scope,
        parameter(
            "Visibility of the kernel: `user` (the user's Jupyter), `system` (every user's; needs write access), "
            "`env` (the Jupyter that runs from the environment itself)."
        ),
    ] = "user"
    state: Annotated[Literal["present", "absent"], parameter("Whether the kernel exists.")] = "present"
    install_ipykernel: Annotated[
        bool, parameter("Install ipykernel into the environment if it is missing; `false` makes that an error.")
    ] = True
    validate: Annotated[
        bool, parameter("Start the kernel before it is offered, and ask it for `sys.prefix`.")
    ] = False  # fmt: skip
    interrupt_mode: Annotated[
        Literal["signal", "message"] | None, parameter("How Jupyter interrupts the kernel; its default is `signal`.")
    ] = None
    logo: Annotated[
        str | None,
        parameter(
            "Logo (PNG or SVG) that Jupyter shows for the kernel. Default: ipykernel's, unless the kernel's folder "
            "contains another one.",
            extra={"path": True},
        ),
    ] = None
    metadata: Annotated[
        dict[str, Any], parameter("Additional `metadata` of the kernelspec, for Jupyter's extensions.")
    ] = msgspec.field(default_factory=dict)

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        if not self.names_one and self.envs is None and not (self.state == "absent" and self.name):
            cure = "give env or prefix for an environment's Python, or argv for any other program"
            raise ParameterError("env", "`env`, `prefix` or `argv` is required", cure=cure)
        check_text(self, "argv", "environment", "display_name", "language", "env", "prefix")
        for key in self.environment:
            if not _VARIABLE.fullmatch(key):
                raise ParameterError("environment", f"{key!r} is not a valid name of an environment variable")
        if self.argv is not None:
            self._check_argv(self.argv)
        if self.logo is not None and os.path.splitext(self.logo)[1].lower() not in kernelspec.LOGO_NAMES:
            raise ParameterError(
                "logo", f"'{self.logo[-80:]}' is not a PNG or SVG file", cure="name a .png or .svg file"
            )
        self._check_name()

    def _check_argv(self, argv: list[str]) -> None:
        if not argv or not argv[0]:
            raise ParameterError("argv", "argv names no program")
        if argv[0] != "~" and "/" in argv[0] and not argv[0].startswith(("/", "~/")):
            raise ParameterError(
                "argv",
                f"'{argv[0][:80]}' is a relative path, and Jupyter starts a kernel in the folder of its notebook",
                cure="write an absolute path, {{ playbook_dir }}/... for a program beside the playbook, or the name of "
                "a program on the PATH",
            )
        if not any(CONNECTION_FILE in word for word in argv):
            raise ParameterError(
                "argv",
                f"no word of argv contains {CONNECTION_FILE}",
                cause="Jupyter replaces it by the file that says where the kernel has to listen",
                cure=f"add it in the form that the program takes, for example -f {CONNECTION_FILE}",
            )
        if self.name is None and self.env is None and self.prefix is None:
            raise ParameterError("name", "a kernel by argv needs a name")
        if self.validate:
            raise ParameterError("validate", "only an environment's Python can be asked for its prefix")

    def _check_name(self) -> None:
        name = self.name
        if self.is_several:
            for key, value in (("name", name), ("display_name", self.display_name)):
                if value is not None and NAME not in value:
                    message = f"all kernels of `envs` would have the {key} '{value}'"
                    raise ParameterError(key, message, cure=f"write {NAME} for the environment's name")
            name = None if name is None else name.lower().replace(NAME, "x")
        elif name is None and not self.kernel_name:
            message = "no kernel name can be derived from the environment's name"
            raise ParameterError("name", message, cure="give a name")
        if name is not None and not kernels.is_valid_name(name.lower()):
            better = kernels.normalized(name)
            raise ParameterError(
                "name",
                f"{self.name!r} is not a valid kernel name",
                cause=f"Jupyter takes ASCII letters, digits, '.', '_' and '-', up to {kernels.LONGEST_NAME} here",
                cure=f"write name: {better}" if better and not self.is_several else "",
            )

    @property
    def names_one(self) -> bool:
        """Whether `env`, `prefix` or `argv` is given."""
        return self.env is not None or self.prefix is not None or self.argv is not None

    def members(self, machine: Machine) -> list[Member]:
        """A task for each environment; if two have the same name, the second kernel is named by its path."""
        members: dict[str, Member] = {}
        for selection in self.selection(machine):
            name = os.path.basename(selection.name.rstrip("/"))
            if kernels.normalized(name) in members:
                name = kernels.normalized(str(selection.prefix))
            display_name = (self.display_name or f"Python ({NAME})").replace(NAME, name)
            kernel_name = kernels.normalized((self.name or NAME).replace(NAME, name))
            members[kernels.normalized(name)] = self.member(
                machine, selection, name=kernel_name, display_name=display_name
            )
        return list(members.values())

    @property
    def kernel_name(self) -> str:
        """The name that Jupyter knows the kernel by."""
        return self.name.lower() if self.name is not None else kernels.normalized(self._environment_name)

    @property
    def _environment_name(self) -> str:
        return os.path.basename((self.env or self.prefix or "").rstrip("/"))

    @property
    def _installs(self) -> bool:
        return self.install_ipykernel and self.state == "present" and self.argv is None

    @property
    def _language(self) -> str:
        if self.language is not None:
            return self.language
        program = os.path.basename(self.argv[0]) if self.argv else "python"
        return "python" if program.startswith(("python", "pypy", "ipython")) else self.kernel_name

    # ---------------------------------------------------------------------------------- its relations to other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The kernel, by its folder."""
        return frozenset({Resource("kernel", str(self._folder(machine)))})

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment and the program, unless the kernel is removed."""
        if self.state == "absent":
            return frozenset()
        prefix = self._prefix(machine)
        needs = {Resource("environment", str(prefix))} if prefix is not None else set()
        if self.argv is not None and self.argv[0].startswith("/"):
            program = Path(self.argv[0])
            needs |= {Resource("file", str(program))} | resources_above(program, machine)
        return frozenset(needs)

    def claims(self, machine: Machine) -> Iterable[Claim]:
        """ipykernel, unless conda owns it: the environment's task does not remove what this task installed."""
        prefix = self._prefix(machine) if self._installs else None
        if prefix is not None and prefix.is_dir() and not kernelspec.owned_by_conda(prefix):
            yield Claim(prefix, "ipykernel")

    def lock_requests(self, machine: Machine) -> Iterable[LockRequest]:
        """ipykernel, unless an environment that no task makes has it."""
        prefix = self._prefix(machine) if self._installs else None
        if prefix is None:
            return []
        if prefix not in machine.declared.values() and distributions.installed(prefix, {"ipykernel"}):
            return []
        return [kernel_folder.lock_request(prefix)]

    def shared_values(self, machine: Machine) -> Iterable[Setting]:
        """The variables, the display name and the command in kernel.json."""
        if self.state == "absent":
            return
        file = str(self._folder(machine) / kernels.SPEC)
        for name, value in self.environment.items():
            yield Setting(file, ("env", name), str(value))
        for key in ("display_name", "argv"):
            if getattr(self, key) is not None:
                yield Setting(file, (key,), getattr(self, key))

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment, in case ipykernel has to be installed, unless it is read-only.

        The engine asks before and after the task. The answer must therefore not depend on an installed ipykernel.
        """
        prefix = self._prefix(machine) if self._installs else None
        if prefix is None or (prefix.is_dir() and not os.access(prefix, os.W_OK)):
            return ()
        return (prefix,)

    def inputs(self, machine: Machine) -> Iterable[Input]:
        """The logo."""
        return () if self.logo is None else (Input(machine.path(self.logo), "logo"),)

    def weight(self, machine: Machine) -> Literal[0]:
        """Small files."""
        return 0

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The files in the folder, and the files of the environment that they were made from."""
        folder = self._folder(machine)
        yield from (folder, folder / kernels.SPEC)
        if self.state == "absent":
            return
        prefix = self._prefix(machine)
        if self.argv is not None:
            program = kernelspec.program_path(self._expanded_argv(machine)[0], prefix)
            yield from [program] if program is not None else []
        if prefix is None:
            return
        if self.activate:
            yield folder / environments.LAUNCHER
        yield from (folder / logo for logo in kernelspec.LOGOS)
        yield from (prefix / unfinished.MARK, prefix / "bin/python", kernelspec.bundled_path(prefix))
        site_packages = distributions.site_packages(prefix)
        if site_packages is not None:
            yield site_packages / "ipykernel/resources"
            ipykernels = distributions.installed(prefix, {"ipykernel"}).get("ipykernel", [])
            yield from (distribution.path for distribution in ipykernels)
        if machine.conda.executable is not None:
            yield machine.conda.executable

    def foretells(self, plan: Plan, machine: Machine) -> dict[Path, Foretold]:
        """An ipykernel that is going to be installed."""
        prefix = self._prefix(machine)
        before = machine.foretold.get(prefix) if prefix is not None else None
        if prefix is None or before is None or not any(change.target == "ipykernel" for change in plan.changes):
            return {}
        return {prefix: Foretold(before.python, {"ipykernel": "", **before.packages}, whole=False)}

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> KernelState:
        """Read the kernel's folder and the parts of its kernelspec."""
        for name, value in self.environment.items():
            secrets.remember_if_secret(name, str(value))
        folder = self._folder(machine)
        current = kernels.read_folder(folder)
        if self.state == "absent":
            return KernelState(folder=folder, current=current)
        prefix = self._prefix(machine)
        own = prefix if self.scope == "env" else None
        dirs = kernels.kernel_dirs(machine.env, machine.user_home, prefix=own, root=machine.root)
        argv = self._expanded_argv(machine)
        conda = machine.conda.executable if prefix is not None else None
        state = KernelState(
            folder=folder,
            current=current,
            prefix=prefix,
            starts=kernelspec.can_start(argv[0] if argv else f"{prefix}/bin/python", prefix, machine),
            logos={} if self.logo is None else kernelspec.read_logo(machine.path(self.logo)),
            launcher=environments.launcher(),
            shell=tuple(environments.launcher_shell()),
            conda=str(conda) if conda else "",
            hidden_by=kernels.hiding_kernel(folder, dirs),
            argv=argv,
        )
        return state if prefix is None else self._with_environment(state, prefix, machine)

    def _with_environment(self, state: KernelState, prefix: Path, machine: Machine) -> KernelState:
        mark = unfinished.read_mark(prefix)
        # This task completes its own interrupted install. No kernel is offered of any other unfinished environment.
        foreign = mark is not None and mark.task != self.kind() and machine.is_unfinished(prefix)
        state = msgspec.structs.replace(
            state,
            exists=prefix.is_dir(),
            awaited=prefix in machine.declared.values(),
            unfinished=mark.task if mark is not None and foreign else "",
        )
        if self.argv is not None:
            return state
        whole = self.deep or (mark is not None and not foreign)
        installed = distributions.installed(prefix, None if whole else {"ipykernel"})
        ipykernel = next(iter(installed.get("ipykernel", ())), None)
        site_packages = distributions.site_packages(prefix)
        state = msgspec.structs.replace(
            state,
            ipykernel=ipykernel.version if ipykernel is not None and not ipykernel.broken else None,
            lacking=kernelspec.lacking(prefix, installed, torn=mark is not None) if whole else (),
            bundled_spec=kernelspec.bundled_spec(prefix),
            logos=state.logos or (kernelspec.bundled_logos(site_packages) if site_packages else {}),
        )
        foretold = machine.foretold.get(prefix)
        version = distributions.python_version(prefix)
        if foretold is None or (
            version and foretold.python and version.split(".")[:2] == foretold.python.split(".")[:2]
        ):
            return state
        # An earlier task is going to create the environment, or to give it another Python.
        return msgspec.structs.replace(
            state,
            exists=True,
            foretold=foretold.whole,
            starts=foretold.python is not None,
            ipykernel=foretold.packages.get("ipykernel"),
            lacking=(),
        )

    def plan(self, state: KernelState) -> Plan:
        """Plan the install of ipykernel and the files to write.

        Raises:
            TaskFailed: the environment or the program cannot run a kernel.

        """
        if self.state == "absent":
            return Plan(changes=(Change("remove", str(state.folder)),) if state.current is not None else ())
        self._refuse(state)
        changes = self._changes_of_files(state)
        if state.lacks_ipykernel:
            changes.insert(0, Change("install", "ipykernel", before=state.ipykernel, kind="package"))
        warnings = []
        if state.hidden_by is not None:
            warnings.append(f"Jupyter finds another kernel '{self.kernel_name}' first, in {state.hidden_by}")
        if not state.starts and _depends_on_path(state):
            warnings.append(
                f"no folder of the PATH has a program '{state.argv[0]}', so the kernel starts only if the Jupyter "
                "server's PATH has one; write its absolute path"
            )
        return Plan(changes=tuple(changes), warnings=tuple(warnings), beside=state.exists and not state.lacks_ipykernel)

    def apply(self, plan: Plan, machine: Machine) -> None:
        """Install ipykernel if it is missing and write the folder, kernel.json last; or remove the folder.

        The state is read again, because the files depend on the installed ipykernel.
        """
        folder = self._folder(machine)
        if self.state == "absent":
            kernel_folder.withdraw(folder)
            return
        place = existing(folder)
        if self.scope == "system" and not os.access(place, os.W_OK):
            raise TaskFailed(
                "the kernels of all users are not this user's to change",
                cause=f"{place} is not writable",
                cure="remove scope to create a kernel of this user's own, or run as a user with write access",
            )
        state = self._with_ipykernel(machine)
        files = self._files(state)
        if self.validate and state.prefix is not None and not self._was_tried(state):
            spec = files.pop(kernels.SPEC)
            kernel_folder.write(folder, files, mode=self._mode(state))
            try:
                kernel_folder.try_out(machine, state.prefix, self._spec(state), folder)
            except BaseException:
                kernel_folder.give_up(folder)
                raise
            files[kernels.SPEC] = spec
        kernel_folder.write(folder, files, mode=self._mode(state), unwanted=self._unwanted(state))

    def _prefix(self, machine: Machine) -> Path | None:
        """The environment; for a kernel to remove only if it contains the kernel."""
        if self.prefix is not None:
            return machine.path(self.prefix)
        if self.env is None or (self.state == "absent" and self.scope != "env"):
            return None
        try:
            return self.selected(machine).prefix
        except UnknownEnvironment:
            if self.state == "present":
                raise
            return machine.conda.new_prefix(self.env)  # the kernel was removed together with the environment

    def _folder(self, machine: Machine) -> Path:
        prefix = self._prefix(machine) if self.scope == "env" else None
        return kernels.folder_of(
            self.kernel_name, self.scope, machine.env, machine.user_home, prefix=prefix, root=machine.root
        )

    def _expanded_argv(self, machine: Machine) -> tuple[str, ...]:
        """The command with the user's home folder for ``~`` at the start of a word; Jupyter uses no shell."""
        return tuple(
            f"{machine.user_home}{word[1:]}" if word == "~" or word.startswith("~/") else word
            for word in self.argv or ()
        )

    def _with_ipykernel(self, machine: Machine) -> KernelState:
        """Install ipykernel until it is complete: the repair of a distribution reveals what that one requires."""
        tried: set[tuple[str, ...]] = set()
        state = self.read(machine)
        self._refuse(msgspec.structs.replace(state, awaited=False))
        while state.prefix is not None and state.lacks_ipykernel:
            if state.lacking in tried:
                raise TaskFailed(
                    f"ipykernel in {state.prefix} is incomplete",
                    cause=f"still missing after its install: {', '.join(state.lacking) or 'ipykernel'}",
                    cure="create the environment again: remove it (`state: absent`), and run the playbook again",
                )
            tried.add(state.lacking)
            kernel_folder.install_ipykernel(machine, state.prefix, state.lacking)
            machine.forget()
            state = self.read(machine)
        return state

    def _refuse(self, state: KernelState) -> None:
        """Raise an error if the environment or the program cannot run a kernel."""
        failed = Inevitable if state.foretold else TaskFailed
        if not state.exists and state.prefix is not None:
            if state.awaited:
                return
            raise TaskFailed(
                f"there is no environment at {state.prefix}",
                cause=f"the kernel '{self.kernel_name}' is to run in it",
                cure="create it with ensure_conda_env, or correct the path",
            )
        if state.unfinished:
            raise TaskFailed(
                f"the environment {state.prefix} is unfinished and cannot be offered as a kernel",
                cause=f"a run ended in the middle of {state.unfinished}",
                cure=f"run the playbook with that {state.unfinished} again; it completes the environment",
            )
        if not state.starts and state.argv and not _depends_on_path(state):
            raise TaskFailed(
                f"the kernel '{self.kernel_name}' could not start",
                cause=f"there is no program {state.argv[0]}" + (f" in {state.prefix}" if state.prefix else ""),
                cure="install it first, or correct argv",
            )
        if not state.starts and not state.argv:
            raise failed(
                f"the environment {state.prefix} has no working Python",
                cause=f"{state.prefix}/bin/python is missing or a broken link",
                cure="add python to the environment's packages, or describe a kernel of another language with argv",
            )
        if state.lacks_ipykernel and not self.install_ipykernel:
            raise failed(
                f"ipykernel is missing from {state.prefix}",
                cause="install_ipykernel is false",
                cure="add ipykernel to the environment's packages, or remove install_ipykernel",
            )

    def _changes_of_files(self, state: KernelState) -> list[Change]:
        files = self._files(state)
        spec_path = str(state.folder / kernels.SPEC)
        current = state.current
        if current is None or current.mode is None:  # the other files of a new kernel are not listed
            return [Change("write", spec_path, after=files[kernels.SPEC].decode(), kind="file")]
        changes = []
        if current.mode != kernel_folder.FOLDER_MODE:
            modes = f"{current.mode:04o}", f"{kernel_folder.FOLDER_MODE:04o}"
            changes.append(Change("set mode", str(state.folder), *modes))
        mode = self._mode(state)
        for name, data in files.items():
            file, path = current.files.get(name), str(state.folder / name)
            if name == kernels.SPEC and current.spec != self._spec(state):
                before = None if file is None else (file.data or b"").decode("utf-8", "replace")
                changes.append(Change("write", path, before, data.decode(), kind="file"))
            elif name != kernels.SPEC and (file is None or file.data != data):
                changes.append(Change("write", path, None if file is None else "different", "as described"))
            elif file is not None:
                # Variables of other tasks make only kernel.json private.
                either = name != kernels.SPEC and self.scope == "user" and not self.environment
                if file.mode not in ((0o644, 0o600) if either else (mode,)):
                    changes.append(Change("set mode", path, f"{file.mode:04o}", f"{mode:04o}"))
        return changes + [Change("remove", str(state.folder / name)) for name in self._unwanted(state)]

    def _mode(self, state: KernelState) -> int:
        """The mode of the files. Only the user can read variables of `scope: user`, since one may be a password."""
        has_variables = bool(self.environment or kernels.added_variables(state.spec))
        return 0o600 if has_variables and self.scope == "user" else 0o644

    def _files(self, state: KernelState) -> dict[str, bytes]:
        """The files that this task maintains in the kernel's folder. A logo that somebody else put there stays."""
        replaces_logo = self.logo is not None or state.has_chosen_logo
        files = {}
        for name, data in state.logos.items():
            file = state.files.get(name)
            if replaces_logo or file is None or file.data is None or file.data == data:
                files[name] = data
        if state.prefix is not None and self.activate:
            files[environments.LAUNCHER] = state.launcher
        files[kernels.SPEC] = kernels.encoded(self._spec(state))
        return files

    def _unwanted(self, state: KernelState) -> list[str]:
        """The launcher or the logos of an earlier description. Files that somebody else put there stay."""
        files = self._files(state)
        replaced = list(kernelspec.LOGOS) if self.logo is not None or state.has_chosen_logo else []
        launcher = state.files.get(environments.LAUNCHER)
        if launcher is not None and launcher.data == state.launcher:
            replaced.append(environments.LAUNCHER)
        return [name for name in replaced if name in state.files and name not in files]

    def _spec(self, state: KernelState) -> dict[str, Any]:
        """kernel.json as plain data (https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs)."""
        added = kernels.added_variables(state.spec)
        variables = {**added, **{name: str(value) for name, value in self.environment.items()}}
        mark: dict[str, Any] = {"variables": sorted(added)} if added else {}
        metadata: dict[str, Any] = {}
        optional: dict[str, Any] = {}
        if self.logo is not None:
            mark["logo"] = True
        if state.prefix is not None:
            mark["prefix"] = str(state.prefix)
        if state.prefix is not None and not state.argv:
            if self.validate and state.ipykernel is not None:
                mark["validated"] = f"ipykernel {state.ipykernel}"
            if not self.user_site:
                variables = {"PYTHONNOUSERSITE": "1", **variables}
            bundled = state.bundled_spec.get("metadata", {"debugger": True})
            metadata = dict(bundled) if isinstance(bundled, dict) else {}
            protocol = state.bundled_spec.get("kernel_protocol_version")
            if isinstance(protocol, str):
                optional["kernel_protocol_version"] = protocol
        if self.interrupt_mode is not None:
            optional["interrupt_mode"] = self.interrupt_mode
        language = "Python" if self._language == "python" else self._language
        default_name = f"{language} ({self._environment_name})" if state.prefix is not None else self.kernel_name
        return {
            "argv": self._command(state),
            "display_name": self.display_name if self.display_name is not None else default_name,
            "language": self._language,
            "env": variables,
            "metadata": {**metadata, **self.metadata, kernels.MARK: mark},
            **optional,
        }

    def _command(self, state: KernelState) -> list[str]:
        if state.prefix is None:
            return list(state.argv)
        python = [str(state.prefix / "bin/python"), "-m", "ipykernel_launcher", "-f", CONNECTION_FILE]
        command = list(state.argv) or python
        if not self.activate:
            return command
        plain = [name for name, value in self.environment.items() if not _REFERENCE.search(str(value))]
        kept = " ".join(name for name in plain if name != "PATH")
        script = str(state.folder / environments.LAUNCHER)
        return [*state.shell, script, str(state.prefix), state.conda or "-", kept or "-", *command]

    def _was_tried(self, state: KernelState) -> bool:
        """Whether the current kernel.json is as described, which includes a successful trial."""
        launcher = state.files.get(environments.LAUNCHER)
        unchanged = launcher is not None and launcher.data == state.launcher
        return state.current is not None and state.spec == self._spec(state) and (unchanged or not self.activate)


def _depends_on_path(state: KernelState) -> bool:
    """Whether the server's PATH, which may differ from this run's, decides which program starts."""
    return state.prefix is None and bool(state.argv) and "/" not in state.argv[0]

"""A Jupyter kernel: of an environment's Python, or of any program that speaks Jupyter's protocol."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from nbprovision.files.file_work import resources_above
from nbprovision.jupyter import argv as kernel_argv
from nbprovision.jupyter import examples as kernel_examples
from nbprovision.jupyter import ipykernel, kernel_folder
from nbprovision.jupyter import logo as kernel_logo
from nbprovision.jupyter.state import KernelState, not_whole
from nbprovision.machine import distributions, environments, kernels
from nbprovision.machine.env_selection import EnvSelection, Member
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import Inevitable, ParameterError, TaskFailed, UnknownEnvironment
from nbprovision.model.relations import OneOf, Requires
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Claim, Foretold, Input, Resource, Setting, parameter
from nbprovision.system import secrets, unfinished
from nbprovision.system.places import existing

NAME = "{env}"  # in `name` and `display_name`: the environment's name
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A reference in a value that Jupyter expands by string.Template.
_REFERENCE = re.compile(r"(?<!\$)(?:\$\$)*\$\{?[A-Za-z_]")


class EnsureKernel(EnvSelection[KernelState], frozen=True, kw_only=True):
    """Offer a kernel in Jupyter: of an environment (by ``env`` or ``prefix``), or of any program (by ``argv``).

    The kernel of an environment starts as after ``conda activate``, or as after a virtual environment's ``activate``:
    its Python, or with ``argv`` a program of another language, such as R, that is installed there.
    With ``envs`` it is a kernel for each of several; ``{env}`` in ``name`` and ``display_name`` is the environment's.
    """

    relations = (
        OneOf(("env", "prefix", "envs"), required=False),
        OneOf(("argv", "envs"), required=False),
        *EnvSelection.relations,
        Requires("scope", "env", ("env", "prefix")),
    )
    with_python = True
    actions, examples = kernel_examples.ACTIONS, kernel_examples.EXAMPLES

    prefix: Annotated[str | None, parameter("Path of the environment whose kernel it is.", extra={"path": True})] = None
    argv: Annotated[
        list[str] | None,
        parameter(
            "Command of a kernel that is not an environment's Python; one word has `{connection_file}` in it. With "
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
            "What Jupyter shows. Default: `Python (ENVIRONMENT)`, with `argv` its language; or the kernel's name."
        ),
    ] = None
    language: Annotated[
        str | None,
        parameter(
            "Language of the kernel's notebooks. Default: `python`; of another program by `argv` the kernel's name."
        ),
    ] = None
    environment: Annotated[
        dict[str, str | int | float],
        parameter(
            "Variables for the kernel. `${NAME}` in a value is the server's variable, `$$` a dollar sign "
            "(Jupyter's rule). A value without `${...}` wins over what activation sets."
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
            "Who sees it: `user` (the user's Jupyter), `system` (every user's; needs the right to), "
            "`env` (the Jupyter that runs from the environment itself)."
        ),
    ] = "user"
    state: Annotated[Literal["present", "absent"], parameter("Whether the kernel is to be there.")] = "present"
    install_ipykernel: Annotated[
        bool, parameter("Install ipykernel into the environment where it is missing; otherwise that is a failure.")
    ] = True
    validate: Annotated[bool, parameter("Start the kernel before it is offered, and ask it for `sys.prefix`.")] = False
    interrupt_mode: Annotated[
        Literal["signal", "message"] | None, parameter("How Jupyter interrupts the kernel; its default is `signal`.")
    ] = None
    logo: Annotated[
        str | None,
        parameter(
            "A picture (PNG or SVG) that Jupyter shows for the kernel. Default: that of ipykernel, unless "
            "another one is in the kernel's folder.",
            extra={"path": True},
        ),
    ] = None
    metadata: Annotated[dict[str, Any], parameter("More of the kernelspec's `metadata`, for Jupyter's extensions.")] = (
        msgspec.field(default_factory=dict)
    )

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        named = any(getattr(self, key) is not None for key in ("env", "prefix", "envs", "argv"))
        if not named and not (self.state == "absent" and self.name):
            cure = "give env or prefix for an environment's Python, or argv for any other program"
            raise ParameterError("env", "a kernel of what?", cure=cure)
        kernel_argv.check(self)
        kernel_logo.check(self.logo)
        self._check_name()
        for key, value in self.environment.items():
            if not _VARIABLE.fullmatch(key):
                raise ParameterError("environment", f"{key!r} is no name of an environment variable")
            kernel_argv.check_word("environment", str(value))
        for key in ("display_name", "language", "env", "prefix"):
            kernel_argv.check_word(key, getattr(self, key) or "")

    @property
    def names_one(self) -> bool:
        """Whether an environment or a command is named."""
        return self.env is not None or self.prefix is not None or self.argv is not None

    def _check_name(self) -> None:
        if self.is_several:
            for key, value in (("name", self.name), ("display_name", self.display_name)):
                if value is not None and NAME not in value:
                    raise ParameterError(
                        key,
                        f"all kernels of `envs` would have the {key} '{value}'",
                        cure=f"write {NAME} for the environment",
                    )
            if self.name is not None and not kernels.is_valid_name(self.name.lower().replace(NAME, "x")):
                raise ParameterError("name", f"{self.name!r} makes no name of a kernel")
        elif self.name is not None and not kernels.is_valid_name(self.name.lower()):
            better = kernels.normalized(self.name)
            raise ParameterError(
                "name",
                f"{self.name!r} is no name of a kernel",
                cause=f"Jupyter takes ASCII letters, digits, '.', '_' and '-', up to {kernels.LONGEST_NAME} here",
                cure=f"write name: {better}" if better else "",
            )
        elif not self.kernel_name:
            raise ParameterError("name", "no name of a kernel can be made from the environment's", cure="give a name")

    def members(self, machine: Machine) -> list[Member]:
        """A task for each environment; of two with one name, the second kernel is called by its path."""
        members: dict[str, Member] = {}
        for selection in self.selection(machine):
            name = os.path.basename(selection.name.rstrip("/"))
            if kernels.normalized(name) in members:
                name = kernels.normalized(str(selection.prefix))
            shown = self.display_name.replace(NAME, name) if self.display_name is not None else f"Python ({name})"
            own = kernels.normalized(self.name.replace(NAME, name) if self.name is not None else name)
            members[kernels.normalized(name)] = self.member(machine, selection, name=own, display_name=shown)
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
        return self.language if self.language is not None else kernel_argv.language_of(self)

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The kernel, by its folder."""
        return frozenset({Resource("kernel", str(self._folder(machine)))})

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment and the program, unless the kernel is to go."""
        if self.state == "absent":
            return frozenset()
        prefix = self._prefix(machine)
        needs = {Resource("environment", str(prefix))} if prefix is not None else set()
        if self.argv is not None and self.argv[0].startswith("/"):
            program = Path(self.argv[0])
            needs |= {Resource("file", str(program))} | resources_above(program, machine)
        return frozenset(needs)

    def claims(self, machine: Machine) -> Iterable[Claim]:
        """ipykernel, where conda does not own it: what this task installs is not stray to the environment's task."""
        prefix = self._prefix(machine) if self._installs else None
        if prefix is not None and prefix.is_dir() and not ipykernel.owned_by_conda(prefix):
            yield Claim(prefix, "ipykernel")

    def shared_values(self, machine: Machine) -> Iterable[Setting]:
        """The variables, and what is said of the program, in kernel.json."""
        if self.state == "absent":
            return
        file = str(self._folder(machine) / kernels.SPEC)
        for name, value in self.environment.items():
            yield Setting(file, ("env", name), str(value))
        for key, said in (("display_name", self.display_name), ("argv", self.argv)):
            if said is not None:
                yield Setting(file, (key,), said)

    def guarded(self, machine: Machine) -> Iterable[Path]:
        """The environment, into which ipykernel may have to go, unless it cannot be written.

        The guard asks before and after, so the answer must not depend on whether ipykernel is in.
        """
        prefix = self._prefix(machine) if self._installs else None
        if prefix is None or (prefix.is_dir() and not os.access(prefix, os.W_OK)):
            return ()
        return (prefix,)

    def inputs(self, machine: Machine) -> Iterable[Input]:
        """The picture."""
        return () if self.logo is None else (Input(machine.path(self.logo), "logo"),)

    def weight(self, machine: Machine) -> Literal[0]:
        """Small files."""
        return 0

    def read(self, machine: Machine) -> KernelState:
        """The kernel's folder, and what a kernelspec of the environment must say."""
        for name, value in self.environment.items():
            secrets.remember_if_secret(name, str(value))
        folder = self._folder(machine)
        found = kernels.read_folder(folder)
        if self.state == "absent":
            return KernelState(folder=folder, found=found)
        prefix = self._prefix(machine)
        own = prefix if self.scope == "env" else None
        dirs = kernels.kernel_dirs(machine.env, machine.user_home, prefix=own, root=machine.root)
        hidden_by = kernels.hiding_kernel(folder, dirs)
        conda = machine.conda.executable if prefix is not None else None
        state = KernelState(
            folder=folder,
            found=found,
            prefix=prefix,
            launcher=environments.launcher(),
            shell=tuple(environments.launcher_shell()),
            conda=str(conda) if conda else "",
            hidden_by=hidden_by,
            argv=kernel_argv.expanded(self.argv, machine),
            logos={} if self.logo is None else kernel_logo.read(machine.path(self.logo)),
        )
        if prefix is None:
            python = kernel_argv.starts(state.argv[0], None, machine)
            doubt = "" if python else kernel_argv.doubt(state.argv[0])
            return msgspec.structs.replace(state, python=python or bool(doubt), doubt=doubt)
        mark = unfinished.read_mark(prefix)
        # An install of ours that was killed is ours to complete; any other half-made environment is no kernel.
        foreign = mark is not None and mark.task != self.kind() and machine.is_unfinished(prefix)
        state = msgspec.structs.replace(
            state,
            there=prefix.is_dir(),
            awaited=prefix in machine.declared.values(),
            unfinished=mark.task if mark is not None and foreign else "",
            python=os.access(prefix / "bin/python", os.X_OK),
        )
        if self.argv is not None:
            alive = kernel_argv.starts(state.argv[0], prefix, machine)
            return msgspec.structs.replace(state, python=alive, by_argv=True)
        whole = self.deep or (mark is not None and not foreign)
        there = distributions.installed(prefix, None if whole else {"ipykernel"})
        brought = next(iter(there.get("ipykernel", ())), None)
        site_packages = distributions.site_packages(prefix)
        state = msgspec.structs.replace(
            state,
            ipykernel=brought.version if brought is not None and not brought.broken else None,
            lacking=ipykernel.lacking(prefix, there, torn=mark is not None) if whole else (),
            says=ipykernel.spec(prefix),
            logos=state.logos or (ipykernel.logos(site_packages) if site_packages else {}),
        )
        coming = machine.foretold.get(prefix)
        version = distributions.python_version(prefix)
        if coming is None or (version and coming.python and version.split(".")[:2] == coming.python.split(".")[:2]):
            return state
        # Its first look comes when an earlier task has made it, or has given it another Python.
        return msgspec.structs.replace(
            state,
            there=True,
            foreseen=coming.whole,
            python=coming.python is not None,
            ipykernel=coming.packages.get("ipykernel"),
            lacking=(),
        )

    def plan(self, state: KernelState) -> Plan:
        """What to install and which files to write.

        Raises:
            TaskFailed: the environment cannot have a kernel as it is.

        """
        if self.state == "absent":
            return Plan(changes=(Change("remove", str(state.folder)),) if state.found is not None else ())
        self._refuse(state)
        changes = self._changes_of_files(state)
        if state.lacks_ipykernel:
            changes.insert(0, Change("install", "ipykernel", before=state.ipykernel, kind="package"))
        hidden = f"Jupyter finds another kernel '{self.kernel_name}' first, in {state.hidden_by}"
        warnings = (*((hidden,) if state.hidden_by is not None else ()), *((state.doubt,) if state.doubt else ()))
        return Plan(changes=tuple(changes), warnings=warnings, beside=state.there and not state.lacks_ipykernel)

    def apply(self, plan: Plan, machine: Machine) -> None:
        """Install ipykernel where it is missing, then write the folder, kernel.json last; or remove it.

        It reads anew: the files to write are known only when ipykernel is in.
        """
        folder = self._folder(machine)
        if self.state == "absent":
            kernel_folder.withdraw(folder)
            return
        self._check_rights(folder)
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

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The folder's files, and what of the environment they were made from."""
        folder = self._folder(machine)
        yield from (folder, folder / kernels.SPEC)
        if self.state == "absent":
            return
        prefix = self._prefix(machine)
        if self.argv is not None:
            program = kernel_argv.program(kernel_argv.expanded(self.argv, machine)[0], prefix)
            yield from [program] if program is not None else []
        if prefix is None:
            return
        if self.activate:
            yield folder / environments.LAUNCHER
        yield from (folder / logo for logo in ipykernel.LOGOS)
        yield from (prefix / unfinished.MARK, prefix / "bin/python", ipykernel.spec_path(prefix))
        site_packages = distributions.site_packages(prefix)
        if site_packages is not None:
            yield site_packages / "ipykernel/resources"
            yield from (found.path for found in distributions.installed(prefix, {"ipykernel"}).get("ipykernel", []))
        if machine.conda.executable is not None:
            yield machine.conda.executable

    def foretells(self, plan: Plan, machine: Machine) -> dict[Path, Foretold]:
        """An ipykernel that was missing."""
        prefix = self._prefix(machine)
        before = machine.foretold.get(prefix) if prefix is not None else None
        if prefix is None or before is None or not any(change.target == "ipykernel" for change in plan.changes):
            return {}
        return {prefix: Foretold(before.python, {"ipykernel": "", **before.packages}, whole=False)}

    def _prefix(self, machine: Machine) -> Path | None:
        """The environment; for a kernel that is to go only where its place depends on it."""
        if self.prefix is not None:
            return machine.path(self.prefix)
        if self.env is None or (self.state == "absent" and self.scope != "env"):
            return None
        try:
            return self.selected(machine).prefix
        except UnknownEnvironment:
            if self.state == "present":
                raise
            return machine.conda.new_prefix(self.env)  # where it would be: the kernel has gone with it

    def _folder(self, machine: Machine) -> Path:
        prefix = self._prefix(machine) if self.scope == "env" else None
        return kernels.folder_of(
            self.kernel_name, self.scope, machine.env, machine.user_home, prefix=prefix, root=machine.root
        )

    def _with_ipykernel(self, machine: Machine) -> KernelState:
        """The state when ipykernel is in. What lies beneath a broken distribution shows only when that is mended."""
        tried: set[tuple[str, ...]] = set()
        state = self.read(machine)
        self._refuse(msgspec.structs.replace(state, awaited=False))
        while state.prefix is not None and state.lacks_ipykernel:
            if state.lacking in tried:
                raise not_whole(state.prefix, ", ".join(state.lacking) or "ipykernel")
            tried.add(state.lacking)
            from nbprovision.pip.guard import image_constraints

            held = image_constraints(machine, state.prefix)
            kernel_folder.install_ipykernel(machine, state.prefix, state.lacking, constraints=held)
            machine.forget()
            state = self.read(machine)
        return state

    def _refuse(self, state: KernelState) -> None:
        """Raise where no kernel can come of the environment as it is."""
        failed = Inevitable if state.foreseen else TaskFailed
        if not state.there and state.prefix is not None:
            if state.awaited:
                return
            raise TaskFailed(
                f"there is no environment at {state.prefix}",
                cause=f"the kernel '{self.kernel_name}' is to run in it",
                cure="make it by ensure_conda_env, or correct the path",
            )
        if state.unfinished:
            raise TaskFailed(
                f"the environment {state.prefix} is unfinished, so it is no kernel yet",
                cause=f"a run ended in the middle of {state.unfinished}",
                cure=f"run the playbook with that {state.unfinished} once more; it completes the environment",
            )
        if not state.python and self.argv is not None:
            raise TaskFailed(
                f"the kernel '{self.kernel_name}' could not start",
                cause=f"there is no program {state.argv[0]}" + (f" in {state.prefix}" if state.prefix else ""),
                cure="install it first, or correct argv",
            )
        if not state.python and state.prefix is not None:
            raise failed(
                f"the environment {state.prefix} has no Python that starts",
                cause=f"{state.prefix}/bin/python is missing, or a link to what is gone",
                cure="add python to the environment's packages, or describe a kernel of another language by argv",
            )
        if state.lacks_ipykernel and not self.install_ipykernel:
            raise failed(
                f"ipykernel is missing from {state.prefix}",
                cause="install_ipykernel is false",
                cure="add ipykernel to the environment's packages, or leave install_ipykernel out",
            )

    def _changes_of_files(self, state: KernelState) -> list[Change]:
        files = self._files(state)
        spec_path = str(state.folder / kernels.SPEC)
        after = files[kernels.SPEC].decode()
        found = state.found
        if found is None or found.mode is None:  # what comes along with a new kernel.json needs no line of its own
            return [Change("write", spec_path, after=after, kind="file")]
        changes = []
        if found.mode != kernel_folder.FOLDER_MODE:
            changes.append(
                Change("set mode", str(state.folder), f"{found.mode:04o}", f"{kernel_folder.FOLDER_MODE:04o}")
            )
        for name, data in files.items():
            file, path = found.files.get(name), str(state.folder / name)
            if name == kernels.SPEC:
                if found.spec != self._spec(state):
                    before = None if file is None else (file.data or b"").decode("utf-8", "replace")
                    changes.append(Change("write", path, before, after, kind="file"))
                    continue
            elif file is None or file.data != data:
                changes.append(Change("write", path, None if file is None else "different", "as described"))
                continue
            # What other tasks add stands in kernel.json alone, and makes only that private.
            elsewhere = name != kernels.SPEC and self.scope == "user" and not self.environment
            if file is not None and file.mode not in ((0o644, 0o600) if elsewhere else (self._mode(state),)):
                changes.append(Change("set mode", path, f"{file.mode:04o}", f"{self._mode(state):04o}"))
        changes += [Change("remove", str(state.folder / name)) for name in self._unwanted(state)]
        return changes

    def _mode(self, state: KernelState) -> int:
        """A variable may be a password; where only the user's own Jupyter reads it, nobody else may."""
        added = kernels.added_variables(state.found.spec if state.found is not None else None)
        return 0o600 if (self.environment or added) and self.scope == "user" else 0o644

    def _files(self, state: KernelState) -> dict[str, bytes]:
        """Every file of the kernel's folder that is ours, as it should be."""
        files = {name: data for name, data in state.logos.items() if not kernel_logo.is_kept(name, state, self.logo)}
        if state.prefix is not None and self.activate:
            files[environments.LAUNCHER] = state.launcher
        files[kernels.SPEC] = msgspec.json.format(msgspec.json.encode(self._spec(state)), indent=1) + b"\n"
        return files

    def _unwanted(self, state: KernelState) -> list[str]:
        """The launcher or the pictures of an earlier description; other files that somebody put there stay."""
        if state.found is None:
            return []
        files = self._files(state)
        unwanted = kernel_logo.unwanted(files, state, self.logo)
        file = state.found.files.get(environments.LAUNCHER)
        if environments.LAUNCHER not in files and file is not None and file.data == state.launcher:
            unwanted.append(environments.LAUNCHER)
        return unwanted

    def _spec(self, state: KernelState) -> dict[str, Any]:
        """kernel.json as plain data (https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs)."""
        added = kernels.added_variables(state.found.spec if state.found is not None else None)
        variables = {**added, **{name: str(value) for name, value in self.environment.items()}}
        mark: dict[str, Any] = {"variables": sorted(added)} if added else {}
        metadata: dict[str, Any] = {}
        spec: dict[str, Any] = {}
        if self.logo is not None:
            mark["logo"] = True
        if state.prefix is not None:
            mark["prefix"] = str(state.prefix)
        if state.prefix is not None and not state.by_argv:
            if self.validate and state.ipykernel is not None:
                mark["validated"] = f"ipykernel {state.ipykernel}"
            if not self.user_site:
                variables = {"PYTHONNOUSERSITE": "1", **variables}
            said = state.says.get("metadata", {"debugger": True})
            metadata = dict(said) if isinstance(said, dict) else {}
            protocol = state.says.get("kernel_protocol_version")
            if isinstance(protocol, str):
                spec["kernel_protocol_version"] = protocol
        if self.interrupt_mode is not None:
            spec["interrupt_mode"] = self.interrupt_mode
        language = "Python" if self._language == "python" else self._language
        shown = f"{language} ({self._environment_name})" if state.prefix is not None else self.kernel_name
        return {
            "argv": self._command(state),
            "display_name": self.display_name if self.display_name is not None else shown,
            "language": self._language,
            "env": variables,
            "metadata": {**metadata, **self.metadata, kernels.MARK: mark},
            **spec,
        }

    def _command(self, state: KernelState) -> list[str]:
        if state.prefix is None:
            return list(state.argv)
        python = [str(state.prefix / "bin/python"), "-m", "ipykernel_launcher", "-f", kernel_argv.CONNECTION_FILE]
        command = list(state.argv) or python
        if not self.activate:
            return command
        plain = [name for name, value in self.environment.items() if not _REFERENCE.search(str(value))]
        kept = " ".join(name for name in plain if name != "PATH")
        script = str(state.folder / environments.LAUNCHER)
        return [*state.shell, script, str(state.prefix), state.conda or "-", kept or "-", *command]

    def _was_tried(self, state: KernelState) -> bool:
        """Whether this very kernel has been tried: its kernel.json says so, and is as it should be."""
        if state.found is None or state.found.spec != self._spec(state):
            return False
        file = state.found.files.get(environments.LAUNCHER)
        return not self.activate or (file is not None and file.data == state.launcher)

    def _check_rights(self, folder: Path) -> None:
        place = existing(folder)
        if self.scope == "system" and not os.access(place, os.W_OK):
            raise TaskFailed(
                "the kernels of all users are not this user's to change",
                cause=f"{place} cannot be written",
                cure="leave scope out, so that the kernel is this user's own, or run as a user who has the right",
            )

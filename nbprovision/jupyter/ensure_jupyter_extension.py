"""``ensure_jupyter_extension``: extensions of JupyterLab and of the Jupyter server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from nbprovision.files import file_work, json_text
from nbprovision.files.file_work import FILE_ACTIONS, FilePlan, ManagedPath
from nbprovision.jupyter import own_extension
from nbprovision.jupyter import server as jupyter
from nbprovision.jupyter.own_extension import OwnExtension
from nbprovision.machine import distributions, kernels
from nbprovision.machine.env_selection import PlatformChanges
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed, UnknownEnvironment
from nbprovision.model.relations import AnyOf, Excludes
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Resource, Setting, Strings, as_list, parameter
from nbprovision.pip import requirements
from nbprovision.pip.packages import ACTIONS, PipPackages, WithPip
from nbprovision.pip.plan import PipState
from nbprovision.system.files import read_text


class ExtensionState(msgspec.Struct, frozen=True, kw_only=True):
    """The packages and configuration files.

    Attributes:
        pip: The state of the packages; None if no package is named.
        files: The configuration files by the parameter that they hold, ``lab`` or ``server``.
        disabled: The extensions of JupyterLab that the environment itself disables.
        warnings: Doubts about packages and names.
        own: The folder of nbprovision's extension; None if it is not named.

    """

    pip: PipState | None
    files: dict[str, ManagedPath]
    disabled: frozenset[str]
    warnings: tuple[str, ...]
    own: OwnExtension | None = None


class ExtensionPlan(Plan, frozen=True, kw_only=True):
    """The plan of the packages, and that of the files."""

    pip: Plan = Plan()
    files: FilePlan = FilePlan()


class EnsureJupyterExtension(WithPip[ExtensionState], frozen=True, kw_only=True):
    """Install and enable or disable extensions of JupyterLab and of the Jupyter server.

    pip installs them into the environment of the Jupyter server, and changes no package of the platform's image.
    Extensions must be prebuilt. JupyterLab shows a new extension when its page is loaded again. The server loads a new
    extension when it is restarted (`notify: restart_jupyter`).

    `name: nbprovision` is the extension in this package, which shows the state of runs. It goes into the user's own
    data folder of Jupyter, so that no environment changes, and needs neither pip nor a restart of the server.
    """

    relations = (
        AnyOf(("packages", "lab", "server", "name")),
        Excludes("name", own_extension.NAME, ("packages", "lab", "server", "env", "scope", "allow_platform_changes")),
    )
    actions: ClassVar[dict[str, str]] = {
        **ACTIONS,
        "create": FILE_ACTIONS["create"],
        "write": FILE_ACTIONS["write"],
        "remove": FILE_ACTIONS["remove"],
    }
    examples: ClassVar[str] = """
- name: The state of runs in JupyterLab
  ensure_jupyter_extension: {name: nbprovision}
- name: Widgets, in an environment with a JupyterLab of its own
  ensure_jupyter_extension:
    env: fraud
    packages: jupyterlab-widgets
- name: No extension manager, for everybody whose Jupyter runs from there
  ensure_jupyter_extension:
    env: fraud
    scope: env
    lab:
      "@jupyterlab/extensionmanager-extension": false
- name: An extension of the server, for this user
  ensure_jupyter_extension:
    env: fraud
    server:
      jupyter_lsp: true
"""
    habits: ClassVar[dict[str, str]] = {
        "enabled": "write lab: {NAME: true} for an extension of JupyterLab, or server: {MODULE: true}",
    }

    name: Annotated[
        str | None,
        parameter("`nbprovision`: the extension in this package, which shows the state of runs."),
    ] = None
    packages: Annotated[
        Strings,
        parameter("Packages with extensions, as in `ensure_pip_pkg`.", extra={"path": requirements.anchored}),
    ] = []
    lab: Annotated[
        dict[str, bool], parameter("Extensions or plugins of JupyterLab, by name: whether each is enabled.")
    ] = msgspec.field(default_factory=dict)  # fmt: skip
    server: Annotated[
        dict[str, bool], parameter("Extensions of the server, by Python module: whether each is enabled.")
    ] = msgspec.field(default_factory=dict)
    env: Annotated[
        str | None,
        parameter("The environment, by name or path. Default: the Jupyter server's own.", extra={"path": "if-slash"}),
    ] = None
    scope: Annotated[
        Literal["user", "env"],
        parameter("Scope of `lab` and `server`: this user, or everybody whose Jupyter runs from the environment."),
    ] = "user"
    state: Annotated[
        Literal["present", "latest", "absent"],
        parameter("As in `ensure_pip_pkg`; `absent` also removes the names in `lab` and `server` from the files."),
    ] = "present"
    allow_platform_changes: PlatformChanges = False

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        if self.name not in (None, own_extension.NAME):
            raise ParameterError(
                "name",
                f"'name' takes only '{own_extension.NAME}', the extension in this package",
                cure="write packages: with the names that pip knows",
            )
        for key in ("lab", "server"):
            for name in getattr(self, key):
                if not name.strip() or not name.isprintable():
                    raise ParameterError(key, f"{name[:60]!r} is not a valid name of an extension")
        if self.has_packages:
            self.packages_in("/")  # reports wrong packages before anything runs

    # ---------------------------------------------------------------------------------- its relations to other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The packages, and the files."""
        if self.name is not None:
            return frozenset({Resource("file", str(own_extension.place(machine)))})
        return super().provides(machine) | {Resource("file", str(path)) for path in self._files(machine).values()}

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment, and the sources of the packages."""
        if self.name is not None:
            return file_work.resources_above(own_extension.place(machine), machine)
        return super().requires(machine) | {Resource("environment", str(self.prefix(machine)))}

    def shared_values(self, machine: Machine) -> Iterator[Setting]:
        """The disabled extensions of JupyterLab, and the enabled extensions of the server."""
        absent, files = self.state == "absent", self._files(machine)
        for name, on in self.lab.items():  # without an entry an extension is enabled
            yield Setting(str(files["lab"]), ("disabledExtensions", name), not absent and not on)
        for name, on in self.server.items():
            yield Setting(str(files["server"]), ("ServerApp", "jpserverextensions", name), None if absent else on)

    def witnesses(self, machine: Machine) -> Iterator[Path]:
        """The witnesses of the packages, the files, and the folder of the extensions."""
        if self.name is not None:
            folder = own_extension.place(machine)
            yield folder
            yield from (folder / name for name in (own_extension.wanted() if self.state != "absent" else ()))
            return
        yield from super().witnesses(machine)
        yield from self._files(machine).values()
        prefix = self.prefix(machine)
        if self.lab:
            yield prefix / "etc/jupyter" / jupyter.PAGE_CONFIG
            yield prefix / "share/jupyter/labextensions"

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> ExtensionState:
        """Read the packages and the files.

        Raises:
            TaskFailed: there is no Jupyter, or the packages are unavailable.

        """
        if self.name is not None:
            own = own_extension.read(machine)
            return ExtensionState(pip=None, files={}, disabled=frozenset(), warnings=(), own=own)
        prefix = self.prefix(machine)
        files = {key: file_work.read_state(path, follow=False) for key, path in self._files(machine).items()}
        disabled: dict[str, bool] = {}
        if self.scope == "user" and self.lab:
            of_environment = prefix / "etc/jupyter" / jupyter.PAGE_CONFIG
            with contextlib.suppress(TaskFailed):  # Jupyter ignores a damaged file
                disabled = jupyter.disabled_extensions(jupyter.parse_config(of_environment, read_text(of_environment)))
        return ExtensionState(
            pip=self.read_packages(machine),
            files=files,
            disabled=frozenset(name for name, off in disabled.items() if off),
            warnings=tuple(self._doubts(prefix, machine)),
        )

    def plan(self, state: ExtensionState) -> ExtensionPlan:
        """Compare the packages and files with the parameters.

        Raises:
            TaskFailed: a file of Jupyter's is damaged.

        """
        if state.own is not None:
            files = own_extension.plan(state.own, absent=self.state == "absent")
            return ExtensionPlan(changes=files.changes, beside=True, files=files)
        pip = self.plan_packages(state.pip)
        edits = []
        for key, file in state.files.items():
            config = jupyter.parse_config(file.path, file.text)
            wanted = self._with_lab(config, state.disabled) if key == "lab" else self._with_server(config)
            if wanted != config:
                edits.append(file_work.plan_text(file, _edited(file, config, wanted)))
        files = file_work.join_plans(edits)
        return ExtensionPlan(
            changes=(*pip.changes, *files.changes),
            warnings=(*pip.warnings, *state.warnings),
            beside=not pip,
            pip=pip,
            files=files,
        )

    def apply(self, plan: ExtensionPlan, machine: Machine) -> Sequence[Change]:
        """Install or uninstall the packages, then write the files.

        Raises:
            TaskFailed: pip failed, or a file cannot be written.

        """
        done = self.apply_packages(plan.pip, machine)
        file_work.carry_out(plan.files, machine)
        return [*done, *plan.files.changes]

    def _with_lab(self, config: dict[str, Any], off: frozenset[str]) -> dict[str, Any]:
        before = jupyter.disabled_extensions(config)
        after = dict(before)
        for name, on in self.lab.items():
            if self.state == "absent":
                after.pop(name, None)
            elif not on or after.get(name) or name in off:
                after[name] = not on
        return config if after == before else {**config, "disabledExtensions": after}

    def _with_server(self, config: dict[str, Any]) -> dict[str, Any]:
        app = _mapping(config, "ServerApp")
        before = _mapping(app, "jpserverextensions")
        if self.state == "absent":
            after = {name: on for name, on in before.items() if name not in self.server}
        else:
            after = {**before, **self.server}
        return config if after == before else {**config, "ServerApp": {**app, "jpserverextensions": after}}

    def _doubts(self, prefix: Path, machine: Machine) -> Iterator[str]:
        """Warnings of packages without an extension, and of names that no extension has."""
        if self.state == "absent":
            return
        installed = distributions.installed(prefix) if self.has_packages else {}
        for text in as_list(self.packages):
            name = requirements.parse(text).name
            for distribution in installed.get(name or "", ())[:1]:
                if not jupyter.extends_jupyter(read_text(distribution.path / "RECORD") or ""):
                    yield (
                        f"{name} brings no prebuilt extension: it may extend nothing, or need a build with Node.js, "
                        "which this task does not do"
                    )
        for name in self.lab:
            if not self.has_packages and not jupyter.has_lab_extension(name, prefix, machine):
                yield f"JupyterLab has no prebuilt extension '{name}' in {prefix}"

    def _files(self, machine: Machine) -> dict[str, Path]:
        """The configuration files, by the parameter that each one holds."""
        folder = kernels.config_dir(machine.env, machine.user_home)
        if self.scope == "env":
            folder = self.prefix(machine) / "etc/jupyter"
        files = {"lab": folder / jupyter.PAGE_CONFIG, "server": folder / jupyter.SERVER_CONFIG}
        return {key: path for key, path in files.items() if getattr(self, key)}

    def prefix(self, machine: Machine) -> Path:
        """The environment, by default that of the Jupyter server.

        Raises:
            UnknownEnvironment: there is none.

        """
        prefix = machine.prefix_of(self.env) if self.env is not None else jupyter.server_prefix(machine)
        if prefix is None:
            raise UnknownEnvironment(
                "this machine has no Jupyter server to extend",
                cause="the platform brings none, and there is no jupyter on the PATH",
                cure="name the environment that it runs from: `env`",
            )
        return prefix

    @property
    def has_packages(self) -> bool:
        """Whether there are packages to install."""
        return bool(as_list(self.packages))

    def packages_in(self, env: str) -> PipPackages:
        """The pip task for the environment."""
        return PipPackages(
            packages=self.packages,
            env=env,
            state=self.state,
            jupyter_server=True,
            allow_platform_changes=self.allow_platform_changes,
            deep=self.deep,
            refresh_every=self.refresh_every,
        )


def _edited(file: ManagedPath, config: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The text of the file with the wanted extensions; all other settings keep their form."""
    values: dict[str, Any] = {}
    gone: list[tuple[str, ...]] = []
    for keys in (("disabledExtensions",), ("ServerApp", "jpserverextensions")):
        if config.get(keys[0]) == wanted.get(keys[0]):
            continue
        before, after = config, wanted
        for key in keys:
            before, after = _mapping(before, key), _mapping(after, key)
        gone += [(*keys, name) for name in before if name not in after]
        for key in reversed(keys):
            after = {key: after}
        values |= after
    return json_text.edited(file.path, file.text, values, gone) or ""


def _mapping(config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}

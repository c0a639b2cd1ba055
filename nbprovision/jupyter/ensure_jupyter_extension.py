"""``ensure_jupyter_extension``: extensions of JupyterLab and of the Jupyter server, and whether they are on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from nbprovision.files import file_work
from nbprovision.files.file_work import FILE_ACTIONS, FilePlan, TextState
from nbprovision.jupyter import server as jupyter
from nbprovision.machine import distributions
from nbprovision.machine.env_selection import PlatformChanges
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed, UnknownEnvironment
from nbprovision.model.relations import AnyOf
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Resource, Setting, Strings, as_list, parameter
from nbprovision.pip import requirements
from nbprovision.pip.packages import ACTIONS, PipPackages, WithPip
from nbprovision.pip.plan import PipState
from nbprovision.system.files import read_text as text_of


class ExtensionState(msgspec.Struct, frozen=True, kw_only=True):
    """What there is.

    Attributes:
        pip: Of the packages, None where none is named.
        lab: The file that says which extensions of JupyterLab are off.
        server: The file that says which extensions of the server are on.
        off: Extensions of JupyterLab that the environment itself switches off.
        strange: What to warn of.

    """

    pip: PipState | None = None
    lab: TextState | None = None
    server: TextState | None = None
    off: frozenset[str] = frozenset()
    strange: tuple[str, ...] = ()


class ExtensionPlan(Plan, frozen=True, kw_only=True):
    """What pip does, and what is written."""

    pip: Plan = Plan()
    files: FilePlan = FilePlan()


class EnsureJupyterExtension(WithPip[ExtensionState], frozen=True, kw_only=True):
    """Extensions of JupyterLab and of the Jupyter server: installed by pip, and switched on or off.

    They go into the environment that the Jupyter server runs from, where nothing moves that the platform's image
    brought. Extensions are taken prebuilt; none is built here. JupyterLab shows a new one when its page is loaded
    again, the server loads one when it is restarted (`notify: restart_jupyter`).
    """

    relations = (AnyOf(("packages", "lab", "server")),)
    actions: ClassVar[dict[str, str]] = {
        **ACTIONS,
        "create": "a file is new",
        "write": FILE_ACTIONS["write"],
    }
    examples: ClassVar[str] = """
- name: Widgets, in an environment with a JupyterLab of its own
  ensure_jupyter_extension:
    env: fraud
    packages: jupyterlab-widgets
- name: What nobody here wants is off, for everybody whose Jupyter runs from there
  ensure_jupyter_extension:
    env: fraud
    scope: env
    lab:
      "@jupyterlab/extensionmanager-extension": false
- name: An extension of the server, on for this user
  ensure_jupyter_extension:
    env: fraud
    server:
      jupyter_lsp: true
"""
    habits: ClassVar[dict[str, str]] = {
        "name": "write packages: with the names that pip knows",
        "enabled": "write lab: {NAME: true} for an extension of JupyterLab, or server: {MODULE: true}",
    }

    packages: Annotated[
        Strings,
        parameter(
            "Packages that bring extensions, as `ensure_pip_pkg` takes them.", extra={"path": requirements.anchored}
        ),
    ] = []
    lab: Annotated[
        dict[str, bool], parameter("Extensions or plugins of JupyterLab, by name: whether each is on.")
    ] = msgspec.field(default_factory=dict)  # fmt: skip
    server: Annotated[
        dict[str, bool], parameter("Extensions of the server, by their Python module: whether each is on.")
    ] = msgspec.field(default_factory=dict)
    env: Annotated[
        str | None,
        parameter("The environment, by name or path. Default: the Jupyter server's own.", extra={"path": "if-slash"}),
    ] = None
    scope: Annotated[
        Literal["user", "env"],
        parameter("Whom `lab` and `server` are for: this user, or everybody whose Jupyter runs from the environment."),
    ] = "user"
    state: Annotated[
        Literal["present", "latest", "absent"],
        parameter("As `ensure_pip_pkg` has it; `absent` takes what `lab` and `server` name out of the files, too."),
    ] = "present"
    allow_platform_changes: PlatformChanges = False

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        for key in ("lab", "server"):
            for name in getattr(self, key):
                if not name.strip() or not name.isprintable():
                    raise ParameterError(key, f"{name[:60]!r} is no name of an extension")
        if self.has_packages:
            self.packages_in("/")  # what is wrong with them is told before anything runs

    # ------------------------------------------------------------------------------------ its place among other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The packages, and the files."""
        return super().provides(machine) | {Resource("file", str(path)) for path in self._files(machine)}

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment, and where packages come from."""
        return super().requires(machine) | {Resource("environment", str(self.prefix(machine)))}

    def shared_values(self, machine: Machine) -> Iterator[Setting]:
        """Which extensions are off in the page's configuration, and which are on in the server's."""
        absent = self.state == "absent"
        folder = self._config(machine)
        for name, on in self.lab.items():  # one that no file names is on
            file = str(jupyter.page_config(folder))
            yield Setting(file, ("disabledExtensions", name), not absent and not on)
        for name, on in self.server.items():
            file = str(jupyter.server_config(folder))
            yield Setting(file, ("ServerApp", "jpserverextensions", name), None if absent else on)

    def witnesses(self, machine: Machine) -> Iterator[Path]:
        """What vouches for the packages, the files, and the extensions' own folder."""
        yield from super().witnesses(machine)
        yield from self._files(machine)
        prefix = self.prefix(machine)
        if self.lab:
            yield jupyter.page_config(prefix / "etc/jupyter")
            yield prefix / "share/jupyter/labextensions"

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> ExtensionState:
        """The packages and the files.

        Raises:
            TaskFailed: there is no Jupyter, or the packages cannot be had.

        """
        files = {path.name: file_work.read_text(path, follow=False) for path in self._files(machine)}
        prefix = self.prefix(machine)
        of_env = text_of(jupyter.page_config(prefix / "etc/jupyter")) if self.scope == "user" and self.lab else None
        return ExtensionState(
            pip=self.read_packages(machine),
            lab=files.get("page_config.json"),
            server=files.get("jupyter_server_config.json"),
            off=frozenset(name for name, off in _disabled(_object(of_env)).items() if off),
            strange=tuple(self._doubts(prefix, machine)),
        )

    def plan(self, state: ExtensionState) -> ExtensionPlan:
        """Compare what is there with what is asked for.

        Raises:
            TaskFailed: a file of Jupyter's is damaged.

        """
        pip = self.plan_packages(state.pip)
        edits = []
        if state.lab is not None:
            edits.append(self._edited(state.lab, self._with_lab(_parsed(state.lab), state.off)))
        if state.server is not None:
            edits.append(self._edited(state.server, self._with_server(_parsed(state.server))))
        files = file_work.joined(edits)
        return ExtensionPlan(
            changes=(*pip.changes, *files.changes),
            warnings=(*pip.warnings, *state.strange),
            beside=not pip,
            pip=pip,
            files=files,
        )

    def apply(self, plan: ExtensionPlan, machine: Machine) -> Sequence[Change]:
        """Install or uninstall, then write the files.

        Raises:
            TaskFailed: one of the two does not work.

        """
        done = self.apply_packages(plan.pip, machine)
        file_work.carry_out(plan.files, machine)
        return [*done, *plan.files.changes]

    def _with_lab(self, config: dict[str, Any], off: frozenset[str]) -> dict[str, Any]:
        disabled = _disabled(config)
        for name, on in self.lab.items():
            if self.state == "absent":
                disabled.pop(name, None)
            elif not on or disabled.get(name) or name in off:
                disabled[name] = not on
        if disabled == _disabled(config):
            return config
        return {**config, "disabledExtensions": disabled}

    def _with_server(self, config: dict[str, Any]) -> dict[str, Any]:
        app = config.get("ServerApp") if isinstance(config.get("ServerApp"), dict) else {}
        before = app.get("jpserverextensions") if isinstance(app, dict) else {}
        before = before if isinstance(before, dict) else {}
        if self.state == "absent":
            after = {name: on for name, on in before.items() if name not in self.server}
        else:
            after = {**before, **self.server}
        return config if after == before else {**config, "ServerApp": {**(app or {}), "jpserverextensions": after}}

    def _edited(self, file: TextState, wanted: dict[str, Any]) -> FilePlan:
        if wanted == _parsed(file):
            return FilePlan()
        return file_work.edited(file, json.dumps(wanted, indent=2, ensure_ascii=False) + "\n")

    def _doubts(self, prefix: Path, machine: Machine) -> Iterator[str]:
        """What is installed and extends nothing, and names that no extension has."""
        if self.state == "absent":
            return
        there = distributions.installed(prefix) if as_list(self.packages) else {}
        for text in as_list(self.packages):
            name = requirements.parse(text).name
            for one in there.get(name or "", ())[:1]:
                if not jupyter.extends_jupyter(text_of(one.path / "RECORD") or ""):
                    yield (
                        f"{name} brings no prebuilt extension: it may extend nothing, or need a build by Node.js, "
                        "which is not done here"
                    )
        for name in self.lab:
            if not as_list(self.packages) and not jupyter.has_lab_extension(
                name, prefix, machine.env, machine.user_home
            ):
                yield f"JupyterLab has no prebuilt extension '{name}' in {prefix}"

    def _files(self, machine: Machine) -> list[Path]:
        folder = self._config(machine)
        lab = [jupyter.page_config(folder)] if self.lab else []
        return lab + ([jupyter.server_config(folder)] if self.server else [])

    def _config(self, machine: Machine) -> Path:
        if self.scope == "env":
            return self.prefix(machine) / "etc/jupyter"
        return jupyter.config_folder(machine.env, machine.user_home)

    def prefix(self, machine: Machine) -> Path:
        """The environment, by default that of the Jupyter server.

        Raises:
            UnknownEnvironment: there is none.

        """
        if self.env is not None:
            return machine.prefix_of(self.env)
        prefix = jupyter.server_prefix(machine)
        if prefix is None:
            raise UnknownEnvironment(
                "there is no Jupyter server here that could be extended",
                cause="neither does the platform bring one, nor is there a jupyter on the PATH",
                cure="name the environment that it runs from: `env`",
            )
        return prefix

    @property
    def has_packages(self) -> bool:
        """Whether there is something to install."""
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


def _object(text: str | None) -> dict[str, Any]:
    """A JSON object, an empty one for no file and for what is none."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _parsed(file: TextState) -> dict[str, Any]:
    text = file.text
    try:
        found = json.loads(text) if text and text.strip() else {}
        if isinstance(found, dict):
            return found
        told = "it is no JSON object"
    except (ValueError, RecursionError) as error:
        told = str(error)
    raise TaskFailed(
        f"{file.path} cannot be edited", cause=f"{told}, so Jupyter cannot read it either", cure="mend it, or remove it"
    )


def _disabled(config: dict[str, Any]) -> dict[str, bool]:
    """Which extensions a page's configuration switches off; older ones have a list."""
    found = config.get("disabledExtensions", {})
    if isinstance(found, list):
        return dict.fromkeys(map(str, found), True)
    return {name: bool(off) for name, off in found.items()} if isinstance(found, dict) else {}

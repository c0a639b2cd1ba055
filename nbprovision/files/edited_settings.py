"""The parameters and steps that `ensure_json` and `ensure_ini` share: both merge settings into a file of the user's."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from nbprovision.files import file_work
from nbprovision.files.config_file import refuse_persistent
from nbprovision.files.file_work import Backup, FilePlan, FileTask, Follow, ManagedPath
from nbprovision.machine.machine import Machine
from nbprovision.machine.root_differences import root_differences
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import AnyOf, Relation
from nbprovision.model.result import Change
from nbprovision.model.task import Resource, Strings, parameter, unfit
from nbprovision.system import commands, secrets
from nbprovision.system.files import temporary_folder, write_atomically

_MODULE = "settings"  # of `nbprovision.root`
_SYSTEM_PATH = re.compile(r"(?:/[A-Za-z0-9@+_.-]{1,200}){2,20}")
_OF_OTHERS = re.compile("/(?:home|tmp|var/tmp|dev|proc|sys|run/user|mnt|media)/")
_PATIENCE = 60.0  # seconds for `validate`, which looks at a small file
_ANY = range(-64, 256)  # exit statuses, including those of signals
_HERE = "%s"
_URL_PASSWORD = re.compile("://[^/@:]*:[^/@]+@")


class SettingsState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the file.

    Attributes:
        file: The file; None for one that root's part changes.
        volume: The volume that survives a restart (None on other machines).
        differences: What root's part would change.

    """

    file: ManagedPath | None = None
    volume: Path | None = None
    differences: tuple[str, ...] = ()


class EditedSettings(FileTask[SettingsState], frozen=True, kw_only=True):
    """A task that merges settings into a file; a subclass edits the text in `edit`."""

    in_root: ClassVar[Literal["always", "may", "never"]] = "may"
    relations: ClassVar[tuple[Relation, ...]] = (AnyOf(("values", "remove")),)
    actions: ClassVar[dict[str, str]] = file_work.EDIT_ACTIONS
    habits: ClassVar[dict[str, str]] = {
        **file_work.HABITS,
        "mode": "set it by a task of its own: ensure_file: {path: ..., mode: ...}",
        "create": "remove it; a missing file is created",
        "state": "write `values` for present, `remove` for absent",
        "encoding": "every file is read as UTF-8",
    }
    del habits["validate"]

    path: Annotated[str, parameter("The file. A missing one is created.", extra={"path": True})]
    validate: Annotated[
        Strings | None,
        parameter(
            "A command that must succeed before the file is replaced: text, or a list of words; no shell reads it. "
            "`%s` stands for a temporary file with the new content. With `--check` it does not run."
        ),
    ] = None
    backup: Backup = False
    follow: Follow = False
    scope: Annotated[
        Literal["user", "system"],
        parameter(
            "`system`, under `root_tasks`: a file of root's, such as `/etc/docker/daemon.json`, whose owner and "
            "permissions stay. Root's part of the lifecycle script edits it, follows no link, and runs no `validate`."
        ),
    ] = "user"

    def check(self) -> None:
        """Check the parameters without looking at the file."""
        file_work.check_path("path", self.path)
        if self.path.endswith("/"):
            raise ParameterError("path", f"'{self.path}' names a folder", cure="add the name of the file")
        for key in ("values", "remove", "validate"):
            problem = unfit(getattr(self, key))
            if problem:
                raise ParameterError(key, f"'{key}' holds {problem}")
        if self.validate is not None and _HERE not in " ".join(self._command):
            raise ParameterError(
                "validate",
                f"`validate` does not contain {_HERE}, which stands for the new content's file",
                cure="write it where the command takes a file: python3 -m json.tool %s",
            )
        if self.of_root():
            self._check_system()

    def _check_system(self) -> None:
        """Check what becomes a file of root's."""
        for key in ("validate", "backup", "follow"):
            if getattr(self, key):
                raise ParameterError(
                    key,
                    f"'{key}' is not possible with `scope: system`",
                    cause="root's part runs no command of a playbook, keeps no copies, and follows no link",
                    cure="remove it; a file that cannot be read again is never written",
                )
        if not _SYSTEM_PATH.fullmatch(self.path) or "/../" in self.path or _OF_OTHERS.match(self.path):
            raise ParameterError(
                "path",
                f"{self.path[:200]!r} cannot be a file of the system",
                cause="root changes only files in folders that nobody else can change",
                cure="write an absolute path, such as /etc/docker/daemon.json; for your own files remove `scope`",
            )
        if self.path.startswith("/etc/systemd/system/"):
            raise ParameterError(
                "path", f"{self.path} is a unit of systemd", cure="write ensure_service: {settings: ...}"
            )
        if self.wanted_secrets():
            raise ParameterError(
                "values",
                "a secret would be part of the script",
                cause="everybody who may describe the lifecycle configuration can read it",
                cure="let the program fetch it, such as from AWS Secrets Manager",
            )

    # ------------------------------------------------------------------------------------------------- of root's part

    def of_root(self) -> bool:
        """Whether root's part edits the file."""
        return self.scope == "system"

    def wanted_of_root(self) -> Mapping[str, Any]:
        """What root's program gets beside the path; see `nbprovision.root.settings`."""
        raise NotImplementedError

    def root_order(self) -> Mapping[str, Any]:
        """The entry for root's program."""
        wanted = {"path": self.path, **self.wanted_of_root()}
        return {"module": _MODULE, "kind": self.kind(), "seconds": _PATIENCE, "wanted": wanted}

    def edit(self, path: Path, text: str | None) -> str | None:
        """Edit the text; None for no file.

        Raises:
            TaskFailed: the text cannot be edited.

        """
        raise NotImplementedError

    def wanted_secrets(self) -> bool:
        """Whether a wanted value is a secret; every secret value is masked from now on."""
        raise NotImplementedError

    @property
    def _command(self) -> list[str]:
        try:
            return shlex.split(self.validate) if isinstance(self.validate, str) else list(self.validate or ())
        except ValueError as error:
            raise ParameterError("validate", "`validate` is not a command", cause=str(error)) from None

    # ---------------------------------------------------------------------------------- its relations to other tasks

    def target(self, machine: Machine) -> Path:
        """The path of the file."""
        return machine.path(self.path)

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The file as earlier tasks leave it, and the folders above it."""
        return self.provides(machine) | super().requires(machine)

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> SettingsState:
        """Read the file.

        Raises:
            TaskFailed: it cannot be read, or is a link that leads out of its folder.

        """
        if self.of_root():
            return SettingsState(differences=root_differences(self.path, _MODULE, self.root_order()["wanted"], machine))
        file = file_work.read_state(self.target(machine), follow=self.follow)
        return SettingsState(file=file, volume=machine.platform.volume)

    def plan(self, state: SettingsState) -> FilePlan:
        """Compare the text with the edited text.

        Raises:
            TaskFailed: the text cannot be edited, or a secret would be written to the volume.

        """
        file = state.file
        if file is None:
            return FilePlan(changes=tuple(Change(action=what, target=self.path) for what in state.differences))
        secret = self.wanted_secrets()
        text = self.edit(file.path, file.text)
        if text is None:
            return FilePlan()
        if secret:
            refuse_persistent(file, Path(os.path.realpath(file.place)), state.volume)
        return file_work.plan_text(file, text, mode="go=" if secret else None, backup=self.backup)

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The file."""
        return [machine.root / self.path[1:]] if self.of_root() else super().witnesses(machine)

    def apply(self, plan: FilePlan, machine: Machine) -> None:
        """Have the new content judged, then write it.

        Raises:
            TaskFailed: the command does not accept it, or the file cannot be written.

        """
        for step in plan.steps:
            if step.do == "write" and self.validate is not None:
                self._judge(step.data, machine)
        file_work.carry_out(plan, machine)

    def _judge(self, data: bytes, machine: Machine) -> None:
        path = self.target(machine)
        # Not on the volume, where a secret must not be; with the file's own name, by which programs know its format.
        parent = Path(machine.env.get("TMPDIR") or "/tmp")  # noqa: S108 - the folder in it is this user's alone
        with temporary_folder(parent / f"nbprovision-{os.urandom(8).hex()}") as folder:
            content = folder / path.name
            write_atomically(content, data, mode=0o600, durable=False)
            argv = [word.replace(_HERE, str(content)) for word in self._command]
            done = commands.run(
                argv, env=machine.env, timeout=_PATIENCE, accept=_ANY, foreign=True, failure=f"cannot judge {path}"
            )
        if done.status != 0:
            output = (done.errors.strip() or done.output.strip())[-4000:].replace(str(content), str(path))
            raise TaskFailed(
                f"the new content of {path} is refused by `validate`, and the file stays as it is",
                cause=secrets.mask(f"`{argv[0]}` ended with {done.status}: {output or 'no output'}"),
                cure="correct `values` or `remove`, or the command in `validate`",
            )


def remember_secrets(name: str, value: Any) -> bool:
    """Mask a value with this name, and the values within it, if they are secrets; return whether one is.

    The lines of a text are masked too, because a file may indent them. A URL with a password is a secret.
    """
    if isinstance(value, dict | list):
        named = value.items() if isinstance(value, dict) else ((name, entry) for entry in value)
        secret = [remember_secrets(str(key), entry) for key, entry in named]  # all of them, before any() stops
        return any(secret)
    if not isinstance(value, str) or unfit(value):
        return False
    secret = [secrets.remember_if_secret(name, text) for text in (value, *value.split("\n"))]
    return any(secret) or _URL_PASSWORD.search(value) is not None


def refuse_both(values: Iterable[Sequence[str]], remove: Iterable[Sequence[str]]) -> None:
    """Refuse a key that is both set and removed.

    Args:
        values: The paths of the wanted values.
        remove: The paths of the keys to remove.

    Raises:
        ParameterError: naming the first such key.

    """
    wanted = {tuple(path[:depth]) for path in values for depth in range(1, len(path) + 1)}
    for path in remove:
        if tuple(path) in wanted:
            name = " ".join(map(repr, path))
            raise ParameterError("remove", f"`values` sets {name}, which `remove` removes", cure="write one of them")

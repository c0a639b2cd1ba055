"""``ensure_git_config``: a variable of git's configuration, of the user or of one repository."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from nbprovision.files import git_config
from nbprovision.files.file_work import (
    FILE_ACTIONS,
    FilePlan,
    FileTask,
    TextState,
    check_path,
    check_text,
    edited,
    read_text,
)
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.task import Strings, as_list, parameter
from nbprovision.system import secrets
from nbprovision.system.files import read_text as text_of


class GitConfigState(msgspec.Struct, frozen=True, kw_only=True):
    """The file, its text as it is to be (None for no file), and included files that set the variable too."""

    file: TextState
    wanted: str | None = None
    overruled_by: tuple[str, ...] = ()


class EnsureGitConfig(FileTask[GitConfigState], frozen=True, kw_only=True):
    """A variable of git's configuration: the user's own (`~/.gitconfig`), or that of a repository.

    Of a variable with several values `value` is a list, and holds all of them. git itself reads and edits the file: it
    must be installed and on `PATH`.
    """

    actions: ClassVar[dict[str, str]] = {key: FILE_ACTIONS[key] for key in ("create", "write", "set mode")}
    examples: ClassVar[str] = """
- name: Who commits
  ensure_git_config:
    name: user.email
    value: ada@example.org
- name: Notebooks are compared without their output
  ensure_git_config:
    name: diff.ipynb.textconv
    value: jupyter nbconvert --to script --stdout
- name: Repositories of other users are trusted
  ensure_git_config:
    name: safe.directory
    value: [/home/ec2-user/SageMaker/team, /home/ec2-user/SageMaker/shared]
- name: No editor is set any more
  ensure_git_config:
    name: core.editor
    state: absent
"""
    habits: ClassVar[dict[str, str]] = {
        "scope": "leave it out for the user's own configuration, or write repo: PATH for a repository's",
        "add_mode": "write all values of the variable as a list: value: [ONE, OTHER]",
        "file": "leave it out for the user's own configuration, or write repo: PATH for a repository's",
        "list_all": "remove it; a playbook describes what is to be there",
        "key": "write name:",
        "unset": "write state: absent",
    }

    name: Annotated[str, parameter("The variable, such as `user.email` or `remote.origin.url`.")]
    value: Annotated[Strings | bool | int | None, parameter("Its value, or a list of all its values.")] = None
    repo: Annotated[
        str | None,
        parameter("The repository (its work tree) that it is for. Default: the user's own.", extra={"path": True}),
    ] = None
    state: Annotated[Literal["present", "absent"], parameter("Whether it is to be set.")] = "present"
    follow: Annotated[
        bool, parameter("Where the file is a link that leads out of its folder: change what it names.")
    ] = False

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        if git_config.variable_name(self.name) is None:
            raise ParameterError(
                "name",
                f"{self.name[:60]!r} is not the name of a variable of git",
                cure="write SECTION.KEY, as user.email",
            )
        if (self.state == "present") != bool(self._values or self.value == ""):
            raise ParameterError(
                "value" if self.value is not None else "",
                f"'{self.name}' needs a value"
                if self.state == "present"
                else "`state: absent` takes all values of a variable",
                cure="write value:" if self.state == "present" else "remove `value`",
            )
        for value in self._values:
            check_text("value", value)
            if "\0" in value:
                raise ParameterError("value", "`value` has a NUL in it")
        check_path("repo", self.repo)

    @property
    def _values(self) -> list[str]:
        if isinstance(self.value, bool):
            return [str(self.value).lower()]
        return [str(self.value)] if isinstance(self.value, int) else as_list(self.value)

    @property
    def _secret(self) -> bool:
        """Whether a value is not for everybody's eyes; each such value is masked from now on."""
        # git's names know no case, and so no words: https://git-scm.com/docs/git-config
        found = [secrets.remember_if_secret(self.name.lower(), value) for value in self._values]
        return any(found) or any(re.search("://[^/@:]*:[^/@]+@", value) for value in self._values)

    # ------------------------------------------------------------------------------------ its place among other tasks

    def target(self, machine: Machine) -> Path:
        """The file of the user, or of the repository."""
        if self.repo is None:
            return git_config.user_config(machine.env, machine.user_home)
        folder = machine.path(self.repo)
        return git_config.repository_config(folder) or folder / ".git/config"

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The file, and what determines its place; included files are recorded where they are read."""
        yield self.target(machine)
        if self.repo is not None:
            yield machine.path(self.repo) / ".git"
        else:
            yield machine.user_home / ".gitconfig"

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> GitConfigState:
        """The file as it stands.

        Raises:
            TaskFailed: there is no such repository, git cannot read or edit the file, or git is missing.

        """
        if self.repo is not None and git_config.repository_config(machine.path(self.repo)) is None:
            raise TaskFailed(
                f"there is no git repository in {machine.path(self.repo)}",
                cause="it has no .git with a config in it",
                cure="clone it by an ensure_command before this task, or correct `repo`",
            )
        file = read_text(self.target(machine), follow=self.follow)
        before = file.text
        values = self._values if self.state == "present" else []
        text = git_config.edited(file.path, before or "", self.name, values, machine)
        included = git_config.included_files(
            file.path, git_config.listing(file.path, before, machine) if before else {}, machine.user_home
        )
        return GitConfigState(
            file=file,
            wanted=None if before is None and not text else text,
            overruled_by=tuple(str(path) for path in included if self._overruled(path, machine)),
        )

    def plan(self, state: GitConfigState) -> FilePlan:
        """Compare the values with what is asked for."""
        notes = tuple(f"{path}, which is included, sets {self.name} too" for path in state.overruled_by)
        if state.wanted is None:
            return FilePlan(warnings=notes)
        plan = edited(state.file, state.wanted, mode="go=" if self._secret else None)
        return msgspec.structs.replace(plan, warnings=notes)

    def _overruled(self, path: Path, machine: Machine) -> bool:
        """Whether an included file gives the variable other values; one that git cannot read does not."""
        with contextlib.suppress(TaskFailed, OSError):
            text = text_of(path)
            variables = git_config.listing(path, text, machine) if text else {}
            return variables.get(git_config.variable_name(self.name) or "", []) not in ([], self._values)
        return False

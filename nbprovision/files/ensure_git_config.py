"""``ensure_git_config``: a variable in git's configuration of the user or of a repository."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from nbprovision.files import file_work, git_config
from nbprovision.files.file_work import FilePlan, FileTask, Follow, ManagedPath
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.task import Strings, as_list, parameter
from nbprovision.system import secrets
from nbprovision.system.files import read_text


class GitConfigState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the file.

    Attributes:
        file: The file.
        wanted: The wanted text, None for no file.
        overruled_by: The included files that set the variable to other values.

    """

    file: ManagedPath
    wanted: str | None = None
    overruled_by: tuple[str, ...] = ()


class EnsureGitConfig(FileTask[GitConfigState], frozen=True, kw_only=True):
    """Set or remove a variable in git's configuration of the user (`~/.gitconfig`) or of a repository.

    For a variable with several values, `value` is the list of all of them. git itself reads and edits the file, so it
    must be installed and on `PATH`.
    """

    actions: ClassVar[dict[str, str]] = file_work.EDIT_ACTIONS
    examples: ClassVar[str] = """
- name: The author of commits
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
- name: The default editor
  ensure_git_config:
    name: core.editor
    state: absent
"""
    habits: ClassVar[dict[str, str]] = {
        **dict.fromkeys(
            ("scope", "file"), "remove it for the user's own configuration, or write repo: PATH for a repository's"
        ),
        "add_mode": "write all values of the variable as a list: value: [ONE, OTHER]",
        "list_all": "remove it; a playbook only sets variables",
        "key": "write name:",
        "unset": "write state: absent",
    }

    name: Annotated[str, parameter("The variable, such as `user.email` or `remote.origin.url`.")]
    value: Annotated[Strings | bool | int | None, parameter("Its value, or a list of all its values.")] = None
    repo: Annotated[
        str | None,
        parameter("Work tree of the repository. Default: the user's own configuration.", extra={"path": True}),
    ] = None
    state: Annotated[Literal["present", "absent"], parameter("Whether the variable is set.")] = "present"
    follow: Follow = False

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        if git_config.variable_name(self.name) is None:
            raise ParameterError(
                "name",
                f"{self.name[:60]!r} is not the name of a variable of git",
                cure="write SECTION.KEY, as user.email",
            )
        if self.state == "present" and not self._values:
            key = "value" if self.value is not None else ""
            raise ParameterError(key, f"'{self.name}' needs a value", cure="write value:")
        if self.state == "absent" and self._values:
            message = "`state: absent` removes all values of a variable"
            raise ParameterError("value", message, cure="remove `value`")
        file_work.check_text(self, "value")
        file_work.check_path("repo", self.repo)

    @property
    def _values(self) -> list[str]:
        if isinstance(self.value, bool):
            return [str(self.value).lower()]
        return [str(self.value)] if isinstance(self.value, int) else as_list(self.value)

    @property
    def _secret(self) -> bool:
        """Whether a value is a secret; every secret value is masked from now on."""
        # git ignores the case of names, so case cannot separate words in them: https://git-scm.com/docs/git-config
        by_name = [secrets.remember_if_secret(self.name.lower(), value) for value in self._values]
        return any(by_name) or any(re.search("://[^/@:]*:[^/@]+@", value) for value in self._values)

    # ---------------------------------------------------------------------------------- its relations to other tasks

    def target(self, machine: Machine) -> Path:
        """The file of the user, or of the repository."""
        if self.repo is None:
            return git_config.user_config(machine.env, machine.user_home)
        folder = machine.path(self.repo)
        return git_config.repository_config(folder) or folder / ".git/config"

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The file, and the files that determine its path; included files are recorded when they are read."""
        yield self.target(machine)
        if self.repo is not None:
            yield machine.path(self.repo) / ".git"
        else:
            yield machine.user_home / ".gitconfig"

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> GitConfigState:
        """Read the file, and have git edit a copy.

        Raises:
            TaskFailed: there is no such repository, git cannot read or edit the file, or git is missing.

        """
        if self.repo is not None and git_config.repository_config(machine.path(self.repo)) is None:
            raise TaskFailed(
                f"there is no git repository in {machine.path(self.repo)}",
                cause="it has no .git with a config",
                cure="clone it with an ensure_command before this task, or correct `repo`",
            )
        file = file_work.read_state(self.target(machine), follow=self.follow)
        before = file.text
        values = self._values if self.state == "present" else []
        text = git_config.edit(file.path, before or "", self.name, values, machine)
        included = git_config.included_files(
            file.path, git_config.list_variables(file.path, before, machine) if before else {}, machine.user_home
        )
        return GitConfigState(
            file=file,
            wanted=None if before is None and not text else text,
            overruled_by=tuple(str(path) for path in included if self._overruled(path, machine)),
        )

    def plan(self, state: GitConfigState) -> FilePlan:
        """Compare the text with the wanted text."""
        plan = FilePlan()
        if state.wanted is not None:
            plan = file_work.plan_text(state.file, state.wanted, mode="go=" if self._secret else None)
        warnings = tuple(f"the included file {path} sets {self.name} too" for path in state.overruled_by)
        return msgspec.structs.replace(plan, warnings=warnings)

    def _overruled(self, path: Path, machine: Machine) -> bool:
        """Whether an included file, if git can read it, sets the variable to other values."""
        with contextlib.suppress(TaskFailed, OSError):
            text = read_text(path)
            variables = git_config.list_variables(path, text, machine) if text else {}
            return variables.get(git_config.variable_name(self.name) or "", []) not in ([], self._values)
        return False

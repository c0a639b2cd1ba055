"""``ensure_git_config``: a variable of git's configuration, of the user or of one repository."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from nbprovision.facts import git_config
from nbprovision.facts.git_config import Damaged, Name
from nbprovision.facts.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.task import Resource, Strings, Task, as_list, parameter
from nbprovision.system import secrets
from nbprovision.system.files import read_text as text_of
from nbprovision.tasks.file_work import (
    FILE_ACTIONS,
    FilePlan,
    TextState,
    carry_out,
    check_path,
    check_text,
    edited,
    read_text,
    resources_above,
)

# Variables that hold a password or a token: https://git-scm.com/docs/git-config
_SECRET = re.compile(r"(extraheader|token|password|passwd|secret)$", re.IGNORECASE)


class GitConfigState(msgspec.Struct, frozen=True, kw_only=True):
    """The file, and other files that it includes and that set the same variable."""

    file: TextState
    overruled_by: tuple[str, ...] = ()


class EnsureGitConfig(Task[GitConfigState], frozen=True, kw_only=True):
    """A variable of git's configuration: the user's own (`~/.gitconfig`), or that of a repository.

    Of a variable with several values `value` is a list, and holds all of them. All else in the file stays as it is. No
    git has to be there.
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

    def __post_init__(self) -> None:
        """Check what can be known without looking at the machine."""
        if git_config.parse_name(self.name) is None:
            raise ParameterError(
                "name", f"{self.name[:60]!r} is no name of a variable of git", cure="write SECTION.KEY, as user.email"
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
        for value in self._values:
            secrets.remember_url(value)
            if _SECRET.search(self.name):
                secrets.remember(value)
        return bool(_SECRET.search(self.name)) or any(re.search("://[^/@:]*:[^/@]+@", value) for value in self._values)

    @property
    def _parsed(self) -> Name:
        name = git_config.parse_name(self.name)
        assert name is not None  # noqa: S101 - __post_init__ has seen to it
        return name

    # ------------------------------------------------------------------------------------ its place among other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The file."""
        return frozenset({Resource("file", str(self._path(machine)))})

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The repository, as far as another task makes it."""
        return resources_above(self._path(machine), machine)

    def weight(self, machine: Machine) -> Literal[0]:
        """A small file."""
        return 0

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The file, what tells where it is, and what it includes."""
        path = self._path(machine)
        yield path
        if self.repo is not None:
            yield machine.path(self.repo) / ".git"
        else:
            yield machine.user_home / ".gitconfig"
        text = text_of(path) if path.is_file() else None
        try:
            yield from git_config.included(text or "", path.parent, machine.user_home)
        except Damaged:
            return

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> GitConfigState:
        """The file as it stands.

        Raises:
            TaskFailed: there is no such repository, or the file cannot be read.

        """
        if self.repo is not None and git_config.repository_config(machine.path(self.repo)) is None:
            raise TaskFailed(
                f"there is no git repository in {machine.path(self.repo)}",
                cause="it has no .git with a config in it",
                cure="clone it by an ensure_command before this task, or correct `repo`",
            )
        file = read_text(self._path(machine), follow=self.follow)
        overruling = []
        if file.entry.kind == "file" and file.entry.data is not None:
            try:
                for path in git_config.included(file.text or "", file.path.parent, machine.user_home):
                    said = text_of(path) if path.is_file() else None
                    if said is not None and git_config.values(said, self._parsed) not in ([], self._values):
                        overruling.append(str(path))
            except Damaged:
                pass  # what is wrong with the file itself, plan tells
        return GitConfigState(file=file, overruled_by=tuple(overruling))

    def plan(self, state: GitConfigState) -> FilePlan:
        """Compare the values with what is asked for.

        Raises:
            TaskFailed: git itself could not read the file.

        """
        before = state.file.text
        try:
            text = git_config.edited(
                before or "",
                self._parsed,
                self.name.rpartition(".")[2],
                self._values if self.state == "present" else [],
            )
        except Damaged as damage:
            raise TaskFailed(
                f"{state.file.path} cannot be edited",
                cause=f"{damage}, so git cannot read it either",
                cure="mend it by hand: git config --edit --global",
            ) from None
        notes = tuple(f"{path}, which is included, sets {self.name} too" for path in state.overruled_by)
        if before is None and not text:
            return FilePlan(warnings=notes)
        plan = edited(state.file, text, mode="go=" if self._secret else None)
        return msgspec.structs.replace(plan, warnings=notes)

    def apply(self, plan: FilePlan, machine: Machine) -> None:
        """Write it.

        Raises:
            TaskFailed: it cannot be written.

        """
        carry_out(plan, machine)

    def _path(self, machine: Machine) -> Path:
        if self.repo is None:
            return git_config.user_config(machine.env, machine.user_home)
        folder = machine.path(self.repo)
        return git_config.repository_config(folder) or folder / ".git/config"

"""The parameters and steps that `ensure_line` and `ensure_block` share: both edit a text file of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from nbprovision.files import file_work
from nbprovision.files.file_work import Backup, FilePlan, FileTask, Follow, ManagedPath
from nbprovision.files.text import Edit, Place, check_pattern
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.model.relations import OneOf, Relation
from nbprovision.model.task import Resource, parameter


class EditedText(FileTask[ManagedPath], frozen=True, kw_only=True):
    """A task that edits a text file; a subclass edits the text in `edit`."""

    relations: ClassVar[tuple[Relation, ...]] = (OneOf(("insertafter", "insertbefore"), required=False),)
    actions: ClassVar[dict[str, str]] = file_work.EDIT_ACTIONS
    habits: ClassVar[dict[str, str]] = {
        **file_work.HABITS,
        "name": "write path:",
        "encoding": "every file is read as UTF-8",
    }

    path: Annotated[str, parameter("The file.", extra={"path": True})]
    insertafter: Annotated[
        str | None,
        parameter(
            "Place of new lines: after the last line that matches this regular expression, or `EOF`, the end of the "
            "file, which is the default. If no line matches, they go to the end, with a warning."
        ),
    ] = None
    insertbefore: Annotated[
        str | None,
        parameter(
            "Place of new lines: before the last line that matches this regular expression, or at the end if no line "
            "matches; `BOF` is the beginning of the file."
        ),
    ] = None
    state: Annotated[Literal["present", "absent"], parameter("Whether the file contains it.")] = "present"
    create: Annotated[bool, parameter("Create a missing file; otherwise a missing file is an error.")] = False
    mode: Annotated[
        str | None, parameter('Permissions of the file, in quotes: `"0644"`. Default: unchanged.')
    ] = None  # fmt: skip
    backup: Backup = False
    follow: Follow = False

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        file_work.check_path("path", self.path)
        file_work.check_mode("mode", self.mode)
        for key in ("insertafter", "insertbefore"):
            check_pattern(key, getattr(self, key))

    def edit(self, text: str) -> Edit:
        """Edit the text.

        Raises:
            TaskFailed: the text cannot be edited.

        """
        raise NotImplementedError

    @property
    def place(self) -> Place:
        """The place of new lines."""
        return Place(after=self.insertafter, before=self.insertbefore)

    def target(self, machine: Machine) -> Path:
        """The path of the file."""
        return machine.path(self.path)

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The file as earlier tasks leave it, and the folders above it."""
        return self.provides(machine) | super().requires(machine)

    def read(self, machine: Machine) -> ManagedPath:
        """Read the file.

        Raises:
            TaskFailed: it cannot be read, or is a link that leads out of its folder.

        """
        return file_work.read_state(self.target(machine), follow=self.follow)

    def plan(self, state: ManagedPath) -> FilePlan:
        """Compare the text with the edited text.

        Raises:
            TaskFailed: the file is missing, too large, or not a file.

        """
        text = state.text
        if text is None and self.state == "absent":
            return FilePlan()
        if text is None and not self.create:
            raise TaskFailed(
                f"there is no file {state.path}",
                cause="only an existing file can be edited",
                cure="correct the path, or write create: true",
            )
        edit = self.edit(text or "")
        plan = file_work.plan_text(state, edit.text, mode=self.mode, backup=self.backup)
        if edit.missed is None:
            return plan
        key = "insertafter" if self.insertbefore is None else "insertbefore"
        warning = f"no line of {state.path} matches `{key}` ({edit.missed}): new lines went to the end of the file"
        return msgspec.structs.replace(plan, warnings=(warning,))

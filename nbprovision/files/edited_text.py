"""What `ensure_line` and `ensure_block` have in common: they change a part of a file of text that is the user's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from nbprovision.files import modes
from nbprovision.files.file_work import (
    FILE_ACTIONS,
    HABITS,
    FilePlan,
    TextState,
    carry_out,
    check_path,
    edited,
    read_text,
    resources_above,
)
from nbprovision.files.text_lines import Place, check_pattern
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.model.relations import OneOf, Relation
from nbprovision.model.task import Resource, Task, parameter


class EditedText(Task[TextState], frozen=True, kw_only=True):
    """Parameters and steps of a task that edits a file of text; a subclass says what becomes of the text."""

    relations: ClassVar[tuple[Relation, ...]] = (OneOf(("insertafter", "insertbefore"), required=False),)
    actions: ClassVar[dict[str, str]] = {key: FILE_ACTIONS[key] for key in ("create", "write", "set mode")}
    habits: ClassVar[dict[str, str]] = {**HABITS, "name": "write path:", "encoding": "every file is taken as UTF-8"}

    path: Annotated[str, parameter("The file.", extra={"path": True})]
    insertafter: Annotated[
        str | None,
        parameter(
            "Where it goes if it is not there: behind the last line that matches this regular expression, or `EOF`, "
            "the end of the file, which is the default. Where none matches it goes to the end too, with a note."
        ),
    ] = None
    insertbefore: Annotated[
        str | None,
        parameter(
            "Or before the last line that matches this one, or at the end where none does; `BOF` is the beginning of "
            "the file."
        ),
    ] = None
    state: Annotated[Literal["present", "absent"], parameter("Whether it is to be there.")] = "present"
    create: Annotated[bool, parameter("Make the file where there is none; otherwise that is a failure.")] = False
    mode: Annotated[
        str | None, parameter('Permissions of the file, in quotes: `"0644"`. Default: as they are.')
    ] = None  # fmt: skip
    backup: Annotated[
        bool, parameter("Keep what was there beside the file; its name is the result's `backup_file`.")
    ] = False
    follow: Annotated[
        bool, parameter("Where the path is a link that leads out of its folder: change what it names.")
    ] = False

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        check_path("path", self.path)
        modes.check("mode", self.mode)
        for key in ("insertafter", "insertbefore"):
            check_pattern(key, getattr(self, key))

    def edit(self, text: str) -> str:
        """The text as it is to be; a comparison of the two tells whether there is something to do.

        Raises:
            TaskFailed: it cannot be edited as it is.

        """
        raise NotImplementedError

    def is_new(self, text: str) -> bool:
        """Whether what the task describes is to be added to the text, where `place` says."""
        raise NotImplementedError

    def place(self) -> Place:
        """Where new lines go."""
        return Place(after=self.insertafter, before=self.insertbefore)

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The file, by its path."""
        return frozenset({Resource("file", str(machine.path(self.path)))})

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The file, as earlier tasks leave it, and what it lies in."""
        return self.provides(machine) | resources_above(machine.path(self.path), machine)

    def weight(self, machine: Machine) -> Literal[0]:
        """A small file."""
        return 0

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The file; a link to it is looked at as well."""
        return [machine.path(self.path)]

    def read(self, machine: Machine) -> TextState:
        """The file as it stands.

        Raises:
            TaskFailed: it cannot be looked at, or is a link that leads out of its folder.

        """
        return read_text(machine.path(self.path), follow=self.follow)

    def plan(self, state: TextState) -> FilePlan:
        """Compare the text with what it is to be.

        Raises:
            TaskFailed: there is no such file, it is too large, or is no file at all.

        """
        text = state.text
        if text is None and self.state == "absent":
            return FilePlan()
        if text is None and not self.create:
            raise TaskFailed(
                f"there is no file {state.path}",
                cause="only a file that is there can be edited",
                cure="correct the path, or write create: true",
            )
        made = edited(state, self.edit(text or ""), mode=self.mode, backup=self.backup)
        missed = self.place().missed(text or "")
        if missed is None or self.state == "absent" or not self.is_new(text or ""):
            return made
        key = "insertafter" if self.insertbefore is None else "insertbefore"
        note = f"no line of {state.path} matches `{key}` ({missed}): what is new went to the end of the file"
        return msgspec.structs.replace(made, warnings=(note,))

    def apply(self, plan: FilePlan, machine: Machine) -> None:
        """Write it.

        Raises:
            TaskFailed: it cannot be written.

        """
        carry_out(plan, machine)

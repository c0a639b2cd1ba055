"""What `ensure_line` and `ensure_block` have in common: they edit lines of the user's own file of text.

Everything that a task does not name stays as it is, line ends and the end of the last line too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec

from nbprovision.files.file_work import (
    FILE_ACTIONS,
    HABITS,
    FilePlan,
    FileTask,
    TextState,
    check_mode,
    check_path,
    edited,
    read_text,
)
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import OneOf, Relation
from nbprovision.model.task import Resource, parameter

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_ENDS = ("BOF", "EOF")


class EditedText(FileTask[TextState], frozen=True, kw_only=True):
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
        check_mode("mode", self.mode)
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

    def target(self, machine: Machine) -> Path:
        """The path of the file."""
        return machine.path(self.path)

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The file, as earlier tasks leave it, and what it lies in."""
        return self.provides(machine) | super().requires(machine)

    def read(self, machine: Machine) -> TextState:
        """The file as it stands.

        Raises:
            TaskFailed: it cannot be looked at, or is a link that leads out of its folder.

        """
        return read_text(machine.path(self.path), follow=self.follow)

    def plan(self, state: TextState) -> FilePlan:
        """Compare the text with what it is to be.

        Raises:
            TaskFailed: there is no such file, it is too large, or it is not a file.

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
        made = edited(state, self.edit(text or ""), mode=self.mode, backup=self.backup)
        missed = self.place().missed(text or "")
        if missed is None or self.state == "absent" or not self.is_new(text or ""):
            return made
        key = "insertafter" if self.insertbefore is None else "insertbefore"
        note = f"no line of {state.path} matches `{key}` ({missed}): what is new went to the end of the file"
        return msgspec.structs.replace(made, warnings=(note,))


# ----------------------------------------------------------------------------------------------- edits of lines: no I/O


class Place(NamedTuple):
    """Where lines go that are new: behind or before a line that matches, or at an end of the file."""

    after: str | None = None
    before: str | None = None
    first: bool = False

    def before_line(self, lines: Sequence[str]) -> int:
        """The number of the line before which they go."""
        if self._wanted == "BOF":
            return 0
        found = self._matching(lines)
        if not found:
            return len(lines)
        return (found[0] if self.first else found[-1]) + (self.before is None)

    def missed(self, text: str) -> str | None:
        """The pattern that no line of a text matches, so that lines go to its end; None where that is not so."""
        if self._wanted is None or self._wanted in _ENDS or self._matching(_LINE.findall(text)):
            return None
        return self._wanted

    @property
    def _wanted(self) -> str | None:
        return self.before if self.before is not None else self.after

    def _matching(self, lines: Sequence[str]) -> list[int]:
        wanted = self._wanted
        if wanted is None or wanted in _ENDS:
            return []
        return [number for number, line in enumerate(lines) if _search(wanted, line)]


class DamagedBlock(Exception):
    """One of the two marks of a block is missing, or there are several."""


def check_pattern(key: str, pattern: str | None) -> None:
    """Refuse a text that is not a regular expression.

    Raises:
        ParameterError: with what is wrong with it.

    """
    if pattern is None or (pattern in _ENDS and key.startswith("insert")):
        return
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ParameterError(key, f"'{key}' is not a regular expression", cause=f"{pattern[:80]}: {error}") from None


def with_line(
    text: str, line: str, *, pattern: str | None, place: Place, first: bool = False, groups: bool = False
) -> str:
    r"""The text with a line in it.

    Args:
        text: The text before.
        line: What the line is to be.
        pattern: What the line is now, as a regular expression; None for the line itself.
        place: Where it goes if it is not there.
        first: The first line that matches is meant, not the last.
        groups: ``\1`` in ``line`` is what the pattern's group matched; where it matches nothing, nothing is done.

    """
    lines = _LINE.findall(text)
    if not groups and line in map(bare, lines) and not _is(line, line, pattern):
        return text  # it has taken the place of what matched, and no other line is meant
    found = [number for number, one in enumerate(lines) if _is(one, line, pattern)]
    if found:
        number = found[0] if first else found[-1]
        match = _search(pattern, lines[number]) if pattern is not None else None
        wanted = match.expand(line) if groups and match is not None else line
        lines[number] = wanted + lines[number][len(bare(lines[number])) :]
        return "".join(lines)
    if groups or line in map(bare, lines):
        return text
    return _inserted(text, lines, [line], place)


def has_line(text: str, line: str, *, pattern: str | None) -> bool:
    """Whether `with_line` leaves a line where it is, or puts it in the place of one that matches."""
    lines = _LINE.findall(text)
    return line in map(bare, lines) or any(_is(one, line, pattern) for one in lines)


def without_line(text: str, line: str | None, *, pattern: str | None) -> str:
    """The text without the lines that are ``line``, or match the pattern."""
    lines = _LINE.findall(text)
    return _ended_as(text, [one for one in lines if not _is(one, line, pattern)])


def with_block(text: str, begin: str, end: str, block: str, place: Place) -> str:
    """The text with the lines of ``block`` between two marks, where these are, else where ``place`` says.

    Raises:
        DamagedBlock: it has one of the marks and not the other, or has them more than once.

    """
    lines = _LINE.findall(text)
    wanted = [begin, *map(bare, _LINE.findall(block)), end]
    span = _span(lines, begin, end)
    if span is None:
        return _inserted(text, lines, wanted, place)
    if list(map(bare, lines[span])) == wanted:
        return text
    lines[span] = [line + _line_end(lines) for line in wanted]
    return _ended_as(text, lines)


def without_block(text: str, begin: str, end: str) -> str:
    """The text without the block. Raises as `with_block` does."""
    lines = _LINE.findall(text)
    span = _span(lines, begin, end)
    if span is None:
        return text
    del lines[span]
    return _ended_as(text, lines)


def has_block(text: str, begin: str, end: str) -> bool:
    """Whether the text has the marks. Raises as `with_block` does."""
    return _span(_LINE.findall(text), begin, end) is not None


def bare(line: str) -> str:
    """A line without its end."""
    return line.removesuffix("\n").removesuffix("\r")


def _span(lines: Sequence[str], begin: str, end: str) -> slice | None:
    begins, ends = ([n for n, one in enumerate(lines) if bare(one).rstrip() == mark] for mark in (begin, end))
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or ends[0] < begins[0]:
        raise DamagedBlock
    return slice(begins[0], ends[0] + 1)


def _is(one: str, line: str | None, pattern: str | None) -> bool:
    return bare(one) == line if pattern is None else _search(pattern, one) is not None


def _search(pattern: str, line: str) -> re.Match[str] | None:
    return re.search(pattern, bare(line))


def _inserted(text: str, lines: list[str], new: Sequence[str], place: Place) -> str:
    end, index = _line_end(lines), place.before_line(lines)
    if index == len(lines) and lines and not lines[-1].endswith("\n"):
        lines[-1] += end
    lines[index:index] = [line + end for line in new]
    return _ended_as(text, lines)


def _ended_as(before: str, lines: list[str]) -> str:
    """The lines as text; the last one has an end where that of ``before`` had one."""
    if lines and before and not before.endswith("\n"):
        lines[-1] = bare(lines[-1])
    elif lines and not lines[-1].endswith("\n"):
        lines[-1] += _line_end(lines)
    return "".join(lines)


def _line_end(lines: Sequence[str]) -> str:
    windows = sum(line.endswith("\r\n") for line in lines)
    return "\r\n" if windows * 2 > len(lines) else "\n"

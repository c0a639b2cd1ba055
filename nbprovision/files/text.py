"""Edits of lines and blocks in a text. Line ends, and a missing end of the last line, stay as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from nbprovision.model.errors import ParameterError, TaskFailed

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_ENDS = ("BOF", "EOF")


class Edit(NamedTuple):
    """An edited text.

    Attributes:
        text: The new text.
        missed: The pattern of a `Place` that no line matches, so that new lines went to the end; None otherwise.

    """

    text: str
    missed: str | None = None


class Place(NamedTuple):
    """The place of new lines: after or before a matching line, or an end of the file.

    Attributes:
        after: A pattern, ``BOF`` or ``EOF``.
        before: A pattern, ``BOF`` or ``EOF``; it takes precedence over ``after``.
        first: Whether the first matching line counts, not the last.

    """

    after: str | None = None
    before: str | None = None
    first: bool = False

    def line_number(self, lines: Sequence[str]) -> tuple[int, str | None]:
        """The number of the first new line, and the pattern if no line matches it."""
        pattern = self.after if self.before is None else self.before
        if pattern is None or pattern in _ENDS:
            return (0 if pattern == "BOF" else len(lines)), None
        matching = [number for number, line in enumerate(lines) if _search(pattern, line)]
        if not matching:
            return len(lines), pattern
        return matching[0 if self.first else -1] + (self.before is None), None


def check_pattern(key: str, pattern: str | None) -> None:
    """Check a regular expression.

    Raises:
        ParameterError: it is invalid.

    """
    if pattern is None or (pattern in _ENDS and key.startswith("insert")):
        return
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ParameterError(key, f"'{key}' is not a regular expression", cause=f"{pattern[:80]}: {error}") from None


def with_line(text: str, line: str, pattern: str | None, place: Place, *, groups: bool = False) -> Edit:
    r"""The text with a line.

    Args:
        text: The text.
        line: The line.
        pattern: A regular expression that matches the line to replace; None for the line itself.
        place: The place of a new line. Its ``first`` also selects the line to replace.
        groups: Whether ``\1`` in ``line`` stands for the pattern's group; if no line matches, nothing changes.

    """
    lines = _LINE.findall(text)
    if not groups and line in map(bare, lines) and not _matches(line, line, pattern):
        return Edit(text)  # the line has already replaced the matching line
    numbers = [number for number, other in enumerate(lines) if _matches(other, line, pattern)]
    if not numbers:
        return Edit(text) if groups else _inserted(text, lines, [line], place)
    number = numbers[0 if place.first else -1]
    match = _search(pattern, lines[number]) if groups and pattern is not None else None
    lines[number] = (match.expand(line) if match is not None else line) + lines[number][len(bare(lines[number])) :]
    return Edit("".join(lines))


def without_line(text: str, line: str | None, pattern: str | None) -> Edit:
    """The text without the lines that equal ``line``, or match the pattern."""
    return Edit(_joined(text, [other for other in _LINE.findall(text) if not _matches(other, line, pattern)]))


def with_block(text: str, begin: str, end: str, block: str | None, place: Place, *, name: str) -> Edit:
    """The text with the lines of ``block`` between two marks.

    Args:
        text: The text.
        begin: The first mark.
        end: The last mark.
        block: The lines; None removes the block and its marks.
        place: The place of a new block.
        name: The name of the block, for messages.

    Raises:
        TaskFailed: a mark is missing, or the text contains it several times.

    """
    lines = _LINE.findall(text)
    wanted = [] if block is None else [begin, *map(bare, _LINE.findall(block)), end]
    begins, ends = ([n for n, line in enumerate(lines) if bare(line).rstrip() == mark] for mark in (begin, end))
    if not begins and not ends:
        return _inserted(text, lines, wanted, place) if wanted else Edit(text)
    if len(begins) != 1 or len(ends) != 1 or ends[0] < begins[0]:
        raise TaskFailed(
            f"{name} has damaged marks",
            cause=f"the file must contain the marks '{begin}' and '{end}' once each, in this order",
            cure="correct the marks by hand, or remove them and the lines between them",
        )
    span = slice(begins[0], ends[0] + 1)
    if list(map(bare, lines[span])) == wanted:
        return Edit(text)
    lines[span] = [line + _line_end(lines) for line in wanted]
    return Edit(_joined(text, lines))


def bare(line: str) -> str:
    """A line without its end."""
    return line.removesuffix("\n").removesuffix("\r")


def _search(pattern: str, line: str) -> re.Match[str] | None:
    return re.search(pattern, bare(line))


def _matches(line: str, wanted: str | None, pattern: str | None) -> bool:
    return bare(line) == wanted if pattern is None else _search(pattern, line) is not None


def _inserted(text: str, lines: list[str], new: Sequence[str], place: Place) -> Edit:
    end, (index, missed) = _line_end(lines), place.line_number(lines)
    if index == len(lines) and lines and not lines[-1].endswith("\n"):
        lines[-1] += end
    lines[index:index] = [line + end for line in new]
    return Edit(_joined(text, lines), missed)


def _joined(before: str, lines: list[str]) -> str:
    """The lines as a text; the last line has an end if that of ``before`` has one."""
    if lines and before and not before.endswith("\n"):
        lines[-1] = bare(lines[-1])
    elif lines and not lines[-1].endswith("\n"):
        lines[-1] += _line_end(lines)
    return "".join(lines)


def _line_end(lines: Sequence[str]) -> str:
    windows = sum(line.endswith("\r\n") for line in lines)
    return "\r\n" if windows * 2 > len(lines) else "\n"

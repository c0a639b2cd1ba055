"""Edits of text by lines: what is not named stays as it is, line ends and the end of the last line too. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from nbprovision.model.errors import ParameterError

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_ENDS = ("BOF", "EOF")


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
    """Refuse what is no regular expression.

    Raises:
        ParameterError: with what is wrong with it.

    """
    if pattern is None or (pattern in _ENDS and key.startswith("insert")):
        return
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ParameterError(key, f"'{key}' is no regular expression", cause=f"{pattern[:80]}: {error}") from None


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

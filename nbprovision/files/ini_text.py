"""Edits of INI files: lines that do not change keep every byte.

Programs differ in what they read in such files, so a `Dialect` says it. The default is that of Python's configparser
(https://docs.python.org/3/library/configparser.html#supported-ini-file-structure), which reads the files of AWS's
command, pip, twine and setuptools. No library does this: ConfigUpdater refuses keys without a section and repeated
keys, and loses repeated sections; iniparse refuses keys without a section and creates a second ``[ section ]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nbprovision.files.checked_edit import edit_configuration
from nbprovision.model.errors import Position, TaskFailed

# One text, the texts of a repeated key, or the lines ``key = value`` within a value.
Wanted = str | list[str] | dict[str, str]

_HEADER = re.compile(r"\[([^\[\]]+)\]\s*(?:[#;].*)?")
_BARE = re.compile(r"[\w-][\w.-]*\s*|[.!@]\w+\s+\S.*")  # a key without a value, or a directive: .include PATH
_QUOTED = re.compile(r"\\.|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")
_PLAIN_DELIMITER = re.compile(r" ?[=:] ?")
_COMMENTS = "#;"
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
_UNITS = frozenset((".service", ".timer", ".socket", ".mount", ".automount", ".path", ".target", ".slice", ".network"))


class Dialect(NamedTuple):
    """The rules of the program that reads a file.

    Attributes:
        delimiters: The characters that may separate a key from its value.
        delimiter: The separator in a file without keys.
        inline: The character that begins a comment behind a value; empty for none.
        indented: Whether a line that is indented deeper than its key continues the value; otherwise a line continues
            behind a backslash at its end.

    """

    delimiters: str
    delimiter: str
    inline: str
    indented: bool

    @property
    def folds_case(self) -> bool:
        """Whether keys that differ only in their case are one key."""
        return self.indented


PYTHON = Dialect("=:", " = ", "", indented=True)
# https://docs.openssl.org/master/man5/config/, https://dev.mysql.com/doc/refman/8.4/en/option-files.html
OPENSSL = Dialect("=", " = ", "#", indented=False)
# https://www.freedesktop.org/software/systemd/man/latest/systemd.syntax.html
SYSTEMD = Dialect("=", "=", "", indented=False)


def dialect_of(path: Path) -> Dialect:
    """The dialect of a file, by its name."""
    if path.suffix == ".cnf":
        return OPENSSL
    return SYSTEMD if path.suffix in _UNITS or "systemd" in path.parts else PYTHON


class _Entry(NamedTuple):
    """A key with its value.

    Attributes:
        section: The section; empty above the first one.
        key: The key; empty for a directive.
        start: The number of its line, from 0.
        end: The number of the line behind its value.
        indentation: The blanks before the key.
        head: The first line up to the value.
        value: The value, without the ends of its lines.
        tail: A comment behind it, with the blanks before.

    """

    section: str
    key: str
    start: int
    end: int
    indentation: str
    head: str
    value: str
    tail: str


class _Header(NamedTuple):
    """The line that begins a section."""

    section: str
    line: int


class _Layout(NamedTuple):
    """The sections and keys of a text, in their order."""

    lines: list[str]
    headers: list[_Header]
    entries: list[_Entry]

    def all_of(self, section: str, key: str | None = None) -> list[_Entry]:
        """The entries of a section, or those of a key; a section may begin several times."""
        return [entry for entry in self.entries if entry.section == section and key in (None, entry.key)]


# ---------------------------------------------------------------------------------------------------------- reading


def settings(path: Path, text: str | None) -> dict[str, dict[str, list[str]]]:
    """The values of each key, by section.

    Args:
        path: The file; its name selects the dialect.
        text: Its content; None for no file.

    Raises:
        TaskFailed: it is not an INI file; with line and column.

    """
    result: dict[str, dict[str, list[str]]] = {}
    for entry in _read(path, (text or "").removeprefix(_MARK)).entries:
        if entry.key:
            result.setdefault(entry.section, {}).setdefault(entry.key, []).append(entry.value)
    return result


def lines_within(value: str) -> dict[str, str]:
    """The lines ``key = value`` within a value."""
    pairs = (re.split(r"\s*[=:]\s*", line, maxsplit=1) for line in value.split("\n"))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _read(path: Path, text: str) -> _Layout:
    """The layout of a text without a byte order mark.

    Raises:
        TaskFailed: a line is neither blank, a comment, a section nor a key.

    """
    dialect = dialect_of(path)
    layout = _Layout(re.findall(r"[^\n]*\n|[^\n]+", text), [], [])
    section, number = "", 0
    while number < len(layout.lines):
        line = _bare(layout.lines[number])
        content = line.strip()
        header = _HEADER.fullmatch(content)
        if "\0" in line:
            raise _invalid(path, number, line.index("\0"), "it contains a NUL, so it is not a text")
        if not content or content[0] in _COMMENTS:
            number += 1
        elif header is not None and header[1].strip():
            section = header[1].strip()
            layout.headers.append(_Header(section, number))
            number += 1
        else:
            layout.entries.append(_entry(path, layout.lines, number, section, dialect))
            number = layout.entries[-1].end
    return layout


def _entry(path: Path, lines: Sequence[str], number: int, section: str, dialect: Dialect) -> _Entry:
    line = _bare(lines[number])
    indentation = line[: len(line) - len(line.lstrip())]
    content = line.strip()
    if content[0] == "[":
        raise _invalid(
            path, number, len(indentation), "it begins a section without a closing bracket, or with more behind"
        )
    match = re.search(rf"\s*[{dialect.delimiters}]\s*", line)
    if match is None:
        if not _BARE.fullmatch(content):
            raise _invalid(path, number, len(indentation), f"the line has no {' or '.join(dialect.delimiters)}")
        key = content if " " not in content and "\t" not in content else ""
        return _Entry(section, key, number, number + 1, indentation, line.rstrip(), "", "")
    key = line[: match.start()].strip()
    if not key:
        raise _invalid(path, number, match.end() - 1, "the line has no key")
    first, tail = _without_comment(line[match.end() :], dialect)
    if dialect.indented:
        end, more = _indented_lines(lines, number, len(indentation))
        parts = [part for part in (first.strip(), *more) if part]
        return _Entry(section, key, number, end, indentation, line[: match.end()], "\n".join(parts), tail)
    end = number + 1
    parts = [first.rstrip()]
    while parts[-1].endswith("\\") and end < len(lines):
        continued, tail = _without_comment(_bare(lines[end]), dialect)
        parts[-1] = parts[-1][:-1].rstrip()
        parts.append(continued.strip())
        end += 1
    if parts[-1].endswith("\\"):
        raise _invalid(path, end - 1, len(_bare(lines[end - 1]).rstrip()) - 1, "no line follows the backslash")
    return _Entry(section, key, number, end, indentation, line[: match.end()], " ".join(filter(None, parts)), tail)


def _indented_lines(lines: Sequence[str], number: int, indentation: int) -> tuple[int, list[str]]:
    """The end of a value, and its lines below the first without comments and blank lines."""
    end, more = number + 1, []
    for later in range(number + 1, len(lines)):
        line = _bare(lines[later])
        content = line.strip()
        if not content or content[0] in _COMMENTS:
            continue
        if len(line) - len(line.lstrip()) <= indentation:
            break
        more.append(content)
        end = later + 1
    return end, more


def has_comment(value: str) -> bool:
    """Whether openssl would read an end of the value as a comment."""
    return bool(_without_comment(value, OPENSSL)[1])


def _without_comment(value: str, dialect: Dialect) -> tuple[str, str]:
    """A value, and the comment behind it with the blanks before."""
    if dialect.inline:
        masked = _QUOTED.sub(lambda match: "_" * len(match[0]), value)
        place = masked.find(dialect.inline)
        if place >= 0:
            kept = value[:place].rstrip()
            return kept, value[len(kept) :]
    return value, ""


def _bare(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _invalid(path: Path, number: int, column: int, reason: str) -> TaskFailed:
    return TaskFailed(
        f"{path} is not a valid INI file, and stays as it is",
        cause=reason,
        cure="correct the line, or edit the file with ensure_line or ensure_block",
        position=Position(str(path), number + 1, column + 1),
    )


# ---------------------------------------------------------------------------------------------------------- editing


def edited(
    path: Path, text: str | None, values: Mapping[str, Mapping[str, Wanted]], remove: Sequence[Sequence[str]]
) -> str | None:
    """The file's text with wanted keys and without others.

    Args:
        path: The file; its name selects the dialect.
        text: Its content; None for no file.
        values: The wanted values by section and key; the section without a name stands above the first one.
        remove: What must be missing: a section, a section and a key, or these and a key within the value.

    Returns:
        The new text; None for a missing file that stays missing.

    Raises:
        TaskFailed: it is not an INI file, or cannot be edited without losing a comment.

    """
    mark = _MARK if (text or "").startswith(_MARK) else ""
    body = (text or "").removeprefix(_MARK)
    current = settings(path, body)
    expected = _expected(current, values, remove)
    for names in remove:
        body = _removed(path, body, *names)
    for section, keys in values.items():
        for key, wanted in keys.items():
            if current.get(section, {}).get(key) != (wanted if isinstance(wanted, list) else [wanted]):
                body = _with(path, body, section, key, wanted)
    if text is None and not body:
        return None

    def parse(new: str) -> dict[str, object]:
        return _flat(settings(path, new), values)

    return mark + (edit_configuration(path, body, parse, _flat(expected, values)) or "")


def _expected(
    current: Mapping[str, Mapping[str, list[str]]],
    values: Mapping[str, Mapping[str, Wanted]],
    remove: Sequence[Sequence[str]],
) -> dict[str, dict[str, list[str]]]:
    result = {section: dict(keys) for section, keys in current.items()}
    for section, *rest in remove:
        keys = result.get(section, {})
        if not rest:
            result.pop(section, None)
        elif len(rest) == 1:
            keys.pop(rest[0], None)
        elif rest[0] in keys:
            within = lines_within(keys[rest[0]][-1])
            if within.pop(rest[1], None) is not None:
                keys[rest[0]] = [_joined(within)]
                if not within:
                    keys.pop(rest[0])
    for section, wanted_keys in values.items():
        for key, wanted in wanted_keys.items():
            keys = result.setdefault(section, {})
            if isinstance(wanted, dict):
                keys[key] = [_joined({**lines_within(keys.get(key, [""])[-1]), **wanted})]
            else:
                keys[key] = list(wanted) if isinstance(wanted, list) else [wanted]
    return result


def _joined(within: Mapping[str, str]) -> str:
    return "\n".join(f"{name} = {value}" for name, value in within.items())


def _flat(
    sections: Mapping[str, Mapping[str, list[str]]], values: Mapping[str, Mapping[str, Wanted]]
) -> dict[str, object]:
    """The values by a name for messages; a value with keys of its own is compared by these."""
    result: dict[str, object] = {}
    for section, keys in sections.items():
        for key, entries in keys.items():
            nested = isinstance(values.get(section, {}).get(key), dict) or _is_nested(entries)
            result[f"[{section}] {key}"] = [lines_within(entry) for entry in entries] if nested else entries
    return result


def _is_nested(entries: Sequence[str]) -> bool:
    lines = [line for entry in entries for line in entry.split("\n")]
    return bool(lines) and all(re.search(r".[=:]", line) for line in lines)


def _with(path: Path, text: str, section: str, key: str, wanted: Wanted) -> str:
    """The text with the value of one key."""
    layout = _read(path, text)
    entries = layout.all_of(section, key)
    if not entries:
        _refuse_other_case(path, layout, section, key)
    if isinstance(wanted, dict):
        return _with_lines(path, layout, section, key, wanted)
    wanted = wanted if isinstance(wanted, list) else [wanted]
    if [entry.value for entry in entries] == wanted:
        return text
    if len(wanted) == 1 and entries:  # the last one counts for most programs
        kept = next((entry for entry in reversed(entries) if entry.value == wanted[0]), entries[-1])
        pairs: list[tuple[_Entry, str | None]] = [(entry, wanted[0] if entry is kept else None) for entry in entries]
    else:
        pairs = [(entry, wanted[number] if number < len(wanted) else None) for number, entry in enumerate(entries)]
    lines = list(layout.lines)
    if len(wanted) > len(entries):
        place, new = _new_lines(layout, section, key, wanted[len(entries) :], dialect_of(path))
        _insert(lines, place, new)
    for entry, value in reversed(pairs):
        if value == entry.value:
            continue
        _refuse_loss(path, layout, entry)
        if value is None:
            _delete(lines, entry.start, entry.end)
        else:
            unended = not lines[entry.end - 1].endswith("\n")
            new = [line + _newline(lines) for line in _rewritten(layout, entry, value, dialect_of(path))]
            lines[entry.start : entry.end] = [*new[:-1], _bare(new[-1])] if unended else new
    return "".join(lines)


def _refuse_other_case(path: Path, layout: _Layout, section: str, key: str) -> None:
    for entry in layout.all_of(section):
        if dialect_of(path).folds_case and entry.key.lower() == key.lower():
            raise TaskFailed(
                f"'{key}' is written '{entry.key}' in {path}, and the file stays as it is",
                cause="most programs read the two as one key",
                cure=f"write '{entry.key}' in the playbook",
                position=Position(str(path), entry.start + 1, len(entry.indentation) + 1),
            )


def _refuse_loss(path: Path, layout: _Layout, entry: _Entry) -> None:
    """Refuse to replace a value with a comment between its lines."""
    for number in range(entry.start + 1, entry.end):
        content = layout.lines[number].strip()
        if content and content[0] in _COMMENTS and dialect_of(path).indented:
            raise TaskFailed(
                f"'{entry.key}' in {path} is not replaced, and the file stays as it is",
                cause="the value contains a comment, which would be lost",
                cure="move the comment to a line above the key",
                position=Position(str(path), number + 1, layout.lines[number].index(content[0]) + 1),
            )


def _rewritten(layout: _Layout, entry: _Entry, value: str, dialect: Dialect) -> list[str]:
    """The lines of an entry with another value, without their ends."""
    head = entry.head
    if not re.search(rf"[{dialect.delimiters}]\s*$", head):  # a key without a value
        head += _delimiter(layout, entry.section, dialect)
    elif head[-2:-1] == " " and entry.end > entry.start and _bare(layout.lines[entry.start]) == head:
        head += " "  # the first line has no value
    if "\n" not in value:
        return [(head + value).rstrip() + entry.tail]
    indentation = entry.indentation + "    "
    if entry.end > entry.start + 1:
        last = layout.lines[entry.end - 1]
        indentation = last[: len(last) - len(last.lstrip())]
    return [head.rstrip(), *(indentation + line for line in value.split("\n"))]


def _new_lines(
    layout: _Layout, section: str, key: str, values: Sequence[str], dialect: Dialect, within: Sequence[str] = ()
) -> tuple[int, list[str]]:
    """The place of a new key, and its lines without their ends; ``within`` are lines within its value."""
    neighbours = layout.all_of(section, key) or layout.all_of(section)
    indentation = neighbours[-1].indentation if neighbours else ""
    head = f"{indentation}{key}{_delimiter(layout, section, dialect)}"
    lines: list[str] = []
    for value in values:
        entry = _Entry(section, key, 0, 0, indentation, head, value, "")
        lines += _rewritten(layout, entry, value, dialect)
    lines += [f"{indentation}  {line}" for line in within]
    return _make_room(layout, section, lines, neighbours)


def _make_room(layout: _Layout, section: str, lines: list[str], entries: Sequence[_Entry]) -> tuple[int, list[str]]:
    """The place of new lines behind entries, and the lines with a header if the section is missing."""
    headers = [header.line for header in layout.headers if header.section == section]
    if entries:
        return entries[-1].end, lines
    if headers:
        return headers[-1] + 1, lines
    if section:
        spaced = any("[ " in layout.lines[header.line] for header in layout.headers)
        blank = [""] if layout.lines and layout.lines[-1].strip() else []
        return len(layout.lines), [*blank, f"[ {section} ]" if spaced else f"[{section}]", *lines]
    # Above the first section, but below a comment about the file.
    place = next((number for number, line in enumerate(layout.lines) if not line.strip().startswith(("#", ";"))), 0)
    place = place + 1 if place and not layout.lines[place].strip() else 0
    below = layout.lines[place : place + 1]
    return place, [*lines, *([""] if below and below[0].strip() else [])]


def _delimiter(layout: _Layout, section: str, dialect: Dialect) -> str:
    """The separator of a key and its value, as the neighbours have it."""
    for entry in reversed([*layout.entries, *layout.all_of(section)]):
        written = entry.head[len(entry.indentation) + len(entry.key) :]
        if entry.key and entry.value and _PLAIN_DELIMITER.fullmatch(written) and "\n" not in entry.value:
            return written
    return dialect.delimiter


def _with_lines(path: Path, layout: _Layout, section: str, key: str, wanted: Mapping[str, str]) -> str:
    """The text with lines ``key = value`` within the value of a key."""
    lines = list(layout.lines)
    entries = layout.all_of(section, key)
    if not entries:
        pairs = [f"{name} = {value}".rstrip() for name, value in wanted.items()]
        _insert(lines, *_new_lines(layout, section, key, [""], dialect_of(path), pairs))
        return "".join(lines)
    entry = entries[-1]
    within = range(entry.start + 1, entry.end)
    if lines_within(entry.value).items() >= wanted.items() and len(within) > 0:
        return "".join(lines)
    if not within:  # a value on one line
        end = _line_end(lines[entry.start])
        lines[entry.start] = entry.head.rstrip() + end
    new_names = []
    for name, value in wanted.items():
        number = next((number for number in within if _name_within(lines[number]) == name), None)
        if number is None:
            new_names.append(f"{name} = {value}".rstrip())
            continue
        line = _bare(lines[number])
        match = re.match(r"\s*.*?\s*[=:]\s*", line)
        if match is not None and line[match.end() :].strip() != value:
            lines[number] = (match[0] + value).rstrip() + _line_end(lines[number])
    last = layout.lines[entry.end - 1]
    indentation = last[: len(last) - len(last.lstrip())] if within else entry.indentation + "  "
    _insert(lines, entry.end, [indentation + line for line in new_names])
    return "".join(lines)


def _name_within(line: str) -> str:
    content = line.strip()
    return "" if content.startswith(("#", ";")) else re.split(r"\s*[=:]", content, maxsplit=1)[0]


def _removed(path: Path, text: str, section: str, key: str | None = None, within: str | None = None) -> str:
    """The text without a section, a key, or a key within a value; comments above a key stay."""
    layout = _read(path, text)
    lines = list(layout.lines)
    if key is None:
        for start, end in reversed(list(_spans(layout, section))):
            _delete(lines, start, end)
            if start and not lines[start - 1].strip() and (start == len(lines) or not lines[start].strip()):
                _delete(lines, start - 1, start)
        return "".join(lines)
    entries = layout.all_of(section, key)
    if not entries:
        _refuse_other_case(path, layout, section, key)
    for entry in reversed(entries):
        names = [number for number in range(entry.start + 1, entry.end) if _name_within(lines[number])]
        gone = [number for number in names if _name_within(lines[number]) == within]
        if within is None or (gone and len(gone) == len(names)):
            _delete(lines, entry.start, entry.end)
        else:
            for number in reversed(gone):
                _delete(lines, number, number + 1)
    return "".join(lines)


def _spans(layout: _Layout, section: str) -> Iterator[tuple[int, int]]:
    """The lines of each part of a section: from its header to its last key."""
    starts = [header.line for header in layout.headers]
    for header, end in zip(layout.headers, [*starts[1:], len(layout.lines)], strict=False):
        if header.section == section:
            within = [entry.end for entry in layout.entries if header.line < entry.start < end]
            yield header.line, max(within, default=header.line + 1)


def _insert(lines: list[str], place: int, new: Sequence[str]) -> None:
    """Insert lines with the file's line ends; a missing end of the last line stays missing."""
    added = [line + _newline(lines) for line in new]
    if added and place == len(lines) and lines and not lines[-1].endswith("\n"):
        lines[-1] += _newline(lines)
        added[-1] = _bare(added[-1])
    lines[place:place] = added


def _delete(lines: list[str], start: int, end: int) -> None:
    """Delete lines; a missing end of the last line stays missing."""
    unended = end == len(lines) and bool(lines) and not lines[-1].endswith("\n")
    del lines[start:end]
    if unended and lines:
        lines[-1] = _bare(lines[-1])


def _newline(lines: Sequence[str]) -> str:
    return "\r\n" if any(line.endswith("\r\n") for line in lines[:1]) else "\n"


def _line_end(line: str) -> str:
    return line[len(_bare(line)) :]

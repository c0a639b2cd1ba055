"""Edits of JSON, and of JSON with comments: every byte outside the edited members stays.

It reads RFC 8259, with the comments and trailing commas that VS Code and JupyterLab accept in their settings
(https://code.visualstudio.com/docs/languages/json#_json-with-comments,
https://jupyterlab.readthedocs.io/en/stable/user/directories.html). It refuses everything else, such as JSON5's other
notations. No library does this: json-five reads much that is not JSON, names no position, takes seconds for 100 KB, and
leaves commas, comments and indentation to its caller; others need Node.js or drop the comments.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nbprovision.files.checked_edit import edit_configuration
from nbprovision.model.errors import Position, TaskFailed

DEEPEST = 100  # levels; real files have less than ten
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
_UNIT = "  "

_COMMENT = r"//[^\r\n]*|/\*(?s:.*?)\*/"
_BLANK = re.compile(rf"(?:[ \t\r\n]+|{_COMMENT})*")
_BEHIND = re.compile(rf"(?:[ \t]*(?:{_COMMENT}))*")  # comments that begin on the same line
_ANY_COMMENT = re.compile(rf'"(?:[^"\\]|\\.)*"|(?P<comment>{_COMMENT})')
_STRING = re.compile(r'"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*"')
_STRING_START = re.compile(r'"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.+-])")
_WORD = re.compile(r"[\w$.+-]+")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


class NotJson(Exception):
    """The text is not JSON; with the offset of the fault."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.offset = offset


class Number(NamedTuple):
    """A number as it is written, since 0.10 and 1e5 have no other form, and some have no end."""

    text: str


class Member(NamedTuple):
    """A key of an object with its value.

    Attributes:
        key: The key.
        start: The offset of the key.
        key_end: The offset behind the key.
        value: The value.
        comma: The offset of the comma behind it; None for none.

    """

    key: str
    start: int
    key_end: int
    value: Node
    comma: int | None


class Node(NamedTuple):
    """A value in the text.

    Attributes:
        start: Its offset.
        end: The offset behind it.
        data: The value: text, a truth value, None, a `Number`, a list or a mapping, in which the last of equal keys
            counts.
        members: The members of an object.

    """

    start: int
    end: int
    data: Any
    members: tuple[Member, ...] = ()


# ---------------------------------------------------------------------------------------------------------- reading


def settings(path: Path, text: str | None) -> dict[str, Any]:
    """The settings in the file.

    Args:
        path: The file, for messages.
        text: Its content; None for no file.

    Raises:
        TaskFailed: it is not JSON, or not an object; with line and column.

    """
    root = _root(path, (text or "").removeprefix(_MARK))
    return {} if root is None else dict(root.data)


def data_of(value: Any) -> Any:
    """A value of a playbook as data of this module.

    Raises:
        ValueError: JSON has no such value: not a number, a date, a key that is not text, or it is nested too deep.

    """
    try:
        _check_keys(value)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        return _Reader(text).value(0).data
    except (TypeError, ValueError, RecursionError, NotJson) as error:
        raise ValueError(str(error)) from None


def _check_keys(value: Any) -> None:
    for key in value if isinstance(value, Mapping) else ():
        if not isinstance(key, str):
            raise ValueError(f"the key {key} is not text")  # noqa: TRY004 - a value of the user's
    for entry in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        _check_keys(entry)


def _root(path: Path, text: str) -> Node | None:
    """The object in a text without a byte order mark; None if it has only blanks and comments."""
    try:
        root = _Reader(text).document()
    except NotJson as error:
        raise _not_valid(path, text, str(error), error.offset) from None
    if root is not None and not isinstance(root.data, dict):
        raise _not_valid(path, text, "its top level is not an object: { ... }", root.start)
    return root


def _not_valid(path: Path, text: str, reason: str, offset: int) -> TaskFailed:
    return TaskFailed(
        f"{path} is not valid JSON, and stays as it is",
        cause=reason,
        cure="correct the file, or move it away",
        position=_position(path, text, offset),
    )


def _position(path: Path, text: str, offset: int) -> Position:
    return Position(str(path), text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


class _Reader:
    """Reads a text from its beginning."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def document(self) -> Node | None:
        """The only value in the text; None if there is none.

        Raises:
            NotJson: it is not JSON.

        """
        broken = re.search("[\udc80-\udcff]", self._text)
        if broken is not None:
            raise NotJson("it contains a byte that is not UTF-8", broken.start())
        if self._peek() == "":
            return None
        root = self.value(0)
        if self._peek() != "":
            raise NotJson("there is more text behind the end of the object", self._at)
        return root

    def value(self, depth: int) -> Node:
        """The value at the present place, and its end as the next place.

        Raises:
            NotJson: there is none.

        """
        character = self._peek()
        start = self._at
        if depth > DEEPEST:
            raise NotJson(f"it is nested more than {DEEPEST} levels deep", start)
        if character == "{":
            members = self._list_of("}", lambda: self._member(depth))
            data = {member.key: member.value.data for member in members}
            return Node(start, self._at, data, tuple(members))
        if character == "[":
            entries = [entry.value.data for entry in self._list_of("]", lambda: self._entry(depth))]
            return Node(start, self._at, entries)
        if character == '"':
            string = self._string()
            return Node(start, self._at, string)
        number = _NUMBER.match(self._text, start)
        if number is not None:
            self._at = number.end()
            return Node(start, self._at, Number(number[0]))
        word = _WORD.match(self._text, start)
        if word is not None and word[0] in _WORDS:
            self._at = word.end()
            return Node(start, self._at, _WORDS[word[0]])
        raise NotJson(self._unexpected("a value is expected", word[0] if word else ""), start)

    def _list_of(self, end: str, read: Callable[[], Member]) -> list[Member]:
        """The entries up to ``end``, each with the offset of the comma behind it."""
        self._at += 1
        entries: list[Member] = []
        while self._peek() != end:
            if entries and entries[-1].comma is None:
                raise NotJson(self._unexpected(f"a comma or {end} is expected"), self._at)
            entry = read()
            comma = self._at if self._peek() == "," else None
            entries.append(entry._replace(comma=comma))
            self._at += comma is not None
        self._at += 1
        return entries

    def _member(self, depth: int) -> Member:
        start = self._at
        if self._peek() != '"':
            word = _WORD.match(self._text, start)
            raise NotJson(self._unexpected("a key in double quotes is expected", word[0] if word else ""), start)
        key = self._string()
        key_end = self._at
        if self._peek() != ":":
            raise NotJson(self._unexpected("a colon is expected behind the key"), self._at)
        self._at += 1
        return Member(key, start, key_end, self.value(depth + 1), None)

    def _entry(self, depth: int) -> Member:
        value = self.value(depth + 1)
        return Member("", value.start, value.start, value, None)

    def _peek(self) -> str:
        """The next character behind blanks and comments; empty at the end."""
        blank = _BLANK.match(self._text, self._at)
        assert blank is not None  # noqa: S101 - it matches nothing, too
        self._at = blank.end()
        if self._text.startswith("/*", self._at):
            raise NotJson("the comment has no end", self._at)
        return self._text[self._at : self._at + 1]

    def _string(self) -> str:
        match = _STRING.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
            text: str = json.loads(match[0])
            return text
        good = _STRING_START.match(self._text, self._at)
        assert good is not None  # noqa: S101 - the caller has seen the quote
        character = self._text[good.end() : good.end() + 1]
        if character == "\\":
            raise NotJson("JSON has no such escape sequence; a backslash is written twice", good.end())
        if character == "" or character in "\r\n":
            raise NotJson("the text has no closing quote on its line", self._at)
        raise NotJson(f"the control character U+{ord(character):04X} has to be escaped", good.end())

    def _unexpected(self, expected: str, word: str = "") -> str:
        character = self._text[self._at : self._at + 1]
        if word in ("NaN", "Infinity", "-Infinity"):
            return f"{word} is not a JSON value"
        if word.lower() in ("true", "false", "none", "null", "undefined"):
            return f"{expected}: true, false and null are written in small letters"
        if character == "'":
            return f"{expected}: JSON has double quotes only"
        if word and (word[0].isdigit() or word[0] in "+-."):
            return "JSON has no such number"
        if not character:
            return f"{expected}, but the text ends"
        what = character if character.isprintable() and character != " " else f"U+{ord(character):04X}"
        return f"{expected}, not {what}"


# ---------------------------------------------------------------------------------------------------------- editing


def edited(path: Path, text: str | None, values: Mapping[str, Any], remove: Sequence[Sequence[str]]) -> str | None:
    """The file's text with wanted members and without others.

    Args:
        path: The file, for messages.
        text: Its content; None for no file.
        values: The wanted members, as `data_of` gives them. Objects are merged, other values replaced.
        remove: The paths of members that must be missing: keys from the outermost.

    Returns:
        The new text; None for a missing file that stays missing.

    Raises:
        TaskFailed: it is not JSON, or cannot be edited without losing a comment.

    """
    mark = _MARK if (text or "").startswith(_MARK) else ""
    body = (text or "").removeprefix(_MARK)
    root = _root(path, body)
    if root is None:
        if not values:
            return text
        head = body if not body or body.endswith("\n") else body + "\n"
        return mark + head + _Style(_UNIT, _newline(body), ": ").dumped(values, "") + _newline(body)
    expected = merged(_without(root.data, remove), values)
    for keys in remove:
        body = _removed(path, body, keys)
    body = _with(path, body, values)
    parse = functools.partial(settings, path)
    return mark + (edit_configuration(path, body, parse, expected) or "")


def merged(data: Any, values: Any) -> Any:
    """Data with the wanted values; equal values keep their notation."""
    if isinstance(data, dict) and isinstance(values, dict):
        return {**data, **{key: merged(data.get(key, ...), value) for key, value in values.items()}}
    return data if same(data, values) else values


def same(data: Any, other: Any) -> bool:
    """Whether two values are equal in JSON, where 1, 1.0 and 1e0 are one number, and true is not a number."""
    if isinstance(data, Number) and isinstance(other, Number):
        return data.text == other.text or _same_number(data.text, other.text)
    if isinstance(data, list) and isinstance(other, list):
        return len(data) == len(other) and all(map(same, data, other))
    if isinstance(data, dict) and isinstance(other, dict):
        return data.keys() == other.keys() and all(same(data[key], other[key]) for key in data)
    return type(data) is type(other) and bool(data == other)


def _same_number(text: str, other: str) -> bool:
    import decimal

    try:
        return decimal.Decimal(text) == decimal.Decimal(other)
    except decimal.DecimalException:  # an exponent of more than 18 digits
        return False


def _without(data: dict[str, Any], remove: Sequence[Sequence[str]]) -> dict[str, Any]:
    for first, *rest in remove:
        if first not in data:
            continue
        if not rest:
            data = {key: value for key, value in data.items() if key != first}
        elif isinstance(data[first], dict):
            data = {**data, first: _without(data[first], [rest])}
    return data


class _Style(NamedTuple):
    """The notation of new members.

    Attributes:
        unit: The indentation of one level; None for all on one line.
        newline: The line end.
        colon: The colon with the blanks around it.

    """

    unit: str | None
    newline: str
    colon: str

    def dumped(self, data: Any, indentation: str) -> str:
        """Write data; lines below the first begin with the indentation."""
        if isinstance(data, Number):
            return data.text
        if not isinstance(data, dict | list) or not data:
            return json.dumps(data, ensure_ascii=False)
        inner = indentation + (self.unit or "")
        entries = [self.dumped(entry, inner) for entry in (data.values() if isinstance(data, dict) else data)]
        if isinstance(data, dict):
            keys = (json.dumps(key, ensure_ascii=False) for key in data)
            entries = [f"{key}{self.colon}{entry}" for key, entry in zip(keys, entries, strict=True)]
        begin, end = "{}" if isinstance(data, dict) else "[]"
        if self.unit is None:
            comma = ", " if self.colon.endswith(" ") else ","
            return f"{begin}{comma.join(entries)}{end}"
        lines = f",{self.newline}{inner}".join(entries)
        return f"{begin}{self.newline}{inner}{lines}{self.newline}{indentation}{end}"


class _Splice(NamedTuple):
    """Text in place of the characters from ``start`` to ``end``."""

    start: int
    end: int
    text: str


def _with(path: Path, text: str, values: Mapping[str, Any]) -> str:
    """The text with the wanted members."""
    root = _root(path, text)
    assert root is not None  # noqa: S101 - the caller has seen it
    for splice in sorted(_splices(path, text, root, root, values), reverse=True):
        text = text[: splice.start] + splice.text + text[splice.end :]
    return text


def _splices(path: Path, text: str, root: Node, node: Node, values: Mapping[str, Any]) -> Iterator[_Splice]:
    """The changes that give an object the wanted members; they do not overlap."""
    new = {}
    for key, value in values.items():
        member = _member_of(path, text, node, key)
        if member is None:
            new[key] = value
        elif isinstance(value, dict) and isinstance(member.value.data, dict):
            yield from _splices(path, text, root, member.value, value)
        elif not same(member.value.data, value):
            _refuse_loss(path, text, member)
            style, indentation = _style(text, root, node), _line_indentation(text, member.start)
            yield _Splice(member.value.start, member.value.end, style.dumped(value, indentation))
    if new:
        yield from _inserted(text, root, node, new)


def _find(path: Path, text: str, keys: Sequence[str]) -> Node | None:
    """The object under the keys; None if it is missing, or something else."""
    node = _root(path, text)
    for key in keys:
        member = _member_of(path, text, node, key) if node is not None else None
        node = member.value if member is not None and isinstance(member.value.data, dict) else None
    return node


def _member_of(path: Path, text: str, node: Node, key: str) -> Member | None:
    members = [member for member in node.members if member.key == key]
    if len(members) > 1:
        raise TaskFailed(
            f"'{key}' occurs {len(members)} times in one object of {path}, and the file stays as it is",
            cause="programs differ in which of them counts",
            cure="remove the others",
            position=_position(path, text, members[1].start),
        )
    return members[0] if members else None


def _refuse_loss(path: Path, text: str, member: Member) -> None:
    """Refuse to replace a list or object that contains a comment."""
    value = text[member.value.start : member.value.end]
    for match in _ANY_COMMENT.finditer(value):
        if match["comment"] is not None:
            raise TaskFailed(
                f"'{member.key}' in {path} is not replaced, and the file stays as it is",
                cause="the value contains a comment, which would be lost",
                cure="move the comment to a line above the key",
                position=_position(path, text, member.value.start + match.start()),
            )


def _inserted(text: str, root: Node, node: Node, new: Mapping[str, Any]) -> Iterator[_Splice]:
    """The changes that add members behind the last one of an object."""
    style = _style(text, root, node)
    base = _line_indentation(text, node.start)
    if not node.members:
        inside = text[node.start + 1 : node.end - 1].rstrip()
        if style.unit is None and inside:  # comments, the last of which may need a line end behind it
            style = style._replace(unit=_UNIT)
        yield _Splice(node.start, node.end, "{" + inside + style.dumped(dict(new), base)[1:])
        return
    first, last = node.members[0], node.members[-1]
    comments = _BEHIND.match(text, last.value.end if last.comma is None else last.comma + 1)
    assert comments is not None  # noqa: S101 - it matches nothing, too
    own = last if _is_first_on_line(text, last.start) else first
    indentation = text[_line_start(text, own.start) : own.start] if _is_first_on_line(text, own.start) else base
    between = style.newline + indentation
    if style.unit is None and "//" not in comments[0]:
        between = _gap(text, node)
    entries = (
        f"{between}{json.dumps(key, ensure_ascii=False)}{style.colon}{style.dumped(value, indentation)}"
        for key, value in new.items()
    )
    tail = text[last.value.end : comments.end()]
    added = f",{tail}{','.join(entries)}" if last.comma is None else f"{tail}{','.join(entries)},"
    yield _Splice(last.value.end, comments.end(), added)


def _gap(text: str, node: Node) -> str:
    """The blanks behind a comma in an object on one line."""
    if len(node.members) < 2:
        return " "
    before, after = node.members[-2:]
    gap = text[(before.comma or before.value.end) + 1 : after.start]
    return gap if not gap.strip(" \t") else " "


def _removed(path: Path, text: str, keys: Sequence[str]) -> str:
    """The text without a member, and without a comment behind it; comments above it stay."""
    node = _find(path, text, keys[:-1])
    member = _member_of(path, text, node, keys[-1]) if node is not None else None
    if node is None or member is None:
        return text
    number = node.members.index(member)
    before = node.members[number - 1] if number else None
    is_last = number == len(node.members) - 1
    tail = member.value.end if member.comma is None else member.comma + 1
    comments = _BEHIND.match(text, tail)
    assert comments is not None  # noqa: S101 - it matches nothing, too
    line_end = re.compile(r"[ \t]*\r?\n").match(text, comments.end())
    if _is_first_on_line(text, member.start) and line_end is not None:
        start, end = _line_start(text, member.start), line_end.end()
    elif is_last:
        start, end = len(text[: member.start].rstrip(" \t")), tail
    else:
        start, end = member.start, tail + len(text[tail:]) - len(text[tail:].lstrip(" \t"))
    result = text[:start] + text[end:]
    closing = node.end - 1 - (end - start)
    if before is not None and before.comma is not None and is_last and member.comma is None:
        result = result[: before.comma] + result[before.comma + 1 :]
        closing -= 1
    if not result[node.start + 1 : closing].strip():
        result = result[: node.start + 1] + result[closing:]
    return result


def _style(text: str, root: Node, node: Node) -> _Style:
    """The notation of the members of an object, or of the file if the object is empty."""
    unit: str | None = _UNIT
    if root.members:
        first = root.members[0]
        unit = text[_line_start(text, first.start) : first.start] if _is_first_on_line(text, first.start) else None
    colon = ": "
    if node.members:
        if not _is_first_on_line(text, node.members[0].start):
            unit = None
        elif unit is None:
            unit = _UNIT
    example = (node.members or root.members)[-1:]
    for member in example:
        written = text[member.key_end : member.value.start]
        colon = written if re.fullmatch(r" ?: ?", written) else colon
    return _Style(unit, _newline(text), colon)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _line_start(text: str, offset: int) -> int:
    return text.rfind("\n", 0, offset) + 1


def _is_first_on_line(text: str, offset: int) -> bool:
    """Whether only blanks stand before an offset that is not on the first line."""
    start = _line_start(text, offset)
    return start > 0 and not text[start:offset].strip(" \t")


def _line_indentation(text: str, offset: int) -> str:
    line = text[_line_start(text, offset) : offset]
    return line[: len(line) - len(line.lstrip(" \t"))]

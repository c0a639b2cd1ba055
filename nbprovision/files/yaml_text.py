"""Edits of a YAML file's settings by a round trip through ruamel.yaml, which conda uses as well.

A file without settings is written by PyYAML, which loads in a tenth of the time.
"""

from __future__ import annotations

import difflib
import functools
import io
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbprovision.files.checked_edit import edit_configuration, refusal
from nbprovision.machine import condarc_text
from nbprovision.model.errors import Position, TaskFailed
from nbprovision.system import yaml_document
from nbprovision.system.yaml_document import NoYaml

# A setting's value: a scalar, or lists and mappings of values.
Value = bool | int | float | str | Sequence[Any] | Mapping[str, Any]

# None begins with a digit: YAML 1.1, 1.2 and conda disagree on what is a number.
_PLAIN = re.compile(r"(?:[A-Za-z_/~$]|\.{1,2}/)[A-Za-z0-9_./~$:@%+=-]*")
_QUOTED = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'")
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


def settings(path: Path, text: str | None) -> dict[str, Any]:
    """The settings in the file.

    Args:
        path: The file, for messages.
        text: Its content, None for no file.

    Raises:
        TaskFailed: it is not YAML, or not a mapping of settings; with line and column.

    """
    try:
        document = yaml_document.load(text or "", unique=True)
    except NoYaml as error:
        raise _not_valid(path, error) from None
    if document is not None and not isinstance(document, dict):
        lines = (text or "").splitlines()
        content = (number for number, line in enumerate(lines, 1) if not re.match(r"\s*(#|%|---\s*$|$)", line))
        raise _not_valid(path, NoYaml("it is not a mapping of settings", next(content, 1)))
    return document or {}


def edited(path: Path, text: str | None, wanted: Mapping[str, Value | None]) -> str | None:
    """The file's text with the wanted settings.

    Args:
        path: The file, for messages.
        text: Its content, None for no file.
        wanted: Settings by name; None removes a setting.

    Returns:
        The new text; None if the file would be empty.

    Raises:
        TaskFailed: it is not YAML, or cannot be edited safely.

    """
    present = {key: value for key, value in wanted.items() if value is not None}
    if not (text or "").strip(" \r\n"):
        expected: dict[str, Any] = {key: (value, None, frozenset()) for key, value in present.items()}
        read = functools.partial(condarc_text.flat, by_conda=False)
        return edit_configuration(path, _written(present), read, expected) if present else text
    for key in wanted:
        text = _edited(path, text or "", key, wanted[key])
    return text


def _edited(path: Path, text: str, key: str, value: Value | None) -> str | None:
    """The text with one wanted setting."""
    before = settings(path, text)
    if key not in before if value is None else before.get(key) == value:
        return text
    try:
        as_read = condarc_text.flat(text)
        candidates = _edits(path, text, key, value, before.get(key))
    except NoYaml as error:  # only conda's parser refuses it
        raise _not_valid(path, error) from None
    expected = _expected(as_read, key, value, before.get(key))
    for candidate in candidates:
        try:
            edit_configuration(path, candidate, condarc_text.flat, expected)
        except TaskFailed as error:  # noqa: PERF203 - there are two
            refused = error
        else:
            return candidate if candidate.strip() else None
    raise refused


def _expected(as_read: Mapping[str, Any], key: str, value: Value | None, ours: Any) -> dict[str, Any]:
    """The settings that conda must read afterwards: the old ones, with their flags, and the wanted one."""
    expected = dict(as_read)
    old, flag, flags = expected.pop(key, (None, None, frozenset()))
    if value is not None:
        new = _carried(ours, old, value)
        names: set[str] = set()
        if isinstance(new, list):
            names = {repr(entry) for entry in new}
        elif isinstance(new, Mapping):
            names = set(new)
            same = {name for name in new if isinstance(old, Mapping) and old.get(name) == new[name]}
            names |= {name for name, _ in flags if name.partition("/")[0] in same}
        expected[key] = (new, flag, frozenset(item for item in flags if item[0] in names))
    return expected


def _carried(ours: Any, theirs: Any, wanted: Any) -> Any:
    """``wanted`` with unchanged parts as conda reads them: a truth value of YAML 1.1 is text for conda."""
    if ours == wanted and type(ours) is type(wanted):
        return theirs
    if isinstance(wanted, Mapping):
        old = (ours, theirs) if isinstance(ours, Mapping) and isinstance(theirs, Mapping) else ({}, {})
        return {name: _carried(old[0].get(name), old[1].get(name), entry) for name, entry in wanted.items()}
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        pairs = zip(ours, theirs, strict=True) if isinstance(ours, list) and isinstance(theirs, list) else ()
        old_entries = [(mine, other) for mine, other in pairs]
        return [next((other for mine, other in old_entries if mine == entry), entry) for entry in wanted]
    return wanted


def _not_valid(path: Path, error: NoYaml) -> TaskFailed:
    return TaskFailed(
        f"{path} is not valid YAML, and stays as it is",
        cause=str(error),
        cure="correct the file, or move it away",
        position=Position(str(path), error.line, error.column),
    )


# ---------------------------------------------------------------------------------------------------------- editing


def _edits(path: Path, text: str, key: str, value: Value | None, old: Any) -> list[str]:
    """The possible new texts, best first: one that keeps unchanged lines, one that ruamel.yaml writes as a whole.

    Raises:
        NoYaml: ruamel.yaml cannot read it.
        TaskFailed: a comment would be lost.

    """
    plain_text = text.removeprefix(_MARK).replace("\r\n", "\n")
    end = re.search(r"(?m)^\.\.\.", plain_text)  # ruamel.yaml loses comments above the end of a document
    source = plain_text[: end.start()] if end else plain_text
    lines = source.removesuffix("\n").split("\n") if source else []
    with condarc_text.by_ruamel() as parser:
        document = parser.load(source)
        if document is None:
            edits = [[*lines, _written({key: value}).removesuffix("\n")]]
        else:
            _take_style(parser, document, source, key)
            before = _dumped(parser, document)
            _set(parser, document, key, value, old)
            after = _dumped(parser, document) if document else ["---"] * parser.explicit_start
            lost = _comments(lines) - _comments(before)
            edits = [_patched(own, before, after) for own in (_aligned(lines, before), before)]
            edits = [edit for edit in edits if not lost - _comments(edit)]
            if not edits:
                raise refusal(path, "the edit would lose a comment within a value")
    mark, newline = _MARK if text.startswith(_MARK) else "", "\r\n" if "\r\n" in text else "\n"
    return [mark + "\n".join([*edit, plain_text[len(source) :]]).replace("\n", newline) for edit in edits]


def _take_style(parser: Any, document: Any, source: str, key: str) -> None:
    """Configure the parser for the style of the file: indentation, document mark, and lines of any length."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    parser.width = sys.maxsize
    parser.explicit_start = re.search(r"(?m)^---", source) is not None
    mapping, offset = 2, 2
    for value in [*document.values(), document.get(key)]:  # the last counts
        if isinstance(value, CommentedMap | CommentedSeq) and value and not value.fa.flow_style():
            indent = value.lc.col - document.lc.col
            mapping, offset = (indent, offset) if isinstance(value, Mapping) else (mapping, indent)
    parser.indent(mapping=mapping, sequence=offset + 2, offset=offset)


def _dumped(parser: Any, document: Any) -> list[str]:
    stream = io.StringIO()
    parser.dump(document, stream)
    return stream.getvalue().removesuffix("\n").split("\n")


def _set(parser: Any, mapping: Any, name: str, value: Value | None, old: Any) -> None:
    current = mapping.get(name)
    _leave_comments_to_the_lines(mapping, name)
    if value is None:
        mapping.pop(name, None)
    elif isinstance(value, Mapping) and isinstance(old, Mapping) and hasattr(current, "ca"):
        for inner in [*value, *(inner for inner in old if inner not in value)]:
            if inner not in old or inner not in value or old[inner] != value[inner]:
                _set(parser, current, inner, value.get(inner), old.get(inner))
    elif isinstance(value, list) and isinstance(old, list) and hasattr(current, "ca"):
        entries, comments = list(current), dict(current.ca.items)
        current.ca.items.clear()
        current.clear()
        for number, entry in enumerate(value):
            place = next((place for place, own in enumerate(old) if own == entry and type(own) is type(entry)), None)
            current.append(_node(parser, entry) if place is None else entries[place])
            if place in comments:
                current.ca.items[number] = comments[place]
    else:
        mapping[name] = _node(parser, value)


def _leave_comments_to_the_lines(mapping: Any, name: str) -> None:
    """Remove the comments below a setting and its entries: `_patched` keeps such lines in their places."""
    comments = [mapping.ca.items.get(name)]
    if hasattr(mapping.get(name), "ca"):
        comments += [mapping[name].ca.comment, *mapping[name].ca.items.values()]
    for tokens in filter(None, comments):
        for number, token in enumerate(tokens):
            if hasattr(token, "value"):  # the rest of a line, and lines below
                token.value = token.value.partition("\n")[0] + "\n"
            tokens[number] = token if hasattr(token, "value") and token.value.strip() else None


def _node(parser: Any, value: Value) -> Any:
    return parser.load(_written({"x": value}))["x"]


def _aligned(lines: Sequence[str], before: Sequence[str]) -> list[str]:
    """The lines of the file for each line of ruamel.yaml's, which joins lines within brackets or quotes."""
    result: list[str] = []
    for _, start, end, own_start, own_end in difflib.SequenceMatcher(None, before, lines, False).get_opcodes():
        own = lines[own_start:own_end]
        if own and end - start == 1:
            own = ["\n".join(own)]
        result += own if len(own) == end - start else before[start:end]
    return result


def _patched(lines: Sequence[str], before: Sequence[str], after: Sequence[str]) -> list[str]:
    """``lines`` with the differences between two texts; comments and blank lines are not removed.

    Args:
        lines: The lines of the file, one for each line of ``before``.
        before: The file as ruamel.yaml writes it.
        after: The same with the wanted setting.

    """
    lost = Counter(filter(_is_comment, before)) - Counter(filter(_is_comment, after))
    result: list[str] = []

    def keep_comments(numbers: range) -> None:
        for number in numbers:
            if lost[before[number]] > 0 or (not before[number] and result and result[-1]):
                lost[before[number]] -= 1
                result.append(lines[number])

    for kind, start, end, new_start, new_end in difflib.SequenceMatcher(None, before, after, False).get_opcodes():
        if kind == "equal":
            result += lines[start:end]
            continue
        content = (number for number in range(start, end) if before[number] and not _is_comment(before[number]))
        first = next(content, start)
        keep_comments(range(start, first))
        result += after[new_start:new_end]
        keep_comments(range(first, end))
    return result


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _comments(lines: Sequence[str]) -> Counter[str]:
    unquoted = _QUOTED.sub("''", "\n".join(lines))
    return Counter(comment.strip() for comment in re.findall(r"(?m)(?:^|\s)#.*", unquoted))


# ---------------------------------------------------------------------------------------------------------- writing


def _written(changes: Mapping[str, Any]) -> str:
    """The text of a file with settings, in conda's layout; text that some parser reads as a number is quoted."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, indentless=False)

    Dumper.add_representer(
        str,
        lambda dumper, text: dumper.represent_scalar(
            "tag:yaml.org,2002:str", text, style=None if _PLAIN.fullmatch(text) else '"'
        ),
    )
    return yaml.dump(changes, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=sys.maxsize)

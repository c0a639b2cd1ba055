"""Edits single settings in the text of a YAML file; every other byte of it stays as it is.

PyYAML tells where each node begins and ends, and the text is cut there: a library that parses and writes a document
anew would settle indentation, quotes and line ends its own way. What comes out is read again by conda's own parser and
compared, so that a file which is written in a way unheard of here is refused and never harmed.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbprovision.facts import condarc_text
from nbprovision.facts.checked_edit import edit_configuration
from nbprovision.facts.yaml_document import NoYaml
from nbprovision.model.errors import Position, TaskFailed

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

# A setting's value: a scalar, or lists and mappings of values.
Value = bool | int | float | str | Sequence[Any] | Mapping[str, Any]

# None begins with a digit: YAML 1.1, 1.2 and conda disagree on what is a number.
_PLAIN = re.compile(r"[A-Za-z_./~$][A-Za-z0-9_./~$:@%+=-]*")


def settings(path: Path, text: str | None) -> dict[str, Any]:
    """What the file says.

    Args:
        path: Its place, for messages.
        text: Its content, None where there is no file.

    Raises:
        TaskFailed: it is not YAML, or no mapping of settings; with line and column.

    """
    from nbprovision.facts import yaml_document

    root = _root(path, text or "")
    if root is None:
        return {}
    seen: set[str] = set()
    for key, _ in root.value:
        if str(key.value) in seen:
            raise _invalid(path, key.start_mark, f"the setting '{key.value}' stands there twice")
        seen.add(str(key.value))
    try:
        return dict(yaml_document.load(text or ""))
    except NoYaml as error:  # its aliases unfold without end, a date is none, ...
        raise _not_valid(path, error) from None


def edited(path: Path, text: str | None, wanted: Mapping[str, Value | None]) -> str | None:
    """The file's text with each setting of ``wanted`` as it is there; a setting that is None goes.

    Args:
        path: The file's place, for messages.
        text: What it says now, None where there is no file.
        wanted: Settings by their names in the file.

    Returns:
        The new text; None where nothing would be left of the file.

    Raises:
        TaskFailed: it is not YAML, or is written in a way that cannot be edited with certainty.

    """
    before = settings(path, text)
    goal = {**before, **wanted}
    goal = {key: value for key, value in goal.items() if value is not None or key not in wanted}
    if goal == before:
        return text
    result = text or ""
    _refuse_aliases(path, result)
    for key, value in wanted.items():
        if key in before if value is None else before.get(key) != value:
            result = _changed(path, result, key, value, before.get(key))
    read = functools.partial(condarc_text.flat, by_conda=bool(text and text.strip()))
    try:
        as_read = read(text or "")
    except NoYaml as error:  # not to conda's parser, which refuses a key that stands twice in a mapping
        raise _not_valid(path, error) from None
    result = edit_configuration(path, result, read, _expected(as_read, before, wanted)) or ""
    return result if result.strip() else None


def _expected(
    as_read: Mapping[str, Any], before: Mapping[str, Any], wanted: Mapping[str, Value | None]
) -> dict[str, Any]:
    """What conda has to read afterwards: all as before, flags included, but for what is wanted."""
    expected = dict(as_read)
    for key, value in wanted.items():
        old, flag, flags = expected.pop(key, (None, None, frozenset()))
        if value is not None:
            new = _carried(before.get(key), old, value)
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
    """``wanted``, in which what has not changed is as conda reads it: what YAML 1.1 takes for a truth is text to it."""
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


# ---------------------------------------------------------------------------------------------------------- reading


def _root(path: Path, text: str) -> MappingNode | None:
    import yaml
    from yaml.reader import ReaderError

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except ReaderError as error:
        before = text[: error.position]
        place = Position(str(path), before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise TaskFailed(
            f"{path} is not valid YAML, and stays as it is", cause=f"{error.reason}", cure=_CURE, position=place
        ) from None
    except yaml.MarkedYAMLError as error:
        raise _invalid(path, error.problem_mark or error.context_mark, error.problem or "") from None
    except RecursionError:
        raise _invalid(path, None, "its lists and mappings are nested too deep") from None
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
        return None
    if not isinstance(node, yaml.MappingNode):
        raise _invalid(path, node.start_mark, "it is no mapping of settings")
    return node


_CURE = "correct it there, or move the file away"


def _invalid(path: Path, mark: Any, problem: str) -> TaskFailed:
    place = Position(str(path), mark.line + 1, mark.column + 1) if mark is not None else Position(str(path), 1, 1)
    return TaskFailed(f"{path} is not valid YAML, and stays as it is", cause=problem, cure=_CURE, position=place)


def _not_valid(path: Path, error: NoYaml) -> TaskFailed:
    place = Position(str(path), error.line, error.column)
    return TaskFailed(f"{path} is not valid YAML, and stays as it is", cause=str(error), cure=_CURE, position=place)


def _refuse_aliases(path: Path, text: str) -> None:
    """An alias stands for a node elsewhere, whose place in the text would be changed in its stead."""
    import yaml

    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.AliasToken):
            raise TaskFailed(
                f"{path} has an alias in it (*{token.value}), and cannot be edited with certainty",
                cause="what it stands for is written elsewhere in the file, and would change with it",
                cure="write out what the alias stands for",
                position=Position(str(path), token.start_mark.line + 1, token.start_mark.column + 1),
            )


def _pair(mapping: MappingNode, key: str) -> tuple[ScalarNode, Node] | None:
    return next(((name, value) for name, value in mapping.value if name.value == key), None)


def _end(node: Node) -> int:
    """Where the node's own text ends; the mark of a block collection lies where the next token begins."""
    children = [child for item in _items(node) for child in item]
    if _flow(node) or not children:
        return int(node.end_mark.index)
    return _end(children[-1])


def _items(node: Node) -> list[tuple[Node, ...]]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return list(node.value)
    return [(item,) for item in node.value] if isinstance(node, yaml.SequenceNode) else []


def _flow(node: Node) -> bool:
    return bool(getattr(node, "flow_style", False))


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    """Where the next line begins."""
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1


# ---------------------------------------------------------------------------------------------------------- editing


def _changed(path: Path, text: str, key: str, value: Value | None, old: Any) -> str:
    root = _root(path, text)
    if root is None:
        return text if value is None else _appended(text, {key: value})
    if isinstance(value, Mapping) and isinstance(old, Mapping) and old:
        return _with_entries(text, key, value, old)
    return _without(text, root, key) if value is None else _with(text, root, key, value)


def _with(text: str, mapping: MappingNode, key: str, value: Any) -> str:
    import yaml

    pair = _pair(mapping, key)
    if pair is None:
        return _added(text, mapping, key, value)
    node = pair[1]
    words = isinstance(value, list) and all(isinstance(word, str) for word in value)
    if words and isinstance(node, yaml.SequenceNode):
        if _flow(node) and node.value:
            return _flow_list(text, node, value)
        if not _flow(node) and all(_simple(text, item) for item in node.value):
            return _block_list(text, node, value)
    return _replaced(text, *pair, _inline(value))


def _with_entries(text: str, key: str, value: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    """A mapping, entry by entry; the text is read anew after each, as all places behind it have moved."""
    for name, entry in value.items():
        if name not in old or old[name] != entry:
            text = _with(text, _inner(text, key), name, entry)
    for name in [entry.value for entry, _ in _inner(text, key).value]:
        if name not in value:
            text = _without(text, _inner(text, key), name)
    return text


def _inner(text: str, key: str) -> MappingNode:
    import yaml

    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    pair: Any = _pair(root, key)
    return pair[1]  # type: ignore[no-any-return]


def _replaced(text: str, key: ScalarNode, node: Node, inline: str) -> str:
    if _flow(node) or not _items(node):
        start, end = int(node.start_mark.index), _end(node)
        blank = " " if text[start - 1 : start] == ":" else ""
        return f"{text[:start]}{blank}{inline}{text[end:]}"
    colon = text.index(":", int(key.end_mark.index)) + 1
    return f"{text[:colon]} {inline}{text[colon : _line_end(text, colon)]}{text[_line_end(text, _end(node)) :]}"


def _added(text: str, mapping: MappingNode, key: str, value: Value) -> str:
    if _flow(mapping):
        close = int(mapping.end_mark.index) - 1
        comma = ", " if mapping.value else ""
        head = text[:close].rstrip(" ") if mapping.value else text[:close]
        return f"{head}{comma}{_scalar(key)}: {_inline(value)}{text[len(head) if mapping.value else close :]}"
    indent = int(mapping.start_mark.column)
    place = _line_end(text, _end(mapping))
    if indent == 0 and not text[place:].lstrip().startswith("..."):
        place = len(text)  # behind comments that end the file
        if "\n..." in text:
            place = text.index("\n...") + 1
    return _inserted(text, place, _block(key, value, indent, _newline(text)))


def _appended(text: str, entries: Mapping[str, Value]) -> str:
    """Settings for a file that has none: an empty one, or one with comments only."""
    lines = "".join(_block(key, value, 0, _newline(text)) for key, value in entries.items())
    return _inserted(text, text.index("\n...") + 1 if "\n..." in text else len(text), lines)


def _inserted(text: str, place: int, lines: str) -> str:
    newline = _newline(text)
    gap = newline if text[:place] and not text[:place].endswith("\n") else ""
    return f"{text[:place]}{gap}{lines}{text[place:]}"


def _without(text: str, mapping: MappingNode, key: str) -> str:
    pair = _pair(mapping, key)
    if pair is None:
        return text
    if _flow(mapping):
        number = [name.value for name, _ in mapping.value].index(key)
        return _cut(text, [(int(name.start_mark.index), _end(value)) for name, value in mapping.value], number)
    return text[: _line_start(text, int(pair[0].start_mark.index))] + text[_line_end(text, _end(pair[1])) :]


def _cut(text: str, spans: Sequence[tuple[int, int]], number: int) -> str:
    """A flow collection without one of its entries, and without the comma beside it."""
    start, end = spans[number]
    if number + 1 < len(spans):
        end = spans[number + 1][0]
    elif number:
        start = spans[number - 1][1]
    return text[:start] + text[end:]


def _simple(text: str, item: Node) -> bool:
    """Whether an entry of a block list is a scalar in a line of its own."""
    import yaml

    start, end = int(item.start_mark.index), int(item.end_mark.index)
    line = text[_line_start(text, start) : start]
    return isinstance(item, yaml.ScalarNode) and line.strip(" ") == "-" and "\n" not in text[start:end]


def _block_list(text: str, node: SequenceNode, wanted: Sequence[str]) -> str:
    """The entries in their new order, each with its comments: those above it, and the one behind it."""
    first = int(node.value[0].start_mark.index)
    dash = text[_line_start(text, first) : first]
    newline = _newline(text)
    begin = end = _first_line(text, int(node.start_mark.index))
    lines: dict[str, str] = {}
    for item in node.value:
        stop = _line_end(text, int(item.end_mark.index))
        lines.setdefault(item.value, text[end:stop])
        end = stop
    chunks = [lines.get(word, f"{dash}{_scalar(word)}{newline}") for word in wanted]
    together = "".join(chunk if chunk.endswith("\n") else chunk + newline for chunk in chunks)
    if end == len(text) and not text.endswith("\n"):
        together = together.removesuffix(newline)
    return text[:begin] + together + text[end:]


def _first_line(text: str, start: int) -> int:
    """Where a block's lines begin: behind the line of its key, with the comments above its first entry."""
    begin = _line_start(text, start)
    while begin:
        above = _line_start(text, begin - 1)
        if text[above:begin].strip() and not text[above:begin].lstrip().startswith("#"):
            break
        begin = above
    return begin


def _flow_list(text: str, node: SequenceNode, wanted: Sequence[str]) -> str:
    """The same for a list in brackets: what stands before an entry, from the comma on, goes with it."""
    begin = end = int(node.start_mark.index) + 1
    pieces: dict[str, str] = {}
    for number, item in enumerate(node.value):
        start = text.index(",", end) + 1 if number else begin
        end = int(item.end_mark.index)
        pieces.setdefault(item.value, text[start:end])
    lead = text[begin : int(node.value[0].start_mark.index)]
    lead = lead if not lead.strip() else " "
    together = ""
    for number, word in enumerate(wanted):
        piece = pieces.get(word, _scalar(word))
        if "\n" not in piece and "#" not in piece.split("//")[0]:
            piece = (" " if number and "\n" not in lead else lead) + piece.strip()
        together += ("," if number else "") + piece
    return text[:begin] + together + text[end:]


# ---------------------------------------------------------------------------------------------------------- writing


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _block(key: str, value: Value, indent: int, newline: str) -> str:
    """A new setting, as conda itself writes it."""
    margin = " " * indent
    if isinstance(value, Mapping):
        lines = [f"{margin}  {_scalar(name)}: {_inline(entry)}" for name, entry in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        lines = [f"{margin}  - {_inline(entry)}" for entry in value]
    else:
        return f"{margin}{_scalar(key)}: {_inline(value)}{newline}"
    if not lines:
        return f"{margin}{_scalar(key)}: {_inline(value)}{newline}"
    return newline.join([f"{margin}{_scalar(key)}:", *lines]) + newline


def _inline(value: Value) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(name)}: {_inline(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return _scalar(value)


def _scalar(value: bool | float | str) -> str:
    """Plain where YAML reads the very same text back, else in double quotes with JSON's escapes, which YAML takes."""
    import yaml

    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and yaml.safe_load(f"[{value}]") == [value]:
        return value
    return json.dumps(value, ensure_ascii=False)

"""Reads YAML as nodes with positions.

PyYAML reads the text as a stream of events. The nodes are made from it within limits (depth, number of nodes, unfolded
aliases). PyYAML's own composers have no limits, and the one in C crashes the process on some 30,000 nested brackets.

Scalars have the values of PyYAML's ``SafeLoader`` (YAML 1.1, https://yaml.org/type/): ``yes`` is true, ``1:30`` is the
number 90. A number keeps its text (`written`). A date is text, since no task takes another value for it. As a key,
``NO`` is text too: it is a name.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from nbprovision.model.errors import InvalidPlaybook, MissingFile, Position, nearest
from nbprovision.playbook.written import WrittenNumber, written
from nbprovision.system import invisible

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_NODES = 50_000
MAX_DIGITS = 100  # of a number; base 60 of YAML 1.1 takes minutes for a long one

_SHOWN = 40  # characters of a wrong value in a message

_CORE = "tag:yaml.org,2002:"
_TYPES = ("null", "bool", "int", "float", "timestamp")


class Scalar(msgspec.Struct, frozen=True):
    """A single value: ``value`` as YAML reads it, ``text`` as in the file, ``plain`` if it has no quotes."""

    position: Position
    value: Any
    text: str
    plain: bool
    weight: int = 1
    height: int = 0


class ListNode(msgspec.Struct, frozen=True):
    """A list. ``weight`` counts its nodes with every alias unfolded, ``height`` the levels below it."""

    position: Position
    items: tuple[Node, ...]
    weight: int = 1
    height: int = 1


class MapNode(msgspec.Struct, frozen=True):
    """A mapping, with its pairs in the order of the file; merge keys (``<<``) are merged already."""

    position: Position
    pairs: tuple[tuple[Scalar, Node], ...]
    weight: int = 1
    height: int = 1

    def get(self, key: str) -> Node | None:
        """Return the value of ``key``, or None."""
        return next((value for name, value in self.pairs if name.value == key), None)


Node = Scalar | ListNode | MapNode


def plain(node: Node) -> Any:
    """Return the node as lists, dicts and values."""
    if isinstance(node, MapNode):
        return {key.value: plain(value) for key, value in node.pairs}
    if isinstance(node, ListNode):
        return [plain(item) for item in node.items]
    return node.value


def scalars(node: Node, keys: tuple[Scalar, ...] = ()) -> Iterator[tuple[tuple[Scalar, ...], Scalar]]:
    """Return every scalar in a node with the keys above it, the outermost first."""
    if isinstance(node, Scalar):
        yield keys, node
    elif isinstance(node, ListNode):
        for item in node.items:
            yield from scalars(item, keys)
    else:
        for key, value in node.pairs:
            yield from scalars(value, (*keys, key))


def read_file(path: Path, what: str) -> str:
    """Return the text of a file, within the limits; raises as `read_nodes` does."""
    return decode(read_file_bytes(path, what), str(path), what)


def read_nodes(path: Path, what: str = "playbook") -> Node | None:
    """Return the content of a YAML file, or None if it is empty.

    Args:
        path: The file; positions contain this path.
        what: The kind of file, for messages.

    Raises:
        InvalidPlaybook: the file cannot be read, is larger than 1 MiB, or is not UTF-8 text or YAML within the limits.
    """
    return parse_nodes(read_file(path, what), str(path), what)


def parse_nodes(text: str, name: str, what: str = "playbook") -> Node | None:
    """Return the content of YAML text; ``name`` is the file in positions. Raises as `read_nodes` does."""
    unprintable = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if unprintable:
        raise InvalidPlaybook(
            f"there is an unprintable character (U+{ord(unprintable.group()):04X})",
            cure='write it as an escape in double quotes, such as "\\e"',
            position=_position_of(text, unprintable.start(), name),
        )
    # libyaml compares each %TAG with all earlier ones before the first event: refuse it before it costs anything.
    directive = re.search(r"^%(?!YAML)", text, re.MULTILINE)
    if directive and not text[: directive.start()].strip():
        raise InvalidPlaybook(
            "directives (a line that begins with %) are not supported",
            cure="remove the line",
            position=_position_of(text, directive.start(), name),
        )
    # The loader in C is some fifteen times faster; PyYAML can be built without it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Composer(yaml.parse(text, Loader=loader), name, what, text).document()
    except yaml.MarkedYAMLError as error:
        _refuse_invisible_in_line(error, text, name)
        raise _explained(error, text, name) from None
    except yaml.YAMLError as error:
        raise InvalidPlaybook(f"{name} is not YAML", cause=str(error)) from None


def read_file_bytes(path: Path, what: str) -> bytes:
    """Return the bytes of a regular file within the limit; raises as `read_nodes` does."""
    try:
        # O_NONBLOCK, to refuse a named pipe instead of waiting for it.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not an ordinary file"
                raise InvalidPlaybook(f"{path} is {kind}", cure=f"name the {what} file itself")
            if status.st_size <= MAX_BYTES:
                data = stream.read(MAX_BYTES + 1)
                if len(data) <= MAX_BYTES:
                    return data
            raise InvalidPlaybook(
                f"{path} is larger than {MAX_BYTES // 1024} KiB",
                cause=f"a {what} is never that large; is it another file?",
            )
    except FileNotFoundError:
        raise MissingFile(f"the {what} {path} does not exist{_similar(path)}", cure="correct the path") from None
    except IsADirectoryError:
        raise InvalidPlaybook(f"{path} is a folder", cure=f"name the {what} file itself") from None
    except PermissionError:
        raise InvalidPlaybook(
            f"the {what} {path} cannot be read", cause="permission denied", cure="check its owner: ls -l"
        ) from None
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidPlaybook(f"the {what} {str(path)!r} cannot be read", cause=str(reason)) from None


def _similar(path: Path) -> str:
    try:
        return nearest(path.name, [name for name in os.listdir(path.parent) if name.endswith((".yml", ".yaml"))])
    except OSError:
        return ""


class Files:
    """Reads the files of a playbook: itself, included ones, and files of variables.

    Args:
        kept: Contents by absolute path that replace the files on the disk.
        judge: Called before a file is read from the disk; raises `InvalidPlaybook` for one not to obey.

    Attributes:
        content: The bytes that were read, by absolute path.
    """

    def __init__(
        self, kept: Mapping[Path, bytes] | None = None, judge: Callable[[Path], None] = lambda path: None
    ) -> None:
        self._kept = kept or {}
        self.judge = judge
        self.content: dict[Path, bytes] = {}

    def is_kept(self, path: Path) -> bool:
        """Whether ``kept`` replaces this file."""
        return Path(os.path.abspath(path)) in self._kept

    def nodes(self, path: Path, what: str = "playbook") -> Node | None:
        """Return the content of a YAML file, or None if it is empty; raises as `read_nodes` does."""
        return parse_nodes(decode(self.data(path, what), str(path), what), str(path), what)

    def data(self, path: Path, what: str) -> bytes:
        """Return the bytes of a file; raises as `read_nodes` does."""
        absolute = Path(os.path.abspath(path))
        data = self._kept.get(absolute)
        if data is None:
            self.judge(path)
            data = read_file_bytes(path, what)
        self.content[absolute] = data
        return data

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder; of kept contents only these.

        Raises:
            InvalidPlaybook: it is missing, is not a folder, or cannot be read.

        """
        absolute = Path(os.path.abspath(folder))
        kept = [path.name for path in self._kept if path.parent == absolute]
        if kept:
            return sorted(kept)
        self.judge(folder)
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            cure = "correct the path; a relative one begins at the playbook"
            raise InvalidPlaybook(f"the folder {folder} does not exist", cure=cure) from None
        except NotADirectoryError:
            raise InvalidPlaybook(f"{folder} is not a folder", cure=f"name its folder: {folder.parent}") from None
        except OSError as error:
            raise InvalidPlaybook(f"the folder {folder} cannot be read", cause=error.strerror or str(error)) from None


def decode(data: bytes, name: str, what: str) -> str:
    """Decode the bytes of the file ``name``; raises as `read_nodes` does."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InvalidPlaybook(f"{name} is UTF-16 text", cure="save it as UTF-8")
    if b"\0" in data:
        raise InvalidPlaybook(f"{name} is a binary file", cause="it has NUL bytes", cure=f"name the {what} file itself")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", errors="replace")
        raise InvalidPlaybook(
            f"byte 0x{data[error.start]:02x} is not UTF-8",
            cure="save the file as UTF-8",
            position=_position_of(before, len(before), name),
        ) from None


def _position_of(text: str, index: int, name: str) -> Position:
    start = text.rfind("\n", 0, index) + 1
    return Position(name, text.count("\n", 0, index) + 1, index - start + 1)


class _Composer:
    """Makes nodes from events, within the limits."""

    def __init__(self, events: Iterator[Any], name: str, what: str, text: str) -> None:
        self.events = events
        self.text = text
        self.has_invisible = invisible.ANY.search(text) is not None
        self.name = name
        self.what = what
        self.count = 0
        self.anchors: dict[str, Node | None] = {}  # None while the node is being made
        self.resolver = yaml.resolver.Resolver()
        self.constructor = yaml.constructor.SafeConstructor()

    def document(self) -> Node | None:
        next(self.events)  # the start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        node = self.node(next(self.events), 0)
        next(self.events)  # the end of the document
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise InvalidPlaybook(
                "a second document begins here",
                cure=f"a {self.what} is one document: remove the line with ---",
                position=self.position(after),
            )
        return node

    def position(self, event: Any) -> Position:
        return Position(self.name, event.start_mark.line + 1, event.start_mark.column + 1)

    def node(self, event: Any, depth: int) -> Node:
        position = self.position(event)
        self.count += 1
        if self.count > MAX_NODES:
            raise InvalidPlaybook(f"there are more than {MAX_NODES} values", position=position)
        if depth > MAX_DEPTH:
            raise self.too_deep(position)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(str(event.anchor), position)
        if event.anchor:
            self.anchors[event.anchor] = None
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self.scalar(event, position)
        elif isinstance(event, yaml.SequenceStartEvent):
            self.refuse_tag(event.tag, ("seq",), position)
            items = tuple(self.node(child, depth + 1) for child in self.until(yaml.SequenceEndEvent))
            node = ListNode(position, items, *self.measured(items, position))
        else:
            self.refuse_tag(event.tag, ("map",), position)
            node = self.mapping(position, depth)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def until(self, end: type) -> Iterator[Any]:
        for event in self.events:
            if isinstance(event, end):
                return
            yield event

    def alias(self, anchor: str, position: Position) -> Node:
        shown = anchor[:_SHOWN]
        if anchor not in self.anchors:
            raise InvalidPlaybook(
                f"the anchor '&{shown}' is not defined above{nearest(shown, self.anchors)}",
                cure=f'a value that begins with * refers to one; write it in quotes if it does not: "*{shown}"',
                position=position,
            )
        node = self.anchors[anchor]
        if node is None:
            raise InvalidPlaybook(f"the alias '*{shown}' is inside the value that it refers to", position=position)
        return node

    def measured(self, children: tuple[Node, ...], position: Position) -> tuple[int, int]:
        """Return the weight and height of a node with these children."""
        weight = 1 + sum(child.weight for child in children)
        height = 1 + max((child.height for child in children), default=0)
        if weight > MAX_NODES:
            raise InvalidPlaybook(
                f"the aliases in here unfold to more than {MAX_NODES} values",
                cause="a few lines of aliases of aliases can fill any memory",
                position=position,
            )
        if height > MAX_DEPTH:
            raise self.too_deep(position)
        return weight, height

    @staticmethod
    def too_deep(position: Position) -> InvalidPlaybook:
        return InvalidPlaybook(f"lists and mappings are nested more than {MAX_DEPTH} deep", position=position)

    def mapping(self, position: Position, depth: int) -> MapNode:
        pairs: dict[Any, tuple[Scalar, Node]] = {}
        merged: list[MapNode] = []
        for event in self.until(yaml.MappingEndEvent):
            self.refuse_invisible(event, name=True)
            key = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            if not isinstance(key, Scalar):
                raise self.invalid_key(key)
            if (isinstance(key.value, WrittenNumber) and key.value.loses) or _is_word(key):
                key = msgspec.structs.replace(key, value=key.text)
            if key.plain and key.text == "<<":
                merged += self.merged(value)
                continue
            if key.value in pairs:
                first = pairs[key.value][0].position
                raise InvalidPlaybook(
                    f"the key '{key.text[:_SHOWN]}' is a duplicate",
                    cause=f"the same mapping has it in line {first.line} as well",
                    position=key.position,
                )
            pairs[key.value] = key, value
        for source in merged:
            for key, value in source.pairs:
                pairs.setdefault(key.value, (key, value))
        children = tuple(pairs.values())
        return MapNode(position, children, *self.measured(tuple(value for _, value in children), position))

    @staticmethod
    def merged(value: Node) -> list[MapNode]:
        """Return the mappings of a merge key; the first wins (https://yaml.org/type/merge.html)."""
        sources = value.items if isinstance(value, ListNode) else (value,)
        mappings = [source for source in sources if isinstance(source, MapNode)]
        if len(mappings) < len(sources):
            raise InvalidPlaybook("'<<' takes a mapping or a list of mappings", position=value.position)
        return mappings

    @staticmethod
    def invalid_key(key: Node) -> InvalidPlaybook:
        if isinstance(key, MapNode):
            return InvalidPlaybook(
                "a mapping cannot be a key",
                cause="a value that begins with { is a mapping",
                cure='write a template in quotes: "{{ ... }}"',
                position=key.position,
            )
        return InvalidPlaybook("a list cannot be a key", position=key.position)

    def refuse_tag(self, tag: str | None, allowed: tuple[str, ...], position: Position) -> None:
        if tag in (None, "!") or tag in {_CORE + name for name in allowed}:
            return
        shown = tag.replace(_CORE, "!!")[:_SHOWN] if tag else ""
        cure = "remove it"
        if "vault" in shown:
            cure = "hand secrets over in an environment variable: \"{{ lookup('env', 'NAME') }}\""
        raise InvalidPlaybook(f"the tag '{shown}' is not supported here", cure=cure, position=position)

    def refuse_invisible(self, event: Any, *, name: bool = False) -> None:
        """Refuse an invisible character; as an escape, or in text of several lines, it is allowed."""
        if not self.has_invisible or not isinstance(event, yaml.ScalarEvent) or event.style in ("|", ">"):
            return
        if event.start_mark is None or event.end_mark is None:
            return
        start = event.start_mark.index
        written = self.text[start : event.end_mark.index]
        place = invisible.find(written, name=name, plain=not event.style)
        if place is not None:
            raise _invisible(self.text, start + place, self.name)

    def scalar(self, event: Any, position: Position) -> Scalar:
        self.refuse_tag(event.tag, ("str", "null", "bool", "int", "float"), position)
        self.refuse_invisible(event)
        text: str = event.value
        unquoted = not event.style and event.tag is None
        weight = 1 + len(text) // 1000
        tag = event.tag
        if tag in (None, "!"):
            tag = self.resolver.resolve(yaml.ScalarNode, text, event.implicit)  # type: ignore[no-untyped-call]
        kind = (tag or "").replace(_CORE, "")
        if kind not in _TYPES:
            return Scalar(position, text, text, unquoted, weight)
        try:
            value = self.typed(tag, text)
        except (ValueError, ArithmeticError, LookupError, yaml.YAMLError):
            words = {"int": "number", "float": "number", "timestamp": "date"}.get(kind, kind)
            raise InvalidPlaybook(
                f"'{text[:_SHOWN]}' is not a {words} that YAML can read",
                cure=f'write it in quotes if it is text: "{text[:_SHOWN]}"',
                position=position,
            ) from None
        value = text if kind == "timestamp" else written(value, text, position)
        return Scalar(position, value, text, unquoted, weight)

    def typed(self, tag: str, text: str) -> Any:
        if len(text) > MAX_DIGITS:
            raise ValueError(text)
        return self.constructor.construct_object(yaml.ScalarNode(tag, text))


def _is_word(key: Scalar) -> bool:
    """Whether only YAML 1.1 reads a key as a boolean: `NO` and `on` can be names of variables."""
    return isinstance(key.value, bool) and key.plain and key.text.lower() not in ("true", "false")


def _invisible(text: str, index: int, name: str) -> InvalidPlaybook:
    character = text[index]
    escape = f"\\u{ord(character):04x}" if ord(character) < 1 << 16 else f"\\U{ord(character):08x}"
    return InvalidPlaybook(
        f"invisible character: {invisible.named(character)}",
        cause="text with it looks like other text; it often comes from a copied web page or chat",
        cure=f'delete it, or type an ordinary space in its place; if you mean it, write "{escape}" in double quotes',
        position=_position_of(text, index, name),
    )


def _refuse_invisible_in_line(error: yaml.MarkedYAMLError, text: str, name: str) -> None:
    """Raise an error that names an invisible character, if one makes a line invalid YAML."""
    mark = error.problem_mark or error.context_mark
    start = sum(map(len, text.splitlines(keepends=True)[: mark.line])) if mark else 0
    place = invisible.find(text[start:].partition("\n")[0]) if mark else None
    if place is not None:
        raise _invisible(text, start + place, name)


# Errors of libyaml and their meanings to the author of the line: (part of the error, message, cure).
_SYNTAX = (
    (
        "mapping values are not allowed",
        "a ':' is not possible here",
        "write a value that has ': ' in it in quotes; look at the indentation here and in the line above",
    ),
    ("unknown escape character", "there is an unknown escape after a backslash", "use single quotes: '...'"),
    ("found undefined tag handle", "there is an unknown tag", "write a value that begins with ! in quotes"),
    ("could not find expected ':'", "a key has no ':' after it", "write KEY: VALUE, each pair in a line of its own"),
    (
        "did not find expected alphabetic or numeric character",
        "a value that begins with * or & must be in quotes",
        'write it in quotes, such as "*"',
    ),
    ("did not find expected ',' or ']'", "a list that begins with [ is not closed", "close it with ]"),
    ("did not find expected ',' or '}'", "a mapping that begins with { is not closed", "close it with }"),
    ("unexpected end of stream", "a quote is opened and never closed", "close it, or write it twice if it is text"),
    (
        "did not find expected",
        "the line does not fit in with those above it",
        "indent the entries of one list or mapping alike, with spaces, and close every quote and bracket",
    ),
)


_THINGS = {"mapping": "mapping", "sequence": "list", "collection": "list", "quoted": "quoted text", "key": "key"}


def _explained(error: yaml.MarkedYAMLError, text: str, name: str) -> InvalidPlaybook:
    """Explain a syntax error of PyYAML."""
    problem = error.problem or "it is not YAML"
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    lines = text.split("\n")
    here = lines[min(line, len(lines) - 1)]
    position = Position(name, line + 1, (mark.column if mark else 0) + 1)
    indentation = here[: len(here) - len(here.lstrip())]
    character = here[position.column - 1 : position.column]
    if "\t" in indentation or character == "\t":
        column = (indentation.index("\t") if "\t" in indentation else position.column - 1) + 1
        return InvalidPlaybook(
            "there is a tab",
            cause="YAML is indented with spaces",
            cure="replace it",
            position=Position(name, line + 1, column),
        )
    if "cannot start any token" in problem:
        return InvalidPlaybook(
            f"a value cannot begin with '{character}'", cure=f'write it in quotes: "{character}..."', position=position
        )
    message, cure = problem, "look at this line and the one above"
    for part, explanation, remedy in _SYNTAX:
        if part in problem:
            message, cure = explanation, remedy
            break
    opened = error.context_mark
    cause = ""
    if opened and opened.line != line:
        thing = next((word for part, word in _THINGS.items() if part in (error.context or "")), "value")
        cause = f"the {thing} begins in line {opened.line + 1}"
    if re.search(r"[:-] *\{\{", here):
        cure = 'write a value that begins with a template in quotes: "{{ ... }}"'
    return InvalidPlaybook(message, cause=cause, cure=cure, position=position)

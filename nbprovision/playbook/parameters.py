"""Makes a task from the mapping under its key: names, types, values, each fault with its position.

The description of a field may mark it as a path. Relative paths begin at the playbook's folder:

- ``parameter("...", extra={"path": True})``: every value (or entry of a list) is a path;
- ``extra={"path": "if-slash"}``: values with a slash are (``env: ./x`` beside ``env: fraud``);
- ``extra={"path": "if-dot"}``: values that begin with ``./`` or ``../`` are (``[./chan, conda-forge/label/x]``);
- ``extra={"path": "if-no-url"}``: values that are not a URL are;
- ``extra={"path": anchored}``: the function ``anchored(value, folder)`` makes the paths in a value absolute;
- ``extra={"path": True, "but_with": ("state", "link")}``: the value is a path, unless ``state`` is ``link``.

Absolute paths and those that begin with ``~/`` stay as they are, and so do URLs with ``if-dot``, ``if-no-url`` and a
function. The other marks refuse URLs. All refuse an empty text and the home of another user.

If a type takes text, a number becomes its text in the file, even if the type takes numbers too. In a field with
``extra={"numbers": True}`` it does so only if the type takes no numbers; a field of any values with this mark takes the
numbers of JSON as such, and refuses YAML's other notations (``010``, ``12:30``).

``extra={"path": True, "document": "requirements"}`` marks the path of a document, and refuses documents of other kinds
(several kinds have a space between);
`other_documents` lists the kinds.

``extra={"path": True, "renders": "content"}`` marks the path of a template file: the parameter ``content`` becomes the
file's text with the playbook's variables.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import msgspec

from nbprovision.model.errors import (
    FETCH_FIRST,
    URL_FOR_PATH,
    InvalidPlaybook,
    ParameterError,
    Position,
    ProvisionError,
    UnknownParameter,
    nearest,
)
from nbprovision.model.task import HOW_TO_FILL, Task, empty_secret, unfit
from nbprovision.playbook import keywords
from nbprovision.playbook.faults import Faults
from nbprovision.playbook.template import NotYetKnown
from nbprovision.playbook.template_names import OMIT, has_template
from nbprovision.playbook.written import WrittenNumber, text_of
from nbprovision.playbook.yaml_nodes import ListNode, MapNode, Node, Scalar
from nbprovision.system import secrets

_COMMON = frozenset(Task.__struct_fields__)  # every task has them; listed last
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORDS_FOR_BOOLEANS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


class Call(msgspec.Struct, frozen=True):
    """A task's key and its parameters."""

    kind: str
    position: Position
    parameters: MapNode


def names(task: type[Task[Any]]) -> frozenset[str]:
    """Return the names of a task's parameters in a playbook."""
    return frozenset(_fields(task))


def texts(task: Task[Any]) -> list[str]:
    """Return the texts in a task's parameters, at any depth, without those that are paths."""
    fields = _fields(type(task)).values()
    return [text for field in fields if _marked(field, "path") is None for text in _texts(getattr(task, field.name))]


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [text for part in parts for text in _texts(part)]


def check_names(call: Call, task: type[Task[Any]], faults: Faults, beside: Collection[Any] = ()) -> None:
    """Note every unknown parameter, and every required one that is missing and not in ``beside``."""
    fields = _fields(task)
    given = [key for key, _ in call.parameters.pairs]
    for key in given:
        if key.value in fields:
            continue
        name = key.text[:40]
        if key.value in keywords.HANDLER:
            message = f"'{name}' is a keyword of the task, not a parameter of {call.kind}"
            cure = f"write it in the column of {call.kind}: {call.position.column}"
        else:
            habit = task.habits.get(name, "")
            near = "" if habit else nearest(name, fields)
            message = f"{call.kind} has no parameter '{name}'{near}"
            cure = habit or ("" if near else f"it has: {', '.join(sorted(fields, key=_COMMON.__contains__))}")
        faults.add(UnknownParameter(message, cure=cure, position=key.position))
    names = {*beside, *(key.value for key in given)}
    for name, field in fields.items():
        if field.required and name not in names:
            description = next((meta.description for meta in _meta(field.type) if meta.description), "")
            cure = f"{name}: {description}" if description else ""
            faults.add(InvalidPlaybook(f"{call.kind} needs '{name}'", cure=cure, position=call.position))


def bind(
    call: Call,
    task: type[Task[Any]],
    *,
    render: Callable[[Node], Any],
    render_file: Callable[[Path], str],
    folder: Path | None,
    faults: Faults,
    keep_numbers: bool = False,
) -> Task[Any] | None:
    """Return the task with its parameters, or None if they are wrong.

    Args:
        call: The task's key and parameters.
        task: The kind of task.
        render: Evaluates the templates in a node; raises `InvalidPlaybook`.
        render_file: Returns the text of a template file with the variables that ``render`` knows; raises
            `InvalidPlaybook`.
        folder: The folder where relative paths begin; None refuses them.
        faults: Collects the faults.
        keep_numbers: Refuse a number in the place of a text: its notation is lost, as that of ``0644`` is.

    Raises:
        NotYetKnown: a value depends on the result of another task; the other values were checked.

    """
    fields = _fields(task)
    before = len(faults)
    late: NotYetKnown | None = None
    values: dict[str, Any] = {}
    for key, node in call.parameters.pairs:
        field = fields.get(key.value)
        if field is None:
            continue  # check_names has reported it
        with faults.gathered():
            try:
                data = _without_omitted(render(node))
            except NotYetKnown as unknown:
                late = unknown
                continue
            if data != OMIT:
                values[field.name] = _value(call.kind, field, node, data, keep_numbers=keep_numbers)
    if late is not None:
        raise late
    for field in fields.values():
        if field.name in values:
            with faults.gathered():
                try:
                    values[field.name] = _located(call, values, field, folder)
                    _render_into(values, field, call, render_file)
                except NotYetKnown as unknown:
                    late = unknown
    if late is not None:
        raise late
    if len(faults) > before:
        return None
    missing = [name for name, field in fields.items() if field.required and field.name not in values]
    for name in missing:
        if call.parameters.get(name):  # check_names has reported missing ones
            faults.add(InvalidPlaybook(f"{call.kind} needs '{name}', but it is `omit`", position=call.position))
    if missing:
        return None
    try:
        return task(**values)
    except ParameterError as error:
        node_at_fault = call.parameters.get(error.key)
        position = node_at_fault.position if node_at_fault else call.position
        message = f"{call.kind}: {error.message}"
        faults.add(InvalidPlaybook(message, cause=error.cause, cure=error.cure, position=position))
    except ProvisionError as error:
        faults.add(error.at(call.position))
    except (TypeError, ValueError) as error:  # __post_init__ of a msgspec record raises these
        faults.add(InvalidPlaybook(f"{call.kind}: {error}", position=call.position))
    return None


def located(kind: type[Task[Any]], values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the parameters of a task with absolute paths.

    Args:
        kind: The kind of task.
        values: The parameters as a playbook names them.
        folder: The folder where relative paths begin.

    Raises:
        InvalidPlaybook: a path cannot be one.

    """
    call = Call(kind.kind(), Position("", 1, 1), MapNode(Position("", 1, 1), ()))
    fields = _fields(kind)
    by_attribute = {fields[name].name: value for name, value in values.items()}
    return {name: _located(call, by_attribute, fields[name], folder) for name in values}


@functools.cache  # msgspec evaluates the annotations each time
def _fields(task: type[Task[Any]]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(task)}


def _meta(annotation: Any) -> Iterable[msgspec.Meta]:
    if get_origin(annotation) is Annotated:
        return [entry for entry in annotation.__metadata__ if isinstance(entry, msgspec.Meta)]
    return []


def _without_omitted(data: Any) -> Any:
    """Return the data without entries that are ``omit``."""
    if isinstance(data, list):
        return [_without_omitted(entry) for entry in data if entry != OMIT]
    if isinstance(data, dict):
        return {key: _without_omitted(entry) for key, entry in data.items() if entry != OMIT}
    return data


def _value(kind: str, field: msgspec.structs.FieldInfo, node: Node, data: Any, *, keep_numbers: bool) -> Any:
    """Return the value of a parameter in its type."""
    name = field.encode_name
    for problem, cure in ((unfit(data), "remove it from the value"), (empty_secret(data), HOW_TO_FILL)):
        if problem:
            raise InvalidPlaybook(f"{kind}: '{name}' holds {problem}", cure=cure, position=node.position)
    if not keep_numbers:
        data = _as_wanted(data, msgspec.inspect.type_info(field.type), text=not _marked(field, "numbers"))
    try:
        return msgspec.convert(data, field.type)
    except (msgspec.ValidationError, OverflowError) as error:
        complaint = str(error)
    # Text from templates and -e may represent numbers and booleans.
    for attempt, strict in ((_as_written(node, data), True), (_booleans(data), False)):
        with contextlib.suppress(msgspec.ValidationError, OverflowError):
            return msgspec.convert(attempt, field.type, strict=strict)
    raise _misfit(kind, name, field.type, node, data, complaint)


def _as_wanted(data: Any, shape: Any, *, text: bool) -> Any:
    """Convert each number in the data to the wanted form: the text in the file, or the number.

    Args:
        data: The value in the playbook, with its templates evaluated.
        shape: The type of the parameter.
        text: Prefer text if the type takes both.

    Raises:
        FormLost: text is needed and lost, or the value could be either.

    """
    inspect = msgspec.inspect
    types = _alternatives(shape)
    if isinstance(data, list):
        entry = next((part.item_type for part in types if isinstance(part, inspect.ListType)), inspect.AnyType())
        return [_as_wanted(item, entry, text=text) for item in data]
    if isinstance(data, dict):
        fields = {
            field.encode_name: field.type
            for part in types
            if isinstance(part, inspect.StructType)
            for field in part.fields
        }
        other = next((part.value_type for part in types if isinstance(part, inspect.DictType)), inspect.AnyType())
        return {_key(key): _as_wanted(item, fields.get(key, other), text=text) for key, item in data.items()}
    if isinstance(data, bool) or not isinstance(data, int | float):
        return data
    numbers = (inspect.FloatType,) if isinstance(data, float) else (inspect.IntType, inspect.FloatType)
    takes_text = any(isinstance(part, inspect.StrType) for part in types)
    takes_number = any(isinstance(part, numbers) for part in types)
    if takes_text and (text or not takes_number):
        return text_of(data) if isinstance(data, int | WrittenNumber) else data
    if not isinstance(data, WrittenNumber):
        return data
    is_any = any(isinstance(part, inspect.AnyType) for part in types) and (
        text or not _JSON_NUMBER.fullmatch(data.text)
    )
    if data.loses and (takes_text or is_any):
        raise data.lost()
    return data.number()


def _alternatives(shape: Any) -> list[Any]:
    """Return the types of a union, without their metadata."""
    if isinstance(shape, msgspec.inspect.Metadata):
        return _alternatives(shape.type)
    if isinstance(shape, msgspec.inspect.UnionType):
        return [alternative for part in shape.types for alternative in _alternatives(part)]
    return [shape]


def _key(key: Any) -> Any:
    return str(key) if isinstance(key, int | float) and not isinstance(key, bool) else key


def _as_written(node: Node, data: Any) -> Any:
    """Convert the whole numbers from templates to text; a fraction stays, since 3.10 would have become 3.1."""
    if isinstance(node, ListNode) and isinstance(data, list) and len(data) == len(node.items):
        return [_as_written(item, entry) for item, entry in zip(node.items, data, strict=True)]
    if isinstance(node, MapNode) and isinstance(data, dict) and len(data) == len(node.pairs):
        return {key: _as_written(node.get(key) or node, entry) for key, entry in data.items()}
    if isinstance(node, Scalar) and isinstance(node.value, str) and has_template(node.value):
        return _whole_numbers_as_text(data)
    return data


def _whole_numbers_as_text(data: Any) -> Any:
    if isinstance(data, int) and not isinstance(data, bool):
        return str(data)
    if isinstance(data, list):
        return [_whole_numbers_as_text(entry) for entry in data]
    if isinstance(data, dict):
        return {key: _whole_numbers_as_text(entry) for key, entry in data.items()}
    return data


def _booleans(data: Any) -> Any:
    return _WORDS_FOR_BOOLEANS.get(data.strip().lower(), data.strip()) if isinstance(data, str) else data


# The words of other tools for states and engines.
_HABITS = {
    **dict.fromkeys(("installed", "install", "exists", "created", "started", "enabled", "true"), "present"),
    **dict.fromkeys(("removed", "remove", "uninstalled", "deleted", "disabled", "false"), "absent"),
    **dict.fromkeys(("newest", "upgraded", "updated", "upgrade", "update"), "latest"),
    "mamba": "conda",
}


def _misfit(kind: str, name: str, type_: Any, node: Node, data: Any, complaint: str) -> InvalidPlaybook:
    """Describe what a parameter takes and what it got; ``complaint`` is msgspec's message."""
    shape = msgspec.inspect.type_info(type_)
    node, data, where = _at_fault(node, data, type_, complaint)
    literals = (part for part in _alternatives(shape) if isinstance(part, msgspec.inspect.LiteralType))
    choices = [str(value) for literal in literals for value in literal.values]
    if choices and isinstance(data, str) and not where:
        habit = _HABITS.get(data.strip().lower(), "")
        near, cure = ("", f"write {habit}") if habit in choices else (nearest(data, choices), "")
        message = f"{kind}: '{name}' is one of {', '.join(choices)}, not '{data[:40]}'{near}"
        return InvalidPlaybook(message, cure=cure, position=node.position)
    examples = _examples(type_) if "matching regex" in complaint and not where else []
    if examples:
        message = f"{kind}: '{name}' cannot be '{str(data)[:40]}'"
        return InvalidPlaybook(message, cure=f"write it like {', '.join(examples)}", position=node.position)
    if ", got `" not in complaint and "enum value" not in complaint:
        reason = complaint.partition(" - at `$")[0].replace("Expected ", "must be ")
        for word, plain_word in (("`int`", "a whole number"), ("`str`", "a string"), ("`array`", "a list")):
            reason = reason.replace(word, plain_word)
        return InvalidPlaybook(f"{kind}: '{name}'{where} {reason[:1].lower()}{reason[1:]}", position=node.position)
    takes = words(shape)
    actual = _described(data)
    message = f"{kind}: '{name}' takes {takes}, {f'and{where} is {actual}' if where else f'not {actual}'}"
    return InvalidPlaybook(message, cure=_cure(node, data, takes), position=node.position)


def _examples(type_: Any) -> list[str]:
    """Return the examples of a text that has to have a certain form."""
    metas = getattr(type_, "__metadata__", ())
    own = [str(example) for meta in metas if isinstance(meta, msgspec.Meta) for example in meta.examples or ()]
    return own or [example for part in get_args(type_) for example in _examples(part)]


def _cure(node: Node, data: Any, takes: str) -> str:
    if data is None:
        return "give it a value, or remove it"
    if "string" not in takes or isinstance(data, str | list | dict) or not isinstance(node, Scalar):
        return ""
    if node.plain and not isinstance(node.value, str):
        return f'write it in quotes: "{node.text[:40]}"'
    return "write the value in quotes where it is defined"


def _at_fault(node: Node, data: Any, type_: Any, complaint: str) -> tuple[Node, Any, str]:
    """Return the node and the data that msgspec's path names, and a description of their place."""
    where = ""
    above: list[str | None] = []  # keys on the way there, None for a list
    path = complaint.rpartition(" - at `$")[2].rstrip("`") if " - at `$" in complaint else ""
    for step in re.findall(r"\.[^.\[]+|\[\d+\]|\[\.\.\.\]", path):
        if step.startswith("[") and step != "[...]":
            index = int(step[1:-1])
            above.append(None)
            data, where = data[index], f"{where} entry {index + 1}"
            node = node.items[index] if isinstance(node, ListNode) and index < len(node.items) else node
        else:
            key = step[1:]
            if step == "[...]":  # some key of the mapping
                key = next(name for name in data if not _fits(_within(above, {name: data[name]}), type_))
            above.append(key)
            data, where = data[key], f"{where} '{key}'"
            node = (node.get(key) or node) if isinstance(node, MapNode) else node
    return node, data, where


def _within(above: Iterable[str | None], data: Any) -> Any:
    for key in reversed(list(above)):
        data = [data] if key is None else {key: data}
    return data


def _fits(data: Any, type_: Any) -> bool:
    try:
        msgspec.convert(data, type_)
    except (msgspec.ValidationError, OverflowError):
        return False
    return True


# The words for a value of each type, and for several.
_WORDS: dict[type, tuple[str, str]] = {
    msgspec.inspect.StrType: ("a string", "strings"),
    msgspec.inspect.BoolType: ("true or false", "values"),
    msgspec.inspect.IntType: ("a whole number", "whole numbers"),
    msgspec.inspect.FloatType: ("a number", "numbers"),
    msgspec.inspect.DictType: ("a mapping", "mappings"),
    msgspec.inspect.StructType: ("a mapping", "mappings"),
}


def words(shape: Any) -> str:
    """Describe the values of a type in words: ``a string or a list of strings``."""
    parts = _alternatives(shape)
    return " or ".join(_word(part) for part in parts if not isinstance(part, msgspec.inspect.NoneType))


def _word(shape: Any) -> str:
    inspect = msgspec.inspect
    if isinstance(shape, inspect.ListType | inspect.VarTupleType):
        return f"a list of {_plural(shape.item_type)}"
    if isinstance(shape, inspect.DictType):
        return f"a mapping of {_plural(shape.key_type)} to {_plural(shape.value_type)}"
    if isinstance(shape, inspect.LiteralType):
        return f"one of {', '.join(map(str, shape.values))}"
    return _WORDS.get(type(shape), ("another value", ""))[0]


def _plural(shape: Any) -> str:
    return " or ".join(_WORDS.get(type(part), ("", "values"))[1] for part in _alternatives(shape))


def _described(data: Any) -> str:
    if data is None:
        return "empty"
    if isinstance(data, bool):
        return str(data).lower()
    kinds = ((str, "text"), (int | float, "a number"), (list, "a list"), (dict, "a mapping"))
    return next((word for kind, word in kinds if isinstance(data, kind)), "a date")


def _render_into(
    values: dict[str, Any], field: msgspec.structs.FieldInfo, call: Call, render_file: Callable[[Path], str]
) -> None:
    """If the field names a template file, set the parameter that gets the file's text."""
    into = _marked(field, "renders")
    if into is None or values[field.name] is None:
        return
    node = call.parameters.get(field.encode_name)
    position = node.position if node else call.position
    if into in values:
        message = f"{call.kind}: '{field.encode_name}' and '{into}' cannot be given together"
        raise InvalidPlaybook(message, cure="give one of them", position=position)
    try:
        values[into] = render_file(Path(values[field.name]).expanduser())
    except InvalidPlaybook as fault:
        fault.at(position)
        raise


def _marked(field: msgspec.structs.FieldInfo, mark: str) -> Any:
    return next((meta.extra[mark] for meta in _meta(field.type) if meta.extra and mark in meta.extra), None)


def _located(call: Call, values: Mapping[str, Any], field: msgspec.structs.FieldInfo, folder: Path | None) -> Any:
    """Return the value of a field, with absolute paths if it is marked as a path.

    Raises:
        InvalidPlaybook: an entry cannot be a path, is a relative one without a folder to begin at, or names a document
            of another kind.

    """
    value, rule, unless = values[field.name], _marked(field, "path"), _marked(field, "but_with")
    if rule is None or (unless is not None and values.get(unless[0]) == unless[1]):
        return value
    node = call.parameters.get(field.encode_name)
    located = []
    for number, entry in enumerate(value if isinstance(value, list) else [value]):
        if not isinstance(entry, str):
            located.append(entry)
            continue
        try:
            _refuse_place(call, field, rule, entry)
            located.append(_path(entry, rule, folder or Path("/")))
            if folder is None:
                _refuse_relative(call, field, entry, located[-1])
            _refuse_other_document(call, field, located[-1], entry)
        except InvalidPlaybook as fault:
            at = node.items[number] if isinstance(node, ListNode) and number < len(node.items) else node
            fault.at(at.position if at is not None else call.position)
            raise
    return located if isinstance(value, list) else located[0]


def _refuse_place(call: Call, field: msgspec.structs.FieldInfo, rule: Any, text: str) -> None:
    """Refuse a text that cannot be a path."""
    if not text.strip():
        cause, cure = "it is empty", "name a file or folder, or leave the parameter out"
    elif rule not in ("if-dot", "if-no-url") and not callable(rule) and _URL.match(text):
        cause, cure = URL_FOR_PATH, f"write {text[7:]}" if text.startswith("file:///") else FETCH_FIRST
    elif re.match(r"~[^/]+/|~[^/]+$", text):
        cause, cure = "it would begin at the home of another user", "begin it with ~/ or /"
    else:
        return
    message = f"{call.kind}: '{field.encode_name}' cannot be '{secrets.mask(text)[:80]}'"
    raise InvalidPlaybook(message, cause=cause, cure=cure)


def _refuse_relative(call: Call, field: msgspec.structs.FieldInfo, text: str, path: str) -> None:
    """Refuse a path that is another one from another folder."""
    if path != text:
        message = f"{call.kind}: '{field.encode_name}' has the relative path '{secrets.mask(text)[:80]}'"
        raise InvalidPlaybook(message, cause="it would begin at an unknown folder", cure="begin it with / or ~/")


def _refuse_other_document(call: Call, field: msgspec.structs.FieldInfo, path: str, written: str) -> None:
    """Refuse a document of another tool, and name the task that uses it; faults in the right one are found later."""
    kind = _marked(field, "document")
    if kind is None:
        return
    from nbprovision.playbook import other_documents  # few tasks have such a parameter

    document = other_documents.recognised(Path(os.path.expanduser(path)), written)
    kinds = kind.split()
    if document is not None and document.kind not in kinds:
        wanted = " or ".join(other_documents.WANTED[each] for each in kinds)
        message = f"{call.kind}: '{field.encode_name}' takes {wanted}, and {written} is {document.what}"
        raise InvalidPlaybook(message, cure=document.as_task)


def _path(value: str, rule: Any, folder: Path) -> Any:
    if not value or value.startswith(("~", "/")) or _URL.match(value):
        return value
    if callable(rule):
        return rule(value, folder)
    is_path = {
        "if-slash": "/" in value or value in (".", ".."),
        "if-dot": value.startswith(("./", "../")) or value in (".", ".."),
    }.get(rule, True)
    return os.path.normpath(folder / value) if is_path else value

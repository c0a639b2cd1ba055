"""The JSON Schema of a playbook, for completion and checks in an editor.

It is draft 7 (https://json-schema.org/draft-07), which editors' YAML language servers support. It accepts the same
playbooks as the reader, except that a schema cannot check values of templates, or parameters that exclude each other.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import yaml

from nbprovision.model.task import Task
from nbprovision.playbook import keywords
from nbprovision.playbook.own_tasks import FORM, KEYWORD
from nbprovision.reference.definition import define

# The public address of the repository: pyproject.toml has it too, and a test compares them.
ADDRESS = "https://example.com/team/nbprovision"

Schema = dict[str, Any]
Form = tuple[tuple[str, ...], Mapping[str, str]]

_TEMPLATE: Schema = {"type": "string", "pattern": r"\{[{%#]"}
_WORDS_FOR_BOOLEANS: Schema = {"enum": ["true", "false", "yes", "no", "on", "off"]}
_NUMBER_AS_TEXT: Schema = {"type": "string", "pattern": r"^\s*-?[0-9]+(\.[0-9]+)?\s*$"}
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"

_BOOLEAN: Schema = {"anyOf": [{"type": "boolean"}, _WORDS_FOR_BOOLEANS, _TEMPLATE]}
_NUMBER: Schema = {"anyOf": [{"type": "number"}, _NUMBER_AS_TEXT, _TEMPLATE]}
_TEXT: Schema = {"type": "string"}
_NAMES: Schema = {
    "anyOf": [{"type": ["string", "integer"]}, {"type": "array", "items": {"type": ["string", "integer"]}}]
}
_CONDITION: Schema = {
    "anyOf": [{"type": ["string", "boolean", "number"]}, {"type": "array", "items": {"type": ["string", "boolean"]}}]
}
_VARIABLES: Schema = {"type": ["object", "null"], "propertyNames": {"pattern": _VARIABLE}}
_HOST: Schema = {"anyOf": [{"enum": ["localhost", "127.0.0.1", "::1", "all"]}, _TEMPLATE]}
_FILE: Schema = {
    "anyOf": [
        _TEXT,
        {
            "type": "object",
            "properties": {"file": _TEXT, "apply": {"type": "object"}},
            "required": ["file"],
            "additionalProperties": False,
        },
    ]
}
_TASKS: Schema = {"type": ["array", "null"], "items": {"$ref": "#/definitions/task"}}
_ROOT_TASKS: Schema = {"type": ["array", "null"], "items": {"$ref": "#/definitions/root_task"}}
_HANDLERS: Schema = {"type": ["array", "null"], "items": {"$ref": "#/definitions/handler"}}

# The values of keywords; a keyword that is missing here takes any value.
_SHAPES: Mapping[str, Schema] = {
    "name": _TEXT,
    "hosts": {"anyOf": [*_HOST["anyOf"], {"type": "array", "items": _HOST}]},
    "vars": _VARIABLES,
    KEYWORD: {"type": ["string", "array"], "items": _TEXT},
    "vars_files": {"type": ["string", "array"], "items": {"type": ["string", "array"], "items": _TEXT}},
    "tags": _NAMES,
    "no_log": _BOOLEAN,
    "ignore_errors": _BOOLEAN,
    "check_mode": _BOOLEAN,
    "diff": _BOOLEAN,
    "connection": {"const": "local"},
    "tasks": _TASKS,
    "root_tasks": _ROOT_TASKS,
    "pre_tasks": _TASKS,
    "post_tasks": _TASKS,
    "handlers": _HANDLERS,
    "block": {"type": "array", "items": {"$ref": "#/definitions/task"}, "minItems": 1},
    "rescue": _TASKS,
    "always": _TASKS,
    "when": _CONDITION,
    "until": _CONDITION,
    "failed_when": _CONDITION,
    "changed_when": _CONDITION,
    "loop": {"anyOf": [{"type": "array"}, _TEMPLATE]},
    "loop_control": {
        "type": "object",
        "properties": {
            "loop_var": {"type": "string", "pattern": _VARIABLE, "description": "The item's name; default `item`."},
            "index_var": {"type": "string", "pattern": _VARIABLE, "description": "A variable for the item's number."},
            "label": {"description": "The text shown for an item."},
        },
    },
    "register": {"type": "string", "pattern": _VARIABLE},
    "notify": _NAMES,
    "listen": _NAMES,
    "retries": _NUMBER,
    "delay": _NUMBER,
    "environment": {"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}, _TEMPLATE]},
    "import_tasks": _FILE,
    "include_tasks": _FILE,
    "import_playbook": _TEXT,
    "meta": {"enum": list(keywords.META)},
}
# The keywords beside `import_playbook` and `meta`.
_IMPORT = {name: keywords.PLAY[name] for name in ("name", "vars", "tags")} | {
    "when": keywords.TASK["when"],
    "import_playbook": "A file with a list of plays to insert here.",
}
_META = {name: keywords.TASK[name] for name in ("name", "when", "tags", "vars")} | {
    "meta": " ".join(f"`{name}`: {meaning}" for name, meaning in keywords.META.items())
}
_OWN = {f"#/definitions/{name}": f"#/definitions/own_{name}" for name in ("task", "handler")}
# Entries of a list of tasks that are not tasks: the keys that identify them, and their keywords.
_BLOCK: Form = (("block",), keywords.BLOCK)
_INCLUDE: Form = (("import_tasks", "include_tasks"), keywords.INCLUDE)
_DIRECTION: Form = (("meta",), _META)


def schema(catalogue: Mapping[str, type[Task[Any]]]) -> Schema:
    """The schema of a playbook.

    Args:
        catalogue: The existing tasks, kind to class.

    """
    kinds = [catalogue[name] for name in catalogue]
    definitions: Schema = {}
    for kind in kinds:
        definitions |= _parameters(kind)
    runnable = [kind for kind in kinds if not kind.handler_only and kind.in_root != "always"]
    of_root = [kind for kind in kinds if kind.in_root != "never"]
    definitions["task"] = _entry(
        "A task: its own key, and keywords.", runnable, keywords.TASK, (_BLOCK, _INCLUDE, _DIRECTION)
    )
    handlers = [kind for kind in kinds if kind.in_root != "always"]
    definitions["handler"] = _entry(
        "A task that runs when another one notifies it.", handlers, keywords.HANDLER, (_INCLUDE,)
    )
    definitions["root_task"] = _entry("A task of root's.", of_root, keywords.ROOT_TASK, ())
    definitions["play"] = _play()
    own = _own_kinds([kind.kind() for kind in kinds])
    definitions |= {
        "own_task": _with_own(definitions["task"], own, keywords.TASK),
        "own_handler": _with_own(definitions["handler"], own, keywords.HANDLER),
        "own_play": _renamed(definitions["play"]),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"{ADDRESS}/raw/main/docs/playbook.schema.json",
        "title": "Playbook of nbprovision",
        "description": "A list of plays. They bring the machine on which they run to the state that they describe.",
        "type": "array",
        "minItems": 1,
        "items": {
            "if": {"type": "object", "required": [KEYWORD]},
            "then": {"$ref": "#/definitions/own_play"},
            "else": {"$ref": "#/definitions/play"},
        },
        "definitions": definitions,
    }


def _own_kinds(names: Iterable[str]) -> str:
    """Return the pattern of the keys that only tasks of the user's own have; a schema knows nothing more of them."""
    return f"^(?!(?:{'|'.join(names)})$){FORM.pattern}$"


def _with_own(entry: Schema, own: str, keyword_table: Mapping[str, str]) -> Schema:
    """Return an entry of a list of tasks of a play with ``task_folders``."""
    opened = _renamed(entry)
    has_own = {"not": {"propertyNames": {"not": {"pattern": own}}}}
    names = {"anyOf": [{"enum": list(keyword_table)}, {"pattern": own}]}
    return {
        **opened,
        "patternProperties": {own: {"description": "A task of `task_folders`.", "type": ["object", "null"]}},
        "oneOf": [*opened["oneOf"], has_own],
        "allOf": [*opened["allOf"], {"if": has_own, "then": {"propertyNames": names}}],
    }


def _renamed(schema: Any) -> Any:
    """Return a schema that refers to the definitions of a play with ``task_folders``."""
    if isinstance(schema, dict):
        return {key: _OWN.get(value, value) if key == "$ref" else _renamed(value) for key, value in schema.items()}
    return [_renamed(entry) for entry in schema] if isinstance(schema, list) else schema


def _play() -> Schema:
    return {
        "description": "Tasks with their common keywords.",
        "type": "object",
        "properties": _keywords({**_IMPORT, **keywords.PLAY}),
        "additionalProperties": False,
        "if": {"required": ["import_playbook"]},
        "then": {"propertyNames": {"enum": list(_IMPORT)}},
        "else": {"propertyNames": {"enum": list(keywords.PLAY)}},
    }


def _entry(
    description: str, kinds: Iterable[type[Task[Any]]], keyword_table: Mapping[str, str], others: Iterable[Form]
) -> Schema:
    """An entry of a list of tasks: one mapping with all keys, so that an editor offers each of them."""
    names = [kind.kind() for kind in kinds]
    forms: list[Form] = [(tuple(names), {**dict.fromkeys(names, ""), **keyword_table}), *others]
    properties: Schema = {}
    for _, words in reversed(forms):
        properties |= _keywords({name: meaning for name, meaning in words.items() if name not in names})
    properties = {**{name: {"$ref": f"#/definitions/{name}"} for name in names}, **properties}
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "oneOf": [{"required": [name]} for keys, _ in forms for name in keys],
        "allOf": [
            {"if": {"anyOf": [{"required": [name]} for name in keys]}, "then": {"propertyNames": {"enum": list(words)}}}
            for keys, words in forms
        ],
    }


def _keywords(described: Mapping[str, str]) -> Schema:
    return {name: {"description": description, **_SHAPES.get(name, {})} for name, description in described.items()}


def _parameters(kind: type[Task[Any]]) -> Schema:
    """Return the schema of a task's parameters, and of the mappings within."""
    definition = define(kind)
    _, components = msgspec.json.schema_components([kind], ref_template="#/definitions/{name}")
    own = _object(components.pop(kind.__name__))
    own |= {"title": definition.kind, "description": definition.text}
    if not own.get("required"):
        own["type"] = ["object", "null"]
    if definition.examples:
        own["examples"] = [task[definition.kind] for task in yaml.safe_load(definition.examples)]
    return {definition.kind: own, **{name: _object(other) for name, other in components.items()}}


def _object(schema: Schema) -> Schema:
    """A mapping with fixed keys, whose values may be templates."""
    described = (
        {"description": inspect.cleandoc(schema["description"]).replace("``", "`")} if "description" in schema else {}
    )
    return {**schema, **described, "properties": {name: _value(value) for name, value in schema["properties"].items()}}


def _value(schema: Schema) -> Schema:
    """Allow a template in the place of any value, and text that reads as the value."""
    description = {key: schema[key] for key in ("description", "default") if schema.get(key) is not None}
    shape = {key: value for key, value in schema.items() if key not in ("description", "default")}
    forms: list[Schema] = []
    for form in shape.get("anyOf", [shape]):
        forms += [alternative for alternative in _forms(form) if alternative not in forms]
    if {"type": "string"} in forms:  # any text, including templates
        forms = [form for form in forms if form.get("type") != "string" or form == {"type": "string"}]
    return {**description, **(forms[0] if len(forms) == 1 else {"anyOf": forms})}


def _forms(form: Schema) -> list[Schema]:
    if form == {"type": "string"} or form.get("type") == "null" or not form:
        return [form]
    if form.get("type") == "boolean":
        return list(_BOOLEAN["anyOf"])
    if form.get("type") in ("integer", "number"):
        return [form, _NUMBER_AS_TEXT, _TEMPLATE]
    if form.get("type") == "array" and "items" in form:
        form = {**form, "items": _value(form["items"])}
    elif isinstance(form.get("additionalProperties"), dict):
        form = {**form, "additionalProperties": _value(form["additionalProperties"])}
    return [form, _TEMPLATE]

"""The JSON Schema of a playbook, by which an editor completes and checks what is written.

Draft 7 (https://json-schema.org/draft-07), which editors' YAML language servers know. It takes what the reader takes,
as far as a schema can tell: whether a template gives the right value, and which parameters go together, it cannot.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
import yaml

from nbprovision.model.task import Task
from nbprovision.playbook import keywords
from nbprovision.reference.definition import define

Schema = dict[str, Any]

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
_HANDLERS: Schema = {"type": ["array", "null"], "items": {"$ref": "#/definitions/handler"}}

# The values that keywords take; of one that is not here, any.
_SHAPES: Mapping[str, Schema] = {
    "name": _TEXT,
    "hosts": {"anyOf": [*_HOST["anyOf"], {"type": "array", "items": _HOST}]},
    "vars": _VARIABLES,
    "vars_files": _NAMES,
    "tags": _NAMES,
    "no_log": _BOOLEAN,
    "ignore_errors": _BOOLEAN,
    "check_mode": _BOOLEAN,
    "diff": _BOOLEAN,
    "force_handlers": _BOOLEAN,
    "any_errors_fatal": _BOOLEAN,
    "strategy": {"enum": ["linear", "free"]},
    "connection": {"const": "local"},
    "tasks": _TASKS,
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
            "label": {"description": "What is shown of an item."},
        },
    },
    "register": {"type": "string", "pattern": _VARIABLE},
    "notify": _NAMES,
    "listen": _NAMES,
    "retries": _NUMBER,
    "delay": _NUMBER,
    "timeout": _NUMBER,
    "environment": {"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}, _TEMPLATE]},
    "import_tasks": _FILE,
    "include_tasks": _FILE,
    "import_playbook": _TEXT,
    "meta": {"enum": ["flush_handlers", "noop", "end_play"]},
}
_HANDLER: Collection[str] = getattr(keywords, "HANDLER", keywords.TASK)
_BLOCK: Collection[str] = getattr(keywords, "BLOCK", ())
# Keywords that say what a task is, as the key of a kind does.
_WHAT = ("block", "import_tasks", "include_tasks", "meta")


def schema(catalogue: Mapping[str, type[Task[Any]]]) -> Schema:
    """The schema of a playbook.

    Args:
        catalogue: Kind to class: the tasks that there are.

    """
    kinds = [catalogue[name] for name in catalogue]
    definitions: Schema = {}
    for kind in kinds:
        definitions |= _parameters(kind)
    runnable = [kind for kind in kinds if not kind.handler_only]
    definitions["task"] = _task(runnable, keywords.TASK, "A task: what it ensures, and keywords.")
    definitions["handler"] = _task(kinds, _HANDLER, "A task that is run when another one notifies it.")
    definitions["play"] = _play()
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Playbook of nbprovision",
        "description": "A list of plays, which bring the machine that they are run on to the state that they describe.",
        "type": "array",
        "minItems": 1,
        "items": {"$ref": "#/definitions/play"},
        "definitions": definitions,
    }


def _play() -> Schema:
    play: Schema = {
        "description": "Tasks with what they have in common.",
        "type": "object",
        "properties": _keywords(keywords.PLAY),
        "additionalProperties": False,
    }
    if "import_playbook" in keywords.PLAY:
        play["dependencies"] = {"import_playbook": {"not": {"required": ["tasks"]}}}
    return play


def _task(kinds: Iterable[type[Task[Any]]], known: Collection[str], description: str) -> Schema:
    names = [kind.kind() for kind in kinds]
    block: Collection[str] = () if "block" not in known else _BLOCK
    what = [*names, *(name for name in _WHAT if name in known)]
    task: Schema = {
        "description": description,
        "type": "object",
        "properties": {
            **{name: {"$ref": f"#/definitions/{name}"} for name in names},
            **_keywords(known),
            **_keywords(block),
        },
        "additionalProperties": False,
        "oneOf": [{"required": [name]} for name in what],
    }
    if block:
        task["if"] = {"required": ["block"]}
        task["then"] = {"propertyNames": {"enum": sorted(block)}}
        task["dependencies"] = {name: ["block"] for name in ("rescue", "always") if name in block}
    return task


def _keywords(known: Collection[str]) -> Schema:
    described = known if isinstance(known, Mapping) else dict.fromkeys(sorted(known), "")
    return {
        name: {**({"description": description} if description else {}), **_SHAPES.get(name, {})}
        for name, description in described.items()
    }


def _parameters(kind: type[Task[Any]]) -> Schema:
    """The schema of what stands below a task's key, and of the mappings within."""
    definition = define(kind)
    _, found = msgspec.json.schema_components([kind], ref_template="#/definitions/{name}")
    own = _object(found.pop(kind.__name__))
    own |= {"title": definition.kind, "description": definition.text}
    if not own.get("required"):
        own["type"] = ["object", "null"]
    if definition.examples:
        own["examples"] = [task[definition.kind] for task in yaml.safe_load(definition.examples)]
    return {definition.kind: own, **{name: _object(other) for name, other in found.items()}}


def _object(found: Schema) -> Schema:
    """A mapping with fixed keys, whose values may be templates."""
    described = (
        {"description": inspect.cleandoc(found["description"]).replace("``", "`")} if "description" in found else {}
    )
    return {**found, **described, "properties": {name: _value(value) for name, value in found["properties"].items()}}


def _value(found: Schema) -> Schema:
    """Where a value may stand, a template may; and text where it reads as the value."""
    told = {key: found[key] for key in ("description", "default") if found.get(key) is not None}
    shape = {key: value for key, value in found.items() if key not in ("description", "default")}
    forms: list[Schema] = []
    for form in shape.get("anyOf", [shape]):
        forms += [one for one in _forms(form) if one not in forms]
    if {"type": "string"} in forms:  # any text, templates among it
        forms = [form for form in forms if form.get("type") != "string" or form == {"type": "string"}]
    return {**told, **(forms[0] if len(forms) == 1 else {"anyOf": forms})}


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

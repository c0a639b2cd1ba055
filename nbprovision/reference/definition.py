"""The description of a kind of task: parameters, defaults, examples, and possible results."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from nbprovision.model.task import Task
from nbprovision.playbook.parameters import words

_OF_ROOT = (
    "Use it under `root_tasks`. Root's part of the lifecycle script does the work (`nbprovision lifecycle render`); a "
    "run only compares, and reports a difference as skipped."
)
_HANDLER_ONLY = "Use it under `handlers`. It runs after a task that notifies it has changed something."
# The possible results of every task.
STATES = {
    "ok": "everything is as described",
    "changed": "something was changed; with `--check` it would be",
    "skipped": "`when` is false, or a task that it depends on failed",
    "failed": "the change failed; the message says why, and what to do",
    "deferred": "it continues in the background after the run's `--deadline`",
}


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter of a task.

    Attributes:
        name: As a playbook writes it.
        takes: The type of its values, in words.
        choices: The possible values, if they are limited.
        default: The default in a playbook's notation; empty if there is none.
        required: Whether it must be given.
        description: One or more sentences.

    """

    name: str
    takes: str
    choices: tuple[str, ...]
    default: str
    required: bool
    description: str


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of task.

    Attributes:
        kind: Its key in a playbook.
        text: Its purpose: paragraphs, with code between backticks.
        parameters: Its own parameters, in order.
        shared: The parameters of every task.
        relations: Sentences about parameters that belong together.
        actions: The possible changes, with their meanings.
        examples: A list of tasks in YAML.

    """

    kind: str
    text: str
    parameters: tuple[Parameter, ...]
    shared: tuple[Parameter, ...]
    relations: tuple[str, ...]
    actions: Mapping[str, str]
    examples: str

    @property
    def summary(self) -> str:
        """The first sentence, on one line."""
        return " ".join(self.text.partition("\n\n")[0].split())


def define(kind: type[Task[Any]]) -> Definition:
    """Return the description of a kind of task."""
    common = set(Task.__struct_fields__)
    fields = msgspec.structs.fields(kind)
    text = inspect.cleandoc(kind.__doc__ or "").replace("``", "`")
    return Definition(
        kind=kind.kind(),
        text="\n\n".join([text, *_places(kind)]),
        parameters=tuple(_parameter(field) for field in fields if field.name not in common),
        shared=tuple(_parameter(field) for field in fields if field.name in common),
        relations=tuple(relation.words() for relation in kind.relations),
        actions=kind.actions,
        examples=inspect.cleandoc(kind.examples),
    )


def _places(kind: type[Task[Any]]) -> list[str]:
    """Return where it stands in a play, if not among the tasks."""
    return [_HANDLER_ONLY] * kind.handler_only + [_OF_ROOT] * (kind.in_root == "always")


def _parameter(field: msgspec.structs.FieldInfo) -> Parameter:
    shape = msgspec.inspect.type_info(field.type)
    only = tuple(_choices(field.type))
    return Parameter(
        name=field.encode_name,
        takes=_listed(only) if only else words(shape),
        choices=only,
        default=_default(field),
        required=field.required,
        description=_description(field.type),
    )


def _choices(annotation: Any) -> Iterator[str]:
    """Return the possible values of a type with limited values, in their order."""
    if get_origin(annotation) is Annotated:
        yield from _choices(get_args(annotation)[0])
    elif get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    elif get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        if all(get_origin(part) is Literal for part in parts):
            for part in parts:
                yield from _choices(part)


def _listed(options: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(options[:-1]), options[-1])))


def _description(annotation: Any) -> str:
    metas = (meta.description for meta in getattr(annotation, "__metadata__", ()) if isinstance(meta, msgspec.Meta))
    return " ".join(filter(None, metas))


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return ""
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if default in (None, "", [], {}, ()):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)

"""The type stub of the Python API, for type checkers and editors: its functions are created at their first use."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

import msgspec

from nbprovision.model.task import Task

_HEAD = """\
# The Python API, generated from the definitions of the tasks by `python -m tests.reference.test_stub`.

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

"""
_WIDTH = 116  # of a line of a docstring, without its indent
_PLAIN: dict[type, str] = {
    msgspec.inspect.AnyType: "Any",
    msgspec.inspect.BoolType: "bool",
    msgspec.inspect.FloatType: "float",
    msgspec.inspect.IntType: "int",
    msgspec.inspect.NoneType: "None",
    msgspec.inspect.StrType: "str",
}


def stub(
    classes: Mapping[str, str],
    functions: Mapping[str, Any],
    kinds: Mapping[str, type[Task[Any]]],
    settings: Mapping[str, Mapping[str, tuple[str, Any, str]]],
    texts: Mapping[str, str],
) -> str:
    """The text of ``nbprovision/__init__.pyi``.

    Each function has its docstring, since editors and the pages of the API read the stub and never the module.

    Args:
        classes: Classes of the API, each with its module.
        functions: The handwritten functions of the API.
        kinds: The tasks.
        settings: By task, further arguments of its function: type, default and meaning of each.
        texts: By function, its docstring.

    """
    lines = [
        f"from {module} import {name} as {name}"
        for name, module in sorted(classes.items(), key=lambda pair: pair[::-1])
    ]
    lines += ["", "__version__: str", ""]
    for name, function in functions.items():
        returns = str(inspect.signature(function).return_annotation)
        lines += [_signature(name, _written(function), returns, texts[name])]
    for name, kind in kinds.items():
        parameters = [
            (
                field.name,
                _annotation(msgspec.inspect.type_info(field.type), paths=_holds_paths(field.type)),
                "" if field.required else _default(_default_of(field)),
            )
            for field in sorted(msgspec.structs.fields(kind), key=lambda field: not field.required)
        ]
        parameters += [(own, annotation, _default(value)) for own, (annotation, value, _) in settings[name].items()]
        lines += [_signature(name, [("*", "", ""), *parameters], "Result", texts[name])]
    return _HEAD + "\n".join(lines) + "\n"


def _signature(name: str, parameters: list[tuple[str, str, str]], returns: str, text: str) -> str:
    words = [
        parameter + (f": {annotation}" if annotation else "") + default for parameter, annotation, default in parameters
    ]
    body = "".join(f"    {word},\n" for word in words)
    raw = "r" * ("\\" in text)
    docstring = "\n".join(_filled(line) for line in f'{raw}"""{text}\n"""'.splitlines())
    return f"def {name}(\n{body}) -> {returns}:\n{textwrap.indent(docstring, '    ')}\n"


def _filled(line: str) -> str:
    """A line of a docstring in several, where it is too long; what follows is indented further."""
    indent = line[: len(line) - len(line.lstrip())]
    more = f"{indent}    " if indent else ""
    return textwrap.fill(line, _WIDTH, subsequent_indent=more, break_long_words=False, break_on_hyphens=False)


def _default(value: Any) -> str:
    """The default of a parameter, if it is short enough for a stub."""
    plain = value is None or isinstance(value, (bool, int, float, str)) or value in ((), [], {})
    return f" = {value!r}" if plain else " = ..."


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    return field.default_factory() if field.default is msgspec.NODEFAULT else field.default


def _written(function: Any) -> list[tuple[str, str, str]]:
    """The parameters of a handwritten function."""
    parameters: list[tuple[str, str, str]] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and ("*", "", "") not in parameters:
            parameters.append(("*", "", ""))
        default = "" if parameter.default is parameter.empty else _default(parameter.default)
        parameters.append((parameter.name, str(parameter.annotation), default))
    return parameters


def _annotation(shape: Any, *, paths: bool) -> str:
    """The type of a parameter in Python's notation; a path in a playbook may be a `Path` too."""
    if isinstance(shape, msgspec.inspect.Metadata):
        return _annotation(shape.type, paths=paths)
    if isinstance(shape, msgspec.inspect.UnionType):
        return " | ".join(dict.fromkeys(_annotation(part, paths=paths) for part in _none_last(shape.types)))
    if isinstance(shape, msgspec.inspect.LiteralType):
        return f"Literal[{', '.join(map(_quoted, shape.values))}]"
    if isinstance(shape, msgspec.inspect.ListType):
        return f"Sequence[{_annotation(shape.item_type, paths=paths)}]"
    if isinstance(shape, msgspec.inspect.DictType):
        key, value = (_annotation(part, paths=paths) for part in (shape.key_type, shape.value_type))
        return f"Mapping[{key}, {value}]"
    if isinstance(shape, msgspec.inspect.StructType):
        return "Mapping[str, Any]"
    if isinstance(shape, msgspec.inspect.StrType) and paths:
        return "str | Path"
    return _PLAIN[type(shape)]


def _none_last(shapes: tuple[Any, ...]) -> list[Any]:
    return sorted(shapes, key=lambda shape: isinstance(shape, msgspec.inspect.NoneType))


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _holds_paths(annotation: Any) -> bool:
    metadata = getattr(annotation, "__metadata__", ())
    return any(isinstance(meta, msgspec.Meta) and (meta.extra or {}).get("path") for meta in metadata)

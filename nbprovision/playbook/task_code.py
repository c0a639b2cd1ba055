"""Imports the code of tasks that are not nbprovision's own, checks their classes, and locates their mistakes.

A file is executed from the bytes that the playbook's reader has recorded. So nothing is written beside it, and a
changed file is executed again in the same process.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import msgspec

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, Position, ProvisionError, TaskFailed, nearest
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Origin, Resource, Task, class_name
from nbprovision.playbook.yaml_nodes import decode
from nbprovision.report.colour import print_message
from nbprovision.state.witness import digest
from nbprovision.system.files import refused

_REQUIRED = ("read", "plan", "apply", "witnesses")
_HOOKS = frozenset(
    name for name, value in vars(Task).items() if isinstance(value, FunctionType) and not name.startswith("_")
)
_RESERVED = frozenset(dir(Task)) - set(Task.__struct_fields__)
_importing = threading.Lock()  # runs in several threads may have the same file
_FORM = "class {name}(Task[str], frozen=True, kw_only=True):"
_NEW = "`nbprovision new-task {kind}` writes an example"


def from_file(kind: str, path: Path, data: bytes) -> type[Task[Any]]:
    """Return the class of a task in a file.

    Args:
        kind: The key of the task in a playbook.
        path: The file, as messages name it.
        data: Its content.

    Raises:
        InvalidPlaybook: it is not Python, cannot be imported, or has no usable class of that name.

    """
    source = decode(data, str(path), "task")
    code = digest(source)
    name = f"nbprovision_task_{digest(f'{os.path.realpath(path)} {code}')}"
    with _importing:
        module = sys.modules.get(name)
        if module is not None:
            return getattr(module, class_name(kind))  # type: ignore[no-any-return]
        module = ModuleType(name)
        module.__file__ = str(path)
        vars(module)["print"] = _print
        sys.modules[name] = module  # msgspec looks there for the names in annotations
        try:
            exec(_compiled(source, path), vars(module))  # noqa: S102 - the playbook's author is trusted as its user
            return _checked(kind, getattr(module, class_name(kind), None), module, source, Origin("", code))
        except BaseException as error:
            del sys.modules[name]
            if isinstance(error, InvalidPlaybook) or not isinstance(error, Exception | SystemExit):
                raise
            raise _not_imported(str(path), error, path) from error


def from_package(kind: str, load: Callable[[], Any], package: str) -> tuple[type[Task[Any]], Path]:
    """Return the class of a task in an installed package, and the file with the class.

    Args:
        kind: The key of the task in a playbook.
        load: Imports the class.
        package: The name and the version of the package.

    Raises:
        InvalidPlaybook: it cannot be imported, or is not a usable class.

    """
    try:
        value = load()
    except (Exception, SystemExit) as error:
        raise _not_imported(f"{kind} of the package {package}", error, None) from error
    module = sys.modules.get(getattr(value, "__module__", ""))
    path = Path(getattr(module, "__file__", None) or "")
    if module is None or not path.is_file():
        cure = f"name a class of a module in the entry point: {kind} = MODULE:{class_name(kind)}"
        raise InvalidPlaybook(f"{kind} of the package {package} is not a class", cure=cure)
    source = path.read_text(encoding="utf-8", errors="replace")
    if "origin" not in vars(value):  # else it was checked before; its base may be another task
        vars(module).setdefault("print", _print)
        value = _checked(kind, value, module, source, Origin(package, digest(f"{package}\n{source}")))
    return value, path


def _print(*values: object, sep: str | None = " ", file: Any = None, **options: Any) -> None:
    """Print to standard error with secrets masked, unless the task names a file: standard output is the report's."""
    if file is None:
        print_message((" " if sep is None else sep).join(map(str, values)))
    else:
        print(*values, sep=sep, file=file, **options)


def _compiled(source: str, path: Path) -> Any:
    try:
        return compile(source, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        place = Position(str(path), error.lineno or 1, error.offset or 1)
        raise InvalidPlaybook(
            f"the task is not Python: {error.msg}", cure="correct this line", position=place
        ) from None


def _not_imported(name: str, error: BaseException, path: Path | None) -> InvalidPlaybook:
    cause = cure = ""
    if isinstance(error, ModuleNotFoundError) and path is not None:
        beside = path.with_name(f"{(error.name or '').partition('.')[0]}.py")
        if beside.exists():
            cause = f"a task file stands alone: {beside.name} beside it does not go with it"
            cure = "move the code into the task file, or make a package with entry points in nbprovision.tasks"
        else:
            cause = f"a task can import only what is in nbprovision's own environment: {sys.prefix}"
            cure = "use the standard library and nbprovision.tasks; run another program by nbprovision.tasks.run"
    return InvalidPlaybook(
        f"{name} cannot be imported: {_described(error)}", cause=cause, cure=cure, position=_last_line(error, path)
    )


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _last_line(error: BaseException, path: Path | None) -> Position | None:
    """Return the position in a file that raised an error; the start of the file if no line of it did."""
    if path is None:
        return None
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if not lines:
        return Position(str(path), 1, 1)
    column = getattr(lines[-1], "colno", None) or 0  # since Python 3.11
    return Position(str(path), lines[-1].lineno or 1, column + 1)


# ------------------------------------------------------------------------------------------------------ the class


def _checked(kind: str, value: Any, module: ModuleType, source: str, origin: Origin) -> type[Task[Any]]:
    """Return the class, ready for use.

    Raises:
        InvalidPlaybook: it is missing, is not a task, lacks a method, or has a parameter that cannot be one.

    """
    name, path = class_name(kind), str(module.__file__)
    start = Position(path, 1, 1)
    new = _NEW.format(kind=kind)
    if value is None:
        classes = [other for other, item in vars(module).items() if isinstance(item, type) and item is not Task]
        near = nearest(name, classes)
        cause = f"the class of a task is named after its file: {kind} is {name}"
        raise InvalidPlaybook(f"{path} has no class {name}{near}", cause=cause, cure=new, position=start)
    places = _places(source, value)
    place = places.get("", start)
    if not (isinstance(value, type) and issubclass(value, Task)):
        cure = f"write: {_FORM.format(name=name)}\n{new}"
        raise InvalidPlaybook(f"{name} is not a task", cure=cure, position=place)
    if value.kind() != kind:
        raise InvalidPlaybook(f"the class of {kind} is {name}, not {value.__name__}", cure=new, position=place)
    missing = [hook for hook in _REQUIRED if getattr(value, hook) is getattr(Task, hook)]
    if missing:
        listed = ", ".join(f"{hook}()" for hook in missing)
        raise InvalidPlaybook(f"{name} has no {listed}", cause="every task needs it", cure=new, position=place)
    if value.in_root != "never":
        cause = "root's part of a lifecycle script knows only nbprovision's own tasks"
        raise InvalidPlaybook(
            f"{name} cannot be a task of root's", cause=cause, cure="leave in_root out", position=place
        )
    for field in _fields(value, place):
        _check_field(field, places.get(field.name, place))
    for base in value.__mro__:
        if base.__module__.partition(".")[0] != "nbprovision":
            for hook in _HOOKS & vars(base).keys():
                if isinstance(vars(base)[hook], FunctionType):
                    setattr(base, hook, _located(hook, vars(base)[hook]))
    if value.barrier is Task.barrier:
        value.barrier = _keeps_its_place  # type: ignore[assignment, method-assign]
    value.origin = origin
    return value


def _keeps_its_place(task: Task[Any], machine: Machine) -> bool:  # noqa: ARG001 - a method of a task
    """Whether nothing says what a task builds on, so that it runs in its place in the playbook."""
    kind = type(task)
    return kind.provides is Task.provides and kind.requires is Task.requires


def _fields(value: type[Task[Any]], place: Position) -> Iterator[msgspec.structs.FieldInfo]:
    try:
        fields = msgspec.structs.fields(value)
    except Exception as error:
        message = f"the types of {value.__name__} are not known: {_described(error)}"
        cure = "import each of them outside of TYPE_CHECKING"
        raise InvalidPlaybook(message, cure=cure, position=place) from error
    own = set(Task.__struct_fields__)
    return (field for field in fields if field.name not in own)


def _check_field(field: msgspec.structs.FieldInfo, place: Position) -> None:
    name = field.name
    if name in _RESERVED:
        message, cure = f"a parameter cannot be named '{name}', which every task has", "rename it"
        raise InvalidPlaybook(message, cure=cure, position=place)
    metas = [meta for meta in getattr(field.type, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
    if not any(meta.description for meta in metas):
        written = getattr(field.type, "__name__", None) or str(field.type)
        raise InvalidPlaybook(
            f"the parameter '{name}' has no description",
            cause="`nbprovision doc` and the messages show it",
            cure=f'write: {name}: Annotated[{written}, parameter("...")]',
            position=place,
        )
    shape = msgspec.inspect.type_info(field.type)
    while isinstance(shape, msgspec.inspect.Metadata):
        shape = shape.type
    for part in shape.types if isinstance(shape, msgspec.inspect.UnionType) else (shape,):
        if isinstance(part, msgspec.inspect.CustomType):
            cure = 'use str, int, float, bool, list, dict or Literal; for a path str with extra={"path": True}'
            message = f"no value in a playbook is a {part.cls.__name__}, as the parameter '{name}' wants"
            raise InvalidPlaybook(message, cure=cure, position=place)


def _places(source: str, value: Any) -> dict[str, Position]:
    """Return the positions of the fields of a class, and under the empty name that of the class."""
    path = str(getattr(sys.modules.get(getattr(value, "__module__", "")), "__file__", ""))
    name = getattr(value, "__name__", "")
    try:
        nodes = ast.walk(ast.parse(source))
    except (SyntaxError, ValueError):
        return {}
    node = next((node for node in nodes if isinstance(node, ast.ClassDef) and node.name == name), None)
    if node is None:
        return {}
    fields = (
        line.target for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    )
    return {
        "": Position(path, node.lineno, node.col_offset + 1),
        **{field.id: Position(path, field.lineno, field.col_offset + 1) for field in fields},
    }


# ---------------------------------------------------------------------------------------------------- its mistakes


def _located(name: str, hook: FunctionType) -> Callable[..., Any]:
    """Return a method whose mistakes are errors with the line of the task's file."""
    inner = inspect.unwrap(hook)
    path, line = inner.__code__.co_filename, inner.__code__.co_firstlineno
    start = Position(path, line, 1)
    wrong: type[ProvisionError] = TaskFailed if name in ("read", "plan", "apply") else InvalidPlaybook

    @functools.wraps(hook)
    def located(task: Any, *arguments: Any, **named: Any) -> Any:
        try:
            result = hook(task, *arguments, **named)
            result = tuple(result) if isinstance(result, Iterator) else result
        except ProvisionError:
            raise
        except OSError as error:
            raise refused(error) from error
        except (Exception, SystemExit) as error:
            place = _last_line(error, Path(path))
            place = start if place is None or place.line == 1 else place
            message = f"{task.kind()}: {name}() raised {_described(error)}"
            raise wrong(message, cure="correct the task's code", position=place) from error
        problem, cure = _unfit(name, result)
        if problem:
            raise wrong(f"{task.kind()}: {name}() returned {problem}", cure=cure, position=start)
        return frozenset(result) if name in ("provides", "requires") else result

    return located


def _unfit(name: str, result: Any) -> tuple[str, str]:
    """Describe a result that a method must not have, and what to return instead; two empty texts for a good one."""
    if name == "plan":
        if not isinstance(result, Plan):
            return f"{_a(result)}, not a Plan", "return Plan() if nothing is to do, else Plan(changes=(Change(...),))"
        return _unfit_changes(result.changes)
    if name == "apply" and result is not None:
        return _unfit_changes(result)
    if name == "witnesses" and not _all_of(result, str | os.PathLike):
        return f"{_a(result)}, not a list of paths", "return the paths whose change makes the task look again"
    if name in ("provides", "requires") and not _all_of(result, Resource):
        return f"{_a(result)}, not a set of resources", 'return frozenset({Resource("file", str(path))})'
    return "", ""


def _unfit_changes(changes: Any) -> tuple[str, str]:
    form = 'write Change("action", "target", before, after): all are text, or None'
    if not _all_of(changes, Change):
        return f"{_a(changes)} where changes belong", f"a tuple of one change ends with a comma: (Change(...),); {form}"
    for change in changes:
        for field in ("action", "target", "before", "after"):
            value = getattr(change, field)
            if not isinstance(value, str) and (value is not None or field in ("action", "target")):
                return f"a Change whose {field} is {_a(value)}", form
    return "", ""


def _all_of(values: Any, kind: Any) -> bool:
    collection = isinstance(values, Sequence | frozenset | set) and not isinstance(values, str | bytes)
    return collection and all(isinstance(value, kind) for value in values)


def _a(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"

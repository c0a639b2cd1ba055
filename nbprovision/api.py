"""The Python API: every task of a playbook as a function, and `run_playbook`.

from nbprovision import ensure_pip_pkg

result = ensure_pip_pkg(env="fraud", packages=["requests==2.32.3"])
result.changed, result.changes, result.check_only
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.catalogue import Catalogue
from nbprovision.engine.session import Request, Session
from nbprovision.engine.single import carry_out_alone
from nbprovision.machine.machine import Machine
from nbprovision.machine.ownership import refuse_foreign
from nbprovision.model.errors import (
    InvalidPlaybook,
    LockTimeout,
    ParameterError,
    Position,
    ProvisionError,
    TaskFailed,
    UnknownEnvironment,
    nearest,
)
from nbprovision.model.result import Change, Result
from nbprovision.model.task import HOW_TO_FILL, Task, empty_secret, unfit
from nbprovision.playbook.own_tasks import Kinds
from nbprovision.playbook.yaml_nodes import Files
from nbprovision.report.document import Silent
from nbprovision.system.context import separate_run

__all__ = [
    "Change",
    "InvalidPlaybook",
    "LockTimeout",
    "ParameterError",
    "Position",
    "ProvisionError",
    "Result",
    "TaskFailed",
    "UnknownEnvironment",
    "run_playbook",
]


@separate_run()
def run_playbook(
    path: str | Path,
    *,
    extra_vars: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    skip_tags: Sequence[str] = (),
    check: bool = False,
    deep: bool = False,
    locked: bool = False,
    frozen: bool = False,
    home: str | Path | None = None,
    lock_timeout: float | None = None,
) -> list[Result]:
    """Bring this machine to the state that a playbook describes.

    Args:
        path: The playbook's file.
        extra_vars: Variables that win over all others.
        tags: Only tasks with one of these tags.
        skip_tags: No task with one of these tags.
        check: Say what would change, and change nothing.
        deep: Compare the files of every package, not only names and versions.
        locked: Install exactly what the lock beside the playbook has; refuse a stale one.
        frozen: The same, and use the lock even if it is stale.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.

    Returns:
        A result for each task, in the order of the playbook; failed ones among them, with their ``error``.

    Raises:
        InvalidPlaybook: the playbook cannot mean anything, or names what is not there; or the lock is stale or missing.
        LockTimeout: another run held the lock for too long.
        UsageError: this runs as root, and the home folder is somebody else's.

    """
    machine = Machine(home=Path(home).absolute() if home is not None else None)
    refuse_foreign(machine.env, machine.user_home, machine.home)
    if locked or frozen:
        from nbprovision.lock.locked_run import locked as read_lock

        seen = Machine(home=machine.home)  # it learns what the playbook declares, which the run itself learns again
        machine.locked = read_lock(Path(path), seen, Catalogue(), dict(extra_vars or {}), frozen=frozen).environments
    request = Request(
        playbook=Path(path),
        extra_vars=dict(extra_vars or {}),
        selection=(
            "api",
            repr(sorted((extra_vars or {}).items())),
            ",".join(tags),
            ",".join(skip_tags),
            *(["locked"] if machine.locked else ()),
        ),
        tags=tuple(tags),
        skip_tags=tuple(skip_tags),
        check=check,
        deep=deep,
        lock_timeout=lock_timeout,
    )
    results, _ = Session(request, machine, Catalogue()).perform(Silent(), lambda _text: None)
    return results


# What every function takes beside the parameters of its task, with its type, its default and what it means.
SETTINGS: dict[str, tuple[str, Any, str]] = {
    "check": ("bool", False, "Report what would change, and change nothing."),
    "home": ("str | Path | None", None, "Folder of state, lock, log and caches; default as on the command line."),
    "lock_timeout": ("float | None", None, "Seconds to wait for another run; None waits as long as it takes."),
    "no_log": ("bool", False, "Withhold values and reasons from the result and the log."),
    "environment": ("Mapping[str, str] | None", None, "Environment variables for the work."),
}


@separate_run()
def _ensure(kind: type[Task[Any]], parameters: dict[str, Any]) -> Result:
    settings = {name: parameters.pop(name) for name in settings_of(kind) if name in parameters}
    if settings.get("home") is not None:
        settings["home"] = Path(settings["home"])
    task = _task(kind, parameters)
    result = carry_out_alone(task, **settings)
    if result.error is not None:
        raise result.error
    return result


def _task(kind: type[Task[Any]], parameters: dict[str, Any]) -> Task[Any]:
    _check_names(kind, parameters)
    # As a playbook writes them: Python does not allow the name `except`, so it is `except_` here.
    written = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
    plain = {written[name]: _plain(value) for name, value in parameters.items()}
    for name, value in plain.items():
        problem = unfit(value)
        if problem:
            raise ParameterError(name, f"{kind.kind()}: '{name}' holds {problem}", cure="remove it from the value")
        problem = empty_secret(value)
        if problem:
            raise ParameterError(name, f"{kind.kind()}: '{name}' holds {problem}", cure=HOW_TO_FILL)
    try:
        task: Task[Any] = msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise ParameterError("", f"{kind.kind()}: {error}") from None
    return task


def _check_names(kind: type[Task[Any]], parameters: dict[str, Any]) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name in parameters:
        if name not in fields:
            raise ParameterError(name, f"{kind.kind()} has no parameter '{name}'{nearest(name, fields)}")
    for name, field in fields.items():
        if field.required and name not in parameters:
            raise ParameterError(name, f"{kind.kind()} needs the parameter '{name}'")


def _plain(value: Any) -> Any:
    """Convert values that Python users pass in place of a playbook's strings and lists: paths, tuples."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    return value


@functools.cache
def _function(name: str) -> Callable[..., Result]:
    kind = _kinds()[name]

    def ensure(**parameters: Any) -> Result:
        return _ensure(kind, parameters)

    ensure.__name__ = ensure.__qualname__ = name
    ensure.__doc__ = _documentation(kind)
    keyword = inspect.Parameter.KEYWORD_ONLY
    signature = [
        inspect.Parameter(
            field.name,
            keyword,
            annotation=field.type,
            default=inspect.Parameter.empty if field.required else _default_of(field),
        )
        for field in msgspec.structs.fields(kind)
    ]
    signature += [
        inspect.Parameter(name, keyword, annotation=annotation, default=default)
        for name, (annotation, default, _) in settings_of(kind).items()
    ]
    ensure.__signature__ = inspect.Signature(signature, return_annotation=Result)  # type: ignore[attr-defined]
    return ensure


def settings_of(kind: type[Task[Any]]) -> dict[str, tuple[str, Any, str]]:
    """The settings that the function of a task has: those whose names are not those of its parameters."""
    own = {field.name for field in msgspec.structs.fields(kind)}
    return {name: setting for name, setting in SETTINGS.items() if name not in own}


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    return field.default_factory() if field.default is msgspec.NODEFAULT else field.default


def _documentation(kind: type[Task[Any]]) -> str:
    import typing

    lines = [inspect.getdoc(kind) or "", "", "Args:"]
    hints = typing.get_type_hints(kind, include_extras=True)
    for name, hint in sorted(hints.items(), key=lambda item: item[0] in Task.__struct_fields__):  # its own first
        descriptions = [
            meta.description for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta)
        ]
        if descriptions:
            lines.append(f"    {name}: {descriptions[0]}")
    lines += [f"    {name}: {text}" for name, (_, _, text) in settings_of(kind).items()]
    lines += ["", "Raises:", "    ProvisionError: it failed."]
    return "\n".join(lines)


def _kinds() -> Kinds:
    """The kinds of task that have a function: nbprovision's own, and those of installed packages."""
    return Kinds(Catalogue(), Files())


def __getattr__(name: str) -> Callable[..., Result]:
    if name in _kinds():
        return _function(name)
    raise AttributeError(f"module 'nbprovision' has no attribute '{name}'{nearest(name, [*Catalogue(), *__all__])}")


def __dir__() -> list[str]:
    return sorted([*__all__, *Catalogue()])

"""The choice between uv and pip, by the configuration and the requirements, and installs by either."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from nbprovision.indexes import index_settings
from nbprovision.machine import distributions, package_files
from nbprovision.machine.interpreters import Target
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import (
    install_settings,
    locked_install,
    pip_command,
    requirements,
    requirements_files,
    satisfied,
    uv_command,
)
from nbprovision.pip import targets as pip_targets
from nbprovision.pip.guard import PipGuard
from nbprovision.pip.request import Move, Request, interpreter, settings_of
from nbprovision.pip.requirements import version_of
from nbprovision.pip.requirements_files import RequirementSet
from nbprovision.pip.satisfied import Need

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

_MOST_NAMED = 3  # packages whose indexes a note names


class Engine(Protocol):
    """The functions that `uv_command` and `pip_command` share."""

    def perform(self, machine: Machine, request: Request) -> list[Move] | None:
        """Install; the changes, if the engine reports them."""

    def resolve(self, machine: Machine, request: Request) -> list[Move] | None:
        """The changes that an install would make; None if the engine cannot predict them."""

    def uninstall(
        self, machine: Machine, prefix: Path, names: Iterable[str], *, python: Path | None = None, managed: bool = False
    ) -> None:
        """Uninstall."""


def configured(machine: Machine, prefix: Path, wanted: RequirementSet) -> RequirementSet:
    """The requirements, with the options that the configuration of pip and uv sets for installs into ``prefix``.

    Raises:
        InvalidPlaybook: a constraints file cannot be read, or a digest is missing.
        TaskFailed: a configuration file is not valid, or has a value that pip does not accept.
    """
    options = install_settings.configured(machine.env, machine.user_home, prefix, root=machine.root)
    return requirements_files.after_configuration(wanted, options, machine.env)


def choose(machine: Machine, wanted: RequirementSet, engine: Literal["auto", "uv", "pip"] = "auto") -> Engine:
    """The engine that installs.

    Args:
        machine: The machine.
        wanted: The requirements with the configuration, see `configured`.
        engine: The requested engine; ``auto`` is uv where it can do it.

    Raises:
        TaskFailed: no engine supports all options.
    """
    options = wanted.options
    for option, reason in options.refused:
        raise TaskFailed(
            f"{option} is not supported", cause=reason, cure="remove it there, or install by hand what needs it"
        )
    if engine == "pip":
        return pip_command
    only_pip = [
        *options.without_uv,
        *(
            f"'{requirement.shown}'"
            for requirement in wanted.wanted
            if requirement.editable and not (requirement.url or "").startswith("file:")
        ),
    ]
    if not only_pip:
        return pip_command if engine == "auto" and uv_command.find(machine) is None else uv_command
    if engine == "uv":
        raise TaskFailed(
            f"uv does not support {', '.join(only_pip)}",
            cause="only pip does",
            cure="leave `engine` at `auto`, which then uses pip, or remove that option",
        )
    if options.uv_binding:
        raise TaskFailed(
            f"no engine supports everything: only pip supports {', '.join(only_pip)}",
            cause=f"uv's configuration has {', '.join(options.uv_binding)}, which pip does not know",
            cure="remove one of them, or choose by `engine` whose configuration counts",
        )
    return pip_command


def perform(machine: Machine, engine: Engine, request: Request) -> list[Move] | None:
    """Install, and add notes about newer versions in indexes that were not used.

    Args:
        machine: The machine.
        engine: The engine.
        request: The install.

    Returns:
        The changes, if the engine reports them.

    Raises:
        TaskFailed: with the engine's message and advice.
    """
    if engine is not uv_command:
        return engine.perform(machine, request)
    best = best_versions(machine, request)
    moves = uv_command.perform(machine, request)
    for text in newer_elsewhere(machine, request, moves, best):
        machine.note(text)
    return moves


def perform_locked(machine: Machine, engine: Engine, request: Request) -> None:
    """Install packages of a lock.

    Args:
        machine: The machine.
        engine: The engine.
        request: See `Request.of_lock`.

    Raises:
        TaskFailed: with the engine's message and advice.
    """
    engine.perform(machine, request)
    locked_install.record_origins(machine, request)


def install(
    machine: Machine,
    prefix: Path,
    wanted: RequirementSet,
    *,
    constraints: Sequence[Path] = (),
    reinstall: Sequence[str] = (),
    allowed: bool = False,
) -> None:
    """Install requirements into the environment at ``prefix``; distributions that satisfy them stay.

    In a run with a lock, what it has for the environment is installed instead.

    Args:
        machine: The machine, with its environment variables and configuration.
        prefix: A conda or virtual environment.
        wanted: The requirements.
        constraints: Further constraints files.
        reinstall: Names to install again.
        allowed: Whether a lock may replace distributions of conda and of the platform's image.

    Raises:
        TaskFailed: with the engine's message and advice.
    """
    wanted = requirements_files.as_locked(wanted, machine.locked.get(prefix), machine.env)
    environment = requirements.marker_environment(distributions.python_version(prefix) or "3")
    wanted = requirements_files.selected(configured(machine, prefix, wanted), environment)
    engine = choose(machine, wanted)
    needs = _needs_of_lock(prefix, wanted, environment, reinstall)
    if engine is pip_command:
        installed = distributions.installed(prefix)
        for distribution in (distribution for name in reinstall for distribution in installed.get(name, ())):
            package_files.remove_distribution(prefix, distribution.path)
    request = Request(
        prefix=prefix,
        python=interpreter(prefix),
        lines=tuple(requirement.requirement for requirement in wanted.wanted),
        constraints=(*wanted.constraint_files, *constraints),
        options=wanted.options,
        reinstall=tuple(reinstall),
    )
    if needs:
        target = Target(prefix, request.python, prefix.name)
        PipGuard(machine, target, allowed=allowed).refuse_locked(needs)
        packages = pip_targets.fitting(machine, target, wanted.locked, [need.name for need in needs])
        perform_locked(machine, engine, request.of_lock(packages))
    if request.lines:
        perform(machine, engine, request.without(need.name for need in needs).held(machine, wanted.locked))


def _needs_of_lock(
    prefix: Path, wanted: RequirementSet, environment: Mapping[str, str], reinstall: Sequence[str]
) -> list[Need]:
    """The locked packages that the environment lacks, and those to install again."""
    locked = [entry.requirement for entry in wanted.locked]
    needs = satisfied.unsatisfied(locked, (), distributions.installed(prefix), environment, torn=True)
    names = {need.name for need in needs}
    again = [entry.name or "" for entry in locked if entry.name in reinstall and entry.name not in names]
    return [*needs, *(Need(name=name, reason="files") for name in again)]


# With several indexes, uv takes a name from the first index that has it, and ignores the others. That protects from
# packages of the same name elsewhere, and stays so; but a note reports a newer version there
# (https://docs.astral.sh/uv/concepts/indexes/#searching-across-multiple-indexes).


def best_versions(machine: Machine, request: Request) -> dict[str, str]:
    """The versions that the best of all indexes would bring; empty if uv searches one index only, or all anyway."""
    if not _first_index_only(machine, request):
        return {}
    try:
        moves = uv_command.resolve(machine, _by_best_match(request))
    except TaskFailed:
        return {}  # a note is not worth a failure
    return {move.name: move.after for move in moves if move.after is not None}


def newer_elsewhere(machine: Machine, request: Request, moves: Iterable[Move], best: Mapping[str, str]) -> list[str]:
    """The notes about packages of which another index has a newer version.

    Args:
        machine: The machine.
        request: The install, done or planned.
        moves: The changes that uv makes.
        best: See `best_versions`.
    """
    if not best:
        return []
    chosen = {name: same_name[0].version for name, same_name in request.found().items()}
    chosen.update({move.name: move.after for move in moves if move.after is not None})
    newer = [name for name, version in best.items() if name in chosen and _is_newer(version, chosen[name])]
    notes = []
    for name in newer[:_MOST_NAMED]:
        used = uv_command.origin_of(machine, request, f"{name}=={chosen[name]}")
        other = uv_command.origin_of(machine, _by_best_match(request), f"{name}=={best[name]}")
        notes.append(
            f"{name} {chosen[name]} is from {used or 'elsewhere'}, the first index that has the name; "
            f"{other or 'another index'} has {best[name]}: `index_strategy: best-match` of ensure_pip_index takes "
            "the best version of all indexes"
        )
    if len(newer) > _MOST_NAMED:
        notes.append(f"the same applies to {', '.join(newer[_MOST_NAMED:])}")
    return notes


def note_on_pip(machine: Machine, request: Request) -> tuple[str, ...]:
    """The note if pip was chosen, which does not know a first index."""
    if not _first_index_only(machine, request) or uv_command.find(machine) is None:
        return ()
    return ("pip installs here, as uv does not support all options; it takes the best version of all indexes",)


def _first_index_only(machine: Machine, request: Request) -> bool:
    settings = settings_of(machine, request)
    is_first = settings.index_strategy == index_settings.FIRST_INDEX
    return bool(settings.extra_urls and not settings.no_index and is_first)


def _by_best_match(request: Request) -> Request:
    return msgspec.structs.replace(request, index_strategy=index_settings.BEST_MATCH)


def _is_newer(version: str, than: str) -> bool:
    first, second = version_of(version), version_of(than)
    return first is not None and second is not None and first > second

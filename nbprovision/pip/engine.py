"""Who installs Python packages, uv or pip: what the configuration and the requirements ask for decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from nbprovision.machine import distributions, removed_code
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import install_settings, other_index, pip_command, requirements_files, uv_command
from nbprovision.pip.request import Move, Request, interpreter
from nbprovision.pip.requirements_files import RequirementSet

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine


class Engine(Protocol):
    """What `uv_command` and `pip_command` both do."""

    def perform(self, machine: Machine, request: Request) -> list[Move] | None:
        """Install; what was changed, where the engine tells."""

    def resolve(self, machine: Machine, request: Request) -> list[Move] | None:
        """What an install would change."""

    def uninstall(
        self, machine: Machine, prefix: Path, names: Iterable[str], *, python: Path | None = None, managed: bool = False
    ) -> None:
        """Uninstall."""


def configured(machine: Machine, prefix: Path, asked: RequirementSet) -> RequirementSet:
    """What is asked for, with what pip's configuration and uv's say of every install into ``prefix``.

    Raises:
        InvalidPlaybook: a constraints file cannot be read, or a digest is missing.
        TaskFailed: a configuration file is none, or has a value that pip does not take.
    """
    options = install_settings.configured(machine.env, machine.user_home, prefix, root=machine.root)
    return requirements_files.after_configuration(asked, options, machine.env)


def choose(machine: Machine, asked: RequirementSet, engine: Literal["auto", "uv", "pip"] = "auto") -> Engine:
    """Who installs what is asked for.

    Args:
        machine: The facts.
        asked: With the configuration, see `configured`.
        engine: Who is to; ``auto`` is uv where it can.

    Raises:
        TaskFailed: nobody can heed all that is said.
    """
    options = asked.options
    for said, why in options.refused:
        raise TaskFailed(
            f"{said} cannot be heeded", cause=why, cure="take it out of there, or install by hand what needs it"
        )
    if engine == "pip":
        return pip_command
    only_pip = list(options.without_uv)
    only_pip += [f"'{one.shown}'" for one in asked.wanted if one.editable and not (one.url or "").startswith("file:")]
    if not only_pip:
        return pip_command if engine == "auto" and uv_command.find(machine) is None else uv_command
    said = ", ".join(only_pip)
    if engine == "uv":
        raise TaskFailed(
            f"uv cannot do what is asked for: {said}",
            cause="only pip can",
            cure="leave `engine` to `auto`, which takes pip for it, or take that out",
        )
    if options.uv_binding:
        raise TaskFailed(
            f"no engine can do all that is asked for: only pip can do {said}",
            cause=f"uv's configuration has {', '.join(options.uv_binding)}, of which pip knows nothing",
            cure="take one of them out, or say by `engine` whose configuration counts",
        )
    return pip_command


def perform(machine: Machine, engine: Engine, request: Request) -> list[Move] | None:
    """Install, and note what another index than the one that was used has newer.

    Args:
        machine: The facts.
        engine: Who installs.
        request: What.

    Returns:
        What was changed, where the engine tells.

    Raises:
        TaskFailed: with the engine's own words and what to do.
    """
    if engine is not uv_command:
        return engine.perform(machine, request)
    others = other_index.best(machine, request)
    moves = engine.perform(machine, request) or []
    for text in other_index.notes(machine, request, moves, others):
        machine.note(text)
    return moves


def install(
    machine: Machine,
    prefix: Path,
    asked: RequirementSet,
    *,
    python: Path | None = None,
    constraints: Sequence[Path] = (),
    reinstall: Sequence[str] = (),
) -> None:
    """Install what is asked for into the environment at ``prefix``; what satisfies it stays.

    Args:
        machine: Its environment variables and configuration are followed.
        prefix: A conda or virtual environment.
        asked: What is asked for.
        python: Its interpreter, where that is not ``bin/python``.
        constraints: More constraints files.
        reinstall: Names to be put in place anew.

    Raises:
        TaskFailed: with the engine's own words and what to do.
    """
    asked = configured(machine, prefix, asked)
    engine = choose(machine, asked)
    if engine is pip_command:
        found = distributions.installed(prefix)
        for one in (one for name in reinstall for one in found.get(name, ())):
            removed_code.remove_distribution(prefix, one.path)
    perform(
        machine,
        engine,
        Request(
            prefix=prefix,
            python=python or interpreter(prefix),
            lines=tuple(wanted.requirement for wanted in asked.wanted),
            constraints=(*asked.constraint_files, *constraints),
            options=asked.options,
            reinstall=tuple(reinstall),
        ),
    )

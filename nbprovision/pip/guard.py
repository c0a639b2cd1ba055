"""Resolve installs without changing packages of the platform's image, unless the task allows it.

In an environment that the platform provides, each distribution of the image becomes a constraint (``name==version``),
and most installs can be resolved so. Otherwise the install is resolved without these constraints, and refused. The
error names each package that would change, the packages that need it, and a version of the requested package that
changes none, if there is one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nbprovision.machine.distributions import Distribution
from nbprovision.machine.image import Difference, ImageChange, protected_baseline, refusal
from nbprovision.machine.interpreters import Target
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import requirements
from nbprovision.pip.request import Move, Request, constraints_file
from nbprovision.pip.requirements import PipRequirement
from nbprovision.pip.satisfied import Installed, Need, dependents

if TYPE_CHECKING:
    from nbprovision.pip.engine import Engine

_REPLACED = ("version", "source")  # the reasons for which an installer replaces a sound distribution
# Requirements that are relaxed one at a time to find a pin; each costs a dry run of the engine.
_MOST_TRIED = 8


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """The result of resolving an install.

    Attributes:
        moves: The changes; None if the engine cannot predict them.
        pins: Versions that a repair keeps.
        constraints: Files that keep the image's distributions as they are.
    """

    moves: list[Move] | None
    pins: tuple[str, ...] = ()
    constraints: tuple[Path, ...] = ()


class PipGuard:
    """Protects the distributions of the platform's image in one target.

    Args:
        machine: The machine.
        target: The target of an install.
        allowed: Whether the platform's distributions may change.

    """

    def __init__(self, machine: Machine, target: Target, *, allowed: bool) -> None:
        self._machine = machine
        self._target = target
        self._allowed = allowed
        self._installed = target.installed()
        self._from_image = self._versions()

    def _versions(self) -> dict[str, str]:
        """The installed distributions of the image, in their present versions; empty for other targets."""
        if self._target.location is not None or self._target.probed is not None:
            return {}
        provided = protected_baseline(self._machine, known_prefix(self._machine, self._target.prefix), allowed=False)
        names = provided.content.distributions if provided is not None else {}
        return {name: self._installed[name][0].version for name in names if name in self._installed}

    @property
    def needless(self) -> bool:
        """Whether the target has no distribution of the platform's image."""
        return not self._from_image

    def constraints(self) -> tuple[Path, ...]:
        """The file that keeps the image's distributions as they are."""
        lines = [f"{name}=={version}" for name, version in self._from_image.items() if requirements.version_of(version)]
        return (constraints_file(self._machine, lines),) if lines else ()

    def resolve(
        self,
        engine: Engine,
        request: Request,
        pins: tuple[str, ...],
        wanted: Sequence[PipRequirement],
        needs: Sequence[Need],
    ) -> Resolution:
        """Resolve an install without changing distributions of the image.

        Args:
            engine: The engine that predicts the changes.
            request: The install.
            pins: Versions that a repair keeps.
            wanted: The requirements that apply in this environment.
            needs: The distributions that do not satisfy them.

        Raises:
            TaskFailed: the install is impossible, or impossible without such a change.

        """
        machine = self._machine
        if self._from_image and not (self._allowed and request.upgrade):
            held = self.hold(request)
            with contextlib.suppress(TaskFailed):
                moves, kept = _resolved(engine, machine, held, pins)
                if self._allowed or (moves is not None and not self._moved(moves, needs)):
                    return Resolution(moves=moves, pins=kept, constraints=self.constraints())
        moves, pins = _resolved(engine, machine, request, pins)
        if self._from_image and not self._allowed:
            if moves is None:
                raise TaskFailed(
                    f"the pip of {self._target.name} cannot predict its changes to the platform's packages",
                    cause="it is older than 22.2",
                    cure="leave `engine` at `auto`, which uses uv",
                )
            moved = self._moved(moves, needs)
            if moved:
                blamed = self._blamed(engine, held, wanted)
                touched = [
                    ImageChange(Difference("pip", name, self._from_image[name], after), self._because(name, blamed))
                    for name, after in moved.items()
                ]
                raise refusal(self._target.prefix, touched, self._alternatives(engine, held, wanted, needs))
        return Resolution(moves=moves, pins=pins)

    def hold(self, request: Request) -> Request:
        """The request with the image's distributions kept as they are."""
        return msgspec.structs.replace(
            request,
            constraints=(*request.constraints, *self.constraints()),
            upgrade=tuple(name for name in request.upgrade if name not in self._from_image),
        )

    def refuse_removal(self, removable: Iterable[Distribution]) -> None:
        """Refuse to uninstall distributions of the image.

        Raises:
            TaskFailed: one of them would be removed.

        """
        touched = [
            ImageChange(Difference("pip", removed.name, removed.version, None), self._needed_by(removed.name))
            for removed in removable
            if removed.name in self._from_image
        ]
        if touched and not self._allowed:
            raise refusal(self._target.prefix, touched, ())

    def refuse_locked(self, needs: Sequence[Need]) -> None:
        """Refuse to replace distributions of the image or of conda by those of a lock.

        A resolved install leaves them alone where they satisfy the requirements. A lock does not know them.

        Raises:
            TaskFailed: one of them would be replaced.

        """
        if self._allowed:
            return
        touched = [
            ImageChange(
                Difference("pip", need.name, self._from_image[need.name], need.expected), self._needed_by(need.name)
            )
            for need in needs
            if need.name in self._from_image and need.reason in _REPLACED
        ]
        if touched:
            raise refusal(self._target.prefix, touched, ())
        if self._target.place not in self._machine.locked:  # the playbook's own lock was made around conda's
            refuse_conda(self._target.prefix, self._installed, needs)

    def _moved(self, moves: Iterable[Move], needs: Iterable[Need] = ()) -> dict[str, str | None]:
        """The image's distributions that would change or come from another source, with their new versions."""
        after = {move.name: move.after for move in moves if move.after != self._from_image.get(move.name)}
        after.update({need.name: need.expected or None for need in needs if need.reason == "source"})
        return {name: after[name] for name in sorted(self._from_image) if name in after}

    def _because(self, name: str, blamed: Sequence[PipRequirement]) -> str:
        """The requirements that cause a change, and the packages that need the present version."""
        direct = [requirement for requirement in blamed if requirement.name == name]
        cause = f"for {' and '.join(requirement.shown for requirement in direct or blamed)}" if blamed else ""
        return "; ".join(filter(None, [cause, self._needed_by(name)]))

    def _blamed(self, engine: Engine, held: Request, wanted: Sequence[PipRequirement]) -> list[PipRequirement]:
        """The requirements that are impossible, each by itself, while the image's distributions stay."""
        if len(wanted) == 1 or len(wanted) > _MOST_TRIED:
            return list(wanted) if len(wanted) == 1 else []
        return [requirement for requirement in wanted if not self._is_possible(engine, held, requirement)]

    def _is_possible(self, engine: Engine, held: Request, requirement: PipRequirement) -> bool:
        try:
            engine.resolve(self._machine, msgspec.structs.replace(held, lines=(requirement.requirement,)))
        except TaskFailed:
            return False
        return True

    def _needed_by(self, name: str) -> str:
        names = dependents(name, self._installed, requirements.marker_environment(self._target.version or "3"))
        return f"needed by {', '.join(names)}" if names else ""

    def _alternatives(
        self, engine: Engine, held: Request, wanted: Sequence[PipRequirement], needs: Sequence[Need]
    ) -> list[str]:
        """Pins of requested packages with which the image does not change; empty if there are none."""
        loose = [
            requirement for requirement in wanted if requirement.name and not requirement.url and requirement.specifier
        ]
        groups = [[requirement] for requirement in loose[:_MOST_TRIED]]
        for group in [*groups, *([loose] if len(loose) > 1 else [])]:
            relaxed = {requirement.requirement: _versioned(requirement, "") for requirement in group}
            request = msgspec.structs.replace(held, lines=tuple(relaxed.get(line, line) for line in held.lines))
            with contextlib.suppress(TaskFailed):
                moves = engine.resolve(self._machine, request) or []
                if not self._moved(moves, needs):
                    return [f"`{text}`" for text in self._pins(group, moves)]
        return []

    def _pins(self, group: Iterable[PipRequirement], moves: Iterable[Move]) -> Iterator[str]:
        versions = {name: same_name[0].version for name, same_name in self._installed.items() if same_name}
        versions.update({move.name: move.after for move in moves if move.after})
        for requirement in group:
            version = versions.get(requirement.name or "")
            if version:
                yield _versioned(requirement, f"=={version}")


def refuse_conda(prefix: Path, installed: Installed, needs: Iterable[Need]) -> None:
    """Refuse to replace distributions that conda installed by those of a lock.

    Raises:
        TaskFailed: one of them would be replaced.

    """
    owned = [
        f"{need.name} {need.installed} would become {need.expected}"
        for need in needs
        if need.reason in _REPLACED and any(entry.installer == "conda" for entry in installed.get(need.name, ()))
    ]
    if owned:
        raise TaskFailed(
            f"the lock would replace packages that conda installed in {prefix.name}",
            cause="\n".join(owned),
            cure="make the lock without them: `uv pip compile --format pylock.toml` with conda's versions as "
            "`--constraints` and their names as `--excludes`; or set `allow_platform_changes: true` in an "
            "ensure_pip_pkg task to replace them",
        )


def image_constraints(machine: Machine, prefix: Path) -> tuple[Path, ...]:
    """The file that keeps the image's packages in ``prefix`` as they are; empty for other environments.

    For tasks that install a package of their own and have no ``allow_platform_changes``.
    """
    target = Target(prefix, prefix / "bin/python", prefix.name)
    return PipGuard(machine, target, allowed=False).constraints()


def known_prefix(machine: Machine, prefix: Path) -> Path:
    """The path under which an environment is registered, if ``prefix`` names it through a link."""
    real = os.path.realpath(prefix)
    prefixes = (env.prefix for env in machine.conda.environments() if os.path.realpath(env.prefix) == real)
    return next(prefixes, prefix)


def _resolved(
    engine: Engine, machine: Machine, request: Request, pins: tuple[str, ...]
) -> tuple[list[Move] | None, tuple[str, ...]]:
    """The changes of an install that repairs without upgrading, if that is possible; and the pins that it uses."""
    if pins:
        with contextlib.suppress(TaskFailed):  # for example, a version that the index no longer has
            return engine.resolve(machine, request.pinned(pins)), pins
    return engine.resolve(machine, request), ()


def _versioned(requirement: PipRequirement, specifier: str) -> str:
    return f"{requirement.name_and_extras}{specifier}" + (f" ; {requirement.marker}" if requirement.marker else "")

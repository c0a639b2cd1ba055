"""What pip tasks would change, worked out so that nothing of what the platform's image brought moves unasked.

In an environment that the platform provides every distribution of the image is a constraint (``name==version``), and
mostly all can be had so. Where not, the same is worked out without: what would move is refused, with who needs that and
with a version of what was asked for that needs no such move, if there is one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from nbprovision.machine.distributions import Distribution
from nbprovision.machine.image import Difference, Touched, guarded, refusal
from nbprovision.machine.interpreters import Target
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import requirements
from nbprovision.pip.request import Move, Request, constraints_file
from nbprovision.pip.requirements import PipRequirement
from nbprovision.pip.satisfied import Need, dependents

# Requirements that are loosened one at a time to find a pin; each costs a look by the engine.
_TRIED = 8


class Resolver(Protocol):
    """An engine, as far as it tells what it would do."""

    def resolve(self, machine: Machine, request: Request) -> list[Move] | None:
        """What an install would change; None where it cannot tell."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine would do.

    Attributes:
        moves: None where it cannot tell.
        pins: Versions that a mend is to keep.
        constraints: Files that hold the image's distributions where they are.
    """

    moves: list[Move] | None
    pins: tuple[str, ...] = ()
    constraints: tuple[Path, ...] = ()


class PipGuard:
    """The guard on one target.

    Args:
        machine: The facts.
        target: Where to install.
        allowed: The platform's distributions may change.

    """

    def __init__(self, machine: Machine, target: Target, *, allowed: bool) -> None:
        self._machine = machine
        self._target = target
        self._allowed = allowed
        self._found = target.found()
        self._brought = self._versions()

    def _versions(self) -> dict[str, str]:
        """The image's distributions that are there, in the versions that they have now; none for other targets."""
        if self._target.location is not None or self._target.probed is not None:
            return {}
        known = guarded(self._machine, known_prefix(self._machine, self._target.prefix), allowed=False)
        names = known.content.distributions if known is not None else {}
        return {name: self._found[name][0].version for name in names if name in self._found}

    @property
    def needless(self) -> bool:
        """Whether the platform's image has brought nothing to the target."""
        return not self._brought

    def constraints(self) -> tuple[Path, ...]:
        """The file that holds them where they are."""
        lines = [f"{name}=={version}" for name, version in self._brought.items() if _is_version(version)]
        return (constraints_file(self._machine, lines),) if lines else ()

    def work_out(
        self,
        engine: Resolver,
        request: Request,
        pins: tuple[str, ...],
        asked: Sequence[PipRequirement],
        needs: Sequence[Need],
    ) -> Answer:
        """What the engine would do, without moving what the image brought.

        Args:
            engine: Who is asked.
            request: What is to be installed.
            pins: Versions that a mend is to keep.
            asked: The requirements that hold in this environment.
            needs: What is not as asked for.

        Raises:
            TaskFailed: it cannot be had, or not without such a move.

        """
        machine = self._machine
        if not self._brought or (self._allowed and request.upgrade):
            moves, pins = _resolved(engine, machine, request, pins)
            return Answer(moves=moves, pins=pins)
        held = self.hold(request)
        with contextlib.suppress(TaskFailed):
            moves, kept = _resolved(engine, machine, held, pins)
            if self._allowed or (moves is not None and not self._moved(moves, needs)):
                return Answer(moves=moves, pins=kept, constraints=self.constraints())
        moves, pins = _resolved(engine, machine, request, pins)
        if self._allowed:
            return Answer(moves=moves, pins=pins)
        if moves is None:
            raise self._cannot_tell()
        moved = self._moved(moves, needs)
        if moved:
            blamed = self._blamed(engine, held, asked)
            touched = [
                Touched(Difference("pip", name, self._brought[name], after), self._because(name, blamed))
                for name, after in moved.items()
            ]
            raise refusal(self._target.prefix, touched, self._instead(engine, held, asked, needs))
        return Answer(moves=moves, pins=pins)

    def hold(self, request: Request) -> Request:
        """The request with the image's distributions held where they are."""
        return msgspec.structs.replace(
            request,
            constraints=(*request.constraints, *self.constraints()),
            upgrade=tuple(name for name in request.upgrade if name not in self._brought),
        )

    def refuse_removal(self, removable: Iterable[Distribution]) -> None:
        """Refuse to uninstall what the image brought.

        Raises:
            TaskFailed: something of it would go.

        """
        gone = [one for one in removable if one.name in self._brought]
        if gone and not self._allowed:
            touched = [
                Touched(Difference("pip", one.name, one.version, None), self._needed_by(one.name)) for one in gone
            ]
            raise refusal(self._target.prefix, touched, ())

    def _moved(self, moves: Iterable[Move], needs: Iterable[Need] = ()) -> dict[str, str | None]:
        """What of the image would move, or come from somewhere else, and to which version."""
        after = {move.name: move.after for move in moves if move.after != self._brought.get(move.name)}
        after.update({need.name: need.expected or None for need in needs if need.reason == "source"})
        return {name: after[name] for name in sorted(self._brought) if name in after}

    def _because(self, name: str, blamed: Sequence[PipRequirement]) -> str:
        """What asks for the move, and who needs what is there."""
        direct = [one for one in blamed if one.name == name]
        asking = f"for {' and '.join(one.shown for one in direct or blamed)}" if blamed else ""
        return "; ".join(filter(None, [asking, self._needed_by(name)]))

    def _blamed(self, engine: Resolver, held: Request, asked: Sequence[PipRequirement]) -> list[PipRequirement]:
        """The requirements that cannot be had by themselves while the image's distributions stay."""
        if len(asked) == 1 or len(asked) > _TRIED:
            return list(asked[:1]) if len(asked) == 1 else []
        return [one for one in asked if not self._can_be_had(engine, held, one)]

    def _can_be_had(self, engine: Resolver, held: Request, one: PipRequirement) -> bool:
        try:
            engine.resolve(self._machine, msgspec.structs.replace(held, lines=(one.requirement,)))
        except TaskFailed:
            return False
        return True

    def _needed_by(self, name: str) -> str:
        names = dependents(name, self._found, requirements.marker_environment(self._target.version or "3"))
        return f"needed by {', '.join(names)}" if names else ""

    def _instead(
        self, engine: Resolver, held: Request, asked: Sequence[PipRequirement], needs: Sequence[Need]
    ) -> list[str]:
        """Pins of what is asked for with which nothing of the image moves; empty where there are none."""
        loose = [one for one in asked if one.name and one.url is None and one.specifier]
        groups = [[one] for one in loose[:_TRIED]]
        for group in [*groups, *([loose] if len(loose) > 1 else [])]:
            swaps = {one.requirement: _loosened(one) for one in group}
            request = msgspec.structs.replace(held, lines=tuple(swaps.get(line, line) for line in held.lines))
            with contextlib.suppress(TaskFailed):
                moves = engine.resolve(self._machine, request) or []
                if not self._moved(moves, needs):
                    return [f"`{text}`" for text in self._pins(group, moves)]
        return []

    def _pins(self, group: Iterable[PipRequirement], moves: Iterable[Move]) -> Iterator[str]:
        versions: Mapping[str, str | None] = {move.name: move.after for move in moves}
        for one in group:
            name = one.name or ""
            there = self._found.get(name)
            version = versions.get(name) or (there[0].version if there else None)
            if version:
                extras = f"[{','.join(one.extras)}]" if one.extras else ""
                yield f"{name}{extras}=={version}" + (f" ; {one.marker}" if one.marker else "")

    def _cannot_tell(self) -> TaskFailed:
        return TaskFailed(
            f"the pip of {self._target.name} cannot say what it would change of what the platform provides",
            cause="it is older than 22.2",
            cure="leave `engine` to `auto`, which takes uv",
        )


def image_constraints(machine: Machine, prefix: Path) -> tuple[Path, ...]:
    """The file that holds what the platform's image brought into ``prefix``; none for other environments.

    For tasks that install something of their own by the way, and say nothing of allowing more.
    """
    target = Target(prefix, prefix / "bin/python", prefix.name)
    return PipGuard(machine, target, allowed=False).constraints()


def known_prefix(machine: Machine, prefix: Path) -> Path:
    """The path by which an environment is known that may have been named by another, through a link."""
    real = os.path.realpath(prefix)
    known = (one.prefix for one in machine.conda.environments() if os.path.realpath(one.prefix) == real)
    return next(known, prefix)


def _resolved(
    engine: Resolver, machine: Machine, request: Request, pins: tuple[str, ...]
) -> tuple[list[Move] | None, tuple[str, ...]]:
    """What an install would change that mends without upgrading, if that can be had; and the pins that it takes."""
    if pins:
        with contextlib.suppress(TaskFailed):  # a version that the index no longer has, for one
            return engine.resolve(machine, request.pinned(pins)), pins
    return engine.resolve(machine, request), ()


def _loosened(wanted: PipRequirement) -> str:
    extras = f"[{','.join(wanted.extras)}]" if wanted.extras else ""
    return f"{wanted.name}{extras}" + (f" ; {wanted.marker}" if wanted.marker else "")


def _is_version(text: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        Version(text)
    except InvalidVersion:
        return False
    return True

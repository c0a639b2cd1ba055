"""What a run is made of: steps, and the order that blocks, sections, handlers and late tasks impose on them.

Tasks that only depend on what others make stand in stretches, whose steps are carried out side by side as far as their
needs allow. Everything else is a barrier: it begins when all before it has ended, and all after it waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from nbprovision.engine.step import Step
from nbprovision.playbook.calls import Block, Entry, Meta, Play, TaskCall


class Stretch(msgspec.Struct, frozen=True):
    """Steps, by number, of which only their own needs say which comes first."""

    steps: tuple[int, ...]


class Late(msgspec.Struct, frozen=True):
    """A step that is bound when its turn has come."""

    step: int


class Guarded(msgspec.Struct, frozen=True):
    """A block with what is done when one of its tasks fails, and after all."""

    body: Program
    rescue: Program
    always: Program
    saves: bool


class Told(msgspec.Struct, frozen=True):
    """``meta`` within a play."""

    meta: Meta


class Acts(msgspec.Struct, frozen=True):
    """A play that is more than its tasks: sections one after the other, handlers after each.

    Attributes:
        number: The play's.
        name: As in `Step.play`; what is kept of notifications is kept by it.
        sections: Each ends before the next begins.
        handlers: Numbers of the steps that are run when they are notified.

    """

    number: int
    name: str
    sections: tuple[Program, ...]
    handlers: tuple[int, ...]


Op = Stretch | Late | Guarded | Told | Acts
Program = tuple[Op, ...]


class Compiler:
    """Makes steps and their program of plays.

    Args:
        chosen: Which calls are carried out.
        deep: Compare the files of every package.

    """

    def __init__(self, chosen: Callable[[TaskCall], bool], *, deep: bool) -> None:
        self.steps: list[Step] = []
        self._chosen = chosen
        self._deep = deep

    def program(self, plays: Sequence[Play]) -> Program:
        """The program of some plays, whose steps stand in ``steps`` then."""
        ops: list[Op] = []
        for number, play in enumerate(plays):
            here = number, play.name
            sections = tuple(_joined(self._ops(section.entries, here)) for section in play.sections)
            handlers = tuple(self._step(call, here, conditional=True) for call in play.handlers)
            plain = len(sections) == 1 and not handlers and not any(isinstance(op, Told) for op in _all(sections[0]))
            if plain:
                ops += sections[0]
            elif sections:
                ops.append(Acts(number, play.name, sections, handlers))
        return _joined(ops)

    def _ops(self, entries: Sequence[Entry], play: tuple[int, str], *, conditional: bool = False) -> Iterator[Op]:
        for entry in entries:
            if isinstance(entry, Meta):
                yield Told(entry)
            elif isinstance(entry, TaskCall):
                if self._chosen(entry):
                    number = self._step(entry, play, conditional=conditional)
                    yield Late(number) if entry.late else Stretch((number,))
            else:
                yield self._guarded(entry, play, conditional=conditional)

    def _guarded(self, block: Block, play: tuple[int, str], *, conditional: bool) -> Guarded:
        return Guarded(
            _joined(self._ops(block.body, play, conditional=conditional)),
            _joined(self._ops(block.rescue, play, conditional=True)),
            _joined(self._ops(block.always, play, conditional=conditional)),
            saves=bool(block.rescue),
        )

    def _step(self, call: TaskCall, play: tuple[int, str], *, conditional: bool) -> int:
        task = call.task
        if task is not None and self._deep:
            task = msgspec.structs.replace(task, deep=True)
        self.steps.append(
            Step(
                name=call.name,
                kind=call.kind,
                task=task,
                position=call.position,
                no_log=call.no_log,
                play=play,
                call=call,
                conditional=conditional,
                deep=self._deep,
                diff=call.diff,
            )
        )
        return len(self.steps) - 1


def _joined(ops: Sequence[Op] | Iterator[Op]) -> Program:
    """The same with stretches that follow each other as one."""
    joined: list[Op] = []
    for op in ops:
        if isinstance(op, Stretch) and joined and isinstance(joined[-1], Stretch):
            joined[-1] = Stretch((*joined[-1].steps, *op.steps))
        else:
            joined.append(op)
    return tuple(joined)


def _all(program: Program) -> Iterator[Op]:
    for op in program:
        yield op
        if isinstance(op, Guarded):
            for part in (op.body, op.rescue, op.always):
                yield from _all(part)


def steps_of(program: Program) -> Iterator[int]:
    """The numbers of all steps in a program but the handlers."""
    for op in program:
        if isinstance(op, Stretch):
            yield from op.steps
        elif isinstance(op, Late):
            yield op.step
        elif isinstance(op, Guarded):
            for part in (op.body, op.rescue, op.always):
                yield from steps_of(part)
        elif isinstance(op, Acts):
            for section in op.sections:
                yield from steps_of(section)

"""From plays to steps, and to the program: the order that blocks, sections, handlers and late tasks impose on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from nbprovision.engine.operations import (
    Batch,
    BlockOperation,
    LateStep,
    MetaOperation,
    Operation,
    PlayOperation,
    Program,
    every_operation,
)
from nbprovision.engine.step import Step
from nbprovision.playbook.calls import Block, Entry, Meta, Play, TaskCall


class Compiler:
    """Makes steps and their program of plays.

    Args:
        chosen: Which calls are run.
        deep: Compare the files of every package.
        locked: A lock decides on the versions of packages.

    """

    def __init__(self, chosen: Callable[[TaskCall], bool], *, deep: bool, locked: bool = False) -> None:
        self.steps: list[Step] = []
        self._chosen = chosen
        self._deep = deep
        self._locked = locked

    def program(self, plays: Sequence[Play]) -> Program:
        """Make the program of some plays; their steps are then in ``steps``."""
        ops: list[Operation] = []
        for number, play in enumerate(plays):
            here = number, play.name
            sections = tuple(_joined(self._operations(section.entries, here)) for section in play.sections)
            handlers = tuple(self._step(call, here, conditional=True) for call in play.handlers)
            plain = (
                len(sections) == 1
                and not handlers
                and not any(isinstance(op, MetaOperation) for op in every_operation(sections[0]))
            )
            if plain:
                ops += sections[0]
            elif sections:
                ops.append(PlayOperation(number, play.name, sections, handlers))
        return _joined(ops)

    def _operations(
        self, entries: Sequence[Entry], play: tuple[int, str], *, conditional: bool = False
    ) -> Iterator[Operation]:
        for entry in entries:
            if isinstance(entry, Meta):
                yield MetaOperation(entry)
            elif isinstance(entry, TaskCall):
                if self._chosen(entry):
                    number = self._step(entry, play, conditional=conditional)
                    yield LateStep(number) if entry.late else Batch((number,))
            else:
                yield self._block(entry, play, conditional=conditional)

    def _block(self, block: Block, play: tuple[int, str], *, conditional: bool) -> BlockOperation:
        return BlockOperation(
            _joined(self._operations(block.body, play, conditional=conditional)),
            _joined(self._operations(block.rescue, play, conditional=True)),
            _joined(self._operations(block.always, play, conditional=conditional)),
            saves=bool(block.rescue),
        )

    def _step(self, call: TaskCall, play: tuple[int, str], *, conditional: bool) -> int:
        step = Step(
            name=call.name,
            kind=call.kind,
            task=None,
            position=call.position,
            no_log=call.no_log,
            play=play,
            call=call,
            conditional=conditional,
            deep=self._deep,
            locked=self._locked,
            diff=call.diff,
        )
        self.steps.append(step.bound(call.task))
        return len(self.steps) - 1


def _joined(ops: Sequence[Operation] | Iterator[Operation]) -> Program:
    """The same with batches that follow each other as one."""
    joined: list[Operation] = []
    for op in ops:
        if isinstance(op, Batch) and joined and isinstance(joined[-1], Batch):
            joined[-1] = Batch((*joined[-1].steps, *op.steps))
        else:
            joined.append(op)
    return tuple(joined)

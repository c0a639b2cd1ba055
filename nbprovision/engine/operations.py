"""The operations of a run: each has its work, and the proof that a run with nothing to do would find.

Tasks that only depend on results of others are in batches; the steps of a batch run side by side as far as their
needs allow. Everything else is a barrier: it begins when all before it has ended, and all after it waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from nbprovision.engine.notices import Notice
from nbprovision.engine.step import skipped
from nbprovision.engine.work import planned_after
from nbprovision.machine.machine import NOTIFIED
from nbprovision.model.errors import InvalidPlaybook, ProvisionError
from nbprovision.model.result import as_variables
from nbprovision.playbook.calls import Meta
from nbprovision.state.store import Proof

if TYPE_CHECKING:
    from nbprovision.engine.run import Run
    from nbprovision.engine.settling import Settling

FAILED = "an earlier task failed"


class Stop(msgspec.Struct, frozen=True):
    """Why what follows is left out; ``failure`` is the number of the step that failed, if one did."""

    reason: str
    failure: int | None = None


class Place(msgspec.Struct, frozen=True):
    """The place of an operation in a program.

    Attributes:
        play: The play, if it is more than its tasks.
        linear: One after the other, and none after the first failure.
        saved: A block around it knows what to do about a failure.

    """

    play: PlayOperation | None
    linear: bool
    saved: bool = False


class Operation(msgspec.Struct, frozen=True):
    """A part of a program; ``perform`` carries it out, ``settle`` gives the proofs of a run with nothing to do."""

    @property
    def own_steps(self) -> Sequence[int]:
        """The numbers of its steps but those of its parts and of handlers."""
        return ()

    @property
    def parts(self) -> Sequence[Program]:
        """The programs within it."""
        return ()

    def perform(self, run: Run, place: Place) -> Stop | None:
        """Run the operation; return a `Stop` if the rest must be left out."""
        raise NotImplementedError

    def settle(self, settling: Settling) -> Iterator[Proof | None]:
        """The proof of each of its steps, None for one that is not possible."""
        raise NotImplementedError


Program = tuple[Operation, ...]


def every_operation(program: Program) -> Iterator[Operation]:
    """The operations of a program, those within others too."""
    for operation in program:
        yield operation
        for part in operation.parts:
            yield from every_operation(part)


def steps_of(program: Program) -> Iterator[int]:
    """The numbers of all steps in a program but the handlers."""
    for operation in every_operation(program):
        yield from operation.own_steps


def perform_all(program: Program, run: Run, place: Place) -> Stop | None:
    """Run a program up to the point where it stops; the rest is reported as left out."""
    for number, operation in enumerate(program):
        stop = operation.perform(run, place)
        if stop is not None:
            run.work.skip(list(steps_of(program[number + 1 :])), stop.reason)
            return stop
    return None


def settle_all(program: Program, settling: Settling) -> Iterator[Proof | None]:
    """The proofs of a program."""
    for operation in program:
        yield from operation.settle(settling)


class Batch(Operation, frozen=True):
    """Steps, by number, ordered only by their own needs."""

    steps: tuple[int, ...]

    @property
    def own_steps(self) -> Sequence[int]:
        """All of them."""
        return self.steps

    def perform(self, run: Run, place: Place) -> Stop | None:
        """Carry out those that may be run at once, group by group."""
        for group in self._groups(run, linear=place.linear):
            if len(group) == 1 and run.work.nodes[group[0]].open:
                run.carry_out_late(group[0], saved=place.saved)
            else:
                run.work.carry_out(group, saved=place.saved)
            stop = _stopped(run, group, place)
            if stop is not None:
                run.work.skip([number for number in self.steps if number > group[-1]], stop.reason)
                return stop
        return None

    def settle(self, settling: Settling) -> Iterator[Proof | None]:
        """A proof for each step."""
        return map(settling.proof_of, self.steps)

    def _groups(self, run: Run, *, linear: bool) -> list[list[int]]:
        groups: list[list[int]] = []
        apart = True
        for number in self.steps:
            alone = linear or run.work.nodes[number].open
            if alone or apart:
                groups.append([])
            groups[-1].append(number)
            apart = alone
        return groups


class LateStep(Operation, frozen=True):
    """A step that is bound when its turn has come."""

    step: int

    @property
    def own_steps(self) -> Sequence[int]:
        """The step."""
        return (self.step,)

    def perform(self, run: Run, place: Place) -> Stop | None:
        """Bind it to what is known by now, and carry it out."""
        run.carry_out_late(self.step, saved=place.saved)
        return _stopped(run, self.own_steps, place)

    def settle(self, settling: Settling) -> Iterator[Proof | None]:
        """The proof of what it is bound to when there is nothing to do."""
        yield settling.proof_of_late(self.step)


class BlockOperation(Operation, frozen=True):
    """A block with what is done when one of its tasks fails, and after all."""

    body: Program
    rescue: Program
    always: Program
    saves: bool

    @property
    def parts(self) -> Sequence[Program]:
        """Its three sections."""
        return (self.body, self.rescue, self.always)

    def perform(self, run: Run, place: Place) -> Stop | None:
        """Carry out the body, after a failure the rescue, and always the rest."""
        inside = Place(place.play, linear=True, saved=place.saved)
        stop = perform_all(self.body, run, msgspec.structs.replace(inside, saved=place.saved or self.saves))
        if stop is not None and stop.failure is not None and self.saves:
            self._explain(run, stop.failure)
            stop = perform_all(self.rescue, run, inside)
        with run.work.registry.revealed():
            after = perform_all(self.always, run, inside)
        stop = after or stop
        # Where nothing is in a row, only what needs it goes without what has failed.
        return None if stop is not None and stop.failure is not None and not place.linear else stop

    def settle(self, settling: Settling) -> Iterator[Proof | None]:
        """Return no failure: nothing fails if there is nothing to do."""
        yield from settle_all(self.body, settling)
        yield from settle_all(self.always, settling)

    @staticmethod
    def _explain(run: Run, failure: int) -> None:
        """Let the tasks of the rescue know what has failed."""
        step = run.work.steps[failure]
        run.work.registry.results["ansible_failed_task"] = {"name": step.name, "action": step.kind}
        run.work.registry.results["ansible_failed_result"] = as_variables(run.work.outcomes[failure].result)


class MetaOperation(Operation, frozen=True):
    """``meta`` within a play."""

    meta: Meta

    def perform(self, run: Run, place: Place) -> Stop | None:
        """End the play, or run the handlers that were notified."""
        try:
            if not self.meta.wanted(run.work.registry.results):
                return None
        except InvalidPlaybook:
            if run.work.check and run.planned() is not None:
                return None  # it turns on what is only planned
            raise
        if self.meta.action == "end_play":
            return Stop(f"the play was ended before it ({self.meta.position})")
        if place.play is not None:
            place.play.flush(run, final=False)
        return None

    def settle(self, settling: Settling) -> Iterator[Proof | None]:
        """It has no step."""
        yield from ()

    def ends_play(self, settling: Settling) -> bool:
        """Whether the play would end here in a run with nothing to do."""
        try:
            return self.meta.action == "end_play" and self.meta.wanted(settling.registry.results)
        except ProvisionError:
            return False


class PlayOperation(Operation, frozen=True):
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

    @property
    def parts(self) -> Sequence[Program]:
        """The sections."""
        return self.sections

    def perform(self, run: Run, place: Place) -> Stop | None:
        """Carry out section after section, each with its handlers."""
        inside = Place(self, linear=place.linear)
        numbers = [number for section in self.sections for number in steps_of(section)]
        broken = False
        for section in self.sections:
            stop = perform_all(section, run, inside)
            broken = run.work.broken([*steps_of(section), *self.handlers])
            if not broken:
                self.flush(run, final=section is self.sections[-1] or stop is not None)
                broken = run.work.broken(self.handlers)
            if broken or stop is not None:
                run.work.skip(numbers, FAILED if broken or stop is None else stop.reason)
                break
        if broken:
            self._put_off(run)
        return Stop(FAILED, 0) if broken and place.linear else None

    def settle(self, settling: Settling) -> Iterator[Proof | None]:
        """The proofs up to where the play ends."""
        for section in self.sections:
            for operation in section:
                if isinstance(operation, MetaOperation) and operation.ends_play(settling):
                    return
                yield from operation.settle(settling)

    def flush(self, run: Run, *, final: bool) -> None:
        """Run the handlers that were notified, in their order; what they notify themselves, in another round."""
        notices = run.notices
        for _ in range(len(self.handlers) + 1):
            waiting = [notice for notice in notices.waiting(self.name) if final or notice not in notices.left_over]
            due = [number for number in self._due(run, waiting) if number not in run.foretold]
            if not due:
                return
            if run.work.check:
                self._foretell(run, due, waiting)
                continue
            for place, number in enumerate(due):
                times = [notice.when for notice in waiting if _hears(run, number, notice)]
                run.work.machine.notes[NOTIFIED] = max(times, default=0.0)
                run.carry_out_late(number) if run.work.steps[number].late else run.work.carry_out([number])
                if run.work.broken([number]):
                    left = due[place:]
                    notices.remove([notice for notice in waiting if not any(_hears(run, n, notice) for n in left)])
                    return
            notices.remove([notice for notice in waiting if self._due(run, [notice])])

    def _foretell(self, run: Run, handlers: Sequence[int], waiting: Sequence[Notice]) -> None:
        """With ``check``: report handlers that would run; no notification is removed, because none is recorded."""
        for number in handlers:
            cause = next(notice for notice in waiting if _hears(run, number, notice))
            run.work.finish(number, planned_after(run.work.steps[number], cause.task))
            run.foretold.add(number)

    def _put_off(self, run: Run) -> None:
        """Tell of the handlers that are to be run and cannot be: the next run that succeeds runs them."""
        for number in self._due(run, run.notices.waiting(self.name)):
            if not run.work.broken([number]):
                reason = f"notified, but {FAILED}; the next run of the playbook that does not fail runs it"
                run.work.finish(number, skipped(run.work.steps[number], reason))

    def _due(self, run: Run, notices: Sequence[Notice]) -> list[int]:
        return [number for number in self.handlers if any(_hears(run, number, notice) for notice in notices)]


def _hears(run: Run, number: int, notice: Notice) -> bool:
    call = run.work.steps[number].call
    return call is not None and notice.handler in call.listen


def _stopped(run: Run, numbers: Sequence[int], place: Place) -> Stop | None:
    failure = run.work.failure(numbers) if place.linear else None
    return None if failure is None else Stop(FAILED, failure)

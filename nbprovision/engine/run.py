"""A run: the program of a playbook from its first stretch to its last handler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from nbprovision.engine import settling
from nbprovision.engine.notices import Notice, Notices
from nbprovision.engine.order import arrange_late
from nbprovision.engine.program import Acts, Guarded, Late, Op, Program, Stretch, Told, steps_of
from nbprovision.engine.step import Outcome, Step, skipped
from nbprovision.engine.work import Listener, Work, planned_after
from nbprovision.facts.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, MissingInput, ProvisionError, UnknownEnvironment
from nbprovision.model.result import Result, as_variables
from nbprovision.model.task import Task
from nbprovision.playbook.template import NotYetKnown
from nbprovision.state.store import Proof, Store
from nbprovision.system.process import kept_children

__all__ = ["Listener", "Run"]

_FAILED = "an earlier task failed"


class _Stop(msgspec.Struct, frozen=True):
    """Why what follows is left out; ``failure`` is the number of the step that failed, if one did."""

    reason: str
    failure: int | None = None


class _Place(msgspec.Struct, frozen=True):
    """Where in a program a part of it stands.

    Attributes:
        play: The play, if it is more than its tasks.
        linear: One after the other, and none after the first failure.
        saved: A block around it knows what to do about a failure.

    """

    play: Acts | None
    linear: bool
    saved: bool = False


class Run:
    """Carries out a program.

    Args:
        steps: In the order of the playbook.
        machine: The facts.
        listener: Hears of each step.
        program: The order beyond what the steps' needs say; by default there is none.
        store: What earlier runs proved; None looks at everything anew.
        check: Say what would change, and change nothing.
        linear: One after the other, and stop at the first failure.
        bystanders: Tasks of the playbook that this run leaves out.
        allowed: Asked before each step that has work in it whether it is to be carried out; None for all.
        notices: Which handlers are to be run.

    Raises:
        InvalidPlaybook: the steps cannot all hold.

    """

    def __init__(
        self,
        steps: Sequence[Step],
        machine: Machine,
        listener: Listener,
        *,
        program: Program | None = None,
        store: Store | None = None,
        check: bool = False,
        linear: bool = False,
        bystanders: Sequence[Task[Any]] = (),
        allowed: Callable[[Step], bool] | None = None,
        notices: Notices | None = None,
    ) -> None:
        self._program = (Stretch(tuple(range(len(steps)))),) if program is None else program
        self._notices = Notices() if notices is None else notices
        self._linear = linear
        self._machine = machine
        self._work = Work(
            steps,
            machine,
            listener,
            store=store,
            check=check,
            linear=linear,
            bystanders=bystanders,
            allowed=allowed,
            notices=self._notices,
        )
        self._proofs: list[Proof | None] = [None]
        self._foretold: set[int] = set()

    def execute(self) -> list[Result]:
        """Do it all; the results stand in the order of the steps."""
        with kept_children():
            try:
                self._perform(self._program, _Place(None, self._linear))
                self._work.renew_proofs()
                self._proofs = settling.proofs(self._work, self._program)
            finally:
                self._work.end()
        self._machine.keep()
        return self._work.told()

    @property
    def undone(self) -> list[str]:
        """What to warn of when all is done: tasks of which later ones have undone what they did."""
        return self._work.undone

    @property
    def proofs(self) -> tuple[list[Proof], bool]:
        """What to record, and whether it is all: a run with nothing to do finds every step proven."""
        return [proof for proof in self._proofs if proof is not None], None not in self._proofs

    def _perform(self, program: Sequence[Op], place: _Place) -> _Stop | None:
        for number, op in enumerate(program):
            stop = self._one(op, place)
            if stop is not None:
                self._work.skip(list(steps_of(tuple(program[number + 1 :]))), stop.reason)
                return stop
        return None

    def _one(self, op: Op, place: _Place) -> _Stop | None:
        if isinstance(op, Stretch):
            return self._stretch(op.steps, place)
        if isinstance(op, Late):
            self._late(op.step, saved=place.saved)
            return self._stopped((op.step,), place)
        if isinstance(op, Guarded):
            return self._guarded(op, place)
        if isinstance(op, Told):
            return self._told(op, place)
        return self._acts(op, place)

    def _stretch(self, numbers: Sequence[int], place: _Place) -> _Stop | None:
        for group in self._groups(numbers, linear=place.linear):
            if len(group) == 1 and self._work.nodes[group[0]].open:
                self._late(group[0], saved=place.saved)
            else:
                self._work.carry_out(group, saved=place.saved)
            stop = self._stopped(group, place)
            if stop is not None:
                self._work.skip([number for number in numbers if number > group[-1]], stop.reason)
                return stop
        return None

    def _groups(self, numbers: Sequence[int], *, linear: bool) -> list[list[int]]:
        """The steps of a stretch that may be carried out at once."""
        groups: list[list[int]] = []
        apart = True
        for number in numbers:
            alone = linear or self._work.nodes[number].open
            if alone or apart:
                groups.append([])
            groups[-1].append(number)
            apart = alone
        return groups

    def _stopped(self, numbers: Sequence[int], place: _Place) -> _Stop | None:
        failure = self._work.failure(numbers) if place.linear else None
        return None if failure is None else _Stop(_FAILED, failure)

    def _guarded(self, op: Guarded, place: _Place) -> _Stop | None:
        inside = _Place(place.play, linear=True, saved=place.saved)
        stop = self._perform(op.body, msgspec.structs.replace(inside, saved=place.saved or op.saves))
        if stop is not None and stop.failure is not None and op.saves:
            self._explain(stop.failure)
            stop = self._perform(op.rescue, inside)
        with self._work.registry.revealed():
            after = self._perform(op.always, inside)
        stop = after or stop
        # Where nothing is in a row, only what needs it goes without what has failed.
        return None if stop is not None and stop.failure is not None and not place.linear else stop

    def _explain(self, failure: int) -> None:
        """Let the tasks of a `rescue` know what has failed."""
        step = self._work.steps[failure]
        self._work.registry.results["ansible_failed_task"] = {"name": step.name, "action": step.kind}
        self._work.registry.results["ansible_failed_result"] = as_variables(self._work.outcomes[failure].result)

    def _told(self, op: Told, place: _Place) -> _Stop | None:
        try:
            if not op.meta.wanted(self._work.registry.results):
                return None
        except InvalidPlaybook:
            if self._work.check and self._planned() is not None:
                return None  # it turns on what is only planned
            raise
        if op.meta.what == "end_play":
            return _Stop(f"the play was ended before it ({op.meta.position})")
        if place.play is not None:
            self._flush(place.play, final=False)
        return None

    def _acts(self, op: Acts, place: _Place) -> _Stop | None:
        inside = _Place(op, linear=place.linear)
        numbers = [number for section in op.sections for number in steps_of(section)]
        broken = False
        for section in op.sections:
            stop = self._perform(section, inside)
            broken = self._work.broken([*steps_of(section), *op.handlers])
            if not broken:
                self._flush(op, final=section is op.sections[-1] or stop is not None)
                broken = self._work.broken(op.handlers)
            if broken or stop is not None:
                self._work.skip(numbers, _FAILED if broken or stop is None else stop.reason)
                break
        if broken:
            self._put_off(op)
        return _Stop(_FAILED, 0) if broken and place.linear else None

    def _flush(self, op: Acts, *, final: bool) -> None:
        """Run the handlers that were notified, in their order; what they notify themselves, in another round."""
        for _ in range(len(op.handlers) + 1):
            waiting = [one for one in self._notices.waiting(op.name) if final or one not in self._notices.left_over]
            due = [number for number in self._due(op, waiting) if number not in self._foretold]
            if not due:
                return
            if self._work.check:
                self._foretell(due, waiting)
                continue
            for place, number in enumerate(due):
                self._late(number) if self._work.steps[number].late else self._work.carry_out([number])
                if self._work.broken([number]):
                    left = due[place:]
                    self._notices.remove([one for one in waiting if not any(self._hears(n, one) for n in left)])
                    return
            self._notices.remove([one for one in waiting if self._due(op, [one])])

    def _foretell(self, handlers: Sequence[int], waiting: Sequence[Notice]) -> None:
        """With ``check``: tell of handlers that would be run; nothing is taken back, as none is."""
        for number in handlers:
            cause = next(one for one in waiting if self._hears(number, one))
            self._work.finish(number, planned_after(self._work.steps[number], cause.task))
            self._foretold.add(number)

    def _put_off(self, op: Acts) -> None:
        """Tell of the handlers that are to be run and cannot be: the next run that succeeds runs them."""
        for number in self._due(op, self._notices.waiting(op.name)):
            if not self._work.broken([number]):
                reason = f"notified, but {_FAILED}; the next run of the playbook that does not fail runs it"
                self._work.finish(number, skipped(self._work.steps[number], reason))

    def _due(self, op: Acts, notices: Sequence[Notice]) -> list[int]:
        return [number for number in op.handlers if any(self._hears(number, one) for one in notices)]

    def _hears(self, number: int, notice: Notice) -> bool:
        call = self._work.steps[number].call
        return call is not None and notice.handler in call.listen

    def _late(self, number: int, *, saved: bool = False) -> None:
        """Bind a step to what is known by now, and carry it out."""
        outcome = self._bind(number)
        if outcome is None:
            self._work.carry_out([number], saved=saved)
        else:
            self._work.finish(number, outcome, saved=saved)
            self._work.registry.take(self._work.steps[number], outcome.result)

    def _bind(self, number: int) -> Outcome | None:
        """Give the work what a step is bound to; its outcome where there is no work in it."""
        step, results = self._work.steps[number], self._work.registry.results
        try:
            found = settling.bound(step, results)
            if found is None:
                return skipped(step)
            for one in found.turns or [found.step]:
                if one.task is not None:
                    arrange_late(one, number, self._work.nodes, self._machine)
            self._work.settle(number, found.step, found.environment, found.turns)
        except NotYetKnown as error:
            return skipped(step, f"needs '{error.unknown.task}', which failed")
        except InvalidPlaybook as error:
            unmade = self._work.unmade(number) if isinstance(error, MissingInput | UnknownEnvironment) else None
            if unmade is not None:
                return unmade
            planned = self._planned() if self._work.check else None
            return planned_after(step, planned) if planned else _faulty(step, error)
        except ProvisionError as error:
            return _faulty(step, error)
        return None

    def _planned(self) -> str | None:
        """The name of the last task whose result is registered, and which only says what it would do."""
        found = (
            step.name
            for number, step in reversed(list(enumerate(self._work.steps)))
            if step.call is not None and step.call.register
            and number in self._work.outcomes
            and (self._work.outcomes[number].result.changed or self._work.outcomes[number].result.pending)
        )  # fmt: skip
        return next(found, None)


def _faulty(step: Step, error: ProvisionError) -> Outcome:
    return Outcome(step.result("failed", error=error.at(step.position)))

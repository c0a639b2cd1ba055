"""A run: the program of a playbook from its first batch to its last handler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbprovision.engine import settling
from nbprovision.engine.notices import Notices
from nbprovision.engine.operations import Batch, Place, Program, perform_all
from nbprovision.engine.order import arrange_late
from nbprovision.engine.step import Outcome, Step, skipped
from nbprovision.engine.work import Listener, Work, planned_after
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, MissingInput, ProvisionError, UnknownEnvironment
from nbprovision.model.result import Result
from nbprovision.model.task import Task
from nbprovision.playbook.template import NotYetKnown
from nbprovision.state.store import Proof, Store
from nbprovision.system.process import kept_children

__all__ = ["Listener", "Run"]


class Run:
    """Carries out a program.

    Args:
        steps: In the order of the playbook.
        machine: The facts.
        listener: Receives the events of each step.
        program: The order of blocks and sections; default: only the needs of the steps.
        store: The proofs of earlier runs; None checks everything again.
        check: Report what would change, and change nothing.
        linear: One after the other, and stop at the first failure.
        bystanders: Tasks of the playbook that this run leaves out.
        allowed: Decides before each step with work whether it runs; None runs all.
        notices: The handlers to run.

    Attributes:
        work: The steps and their results.
        notices: The handlers to run.
        foretold: With ``check``, the handlers that would be run.

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
        self._program = (Batch(tuple(range(len(steps)))),) if program is None else program
        self.notices = Notices() if notices is None else notices
        self._linear = linear
        self._machine = machine
        self.work = Work(
            steps,
            machine,
            listener,
            store=store,
            check=check,
            linear=linear,
            bystanders=bystanders,
            allowed=allowed,
            notices=self.notices,
        )
        self._proofs: list[Proof | None] = [None]
        self.foretold: set[int] = set()

    def execute(self) -> list[Result]:
        """Run all steps; the results are in the order of the steps."""
        with kept_children():
            try:
                perform_all(self._program, self, Place(None, self._linear))
                self.work.renew_proofs()
                self._proofs = settling.proofs(self.work, self._program)
            finally:
                self.work.end()
        self._machine.keep()
        return self.work.results()

    @property
    def undone(self) -> list[str]:
        """Return the warnings at the end: tasks whose work a later task undid."""
        return self.work.undone

    @property
    def proofs(self) -> tuple[list[Proof], bool]:
        """The proofs to record, and whether they are complete: one for every step."""
        return [proof for proof in self._proofs if proof is not None], None not in self._proofs

    def carry_out_late(self, number: int, *, saved: bool = False) -> None:
        """Bind a step to the results so far, and carry it out."""
        outcome = self._bind(number)
        if outcome is None:
            self.work.carry_out([number], saved=saved)
        else:
            self.work.finish(number, outcome, saved=saved)
            self.work.registry.take(self.work.steps[number], outcome.result)

    def _bind(self, number: int) -> Outcome | None:
        """Bind a step; return its outcome if it has nothing to do."""
        step, results = self.work.steps[number], self.work.registry.results
        try:
            binding = settling.bound(step, results)
            if binding is None:
                return skipped(step)
            for turn in binding.turns or [binding.step]:
                if turn.task is not None:
                    arrange_late(turn, number, self.work.nodes, self._machine)
            self.work.settle(number, binding.step, binding.environment, binding.turns)
        except NotYetKnown as error:
            return skipped(step, f"needs '{error.unknown.task}', which failed")
        except InvalidPlaybook as error:
            unmade = self.work.unmade(number) if isinstance(error, MissingInput | UnknownEnvironment) else None
            if unmade is not None:
                return unmade
            planned = self.planned() if self.work.check else None
            return planned_after(step, planned) if planned else _faulty(step, error)
        except ProvisionError as error:
            return _faulty(step, error)
        return None

    def planned(self) -> str | None:
        """The name of the last task with a registered result that only reports what it would do."""
        plan = (
            step.name
            for number, step in reversed(list(enumerate(self.work.steps)))
            if step.call is not None and step.call.register
            and number in self.work.outcomes
            and (self.work.outcomes[number].result.changed or self.work.outcomes[number].result.pending)
        )  # fmt: skip
        return next(plan, None)


def _faulty(step: Step, error: ProvisionError) -> Outcome:
    return Outcome(step.result("failed", error=error.at(step.position)))

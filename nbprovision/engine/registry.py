"""The results that ``register`` gives names to."""

from __future__ import annotations

from typing import Any

from nbprovision.engine.attempts import merged
from nbprovision.engine.step import Outcome, Step
from nbprovision.model.result import Result, as_variables
from nbprovision.playbook.template import Unknown


class Registry:
    """Results by the names under which later tasks ask for them.

    Attributes:
        results: Plain data; `Unknown` for the result of a task that has failed, on which nothing can be built.

    """

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self._turns: dict[int, list[Result]] = {}

    def take(self, step: Step, result: Result) -> None:
        """Take down a result under the name that its task gives it; turns of a loop have one together."""
        call = step.call
        if call is None or not call.register:
            return
        if call.turn is not None:
            turns = self._turns.setdefault(call.turn, [])
            if not call.empty:
                turns.append(result)
            if any(one.failed for one in turns):
                self.results[call.register] = Unknown(call.title)
                return
            result = merged(step, [Outcome(one) for one in turns]).result
        self.results[call.register] = Unknown(step.name) if result.failed else as_variables(result)

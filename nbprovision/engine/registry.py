"""The results that ``register`` gives names to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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
        self._failed: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def revealed(self) -> Iterator[None]:
        """Let the tasks that are run in the body, an `always`, know the results of failed tasks too."""
        hidden = {name: value for name, value in self.results.items() if isinstance(value, Unknown)}
        self.results |= {name: self._failed[name] for name in hidden}
        try:
            yield
        finally:
            self.results |= {name: value for name, value in hidden.items() if self.results[name] is self._failed[name]}

    def take(self, step: Step, result: Result) -> None:
        """Take down a result under the name that its task gives it; turns of a loop have one together."""
        call = step.call
        if call is None or not call.register:
            return
        if call.turn is not None:
            turns = self._turns.setdefault(call.turn, [])
            if not call.empty:
                turns.append(result)
            failed = any(turn.failed for turn in turns)
            result = merged(step, [Outcome(turn) for turn in turns]).result
        else:
            failed = result.failed
        self.results[call.register] = self._failed[call.register] = as_variables(result)
        if failed:
            self.results[call.register] = Unknown(call.title)

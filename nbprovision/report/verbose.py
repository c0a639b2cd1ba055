"""Events during a run, which ``-vv`` and ``-vvv`` show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# Told as the step that they belong to, or as the run's end.
_TOLD_OTHERWISE = ("task", "task failed", "run")


def lines(event: str, fields: Mapping[str, Any], verbosity: int) -> Iterator[str]:
    """What to print of an event of `system.log`; secrets not masked yet.

    Args:
        event: Its name.
        fields: What distinguishes it.
        verbosity: The number of ``v``: 2 shows commands and decisions, 3 the engines' output.

    """
    if verbosity < 2 or event in _TOLD_OTHERWISE:
        return
    if event == "command":
        status = "killed" if fields["status"] is None else f"status {fields['status']}"
        yield f"$ {fields['command']}  ({status}, {fields['seconds']:.3f} s)"
    elif event == "output":
        if verbosity >= 3:
            yield from (f"| {line}" for line in fields["text"].splitlines())
    elif event == "doubted":
        yield f"{fields['task']}: is checked again, because {fields['reason']}"
    else:
        yield f"{event}: {', '.join(f'{name} {value}' for name, value in fields.items())}"

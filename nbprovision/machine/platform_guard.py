"""The guard on environments that the platform provides: what its image brought moves only with permission.

AWS: changing or removing the packages that SageMaker installed may make the notebook instance unstable
(https://docs.aws.amazon.com/sagemaker/latest/dg/nbi-add-external.html).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nbprovision.machine import baseline, baselines
from nbprovision.machine.baseline import Difference
from nbprovision.machine.baselines import Baseline
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, TaskFailed

_SHOWN = 20  # packages that an error lists


class Touched(NamedTuple):
    """What of the image would move; ``after`` is None where it would go, ``because`` says who needs that."""

    difference: Difference
    because: str = ""

    def __str__(self) -> str:
        one = self.difference
        reason = f" ({self.because})" if self.because else ""
        return f"{one.name} {one.before} -> {one.after or 'removed'}{reason}"


def guarded(machine: Machine, prefix: Path, *, allowed: bool) -> Baseline | None:
    """What the image brought into ``prefix``; None where it may change, and where the platform does not provide it."""
    return None if allowed else baselines.of(machine, prefix)


def refuse_jupyter_server(machine: Machine, prefix: Path, *, allowed: bool) -> None:
    """Refuse the environment that the Jupyter server runs in, unless a task says that it means it.

    Raises:
        InvalidPlaybook: it is that environment.

    """
    if allowed:
        return
    server = machine.conda.jupyter_server
    if server is not None and os.path.realpath(server) == os.path.realpath(prefix):
        raise InvalidPlaybook(
            f"{prefix.name} is the environment that the Jupyter server itself runs in",
            cause="what is installed there may keep the notebook from starting",
            cure="name the environment of a kernel; if the server is really meant, ensure_conda_pkg and ensure_pip_pkg "
            "take `jupyter_server: true`",
        )


def refusal(prefix: Path, touched: Sequence[Touched], pins: Iterable[str]) -> TaskFailed:
    """The error for a plan that would move what the image brought.

    Args:
        prefix: The environment.
        touched: What would move.
        pins: What to ask for instead, so that nothing of that moves; empty where there is nothing.

    """
    shown = [str(one) for one in touched[:_SHOWN]]
    if len(touched) > _SHOWN:
        shown.append(f"... and {len(touched) - _SHOWN} more")
    pins = list(pins)
    instead = f"ask for {' and '.join(pins)}, which leaves all of it alone; " if pins else ""
    return TaskFailed(
        f"this would change what the platform provides in {prefix.name}, which may make the notebook unstable",
        cause="\n".join(shown),
        cure=f"{instead}{'or ' if pins else ''}write `allow_platform_changes: true` to have it all the same",
    )


@contextlib.contextmanager
def permitted(machine: Machine, prefix: Path, *, allowed: bool) -> Iterator[None]:
    """Write down what the body changes of what the image brought."""
    known = baselines.of(machine, prefix) if allowed else None
    before = baseline.content(prefix) if known is not None else None
    yield
    if known is not None and before is not None:
        changes = baseline.differences(before, baseline.content(prefix))
        brought = {**known.content.packages, **known.content.distributions}
        baselines.permit(machine, prefix, [one for one in changes if one.name in brought])

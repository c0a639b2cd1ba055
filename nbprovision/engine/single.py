"""One task by itself, as the Python API and ``nbprovision task`` carry it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nbprovision.engine.guard import Guard, run_lock
from nbprovision.engine.order import arrange
from nbprovision.engine.step import Step, carry_out
from nbprovision.machine import image
from nbprovision.machine.expansion import expanded
from nbprovision.machine.machine import Machine
from nbprovision.machine.ownership import refuse_foreign
from nbprovision.model.result import Result
from nbprovision.model.task import Task
from nbprovision.system import log


def carry_out_alone(
    task: Task[Any],
    *,
    check: bool = False,
    home: Path | None = None,
    lock_timeout: float | None = None,
    no_log: bool = False,
    environment: Mapping[str, str] | None = None,
    announce: Callable[[str], None] = lambda _text: None,
) -> Result:
    """Carry out a task under the lock of the home folder.

    Args:
        task: The task.
        check: Report what would change, and change nothing.
        home: Folder of state, lock, log and caches; default as on the command line.
        lock_timeout: Seconds to wait for another run; None waits as long as it takes.
        no_log: Withhold the values and the reason of a failure from the result and the log.
        environment: Environment variables for the work, beside those of this process.
        announce: Receives a line when another run must be waited for.

    Returns:
        The result; a task that failed has its ``error``.

    Raises:
        InvalidPlaybook: the task names an environment that does not exist.
        LockTimeout: another run held the lock for too long.
        UsageError: this runs as root, and the home folder is somebody else's.

    """
    machine = Machine(home=None if home is None else home.absolute())
    refuse_foreign(machine.env, machine.user_home, machine.home)
    machine.lock_timeout = lock_timeout
    step = Step(name=task.kind(), kind=task.kind(), task=task, no_log=no_log)
    with (
        run_lock(machine.home, task.kind(), lock_timeout, announce),
        log.kept_in(machine.home),
        log.withholding(no_log),
    ):
        image.record_baselines(machine)
        arrange([step], machine, linear=True)
        machine.applies = not check
        seen = machine.seen_with(environment, applies=not check) if environment else machine
        return carry_out(step, seen, Guard([expanded(task)], machine), check=check).result

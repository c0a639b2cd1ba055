"""Tasks whose work a later task undoes, so that each run repeats the work of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nbprovision.engine.order import Node
from nbprovision.engine.step import Outcome, Step
from nbprovision.model.result import Change, Plan, Result


def undoer(number: int, left: Plan, outcomes: Mapping[int, Outcome], nodes: Sequence[Node]) -> int | None:
    """Find the later step that undid the work of a step; None if none is known.

    A step may have more to do at the end of a run although nobody undid it: `envs: all` may match an environment that
    was created meanwhile. So either another step has changed the same thing, or the step itself has, and another step
    that bears on it has worked since.

    Args:
        number: The step.
        left: Its plan now, although it was verified in this run.
        outcomes: Of all steps, in the order in which they ended.
        nodes: The places of all steps in the order.

    """
    order = list(outcomes)
    since = [n for n in order[order.index(number) + 1 :] if outcomes[n].result.changed]
    since = [n for n in since if not outcomes[n].result.check_only]
    bearing = [n for n in since if number in nodes[n].needs | nodes[n].after]
    paths = [change for change in left.changes if change.target.startswith("/")]
    # Many environments have a package of this name; only what bears on the step shows which one is meant.
    undoers = [n for n in since if _meet(outcomes[n].result.changes, left.changes if n in bearing else paths)]
    if not undoers and _meet(outcomes[number].result.changes, left.changes):
        undoers = bearing
    return undoers[-1] if undoers else None


def warning(earlier: Step, later: Step, left: Plan, done: Result) -> str:
    """A warning with the place of each task and the fix.

    Args:
        earlier: The task whose work is undone.
        later: The task that undoes it.
        left: The plan of the earlier task, made again.
        done: The result of the later task.

    """
    hidden = earlier.no_log or later.no_log
    what = f" ({left.changes[0].action} {left.changes[0].target})" if not hidden else ""
    owned = _of_packages(left.changes) and not _of_packages(done.changes)
    cure = (
        "a deep check reverts changes of a package's file; leave out `deep`, or write into a file that no "
        "package owns (a kernel of another name)"
        if owned
        else "make one task of the two, or let each have its own part"
    )
    return f"{_called(later)} undoes what {_called(earlier)} does{what}, so that each run changes both: {cure}"


def _of_packages(changes: Iterable[Change]) -> bool:
    return any(change.kind == "package" for change in changes)


def _called(step: Step) -> str:
    return f"'{step.name}'" if step.position is None else f"'{step.name}' ({step.position})"


def _meet(some: Iterable[Change], others: Iterable[Change]) -> bool:
    """Whether two plans change the same thing, or one a folder and the other a part of it."""
    things = {_thing(change) for change in others}
    for thing in map(_thing, some):
        if thing in things:
            return True
        if thing.startswith("/"):
            path = Path(thing)
            if any(
                path in Path(other).parents or Path(other) in path.parents for other in things if other.startswith("/")
            ):
                return True
    return False


def _thing(change: Change) -> str:
    """The thing that is changed, without the environment that is named behind a package."""
    return change.target.partition(" in ")[0] if change.kind == "package" else change.target

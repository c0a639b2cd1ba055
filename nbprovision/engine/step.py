"""One task through its steps: read, plan, apply, verify, record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from nbprovision.engine.guard import Guard, refuse_unwritable
from nbprovision.machine.expansion import expanded
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import Position, ProvisionError, TaskFailed
from nbprovision.model.result import Change, Plan, Result, Status
from nbprovision.model.task import Task
from nbprovision.playbook.calls import Judgement, TaskCall
from nbprovision.state import store
from nbprovision.state.witness import digest
from nbprovision.system import inputs, secrets, unfinished
from nbprovision.system.files import refused
from nbprovision.system.log import event, withholding


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A task as a playbook calls it; ``task`` is None if its ``when`` is false.

    Attributes:
        play: The play's number and name, for the reporter's headings.
        call: The playbook's entry; None for a task from elsewhere.
        conditional: It may never run, and is not reported then: a handler, or a task of a `rescue`.
        deep: Compare the files of every package.
        locked: A lock decides on the versions of packages.
        diff: Show the changes in full, or not; None lets the command line decide.

    """

    name: str
    kind: str
    task: Task[Any] | None
    position: Position | None = None
    no_log: bool = False
    play: tuple[int, str] = (0, "")
    call: TaskCall | None = None
    conditional: bool = False
    deep: bool = False
    locked: bool = False
    diff: bool | None = None

    def __post_init__(self) -> None:
        """Expand a task on several environments."""
        if self.task is not None:
            msgspec.structs.force_setattr(self, "task", expanded(self.task))

    @property
    def late(self) -> bool:
        """Whether it is bound when its turn comes."""
        return self.call is not None and self.call.late

    @property
    def simple(self) -> bool:
        """Whether nothing but its task determines its result, and nothing else depends on the result.

        The code of others may change more than what is recorded of it (`system.effects`).
        """
        call = self.call
        plain = call is None or not (call.register or call.notify or call.judgement != Judgement())
        foreign = self.task is not None and self.task.origin is not None
        return plain and not (self.late or self.conditional or self.no_log or foreign)

    def bound(self, task: Task[Any] | None) -> Step:
        """The step with its task."""
        if task is not None and self.deep:
            task = msgspec.structs.replace(task, deep=True)
        if task is not None and self.locked:
            task = task.as_locked()
        return msgspec.structs.replace(self, task=task)

    def result(self, status: Status, **fields: Any) -> Result:
        """A result in this step's name; with ``no_log`` the changes and reasons are withheld."""
        if self.no_log:
            hidden = Change(action="change", target="withheld by no_log")
            fields["changes"] = (hidden,) if fields.get("changes") else ()
            fields["warnings"] = ()
            if fields.get("error") is not None:
                fields["error"] = TaskFailed(
                    "failed",
                    cause="the reason is withheld by no_log",
                    cure="set `no_log: false` for a run that nobody else sees, and read its output",
                ).at(self.position)
        if self.call is not None and self.call.entry:
            fields["values"] = {**fields.get("values", {}), **self.call.entry}
        return Result(name=self.name, task=self.kind, status=status, **fields)


# Seconds: a task that reads for longer is proven right after its work, all others together at the end of the run.
_LONG = 0.1


class Outcome(msgspec.Struct, frozen=True):
    """A result, and the proof to record for the next run (None: look again next time)."""

    result: Result
    proof: store.Proof | None = None


def digest_of(task: Task[Any], machine: Machine) -> str:
    """A digest of a task with its parameters and code, and of the claims of the other tasks of the playbook."""
    environment = (sorted(machine.environment.items()),) if machine.environment else ()
    code = () if task.origin is None else (task.origin.code,)  # that of nbprovision is an input of the run
    claims = [(str(claim.prefix), claim.requirement, claim.absent) for claim in machine.claims]
    wanted = sorted((str(prefix), name) for prefix, name in machine.wanted)
    return digest(
        secrets.to_digest(repr((task.kind(), msgspec.to_builtins(task), claims, wanted, *environment, *code)))
    )


def skipped(step: Step, *reasons: str) -> Outcome:
    """The outcome of a step whose conditions do not hold, or that is left out for other reasons."""
    return Outcome(step.result("skipped", warnings=reasons), None if reasons else skipping(step))


def skipping(step: Step) -> store.Proof:
    """The proof of a step whose conditions do not hold; the conditions are read again with their own inputs."""
    return store.Proof(digest(step.name), None, (), "")


def carry_out(
    step: Step, machine: Machine, guard: Guard, *, check: bool, before: Callable[[], None] = lambda: None
) -> Outcome:
    """Bring about what a step describes, or with ``check`` report what would change. Raises only on a defect.

    Args:
        step: The step.
        machine: The facts.
        guard: Marks what is unfinished.
        check: Change nothing.
        before: Called before the first change; may raise `ProvisionError`.

    """
    task = step.task
    if task is None:
        return skipped(step)
    if task.left_to_root(machine):
        return _compare(step, task, machine)
    started = time.perf_counter()
    values: dict[str, Any] = {}
    lasting = False
    try:
        with (
            withholding(step.no_log),
            contextlib.nullcontext(_keep_nothing) if check else guard.alone(task, machine) as keep,
            machine.reporting() as values,
            machine.noting() as noted,
        ):
            plan, proof = prove(task, machine)
            changes, warnings = plan.changes, plan.warnings
            if plan:
                guard.judge(task, plan, machine)
            if plan and check:
                refuse_unwritable(task, plan, machine)
                machine.foretold.update(task.foretells(plan, machine))
            elif plan:
                before()
                patient = time.perf_counter() - started > _LONG
                proof, changes, after = _apply(task, plan, machine, guard, keep, patient=patient)
                warnings = tuple(dict.fromkeys((*warnings, *after)))
                lasting = _is_lasting(task, plan, machine)
            elif not plan:
                guard.proven(task, machine)
    except (ProvisionError, OSError) as error:
        failure = refused(error) if isinstance(error, OSError) else error
        event("task failed", task=step.kind, name=step.name, error=failure.text)
        seconds = time.perf_counter() - started
        return Outcome(step.result("failed", seconds=seconds, error=failure.at(step.position), values=values))
    result = step.result(
        "changed" if plan.changes else "ok",
        seconds=time.perf_counter() - started,
        changes=changes,
        warnings=tuple(dict.fromkeys((*warnings, *noted))),
        check_only=check,
        pending=check and bool(plan),
        values=values,
        notes=tuple(noted),
        lasting=lasting,
    )
    event(
        "task",
        task=step.kind,
        name=step.name,
        status=result.status,
        seconds=round(result.seconds, 4),
        check=check,
        changes=[change.as_json() for change in result.changes],
    )
    return Outcome(result, None if plan and check else proof)


def _is_lasting(task: Task[Any], plan: Plan, machine: Machine) -> bool:
    """Whether a plan changes something that a stop of the machine does not take away."""
    resources = task.provides(machine)
    paths = {resource.identity for resource in resources if resource.kind not in ("environment", "distribution")}
    if not plan.beside:
        paths.update(resource.identity for resource in resources if resource.kind == "environment")
        paths.update(resource.identity.partition(" ")[0] for resource in resources if resource.kind == "distribution")
        paths.update(map(str, task.guarded(machine)))
    return any(path.startswith("/") and not machine.is_lost_at_a_stop(path) for path in paths)


DRIFT = "drift: render the script again"


def _compare(step: Step, task: Task[Any], machine: Machine) -> Outcome:
    """Compare only: root's part of the lifecycle script does the work, and a difference is nobody's failure."""
    started = time.perf_counter()
    try:
        with withholding(step.no_log):
            plan, proof = prove(task, machine, standing=True)
        reasons = [f"{change.target}: {change.action}" for change in plan.changes]
    except (ProvisionError, OSError) as error:
        proof, reasons = None, [(refused(error) if isinstance(error, OSError) else error).message]
    seconds = time.perf_counter() - started
    event("task", task=step.kind, name=step.name, status="skipped" if reasons else "ok", reasons=reasons)
    if reasons:
        return Outcome(step.result("skipped", seconds=seconds, warnings=(DRIFT, *reasons)), proof)
    return Outcome(step.result("ok", seconds=seconds, warnings=plan.warnings), proof)


def prove(
    task: Task[Any], machine: Machine, *, patient: bool = False, standing: bool = False
) -> tuple[Plan, store.Proof | None]:
    """Read and plan between two looks at the witnesses, so that no change can slip in unseen.

    Args:
        task: The task.
        machine: The facts.
        patient: Wait until the witnesses can serve. Otherwise there is no proof if one of them changed within the
            clock's last tick.
        standing: A difference stands as long as its witnesses do, since this run does not remove it.

    Returns:
        The plan; the proof, or None if there is something to do or no witness can serve.

    """
    before = store.look(task.witnesses(machine))
    if patient and before is not None:
        store.settle(before)
    settled = before is not None and not store.unsettled(before)
    with machine.noting() as noted, inputs.recorded() as read:
        plan = task.plan(task.read(machine))
    if (plan and not standing) or noted or not settled or before is None:
        return plan, None
    sources = store.read_from(read)
    if patient and (sources is None or not all(store.holds(witness, machine.env) for witness in sources)):
        store.settle(store.look(read.files) or ())
        machine.forget()  # the facts were read too early as well, perhaps by another task
        with inputs.recorded() as read:
            plan = task.plan(task.read(machine))
        sources = store.read_from(read)
    witnesses = (
        None if (plan and not standing) or sources is None else store.look([*task.witnesses(machine), *read.files])
    )
    if witnesses is None or sources is None:
        return plan, None
    witnesses += tuple(witness for witness in sources if witness.kind == "env")
    if {*witnesses} != {*before, *sources}:
        return plan, None
    duration = task.holds_for(machine)
    now = time.time()
    until = None if duration is None else now + duration
    return plan, store.Proof(digest_of(task, machine), until, witnesses, "", now)


def _apply(
    task: Task[Any],
    plan: Plan,
    machine: Machine,
    guard: Guard,
    keep: Callable[[Path], None],
    *,
    patient: bool,
) -> tuple[store.Proof | None, tuple[Change, ...], tuple[str, ...]]:
    """Apply and verify; return the proof (if ``patient``), the changes and the warnings."""
    before = _seen(task, machine)

    def untouched() -> bool:
        # The same failure, such as one of the network, may keep a plan from being made.
        if before is not None and _seen(task, machine) == before:
            return True
        return task.plan(task.read(machine)).changes == plan.changes

    with guard.unfinished(task, plan, machine, untouched, keep) as done:
        changed = task.apply(plan, machine)
        done()
        if not task.proves(machine):
            return None, plan.changes if changed is None else tuple(changed), ()
        if not plan.beside:
            machine.forget()
        left, proof = prove(task, machine, patient=True) if patient else (task.plan(task.read(machine)), None)
        if left:
            wrong = "; ".join(f"{change.action} {change.target}" for change in left.changes[:5])
            raise TaskFailed(
                "after the changes the machine still differs from the description",
                cause=f"still to do: {wrong}",
                cure="run again with -v; if the difference remains, something else changes the same thing",
            )
    # The mark of the unfinished is itself a witness, and has just gone.
    changes = plan.changes if changed is None else tuple(changed)
    return _renewed(proof, task, machine), changes, left.warnings


def _keep_nothing(folder: Path) -> None:
    """Do nothing: with ``check`` nothing is created."""


def _seen(task: Task[Any], machine: Machine) -> list[store.Witness] | None:
    """The witnesses without those that a mark changes."""
    marked = {str(path) for prefix in task.guarded(machine) for path in (prefix, prefix / unfinished.MARK)}
    witnesses = store.look(task.witnesses(machine))
    return None if witnesses is None else [witness for witness in witnesses if witness.path not in marked]


def _renewed(proof: store.Proof | None, task: Task[Any], machine: Machine) -> store.Proof | None:
    if proof is None:
        return None
    marks = {str(prefix) for prefix in task.guarded(machine)}
    variables = tuple(witness for witness in proof.witnesses if witness.kind == "env")
    files = [witness.path for witness in proof.witnesses if witness.kind != "env"]
    after = store.look([*task.witnesses(machine), *files])
    after = None if after is None else (*after, *variables)
    if after is None or not _same_but(marks, proof.witnesses, after):
        return None
    store.settle(after)
    return None if store.unsettled(after) else msgspec.structs.replace(proof, witnesses=after)


def _same_but(prefixes: set[str], before: tuple[store.Witness, ...], after: tuple[store.Witness, ...]) -> bool:
    """Whether two looks agree, apart from the prefixes (whose own time moves with the mark) and their marks."""

    def rest(witnesses: tuple[store.Witness, ...]) -> set[store.Witness]:
        return {w for w in witnesses if w.path not in prefixes and str(Path(w.path).parent) not in prefixes}

    return rest(before) == rest(after)

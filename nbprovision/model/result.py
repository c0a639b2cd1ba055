"""Changes, plans and results of tasks."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from nbprovision.model.errors import ProvisionError

Status = Literal["ok", "changed", "skipped", "failed", "deferred"]
Proof = Literal["witness", "check"]


class Change(msgspec.Struct, frozen=True):
    """One difference between the actual and the wanted state.

    Attributes:
        action: What is done, in one of the words that the task lists: `install`, `write`, `remove`.
        target: The package, file, kernel or setting.
        before: The version of a package or the whole text of a file before the change, secrets masked by the reporter;
            None for what is missing.
        after: The same after the change.
        kind: How to show it.
        channel: The conda channel of a package.

    """

    action: str
    target: str
    before: str | None = None
    after: str | None = None
    kind: Literal["package", "file", "other"] = "other"
    channel: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """The four keys of the JSON document."""
        return {"action": self.action, "target": self.target, "before": self.before, "after": self.after}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The changes that lead from a state to the one wanted; falsy when there is nothing to do.

    A task that needs more in ``apply`` than the changes say (solved records, a rendered file) subclasses it.

    Attributes:
        changes: What is done.
        warnings: What the user should know.
        beside: All of it lies beside the environments (a kernel's folder, conda's list of them): no prefix needs a
            mark, and what is known of conda stands.
        upkeep: There is something to do that changes nothing of what is described: a token to renew.

    """

    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    beside: bool = False
    upkeep: bool = False

    def __bool__(self) -> bool:
        return bool(self.changes) or self.upkeep


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one task.

    Attributes:
        name: The name of the task in the playbook.
        task: Its kind, such as `ensure_kernel`.
        status: How it ended.
        proof: What the status rests on: unchanged witnesses, or a check of the machine.
        seconds: The time that it took.
        changes: The differences that it removed; with ``check`` those that it would remove.
        warnings: What the user should know.
        error: Why it failed, if it did.
        check_only: Nothing was changed because ``check`` was set.
        values: What else it has to say to the tasks after it.
        pending: With ``check``: something would have been done, whatever is made of the result.
        forgiven: Why a failure is none of the run: `ignore_errors`, or a block that knows what to do about it.
        notes: The warnings that are true of this run alone.
        lasting: The change is of something that a stop of the machine does not take away.

    """

    name: str
    task: str
    status: Status
    proof: Proof = "check"
    seconds: float = 0.0
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    error: ProvisionError | None = None
    check_only: bool = False
    pending: bool = False
    values: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    forgiven: Literal["", "ignored", "rescued"] = ""
    lasting: bool = False

    @property
    def failed(self) -> bool:
        """Whether the run has failed by it."""
        return self.status == "failed" and not self.forgiven

    @property
    def changed(self) -> bool:
        """Whether something was changed, or with ``check`` would be."""
        return self.status == "changed"

    def as_json(self) -> dict[str, Any]:
        """The task's entry in the JSON document."""
        error = None
        if self.error is not None:
            where = self.error.position
            error = {
                "message": self.error.text,
                "file": where.file if where else None,
                "line": where.line if where else None,
                "rule": getattr(self.error, "rule", None),
            }
        return {
            "name": self.name,
            "task": self.task,
            "status": self.status,
            "proof": self.proof,
            "seconds": round(self.seconds, 4),
            "changes": [change.as_json() for change in self.changes],
            "warnings": list(self.warnings),
            "error": error,
            **({self.forgiven: True} if self.forgiven else {}),
        }


def as_variables(result: Result) -> dict[str, Any]:
    """A result as ``register`` gives it to templates."""
    message = result.error.message if result.error is not None else "; ".join(result.warnings)
    return {
        **result.values,
        "changed": result.changed,
        "failed": result.status == "failed",
        "skipped": result.status == "skipped",
        "changes": [change.as_json() for change in result.changes],
        "msg": message,
        "cause": result.error.cause if result.error is not None else "",
    }

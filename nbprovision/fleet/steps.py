"""The steps of a command that changes something: planned first, so that ``--check`` shows what a run does."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step.

    Attributes:
        action: ``upload``, ``create``, ``point``, ``update``, ...
        target: The object or the resource.
        detail: More about it, for people; may be empty.
        work: Carries it out.
    """

    action: str
    target: str
    detail: str = ""
    work: Callable[[], object]

    @property
    def line(self) -> str:
        """The step in one line."""
        return f"{self.action:<8} {self.target}" + (f"  {self.detail}" if self.detail else "")

    def document(self) -> dict[str, str]:
        """The step as plain data."""
        return {"action": self.action, "target": self.target, "detail": self.detail}

"""What would change or was changed: a unified diff for files, a table for packages, a line for the rest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from nbprovision.model.result import Change
from nbprovision.system.secrets import mask


def render(changes: Iterable[Change]) -> Iterator[str]:
    """Lines that show ``changes``, secrets masked."""
    packages = [change for change in changes if change.kind == "package"]
    if packages:
        yield from _table(packages)
    for change in changes:
        if change.kind == "file":
            yield from _unified(change)
        elif change.kind == "other":
            yield mask(f"{change.action} {change.target}{_from_to(change)}")


def _table(packages: list[Change]) -> Iterator[str]:
    rows = [("name", "from", "to", "channel")]
    rows += [(change.target, change.before or "-", change.after or "-", change.channel or "") for change in packages]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield mask("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _unified(change: Change) -> Iterator[str]:
    before, after = (mask(text or "").splitlines() for text in (change.before, change.after))
    yield f"{change.action} {change.target}"
    yield from difflib.unified_diff(before, after, f"{change.target} (is)", f"{change.target} (wanted)", lineterm="")


def _from_to(change: Change) -> str:
    if change.before is None and change.after is None:
        return ""
    if change.before is None:
        return f": {change.after}"
    return f": {change.before} -> {change.after or 'nothing'}"

"""What would change or was changed: a unified diff for files, a table for packages, a line for the rest."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from nbprovision.model.result import Change
from nbprovision.report.colour import BOLD, CYAN, GREEN, RED, YELLOW
from nbprovision.system.secrets import mask


class Line(NamedTuple):
    """Colour a line by its meaning; most lines have no colour."""

    text: str
    colour: str = ""


def in_full(changes: Iterable[Change]) -> Iterator[Line]:
    """Lines that show all of ``changes``, secrets masked."""
    yield from _shown(changes, _unified)


def in_brief(changes: Iterable[Change]) -> Iterator[Line]:
    """Lines that show ``changes``, of a file only how much of it changes; secrets masked."""
    yield from _shown(changes, _counted)


def _shown(changes: Iterable[Change], of_file: Callable[[Change], Iterator[Line]]) -> Iterator[Line]:
    packages = [change for change in changes if change.kind == "package"]
    if packages:
        yield from _table(packages)
    for change in changes:
        if change.kind == "file":
            yield from of_file(change)
        elif change.kind == "other":
            yield Line(mask(f"{change.action} {change.target}{_from_to(change)}"))


def _table(packages: list[Change]) -> Iterator[Line]:
    rows = [("name", "from", "to", "channel")]
    rows += [(change.target, change.before or "-", change.after or "-", change.channel or "") for change in packages]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    colours = [
        "",
        *(GREEN if package.before is None else RED if package.after is None else YELLOW for package in packages),
    ]
    for row, colour in zip(rows, colours, strict=True):
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield Line(mask(text), colour)


def _unified(change: Change) -> Iterator[Line]:
    yield Line(mask(f"{change.action} {change.target}"))
    for number, text in enumerate(_difference(change)):
        names_a_file = number < 2
        yield Line(text, BOLD if names_a_file else {"+": GREEN, "-": RED, "@": CYAN}.get(text[:1], ""))


def _counted(change: Change) -> Iterator[Line]:
    lines = list(_difference(change))[2:]  # without the two that name the files
    added, removed = (sum(text.startswith(sign) for text in lines) for sign in "+-")
    yield Line(mask(f"{change.action} {change.target}: +{added} -{removed} lines"))


def _difference(change: Change) -> Iterator[str]:
    before, after = (mask(text or "").splitlines() for text in (change.before, change.after))
    name = mask(change.target)
    return difflib.unified_diff(before, after, f"{name} (is)", f"{name} (wanted)", lineterm="")


def _from_to(change: Change) -> str:
    if change.before is None and change.after is None:
        return ""
    if change.before is None:
        return f": {change.after}"
    return f": {change.before} -> {change.after or 'nothing'}"

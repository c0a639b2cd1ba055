"""How much a template may make: sizes, measured before something is made wherever that can be told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MAX_SOURCE = 1 << 16  # characters of one template
MAX_SIZE = 1 << 18  # characters and entries of one value, everything in it counted
MAX_STEPS = 200_000  # turns of loops and calls of one template
MAX_SECONDS = 5.0  # of one template, with all variables that it makes use of
MAX_SECONDS_TOGETHER = 60.0  # of all templates of one playbook
MAX_BITS = 10_000  # of a whole number
MAX_DIGITS = 1_000  # that a number is rounded to: each costs a multiplication by ten, and nothing can stop it

# Filters and methods of strings whose result can be as large as the product of what they are given.
_AMPLIFIERS = frozenset(
    (
        *("batch", "center", "expandtabs", "format", "format_map", "indent", "join", "ljust", "replace", "rjust"),
        *("slice", "sum", "tojson", "translate", "wordwrap", "zfill"),
    )
)
_WIDE_FORMAT = re.compile(r"\d{5,}|%[-#0 +]*\*|%[^%]*\.\*|\{[^{}]*\{")


class TemplateLimit(Exception):
    """A template wants more than its share."""


def size_of(value: Any) -> int:
    """Characters and entries in ``value``, all levels counted; raises as soon as they are too many."""
    total = 0
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, str | bytes | range):
            total += len(current)
        elif isinstance(current, Mapping):
            waiting += [*current.keys(), *current.values()]
        elif isinstance(current, list | tuple | set | frozenset):
            waiting += current
        total = limited(total + 1)
        limited(total + len(waiting))
    return total


def limited(size: int) -> int:
    """The size, if it may be.

    Raises:
        TemplateLimit: it is more than a value may have.

    """
    if size > MAX_SIZE:
        raise TemplateLimit(f"a value of more than {MAX_SIZE} characters or entries")
    return size


def check_product(name: str, subject: Any, given: list[Any]) -> None:
    """Refuse a filter or method that would make more than the limit out of what it is given."""
    if name == "round" and any(isinstance(value, int) and abs(value) > MAX_DIGITS for value in given):
        raise TemplateLimit(f"a number with more than {MAX_DIGITS} digits")
    if name == "to_bytes":
        limited(max((abs(value) for value in given if isinstance(value, int)), default=0))
    if name not in _AMPLIFIERS:
        return
    if name in ("format", "format_map"):
        subject = subject.decode("latin-1") if isinstance(subject, bytes) else subject
        if isinstance(subject, str) and _WIDE_FORMAT.search(subject):
            raise TemplateLimit("a format with a width that is too large, or given by a value")
        limited((1 + subject.count("%") + subject.count("{") if isinstance(subject, str) else 1) * size_of(given))
        return
    largest = max((abs(value) if isinstance(value, int) else size_of(value) for value in given), default=1)
    limited(size_of(subject) * max(largest, 1))

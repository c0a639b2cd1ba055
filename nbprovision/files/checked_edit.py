"""The check of every edit of a configuration file (pip.conf, uv.toml, .condarc, git's) before it is written.

An editor changes the text of the user's file. Its result is parsed again by the rules of the program that reads the
file. The edited settings must have their new values, and all other settings must have kept theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nbprovision.model.errors import TaskFailed

_MOST_NAMED = 3


def edit_configuration(
    path: Path, new_text: str | None, parse: Callable[[str], Mapping[str, Any]], expected: Mapping[str, Any]
) -> str | None:
    """Return ``new_text`` if it contains exactly the expected settings.

    Args:
        path: The file, for messages.
        new_text: The edited text, None for no file.
        parse: Returns the settings by name, as the program that owns the format reads them. It raises `TaskFailed` or
            `ValueError` for an invalid text.
        expected: The old settings with our changes.

    Raises:
        TaskFailed: the text is invalid, or other settings differ. The message names the settings without their values.

    """
    try:
        actual: Mapping[str, Any] | None = parse(new_text or "")
    except (TaskFailed, ValueError):
        actual = None
    if actual == expected:
        return new_text
    if actual is None:
        cause = "with the new values the file would no longer be valid"
    else:
        missing = object()
        names = [
            name
            for name in dict.fromkeys([*expected, *actual])
            if expected.get(name, missing) != actual.get(name, missing)
        ]
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        cause = f"the edit would give another value to {', '.join(names[:_MOST_NAMED])}{more}"
    raise refusal(path, cause)


def refusal(path: Path, cause: str) -> TaskFailed:
    """The error for a file whose settings cannot be changed safely."""
    return TaskFailed(
        f"{path} cannot be edited with certainty, and stays as it is",
        cause=cause,
        cure="simplify the file (one setting on a line, no indentation before its name), or set the value by hand",
    )

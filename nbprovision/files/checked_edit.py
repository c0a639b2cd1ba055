"""The gate that every edit of a configuration file passes before it may be written: pip.conf, uv.toml, .condarc, git's.

An editor changes the text of a file that is the user's. Whatever it is made of, its result is parsed again by the rules
of the program that reads the file. All other settings must have kept their values, and ours must have the new one.
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
    """``new_text``, if it says what it should.

    Args:
        path: The file, for messages.
        new_text: What an editor made of its text, None for no file.
        parse: Settings by their names, as the program that owns the format reads them. It raises `TaskFailed` or
            `ValueError` for a text that is not valid.
        expected: What has to come out: the settings before, with our changes.

    Raises:
        TaskFailed: the text is not valid, or says something else. The message names the settings and shows no value.

    """
    try:
        actual: Mapping[str, Any] | None = parse(new_text or "")
    except (TaskFailed, ValueError):
        actual = None
    if actual == expected:
        return new_text
    if actual is None:
        cause = "with the new values in it the file would no longer be valid"
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
        cure="write the file more simply (one setting on a line, no indentation before its name), or set the value by "
        "hand",
    )

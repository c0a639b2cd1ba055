"""Permission bits as people write them: ``0644`` or ``u=rw,go=r`` (chmod(1), https://pubs.opengroup.org/onlinepubs/9699919799/utilities/chmod.html)."""

from __future__ import annotations

import re

from nbprovision.model.errors import ParameterError

_OCTAL = re.compile(r"[0-7]{3,4}")
_CLAUSE = re.compile(r"([ugoa]*)([-+=])([rwxX]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}


def check(key: str, mode: str | None) -> None:
    """Refuse what is no mode.

    Raises:
        ParameterError: with what to write.

    """
    if mode is None or _OCTAL.fullmatch(mode) or all(map(_CLAUSE.fullmatch, mode.split(","))):
        return
    raise ParameterError(key, f"'{mode[:40]}' is no mode", cure="write it in quotes as '0644', or as 'u=rw,go=r'")


def resolved(mode: str, current: int, *, folder: bool) -> int:
    """The permission bits that a checked ``mode`` makes of ``current``.

    Args:
        mode: As `check` lets it through.
        current: The bits before; only what a symbolic mode does not name stays of them.
        folder: Whether it is a folder's, which ``X`` makes searchable.

    """
    if _OCTAL.fullmatch(mode):
        return int(mode, 8)
    for clause in mode.split(","):
        match = _CLAUSE.fullmatch(clause)
        assert match is not None  # noqa: S101 - check has seen to it
        who, how, what = match.groups()
        bits = 4 * ("r" in what) + 2 * ("w" in what) + ("x" in what)
        if "X" in what and (folder or current & 0o111):
            bits |= 1
        for one in "ugo" if not who or "a" in who else who:
            shifted = bits << _SHIFT[one]
            if how == "=":
                current = current & ~(7 << _SHIFT[one]) | shifted
            else:
                current = current | shifted if how == "+" else current & ~shifted
    return current

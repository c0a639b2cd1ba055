"""Colour on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

RED, GREEN, YELLOW, MAGENTA, CYAN = "31", "32", "33", "35", "36"
BOLD = "1"


def wants_colour(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Whether to colour ``stream``: https://no-color.org and https://force-color.org, else on a terminal.

    NO_COLOR wins over FORCE_COLOR. ``FORCE_COLOR=0`` asks for none, as the tools that had the variable first take it.
    """
    if env.get("NO_COLOR"):
        return False
    forced = env.get("FORCE_COLOR", "")
    if forced:
        return forced.lower() not in ("0", "false")
    return stream.isatty() and env.get("TERM") != "dumb"


def painted(text: str, colour: str) -> str:
    """``text`` in a colour."""
    return f"\033[{colour}m{text}\033[0m"

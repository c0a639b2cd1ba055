"""Colour on a terminal, and the characters that must not reach one."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import TextIO

from nbprovision.system.invisible import NEVER
from nbprovision.system.secrets import mask

RED, GREEN, YELLOW, MAGENTA, CYAN = "31", "32", "33", "35", "36"
BOLD = "1"
# Of a terminal's escape sequences only colours may pass: others move the cursor, set the title or answer for the user.
# Invisible characters, and those that change the reading order, are written out too.
_CONTROL = re.compile(
    f"\x1b(?!\\[[0-9]{{1,2}}m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u200e\u200f\ud800-\udfff{NEVER}]"
)


def wants_colour(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Whether to colour ``stream``: https://no-color.org and https://force-color.org, else on a terminal.

    NO_COLOR wins over FORCE_COLOR. ``FORCE_COLOR=0`` means no colour, as in the tools that introduced the variable.
    """
    if env.get("NO_COLOR"):
        return False
    forced = env.get("FORCE_COLOR", "")
    if forced:
        return forced.lower() not in ("0", "false")
    return stream.isatty() and env.get("TERM") != "dumb"


def painted(text: str, colour: str, stream: TextIO, env: Mapping[str, str] = os.environ) -> str:
    """``text`` in a colour, if ``stream`` takes colours and ``colour`` is not empty."""
    return f"\033[{colour}m{text}\033[0m" if colour and wants_colour(stream, env) else text


def shown(text: str) -> str:
    """``text`` for a person: secrets masked, and control characters written out."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), mask(text))


def shown_json(text: str) -> str:
    """The same JSON document for a terminal: control characters as escapes."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def print_message(text: str) -> None:
    """Print a message for a person on standard error."""
    print(shown(text), file=sys.stderr, flush=True)

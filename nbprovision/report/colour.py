"""Colour on a terminal, and the characters that must not reach one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TextIO

from nbprovision.system.invisible import NEVER
from nbprovision.system.secrets import mask

RED, GREEN, YELLOW, MAGENTA, CYAN = "31", "32", "33", "35", "36"
BOLD = "1"
# What moves the cursor, sets the title or answers for the user, and what nobody sees or lets text be read in another
# order than it stands: of a terminal's sequences only colours may pass.
_CONTROL = re.compile(
    f"\x1b(?!\\[[0-9]{{1,2}}m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u200e\u200f\ud800-\udfff{NEVER}]"
)


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


def shown(text: str) -> str:
    """``text`` as a person may see it: secrets masked, and each control character written out."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), mask(text))


def shown_json(text: str) -> str:
    """A JSON document as a terminal may get it: the same document, with such characters as escapes."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)

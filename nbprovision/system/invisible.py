"""Invisible characters, and characters that change the reading order of text.

Sources: the general categories Cf, Zs, Zl and Zp of Unicode, its default-ignorable fillers and selectors
(https://www.unicode.org/reports/tr44/), and https://trojansource.codes for what directs the order of reading.
"""

from __future__ import annotations

import re

# No text needs them: zero-width spaces, marks of the order of bytes, soft hyphens, fillers, embeddings, overrides.
NEVER = (
    "\u00ad\u061c\u115f\u1160\u180e\u200b\u2028\u2029\u202a-\u202e\u2060-\u2064"
    "\u2066-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
)
# What scripts and emoji are joined and directed by; among plain ASCII they can only mislead.
JOINING = "\u200c-\u200f\ufe00-\ufe0f\U000e0001-\U000e007f\U000e0100-\U000e01ef"
_SPACES = (
    "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"  # an ordinary one is meant, where the form of a file turns on it
)

ANY = re.compile(f"[{NEVER}{JOINING}{_SPACES}]")
_NEVER = re.compile(f"[{NEVER}]")
_NOT_IN_ASCII = re.compile(f"[{NEVER}{JOINING}]")
_IN_PLACE_OF_SPACE = re.compile(f"^-?(?=[{_SPACES}])|:(?=[{_SPACES}])")


def find(text: str, *, name: bool = False, plain: bool = False) -> int | None:
    """The index of the first character in ``text`` that should not be there, or None.

    Args:
        text: A word or a line as written in a file.
        name: It is a name, which has no such character of any kind.
        plain: It is YAML without quotes, and may have been meant as a mapping or a list.

    """
    rest = re.sub(_NOT_IN_ASCII, "", text)
    wrong = ANY if name else _NOT_IN_ASCII if rest.isascii() else _NEVER
    match = wrong.search(text)
    if match is None and plain:
        match = _IN_PLACE_OF_SPACE.search(text)
        return match.end() if match else None
    return match.start() if match else None


def named(character: str) -> str:
    """``U+200B ZERO WIDTH SPACE``."""
    import unicodedata  # a megabyte that hardly anybody needs

    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()

"""The pointer of a ring: the release that its instances take at their next start, and those before it.

    release=DIGEST
    since=2026-12-01T10:00:00Z
    before=DIGEST DIGEST ...
    by=NAME
    reason=TEXT

The first three lines are for instances and people; ``by`` names the writer, ``reason`` a forced promotion.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

import msgspec

MOST_BEFORE = 20
LARGEST = 16 * 1024  # bytes
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"([a-z]+)=(.*)")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_LONGEST = 200  # characters of a name or a reason


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """A pointer.

    Attributes:
        release: The digest of the release.
        since: The time of the change to it, in UTC, by the clock of the writer: ``2026-12-01T10:00:00Z``.
        before: The releases before it, the newest first.
        by: The writer.
        reason: The reason of a promotion against the rules; empty otherwise.
    """

    release: str
    since: str
    before: tuple[str, ...] = ()
    by: str = ""
    reason: str = ""

    def moved_to(self, release: str, *, now: float, by: str, reason: str = "") -> Pointer:
        """Return the pointer to another release, with this one in ``before``."""
        return Pointer(
            release=release,
            since=utc(now),
            before=tuple(dict.fromkeys(old for old in (self.release, *self.before) if old != release))[:MOST_BEFORE],
            by=plain(by),
            reason=plain(reason),
        )

    def moved_back(self, *, now: float, by: str) -> Pointer:
        """Return the pointer to the first release of ``before``, which must not be empty; this release is left out."""
        first, *rest = self.before
        return Pointer(release=first, since=utc(now), before=tuple(rest), by=plain(by))

    def dump(self) -> bytes:
        """Return its text."""
        lines = {"release": self.release, "since": self.since, "before": " ".join(self.before)}
        lines |= {name: text for name, text in (("by", self.by), ("reason", self.reason)) if text}
        return "".join(f"{name}={text}\n" for name, text in lines.items()).encode()


def parse(content: bytes) -> Pointer:
    """Read the text of a pointer; lines with other names are ignored.

    Raises:
        ValueError: it is not one; the message names the fault.
    """
    if len(content) > LARGEST:
        raise ValueError(f"it has {len(content):,} bytes")
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    values: dict[str, str] = {}
    for line in filter(None, lines):
        match = _LINE.fullmatch(line)
        if match is None or match[1] in values:
            raise ValueError(f"its line {line[:80]!r} is {'not NAME=VALUE' if match is None else 'a duplicate'}")
        values[match[1]] = match[2]
    before = tuple(values.get("before", "").split())
    for digest in (values.get("release", ""), *before):
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"{digest[:80]!r} is not the digest of a release")
    if not _TIME.fullmatch(values.get("since", "")):
        raise ValueError(f"since={values.get('since', '')[:80]!r} is not a time, such as 2026-12-01T10:00:00Z")
    return Pointer(
        release=values["release"],
        since=values["since"],
        before=before[:MOST_BEFORE],
        by=values.get("by", ""),
        reason=values.get("reason", ""),
    )


def utc(seconds: float) -> str:
    """Write a time in seconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def plain(text: str, longest: int = _LONGEST) -> str:
    """Return a text in one line of printable characters."""
    return "".join(character if character.isprintable() else " " for character in text[:longest]).strip()

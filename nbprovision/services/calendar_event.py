"""Calendar events of systemd, as far as `ensure_schedule` accepts them: when they elapse next.

Source: systemd.time(7), "Calendar Events". Years, lists of seconds, ``~`` and time zones are left out, so that all
versions read an event alike.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = rf"(?:{'|'.join(_DAYS)})"
_PART = r"[0-9]{1,2}(?:\.\.[0-9]{1,2}|/[0-9]{1,2})?"
_NUMBERS = rf"(?:\*|{_PART}(?:,{_PART})*)"
_EVENT = re.compile(
    rf"(?:(?P<days>{_DAY}(?:\.\.{_DAY})?(?:,{_DAY}(?:\.\.{_DAY})?)*) )?"
    rf"(?:\*-(?P<month>{_NUMBERS})-(?P<day>{_NUMBERS}) )?"
    rf"(?P<hour>{_NUMBERS}):(?P<minute>{_NUMBERS})(?::(?P<second>[0-9]{{1,2}}))?",
    re.ASCII,
)
_WORDS = {
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
}
_YEARS = 9  # within which every possible day comes, such as a 29th of February


class CalendarEvent(NamedTuple):
    """Times at which something happens, in the machine's own time zone."""

    weekdays: frozenset[int]
    months: frozenset[int]
    days: frozenset[int]
    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    second: int

    @classmethod
    def parse(cls, text: str) -> CalendarEvent:
        """Read an expression.

        Raises:
            ValueError: it is not one, or means no time at all.

        """
        match = _EVENT.fullmatch(_WORDS.get(text, text))
        if match is None:
            raise ValueError(f"{text[:80]!r} is not a calendar event")
        event = cls(
            frozenset(_weekdays(match["days"])),
            frozenset(_numbers(match["month"] or "*", 1, 12)),
            frozenset(_numbers(match["day"] or "*", 1, 31)),
            tuple(sorted(set(_numbers(match["hour"], 0, 23)))),
            tuple(sorted(set(_numbers(match["minute"], 0, 59)))),
            next(_numbers(match["second"] or "0", 0, 59)),
        )
        if next(event._days_from(dt.date(2001, 1, 1)), None) is None:
            raise ValueError(f"{text!r} is on no day of any year")
        return event

    def after(self, moment: float) -> float:
        """Return the first time after a moment, both in seconds since the epoch."""
        for day in self._days_from(dt.date(*time.localtime(moment)[:3])):
            for hour in self.hours:
                for minute in self.minutes:
                    fields = (day.year, day.month, day.day, hour, minute, self.second, 0, 0, -1)
                    elapses = time.mktime(fields)
                    if elapses > moment:
                        return elapses
        raise ValueError("the event never comes")  # `parse` accepts none of these

    def _days_from(self, first: dt.date) -> Iterator[dt.date]:
        for number in range(366 * _YEARS):
            day = first + dt.timedelta(days=number)
            if day.weekday() in self.weekdays and day.month in self.months and day.day in self.days:
                yield day


def _weekdays(text: str | None) -> Iterator[int]:
    for part in text.split(",") if text else ("Mon..Sun",):
        first, _, last = part.partition("..")
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        if end < begin:
            raise ValueError(f"{part} runs backwards")
        yield from range(begin, end + 1)


def _numbers(text: str, least: int, most: int) -> Iterator[int]:
    for part in text.split(","):
        start, _, step = part.partition("/")
        first, _, last = start.replace("*", str(least)).partition("..")
        begin, end = int(first), int(last or (most if step or start == "*" else first))
        if not least <= begin <= end <= most or (step and not 1 <= int(step) <= most):
            raise ValueError(f"{part} is not within {least} and {most}")
        yield from range(begin, end + 1, int(step or 1))

"""Calendar events: the next time is the one that systemd itself names."""

from __future__ import annotations

import shutil
import subprocess
import time
from datetime import UTC, datetime

import pytest

from nbprovision.services.calendar_event import CalendarEvent

EVENTS = [
    "hourly", "daily", "weekly", "monthly", "08:30", "9:05", "08:30:15", "*:00/15", "*:00,30", "0/6:00", "1,13..15:05",
    "Mon..Fri 08:30", "Sat,Sun *-*-* 10:00", "Mon,Wed..Fri *-*-31 23:59:59", "*-*-* 02:00:00", "*-*-01 02:00:00",
    "*-02-29 01:02:03", "Mon *-*-1..7 9:05", "*-1/3-01 04:00",
]  # fmt: skip
MOMENTS = [1764487381, 1772323199, 1774746000, 1795996800]


def of_systemd(event: str, moment: int) -> int:
    done = subprocess.run(
        ["systemd-analyze", "calendar", f"--base-time=@{moment}", event], capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if "Next elapse:" in line)
    return int(subprocess.check_output(["date", "-d", line.split(":", 1)[1].strip(), "+%s"]))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
@pytest.mark.parametrize("event", EVENTS)
def test_the_next_time_is_systemds(event: str) -> None:
    for moment in MOMENTS:
        assert CalendarEvent.parse(event).after(moment) == of_systemd(event, moment), moment


def test_a_time_within_the_hour_that_summer_time_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes once, and the next one is on the next day."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        before = datetime(2026, 3, 28, 23, 0, tzinfo=UTC).timestamp()
        first = CalendarEvent.parse("02:30").after(before)
        assert 0 < first - before <= 3 * 3600
        assert 22 * 3600 < CalendarEvent.parse("02:30").after(first) - first < 25 * 3600
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "now", "tomorrow", "*:*/7", "24:00", "08:60", "8", "Fri..Mon 08:30", "Mo 08:30", "mon 08:30", "*-02-30 00:00", "*-13-01 00:00",
        "*-*-00 00:00", "2030-01-01 00:00", "08:30 UTC", "08:30\n", "08:30\nOnBootSec=1", "*-*-* *:*:*", "*:00/0", "%H:00", "$(id):00", "08:30 ", "٠٨:٣٠",
    ],
)  # fmt: skip
def test_what_is_not_one(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        CalendarEvent.parse(text)
    assert type(caught.value) is ValueError

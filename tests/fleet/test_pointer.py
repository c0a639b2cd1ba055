"""Pointers: what is written is read again, and anything else is refused in words."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbprovision.fleet import pointer
from nbprovision.fleet.pointer import MOST_BEFORE, Pointer, parse

DIGESTS = st.text(alphabet="0123456789abcdef", min_size=64, max_size=64)
TIMES = st.integers(0, 4_000_000_000).map(pointer.utc)
POINTERS = st.builds(
    Pointer,
    release=DIGESTS,
    since=TIMES,
    before=st.lists(DIGESTS, max_size=MOST_BEFORE).map(tuple),
    by=st.text(max_size=50).map(pointer.plain),
    reason=st.text(max_size=50).map(pointer.plain),
)


@given(POINTERS)
def test_a_pointer_is_read_as_it_was_written(written: Pointer) -> None:
    assert parse(written.dump()) == written


@given(st.binary(max_size=300) | POINTERS.map(lambda each: each.dump()[:-70]))
def test_other_text_is_a_pointer_or_refused(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert re.fullmatch("[0-9a-f]{64}", parse(content).release)


@given(st.lists(DIGESTS, min_size=1, max_size=60))
def test_releases_follow_one_another(digests: list[str]) -> None:
    """The text has at most 20 earlier releases, the newest first, and none of them is the present one."""
    now = Pointer(release=digests[0], since=pointer.utc(0))
    for number, digest in enumerate(digests[1:]):
        now = now.moved_to(digest, now=number, by="jane")
        assert now.release == digest
        assert digest not in now.before
        assert len(now.before) == len(set(now.before)) <= MOST_BEFORE
        assert len(now.dump()) <= pointer.LARGEST
    while now.before:
        back = now.moved_back(now=9, by="joe")
        assert (back.release, back.before) == (now.before[0], now.before[1:])
        now = back


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not the digest"),
        ("release=abc\nsince=2026-12-01T10:00:00Z\nbefore=\n", "'abc' is not the digest"),
        (f"release={'a' * 64}\nbefore=\n", "is not a time"),
        (f"release={'a' * 64}\nrelease={'a' * 64}\n", "is a duplicate"),
        (f"release={'a' * 64}\nsince=2026-12-01T10:00:00Z\nbefore=x\n", "'x' is not the digest"),
        ("<html>\n", "is not NAME=VALUE"),
        ("x" * 20_000, "20,000 bytes"),
    ],
)
def test_the_fault_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(text.encode())


def test_a_name_with_line_ends_stays_in_its_line() -> None:
    now = Pointer(release="a" * 64, since=pointer.utc(0)).moved_to(
        "b" * 64, now=0, by="jane\nrelease=x", reason="\r\nno"
    )
    assert parse(now.dump()).release == "b" * 64
    assert parse(now.dump()).reason == "no"

"""uv.toml is edited setting by setting, and what was there before us is given back."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbprovision.indexes.uv_toml import Settings, merged, undone, values

PATH = Path("/home/user/.config/uv/uv.toml")
BEFORE = '# mine\nindex-strategy = "first-index"\nfind-links = ["/own"]\n'
OURS: Settings = {
    "index-strategy": ["unsafe-best-match"],
    "find-links": ["/ours"],
    "allow-insecure-host": ["h:1"],
    "extra": ["https://x.example/simple"],
}


def test_an_index_that_is_there_is_not_added_again() -> None:
    text = '[[index]]\nurl = "https://x.example/simple"\n'
    assert merged(PATH, text, {"extra": OURS["extra"]}) == text


def test_settings_are_given_back_as_they_were() -> None:
    text = merged(PATH, BEFORE, OURS)
    assert values(PATH, text) == OURS
    assert undone(PATH, text, BEFORE, [OURS]) == BEFORE


@pytest.mark.parametrize("forced", [False, True])
def test_what_others_have_changed_since_is_theirs_unless_we_set_it_anew(forced: bool) -> None:
    text = merged(PATH, BEFORE, OURS).replace("unsafe-best-match", "unsafe-first-match")
    after = undone(PATH, text, BEFORE, [OURS], forced=forced)
    strategy = "first-index" if forced else "unsafe-first-match"
    assert values(PATH, after) == {"index-strategy": [strategy], "find-links": ["/own"]}


def test_what_others_have_put_back_already_stays() -> None:
    assert undone(PATH, BEFORE, BEFORE, [OURS]) == BEFORE


def test_a_file_that_was_ours_alone_goes() -> None:
    assert undone(PATH, merged(PATH, None, OURS), None, [OURS]) is None
    assert undone(PATH, merged(PATH, "", OURS), "", [OURS]) is not None  # an empty one was the user's

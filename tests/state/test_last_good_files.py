"""What is kept of a playbook, and for whom it counts."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from nbprovision.model.errors import InvalidPlaybook
from nbprovision.state import last_good, sealed
from nbprovision.state.last_good import Start

OLD, NEW = Path("/volume/old.yml"), Path("/volume/new.yml")
CONTENT = {OLD: b"- tasks: []\n"}
ON_START, ON_CREATE = Start("on-start"), Start("on-create")


def used(home: Path, start: Start = ON_START) -> Path | None:
    """What takes the place of a playbook of which nothing is kept."""
    try:
        return last_good.read(home, NEW, start).path
    except InvalidPlaybook:
        return None


@pytest.mark.parametrize(
    ("kept_by", "wanted_by", "counts"),
    [
        (ON_START, ON_START, True),
        (ON_CREATE, ON_START, False),
        (Start("on-start", OLD), ON_START, False),
        (ON_START, Start("on-start", OLD), False),
        (ON_START, Start("on-start", NEW), False),
        (ON_START, Start("on-start", Path("/volume/mine.yml")), True),
        (ON_START, Start("on-start", Path("/volume/x/../old.yml")), False),
    ],
)
def test_who_may_use_what(kept_by: Start, wanted_by: Start, counts: bool, tmp_path: Path) -> None:
    last_good.keep(tmp_path, OLD, CONTENT, kept_by)
    assert used(tmp_path, wanted_by) == (OLD if counts else None)
    assert last_good.read(tmp_path, OLD, wanted_by).content == CONTENT, "its own counts always"


def test_both_hooks_may_run_the_same(tmp_path: Path) -> None:
    for start in (ON_CREATE, ON_START):
        last_good.keep(tmp_path, OLD, CONTENT, start)
    assert used(tmp_path, ON_START) == used(tmp_path, ON_CREATE) == OLD
    last_good.keep(tmp_path, OLD, {OLD: b"other"}, ON_START)
    assert used(tmp_path, ON_CREATE) is None, "this content has not succeeded there"


def test_who_ran_it_last_says_whose_it_is(tmp_path: Path) -> None:
    mine = Start("on-start", OLD)
    last_good.keep(tmp_path, OLD, CONTENT, ON_START)
    assert not last_good.is_kept(tmp_path, OLD, CONTENT, mine)
    last_good.keep(tmp_path, OLD, CONTENT, mine)
    assert last_good.is_kept(tmp_path, OLD, CONTENT, mine)
    assert used(tmp_path) is None
    last_good.keep(tmp_path, OLD, CONTENT, ON_START)
    assert used(tmp_path) == OLD


def test_the_same_content_keeps_its_date_and_becomes_the_newest(tmp_path: Path) -> None:
    last_good.keep(tmp_path, OLD, CONTENT, ON_START)
    path = last_good.path_of(tmp_path, OLD)
    os.utime(path, (1, 1))
    inode = path.stat().st_ino
    last_good.keep(tmp_path, OLD, CONTENT, ON_START)
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1


def test_what_an_earlier_version_kept_replaces_itself_only(tmp_path: Path) -> None:
    """It does not say who ran it; the next start that succeeds adds that."""
    last_good.keep(tmp_path, OLD, CONTENT, ON_START)
    path = last_good.path_of(tmp_path, OLD)
    head, _, body = path.read_bytes().partition(b"\n")
    fields = msgspec.msgpack.decode(body)
    del fields["hooks"]
    body = msgspec.msgpack.encode({**fields, "since": 1_700_000_000})
    path.write_bytes(head.rpartition(b" ")[0] + b" " + sealed.digest(body) + b"\n" + body)
    assert last_good.read(tmp_path, OLD, ON_START).content == CONTENT
    assert used(tmp_path) is None
    assert not last_good.is_kept(tmp_path, OLD, CONTENT, ON_START)
    last_good.keep(tmp_path, OLD, CONTENT, ON_START)
    assert used(tmp_path) == OLD
    assert last_good.read(tmp_path, OLD, ON_START).since == 1_700_000_000

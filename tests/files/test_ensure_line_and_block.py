"""`ensure_line` and `ensure_block`: tables of a text before and after, and what is done to the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbprovision.files.ensure_block import EnsureBlock
from nbprovision.files.ensure_line import EnsureLine
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from tests.support.driver import converge, planned

BEGIN, END = "# BEGIN NBPROVISION MANAGED BLOCK", "# END NBPROVISION MANAGED BLOCK"

LINES: list[tuple[dict[str, Any], str, str]] = [
    ({"line": "a=1"}, "", "a=1\n"),
    ({"line": "a=1"}, "b=2\n", "b=2\na=1\n"),
    ({"line": "a=1"}, "b=2", "b=2\na=1"),
    ({"line": "a=1"}, "b=2\r\nc=3\r\n", "b=2\r\nc=3\r\na=1\r\n"),
    ({"line": "a=1"}, "a=1\nb=2\n", "a=1\nb=2\n"),
    ({"line": "a=1", "regexp": "^a="}, "a=0\nb=2\na=0\n", "a=0\nb=2\na=1\n"),
    ({"line": "a=1", "regexp": "^a=", "firstmatch": True}, "a=0\nb=2\na=0\n", "a=1\nb=2\na=0\n"),
    ({"line": "a=1", "regexp": "^a="}, "a=0\r\nb=2", "a=1\r\nb=2"),
    ({"line": "a=1", "regexp": "^#a="}, "a=1\nb=2\n", "a=1\nb=2\n"),
    ({"line": "a=1", "regexp": "^#a="}, "#a=0\n#a=0\n", "#a=0\na=1\n"),
    ({"line": "a=1", "insertafter": "^b"}, "b=1\nb=2\nc=3\n", "b=1\nb=2\na=1\nc=3\n"),
    ({"line": "a=1", "insertafter": "^b", "firstmatch": True}, "b=1\nb=2\n", "b=1\na=1\nb=2\n"),
    ({"line": "a=1", "insertbefore": "^b"}, "b=1\nb=2\n", "b=1\na=1\nb=2\n"),
    ({"line": "a=1", "insertbefore": "BOF"}, "b=1\n", "a=1\nb=1\n"),
    ({"line": "a=1", "insertafter": "EOF"}, "b=1\n", "b=1\na=1\n"),
    ({"line": "a=1", "insertafter": "^z"}, "b=1\n", "b=1\na=1\n"),
    ({"line": r"\1=1", "regexp": "^(.)=", "backrefs": True}, "x=0\n", "x=1\n"),
    ({"line": r"\1=1", "regexp": "^(y)=", "backrefs": True}, "x=0\n", "x=0\n"),
    ({"line": "a=1", "state": "absent"}, "a=1\nb=2\na=1\n", "b=2\n"),
    ({"regexp": "^a", "state": "absent"}, "b=2\na=1", "b=2"),
    ({"line": "a=1", "state": "absent"}, "a=10\n", "a=10\n"),
    ({"line": "$(x) `y` \\1"}, "", "$(x) `y` \\1\n"),
    ({"line": "a=1"}, "x\x0cy\u2028z\n", "x\x0cy\u2028z\na=1\n"),
]

BLOCKS: list[tuple[dict[str, Any], str, str]] = [
    ({"block": "a\nb"}, "", f"{BEGIN}\na\nb\n{END}\n"),
    ({"block": "a\nb\n"}, "x\n", f"x\n{BEGIN}\na\nb\n{END}\n"),
    ({"block": "a"}, "x", f"x\n{BEGIN}\na\n{END}"),
    ({"block": "a"}, "x\r\ny\r\n", f"x\r\ny\r\n{BEGIN}\r\na\r\n{END}\r\n"),
    ({"block": "a"}, f"x\n{BEGIN}\nb\nc\n{END}\ny\n", f"x\n{BEGIN}\na\n{END}\ny\n"),
    ({"block": "a"}, f"x\n{BEGIN} \na\n{END}\ny", f"x\n{BEGIN}\na\n{END}\ny"),
    ({"block": "a", "insertafter": "^x"}, "x\ny\n", f"x\n{BEGIN}\na\n{END}\ny\n"),
    ({"block": "a", "insertbefore": "BOF"}, "x\n", f"{BEGIN}\na\n{END}\nx\n"),
    ({"block": "a", "marker": "<!-- {mark} -->"}, "", "<!-- BEGIN -->\na\n<!-- END -->\n"),
    ({"block": "a", "marker": "; {mark}", "marker_begin": "on", "marker_end": "off"}, "", "; on\na\n; off\n"),
    ({"state": "absent"}, f"x\n{BEGIN}\na\n{END}\ny\n", "x\ny\n"),
    ({"state": "absent"}, "x\n", "x\n"),
    ({"state": "absent"}, f"x\n{BEGIN}\na\n{END}", "x"),
]


@pytest.mark.parametrize(("parameters", "before", "after"), LINES)
def test_a_line(parameters: dict[str, Any], before: str, after: str) -> None:
    task = EnsureLine(path="/f", **parameters)
    assert task.edit(before).text == after
    assert task.edit(after).text == after


@pytest.mark.parametrize(("parameters", "before", "after"), BLOCKS)
def test_a_block(parameters: dict[str, Any], before: str, after: str) -> None:
    task = EnsureBlock(path="/f", **parameters)
    assert task.edit(before).text == after
    assert task.edit(after).text == after


TEXTS = st.lists(st.sampled_from(["a=1", "a=2", "b", "", BEGIN, END, " x "]), max_size=6).flatmap(
    lambda lines: st.sampled_from(["\n", "\r\n"]).flatmap(
        lambda end: st.booleans().map(lambda ended: end.join(lines) + (end if ended and lines else ""))
    )
)


def strange_lines(text: str, *, marked: bool) -> int:
    """How many lines there are that no task asks for; with ``marked``, outside of a block between marks."""
    lines = text.replace("\r", "").split("\n")
    if marked and BEGIN in lines and END in lines:
        del lines[lines.index(BEGIN) : lines.index(END) + 1]
    return lines.count(" x ")


@given(
    text=TEXTS,
    where=st.sampled_from([{}, {"insertbefore": "BOF"}, {"insertafter": "^b"}, {"insertbefore": "a"}]),
    regexp=st.sampled_from([None, "^a=", "b$"]),
    state=st.sampled_from(["present", "absent"]),
)
def test_an_edit_is_done_once_and_touches_nothing_else(
    text: str, where: dict[str, str], regexp: str | None, state: Any
) -> None:
    """Whatever the text: a second edit finds nothing to do, and what else there was is there in its order."""
    line = EnsureLine(path="/f", line="a=1", regexp=regexp, state=state, **where)
    block = EnsureBlock(path="/f", block="a=1\nc", state=state, **where) if state == "present" else None
    for task in (line, block):
        if task is None:
            continue
        try:
            after = task.edit(text).text
        except TaskFailed:  # a mark without the other
            continue
        assert task.edit(after).text == after
        # What stands between the marks is the block's own, and goes with it.
        assert strange_lines(after, marked=task is block) == strange_lines(text, marked=task is block)


@pytest.mark.parametrize("text", [f"{BEGIN}\na\n", f"a\n{END}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n" * 2])
def test_a_damaged_block_is_left_to_its_user(text: str) -> None:
    with pytest.raises(TaskFailed, match="damaged marks") as caught:
        EnsureBlock(path="/f", block="a").edit(text)
    assert "by hand" in caught.value.cure


def test_the_file_keeps_its_mode_and_what_is_no_text(machine: Machine, home: Path) -> None:
    path = home / "f"
    path.write_bytes(b"b=\xff\n")
    path.chmod(0o600)
    (change,) = converge(EnsureLine(path="~/f", line="a=1", backup=True), machine)
    assert path.read_bytes() == b"b=\xff\na=1\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert change.action == "write"
    (kept,) = home.glob("f.*~")
    assert kept.read_bytes() == b"b=\xff\n"
    assert converge(EnsureLine(path="~/f", line="a=1", mode="0644"), machine)[0].action == "set mode"


def test_a_file_is_made_only_when_asked(machine: Machine, home: Path) -> None:
    with pytest.raises(TaskFailed, match="there is no file") as caught:
        planned(EnsureLine(path="~/.bashrc", line="a"), machine)
    assert "create: true" in caught.value.cure
    assert planned(EnsureLine(path="~/.bashrc", line="a", state="absent"), machine) == ()
    converge(EnsureBlock(path="~/.config/x/f", block="a", create=True, mode="0600"), machine)
    assert (home / ".config/x/f").stat().st_mode & 0o777 == 0o600


def test_a_link_is_followed_within_its_folder_only(machine: Machine, home: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("x\n")
    (home / "dotfiles").mkdir()
    (home / "dotfiles/bashrc").write_text("x\n")
    (home / ".bashrc").symlink_to("dotfiles/bashrc")
    (home / ".profile").symlink_to(victim)
    converge(EnsureLine(path="~/.bashrc", line="a"), machine)
    assert os.readlink(home / ".bashrc") == "dotfiles/bashrc"
    assert (home / "dotfiles/bashrc").read_text() == "x\na\n"
    with pytest.raises(TaskFailed, match="out of its folder") as caught:
        planned(EnsureLine(path="~/.profile", line="a"), machine)
    assert caught.value.cure == f"name {victim} itself, or write follow: true"
    assert victim.read_text() == "x\n"
    converge(EnsureLine(path="~/.profile", line="a", follow=True), machine)
    assert victim.read_text() == "x\na\n"


def test_what_is_no_file_of_text_is_left_alone(machine: Machine, home: Path) -> None:
    (home / "folder").mkdir()
    os.mkfifo(home / "pipe")
    (home / "large").write_bytes(b"x\n" * (1 << 20))
    for name, said in (("folder", "is a folder"), ("pipe", "is a device"), ("large", "too large")):
        with pytest.raises(TaskFailed, match=said):
            planned(EnsureLine(path=f"~/{name}", line="a"), machine)


@pytest.mark.parametrize(
    ("kind", "parameters", "key", "said"),
    [
        (EnsureLine, {}, "line", "needs `line`"),
        (EnsureLine, {"state": "absent"}, "line", "needs `line`"),
        (EnsureLine, {"line": "\udcff"}, "line", "not UTF-8"),
        (EnsureLine, {"line": "a\nb"}, "line", "line end"),
        (EnsureLine, {"line": "a", "regexp": "("}, "regexp", "not a regular expression"),
        (EnsureLine, {"line": r"\2", "regexp": "(a)", "backrefs": True}, "line", "group"),
        (EnsureLine, {"line": "a", "backrefs": True}, "backrefs", "needs `regexp`"),
        (
            EnsureLine,
            {"line": "a", "insertafter": "x", "insertbefore": "y"},
            "insertbefore",
            "cannot be given together",
        ),
        (EnsureLine, {"line": "a", "insertafter": "["}, "insertafter", "not a regular expression"),
        (EnsureBlock, {"block": " \n"}, "block", "needs `block`"),
        (EnsureBlock, {"block": "a", "marker": "# x"}, "marker", "would be the same"),
        (EnsureBlock, {"block": "a", "marker": "# {mark}\n"}, "marker", "line end"),
        (EnsureBlock, {"block": f"a\n{END}\n"}, "block", "is a mark"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: Any, parameters: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said) as caught:
        kind(path="/f", **parameters)
    assert caught.value.key == key


MISSED: list[tuple[type[EnsureLine | EnsureBlock], dict[str, Any], str, str]] = [
    (EnsureLine, {"line": "a", "insertafter": "^z"}, "x\n", "insertafter` (^z)"),
    (EnsureLine, {"line": "a", "insertbefore": "^z", "regexp": "^b"}, "x\n", "insertbefore` (^z)"),
    (EnsureLine, {"line": "a", "insertafter": "^z", "create": True}, "", "insertafter` (^z)"),
    (EnsureBlock, {"block": "a", "insertbefore": "^z"}, "x\n", "insertbefore` (^z)"),
    (EnsureBlock, {"block": "a", "insertafter": "^z"}, "a\n", "insertafter` (^z)"),
    (EnsureLine, {"line": "a", "insertafter": "^x"}, "x\n", ""),
    (EnsureLine, {"line": "a", "insertafter": "EOF"}, "x\n", ""),
    (EnsureLine, {"line": "a", "insertbefore": "BOF"}, "x\n", ""),
    (EnsureLine, {"line": "a", "insertafter": "^z"}, "a\n", ""),
    (EnsureLine, {"line": "a", "insertafter": "^z", "regexp": "^b"}, "b\n", ""),
    (EnsureLine, {"line": r"\1", "insertafter": "^z", "regexp": "^(y)", "backrefs": True}, "b\n", ""),
    (EnsureLine, {"line": "x", "insertafter": "^z", "state": "absent"}, "x\n", ""),
    (EnsureBlock, {"block": "a", "insertafter": "^z"}, f"{BEGIN}\nb\n{END}\n", ""),
    (EnsureBlock, {"insertafter": "^z", "state": "absent"}, f"{BEGIN}\nb\n{END}\n", ""),
]


@pytest.mark.parametrize(("kind", "parameters", "before", "said"), MISSED)
def test_a_place_that_matches_nothing_is_told(
    kind: type[EnsureLine | EnsureBlock],
    parameters: dict[str, Any],
    before: str,
    said: str,
    machine: Machine,
    tmp_path: Path,
) -> None:
    """With where the new lines went, in a check too; what stands where it belongs is no matter."""
    path = tmp_path / "f"
    if before:
        path.write_text(before)
    task = kind(path=str(path), **parameters)
    notes = [f"no line of {path} matches `{said}: new lines went to the end of the file"] if said else []
    assert list(task.plan(task.read(machine)).warnings) == notes
    converge(task, machine)
    assert task.plan(task.read(machine)).warnings == ()
    if said:
        assert path.read_text().startswith(before)

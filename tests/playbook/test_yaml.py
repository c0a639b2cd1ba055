"""YAML to nodes: what is read, where it stands, and what is refused before it costs anything."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from nbprovision.model.errors import InvalidPlaybook, Position
from nbprovision.playbook import yaml_nodes
from nbprovision.playbook.yaml_nodes import ListNode, MapNode, Scalar, parse_nodes, plain, read_nodes


def parsed(text: str) -> Any:
    node = parse_nodes(text, "p.yml")
    return None if node is None else plain(node)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("[1.5, yes, off, ~, '1', \"2\"]", [1.5, True, False, None, "1", "2"]),
        ("3.10", 3.1),
        ("1:30", 90),
        ("0o17", "0o17"),
        ("2024-01-02", "2024-01-02"),
        ("=", "="),
        ("! 12", 12),
        ("!!str 12", "12"),
        ("!!int '12'", 12),
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("x: &a [1]\ny: [*a, *a]", {"x": [1], "y": [[1], [1]]}),
        ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
        ("", None),
        ("# nothing\n", None),
        ("%YAML 1.1\n---\na: 1\n", {"a": 1}),
    ],
)
def test_values_are_what_safe_loader_makes(text: str, value: Any) -> None:
    """YAML 1.1, as every tool around PyYAML reads it; but a date is the text that stands there."""
    if value is not None:
        assert parsed(text) == value
    if text not in ("=", "2024-01-02"):
        assert parsed(text) == yaml.safe_load(text)


def test_positions_and_quotes() -> None:
    """Lines and columns from 1; a scalar knows its text and whether it is quoted."""
    node = parse_nodes("\ufeffa: 1\nb:\n  - x\n  - 'y'\n".removeprefix("\ufeff"), "p.yml")
    assert isinstance(node, MapNode)
    items = node.get("b")
    assert isinstance(items, ListNode)
    assert items.items[1] == Scalar(Position("p.yml", 4, 5), "y", "y", plain=False)
    assert node.pairs[0][1] == Scalar(Position("p.yml", 1, 4), 1, "1", plain=True)
    assert node.get("c") is None


@pytest.mark.parametrize(
    "text",
    [
        "[" * 30_000,
        "[" * 500_000,
        "- " * 300_000 + "x",
        "{a: " * 30_000,
        "? " * 30_000,
        "a: [" + "1," * 400_000 + "]",
        "%TAG ! x\n" * 50_000 + "---\na",
        "a: " + "9" * 1_000_000,
        "a: " + ":".join(["1"] * 300_000),
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{n}: &{n} [{','.join(['*' + m] * 10)}]\n" for m, n in zip("abcdefgh", "bcdefghi", strict=True)),
        "a0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}]\n" for n in range(10_000)),
        "a: &a {" + ",".join(f"k{n}: 1" for n in range(1000)) + "}\nb:\n" + "  - {<<: *a}\n" * 1000,
        "!" * 100_000,
        "a: &" + "x" * 100_000 + " *y",
    ],
    ids=range(14),
)
def test_bombs_are_refused_at_once(text: str) -> None:
    """Depth, number and unfolding are limited on the events; a short message tells which."""
    began = time.process_time()  # of this process: a bomb would take minutes on any machine
    with pytest.raises(InvalidPlaybook) as caught:
        parse_nodes(text, "p.yml")
    assert time.process_time() - began < 60
    assert len(str(caught.value)) < 500
    assert caught.value.position is not None


@pytest.mark.parametrize("text", ["\n" * 1_000_000, "# x\n" * 200_000, "a: |\n" + " x\n" * 300_000])
def test_long_is_not_wrong(text: str) -> None:
    """Many lines alone are no bomb."""
    parse_nodes(text, "p.yml")


def refused(path: Path) -> str:
    with pytest.raises(InvalidPlaybook) as caught:
        read_nodes(path)
    return str(caught.value).replace(str(path.parent), "DIR")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    """Missing, a folder, a pipe, binary, another encoding: each said as such."""
    path = tmp_path / "play.yml"
    assert refused(path) == "the playbook DIR/play.yml does not exist\n  fix: correct the path"
    (tmp_path / "playbook.yml").write_text("")
    assert "did you mean 'playbook.yml'?" in refused(path)
    path.mkdir()
    assert "DIR/play.yml is a folder" in refused(path)
    path.rmdir()
    os.mkfifo(path)
    assert "not an ordinary file" in refused(path)
    path.unlink()
    path.write_bytes(b"\x7fELF\0\0")
    assert "is a binary file" in refused(path)
    path.write_bytes("a: 1".encode("utf-16"))
    assert "UTF-16" in refused(path)
    path.write_bytes("a: 1\nb: \xe9\xff".encode("latin-1"))
    assert refused(path) == "DIR/play.yml:2:4: byte 0xe9 is not UTF-8\n  fix: save the file as UTF-8"
    path.write_bytes(b"a: 1\nb: \x07")
    assert refused(path).startswith("DIR/play.yml:2:4: there is an unprintable character (U+0007)")
    assert "cannot be read" in refused(Path("a\0b"))
    assert "cannot be read" in refused(Path("a" * 5000))
    path.unlink()
    path.symlink_to(path)
    assert "cannot be read" in refused(path)


@pytest.mark.parametrize(
    ("text", "place", "name"),
    [
        ("- tasks:\n    - ensure_pip\u200b_pkg: {}\n", "2:17", "U+200B ZERO WIDTH SPACE"),
        ("- tasks:\n    - ensure_pip_pkg\u200d: {}\n", "2:21", "U+200D ZERO WIDTH JOINER"),
        ("- tasks:\n    - ensure_pip_pkg:\u00a0{}\n", "2:22", "U+00A0 NO-BREAK SPACE"),
        ("-\u00a0tasks: []\n", "1:2", "U+00A0 NO-BREAK SPACE"),
        ("- é: [numpy, 'pan\ufeffdas']\n", "1:18", "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ('- path: "/home/\u202egnp.exe"\n', "1:16", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("- path: num\u200epy\n", "1:12", "U+200E LEFT-TO-RIGHT MARK"),
        ("- path: numpy\ufe0f\n", "1:14", "U+FE0F VARIATION SELECTOR-16"),
        ("- a: 1\n\ufeff- b: 2\n", "2:1", "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("- a: 1\r\n- b: x\u00ady\r\n", "2:7", "U+00AD SOFT HYPHEN"),
        ("\u200b- a: 1\n", "1:1", "U+200B ZERO WIDTH SPACE"),
    ],
)
@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_a_character_that_nobody_sees_is_named_with_its_place(
    loader: str, text: str, place: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml, "CSafeLoader", getattr(yaml, loader))
    with pytest.raises(InvalidPlaybook) as caught:
        parsed(text)
    assert str(caught.value).startswith(f"p.yml:{place}: invisible character: {name}\n")


@pytest.mark.parametrize(
    "text",
    [
        'a: "x\\u200by\\u202e"',  # as an escape it is meant
        "a: |\n  one\u200btwo\n",  # a file's content
        "# copied\u200b from\u00a0the web\na: 1",
        "name: \U0001f469\u200d\U0001f4bb 1\ufe0f\u20e3",  # emoji
        "name: \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian
        "name: \u05e9\u05dc\u05d5\u05dd\u200f!",  # Hebrew
        "name: «\u00a0trois\u00a0€\u00a0»",
    ],
)
def test_what_a_text_needs_may_stand_in_it(text: str) -> None:
    assert parsed(text) == yaml.safe_load(text)


def test_a_huge_file_is_refused_by_its_size(tmp_path: Path) -> None:
    """A file of 50 MB takes neither time nor memory."""
    path = tmp_path / "huge.yml"
    with path.open("wb") as stream:
        stream.truncate(50_000_000)
    began = time.process_time()  # of this process: a bomb would take minutes on any machine
    assert "is larger than 1024 KiB" in refused(path)
    assert time.process_time() - began < 60


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """No traceback for permissions."""
    path = tmp_path / "secret.yml"
    path.write_text("a: 1")
    path.chmod(0)
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(65534)
    try:
        assert "permission denied" in refused(path)
    finally:
        os.seteuid(uid)


def test_line_ends_and_byte_order_marks(tmp_path: Path) -> None:
    """What editors on Windows leave behind is fine."""
    path = tmp_path / "crlf.yml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    node = read_nodes(path)
    assert isinstance(node, MapNode)
    assert plain(node) == {"a": 1, "b": 2}
    assert node.pairs[1][0].position == Position(str(path), 2, 1)


def test_the_loader_in_python_serves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML may be built without its C part."""
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert parsed("a: [1, {b: c}]") == {"a": [1, {"b": "c"}]}
    with pytest.raises(InvalidPlaybook, match="nested more than"):
        parsed("[" * 1000)
    with pytest.raises(InvalidPlaybook, match=r"p\.yml:2:"):
        parsed("a: 1\n b: 2\n")


def test_limits_are_generous() -> None:
    """A playbook of two thousand tasks is read."""
    text = "- tasks:\n" + "    - ensure_x: {name: a, packages: [b, c]}\n" * 2000
    assert len(parsed(text)[0]["tasks"]) == 2000
    assert yaml_nodes.MAX_NODES >= 20_000

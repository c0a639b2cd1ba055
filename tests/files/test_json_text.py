"""JSON with comments is edited member by member: every other byte stays, and what is not JSON is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbprovision.files.json_text import DEEPEST, Number, _root, data_of, edited, merged, same, settings
from nbprovision.model.errors import Position, TaskFailed

PATH = Path("/home/user/settings.json")
BLANKS_AND_COMMENTS = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\r\n]*|/\*(?s:.*?)\*/')
TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[\]}])')


def by_python(text: str) -> Any:
    """The document as Python reads it, without what JSON with comments adds: a second opinion on the reader."""
    bare = BLANKS_AND_COMMENTS.sub(lambda match: match[1] or " ", text.removeprefix("\ufeff"))
    return json.loads(TRAILING_COMMA.sub(lambda match: match[1] or "", bare), parse_float=Number, parse_int=Number)


def edit(text: str | None, values: dict[str, Any], *remove: Sequence[str]) -> str | None:
    """The edited text; a second edit changes nothing."""
    wanted = data_of(values)
    after = edited(PATH, text, wanted, remove)
    assert edited(PATH, after, wanted, remove) == after
    return after


# name: the text, the wanted values, the text then
SET: dict[str, tuple[str | None, dict[str, Any], str | None]] = {
    "no file": (None, {"a": 1, "b": {"c": [1, {"x": None}]}, "e": {}}, '{\n  "a": 1,\n  "b": {\n    "c": [\n      1,\n      {\n        "x": null\n      }\n    ]\n  },\n  "e": {}\n}\n'),
    "no file, nothing wanted": (None, {}, None),
    "an empty file": ("", {"a": "\u00e9"}, '{\n  "a": "\u00e9"\n}\n'),
    "comments only": ("// mine", {"a": 1}, '// mine\n{\n  "a": 1\n}\n'),
    "an empty object": ("{}", {"a": 1}, '{\n  "a": 1\n}'),
    "compact": ('{"a":1,"b":2}', {"c": {"d": [1, 2]}}, '{"a":1,"b":2,"c":{"d":[1,2]}}'),
    "on one line": ('{ "a": 1 }\n', {"c": {"d": [1, 2]}}, '{ "a": 1, "c": {"d": [1, 2]} }\n'),
    "the indentation of the file": ('{\n\t"a": 1\n}\n', {"b": {"c": 1}}, '{\n\t"a": 1,\n\t"b": {\n\t\t"c": 1\n\t}\n}\n'),
    "no indentation": ('{\n"a": 1\n}\n', {"b": {"c": 1}}, '{\n"a": 1,\n"b": {\n"c": 1\n}\n}\n'),
    "numbers keep their form": ('{\n  "a": 1.0, "b": 1e5, "c": 0.10, "d": -0,\n  "e": 123456789012345678901234567890\n}', {"f": 1}, '{\n  "a": 1.0, "b": 1e5, "c": 0.10, "d": -0,\n  "e": 123456789012345678901234567890,\n  "f": 1\n}'),
    "equal numbers are equal": ('{"a": 1e5, "b": 1.0, "c": [0.10]}', {"a": 100000, "b": 1, "c": [0.1]}, '{"a": 1e5, "b": 1.0, "c": [0.10]}'),
    "a truth value is no number": ('{"a": true, "b": 0}', {"a": 1, "b": False}, '{"a": 1, "b": false}'),
    "null is a value": ('{"a": 1}', {"a": None}, '{"a": null}'),
    "escapes keep their form": ('{"\\u0061": "\\/", "b": "\\ud800"}', {"a": "/", "c": 1}, '{"\\u0061": "\\/", "b": "\\ud800", "c": 1}'),
    "comments behind and below": ('{\n  "a": 1 // of a\n  // end\n}\n', {"b": 2}, '{\n  "a": 1, // of a\n  "b": 2\n  // end\n}\n'),
    "a trailing comma stays one": ('{\n  "a": 1, // of a\n}\n', {"b": 2, "c": 3}, '{\n  "a": 1, // of a\n  "b": 2,\n  "c": 3,\n}\n'),
    "a comment without a line end of its own": ('{"a": 1 // of a\n}', {"b": 2}, '{"a": 1, // of a\n"b": 2\n}'),
    "a comment in an empty object": ("{ // none\n}", {"a": 1}, '{ // none\n  "a": 1\n}'),
    "comments that look like code": ('{\n  "a": "// no /* no", /* "b": { */ "c": 1\n}', {"b": 2}, '{\n  "a": "// no /* no", /* "b": { */ "c": 1,\n  "b": 2\n}'),
    "objects are merged": ('{\n  "a": {"x": 1, "y": {"z": 1}}, // c\n  "b": 2\n}', {"a": {"y": {"z": 2, "n": 3}}}, '{\n  "a": {"x": 1, "y": {"z": 2, "n": 3}}, // c\n  "b": 2\n}'),
    "lists and scalars are replaced": ('{\n  "a": [1, 2],\n  "b": "x",\n  "c": {"d": 1}\n}', {"a": [3], "b": {"y": 1}, "c": 5}, '{\n  "a": [\n    3\n  ],\n  "b": {\n    "y": 1\n  },\n  "c": 5\n}'),
    "an empty mapping asks for an object": ('{"a": {"x": 1}, "b": 1}', {"a": {}, "b": {}}, '{"a": {"x": 1}, "b": {}}'),
    "Windows line ends": ('{\r\n  "a": 1\r\n}\r\n', {"b": {"c": 1}}, '{\r\n  "a": 1,\r\n  "b": {\r\n    "c": 1\r\n  }\r\n}\r\n'),
    "a byte order mark": ('\ufeff{"a": 1}', {"a": 2}, '\ufeff{"a": 2}'),
    "a duplicate elsewhere": ('{"a": 1, "a": 2, "b": 3}', {"b": 4}, '{"a": 1, "a": 2, "b": 4}'),
    "keys of JupyterLab and VS Code": ('{\n    "editor.fontSize": 12,\n    "[python]": {\n        "editor.rulers": [80]\n    },\n}\n', {"editor.fontSize": 14, "[python]": {"editor.rulers": [120]}}, '{\n    "editor.fontSize": 14,\n    "[python]": {\n        "editor.rulers": [\n            120\n        ]\n    },\n}\n'),
}  # fmt: skip


@pytest.mark.parametrize("name", SET)
def test_values_are_set(name: str) -> None:
    text, values, after = SET[name]
    assert edit(text, values) == after


REMOVED: dict[str, tuple[str | None, list[list[str]], str | None]] = {
    "no file": (None, [["a"]], None),
    "missing": ('{"a": 1}', [["b"], ["a", "b"], ["b", "c"]], '{"a": 1}'),
    "the only one": ('{\n  "a": 1\n}\n', [["a"]], "{}\n"),
    "the first, its comment": ('{\n  // above\n  "a": 1, // of a\n  "b": 2\n}', [["a"]], '{\n  // above\n  "b": 2\n}'),
    "the last": ('{\n  "a": 1, // of a\n  "b": {\n    "c": 1\n  } /* of b */\n}', [["b"]], '{\n  "a": 1 // of a\n}'),
    "the last before a trailing comma": ('{\n  "a": 1,\n  "b": 2,\n}', [["b"]], '{\n  "a": 1,\n}'),
    "on one line": ('{"a": 1, "b": 2, "c": 3}', [["b"], ["c"]], '{"a": 1}'),
    "with a comment between": ('{"a": 1, /* x */ "b": 2}', [["b"]], '{"a": 1 /* x */}'),
    "commas first": ('{\n  "a": 1\n  , "b": 2\n  , "c": 3\n}', [["a"]], '{\n  "b": 2\n  , "c": 3\n}'),
    "nested": ('{"a": {"b": {"c": 1, "d": 2}}}', [["a", "b", "c"]], '{"a": {"b": {"d": 2}}}'),
}  # fmt: skip


@pytest.mark.parametrize("name", REMOVED)
def test_keys_are_removed(name: str) -> None:
    text, remove, after = REMOVED[name]
    assert edit(text, {}, *remove) == after


@pytest.mark.parametrize(
    ("text", "place", "cause"),
    [
        ("[1]", (1, 1), "top level is not an object"),
        ("// c\n1", (2, 1), "top level is not an object"),
        ('{"a": NaN}', (1, 7), "NaN is not a JSON value"),
        ('{"a": -Infinity}', (1, 7), "-Infinity is not a JSON value"),
        ('{"a": 01}', (1, 7), "no such number"),
        ('{"a": 0x1F}', (1, 7), "no such number"),
        ('{"a": .5}', (1, 7), "no such number"),
        ('{"a": True}', (1, 7), "small letters"),
        ("{'a': 1}", (1, 2), "double quotes"),
        ("{\n  a: 1}", (2, 3), "a key in double quotes is expected, not a"),
        ('{"a": 1 "b": 2}', (1, 9), "a comma or } is expected"),
        ('{"a": 1,,}', (1, 9), "a key in double quotes is expected, not ,"),
        ("{,}", (1, 2), "a key in double quotes is expected, not ,"),
        ('{"a" 1}', (1, 6), "a colon is expected"),
        ('{"a": }', (1, 7), "a value is expected, not }"),
        ('{"a": [1, 2}', (1, 12), "a comma or ] is expected, not }"),
        ('{"a": 1', (1, 8), "but the text ends"),
        ('{"a": "x\n"}', (1, 7), "no closing quote"),
        ('{"a": "x\ty"}', (1, 9), "U+0009"),
        ('{"a": "\\x"}', (1, 8), "no such escape"),
        ('{"a": 1} {}', (1, 10), "more text behind"),
        ('{"a": /* 1}', (1, 7), "comment has no end"),
        ('{\n"a": "\udcff"}', (2, 7), "not UTF-8"),
        ('{\u00a0"a": 1}', (1, 2), "not U+00A0"),
        ('{"a":' * (DEEPEST + 2), (1, 5 * (DEEPEST + 1) + 1), "levels deep"),
        ("[" * 100_000, (1, DEEPEST + 2), "levels deep"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(text: str, place: tuple[int, int], cause: str) -> None:
    with pytest.raises(TaskFailed, match="not valid JSON") as caught:
        edit(text, {"z": 1})
    assert caught.value.position == Position(str(PATH), *place)
    assert cause in caught.value.cause


def test_a_duplicate_of_the_edited_key_is_refused() -> None:
    with pytest.raises(TaskFailed, match="'b' occurs 2 times") as caught:
        edit('{"a": {"b": 1,\n"b": 2}}', {"a": {"b": 3}})
    assert caught.value.position == Position(str(PATH), 2, 1)


def test_a_comment_within_a_replaced_value_is_not_lost() -> None:
    with pytest.raises(TaskFailed, match="is not replaced") as caught:
        edit('{"a": [\n  "//", // why\n  2]}', {"a": [1]})
    assert caught.value.position == Position(str(PATH), 2, 9)


@pytest.mark.parametrize("value", [float("nan"), {1: 2}, {"a": [float("inf")]}, {"a": {1, 2}}])
def test_what_json_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reason is Python's own
        data_of({"a": value})


def test_a_number_without_end_is_kept() -> None:
    digits = "9" * 5000
    text = f'{{"a": {digits}, "b": 1e999999999999999999999}}'
    assert edit(text, {"c": 1}) == text[:-1] + ', "c": 1}'
    assert edit('{"a": 1e999999999999999999999}', {"a": 1}) == '{"a": 1}'


# ------------------------------------------------------------------------------------------------------- properties

KEYS = st.sampled_from(["a", "b", "c", "d.e", "@x/y"])
SCALARS = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-5, 10**30),
    st.floats(-1e9, 1e9),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
GAPS = st.sampled_from(["", "", " ", "\n", "\n  ", "\r\n\t", " // c\n", "/* d */", '\n// e "{\n', "/*\n*/ "])
RAW = st.sampled_from(["1.0", "1e5", "0.10", "-0", '"\\u0061"', "[1, 2]", '{"q": 1.50}', "true", "null", "{}", "[]"])


@st.composite
def documents(draw: st.DrawFn, depth: int = 2) -> str:
    """An object with comments, blanks and trailing commas anywhere."""
    keys = draw(st.lists(KEYS, unique=True, max_size=4))
    parts = []
    for key in keys:
        value = draw(documents(depth - 1)) if depth and draw(st.booleans()) else draw(RAW)
        parts.append(f'{draw(GAPS)}"{key}"{draw(GAPS)}:{draw(GAPS)}{value}{draw(GAPS)}')
    trailing = "," + draw(GAPS) if parts and draw(st.booleans()) else ""
    return "{" + ",".join(parts) + trailing + draw(GAPS) + "}"


def as_written(text: str) -> dict[str, str]:
    """Each member of the outermost object as it is written, with the comments in it."""
    root = _root(PATH, text)
    assert root is not None
    return {member.key: text[member.start : member.value.end] for member in root.members}


PATHS = st.lists(KEYS, min_size=1, max_size=3)


@given(text=documents(), values=st.dictionaries(KEYS, VALUES, max_size=3), remove=st.lists(PATHS, max_size=2))
def test_whatever_the_document_other_members_keep_their_bytes(
    text: str, values: dict[str, Any], remove: list[list[str]]
) -> None:
    before = settings(PATH, text)
    assert before == by_python(text)
    remove = [keys for keys in remove if keys[0] not in values]
    try:
        after = edit(text, values, *remove)
    except TaskFailed as error:
        assert "is not replaced" in error.message  # noqa: PT017 - a comment within a list
        return
    assert after is not None
    assert settings(PATH, after) == by_python(after)
    assert {key: value for key, value in settings(PATH, after).items() if key in values} == merged(
        {key: value for key, value in before.items() if key in values}, data_of(values)
    )
    touched = {*values, *(keys[0] for keys in remove)}
    old, new = as_written(text), as_written(after)
    assert {key: new[key] for key in old.keys() - touched} == {key: old[key] for key in old.keys() - touched}
    assert [key for key in new if key in old] == [key for key in old if key in new]
    for comment in BLANKS_AND_COMMENTS.finditer(text) if not remove else ():
        if comment[1] is None:
            assert after.count(comment[0]) >= text.count(comment[0])


@given(text=documents(), values=st.dictionaries(KEYS, VALUES, min_size=1, max_size=2))
def test_what_was_added_can_be_removed(text: str, values: dict[str, Any]) -> None:
    """The text is as before, but for blanks."""
    before = settings(PATH, text)
    new = {key: value for key, value in values.items() if key not in before}
    added = edit(text, new)
    assert added is not None
    after = edit(added, {}, *([key] for key in new))
    assert after is not None
    assert settings(PATH, after) == before
    assert "".join(after.split()) == "".join(text.split())


def test_what_was_added_to_an_ordinary_file_is_removed_to_the_last_byte() -> None:
    for text in ('{\n  "a": 1 // c\n  // d\n}\n', '{\n  "a": 1,\n}\n', '{"a": 1}', "{}", '{"a":1,"b":[1, 2]}'):
        added = edit(text, {"x": {"y": 1}, "z": [1]})
        assert edit(added, {}, ["x"], ["z"]) == text


@given(text=st.text(st.sampled_from('{}[]:,"\\/*\n ae1-.\x00\ufeff\udc80'), max_size=30))
def test_whatever_the_text_it_is_edited_or_refused(text: str) -> None:
    try:
        after = edit(text, {"a": 1}, ["e", "a"])
    except TaskFailed as error:
        assert error.position is not None  # noqa: PT017
        return
    assert settings(PATH, after)["a"] == Number("1")


@given(value=VALUES)
def test_a_value_is_the_same_as_itself_in_python(value: Any) -> None:
    assert same(data_of(value), data_of(json.loads(json.dumps(value))))

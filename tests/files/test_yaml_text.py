"""A .condarc is edited setting by setting; lines that do not change stay as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nbprovision.files.yaml_text import edited, settings
from nbprovision.model.errors import Position, TaskFailed

PATH = Path("/home/user/.condarc")

# name: the text, what is wanted, the text then
EDITED: dict[str, tuple[str | None, dict[str, Any], str | None]] = {
    "no file": (
        None, {"channels": ["a", "https://x/y"], "ssl_verify": False, "custom_channels": {"lab": "https://l"}},
        "channels:\n  - a\n  - https://x/y\nssl_verify: false\ncustom_channels:\n  lab: https://l\n",
    ),
    "comments only": ("# mine\n", {"channels": ["a"]}, "# mine\nchannels:\n  - a\n"),
    "a scalar, its comment": ("ssl_verify:   yes   # why\nx: 1\n", {"ssl_verify": "/ca.pem"}, "ssl_verify: /ca.pem # why\nx: 1\n"),
    "the same": ("channels:   [ a ]", {"channels": ["a"]}, "channels:   [ a ]"),
    "a block list, entries with their comments": (
        "# top\nchannels:  # mine\n  # why\n  - 'b' # behind\n\n  - c\n# tail\nreport_errors: no\n", {"channels": ["c", "new", "b"]},
        "# top\nchannels:  # mine\n  - c\n  - new\n  # why\n  - 'b' # behind\n\n# tail\nreport_errors: no\n",
    ),
    "dashes under the key, no line end": ("channels:\n- a\n- b", {"channels": ["n", "b", "a"]}, "channels:\n- n\n- b\n- a\n"),
    "brackets": ("channels: [a, 'b']  # c\n", {"channels": ["n", "a", "b"]}, "channels: [n, a, 'b'] # c\n"),
    "brackets over lines": (
        "channels: [\n  a,\n  'b',\n]\n", {"channels": ["n", "a", "b"]}, "channels: [n, a, 'b']\n",
    ),
    "brackets, one goes": ("channels: [a, b, c]\n", {"channels": ["c", "a"]}, "channels: [c, a]\n"),
    "empty brackets": ("channels: []\n", {"channels": ["c"]}, "channels:\n  - c\n"),
    "a setting without value": ("channels:\nx: 1\n", {"channels": ["b"]}, "channels:\n  - b\nx: 1\n"),
    "a scalar that becomes a list": ("channels: a\n", {"channels": ["n", "a"]}, "channels:\n  - n\n  - a\n"),
    "a list that becomes a scalar": ("ssl_verify: # c\n  - a\n  - b\nx: 1\n", {"ssl_verify": True}, "ssl_verify: true # c\nx: 1\n"),
    "Windows line ends": ("a: 1\r\nchannels:\r\n  - a\r\n", {"channels": ["n", "a"], "z": "y"}, "a: 1\r\nchannels:\r\n  - n\r\n  - a\r\nz: y\r\n"),
    "one mapping in braces": ("{channels: [a], x: 1}\n", {"channels": ["b", "a"], "envs_dirs": ["/e"]}, "{channels: [b, a], x: 1, envs_dirs: [/e]}\n"),
    "an inner mapping": (
        "custom_channels:\n  # c\n  lab: https://a # l\n  z: y\nother: 1\n", {"custom_channels": {"lab": "https://b", "n": "https://n"}},
        "custom_channels:\n  # c\n  lab: https://b # l\n  n: https://n\nother: 1\n",
    ),
    "document marks": ("---\na: 1\n...\n", {"channels": ["b"]}, "---\na: 1\nchannels:\n  - b\n...\n"),
    "a document mark behind a comment": ("a: 1\n# c\n...\n", {"channels": ["b"]}, "a: 1\n# c\nchannels:\n  - b\n...\n"),
    "other settings are written in every way": (
        "a:\n- x\n\nb:\n      y:   1\nc: 1_0\nd: True # d\ne: >-\n     folded\n     text\nf: {x: ~,  y: 010}\nchannels:\n    - a\n", {"channels": ["n", "a"]},
        "a:\n- x\n\nb:\n      y:   1\nc: 1_0\nd: True # d\ne: >-\n     folded\n     text\nf: {x: ~,  y: 010}\nchannels:\n    - n\n    - a\n",
    ),
    "a set": ("x: !!set\n    ? a\nchannels: a\n", {"channels": ["b"]}, "x: !!set\n    ? a\nchannels:\n  - b\n"),
    "a text and a list over lines": (
        "x: 'a\n  b'\nz: 1\ny: [ # l\n  1, # m\n  2]\nchannels: a\n", {"channels": ["b"]}, "x: 'a\n  b'\nz: 1\ny: [ # l\n  1, # m\n  2]\nchannels:\n  - b\n",
    ),
    "a text over lines beside another spacing": ("x: 'a\n  b'\ny:  c\nchannels: a\n", {"channels": ["b"]}, "x: 'a b'\ny: c\nchannels:\n  - b\n"),
    "empty list and mapping": (None, {"channels": [], "custom_channels": {}}, "channels: []\ncustom_channels: {}\n"),
    "a scalar that becomes a mapping": ("custom_channels: x # c\n", {"custom_channels": {"lab": "https://l"}}, "custom_channels:   # c\n  lab: https://l\n"),
    "the first in braces goes": ("{channels: [a], x: 1, y: 2}\n", {"channels": None}, "{x: 1, y: 2}\n"),
    "one in the middle of braces goes": ("{x: 1, channels: [a], y: 2}\n", {"channels": None}, "{x: 1, y: 2}\n"),
    "the last in braces goes": ("{x: 1, channels: [a]} # c\n", {"channels": None}, "{x: 1}                # c\n"),
    "the only one in braces goes": ("{channels: [a]}\n", {"channels": None}, None),
    "a setting goes, its neighbours stay": ("a: 1\n# c\nchannels:\n  - x\n  # d\n  - y\nb: 2\n", {"channels": None}, "a: 1\n# c\n  # d\nb: 2\n"),
    "an empty setting goes": ("channels:\nx: 1\n", {"channels": None}, "x: 1\n"),
    "the last setting goes": ("channels: [a]\n", {"channels": None}, None),
    "what YAML would take for something else": (None, {"envs_dirs": ["/a b", "yes", "1.0", "a: b", "#x"]}, 'envs_dirs:\n  - "/a b"\n  - \'yes\'\n  - "1.0"\n  - "a: b"\n  - "#x"\n'),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITED)
def test_what_is_edited(name: str) -> None:
    text, wanted, after = EDITED[name]
    assert edited(PATH, text, wanted) == after
    assert edited(PATH, after, wanted) == after


@pytest.mark.parametrize(
    ("text", "place", "cause"),
    [
        ("x: 1\nchannels: [a\n", (3, 1), "expected ',' or ']'"),
        ("\tchannels: a\n", (1, 1), "cannot start any token"),
        ("x: 1\n- a\n", (2, 1), "expected <block end>"),
        ("- a\n", (1, 1), "not a mapping of settings"),
        ("a: 1\nb: 2\na: 3\n", (3, 1), "duplicate"),
        ("a: 1\nb\x00: 1\n", (2, 2), "special characters"),
        ("a: 1\n---\nb: 1\n", (2, 1), "another document"),
        ("a: !new x\n", (1, 4), "could not determine a constructor"),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_place(text: str, place: tuple[int, int], cause: str) -> None:
    with pytest.raises(TaskFailed, match="not valid YAML") as caught:
        edited(PATH, text, {"channels": ["a"]})
    assert caught.value.position == Position(str(PATH), *place)
    assert cause in caught.value.cause


WORDS_OF_YAML = ["channels:", "-", "a", "'c'", "[", "]", "{", "}", ",", "#x", "|", "*a", "&a", "!t", "...", "---", "~", "2020-13-45", "?", "<<:", "[a,b]", "%", "\x85"]  # fmt: skip
PIECES = st.sampled_from(
    [*WORDS_OF_YAML, " ", "  ", "- ", ": ", "\n", "\n  - ", "# y\n", "\r\n", "\t", "custom_channels:\n  x: y\n"]
)
WANTED = st.sampled_from(
    [{"channels": ["n", "a"]}, {"channels": None}, {"x": "/x y"}, {"custom_channels": {"x": "https://q", "n": "m"}}]
)


@given(pieces=st.lists(PIECES, max_size=12), wanted=WANTED)
def test_whatever_the_text_it_is_edited_or_refused(pieces: list[str], wanted: dict[str, Any]) -> None:
    text = "".join(pieces)
    try:
        result = edited(PATH, text, wanted)
    except TaskFailed:
        return
    assert {key: settings(PATH, result).get(key) for key in wanted} == wanted
    assert edited(PATH, result, wanted) == result


@pytest.mark.parametrize("text", ["[" * 3000, "a: " + "{b: " * 3000])
def test_a_text_that_is_nested_too_deep_is_refused(text: str) -> None:
    with pytest.raises(TaskFailed, match="not valid YAML"):
        edited(PATH, text, {"channels": ["a"]})


@pytest.mark.parametrize("text", ["channels: &x [a]\ny: *x\n", "channels: [\n  a,  # first\n  b]\n"])
def test_what_cannot_be_edited_with_certainty_is_refused(text: str) -> None:
    with pytest.raises(TaskFailed, match="with certainty"):
        edited(PATH, text, {"channels": ["b", "a"]})


def test_what_is_merged_in_cannot_be_taken_out() -> None:
    text = "<<: {channels: [a]}\nx: 1\n"
    assert settings(PATH, text) == {"channels": ["a"], "x": 1}
    with pytest.raises(TaskFailed, match="with certainty") as caught:
        edited(PATH, text, {"channels": None})
    assert caught.value.cause == "the edit would give another value to channels"


def test_a_new_file_is_written_without_ruamel() -> None:
    """It would take longer than all the rest of a run after a restart, which takes `~/.condarc` away."""
    code = (
        "import sys; from pathlib import Path; from nbprovision.files.yaml_text import edited\n"
        "assert edited(Path('/x'), None, {'channels': ['a'], 'ssl_verify': False}) == 'channels:\\n  - a\\nssl_verify: false\\n'\n"
        "sys.exit('ruamel.yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0


WORDS = st.text("abc1/.:#'\" -{[,&*!|>%@\u00e9", min_size=1, max_size=8)
LISTS = st.lists(WORDS, max_size=4, unique=True)


@given(
    there=LISTS, wanted=LISTS.filter(bool), flow=st.booleans(), indent=st.sampled_from([0, 2, 4]), crlf=st.booleans()
)
def test_whatever_the_list_its_surroundings_stay(
    there: list[str], wanted: list[str], flow: bool, indent: int, crlf: bool
) -> None:
    """The list is what is wanted, and what stands before and behind it has not moved by a byte."""
    dumped = [yaml.safe_dump(word, default_style='"', width=1000).strip() for word in there]
    body = f"channels: [{', '.join(dumped)}]\n"
    if not flow and there:
        body = "channels:\n" + "".join(
            f"{' ' * indent}- {word}   # of {number}\n" for number, word in enumerate(dumped)
        )
    head, tail = "# top\nreport_errors:   'no'\n", "# below\nlast: [ 1,2 ]   # end\n"
    text = head + body + tail
    if crlf:
        text, head, tail = (part.replace("\n", "\r\n") for part in (text, head, tail))
    result = edited(PATH, text, {"channels": wanted})
    assert result is not None
    assert result.startswith(head)
    assert result.endswith(tail)
    assert settings(PATH, result) == {"report_errors": "no", "channels": wanted, "last": [1, 2]}
    for number, word in enumerate(there):
        if not flow and word in wanted:
            assert f"# of {number}" in result


NESTED = {
    "a new mapping of mappings": ("x: 1\n", {"a": {"b": {"c": [1, "2"]}}}, 'x: 1\na:\n  b:\n    c:\n      - 1\n      - "2"\n'),
    "a list of mappings": (None, {"channel_settings": [{"channel": "x", "auth": "y"}]}, "channel_settings:\n  - channel: x\n    auth: y\n"),
    "one value of many": (
        "proxy_servers:   # all\n  # of http\n  http: 'http://a:1'   # one\n  https: \"http://b:2\"\n", {"proxy_servers": {"http": "http://a:1", "https": "http://c:3", "n": "x"}},
        "proxy_servers:   # all\n  # of http\n  http: 'http://a:1'   # one\n  https: \"http://c:3\"\n  n: x\n",
    ),
    "a mapping in braces": ("p: {http: 'a', https: b} # c\n", {"p": {"http": "a", "https": "d"}}, "p: {http: 'a', https: d} # c\n"),
    "two levels down": ("plugins:\n  x:\n    y: 1\n    z: 2\n  auto: true\n", {"plugins": {"x": {"y": 1, "z": 3}, "auto": True}}, "plugins:\n  x:\n    y: 1\n    z: 3\n  auto: true\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", NESTED)
def test_nested_values_are_edited(name: str) -> None:
    text, wanted, after = NESTED[name]
    assert edited(PATH, text, wanted) == after
    assert settings(PATH, after)[next(iter(wanted))] == next(iter(wanted.values()))
    assert edited(PATH, after, wanted) == after

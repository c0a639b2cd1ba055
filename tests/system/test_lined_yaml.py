"""Large YAML files that programs write: read as texts, with lines, and within limits."""

from __future__ import annotations

import pytest
import yaml

from nbprovision.system import lined_yaml
from nbprovision.system.yaml_document import NoYaml


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def _loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML may be built without its C part."""
    monkeypatch.setattr(yaml, "CSafeLoader", getattr(yaml, request.param))


def test_values_are_texts_and_mappings_have_their_lines() -> None:
    text = "# a comment\nversion: 6\nempty: []\nnothing: ~\nlist:\n- a: 3.10\n  b: 'null'\n- {c: yes}\n"
    document = lined_yaml.load(text.encode())
    assert document == {
        "version": "6",
        "empty": [],
        "nothing": None,
        "list": [{"a": "3.10", "b": "null"}, {"c": "yes"}],
    }
    assert [document.line, *(entry.line for entry in document["list"])] == [2, 6, 8]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: [\n", 3, "expected"),
        ("a: &x 1\nb: *x\n", 2, "alias"),
        ("a: 1\nb: 2\na: 3\n", 1, "the key 'a' is a duplicate"),
        ("? [a]\n: 1\n", 1, "a key is not a text"),
        ("a: 1\n---\nb: 2\n", 2, "a second document"),
        ("[" * 50 + "]" * 50, 1, "nested more than 40 deep"),
        ("[" * 50_000, 1, "nest"),
        ("a: \x01\n", 1, "character"),
    ],
)
def test_what_no_program_writes_is_refused(text: str, line: int, said: str) -> None:
    with pytest.raises(NoYaml, match=said) as caught:
        lined_yaml.load(text.encode())
    assert caught.value.line == line


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(NoYaml):
        lined_yaml.load(b"\xff\xfea")


def test_an_empty_file() -> None:
    assert lined_yaml.load(b"") is None

"""-e and tags: what the command line says about variables and about which tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.model.errors import InvalidPlaybook, UsageError
from nbprovision.playbook.calls import selected
from nbprovision.playbook.extra_vars import parse_extra_vars
from nbprovision.system import secrets


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ([], {}),
        (["a=1"], {"a": "1"}),
        (["a=1", "a=2"], {"a": "2"}),
        (["a=1 b=2"], {"a": "1", "b": "2"}),
        (["a='two words' b=\"x y\""], {"a": "two words", "b": "x y"}),
        (["a="], {"a": ""}),
        (["a=b=c"], {"a": "b=c"}),
        (["a=#x"], {"a": "#x"}),
        (["a=C:\\temp\\n"], {"a": "C:\\temp\\n"}),
        (['{"a": [1, true]}'], {"a": [1, True]}),
        (["{a: {b: c}}"], {"a": {"b": "c"}}),
        (["{}"], {}),
    ],
)
def test_values(arguments: list[str], values: dict[str, Any]) -> None:
    """KEY=VALUE gives strings, a mapping gives what it says."""
    assert parse_extra_vars(arguments) == values


@pytest.mark.parametrize(
    "argument",
    ["a", "", "a=1 b", "=1", "my-var=1", "1a=2", "nb=1", "a='x", "[1, 2]", "{a: ", "{1: 2}", "@/nonexistent", "@"],
)
def test_wrong_options(argument: str) -> None:
    """A wrong -e is a wrong option (exit status 5)."""
    with pytest.raises(UsageError, match="-e"):
        parse_extra_vars([argument])


def test_files(tmp_path: Path) -> None:
    """@FILE is YAML or JSON; a broken one is invalid (exit status 4) and says where."""
    path = tmp_path / "vars.yml"
    path.write_text("a: 1\nb: [x]\n")
    found = parse_extra_vars(["a=0", f"@{path}"])
    assert found == {"a": 1, "b": ["x"]}
    assert found.files.content == {path: path.read_bytes()}
    path.write_text("")
    assert parse_extra_vars([f"@{path}"]) == {}
    path.write_text("a: 1\n\tb: 2")
    with pytest.raises(InvalidPlaybook, match=r"vars\.yml:2:1: there is a tab"):
        parse_extra_vars([f"@{path}"])
    path.write_text("- a")
    with pytest.raises(UsageError, match="expected a mapping"):
        parse_extra_vars([f"@{path}"])


def test_secrets_are_masked_from_the_start() -> None:
    """A password that comes by -e is known before anything is shown; half of one in a mistake is not told."""
    parse_extra_vars(["index_password=swordfish9"])
    assert secrets.mask("swordfish9") == secrets.MASK
    with pytest.raises(UsageError) as caught:
        parse_extra_vars(["pw=correct horse"])
    assert "horse" not in str(caught.value)


@pytest.mark.parametrize(
    ("own", "tags", "skip", "run"),
    [
        ("", "", "", True),
        ("a", "", "", True),
        ("a", "a", "", True),
        ("a", "b", "", False),
        ("", "a", "", False),
        ("a b", "b c", "", True),
        ("a", "", "a", False),
        ("a b", "a", "b", False),
        ("a", "a", "a", False),
        ("always", "b", "", True),
        ("always a", "b", "", True),
        ("always a", "", "a", False),
        ("always", "", "always", False),
        ("never", "", "", False),
        ("never a", "", "", False),
        ("never a", "a", "", True),
        ("never", "never", "", True),
        ("never", "all", "", False),
        ("a", "all", "", True),
        ("a", "tagged", "", True),
        ("", "tagged", "", False),
        ("", "untagged", "", True),
        ("a", "untagged", "", False),
        ("", "", "untagged", False),
        ("a", "", "tagged", False),
        ("", "", "tagged", True),
        ("a", "", "all", False),
        ("always", "", "all", True),
    ],
)
def test_tags(own: str, tags: str, skip: str, run: bool) -> None:
    """Ansible's rules, always and never among them."""
    assert selected(own.split(), tags.split(), skip.split()) is run

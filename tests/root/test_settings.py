"""Root's edits of JSON and INI files: the keys are merged, all else stays, and what cannot be edited is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nbprovision.root import settings, tools


def a_json(values: dict[str, Any], remove: list[list[str]] | None = None) -> dict[str, Any]:
    return {"path": "/etc/x.json", "form": "json", "values": values, "remove": remove or []}


def an_ini(values: dict[str, Any], remove: list[list[str]] | None = None, **more: str) -> dict[str, Any]:
    return {
        "path": "/etc/x",
        "form": "ini",
        "values": values,
        "remove": remove or [],
        "equals": " = ",
        "comment": "",
        **more,
    }


@pytest.mark.parametrize(
    ("wanted", "before", "after"),
    [
        (a_json({"a": 1}), None, '{\n  "a": 1\n}\n'),
        (a_json({"a": 1}), "", '{\n  "a": 1\n}\n'),
        (a_json({"a": 1}), '{"b": [1, 2], "a": 2}', '{"b": [1, 2], "a": 1}'),
        (a_json({"a": {"c": True}}), '{\n\t"a": {\n\t\t"b": "é"\n\t}\n}\n', '{\n\t"a": {\n\t\t"b": "é",\n\t\t"c": true\n\t}\n}\n'),
        (a_json({"a": [1]}), '{\n    "a": [1, 2],\n    "z": null\n}\n', '{\n    "a": [\n        1\n    ],\n    "z": null\n}\n'),
        (a_json({"a": 1}), '{ "a":1 , "b":1.50 }', '{ "a":1 , "b":1.50 }'),  # as it should be: not a byte changes
        (a_json({"a": True}), '{"a": 1}', '{"a": true}'),
        (a_json({}, [["a", "b"], ["x"], ["c", "d"]]), '{"a": {"b": 1, "z": 2}, "c": 3}', '{"a": {"z": 2}, "c": 3}'),
        (a_json({}, [["a"]]), None, None),
        (an_ini({"a": {"b": "c"}}), None, "[a]\nb = c\n"),
        (an_ini({"a": {"b": "c"}}), "# head\n[a]\n# why\nb=d\nz=1\n\n[e]\nb=d\n", "# head\n[a]\n# why\nb=c\nz=1\n\n[e]\nb=d\n"),
        (an_ini({"a": {"n": "1"}}), "[a]\nb = d\n\n# about e\n[e]\n", "[a]\nb = d\nn = 1\n\n# about e\n[e]\n"),
        (an_ini({"": {"n": "1"}, "new": {"k": "v"}}), "k = 1\n[a]\nb\n", "k = 1\nn = 1\n[a]\nb\n\n[new]\nk = v\n"),
        (an_ini({"a": {"b": "c"}}, comment="#"), '[ a ]\nb = "x # y" # why\n', "[ a ]\nb = c # why\n"),
        (an_ini({"a": {"b": "c"}}, comment="#"), "[ a ]\n  b : c   # why\n", "[ a ]\n  b : c   # why\n"),
        (an_ini({"a": {"b": "c"}}), "[a]\nb = c # d\n", "[a]\nb = c\n"),
        (an_ini({"a": {"b": "2"}}), "[a]\nx=1\n[c]\ny=1\n[a]\nb=1\n", "[a]\nx=1\n[c]\ny=1\n[a]\nb=2\n"),
        (an_ini({}, [["gone"], ["a", "b"], ["a", "no"]]), "[gone]\nx=1\n[a]\nb=1\nc=2\n", "[a]\nc=2\n"),
        (an_ini({"a": {"b": "c"}}, equals="="), "[a]\nb=c", "[a]\nb=c"),
    ],
)  # fmt: skip
def test_edits(wanted: dict[str, Any], before: str | None, after: str | None) -> None:
    assert settings.edited(wanted, before) == after
    assert settings.edited(wanted, after) == after


@pytest.mark.parametrize(
    ("wanted", "text", "why"),
    [
        (a_json({"a": 1}), '{"b": 1} // comment', "Extra data"),
        (a_json({"a": 1}), '{\n  // comment\n  "b": 1\n}', "line 2"),
        (a_json({"a": 1}), "[1]", "not an object"),
        (a_json({"a": 1}), '{"b": 1, "b": 2}', "occurs twice"),
        (a_json({"a": 1}), '{"b": 1e999}', "Out of range"),
        (a_json({"a": 1}), '{"b": NaN}', "Out of range"),
        (a_json({"a": 1}), '{"b": "\\ud800"}', "surrogates"),
        (a_json({"a": 1}), '{"b": ' * 100_000, "cannot be edited"),
        (a_json({"a": 1}), '{"b": "\ufffd"}', "UTF-8"),
        (a_json({"a": 1}), '{\r\n"b": 1}', "other characters"),
        (an_ini({"a": {"b": "c"}}), "[a]\nb = 1\nb = 2\n", "occurs twice"),
        (an_ini({"a": {"b": "c"}}), "[a]\nb = 1\\\n  2\n", "several lines"),
        (an_ini({"a": {"b": "c"}}), "[a]\nb = 1\n    2\n", "several lines"),
        (an_ini({}, [["a", "b"]]), "[a]\nb =\n    2\n", "several lines"),
        (an_ini({"a": {"b": "c"}}), "[a]\0\n", "other characters"),
    ],
)
def test_what_is_refused(wanted: dict[str, Any], text: str, why: str) -> None:
    with pytest.raises(tools.Trouble, match=why) as caught:
        settings.edited(wanted, text)
    assert wanted["path"] in str(caught.value)


def test_differences(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    wanted = a_json({"a": 1})
    assert settings.differences(wanted, str(tmp_path)) == ["make it"]
    (tmp_path / "etc/x.json").write_text('{"b": 1}')
    assert settings.differences(wanted, str(tmp_path)) == ["change its keys"]
    (tmp_path / "etc/x.json").write_text('{"a": 1}')
    assert settings.differences(wanted, str(tmp_path)) == []
    (tmp_path / "etc/x.json").unlink()
    (tmp_path / "etc/x.json").symlink_to("/etc/shadow")
    with pytest.raises(tools.Trouble, match="is a link"):
        settings.differences(wanted, str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the owner of a file")
def test_owner_and_permissions_stay() -> None:
    folder = Path("/var/lib") / f"nbprovision-test-{os.getpid()}"  # not in /tmp, which others can change
    folder.mkdir()
    try:
        path = folder / "x.json"
        path.write_text('{"b": 1}\n')
        os.chown(path, 1234, 1235)
        path.chmod(0o640)
        settings.bring_about({**a_json({"a": 1}), "path": str(path)})
        assert json.loads(path.read_text()) == {"b": 1, "a": 1}
        status = path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1234, 1235, 0o640)
        settings.bring_about({**a_json({"a": 1}), "path": str(folder / "new/y.json")})
        assert (folder / "new/y.json").stat().st_mode & 0o777 == 0o644
        before = path.stat()
        settings.bring_about({**a_json({"a": 1}), "path": str(path)})
        assert path.stat().st_ino == before.st_ino or path.read_text() == '{"b": 1, "a": 1}\n'
        assert os.listdir(folder) == ["x.json", "new"] or sorted(os.listdir(folder)) == ["new", "x.json"]
    finally:
        import shutil

        shutil.rmtree(folder)

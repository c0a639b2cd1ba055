"""`ensure_json` and `ensure_ini` on real files: modes, links, secrets, `validate`, and what is refused before a run."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.files.edited_settings import EditedSettings
from nbprovision.files.ensure_ini import EnsureIni
from nbprovision.files.ensure_json import EnsureJson
from nbprovision.jupyter.ensure_jupyter_extension import EnsureJupyterExtension
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, ParameterError, TaskFailed
from nbprovision.playbook.read import read_playbook
from nbprovision.system import secrets
from tests.support.driver import converge, planned

JSON = {"values": {"a": 1}}
INI = {"values": {"s": {"a": 1}}}
KINDS = [
    (EnsureJson, JSON, '{"b": 2}\n', '{"b": 2, "a": 1}\n'),
    (EnsureIni, INI, "[s]\nb = 2\n", "[s]\nb = 2\na = 1\n"),
]
KIND = pytest.mark.parametrize(("kind", "parameters", "before", "after"), KINDS, ids=["json", "ini"])


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@KIND
def test_a_new_file_and_its_folders(
    kind: type[EditedSettings], parameters: dict[str, Any], before: str, after: str, machine: Machine, home: Path
) -> None:
    task = kind(path="~/new/folder/f", **parameters)
    (change,) = converge(task, machine)
    assert (change.action, change.before, change.kind) == ("create", None, "file")
    assert mode_of(home / "new/folder/f") == 0o644
    assert converge(task, machine) == ()
    assert (home / "new/folder/f").read_text() == change.after


@KIND
def test_an_existing_file_keeps_its_mode(
    kind: type[EditedSettings], parameters: dict[str, Any], before: str, after: str, machine: Machine, home: Path
) -> None:
    (home / "f").write_text(before)
    (home / "f").chmod(0o640)
    (change,) = converge(kind(path="~/f", backup=True, **parameters), machine)
    assert (change.action, change.before, change.after) == ("write", before, after)
    assert mode_of(home / "f") == 0o640
    (backup,) = home.glob("f.*~")
    assert backup.read_text() == before


@KIND
def test_nothing_to_remove_creates_nothing(
    kind: type[EditedSettings], parameters: dict[str, Any], before: str, after: str, machine: Machine, home: Path
) -> None:
    assert converge(kind(path="~/f", remove=["x"]), machine) == ()
    assert not (home / "f").exists()


@KIND
def test_what_is_in_the_place(
    kind: type[EditedSettings],
    parameters: dict[str, Any],
    before: str,
    after: str,
    machine: Machine,
    home: Path,
    tmp_path: Path,
) -> None:
    """A link is followed within its folder, and out of it only with `follow`; nothing else is replaced."""
    task = kind(path="~/f", **parameters)
    (home / "f").symlink_to("g")
    (home / "g").write_text(before)
    converge(task, machine)
    assert (home / "g").read_text() == after
    (home / "f").unlink()
    (tmp_path / "outside").write_text(before)
    (home / "f").symlink_to(tmp_path / "outside")
    with pytest.raises(TaskFailed, match="out of its folder"):
        planned(task, machine)
    assert (tmp_path / "outside").read_text() == before
    converge(kind(path="~/f", follow=True, **parameters), machine)
    assert (home / "f").is_symlink()
    assert (tmp_path / "outside").read_text() == after
    for make in (Path.mkdir, os.mkfifo):
        (home / "f").unlink()
        make(home / "f")
        with pytest.raises(TaskFailed, match="not a file"):
            planned(task, machine)
        if make is Path.mkdir:
            (home / "f").rmdir()
            (home / "f").touch()


@KIND
def test_a_damaged_file_is_not_changed(
    kind: type[EditedSettings], parameters: dict[str, Any], before: str, after: str, machine: Machine, home: Path
) -> None:
    damaged = b'[s\n{"a": \xff}'
    (home / "f").write_bytes(damaged)
    with pytest.raises(TaskFailed, match="stays as it is") as caught:
        planned(kind(path="~/f", **parameters), machine)
    assert caught.value.position is not None
    assert (home / "f").read_bytes() == damaged


@KIND
def test_a_file_that_is_too_large_is_refused(
    kind: type[EditedSettings], parameters: dict[str, Any], before: str, after: str, machine: Machine, home: Path
) -> None:
    (home / "f").write_bytes(b" " * (2 << 20))
    with pytest.raises(TaskFailed, match="too large"):
        planned(kind(path="~/f", **parameters), machine)


# ---------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (EnsureJson(path="~/f", values={"a": {"apiToken": "sesame-1"}}), '{"old": {"password": "sesame-2"}}'),
        (EnsureJson(path="~/f", values={"passwords": ["sesame-1"]}), '{"auth_token": ["sesame-2"]}'),
        (EnsureIni(path="~/f", values={"a": {"aws_secret_access_key": "sesame-1"}}), "[b]\npassword = sesame-2\n"),
        (EnsureIni(path="~/f", values={"a": {"s3": {"token": "sesame-1"}}}), "[b]\ns3 =\n  token = sesame-2\n"),
        (EnsureIni(path="~/f", values={"a": {"private_key": "a\nsesame-1"}}), "[b]\npassword =\n  x\n  sesame-2\n"),
        (
            EnsureIni(path="~/f", values={"a": {"index": "https://me:sesame-1@x/"}}),
            "[b]\nurl = https://me:sesame-2@y/\n",
        ),
        (EnsureJson(path="~/f", values={"index": "https://me:sesame-1@x/"}), '{"url": "https://me:sesame-2@y/"}'),
    ],
)
def test_a_secret_is_for_its_owner_alone_and_never_shown(
    task: EditedSettings, text: str, machine: Machine, home: Path
) -> None:
    """So are the secrets that the file had before."""
    path = home / "f"
    path.write_text(text)
    changes = converge(task, machine)
    assert {change.action for change in changes} == {"write", "set mode"}
    assert mode_of(path) == 0o600
    assert "sesame-1" in path.read_text()
    shown = secrets.mask(str(changes))
    assert "sesame" not in shown
    assert "****" in shown
    path.unlink()
    converge(task, machine)
    assert mode_of(path) == 0o600


@pytest.mark.parametrize(
    ("kind", "values"), [(EnsureJson, {"token": "sesame"}), (EnsureIni, {"s": {"password": "sesame"}})]
)
def test_a_secret_is_not_written_to_the_volume(
    kind: type[EditedSettings], values: dict[str, Any], machine: Machine, home: Path
) -> None:
    task = kind(path=str(home / "f"), values=values)
    state = task.read(machine)
    with pytest.raises(TaskFailed, match="survives a restart"):
        task.plan(type(state)(file=state.file, volume=home))
    plain = kind(path=str(home / "f"), values={"s": {"a": "b"}})
    assert plain.plan(type(state)(file=state.file, volume=home)).changes


# --------------------------------------------------------------------------------------------------------- validate


@KIND
def test_a_command_judges_the_new_content(
    kind: type[EditedSettings],
    parameters: dict[str, Any],
    before: str,
    after: str,
    machine: Machine,
    home: Path,
    tmp_path: Path,
) -> None:
    """It sees the content under the file's own name, in a file that nobody else reads and that is gone afterwards."""
    seen = tmp_path / "seen"
    judge = tmp_path / "judge"
    judge.write_text(
        f'#!/bin/sh\ncat "$1" >{seen}; stat -c "%a %n" "$1" >>{seen}; test "$2" = yes || {{ echo "bad: $1" >&2; exit 3; }}\n'
    )
    judge.chmod(0o755)
    (home / "f.conf").write_text(before)
    task = kind(path="~/f.conf", validate=[str(judge), "%s", "no"], **parameters)
    with pytest.raises(TaskFailed, match="is refused by `validate`") as caught:
        converge(task, machine)
    assert f"ended with 3: bad: {home}/f.conf" in caught.value.cause
    assert (home / "f.conf").read_text() == before
    assert [path.name for path in home.iterdir()] == ["f.conf"]
    converge(kind(path="~/f.conf", validate=f"'{judge}' %s yes", **parameters), machine)
    assert (home / "f.conf").read_text() == after
    *content, last = seen.read_text().splitlines()
    mode, place = last.split()
    assert "\n".join(content) == after.strip()
    assert (mode, Path(place).name) == ("600", "f.conf")
    assert not Path(place).parent.exists()
    seen.unlink()
    converge(task, machine)
    assert not seen.exists()


def test_a_command_that_is_missing_changes_nothing(machine: Machine, home: Path) -> None:
    with pytest.raises(TaskFailed, match="cannot judge"):
        converge(EnsureJson(path="~/f", validate="no-such-program %s", **JSON), machine)
    assert not (home / "f").exists()


def test_a_secret_in_the_words_of_the_command_is_masked(machine: Machine, home: Path) -> None:
    task = EnsureJson(path="~/f", values={"password": "open sesame"}, validate="sh -c 'cat $0; exit 1' %s")
    with pytest.raises(TaskFailed) as caught:
        converge(task, machine)
    assert "sesame" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("kind", "parameters", "key", "message"),
    [
        (EnsureJson, {}, "values", "neither `values` nor `remove`"),
        (EnsureIni, {}, "values", "neither `values` nor `remove`"),
        (EnsureJson, {"path": "/x/", **JSON}, "path", "names a folder"),
        (EnsureJson, {"values": {"a": float("nan")}}, "values", "cannot be written as JSON"),
        (EnsureJson, {"values": {"a": {1: 2}}}, "values", "cannot be written as JSON"),
        (EnsureJson, {"values": {"a": "\udc80"}}, "values", "not UTF-8"),
        (EnsureJson, {"values": {"a": {"b": 1}}, "remove": [["a", "b"]]}, "remove", "which `remove` removes"),
        (EnsureJson, {"values": {"a": {"b": 1}}, "remove": ["a"]}, "remove", "which `remove` removes"),
        (EnsureJson, {"remove": [[]]}, "remove", "empty list"),
        (EnsureJson, {**JSON, "validate": "true"}, "validate", "does not contain %s"),
        (EnsureJson, {**JSON, "validate": "a '%s"}, "validate", "not a command"),
        (EnsureIni, {"values": {"[a]": {"b": 1}}}, "values", "cannot be a section"),
        (EnsureIni, {"values": {"a": {"b = c": 1}}}, "values", "cannot be a key"),
        (EnsureIni, {"values": {"a": {"#b": 1}}}, "values", "cannot be a key"),
        (EnsureIni, {"values": {"a": {"b": "x\n#y"}}}, "values", "would be a comment"),
        (EnsureIni, {"values": {"a": {"b": "x\n\ny"}}}, "values", "a blank line"),
        (EnsureIni, {"values": {"a": {"b": " x"}}}, "values", "blanks at an end"),
        (EnsureIni, {"values": {"a": {"b": []}}}, "values", "empty list"),
        (EnsureIni, {"values": {"a": {"b": 1}}, "remove": ["a"]}, "remove", "which `remove` removes"),
        (EnsureIni, {"remove": [["a", "b", "c", "d"]]}, "remove", "a section, or a list"),
        (EnsureIni, {"remove": [""]}, "remove", "a section, or a list"),
        (EnsureIni, {"path": "/x/openssl.cnf", "values": {"a": {"b": "c # d"}}}, "values", "begins a comment"),
        (EnsureIni, {"path": "/x/a.cnf", "values": {"a": {"b": {"c": 1}}}}, "values", "keys of its own"),
        (EnsureIni, {"path": "/x/a.service", "values": {"a": {"b": "x\\"}}}, "values", "backslash"),
        (EnsureIni, {"path": "/x/pip.conf", "values": {"a": {"b": ["x", "y"]}}}, "values", "cannot be repeated"),
        (EnsureIni, {"path": "/x/.aws/config", "values": {"a": {"b": ["x", "y"]}}}, "values", "cannot be repeated"),
        (EnsureIni, {"path": "~/.condarc", **INI}, "path", "it is YAML"),
        (EnsureIni, {"path": "~/.gitconfig", **INI}, "path", "git's own quoting"),
        (EnsureIni, {"path": "/x/.git/config", **INI}, "path", "git's own quoting"),
        (EnsureIni, {"path": "/x/settings.json", **INI}, "path", "it is JSON"),
        (EnsureIni, {"path": "/x/pyproject.toml", **INI}, "path", "it is TOML"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    kind: type[EditedSettings], parameters: dict[str, Any], key: str, message: str
) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        kind(**{"path": "/x/f", **parameters})
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("ensure_ini: {path: /x/f, section: a, option: b, value: c}", "write values: {SECTION: {OPTION: VALUE}}"),
        ("ensure_ini: {path: /x/f, values: {a: {b: c}}, no_extra_spaces: true}", "the spaces of its neighbours"),
        ("ensure_ini: {path: /x/f, values: {a: b}}", "takes a mapping"),
        ("ensure_json: {path: /x/f, key: a, value: b}", "write values: {KEY: VALUE}"),
        ("ensure_json: {path: /x/f, values: {a: b}, mode: '0600'}", "ensure_file: {path: ..., mode: ...}"),
        ("ensure_json: {path: /x/f, values: {a: b}, scope: system}", "put it under root_tasks: of the play"),
        ("ensure_json: {path: /x/f, values: {a: 0x10}}", "write it in quotes"),
        ("community.general.ini_file: {path: /x/f, section: a, option: b, value: c}", "ensure_ini: {path: ..., values"),
    ],
)
def test_what_others_write_is_explained(tmp_path: Path, written: str, advice: str) -> None:
    playbook = tmp_path / "p.yml"
    playbook.write_text(f"- tasks:\n    - {written}\n")
    with pytest.raises(InvalidPlaybook) as caught:
        read_playbook(playbook, Catalogue(), env={})
    assert advice in str(caught.value)


def test_texts_of_a_playbook_keep_their_form(tmp_path: Path) -> None:
    playbook = tmp_path / "p.yml"
    playbook.write_text(
        "- vars: {size: 14}\n  tasks:\n"
        "    - ensure_ini: {path: /x/f, values: {s: {a: 010, b: 3.10, c: yes, d: '{{ size }}', e: [1.0, x], 1: 2}}}\n"
        "    - ensure_json: {path: /x/f, values: {a: '{{ size }}', b: 1.50, c: yes, d: '1', 2: x}}\n"
    )
    ini, document = (call.task for call in read_playbook(playbook, Catalogue(), env={}).plays[0].calls)
    assert isinstance(ini, EnsureIni)
    assert isinstance(document, EnsureJson)
    assert ini.edit(Path("/x/f"), None) == "[s]\na = 010\nb = 3.10\nc = true\nd = 14\ne = 1.0\ne = x\n1 = 2\n"
    assert document.edit(Path("/x/f"), None) == '{\n  "a": 14,\n  "b": 1.5,\n  "c": true,\n  "d": "1",\n  "2": "x"\n}\n'


# ------------------------------------------------------------------------------------------------- beside other tasks


def test_an_extension_and_keys_in_one_file(machine: Machine, home: Path) -> None:
    """Each keeps what the other wrote, in any order."""
    prefix = home / "env"
    (prefix / "conda-meta").mkdir(parents=True)
    extension = EnsureJupyterExtension(env=str(prefix), lab={"@jupyterlab/x": False})
    keys = EnsureJson(path="~/.jupyter/labconfig/page_config.json", values={"notebookStartsKernel": False})
    for first, second in ((extension, keys), (keys, extension)):
        for task in (first, second):
            converge(task, machine)
        assert planned(first, machine) == planned(second, machine) == ()
        (home / ".jupyter/labconfig/page_config.json").unlink()
        machine.forget()

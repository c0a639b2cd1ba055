"""`ensure_file`: what is planned and done for each kind of thing, and that no planted link is followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.files import file_work
from nbprovision.files.ensure_file import EnsureFile
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, ParameterError, TaskFailed
from nbprovision.playbook.read import read_playbook
from nbprovision.system import files
from nbprovision.system.files import copy_atomically
from tests.support.driver import converge, planned


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_file_is_made_with_its_folders_and_then_left_alone(machine: Machine, home: Path) -> None:
    task = EnsureFile(path="~/a/b/c.txt", content="one\n")
    (change,) = converge(task, machine)
    assert (change.action, change.before, change.after, change.kind) == ("create", None, "one\n", "file")
    assert (home / "a/b/c.txt").read_text() == "one\n"
    assert mode_of(home / "a/b/c.txt") == 0o644
    assert mode_of(home / "a/b") == 0o755
    assert converge(task, machine) == ()


def test_a_change_keeps_the_mode_unless_one_is_asked_for(machine: Machine, home: Path) -> None:
    path = home / "f"
    path.write_text("one")
    path.chmod(0o640)
    (change,) = converge(EnsureFile(path=str(path), content="two"), machine)
    assert (change.action, change.before, change.after) == ("write", "one", "two")
    assert mode_of(path) == 0o640
    (change,) = converge(EnsureFile(path=str(path), content="two", mode="u+x,go="), machine)
    assert (change.action, change.before, change.after) == ("set mode", "0640", "0700")


def test_without_a_content_a_file_is_made_once_and_kept(machine: Machine, home: Path) -> None:
    converge(EnsureFile(path="~/f", mode="0600"), machine)
    assert (home / "f").read_bytes() == b""
    (home / "f").write_text("mine")
    assert converge(EnsureFile(path="~/f", mode="0600"), machine) == ()
    assert converge(EnsureFile(path="~/f", content="theirs", force=False), machine) == ()
    assert (home / "f").read_text() == "mine"


def test_a_copy_of_a_file_is_executable_where_the_original_is(machine: Machine, home: Path, tmp_path: Path) -> None:
    source = tmp_path / "program"
    source.write_bytes(b"#!/bin/sh\n\xff\0")
    source.chmod(0o700)
    (change,) = converge(EnsureFile(path="~/bin/program", src=str(source)), machine)
    assert "bytes that are not text" in (change.after or "")
    assert mode_of(home / "bin/program") == 0o755
    assert (home / "bin/program").read_bytes() == source.read_bytes()
    source.write_bytes(b"other")
    converge(EnsureFile(path="~/bin/program", src=str(source)), machine)
    assert (home / "bin/program").read_bytes() == b"other"


def test_a_large_file_is_copied_and_compared_by_its_digest(machine: Machine, home: Path, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(b"x" * (files.LARGEST_TEXT + 1))
    task = EnsureFile(path="~/large", src=str(source))
    converge(task, machine)
    assert (home / "large").stat().st_size == files.LARGEST_TEXT + 1
    with (home / "large").open("r+b") as stream:
        stream.seek(files.LARGEST_TEXT)
        stream.write(b"y")
    assert [change.action for change in converge(task, machine)] == ["write"]


def test_a_folder_is_copied_and_what_else_is_there_stays(machine: Machine, home: Path, tmp_path: Path) -> None:
    source = tmp_path / "conf"
    (source / "deep/empty").mkdir(parents=True)
    (source / "deep/one").write_text("1")
    (source / "link").symlink_to("deep/one")
    (home / "conf").mkdir()
    (home / "conf/own").write_text("mine")
    task = EnsureFile(path="~/conf", src=str(source), mode="0600")
    converge(task, machine)
    assert (home / "conf/deep/one").read_text() == "1"
    assert mode_of(home / "conf/deep/one") == 0o600
    assert (home / "conf/deep/empty").is_dir()
    assert os.readlink(home / "conf/link") == "deep/one"
    assert (home / "conf/own").read_text() == "mine"
    witnesses = set(task.witnesses(machine))
    assert {source / "deep/one", home / "conf/deep/one"} <= witnesses
    (home / "conf/deep/one").unlink()
    assert [change.target for change in converge(task, machine)] == [str(home / "conf/deep/one")]


def test_folders_links_and_their_removal(machine: Machine, home: Path) -> None:
    converge(EnsureFile(path="~/d", state="directory", mode="0750"), machine)
    assert mode_of(home / "d") == 0o750
    converge(EnsureFile(path="~/l", src="d", state="link"), machine)
    assert os.readlink(home / "l") == "d"
    (change,) = converge(EnsureFile(path="~/l", src="e", state="link"), machine)
    assert (change.action, change.before, change.after) == ("link", "d", "e")
    lost = EnsureFile(path="~/l", src="e", state="link")
    assert lost.plan(lost.read(machine)).warnings == (f"there is no e: the link {home}/l leads nowhere",)
    (home / "d/f").write_text("")
    converge(EnsureFile(path="~/l", state="absent"), machine)
    assert (home / "d/f").exists()
    converge(EnsureFile(path="~/d", state="absent"), machine)
    assert not (home / "d").exists()


@pytest.mark.parametrize("what", ["~", "/", "~/..", "~/../nbprovision"])
def test_what_nobody_can_mean_is_not_removed(machine: Machine, home: Path, what: str) -> None:
    task = EnsureFile(path=what, state="absent")
    with pytest.raises(TaskFailed, match="is not removed"):
        planned(task, machine)
    assert home.is_dir()


def test_a_backup_is_kept_and_named(machine: Machine, home: Path) -> None:
    (home / "f").write_text("before")
    (home / "f").chmod(0o600)
    task = EnsureFile(path="~/f", content="after", backup=True)
    with machine.reporting() as values:
        converge(task, machine)
    kept = Path(values["backup_file"])
    assert kept.read_text() == "before"
    assert mode_of(kept) == 0o600
    assert kept.parent == home


@pytest.mark.parametrize(
    ("there", "parameters"),
    [
        ("folder", {"content": "x"}),
        ("pipe", {"content": "x"}),
        ("file", {"state": "directory"}),
        ("link", {"state": "directory"}),
        ("file", {"state": "link", "src": "x"}),
        ("folder", {"state": "link", "src": "x"}),
    ],
)
def test_what_is_of_another_kind_is_not_replaced(
    machine: Machine, home: Path, tmp_path: Path, there: str, parameters: dict[str, Any]
) -> None:
    path = home / "f"
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "file": lambda: path.write_text("mine"),
        "link": lambda: path.symlink_to(tmp_path),
    }[there]()
    with pytest.raises(TaskFailed) as caught:
        planned(EnsureFile(path="~/f", **parameters), machine)
    assert caught.value.cure


def test_no_planted_link_is_followed(machine: Machine, home: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("content", "copy", "mode"):
        (home / name).symlink_to(victim)
    source = tmp_path / "source"
    source.write_text("new")
    converge(EnsureFile(path="~/content", content="new"), machine)
    converge(EnsureFile(path="~/copy", src=str(source)), machine)
    converge(EnsureFile(path="~/mode", mode="0777"), machine)
    assert victim.read_text() == "precious"
    assert mode_of(victim) == 0o644
    assert not (home / "content").is_symlink()
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/f").write_text("new")
    (home / "folder").mkdir()
    (home / "folder/sub").symlink_to(tmp_path)
    with pytest.raises(TaskFailed, match="is a link to"):
        planned(EnsureFile(path="~/folder", src=str(folder)), machine)
    assert not (tmp_path / "f").exists()


def test_a_link_is_followed_when_asked(machine: Machine, home: Path, tmp_path: Path) -> None:
    (home / "f").symlink_to(tmp_path / "elsewhere")
    converge(EnsureFile(path="~/f", content="new", follow=True), machine)
    assert (tmp_path / "elsewhere").read_text() == "new"
    assert (home / "f").is_symlink()


@pytest.mark.parametrize(
    ("parameters", "key", "said"),
    [
        ({"path": ""}, "path", "is empty"),
        ({"path": "a\nb"}, "path", "line break"),
        ({"path": "a\0b"}, "path", "control character"),
        ({"path": "/f", "content": "\ud800"}, "content", "lone surrogate"),
        ({"path": "/f", "content": "", "src": "/g"}, "src", "cannot be given together"),
        ({"path": "/f", "mode": "rwx"}, "mode", "is not a mode"),
        ({"path": "/f", "mode": "0999"}, "mode", "is not a mode"),
        ({"path": "/f", "state": "link"}, "state", "needs `src`"),
        ({"path": "/f", "state": "link", "src": "g", "mode": "0644"}, "mode", "no mode of its own"),
        ({"path": "/f", "state": "directory", "content": ""}, "content", "does not go with"),
        ({"path": "/f", "state": "absent", "src": "/g"}, "src", "does not go with"),
        ({"path": "/f/", "content": ""}, "path", "names a folder"),
        ({"path": "/f", "template": "/t"}, "template", "variables of a playbook"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said) as caught:
        EnsureFile(**parameters)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("mode", "before", "folder", "after"),
    [
        ("0644", 0o777, False, 0o644),
        ("755", 0, False, 0o755),
        ("u=rw,go=r", 0o777, False, 0o644),
        ("a+X", 0o644, True, 0o755),
        ("a+X", 0o644, False, 0o644),
        ("g-w,o=", 0o666, False, 0o640),
        ("+x", 0o600, False, 0o711),
    ],
)
def test_modes(mode: str, before: int, folder: bool, after: int) -> None:
    file_work.check_mode("mode", mode)
    assert file_work.resolve_mode(mode, before, folder=folder) == after


def test_a_copy_of_what_is_not_there_says_where_it_was_looked_for(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/f").write_text("")
    with pytest.raises(TaskFailed) as caught:
        planned(EnsureFile(path="~/f", src=str(tmp_path / "f")), machine)
    assert caught.value.cure == f"write src: {tmp_path}/files/f"
    with pytest.raises(TaskFailed, match="cannot copy"):
        copy_atomically(tmp_path / "f", tmp_path / "g")


def read(playbook: Path, text: str) -> Any:
    playbook.write_text("- vars: {user: ada, port: 8888}\n  tasks:\n    - ensure_file:\n" + text)
    book = read_playbook(playbook, Catalogue(), env={})
    return book, book.plays[0].calls[0].task


def test_a_template_is_rendered_with_the_playbooks_variables(machine: Machine, home: Path, tmp_path: Path) -> None:
    (tmp_path / "conf.j2").write_text("user={{ user }}\r\n{% for n in [1, 2] %}\r\nn{{ n }}\r\n{% endfor %}\r\n")
    book, task = read(tmp_path / "p.yml", "        path: ~/conf\n        template: conf.j2\n")
    converge(task, machine)
    assert (home / "conf").read_bytes() == b"user=ada\r\nn1\r\nn2\r\n"
    assert tmp_path / "conf.j2" in book.looked_at


def test_a_template_that_is_one_expression_is_text_too(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("{{ port }}")
    assert read(tmp_path / "p.yml", "        path: ~/conf\n        template: t\n")[1].content == "8888"


@pytest.mark.parametrize(
    ("template", "where", "said"),
    [
        ("a\n{% if %}\n", "t:2:1", "the template is wrong"),
        ("a\n{{ usr }}\n", "p.yml:5:19", "did you mean 'user'"),
        (None, "p.yml:5:19", "t"),
    ],
)
def test_a_wrong_template_is_told_with_its_place(tmp_path: Path, template: str | None, where: str, said: str) -> None:
    if template is not None:
        (tmp_path / "t").write_text(template)
    with pytest.raises(InvalidPlaybook, match=said) as caught:
        read(tmp_path / "p.yml", "        path: ~/conf\n        template: t\n")
    assert str(caught.value.position) == f"{tmp_path}/{where}"


def test_a_link_keeps_its_relative_target_and_a_copy_begins_at_the_playbook(tmp_path: Path) -> None:
    assert read(tmp_path / "p.yml", "        path: ~/l\n        src: ../x\n        state: link\n")[1].src == "../x"
    assert read(tmp_path / "p.yml", "        path: ~/l\n        src: x\n")[1].src == str(tmp_path / "x")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("dest: /x", "write path:"),
        ("owner: root", "files belong to the user"),
        ("template: t\n        content: x", "give one of them"),
    ],
)
def test_what_ansibles_users_write_gets_an_error_that_teaches(tmp_path: Path, written: str, said: str) -> None:
    with pytest.raises(InvalidPlaybook) as caught:
        read(tmp_path / "p.yml", f"        path: ~/f\n        {written}\n")
    assert said in str(caught.value)

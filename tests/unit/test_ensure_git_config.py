"""`ensure_git_config`: tables of a file before and after, and git itself as the judge of what was written."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbprovision.facts import git_config
from nbprovision.facts.git_config import Damaged
from nbprovision.facts.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.tasks.ensure_git_config import EnsureGitConfig
from tests.driver import converge, planned

PATH = Path("/home/user/.gitconfig")
NEEDS_GIT = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")

EDITS: list[tuple[str, list[str], str, str]] = [
    ("user.email", ["a@b"], "", "[user]\n\temail = a@b\n"),
    ("user.email", ["a@b"], "[user]\n\tname = A\n", "[user]\n\tname = A\n\temail = a@b\n"),
    ("user.email", ["a@b"], "[user]\n  Email=old ; why\n# end\n", "[user]\n  Email = a@b\n# end\n"),
    ("user.email", ["a@b"], "[user] email = old\n", "[user] email = a@b\n"),
    ("user.email", ["a@b"], "[user]", "[user]\n\temail = a@b\n"),
    ("user.email", ["a@b"], "[core]\n\tx = y", "[core]\n\tx = y\n[user]\n\temail = a@b\n"),
    ("user.email", ["a@b"], "[user]\r\n\tname = A\r\n", "[user]\r\n\tname = A\r\n\temail = a@b\r\n"),
    ("user.email", ["a@b"], "[user] # me\n[core]\n", "[user] # me\n\temail = a@b\n[core]\n"),
    ("user.email", ["a@b"], "[user] name = A\n", "[user] name = A\n\temail = a@b\n"),
    ("user.email", ["a # b"], "", '[user]\n\temail = "a # b"\n'),
    ("user.x", [' "q" \\ \n\t'], "", '[user]\n\tx = " \\"q\\" \\\\ \\n\\t"\n'),
    ("remote.My Fork.url", ["u"], '[remote "origin"]\n\turl = o\n', '[remote "origin"]\n\turl = o\n[remote "My Fork"]\n\turl = u\n'),
    ("remote.origin.url", ["u"], '[Remote "origin"]\n\turl = o\n', '[Remote "origin"]\n\turl = u\n'),
    ("safe.directory", ["a", "b"], "[safe]\n\tdirectory = a\n", "[safe]\n\tdirectory = a\n\tdirectory = b\n"),
    ("safe.directory", ["b"], "[safe]\n\tdirectory = a\n\tdirectory = c\n\tx = y\n", "[safe]\n\tdirectory = b\n\tx = y\n"),
    ("core.bare", ["true"], "[core]\n\tbare\n", "[core]\n\tbare\n"),
    ("core.editor", [], "[core]\n\teditor = vi\n[user]\n", "[user]\n"),
    ("core.editor", [], "[core]\n\t# kept\n\teditor = vi\n", "[core]\n\t# kept\n"),
    ("core.editor", [], "[core] editor = vi\n\tx = y\n", "[core]\n\tx = y\n"),
    ("core.long", ["x"], "[core]\n\tlong = a \\\n  b\n\ty = z\n", "[core]\n\tlong = x\n\ty = z\n"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "wanted", "before", "after"), EDITS)
def test_an_edit(name: str, wanted: list[str], before: str, after: str) -> None:
    parsed = git_config.parse_name(name)
    assert parsed is not None
    spelled = name.rpartition(".")[2]
    assert git_config.edited(PATH, before, parsed, spelled, wanted) == after
    assert git_config.edited(PATH, after, parsed, spelled, wanted) == after
    assert git_config.values(after, parsed) == wanted


@pytest.mark.parametrize(
    "text", ["[core\n", '[core]\nx = "a\n', "[core]\nx = \\q\n", "[core]\n= y\n", "[core]\nx y\n", "]\n"]
)
def test_what_git_could_not_read_is_left_alone(text: str, machine: Machine, home: Path) -> None:
    with pytest.raises(Damaged):
        git_config.parse(text)
    (home / ".gitconfig").write_text(text)
    with pytest.raises(TaskFailed, match="cannot be edited") as caught:
        planned(EnsureGitConfig(name="a.b", value="c"), machine)
    assert "line " in caught.value.cause


@NEEDS_GIT
@settings(max_examples=20, deadline=None)
@given(
    values=st.lists(
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), max_size=12),
        min_size=1,
        max_size=3,
    ),
    name=st.sampled_from(["user.name", 'remote.My "odd" one\\.url', "x-y.z.K"]),
)
def test_git_reads_what_was_written(tmp_path_factory: pytest.TempPathFactory, values: list[str], name: str) -> None:
    """Whatever the values, and beside what git itself has written."""
    path = tmp_path_factory.mktemp("git") / "config"
    subprocess.run(["git", "config", "-f", path, "user.name", "before"], check=True)
    parsed = git_config.parse_name(name)
    assert parsed is not None
    path.write_bytes(git_config.edited(path, path.read_text(), parsed, name.rpartition(".")[2], values).encode())
    done = subprocess.run(["git", "config", "-f", path, "-z", "--get-all", name], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == values


@NEEDS_GIT
@settings(max_examples=20, deadline=None)
@given(
    values=st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12), min_size=1, max_size=3)
)
def test_what_git_has_written_is_read(tmp_path_factory: pytest.TempPathFactory, values: list[str]) -> None:
    path = tmp_path_factory.mktemp("git") / "config"
    for value in values:
        subprocess.run(["git", "config", "-f", path, "--add", "a.b", value], check=True)
    name = git_config.parse_name("a.b")
    assert name is not None
    assert git_config.values(path.read_text(), name) == values


def test_the_users_configuration(machine: Machine, home: Path) -> None:
    task = EnsureGitConfig(name="user.email", value="ada@example.org")
    (change,) = converge(task, machine)
    assert change.action == "create"
    assert (home / ".gitconfig").read_text() == "[user]\n\temail = ada@example.org\n"
    converge(EnsureGitConfig(name="USER.EMAIL", state="absent"), machine)
    assert (home / ".gitconfig").read_text() == ""
    assert planned(EnsureGitConfig(name="user.email", state="absent"), machine) == ()


def test_the_file_is_the_one_that_git_would_write(machine: Machine, home: Path, tmp_path: Path) -> None:
    other = home / ".config/git/config"
    other.parent.mkdir(parents=True)
    other.write_text("")
    converge(EnsureGitConfig(name="a.b", value=True), machine)
    assert other.read_text() == "[a]\n\tb = true\n"
    machine.env["GIT_CONFIG_GLOBAL"] = str(tmp_path / "own")
    converge(EnsureGitConfig(name="a.b", value=7), machine)
    assert (tmp_path / "own").read_text() == "[a]\n\tb = 7\n"


def test_a_repository_and_its_work_trees(machine: Machine, home: Path) -> None:
    repo = home / "work"
    (repo / ".git/worktrees/side").mkdir(parents=True)
    (repo / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (repo / ".git/worktrees/side/HEAD").write_text("ref: refs/heads/side\n")
    (repo / ".git/worktrees/side/commondir").write_text("../..\n")
    (home / "side").mkdir()
    (home / "side/.git").write_text(f"gitdir: {repo}/.git/worktrees/side\n")
    converge(EnsureGitConfig(name="user.name", value="A", repo="~/work"), machine)
    assert planned(EnsureGitConfig(name="user.name", value="A", repo="~/side"), machine) == ()
    assert "name = A" in (repo / ".git/config").read_text()
    with pytest.raises(TaskFailed, match="there is no git repository"):
        planned(EnsureGitConfig(name="user.name", value="A", repo="~/none"), machine)


def test_what_an_included_file_says_is_told(machine: Machine, home: Path) -> None:
    (home / ".gitconfig").write_text("[user]\n\tname = A\n[include]\n\tpath = ~/other\n")
    (home / "other").write_text("[user]\n\tname = B\n")
    task = EnsureGitConfig(name="user.name", value="A")
    assert task.plan(task.read(machine)).warnings == (f"{home}/other, which is included, sets user.name too",)
    assert home / "other" in set(task.witnesses(machine))


def test_a_token_makes_the_file_private(machine: Machine, home: Path) -> None:
    converge(EnsureGitConfig(name="http.extraHeader", value="Authorization: Basic abc123"), machine)
    assert (home / ".gitconfig").stat().st_mode & 0o777 == 0o600


def test_a_link_out_of_its_folder_is_followed_only_when_asked(machine: Machine, home: Path, tmp_path: Path) -> None:
    (home / ".gitconfig").symlink_to(tmp_path / "shared")
    with pytest.raises(TaskFailed, match="out of its folder"):
        planned(EnsureGitConfig(name="a.b", value="c"), machine)
    converge(EnsureGitConfig(name="a.b", value="c", follow=True), machine)
    assert (tmp_path / "shared").read_text() == "[a]\n\tb = c\n"


@pytest.mark.parametrize(
    ("parameters", "key", "said"),
    [
        ({"name": "email", "value": "x"}, "name", "no name of a variable"),
        ({"name": "a.b c", "value": "x"}, "name", "no name of a variable"),
        ({"name": "a.b\n.c", "value": "x"}, "name", "no name of a variable"),
        ({"name": "a.b"}, "", "needs a value"),
        ({"name": "a.b", "value": "x", "state": "absent"}, "value", "takes all values"),
        ({"name": "a.b", "value": "x\0"}, "value", "NUL"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said) as caught:
        EnsureGitConfig(**parameters)
    assert caught.value.key == key

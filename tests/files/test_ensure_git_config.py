"""`ensure_git_config`: tables of a file before and after, as git edits it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbprovision.files import git_config
from nbprovision.files.ensure_git_config import EnsureGitConfig
from nbprovision.files.file_work import FilePlan
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.system import inputs, log, secrets
from tests.support.driver import converge, planned

PATH = Path("/home/user/.gitconfig")
NEEDS_GIT = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")

EDITS: list[tuple[str, list[str], str, str]] = [
    ("user.email", ["a@b"], "", "[user]\n\temail = a@b\n"),
    ("user.email", ["a@b"], "[user]\n\tname = A\n", "[user]\n\tname = A\n\temail = a@b\n"),
    ("user.email", ["a@b"], "[user]\n  Email=old ; why\n# end\n", "[user]\n\temail = a@b\n# end\n"),
    ("user.email", ["a@b"], "[user]", "[user]\n\temail = a@b\n"),
    ("user.email", ["a@b"], "[core]\n\tx = y", "[core]\n\tx = y\n[user]\n\temail = a@b\n"),
    ("user.email", ["a@b"], "[user]\r\n\tname = A\r\n", "[user]\r\n\tname = A\r\n\temail = a@b\n"),
    ("user.email", ["a@b"], "[user] # me\n[core]\n", "[user]\n\temail = a@b\n # me\n[core]\n"),
    ("user.email", ["a # b"], "", '[user]\n\temail = "a # b"\n'),
    ("user.x", [' "q" \\ \n\t'], "", '[user]\n\tx = " \\"q\\" \\\\ \\n\\t"\n'),
    ("remote.My Fork.url", ["u"], '[remote "origin"]\n\turl = o\n', '[remote "origin"]\n\turl = o\n[remote "My Fork"]\n\turl = u\n'),
    ("remote.origin.url", ["u"], '[Remote "origin"]\n\turl = o\n', '[Remote "origin"]\n\turl = u\n'),
    ("remote.origin.url", ["u"], '[remote "Origin"]\n\turl = o\n', '[remote "Origin"]\n\turl = o\n[remote "origin"]\n\turl = u\n'),
    ("safe.directory", ["a", "b"], "[safe]\n\tdirectory = a # mine\n", "[safe]\n\tdirectory = a # mine\n\tdirectory = b\n"),
    ("safe.directory", ["b"], "[safe]\n\tdirectory = a\n\tdirectory = c\n\tx = y\n", "[safe]\n\tdirectory = b\n\tx = y\n"),
    ("safe.directory", ["a", "a"], "[safe]\n\tdirectory = a\n\tdirectory = b\n", "[safe]\n\tdirectory = a\n\tdirectory = a\n"),
    ("core.bare", ["true"], "[core]\n\tbare\n", "[core]\n\tbare\n"),
    ("core.editor", [""], "", "[core]\n\teditor = \n"),
    ("core.editor", ["-w"], "", "[core]\n\teditor = -w\n"),
    ("core.editor", [], "[core]\n\teditor = vi\n[user]\n\tname = A\n", "[user]\n\tname = A\n"),
    ("core.editor", [], "[core]\n\t# kept\n\teditor = vi\n", "[core]\n\t# kept\n"),
    ("-x.y", ["z"], "", "[-x]\n\ty = z\n"),
    ("core.long", ["x"], "[core]\n\tlong = a \\\n  b\n\ty = z\n", "[core]\n\tlong = x\n\ty = z\n"),
    ("user.token", ["s3cret # x"], "", '[user]\n\ttoken = "s3cret # x"\n'),
]  # fmt: skip


@NEEDS_GIT
@pytest.mark.parametrize(("name", "wanted", "before", "after"), EDITS)
def test_an_edit(name: str, wanted: list[str], before: str, after: str, machine: Machine) -> None:
    assert git_config.edit(PATH, before, name, wanted, machine) == after
    assert git_config.edit(PATH, after, name, wanted, machine) == after
    assert git_config.list_variables(PATH, after, machine).get(name, []) == wanted


@NEEDS_GIT
@pytest.mark.parametrize(
    ("text", "line"),
    [("[core\n", 1), ('[core]\nx = "a\n', 2), ("[core]\nx = \\q\n", 2), ("[core]\n= y\n", 2), ("[core]\n\nx y\n", 3)],
)
def test_a_file_that_git_cannot_read_is_refused_with_its_line(
    text: str, line: int, machine: Machine, home: Path
) -> None:
    (home / ".gitconfig").write_text(text)
    with pytest.raises(TaskFailed, match="cannot be edited") as caught:
        planned(EnsureGitConfig(name="a.b", value="c"), machine)
    assert caught.value.position == (str(home / ".gitconfig"), line, 1)
    assert "bad config line" in caught.value.cause
    assert (home / ".gitconfig").read_text() == text


@NEEDS_GIT
@settings(max_examples=20, deadline=None)
@given(
    values=st.lists(
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), max_size=12),
        min_size=1,
        max_size=3,
    ),
    name=st.sampled_from(["user.name", "user.token", 'remote.My "odd" one\\.url', "x-y.z.K"]),
)
def test_git_reads_what_was_written(tmp_path_factory: pytest.TempPathFactory, values: list[str], name: str) -> None:
    """Whatever the values, and beside what git itself has written; secrets take another way into the file."""
    path = tmp_path_factory.mktemp("git") / "config"
    subprocess.run(["git", "config", "-f", path, "user.name", "before"], check=True)
    machine = Machine({"PATH": os.environ["PATH"], "HOME": str(path.parent)}, home=path.parent / "tool")
    path.write_bytes(git_config.edit(path, path.read_text(), name, values, machine).encode())
    done = subprocess.run(["git", "config", "-f", path, "-z", "--get-all", name], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == values


def test_a_missing_git_is_reported_and_needed_only_where_there_is_something_to_ask(
    machine: Machine, home: Path, tmp_path: Path
) -> None:
    machine.env["PATH"] = str(tmp_path)
    assert planned(EnsureGitConfig(name="user.email", state="absent"), machine) == ()
    for text in (None, "[user]\n\temail = a@b\n"):
        if text is not None:
            (home / ".gitconfig").write_text(text)
        with pytest.raises(TaskFailed, match="git cannot edit") as caught:
            planned(EnsureGitConfig(name="user.email", value="a@b"), machine)
        assert caught.value.cause == "git: the program does not exist"
        assert "install it" in caught.value.cure


@NEEDS_GIT
def test_git_is_asked_once_for_the_same_file(machine: Machine, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    run = git_config.commands.run
    monkeypatch.setattr(
        git_config.commands, "run", lambda argv, **options: commands.append(argv) or run(argv, **options)
    )
    (home / ".gitconfig").write_text("[user]\n\temail = a@b\n\tname = A\n")
    for name, value in (("user.email", "a@b"), ("user.name", "A"), ("USER.Name", "A")):
        assert planned(EnsureGitConfig(name=name, value=value), machine) == ()
    assert commands == [["git", "config", "--file", "-", "--no-includes", "--null", "--list"]]


@NEEDS_GIT
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("http.extraHeader", "Authorization: Basic abc123=="),
        ("remote.origin.url", "https://ada:hunter22@git.example/x.git"),
        ("github.token", 'to"k\\en'),
    ],
)
def test_a_secret_is_on_no_command_line_and_in_no_error(
    name: str, value: str, machine: Machine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[str] = []
    run = git_config.commands.run
    monkeypatch.setattr(
        git_config.commands, "run", lambda argv, **options: words.extend(map(str, argv)) or run(argv, **options)
    )
    converge(EnsureGitConfig(name=name, value=value), machine)
    assert words
    assert not [word for word in words if value in word or "hunter22" in word]
    read = subprocess.run(
        ["git", "config", "-f", home / ".gitconfig", name], capture_output=True, text=True, check=True
    )
    assert read.stdout == f"{value}\n"
    assert (home / ".gitconfig").stat().st_mode & 0o777 == 0o600


@NEEDS_GIT
def test_a_secret_that_git_lists_is_masked(machine: Machine, home: Path) -> None:
    """The changes of a file show its other lines."""
    (home / ".gitconfig").write_text("[github]\n\ttoken = correct-horse\n")
    heard: list[str] = []
    log.listen(lambda name, fields: heard.append(str(fields)))
    try:
        planned(EnsureGitConfig(name="user.name", value="A"), machine)
    finally:
        log.listen(None)
    assert secrets.mask("token = correct-horse") == "token = ****"
    assert "correct-horse" not in str(heard)


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
    with inputs.recorded() as recorded:
        state = task.read(machine)
    assert task.plan(state).warnings == (f"the included file {home}/other sets user.name too",)
    assert str(home / "other") in recorded.files


@pytest.mark.parametrize("text", [None, "[broken", "[user]\n\tname = A\n"], ids=["missing", "broken", "same"])
def test_an_included_file_that_sets_nothing_else_is_no_matter(text: str | None, machine: Machine, home: Path) -> None:
    (home / ".gitconfig").write_text('[user]\n\tname = A\n[includeIf "gitdir:~/team/"]\n\tpath = other\n')
    if text is not None:
        (home / "other").write_text(text)
    task = EnsureGitConfig(name="user.name", value="A")
    with inputs.recorded() as recorded:
        assert task.plan(task.read(machine)) == FilePlan()
    assert str(home / "other") in recorded.files


def test_a_link_out_of_its_folder_is_followed_only_when_asked(machine: Machine, home: Path, tmp_path: Path) -> None:
    (home / ".gitconfig").symlink_to(tmp_path / "shared")
    with pytest.raises(TaskFailed, match="out of its folder"):
        planned(EnsureGitConfig(name="a.b", value="c"), machine)
    converge(EnsureGitConfig(name="a.b", value="c", follow=True), machine)
    assert (tmp_path / "shared").read_text() == "[a]\n\tb = c\n"


@pytest.mark.parametrize(
    ("parameters", "key", "said"),
    [
        ({"name": "email", "value": "x"}, "name", "not the name of a variable"),
        ({"name": "a.b c", "value": "x"}, "name", "not the name of a variable"),
        ({"name": "a.b\n.c", "value": "x"}, "name", "not the name of a variable"),
        ({"name": "a.b"}, "", "needs a value"),
        ({"name": "a.b", "value": "x", "state": "absent"}, "value", "removes all values"),
        ({"name": "a.b", "value": "x\0"}, "value", "NUL"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said) as caught:
        EnsureGitConfig(**parameters)
    assert caught.value.key == key

"""`ensure_git_repo` with real repositories, a real server, and what people do in their clones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.files import git_repair, git_url
from nbprovision.files.ensure_git_repo import EnsureGitRepo
from nbprovision.files.git_repository import LEFT, UPDATING
from nbprovision.machine.machine import Machine
from nbprovision.machine.network import NetworkFailed
from nbprovision.model.errors import NotTrusted, ParameterError, TaskFailed
from tests.support.driver import converge, planned
from tests.support.git_repositories import GitServer, Origin, git, serving
from tests.support.planted import USER, reachable_folder, root_only

pytestmark = [pytest.mark.skipif(shutil.which("git") is None, reason="there is no git"), pytest.mark.sampled(2)]


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origins/models")


@pytest.fixture
def server(origin: Origin) -> Iterator[GitServer]:
    with serving(origin.folder.parent) as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work/models"


def clone(origin: Origin, path: Path, machine: Machine, **parameters: Any) -> EnsureGitRepo:
    """A task, carried out."""
    task = EnsureGitRepo(url=origin.url, path=str(path), **parameters)
    converge(task, machine)
    return task


def warnings(task: EnsureGitRepo, machine: Machine) -> tuple[str, ...]:
    """The warnings of a task that has nothing to do."""
    plan = task.plan(task.read(machine))
    assert not plan.changes
    return plan.warnings


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------------------ parameters

REFUSED = [
    ("https://ada:secret@github.com/a/b", "contains a user or a password"),
    ("https://ghp_0123456789@github.com/a/b", "contains a user or a password"),
    ("https://user:secret@github.com/a/b", "contains a user or a password"),
    ("ssh://ada:secret@host.example/a", "contains a user or a password"),
    ("https://host.example/a?private_token=abcdef", "contains a secret"),
    ("http://host.example/a/b", "neither encrypted nor signed"),
    ("git://host.example/a/b", "neither encrypted nor signed"),
    ("ext::sh -c touch% /tmp/x", "git would run the program git-remote-ext"),
    ("../models", "it is relative"),
    ("--upload-pack=touch", "is not the URL"),
    ("https://host.example/", "is not the URL"),
    ("https://host.example/a\nb", "is not the URL"),
    ("ftp://host.example/a", "is not the URL"),
    ("https://[::1/a", "is not the URL"),
]


@pytest.mark.parametrize(("url", "reason"), REFUSED)
def test_a_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureGitRepo(url=url, path="/x")
    assert reason in caught.value.text
    assert caught.value.cure
    assert "secret@" not in caught.value.text
    assert "ghp_" not in caught.value.text


@pytest.mark.parametrize("url", [
    "https://github.com/a/b.git", "git@github.com:a/b.git", "ssh://git@host.example:7999/a/b", "host.example:a",
    "codecommit::eu-west-1://fraud", "codecommit://profile@fraud", "file:///srv/a", "/srv/a", "http://127.0.0.1:80/a",
])  # fmt: skip
def test_a_url_is_accepted(url: str) -> None:
    assert EnsureGitRepo(url=url, path="/x").url == url


@pytest.mark.parametrize(
    "ref", ["-x", "a..b", "a b", "HEAD", "refs/heads/main", "a~1", "a:b", "", "/a", "a.lock", "@{1}"]
)
def test_a_ref_is_refused(ref: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureGitRepo(url="https://host.example/a", path="/x", ref=ref)
    assert caught.value.key == "ref"


def test_a_credential_helper_has_no_password_and_needs_https() -> None:
    for helper in ("!f() { echo password=hunter22; }; f", "a\nb", " "):
        with pytest.raises(ParameterError) as caught:
            EnsureGitRepo(url="https://host.example/a", path="/x", credential_helper=helper)
        assert "hunter22" not in caught.value.text
    with pytest.raises(ParameterError, match="needs a URL of https"):
        EnsureGitRepo(url="git@host.example:a", path="/x", credential_helper="store")
    EnsureGitRepo(url="https://host.example/a", path="/x", credential_helper='!f() { echo "password=$TOKEN"; }; f')


@pytest.mark.parametrize(("one", "other", "same"), [
    ("https://github.com/a/b", "git@github.com:a/b.git", True),
    ("https://github.com/a/b.git/", "ssh://git@GitHub.com/a/b", True),
    ("https://ada:x@github.com/a/b", "https://github.com/a/b", True),
    ("https://github.com/a/b", "https://github.com/a/c", False),
    ("https://github.com/a/b", "https://gitlab.com/a/b", False),
    ("https://host:8443/a", "https://host:9443/a", False),
    ("/srv/a.git", "file:///srv/a", True),
    ("codecommit::eu-west-1://x@fraud", "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/fraud", True),
    ("codecommit::eu-west-1://fraud", "codecommit::eu-west-2://fraud", False),
])  # fmt: skip
def test_two_urls_of_a_repository(one: str, other: str, same: bool) -> None:
    places = [git_url.address(url) for url in (one, other)]
    assert places[0] is not None
    assert places[1] is not None
    assert places[0].same(places[1]) is same


# ------------------------------------------------------------------------------------------------------- a new clone


def test_a_clone(origin: Origin, path: Path, machine: Machine) -> None:
    task = EnsureGitRepo(url=origin.url, path=str(path))
    assert [change.action for change in converge(task, machine)] == ["clone"]
    assert (path / "README.md").read_text() == "one\n"
    assert git(path, "status", "--porcelain") == ""
    assert git(path, "rev-parse", "HEAD") == origin.run("rev-parse", "HEAD")
    assert path.stat().st_mode & 0o777 == 0o755
    assert os.listdir(path.parent) == ["models"]


def test_an_empty_folder_is_filled(origin: Origin, path: Path, machine: Machine) -> None:
    path.mkdir(parents=True)
    clone(origin, path, machine)
    assert (path / "README.md").exists()


@pytest.mark.parametrize("depth", [None, 1])
def test_a_ref(depth: int | None, origin: Origin, tmp_path: Path, machine: Machine) -> None:
    first = origin.run("rev-parse", "HEAD")
    origin.run("tag", "-a", "v1.0", "-m", "one")
    origin.commit("README.md", "two\n")
    origin.run("checkout", "--quiet", "-b", "work/next")
    origin.commit("README.md", "three\n")
    origin.run("checkout", "--quiet", "main")
    for name, ref, text in (("tag", "v1.0", "one\n"), ("branch", "work/next", "three\n"), ("commit", first, "one\n")):
        path = tmp_path / "clones" / name
        clone(origin, path, machine, ref=ref, depth=depth)
        assert (path / "README.md").read_text() == text
        assert git(path, "rev-parse", "--abbrev-ref", "HEAD") == ("work/next" if name == "branch" else "HEAD")
        assert depth is None or git(path, "rev-list", "--count", "HEAD") == "1"


def test_a_short_commit_and_a_branch_that_looks_like_one(origin: Origin, tmp_path: Path, machine: Machine) -> None:
    first = origin.run("rev-parse", "HEAD")
    origin.run("branch", "deadbeef")
    origin.commit("README.md", "two\n")
    clone(origin, tmp_path / "short", machine, ref=first[:10])
    assert git(tmp_path / "short", "rev-parse", "HEAD") == first
    clone(origin, tmp_path / "branch", machine, ref="deadbeef")
    assert git(tmp_path / "branch", "branch", "--show-current") == "deadbeef"


@pytest.mark.parametrize("ref", ["nowhere", "0" * 40, "abcdef12"])
@pytest.mark.parametrize("depth", [None, 1])
def test_a_missing_ref(ref: str, depth: int | None, origin: Origin, path: Path, machine: Machine) -> None:
    with pytest.raises(TaskFailed) as caught:
        clone(origin, path, machine, ref=ref, depth=depth)
    assert caught.value.cure == "correct `ref`"
    assert list(path.parent.iterdir()) == []


def test_an_empty_repository(tmp_path: Path, path: Path, machine: Machine) -> None:
    git(tmp_path, "init", "--quiet", "--bare", tmp_path / "empty")
    task = EnsureGitRepo(url=(tmp_path / "empty").as_uri(), path=str(path))
    converge(task, machine)
    assert "has no commit" in warnings(task, machine)[0]


def test_hooks_and_questions_are_not_run(origin: Origin, path: Path, machine: Machine, home: Path) -> None:
    template = home / "template/hooks"
    template.mkdir(parents=True)
    (template / "post-checkout").write_text(f"#!/bin/sh\ntouch {home}/ran\n")
    (template / "post-checkout").chmod(0o755)
    (home / ".gitconfig").write_text(f"[init]\n\ttemplateDir = {home}/template\n")
    clone(origin, path, machine)
    assert (path / ".git/hooks/post-checkout").exists()
    origin.commit("README.md", "two\n")
    converge(EnsureGitRepo(url=origin.url, path=str(path), update="ff"), machine)
    assert not (home / "ran").exists()


def test_variables_of_git_lead_nowhere_else(origin: Origin, path: Path, machine: Machine, tmp_path: Path) -> None:
    other = Origin(tmp_path / "other")
    machine.env.update(GIT_DIR=str(other.folder / ".git"), GIT_WORK_TREE=str(other.folder), GIT_INDEX_FILE="/x")
    before = content(other.folder)
    clone(origin, path, machine)
    assert (path / "README.md").exists()
    assert content(other.folder) == before


def test_check_changes_nothing_and_a_second_run_needs_no_server(origin: Origin, path: Path, machine: Machine) -> None:
    task = EnsureGitRepo(url=origin.url, path=str(path), ref="main")
    assert [change.action for change in planned(task, machine)] == ["clone"]
    assert not path.parent.exists()
    converge(task, machine)
    before = content(path)
    shutil.rmtree(origin.folder)
    assert planned(task, machine) == ()
    assert content(path) == before


# --------------------------------------------------------------------------------------------- what is already there


@pytest.mark.parametrize("kind", ["file", "folder", "link", "broken clone", "below a repository"])
def test_what_is_not_the_clone_is_kept(kind: str, origin: Origin, path: Path, machine: Machine, tmp_path: Path) -> None:
    path.parent.mkdir()
    if kind == "file":
        path.write_text("mine")
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
        (path / "thesis.txt").write_text("mine")
        if kind == "broken clone":
            (path / ".git").mkdir()
        if kind == "below a repository":
            git(path.parent, "clone", "--quiet", origin.url, path.parent / "x")
            (path.parent / "x/.git").rename(path.parent / ".git")
    before = content(path.parent)
    with pytest.raises(TaskFailed) as caught:
        converge(EnsureGitRepo(url=origin.url, path=str(path)), machine)
    assert caught.value.cause
    assert caught.value.cure
    assert content(path.parent) == before


def test_another_remote_is_refused_and_its_password_not_shown(origin: Origin, path: Path, machine: Machine) -> None:
    task = clone(origin, path, machine)
    git(path, "remote", "set-url", "origin", "https://ada:hunter22@host.example/other.git")
    before = content(path)
    with pytest.raises(TaskFailed, match="is another repository than") as caught:
        planned(task, machine)
    assert "hunter22" not in caught.value.text
    assert "https://****@host.example/other.git" in caught.value.cause
    assert "remote set-url origin" in caught.value.cure
    assert content(path) == before


def test_another_remote_may_have_the_url(origin: Origin, path: Path, machine: Machine) -> None:
    """As after work with a fork."""
    task = clone(origin, path, machine)
    git(path, "remote", "rename", "origin", "upstream")
    git(path, "remote", "add", "origin", "https://host.example/fork.git")
    assert planned(task, machine) == ()


def test_a_clone_of_an_other_program_that_was_killed_is_reported(origin: Origin, path: Path, machine: Machine) -> None:
    path.mkdir(parents=True)
    git(path, "init", "--quiet")
    git(path, "remote", "add", "origin", origin.url)
    assert (
        "a clone of another program that was killed"
        in warnings(EnsureGitRepo(url=origin.url, path=str(path)), machine)[0]
    )


# --------------------------------------------------------------------------------------------------------- another ref


def test_another_ref_is_checked_out(origin: Origin, path: Path, machine: Machine) -> None:
    origin.run("tag", "v1")
    origin.commit("README.md", "two\n")
    origin.run("tag", "v2")
    origin.run("branch", "side", "v1")
    clone(origin, path, machine, ref="v1")
    third = origin.commit("README.md", "three\n")
    origin.run("tag", "v3")  # the clone does not know these two
    origin.run("branch", "late")
    for ref, text in (
        ("v2", "two"),
        ("side", "one"),
        ("main", "two"),
        ("v3", "three"),
        ("late", "three"),
        (third, "three"),
    ):
        changes = converge(EnsureGitRepo(url=origin.url, path=str(path), ref=ref), machine)
        assert [(change.action, change.after) for change in changes] == ([("checkout", ref)] if ref != third else [])
        assert (path / "README.md").read_text() == f"{text}\n"
    assert git(path, "status", "--porcelain") == ""


def test_a_clone_of_limited_depth_gets_another_ref(origin: Origin, path: Path, machine: Machine) -> None:
    origin.run("tag", "v1")
    clone(origin, path, machine, ref="main", depth=1)
    origin.commit("README.md", "two\n")
    origin.run("branch", "side")
    clone(origin, path, machine, ref="side", depth=1)
    assert git(path, "branch", "--show-current") == "side"
    assert git(path, "rev-parse", "--abbrev-ref", "side@{upstream}") == "origin/side"
    clone(origin, path, machine, ref="v1", depth=1)
    assert (path / "README.md").read_text() == "one\n"


def work(path: Path, kind: str) -> None:
    """Do what a data scientist does in a clone."""
    if kind in ("changed file", "staged file"):
        (path / "README.md").write_text("mine\n")
    if kind == "staged file":
        git(path, "add", "README.md")
    if kind == "deleted file":
        (path / "README.md").unlink()
    if kind == "commit":
        (path / "README.md").write_text("mine\n")
        git(path, "commit", "--quiet", "-am", "mine")
    if kind == "branch":
        git(path, "checkout", "--quiet", "-b", "mine")
    if kind == "detached":
        git(path, "checkout", "--quiet", "--detach")
    if kind == "merge":
        git(path, "checkout", "--quiet", "-b", "mine")
        (path / "README.md").write_text("mine\n")
        git(path, "commit", "--quiet", "-am", "mine")
        git(path, "checkout", "--quiet", "main")


WORK = ["changed file", "staged file", "deleted file", "commit", "branch", "detached"]


@pytest.mark.parametrize("kind", WORK)
def test_local_work_stays_with_another_ref(kind: str, origin: Origin, path: Path, machine: Machine) -> None:
    origin.run("tag", "v1")
    origin.commit("README.md", "two\n")
    clone(origin, path, machine)
    work(path, kind)
    before = content(path)
    reported = warnings(EnsureGitRepo(url=origin.url, path=str(path), ref="v1"), machine)
    assert len(reported) == 1
    assert "stays, as " in reported[0]
    assert f"git -C {path} checkout v1" in reported[0]
    assert content(path) == before


@pytest.mark.parametrize("kind", WORK)
def test_local_work_needs_no_word_without_ref_and_update(
    kind: str, origin: Origin, path: Path, machine: Machine
) -> None:
    task = clone(origin, path, machine)
    work(path, kind)
    assert warnings(task, machine) == ()


def test_a_clone_of_somebody_else_stays(origin: Origin, path: Path, machine: Machine) -> None:
    origin.run("tag", "v1")
    origin.commit("README.md", "two\n")
    path.parent.mkdir()
    git(path.parent, "clone", "--quiet", origin.url, path)
    assert (
        "somebody else has cloned it" in warnings(EnsureGitRepo(url=origin.url, path=str(path), ref="v1"), machine)[0]
    )
    assert warnings(EnsureGitRepo(url=origin.url, path=str(path), ref="main"), machine) == ()


# -------------------------------------------------------------------------------------------------------- update: ff


def test_the_branch_moves_forward(origin: Origin, path: Path, machine: Machine) -> None:
    task = clone(origin, path, machine, update="ff")
    old = git(path, "rev-parse", "HEAD")
    (path / "notes.txt").write_text("mine\n")  # git does not know it
    new = origin.commit("README.md", "two\n")
    before = content(path)
    (change,) = planned(task, machine)
    assert content(path) == before, "--check writes nothing into the clone"
    assert (change.action, change.before, change.after) == ("update", old[:12], new[:12])
    converge(task, machine)
    assert git(path, "rev-parse", "HEAD") == new
    assert (path / "README.md").read_text() == "two\n"
    assert (path / "notes.txt").read_text() == "mine\n"
    assert not (path / ".git" / UPDATING).exists()


def test_update_of_a_clone_of_limited_depth(origin: Origin, path: Path, machine: Machine) -> None:
    task = clone(origin, path, machine, ref="main", depth=1, update="ff")
    for number in range(3):
        origin.commit("README.md", f"{number}\n")
    converge(task, machine)
    assert (path / "README.md").read_text() == "2\n"


@pytest.mark.parametrize("kind", WORK)
@pytest.mark.parametrize("given", [None, "main"])
def test_local_work_stays_with_an_update(
    kind: str, given: str | None, origin: Origin, path: Path, machine: Machine
) -> None:
    task = clone(origin, path, machine, ref=given, update="ff")
    work(path, kind)
    assert not any("changed files" in text for text in warnings(task, machine)), "nothing new, so no word of changes"
    origin.commit("README.md", "two\n")
    before = content(path)
    assert len(warnings(task, machine)) == 1
    assert content(path) == before


def test_own_commits_alone_need_no_word(origin: Origin, path: Path, machine: Machine) -> None:
    task = clone(origin, path, machine, update="ff")
    work(path, "commit")
    assert warnings(task, machine) == ()


def test_a_remote_branch_that_was_written_anew_or_removed(origin: Origin, path: Path, machine: Machine) -> None:
    task = clone(origin, path, machine, ref="main", update="ff")
    (path / "kept").write_text("mine\n")
    origin.run("commit", "--quiet", "--amend", "-m", "another one")
    plan = task.plan(task.read(machine))
    assert task.apply(plan, machine) == []
    assert "different commits" in warnings(task, machine)[0]
    origin.run("branch", "-m", "main", "trunk")
    assert "no branch main any more" in warnings(task, machine)[0]


def test_a_file_in_the_way_of_an_update_is_kept(origin: Origin, path: Path, machine: Machine) -> None:
    """Ignored ones too, which git itself would overwrite."""
    task = clone(origin, path, machine, update="ff")
    (path / ".git/info/exclude").write_text("data.csv\n")
    for name in ("data.csv", "new.txt"):
        (path / name).write_text("mine\n")
        origin.commit(name, "theirs\n")
        before = content(path)
        with pytest.raises(TaskFailed, match="cannot update") as caught:
            converge(task, machine)
        assert name in caught.value.text
        assert (path / name).read_text() == "mine\n"
        assert {key for key in content(path) if not key.startswith(".git/")} == {
            key for key in before if not key.startswith(".git/")
        }
        (path / name).unlink()
        converge(task, machine)


def test_tags_and_commits_are_not_asked_for_again(origin: Origin, path: Path, machine: Machine) -> None:
    origin.run("tag", "v1")
    task = clone(origin, path, machine, ref="v1", update="ff")
    shutil.rmtree(origin.folder)
    assert warnings(task, machine) == ()


# ------------------------------------------------------------------------------------------------------- a killed git


def test_a_killed_clone_leaves_nothing_that_counts(
    origin: Origin, path: Path, machine: Machine, env: dict[str, str], tmp_path: Path
) -> None:
    for number in range(300):
        (origin.folder / f"{number}.bin").write_bytes(os.urandom(20_000))
    origin.run("add", ".")
    origin.run("commit", "--quiet", "-m", "much")
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(f"- tasks:\n    - ensure_git_repo: {{url: '{origin.url}', path: {path}}}\n")
    words = [sys.executable, "-m", "nbprovision", "run", str(playbook)]
    env = {**env, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(2000):
        if path.parent.exists() and list(path.parent.glob(".models.*/clone")):
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not path.exists()
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert git(path, "status", "--porcelain") == ""
    assert os.listdir(path.parent) == ["models"]


def half_updated(origin: Origin, path: Path, machine: Machine) -> EnsureGitRepo:
    """A clone as a kill in the middle of an update leaves it: files changed, index and branch not."""
    for name in ("a.txt", "b.txt", "gone.txt", "café.txt"):
        origin.commit(name, f"old {name}\n")
    task = clone(origin, path, machine, update="ff")
    before = git(path, "rev-parse", "HEAD")
    for name in ("a.txt", "b.txt", "café.txt", "new/c.txt"):
        origin.commit(name, f"new {name}\n")
    origin.run("rm", "--quiet", "gone.txt")
    origin.run("commit", "--quiet", "-m", "without it")
    git(path, "fetch", "--quiet")
    after = git(path, "rev-parse", "origin/main")
    (path / ".git" / UPDATING).write_text(f"{before} {after}\n")
    (path / ".git/index.lock").write_text("half")
    (path / "a.txt").write_text("new a.txt\n")
    (path / "b.txt").write_text("")
    (path / "café.txt").write_text("new caf")
    (path / "gone.txt").unlink()
    (path / "new").mkdir()
    (path / "new/c.txt").write_text("new new/c.txt\n")
    (path / "notes.txt").write_text("mine\n")
    return task


def test_a_killed_update_is_completed(origin: Origin, path: Path, machine: Machine) -> None:
    task = half_updated(origin, path, machine)
    assert [change.action for change in planned(task, machine)] == ["repair"]
    converge(task, machine)
    assert git(path, "status", "--porcelain") == "?? notes.txt"
    assert git(path, "rev-parse", "HEAD") == origin.run("rev-parse", "HEAD")
    assert not (path / ".git/index.lock").exists()
    assert (path / "café.txt").read_text() == "new café.txt\n"


def test_a_killed_update_with_work_since_then_is_left_alone(origin: Origin, path: Path, machine: Machine) -> None:
    task = half_updated(origin, path, machine)
    (path / "a.txt").write_text("mine\n")
    before = {key: text for key, text in content(path).items() if key != ".git/index.lock"}
    with pytest.raises(TaskFailed, match="cannot be taken back") as caught:
        converge(task, machine)
    assert "a.txt has been changed since" in caught.value.cause
    assert content(path) == before


def test_a_lock_of_a_git_at_work_is_kept(origin: Origin, path: Path, machine: Machine) -> None:
    half_updated(origin, path, machine)
    with (path / ".git/index.lock").open():
        git_repair._remove_leftovers(path / ".git")
        assert (path / ".git/index.lock").exists()
    git_repair._remove_leftovers(path / ".git")
    assert not (path / ".git/index.lock").exists()


# -------------------------------------------------------------------------------------------------------- submodules


@pytest.fixture
def nested(origin: Origin, tmp_path: Path, home: Path) -> Origin:
    """A repository with a submodule that has one too."""
    (home / ".gitconfig").write_text('[protocol "file"]\n\tallow = always\n')
    inner, middle = Origin(tmp_path / "origins/inner"), Origin(tmp_path / "origins/middle")
    middle.run("submodule", "--quiet", "add", inner.url, "inner")
    middle.run("commit", "--quiet", "-m", "with inner")
    origin.run("submodule", "--quiet", "add", middle.url, "parts/middle")
    origin.run("commit", "--quiet", "-m", "with middle")
    return origin


def test_submodules(nested: Origin, path: Path, machine: Machine) -> None:
    without = clone(nested, path, machine)
    assert not (path / "parts/middle/README.md").exists()
    changes = converge(EnsureGitRepo(url=nested.url, path=str(path), submodules=True), machine)
    assert [(change.action, change.after) for change in changes] == [("fetch submodules", "parts/middle")]
    assert (path / "parts/middle/inner/README.md").exists()
    assert planned(without, machine) == ()


def test_a_clone_with_submodules_is_whole_at_once(nested: Origin, path: Path, machine: Machine) -> None:
    clone(nested, path, machine, submodules=True, depth=1)
    assert (path / "parts/middle/inner/README.md").exists()
    assert git(path, "status", "--porcelain") == ""
    assert path / "parts/middle/.git" in EnsureGitRepo(url=nested.url, path=str(path), submodules=True).witnesses(
        machine
    )


def test_credentials_in_the_file_of_submodules_are_refused(nested: Origin, path: Path, machine: Machine) -> None:
    modules = nested.folder / ".gitmodules"
    modules.write_text(modules.read_text().replace("url = file://", "url = https://ada:hunter22@host.example"))
    nested.run("commit", "--quiet", "-am", "with a password")
    with pytest.raises(TaskFailed, match="cannot fetch the submodules") as caught:
        clone(nested, path, machine, submodules=True)
    assert ".gitmodules has a user or a password in submodule.parts/middle.url" in caught.value.cause
    assert "hunter22" not in caught.value.text
    assert not path.exists()


# --------------------------------------------------------------------------------------------------------- the network


def helper(home: Path, password: str) -> str:
    """A credential helper that notes when it is asked."""
    program = home / "helper"
    program.write_text(
        f"#!/bin/sh\necho $1 >>{home}/asked\ntest $1 = get && echo username=ada && echo password={password}\n"
    )
    program.chmod(0o755)
    return f"!{program}"


def test_a_credential_helper(server: GitServer, path: Path, machine: Machine, home: Path) -> None:
    server.user = "ada"
    text = helper(home, server.password)
    task = EnsureGitRepo(url=f"{server.url}/models", path=str(path), credential_helper=text, update="ff")
    converge(task, machine)
    assert "get" in (home / "asked").read_text()
    assert git(path, "config", "--get-all", f"credential.{server.url}.helper") == text
    git(path, "pull", "--quiet")
    assert server.password not in (path / ".git/config").read_text()
    git(path, "config", f"credential.{server.url}.helper", "other", ".*helper")
    assert [change.action for change in converge(task, machine)] == ["configure"]
    assert git(path, "config", "--get-all", f"credential.{server.url}.helper") == text


def test_codecommit_needs_the_path_as_well() -> None:
    url = "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/fraud"
    section = "credential.https://git-codecommit.eu-west-1.amazonaws.com"
    assert git_url.helper_settings(url, "!x") == {f"{section}.helper": ["", "!x"], f"{section}.usehttppath": ["true"]}


@pytest.mark.parametrize(("user", "given"), [("ada", ""), ("ada", "wrong")])
def test_refused_credentials(
    user: str, given: str, server: GitServer, path: Path, machine: Machine, home: Path
) -> None:
    server.user = user
    text = helper(home, given) if given else None
    with pytest.raises(NetworkFailed) as caught:
        converge(EnsureGitRepo(url=f"{server.url}/models", path=str(path), credential_helper=text), machine)
    assert caught.value.kind == "credentials"
    assert "credential_helper" in caught.value.cure
    assert not path.exists()


def test_a_missing_repository(server: GitServer, path: Path, machine: Machine) -> None:
    with pytest.raises(NetworkFailed) as caught:
        converge(EnsureGitRepo(url=f"{server.url}/nothing", path=str(path)), machine)
    assert caught.value.kind == "missing"
    assert "correct `url`" in caught.value.cure


def test_no_local_repository(path: Path, machine: Machine, tmp_path: Path) -> None:
    for url in ("/dev/zero", (tmp_path / "nothing").as_uri()):
        with pytest.raises(TaskFailed, match="cannot clone") as caught:
            converge(EnsureGitRepo(url=url, path=str(path)), machine)
        assert caught.value.cause == f"{url} is missing"


@pytest.mark.parametrize(("status", "kind"), [(403, "forbidden"), (503, "busy"), (500, "server")])
def test_a_failing_server(status: int, kind: str, server: GitServer, path: Path, machine: Machine) -> None:
    server.status = status
    machine.env["NBPROVISION_NETWORK_PATIENCE"] = "0"
    with pytest.raises(NetworkFailed) as caught:
        converge(EnsureGitRepo(url=f"{server.url}/models", path=str(path)), machine)
    assert caught.value.kind == kind


@pytest.mark.parametrize(("url", "kind"), [
    ("https://127.0.0.1:9/a", "refused"), ("https://nowhere.invalid/a", "dns"), ("ssh://127.0.0.1:9/a", "refused"),
])  # fmt: skip
def test_no_server(url: str, kind: str, path: Path, machine: Machine) -> None:
    if url.startswith("ssh") and shutil.which("ssh") is None:
        pytest.skip("there is no ssh")
    machine.env["NBPROVISION_NETWORK_PATIENCE"] = "0"
    for name in [name for name in machine.env if name.lower().endswith("_proxy")]:
        del machine.env[name]
    with pytest.raises(NetworkFailed) as caught:
        converge(EnsureGitRepo(url=url, path=str(path)), machine)
    assert caught.value.kind == kind


def test_a_silent_server_is_given_up(server: GitServer, path: Path, machine: Machine) -> None:
    server.silent = True
    machine.env.update(NBPROVISION_NETWORK_PATIENCE="0", NBPROVISION_NETWORK_TIMEOUT="1")
    with pytest.raises(NetworkFailed) as caught:
        converge(EnsureGitRepo(url=f"{server.url}/models", path=str(path)), machine)
    assert caught.value.kind == "silent"


def test_a_server_that_recovers_is_asked_again(
    server: GitServer, path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status = 503
    monkeypatch.setattr("nbprovision.machine.network.time.sleep", lambda _seconds: setattr(server, "status", 0))
    converge(EnsureGitRepo(url=f"{server.url}/models", path=str(path)), machine)


def test_without_a_server_an_update_waits_for_the_next_run(server: GitServer, path: Path, machine: Machine) -> None:
    machine.env["NBPROVISION_NETWORK_PATIENCE"] = "0"
    task = EnsureGitRepo(url=f"{server.url}/models", path=str(path), update="ff")
    converge(task, machine)
    server.status = 503
    with machine.noting() as notes:
        assert planned(task, machine) == ()
    assert "was not updated" in notes[0]


def test_without_an_update_no_server_is_asked(server: GitServer, path: Path, machine: Machine) -> None:
    task = EnsureGitRepo(url=f"{server.url}/models", path=str(path), ref="main")
    converge(task, machine)
    server.asked.clear()
    assert planned(task, machine) == ()
    assert server.asked == []


def test_a_missing_git(origin: Origin, path: Path, machine: Machine, tmp_path: Path) -> None:
    machine.env["PATH"] = str(tmp_path)
    with pytest.raises(TaskFailed) as caught:
        converge(EnsureGitRepo(url=origin.url, path=str(path)), machine)
    assert "install git" in caught.value.cure


def test_ssh_asks_nothing_and_keeps_the_users_command(path: Path, machine: Machine, home: Path) -> None:
    program = home / "ssh"
    program.write_text(f'#!/bin/sh\necho "$@" >>{home}/asked\necho "Host key verification failed." >&2\nexit 255\n')
    program.chmod(0o755)
    (home / ".gitconfig").write_text(f"[core]\n\tsshCommand = {program} -F none\n")
    with pytest.raises(TaskFailed) as caught:
        converge(EnsureGitRepo(url="git@host.example:a/b.git", path=str(path)), machine)
    assert "-F none -o BatchMode=yes -o ConnectTimeout=15" in (home / "asked").read_text()
    assert "known_hosts" in caught.value.cure
    assert "does not know the key of host.example" in caught.value.cause


def test_update_ages_and_none_does_not(machine: Machine) -> None:
    def task(**parameters: Any) -> EnsureGitRepo:
        return EnsureGitRepo(url="https://host.example/a", path="/x", **parameters)

    assert task().holds_for(machine) is None
    assert task(update="ff").holds_for(machine) == 86400
    assert task(update="ff", refresh_every="1h").holds_for(machine) == 3600


# ----------------------------------------------------------------------------------------------------------- as root


@root_only
@pytest.mark.parametrize("where", ["clone", "file in it", "configuration", "origin"])
def test_root_runs_no_git_in_what_is_a_users(where: str, tmp_path: Path) -> None:
    with reachable_folder() as base:
        home = base / "home"
        home.mkdir()
        machine = Machine({"HOME": str(home), "PATH": "/usr/bin:/bin"}, home=base / "tool", root=base / "root")
        origin = Origin(base / "origin.git")
        path = base / "clone"
        clone(origin, path, machine)
        proof = base / "proof"
        planted = f"[core]\n\tfsmonitor = touch {proof}\n[alias]\n\tx = !touch {proof}\n"
        if where == "configuration":
            (home / ".gitconfig").write_text(planted)
            os.chown(home / ".gitconfig", USER, USER)
        elif where == "origin":
            os.chown(origin.folder / ".git/config", USER, USER)
        else:
            with (path / ".git/config").open("a") as stream:
                stream.write(planted)
            os.chown(path / (".git/config" if where == "file in it" else ""), USER, USER)
        with pytest.raises(NotTrusted):
            planned(EnsureGitRepo(url=origin.url, path=str(path), update="ff"), machine)
        assert not proof.exists()


def test_the_record_of_what_was_left_is_in_the_clone(origin: Origin, path: Path, machine: Machine) -> None:
    clone(origin, path, machine, ref="main")
    assert git(path, "config", LEFT) == f"main {origin.run('rev-parse', 'HEAD')}"

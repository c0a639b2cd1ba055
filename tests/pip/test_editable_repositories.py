"""``-e git+URL``: pip clones it into the environment, and the second run finds it in place."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nbprovision.machine import distributions
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from tests.support.driver import converge, planned
from tests.support.pip_environment import Task, asked_of, prefix, task, wheels
from tests.support.wheels import make_project

__all__ = ["prefix", "task", "wheels"]
pytestmark = [pytest.mark.engine, pytest.mark.sampled(2)]

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, env: dict[str, str]) -> Git:
    """Runs git in the repository of `mine`, which has the tag v1 and another commit behind it."""
    folder = make_project(tmp_path / "project")
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    run = functools.partial(subprocess.run, check=True, capture_output=True, text=True, env={**env, **who})

    def git(*words: str, cwd: Path = folder) -> str:
        return run(["git", *words], cwd=cwd).stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("add", ".")
    git("commit", "--quiet", "--message=one")
    git("tag", "-a", "v1", "-m", "first")
    (folder / "mine.py").write_text("x = 2\n")
    git("commit", "--quiet", "--all", "--message=two")
    return git


def url(tmp_path: Path, revision: str = "") -> str:
    return f"git+{(tmp_path / 'project').as_uri()}{revision}#egg=mine"


def value(prefix: Path) -> str:
    return asked_of(prefix, "import mine; print(mine.x)")


@pytest.mark.parametrize("engine", ["auto", "pip"])
@pytest.mark.parametrize("form", ["-e {url}", "-e mine @ {bare}", "--editable={url}"])
def test_it_is_in_place_at_the_second_run(
    task: Task, prefix: Path, git: Git, machine: Machine, tmp_path: Path, engine: str, form: str
) -> None:
    place = url(tmp_path, "@v1")
    wanted = task(form.format(url=place, bare=place.partition("#")[0]), engine=engine)
    assert [change.target for change in planned(wanted, machine)] == ["mine"]
    assert not (prefix / "src").exists()  # a look leaves nothing
    converge(wanted, machine)
    assert value(prefix) == "1"
    assert (prefix / "src/mine/.git").is_dir()
    assert not Path("/src").exists()
    machine.forget()
    assert planned(wanted, machine) == ()
    assert prefix / "src" in set(wanted.witnesses(machine))
    converge(task("mine", state="absent", engine=engine), machine)
    assert "mine" not in distributions.installed(prefix)


@pytest.mark.parametrize("revision", ["", "@main", "@v1", "COMMIT"])
def test_any_revision(task: Task, prefix: Path, git: Git, machine: Machine, tmp_path: Path, revision: str) -> None:
    revision = f"@{git('rev-parse', 'HEAD')}" if revision == "COMMIT" else revision
    converge(task(f"-e {url(tmp_path, revision)}"), machine)
    machine.forget()
    assert planned(task(f"-e {url(tmp_path, revision)}"), machine) == ()
    assert planned(task(f"-e {url(tmp_path, revision)}", state="latest"), machine) == ()


def test_another_revision_is_another_source(
    task: Task, prefix: Path, git: Git, machine: Machine, tmp_path: Path
) -> None:
    converge(task(f"-e {url(tmp_path, '@v1')}"), machine)
    converge(task(f"-e {url(tmp_path, '@main')}"), machine)
    assert value(prefix) == "2"


def test_another_repository_moves_the_clone_aside(
    task: Task, prefix: Path, git: Git, machine: Machine, tmp_path: Path
) -> None:
    converge(task(f"-e {url(tmp_path)}"), machine)
    (prefix / "src/mine/notes.txt").write_text("mine\n")
    (tmp_path / "project").rename(tmp_path / "moved")
    converge(task(f"-e {url(tmp_path).replace('project', 'moved')}"), machine)
    assert [path.read_text() for path in (prefix / "src").glob("*/notes.txt")] == ["mine\n"]


def test_what_the_user_commits_in_the_clone_stays(
    task: Task, prefix: Path, git: Git, machine: Machine, tmp_path: Path
) -> None:
    wanted = task(f"-e {url(tmp_path, '@v1')}")
    converge(wanted, machine)
    (prefix / "src/mine/mine.py").write_text("x = 9\n")
    git("commit", "--quiet", "--all", "--message=mine", cwd=prefix / "src/mine")
    machine.forget()
    assert planned(wanted, machine) == ()
    assert value(prefix) == "9"


def test_a_clone_that_is_gone_is_made_again(
    task: Task, prefix: Path, git: Git, machine: Machine, tmp_path: Path
) -> None:
    wanted = task(f"-e {url(tmp_path)}")
    converge(wanted, machine)
    (prefix / "src").rename(tmp_path / "away")
    machine.forget()
    converge(wanted, machine)
    assert value(prefix) == "2"


def test_in_a_requirements_file(prefix: Path, git: Git, machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text(f"-e {url(tmp_path)}\napple==1.0\n")
    converge(EnsurePipPkg(requirements=str(tmp_path / "r.txt"), env=str(prefix)), machine)
    assert {"mine", "apple"} <= set(distributions.installed(prefix))


def test_uv_cannot_and_says_so(task: Task, git: Git, machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match="uv does not support"):
        planned(task(f"-e {url(tmp_path)}", engine="uv"), machine)


def test_one_without_a_name_is_refused(task: Task, machine: Machine) -> None:
    with pytest.raises(ParameterError, match="has no name"):
        planned(task("-e git+https://git.example/team/lab@v1"), machine)

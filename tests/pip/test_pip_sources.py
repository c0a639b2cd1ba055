"""Where packages come from: a folder by ``-e``, a repository, a second index; in one environment and in all."""

from __future__ import annotations

import functools
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.machine import distributions
from tests.support.provided import Instance, imported, versions
from tests.support.wheels import make_project, make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.sampled(2)]

EVERY_WAY = pytest.mark.parametrize("where", ["env: python3", "envs: all"])
ENGINES = pytest.mark.parametrize("engine", ["uv", "pip"])


@pytest.fixture
def instance(env: dict[str, str], tmp_path: Path) -> Instance:
    made = Instance(tmp_path, env)
    for name in ("python3", "pytorch", "JupyterSystemEnv"):
        made.provide(name, ("grape", "1.0"))
    return made


def meant(instance: Instance, where: str) -> list[Path]:
    envs = instance.anaconda / "envs"
    return [envs / "python3"] if where.startswith("env:") else [instance.anaconda, envs / "python3", envs / "pytorch"]


def holds(instance: Instance, where: str, name: str) -> None:
    """The distribution is where it should be, and nowhere else."""
    every = [instance.anaconda, *(instance.anaconda / "envs").iterdir()]
    assert [prefix for prefix in every if name in versions(prefix)] == [
        prefix for prefix in every if prefix in meant(instance, where)
    ]


@EVERY_WAY
@ENGINES
def test_an_editable_folder(instance: Instance, tmp_path: Path, engine: str, where: str) -> None:
    project = make_project(tmp_path / "project")
    tasks = f'- ensure_pip_pkg: {{packages: ["-e {project}"], {where}, engine: {engine}}}'
    assert instance.good(tasks) == ["changed"]
    holds(instance, where, "mine")
    (project / "mine.py").write_text("x = 1 + 1\n")
    for prefix in meant(instance, where):
        assert imported(prefix, "import mine; print(mine.x)") == "2"
        direct = distributions.installed(prefix)["mine"][0].direct_url
        assert direct is not None
        assert direct.editable
    assert instance.good(tasks) == ["ok"]
    assert [result.status for result in instance.run(tasks, witness=False)] == ["ok"]
    assert instance.good(f"- ensure_pip_pkg: {{packages: mine, {where}, state: absent, engine: {engine}}}") == [
        "changed"
    ]
    assert "mine" not in versions(meant(instance, where)[0])


@EVERY_WAY
@ENGINES
def test_a_repository(instance: Instance, tmp_path: Path, engine: str, where: str) -> None:
    project = make_project(tmp_path / "project")
    git = functools.partial(subprocess.run, cwd=project, check=True, capture_output=True, env={
        **instance.env, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    })  # fmt: skip
    git(["git", "init", "--quiet", "--initial-branch=main"])
    git(["git", "add", "."])
    git(["git", "commit", "--quiet", "--message=one"])
    git(["git", "tag", "v1"])
    (project / "mine.py").write_text("x = 3\n")
    git(["git", "commit", "--quiet", "--all", "--message=two"])
    tasks = f'- ensure_pip_pkg: {{packages: ["mine @ git+{project.as_uri()}@v1"], {where}, engine: {engine}}}'
    assert instance.good(tasks) == ["changed"]
    holds(instance, where, "mine")
    for prefix in meant(instance, where):
        assert imported(prefix, "import mine; print(mine.x)") == "1"
    assert instance.good(tasks) == ["ok"]
    assert [result.status for result in instance.run(tasks, witness=False)] == ["ok"]
    assert instance.good(tasks.replace("@v1", "@main")) == ["changed"]
    for prefix in meant(instance, where):
        assert imported(prefix, "import mine; print(mine.x)") == "3"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def indexes(instance: Instance, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two indexes (PEP 503): the first has plum, the second apple."""
    del instance.env["PIP_NO_INDEX"], instance.env["PIP_FIND_LINKS"]
    servers = []
    for name in ("plum", "apple"):
        folder = tmp_path / f"index-{name}"
        wheel = make_wheel(folder / name, name, "1.0")
        (folder / name / "index.html").write_text(f'<!DOCTYPE html><a href="{wheel.name}">{wheel.name}</a>\n')
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
    first, second = (f"http://127.0.0.1:{server.server_port}/" for server in servers)
    yield first, second
    for server in servers:
        server.shutdown()
        server.server_close()


@EVERY_WAY
@ENGINES
def test_another_repository_by_a_task(instance: Instance, indexes: tuple[str, str], engine: str, where: str) -> None:
    first, second = indexes
    tasks = f"""
    - ensure_pip_index: {{url: "{first}", extra_urls: ["{second}"]}}
    - ensure_pip_pkg: {{packages: [plum, apple], {where}, engine: {engine}}}
    """
    assert instance.good(tasks) == ["changed", "changed"]
    holds(instance, where, "apple")
    holds(instance, where, "plum")
    assert instance.good(tasks) == ["ok", "ok"]


@EVERY_WAY
@ENGINES
def test_another_repository_by_a_requirements_file(
    instance: Instance, indexes: tuple[str, str], tmp_path: Path, engine: str, where: str
) -> None:
    first, second = indexes
    (tmp_path / "r.txt").write_text(f"--index-url {first}\n--extra-index-url {second}\nplum\napple==1.0\n")
    tasks = f"- ensure_pip_pkg: {{requirements: r.txt, {where}, engine: {engine}}}"
    assert instance.good(tasks) == ["changed"]
    holds(instance, where, "apple")
    holds(instance, where, "plum")
    assert instance.good(tasks) == ["ok"]

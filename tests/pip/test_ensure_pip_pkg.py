"""ensure_pip_pkg with the real uv and the real pip, in virtual and conda environments."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.engine.order import arrange
from nbprovision.engine.step import Step
from nbprovision.indexes.ensure_pip_index import EnsurePipIndex
from nbprovision.machine import distributions
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, TaskFailed
from nbprovision.model.task import Claim
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from nbprovision.system import commands
from tests.support.auditing import started_processes
from tests.support.driver import converge, planned
from tests.support.pip_environment import ENGINES, Task, asked_of, carried_out, told, venv
from tests.support.provided import versions
from tests.support.wheels import make_project, make_wheel

pytestmark = pytest.mark.engine


@pytest.fixture
def started() -> Iterator[list[str]]:
    """Every process that is started from here on, whoever starts it."""
    with started_processes() as started:
        yield started


@ENGINES
def test_installs_with_what_it_depends_on_then_finds_all_in_place(
    task: Task, prefix: Path, machine: Machine, started: list[str], engine: str
) -> None:
    wanted = task("pear", engine=engine)
    assert told(converge(wanted, machine)) == [("install", "apple", None, "1.1"), ("install", "pear", None, "1.0")]
    assert asked_of(prefix, "import pear, apple; print(pear.version, apple.version)") == "1.0 1.1"
    assert distributions.installed(prefix)["pear"][0].installer == engine
    started.clear()
    assert converge(wanted, machine) == ()
    assert started == []


@ENGINES
def test_upgrades_downgrades_and_leaves_what_satisfies(task: Task, prefix: Path, machine: Machine, engine: str) -> None:
    converge(task("apple==1.0", engine=engine), machine)
    assert planned(task("apple", engine=engine), machine) == ()
    assert planned(task("apple<2", engine=engine), machine) == ()
    assert told(converge(task("apple>=1.1", engine=engine), machine)) == [("upgrade", "apple", "1.0", "2.0")]
    assert told(converge(task("apple<2", engine=engine), machine)) == [("downgrade", "apple", "2.0", "1.1")]
    assert versions(prefix) == {"apple": "1.1"}


@ENGINES
def test_extras_bring_their_requirements(task: Task, prefix: Path, machine: Machine, engine: str) -> None:
    converge(task("pear", engine=engine), machine)
    assert told(converge(task("pear[jam]", engine=engine), machine)) == [("install", "plum", None, "1.0")]
    assert planned(task("pear[Jam]", engine=engine), machine) == ()


@ENGINES
def test_absent_uninstalls_and_is_content_with_nothing(
    task: Task, prefix: Path, machine: Machine, started: list[str], engine: str
) -> None:
    converge(task("pear", "plum", engine=engine), machine)
    gone = task("Pear", "plum>=2", "cherry", state="absent", engine=engine)
    assert told(converge(gone, machine)) == [("remove", "pear", "1.0", None)]
    assert versions(prefix) == {"apple": "1.1", "plum": "1.0"}
    assert not list(prefix.glob("lib/python3.*/site-packages/pear*"))
    started.clear()
    assert converge(gone, machine) == ()
    assert started == []


def test_a_marker_that_does_not_hold_wants_nothing(task: Task, prefix: Path, machine: Machine) -> None:
    assert planned(task("apple; python_version < '3'"), machine) == ()
    assert planned(task("apple; python_version >= '3'"), machine) != ()


def test_prereleases_count_where_they_are_there_and_come_where_they_are_asked_for(
    task: Task, prefix: Path, machine: Machine
) -> None:
    assert told(converge(task("apple>=3.0rc1"), machine)) == [("install", "apple", None, "3.0rc1")]
    assert planned(task("apple>=2"), machine) == ()


@ENGINES
def test_requirements_files_with_everything_in_them(
    prefix: Path, wheels: Path, machine: Machine, tmp_path: Path, engine: str
) -> None:
    digest = hashlib.sha256((wheels / "apple-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    (tmp_path / "in").mkdir()
    (tmp_path / "all.txt").write_text(
        f"# a comment\n--find-links wheels\n\napple \\\n    ==1.0 \\\n    --hash=sha256:{digest}  # pinned\n"
        "plum ; python_version < '3'\n"
    )
    task = EnsurePipPkg(requirements=str(tmp_path / "all.txt"), env=str(prefix), engine=engine)
    assert told(converge(task, machine)) == [("install", "apple", None, "1.0")]
    assert tmp_path / "all.txt" in set(task.witnesses(machine))

    (tmp_path / "more.txt").write_text("-r in/some.txt\n-c in/bounds.txt\npear\n")
    (tmp_path / "in/some.txt").write_text("-r ../more2.txt\nplum\n")
    (tmp_path / "more2.txt").write_text("apple\n")
    (tmp_path / "in/bounds.txt").write_text("apple==1.1\n")
    more = EnsurePipPkg(requirements=[str(tmp_path / "more.txt")], env=str(prefix), engine=engine)
    assert ("upgrade", "apple", "1.0", "1.1") in told(converge(more, machine))
    assert versions(prefix) == {"apple": "1.1", "pear": "1.0", "plum": "1.0"}
    assert {tmp_path / "more.txt", tmp_path / "in/some.txt", tmp_path / "in/bounds.txt"} <= set(more.witnesses(machine))


@ENGINES
def test_a_wheel_by_its_path_is_taken_from_there_and_taken_again_when_it_changes(
    task: Task, prefix: Path, wheels: Path, machine: Machine, engine: str
) -> None:
    wheel = wheels / "apple-1.0-py3-none-any.whl"
    by_path = task(str(wheel), engine=engine)
    converge(task("apple==1.0", engine=engine), machine)
    assert [action for action, *_ in told(planned(by_path, machine))] == ["reinstall"]
    converge(by_path, machine)
    direct = distributions.installed(prefix)["apple"][0].direct_url
    assert direct is not None
    assert direct.url == wheel.as_uri()
    assert wheel in set(by_path.witnesses(machine))
    time.sleep(0.02)
    make_wheel(wheels, "apple", "1.0", files={"apple_new.py": "x = 1\n"})
    assert [action for action, *_ in told(converge(by_path, machine))] == ["reinstall"]
    assert asked_of(prefix, "import apple_new; print(apple_new.x)") == "1"


def test_a_url_with_a_password_is_the_same_place_without_it(
    task: Task, prefix: Path, wheels: Path, machine: Machine
) -> None:
    import functools
    import http.server

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(wheels))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://ann:canary-pass@127.0.0.1:{server.server_port}/plum-1.0-py3-none-any.whl"
        wanted = task(f"plum @ {url}")
        result = carried_out(wanted, machine)
        assert result.status == "changed", result.error
        assert carried_out(wanted, machine).status == "ok"
        assert carried_out(task("plum @ " + url.replace("canary-pass", "other")), machine).status == "ok"
        server.shutdown()
    assert "canary-pass" not in repr(result)
    assert "canary-pass" not in repr(list(wanted.claims(machine)))


def test_secrets_of_lines_and_indexes_are_no_arguments(
    task: Task, prefix: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments: list[str] = []
    run = commands.run

    def listen(argv: Any, **more: Any) -> commands.Completed:
        arguments.extend(map(str, argv))
        return run(argv, **more)

    monkeypatch.setattr(commands, "run", listen)
    (tmp_path / "r.txt").write_text(
        "--extra-index-url http://ann:canary-pass@127.0.0.1:9/simple\nplum @ http://ann:canary-pass@127.0.0.1:9/plum-1.0-py3-none-any.whl\n"
    )
    machine.env["UV_HTTP_RETRIES"] = "0"
    for engine in ("uv", "pip"):
        with pytest.raises(TaskFailed) as caught:
            converge(EnsurePipPkg(requirements=str(tmp_path / "r.txt"), env=str(prefix), engine=engine), machine)
        assert "canary-pass" not in str(caught.value)
    assert arguments
    assert not [word for word in arguments if "canary-pass" in word]


@pytest.mark.parametrize("editable", [True, False])
def test_a_project_of_this_machine(prefix: Path, machine: Machine, tmp_path: Path, editable: bool) -> None:
    project = make_project(tmp_path / "project")
    (tmp_path / "r.txt").write_text("-e ./project\n" if editable else "./project\n")
    task = EnsurePipPkg(requirements=str(tmp_path / "r.txt"), env=str(prefix))
    # Its version is known only when it has been built, which a look does not do.
    assert told(converge(task, machine)) == [("install", "mine", None, project.as_uri())]
    assert asked_of(prefix, "import mine; print(mine.x)") == "1"
    (project / "mine.py").write_text("x = 1 + 1\n")
    assert asked_of(prefix, "import mine; print(mine.x)") == ("2" if editable else "1")
    other = EnsurePipPkg(packages=f"-e {project}" if not editable else str(project), env=str(prefix))
    assert told(converge(other, machine)) == [("change", "mine", "0.1", project.as_uri())]


def test_new_conflicts_are_reported_once_and_old_ones_not(task: Task, prefix: Path, machine: Machine) -> None:
    assert carried_out(task("pear"), machine).warnings == ()
    result = carried_out(task("apple==2.0"), machine)
    assert result.status == "changed"
    assert result.warnings == ("pear 1.0 requires apple<2, but apple 2.0 is installed",)
    assert carried_out(task("plum"), machine).warnings == ()
    # Two tasks that want what does not go together do not undo each other for ever.
    assert carried_out(task("pear"), machine).status == "ok"
    assert carried_out(task("plum", "apple==2.0"), machine).status == "ok"


def test_check_tells_what_would_come_and_changes_nothing(task: Task, prefix: Path, machine: Machine) -> None:
    before = {path: path.lstat().st_mtime_ns for path in prefix.rglob("*")}
    result = carried_out(task("pear"), machine, check=True)
    assert told(result.changes) == [("install", "apple", None, "1.1"), ("install", "pear", None, "1.0")]
    assert {path: path.lstat().st_mtime_ns for path in prefix.rglob("*")} == before


def test_check_before_the_environment_is_made(tmp_path: Path, machine: Machine, wheels: Path) -> None:
    machine.declared["later"] = tmp_path / "later"
    assert told(planned(EnsurePipPkg(packages=["apple<2"], env="later"), machine)) == [("install", "apple", None, "<2")]


class TestTargets:
    def test_an_interpreter_names_its_environment(self, prefix: Path, machine: Machine) -> None:
        task = EnsurePipPkg(packages="apple==1.0", python=str(prefix / "bin/python"))
        converge(task, machine)
        assert versions(prefix) == {"apple": "1.0"}
        assert set(task.guarded(machine)) == {prefix}

    def test_several_environments(self, prefix: Path, machine: Machine, tmp_path: Path) -> None:
        other = venv(tmp_path / "other")
        task = EnsurePipPkg(packages="apple==1.0", envs=[str(prefix), str(other)])
        assert {target for _, target, *_ in told(converge(task, machine))} == {
            f"apple in {prefix}",
            f"apple in {other}",
        }
        assert versions(prefix) == versions(other) == {"apple": "1.0"}

    def test_variables_of_another_environment_do_not_lead_astray(
        self, task: Task, prefix: Path, machine: Machine, tmp_path: Path
    ) -> None:
        other = venv(tmp_path / "other")
        machine.env.update(
            VIRTUAL_ENV=str(other), PYTHONPATH=str(other), PIP_TARGET=str(other / "t"), PIP_USER="1",
            UV_SYSTEM_PYTHON="1", CONDA_PREFIX=str(other), UV_PROJECT_ENVIRONMENT=str(other), PYTHONHOME="/nope",
        )  # fmt: skip
        for engine, version in (("uv", "1.0"), ("pip", "1.1")):
            converge(task(f"apple=={version}", engine=engine), machine)
            assert versions(prefix) == {"apple": version}
        assert versions(other) == {}

    def test_what_cannot_be_installed_into_is_told_with_a_cure(self, machine: Machine, tmp_path: Path) -> None:
        with pytest.raises(TaskFailed) as caught:
            planned(EnsurePipPkg(packages="apple", env=str(tmp_path / "nope")), machine)
        assert str(tmp_path / "nope") in caught.value.message
        assert "ensure_conda_env" in caught.value.cure
        broken = tmp_path / "broken"
        (broken / "bin").mkdir(parents=True)
        (broken / "lib/python3.11/site-packages").mkdir(parents=True)
        (broken / "bin/python").symlink_to("/nope/python3.11")
        with pytest.raises(TaskFailed, match="is missing"):
            planned(EnsurePipPkg(packages="apple", env=str(broken)), machine)

    def test_a_system_s_python_is_left_alone(self, machine: Machine, tmp_path: Path) -> None:
        usr = tmp_path / "usr"
        (usr / "bin").mkdir(parents=True)
        (usr / "lib/python3.11").mkdir(parents=True)
        (usr / "lib/python3.11/EXTERNALLY-MANAGED").write_text("[externally-managed]\n")
        shutil.copy("/bin/sh", usr / "bin/python3.11")
        (usr / "bin/python3").symlink_to("python3.11")
        with pytest.raises(TaskFailed, match="managed by the system") as caught:
            planned(EnsurePipPkg(packages="apple", python=str(usr / "bin/python3")), machine)
        assert "-m venv" in caught.value.cure


def test_claims_and_objections(prefix: Path, machine: Machine, tmp_path: Path) -> None:
    mine = EnsurePipPkg(packages=["Apple==1.0", "plum; python_version < '3'"], env=str(prefix))
    assert list(mine.claims(machine)) == [Claim(prefix, "apple==1.0")]
    other = EnsurePipPkg(packages="apple>=2", python=str(prefix / "bin/python"))
    absent = EnsurePipPkg(packages="apple", env=str(prefix), state="absent")
    fine = EnsurePipPkg(packages="apple<2", env=str(prefix))
    elsewhere = EnsurePipPkg(packages="apple==2", env=str(tmp_path / "other"))

    def steps(*tasks: EnsurePipPkg) -> list[Step]:
        return [Step(name=f"t{number}", kind="ensure_pip_pkg", task=task) for number, task in enumerate(tasks)]

    arrange(steps(mine, fine, elsewhere), machine, linear=True)
    for wrong in (other, absent):
        with pytest.raises(InvalidPlaybook, match=r"apple"):
            arrange(steps(mine, wrong), machine, linear=True)


def test_follows_the_index_that_a_task_sets(
    prefix: Path, wheels: Path, machine: Machine, started: list[str], tmp_path: Path
) -> None:
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        del machine.env[name]
    index = EnsurePipIndex(url=tmp_path.joinpath("index").as_uri(), find_links=str(wheels))
    (tmp_path / "index").mkdir()
    task = EnsurePipPkg(packages="plum", env=str(prefix))
    assert index.provides(machine) <= task.requires(machine)
    converge(index, machine)
    converge(task, machine)
    assert versions(prefix) == {"plum": "1.0"}


@pytest.mark.network
@ENGINES
def test_a_real_index(prefix: Path, env: dict[str, str], home: Path, tmp_path: Path, engine: str) -> None:
    from tests.conftest import registry_settings

    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        env.pop(name)
    machine = Machine({**env, **registry_settings()}, root=tmp_path / "root")
    machine.home.mkdir(parents=True, exist_ok=True)
    changes = converge(EnsurePipPkg(packages="six==1.16.0", env=str(prefix), engine=engine), machine)
    assert told(changes) == [("install", "six", None, "1.16.0")]
    assert asked_of(prefix, "import six; print(six.__version__)") == "1.16.0"

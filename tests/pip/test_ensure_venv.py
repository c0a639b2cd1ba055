"""Virtual environments by the real uv, from the Pythons of this machine: made, mended, made anew, removed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.engine.guard import Guard
from nbprovision.engine.order import arrange
from nbprovision.engine.step import Step, carry_out
from nbprovision.jupyter.ensure_kernel import EnsureKernel
from nbprovision.machine import distributions, selectors
from nbprovision.machine.expansion import expanded
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed, UnknownEnvironment
from nbprovision.model.result import Result
from nbprovision.model.task import Task
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from nbprovision.pip.ensure_venv import EnsureVenv
from nbprovision.system import unfinished
from tests.support.auditing import started_processes
from tests.support.driver import converge, planned
from tests.support.wheels import make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.sampled(2)]

OWN = ".".join(map(str, sys.version_info[:2]))


def run(machine: Machine, *tasks: Task[object], check: bool = False) -> list[Result]:
    """The tasks as the engine carries them out, one after the other."""
    steps = [Step(name=task.kind(), kind=task.kind(), task=task) for task in tasks]
    machine.declared.clear()
    arrange(steps, machine, linear=True)
    machine.applies = not check
    guard = Guard(map(expanded, tasks), machine)
    return [carry_out(step, machine, guard, check=check).result for step in steps]


def actions(result: Result) -> list[str]:
    assert result.error is None, result.error.text
    return [f"{change.action} {change.target}" for change in result.changes]


def version_of(prefix: Path) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2], sys.prefix)"
    done = subprocess.run([prefix / "bin/python", "-c", code], check=True, capture_output=True, text=True)
    version, found = done.stdout.split(" ", 1)
    assert os.path.realpath(found.strip()) == os.path.realpath(prefix)
    return version


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A Python of another minor version, installed beside this one or by the system."""
    for python in (*Path(sys.base_prefix).parent.glob("*/bin/python3"), *Path("/usr/bin").glob("python3.1?")):
        done = subprocess.run([python, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True)
        minor = done.stdout.strip().strip("()").replace(", ", ".")
        if done.returncode == 0 and minor != OWN and int(minor.partition(".")[2] or 0) >= 9:
            return python
    pytest.skip("there is no second version of Python on this machine")


@pytest.fixture
def wheel(tmp_path: Path) -> str:
    return str(make_wheel(tmp_path / "wheels", "apple", "1.0"))


def test_one_by_name_is_made_checked_and_removed(machine: Machine, wheel: str) -> None:
    task = EnsureVenv(name="plots", python=OWN, packages=[wheel])
    prefix = machine.home / "envs/plots"
    (said,) = run(machine, task, check=True)
    assert actions(said) == ["create plots", "install apple"]
    assert not prefix.exists()
    (done,) = run(machine, task)
    assert actions(done) == ["create plots", "install apple"]
    assert version_of(prefix) == OWN
    assert not unfinished.is_marked(prefix)
    (again,) = run(machine, task)
    assert again.status == "ok"
    gone = EnsureVenv(name="plots", state="absent")
    assert actions(run(machine, gone, check=True)[0]) == ["remove plots"]
    assert actions(run(machine, gone)[0]) == ["remove plots"]
    assert not os.path.lexists(prefix)
    assert run(machine, gone)[0].status == "ok"


def test_nothing_is_started_where_all_is_in_place(machine: Machine, wheel: str) -> None:
    task = EnsureVenv(name="plots", packages=[wheel])
    converge(task, machine)
    later = Machine(machine.env, home=machine.home, root=machine.root)
    with started_processes() as started:
        assert planned(task, later) == ()
    assert started == []


def test_other_tasks_take_it_by_name(machine: Machine, wheel: str) -> None:
    """Before it is there by its task, afterwards by its place; `all` includes it, but never for conda's packages."""
    venv = EnsureVenv(name="plots")
    later = EnsurePipPkg(env="plots", packages=[wheel])
    every = EnsurePipPkg(envs="all", packages=[wheel])
    checked = run(machine, venv, later, every, check=True)
    assert [actions(one) for one in checked[:2]] == [["create plots"], ["install apple"]]
    assert [one.status for one in run(machine, venv, later, every)] == ["changed", "changed", "ok"]
    fresh = Machine(machine.env, home=machine.home, root=machine.root)
    assert fresh.prefix_of("plots") == machine.home / "envs/plots"
    assert [name for name, _ in selectors.select(fresh, ["all"], with_python=True)] == ["plots"]
    assert selectors.select(fresh, ["all"], by_conda=True, allow_empty=True) == []
    assert run(fresh, every)[0].status == "ok"
    with pytest.raises(UnknownEnvironment, match="plots"):
        fresh.prefix_of("plot")


def test_its_kernel_runs_in_it(machine: Machine, tmp_path: Path) -> None:
    prefix = tmp_path / "project/.venv"
    make_wheel(tmp_path / "wheels", "ipykernel", "7.0")
    venv = EnsureVenv(path=str(prefix), packages=[str(tmp_path / "wheels/ipykernel-7.0-py3-none-any.whl")])
    kernel = EnsureKernel(prefix=str(prefix), name="project")
    assert [one.status for one in run(machine, venv, kernel)] == ["changed", "changed"]
    assert [one.status for one in run(machine, venv, kernel)] == ["ok", "ok"]


def test_a_python_that_is_gone_is_replaced_and_packages_stay(machine: Machine, wheel: str) -> None:
    task = EnsureVenv(name="plots")
    converge(task, machine)
    prefix = machine.home / "envs/plots"
    converge(EnsurePipPkg(env="plots", packages=[wheel]), machine)
    python = prefix / "bin/python"
    python.unlink()
    python.symlink_to(f"/gone/bin/python{OWN}")
    (said,) = run(machine, task, check=True)
    assert actions(said) == ["mend plots"]
    assert actions(run(machine, task)[0]) == ["mend plots"]
    assert version_of(prefix) == OWN
    assert "apple" in distributions.installed(prefix)
    assert run(machine, task)[0].status == "ok"


@pytest.mark.parametrize("harm", ["pyvenv", "activate", "site-packages", "link"])
def test_harm_is_mended(machine: Machine, wheel: str, harm: str) -> None:
    task = EnsureVenv(name="plots", packages=[wheel])
    converge(task, machine)
    prefix = machine.home / "envs/plots"
    if harm == "pyvenv":
        text = (prefix / "pyvenv.cfg").read_text()
        (prefix / "pyvenv.cfg").write_text(text.replace("version_info = 3", "version_info = 2"))
    elif harm == "activate":
        (prefix / "bin/activate").unlink()
    elif harm == "site-packages":
        shutil.rmtree(prefix / f"lib/python{OWN}/site-packages")
    else:
        (prefix / "bin/python").unlink()
        (prefix / "bin/python").write_text("#!/bin/sh\nexit 1\n")
        (prefix / "bin/python").chmod(0o755)
    (done,) = run(machine, task)
    assert done.error is None, done.error
    assert version_of(prefix) == OWN
    assert "apple" in distributions.installed(prefix)
    assert run(machine, task)[0].status == "ok"


def test_another_version_is_made_anew(machine: Machine, wheel: str, other: Path) -> None:
    prefix = machine.home / "envs/plots"
    run(machine, EnsureVenv(name="plots", python=str(other), packages=[wheel]))
    before = version_of(prefix)
    assert before != OWN
    (prefix / "share").mkdir()
    task = EnsureVenv(name="plots", python=OWN, packages=[wheel])
    assert actions(run(machine, task, check=True)[0]) == ["recreate plots", "install apple"]
    assert version_of(prefix) == before
    assert actions(run(machine, task)[0]) == ["recreate plots", "install apple"]
    assert version_of(prefix) == OWN
    assert [path.name for path in (prefix / "lib").iterdir()] == [f"python{OWN}"]
    assert not (prefix / "share").exists()
    assert run(machine, task)[0].status == "ok"


def test_a_base_that_was_replaced_by_another_version_is_noticed(
    machine: Machine, wheel: str, other: Path, tmp_path: Path
) -> None:
    """An image brings another Python under the same path; the environment's own files say the old version."""
    python = tmp_path / "image/python3"
    python.parent.mkdir()
    python.symlink_to(os.path.realpath(other))
    task = EnsureVenv(name="plots", packages=[wheel])
    run(machine, EnsureVenv(name="plots", python=str(other), packages=[wheel]))
    prefix = machine.home / "envs/plots"
    (prefix / "bin/python").unlink()
    (prefix / "bin/python").symlink_to(os.path.realpath(sys.executable))
    (done,) = run(machine, task)
    assert actions(done) == ["recreate plots", "install apple"]
    assert [path.name for path in (prefix / "lib").iterdir()] == [f"python{version_of(prefix)}"]
    assert run(machine, task)[0].status == "ok"


def test_a_python_that_is_not_here(machine: Machine) -> None:
    task = EnsureVenv(name="plots", python="3.99")
    with pytest.raises(TaskFailed, match=r"there is no Python 3\.99 on this machine") as caught:
        task.read(machine)
    assert f"found: {OWN}" in caught.value.cause or ", " + OWN in caught.value.cause
    told = [os.path.realpath(path) for path in re.findall(r"\(([^)]*)\)", caught.value.cause)]
    assert len(told) == len(set(told)), "each once, whatever names it has"
    with pytest.raises(TaskFailed, match="is not a working Python"):
        EnsureVenv(name="plots", python="/gone/python3").read(machine)
    assert not (machine.home / "envs/plots").exists()


def test_what_is_something_else_stays(machine: Machine, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "precious").write_text("x")
    for state in ("present", "absent"):
        with pytest.raises(TaskFailed, match="is not a virtual environment"):
            EnsureVenv(path=str(data), state=state).read(machine)
    unfinished.mark(data, "ensure_pip_pkg")
    with pytest.raises(TaskFailed, match="is not a virtual environment"):
        EnsureVenv(path=str(data)).read(machine)
    conda = machine.home / "envs/fraud"
    (conda / "conda-meta").mkdir(parents=True)
    with pytest.raises(TaskFailed, match="a conda environment 'fraud' already exists"):
        EnsureVenv(name="fraud").read(machine)
    with pytest.raises(TaskFailed, match="is not a virtual environment"):
        EnsureVenv(name="fraud", state="absent").read(machine)
    assert (data / "precious").exists()


@pytest.mark.parametrize("conda_first", [True, False])
def test_one_name_for_two_kinds_is_refused_before_anything(machine: Machine, conda_first: bool) -> None:
    conda, venv = EnsureCondaEnv(name="x", packages=["six"], channels=["file:///c"]), EnsureVenv(name="x")
    tasks: list[Task[object]] = [conda, venv] if conda_first else [venv, conda]
    with pytest.raises(ParameterError, match="in the same playbook"):
        run(machine, *tasks)


def test_a_link_is_removed_and_what_it_names_stays(machine: Machine, tmp_path: Path) -> None:
    converge(EnsureVenv(path=str(tmp_path / "real")), machine)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    run(machine, EnsureVenv(path=str(tmp_path / "link"), state="absent"))
    assert not os.path.lexists(tmp_path / "link")
    assert (tmp_path / "real/pyvenv.cfg").is_file()


KILLED = """
import sys
from pathlib import Path
from nbprovision.machine.machine import Machine
from nbprovision.pip.ensure_venv import EnsureVenv
from tests.pip.test_ensure_venv import run
from nbprovision.system import journal
machine = Machine(home=Path(sys.argv[1]), root=Path(sys.argv[2]))
with journal.kept(machine.home):
    result = run(machine, EnsureVenv(name="plots", python=sys.argv[3], packages=[sys.argv[4]]))
"""


@pytest.mark.parametrize("after", [0.02, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4])
@pytest.mark.parametrize("again", [False, True])
def test_a_kill_leaves_nothing_half_made(machine: Machine, wheel: str, other: Path, after: float, again: bool) -> None:
    """At whatever moment the run is killed, the next one comes to the same end."""
    prefix = machine.home / "envs/plots"
    prefix.parent.mkdir(parents=True)
    if again:
        run(machine, EnsureVenv(name="plots", python=str(other), packages=[wheel]))
    words = [sys.executable, "-c", KILLED, str(machine.home), str(machine.root), OWN, wheel]
    folder = Path(__file__).parents[2]
    process = subprocess.Popen(words, env={**machine.env, "PYTHONPATH": str(folder)}, cwd=folder)
    deadline = time.monotonic() + 300
    while process.poll() is None and not unfinished.is_marked(prefix) and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    later = Machine(machine.env, home=machine.home, root=machine.root)
    (done,) = run(later, EnsureVenv(name="plots", python=OWN, packages=[wheel]))
    assert done.error is None, done.error
    assert version_of(prefix) == OWN
    assert [path.name for path in (prefix / "lib").iterdir()] == [f"python{OWN}"]
    assert "apple" in distributions.installed(prefix)
    assert not unfinished.is_marked(prefix)
    assert run(later, EnsureVenv(name="plots", python=OWN, packages=[wheel]))[0].status == "ok"

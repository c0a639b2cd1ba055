"""Kernels of real environments, as Jupyter finds them: written, mended, tried before they are offered, removed."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbprovision.jupyter.ensure_kernel import EnsureKernel
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.system import unfinished
from tests.support.auditing import started_processes
from tests.support.driver import converge, planned
from tests.support.kernel_environments import MakeEnvironment, folder_of

pytestmark = [pytest.mark.engine, pytest.mark.kernel]


def test_second_run_does_nothing(fraud: Path, machine: Machine) -> None:
    """Not a write, not a process, not a new inode."""
    task = EnsureKernel(prefix=str(fraud), name="fraud")
    assert converge(task, machine)
    folder = folder_of(task, machine)
    before = {path: os.stat(path) for path in (folder, *folder.iterdir())}
    with started_processes() as started:
        assert converge(task, machine) == ()
    assert started == []
    assert {path: os.stat(path) for path in (folder, *folder.iterdir())} == before
    assert all(path.exists() for path in task.witnesses(machine) if path.name != unfinished.MARK)


def test_every_harm_is_mended(fraud: Path, machine: Machine, tmp_path: Path) -> None:
    """A damaged folder is brought back file by file; links are replaced and what they name stays as it was."""
    task = EnsureKernel(prefix=str(fraud), name="fraud")
    converge(task, machine)
    folder = folder_of(task, machine)
    good = {path.name: path.read_bytes() for path in folder.iterdir()}
    precious = tmp_path / "precious"
    precious.write_text("{}")

    def link(name: str) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(precious)

    harms: list[Callable[[], Any]] = [
        lambda: (folder / "kernel.json").write_text("{broken"),
        lambda: (folder / "kernel.json").write_text(good["kernel.json"].decode().replace("-m", "-x", 1)),
        (folder / "kernel.json").unlink,
        lambda: (folder / "kernel.json").chmod(0o666),
        lambda: link("kernel.json"),
        lambda: (folder / "activate.sh").write_text("exit 1"),
        lambda: link("activate.sh"),
        (folder / "logo-svg.svg").unlink,
        lambda: folder.chmod(0o777),
        lambda: shutil.rmtree(folder),
    ]
    for harm in harms:
        harm()
        assert converge(task, machine)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == good
    assert precious.read_text() == "{}"

    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    (elsewhere / "kernel.json").write_text("theirs")
    assert converge(task, machine)
    assert not folder.is_symlink()
    assert (elsewhere / "kernel.json").read_text() == "theirs"


def test_kernels_of_several_environments(fraud: Path, machine: Machine, tmp_path: Path) -> None:
    """Each is a task of its own; a package that is missing is told with the environment that lacks it."""
    other = tmp_path / "other"
    other.symlink_to(fraud)
    bare = tmp_path / "bare"
    (bare / "bin").mkdir(parents=True)
    (bare / "bin/python").symlink_to(fraud / "bin/python")
    task = EnsureKernel(envs=[str(fraud), str(other)], name="team-{env}")
    assert [Path(change.target).parent.name for change in converge(task, machine)] == ["team-a-gr-e", "team-other"]
    lacking = planned(EnsureKernel(envs=[str(fraud), str(bare)], name="team-{env}"), machine)
    assert [change.target for change in lacking][:1] == [f"ipykernel in {bare}"]
    gone = EnsureKernel(envs=[str(fraud), str(other)], name="team-{env}", state="absent")
    assert [change.action for change in converge(gone, machine)] == ["remove", "remove"]


def test_absent(fraud: Path, machine: Machine, home: Path, tmp_path: Path) -> None:
    task = EnsureKernel(prefix=str(fraud), name="fraud")
    converge(task, machine)
    gone = EnsureKernel(name="fraud", state="absent")
    folder = folder_of(gone, machine)
    assert [change.action for change in converge(gone, machine)] == ["remove"]
    assert not os.path.lexists(folder)
    assert converge(gone, machine) == ()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/kernel.json").write_text("{}")
    folder.symlink_to(tmp_path / "kept")
    converge(gone, machine)
    assert (tmp_path / "kept/kernel.json").exists()


def test_scopes(fraud: Path, machine: Machine, make_environment: MakeEnvironment, tmp_path: Path) -> None:
    """system is where every user's Jupyter looks, env where the environment's own does."""
    shared = EnsureKernel(prefix=str(fraud), name="fraud", scope="system", environment={"A": "1"})
    converge(shared, machine)
    assert stat.S_IMODE((machine.root / "usr/local/share/jupyter/kernels/fraud/kernel.json").stat().st_mode) == 0o644
    prefix = make_environment(tmp_path / "own", "python", "ipykernel")
    own = EnsureKernel(prefix=str(prefix), scope="env")
    converge(own, machine)
    listed = subprocess.run(
        [prefix / "bin/python", "-m", "jupyter_client.kernelspecapp", "list", "--json"],
        env=machine.env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(listed.stdout)["kernelspecs"]["own"]["resource_dir"] == str(folder_of(own, machine))


@pytest.mark.skipif(os.geteuid() == 0, reason="root has the right to everything")
def test_no_right_to_the_system(fraud: Path, machine: Machine) -> None:
    machine.root.chmod(0o555)
    with pytest.raises(TaskFailed, match="not this user's to change"):
        converge(EnsureKernel(prefix=str(fraud), name="fraud", scope="system"), machine)


def test_validation(fraud: Path, machine: Machine) -> None:
    """The kernel is asked before it is offered, once."""
    task = EnsureKernel(prefix=str(fraud), name="fraud", validate=True)
    assert converge(task, machine)
    with started_processes() as started:
        assert converge(task, machine) == ()
    assert started == []


def test_a_kernel_that_fails_its_trial_is_not_offered(
    make_environment: MakeEnvironment, machine: Machine, tmp_path: Path
) -> None:
    """What it wrote is in the error; nothing is left of it, and a kernel that was there stays as it was."""
    prefix = make_environment(tmp_path / "broken", "python", "ipykernel")
    task = EnsureKernel(prefix=str(prefix), validate=True)
    launcher = next(prefix.glob("lib/python3.*/site-packages")) / "ipykernel_launcher.py"
    launcher.unlink()
    launcher.write_text("raise SystemExit('no screws left')\n")
    with pytest.raises(TaskFailed) as caught:
        converge(task, machine)
    assert "no screws left" in caught.value.text
    folder = folder_of(task, machine)
    assert not folder.exists()
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text('{"argv": ["theirs"]}')
    with pytest.raises(TaskFailed):
        converge(task, machine)
    assert (folder / "kernel.json").read_text() == '{"argv": ["theirs"]}'


def test_a_kernel_of_another_python_fails_its_trial(fraud: Path, machine: Machine, tmp_path: Path) -> None:
    prefix = tmp_path / "borrowed"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin/python").symlink_to(fraud / "bin/python")
    (prefix / "lib").symlink_to(fraud / "lib")
    with pytest.raises(TaskFailed, match="does not work") as caught:
        converge(EnsureKernel(prefix=str(prefix), validate=True), machine)
    assert f"not in {prefix}" in caught.value.text


def test_an_unfinished_environment_is_no_kernel(fraud: Path, machine: Machine, tmp_path: Path) -> None:
    prefix = tmp_path / "half"
    prefix.mkdir()
    (prefix / "bin").symlink_to(fraud / "bin")
    (prefix / "lib").symlink_to(fraud / "lib")
    unfinished.mark(prefix, "ensure_conda_env")
    with pytest.raises(TaskFailed, match="unfinished"):
        planned(EnsureKernel(prefix=str(prefix)), machine)
    machine.sound.add(prefix)  # a task of this run has completed it
    assert planned(EnsureKernel(prefix=str(prefix)), machine)


def test_what_conda_owns_is_not_claimed(fraud: Path, machine: Machine) -> None:
    assert list(EnsureKernel(prefix=str(fraud), name="fraud").claims(machine)) == []

"""ensure_pip_pkg in environments that are not as installers leave them, and with parameters that make no sense."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbprovision.machine import distributions
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from nbprovision.system import unfinished
from tests.support.driver import converge, planned
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.engine

Task = Callable[..., EnsurePipPkg]


@pytest.fixture
def prefix(tmp_path: Path, env: dict[str, str]) -> Path:
    """A virtual environment; a folder of wheels, and nothing else, is where packages come from."""
    for version in ("1.0", "1.1"):
        make_wheel(tmp_path / "wheels", "apple", version)
    for name in list(env):
        if name.startswith(("PIP_INDEX", "PIP_EXTRA", "UV_")):
            del env[name]
    env.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path / "wheels"))
    made = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True)
    return made


@pytest.fixture
def task(prefix: Path) -> Task:
    def make(*packages: str, **more: Any) -> EnsurePipPkg:
        return EnsurePipPkg(packages=list(packages) or None, env=str(prefix), **more)

    return make


def folders(prefix: Path) -> list[str]:
    library = distributions.site_packages(prefix)
    assert library is not None
    return sorted(path.name for path in library.glob("*.dist-info"))


@pytest.mark.parametrize(
    ("parameters", "key", "said"),
    [
        ({"env": "a"}, "packages", "neither `packages` nor `requirements` is given"),
        ({"env": "a", "packages": "b", "state": "absent", "constraints": "c.txt"}, "constraints", "cannot be given with `state: absent`"),
        ({"env": "a", "requirements": "https://u:pearl-77@x.example/r.txt"}, "requirements", "cannot be 'https://"),
        ({"env": "a", "packages": ["b<2", "b>=2"]}, "packages", "no version satisfies both 'b<2' and 'b>=2'"),
    ],
)  # fmt: skip
def test_parameters_that_make_no_sense(parameters: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsurePipPkg(**parameters)
    assert caught.value.key == key
    assert said in caught.value.message
    assert "pearl-77" not in caught.value.text


def test_a_python_that_is_gone_by_then_is_told(task: Task, prefix: Path, machine: Machine) -> None:
    wanted = task("apple")
    plan = wanted.plan(wanted.read(machine))
    (prefix / "bin/python").unlink()
    with pytest.raises(TaskFailed, match="has no Python to install for"):
        wanted.apply(plan, machine)


def test_a_source_that_is_not_there_is_absent(task: Task, machine: Machine) -> None:
    """Only the distribution that came from there would be taken out, whatever its name."""
    assert planned(task("git+https://git.example/team/lab@v1", state="absent"), machine) == ()


def test_variables_in_a_requirements_file_are_looked_up_in_each_run(
    prefix: Path, machine: Machine, tmp_path: Path
) -> None:
    file = tmp_path / "r.txt"
    file.write_text("apple==${APPLE}\n")
    wanted = EnsurePipPkg(requirements=str(file), env=str(prefix))
    for version in ("1.0", "1.1"):
        machine.env["APPLE"] = version
        converge(wanted, machine)
        assert folders(prefix) == [f"apple-{version}.dist-info"]


def test_two_folders_of_one_name_become_the_one_that_was_just_written(
    task: Task, prefix: Path, machine: Machine
) -> None:
    """The RECORD of the one names the files of the other, so that no installer finds the first one's."""
    converge(task("apple"), machine)
    library = distributions.site_packages(prefix)
    assert library is not None
    shutil.copytree(library / "apple-1.1.dist-info", library / "apple-1.0.dist-info")
    machine.forget()
    converge(task("apple"), machine)
    assert folders(prefix) == ["apple-1.1.dist-info"]


def test_a_pip_that_cannot_tell_what_is_newer_is_told(task: Task, prefix: Path, machine: Machine) -> None:
    library = distributions.site_packages(prefix)
    assert library is not None
    (library / "pip-20.0.dist-info").mkdir()
    for name in ("METADATA", "RECORD"):
        (library / "pip-20.0.dist-info" / name).write_text("")
    with pytest.raises(TaskFailed, match="cannot find newer versions") as caught:
        planned(task("apple", state="latest", engine="pip"), machine)
    assert caught.value.cause == "it is older than 22.2"


@pytest.mark.parametrize("state", ["linked", "all but its RECORD"])
def test_an_install_by_uv_that_was_killed_near_its_end(
    task: Task, prefix: Path, machine: Machine, tmp_path: Path, state: str
) -> None:
    """All that the wheel's own RECORD names is there then; scripts, and what installers add, may not be."""
    scripts = {"ripe-1.0.dist-info/entry_points.txt": "[console_scripts]\nripe = ripe:main\n"}
    wheel = make_wheel(tmp_path / "wheels", "ripe", "1.0", files=scripts)
    converge(task("ripe"), machine)
    made = distributions.installed(prefix)["ripe"][0].path
    with zipfile.ZipFile(wheel) as content:
        (made / "RECORD").unlink()
        (made / "RECORD").write_bytes(content.read("ripe-1.0.dist-info/RECORD"))
    if state == "linked":
        (made / "INSTALLER").unlink()
        (prefix / "bin/ripe").unlink()
        (made / ".tmpz4FIg9").touch()
    assert planned(task("ripe"), machine) == ()
    unfinished.mark(prefix, "ensure_pip_pkg")
    assert [change.action for change in converge(task("ripe"), machine)] == ["reinstall"]
    assert (prefix / "bin/ripe").exists()
    assert list(made.glob(".tmp*")) == []
    assert "ripe-1.0.dist-info/INSTALLER" in (made / "RECORD").read_text()


def test_another_task_that_has_proven_its_part_is_no_proof_of_this_one(
    task: Task, prefix: Path, machine: Machine, tmp_path: Path
) -> None:
    """A killed pip leaves the wheel's own RECORD and no INSTALLER."""
    wheel = make_wheel(tmp_path / "wheels", "ripe", "1.0")
    converge(task("ripe", engine="pip"), machine)
    made = distributions.installed(prefix)["ripe"][0].path
    with zipfile.ZipFile(wheel) as content:
        (made / "RECORD").write_bytes(content.read("ripe-1.0.dist-info/RECORD"))
    (made / "INSTALLER").rename(made / "INSTALLER0b78i3tt.tmp")
    unfinished.mark(prefix, "ensure_pip_pkg")
    machine.suspect = {prefix}
    machine.sound.add(prefix)
    assert [change.action for change in converge(task("ripe", engine="pip"), machine)] == ["reinstall"]
    assert sorted(path.name for path in made.glob("INSTALLER*")) == ["INSTALLER"]

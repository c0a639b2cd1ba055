"""One ensure_kernel for several environments: which kernels it means, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.jupyter.ensure_kernel import EnsureKernel
from nbprovision.machine.expansion import expanded
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, UnknownEnvironment
from nbprovision.model.task import Resource
from tests.support.provided import conda_environment


@pytest.fixture
def envs(machine: Machine) -> Path:
    """Two environments with a Python, and one without."""
    folder = machine.home / "envs"
    for name in ("fraud", "My Risk"):
        conda_environment(folder / name)
    (folder / "R/conda-meta").mkdir(parents=True)
    return folder


def kernels_of(task: EnsureKernel, machine: Machine) -> dict[str, str]:
    return {member.task.kernel_name: member.task.display_name or "" for member in task.members(machine)}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"envs": "all"}, {"fraud": "Python (fraud)", "my-risk": "Python (My Risk)"}),
        ({"envs": "f*", "display_name": "Custom ({env})"}, {"fraud": "Custom (fraud)"}),
        ({"envs": "all", "except": ["fraud"], "name": "team-{env}"}, {"team-my-risk": "Python (My Risk)"}),
        ({"envs": "x*", "allow_empty": True}, {}),
    ],
)
def test_which_kernels_are_meant(
    machine: Machine, envs: Path, parameters: dict[str, Any], expected: dict[str, str]
) -> None:
    parameters = {"except_" if key == "except" else key: value for key, value in parameters.items()}
    assert kernels_of(EnsureKernel(**parameters), machine) == expected


def test_its_place_among_other_tasks(machine: Machine, envs: Path) -> None:
    task = expanded(EnsureKernel(envs=f"{envs}/*"))
    assert task.requires(machine) == {Resource("environment", str(envs / name)) for name in ("fraud", "My Risk")}
    folder = machine.user_home / ".local/share/jupyter/kernels"
    assert task.provides(machine) == {Resource("kernel", str(folder / name)) for name in ("fraud", "my-risk")}
    assert set(task.guarded(machine)) == {envs / "fraud", envs / "My Risk"}
    assert {envs, envs / "fraud/bin/python"} <= set(task.witnesses(machine))


def test_environments_of_one_name_get_kernels_of_their_own(machine: Machine, envs: Path, tmp_path: Path) -> None:
    other = conda_environment(tmp_path / "other/fraud")
    found = kernels_of(EnsureKernel(envs=["fraud", str(other)]), machine)
    assert len(found) == 2
    assert "fraud" in found


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({"envs": "all", "name": "one"}, "name"),
        ({"envs": "all", "display_name": "One"}, "display_name"),
        ({"envs": "all", "name": "a b {env}"}, "name"),
        ({"env": "x", "envs": "all"}, "envs"),
        ({"env": "x", "except_": "y"}, "except"),
        ({"env": "x", "allow_empty": True}, "allow_empty"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters: dict[str, Any], key: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureKernel(**parameters)
    assert caught.value.key == key


def test_a_name_that_nothing_has_is_an_error(machine: Machine, envs: Path) -> None:
    with pytest.raises(UnknownEnvironment, match="no environment 'fraudd'; did you mean 'fraud'"):
        expanded(EnsureKernel(envs="fraudd")).provides(machine)

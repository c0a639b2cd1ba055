"""What ensure_conda_env plans, from states as plain data; and what it refuses before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.conda import environment_file
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv, EnvState
from nbprovision.conda.package_urls import take_credentials
from nbprovision.conda.packages import CondaPackages
from nbprovision.conda.query import Package
from nbprovision.conda.records import Details
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, ParameterError
from nbprovision.model.task import Claim, Resource

TASK = EnsureCondaEnv(name="x", packages=["a"])
CHANNEL = "https://conda.anaconda.org/conda-forge/"


class Solved:
    """Stands where a solution does: plain data to `plan`."""

    def __init__(self, *packages: Package) -> None:
        self.packages = packages


def details(version: str, build: str = "0", **more: Any) -> Details:
    return Details(name="a", version=version, build=build, **more)


def package(version: str, build: str = "0", **more: Any) -> Package:
    return Package(name="a", version=version, build=build, channel=CHANNEL, **more)


@pytest.mark.parametrize(
    ("before", "after", "broken", "expected"),
    [
        (None, package("1"), {}, ("install", None, "1")),
        (details("1"), package("1"), {}, None),
        (details("1"), package("2", order=1), {}, ("upgrade", "1", "2")),
        (details("2"), package("1", order=-1), {}, ("downgrade", "2", "1")),
        (details("1", "0"), package("1", "1"), {}, ("change", "1 0", "1 1")),
        (details("1", sha256="aa"), package("1", sha256="bb"), {}, ("change", "1 0 (aa)", "1 0 (bb)")),
        (details("1", "0", sha256="aa"), package("1", "1", sha256="aa"), {}, None),
        (details("1", md5="aa"), package("1", md5="bb", sha256="cc"), {}, ("change", "1 0 (aa)", "1 0 (cc)")),
        (details("1"), package("1"), {"a": "x is missing"}, ("repair", "x is missing", "1")),
        (details("1"), package("2", order=1), {"a": "x is missing"}, ("upgrade", "1", "2")),
        (details("1"), None, {}, ("remove", "1", None)),
    ],
)
def test_packages(
    before: Details | None, after: Package | None, broken: dict[str, str], expected: tuple[str, ...] | None
) -> None:
    solution: Any = Solved(*([after] if after else []))
    packages = CondaPackages(installed={"a": before} if before else {}, broken=broken, solution=solution)
    state = EnvState(name="x", exists=True, packages=packages)
    changes = TASK.plan(state).changes
    assert [(one.action, one.before, one.after) for one in changes] == ([expected] if expected else [])
    assert all(one.kind == "package" and one.target == "a" for one in changes)


@pytest.mark.parametrize(
    ("state", "actions"),
    [
        ({"exists": True}, []),
        ({"exists": False, "unregistered": True}, ["create", "register"]),
        ({"exists": True, "unregistered": True}, ["register"]),
        ({"exists": True, "packages": CondaPackages(history_incomplete=True)}, ["record"]),
        ({"exists": True, "leftovers": (Path("/x"),)}, ["clean"]),
        ({"exists": True, "variables": {"A": (None, "1")}}, ["set"]),
    ],
)
def test_the_rest(state: dict[str, Any], actions: list[str]) -> None:
    assert [one.action for one in TASK.plan(EnvState(name="x", **state)).changes] == actions


@pytest.mark.parametrize(
    ("state", "actions"),
    [
        ({"exists": True}, ["remove", "unregister"]),
        ({"exists": False}, ["unregister"]),
        ({"exists": True, "unregistered": True}, ["remove"]),
        ({"exists": False, "unregistered": True}, []),
    ],
)
def test_absent(state: dict[str, Any], actions: list[str]) -> None:
    task = EnsureCondaEnv(name="x", state="absent")
    assert [one.action for one in task.plan(EnvState(name="x", **state)).changes] == actions


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({}, "name"),
        ({"name": "a", "prefix": "/b"}, "prefix"),
        ({"name": "../a"}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"name": "a", "packages": [">=3"]}, "packages"),
        ({"name": "a", "packages": ["x\ny"]}, "packages"),
        ({"name": "a", "state": "absent", "packages": ["x"]}, "packages"),
    ],
)
def test_parameters_that_make_no_sense(parameters: dict[str, Any], key: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureCondaEnv(**parameters)
    assert caught.value.key == key


def test_its_place_among_other_tasks(machine: Machine, tmp_path: Path) -> None:
    task = EnsureCondaEnv(name="x", packages=["a"], channels=[str(tmp_path / "my chan"), "conda-forge"])
    prefix = machine.home / "envs/x"
    assert task.declares(machine) == {"x": prefix}
    assert task.provides(machine) == {Resource("environment", str(prefix))}
    required = task.requires(machine)
    assert {one for one in required if one.kind == "channel"} == {Resource("channel", str(tmp_path / "my chan"))}
    assert Resource("condarc", str(machine.user_home / ".condarc")) in required
    assert list(task.guarded(machine)) == [prefix]
    assert prefix / "conda-meta" in task.witnesses(machine)


def test_base_is_condas_own_name(machine: Machine) -> None:
    with pytest.raises(ParameterError, match="conda's name for its own installation"):
        EnsureCondaEnv(name="base", packages="a").declares(machine)


def test_an_objection_names_the_spec(machine: Machine) -> None:
    task = EnsureCondaEnv(name="x", packages=["packaging >=25", "six"])
    prefix = machine.home / "envs/x"
    assert task.objection(Claim(prefix, "packaging==24.0"), machine) == "ensure_conda_env asks for 'packaging >=25'"
    assert task.objection(Claim(prefix, "six", absent=True), machine) == "ensure_conda_env asks for 'six'"
    assert task.objection(Claim(prefix, "packaging>=25.1"), machine) is None
    assert task.objection(Claim(machine.home / "envs/y", "packaging==24.0"), machine) is None


@pytest.mark.parametrize(
    ("url", "bare", "credentials"),
    [
        ("https://host/chan", "https://host/chan", {}),
        ("file:///some/chan", "file:///some/chan", {}),
        ("https://host/t/tk-1/chan", "https://host/chan", {"host": {"CondaToken": "tk-1"}}),
        (
            "https://joe:p%40ss@host:8080/chan",
            "https://host:8080/chan",
            {"host": {"BasicHTTP": {"username": "joe", "password": "p@ss"}}},
        ),
    ],
)
def test_credentials_are_parted_from_a_url(url: str, bare: str, credentials: dict[str, Any]) -> None:
    assert take_credentials(url) == (bare, credentials)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a list", "is not a mapping"),
        ("dependencies: [a", "is not YAML"),
        ("dependencies: {a: 1}", "has `dependencies` that is not a list"),
        ("dependencies: [{conda: [x]}]", "has a dependency that is neither"),
        ("variables: [1]", "has `variables` that are not a mapping"),
        ("name: [1]", "has a `name` that is not a text"),
        ("[" * 5000, "is not YAML"),
        ("\x00", "is not YAML"),
    ],
)
def test_environment_files_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "environment.yml"
    file.write_text(text)
    with pytest.raises(InvalidPlaybook) as caught:
        environment_file.read(file)
    assert caught.value.message.startswith(f"{file} {said}")
    assert caught.value.position is not None


def test_an_environment_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidPlaybook, match="cannot read the environment file"):
        environment_file.read(tmp_path / "nowhere.yml")

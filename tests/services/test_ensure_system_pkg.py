"""``ensure_system_pkg``: its parameters, and what a run of the user's says of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.services.ensure_system_pkg import EnsureSystemPkg
from tests.root.test_packages import dpkg


@pytest.mark.parametrize("name", ["pandoc", "g++", "libssl1.1", "amazon-ssm-agent", "perl-Git_2", "R"])
def test_names(name: str) -> None:
    if len(name) == 1:  # Debian's have two characters at least, rpm's may have one
        name += name
    assert EnsureSystemPkg(packages=name).wanted()["packages"] == [name]


@pytest.mark.parametrize(
    "name",
    [
        "", " ", "a b", "a\nb", "-y", "--installroot=/x", "./x.deb", "/x.rpm", "x.rpm", "x.deb", "https://h/x.rpm", "@group", "a=1",
        "a-", "a*", "a:amd64", "a/stable", "..", "a..b", "$(x)", "%n", "a;b", "a'b", "\uff41b", "a\0b", "a" * 200, "a>1",
    ],
)  # fmt: skip
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureSystemPkg(packages=["good", name])
    assert caught.value.key == "packages"


@pytest.mark.parametrize(
    "parameters", [{"packages": []}, {"packages": "ok", "timeout": "1s"}, {"packages": "ok", "timeout": "1h"}]
)
def test_other_parameters(parameters: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        EnsureSystemPkg(**parameters)


def test_what_root_gets() -> None:
    task = EnsureSystemPkg(packages=["aa", "bb", "aa"], state="absent", timeout="1m")
    assert task.root_order() == {
        "module": "packages",
        "kind": "ensure_system_pkg",
        "seconds": 65.0,
        "wanted": {"packages": ["aa", "bb"], "state": "absent", "seconds": 60},
    }
    assert task.left_to_root(Machine())


def test_a_run_compares(tmp_path: Path) -> None:
    dpkg(tmp_path, "Package: aa\nStatus: install ok installed\n")
    machine = Machine(root=tmp_path)
    task = EnsureSystemPkg(packages=["aa", "bb"])
    plan = task.plan(task.read(machine))
    assert [(change.action, change.target) for change in plan.changes] == [("install bb", "system packages")]
    assert not EnsureSystemPkg(packages="aa").plan(EnsureSystemPkg(packages="aa").read(machine))
    assert tmp_path / "var/lib/dpkg/status" in task.witnesses(machine)
    with pytest.raises(TaskFailed, match="left to root"):
        task.apply(plan, machine)


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match="system packages cannot be compared: the package database cannot be read"):
        EnsureSystemPkg(packages="aa").read(Machine(root=tmp_path))


def test_two_tasks_that_disagree() -> None:
    machine = Machine()
    (here,), (gone,) = (
        list(EnsureSystemPkg(packages="aa", state=state).shared_values(machine)) for state in ("present", "absent")
    )
    assert here.shares_file(gone)
    assert (here.key, here.value, gone.value) == (("aa",), "present", "absent")

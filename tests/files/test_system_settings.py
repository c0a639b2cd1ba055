"""``ensure_json`` and ``ensure_ini`` with ``scope: system``: what is refused, what root gets, and what a run compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.files.ensure_ini import EnsureIni
from nbprovision.files.ensure_json import EnsureJson
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, ParameterError, ProvisionError, TaskFailed
from nbprovision.playbook.read import read_playbook

PATH = "/etc/docker/daemon.json"


@pytest.mark.parametrize(
    "path",
    [
        "/home/ec2-user/x.json", "/tmp/x.json", "/var/tmp/x.json", "/run/user/1000/x.json", "/dev/shm/x.json", "/proc/x.json",
        "/sys/x.json", "/mnt/team/x.json", "/etc/../home/x.json", "/etc/a b.json", "/etc/x.json\n", "/etc/$(x).json", "/etc//x.json",
        "relative.json", "~/x.json", "/x.json", "/etc/./../x.json", "/etc/%i.json", "/etc/systemd/system/x.json",
    ],
)  # fmt: skip
def test_paths_that_are_not_of_the_system(path: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureJson(path=path, values={"a": 1}, scope="system")
    assert caught.value.key == "path"


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({"validate": "/usr/bin/true %s"}, "validate"),
        ({"backup": True}, "backup"),
        ({"follow": True}, "follow"),
        ({"values": {"password": "hunter2hunter2"}}, "values"),
        ({"values": {"proxy": "http://user:hunter2@example.com/"}}, "values"),
    ],
)
def test_other_parameters_that_root_refuses(parameters: dict[str, Any], key: str) -> None:
    with pytest.raises(ProvisionError) as caught:
        EnsureJson(**{"path": PATH, "values": {"a": 1}, "scope": "system", **parameters})
    assert getattr(caught.value, "key", key) == key
    assert "hunter2" not in caught.value.text


@pytest.mark.parametrize("values", [{"a": {"b": ["1", "2"]}}, {"a": {"b": {"c": "d"}}}, {"a": {"b": "1\n2"}}])
def test_values_of_several_lines(values: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        EnsureIni(path="/etc/x.conf", values=values, scope="system")


def test_what_root_gets() -> None:
    task = EnsureJson(path=PATH, values={"data-root": "/x", "n": {"a": 1.5}}, remove=["old"], scope="system")
    assert task.of_root()
    assert task.left_to_root(Machine())
    assert task.root_order() == {
        "module": "settings",
        "kind": "ensure_json",
        "seconds": 60.0,
        "wanted": {"path": PATH, "form": "json", "values": {"data-root": "/x", "n": {"a": 1.5}}, "remove": [["old"]]},
    }
    ini = EnsureIni(path="/etc/ssl/openssl.cnf", values={"a": {"b": True}}, remove=["c", ["d", "e"]], scope="system")
    assert ini.root_order()["wanted"] == {
        "path": "/etc/ssl/openssl.cnf", "form": "ini", "values": {"a": {"b": "true"}}, "remove": [["c"], ["d", "e"]],
        "equals": " = ", "comment": "#",
    }  # fmt: skip
    assert not EnsureJson(path=PATH, values={"a": 1}).of_root()


def test_a_run_compares(tmp_path: Path) -> None:
    path = tmp_path / PATH[1:]
    path.parent.mkdir(parents=True)
    path.write_text('{"data-root": "/var/lib/docker"}\n')
    machine = Machine(root=tmp_path)
    task = EnsureJson(path=PATH, values={"data-root": "/x"}, scope="system")
    plan = task.plan(task.read(machine))
    assert [(change.action, change.target) for change in plan.changes] == [("change its keys", PATH)]
    assert path in task.witnesses(machine)
    path.write_text('{"data-root": "/x"}\n')
    assert not task.plan(task.read(machine))
    path.write_text("{")
    with pytest.raises(TaskFailed, match=f"{PATH} cannot be compared: {PATH} cannot be edited"):
        task.read(machine)


@pytest.mark.parametrize(("section", "scope"), [("tasks", "system"), ("root_tasks", "user")])
def test_the_list_has_to_fit_the_scope(tmp_path: Path, section: str, scope: str) -> None:
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(f"- {section}:\n    - ensure_json: {{path: {PATH}, values: {{a: 1}}, scope: {scope}}}\n")
    with pytest.raises(InvalidPlaybook, match="root"):
        read_playbook(playbook, Catalogue(), {}, {"platform": "notebook-instance"}, env={})


def test_two_tasks_that_disagree() -> None:
    machine = Machine()
    (here,), (gone,) = (
        list(EnsureJson(path=PATH, values={"a": value}, scope="system").shared_values(machine)) for value in (1, 2)
    )
    assert here.shares_file(gone)
    assert here.key == gone.key
